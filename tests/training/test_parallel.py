"""Processes that train together take the steps of one process with the whole batch, and resume with the same bits."""

from functools import partial

import pytest
import torch
from torch import nn

from nclens.models import Network
from nclens.models.network import UnfitError
from nclens.training.averaging import Average
from nclens.training.loop import Trainer, derived_seed, evaluate
from nclens.training.loss import TrainedLoss
from nclens.training.mixing import Mixing
from nclens.training.parallel import synchronised
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from tests.data import test_stream
from tests.data.pictures import pictures
from tests.losses import entry
from tests.training import test_sequences
from tests.training.descents import finish, interrupted, sgd, sgd_settings, weights
from tests.training.several import several
from tests.training.test_loop import split

pytestmark = [pytest.mark.lengthy, pytest.mark.filterwarnings("ignore:`broadcast_buffers`:FutureWarning")]

ALL = {
    "mixing": Mixing(0.2, 1.0),
    "averaging": partial(Average, decay=0.8),
    "accumulate": 2,
    "clip_gradient_norm": 0.5,
    "augmentation": "flip_crop",
}


class Skipping(nn.Module):
    """A layer beside it that is never used, and one that only some batches use."""

    def __init__(self):
        super().__init__()
        self.never, self.sometimes = nn.Linear(64, 6), nn.Linear(6, 6)

    def forward(self, features):
        return self.sometimes(features) if features.sum() > 0 else features


def network_of(kind):
    torch.manual_seed(derived_seed(0, "weights"))
    if kind == "resnet8":
        return build_network({"name": "resnet8", "width": 2}, (1, 8, 8), 3)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 6)]
    last = {"plain": nn.ReLU(), "dropout": nn.Dropout(0.4), "skipping": Skipping()}[kind]
    return Network(nn.Sequential(*layers, last), 6, 3)


def trainer(processes=None, kind="plain", loss=None, **options):
    """A training of two epochs of three steps."""
    chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "milestones": (1,)}
    loss = loss or build_loss(entry("ls", smoothing=0.1), 2)
    network = network_of(kind).to(memory_format=torch.channels_last)
    return Trainer(network, loss, split(30), split(9, 1), sgd_settings(**chosen | options), 0, parallel=processes)


def measured(trained):
    return torch.cat([value.flatten().double() for value in trained.measured.state_dict().values()])


def trained(processes, stops=(), **options):
    """What a training of several processes ends with."""
    done = interrupted(lambda: trainer(processes, **options), stops) if stops else finish(trainer(processes, **options))
    return weights(done), measured(done), done.history


def assert_alike(found, expected, tolerance=1e-6):
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()
    for row, wanted in zip(found[2], expected[2], strict=True):
        assert row.pop("split") == wanted["split"]
        assert row == pytest.approx({key: value for key, value in wanted.items() if key != "split"}, rel=1e-5)


@pytest.mark.parametrize(("count", "options"), [(2, {}), (2, ALL), (4, ALL)])
def test_processes_take_the_steps_of_one_with_the_whole_batch_with_the_same_bits_each_time(count, options):
    alone = finish(trainer(**options))
    found = several(count, partial(trained, **options))
    again = several(count, partial(trained, **options))
    for rank, other in [*enumerate(found), *enumerate(again)]:
        assert torch.equal(other[0], found[0][0]), rank
        assert torch.equal(other[1], found[0][1]), rank
        assert other[2] == found[0][2]
    assert_alike(found[0], (weights(alone), measured(alone), alone.history))


@pytest.mark.parametrize(("kind", "count"), [("resnet8", 2), ("dropout", 2), ("skipping", 4)])
def test_interrupted_between_any_two_steps_processes_end_with_the_same_bits(kind, count):
    whole = several(count, partial(trained, kind=kind, **ALL))
    resumed = several(count, partial(trained, stops=(1, 3), kind=kind, **ALL))
    for one in [*whole, *resumed]:
        assert torch.equal(one[0], whole[0][0])
        assert torch.equal(one[1], whole[0][1])
        assert one[2] == whole[0][2]


def paused(processes, steps, **options):
    """The state of a training after some steps."""
    current = trainer(processes, **options)
    left = iter(range(steps - 1))
    while current.advance(lambda: next(left, None) is None):
        pass
    return current.state()


