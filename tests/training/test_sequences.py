"""Sequences in the training loop: a sample is a target token, padding is none."""

import pytest
import torch
from torch.nn import functional

from nclens import losses
from nclens.data.prepared import place_splits
from nclens.data.sequences import Sequences
from nclens.models import Vocabulary, count_flops, transformer
from nclens.training.loop import Settings, Trainer, as_teacher, evaluate, extract_features
from nclens.training.loss import TrainedLoss
from nclens.training.optimizer import Optimizer
from nclens.workflow.stages.prepare import describe


def spelling(count, seed):
    """Words of three letters; the target is the word backwards."""
    random = torch.Generator().manual_seed(seed)
    words = [
        torch.randint(4, (int(torch.randint(1, 6, (1,), generator=random)),), generator=random).tolist()
        for _ in range(count)
    ]
    return words, [word[::-1] for word in words]


@pytest.fixture(scope="module")
def made():
    data = Sequences.from_lists(
        {"train": spelling(64, 0), "test": spelling(40, 1)},
        classes=[*"abcd", "end"],
        source_tokens=list("abcd"),
        end=4,
    )
    manifest = describe(data)
    return manifest, place_splits(dict(data.tensors), manifest, torch.device("cpu"))


def network_for(manifest, dropout=0.0):
    torch.manual_seed(0)
    return transformer(Vocabulary(**manifest["vocabulary"]), 5, width=16, heads=2, dropout=dropout)


def trainer_for(made, epochs=2, dropout=0.1, parallel=None, **changes):
    manifest, (train, test) = made
    optimizer = changes.pop("optimizer", Optimizer("adamw", 0.01, 0.0, {}))
    settings = Settings(epochs=epochs, batch_size=16, optimizer=optimizer, **changes)
    network = network_for(manifest, dropout=dropout)
    return Trainer(network, TrainedLoss(losses.ce), train, test, settings, seed=0, parallel=parallel)


def test_the_loss_is_the_mean_over_tokens(made):
    manifest, (_, test) = made
    network = network_for(manifest).eval()
    found = evaluate(network, TrainedLoss(losses.ce), test, batch_size=7)
    labels, logits = [], []
    with torch.no_grad():
        for row, target in zip(test.inputs, test.targets, strict=True):
            kept = target >= 0
            labels.append(target[kept])
            logits.append(network(row[None]))
    expected = functional.cross_entropy(torch.cat(logits), torch.cat(labels))
    assert found["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert found["error"] == pytest.approx(float((torch.cat(logits).argmax(1) != torch.cat(labels)).float().mean()))


def test_features_are_of_tokens_in_their_order(made):
    manifest, (_, test) = made
    network = network_for(manifest).eval()
    features, logits = extract_features(network, test, batch_size=7)
    labels = test.of_samples(test.targets)
    assert features.shape == (len(labels), 16)
    assert len(labels) == manifest["tokens"]["test"]
    with torch.no_grad():
        torch.testing.assert_close(logits[-3:], network(test.inputs)[-3:])
        torch.testing.assert_close(as_teacher(network)(test.inputs), network(test.inputs))


def test_a_transformer_learns_to_spell_backwards(made):
    trainer = trainer_for(made, epochs=30)
    while trainer.epoch < 30:
        trainer.advance()
    assert trainer.history[-1]["error"] < 0.5 < trainer.history[1]["error"]


def test_a_training_stopped_within_an_epoch_goes_on_with_the_same_bits(made):
    whole = trainer_for(made)
    while whole.epoch < 2:
        whole.advance()
    halved = trainer_for(made)  # dropout draws from the global generator, which a trainer seeds
    halved.advance()
    halved.advance(lambda: True)
    tensors, values = halved.state()
    resumed = trainer_for(made)
    resumed.resume({name: value.clone() for name, value in tensors.items()}, values)
    resumed.advance()
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.network.state_dict().items())


def test_operations_are_those_of_the_longest_sequences(made):
    manifest, _ = made
    flops = count_flops(network_for(manifest), manifest["shape"])
    tokens, d = manifest["vocabulary"]["longest_source"], 16
    # Of the encoder alone: four projections and two layers four times as wide.
    assert flops > 2 * 12 * d * d * tokens


def test_images_cannot_be_cropped_out_of_tokens(made):
    with pytest.raises(ValueError, match="augmentation flip_crop needs images"):
        trainer_for(made, augmentation="flip_crop")


@pytest.mark.parametrize("parts", [2, 16])
def test_accumulated_gradients_are_those_of_all_tokens_of_the_batch(made, parts):
    """Parts of a batch have other numbers of tokens."""

    def trained(accumulate):
        manifest, (train, test) = made
        settings = Settings(epochs=2, batch_size=16, optimizer=Optimizer("sgd", 0.1), accumulate=accumulate)
        current = Trainer(network_for(manifest), TrainedLoss(losses.ce), train, test, settings, seed=0)
        while current.epoch < 2:
            current.advance()
        return current

    whole, divided = trained(1), trained(parts)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(divided.network.state_dict()[name], value, rtol=0, atol=1e-5)
    for found, expected in zip(divided.history, whole.history, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
