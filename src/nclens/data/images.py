"""Images of 8 bits a channel: read from a user's files, and stacked into one uint8 tensor in place."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

#: TIFF tags, and the values at which Pillow reads 16-bit pixels as something else than 0 (black) to 65535 (white).
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def read_image(path: str | Path, content: BinaryIO | None = None) -> Any:
    """Return the image in a file as a PIL image of 8 bits a channel without alpha, turned as its EXIF tag says.

    16-bit pixels are divided by 257, and float pixels multiplied by 255. Of an MPO file, a photograph with a preview
    or a depth map, the primary image is read.

    Args:
        path: the file; its name in error messages where `content` is given.
        content: what is read instead of the file.

    Raises:
        ValueError: the file cannot be read, is animated or has several pages, has pixels that are not opaque, or has
            32-bit integers, or floats outside [0, 1].
    """
    from PIL import Image, ImageOps

    with contextlib.ExitStack() as opened:
        with readable(path):
            # An open file, not its path: Pillow maps an uncompressed TIFF by its path, at the size that it has once it
            # is turned, and so mixes up the rows of one that lies on its side.
            file = opened.enter_context(open(path, "rb")) if content is None else content
            picture: Any = opened.enter_context(Image.open(file))
            frames = getattr(picture, "n_frames", 1)
            picture.load()
        if frames > 1 and picture.format != "MPO":
            raise ValueError(f"{path} has {frames} frames or pages; allowed is one image a file")
        _refuse_transparency(picture, path)
        picture = _sixteen_bits(picture, path)
        with readable(path):
            picture = ImageOps.exif_transpose(picture)
        return eight_bits(picture, str(path))


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Name the file in whatever Pillow raises, which of a damaged file is what its parser happens to."""
    from PIL import UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:  # which names the open file or the buffer in memory
        raise ValueError(f"{path} cannot be read as an image: Pillow knows no such format") from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _refuse_transparency(picture: Any, path: str | Path) -> None:
    """Raise a ValueError if a pixel is not opaque."""
    if not picture.has_transparency_data:
        return
    key = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        opaque = not bool((np.asarray(picture) == key).any())
    else:
        # The transparent colour of 16-bit RGB has 16 bits, of which Pillow's pixels keep 8.
        known = not isinstance(key, tuple) or max(key) < 256
        opaque = known and picture.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    if not opaque:
        raise ValueError(f"{path} has transparent pixels (mode {picture.mode}); allowed are opaque images")
    picture.info.pop("transparency", None)


def _sixteen_bits(picture: Any, path: str | Path) -> Any:
    """Return the image, in mode I;16 if Pillow reads its 16-bit pixels into mode I."""
    if picture.mode == "I" and picture.format in ("PNG", "PPM"):
        return picture.convert("I;16")
    tags = getattr(picture, "tag_v2", {})
    if picture.mode.startswith("I;16") and (
        set(tags.get(_BITS, (16,))) != {16} or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    ):
        raise ValueError(
            f"{path} is a TIFF of {tags.get(_BITS, (16,))[0]} bits with photometric interpretation "
            f"{tags.get(_PHOTOMETRIC)}; allowed are 16 bits with 1 (black is zero)"
        )
    return picture


def eight_bits(picture: Any, what: str) -> Any:
    """Return a PIL image of 8 bits a channel: 16-bit integers / 257, floats in [0, 1] * 255, rounded; others as is.

    The range is that of the type, never that of the image.

    Raises:
        ValueError: floats outside [0, 1], or integers of 32 bits.
    """
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
    if picture.mode == "F":
        pixels = np.asarray(picture)
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise ValueError(
                f"{what} has float pixels from {pixels.min():g} to {pixels.max():g}; allowed are floats in [0, 1]"
            )
        return Image.fromarray(np.rint(255 * pixels.astype(np.float64)).astype(np.uint8))
    if picture.mode.startswith("I"):
        raise ValueError(f"{what} has integers of 32 bits (mode I); allowed are 8 or 16 bits, or floats in [0, 1]")
    return picture


def stack_images(pictures: Iterable[Any], count: int, size: int | None, channels: int | None, what: str) -> Tensor:
    """Return PIL images as uint8 (N, C, H, W).

    Args:
        pictures: PIL images, consumed one at a time; converted by `eight_bits`.
        count: number of images N.
        size: side in pixels: the shorter side is scaled to it (bilinear, antialiased), then the centre is cropped;
            None keeps the original size.
        channels: 3 converts every image to RGB, 1 to grayscale; None follows the first image.
        what: name of the images in error messages.

    Raises:
        ValueError: there are no images, they differ in size and `size` is None, or one cannot be converted.
    """
    from PIL import Image, ImageOps

    stacked: Tensor | None = None
    for position, original in enumerate(pictures):
        picture = eight_bits(original, f"{what}: image {position}")
        channels = channels or (1 if picture.mode in ("1", "L") else 3)
        try:
            picture = picture.convert("L" if channels == 1 else "RGB")
        except ValueError as error:
            raise ValueError(f"{what}: image {position} has mode {picture.mode}, not convertible: {error}") from error
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
