"""Calibration: do a network's probabilities match how often it is right?

All functions are pure: they take logits or probabilities of shape (N, K) and labels of shape (N,), integers of any
type, as tensors on any device or as NumPy arrays, and compute in float64. Entropies and likelihoods are in nats. The
predicted class is the first of the largest entries, the *confidence* is the probability of that class.

A logit of -inf is a masked class: its probability is 0, and 0 log 0 = 0. A label whose own class is masked has an
infinite negative log-likelihood.

Source, where nothing else is said: the calibration section of Guo et al., arXiv 2402.03979 (bins (lo, hi], top-1
confidence, temperature dividing the logits; 20 and 25 bins besides the usual 15 from the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from nclens._inputs import Array, as_integer, as_number, as_tensor, check_labels, check_masked
from nclens.metrics.held_out import HeldOut, divided
from nclens.metrics.held_out import stratified_mask as stratified_mask  # public here too
from nclens.metrics.samples import without_ignored

BINS = 15
"""Number of bins of every calibration error unless stated: the field's default."""

MORE_BINS = (20, 25)
"""Further numbers of bins, those of the authors' code."""

TEMPERATURE_BOUNDS = (0.01, 100.0)
"""Range in which :func:`fit_temperature` looks for the temperature."""

AUTHORS_TEMPERATURES = tuple(10 ** (step / 100) for step in range(-100, 101))
"""Grid of :func:`authors_temperature`: 201 log-spaced temperatures from 0.1 to 10, 1 among them; the choice is ours."""

SCORES = ("nll", "brier", "ece", "ece_20", "ece_25", "ece_adaptive", "ece_classwise", "confidence")
"""The metrics that :func:`temperature_metrics` gives with and without scaling."""


SAMPLED = ("confidence", "entropy", "nll")
"""What :func:`per_sample` gives of each sample."""

#: Classes from which on no copy of the logits in float64 is made, nor each probability sorted into its bin.
_MANY_CLASSES = 500

#: Numbers that a processor's cache holds, and that are taken at a time on another device.
_CACHED, _ON_DEVICE = 2**15, 2**22

#: Samples whose confidences at all temperatures are kept at a time.
_AT_ALL_TEMPERATURES = 512

KEYS = (
    *SCORES,
    *("accuracy", "error", "entropy"),
    *(f"{name}_{part}" for name in ("confidence", "entropy", "nll") for part in ("correct", "incorrect")),
    *("mce", "ece_l2", "brier_top"),
)
"""The keys of :func:`calibration_metrics`, in order."""


def check_logits(logits: Array, labels: Array, ignore_index: int | None = None) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and int64 labels (N,) as tensors, or raise a ValueError.

    Logits are floats, N >= 1, K >= 2; -inf masks a class, of which each row must keep one; nan and +inf are refused.
    Labels are integers of any type in [0, K). Samples with the label `ignore_index` are left out, whatever their
    logits; one at least must be left.
    """
    logits = _check_shape(logits, "logits")
    if ignore_index is None:
        check_masked(logits)
        return logits, check_labels(labels, logits.shape[1], len(logits), logits)
    counted, found = _counted(labels, logits.shape[1], logits, ignore_index)
    check_masked(logits.masked_fill(~counted[:, None], 0))
    return logits[counted], found[counted]


def _counted(
    labels: Array, classes: int, like: Tensor, ignore_index: int, name: str = "labels"
) -> tuple[Tensor, Tensor]:
    """Return which samples are counted and the labels of all; a ValueError where none is."""
    counted, found = without_ignored(labels, classes, like, ignore_index, name)
    if not counted.any():
        raise ValueError(f"{name}: every one is the ignore_index {ignore_index}; at least one must be counted")
    return counted, found


def _check_shape(values: Array, name: str) -> Tensor:
    found = as_tensor(name, values)
    if found.ndim != 2 or found.shape[0] < 1 or found.shape[1] < 2 or not found.is_floating_point():
        raise ValueError(
            f"{name} must be a float tensor (N, K) with N >= 1 and K >= 2, got {found.dtype} {tuple(found.shape)}"
        )
    return found


def present(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return which classes (N, K) are not masked, and K over their number (N,): 1 where none is masked."""
    there = logits != -math.inf
    return there, logits.shape[1] / there.sum(dim=1).double()


