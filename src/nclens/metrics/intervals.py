"""The t interval of a mean: the one interval of claims, tables, figures and the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Level of every interval over seeds."""


def half_width(deviation: Any, count: Any) -> Any:
    """Half the width of Student's t interval of a mean, t(0.975, n-1) s / √n, by scipy's quantile `stdtrit`.

    Args:
        deviation: standard deviation s of the values, with n - 1 in its denominator; a number or an array (G,).
        count: their number n, of the same shape.

    Returns:
        the half widths, of the same shape and in the unit of s; nan for n < 2.

    >>> [round(float(half), 4) for half in half_width([1.0, 1.0], [3, 1])]
    [2.4841, nan]
    """
    count = np.asarray(count, dtype=float)
    # `scipy.stats`, which gives the same, takes half a second to load.
    quantile = stdtrit(np.where(count > 1, count - 1, np.nan), (1 + CONFIDENCE) / 2)
    return quantile * np.asarray(deviation, dtype=float) / np.sqrt(np.clip(count, 1, None))


def t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (m, low, high): the mean and its 95% t interval, m ± t(0.975, n-1) s / √n.

    s is the standard deviation with n - 1 in its denominator; where all values are the same the interval is a point.

    Raises:
        ValueError: fewer than two values, or one that is not finite.

    >>> [round(end, 4) for end in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.4841, 4.4841]
    """
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"an interval of {list(values)}: at least two finite values are needed")
    if min(values) == max(values):
        return (float(values[0]),) * 3
    mean = float(np.mean(values))
    half = float(half_width(np.std(values, ddof=1), len(values)))
    return mean, mean - half, mean + half
