"""What the task, classification or regression, changes for the head and for the training loop: one table.

A task belongs to a data set. Everything else of data, training, snapshots and extraction is the same for both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Task:
    """What a task brings to the head and the loop.

    Attributes:
        outputs: the manifest's list with one name for each row of the head: the K classes, or the n targets.
        statistics: batch outputs (B, K) and targets to what `nclens.training.history.STATISTICS` names, each a mean
            over B.
        progress: the statistic that a line of progress shows, and its format.
    """

    outputs: str
    statistics: Callable[[Tensor, Tensor], list[Tensor]]
    progress: tuple[str, str]


def _classification(logits: Tensor, targets: Tensor) -> list[Tensor]:
    return [functional.cross_entropy(logits, targets), (logits.argmax(1) != targets).float().mean()]


def _regression(outputs: Tensor, targets: Tensor) -> list[Tensor]:
    # Summed over the n targets, averaged over the samples.
    return [(outputs - targets).square_().sum() / len(targets)]


TASKS = {
    "classification": Task("classes", _classification, ("error", ".2%")),
    "regression": Task("targets", _regression, ("mse", ".4g")),
}


def task_of(manifest: Mapping[str, Any]) -> str:
    """Return the task of a prepared data set."""
    return manifest.get("task", "classification")


def output_count(manifest: Mapping[str, Any]) -> int:
    """Return the number of rows of the head for a prepared data set: K classes or n targets."""
    return len(manifest[TASKS[task_of(manifest)].outputs])
