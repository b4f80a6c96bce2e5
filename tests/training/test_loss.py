"""Losses during training, built from their entries."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional

from nclens.losses import LOSSES
from nclens.models import Network
from nclens.study import losses as config
from nclens.training.loop import parts_of
from nclens.training.loss import PARTS, TrainedLoss
from nclens.workflow.build.losses import build_loss, class_weights
from nclens.workflow.specs import Loss, Schedule
from tests.losses import entry

LOGITS, TARGETS = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])


def test_a_registered_loss_gets_its_parameters():
    loss = build_loss(entry("ls", smoothing=0.2))
    expected = functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(loss(LOGITS, TARGETS), expected)


@pytest.fixture
def own(tmp_path):
    def make(body):
        (tmp_path / "mine.py").write_text(f"def loss(logits, targets, scale):\n    {body}\n")
        file = str(tmp_path / "mine.py")
        return build_loss(Loss("own", function="mine:loss", file=file, arguments={"scale": 3.0}))

    return make


def test_the_users_own_loss_may_return_one_value_per_sample_or_one_number(own):
    torch.testing.assert_close(own("return scale * logits[:, 0]")(LOGITS, TARGETS), torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(own("return scale * logits.sum()")(LOGITS, TARGETS), torch.tensor(9.0))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return logits", r"shape \(2,\), or one number, not \(2, 2\)"),
        ("return 1.0", "not float"),
        ("1 / 0", "failed: Zero"),
    ],
)
def test_mistakes_in_the_users_function_are_reported_with_its_name(own, body, words):
    with pytest.raises(ValueError, match=f"mine:loss .*{words}"):
        own(body)(LOGITS, TARGETS)


def named(tmp_path, signature, body, **arguments):
    (tmp_path / "mine.py").write_text(f"import torch\n\n\ndef loss({signature}):\n    {body}\n")
    return build_loss(Loss("own", function="mine:loss", file=str(tmp_path / "mine.py"), arguments=arguments))


def test_the_users_own_loss_gets_the_features_and_weights_that_it_names(tmp_path):
    network = Network(nn.Linear(4, 3), 3, 2)
    features = network.backbone(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    logits = network.head(features)
    loss = named(tmp_path, "logits, targets, *, bias, features, weight", "return features @ weight.T + bias - logits")
    assert loss.needs == ("features", "weight", "bias")
    with pytest.raises(ValueError, match=r"one number, not \(2, 2\)"):
        loss(logits, TARGETS, **parts_of(network, features, loss.needs))
    loss = named(
        tmp_path, "logits, targets, *, weight, features, scale", "return scale * (features @ weight.T)[:, 0]", scale=2.0
    )
    values = loss(logits, TARGETS, **parts_of(network, features, loss.needs))
    torch.testing.assert_close(values, 2 * (logits - network.head.bias)[:, 0])
    values.sum().backward()
    assert all(part.grad is not None for part in (network.head.weight, network.backbone.weight))
    assert named(tmp_path, "logits, targets, **rest", "return logits.sum()").needs == ()
    network.head.bias = None
    assert parts_of(network, features, ("bias",))["bias"].tolist() == [0, 0]
    assert config.CustomLoss.offered == PARTS


ENTRIES = {
    "ce": {},
    "ls": {"smoothing": 0.1},
    "maxsup": {"alpha": 0.1},
    "logit_penalty": {"beta": 0.1},
    "ls_regularisation": {"smoothing": 0.1},
    "ls_error_amplification": {"smoothing": 0.1},
    "online_label_smoothing": {"soft_weight": 0.1},
    "confidence_penalty": {"beta": 0.1},
    "focal": {"gamma": 0.1},
    "mse": {},
    "distillation": {"teacher": {"experiment": "e", "loss": "ce"}},
    "squared_error": {},
}


def test_the_configuration_knows_registered_losses_by_name_parameters_and_strength():
    assert set(config.LOSSES) == set(LOSSES) == set(ENTRIES)
    for name, model in config.LOSSES.items():
        function = LOSSES[name].__call__ if isinstance(LOSSES[name], type) else LOSSES[name]
        parameters = inspect.signature(function).parameters.values()
        settings = {"label": "mine", "colour": "#000000", "weight_decay": 0.1}
        specification = model(name=name, **ENTRIES[name], **settings).specification()
        arguments = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert set(specification["arguments"]) == arguments
        assert specification.keys() == {"name", "arguments", "parameter", "schedule"}
        assert specification["parameter"] == model.parameter
        assert model.parameter is None or model.parameter in arguments
        assert (specification["schedule"] is None) == (model.parameter is None)


SCHEDULED = [(name, model) for name, model in config.LOSSES.items() if model.parameter]
EDGES = [(name, model, 1 if model.below == 1 else 1e3) for name, model in SCHEDULED]


@pytest.mark.parametrize(("name", "model", "large"), EDGES, ids=[name for name, *_ in EDGES])
def test_the_configuration_allows_what_the_loss_allows(name, model, large):
    for value in (0.0, 0.5, large - 1e-9, large, -1e-9):
        loss = build_loss(entry(name, **{model.parameter: value}))
        try:
            made = model(name=name, **{model.parameter: value})
        except ValueError:
            with pytest.raises(ValueError, match=f"{model.parameter}: expected a number in"):
                loss(LOGITS, TARGETS)
        else:
            assert made.strength == value
            assert loss(LOGITS, TARGETS).isfinite().all()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"kind": "constant"}, [0.1, 0.1, 0.1, 0.1]),
        ({"kind": "linear", "end": 0.5, "epoch": None}, [0.1, 0.2, 0.3, 0.4]),
        ({"kind": "linear", "end": 0.5, "epoch": 2}, [0.1, 0.3, 0.5, 0.5]),
        ({"kind": "drop", "epoch": 3}, [0.1, 0.1, 0.1, 0.0]),
        ({"kind": "drop", "epoch": 0}, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_schedule_of_the_configuration_varies_the_strength(schedule, expected):
    made = config.MaxSup(name="maxsup", alpha=0.1, schedule=schedule).specification()
    loss = build_loss(Loss("own", **made | {"schedule": Schedule(**made["schedule"])}), 4)
    cross_entropy = functional.cross_entropy(LOGITS, TARGETS, reduction="none")
    penalty = LOGITS.amax(1) - LOGITS.mean(1)
    torch.testing.assert_close(loss(LOGITS, TARGETS), cross_entropy + expected[0] * penalty)
    for epoch in (3, 0, 1, 2):  # in any order
        loss.begin_epoch(epoch)
        torch.testing.assert_close(loss(LOGITS, TARGETS), cross_entropy + expected[epoch] * penalty)


def test_a_schedule_needs_the_number_of_epochs_and_ends_within():
    dropped = entry("ls", smoothing=0.1, schedule={"kind": "drop", "epoch": 3})
    with pytest.raises(ValueError, match="drop needs the number of epochs"):
        build_loss(dropped)
    with pytest.raises(ValueError, match="epoch 3, but training has 2 epochs"):
        build_loss(dropped, 2)


def test_a_schedule_needs_an_argument_to_vary():
    with pytest.raises(ValueError, match="ce has no argument that its schedule drop could vary"):
        build_loss(Loss("ce", "ce", schedule=Schedule("drop", epoch=1)), 3)


@pytest.mark.parametrize("epoch", [-1, 3])
def test_an_epoch_outside_the_training_is_refused(epoch):
    with pytest.raises(ValueError, match=rf"epoch must be in \[0, 3\), got {epoch}"):
        build_loss(entry("ce"), 3).begin_epoch(epoch)


def test_a_stateful_loss_is_created_for_each_run():
    first, second = (build_loss(entry("online_label_smoothing", soft_weight=0.5)) for _ in range(2))
    first(LOGITS.clone().requires_grad_(), TARGETS)
    first.end_epoch()
    assert first.remembers
    assert second.state_dict() == {}
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(LOGITS, TARGETS), first(LOGITS, TARGETS), rtol=0, atol=0)


def test_a_stateless_loss_has_no_state():
    loss = build_loss(entry("ce"))
    loss.end_epoch()
    assert (loss.remembers, loss.state_dict()) == (False, {})


def test_a_distillation_loss_calls_its_teacher_on_the_inputs():
    loss = build_loss(entry("distillation", temperature=2.0, weight=1.0), 3, lambda inputs: 3 * inputs)
    expected = -((3 * LOGITS / 2).softmax(1) * (LOGITS / 2).log_softmax(1)).sum(1)
    torch.testing.assert_close(loss(LOGITS, TARGETS, LOGITS), expected)
    assert loss.is_taught
    assert not build_loss(entry("ce")).is_taught


def test_a_distillation_loss_without_teacher_or_inputs_is_refused():
    student = entry("distillation", temperature=2.0, weight=1.0)
    for loss, inputs in ((build_loss(student), LOGITS), (build_loss(student, teacher=lambda inputs: inputs), None)):
        with pytest.raises(ValueError, match="needs a teacher, and the inputs of the batch"):
            loss(LOGITS, TARGETS, inputs)


def test_class_weights_multiply_the_loss_of_each_sample():
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    weights = torch.tensor([0.5, 2.0, 3.0])
    plain, weighted = TrainedLoss(LOSSES["ce"]), TrainedLoss(LOSSES["ce"], class_weights=weights)
    assert torch.equal(weighted(logits, targets), plain(logits, targets) * weights[targets])
    with pytest.raises(ValueError, match="class_weights need a loss that returns one value per sample"):
        TrainedLoss(lambda logits, targets: logits.mean(), class_weights=weights)(logits, targets)


def test_balanced_weights_are_those_of_the_counts():
    entry = Loss("balanced", "ce", balanced=True)
    assert class_weights(entry, [30, 60, 10]).tolist() == pytest.approx([100 / 90, 100 / 180, 100 / 30])
    assert build_loss(entry)._class_weights is None
    with pytest.raises(ValueError, match=r"losses\.few\.class_weights has 2 numbers, and the data have 3 classes"):
        build_loss(Loss("few", "ce", class_weights=(1.0, 2.0)), counts=[1, 2, 3])
