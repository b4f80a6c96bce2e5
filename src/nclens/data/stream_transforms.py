"""What is done to an image of a stream: torchvision's transforms, and the draws of each sample."""

import importlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nclens._torchvision import import_torchvision
from nclens.data.images import eight_bits, read_image, readable

#: From a PIL image to uint8 (C, H, W) of the size that a network takes.
Transform = Callable[[Any], Tensor]

_WORD = 2**64 - 1


def sample_seed(seed: int, index: int) -> int:
    """Return the seed of one sample's draws: output `index` of SplitMix64 from the state `seed`, in 0..2^64 - 1.

    Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators. With the seed of an epoch of a run, a
    sample's draws depend on (seed, epoch, index) alone, not on the process that makes them.

    >>> hex(sample_seed(0, 0)), hex(sample_seed(0, 1))
    ('0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4')
    """
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def decoded(content: bytes, name: str, channels: int, plain: bool) -> Any:
    """Return the image in a file as a PIL image in RGB or in grayscale.

    Args:
        content: of the file.
        name: of the file, for error messages.
        channels: 3 converts to RGB, 1 to grayscale.
        plain: as torchvision reads its sets: Pillow's conversion, without the EXIF orientation; otherwise as
            `nclens.data.images.read_image`.

    Raises:
        ValueError: it cannot be read as an image; names the file.
    """
    from PIL import Image

    mode = "L" if channels == 1 else "RGB"
    if not plain:
        return eight_bits(read_image(name, io.BytesIO(content)), name).convert(mode)
    with readable(name):
        return Image.open(io.BytesIO(content)).convert(mode)


def pixels(picture: Any) -> Tensor:
    """Return a PIL image as uint8 (C, H, W), in channels-last layout."""
    with warnings.catch_warnings():
        # NumPy's view is read-only; nothing writes to it.
        warnings.simplefilter("ignore", UserWarning)
        values = torch.from_numpy(np.asarray(picture))
    return values.reshape(picture.height, picture.width, -1).permute(2, 0, 1)


def evaluation(settings: Mapping[str, Any]) -> Transform:
    """Return the transform of evaluation: the shorter side to `resize_size`, then the centre of `image_size`."""
    return _composed([pixels, *_centre(settings)])


def augmentation(settings: Mapping[str, Any]) -> Transform:
    """Return the transform of training: RandomResizedCrop or that of evaluation, RandomHorizontalFlip, RandAugment."""
    v2 = _transforms()
    steps = _centre(settings)
    if (crop := settings["random_resized_crop"]) is not None:
        mode = v2.InterpolationMode(settings["interpolation"])
        steps = [v2.RandomResizedCrop(settings["image_size"], interpolation=mode, **crop)]
    if settings["horizontal_flip"]:
        steps.append(v2.RandomHorizontalFlip(settings["horizontal_flip"]))
    if (rand := settings["rand_augment"]) is None:
        return _composed([pixels, *steps])
    # Of Pillow's images, whose affine maps take a third of the time of tensors'; crops of tensors are faster.
    return _composed([*steps, v2.RandAugment(**rand), pixels])


def _centre(settings: Mapping[str, Any]) -> list[Any]:
    v2 = _transforms()
    size, mode = settings["image_size"], v2.InterpolationMode(settings["interpolation"])
    return [v2.Resize(settings["resize_size"] or size, interpolation=mode), v2.CenterCrop(size)]


def _composed(steps: Sequence[Any]) -> Transform:
    composed: Transform = _transforms().Compose(steps)
    return composed


def _transforms() -> Any:
    """Return torchvision's module of transforms."""
    import_torchvision()
    return importlib.import_module("torchvision.transforms.v2")


def drawn(transform: Transform, image: Any, seed: int | None) -> Tensor:
    """Return the transform of an image, with the draws of a seed; None for a transform that draws nothing.

    torchvision's transforms draw from PyTorch's global generator of the CPU, which is left as it was.
    """
    if seed is None:
        return transform(image)
    generator = torch.default_generator
    state = generator.get_state()
    try:
        # Not `torch.manual_seed`, which seeds the generators of the GPUs too.
        generator.manual_seed(seed)
        return transform(image)
    finally:
        generator.set_state(state)
