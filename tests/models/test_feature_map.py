"""The feature map of a network: pooled it is its features; what has none is told."""

import copy

import pytest
import torch
from torch import nn

from nclens.models import MODELS, FeatureMap, split_at_head
from nclens.models.preprocessing import preprocessed

BUILT = {
    "resnet8": ({"width": 2}, 8),
    "resnet20": ({"width": 2}, 4),
    "vgg": ({"width": 2}, 16),
    "resnet18": ({}, 8),
    "resnet18, imagenet": ({"stem": "imagenet"}, 32),
    "resnet34": ({"stem": "imagenet"}, 32),
    "resnet50": ({"stem": "imagenet"}, 32),
    "torchvision": ({"builder": "resnet18", "parameters": {}}, 32),
}
SHAPE = (3, 32, 32)


def settled(network, shape=SHAPE):
    """The network in evaluation mode, its batch normalisations with statistics of their own."""
    with torch.no_grad():
        network.train()(torch.randn(8, *shape))
    return network.eval()


def built(name, **options):
    torch.manual_seed(0)
    return settled(MODELS[name.partition(",")[0]](SHAPE, 4, **BUILT[name][0], **options))


@pytest.mark.lengthy
@pytest.mark.parametrize("name", BUILT)
def test_the_mean_over_its_pixels_is_the_features(name):
    network, inputs = built(name), torch.randn(2, *SHAPE)
    features = FeatureMap(network, SHAPE)
    made = features(inputs)
    assert made.ndim == 4
    assert features.channels == made.shape[1] == network.head.in_features
    torch.testing.assert_close(made.mean((2, 3)), network.backbone(inputs))
    assert features.stride == BUILT[name][1]
    larger = features(torch.randn(1, 3, 96, 96))
    assert larger.shape[2:] == (96 // features.stride,) * 2


@pytest.mark.parametrize("name", ["resnet8", "vgg"])
def test_signed_features_are_its_mean_batch_normalised(name):
    network, inputs = built(name, signed_features=True), torch.randn(2, *SHAPE)
    *_, norm = network.backbone
    torch.testing.assert_close(norm(FeatureMap(network, SHAPE)(inputs).mean((2, 3))), network.backbone(inputs))


def test_weights_are_shared_and_a_gradient_comes_to_them():
    network = built("resnet8")
    before = copy.deepcopy(network.state_dict())
    features = FeatureMap(network, SHAPE)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    features(torch.randn(2, *SHAPE)).sum().backward()
    assert network.backbone[0].weight.grad.abs().sum() > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Pooled(nn.Module):
    """A network of the user's own, which pools by one of its modules, if it is adaptive twice, or by a function."""

    def __init__(self, pooling, own=False):
        super().__init__()
        self.body = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.pooling, self.head = pooling, nn.Linear(5, 4)
        if own:
            self.feature_map = self.body.forward

    def forward(self, inputs):
        made = self.body(inputs)
        if self.pooling is None:
            return self.head(made.mean((2, 3)))
        if isinstance(self.pooling, nn.AdaptiveAvgPool2d):
            made = made * self.pooling(made)  # squeeze and excitation: not what the features are pooled from
        return self.head(self.pooling(made).flatten(1))


@pytest.mark.parametrize(
    ("pooling", "own"), [(nn.AdaptiveAvgPool2d(1), False), (nn.AvgPool2d(16), False), (None, True)]
)
def test_of_a_network_of_the_users_own_it_is_what_is_pooled_last(pooling, own):
    network, inputs = split_at_head(Pooled(pooling, own), SHAPE, 4, "mine"), torch.randn(2, *SHAPE)
    features = FeatureMap(network, SHAPE)
    assert (features.channels, features.stride) == (5, 2)
    torch.testing.assert_close(features(inputs).mean((2, 3)), network.backbone(inputs))
    assert features(torch.randn(1, 3, 96, 96)).shape == (1, 5, 48, 48)


def test_the_normalisation_of_a_network_trained_elsewhere_is_kept():
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    for make in (lambda: built("resnet8"), lambda: split_at_head(Pooled(None, own=True), SHAPE, 4, "mine")):
        network = preprocessed(make(), SHAPE, normalise={"mean": mean, "std": std})
        network.backbone.fit({"mean": [0.1] * 3, "std": [0.7] * 3}, {"mean": mean, "std": std})
        inputs = torch.randn(2, *SHAPE)
        torch.testing.assert_close(FeatureMap(network, SHAPE)(inputs).mean((2, 3)), network.backbone(inputs))
    with pytest.raises(ValueError, match="the network resizes or crops its images"):
        FeatureMap(preprocessed(built("resnet8"), SHAPE, normalise="data", resize=16), SHAPE)


def wrong(inputs):
    return inputs.flatten(1)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: MODELS["mlp"]((7,), 4), (7,), r"a feature map needs images \(C, H, W\), not inputs of shape \(7,\)"),
        (lambda: MODELS["mlp"](SHAPE, 4), SHAPE, r"pools no feature map .* allowed: .* method `feature_map\(inputs\)`"),
        (lambda: split_at_head(Pooled(None), SHAPE, 4, "mine"), SHAPE, r"Pooled pools no feature map to one pixel"),
    ],
)
def test_what_has_no_map_is_told(make, shape, message):
    with pytest.raises(ValueError, match=message):
        FeatureMap(make(), shape)


def test_a_method_that_returns_no_map_is_told():
    network = split_at_head(Pooled(None, own=True), SHAPE, 4, "mine")
    network.backbone.feature_map = wrong
    with pytest.raises(ValueError, match=r"`feature_map` must return a map \(N, C, h, w\), not a tensor of shape"):
        FeatureMap(network, SHAPE)
