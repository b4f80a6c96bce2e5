"""Every network: a backbone and a linear head on its features; the seed determines the weights."""

import inspect

import pytest
import torch

from nclens.models import MODELS, place_network
from nclens.models.network import try_out
from nclens.study.models import MODEL_KINDS
from nclens.workflow.build.models import build_network

#: Every builder with its options, as small as it goes, and its feature dimension.
ENTRIES = {
    "resnet8": ({"name": "resnet8", "width": 4}, 16),
    "resnet8 signed": ({"name": "resnet8", "width": 4, "signed_features": True}, 16),
    "resnet20": ({"name": "resnet20", "width": 2}, 8),
    "vgg11": ({"name": "vgg", "width": 4}, 32),
    "vgg13 signed": ({"name": "vgg", "width": 4, "depth": 13, "signed_features": True}, 32),
    "vgg16": ({"name": "vgg", "width": 4, "depth": 16}, 32),
    "mlp": ({"name": "mlp", "widths": [24, 16]}, 16),
    "mlp signed": ({"name": "mlp", "widths": [24, 16], "signed_features": True}, 16),
    "resnet18": ({"name": "resnet18"}, 512),
    "resnet18 signed": ({"name": "resnet18", "stem": "imagenet", "signed_features": True}, 512),
    "resnet34": ({"name": "resnet34", "stem": "imagenet"}, 512),
    "resnet50": ({"name": "resnet50"}, 2048),
    "torchvision": ({"name": "torchvision", "builder": "shufflenet_v2_x0_5", "parameters": {}}, 1024),
    "timm": ({"name": "timm", "builder": "test_resnet", "parameters": {}}, 96),
}
CHEAP = [
    "mlp",
    "mlp signed",
    "resnet8",
    "resnet8 signed",
    "vgg11",
    "vgg13 signed",
    "resnet18",
    "resnet18 signed",
    "torchvision",
]


def build(key, shape=(3, 32, 32), outputs=5, seed=0):
    torch.manual_seed(seed)
    return build_network({"entry": "x", **ENTRIES[key][0]}, shape, outputs)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("side", [32, 64, 96])
@pytest.mark.parametrize("key", ENTRIES)
def test_logits_are_the_head_of_the_features_at_every_size(key, side):
    network = build(key, (3, side, side)).eval()
    inputs = torch.rand(1, 3, side, side, generator=seeded(1))
    with torch.no_grad():
        features = network.backbone(inputs)
        logits = network(inputs)
    assert features.shape == (1, ENTRIES[key][1])
    torch.testing.assert_close(logits, features @ network.head.weight.T + network.head.bias)
    assert logits.shape == (1, 5)


@pytest.mark.parametrize("key", ENTRIES)
def test_the_configuration_knows_the_feature_dimension(key):
    entry, dim = ENTRIES[key]
    known = MODEL_KINDS[entry["name"]].model_validate(entry).dim
    assert known == (None if entry["name"] in ("torchvision", "timm") else dim)


def test_every_model_of_the_configuration_is_registered_and_no_other():
    assert set(MODEL_KINDS) == set(MODELS)
    # That of sequences has its own tests.
    assert {entry["name"] for entry, _ in ENTRIES.values()} == set(MODELS) - {"transformer"}


@pytest.mark.parametrize("name", MODELS)
def test_the_configurations_defaults_are_the_builders(name):
    fields = MODEL_KINDS[name].model_fields
    options = {
        key: value
        for key, value in inspect.signature(MODELS[name]).parameters.items()
        if value.kind is value.KEYWORD_ONLY
    }
    # The head is put on by `build_network`, whatever the builder.
    assert {"head", "scale"} <= set(fields)
    assert set(options) == set(fields) - {"name", "dim", "head", "scale"}
    for key, option in options.items():
        if option.default is not inspect.Parameter.empty:
            assert fields[key].default == option.default


@pytest.mark.parametrize("key", CHEAP)
def test_a_gradient_reaches_every_parameter(key):
    network = build(key, (3, 32, 32)).train()
    network(torch.rand(4, 3, 32, 32, generator=seeded(1))).square().sum().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


@pytest.mark.parametrize("key", CHEAP)
def test_one_seed_one_set_of_weights(key):
    first, again, other = (build(key, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("key", CHEAP)
def test_the_memory_format_changes_no_value(key):
    plain = build(key).eval()
    inputs = torch.rand(2, 3, 32, 32, generator=seeded(1))
    with torch.no_grad():
        expected = plain(inputs)
        placed = place_network(plain, (3, 32, 32), torch.device("cpu"))
        torch.testing.assert_close(placed(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", [key for key in ENTRIES if key != "torchvision"])
def test_features_have_both_signs_only_with_signed_features(key):
    network = build(key).train()
    with torch.no_grad():
        features = network.backbone(torch.rand(8, 3, 32, 32, generator=seeded(1)))
    assert bool((features > 0).any())
    assert bool((features < 0).any()) == ("signed" in key)


@pytest.mark.parametrize("key", ["vgg11", "resnet18", "torchvision", "resnet8"])
def test_rows_are_no_images(key):
    with pytest.raises(ValueError, match=r"needs images \(C, H, W\), not inputs of shape \(7,\)"):
        build(key, (7,))


@pytest.mark.parametrize("key", ["resnet8", "vgg11", "resnet18", "resnet50"])
def test_images_of_one_channel_and_28_pixels_fit(key):
    with torch.no_grad():
        assert build(key, (1, 28, 28)).eval()(torch.rand(2, 1, 28, 28)).shape == (2, 5)


@pytest.mark.parametrize("training", [True, False])
def test_a_trial_has_no_side_effects(training):
    network = build("resnet8").train(not training)
    network.backbone[1].eval()
    network.backbone.append(torch.nn.Dropout())
    modes = [layer.training for layer in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    try_out(network, torch.rand(4, 3, 32, 32, generator=seeded(1)), training)
    assert torch.equal(torch.get_rng_state(), state)
    assert [layer.training for layer in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
