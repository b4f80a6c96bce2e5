"""How many seeds decide a claim, from the spread of the seeds that ran and the margin, never from the effect.

A measure with n pairs is *decided* when its verdict is supported or contradicted, or inconclusive by *no effect beyond
the margin*. With the mean m of n effects of standard deviation s, the half widths

    h(n, c) = t((1 + c) / 2, n - 1) s / √n

of its intervals at the level c, and the margin M, all on the scale on which effects are averaged (differences, log
ratios), the first two hold where |m| > h(n, 0.95), on either side, for verdicts are two-sided whatever a claim says;
the third, by two one-sided t tests, where |m| + h(n, 0.90) < M. One of them holds for every m where

    h(n, 0.95) + h(n, 0.90) <= M,

and the least such n of three or more is what is needed. A half width of M alone would not do: an interval about M / 2
would contain both no effect and effects that count. What the measurement resolves is the least half width of the first
interval, at any n.

A measure that is compared with another value than no effect, such as `loss at most one point worse`, has its distance
from no effect in place of a margin: a true effect at that value is decided by no number of seeds, and one of no effect
where h(n, 0.95) <= M. A claim on one loss has no such distance, and no number.

Where Holm's method corrects a measure over k tests, its 95% interval is one of 1 - 0.05 / k, the strictest that the
method may use. A claim needs the most of its measures, so that no later seed can turn one of them against it.

s is itself an estimate: `largest_spread`, its upper 80% confidence limit, has a number too. Sources: half widths in
place of power, since power needs an effect, as in Kelley and Rausch, Sample Size Planning for the Standardized Mean
Difference: Accuracy in Parameter Estimation via Narrow Confidence Intervals, 2006; the two tests, Schuirmann, 1987.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from nclens.claims.verdict import AVERAGED, FEWEST_PAIRS, NO_EFFECT, SHOWN, Claim, Scale
from nclens.metrics.intervals import CONFIDENCE, EQUIVALENCE, half_width, largest_spread

READ = ("claim", "experiment", "baseline", "loss", "level", "quantity", "null", "seeds", "scale", "margin", "spread")
"""The columns that are read of the table of claims, with `resolution`: none has an effect, an interval or a verdict."""
COLUMNS = (*READ, "resolution")
CERTAINTY = 0.8
"""Confidence with which the true spread is below its upper limit."""
COUNTS = (5, 8, 10, 15, 20)
"""Numbers of seeds that a study may plan with."""
MOST = 10_000
"""More seeds are not told apart from any number."""

ONE_SEED = "one seed: it has no spread"
NO_SPREAD = "no spread: all seeds have the same effect, as of networks that are identical by construction"
NO_VALUE = "a value is missing, not finite, or only known to lie on one side"
NO_MARGIN = "no margin is fixed for it, or the rule compares it with a number of its own"
RESOLVED = (
    "what the measurement resolves, such as a step between snapshots, is too wide for the margin, whatever the seeds"
)


@dataclass(frozen=True)
class Needed:
    """The seeds that decide a claim on a pair of losses, or one of its measures.

    Attributes:
        claim, experiment, loss, baseline: as in the table of claims.
        level: claim or measure.
        quantity: the measure; of a claim the one that needs the most seeds.
        scale: on which spread, largest and margin are: a difference as it is, a ratio as a factor, its log's exp.
        seeds: pairs of runs that ran.
        spread: standard deviation over them; nan where there is none.
        largest: its upper limit.
        margin: size below which an effect does not count; nan where there is none.
        needed: the number of seeds, those that ran among them; nan where there is none, inf where it is above `MOST` or
            no number decides.
        needed_at_most: the same at the upper limit of the spread.
        remark: why there is no number; of a claim also how many of its measures have none.
    """

    claim: str
    experiment: str
    loss: str
    baseline: str
    level: str
    quantity: str
    scale: Scale
    seeds: int
    spread: float = math.nan
    largest: float = math.nan
    margin: float = math.nan
    needed: float = math.nan
    needed_at_most: float = math.nan
    remark: str = ""


def seeds_needed(
    spread: float,
    margin: float,
    *,
    confidence: float = CONFIDENCE,
    equivalence: float | None = EQUIVALENCE,
    resolution: float = 0.0,
) -> float:
    """Return the least number of seeds, of three or more, that decides a measure whatever its effect.

    Args:
        spread: standard deviation of the effects over seeds, on the scale on which they are averaged.
        margin: on the same scale, so of a ratio its log.
        confidence: level of the interval that the verdict is reached by.
        equivalence: level of the interval that lies within the margin where there is no effect; None where the verdict
            compares with another value than no effect, and the margin is the distance of the two.
        resolution: the least half width of the interval.

    Returns:
        the number; inf where it is above `MOST`, as where twice the resolution exceeds the margin.

    Raises:
        ValueError: the margin is not positive, or the spread or the resolution is negative or not finite.

    >>> seeds_needed(1.0, 1.0), seeds_needed(1.0, 1.0, equivalence=None), seeds_needed(0.1, 1.0)
    (16, 7, 3)
    """
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin = {margin:g}: allowed: above 0; of a ratio the factor is above 1")
    for name, value in (("spread", spread), ("resolution", resolution)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} = {value:g}: allowed: a finite number, 0 or more")
    halves = np.maximum(spread * _unit_widths(confidence), resolution)
    if equivalence is not None:
        halves = halves + np.maximum(spread * _unit_widths(equivalence), resolution)
    enough = np.flatnonzero(halves <= margin)
    return FEWEST_PAIRS + int(enough[0]) if len(enough) else math.inf


@cache
def _unit_widths(confidence: float) -> np.ndarray:
    """Half widths of the interval at spread 1, for each number of seeds from `FEWEST_PAIRS` to `MOST`."""
    counts = np.arange(FEWEST_PAIRS, MOST + 1)
    return np.asarray(half_width(np.ones(len(counts)), counts, confidence))


def needed(table: pd.DataFrame, known: Mapping[str, Claim], given: Mapping[str, float] | None = None) -> list[Needed]:
    """Return the seeds that each claim on each pair of losses needs, followed by those of its measures.

    Claims of the theory, which has no seeds, are left out.

    Args:
        table: the table of claims; its columns `COLUMNS` are read and no other.
        known: every claim by its id, those that the study states among them.
        given: quantity of a measure -> its margin, a difference or a factor, in place of the claim's.

    Raises:
        ValueError: a given margin is of no measure, or has the wrong sign.
    """
    rows = table[list(COLUMNS)]
    rows = rows[rows["seeds"].notna() & (rows["level"] == "measure")]
    margins = dict(given or {})
    quantities = list(dict.fromkeys(rows["quantity"]))
    if unknown := [name for name in margins if name not in quantities]:
        raise ValueError(f"no measure is called {unknown[0]}; allowed: {', '.join(quantities) or 'none'}")
    for name, size in margins.items():
        least = 1.0 if (rows.loc[rows["quantity"] == name, "scale"] == "ratio").any() else 0.0
        if not (math.isfinite(size) and size > least):
            what = "of a ratio, a factor above 1" if least else "of a difference, a number above 0"
            raise ValueError(f"the margin {size:g} of {name} has the wrong sign or size; allowed: {what}")
    found: list[Needed] = []
    for _, part in rows.groupby(["claim", "experiment", "loss", "baseline"], sort=False):
        measures = [_of_measure(row, known[row["claim"]], len(part), margins) for row in part.to_dict("records")]
        found += [_of_claim(measures), *measures]
    return found


def _of_measure(row: Mapping[Any, Any], claim: Claim, count: int, given: Mapping[str, float]) -> Needed:
    scale: Scale = row["scale"]
    names: dict[str, Any] = {
        key: str(row[key]) for key in ("claim", "experiment", "loss", "baseline", "level", "quantity")
    }
    found = Needed(**names, scale=scale, seeds=int(row["seeds"]))
    spread, averaged, shown = float(row["spread"]), AVERAGED[scale], SHOWN[scale]
    if math.isnan(spread):
        return replace(found, remark=ONE_SEED if found.seeds == 1 else NO_VALUE)
    upper = largest_spread(spread, found.seeds, CERTAINTY)
    found = replace(found, spread=shown(spread), largest=shown(upper))
    margin, about_none = _margin(row, claim, given)
    if math.isnan(margin):
        return replace(found, remark=NO_MARGIN)
    found = replace(found, margin=margin)
    if spread == 0:
        return replace(found, remark=NO_SPREAD)
    tests = count if claim.tests is None else claim.tests
    options: dict[str, Any] = {
        "confidence": 1 - (1 - CONFIDENCE) / tests,
        "equivalence": EQUIVALENCE if about_none else None,
        "resolution": float(row["resolution"]),
    }
    numbers = [seeds_needed(one, averaged(margin), **options) for one in (spread, upper)]
    remark = ""
    if math.isinf(numbers[0]):
        resolved = seeds_needed(0.0, averaged(margin), **options)
        remark = RESOLVED if math.isinf(resolved) else f"more than {MOST} seeds"
    return replace(found, needed=numbers[0], needed_at_most=numbers[1], remark=remark)


def _margin(row: Mapping[Any, Any], claim: Claim, given: Mapping[str, float]) -> tuple[float, bool]:
    """Return a measure's margin as it is shown, nan where it has none, and whether it is about no effect."""
    scale: Scale = row["scale"]
    null, none = float(row["null"]), NO_EFFECT[scale]
    about_none = null == none
    if row["quantity"] in given:
        return given[row["quantity"]], about_none
    if about_none or not claim.paired or scale == "correlation":
        return float(row["margin"]), True
    return SHOWN[scale](abs(AVERAGED[scale](null) - AVERAGED[scale](none))), False


def _of_claim(measures: list[Needed]) -> Needed:
    """Return what a claim needs by its measures, the main one first: the most, where the main one has a number."""
    main = measures[0]
    head = replace(main, level="claim")
    if math.isnan(main.needed):
        return head
    counted = [one for one in measures if not math.isnan(one.needed)]
    most = max(counted, key=lambda one: one.needed)
    left = len(measures) - len(counted)
    without = f"{left} of {len(measures)} measures {'has' if left == 1 else 'have'} no number" if left else ""
    return replace(
        most,
        level="claim",
        needed_at_most=max(one.needed_at_most for one in counted),
        remark="; ".join(filter(None, (most.remark, without))),
    )


def decided(claims: Iterable[Needed], counts: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (N, claims that N seeds decide, the same at the upper limit of the spread) for each N."""
    known = list(claims)
    for count in counts:
        yield count, sum(one.needed <= count for one in known), sum(one.needed_at_most <= count for one in known)
