"""A cosine head: what is measured at it is what the logits are made of."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import nclens
from nclens.data.tensors import Split
from nclens.models import CosineHead, resnet8, split_at_head, with_cosine_head
from nclens.training.loop import extract_features
from nclens.training.passes import Passes
from nclens.workflow.build.checkpoints import give_weights
from nclens.workflow.build.models import build_network
from nclens.workflow.files import FileError
from tests.process import ROOT


class Net(nn.Module):
    """A network of a user's own."""

    def __init__(self, scale=8.0):
        super().__init__()
        self.body, self.fc = nn.Linear(6, 5), CosineHead(5, 3, scale)

    def forward(self, inputs):
        return self.fc(self.body(inputs))


def net(scale=8.0):
    torch.manual_seed(0)
    return Net(scale)


ROWS = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))


def test_the_logits_are_scaled_cosines_and_the_weight_times_the_measured_features():
    model = net()
    hidden, directions = model.body(ROWS), model.fc.linear.parametrizations.weight.original
    cosines = functional.cosine_similarity(hidden[:, None], directions[None], dim=2)
    network = split_at_head(model, (6,), 3, "net").eval()
    features, weight = network.backbone(ROWS), network.head.weight
    torch.testing.assert_close(network(ROWS), 8 * cosines)
    assert torch.equal(network(ROWS), features @ weight.T)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(weight.norm(dim=1), torch.full((3,), 8.0))
    assert network.head.bias is None
    assert network.head_path == "fc.linear"
    assert CosineHead(5, 3, 2)(torch.zeros(1, 5)).tolist() == [[0, 0, 0]]


def test_a_longer_row_is_the_same_network_and_gets_no_gradient_along_itself():
    model = net()
    before = model(ROWS)
    functional.cross_entropy(before, torch.arange(20) % 3).backward()
    rows = model.fc.linear.parametrizations.weight.original
    assert rows.grad.abs().max() > 1e-3
    torch.testing.assert_close((rows.grad * rows).sum(1), torch.zeros(3), atol=1e-6, rtol=0)
    with torch.no_grad():
        rows *= torch.tensor([[2.0], [0.5], [3.0]])
    torch.testing.assert_close(model(ROWS), before)


def test_features_have_length_1_behind_a_backbone_in_bfloat16_and_keep_float64():
    network = split_at_head(net(), (6,), 3, "net")
    with torch.autocast("cpu", torch.bfloat16):
        features = network.backbone(ROWS)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(20))
    assert (features.dtype, network.double().backbone(ROWS.double()).dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_positive_and_finite(scale):
    with pytest.raises(ValueError, match="scale must be a positive, finite number, got"):
        CosineHead(5, 3, scale)


@pytest.mark.parametrize("head", [None, "fc", "fc.linear"])
def test_it_is_found_and_may_be_named_where_a_network_is_watched(head):
    model, labels = net(), torch.arange(20) % 3
    watch = nclens.watch(model, head=head)
    values = watch.measure([(ROWS, labels)])
    assert watch.head is model.fc.linear
    features, weight = functional.normalize(model.body(ROWS)), model.fc.linear.weight
    expected = nclens.neural_collapse(features.detach(), labels, weight.detach(), torch.zeros(3))
    assert {key: values[key] for key in expected} == pytest.approx(expected, rel=1e-5)


def test_a_named_network_has_the_backbone_that_it_has_with_a_linear_head():
    def build(**head):
        torch.manual_seed(3)
        return build_network({"name": "resnet8", "width": 2, **head}, (1, 8, 8), 3).eval()

    plain, cosine = build(), build(head="cosine", scale=4.0)
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cosine.backbone(images), functional.normalize(plain.backbone(images)))
    torch.testing.assert_close(cosine.head.weight.norm(dim=1), torch.full((3,), 4.0))


def test_extraction_folds_and_takes_the_fast_layout_as_with_a_linear_head():
    """And the exported graph, which MLflow gets, is the network."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split.place(pixels, torch.arange(60) % 3, [0.5], [0.25], "cpu")
    network = with_cosine_head(resnet8((1, 8, 8), 3, width=4)).to(memory_format=torch.channels_last).eval()
    passes = Passes(network, split)
    chosen = passes.choose()
    assert isinstance(chosen, partial) == torch.backends.mkldnn.is_available()
    assert chosen is not network.backbone
    features, logits = extract_features(network, split, passes.batch_size, chosen)
    torch.testing.assert_close(features @ network.head.weight.T.detach(), logits)
    images = split.normalise(split.inputs)
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


def test_a_checkpoint_of_it_is_taken_up_by_its_own_names(tmp_path):
    saved, network = net().state_dict(), split_at_head(Net(), (6,), 3, "net")
    assert "fc.linear.parametrizations.weight.original" in saved
    give_weights(network, saved, tmp_path / "net.pt", "net")
    torch.testing.assert_close(network(ROWS), net()(ROWS))
    plain = {"fc.weight": torch.zeros(3, 5), "body.weight": torch.zeros(5, 6), "body.bias": torch.zeros(5)}
    with pytest.raises(FileError, match=r"missing: fc\.linear\.parametrizations\.weight\.original; not in the model"):
        give_weights(network, plain, tmp_path / "net.pt", "net")


def test_the_network_of_the_page_is_a_network():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?CosineHead\(hidden.*?)```", page, re.DOTALL)
    parts = {}
    exec(snippet, parts)
    network = split_at_head(parts["net"]((1, 8, 8), 3), (1, 8, 8), 3, "net")
    assert (network.head_path, network.head.in_features) == ("3.linear", 64)
