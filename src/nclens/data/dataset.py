"""The data set that every source returns: a training, a test and perhaps a validation split, validated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from nclens.data.numbers import in_chunks

#: Inputs and targets as a user's file or function gives them: of both splits,
SPLITS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
#: of a validation split, which need not be there,
VALIDATION = ("val_inputs", "val_targets")
#: true labels of training samples whose targets are noisy, of a classification, which need not be there either,
CLEAN = "train_clean_targets"
#: or of one set, which is split by shares.
WHOLE = ("inputs", "targets")


@dataclass(frozen=True, kw_only=True)
class Splits(ABC):
    """A training, a test and perhaps a validation split of inputs and targets; each task has a subclass.

    Attributes:
        task: `classification`, `regression` or `sequences`.
        train_inputs, test_inputs: uint8 images (N, C, H, W) in 0..255, or float32 rows (N, F); of sequences tokens.
        train_targets, test_targets: one target per sample; type and shape depend on the task.
        val_inputs, val_targets: the validation split, as the others; None for none. On it are fitted what needs samples
            that are neither trained nor tested on, such as a temperature.
        source, licence, citation: provenance, as free text.
        facts: further entries of the manifest.

    Raises:
        ValueError: shapes, types or values are invalid.
    """

    task: ClassVar[str]
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    val_inputs: Tensor | None = None
    val_targets: Tensor | None = None
    source: str = ""
    licence: str = ""
    citation: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate the data once, so that no later stage has to."""
        if (self.val_inputs is None) != (self.val_targets is None):
            raise ValueError("val inputs and val targets: both or neither must be given")
        for split, (inputs, targets) in self.parts.items():
            self._check_inputs(split, inputs)
            self._check_targets(split, targets, len(inputs))
            if inputs.shape[1:] != self.train_inputs.shape[1:]:
                raise ValueError(
                    f"train and {split} inputs must have the same shape, not {tuple(self.train_inputs.shape[1:])} "
                    f"and {tuple(inputs.shape[1:])}"
                )

    def _check_inputs(self, split: str, inputs: Tensor) -> None:
        """Raise a ValueError if the inputs of a split are invalid."""
        if not (inputs.dtype == torch.uint8 and inputs.ndim == 4) and not (
            inputs.dtype == torch.float32 and inputs.ndim == 2
        ):
            raise ValueError(
                f"{split} inputs must be uint8 images (N, C, H, W) or float32 rows (N, F), "
                f"not {inputs.dtype} of shape {tuple(inputs.shape)}"
            )
        if inputs.is_floating_point() and not all(bool(part.isfinite().all()) for part in in_chunks(inputs)):
            raise ValueError(f"{split} inputs must be finite")

    @abstractmethod
    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        """Raise a ValueError if the targets of a split are invalid."""

    @property
    @abstractmethod
    def target_facts(self) -> dict[str, Any]:
        """The manifest's entries about the targets."""

    @property
    def input_shape(self) -> list[int]:
        """Shape (C, H, W) or (F,) of an input as the network takes it."""
        return list(self.train_inputs.shape[1:])

    def first_inputs(self, count: int) -> Tensor:
        """Return the stored inputs of the first training samples (count, ...)."""
        return self.train_inputs[:count]

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training inputs, by `channel_statistics`."""
        return channel_statistics(self.train_inputs)

    @property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Inputs and targets of each split: `train`, `test` and, where there is one, `val`."""
        found = {"train": (self.train_inputs, self.train_targets), "test": (self.test_inputs, self.test_targets)}
        if self.val_inputs is not None and self.val_targets is not None:
            found["val"] = (self.val_inputs, self.val_targets)
        return found

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of each split by their names in the prepared file."""
        pairs = {split: zip(("inputs", "targets"), part, strict=True) for split, part in self.parts.items()}
        return {f"{split}.{name}": values for split, named in pairs.items() for name, values in named}


@dataclass(frozen=True, kw_only=True)
class Dataset(Splits):
    """A data set for classification.

    Attributes:
        train_targets, test_targets: int64 class labels (N,), in 0..K-1.
        classes: the names of the K classes.
        train_clean_targets: the true labels of the training samples, where those of `train_targets` are noisy.

    Raises:
        ValueError: as `Splits`, for labels outside 0..K-1, or for a class with fewer than two training samples (one
            after `nclens.data.alterations` and `nclens.data.shares`).
    """

    task: ClassVar[str] = "classification"
    classes: list[str]
    train_clean_targets: Tensor | None = None

    def __post_init__(self) -> None:
        """Validate the data once, so that no later stage has to."""
        super().__post_init__()
        if (clean := self.train_clean_targets) is not None:
            if clean.dtype != torch.int64 or clean.shape != self.train_targets.shape:
                raise ValueError(
                    f"train clean targets must be int64 of shape {tuple(self.train_targets.shape)}, "
                    f"not {clean.dtype} of shape {tuple(clean.shape)}"
                )
            if not 0 <= int(clean.min()) <= int(clean.max()) < len(self.classes):
                raise ValueError(
                    f"train clean targets must lie in 0..{len(self.classes) - 1}; they go from {int(clean.min())} to "
                    f"{int(clean.max())}"
                )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of each split by their names in the prepared file, and `train.clean_targets` of noisy labels."""
        clean = self.train_clean_targets
        return super().tensors | ({} if clean is None else {"train.clean_targets": clean})

    @classmethod
    def from_pool(
        cls, inputs: Tensor, targets: Tensor, train_per_class: int, test_per_class: int, seed: int, **fields: Any
    ) -> Self:
        """Return a random split of inputs (N, ...) and class labels (N,), stratified by `class_balanced_split`.

        `fields` are the remaining attributes, `classes` among them.
        """
        train, test = class_balanced_split(targets, train_per_class, test_per_class, len(fields["classes"]), seed)
        return cls(
            train_inputs=inputs[train],
            train_targets=targets[train],
            test_inputs=inputs[test],
            test_targets=targets[test],
            **fields,
        )

    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        if targets.dtype != torch.int64 or targets.shape != (samples,):
            raise ValueError(
                f"{split} targets must be int64 of shape ({samples},), "
                f"not {targets.dtype} of shape {tuple(targets.shape)}"
            )
        last = len(self.classes) - 1
        if last < 1:
            raise ValueError(f"{split} needs at least two classes, and at least two samples of each")
        if samples and not 0 <= int(targets.min()) <= int(targets.max()) <= last:
            what = "have every class" if split == "train" else "lie in"
            raise ValueError(
                f"{split} targets must {what} 0..{last} and no other; they go from {int(targets.min())} to "
                f"{int(targets.max())}"
            )
        if split == "train":
            # An imbalance, noise, or a share of a small class, may leave one.
            least = 1 if {"imbalance", "shares"} & set(self.facts) or self.train_clean_targets is not None else 2
            require_samples(targets, least, self.classes, f"{split} targets must have every class 0..{last}")
        elif not samples:
            raise ValueError(f"{split} targets must have at least one sample")

    @property
    def target_facts(self) -> dict[str, Any]:
        """Names of the classes, the number of training samples of each, and that of wrong labels where it is known."""
        counts = self.train_targets.bincount(minlength=len(self.classes))
        facts: dict[str, Any] = {"classes": self.classes, "train_counts": counts.tolist()}
        if self.train_clean_targets is not None:
            facts["noisy_labels"] = int((self.train_targets != self.train_clean_targets).sum())
        return facts


