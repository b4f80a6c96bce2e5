"""Omniglot's background set as torchvision reads it, for studies/many_classes_omniglot.yaml."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nclens._torchvision import import_torchvision


def characters(root: str, side: int = 28, drawers: int = 15, download: bool = True) -> dict[str, NDArray[Any]]:
    """Return its characters, a class each: 20 images of one, each by another person.

    Args:
        root: folder of raw data, in which torchvision looks for `omniglot-py` and downloads it to (checksum verified).
        side: of the images, in pixels.
        drawers: how many of the 20 people are the training set; the others are the test set.
        download: whether a missing archive is downloaded.
    """
    found = import_torchvision().datasets.Omniglot(root, background=True, download=download)
    splits: dict[str, list[Any]] = {"train": [], "test": []}
    for place, (name, label) in enumerate(found._flat_character_images):
        person = int(name.removesuffix(".png").rpartition("_")[2])
        image = found[place][0].convert("L").resize((side, side), 2)  # bilinear
        splits["train" if person <= drawers else "test"].append((255 - np.asarray(image), label))
    arrays = {}
    for split, samples in splits.items():
        arrays[f"{split}_inputs"] = np.stack([image for image, _ in samples])
        arrays[f"{split}_targets"] = np.array([label for _, label in samples])
    return arrays
