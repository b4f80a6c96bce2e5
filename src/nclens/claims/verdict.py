"""From effects over seeds to a verdict: the interval, the rule, and the rows of the table of claims.

A measure is supported when its whole 95% interval over paired seeds lies on the side of no effect that the claim names,
contradicted when the whole interval lies on the other side, and inconclusive otherwise, as it is under three pairs. A
claim is supported when its main measure is supported and no other is contradicted, contradicted when its main measure
is, and inconclusive otherwise. `RULES` says the same with every special case, so that a page of results can quote it.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

from nclens.claims.measurements import Measurements
from nclens.metrics.intervals import t_interval

Verdict = Literal["supported", "contradicted", "inconclusive"]
Side = Literal["below", "above"]
Scale = Literal["ratio", "difference", "correlation"]

TOUCHING = 1e-12  # relative: closer to the null than this is rounding
FEWEST_PAIRS = 3
NO_EFFECT: dict[Scale, float] = {"ratio": 1.0, "difference": 0.0, "correlation": 0.0}
LEAST: dict[Scale, float] = {"ratio": 0.0, "difference": -math.inf, "correlation": -1.0}
MOST: dict[Scale, float] = {"ratio": math.inf, "difference": math.inf, "correlation": 1.0}
LARGEST_CORRELATION = 1 - 1e-12  # in size; closer to 1 is rounding, and has no finite z

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
    "are positive, by their ratio, which is averaged over seeds on the log scale.",
    "Interval": "The 95% interval is Student's t interval of the mean of the paired differences or log ratios. An "
    "interval narrower than what the measurement resolves (one step between snapshots, or between checkpoints of a "
    "descent) is widened to it.",
    "Measure": "A measure is supported when its whole interval lies on the side of no effect that the claim names, "
    "contradicted when the whole interval lies on the other side, and inconclusive otherwise. Under three pairs of "
    "runs there is no interval and the measure is inconclusive.",
    "Claim": "A claim is supported when its main measure, the first, is supported and no other is contradicted; "
    "contradicted when its main measure is contradicted; and inconclusive otherwise. The measures that differ from the "
    "main one are named. The number of measures is not corrected for. Claims with another rule state it below.",
    "Pairs": "Where a claim compares two kinds of losses, each loss is compared with those of the other kind that "
    "start from the same strength or, where there are none, with all of the other kind. Losses under different "
    "optimisers are compared by the claims on optimisers alone; where the baseline has another optimiser than a loss, "
    "the loss of the baseline's kind and the same optimiser takes its place.",
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


@dataclass(frozen=True)
class ClaimRow:
    """A row of the table of claims: a claim's overall verdict (level `claim`), or one of its measures (`measure`)."""

    claim: str
    paper: str
    statement: str
    experiment: str
    dataset: str
    model: str
    baseline: str
    loss: str
    level: Literal["claim", "measure"]
    quantity: str
    effect: float
    low: float
    high: float
    unit: str
    null: float
    seeds: int | None
    verdict: Verdict
    note: str


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
        resolution: what the measurement resolves, in the unit shown (of a ratio and not of its log).
        null: the value that the interval is compared with, in the unit shown: a margin of ours; by default no effect.
        notes: remarks that open the note.

    Raises:
        ValueError: an effect of a seed that is none of `seeds`.
    """
    if unknown := sorted(set(effects) - set(seeds)):
        raise ValueError(f"{quantity}: effects of the seeds {unknown}; allowed: {list(seeds)}")
    null = NO_EFFECT[scale] if null is None else null
    shown = SHOWN[scale]
    remarks = list(notes)
    if missing := [seed for seed in seeds if seed not in effects]:
        remarks.append(f"left out, a run is missing: {named_seeds(missing)}")
    undefined = [seed for seed, effect in effects.items() if not math.isfinite(effect)]
    values = list(effects.values())
    verdict: Verdict = "inconclusive"
    effect = low = high = math.nan
    if undefined:
        remarks.append(f"no finite effect: {named_seeds(undefined)}")
    elif len(values) < FEWEST_PAIRS:
        effect = shown(float(np.mean(values))) if values else math.nan
        remarks.append(f"no interval under {FEWEST_PAIRS} pairs of runs")
    else:
        effect, low, high = (shown(end) for end in t_interval(values))
        if high - low < resolution:
            remarks.append(f"interval widened from [{low:.3g}, {high:.3g}] to what the measurement resolves")
            low, high = _widened(low, high, resolution, LEAST[scale], MOST[scale])
        above, below = ([seed for seed in effects if seed in known] for known in (only_above, only_below))
        high = MOST[scale] if above else high
        low = LEAST[scale] if below else low
        verdict = decide(low, high, null, claimed)
        # Each pair is known to lie on one side of no effect, also where the resolution would put an end beyond it.
        none = NO_EFFECT[scale]
        if len(above) == len(values):
            low = max(low, none)
            verdict = decide(math.nextafter(low, math.inf), math.inf, null, claimed)
        elif len(below) == len(values):
            high = min(high, none)
            verdict = decide(-math.inf, math.nextafter(high, -math.inf), null, claimed)
    return Measure(quantity, effect, low, high, unit, null, len(values), verdict, "; ".join(remarks))


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


@dataclass(frozen=True)
class Claim:
    """A claim of a paper and how it is judged: everything that is specific to it.

    Attributes:
        id: a letter and a number, unique. Claims are judged and shown by letter, then by number.
        paper: title and identifier.
        statement: what it says, in one sentence.
        rule: what is measured for it.
        measures: Comparison -> the measures, the main one first; none where the claim does not apply.
        labels: quantity of a measure -> what a reader calls it. Every quantity that `measures` can return has a label;
            of a quantity with a probe's name after a slash, the part before the slash has it.
        subject, holds, fails: of the sentence that sums a study up: subject, and predicate where the claim is supported
            and where it is contradicted. `{loss}` in the subject is the label of the loss that is compared.
        below: what an effect below the null value means, or start of a quantity's name -> that; empty where it has no
            such meaning.
        place: where the paper makes the claim, or what it measures it by; empty where this is not known.
        figures: stems of the figures in which the claim can be seen, the best first.
        combine: measures -> the claim's verdict and a note on it.
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


