"""From effects over seeds to a verdict: the interval, the rule, and what a claim is.

A measure is supported when its whole 95% interval over paired seeds lies on the side of no effect that the claim names,
contradicted when the whole interval lies on the other side, and inconclusive otherwise, as it is under three pairs. A
claim is supported when its main measure is supported and no other is contradicted, contradicted when its main measure
is, and inconclusive otherwise, with its reason. `RULES` says the same with every special case, so that a page of
results can quote it.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from nclens.claims.margins import Margin
from nclens.claims.measurements import Measurements
from nclens.metrics.intervals import EQUIVALENCE, spread, t_interval, t_test

Verdict = Literal["supported", "contradicted", "inconclusive"]
Side = Literal["below", "above"]
Scale = Literal["ratio", "difference", "correlation"]
Reason = Literal[
    "",
    "too few seeds",
    "no effect beyond the margin",
    "measures disagree",
    "identical networks",
    "below the resolution",
    "level not reached",
    "not measured",
    "not testable",
]

TOUCHING = 1e-12  # relative: closer to the null than this is rounding
FEWEST_PAIRS = 3
NO_EFFECT: dict[Scale, float] = {"ratio": 1.0, "difference": 0.0, "correlation": 0.0}
LEAST: dict[Scale, float] = {"ratio": 0.0, "difference": -math.inf, "correlation": -1.0}
MOST: dict[Scale, float] = {"ratio": math.inf, "difference": math.inf, "correlation": 1.0}
LARGEST_CORRELATION = 1 - 1e-12  # in size; closer to 1 is rounding, and has no finite z
NEGLIGIBLE = 0.01
"""A share below this part of the value that it is compared with counts as that: near 0, factors mean nothing."""

TOO_FEW: Final = "too few seeds"
EQUIVALENT: Final = "no effect beyond the margin"
DISAGREE: Final = "measures disagree"
IDENTICAL: Final = "identical networks"
RESOLUTION: Final = "below the resolution"
NOT_REACHED: Final = "level not reached"
NOT_MEASURED: Final = "not measured"
NOT_TESTABLE: Final = "not testable"

REASONS: dict[Reason, str] = {
    TOO_FEW: "the interval contains both no effect and effects that count, or there are fewer than three pairs of runs",
    EQUIVALENT: "two one-sided t tests at 5% show that the effect is smaller than the measure's margin",
    DISAGREE: "the main measure supports the claim and another contradicts it",
    IDENTICAL: "in every seed both runs have the same values at every snapshot so far, as two-stage and constant "
    "smoothing have before the drop",
    RESOLUTION: "what the measurement resolves, such as a step between snapshots, is wider than the seeds' interval",
    NOT_REACHED: "some runs never reach the level",
    NOT_MEASURED: "a value is missing or not finite",
    NOT_TESTABLE: "a premise of the claim's rule does not hold",
}
"""Why a verdict is inconclusive -> what that means."""

AGAINST = " against "
"""Between the two models of a comparison, the loss's and the baseline's, in the column `model`; no name has it."""
TWO_MODELS = "two models: runs of one seed have the same order of the data, not the same initial weights"

METRICS = ("loss", "seed", "split", "epoch", "metric", "value")
THEORY = ("loss", "quantity", "closed_form", "numeric", "relative_error")
MODEL = ("classes", "per_class", "lambda_w", "lambda_h", "lambda_b", "smoothing")
DYNAMICS = (*MODEL, "momentum", "step_rule", "start", "distance", "quantity", "tolerance", "value")
PREDICTIONS = ("loss", "smoothing", "penalties", "seed", "quantity", "measured", "predicted")
NC0 = ("loss", "seed", "epoch", "reference", "measured", "predicted", "rounding", "premise")
"""Columns that the claims read of each table, in addition to the name of the experiment."""

RULES: dict[str, str] = {
    "Effect": "A loss is compared with the baseline seed by seed: by the difference of the two numbers or, where they "
    "are positive, by their ratio, which is averaged over seeds on the log scale. So are shares of a highest value and "
    "distances relative to a closed form; below a hundredth of the value that they are compared with they count as "
    "that hundredth, since factors mean nothing near 0. Relative errors with a sign are averaged as they are.",
    "Interval": "The 95% interval is Student's t interval of the mean of the paired differences or log ratios; that of "
    "a ratio is taken on the log scale and stays above 0. An interval narrower than what the measurement resolves (one "
    "step between snapshots, or between checkpoints of a descent) is widened to it, of a ratio on the log scale.",
    "Measure": "A measure is supported when its whole interval lies on the side of no effect that the claim names, "
    "contradicted when the whole interval lies on the other side, and inconclusive otherwise. Under three pairs of "
    "runs there is no interval and the measure is inconclusive.",
    "Claim": "A claim is supported when its main measure, the first, is supported and no other is contradicted; "
    "contradicted when its main measure is contradicted; and inconclusive otherwise. The measures that differ from the "
    "main one are named. The number of measures is not corrected for. Claims with another rule state it below.",
    "Inconclusive": "For one of these reasons. "
    + " ".join(f"{reason[0].upper()}{reason[1:]}: {what}." for reason, what in REASONS.items())
    + " Of a claim it is the reason of its main measure, unless that is decided.",
    "Margin": "The size below which an effect does not count, fixed for each measure and listed in docs/claims.md. It "
    "says why a measure is inconclusive and decides no verdict. The two one-sided tests compare the 90% interval with "
    "it; intervals shown are of 95%. A measure whose rule compares it with another value than no effect has none.",
    "Smallest effect": "Half the width of the 95% interval, of a ratio as a factor: what an effect, as far from the "
    "null value as this, needs at least to be seen at the spread of these seeds.",
    "Correction": "Verdicts use the interval of each measure as it is, unless the claim's rule says otherwise. Beside "
    "them are the p value of the claim, that of its main measure's two-sided t test against the null value unless the "
    "rule says otherwise, and the same by Holm's method over all claims and comparisons of the study that rest on "
    "seeds; one without a p value counts as 1 there. An interval that is widened or open has no p value.",
    "Pairs": "Where a claim compares two kinds of losses, each loss is compared with those of the other kind that "
    "start from the same strength or, where there are none, with all of the other kind, and of these with those under "
    "the same schedule where there are any. Losses under different optimisers are compared by the claims on optimisers "
    "alone; where the baseline has another optimiser than a loss, the loss of the baseline's kind and the same "
    "optimiser takes its place.",
    "Missing or undefined values": "A seed with a missing run is left out and named. A value that exists but gives no "
    "finite effect (not a number, infinite, or not positive where a ratio is taken) is not left out, since that would "
    "choose seeds by their outcome: the measure is then inconclusive.",
    "Never reached": "A run that never reaches a level is counted at the last epoch, where its effect is only known to "
    "be larger: the interval is open above, so that it cannot support a claim of fewer epochs. When no run of the loss "
    "reaches it, the measure is contradicted.",
    "Theory": "Numbers of the theory have no seeds and no interval; they are compared directly. Only the speed of "
    "descents has an interval, over random starts.",
}
"""How a verdict is reached: name of a part of the rule -> the part."""


@dataclass(frozen=True)
class Measure:
    """One quantity's effect and the verdict on it.

    Attributes:
        quantity: what is compared.
        effect: the mean effect over seeds; nan where it is not defined.
        low, high: ends of the 95% interval; nan without an interval, high = inf for one that is open above.
        unit: unit of the three.
        null: the value of no effect, 1 for ratios and 0 for differences; nan where there is none.
        seeds: number of pairs of runs; None for theory.
        verdict: supported, contradicted or inconclusive.
        note: what a reader has to know in addition to the numbers.
        scale: of the effect; empty for theory.
        reason: why it is inconclusive; empty where it is not.
        margin: size below which an effect does not count, a difference or a factor; nan where there is none.
        smallest: half the width of the 95% interval, a difference or a factor; nan where that is none or is open.
        p: p value of the two-sided t test against `null`; nan where the interval is not Student's.
        narrow: ends of the 90% interval, of two one-sided tests; nan where there is none.
        spread: standard deviation of the effects over seeds, on the scale on which they are averaged: of differences,
            log ratios or Fisher's z; nan under two pairs, and where an effect is not finite or only known on one side.
        resolution: on the same scale, the least half width of the interval, whatever the seeds; nan where `spread` is.
    """

    quantity: str
    effect: float
    low: float
    high: float
    unit: str
    null: float
    seeds: int | None
    verdict: Verdict
    note: str = ""
    scale: Scale | Literal[""] = ""
    reason: Reason = ""
    margin: float = math.nan
    smallest: float = math.nan
    p: float = math.nan
    narrow: tuple[float, float] = (math.nan, math.nan)
    spread: float = math.nan
    resolution: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """A loss and its baseline in one experiment, with the tables that the claims on them are judged by.

    Attributes:
        experiment, dataset, model: names, as the tables have them.
        baseline, loss: names of the two loss entries; an empty baseline for claims on a loss alone.
        seeds: the seeds that both were trained with.
        epochs: length of training; the last snapshot is taken then.
        metrics: what was measured in this experiment.
        theory: rows of this experiment with the columns loss, quantity, closed_form, numeric, relative_error (more are
            allowed; with dynamics, those of `MODEL` are required).
        dynamics: descents on the unconstrained feature model, of any experiment, with the columns `DYNAMICS`; None
            where they were not run.
        predictions: rows of this experiment with the columns `PREDICTIONS`; None where nothing was predicted.
        task: what the networks learn, classification or regression.
        weight_decays: loss entry -> the weight decay that it was trained with, in the order of the losses.
        regularised: whether the penalties of the unconstrained feature model were trained with.
        teachers: distilled loss entry -> `experiment` and `loss` of its teacher, `temperature` and `weight`.
        labels: loss entry -> what it is called in figures and tables.
        nc0: rows of this experiment with the columns `NC0`, on the law of NC0; None where nothing was predicted.
        models: loss entry -> its model, where the experiment has several.

    Raises:
        ValueError: a column is missing, a seed is repeated, the loss is its own baseline, or the metrics go past the
            last epoch.
    """

    experiment: str
    dataset: str
    model: str
    baseline: str
    loss: str
    seeds: tuple[int, ...]
    epochs: int
    metrics: Measurements
    theory: pd.DataFrame
    dynamics: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    task: str = "classification"
    weight_decays: Mapping[str, float] = field(default_factory=dict)
    regularised: bool = False
    teachers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    nc0: pd.DataFrame | None = None
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, str]:
        """The loss and its baseline."""
        return self.loss, self.baseline

    @property
    def networks(self) -> tuple[str, ...]:
        """The model of the loss and, where it is another one, the baseline's."""
        compared = [self.loss, *([self.baseline] if self.baseline else [])]
        return tuple(dict.fromkeys(self.models.get(loss, self.model) for loss in compared))

    def label(self, loss: str) -> str:
        """Return what a loss is called, by default its entry."""
        return self.labels.get(loss, loss)

    def __post_init__(self) -> None:
        theory = THEORY if self.dynamics is None else (*THEORY, *MODEL)
        for name, table, columns in (
            ("metrics", self.metrics.table, METRICS),
            ("theory", self.theory, theory),
            ("dynamics", self.dynamics, DYNAMICS),
            ("predictions", self.predictions, PREDICTIONS),
            ("nc0", self.nc0, NC0),
        ):
            if table is None:
                continue
            if absent := [column for column in columns if column not in table.columns]:
                raise ValueError(f"the {name} table of {self.experiment} lacks the columns {', '.join(absent)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds of {self.experiment}: {list(self.seeds)}; each is allowed once")
        if self.baseline == self.loss:
            raise ValueError(f"{self.experiment}: the loss {self.loss} is its own baseline; allowed: another loss")
        if (last := self.metrics.last_epoch) > self.epochs:
            text = f"the metrics table of {self.experiment} has epoch {last:g}; the last must be {self.epochs}"
            raise ValueError(text)


