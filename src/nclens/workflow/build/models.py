"""From a model entry to a network."""

from collections.abc import Sequence
from typing import Any

from nclens.models import MODELS, Network, split_at_head
from nclens.workflow.build.functions import call


def build_network(entry: dict[str, Any], shape: Sequence[int], outputs: int) -> Network:
    """Return the network of a model entry for inputs of `shape` (C, H, W) or (F,) and K = `outputs`.

    The user's own function gets `shape` and `outputs` and its parameters, and returns a module that ends in a linear
    layer of `outputs` rows, the head.

    Raises:
        ValueError: the model does not fit the inputs or K, or has no linear head.
    """
    entry = {key: value for key, value in entry.items() if key != "entry"}
    if "function" in entry:
        module = call(entry["file"], entry["function"], tuple(shape), outputs, **entry["parameters"])
        return split_at_head(module, shape, outputs, entry["function"])
    return MODELS[entry.pop("name")](tuple(shape), outputs, **entry)