def pairs(
    claim: Claim,
    losses: Sequence[str],
    kinds: Mapping[str, str],
    strengths: Mapping[str, float | None],
    baseline: str | None,
    optimizers: Mapping[str, str] | None = None,
    peers: Mapping[str, Sequence[str]] | None = None,
    models: Mapping[str, str] | None = None,
) -> list[tuple[str, str]]:
    """Return the pairs (loss, what it is compared with) that a claim is judged on in an experiment.

    A loss is compared with those losses of a kind that start from the same strength, or with all of the kind where
    there are none; only with losses that the same optimiser minimises, unless the claim is on optimisers. The baseline
    of a loss under another optimiser than its own is the loss of the same kind and strength under that one.

    Args:
        claim: a claim; one that is not paired has no pairs.
        losses: the experiment's, in their order.
        kinds: loss -> what sort of loss it is.
        strengths: loss -> its strength before any schedule, None for a loss without.
        baseline: of the experiment, None where it has none.
        optimizers: loss -> what minimises it, as text; None or empty where it is the same for all.
        peers: loss -> those that differ from it in the optimiser alone, for claims on optimisers.
        models: loss -> its model; None where all have one.
    """
    if claim.by_optimizer:
        return [(loss, other) for loss in losses for other in (peers or {}).get(loss, ())]
    used = dict(optimizers or {})
    found = []
    known = models or {}
    for loss in losses:
        under = [other for other in losses if used.get(other) == used.get(loss)]
        others = [] if claim.against or baseline is None else [baseline]
        if others and baseline not in under:
            like = (kinds[others[0]], strengths[others[0]])
            others = [other for other in under if (kinds[other], strengths[other]) == like][:1]
        for kind in claim.against:
            of_kind = [other for other in under if kinds[other] == kind]
            alike = [other for other in of_kind if strengths[other] == strengths[loss]]
            others += alike or of_kind
        found += [
            (loss, other)
            for other in others
            if other != loss and claim.is_on(kinds[loss], two_models=known.get(loss) != known.get(other))
        ]
    return found


def claim_rows(claim: Claim, comparison: Comparison) -> list[ClaimRow]:
    """Judge a claim: the row of its verdict, with the numbers of the main measure, then a row for each measure.

    No rows where the claim does not apply: it is on another task, or has no measures.

    Raises:
        ValueError: a measure without a label.
    """
    measures = claim.measures(comparison) if claim.task == comparison.task else []
    if not measures:
        return []
    for measure in measures:
        claim.label(measure.quantity)
    verdict, note = claim.combine(measures)
    note = claim.labelled(note, [measure.quantity for measure in measures])
    if len(comparison.networks) > 1:
        note = "; ".join(filter(None, [note, TWO_MODELS]))

    def row(level: Literal["claim", "measure"], measure: Measure) -> ClaimRow:
        model = AGAINST.join(comparison.networks)
        names = (comparison.experiment, comparison.dataset, model, comparison.baseline, comparison.loss)
        return ClaimRow(claim.id, claim.paper, claim.statement, *names, level, **asdict(measure))

    head = asdict(measures[0]) | {"quantity": "", "verdict": verdict, "note": note}
    return [row("claim", Measure(**head)), *(row("measure", measure) for measure in measures)]


def claims_table(rows: Sequence[ClaimRow]) -> pd.DataFrame:
    """Return the rows as a table; the number of seeds is a nullable integer, undefined numbers are missing."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(ClaimRow)])
    return table.astype({"seeds": "Int64"} | dict.fromkeys(("effect", "low", "high", "null"), "float64"))


def _widened(low: float, high: float, width: float, least: float, most: float) -> tuple[float, float]:
    """Widen an interval about its centre to a width; its ends stay within the range."""
    more = (width - (high - low)) / 2
    return max(low - more, least), min(high + more, most)


def named_seeds(seeds: Collection[int]) -> str:
    """Return seeds as text, such as `seeds 0, 2`."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, sorted(seeds)))