def decide(low: float, high: float, null: float, claimed: Side) -> Verdict:
    """Return the verdict on the interval [low, high] of an effect that the claim puts below or above `null`.

    An interval that touches the null, or has an end that is not a number, is inconclusive.
    """
    # Differences of rates carry rounding errors, which are no side of the null.
    slack = TOUCHING * max(abs(null), abs(low), abs(high)) if math.isfinite(low) and math.isfinite(high) else 0.0
    below, above = high < null - slack, low > null + slack
    if math.isnan(low) or math.isnan(high) or not (below or above):
        return "inconclusive"
    return "supported" if below == (claimed == "below") else "contradicted"


def _exp(value: float) -> float:
    """Return e^value, inf where that leaves the range of numbers."""
    return math.exp(value) if value < 709 else math.inf


SHOWN: dict[Scale, Callable[[float], float]] = {"ratio": _exp, "difference": float, "correlation": math.tanh}
"""From the scale on which effects are averaged to the one on which they are shown."""


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


AVERAGED: dict[Scale, Callable[[float], float]] = {"ratio": _log, "difference": float, "correlation": math.atanh}
"""The inverse of `SHOWN`."""


def log_ratio(value: float, baseline: float) -> float:
    """Return log(value / baseline); nan unless both are positive and finite."""
    if not (0 < value < math.inf and 0 < baseline < math.inf):
        return math.nan
    return math.log(value) - math.log(baseline)


