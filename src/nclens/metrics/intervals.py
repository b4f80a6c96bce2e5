"""The t interval of a mean, the one interval of claims, tables, figures and the report; its test, Holm's correction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import chdtri, stdtr, stdtrit

CONFIDENCE = 0.95
"""Level of every interval over seeds."""
EQUIVALENCE = 2 * CONFIDENCE - 1
"""Level of the interval that two one-sided tests at 5% each (TOST) compare with their margins: 90%.

Both tests reject where it lies between the margins. Source: Schuirmann, A Comparison of the Two One-Sided Tests
Procedure and the Power Approach for Assessing the Equivalence of Average Bioavailability, 1987.
"""
ROUNDING = 4 * np.finfo(float).eps
"""Relative differences up to this one are of rounding, not of seeds."""


def half_width(deviation: Any, count: Any, confidence: float = CONFIDENCE) -> Any:
    """Half the width of Student's t interval of a mean, t(0.975, n-1) s / √n, by scipy's quantile `stdtrit`.

    Args:
        deviation: standard deviation s of the values, with n - 1 in its denominator; a number or an array (G,).
        count: their number n, of the same shape.
        confidence: level of the interval, in (0, 1); 0.95 has the quantile t(0.975, n-1).

    Returns:
        the half widths, of the same shape and in the unit of s; nan for n < 2.

    >>> [round(float(half), 4) for half in half_width([1.0, 1.0], [3, 1])]
    [2.4841, nan]
    """
    count = np.asarray(count, dtype=float)
    # `scipy.stats`, which gives the same, takes half a second to load.
    quantile = stdtrit(np.where(count > 1, count - 1, np.nan), (1 + confidence) / 2)
    return quantile * np.asarray(deviation, dtype=float) / np.sqrt(np.clip(count, 1, None))


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation s of values, n - 1 in its denominator; 0 where all are the same, up to rounding.

    Args:
        values: at least two.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> spread([1.0, 2.0, 3.0]), spread([0.1, 0.1])
    (1.0, 0.0)
    """
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"a spread of {list(values)}: at least two finite values are needed")
    same = max(values) - min(values) <= ROUNDING * max(map(abs, values))
    return 0.0 if same else float(np.std(values, ddof=1))


def largest_spread(deviation: float, count: int, confidence: float) -> float:
    """Return the upper confidence limit of a standard deviation, s √((n-1) / χ²(1-c, n-1)), one-sided.

    Of n Gaussian values, (n-1) s² / σ² has a chi-squared distribution with n - 1 degrees of freedom, so that σ is below
    the limit with probability c.

    Args:
        deviation: s of the values, with n - 1 in its denominator.
        count: n, at least 2.
        confidence: c, in (0, 1).

    >>> round(largest_spread(1.0, 3, 0.8), 3), round(largest_spread(1.0, 30, 0.8), 3)
    (2.117, 1.136)
    """
    # `chdtri` inverts the probability of the upper tail.
    return float(deviation * np.sqrt((count - 1) / chdtri(count - 1, confidence)))


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return (m, low, high): the mean and its t interval, by default of 95%: m ± t(0.975, n-1) s / √n.

    s is the standard deviation with n - 1 in its denominator. Where all values are the same, up to rounding, the
    interval is a point.

    Args:
        values: at least two.
        confidence: level of the interval, in (0, 1).

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> [round(end, 4) for end in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.4841, 4.4841]
    """
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"an interval of {list(values)}: at least two finite values are needed")
    if max(values) - min(values) <= ROUNDING * max(map(abs, values)):
        return (float(values[0]),) * 3
    mean = float(np.mean(values))
    half = float(half_width(np.std(values, ddof=1), len(values), confidence))
    return mean, mean - half, mean + half


def t_test(values: Sequence[float], null: float = 0.0) -> float:
    """Return the two-sided p value of Student's t test that a mean is `null`: 2 F(-|m - null| √n / s), F with n - 1.

    Of paired differences it is the paired t test. It is below 0.05 where `null` lies outside `t_interval`. Where all
    values are the same, up to rounding, it is 1 if they are `null` and 0 otherwise.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> round(t_test([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    mean, low, high = t_interval(values)
    if low == high:
        return float(abs(mean - null) <= ROUNDING * max(abs(mean), abs(null)))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(2 * stdtr(len(values) - 1, -abs(mean - null) / error))


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down method, each in its place.

    With the p values ascending, the i-th of m becomes the largest of min(1, (m - j + 1) p_j) over j = 1..i. Rejecting
    where the corrected value is at most alpha keeps the probability of any false rejection at most alpha, whatever the
    dependence. Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    Raises:
        ValueError: a value outside [0, 1].

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p values must lie in [0, 1], got {list(p)}")
    order = np.argsort(values, kind="stable")
    scaled = np.arange(len(values), 0, -1) * values[order]
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def means(values: Any, there: Any = None) -> tuple[Any, Any]:
    """Return mean and half the width of its 95% t interval of many groups, as `t_interval` has them of one.

    Args:
        values: (G, n), a group a row.
        there: (G, n), which of them are values; by default all.

    Returns:
        means (G,) and half widths (G,) in the unit of the values: 0 where all values of a group are the same, up to
        rounding, nan for less than two values and where one is not finite.

    >>> [part.round(4).tolist() for part in means([[1.0, 2.0, 3.0], [0.05, 0.05, 0.05]])]
    [[2.0, 0.05], [2.4841, 0.0]]
    """
    values = np.asarray(values, dtype=float)
    there = np.ones(values.shape, dtype=bool) if there is None else np.asarray(there)
    count = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0.0).sum(axis=1) / count
        squares = np.where(there, values - mean[:, None], 0.0) ** 2
        half = half_width(np.sqrt(squares.sum(axis=1) / np.maximum(count - 1, 1)), count)
        # The mean of equal values is rounded too.
        least, most = np.where(there, values, np.inf).min(axis=1), np.where(there, values, -np.inf).max(axis=1)
        same = np.isfinite(most - least) & (most - least <= ROUNDING * np.maximum(abs(least), abs(most)))
    first = np.take_along_axis(values, there.argmax(axis=1)[:, None], axis=1)[:, 0]
    mean, half = np.where(same, first, mean), np.where(same & (count > 1), 0.0, half)
    return mean, np.where(np.isfinite(mean), half, np.nan)
