"""Masks of the Oxford-IIIT Pet data set: pet and background, read by torchvision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nclens._torchvision import import_torchvision
from nclens.data import torchvision
from nclens.data.images import stack_images
from nclens.data.raw import RawData
from nclens.data.segmentation import IGNORED, SegmentationDataset

NAME = "OxfordIIITPet"
#: By torchvision's names of the splits.
SPLITS = {"train": "trainval", "test": "test"}
IMAGES = {"train": 3680, "test": 3669}
#: Value of a trimap -> class: pet, background, and the border, which its authors have not classified.
CLASSES = {1: 1, 2: 0, 3: IGNORED}


def load(
    raw: RawData,
    image_size: int,
    channels: int,
    train_images: int | None,
    test_images: int | None,
    split_seed: int,
    expected: dict[str, int] | None = None,
) -> SegmentationDataset:
    """Return images, uint8 (N, C, S, S), and masks: 0 background, 1 pet, `IGNORED` on the border between them.

    Args:
        raw: the folder of raw data.
        image_size: S; the shorter side is scaled to it (bilinear; masks take the nearest pixel), the centre cropped.
        channels: 3 for RGB, 1 for grey.
        train_images, test_images: size of a random subset of each split; None for all.
        split_seed: of the subsets.
        expected: number of images of the complete splits.

    Raises:
        DownloadError: a file has the wrong checksum, or is missing and cannot be downloaded.
        ValueError: images are missing, a mask has another size than its image or an unknown value, or a subset is
            larger than its split.
    """
    kind, expected = getattr(import_torchvision().datasets, NAME), expected or IMAGES
    arguments = [{"split": split, "target_types": "segmentation"} for split in SPLITS.values()]
    splits = dict(zip(SPLITS, torchvision._open(kind, NAME, arguments, raw), strict=True))
    found = {split: len(data) for split, data in splits.items()}
    if found != expected:
        numbers = [f"{one['train']:,} + {one['test']:,}" for one in (found, expected)]
        raise ValueError(f"{NAME} in {raw.folder} has {numbers[0]} images, not {numbers[1]}: files are missing")
    parts = {}
    for split, count in (("train", train_images), ("test", test_images)):
        if count is not None and count > found[split]:
            raise ValueError(f"{split}_images = {count}: {NAME} has {found[split]:,} images in this split")
        generator = torch.Generator().manual_seed(split_seed)
        chosen = torch.randperm(found[split], generator=generator)[:count].sort().values.tolist()
        images = stack_images((splits[split][i][0] for i in chosen), len(chosen), image_size, channels, NAME)
        parts[split] = (images, _masks(splits[split], chosen, image_size))
    return SegmentationDataset(
        train_inputs=parts["train"][0],
        train_targets=parts["train"][1],
        test_inputs=parts["test"][0],
        test_targets=parts["test"][1],
        classes=["background", "pet"],
        source=f"{NAME}, trimaps, as torchvision {import_torchvision().__version__.partition('+')[0]} reads it",
        licence="CC BY-SA 4.0",
        citation="Parkhi, Vedaldi, Zisserman, Jawahar (2012), Cats and dogs",
    )


def _masks(split: Any, chosen: Sequence[int], size: int) -> Tensor:
    """Return the masks (N, S, S) of a split's images, scaled and cropped as the images are.

    Raises:
        ValueError: a mask has another size than its image, or a value that is not in `CLASSES`; names the file.
    """
    from PIL import Image, ImageOps

    table = np.full(256, -1, dtype=np.int16)
    table[list(CLASSES)] = list(CLASSES.values())
    masks = np.empty((len(chosen), size, size), dtype=np.uint8)
    for place, position in enumerate(chosen):
        image, mask = split[position]
        file = Path(split._segs[position]).name
        if mask.size != image.size:
            sizes = [" x ".join(map(str, reversed(one.size))) for one in (mask, image)]
            message = f"the mask {file} has {sizes[0]} pixels, its image {sizes[1]}: both must have the same size"
            raise ValueError(f"{NAME}: {message}")
        values = table[np.asarray(mask.convert("L"))]
        if (values < 0).any():
            unknown = sorted(set(np.unique(np.asarray(mask.convert("L"))).tolist()) - set(CLASSES))
            allowed = ", ".join(map(str, CLASSES))
            raise ValueError(f"{NAME}: the mask {file} has the values {unknown}; allowed: {allowed}")
        picture = ImageOps.fit(Image.fromarray(values.astype(np.uint8)), (size, size), Image.Resampling.NEAREST)
        masks[place] = np.asarray(picture)
    return torch.from_numpy(masks)