def fisher_z(correlation: float) -> float:
    """Return Fisher's z = artanh r of a correlation r in [-1, 1], finite also where rounding has made r 1; nan of nan.

    >>> round(fisher_z(0.5), 4), round(math.tanh(fisher_z(-1.0)), 9)
    (0.5493, -1.0)
    """
    if math.isnan(correlation):
        return math.nan
    return math.atanh(max(-LARGEST_CORRELATION, min(LARGEST_CORRELATION, correlation)))


def judge_pairs(
    quantity: str,
    effects: Mapping[int, float],
    seeds: Sequence[int],
    *,
    scale: Scale,
    claimed: Side,
    unit: str,
    only_above: Collection[int] = (),
    only_below: Collection[int] = (),
    identical: Collection[int] = (),
    undefined: Mapping[int, Reason] | None = None,
    resolution: float = 0.0,
    null: float | None = None,
    notes: Sequence[str] = (),
) -> Measure:
    """Judge one quantity by its effects over seeds, as `RULES` says.

    Args:
        quantity: what is compared.
        effects: seed -> effect of the pair: a difference, a log ratio for the scale `ratio`, whose measure shows exp of
            mean and ends, or `fisher_z` for the scale `correlation`, whose measure shows tanh of them. A seed that is
            absent has a run missing; an effect that is not finite is undefined.
        seeds: the seeds that should be there.
        scale: ratio (no effect at 1), difference or correlation (no effect at 0).
        claimed: the side of no effect on which the claim puts the effect.
        unit: unit of the effect.
        only_above: seeds whose effect is only known to lie above both the number given and no effect.
        only_below: seeds whose effect is only known to lie below both.
        identical: seeds whose two runs have the same values so far.
        undefined: seed -> why its effect is not finite; by default it is not measured.
        resolution: what the measurement resolves, in the unit shown (of a ratio and not of its log).
        null: the value that the interval is compared with, in the unit shown: a margin of ours; by default no effect.
        notes: remarks that open the note.

    Raises:
        ValueError: an effect of a seed that is none of `seeds`.
    """
    if unknown := sorted(set(effects) - set(seeds)):
        raise ValueError(f"{quantity}: effects of the seeds {unknown}; allowed: {list(seeds)}")
    null = NO_EFFECT[scale] if null is None else null
    remarks = list(notes)
    if missing := [seed for seed in seeds if seed not in effects]:
        remarks.append(f"left out, a run is missing: {named_seeds(missing)}")
    values = list(effects.values())
    nothing = Measure(quantity, math.nan, math.nan, math.nan, unit, null, len(values), "inconclusive", scale=scale)
    if lacking := [seed for seed, effect in effects.items() if not math.isfinite(effect)]:
        remarks.append(f"no finite effect: {named_seeds(lacking)}")
        reason = (undefined or {}).get(lacking[0], NOT_MEASURED)
        return replace(nothing, note="; ".join(remarks), reason=reason)
    if len(values) < FEWEST_PAIRS:
        remarks.append(f"no interval under {FEWEST_PAIRS} pairs of runs")
        effect = SHOWN[scale](float(np.mean(values))) if values else math.nan
        reason = TOO_FEW if values else NOT_MEASURED
        known = len(values) > 1 and not {*only_above, *only_below}.intersection(effects)
        found = replace(nothing, effect=effect, note="; ".join(remarks), reason=reason)
        return replace(found, spread=spread(values), resolution=_least(values, scale, resolution)) if known else found
    found, remark = _averaged(nothing, values, scale, claimed, resolution)
    above, below = ([seed for seed in effects if seed in known] for known in (only_above, only_below))
    if above or below:
        found = _opened(found, len(above) / len(values), len(below) / len(values), scale, claimed)
    elif remark and found.reason:
        found = replace(found, reason=RESOLUTION)
    if found.reason and all(seed in identical for seed in effects):
        found = replace(found, reason=IDENTICAL)
    return replace(found, note="; ".join([*remarks, *remark]))


