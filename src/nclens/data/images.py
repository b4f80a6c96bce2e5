"""Stack PIL images into one uint8 tensor, in place, so that they are never in memory twice."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def stack_images(pictures: Iterable[Any], count: int, size: int | None, channels: int | None, what: str) -> Tensor:
    """Return PIL images as uint8 (N, C, H, W).

    Args:
        pictures: PIL images, consumed one at a time.
        count: number of images N.
        size: side in pixels: the shorter side is scaled to it (bilinear, antialiased), then the centre is cropped;
            None keeps the original size.
        channels: 3 converts every image to RGB, 1 to grayscale; None follows the first image.
        what: name of the images in error messages.

    Raises:
        ValueError: there are no images, or they differ in size and `size` is None.
    """
    from PIL import Image, ImageOps

    stacked: Tensor | None = None
    for position, picture in enumerate(pictures):
        channels = channels or (1 if picture.mode in ("1", "L") else 3)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if size is not None and picture.size != (size, size):
            picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, channels).permute(2, 0, 1)
        if stacked is None:
            stacked = torch.empty((count, *pixels.shape), dtype=torch.uint8)
        if pixels.shape != stacked.shape[1:]:
            raise ValueError(
                f"{what}: image {position} has {picture.height} x {picture.width} pixels, the first one "
                f"{stacked.shape[2]} x {stacked.shape[3]}; set `image_size` to scale all to the same size"
            )
        stacked[position] = pixels
    if stacked is None:
        raise ValueError(f"{what}: no images")
    return stacked
