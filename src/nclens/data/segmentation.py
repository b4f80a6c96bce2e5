"""Data sets for segmentation: a class for each pixel of an image."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from nclens.data.dataset import Splits

IGNORED = 255
"""A pixel of no class: it is neither trained nor measured on."""


@dataclass(frozen=True, kw_only=True)
class SegmentationDataset(Splits):
    """A data set for segmentation.

    Attributes:
        train_targets, test_targets: masks, uint8 (N, H, W), in 0..K-1 or `IGNORED`, of the images' height and width.
        classes: the names of the K classes, the background's too; at most 255.

    Raises:
        ValueError: as `Splits`, for inputs that are no images, for masks of another number, size or type, or for values
            that are no class.
    """

    task: ClassVar[str] = "segmentation"
    classes: list[str]

    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        images = self.parts[split][0]
        if not 2 <= len(self.classes) <= IGNORED:
            raise ValueError(f"segmentation needs 2 to {IGNORED} classes, not {len(self.classes)}")
        if images.ndim != 4:
            raise ValueError(f"segmentation needs images (N, C, H, W), not {split} inputs of {tuple(images.shape)}")
        size = tuple(images.shape[2:])
        if targets.ndim == 3 and tuple(targets.shape[1:]) != size:
            found, wanted = (" x ".join(map(str, one)) for one in (targets.shape[1:], size))
            raise ValueError(f"{split} masks have {found} pixels, their images {wanted}: both must have the same size")
        if targets.dtype != torch.uint8 or targets.shape != (samples, *size):
            raise ValueError(
                f"{split} masks must be uint8 of shape (N, H, W) = {(samples, *size)}, not {targets.dtype} of shape "
                f"{tuple(targets.shape)}"
            )
        known = targets[targets != IGNORED]
        if not len(known):
            raise ValueError(f"{split} masks have no pixel of a class")
        if int(known.max()) >= len(self.classes):
            raise ValueError(
                f"{split} masks must have the classes 0..{len(self.classes) - 1}, or {IGNORED} for none; they have "
                f"{int(known.max())}"
            )

    @property
    def target_facts(self) -> dict[str, Any]:
        """Names of the classes, and their shares of the training pixels that have a class."""
        counts = self.train_targets.flatten().int().bincount(minlength=IGNORED + 1)[: len(self.classes)].double()
        return {"classes": self.classes, "pixel_shares": (counts / counts.sum()).tolist()}