def _averaged(
    measure: Measure, values: Sequence[float], scale: Scale, claimed: Side, resolution: float
) -> tuple[Measure, list[str]]:
    """Return a measure with the mean of its values and their intervals, and a remark where these are widened."""
    shown = SHOWN[scale]
    mean, low, high = t_interval(values)
    least = _least(values, scale, resolution)
    half, remark = (high - low) / 2, []
    narrow = t_interval(values, EQUIVALENCE)[1:]
    p = t_test(values, AVERAGED[scale](measure.null))
    if half < least:
        remark = [f"interval widened from [{shown(low):.3g}, {shown(high):.3g}] to what the measurement resolves"]
        half, p = least, math.nan
        low, high = mean - half, mean + half
        narrow = min(narrow[0], low), max(narrow[1], high)
    ends = shown(low), shown(high)
    verdict = decide(*ends, measure.null, claimed)
    return replace(
        measure,
        effect=shown(mean),
        low=ends[0],
        high=ends[1],
        verdict=verdict,
        reason=TOO_FEW if verdict == "inconclusive" else "",
        smallest=shown(half),
        p=p,
        narrow=(shown(narrow[0]), shown(narrow[1])),
        spread=spread(values),
        resolution=least,
    ), remark


def _least(values: Sequence[float], scale: Scale, resolution: float) -> float:
    """Return half of what is resolved, h, on the scale of the mean m: e^(m + h) - e^(m - h) = 2 e^m sinh h."""
    return math.asinh(resolution / 2 * _exp(-t_interval(values)[0])) if scale == "ratio" else resolution / 2


