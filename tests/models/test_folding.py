"""Folding batch normalisation: which pairs are found, and that the folded module computes the same."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from nclens.models import MODELS, place_network
from nclens.models.folding import fold, foldable


def settled(module, *shape, seed=0):
    """Give every parameter and statistic random values of an ordinary size; return the module and inputs."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if is_norm(layer) and layer.running_var is not None:
                layer.running_mean.normal_(generator=random)
                layer.running_var.uniform_(0.5, 2.0, generator=random)
                if layer.affine:
                    layer.weight.uniform_(0.5, 2.0, generator=random)
                    layer.bias.normal_(generator=random)
    return module.eval(), torch.randn(6, *shape, generator=random)


def is_norm(module):
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def relative(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


#: Registered model -> shape of its inputs, arguments, and batch normalisations that are foldable, of all.
REGISTERED = {
    "resnet8": ((1, 12, 12), {}, 9, 9),
    "resnet20": ((1, 12, 12), {"width": 4}, 21, 21),
    "resnet8 signed": ((1, 12, 12), {"signed_features": True}, 9, 10),
    "vgg": ((3, 16, 16), {"width": 4}, 8, 8),
    "resnet18": ((3, 16, 16), {}, 20, 20),
    "resnet34": ((3, 16, 16), {}, 36, 36),
    "resnet50": ((3, 16, 16), {"signed_features": True}, 53, 54),
    "mlp": ((5,), {}, 0, 0),
    "torchvision": ((3, 64, 64), {"builder": "densenet121", "parameters": {}}, 59, 121),
    "timm": ((3, 32, 32), {"builder": "resnet10t", "parameters": {}}, 14, 14),
}


def test_every_registered_model_is_in_the_table():
    # A Transformer has no batch normalisation, and takes no images.
    assert {name.split()[0] for name in REGISTERED} == set(MODELS) - {"transformer"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.split()[0] in ("resnet8", "vgg", "mlp") else pytest.mark.lengthy)
        for name in REGISTERED
    ],
)
@torch.no_grad()
def test_registered_models_compute_the_same_when_folded(name):
    """To 1e-12 in float64; in float32 as near to that as the plain pass, whose own rounding is up to 3e-6 in depth."""
    shape, arguments, count, norms = REGISTERED[name]
    torch.manual_seed(0)
    network = place_network(MODELS[name.split()[0]](shape, 3, **arguments), shape, torch.device("cpu"))
    backbone, inputs = settled(network.backbone, *shape)
    pairs = foldable(backbone)
    assert len(pairs) == count
    assert sum(map(is_norm, backbone.modules())) == norms
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    folded, rounded = fold(backbone, pairs), backbone(inputs)
    assert sum(map(is_norm, folded.modules())) == norms - count
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    single = folded(inputs)
    exact = backbone.double()(inputs.double())
    assert relative(fold(backbone, pairs)(inputs.double()), exact) <= 1e-12
    assert relative(single, exact) <= 1.5 * relative(rounded, exact) + 1e-7
    if max(relative(rounded, exact), relative(single, exact)) <= 5e-7:
        assert relative(single, rounded) <= 1e-6


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(2, 4, 3, bias=True), nn.BatchNorm1d(4), (2, 9)),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(4, eps=1e-2), (2, 7, 7)),
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", dilation=2), nn.BatchNorm2d(4), (2, 9, 9)),
        (nn.Conv3d(2, 4, 2, bias=False), nn.BatchNorm3d(4, affine=False), (2, 3, 3, 3)),
        (nn.Linear(5, 4), nn.BatchNorm1d(4), (5,)),
        (nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), (5,)),
    ],
)
@torch.no_grad()
def test_folding_is_exact_in_float64_for_every_pair(layer, norm, shape):
    module, inputs = settled(nn.Sequential(layer, norm).double(), *shape)
    inputs = inputs.double()
    assert foldable(module) == [("0", "1")]
    folded = fold(module, [("0", "1")])
    assert isinstance(folded[1], nn.Identity)
    torch.testing.assert_close(folded(inputs), module(inputs), rtol=1e-12, atol=1e-12)


