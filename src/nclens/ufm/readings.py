"""What each reading of "conditioning number" says of the speed of gradient descent, held against what was found.

The paper's claim C6 (Guo et al., arXiv 2402.03979) goes from a lower conditioning number to faster convergence. It is
tested in relative terms: the iterations at a smoothing over those at the smallest smoothing of the table, which is
cross entropy where 0 is among them. Below 1 is faster. A reading explains the speed where the ratios that it predicts
are those that were found.

Tables are those of ``nclens.ufm.dynamics.records`` for one model, with any further columns. Needs pandas.
"""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
import pandas as pd

#: The condition numbers of ``nclens.ufm.spectra.condition_numbers``, that of claim C6 as we read it first.
READINGS = (
    "kappa_ce",
    "kappa_full",
    "kappa_full_features",
    "kappa_full_range",
    "kappa_joint",
    "kappa_joint_logits",
    "kappa_joint_scaled",
)
#: Relative error up to which a predicted ratio counts as the one that was found, or a ratio as no change.
TOLERANCE = 0.1

Verdict = Literal["explained", "direction only", "not explained"]

_LINE = ["momentum", "step_rule", "distance", "quantity", "tolerance"]


def relative_iterations(descents: pd.DataFrame) -> pd.DataFrame:
    """Iterations over those at the smallest smoothing, start by start.

    Args:
        descents: columns momentum, step_rule, distance, quantity, tolerance, smoothing, start and value. Of the
            quantities, ``iterations`` and all that begin with ``rate`` count; the iterations of a rate are 1 / rate.

    Returns:
        the same columns; ``value`` is the ratio, nan where either number is missing. What a condition number predicts
        for any distance (``distance`` empty) stands there once for each distance: that nc1 has twice the rate of the
        error cancels in the ratio.
    """
    rows = descents[[*_LINE, "smoothing", "start", "value"]].reset_index(drop=True)
    speed = rows["quantity"].astype(str).str.startswith("rate")
    value = rows["value"].astype(float)
    rows = rows.assign(value=value.mask(speed, 1 / value.where(value != 0)), tolerance=rows["tolerance"].astype(float))
    rows = rows[speed | (rows["quantity"] == "iterations")]
    named = rows["distance"].notna() & (rows["distance"] != "")
    names = list(dict.fromkeys(rows.loc[named, "distance"]))
    rows = pd.concat([rows[named], *(rows[~named].assign(distance=name) for name in names)], ignore_index=True)
    # By number: groups with an empty tolerance (rates) would otherwise be dropped.
    line = rows.groupby([*_LINE, "start"], sort=False, dropna=False).ngroup()
    plain = rows["smoothing"] == rows["smoothing"].min()
    base = pd.Series(rows.loc[plain, "value"].to_numpy(), index=line[plain].to_numpy())
    return rows.assign(value=rows["value"] / line.map(base))


def explanations(ratios: pd.DataFrame) -> pd.DataFrame:
    """How far each reading, and the slowest error, is from the local speed of plain gradient descent.

    Args:
        ratios: as from `relative_iterations`; of the momenta the smallest counts, and geometric means over starts.

    Returns:
        columns step_rule, distance, reading, factor and verdict, in the order of the table. ``reading`` is a condition
        number, or ``linear`` for the slowest error that changes this very distance. ``factor`` is the largest of
        predicted over found and found over predicted, >= 1, over the smoothings above the smallest; nan, and not
        explained, where none has both.
    """
    own = ratios[(ratios["momentum"] == ratios["momentum"].min()) & (ratios["smoothing"] > ratios["smoothing"].min())]
    rows = []
    for (rule, distance), place in own.groupby(["step_rule", "distance"], sort=False):
        means = np.exp(np.log(place["value"]).groupby([place["quantity"], place["smoothing"]], sort=False).mean())
        for quantity in dict.fromkeys(place["quantity"]):
            if str(quantity).startswith("rate_"):
                both = pd.concat([means[quantity], means["rate"]], axis=1).dropna()
                predicted, found = both.iloc[:, 0].tolist(), both.iloc[:, 1].tolist()
                reading = str(quantity).removeprefix("rate_")
                rows.append((rule, distance, reading, _factor(predicted, found), verdict(predicted, found)))
    return pd.DataFrame(rows, columns=["step_rule", "distance", "reading", "factor", "verdict"])


def verdict(predicted: Sequence[float], found: Sequence[float]) -> Verdict:
    """Hold predicted ratios of iterations, > 0, against those found: to 10% at each, in their direction, or neither.

    Directions agree where at each place both ratios are above 1, both below, or both within 10% of it.

    >>> verdict([0.5, 2.0], [0.52, 1.9]), verdict([0.5], [0.8]), verdict([0.5], [1.8])
    ('explained', 'direction only', 'not explained')
    """
    pairs = list(zip(predicted, found, strict=True))
    if pairs and _factor(predicted, found) <= 1 + TOLERANCE:
        return "explained"
    return "direction only" if pairs and all(_side(p) == _side(f) for p, f in pairs) else "not explained"


def trend(smoothings: Sequence[float], values: Sequence[float]) -> str:
    """How a quantity moves with the smoothing: ``"rises"``, ``"falls"``, ``"rises, then falls"``, ``"stays"`` ...

    Steps of less than a part in 10^9 count as none; values that are not finite are passed over. Empty where fewer than
    two smoothings have one.

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
    """-1, 0 or 1: lower than 1, within the tolerance, higher."""
    return (ratio > 1 + TOLERANCE) - (ratio < 1 / (1 + TOLERANCE))
