"""The feature map that a network pools: what dense prediction, such as segmentation, is done on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nclens.models.memory import is_out_of_memory
from nclens.models.network import Network, UnfitError, try_out
from nclens.models.preprocessing import Preprocessed
from nclens.models.small import GlobalAveragePool

#: Modules that may make one pixel of a map.
POOLING = (GlobalAveragePool, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)

#: Pixels by which an image grows for the stride to be seen: a multiple of the usual strides up to 32, and of 3.
GROWTH = 96

NEEDED = (
    "allowed: a network with a method `feature_map(inputs)` that returns the map (N, C, h, w), or one that pools it to "
    "one pixel by a module, such as nn.AdaptiveAvgPool2d(1) before nn.Flatten()"
)


class FeatureMap(nn.Module):
    """A network up to its pooling: images (N, C', H, W) -> the feature map (N, C, h, w).

    It is the network's own backbone, with its weights. Where the backbone has a method ``feature_map(inputs)``, that is
    called; elsewhere the map is what the last pooling to one pixel takes. Of every built-in convolutional network the
    features h are the mean of the map over its pixels, batch-normalised with `signed_features`.

    Attributes:
        backbone: of the network.
        channels: C.
        stride: pixels of an image a pixel of the map, along each side.
    """

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        """Find the map.

        Args:
            network: with its weights, which are shared.
            shape: (C', H, W) of the images that it was built for; the map is there of images of other sizes too.

        Raises:
            ValueError: the network takes no images or none of another size, resizes or crops them, or pools no map by a
                module and has no method `feature_map`.
        """
        super().__init__()
        if len(shape) != 3:
            raise UnfitError(f"a feature map needs images (C, H, W), not inputs of shape {tuple(shape)}")
        self.backbone = network.backbone
        self._calls: tuple[str, int] | None = None
        if not callable(getattr(self._inner(), "feature_map", None)):
            self._calls = _last_pooling(self.backbone, _example(network, shape))
        small = _tried(self, _example(network, shape))
        large = _tried(self, _example(network, (shape[0], shape[1] + GROWTH, shape[2] + GROWTH)))
        steps = [after - before for after, before in zip(large.shape[2:], small.shape[2:], strict=True)]
        if min(steps) < 1 or steps[0] != steps[1]:
            sizes = [" x ".join(map(str, made.shape[2:])) for made in (small, large)]
            raise UnfitError(
                f"the feature map does not grow with the image: it has {sizes[0]} pixels for images of {shape[1]} x "
                f"{shape[2]}, and {sizes[1]} for images larger by {GROWTH}"
            )
        self.channels = int(small.shape[1])
        self.stride = round(GROWTH / steps[0])

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the map (N, C, h, w)."""
        if self._calls is None:
            module: Any = self.backbone
            while isinstance(module, Preprocessed):
                inputs = inputs * module.scale + module.shift if module.affine else inputs
                module = module.network
            return module.feature_map(inputs)
        name, last = self._calls
        seen = 0

        def stop(module: nn.Module, given: tuple[Any, ...]) -> None:
            nonlocal seen
            seen += 1
            if seen == last:
                raise _Stop(given[0])

        hook = self.backbone.get_submodule(name).register_forward_pre_hook(stop)
        try:
            self.backbone(inputs)
        except _Stop as stopped:
            return stopped.made
        finally:
            hook.remove()
        raise ValueError(f"the network does not run its pooling `{name}` as it did on its own images")

    def _inner(self) -> nn.Module:
        """Return the backbone without its preprocessing."""
        module = self.backbone
        while isinstance(module, Preprocessed):
            if module.resized or module.crops:
                raise UnfitError("the network resizes or crops its images: a feature map would be of another geometry")
            module = module.network
        return module


class _Stop(Exception):
    """A forward pass has come to the pooling."""

    def __init__(self, made: Tensor) -> None:
        super().__init__()
        self.made = made


def _example(network: Network, shape: Sequence[int]) -> Tensor:
    weight = network.head.weight
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)


def _tried(module: nn.Module, example: Tensor) -> Tensor:
    """Return what a module makes of an example in evaluation mode, which must be a map."""
    size = " x ".join(map(str, example.shape[2:]))
    try:
        with torch.no_grad():
            made = try_out(module, example, training=False)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UnfitError(
            f"the network gives no feature map of images of {size} pixels: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Tensor) or made.ndim != 4 or len(made) != len(example):
        found = f"a tensor of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise UnfitError(f"the network's `feature_map` must return a map (N, C, h, w), not {found}")
    return made


def _last_pooling(backbone: nn.Module, example: Tensor) -> tuple[str, int]:
    """Return the module that is the last to pool a map to one pixel, by name, and which of its calls does."""
    calls: list[str] = []
    last: list[tuple[str, int]] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def called(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            calls.append(name)
            pooled = isinstance(made, Tensor) and (made.ndim == 2 or made.shape[2:] == (1, 1))
            if pooled and given and isinstance(given[0], Tensor) and given[0].ndim == 4:
                last[:] = [(name, calls.count(name))]

        return called

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in backbone.named_modules()
        if name and isinstance(module, POOLING)
    ]
    try:
        with torch.no_grad():
            try_out(backbone, example, training=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not last:
        raise UnfitError(f"{type(backbone).__name__} pools no feature map to one pixel by a module; {NEEDED}")
    return last[0]
