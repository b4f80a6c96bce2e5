"""From pictures to one uint8 tensor, filled picture by picture: nothing else of their size is ever in memory."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def stack_images(pictures: Iterable[Any], count: int, size: int | None, channels: int | None, what: str) -> Tensor:
    """Return PIL images as uint8 (N, C, H, W).

    Args:
        pictures: PIL images, taken one at a time.
        count: how many, N.
        size: side in pixels that each is scaled (its shorter side, bilinear with antialiasing) and centrally cropped
            to; None leaves them as they are.
        channels: 3 turns every picture into RGB, 1 into grayscale; None does what the first one is.
        what: their name in a message.

    Raises:
        ValueError: the pictures differ in size and `size` is None.
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
                f"{stacked.shape[2]} x {stacked.shape[3]}; set `image_size` to bring all to one size"
            )
        stacked[position] = pixels
    if stacked is None:
        raise ValueError(f"{what}: no images")
    return stacked
