"""The task of a prepared data set, its splits, and the size of the head it needs."""

from collections.abc import Mapping
from typing import Any

#: Task -> key of the manifest's list of names, one per row of the head: the K classes, or the n targets. The samples of
#: `sequences` are their target tokens, which are classified.
OUTPUTS = {"classification": "classes", "regression": "targets", "sequences": "classes"}


def task_of(manifest: Mapping[str, Any]) -> str:
    """Return the task of a prepared data set."""
    return manifest.get("task", "classification")


def output_count(manifest: Mapping[str, Any]) -> int:
    """Return the number of rows of the head for a prepared data set: K classes or n targets."""
    return len(manifest[OUTPUTS[task_of(manifest)]])


def sample_count(manifest: Mapping[str, Any]) -> int:
    """Return the number of training samples of a prepared data set; of sequences that of their target tokens."""
    return manifest["tokens"]["train"] if task_of(manifest) == "sequences" else manifest["train"]


def split_names(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the splits of a prepared data set: `train`, `test` and, where there is one, `val`."""
    return ("train", "test", "val") if "val" in manifest else ("train", "test")


def held_out_split(manifest: Mapping[str, Any]) -> str:
    """Return the split of the held-out samples: `val`, or `test`, of which a share is held out where there is no `val`.

    `nclens.metrics.held_out` takes the samples themselves from the features of a run.
    """
    return manifest.get("held_out", "test")
