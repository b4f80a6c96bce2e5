"""Data sets for regression: n real targets per sample, in units that the manifest records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from nclens.data.dataset import Splits
from nclens.data.numbers import overflows, rounds

#: Units of the stored targets: each divided by its own standard deviation, all by one number, or unscaled.
Scaling = Literal["each", "common", "none"]


@dataclass(frozen=True, kw_only=True)
class RegressionDataset(Splits):
    """A data set for regression.

    Attributes:
        train_targets, test_targets: float32 (N, n), n >= 1, in the stored units.
        targets: the names of the n targets.
        target_offset, target_scale: original = stored * target_scale + target_offset, n numbers each; by default 0 and
            1.

    Raises:
        ValueError: as `Splits`, or for targets that are not finite, are constant, or do not match their names.
    """

    task: ClassVar[str] = "regression"
    targets: list[str]
    target_offset: list[float] = field(default_factory=list)
    target_scale: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Validate the data once, so that no later stage has to."""
        n = len(self.targets)
        if n == 0 or len(set(self.targets)) != n:
            raise ValueError(f"targets need at least one name, and all names must differ, got {self.targets}")
        object.__setattr__(self, "target_offset", self.target_offset or [0.0] * n)
        object.__setattr__(self, "target_scale", self.target_scale or [1.0] * n)
        if not len(self.target_offset) == len(self.target_scale) == n:
            raise ValueError(f"target_offset and target_scale need one number for each of the targets {self.targets}")
        super().__post_init__()

    def _check_targets(self, split: str, targets: Tensor, samples: int) -> None:
        expected = (samples, len(self.targets))
        if targets.dtype != torch.float32 or targets.shape != expected:
            raise ValueError(
                f"{split} targets must be float32 of shape (N, n) = {expected}, "
                f"not {targets.dtype} of shape {tuple(targets.shape)}"
            )
        if not bool(torch.isfinite(targets).all()):
            raise ValueError(f"{split} targets must be finite")
        for name, column in zip(self.targets, targets.unbind(1), strict=True):
            if samples < 2 or bool((column == column[0]).all()):
                raise ValueError(f"{split} target {name} is constant: there is nothing to regress")

    @property
    def target_facts(self) -> dict[str, Any]:
        """Names and units of the targets, and mean and covariance (divisor M) of the stored training targets."""
        values = self.train_targets.double()
        centred = values - values.mean(0)
        return {
            "targets": self.targets,
            "target_offset": self.target_offset,
            "target_scale": self.target_scale,
            "target_mean": values.mean(0).tolist(),
            "target_covariance": (centred.T @ centred / len(values)).tolist(),
        }


def scaled(train: Tensor, test: Tensor, scaling: Scaling) -> dict[str, Any]:
    """Return the scaled targets, their offset and their scale, as the target fields of `RegressionDataset`.

    `each` centres every target and divides it by its standard deviation in the training split. `common` centres them
    and divides all by the root of their mean variance, so that the covariance keeps its shape and has mean eigenvalue
    1. `none` stores them unchanged.

    Args:
        train, test: (N, n) in the original units.
        scaling: see above.

    Raises:
        ValueError: the values are not finite, a target is constant where the scaling divides by its deviation, its
            variance is beyond float64's range, or `none` would leave values that float32 rounds by more than 2^-16 of
            the target's range.
    """
    train, test = train.double(), test.double()
    if not bool(torch.isfinite(train).all() and torch.isfinite(test).all()):
        raise ValueError("targets must be finite")
    offset, scale = train.mean(0), train.var(0, correction=0)
    if scaling == "none":
        offset, scale = torch.zeros_like(offset), torch.ones_like(scale)
    elif scaling == "common":
        scale = scale.mean().expand_as(scale)
    if not bool((scale > 0).all() and scale.isfinite().all()):
        column = int(((scale == 0) | ~scale.isfinite()).nonzero()[0])
        low, high = float(train[:, column].min()), float(train[:, column].max())
        if low == high:
            raise ValueError(f"target {column} is constant: there is nothing to regress")
        raise ValueError(f"target {column} goes from {low:g} to {high:g}: its variance is beyond float64; rescale it")
    scale = scale.sqrt()
    stored = [(part - offset) / scale for part in (train, test)]
    # The test split may be so small that its range says nothing.
    rounded, beyond = rounds(stored[0]), overflows(stored[1])
    if bool((rounded | beyond).any()):
        column = int((rounded | beyond).nonzero()[0])
        values = (train if rounded[column] else test)[:, column]
        raise ValueError(
            f"target {column} goes from {values.min():.12g} to {values.max():.12g}: float32 rounds its values by more "
            "than 2^-16 of that range. Subtract an offset first, or set an entry's `scale_targets` to `each`"
        )
    return {
        "train_targets": stored[0].float(),
        "test_targets": stored[1].float(),
        "target_offset": offset.tolist(),
        "target_scale": scale.tolist(),
    }


def scaled_splits(targets: Mapping[str, Tensor], scaling: Scaling) -> dict[str, Any]:
    """Return the targets of two or more splits scaled, `train` first, as the target fields of `RegressionDataset`.

    Raises:
        ValueError: as `scaled`; or the splits differ in their number of columns.
    """
    train, *others = targets.values()
    if any(part.shape[1] != train.shape[1] for part in others):
        shapes = ", ".join(f"{split}: {tuple(part.shape)}" for split, part in targets.items())
        raise ValueError(f"targets must have the same number of columns, not {shapes}")
    # The other splits in the units of the test split.
    stored = scaled(train, torch.cat(others), scaling)
    parts = stored.pop("test_targets").split([len(part) for part in others])
    return stored | {f"{split}_targets": part for split, part in zip(list(targets)[1:], parts, strict=True)}
