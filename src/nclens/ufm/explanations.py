"""Which condition number explains the speed of gradient descent on the unconstrained feature model.

The paper's claim C6 (Guo et al., arXiv 2402.03979) concludes from a lower conditioning number that convergence is
faster. The test is relative: iterations at a smoothing over those at the smallest smoothing of the table, which is
cross entropy if the table has smoothing 0. Below 1 is faster. A condition number explains the speed if the ratios that
it predicts agree with those measured.

Tables are those of ``nclens.ufm.dynamics.records`` for one model, with any further columns. Needs pandas.
"""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
import pandas as pd

#: Relative error up to which a predicted ratio agrees with the measured one, or a ratio with 1.
TOLERANCE = 0.1

Verdict = Literal["explained", "direction only", "not explained"]

#: Columns that identify a curve over the smoothings, for each start.
_CURVE = ["momentum", "step_rule", "distance", "quantity", "tolerance"]


def relative_iterations(descents: pd.DataFrame) -> pd.DataFrame:
    """Return iterations over those at the smallest smoothing, for each start.

    Args:
        descents: columns momentum, step_rule, distance, quantity, tolerance, smoothing, start and value. Only the
            quantity ``iterations`` and those that begin with ``rate`` are used; a rate means 1 / rate iterations.

    Returns:
        The same columns; ``value`` is the ratio, nan if either number is missing. The prediction of a condition number
        (``distance`` empty) is repeated for each distance: that the rate of nc1 is twice that of the error cancels in
        the ratio.
    """
    rows = descents[[*_CURVE, "smoothing", "start", "value"]].reset_index(drop=True)
    speed = rows["quantity"].astype(str).str.startswith("rate")
    value = rows["value"].astype(float)
    rows = rows.assign(value=value.mask(speed, 1 / value.where(value != 0)), tolerance=rows["tolerance"].astype(float))
    rows = rows[speed | (rows["quantity"] == "iterations")]
    named = rows["distance"].notna() & (rows["distance"] != "")
    names = list(dict.fromkeys(rows.loc[named, "distance"]))
    rows = pd.concat([rows[named], *(rows[~named].assign(distance=name) for name in names)], ignore_index=True)
    # Group numbers keep the rates, whose tolerance is empty.
    curve = rows.groupby([*_CURVE, "start"], sort=False, dropna=False).ngroup()
    plain = rows["smoothing"] == rows["smoothing"].min()
    base = pd.Series(rows.loc[plain, "value"].to_numpy(), index=curve[plain].to_numpy())
    return rows.assign(value=rows["value"] / curve.map(base))


def explanations(ratios: pd.DataFrame) -> pd.DataFrame:
    """Compare the predictions of each condition number, and of the slowest error, with the measured local speed.

    Args:
        ratios: as from `relative_iterations`; only the smallest momentum is used, and geometric means over starts.

    Returns:
        Columns step_rule, distance, predictor, factor and verdict, in the order of the table. ``predictor`` is a
        condition number, or ``linear`` for the slowest error that changes the distance. ``factor`` is the largest of
        predicted / measured and measured / predicted, >= 1, over the smoothings above the smallest; nan, with the
        verdict "not explained", if no smoothing has both.
    """
    own = ratios[(ratios["momentum"] == ratios["momentum"].min()) & (ratios["smoothing"] > ratios["smoothing"].min())]
    rows = []
    for (rule, distance), place in own.groupby(["step_rule", "distance"], sort=False):
        means = np.exp(np.log(place["value"]).groupby([place["quantity"], place["smoothing"]], sort=False).mean())
        for quantity in dict.fromkeys(place["quantity"]):
            if str(quantity).startswith("rate_"):
                both = pd.concat([means[quantity], means["rate"]], axis=1).dropna()
                predicted, found = both.iloc[:, 0].tolist(), both.iloc[:, 1].tolist()
                predictor = str(quantity).removeprefix("rate_")
                rows.append((rule, distance, predictor, _factor(predicted, found), verdict(predicted, found)))
    return pd.DataFrame(rows, columns=["step_rule", "distance", "predictor", "factor", "verdict"])


def verdict(predicted: Sequence[float], found: Sequence[float]) -> Verdict:
    """Compare predicted ratios of iterations, > 0, with those found.

    "explained": they agree within 10% at each smoothing. "direction only": at each smoothing both are above 1, both
    below, or both within 10% of it.

    >>> verdict([0.5, 2.0], [0.52, 1.9]), verdict([0.5], [0.8]), verdict([0.5], [1.8])
    ('explained', 'direction only', 'not explained')
    """
    pairs = list(zip(predicted, found, strict=True))
    if pairs and _factor(predicted, found) <= 1 + TOLERANCE:
        return "explained"
    return "direction only" if pairs and all(_side(p) == _side(f) for p, f in pairs) else "not explained"


def trend(smoothings: Sequence[float], values: Sequence[float]) -> str:
    """Describe how a quantity depends on the smoothing: ``"rises"``, ``"falls"``, ``"rises, then falls"``, ``"stays"``.

    Steps below a relative 1e-9 count as none; values that are not finite are ignored. Empty if fewer than two
    smoothings have a finite value.

    >>> trend([0, 0.1, 0.5], [7.0, 22.0, 20.0]), trend([0.5, 0], [1.0, 1.0]), trend([0, 0.1], [9.8, math.nan])
    ('rises, then falls', 'stays', '')
    """
    known = sorted({float(delta): float(value) for delta, value in zip(smoothings, values, strict=True)}.items())
    finite = [value for _, value in known if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    steps = [after - before for before, after in pairwise(finite)]
    least = 1e-9 * max(abs(value) for value in finite)
    words = ["rises" if step > 0 else "falls" for step in steps if abs(step) > least]
    return ", then ".join(word for word, _ in groupby(words)) or "stays"


def _factor(predicted: Sequence[float], found: Sequence[float]) -> float:
    if not predicted:
        return math.nan
    return max(max(p / f, f / p) for p, f in zip(predicted, found, strict=True))


def _side(ratio: float) -> int:
    """Return -1, 0 or 1 for a ratio below 1, within the tolerance of 1, or above."""
    return (ratio > 1 + TOLERANCE) - (ratio < 1 / (1 + TOLERANCE))