def _opened(measure: Measure, above: float, below: float, scale: Scale, claimed: Side) -> Measure:
    """Return a measure of whose pairs a share is only known to lie above both its number and no effect, or below."""
    low = LEAST[scale] if below else measure.low
    high = MOST[scale] if above else measure.high
    verdict = decide(low, high, measure.null, claimed)
    # Each pair is known to lie on one side of no effect, also where the resolution would put an end beyond it.
    none = NO_EFFECT[scale]
    if above == 1:
        low = max(low, none)
        verdict = decide(math.nextafter(low, math.inf), math.inf, measure.null, claimed)
    elif below == 1:
        high = min(high, none)
        verdict = decide(-math.inf, math.nextafter(high, -math.inf), measure.null, claimed)
    reason: Reason = NOT_REACHED if verdict == "inconclusive" else ""
    nan = math.nan
    found = replace(measure, low=low, high=high, verdict=verdict, reason=reason)
    return replace(found, smallest=nan, p=nan, narrow=(nan, nan), spread=nan, resolution=nan)


def judge_shares(
    quantity: str,
    shares: Mapping[int, float],
    seeds: Sequence[int],
    null: float,
    *,
    claimed: Side,
    unit: str,
    notes: Sequence[str] = (),
) -> Measure:
    """Judge numbers that are 0 or more and are compared with a positive one, on the log scale, by `judge_pairs`.

    A share below `NEGLIGIBLE * null` counts as that, and the note says so.

    Args:
        shares: seed -> share; one that is negative or not finite has no effect.
        null: the value that the interval is compared with.
        quantity, seeds, claimed, unit, notes: as in `judge_pairs`.
    """
    least = NEGLIGIBLE * null
    effects = {seed: log_ratio(max(share, least), 1.0) if share >= 0 else math.nan for seed, share in shares.items()}
    small = [seed for seed, share in shares.items() if 0 <= share < least]
    notes = [*notes, *([f"below {least:g}, which it counts as: {named_seeds(small)}"] if small else [])]
    return judge_pairs(quantity, effects, seeds, scale="ratio", claimed=claimed, unit=unit, null=null, notes=notes)


