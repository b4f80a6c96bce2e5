"""Options of a recipe in the loop: accumulated gradients are the batch's, and a resumed training has the same bits."""

from functools import cache, partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from nclens.data.tensors import Split
from nclens.models import Network
from nclens.training.averaging import Average
from nclens.training.loop import Penalties, Trainer, derived_seed, evaluate
from nclens.training.loss import TrainedLoss
from nclens.training.mixing import Mixing
from nclens.training.recipe import PerSample, accumulate
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from tests.losses import entry
from tests.training.descents import finish, interrupted, sgd_settings, weights
from tests.training.test_loop import Recorder, assert_equal, split

AVERAGE = partial(Average, decay=0.8)


def trainer(loss=None, network="resnet8", recorder=None, seed=0, **options):
    """A training of three epochs of three steps."""
    chosen = {"epochs": 3, "batch_size": 8, "learning_rate": 0.1, "milestones": (1,), "augmentation": "flip_crop"}
    torch.manual_seed(derived_seed(seed, "weights"))
    made = {
        "resnet8": lambda: build_network({"name": "resnet8", "width": 2}, (1, 8, 8), 3),
        "mlp": lambda: build_network({"name": "mlp", "widths": [16]}, (1, 8, 8), 3),
        "dropout": lambda: Network(nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Dropout(0.4)), 9, 3),
    }[network]().to(memory_format=torch.channels_last)
    loss = loss or build_loss(entry("ls", smoothing=0.1), 3)
    return Trainer(made, loss, split(30), split(9, 1), sgd_settings(**chosen | options), seed, recorder)


OPTIONS = {
    "mixup": {"mixing": Mixing(mixup=0.2)},
    "cutmix": {"mixing": Mixing(cutmix=1.0)},
    "ema": {"averaging": AVERAGE},
    "accumulate": {"accumulate": 4},
    "dropout": {"network": "dropout", "mixing": Mixing(mixup=1.0), "accumulate": 2},
    "all": {"mixing": Mixing(0.2, 1.0), "averaging": AVERAGE, "accumulate": 2, "clip_gradient_norm": 0.5},
}


@cache
def uninterrupted(name=None):
    return finish(trainer(**OPTIONS.get(name, {})))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("stops", [[1], [2, 5], [4]])
def test_interrupted_between_any_two_steps_equals_uninterrupted(name, stops):
    reference, current = uninterrupted(name), interrupted(lambda: trainer(**OPTIONS[name]), stops)
    assert_equal(current, reference)
    assert torch.equal(
        *(torch.cat([v.flatten().double() for v in one.measured.state_dict().values()]) for one in (current, reference))
    )


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("dropout", "ema")])
def test_an_option_changes_the_training(name):
    assert not torch.equal(weights(uninterrupted(name)), weights(uninterrupted()))


