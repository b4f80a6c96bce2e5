"""Multilayer perceptrons, for rows."""

import math
from collections.abc import Sequence

from torch import nn

from nclens.models.blocks import block
from nclens.models.network import Network, register


@register
def mlp(
    shape: Sequence[int], outputs: int, *, widths: Sequence[int] = (256, 256, 256), signed_features: bool = False
) -> Network:
    """Return a multilayer perceptron: hidden linear layers of these widths, each followed by a ReLU.

    Inputs are flattened. Features are the output of the last hidden layer, and d is its width. `signed_features`
    removes the ReLU before the head, so that features take both signs.
    """
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    inputs = math.prod(shape)
    for width in widths:
        layers += [nn.Linear(inputs, width), block(nn.ReLU(inplace=True))]
        inputs = width
    if signed_features:
        layers.pop()
        block(layers[-1])
    return Network(nn.Sequential(*layers), inputs, outputs)
