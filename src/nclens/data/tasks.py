"""The task of a prepared data set, classification or regression, and the size of the head that it needs."""

from collections.abc import Mapping
from typing import Any

#: Task -> key of the manifest's list of names, one per row of the head: the K classes, or the n targets.
OUTPUTS = {"classification": "classes", "regression": "targets"}


def task_of(manifest: Mapping[str, Any]) -> str:
    """Return the task of a prepared data set."""
    return manifest.get("task", "classification")


def output_count(manifest: Mapping[str, Any]) -> int:
    """Return the number of rows of the head for a prepared data set: K classes or n targets."""
    return len(manifest[OUTPUTS[task_of(manifest)]])
