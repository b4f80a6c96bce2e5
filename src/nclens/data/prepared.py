"""Place a prepared data set on a device, and read what it has beside its splits."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nclens.data.tasks import task_of
from nclens.data.tensors import Split


def place_split(tensors: dict[str, Tensor], manifest: dict[str, Any], device: torch.device, name: str) -> Split:
    """Return the split of a name (`nclens.data.tasks.split_names`) on a device; its `tensors` are taken out.

    Of a stream the images stay in their files, below `root` of the manifest, and `workers` processes read them.

    Raises:
        OSError: a file of a stream has changed since the data were prepared; names it.
    """
    if "stream" in tensors:
        # By name, so that its code counts for streams alone.
        return importlib.import_module("nclens.data.stream").place(tensors, manifest, device, name)
    # Popped, so that no split is held in memory in two layouts.
    return Split.place(
        tensors.pop(f"{name}.inputs"),
        tensors.pop(f"{name}.targets"),
        manifest["mean"],
        manifest["std"],
        device,
        task_of(manifest),
    )


def measured_split(tensors: dict[str, Tensor], manifest: dict[str, Any], device: torch.device, name: str) -> Split:
    """Return what is measured of a split: all, or of sequences those that the manifest lists; as `place_split`."""
    split = place_split(tensors, manifest, device, name)
    if task_of(manifest) != "sequences":
        return split
    return split.subset(torch.tensor(manifest["measured"][name], device=device))


def place_splits(tensors: dict[str, Tensor], manifest: dict[str, Any], device: torch.device) -> tuple[Split, Split]:
    """Return the training and the test split of a prepared data set on a device; both are taken out of `tensors`."""
    return place_split(tensors, manifest, device, "train"), place_split(tensors, manifest, device, "test")


def references_of(tensors: Mapping[str, Tensor], split: str) -> list[str] | None:
    """Return the references of a split, a line a sequence; None where the prepared data have none."""
    found = tensors.get(f"{split}.references")
    return None if found is None else found.numpy().tobytes().decode().split("\n")
