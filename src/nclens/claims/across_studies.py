"""Verdicts of many studies side by side: what a cell says, which cells compare, and their random-effects summary.

A cell is a claim's verdict on a pair of losses in one study: a row of the atlas, text by column.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nclens.claims.verdict import AGAINST, AVERAGED, IDENTICAL, NOT_MEASURED, NOT_TESTABLE, SHOWN, TOO_FEW
from nclens.metrics.intervals import CONFIDENCE, half_width

Row = Mapping[str, str]
Outcome = Literal["supported", "contradicted", "inconclusive", "not tested"]

OUTCOMES: dict[Outcome, str] = {
    "supported": "the whole interval is on the side that the claim names",
    "contradicted": "the whole interval is on the other side",
    "inconclusive": "it was tested, and neither is shown",
    "not tested": "not measured, not testable, identical networks, or fewer than three pairs of runs",
}
"""What a cell says at a glance -> what that means."""

UNTESTED = (NOT_TESTABLE, NOT_MEASURED, IDENTICAL)
"""Reasons by which an inconclusive verdict is on nothing that was tested."""

SAME = (
    *("claim", "paper", "statement", "loss_settings", "baseline_settings", "optimizer", "altered"),
    *("quantity", "scale", "unit", "null"),
)
"""Columns in which cells agree that are pooled."""
FEWEST_DATA_SETS = 3
"""Data sets that a summary is of, at least."""
METHOD = "random effects, Paule and Mandel's variance between data sets, Hartung and Knapp's 95% interval"


def value(row: Row, column: str) -> float:
    """Return a number of a row; nan where it is missing."""
    return float(row[column]) if row[column] else math.nan


def outcome(row: Row) -> Outcome:
    """Return what a cell says at a glance: its verdict, or that it could not be tested.

    >>> outcome({"verdict": "inconclusive", "reason": "too few seeds", "low": ""})
    'not tested'
    >>> outcome({"verdict": "inconclusive", "reason": "too few seeds", "low": "0.2"})
    'inconclusive'
    """
    if row["verdict"] == "supported" or row["verdict"] == "contradicted":
        return row["verdict"]  # type: ignore[return-value]
    no_interval = row["reason"] == TOO_FEW and math.isnan(value(row, "low"))
    return "not tested" if row["reason"] in UNTESTED or no_interval else "inconclusive"


def standard_error(row: Row, p: float) -> float:
    """Return the standard error of an effect on the scale on which it is averaged, from its t interval.

    It is (high - low) / (2 t(0.975, n-1)) with n pairs of runs; of a ratio on the log scale, of a correlation on that
    of Fisher's z.

    Args:
        row: with `low`, `high`, `seeds` and `scale`.
        p: of the measure; nan says that its interval is not Student's, since it was widened or is open.

    Returns:
        the standard error; nan where the interval is not Student's or is a point.
    """
    seeds = value(row, "seeds")
    scale = row["scale"]
    if math.isnan(p) or not seeds >= 2 or scale not in AVERAGED:
        return math.nan
    try:
        low, high = (AVERAGED[scale](value(row, end)) for end in ("low", "high"))
    except ValueError:  # a correlation that rounding has made 1
        return math.nan
    half = (high - low) / 2
    return float(half / (half_width(1.0, seeds) * math.sqrt(seeds))) if 0 < half < math.inf else math.nan


def comparison(row: Row) -> tuple[str, ...] | None:
    """Return what cells agree in that are pooled; None for a cell that is pooled with none.

    These are the claim, both losses with kind, strength and all other arguments, the optimiser, what is done to the
    data's labels and classes, and the main measure with its scale, unit and null value. A loss whose settings are not
    known, a cell without a standard error, and a loss that is compared with one of another model are not pooled.
    """
    known = row["loss_settings"] and (row["baseline_settings"] or not row["baseline"])
    if not known or AGAINST in row["model"] or math.isnan(value(row, "standard_error")):
        return None
    return tuple(row[column] for column in SAME)


@dataclass(frozen=True)
class RandomEffects:
    """A random-effects summary of effects of several data sets.

    Attributes:
        effect: the mean effect.
        low, high: ends of its 95% interval.
        between: variance of the effects between data sets, tau squared.
        inconsistency: I squared, the share of the effects' variance that is between data sets, in [0, 1).
        q: Cochran's Q.
        p: of the chi squared test that all data sets have one effect.
    """

    effect: float
    low: float
    high: float
    between: float
    inconsistency: float
    q: float
    p: float


def random_effects(effects: Sequence[float], errors: Sequence[float]) -> RandomEffects:
    """Return the random-effects summary of effects y_i with standard errors s_i.

    With w_i(t) = 1 / (s_i² + t) and m(t) = Σ w_i y_i / Σ w_i, the variance between data sets is the t >= 0 at which
    Q(t) = Σ w_i (y_i - m)² is k - 1, or 0 where Q(0) is smaller (Paule and Mandel, Consensus Values and Weighting
    Factors, 1982). The interval is m ± t(0.975, k-1) √(max(1, Q(t) / (k - 1)) / Σ w_i) (Hartung and Knapp, A Refined
    Method for the Meta-Analysis of Controlled Clinical Trials with Binary Outcome, 2001; with the factor at least 1, as
    Röver, Knapp and Friede, Hartung-Knapp-Sidik-Jonkman Approach and Its Modification, 2015, advise for few studies).
    I² = max(0, 1 - (k - 1) / Q(0)) (Higgins and Thompson, Quantifying Heterogeneity in a Meta-Analysis, 2002).
    All by statsmodels' `combine_effects`, which finds the variance up to 1e-5 in Q(t).

    Args:
        effects: k numbers, at least two.
        errors: their standard errors, positive and finite.

    Raises:
        ValueError: fewer than two effects, or one that is not finite or has no positive standard error.

    >>> found = random_effects([0.1, 0.3, 0.8], [0.1, 0.1, 0.1])
    >>> round(found.effect, 6), round(found.between, 6), round(found.q, 6), round(found.inconsistency, 6)
    (0.4, 0.12, 26.0, 0.923077)
    """
    from statsmodels.stats.meta_analysis import combine_effects

    y, squares = np.asarray(effects, dtype=float), np.asarray(errors, dtype=float) ** 2
    if len(y) < 2 or not np.isfinite([*y, *squares]).all() or not (squares > 0).all():
        raise ValueError(f"effects {list(effects)} with standard errors {list(errors)}: at least two, all positive")
    # Its fifty steps do not reach the variance from errors smaller than this, which change nothing.
    squares = np.maximum(squares, (1e-7 * float(np.ptp(y))) ** 2)
    with np.errstate(divide="ignore"):  # equal effects: Q is 0
        found = combine_effects(y, squares, method_re="iterated", use_t=True)
    ends = found.conf_int(alpha=1 - CONFIDENCE, use_t=True)
    # With the factor, the last, and without: the wider one.
    low, high = max((ends[1], ends[3]), key=lambda pair: pair[1] - pair[0])
    q, free = max(0.0, float(found.q)), len(y) - 1
    inconsistency = max(0.0, 1 - free / q) if q > 0 else 0.0
    p = float(found.test_homogeneity().pvalue)
    return RandomEffects(float(found.mean_effect_re), float(low), float(high), float(found.tau2), inconsistency, q, p)


@dataclass(frozen=True)
class Summary:
    """The cells of one comparison on several data sets, and their random-effects summary.

    Attributes:
        cells: one a data set, in the order of their names.
        left_out: further cells on the same data sets, which are not independent of these.
        effect, low, high: of the summary, on the scale on which effects are shown.
        found: the summary, on the scale on which they are averaged.
    """

    cells: tuple[Row, ...]
    left_out: tuple[Row, ...]
    effect: float
    low: float
    high: float
    found: RandomEffects


def summaries(rows: Iterable[Row]) -> list[Summary]:
    """Return a random-effects summary of each comparison that was run on three or more data sets.

    Of several cells on a data set the one with most seeds is taken, of equals the first by study, experiment, model,
    loss and baseline: a choice that no effect has a part in.
    """
    groups: dict[tuple[str, ...], dict[str, list[Row]]] = {}
    for row in rows:
        if (key := comparison(row)) is not None:
            groups.setdefault(key, {}).setdefault(row["data"], []).append(row)
    found = []
    for by_data in groups.values():
        if len(by_data) < FEWEST_DATA_SETS:
            continue
        ordered = [sorted(by_data[data], key=_turn) for data in sorted(by_data)]
        cells, rest = [own[0] for own in ordered], [row for own in ordered for row in own[1:]]
        averaged, shown = (scales[cells[0]["scale"]] for scales in (AVERAGED, SHOWN))  # type: ignore[index]
        result = random_effects(
            [averaged(value(row, "effect")) for row in cells], [value(row, "standard_error") for row in cells]
        )
        effect, low, high = (shown(number) for number in (result.effect, result.low, result.high))
        found.append(Summary(tuple(cells), tuple(rest), effect, low, high, result))
    return found


def _turn(row: Row) -> tuple[float | str, ...]:
    return -value(row, "seeds"), *(row[name] for name in ("study", "experiment", "model", "loss", "baseline"))
