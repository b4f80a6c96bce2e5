"""A prepared data set, placed on a device."""

from typing import Any

import torch
from torch import Tensor

from nclens.data.tasks import task_of
from nclens.data.tensors import Split


def place_splits(tensors: dict[str, Tensor], manifest: dict[str, Any], device: torch.device) -> tuple[Split, Split]:
    """Return the training and the test split of a prepared data set on a device; `tensors` is emptied on the way."""
    train, test = (
        # Taken out, so that a split is not kept in two memory layouts.
        Split.place(
            tensors.pop(f"{split}.inputs"),
            tensors.pop(f"{split}.targets"),
            manifest["mean"],
            manifest["std"],
            device,
            task_of(manifest),
        )
        for split in ("train", "test")
    )
    return train, test


def choose_device(wanted: str) -> torch.device:
    """Return the device of `cpu`, `cuda` or `auto` (CUDA where there is one).

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ValueError("training.device is `cuda`, but PyTorch finds no CUDA device; use `auto` or `cpu`")
    return torch.device("cuda" if wanted != "cpu" and available else "cpu")