def _check_probabilities(
    probabilities: Array, labels: Array, bins: int = 1, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the probabilities in float64 and the labels in int64, or raise a ValueError."""
    as_integer("bins", bins, 1)
    probabilities = _check_shape(probabilities, "probabilities")
    if ignore_index is not None:
        counted, labels = _counted(labels, probabilities.shape[1], probabilities, ignore_index)
        even = torch.full_like(probabilities, 1 / probabilities.shape[1])
        p, labels = _check_probabilities(probabilities.where(counted[:, None], even), labels, bins)
        return p[counted], labels[counted]
    labels = check_labels(labels, probabilities.shape[1], len(probabilities), probabilities)
    p = probabilities.double()
    if not p.isfinite().all():
        row = int((~p.isfinite().all(dim=1)).nonzero()[0])
        raise ValueError(f"probabilities must be finite, got nan or inf in row {row}")
    sums = p.sum(dim=1, keepdim=True)
    # Rounding to eps moves a row's sum by eps/2 at most; the rest is for a softmax that was computed in that type.
    tolerance = max(1e-4, 2 * torch.finfo(probabilities.dtype).eps)
    if p.min() < 0 or not torch.allclose(sums, p.new_ones(()), rtol=0, atol=tolerance):
        row = int(((p < 0).any(dim=1) | ((sums[:, 0] - 1).abs() > tolerance)).nonzero()[0])
        raise ValueError(
            f"probabilities must not be negative and each row must sum to 1 (to {tolerance:.1g} in "
            f"{probabilities.dtype}), got a sum of {float(sums[row]):.6g} in row {row}"
        )
    # A half-precision row misses 1 by as much as a calibration error may be.
    return (p / sums if probabilities.element_size() == 2 else p), labels


def _top(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence (N,) and, as 0.0 or 1.0, correctness (N,) of each prediction."""
    confidence, predicted = probabilities.max(dim=1)
    return confidence, (predicted == labels).double()


@dataclass(frozen=True)
class ReliabilityBins:
    """What a reliability diagram draws, each of shape (bins,): see :func:`reliability_bins`."""

    lower: Tensor
    upper: Tensor
    count: Tensor
    confidence: Tensor
    accuracy: Tensor


def _edges(bins: int, like: Tensor) -> Tensor:
    return torch.arange(bins + 1, dtype=torch.float64, device=like.device) / bins


def _equal_width(confidence: Tensor, correct: Tensor, bins: int) -> ReliabilityBins:
    edges = _edges(bins, confidence)
    # bucketize sends v to the i with edge[i-1] < v <= edge[i], which is the convention (lo, hi].
    index = torch.bucketize(confidence, edges[1:-1])
    count = torch.bincount(index, minlength=bins)
    mean_confidence = torch.bincount(index, weights=confidence, minlength=bins) / count
    accuracy = torch.bincount(index, weights=correct, minlength=bins) / count
    return ReliabilityBins(edges[:-1], edges[1:], count, mean_confidence, accuracy)


def bin_sums(confidence: Tensor, correct: Tensor, bins: int) -> Tensor:
    """Return (3, J), float64: number of samples, sum of confidence and of correctness in each equal-width bin."""
    index = torch.bucketize(confidence, _edges(bins, confidence)[1:-1])
    weights = (torch.ones_like(confidence), confidence, correct)
    return torch.stack([torch.bincount(index, weights=w, minlength=bins) for w in weights])


def bins_of(sums: Tensor) -> ReliabilityBins:
    """Return the bins of (3, J) sums, as from `bin_sums`."""
    edges = _edges(sums.shape[1], sums)
    count = sums[0].long()
    return ReliabilityBins(edges[:-1], edges[1:], count, sums[1] / count, sums[2] / count)


def reliability_bins(
    probabilities: Array, labels: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> ReliabilityBins:
    """Count, mean confidence and accuracy in equal-width bins of the confidence.

    Bin j of J is (j/J, (j+1)/J]: a confidence on an edge belongs to the bin below it, a confidence of 1 to the last.
    Confidence and edge are compared in float64, each as it is: a float32 of 0.8 is 0.800000012 and lies above 4/5, in
    the bin (4/5, ...], where the float64 of 0.8 lies on the edge.

    Args:
        probabilities: (N, K), rows summing to 1: to 1e-4, in float16 to 2e-3 and in bfloat16 to 2e-2. Rows in half
            precision are divided by their sum, in float64.
        labels: (N,) integers in [0, K).
        bins: number of bins J.
        ignore_index: samples with this label are left out, whatever their probabilities; by default none is.

    Returns:
        ``lower`` and ``upper`` edges, ``count`` (int64), and mean ``confidence`` and ``accuracy`` (nan where the bin
        is empty), each of shape (J,).

    Raises:
        ValueError: on wrong shapes, non-finite or negative probabilities, rows that do not sum to 1, labels out of
            range, no sample that is counted, or fewer than one bin.
    """
    p, y = _check_probabilities(probabilities, labels, bins, ignore_index)
    return _equal_width(*_top(p, y), bins)


def expected_error(bins: ReliabilityBins) -> float:
    """Return the expected calibration error of bins, ``sum_j (n_j / N) |accuracy_j - confidence_j|``."""
    weighted = bins.count * (bins.accuracy - bins.confidence).abs()
    return float(weighted.nansum() / bins.count.sum())


def l2_error(bins: ReliabilityBins) -> float:
    """Return the l2 norm of the calibration error of bins."""
    weighted = bins.count * (bins.accuracy - bins.confidence).square()
    return math.sqrt(float(weighted.nansum() / bins.count.sum()))


def maximum_error(bins: ReliabilityBins) -> float:
    """Return the maximum calibration error of bins."""
    return float((bins.accuracy - bins.confidence).abs().nan_to_num(0).max())


def expected_calibration_error(
    probabilities: Array, labels: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> float:
    """Expected calibration error of the top-1 confidence, in [0, 1].

    ``sum_j (n_j / N) |accuracy_j - confidence_j|`` over the equal-width bins (lo, hi] of :func:`reliability_bins`,
    which see for arguments and errors.
    """
    return expected_error(reliability_bins(probabilities, labels, bins, ignore_index=ignore_index))


def l2_calibration_error(
    probabilities: Array, labels: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> float:
    """Calibration error of the top-1 confidence in the l2 norm, in [0, 1], not debiased.

    ``sqrt(sum_j (n_j / N) (accuracy_j - confidence_j)^2)`` over the bins of :func:`reliability_bins`, which see for
    arguments and errors. Between the expected and the maximum calibration error of the same bins.

    Source: Kumar, Liang, Ma, Verified uncertainty calibration, arXiv 1909.10155.
    """
    return l2_error(reliability_bins(probabilities, labels, bins, ignore_index=ignore_index))


def maximum_calibration_error(
    probabilities: Array, labels: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> float:
    """Maximum calibration error of the top-1 confidence, in [0, 1].

    ``max_j |accuracy_j - confidence_j|`` over the bins of :func:`reliability_bins` that have a sample; see there for
    arguments and errors. A bin with one sample counts as much as one with a thousand.

    Source: Naeini, Cooper, Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning.
    """
    return maximum_error(reliability_bins(probabilities, labels, bins, ignore_index=ignore_index))


def adaptive_calibration_error(
    probabilities: Array, labels: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> float:
    """Calibration error of the top-1 confidence over bins of equal mass, in [0, 1].

    The samples are sorted by confidence; the sample of rank r = 0..N-1 falls into bin floor(r J / N), so the sizes of
    the J bins differ by at most one. The error is ``(1/N) sum_j |sum_{i in j} (correct_i - confidence_i)|``.

    Ties: samples of equal confidence have no order, so each of them counts with the mean correctness of
    all of them. The result therefore does not depend on the order of the samples, also where an edge between two bins
    falls among equal confidences (as it does when many confidences are exactly 1).

    Bins of equal mass are a common variant of the error; this tie rule is ours. Arguments and errors are those of
    :func:`reliability_bins`.
    """
    return equal_mass_error(*_top(*_check_probabilities(probabilities, labels, bins, ignore_index)), bins)


def equal_mass_error(confidence: Tensor, correct: Tensor, bins: int) -> float:
    """Return the calibration error over bins of equal mass of confidences (N,) and correctness (N,), 0.0 or 1.0."""
    distinct, group, size = torch.unique(confidence, return_inverse=True, return_counts=True)
    excess = torch.bincount(group, weights=correct) / size - distinct
    samples = len(confidence)
    rank = torch.arange(samples, device=confidence.device)
    total = torch.bincount(rank * bins // samples, weights=excess.repeat_interleave(size), minlength=bins)
    return float(total.abs().sum() / samples)


def classwise_calibration_error(
    probabilities: Array, labels: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> float:
    """Calibration error of every class's probability, averaged over classes, in [0, 1].

    ``(1/K) sum_k sum_j (n_kj / N) |mean of p_k in the bin - frequency of class k in the bin|`` where, for each class
    k, all N samples are put into equal-width bins (lo, hi] by p_k; a probability of exactly 0 belongs to the first.
    This is the "one against the rest" definition without a threshold; other definitions of the name exist. Arguments
    and errors are those of :func:`reliability_bins`.
    """
    p, y = _check_probabilities(probabilities, labels, bins, ignore_index)
    return classwise_error(classwise_sums(p, y, bins))


def classwise_sums(p: Tensor, labels: Tensor, bins: int) -> Tensor:
    """Return (K, 3, J), of each class the sums of its probability (N,), as from `bin_sums`."""
    sums = p.new_zeros((p.shape[1], 3, bins))
    for part in zip(*(each.split(_rows(p)) for each in (p, labels)), strict=True):
        _add_classwise(sums, *part)
    return sums


def _add_classwise(sums: Tensor, p: Tensor, labels: Tensor) -> None:
    """Add samples to the sums (K, 3, J) of each class's probability."""
    classes, _, bins = sums.shape
    edges, flat = _edges(bins, p)[1:-1], sums.view(-1)
    own = p.gather(1, labels[:, None])[:, 0]
    flat.index_add_(0, (3 * labels + 2) * bins + torch.bucketize(own, edges), torch.ones_like(own))
    k: Tensor
    if classes < _MANY_CLASSES or bins == 1:
        k, values = torch.arange(classes, device=p.device).repeat(len(p)), p.reshape(-1)
    else:  # most are in the first bin, and need not be sorted into it
        low = p <= edges[0]
        sums[:, 0, 0] += low.sum(0)
        sums[:, 1, 0] += p.where(low, 0).sum(0)
        k, values = (~low).nonzero()[:, 1], p[~low]
    place = 3 * bins * k + torch.bucketize(values, edges)
    flat.index_add_(0, place, torch.ones_like(values))
    flat.index_add_(0, place + bins, values)


def classwise_error(sums: Tensor) -> float:
    """Return the mean over classes of the expected calibration error of their sums (K, 3, J)."""
    count = sums[:, 0]
    weighted = count * (sums[:, 2] / count - sums[:, 1] / count).abs()
    errors = weighted.nansum(1) / count.sum(1)
    return sum(errors.tolist()) / len(sums)


def negative_log_likelihood(logits: Array, labels: Array, *, ignore_index: int | None = None) -> float:
    """Mean of ``-log softmax(z)_y`` in nats, in [0, inf]: inf where a label's class is masked, and only there.

    Raises:
        ValueError: as :func:`check_logits`.
    """
    logits, labels = check_logits(logits, labels, ignore_index)
    (own,) = _by_rows(lambda z, y: (per_sample(z.double(), y)["nll"],), logits, labels)
    return _mean_of_nll(own)


def top_class_brier_score(probabilities: Array, labels: Array, *, ignore_index: int | None = None) -> float:
    """Brier score of the top-1 confidence: mean over samples of ``(max_k p_k - [correct])^2``, in [0, 1].

    A proper score of whether the prediction is right; how the other classes share the rest does not matter. Arguments
    and errors are those of :func:`reliability_bins`.
    """
    confidence, correct = _top(*_check_probabilities(probabilities, labels, ignore_index=ignore_index))
    return float((confidence - correct).square().mean())


def brier_score(probabilities: Array, labels: Array, *, ignore_index: int | None = None) -> float:
    """Mean over samples of ``sum_k (p_k - [k = y])^2``, in [0, 2]: the sum over classes, without a factor 1/2.

    Arguments and errors are those of :func:`reliability_bins`.
    """
    p, y = _check_probabilities(probabilities, labels, ignore_index=ignore_index)
    return float((p - torch.nn.functional.one_hot(y, p.shape[1])).square().sum(dim=1).mean())


@dataclass(frozen=True)
class Seen:
    """What one pass over logits keeps: numbers of each sample (N,), float64, and sums of each class (K, 3, J).

    ``confidence`` and ``correct`` (0.0 or 1.0) are of the softmax; ``squares`` is the sum of ``brier``; ``samples`` has
    confidence, entropy and negative log-likelihood from the log-softmax, and ``right`` (bool) is of the logits.
    """

    confidence: Tensor
    correct: Tensor
    brier: Tensor
    squares: Tensor
    samples: dict[str, Tensor]
    right: Tensor
    classwise: Tensor


def see(logits: Tensor, labels: Tensor, temperature: float | None = None) -> Seen:
    """Pass over logits (N, K), divided by a temperature where one is given, a few rows at a time."""
    classwise = torch.zeros((logits.shape[1], 3, BINS), dtype=torch.float64, device=logits.device)
    total = classwise.new_zeros(())

    def part(z: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        right = z.argmax(dim=1) == y
        z = z.double() if temperature is None else z.double() / temperature
        p = torch.softmax(z, dim=1)
        _add_classwise(classwise, p, y)
        confidence, correct = _top(p, y)
        samples = per_sample(z, y)
        p[torch.arange(len(y), device=y.device), y] -= 1
        total.add_(p.square_().sum())
        return confidence, correct, p.sum(dim=1), *samples.values(), right.double()

    confidence, correct, brier, *values, right = _by_rows(part, logits, labels)
    return Seen(confidence, correct, brier, total, dict(zip(SAMPLED, values, strict=True)), right == 1, classwise)


def _by_rows(function: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> Tensor:
    """Return what a function makes of the rows (N, ...) of tensors, (m, N): m numbers of each, float64.

    It is given a few rows at a time: on a CPU they stay in a processor's cache, which takes a third of the time.
    """
    found, start = torch.empty(0), 0
    for part in zip(*(each.split(_rows(values[0])) for each in values), strict=True):
        made = torch.stack(function(*part))
        if not start:  # one tensor for all: small ones that stay would keep the memory between them from reuse
            found = made.new_empty((len(made), len(values[0])))
        found[:, start : start + len(part[0])] = made
        start += len(part[0])
    return found


def _scores(seen: Seen) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics named in ``SCORES``, and those of the 15 bins and of the top class that are not among them."""
    confidence, correct = seen.confidence, seen.correct
    bins = _equal_width(confidence, correct, BINS)
    scores = {
        "nll": _mean_of_nll(seen.samples["nll"]),
        "brier": float(seen.brier.mean()),
        "ece": expected_error(bins),
        "ece_20": expected_error(_equal_width(confidence, correct, 20)),
        "ece_25": expected_error(_equal_width(confidence, correct, 25)),
        "ece_adaptive": equal_mass_error(confidence, correct, BINS),
        "ece_classwise": classwise_error(seen.classwise),
        "confidence": float(confidence.mean()),
    }
    top = float((confidence - correct).square().mean())
    return scores, {"mce": maximum_error(bins), "ece_l2": l2_error(bins), "brier_top": top}


def _mean_of_nll(values: Tensor) -> float:
    """The mean of (N,), in the order in which `cross_entropy` sums."""
    return float(torch.nn.functional.nll_loss(-values[:, None], torch.zeros_like(values, dtype=torch.int64)))


def calibration_metrics(logits: Array, labels: Array, *, ignore_index: int | None = None) -> dict[str, float]:
    """Every calibration metric of one split at temperature 1.

    Keys: ``accuracy`` and ``error`` = 1 - accuracy; ``nll``, ``brier``; ``ece``, ``ece_20``, ``ece_25`` (15, 20 and
    25 equal-width bins), ``ece_adaptive``, ``ece_classwise`` (15 bins); ``confidence`` (mean top-1 probability),
    ``entropy`` (mean of ``-sum_k p_k log p_k``, nats, in [0, log K]); and ``confidence``, ``entropy``, ``nll`` with
    ``_correct`` and ``_incorrect``: the means over the samples predicted rightly and wrongly, nan if there are none.
    Further ``mce`` and ``ece_l2``, the maximum and the l2 norm over the 15 bins, and ``brier_top``, the score of
    :func:`top_class_brier_score`.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) integers in [0, K).
        ignore_index: samples with this label are left out, whatever their logits; by default none is.

    Raises:
        ValueError: as :func:`check_logits`.

    >>> metrics = calibration_metrics(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    >>> round(metrics["accuracy"], 3), round(metrics["confidence"], 3), round(metrics["nll"], 3)
    (0.5, 0.806, 0.72)
    """
    return seen_metrics(see(*check_logits(logits, labels, ignore_index)))


def seen_metrics(seen: Seen) -> dict[str, float]:
    """Return every key of :func:`calibration_metrics` from one pass; `squares` is not used."""
    samples, correct = seen.samples, seen.right
    metrics, further = _scores(seen)
    metrics["accuracy"] = float(correct.double().mean())
    metrics["error"] = float((~correct).double().mean())
    metrics["entropy"] = float(samples["entropy"].mean())
    for name, value in samples.items():
        metrics[f"{name}_correct"] = float(value[correct].mean())
        metrics[f"{name}_incorrect"] = float(value[~correct].mean())
    return metrics | further


def per_sample(z: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return confidence, entropy and negative log-likelihood of each row of float64 logits, (N,)."""
    log_p = torch.log_softmax(z, dim=1)
    p = log_p.exp()
    values = (
        p.amax(dim=1),
        -(p * log_p.masked_fill(p == 0, 0)).sum(dim=1),
        -log_p.gather(1, labels[:, None])[:, 0],
    )
    return dict(zip(SAMPLED, values, strict=True))


def check_pairs(
    confidence: Array, correct: Array, ignore_index: int | None = None, bins: int = 1
) -> tuple[Tensor, Tensor]:
    """Return confidences (N,) and correctness (N,), 0.0 or 1.0, in float64, or raise a ValueError.

    Confidences are floats in [0, 1], N >= 1. Correctness is bool, or integers 0 and 1; pairs with the correctness
    `ignore_index` are left out, whatever their confidence; one at least must be left.
    """
    as_integer("bins", bins, 1)
    c = as_tensor("confidence", confidence)
    if c.ndim != 1 or not len(c) or not c.is_floating_point():
        raise ValueError(f"confidence must be a float tensor (N,) with N >= 1, got {c.dtype} {tuple(c.shape)}")
    right = as_tensor("correct", correct)
    right = right.long() if right.dtype == torch.bool else right
    if ignore_index is None:
        right = check_labels(right, 2, len(c), c, "correct")
    else:
        counted, right = _counted(right, 2, c, ignore_index, "correct")
        c = c.where(counted, 0)
    c = c.double()
    if bool((wrong := ~((c >= 0) & (c <= 1))).any()):
        first = int(wrong.nonzero()[0])
        raise ValueError(f"confidence must lie in [0, 1], got {float(c[first]):.6g} at index {first}")
    return (c, right.double()) if ignore_index is None else (c[counted], right[counted].double())


def binary_reliability_bins(
    confidence: Array, correct: Array, bins: int = BINS, *, ignore_index: int | None = None
) -> ReliabilityBins:
    """:func:`reliability_bins` of pairs: of what gives one confidence a decision, such as answers of a language model.

    Args:
        confidence: (N,) floats in [0, 1].
        correct: (N,) bool, or integers 0 and 1: whether the decision was right.
        bins: number of bins J.
        ignore_index: pairs whose `correct` is this integer are left out, whatever their confidence; by default none is.

    Raises:
        ValueError: on wrong shapes or types, values out of range, no pair that is counted, or fewer than one bin.
    """
    return _equal_width(*check_pairs(confidence, correct, ignore_index, bins), bins)


def binary_calibration_metrics(
    confidence: Array, correct: Array, *, ignore_index: int | None = None
) -> dict[str, float]:
    """Every calibration metric of (confidence, correctness) pairs.

    Keys, as in :func:`calibration_metrics`: ``accuracy`` and ``error``; ``confidence``, its mean, and
    ``confidence_correct`` and ``confidence_incorrect``; ``ece``, ``ece_20``, ``ece_25``, ``ece_adaptive``, ``mce``,
    ``ece_l2``, ``brier_top``. Those of a network's top-1 confidences and correctness are that function's.

    Arguments and errors are those of :func:`binary_reliability_bins`.

    >>> metrics = binary_calibration_metrics(torch.tensor([0.9, 0.7, 0.6]), torch.tensor([True, True, False]))
    >>> round(metrics["confidence"], 3), round(metrics["accuracy"], 3), round(metrics["mce"], 3)
    (0.733, 0.667, 0.6)
    """
    c, right = check_pairs(confidence, correct, ignore_index)
    sums = {bins: bin_sums(c, right, bins) for bins in (BINS, *MORE_BINS)}
    return top_metrics(sums, c, right)


def top_metrics(sums: Mapping[int, Tensor], confidence: Tensor, correct: Tensor) -> dict[str, float]:
    """Return the keys of :func:`binary_calibration_metrics`.

    Args:
        sums: J -> the (3, J) sums of all pairs, for 15, 20 and 25 bins.
        confidence, correct: (N,) of the pairs; correctness is 0.0 or 1.0.
    """
    bins = bins_of(sums[BINS])
    accuracy = float(correct.mean())
    return {
        "accuracy": accuracy,
        "error": 1 - accuracy,
        "confidence": float(confidence.mean()),
        "confidence_correct": float(confidence[correct == 1].mean()),
        "confidence_incorrect": float(confidence[correct == 0].mean()),
        "ece": expected_error(bins),
        **{f"ece_{more}": expected_error(bins_of(sums[more])) for more in MORE_BINS},
        "ece_adaptive": equal_mass_error(confidence, correct, BINS),
        "mce": maximum_error(bins),
        "ece_l2": l2_error(bins),
        "brier_top": float((confidence - correct).square().mean()),
    }


def fit_temperature(logits: Array, labels: Array, *, ignore_index: int | None = None) -> float:
    """Temperature T minimising the mean negative log-likelihood of ``softmax(logits / T)``.

    The likelihood is convex in 1/T with slope ``mean_i sum_k p_ik (z_ik - z_iy)``, so T is where that slope crosses
    zero: a bracketed root search in log T within ``TEMPERATURE_BOUNDS``. If the minimiser is outside, the nearer bound
    is returned: the lower one when every label has the largest logit of its row (the likelihood then grows for ever
    as T falls), the upper one when the logits say nothing about the labels or the contrary of what is true. If every
    row of logits is constant (but for masked classes, which no temperature changes), all temperatures are equal and 1
    is returned.

    Raises:
        ValueError: as :func:`check_logits`, or if a label's class is masked: its likelihood is 0 at every temperature.
    """
    logits, labels = check_logits(logits, labels, ignore_index)
    own = logits.gather(1, labels[:, None]).double()
    if bool(own.isneginf().any()):
        row = int(own[:, 0].isneginf().nonzero()[0])
        raise ValueError(
            f"labels: no temperature is best, for the label {int(labels[row])} at index {row} has a logit of -inf and "
            "so a likelihood of 0 at every one"
        )

    def moved(z: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        z = z.double() - own
        return z, z.masked_fill(z == -math.inf, 0)

    whole = [*moved(logits, own)] if logits.shape[1] < _MANY_CLASSES else None  # which saves making them each time
    if not bool(_by_rows(lambda z, own: (moved(z, own)[1].any(1).double(),), logits, own).any()):
        return 1.0

    def slope(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)

        def part(z: Tensor, other: Tensor) -> tuple[Tensor]:
            z, finite = (z, other) if whole else moved(z, other)
            return ((torch.softmax(z / temperature, dim=1) * finite).sum(dim=1),)

        return float(_by_rows(part, *(whole or (logits, own)))[0].mean())

    low, high = (math.log(bound) for bound in TEMPERATURE_BOUNDS)
    if slope(low) <= 0:
        return TEMPERATURE_BOUNDS[0]
    if slope(high) >= 0:
        return TEMPERATURE_BOUNDS[1]
    return math.exp(brentq(slope, low, high, xtol=1e-12))


def _rows(values: Tensor) -> int:
    """Rows of (N, K) that are taken at a time."""
    return max(1, (_CACHED if values.device.type == "cpu" else _ON_DEVICE) // values.shape[1])


def top_predictions(logits: Array, labels: Array, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return confidence (N,), float64 in [1/K, 1], and correctness (N,), bool, of the predictions by softmax(z / T).

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) integers in [0, K).
        temperature: T, a positive number.

    Raises:
        ValueError: as :func:`check_logits`, or the temperature is no positive number.
    """
    logits, labels = check_logits(logits, labels)
    divisor = _temperature("temperature", temperature)
    confidence, correct = _by_rows(lambda z, y: _top(torch.softmax(z.double() / divisor, dim=1), y), logits, labels)
    return confidence, correct == 1


def _temperature(name: str, value: object) -> float:
    return as_number(name, value, "a positive number", lambda number: 0 < number < math.inf)


def calibration_at_temperatures(
    logits: Array, labels: Array, temperatures: Sequence[float], *, ignore_index: int | None = None
) -> dict[str, list[float]]:
    """ECE (15 bins) in [0, 1] and mean negative log-likelihood in nats of ``softmax(logits / T)``, at each T.

    With m the largest logit of a row and ``s = sum_k exp((z_k - m) / T)``, its confidence is 1/s and its negative
    log-likelihood ``log s - (z_y - m) / T``: one exponential a logit and temperature, and no probabilities are kept.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) integers in [0, K).
        temperatures: positive numbers.
        ignore_index: samples with this label are left out, whatever their logits; by default none is.

    Returns:
        ``ece`` and ``nll``, each a number a temperature, in their order.

    Raises:
        ValueError: as :func:`check_logits`, or on a temperature that is no positive number.

    >>> found = calibration_at_temperatures(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), [1, 2])
    >>> [round(value, 3) for value in found["nll"]]
    [0.72, 0.644]
    """
    logits, labels = check_logits(logits, labels, ignore_index)
    chosen = [
        as_number("temperatures", value, "a positive number", lambda t: 0 < t < math.inf) for value in temperatures
    ]
    sums = torch.zeros((len(chosen), 3, BINS), dtype=torch.float64, device=logits.device)
    nll = sums.new_zeros(len(chosen))
    for part, y in zip(*(each.split(_rows(logits)) for each in (logits, labels)), strict=True):
        largest, predicted = part.max(dim=1)
        z = part.double() - largest[:, None].double()
        correct, own = (predicted == y).double(), z.gather(1, y[:, None])[:, 0]
        for place, temperature in enumerate(chosen):
            total = (z / temperature).exp_().sum(dim=1)
            sums[place] += bin_sums(1 / total, correct, BINS)
            nll[place] += (total.log() - own / temperature).sum()
    return {"ece": [expected_error(bins_of(each)) for each in sums], "nll": (nll / len(labels)).tolist()}


def authors_temperature(logits: Array, labels: Array) -> float:
    """Temperature minimising the 15-bin expected calibration error on the very samples it is judged on.

    This is the protocol of the code released with Guo et al., arXiv 2402.03979, and optimistic: prefer
    :func:`fit_temperature` on held-out samples. The grid searched, ``AUTHORS_TEMPERATURES``, is ours; among equally
    good temperatures the one nearest to 1 (in its logarithm; of a pair T, 1/T the lower) is taken.

    Raises:
        ValueError: as :func:`check_logits`.
    """
    logits, labels = check_logits(logits, labels)
    temperatures = sorted(AUTHORS_TEMPERATURES, key=lambda temperature: abs(math.log(temperature)))
    sums = torch.zeros((len(temperatures), 3, BINS), dtype=torch.float64, device=logits.device)
    start = 3 * BINS * torch.arange(len(temperatures), device=logits.device)[:, None]
    size = min(_rows(logits), _AT_ALL_TEMPERATURES)
    for part, y in zip(*(each.split(size) for each in (logits, labels)), strict=True):
        z = part.double()
        correct = (z.argmax(dim=1) == y).double()
        confidence = z.new_empty((len(temperatures), len(z)))
        for row, each in enumerate(temperatures):
            confidence[row] = torch.softmax(z / each, dim=1).amax(dim=1)
        place = (start + torch.bucketize(confidence, _edges(BINS, z)[1:-1])).view(-1)
        for row, values in enumerate((torch.ones_like(confidence), confidence, correct.expand_as(confidence))):
            sums.view(-1).index_add_(0, place + row * BINS, values.reshape(-1))
    return min(zip(temperatures, sums, strict=True), key=lambda each: expected_error(bins_of(each[1])))[0]


def temperature_metrics(logits: Array, labels: Array, held_out: HeldOut) -> dict[str, float]:
    """What temperature scaling does to one (test) split.

    Keys: ``temperature``, fitted by :func:`fit_temperature` on the held-out samples; for each name in ``SCORES``,
    ``{name}_scaled`` and ``{name}_unscaled``, the metric of the *other* samples, with the logits divided by that
    temperature and as they are; ``temperature_authors`` and ``ece_authors``, temperature and error of
    :func:`authors_temperature` on all samples.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) integers in [0, K).
        held_out: (N,) bool, True where the temperature is fitted; see :func:`stratified_mask`. Or logits (V, K) and
            labels (V,) of a validation split, on which it is fitted; then all N samples are the others.

    Raises:
        ValueError: as :func:`fit_temperature` and :func:`nclens.metrics.held_out.divided`.
    """
    logits, labels = check_logits(logits, labels)
    (fitted, fitted_labels), (rest, rest_labels) = divided(logits, labels, held_out)
    temperature = fit_temperature(fitted, fitted_labels)
    metrics = {"temperature": temperature}
    metrics |= {f"{name}_scaled": value for name, value in _scores(see(rest, rest_labels, temperature))[0].items()}
    metrics |= {f"{name}_unscaled": value for name, value in _scores(see(rest, rest_labels))[0].items()}
    metrics["temperature_authors"] = authors_temperature(logits, labels)
    confidence, correct = top_predictions(logits, labels, metrics["temperature_authors"])
    metrics["ece_authors"] = expected_error(_equal_width(confidence, correct.double(), BINS))
    return metrics