def resumed(processes, state, **options):
    current = trainer(processes, **options)
    current.resume(*state)
    finish(current)
    return weights(current), measured(current), current.history


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (4, 2)])
def test_another_number_of_processes_goes_on_with_a_checkpoint(before, after):
    def at(count, function, *arguments):
        return several(count, function, *arguments) if count > 1 else [function(None, *arguments)]

    expected = finish(trainer(**ALL))
    state = at(before, partial(paused, **ALL), 2)[0]
    assert state[1]["step"] >= 2
    found = at(after, partial(resumed, **ALL), state)
    assert_alike(found[0], (weights(expected), measured(expected), expected.history))


def draws(processes):
    current = trainer(processes, kind="dropout")
    seen = []
    current.network.backbone[-1].register_forward_hook(lambda layer, given, made: seen.append((made == 0).clone()))
    current.advance()
    return seen[:3]


def test_random_layers_draw_by_process_and_step():
    first, second = several(2, draws)
    masks = [*first, *second]
    assert all(not torch.equal(one, other) for place, one in enumerate(masks) for other in masks[:place])


def buffers(processes):
    current = trainer(processes, kind="resnet8", averaging=partial(Average, decay=0.8))
    found = []
    while current.epoch < 1:
        current.advance(lambda: True)
        networks = (current.network, current.measured)
        found.append([value.clone() for one in networks for value in one.state_dict().values()])
    return found


def test_after_each_step_all_processes_have_one_network_and_one_average():
    first, second = several(2, buffers)
    assert len(first) >= 3
    assert all(torch.equal(*pair) for steps in zip(first, second, strict=True) for pair in zip(*steps, strict=True))
    assert not torch.equal(first[0][5], first[-1][5])


def evaluated(processes, size):
    return evaluate(network_of("plain"), TrainedLoss(build_loss(entry("ce"))), split(29, 3), size, parallel=processes)


@pytest.mark.parametrize(("count", "size"), [(3, 4), (2, 29)])
def test_an_evaluation_that_is_shared_has_the_bits_of_one_process(count, size):
    alone = evaluated(None, size)
    assert several(count, evaluated, size) == [alone] * count


def spelled(processes, made, **options):
    current = test_sequences.trainer_for(made, parallel=processes, dropout=0.0, optimizer=sgd(), **options)
    finish(current)
    return weights(current), weights(current), current.history


def test_sequences_count_by_their_tokens(made):
    found = several(2, partial(spelled, accumulate=2), made)
    assert_alike(found[0], spelled(None, made))


made = test_sequences.made


def streamed(processes, folder):
    train, test = test_stream.placed(test_stream.load(folder), 0)
    seen = []
    network = network_of("plain")
    network.backbone[0] = nn.Conv2d(3, 1, 3, padding=1, stride=2)
    network.backbone[3] = nn.Linear(64, 6)
    network.backbone[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0].clone()))
    settings = sgd_settings(epochs=1, batch_size=4, learning_rate=0.1)
    current = Trainer(network, build_loss(entry("ce")), train, test, settings, 0, parallel=processes)
    current.advance()
    return seen[: current.steps_per_epoch], current.history


def test_of_a_stream_each_process_reads_its_part_with_the_draws_of_the_whole_batch(tmp_path):
    pictures(tmp_path / "pets")
    first, second = several(2, streamed, tmp_path)
    alone = streamed(None, tmp_path)
    for step, batch in enumerate(alone[0]):
        assert torch.equal(torch.cat([first[0][step], second[0][step]]), batch)
    assert first[1] == second[1]
    assert first[1][0]["loss"] == pytest.approx(alone[1][0]["loss"], rel=1e-5)


def refused(processes, **options):
    with pytest.raises((ValueError, UnfitError)) as caught:
        trainer(processes, **options).advance()
    return str(caught.value)


def test_what_cannot_be_shared_is_refused():
    said = several(3, refused)[0]
    assert "accumulate 1 times 3 devices does not divide batch_size 8" in said
    mean = partial(TrainedLoss, lambda logits, targets: nn.functional.cross_entropy(logits, targets))
    assert "one value per sample" in several(2, partial(refused, loss=mean()))[0]
    with pytest.raises(ValueError, match="PyTorch has it on CUDA alone"):
        synchronised(network_of("resnet8"))
