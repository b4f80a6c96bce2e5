"""Networks: a backbone that makes features, and a linear head that makes logits.

Each builder is registered under its own name, which is its name in the configuration; its keyword arguments are the
entry's keys. A builder takes the shape of an input and the number of outputs, and returns the network.
"""

from collections.abc import Sequence
from typing import Any

from nclens import custom
from nclens.models.cost import count_flops
from nclens.models.dense import mlp
from nclens.models.head import split_at_head
from nclens.models.network import MODELS, Network, place_network, register
from nclens.models.small import resnet8, vgg
from nclens.models.zoo import resnet18, resnet34, resnet50, torchvision

__all__ = [
    "MODELS",
    "Network",
    "build_network",
    "count_flops",
    "mlp",
    "place_network",
    "register",
    "resnet8",
    "resnet18",
    "resnet34",
    "resnet50",
    "split_at_head",
    "torchvision",
    "vgg",
]


def build_network(entry: dict[str, Any], shape: Sequence[int], outputs: int) -> Network:
    """Return the network of a model entry for inputs of `shape` (C, H, W) or (F,) and K = `outputs`.

    The user's own function gets `shape` and `outputs` and its parameters, and returns a module that ends in a linear
    layer of `outputs` rows, the head.

    Raises:
        ValueError: the model does not fit the inputs or K, or has no linear head.
    """
    entry = {key: value for key, value in entry.items() if key != "entry"}
    if "function" in entry:
        module = custom.call(entry["file"], entry["function"], tuple(shape), outputs, **entry["parameters"])
        return split_at_head(module, shape, outputs, entry["function"])
    return MODELS[entry.pop("name")](tuple(shape), outputs, **entry)
