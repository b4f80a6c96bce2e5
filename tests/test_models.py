"""Networks: a backbone whose features make the logits through a linear head."""

import pytest
import torch
from torch import nn

from nclens.models import MODELS, build_network, split_at_head


def test_resnet8_has_the_documented_shape():
    network = build_network({"entry": "x", "name": "resnet8", "width": 16, "stem_stride": 2}, (1, 28, 28), 10)
    features = network.backbone(torch.rand(2, 1, 28, 28))
    assert features.shape == (2, 64)
    assert bool((features >= 0).all())
    assert sum(parameter.numel() for parameter in network.parameters()) == 77_754
    stem = network.backbone[0]
    assert (stem.kernel_size, stem.stride, stem.bias) == ((3, 3), (2, 2), None)


def test_logits_are_the_head_of_the_features():
    network = build_network({"name": "resnet8", "width": 4}, (3, 16, 16), 5).eval()
    inputs = torch.rand(2, 3, 16, 16)
    expected = network.backbone(inputs) @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(inputs), expected)


def test_resnet8_needs_images():
    with pytest.raises(ValueError, match="needs images"):
        build_network({"name": "resnet8"}, (7,), 3)


def test_a_module_is_split_at_its_last_linear_layer():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))
    inputs = torch.rand(7, 4)
    expected = module(inputs)
    network = split_at_head(module, (4,), 3, "mine")
    assert network.backbone(inputs).shape == (7, 5)
    torch.testing.assert_close(network(inputs), expected)


def test_a_bare_linear_layer_is_a_head_of_its_inputs():
    network = split_at_head(nn.Linear(4, 3, bias=False), (4,), 3, "mine")
    assert network.backbone(torch.ones(2, 4)).shape == (2, 4)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.ReLU()), "no linear layer"),
        (nn.Sequential(nn.Linear(4, 6)), "6 rows; the data have 3 classes"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.LogSoftmax(1)), "something comes after it"),
        (nn.Sequential(nn.Linear(7, 3)), r"does not take inputs of shape \(4,\)"),
    ],
)
def test_a_model_without_a_fitting_head_is_refused(module, words):
    with pytest.raises(ValueError, match=words):
        split_at_head(module, (4,), 3, "mine")


def test_the_users_own_model_is_built_for_the_data(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n\n"
        "def net(shape, outputs, hidden):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], hidden), nn.ReLU(),\n"
        "                         nn.Linear(hidden, outputs))\n"
    )
    entry = {"entry": "mine", "function": "mine:net", "file": str(path), "parameters": {"hidden": 9}, "dim": None}
    network = build_network(entry, (1, 4, 4), 3)
    assert network.backbone(torch.rand(2, 1, 4, 4)).shape == (2, 9)


def test_every_model_of_the_configuration_is_registered_and_no_other():
    from nclens.config import json_schema

    definitions = json_schema()["$defs"]
    models = {
        entry["properties"]["name"]["const"] for entry in definitions.values() if "width" in entry.get("properties", {})
    }
    assert models == set(MODELS)


def test_signed_features_have_both_signs():
    network = build_network({"name": "resnet8", "width": 4, "signed_features": True}, (1, 28, 28), 10)
    features = network.backbone(torch.rand(16, 1, 28, 28))
    assert features.shape == (16, 16)
    assert bool((features > 0).any())
    assert bool((features < 0).any())
