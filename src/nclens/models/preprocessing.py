"""What is done to a data set's inputs before a network that was trained elsewhere takes them, as a part of the network.

So that everything that runs a network is given the inputs of the prepared data set as ever, (x - mean) / std.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nclens.models.network import Network, UnfitError

#: A side in pixels, or height and width.
Sides = int | Sequence[int] | None


class Preprocessed(nn.Module):
    """A backbone behind its preprocessing: resize, central crop, and its own normalisation in place of the data set's.

    Attributes:
        network: the backbone.
        scale, shift: of each channel or column, x -> scale x + shift; the buffers are there where the normalisations
            differ, and are set by `fit`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, shape: Sequence[int], resize: Sides, crop: Sides, affine: bool) -> None:
        super().__init__()
        self.network = network
        self.size = scaled_size(shape, resize) if len(shape) == 3 else ()
        self.resized = len(shape) == 3 and self.size != tuple(shape[1:])
        taken = shape_taken(shape, resize, crop)
        self.crops = len(shape) == 3 and taken[1:] != self.size
        if self.crops:
            self.top, self.left = ((whole - part) // 2 for whole, part in zip(self.size, taken[1:], strict=True))
            self.height, self.width = taken[1:]
        self.affine = affine
        if affine:
            channels = (1, shape[0], *[1] * (len(shape) - 1))
            self.register_buffer("scale", torch.ones(channels))
            self.register_buffer("shift", torch.zeros(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features (N, d) of a data set's normalised inputs (N, ...)."""
        if self.resized:
            inputs = functional.interpolate(inputs, self.size, mode="bilinear", antialias=True, align_corners=False)
        if self.crops:
            inputs = inputs[:, :, self.top : self.top + self.height, self.left : self.left + self.width]
        if self.affine:
            inputs = inputs * self.scale + self.shift
        return self.network(inputs)

    @torch.no_grad()
    def fit(self, manifest: Mapping[str, Any], normalise: Mapping[str, Sequence[float]] | str) -> None:
        """Set scale and shift for a data set: (m + s x - mean) / std, where its inputs x are (stored - m) / s.

        Args:
            manifest: of the data set, with `mean`, `std` and perhaps `input_offset`, per channel or column.
            normalise: the network's `mean` and `std`, or `none` for 0 and 1.

        Raises:
            ValueError: there are not as many numbers as channels or columns.
        """
        if not self.affine:
            return
        m, s = (torch.tensor(manifest[key], dtype=torch.float64) for key in ("mean", "std"))
        m = m + torch.tensor(manifest.get("input_offset") or [0.0] * len(m), dtype=torch.float64)
        mean, std = torch.zeros_like(m), torch.ones_like(s)
        if not isinstance(normalise, str):
            mean, std = (torch.tensor(normalise[key], dtype=torch.float64) for key in ("mean", "std"))
        if len(mean) != len(m):
            raise ValueError(f"normalise has {len(mean)} channels or columns, the inputs have {len(m)}")
        self.scale.copy_((s / std).reshape(self.scale.shape))
        self.shift.copy_(((m - mean) / std).reshape(self.shift.shape))


def preprocessed(
    network: Network, shape: Sequence[int], *, normalise: Any, resize: Sides = None, crop: Sides = None
) -> Network:
    """Return a network with its preprocessing in front: what it takes is made of the data set's inputs of `shape`."""
    network.backbone = Preprocessed(network.backbone, shape, resize, crop, affine=normalise != "data")
    return network


def shape_taken(shape: Sequence[int], resize: Sides, crop: Sides) -> tuple[int, ...]:
    """Return the shape of what the network takes, for inputs of a shape (C, H, W) or (F,).

    Raises:
        ValueError: rows are to be resized or cropped, or a crop is larger than the image.
    """
    if len(shape) != 3:
        if resize is not None or crop is not None:
            raise UnfitError(f"resize and crop need images (C, H, W), not inputs of shape {tuple(shape)}")
        return tuple(shape)
    size = scaled_size(shape, resize)
    cropped = size if crop is None else (crop, crop) if isinstance(crop, int) else tuple(crop)
    if any(part > whole for part, whole in zip(cropped, size, strict=True)):
        said = " x ".join(map(str, size))
        raise UnfitError(f"crop = {crop}: must be at most the size of the images, {said} pixels after `resize`")
    return (shape[0], *cropped)


def scaled_size(shape: Sequence[int], resize: Sides) -> tuple[int, ...]:
    """Return height and width after `resize`: one number is the shorter side, as in torchvision's `Resize`."""
    if resize is None:
        return tuple(shape[1:])
    if not isinstance(resize, int):
        return tuple(resize)
    shorter = min(shape[1:])
    return tuple(int(resize * side / shorter) for side in shape[1:])
