"""A data set as every source returns it: two splits of inputs and targets, checked."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Splits(ABC):
    """Two splits of inputs and targets; each task has its own kind.

    Attributes:
        task: `classification` or `regression`.
        train_inputs, test_inputs: uint8 images (N, C, H, W) in 0..255, or float32 rows (N, F).
        train_targets, test_targets: one a sample, as the task has them.
        source, licence, citation: where the data come from, in words.
        facts: what else the manifest says of the data.

    Raises:
        ValueError: shapes, types or values do not fit.
    """

    task: ClassVar[str]
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    source: str = ""
    licence: str = ""
    citation: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the data once, so that no later stage has to."""
        for split in ("train", "test"):
            inputs, targets = getattr(self, f"{split}_inputs"), getattr(self, f"{split}_targets")
            if not (inputs.dtype == torch.uint8 and inputs.ndim == 4) and not (
                inputs.dtype == torch.float32 and inputs.ndim == 2
            ):
                raise ValueError(
                    f"{split} inputs must be uint8 images (N, C, H, W) or float32 rows (N, F), "
                    f"not {inputs.dtype} of shape {tuple(inputs.shape)}"
                )
            if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
                raise ValueError(f"{split} inputs must be finite")
            self._check_targets(split, targets, len(inputs))
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            raise ValueError(
                f"train and test inputs must have one shape, not {tuple(self.train_inputs.shape[1:])} "
                f"and {tuple(self.test_inputs.shape[1:])}"
            )

    @abstractmethod
    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        """Raise a ValueError if the targets of a split do not fit."""

    @property
    @abstractmethod
    def target_facts(self) -> dict[str, Any]:
        """What the manifest says of the targets."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by their names in the prepared file."""
        return {
            "train.inputs": self.train_inputs,
            "train.targets": self.train_targets,
            "test.inputs": self.test_inputs,
            "test.targets": self.test_targets,
        }


@dataclass(frozen=True, kw_only=True)
class Dataset(Splits):
    """Two splits for classification.

    Attributes:
        train_targets, test_targets: int64 class numbers (N,), in 0..K-1.
        classes: the names of the K classes.

    Raises:
        ValueError: as `Splits`, and for class numbers that do not fit or a class that lacks samples in a split.
    """

    task: ClassVar[str] = "classification"
    classes: list[str]

    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        if targets.dtype != torch.int64 or targets.shape != (samples,):
            raise ValueError(
                f"{split} targets must be int64 of shape ({samples},), "
                f"not {targets.dtype} of shape {tuple(targets.shape)}"
            )
        present = torch.unique(targets).tolist()
        if present != list(range(len(self.classes))):
            raise ValueError(
                f"{split} targets must have every class 0..{len(self.classes) - 1} and no other, not {present}"
            )
        if len(self.classes) < 2 or int(torch.bincount(targets).min()) < 2:
            raise ValueError(f"{split} needs at least two classes, and at least two samples of each")

    @property
    def target_facts(self) -> dict[str, Any]:
        """Names of the classes, and the samples of each in the training split."""
        return {"classes": self.classes, "train_counts": self.train_targets.bincount().tolist()}


def channel_statistics(inputs: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of images scaled to [0, 1], or per column of rows.

    A constant channel gets standard deviation 1, so that dividing by it changes nothing.
    """
    scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    count = inputs.numel() // inputs.shape[1]
    # A sum in another type copies its input into that type first, so it is taken over parts of at most 64 MiB.
    parts = inputs.split(min(4096, max(1, 2**23 * len(inputs) // inputs.numel())))
    # Sums over uint8 are exact in int64; float rows are few enough for float64.
    exact = torch.int64 if inputs.dtype == torch.uint8 else torch.float64
    total = sum((part.sum(dim=axes, dtype=exact) for part in parts), torch.zeros(inputs.shape[1], dtype=exact)).double()
    mean = total / count
    squares = torch.zeros_like(mean)
    for chunk in parts:
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        squares += (chunk.double() - mean.reshape(shape)).square().sum(dim=axes)
    std = (squares / count).sqrt() / scale
    std = torch.where(std > 0, std, torch.ones_like(std))
    return (mean / scale).tolist(), std.tolist()


def class_balanced_split(
    labels: Tensor, train_per_class: int, test_per_class: int, classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the indices of a stratified split: per class a seeded permutation, train first, then test; ascending.

    Raises:
        ValueError: a class has fewer samples than the two parts need.
    """
    generator = torch.Generator().manual_seed(seed)
    train, test = [], []
    for label in range(classes):
        members = (labels == label).nonzero().squeeze(1)
        if len(members) < train_per_class + test_per_class:
            raise ValueError(
                f"class {label} has {len(members)} samples, "
                f"fewer than train_per_class + test_per_class = {train_per_class + test_per_class}"
            )
        members = members[torch.randperm(len(members), generator=generator)]
        train.append(members[:train_per_class])
        test.append(members[train_per_class : train_per_class + test_per_class])
    return torch.cat(train).sort().values, torch.cat(test).sort().values


def class_balanced_subsets(
    pools: Sequence[Tensor], per_class: tuple[int | None, int | None], classes: int, seed: int, what: str
) -> list[Tensor]:
    """Return the indices of the training and of the test samples, balanced and seeded, each ascending.

    Args:
        pools: class numbers (N,) of the training and of the test split; or of one pool, which both are drawn from
            without overlap.
        per_class: samples of each class in the two; None takes the whole split.
        classes: K.
        seed: of the choice.
        what: the data's name in a message.

    Raises:
        ValueError: a class has fewer samples, or one pool has to be split and a number is missing.
    """
    if len(pools) == 1:
        train, test = per_class
        if train is None or test is None:
            raise ValueError(f"{what} has no test split of its own: set `train_per_class` and `test_per_class`")
        return list(class_balanced_split(pools[0], train, test, classes, seed))
    chosen = []
    for split, targets, count in zip(("train", "test"), pools, per_class, strict=True):
        if count is None:
            chosen.append(torch.arange(len(targets)))
            continue
        counts = torch.bincount(targets, minlength=classes)
        label = int(counts.argmin())
        if counts[label] < count:
            raise ValueError(
                f"{what}: class {label} has {int(counts[label])} samples in the {split} split, "
                f"fewer than {split}_per_class = {count}"
            )
        chosen.append(class_balanced_split(targets, count, 0, classes, seed)[0])
    return chosen