def test_only_the_folded_layers_have_weights_of_their_own():
    module, _ = settled(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)), 2)
    folded = fold(module, foldable(module))
    assert folded[3].weight is module[3].weight
    assert folded[0].weight is not module[0].weight


class Block(nn.Module):
    """A convolution and a normalisation, combined in some way."""

    def __init__(self, run, norm=None):
        super().__init__()
        self.conv, self.norm, self.run = nn.Conv2d(2, 2, 1), norm or nn.BatchNorm2d(2), run

    def forward(self, inputs):
        return self.run(self, inputs)


def hooked(block, how):
    noop = {
        "register_forward_hook": lambda layer, inputs, output: None,
        "register_forward_pre_hook": lambda layer, inputs: None,
        "register_full_backward_hook": lambda layer, inputs, outputs: None,
    }
    getattr(block.norm, how)(noop[how])
    return block


def training_norm(block):
    block.eval().norm.train()
    block.eval = lambda: block  # a normalisation that stays in training mode
    return block


def renamed(block):
    block.other = block.conv
    return block


def plain(block, inputs):
    return block.norm(block.conv(inputs))


class Scaled(nn.BatchNorm2d):
    """A subclass may compute anything."""


NOT_FOLDABLE = {
    "the normalisation is used twice": Block(lambda block, x: block.norm(block.norm(block.conv(x)))),
    "the convolution is used twice": Block(lambda block, x: block.norm(block.conv(block.conv(x)))),
    "the output is used elsewhere": Block(lambda block, x: block.norm(y := block.conv(x)) + y),
    "the weight is used elsewhere": Block(lambda block, x: block.norm(block.conv(x)) * block.conv.weight.sum()),
    "the statistics are used elsewhere": Block(lambda block, x: plain(block, x) + block.norm.running_mean.sum()),
    "something is between": Block(lambda block, x: block.norm(torch.relu(block.conv(x)))),
    "the order is the other": Block(lambda block, x: block.conv(block.norm(x))),
    "a branch depends on the inputs": Block(lambda block, x: plain(block, x) if x.sum() > 0 else x),
    "no running statistics": Block(plain, nn.BatchNorm2d(2, track_running_stats=False)),
    "instance normalisation": Block(plain, nn.InstanceNorm2d(2, track_running_stats=True)),
    "a linear layer without an affine map after it": nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False)),
    "a subclass": Block(plain, Scaled(2)),
    "in training mode": training_norm(Block(plain)),
    "two names": renamed(Block(plain)),
    **{
        how: hooked(Block(plain), how)
        for how in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")
    },
}


@pytest.mark.parametrize("why", NOT_FOLDABLE)
def test_nothing_is_folded_where_one_layer_would_compute_something_else(why):
    assert foldable(NOT_FOLDABLE[why].eval()) == []
    assert foldable(Block(plain).eval()) == [("conv", "norm")]


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_nothing_is_folded_beside_a_parametrisation(wrap):
    block = nn.Sequential(Block(plain), nn.Flatten(), wrap(nn.Linear(8, 3)))
    assert foldable(block.eval()) == []


def test_normalised_sequences_are_not_channels():
    """BatchNorm1d normalises the second axis, which is not a linear layer's output in (N, L, C)."""
    module, inputs = settled(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(3)), 3, 4)
    assert module(inputs).shape == (6, 3, 5)
    assert foldable(module) == []


def test_a_trace_leaves_no_mark():
    class Marking(Block):
        def forward(self, inputs):
            self.seen = self.norm(self.conv(inputs))
            self.steps.add_(1)
            return self.seen

    module = Marking(None)
    module.register_buffer("steps", torch.zeros(()))
    assert foldable(module.eval()) == [("conv", "norm")]
    assert module.steps == 0
    assert not hasattr(module, "seen")
