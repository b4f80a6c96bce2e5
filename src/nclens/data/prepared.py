"""Place a prepared data set on a device."""

from typing import Any

import torch
from torch import Tensor

from nclens.data.tasks import task_of
from nclens.data.tensors import Split


def place_splits(tensors: dict[str, Tensor], manifest: dict[str, Any], device: torch.device) -> tuple[Split, Split]:
    """Return the training and the test split of a prepared data set on a device; `tensors` is emptied."""
    train, test = (
        # Popped, so that no split is held in memory in two layouts.
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
