"""The class of all networks, their placement on a device, and the registry of builders."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class UnfitError(ValueError):
    """A network does not fit the shape of the inputs or the number of outputs, whenever it is tried."""


class Network(nn.Module):
    """A backbone x -> h in R^d and a linear head z = W h + b.

    Attributes:
        backbone: maps inputs (N, ...) to features h (N, d).
        head: linear, weight W (K, d) and bias b (K,). Read both after a forward pass, in which hooks such as
            `torch.nn.utils.weight_norm` set them.
        head_path: the head's name in the module that it was found in, for messages.
    """

    def __init__(self, backbone: nn.Module, dim: int, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(dim, outputs)
        self.head_path = "head"

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        return self.head(self.backbone(inputs))


MODELS: dict[str, Callable[..., Network]] = {}


def register(builder: Callable[..., Network]) -> Callable[..., Network]:
    """Register a builder under its own name."""
    MODELS[builder.__name__] = builder
    return builder


def place_network(network: Network, shape: Sequence[int], device: torch.device) -> Network:
    """Move a network to the device, in channels-last memory format for images (C, H, W), which is faster."""
    network = network.to(device)
    if len(shape) == 3:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def check_images(name: str, shape: Sequence[int], smallest: int = 1) -> None:
    """Require images (C, H, W) with at least `smallest` pixels per side.

    Raises:
        UnfitError: the inputs are rows, or too small.
    """
    if len(shape) != 3:
        raise UnfitError(f"{name} needs images (C, H, W), not inputs of shape {tuple(shape)}")
    if min(shape[1:]) < smallest:
        raise UnfitError(f"{name} needs images of at least {smallest} x {smallest} pixels, not {shape[1]} x {shape[2]}")


def try_out(module: nn.Module, inputs: Tensor, training: bool) -> Any:
    """Return a module's output for `inputs`, in training or evaluation mode, without side effects.

    Buffers such as the statistics of batch normalisation, the modes of all layers and the state of the global random
    generators are restored.
    """
    modes = {layer: layer.training for layer in module.modules()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
            return functional_call(module.train(training), buffers, (inputs,))
    finally:
        for layer, mode in modes.items():
            layer.training = mode