def judge_within(
    quantity: str,
    effects: Mapping[int, float],
    seeds: Sequence[int],
    margin: float,
    *,
    scale: Scale,
    unit: str,
    notes: Sequence[str] = (),
) -> Measure:
    """Judge the claim that an effect is within a margin of no effect by the 95% interval, as `within` says.

    Its p value is the larger one of the t tests against the two ends of the margin: it is below 0.05 where the interval
    lies between them or beyond.

    Args:
        quantity, effects, seeds, scale, unit, notes: as in `judge_pairs`.
        margin: the largest size that counts as no effect, in the unit shown: a difference or a factor.
    """
    found = judge_pairs(quantity, effects, seeds, scale=scale, claimed="below", unit=unit, notes=notes)
    if math.isnan(found.low):
        return found
    averaged = AVERAGED[scale]
    size = averaged(margin)
    verdict = within(averaged(found.low), averaged(found.high), size)
    p = max(t_test(list(effects.values()), end) for end in (-size, size))
    return replace(found, verdict=verdict, reason=TOO_FEW if verdict == "inconclusive" else "", p=p)


def not_testable(measure: Measure) -> Measure:
    """Return a measure without interval and inconclusive, since a premise of its claim does not hold."""
    nan = math.nan
    numbers: dict[str, Any] = dict.fromkeys(("low", "high", "smallest", "p", "spread", "resolution"), nan)
    return replace(measure, **numbers, narrow=(nan, nan), verdict="inconclusive", reason=NOT_TESTABLE)


def against_margin(measure: Measure, margin: Margin | None) -> Measure:
    """Return a measure with its margin, and what two one-sided tests against it say of why it is inconclusive."""
    if margin is None or measure.scale not in NO_EFFECT or measure.null != NO_EFFECT[measure.scale]:
        return measure
    low, high = (1 / margin.size, margin.size) if measure.scale == "ratio" else (-margin.size, margin.size)
    equivalent = low < measure.narrow[0] and measure.narrow[1] < high
    small = equivalent and measure.reason in (TOO_FEW, RESOLUTION)
    return replace(measure, margin=margin.size, reason=EQUIVALENT if small else measure.reason)


def within(low: float, high: float, margin: float) -> Verdict:
    """Return the verdict on the claim that an effect is at most `margin` in size, by its interval [low, high].

    Supported where -margin <= low and high <= margin, contradicted where the whole interval is beyond, on one side.

    >>> within(-0.1, 0.1, 0.1), within(0.2, 0.3, 0.1), within(0.1, 0.2, 0.1), within(math.nan, math.nan, 0.1)
    ('supported', 'contradicted', 'inconclusive', 'inconclusive')
    """
    if -margin <= low and high <= margin:
        return "supported"
    return "contradicted" if low > margin or high < -margin else "inconclusive"


def overall(measures: Sequence[Measure]) -> tuple[Verdict, str]:
    """Return a claim's verdict from those of its measures, the main one first, and a note that names who differs."""
    main, *others = measures
    verdict = main.verdict
    if verdict == "supported" and any(other.verdict == "contradicted" for other in others):
        verdict = "inconclusive"
    differing = [f"{other.quantity}: {other.verdict}" for other in others if other.verdict != main.verdict]
    parts = [f"{main.quantity}: {main.verdict} (main measure)"] if differing else []
    return verdict, "; ".join([*parts, *differing, *filter(None, [main.note])])


def why(verdict: Verdict, measures: Sequence[Measure]) -> Reason:
    """Return why a claim is inconclusive: its main measure's reason or, where that is decided, what keeps it open."""
    if verdict != "inconclusive":
        return ""
    if not measures:
        return NOT_MEASURED
    if measures[0].reason:
        return measures[0].reason
    if {"supported", "contradicted"} <= {measure.verdict for measure in measures}:
        return DISAGREE
    return next((measure.reason for measure in measures if measure.reason), DISAGREE)


def of_the_main_one(measures: Sequence[Measure]) -> float:
    """Return the p value of the main measure."""
    return measures[0].p


def largest_p(measures: Sequence[Measure]) -> float:
    """Return the largest p value, that all measures are what the claim says; nan where one has none, or there are none.

    An intersection-union test: Berger, Multiparameter Hypothesis Testing and Acceptance Sampling, 1982.
    """
    values = [measure.p for measure in measures]
    return max(values) if values and not any(map(math.isnan, values)) else math.nan


