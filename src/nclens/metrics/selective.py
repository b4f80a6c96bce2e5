"""Selective classification: does a network know which of its predictions to withhold?

A selective classifier keeps its most confident predictions and withholds the others. *Coverage* is the share that it
keeps, *risk* the share of errors among those, both in [0, 1]. The prediction is the first of the largest logits.

Samples of equal confidence have no order. A threshold keeps all of them or none, and a risk among the j most confident
that cuts through them is its mean over all their orders: the result does not depend on the order of the samples.

All functions are pure: they take tensors on any device or NumPy arrays, and compute in float64. Confidences are rounded
to 12 decimal places, so that those which are equal but for rounding are equal.

Sources: the area under the risk-coverage curve and its excess are of Geifman, Uziel, El-Yaniv, arXiv 1805.08206, who
approximate the area of the perfect order, which is exact here; logit normalisation is of Cattelan and Silva, arXiv
2305.15508, as arXiv 2403.14715 uses it. The treatment of ties is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from nclens._inputs import Array, as_number, as_tensor, check_device, describe, scaled
from nclens.metrics.calibration import check_logits
from nclens.metrics.held_out import HeldOut, divided

RISK = 0.05
"""The risk at which `selective_metrics` gives the coverage."""
COVERAGE = 0.8
"""The coverage at which `selective_metrics` gives the risk."""
POWERS = tuple(range(1, 9))
"""The exponents p that `fit_power` chooses from."""

DECIMALS = 12
# Larger values have fewer than so many decimal places in float64.
_ROUNDED_BELOW = 2.0**10


def log_odds(logits: Array) -> Tensor:
    """Return the log odds ``ln p / (1 - p)`` of the largest softmax probability p, as a confidence (N,).

    It orders predictions as p does, where p itself is 1 in float64 from a gap of 37 between the logits on. inf where
    every other class is masked.

    Args:
        logits: (N, K); -inf masks a class.

    Raises:
        ValueError: as `nclens.metrics.calibration.check_logits`.

    >>> [round(value, 9) for value in log_odds(torch.tensor([[3.0, 1.0], [100.0, 0.0]])).tolist()]
    [2.0, 100.0]
    """
    z = _checked(logits)
    top = z.max(dim=1, keepdim=True)
    rest = z.scatter(1, top.indices, -math.inf)
    return _rounded(top.values[:, 0] - rest.logsumexp(dim=1))


def normalised_logit(logits: Array, p: float) -> Tensor:
    """Return the largest logit after normalisation, ``max_k (z_k - m) / |z - m|_p``, as a confidence (N,) in [0, 1].

    m is the mean of the sample's logits; masked classes are left out of mean and norm. Where all logits are equal it is
    0. Adding a constant to the logits, or multiplying them by a positive number, changes nothing, so that temperature
    scaling does not either.

    Args:
        logits: (N, K) with K >= 3; -inf masks a class.
        p: exponent of the norm, 1 or more.

    Raises:
        ValueError: as `nclens.metrics.calibration.check_logits`; K = 2, where the quotient is the same for all samples;
            p is less than 1, infinite or not a number.

    >>> normalised_logit(torch.tensor([[2.0, 1.0, 0.0], [5.0, 5.0, 5.0]]), 1).tolist()
    [0.5, 0.0]
    """
    as_number("p", p, "a finite number of 1 or more", _is_power)
    return _over_norm(*_centred(_checked(logits)), float(p))


def _is_power(p: float) -> bool:
    return 1 <= p < math.inf


@dataclass(frozen=True)
class RiskCoverage:
    """What a risk-coverage curve draws, see :func:`risk_coverage`: each of shape (T,), T distinct confidences."""

    threshold: Tensor
    coverage: Tensor
    risk: Tensor


def risk_coverage(confidence: Array, correct: Array) -> RiskCoverage:
    """Return coverage and risk of every threshold that keeps a sample, from the highest threshold to the lowest.

    Args:
        confidence: (N,) numbers with N >= 1, higher for predictions to keep; nan is refused.
        correct: (N,) bool, whether the prediction is right.

    Returns:
        ``threshold``, the distinct confidences, descending, and ``coverage`` and ``risk`` of the samples at or above
        it, in float64.

    Raises:
        ValueError: wrong types or shapes, no sample, or a confidence that is nan.
    """
    groups = _Groups.of(confidence, correct)
    return RiskCoverage(groups.level, groups.kept / groups.kept[-1], groups.wrong / groups.kept)


def risks(confidence: Array, correct: Array) -> Tensor:
    """Return the risk among the j most confident, for j = 1..N (N,), in float64.

    Arguments and errors are those of :func:`risk_coverage`.
    """
    return _Groups.of(confidence, correct).risks()


def aurc(confidence: Array, correct: Array) -> float:
    """Area under the risk-coverage curve: mean over j = 1..N of the risk among the j most confident, in [0, 1].

    Arguments and errors are those of :func:`risk_coverage`.

    >>> aurc(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([True, False, True, True]))  # (0 + 1/2 + 1/3 + 1/4) / 4
    0.2708333333333333
    """
    return float(risks(confidence, correct).mean())


def excess_aurc(confidence: Array, correct: Array) -> float:
    """E-AURC: the AURC less that of the perfect order, in which every error comes last; in [0, 1].

    Arguments and errors are those of :func:`risk_coverage`.
    """
    area, right = aurc(confidence, correct), as_tensor("correct", correct)
    return area - aurc(right.double(), right)


def coverage_at_risk(confidence: Array, correct: Array, risk: float = RISK) -> float:
    """Return the largest coverage that a threshold reaches with at most this risk, in [0, 1]; 0 if there is none.

    The risk along the curve may rise above the level and fall below it again: the last threshold below it counts.

    Args:
        confidence, correct: as for :func:`risk_coverage`.
        risk: the level, in [0, 1).

    Raises:
        ValueError: as :func:`risk_coverage`, or a risk outside [0, 1).
    """
    as_number("risk", risk, "a number in [0, 1)", lambda value: 0 <= value < 1)
    curve = risk_coverage(confidence, correct)
    below = curve.coverage[curve.risk <= risk]
    return float(below[-1]) if len(below) else 0.0


def risk_at_coverage(confidence: Array, correct: Array, coverage: float = COVERAGE) -> float:
    """Return the risk among the ceil(coverage N) most confident, in [0, 1].

    Args:
        confidence, correct: as for :func:`risk_coverage`.
        coverage: share of the samples, in (0, 1].

    Raises:
        ValueError: as :func:`risk_coverage`, or a coverage outside (0, 1].
    """
    as_number("coverage", coverage, "a number in (0, 1]", lambda value: 0 < value <= 1)
    found = risks(confidence, correct)
    return float(found[_place(coverage, len(found))])


def fit_power(logits: Array, labels: Array, powers: Sequence[int] = POWERS) -> int:
    """Return the exponent p of :func:`normalised_logit` with the lowest AURC; of equally good ones the first.

    Args:
        logits: (N, K) with K >= 3, of held-out samples.
        labels: (N,) integers in [0, K).
        powers: the exponents to choose from, each 1 or more.

    Raises:
        ValueError: as :func:`normalised_logit`, or for labels that are wrong, or without exponents.
    """
    z, labels = check_logits(logits, labels)
    if not len(powers):
        raise ValueError("powers: expected at least one exponent, got none")
    for p in powers:
        as_number("powers", p, "finite numbers of 1 or more", _is_power)
    correct, centred = z.argmax(dim=1) == labels, _centred(z.double())
    return min(powers, key=lambda p: aurc(_over_norm(*centred, float(p)), correct))


def selective_metrics(logits: Array, labels: Array) -> dict[str, float]:
    """Selective classification of one split by the softmax probability (MSP), ranked by :func:`log_odds`.

    Keys: ``aurc`` and ``e_aurc``, see :func:`aurc` and :func:`excess_aurc`; ``coverage_at_risk``, the largest
    coverage with a risk of at most 5%; ``risk_at_coverage``, the risk among the 80% most confident; ``errors``, the
    number of wrong predictions, without which the other numbers say nothing.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) integers in [0, K).

    Raises:
        ValueError: as `nclens.metrics.calibration.check_logits`.
    """
    z, labels = check_logits(logits, labels)
    correct = z.argmax(dim=1) == labels
    return {**_scores(log_odds(z), correct), "errors": float((~correct).sum())}


def normalised_selective_metrics(logits: Array, labels: Array, held_out: HeldOut) -> dict[str, float]:
    """What logit normalisation does to selective classification on one (test) split.

    Keys: ``logit_norm_power``, p of :func:`fit_power` on the held-out samples; ``aurc``, ``e_aurc``,
    ``coverage_at_risk`` and ``risk_at_coverage`` with ``_normalised`` and ``_unnormalised``, of the *other*
    samples, ranked by :func:`normalised_logit` with that p and by :func:`log_odds`; ``errors_rest``, the number of
    wrong predictions among those. For K = 2 the normalised ones and p are not defined: nan.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) integers in [0, K).
        held_out: (N,) bool, True where p is chosen; see `nclens.metrics.held_out.stratified_mask`. Or logits (V, K) and
            labels (V,) of a validation split, on which it is chosen; then all N samples are the others.

    Raises:
        ValueError: as `nclens.metrics.calibration.check_logits` and `nclens.metrics.held_out.divided`.
    """
    z, labels = check_logits(logits, labels)
    (fitted, fitted_labels), (rest, rest_labels) = divided(z, labels, held_out)
    correct = rest.argmax(dim=1) == rest_labels
    before = _scores(log_odds(rest), correct)
    power, after = math.nan, dict.fromkeys(before, math.nan)
    if z.shape[1] > 2:
        chosen = fit_power(fitted, fitted_labels)
        power, after = float(chosen), _scores(normalised_logit(rest, chosen), correct)
    return {
        "logit_norm_power": power,
        **{f"{name}_normalised": value for name, value in after.items()},
        **{f"{name}_unnormalised": value for name, value in before.items()},
        "errors_rest": float((~correct).sum()),
    }


def _scores(confidence: Tensor, correct: Tensor) -> dict[str, float]:
    """The four scores, by one sort."""
    groups = _Groups.of(confidence, correct)
    found = groups.risks()
    area = float(found.mean())
    below = groups.kept[groups.wrong / groups.kept <= RISK]
    return {
        "aurc": area,
        "e_aurc": area - aurc(correct.double(), correct),
        "coverage_at_risk": float(below[-1] / len(found)) if len(below) else 0.0,
        "risk_at_coverage": float(found[_place(COVERAGE, len(found))]),
    }


def _place(coverage: float, samples: int) -> int:
    """Return the index of the last of the ceil(coverage N) most confident."""
    # Of the number as it is written: .55 of 100 samples are 55, and in float64 a little more.
    return math.ceil(Fraction(repr(float(coverage))) * samples) - 1


def _checked(logits: Array) -> Tensor:
    """Return logits (N, K) in float64, or raise the errors of `check_logits`."""
    found = as_tensor("logits", logits)
    labels = torch.zeros(len(found) if found.ndim else 0, dtype=torch.int64, device=found.device)
    return check_logits(found, labels)[0].double()


def _centred(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest logit (N,) and all logits in size (N, K), both less the mean, over the largest in size."""
    if z.shape[1] < 3:
        raise ValueError("logits: logit normalisation is constant for two classes, so not defined; expected K >= 3")
    there = z != -math.inf
    z, _ = scaled(z.masked_fill(~there, 0))
    # Less the largest first: equal logits then differ by exactly 0.
    lead = z - z.masked_fill(~there, -math.inf).amax(dim=1, keepdim=True)
    lead = lead.masked_fill(~there, 0)
    centred = (lead - lead.sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True)).masked_fill(~there, 0)
    largest = centred.abs().amax(dim=1, keepdim=True)
    unit = centred / torch.where(largest > 0, largest, torch.ones_like(largest))
    return unit.amax(dim=1), unit.abs()