def channel_statistics(inputs: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of images scaled to [0, 1], or per column of rows.

    A constant channel gets standard deviation 1, so that division by it has no effect.
    """
    scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    count = inputs.numel() // inputs.shape[1]
    # A sum with another dtype first copies its input to that dtype: chunks keep that copy to 64 MiB.
    parts = inputs.split(min(4096, max(1, 2**23 * len(inputs) // inputs.numel())))
    # Integer sums are exact; for float rows float64 is precise enough.
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


def require_samples(labels: Tensor, needed: int, classes: Sequence[str], what: str, key: str | None = None) -> None:
    """Check that every class has enough samples.

    Args:
        labels: class labels (N,).
        needed: samples that each class must have.
        classes: names of the K classes.
        what: beginning of the error message.
        key: key of the configuration whose value is `needed`.

    Raises:
        ValueError: a label is no class; or classes have fewer samples, of which up to five are named with their counts.
    """
    counts = torch.bincount(labels, minlength=len(classes))
    if len(counts) > len(classes):
        last = len(classes) - 1
        raise ValueError(f"{what}: class labels must lie in 0..{last}, the largest is {len(counts) - 1}")
    short = (counts < needed).nonzero().squeeze(1).tolist()
    if short:
        listed = ", ".join(f"{_class_label(label, classes)} has {int(counts[label])} samples" for label in short[:5])
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        limit = f"{key} = {needed}" if key else f"{needed}, which every class needs"
        raise ValueError(f"{what}: {listed}{more}, fewer than {limit}")


def _class_label(label: int, classes: Sequence[str]) -> str:
    """Return a class's number, with its name if that is another."""
    return f"class {label}" if classes[label] == str(label) else f"class {label} ({classes[label]})"


def class_balanced_split(
    labels: Tensor, train_per_class: int, test_per_class: int, classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the training and the test indices of a stratified random split, each in ascending order.

    A seeded permutation of each class gives its first samples to the training split and the next ones to the test
    split.

    Raises:
        ValueError: a label is no class, or a class has fewer samples than the two splits need.
    """
    if bool((labels >= classes).any()):
        raise ValueError(f"class labels must lie in 0..{classes - 1}, the largest is {int(labels.max())}")
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
    pools: Sequence[Tensor],
    per_class: tuple[int | None, int | None],
    classes: Sequence[str],
    seed: int,
    what: str,
    least: int = 2,
) -> list[Tensor]:
    """Return the indices of class-balanced random training and test subsets, each in ascending order.

    Args:
        pools: class labels (N,) of the training and of the test split; or of one pool, from which both are drawn
            without overlap.
        per_class: samples per class in the training and in the test subset; None takes the whole split.
        classes: names of the K classes.
        seed: seed of the random choice.
        what: name of the data in error messages.
        least: training samples that every class must have where the whole split is taken.

    Raises:
        ValueError: a label is no class, a class has too few samples, or a single pool is given and a size is None.
    """
    if len(pools) == 1:
        train, test = per_class
        if train is None or test is None:
            raise ValueError(
                f"{what} has no separate test split: set `train_per_class` and `test_per_class`, or `test`, a share of "
                "each class"
            )
        require_samples(pools[0], train + test, classes, what, "train_per_class + test_per_class")
        return list(class_balanced_split(pools[0], train, test, len(classes), seed))
    chosen = []
    for split, targets, count in zip(("train", "test"), pools, per_class, strict=True):
        where = f"{what}, {split} split"
        if count is None:
            if split == "train":  # a test split may lack classes
                require_samples(targets, least, classes, where)
            chosen.append(torch.arange(len(targets)))
            continue
        require_samples(targets, count, classes, where, f"{split}_per_class")
        chosen.append(class_balanced_split(targets, count, 0, len(classes), seed)[0])
    return chosen
