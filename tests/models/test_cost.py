"""Floating-point operations equal hand-computed numbers, and counting has no side effects."""

import pytest
import torch
from torch import nn

from nclens.models import Network, count_flops
from nclens.workflow.build.models import build_network


def convolution(channels_in, channels, kernel, side):
    """Multiply-adds of a convolution whose output has `side` pixels per side."""
    return channels_in * kernel**2 * channels * side**2


def basic_stage(channels_in, channels, side, blocks, shortcut):
    """Multiply-adds of a stage of basic blocks; the first has a 1x1 shortcut where the shape changes."""
    first = convolution(channels_in, channels, 3, side) + convolution(channels, channels, 3, side)
    others = (blocks - 1) * 2 * convolution(channels, channels, 3, side)
    return first + others + shortcut * convolution(channels_in, channels, 1, side)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32)])
def test_resnet8(channels, side):
    half, quarter, eighth = side // 2, side // 4, -(-side // 8)
    expected = (
        convolution(channels, 16, 3, half)
        + basic_stage(16, 16, half, 1, False)
        + basic_stage(16, 32, quarter, 1, True)
        + basic_stage(32, 64, eighth, 1, True)
        + 64 * 10
    )
    network = build_network({"name": "resnet8"}, (channels, side, side), 10)
    assert count_flops(network, (channels, side, side)) == 2 * expected


def test_resnet18_with_the_papers_stem():
    expected = (
        convolution(3, 64, 3, 32)
        + basic_stage(64, 64, 32, 2, False)
        + basic_stage(64, 128, 16, 2, True)
        + basic_stage(128, 256, 8, 2, True)
        + basic_stage(256, 512, 4, 2, True)
        + 512 * 10
    )
    assert round(expected / 1e9, 2) == 0.56
    network = build_network({"name": "resnet18"}, (3, 32, 32), 10)
    assert count_flops(network, (3, 32, 32)) == 2 * expected == 1_110_845_440


def test_linear_layers_of_rows():
    network = Network(nn.Sequential(nn.Linear(7, 11), nn.ReLU()), 11, 3)
    assert count_flops(network, (7,)) == 2 * (7 * 11 + 11 * 3)


def test_attention():
    """4 projections of T tokens, their T x T products with keys and with values, and the head."""
    tokens, width, heads = 6, 8, 2

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

        def forward(self, inputs):
            return self.attention(inputs, inputs, inputs, need_weights=False)[0].mean(1)

    network = Network(Attending(), width, 3)
    expected = 4 * tokens * width**2 + 2 * tokens**2 * width + width * 3
    assert count_flops(network, (tokens, width)) == 2 * expected


def test_counting_has_no_side_effects():
    network = build_network({"name": "resnet8", "width": 2}, (1, 16, 16), 3).train()
    network.backbone.append(nn.Dropout())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    count_flops(network, (1, 16, 16))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(layer.training for layer in network.modules())
    assert all(value.grad is None for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
