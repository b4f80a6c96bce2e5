"""Batches without a data loader: each split is one tensor on the device, indexed by batch.

Images that stay in their files are a split too, :class:`nclens.data.stream.StreamSplit`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Split:
    """One split on the device, with the normalisation from stored values to network inputs.

    Attributes:
        inputs: uint8 images (N, C, H, W), float32 rows (N, F) or int32 tokens (N, S + T), as stored.
        targets: int64 (N,), or float32 (N, n) for regression; of sequences int64 (N, T), padded with -1.
        mean, std: one value per channel, repeated at each pixel (1, C, H, W), or per column (1, F), in units of the
            stored values.
        task: `classification`, `regression` or `sequences`.
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
        layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
        return cls(
            inputs=inputs.contiguous(memory_format=layout).to(device),
            targets=targets.to(device),
            mean=of_each_value(mean, inputs.shape[1:], scale, device),
            std=of_each_value(std, inputs.shape[1:], scale, device),
            task=task,
        )

    def __len__(self) -> int:
        """Return the number of inputs N."""
        return len(self.targets)

    def of_samples(self, targets: Tensor) -> Tensor:
        """Return the targets of the samples: of sequences (B, T) those of their tokens (n,), else all as they are.

        A network returns an output for each.
        """
        return targets[targets >= 0] if self.task == "sequences" else targets

    def subset(self, index: Tensor) -> "Split":
        """Return the split of the inputs at `index` alone."""
        return replace(self, inputs=self.inputs[index], targets=self.targets[index])

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stored inputs at `index` (B,), and the targets of their samples."""
        # A row is copied as a whole, an image pixel by pixel: so images are taken as rows of a view.
        rows = self.inputs if self.inputs.ndim == 2 else self.inputs.permute(0, 2, 3, 1).flatten(1)
        taken = rows.index_select(0, index)
        if self.inputs.ndim == 4:
            _, channels, height, width = self.inputs.shape
            taken = taken.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return taken, self.of_samples(self.targets.index_select(0, index))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised inputs of `size` samples at a time, in order, with the targets of their samples."""
        for start in range(0, len(self), size):
            targets = self.of_samples(self.targets[start : start + size])
            yield self.normalise(self.inputs[start : start + size]), targets

    def arriving(self, batches: Tensor, seed: int) -> Iterator[Tensor] | None:
        """Return the stored inputs of batches of indices (S, B), where they are not in memory; here None.

        A :class:`nclens.data.stream.StreamSplit` draws the augmentation of each sample by `seed`, that of the epoch.
        """
        return None

    def normalise(self, stored: Tensor) -> Tensor:
        """Return stored values as float32 network inputs, (x - mean) / std; tokens as they are."""
        if self.task == "sequences":
            return stored
        # `sub` allocates: stored float32 rows must not be changed in place.
        return stored.to(torch.float32).sub(self.mean).div_(self.std)


def of_each_value(values: list[float], shape: Sequence[int], scale: float, device: torch.device | str) -> Tensor:
    """Return one value per channel or column, times `scale`, repeated at each pixel: (1, C, H, W) or (1, F).

    `shape` is that of an input.
    """
    layout = torch.channels_last if len(shape) == 3 else torch.contiguous_format
    # A value for each pixel: channels-last, one for each channel would be broadcast three numbers at a time.
    channels = (torch.tensor(values) * scale).reshape(1, -1, *[1] * (len(shape) - 1))
    return channels.expand(1, *shape).contiguous(memory_format=layout).to(device)


def flip_crop(
    images: Tensor, generator: torch.Generator, padding: int = 4, of: tuple[int, Tensor] | None = None
) -> Tensor:
    """Return each image flipped left to right with probability 1/2, then cropped at random after zero padding.

    Equal in distribution to torchvision's RandomHorizontalFlip and RandomCrop(size, padding=4), for a whole batch of
    images (N, C, H, W) of any dtype. Zeros are padded in stored units: like the published recipe, before normalisation.
    With `of`, the images are a part of a batch, of so many images, at these places (N,): their draws are those that
    they have in the whole batch.
    """
    count, channels, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        size, places = (count, slice(None)) if of is None else of
        return torch.randint(high, (size, 1), generator=generator, device=device)[places]

    flipped, top, left = draw(2), draw(2 * padding + 1), draw(2 * padding + 1)
    # The flip of a window is a window of the flipped image, as far from the other side.
    left = torch.where(flipped.bool(), 2 * padding - left, left)
    both = torch.nn.functional.pad(torch.cat([images, images.flip(3)]), [padding] * 4).permute(0, 2, 3, 1)
    # A row of a window is `width * channels` numbers in a row, copied as a whole; by pixels it takes six times as long.
    row = (torch.arange(count, device=device)[:, None] + count * flipped) * both.shape[1] + top
    row = row + torch.arange(height, device=device)
    starts = (row * both.shape[2] + left) * channels
    windows = both.flatten().unfold(0, width * channels, 1).index_select(0, starts.flatten())
    return windows.view(count, height, width, channels).permute(0, 3, 1, 2)