def _over_norm(top: Tensor, sizes: Tensor, p: float) -> Tensor:
    norm = sizes.pow(p).sum(dim=1).pow(1 / p)
    return _rounded(top / torch.where(norm > 0, norm, torch.ones_like(norm)))


def _rounded(values: Tensor) -> Tensor:
    return torch.where(values.abs() < _ROUNDED_BELOW, values.round(decimals=DECIMALS), values)


@dataclass(frozen=True)
class _Groups:
    """Samples by their confidence, the highest first: `level`, `size` and `errors` of each group of equals.

    `kept` and `wrong` are samples and errors from the first group up to each; all (T,), the counts in float64.
    """

    level: Tensor
    size: Tensor
    errors: Tensor
    kept: Tensor
    wrong: Tensor

    @classmethod
    def of(cls, confidence: Array, correct: Array) -> _Groups:
        """Return the groups, after checking the arguments."""
        score, right = as_tensor("confidence", confidence), as_tensor("correct", correct)
        if score.ndim != 1 or not len(score) or score.is_complex() or score.dtype == torch.bool:
            raise ValueError(f"confidence: expected numbers (N,) with N >= 1, got {describe(score)}")
        if right.dtype != torch.bool or right.shape != score.shape:
            raise ValueError(f"correct: expected a bool tensor of shape {tuple(score.shape)}, got {describe(right)}")
        check_device("correct", right, score)
        score = score.double()
        if bool(score.isnan().any()):
            raise ValueError(f"confidence must not be nan, got nan at index {int(score.isnan().nonzero()[0])}")
        level, group, size = torch.unique(-score, return_inverse=True, return_counts=True)
        errors = torch.bincount(group, weights=(~right).double(), minlength=len(level))
        return cls(-level, size.double(), errors, size.cumsum(0).double(), errors.cumsum(0))

    def risks(self) -> Tensor:
        """Return the risk among the j most confident for j = 1..N, its mean over the orders of equals."""
        group = torch.repeat_interleave(self.size.long())
        rank = torch.arange(1, len(group) + 1, dtype=torch.float64, device=self.size.device)
        size, errors = self.size[group], self.errors[group]
        into = rank - (self.kept[group] - size)
        return (self.wrong[group] - errors + into * errors / size) / rank