# --- accumulated gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 3, 3), (4, 4, 1), (9,), (1,) * 9])
def test_gradients_are_those_of_the_undivided_batch_in_float64(sizes):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    inputs, labels = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 3

    def objective(rows, targets):
        outputs = network(rows)
        penalty = 0.1 * sum(one.square().sum() for one in network.parameters())
        return outputs, functional.cross_entropy(outputs, targets) + penalty

    outputs, value = objective(inputs, labels)
    value.backward()
    expected = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    found, total = accumulate(objective, zip(inputs.split(sizes), labels.split(sizes), strict=True))
    torch.testing.assert_close(found, outputs.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(total, value.detach(), rtol=0, atol=1e-12)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parts", [2, 8])
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"clip_gradient_norm": 0.1},
        {"penalties": Penalties(0.1, 0.2, 0.3), "weight_decay": 0.0},
        {"mixing": Mixing(0.4, 1.0)},
        {"loss": TrainedLoss(build_loss(entry("ce")), class_weights=torch.tensor([1.0, 2.0, 0.5]))},
    ],
)
def test_training_is_that_of_the_undivided_batch(parts, chosen):
    """Of a network without batch normalisation; history too, which is of the whole batch."""
    whole, divided = (finish(trainer(network="mlp", accumulate=one, **chosen)) for one in (1, parts))
    torch.testing.assert_close(weights(divided), weights(whole), rtol=0, atol=1e-6)
    for found, expected in zip(divided.history, whole.history, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_batch_normalisation_sees_the_parts():
    parts = []
    current = trainer(accumulate=4)
    current.network.backbone.register_forward_pre_hook(lambda module, given: parts.append(len(given[0])))
    current.advance()
    assert parts[:12] == [2] * 12
    assert current.network.state_dict()["backbone.1.num_batches_tracked"] == 12


def test_one_part_is_the_plain_step_with_the_same_bits():
    assert_equal(finish(trainer(accumulate=1)), finish(trainer()))


def test_a_loss_that_may_need_the_whole_batch_is_refused():
    loss = TrainedLoss(lambda logits, targets: functional.cross_entropy(logits, targets))
    trainer(loss=loss).advance()
    with pytest.raises(ValueError, match="devices need a loss that returns one value per sample, not one number"):
        trainer(loss=loss, accumulate=2).advance()
    named = PerSample(TrainedLoss(lambda logits, targets, features: features.sum(1), needs=("features",)))
    assert named.needs == ("features",)


def test_parts_of_equal_size_are_needed():
    with pytest.raises(ValueError, match="accumulate 3 does not divide batch_size 8"):
        trainer(accumulate=3)


def test_accumulated_steps_are_replayed_with_the_same_bits():
    options = {"accumulate": 4, "averaging": AVERAGE}
    reference, recorder = finish(trainer(**options)), Recorder()
    assert_equal(finish(trainer(recorder=recorder, **options)), reference)
    assert recorder.count == 2  # two learning rates


# --- averaged weights -------------------------------------------------------------------------------------------------


def test_the_average_is_of_every_step_and_does_not_touch_the_training():
    plain, averaged = trainer(), trainer(averaging=AVERAGE)
    expected = None
    for _ in range(3):
        seen = []

        def note(seen=seen):
            seen.append(weights(plain))
            return False

        plain.advance(note)
        averaged.advance()
        for one in seen:
            expected = one if expected is None else 0.8 * expected + 0.2 * one
    assert torch.equal(weights(averaged), weights(plain))
    names = [name for name in averaged.network.state_dict() if "num_batches" not in name]
    sizes = [value.numel() for value in averaged.network.state_dict().values()]
    parts = dict(zip(averaged.network.state_dict(), expected.split(sizes), strict=True))
    for name in names:
        found = averaged.measured.state_dict()[name].flatten().double()
        torch.testing.assert_close(found, parts[name], rtol=1e-5, atol=1e-6)


def test_the_test_split_is_evaluated_under_the_averaged_weights():
    current = finish(trainer(averaging=AVERAGE))
    assert current.measured is current.average.network is not current.network
    row = {key: current.history[-1][key] for key in ("loss", "cross_entropy", "error")}
    assert row == evaluate(current.measured, current.loss, current.test_split)
    assert row != evaluate(current.network, current.loss, current.test_split)
    plain = finish(trainer())
    assert current.history[-2] == plain.history[-2]  # the training rows are of the weights themselves


# --- mixed samples ----------------------------------------------------------------------------------------------------


def test_two_losses_of_one_seed_see_the_same_mixed_batches_whatever_their_layers_draw():
    seen = {}
    for name in ("mlp", "dropout"):
        for loss in ("ce", "ls"):
            made = build_loss(entry(loss, **({"smoothing": 0.1} if loss == "ls" else {})), 3)
            current = trainer(loss=made, network=name, mixing=Mixing(0.2, 1.0))
            batches = seen[name, loss] = []
            current.network.backbone.register_forward_pre_hook(
                lambda module, given, batches=batches: batches.append(given[0].clone()) if module.training else None
            )
            finish(current)
    first, *others = seen.values()
    assert len(first) == 9
    assert all(torch.equal(one, other) for batches in others for one, other in zip(first, batches, strict=True))


def test_the_first_step_is_that_of_the_soft_targets():
    mixing = Mixing(mixup=0.4)
    current = trainer(network="mlp", mixing=mixing, augmentation="none", epochs=1, weight_decay=0.0, momentum=0.0)
    reference = trainer(network="mlp").network
    data = current.train_split
    order = torch.randperm(30, generator=torch.Generator().manual_seed(derived_seed(0, "order", 1)))
    for step, batch in enumerate(order.split(8)[:3]):
        inputs, labels = (data.inputs[batch].float() - 127.5) / 63.75, data.targets[batch]
        share = mixing(inputs, labels, derived_seed(0, "mixing", 1, step)).share
        onehot = functional.one_hot(labels, 3).float()
        mixed = share * inputs + (1 - share) * inputs.roll(1, 0)
        targets = share * onehot + (1 - share) * onehot.roll(1, 0)
        loss = functional.cross_entropy(reference(mixed), targets, label_smoothing=0.1)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter.sub_(0.1 * gradient)
    current.advance()
    expected = torch.cat([value.flatten().double() for value in reference.state_dict().values()])
    torch.testing.assert_close(weights(current), expected, rtol=0, atol=1e-5)


def test_mixed_steps_are_taken_directly():
    current = trainer(mixing=Mixing(mixup=1.0), recorder=Recorder())
    assert current.direct == "mixup and cutmix draw another share at each step"
    with pytest.raises(ValueError, match="cuda_graph is `required`, but mixup and cutmix draw another share"):
        trainer(mixing=Mixing(mixup=1.0), recorder=Recorder(), cuda_graph="required")


def test_a_split_that_cannot_be_mixed_is_refused():
    rows = Split.place(torch.rand(30, 4), torch.arange(30) % 3, [0.0] * 4, [1.0] * 4, "cpu")
    settings = sgd_settings(epochs=1, batch_size=8, mixing=Mixing(cutmix=1.0))
    with pytest.raises(ValueError, match="cutmix needs images"):
        Trainer(Network(nn.Identity(), 4, 3), build_loss(entry("ce")), rows, rows, settings, 0)
