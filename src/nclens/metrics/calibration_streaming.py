"""Calibration accumulated batch by batch, as `torchmetrics` metrics.

Bins of equal width are sums, which batches and processes add. Bins of equal mass need every confidence: these, and
whether the prediction was right, are kept, 16 bytes a sample.
"""

import math
from typing import Any

import torch
from torch import Tensor

from nclens._inputs import Array, as_integer, as_tensor
from nclens.metrics.calibration import (
    BINS,
    KEYS,
    MORE_BINS,
    SAMPLED,
    bin_sums,
    check_logits,
    check_pairs,
    classwise_error,
    see,
    top_metrics,
)
from nclens.metrics.collapse_streaming import Float64Metric
from nclens.metrics.samples import check_ignore_index


class _Pairs(Float64Metric):
    """Keeps what is known of (confidence, correctness) pairs."""

    full_state_update = False

    confidence: Any
    correct: Any

    def __init__(self, ignore_index: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.dist_sync_on_step:
            raise ValueError("dist_sync_on_step: not supported, forward returns the values of the local batch")
        self.ignore_index = check_ignore_index(ignore_index)
        for bins in (BINS, *MORE_BINS):
            self.add_state(f"bins_{bins}", torch.zeros((3, bins), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("confidence", "correct"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def _add(self, confidence: Tensor, correct: Tensor) -> None:
        for bins in (BINS, *MORE_BINS):
            name = f"bins_{bins}"
            setattr(self, name, getattr(self, name) + bin_sums(confidence, correct, bins))
        self.confidence.append(confidence)
        self.correct.append(correct)

    def _top(self) -> dict[str, float]:
        """The metrics of the top-1 confidence.

        Raises:
            ValueError: there is no sample.
        """
        # Lists, or one tensor each where processes were gathered.
        parts = [[part] if isinstance(part, Tensor) else part for part in (self.confidence, self.correct)]
        confidence, correct = (torch.cat([self._none(), *part]) for part in parts)
        if not len(confidence):
            raise ValueError("compute: there is no sample yet; `update` adds some")
        sums = {bins: getattr(self, f"bins_{bins}") for bins in (BINS, *MORE_BINS)}
        return top_metrics(sums, confidence, correct)

    def _none(self) -> Tensor:
        return getattr(self, f"bins_{BINS}").new_zeros(0)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # torchmetrics gathers as many tensors as a list has: the other processes would wait for one without samples.
        for name in ("confidence", "correct"):
            setattr(self, name, [torch.cat([self._none(), *getattr(self, name)])])
        super()._sync_dist(*args, **kwargs)

    def merge_state(self, incoming_state: Any) -> None:
        """Merge the samples of another metric, or of its `metric_state`, into this one.

        Raises:
            ValueError: the other is no metric of the same class and classes, nor such a metric's state.
        """
        name = type(self).__name__
        if isinstance(incoming_state, Float64Metric) and type(incoming_state) is not type(self):
            raise ValueError(f"merge_state: expected a {name}, got {type(incoming_state).__name__}")
        state: Any = incoming_state.metric_state if isinstance(incoming_state, Float64Metric) else incoming_state
        if not isinstance(state, dict):
            raise ValueError(f"merge_state: expected a {name} or its metric_state, got {type(state).__name__}")
        for key, default in self._defaults.items():
            wanted = None if isinstance(default, list) else tuple(default.shape)
            found = state.get(key)
            if found is None or (wanted is not None and tuple(getattr(found, "shape", ())) != wanted):
                raise ValueError(f"merge_state: expected {key} of shape {wanted or '(N,)'}")
        device = getattr(self, f"bins_{BINS}").device
        for key, default in self._defaults.items():
            mine, theirs = getattr(self, key), state[key]
            if isinstance(default, list):
                theirs = [theirs] if isinstance(theirs, Tensor) else theirs
                setattr(self, key, [*mine, *(part.to(device) for part in theirs)])
            else:
                setattr(self, key, mine + theirs.to(mine))
        self._computed = None
        self._update_count += 1


class CalibrationMetrics(_Pairs):
    """Every calibration metric of all samples since the last reset: `calibration_metrics` for logits in batches.

    `update(logits, labels)` takes logits (n, K), where -inf masks a class, and labels (n,), integers in [0, K).
    `compute()` returns every key of `nclens.metrics.calibration.calibration_metrics` as float64 scalars, the same
    values up to the rounding of sums. The state is K x 15 x 3 sums and, for bins of equal mass, 16 bytes a sample.

    The states of several processes are merged in `compute()`, those of two metrics in one process by `merge_state`. The
    state moves with the metric and stays in float64 under `.half()`, `.to(dtype)` and `set_dtype`. `forward`
    accumulates, and returns the values of its batch alone. The network must be in evaluation mode.

    Args:
        classes: K, at least 2.
        ignore_index: samples with this label are left out, whatever their logits; by default none is.
        **kwargs: those of `torchmetrics.Metric`, but not `dist_sync_on_step`.

    Raises:
        ValueError: in `update`, as `calibration_metrics`, but a batch may be empty or have ignored samples alone: the
            state is then as before; in `compute`, where there is no sample.

    >>> metric = CalibrationMetrics(classes=2)
    >>> metric.update(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    >>> metric.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    >>> values = metric.compute()
    >>> round(values["confidence"].item(), 3), round(values["nll"].item(), 3)
    (0.806, 0.72)
    """

    classwise: Tensor
    sums: Tensor
    brier: Tensor

    def __init__(self, classes: int, *, ignore_index: int | None = None, **kwargs: Any) -> None:
        super().__init__(ignore_index, **kwargs)
        self.classes = as_integer("classes", classes, 2)
        for name, shape in (("classwise", (self.classes, 3, BINS)), ("sums", (2, 1 + len(SAMPLED))), ("brier", ())):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Array, labels: Array) -> None:
        """Add one batch."""
        logits, labels = as_tensor("logits", logits), as_tensor("labels", labels)
        if logits.shape[1:] != (self.classes,):
            raise ValueError(f"logits: expected shape (N, {self.classes}), got {tuple(logits.shape)}")
        if not _counts_any(labels, self.ignore_index):
            return
        z, y = check_logits(logits, labels, self.ignore_index)
        seen = see(z, y)
        samples, right = seen.samples, seen.right
        self._add(seen.confidence, seen.correct)
        self.classwise = self.classwise + seen.classwise
        self.brier = self.brier + seen.squares
        parts = [
            torch.stack([part.sum().double(), *(samples[name][part].sum() for name in SAMPLED)])
            for part in (right, ~right)
        ]
        self.sums = self.sums + torch.stack(parts)

    def compute(self) -> dict[str, Tensor]:
        """Return every key of `calibration_metrics`, float64 scalars."""
        values = self._top()
        (right, *_), (wrong, *_) = self.sums.tolist()
        samples = right + wrong
        values |= {"accuracy": right / samples, "error": wrong / samples}
        for place, name in enumerate(SAMPLED, start=1):
            correct, incorrect = self.sums[:, place].tolist()
            values[f"{name}_correct"] = correct / right if right else math.nan
            values[f"{name}_incorrect"] = incorrect / wrong if wrong else math.nan
            values[name] = (correct + incorrect) / samples
        values["brier"] = self.brier.item() / samples
        values["ece_classwise"] = classwise_error(self.classwise)
        return {key: self.sums.new_tensor(values[key]) for key in KEYS}


class BinaryCalibrationMetrics(_Pairs):
    """Every calibration metric of all (confidence, correctness) pairs since the last reset.

    `update(confidence, correct)` takes confidences (n,) in [0, 1] and correctness (n,), bool or integers 0 and 1.
    `compute()` returns every key of `nclens.metrics.calibration.binary_calibration_metrics` as float64 scalars. State,
    processes and moves are as in `CalibrationMetrics`.

    Args:
        ignore_index: pairs whose `correct` is this integer are left out, whatever their confidence; by default none is.
        **kwargs: those of `torchmetrics.Metric`, but not `dist_sync_on_step`.

    Raises:
        ValueError: in `update`, as `binary_calibration_metrics`, but a batch may be empty or have ignored pairs alone;
            in `compute`, where there is no pair.

    >>> metric = BinaryCalibrationMetrics()
    >>> metric.update(torch.tensor([0.9, 0.7]), torch.tensor([True, True]))
    >>> metric.update(torch.tensor([0.6]), torch.tensor([False]))
    >>> round(metric.compute()["mce"].item(), 3)
    0.6
    """

    def __init__(self, *, ignore_index: int | None = None, **kwargs: Any) -> None:
        super().__init__(ignore_index, **kwargs)

    def update(self, confidence: Array, correct: Array) -> None:
        """Add one batch."""
        confidence, correct = as_tensor("confidence", confidence), as_tensor("correct", correct)
        if _counts_any(correct, self.ignore_index):
            self._add(*check_pairs(confidence, correct, self.ignore_index))

    def compute(self) -> dict[str, Tensor]:
        """Return every key of `binary_calibration_metrics`, float64 scalars."""
        values = self._top()
        return {key: getattr(self, f"bins_{BINS}").new_tensor(value) for key, value in values.items()}


def _counts_any(labels: Tensor, ignore_index: int | None) -> bool:
    """Whether a batch has a sample that is counted."""
    if ignore_index is None or not len(labels) or labels.dtype == torch.bool or labels.is_floating_point():
        return len(labels) > 0
    return bool((labels.long() != ignore_index).any())
