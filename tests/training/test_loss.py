"""Losses during training, built from their entries."""

import inspect

import pytest
import torch
from torch.nn import functional

from nclens.losses import LOSSES, STRENGTHS
from nclens.study import losses as config
from nclens.workflow.build.losses import build_loss

LOGITS, TARGETS = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])


def test_a_registered_loss_gets_its_parameters():
    loss = build_loss({"entry": "soft", "name": "ls", "smoothing": 0.2})
    expected = functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(loss(LOGITS, TARGETS), expected)


@pytest.fixture
def own(tmp_path):
    def make(body):
        (tmp_path / "mine.py").write_text(f"def loss(logits, targets, scale):\n    {body}\n")
        entry = {"function": "mine:loss", "file": str(tmp_path / "mine.py"), "parameters": {"scale": 3.0}}
        return build_loss(entry)

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


def test_the_configuration_knows_registered_losses_by_name_parameters_and_strength():
    common = {"name", "label", "colour", "weight_decay", "schedule", "teacher"}
    assert set(config.LOSSES) == set(LOSSES)
    for name, entry in config.LOSSES.items():
        function = LOSSES[name].__call__ if isinstance(LOSSES[name], type) else LOSSES[name]
        parameters = inspect.signature(function).parameters.values()
        assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(entry.keys()) - common
        assert getattr(entry, "strength", None) == STRENGTHS.get(name)


EDGES = [(name, entry, 1 if entry.below == 1 else 1e3) for name, entry in config.LOSSES.items() if name in STRENGTHS]


@pytest.mark.parametrize(("name", "entry", "large"), EDGES, ids=[name for name, *_ in EDGES])
def test_the_configuration_allows_what_the_loss_allows(name, entry, large):
    for value in (0.0, 0.5, large - 1e-9, large, -1e-9):
        try:
            entry(name=name, **{entry.strength: value})
        except ValueError:
            with pytest.raises(ValueError, match=f"{entry.strength} must lie in"):
                build_loss({"name": name, entry.strength: value})(LOGITS, TARGETS)
        else:
            assert build_loss({"name": name, entry.strength: value})(LOGITS, TARGETS).isfinite().all()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"kind": "constant"}, [0.1, 0.1, 0.1, 0.1]),
        ({"kind": "linear", "to": 0.5, "until": None}, [0.1, 0.2, 0.3, 0.4]),
        ({"kind": "linear", "to": 0.5, "until": 2}, [0.1, 0.3, 0.5, 0.5]),
        ({"kind": "drop", "at": 3}, [0.1, 0.1, 0.1, 0.0]),
        ({"kind": "drop", "at": 0}, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_schedule_of_the_configuration_varies_the_strength(schedule, expected):
    entry = config.MaxSup(name="maxsup", alpha=0.1, schedule=schedule).model_dump(
        exclude={"label", "colour", "weight_decay"}
    )
    loss = build_loss(entry, 4)
    cross_entropy = functional.cross_entropy(LOGITS, TARGETS, reduction="none")
    penalty = LOGITS.amax(1) - LOGITS.mean(1)
    torch.testing.assert_close(loss(LOGITS, TARGETS), cross_entropy + expected[0] * penalty)
    for epoch in (3, 0, 1, 2):  # in any order
        loss.begin_epoch(epoch)
        torch.testing.assert_close(loss(LOGITS, TARGETS), cross_entropy + expected[epoch] * penalty)


def test_a_schedule_needs_the_number_of_epochs_and_ends_within():
    entry = {"name": "ls", "smoothing": 0.1, "schedule": {"kind": "drop", "at": 3}}
    with pytest.raises(ValueError, match="drop needs the number of epochs"):
        build_loss(entry)
    with pytest.raises(ValueError, match="epoch 3, but training has 2 epochs"):
        build_loss(entry, 2)


@pytest.mark.parametrize("epoch", [-1, 3])
def test_an_epoch_outside_the_training_is_refused(epoch):
    with pytest.raises(ValueError, match=rf"epoch must be in \[0, 3\), got {epoch}"):
        build_loss({"name": "ce"}, 3).begin_epoch(epoch)


def test_a_stateful_loss_is_created_for_each_run():
    first, second = (build_loss({"name": "online_label_smoothing", "soft_weight": 0.5}) for _ in range(2))
    first(LOGITS.clone().requires_grad_(), TARGETS)
    first.end_epoch()
    assert first.remembers
    assert second.state_dict() == {}
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(LOGITS, TARGETS), first(LOGITS, TARGETS), rtol=0, atol=0)


def test_a_stateless_loss_has_no_state():
    loss = build_loss({"name": "ce"})
    loss.end_epoch()
    assert (loss.remembers, loss.state_dict()) == (False, {})


def test_a_distillation_loss_calls_its_teacher_on_the_inputs():
    entry = {"entry": "student", "name": "distillation", "temperature": 2.0, "weight": 1.0}
    loss = build_loss(entry, 3, lambda inputs: 3 * inputs)
    expected = -((3 * LOGITS / 2).softmax(1) * (LOGITS / 2).log_softmax(1)).sum(1)
    torch.testing.assert_close(loss(LOGITS, TARGETS, LOGITS), expected)
    assert loss.is_taught
    assert not build_loss({"name": "ce"}).is_taught


def test_a_distillation_loss_without_teacher_or_inputs_is_refused():
    entry = {"name": "distillation", "temperature": 2.0, "weight": 1.0}
    for loss, inputs in ((build_loss(entry), LOGITS), (build_loss(entry, teacher=lambda inputs: inputs), None)):
        with pytest.raises(ValueError, match="needs a teacher, and the inputs of the batch"):
            loss(LOGITS, TARGETS, inputs)
