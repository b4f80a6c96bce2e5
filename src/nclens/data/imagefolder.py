"""Image files in one folder per class."""

from pathlib import Path
from typing import Any

import torch

from nclens._torchvision import import_torchvision
from nclens.data.dataset import Dataset, class_balanced_subsets
from nclens.data.images import stack_images
from nclens.data.raw import RawData

#: Accepted folder names of the test split, in order of preference.
TEST_FOLDERS = ("test", "val", "valid", "validation")


def load(
    raw: RawData,
    path: str,
    image_size: int | None,
    channels: int,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
) -> Dataset:
    """Return the images below a folder as uint8 (N, C, H, W); classes are numbered in alphabetical order.

    The folder contains `train/` and one of `TEST_FOLDERS`, each with one folder per class; or the class folders
    themselves, which are then split at random into `train_per_class` and `test_per_class` images per class.

    Args:
        raw: the folder of raw data.
        path: the folder, relative to that of raw data unless absolute.
        image_size: side in pixels to which images are scaled and centre-cropped; None if all have the same size.
        channels: 3 for RGB, 1 for grayscale.
        train_per_class, test_per_class: images per class; None takes all, if the splits have separate folders.
        split_seed: seed of the random choice of images.

    Raises:
        ValueError: the folder is missing or has another layout, or an image cannot be read.
    """
    root = raw.place(path)
    if not root.is_dir():
        raise ValueError(f"imagefolder: no folder {root.resolve()}; `path` is relative to `data_dir` unless absolute")
    splits = _splits(root)
    pools = [torch.tensor(split.targets) for split in splits]
    per_class = (train_per_class, test_per_class)
    chosen = class_balanced_subsets(pools, per_class, len(splits[0].classes), split_seed, str(root))
    splits, pools = [splits[0], splits[-1]], [pools[0], pools[-1]]
    images = [
        stack_images(
            (_picture(split.samples[position][0]) for position in index.tolist()),
            len(index),
            image_size,
            channels,
            split.root,
        )
        for split, index in zip(splits, chosen, strict=True)
    ]
    return Dataset(
        train_inputs=images[0],
        train_targets=pools[0][chosen[0]],
        test_inputs=images[1],
        test_targets=pools[1][chosen[1]],
        classes=splits[0].classes,
        source=f"image files of the folder {path}",
    )


def _splits(root: Path) -> list[Any]:
    """Return the lists of training and test images, or one list of all images if there is no `train/`."""
    if not (root / "train").is_dir():
        return [_listed(root)]
    test = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if test is None:
        raise ValueError(f"{root} has train/ but no test folder; allowed names: {', '.join(TEST_FOLDERS)}")
    splits = [_listed(root / "train"), _listed(test)]
    alone = set(splits[0].classes) ^ set(splits[1].classes)
    if alone:
        raise ValueError(
            f"{root}: train/ and {test.name}/ must have the same classes; only in one of them: "
            f"{', '.join(sorted(alone))}"
        )
    return splits


def _listed(folder: Path) -> Any:
    """Return torchvision's list of a folder's images and classes."""
    try:
        return import_torchvision().datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise ValueError(f"imagefolder: {error}") from error


def _picture(path: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