@dataclass(frozen=True)
class Claim:
    """A claim of a paper and how it is judged: everything that is specific to it.

    Attributes:
        id: a letter and a number, unique. Claims are judged and shown by letter, then by number.
        paper: title and identifier.
        statement: what it says, in one sentence.
        rule: what is measured for it.
        measures: Comparison -> the measures, the main one first; none where the claim does not apply.
        margins: quantity of a measure -> the size below which its effect does not count, as `labels` has its name; none
            for theory, and where the rule compares the measure with another value than no effect.
        labels: quantity of a measure -> what a reader calls it. Every quantity that `measures` can return has a label;
            of a quantity with a probe's name after a slash, the part before the slash has it.
        subject, holds, fails: of the sentence that sums a study up: subject, and predicate where the claim is supported
            and where it is contradicted. `{loss}` in the subject is the label of the loss that is compared.
        below: what an effect below the null value means, or start of a quantity's name -> that; empty where it has no
            such meaning.
        place: where the paper makes the claim, or what it measures it by; empty where this is not known.
        figures: stems of the figures in which the claim can be seen, the best first.
        combine: measures -> the claim's verdict and a note on it.
        why: the claim's verdict, measures -> why it is inconclusive.
        p: measures -> the claim's p value; nan where it has none.
        tests: number of tests that Holm's method corrects each measure for; None where these are the claim's measures.
        paired: whether it compares a loss with a baseline; else it is on a single loss.
        compared: kinds of losses that a paired claim is on; empty for all but students.
        excluded: kinds of losses that it is not on.
        against: kinds of losses that these are compared with; empty for the experiment's baseline.
        task: what the networks learn.
        by_optimizer: whether it compares losses that differ in the optimiser alone, in place of kinds of losses.
        across_models: whether a loss is also compared with a baseline of another model; then `compared` and `excluded`
            do not count, as no other claim is on such a pair.
    """

    id: str
    paper: str
    statement: str
    rule: str
    measures: Callable[[Comparison], list[Measure]]
    labels: Mapping[str, str]
    subject: str = ""
    holds: str = ""
    fails: str = ""
    below: str | Mapping[str, str] = ""
    place: str = ""
    figures: tuple[str, ...] = ()
    combine: Callable[[Sequence[Measure]], tuple[Verdict, str]] = overall
    why: Callable[[Verdict, Sequence[Measure]], Reason] = why
    p: Callable[[Sequence[Measure]], float] = of_the_main_one
    tests: int | None = 1
    margins: Mapping[str, Margin] = field(default_factory=dict)
    paired: bool = True
    compared: tuple[str, ...] = ("ls", "ls_linear")
    excluded: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    task: str = "classification"
    by_optimizer: bool = False
    across_models: bool = False

    def is_on(self, kind: str, two_models: bool = False) -> bool:
        """Return whether a paired claim compares losses of a kind, with a baseline of the same model or of another."""
        trained_alone = not kind.startswith("distillation_")
        if two_models:
            return self.paired and self.across_models and trained_alone
        named = kind in self.compared if self.compared else trained_alone
        return self.paired and named and kind not in self.excluded

    def label(self, quantity: str) -> str:
        """Return what a quantity is called, with the name of its probe in brackets.

        Raises:
            ValueError: the quantity has no label.
        """
        name, _, probe = quantity.partition("/")
        if name not in self.labels:
            raise ValueError(f"claim {self.id}: the measure {name!r} has no label; known: {', '.join(self.labels)}")
        return f"{self.labels[name]} ({probe})" if probe else self.labels[name]

    def margin(self, quantity: str) -> Margin | None:
        """Return the size below which a quantity's effect does not count."""
        return self.margins.get(quantity.partition("/")[0])

    def labelled(self, note: str, quantities: Iterable[str]) -> str:
        """Return a note with quantities called by their labels."""
        labels = {quantity: self.label(quantity) for quantity in quantities if quantity}
        keys = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
        return re.sub(rf"(?<![\w/])({keys})(?![\w/])", lambda found: labels[found[0]], note) if labels else note

    def meaning(self, quantity: str) -> str:
        """Return what an effect below the null value means for a quantity; empty where it has no such meaning."""
        if isinstance(self.below, str):
            return self.below
        return next((text for start, text in self.below.items() if quantity.startswith(start)), "")


def named_seeds(seeds: Collection[int]) -> str:
    """Return seeds as text, such as `seeds 0, 2`."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, sorted(seeds)))
