"""Batches without a data loader: each split is one tensor on the device, indexed by batch."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """One split on the device, with the normalisation from stored values to network inputs.

    Attributes:
        inputs: uint8 images (N, C, H, W) or float32 rows (N, F), as stored.
        targets: int64 (N,), or float32 (N, n) for regression.
        mean, std: per channel (1, C, 1, 1) in units of the stored values, or per column (1, F).
        task: `classification` or `regression`.
    """

    inputs: Tensor
    targets: Tensor
    mean: Tensor
    std: Tensor
    task: str = "classification"

    @classmethod
    def place(
        cls,
        inputs: Tensor,
        targets: Tensor,
        mean: list[float],
        std: list[float],
        device: torch.device | str,
        task: str = "classification",
    ) -> Self:
        """Move a split to the device; `mean` and `std` are per channel of images scaled to [0, 1], or per column."""
        scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return cls(
            inputs=inputs.to(device),
            targets=targets.to(device),
            mean=(torch.tensor(mean) * scale).reshape(shape).to(device),
            std=(torch.tensor(std) * scale).reshape(shape).to(device),
            task=task,
        )

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.targets)

    def normalise(self, stored: Tensor) -> Tensor:
        """Return stored values as float32 network inputs, (x - mean) / std."""
        # `sub` allocates: stored float32 rows must not be changed in place.
        return stored.to(torch.float32).sub(self.mean).div_(self.std)


def flip_crop(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Return each image flipped left to right with probability 1/2, then cropped at random after zero padding.

    Equal in distribution to torchvision's RandomHorizontalFlip and RandomCrop(size, padding=4), for a whole batch of
    images (N, C, H, W) of any dtype. Zeros are padded in stored units: like the published recipe, before normalisation.
    """
    count, _, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count, 1), generator=generator, device=device)

    flipped, top, left = draw(2), draw(2 * padding + 1), draw(2 * padding + 1)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    columns = torch.where(flipped.bool(), columns.flip(1), columns)
    # A flip of the cropped window equals a crop of the flipped image: both offsets are uniform and symmetric.
    padded = torch.nn.functional.pad(images, [padding] * 4)
    picture = torch.arange(count, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
