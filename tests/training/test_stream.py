"""Training on a stream: interrupted between any two steps it ends with the same bits, with any number of workers."""

import pytest
import torch

from nclens.data.tensors import Split
from nclens.models.network import UnfitError
from nclens.training.loop import Trainer, derived_seed, evaluate, extract_features
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.build.recipes import build_recipe
from nclens.workflow.specs import Recipe
from tests.data import test_stream
from tests.data.pictures import pictures
from tests.losses import entry
from tests.training.descents import finish, interrupted, sgd_settings, weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pictures(folder / "pets")
    return test_stream.load(folder)


def trainer(data, workers=0, batch_size=4, taken=None, **options):
    """A trainer with dropout, on the stream or on a split that is made of it."""
    train, test = test_stream.placed(data, workers)
    torch.manual_seed(derived_seed(0, "weights"))
    network = build_network({"name": "resnet8", "width": 2}, (3, 16, 16), 3).to(memory_format=torch.channels_last)
    network.backbone.append(torch.nn.Dropout(0.2))
    settings = sgd_settings(epochs=2, batch_size=batch_size, learning_rate=0.1, **options)
    return Trainer(network, build_loss(entry("ls", smoothing=0.1)), taken or train, test, settings, seed=0)


@pytest.fixture(scope="module")
def reference(data):
    return finish(trainer(data))


@pytest.mark.parametrize("stops", [[1], [2, 3], [1, 4]])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.lengthy)])
def test_interrupted_between_any_two_steps_equals_uninterrupted(data, reference, stops, workers):
    current = interrupted(lambda: trainer(data, workers), stops)
    assert torch.equal(weights(current), weights(reference))
    assert current.history == reference.history


def test_a_whole_recipe_on_a_stream_is_resumed_with_the_same_bits(data):
    recipe = build_recipe(Recipe(mixup=0.2, cutmix=1.0, ema=0.9, accumulate=2))
    whole, resumed = finish(trainer(data, **recipe)), interrupted(lambda: trainer(data, **recipe), [5])
    assert torch.equal(weights(resumed), weights(whole))
    assert all(map(torch.equal, resumed.measured.parameters(), whole.measured.parameters()))


def test_a_pause_without_a_new_process_goes_on_with_the_batches_that_are_on_their_way(data, reference):
    current = trainer(data)
    while current.epoch < 2:
        current.advance(lambda: True)
    assert torch.equal(weights(current), weights(reference))


def test_every_sample_of_an_epoch_is_seen_once_and_drawn_by_seed_epoch_and_index(data):
    current = trainer(data)
    seen = []
    arriving = current.train_split.arriving
    current.train_split.__dict__["arriving"] = lambda batches, seed: (
        seen.append((batches, seed)) or arriving(batches, seed)
    )
    finish(current)
    assert [seed for _, seed in seen] == [derived_seed(0, "augmentation", number) for number in (1, 2)]
    for batches, _ in seen:
        assert batches.shape == (4, 4)
        assert len(batches.unique()) == 16


def test_evaluation_and_features_are_those_of_the_same_images_in_memory(data, reference):
    _, test = test_stream.placed(data)
    mean, std = data.statistics
    stored = Split.place(test.inputs[:], test.targets, mean, std, "cpu")
    loss = build_loss(entry("ce"))
    assert evaluate(reference.network, loss, test) == evaluate(reference.network, loss, stored)
    found, expected = (extract_features(reference.network, split, 5) for split in (test, stored))
    assert all(map(torch.equal, found, expected))


def test_a_stream_of_fewer_samples_than_a_batch_is_refused(data):
    with pytest.raises(UnfitError, match=r"batch_size 19 is larger than the training split \(18 samples\)"):
        trainer(data, batch_size=19)
