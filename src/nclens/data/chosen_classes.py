"""Some classes of a data set alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from nclens.data.dataset import Dataset, Splits


def choose_classes(dataset: Splits, numbers: Sequence[int]) -> Dataset:
    """Return the samples of some classes, which become the classes 0, 1, ... in the order given.

    The manifest names their numbers before, `class_numbers`. The samples that are kept are those of the whole data set,
    in its order; where there are clean targets too, those whose label and clean label are both kept.

    Raises:
        ValueError: the targets are no classes, or a number is none of the classes'.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(f"classes = {list(numbers)}: allowed for classification, and this is a {dataset.task}")
    known = len(dataset.classes)
    if max(numbers) >= known:
        raise ValueError(f"classes = {list(numbers)}: the data have {known} classes, numbered from 0 to {known - 1}")
    place = torch.full((known,), -1)
    place[list(numbers)] = torch.arange(len(numbers))
    parts: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        if (targets := getattr(dataset, f"{split}_targets", None)) is not None:
            kept = place[targets] >= 0
            if split == "train" and (clean := dataset.train_clean_targets) is not None:
                kept &= place[clean] >= 0
                parts["train_clean_targets"] = place[clean[kept]]
            parts[f"{split}_inputs"] = getattr(dataset, f"{split}_inputs")[kept]
            parts[f"{split}_targets"] = place[targets[kept]]
    names = [dataset.classes[number] for number in numbers]
    return dataclasses.replace(dataset, classes=names, facts={**dataset.facts, "class_numbers": list(numbers)}, **parts)
