"""The probe of layers: which modules it takes, what it collects, and that its numbers are the library's."""

import dataclasses

import pytest
import torch
from torch import nn

from nclens.data.tensors import Split
from nclens.metrics.collapse import class_means
from nclens.metrics.layers import KEYS, REGRESSION_KEYS, layer_collapse, layer_regression
from nclens.models import MODELS, Network, layers_of, split_at_head, with_cosine_head
from nclens.models.preprocessing import preprocessed
from nclens.probes.layers import layer_features, layer_measures

K = 3
SHAPE = (1, 8, 8)


def split(count, seed, **changes):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *SHAPE), generator=generator).to(torch.uint8)
    made = Split.place(images, torch.arange(count) % K, [0.5], [0.3], "cpu")
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    ("name", "keys", "count", "last"),
    [
        ("resnet8", {"width": 2}, 4, "5"),
        ("resnet8", {"width": 2, "signed_features": True}, 4, "5"),
        ("resnet20", {"width": 2}, 10, "11"),
        ("vgg", {"width": 1}, 8, "27"),
        ("mlp", {"widths": [5] * 8}, 8, "16"),
        ("mlp", {"widths": [5] * 8, "signed_features": True}, 8, "15"),
        pytest.param("resnet18", {}, 9, "layer4.1", marks=pytest.mark.lengthy),
    ],
)
def test_our_builders_declare_their_blocks(name, keys, count, last):
    network = MODELS[name]((1, 16, 16), K, **keys)
    found = layers_of(network.backbone)
    assert len(found) == count
    assert list(found)[-1] == last
    assert found[last] is network.backbone.get_submodule(last)
    # Also behind what wraps a backbone.
    assert list(layers_of(with_cosine_head(network).backbone)) == [f"0.{own}" for own in found]


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        self.blocks = nn.ModuleList([nn.Linear(5, 5), nn.Dropout(), nn.ReLU(), nn.Linear(5, 4), nn.Identity()])
        self.idle = nn.Linear(4, 4)
        self.fc = nn.Linear(4, K)

    def forward(self, inputs):
        hidden = self.stem(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        return self.fc(hidden)


@pytest.fixture
def own():
    torch.manual_seed(0)
    return split_at_head(Blocks(), SHAPE, K, "mine:blocks")


def test_elsewhere_the_longest_list_is_taken_or_names_are_given(own):
    assert list(layers_of(own.backbone)) == ["blocks.0", "blocks.2", "blocks.3"]
    assert list(layers_of(own.backbone, ["stem.1", "blocks.3"])) == ["stem.1", "blocks.3"]
    with pytest.raises(ValueError, match=r"the network has no layer head; it has: stem, stem\.0, stem\.1, blocks"):
        layers_of(own.backbone, ["head"])
    twice = nn.ModuleDict({"a": nn.Sequential(nn.ReLU()), "b": nn.Sequential(nn.ReLU())})
    with pytest.raises(ValueError, match=r"has several layers 0: a\.0, b\.0; it has: a, a\.0, b, b\.0"):
        layers_of(twice, ["0"])
    with pytest.raises(ValueError, match=r"Linear has no ModuleList or Sequential .*; name them, .*: it has none"):
        layers_of(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="the layer idle does not run in a forward pass"):
        layer_features(own, split(6, 0), ["stem.1", "idle"])
    wrapped = preprocessed(own, SHAPE, normalise="data").backbone
    assert list(layers_of(wrapped, ["stem.1"])) == ["network.stem.1"]


def test_outputs_are_pooled_before_later_layers_write_into_them(own):
    made, data = MODELS["resnet8"](SHAPE, K, width=2).eval(), split(600, 0)
    found = layer_features(made, data)
    images, expected = data.normalise(data.inputs), []
    with torch.no_grad():
        for number, module in enumerate(made.backbone):
            images = module(images.clone())
            if number in (2, 3, 4, 5):
                expected.append(images.clone().mean((2, 3)))
    for layer, features in zip(found, expected, strict=True):
        torch.testing.assert_close(layer.features, features)
        assert not layer.features.requires_grad
    assert not any(module._forward_hooks for module in made.modules())
    linear = layer_features(own, split(6, 0), ["blocks.0", "blocks.2"])
    # ReLU in the same place would not change what was collected before it.
    assert bool((linear[0].features < 0).any())
    assert all(torch.equal(layer.weight, own.backbone.blocks[0].weight) for layer in linear)


class Tokens(nn.Module):
    def forward(self, inputs):
        return inputs.flatten(2).transpose(1, 2).expand(-1, -1, 2), None


class First(nn.Module):
    def forward(self, inputs):
        return inputs[0].mean(1)


def test_tokens_are_averaged_a_tuple_counts_by_its_first_entry_and_a_module_may_run_twice():
    data = split(5, 0)
    made = Network(nn.Sequential(Tokens(), First()), 2, K)
    tokens, pooled = layer_features(made, data)
    torch.testing.assert_close(tokens.features, pooled.features)
    same = nn.Linear(64, 64)
    made = Network(nn.Sequential(nn.Flatten(), same, nn.ReLU(), same), 64, K)
    assert [layer.name for layer in layer_features(made, data, ["1"])] == ["1", "1"]
    made = Network(nn.Sequential(nn.Module(), nn.Flatten()), 64, K)
    made.backbone[0].forward = lambda inputs: {"x": inputs}
    made.backbone[1].forward = lambda inputs: inputs["x"].flatten(1)
    with pytest.raises(ValueError, match=r"the layer 0 returns dict; allowed: a tensor of numbers \(N, d\), "):
        layer_features(made, data)


def test_the_measures_of_both_splits_are_the_librarys():
    torch.manual_seed(0)
    made, train, test = MODELS["mlp"](SHAPE, K, widths=[7] * 6), split(60, 0), split(30, 1)
    found = layer_measures(made, train, test)
    assert list(found) == ["train", "test"]
    names = [f"layers_{key}/{number:02d}" for key in KEYS for number in range(1, 7)]
    assert list(found["train"]) == [*names, "layers_slope", "layers_correlation"]
    layer = 3
    h, other = (layer_features(made, one)[layer - 1].features for one in (train, test))
    means = class_means(h, train.targets, K)
    for name, features, labels in (("train", h, train.targets), ("test", other, test.targets)):
        expected = layer_collapse(features, labels, K, reference_means=means)
        assert {key: found[name][f"layers_{key}/03"] for key in KEYS} == expected
    own = layer_collapse(other, test.targets, K)
    assert own["nc1"] == found["test"]["layers_nc1/03"]
    assert -1 <= found["train"]["layers_correlation"] <= 1
    five = layer_measures(made, train, test, names=[str(2 * n + 2) for n in range(5)])
    assert five["train"]["layers_slope"] != five["train"]["layers_slope"]


def test_a_regression_has_measures_of_its_targets():
    torch.manual_seed(0)
    made = MODELS["mlp"](SHAPE, 2, widths=[7, 6])
    targets = torch.randn(90, 2)
    train = split(60, 0, targets=targets[:60], task="regression")
    test = split(30, 1, targets=targets[60:], task="regression")
    found = layer_measures(made, train, test)
    assert list(found["test"]) == [
        *(f"layers_{key}/{number:02d}" for key in REGRESSION_KEYS for number in (1, 2)),
        "layers_stable_rank_targets",
    ]
    h, other = (layer_features(made, one)[1].features for one in (train, test))
    weight = made.backbone[3].weight
    expected = layer_regression(other, test.targets, train_features=h, train_targets=train.targets, weight=weight)
    assert {key: found["test"][f"layers_{key}/02"] for key in REGRESSION_KEYS} == expected
