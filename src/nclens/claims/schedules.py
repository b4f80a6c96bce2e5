"""Our own claims on schedules of smoothing, of label smoothing and of MaxSup: four axes, and MaxSup as a teacher.

No paper reports error, calibration, distillation and transfer together for one sweep of schedules, and MaxSup's authors
did not test it as a teacher. Directions that the literature suggests were fixed before any run: arXiv 1906.02629 on
smoothed teachers, 2006.11653 on dropped smoothing, 2502.15798 on transfer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nclens.claims.effects import curves_of
from nclens.claims.margins import ECE, ERROR, TRANSFER, Margin
from nclens.claims.verdict import (
    FEWEST_PAIRS,
    TOO_FEW,
    Claim,
    Comparison,
    Measure,
    Reason,
    Side,
    Verdict,
    judge_pairs,
    why,
)
from nclens.metrics.catalogue import by_numbers, student
from nclens.metrics.intervals import CONFIDENCE, holm, t_test

OWN = "Our own, on schedules of label smoothing (arXiv 1906.02629, arXiv 2006.11653) and of MaxSup (arXiv 2502.15798)"

LS, LS_SCHEDULED = "ls", ("ls_drop", "ls_linear")
MAXSUP, MAXSUP_SCHEDULED = "maxsup", ("maxsup_drop", "maxsup_linear")
STUDENT, PROBE = "student_error", "probe_accuracy"
"""Metrics that may have a name after a slash: students' temperature, and target sets."""


@dataclass(frozen=True)
class Axis:
    """One of the four axes.

    Attributes:
        label: what a reader calls it.
        better: the side on which a loss is better.
        unit: of the difference.
        metric: its name.
        margin: the size below which a difference does not count.
        several: whether the metrics that add a name after a slash belong to it too; then their mean is taken.
    """

    label: str
    better: Side
    unit: str
    metric: str
    margin: Margin
    several: bool = False


AXES = {
    "error": Axis("error", "below", "difference in error", "error", ERROR),
    "ece_adaptive": Axis("adaptive ECE", "below", "difference in ECE", "ece_adaptive", ECE),
    STUDENT: Axis("the student's error", "below", "difference in error", STUDENT, ERROR, several=True),
    PROBE: Axis("accuracy of the linear probe", "above", "difference in accuracy", PROBE, TRANSFER, several=True),
}
"""Quantity -> axis: each is a number of the test set after the last epoch."""

WORSE: dict[Side, Side] = {"below": "above", "above": "below"}
CORRECTED = (
    "A measure is supported or contradicted where the p value of its paired t test, two-sided and corrected by Holm's "
    f"method over the {{}}, is at most {1 - CONFIDENCE:.2g}, and inconclusive elsewhere; the interval shown is the "
    "plain one, the p value of the claim the smallest corrected one."
)
OF_AXES = (
    "differences of test error, adaptive ECE (15 bins of equal mass), error of the students (mean over the "
    "temperatures that both losses teach at) and accuracy of linear probes (mean over the target sets)"
)
NEEDED = "The claim is judged where the study has all four axes."


def measured(comparison: Comparison, name: str) -> dict[str, dict[int, float]]:
    """Return the differences of a metric after the last epoch, loss minus baseline: what follows its name -> by seed.

    A metric that one of the losses lacks is left out.
    """
    found: dict[str, dict[int, float]] = {}
    both = comparison.metrics.metrics_of(comparison.loss) & comparison.metrics.metrics_of(comparison.baseline)
    for metric in sorted(both, key=by_numbers):
        if metric == name or metric.startswith(f"{name}/"):
            own, other = (curves_of(comparison, loss, "test", metric) for loss in comparison.pair)
            effects = {
                seed: float(own[seed].iloc[-1]) - float(other[seed].iloc[-1])
                for seed in comparison.seeds
                if seed in own and seed in other
            }
            if effects:
                found[metric.removeprefix(name).removeprefix("/")] = effects
    return found


def profile(comparison: Comparison) -> list[Measure]:
    """Return the differences along the four axes, each claimed on its better side; none unless all were measured."""
    effects = {}
    for quantity, axis in AXES.items():
        found = measured(comparison, axis.metric)
        parts = list(found.values()) if axis.several else [found[""]] if "" in found else []
        if not parts:
            return []
        effects[quantity] = _mean(parts)
    return corrected(
        comparison, effects, {quantity: axis.better for quantity, axis in AXES.items()}, _units(effects), "axes"
    )


def on_axis(quantity: str, *, better: bool) -> Callable[[Comparison], list[Measure]]:
    """Return what measures one axis of the profile, claimed on its better or worse side, corrected over all four."""

    def measures(comparison: Comparison) -> list[Measure]:
        side = AXES[quantity].better if better else WORSE[AXES[quantity].better]
        found = [one for one in profile(comparison) if one.quantity == quantity]
        return [_claimed(one, AXES[quantity].better, side) for one in found]

    return measures


def as_teacher(*, better: bool) -> Callable[[Comparison], list[Measure]]:
    """Return what measures the students' error at each temperature that both losses teach at, corrected over these."""

    def measures(comparison: Comparison) -> list[Measure]:
        taught = measured(comparison, STUDENT).items()
        found = {f"{STUDENT}/{student(at)}" if at else STUDENT: effects for at, effects in taught}
        sides: dict[str, Side] = dict.fromkeys(found, "below" if better else "above")
        return corrected(comparison, found, sides, _units(found), "temperatures")

    return measures


def corrected(
    comparison: Comparison,
    effects: Mapping[str, Mapping[int, float]],
    claimed: Mapping[str, Side],
    units: Mapping[str, str],
    over: str,
) -> list[Measure]:
    """Judge several quantities by paired t tests whose p values are corrected by Holm's method.

    Args:
        comparison: the two losses.
        effects: quantity -> seed -> difference, loss minus baseline.
        claimed: quantity -> the side of 0 on which the claim puts it.
        units: quantity -> unit of its effect.
        over: what the quantities are called together, for the notes.

    Returns:
        the measures as `judge_pairs` has them, with plain intervals; one whose corrected p value exceeds 0.05 is
        inconclusive. A quantity without an interval counts among those that are corrected for, with p = 1.
    """
    measures, p = [], []
    for quantity, values in effects.items():
        measures.append(
            judge_pairs(
                quantity,
                values,
                comparison.seeds,
                scale="difference",
                claimed=claimed[quantity],
                unit=units[quantity],
            )
        )
        known = len(values) >= FEWEST_PAIRS and all(map(math.isfinite, values.values()))
        p.append(t_test(list(values.values())) if known else math.nan)
    adjusted = holm([1.0 if math.isnan(value) else value for value in p])
    return [
        one if math.isnan(plain) else _decided(one, plain, value, over)
        for one, plain, value in zip(measures, p, adjusted, strict=True)
    ]


def _decided(measure: Measure, plain: float, value: float, over: str) -> Measure:
    """Return a measure with the verdict that its corrected p value allows, and a note of both p values."""
    verdict: Verdict = measure.verdict if value <= 1 - CONFIDENCE else "inconclusive"
    note = f"corrected p = {value:.2g} over the {over}, plain p = {plain:.2g}"
    reason = measure.reason or (TOO_FEW if verdict == "inconclusive" else "")
    return replace(measure, verdict=verdict, reason=reason, p=value, note="; ".join(filter(None, (note, measure.note))))


def _claimed(measure: Measure, side: Side, claimed: Side) -> Measure:
    """Return a measure judged for a side as it is judged for another."""
    opposite: dict[Verdict, Verdict] = {"supported": "contradicted", "contradicted": "supported"}
    verdict = measure.verdict if side == claimed else opposite.get(measure.verdict, measure.verdict)
    return replace(measure, verdict=verdict)


def _mean(parts: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean of several effects for the seeds that have all."""
    seeds = set.intersection(*map(set, parts))
    return {seed: sum(part[seed] for part in parts) / len(parts) for seed in sorted(seeds)}


def _units(quantities: Mapping[str, object]) -> dict[str, str]:
    return {quantity: AXES[quantity.partition("/")[0]].unit for quantity in quantities}


def somewhere_and_nowhere_else(measures: Sequence[Measure]) -> tuple[Verdict, str]:
    """Return supported where a measure is and none is contradicted, contradicted where any is; and who is which."""
    found = {one.verdict for one in measures}
    verdict: Verdict = "inconclusive"
    if "contradicted" in found:
        verdict = "contradicted"
    elif "supported" in found:
        verdict = "supported"
    parts = [f"{one.quantity}: {one.verdict}" for one in measures if one.verdict != "inconclusive"]
    return verdict, "; ".join(parts)


def least_p(measures: Sequence[Measure]) -> float:
    """Return the smallest p value of any measure: by Holm's method that of "there is no effect at all"."""
    return min((measure.p for measure in measures if not math.isnan(measure.p)), default=math.nan)


def why_nowhere(verdict: Verdict, measures: Sequence[Measure]) -> Reason:
    """Return why no measure is decided: too few seeds where that holds of any, else what holds of the main one."""
    few = verdict == "inconclusive" and any(measure.reason == TOO_FEW for measure in measures)
    return TOO_FEW if few else why(verdict, measures)


LABELS = {quantity: axis.label for quantity, axis in AXES.items()}
MARGINS = {quantity: axis.margin for quantity, axis in AXES.items()}
BELOW = {PROBE: "transfers worse", STUDENT: "teaches better", "ece": "better calibrated", "": "more accurate"}
FIGURE = ("schedule_profile",)
DOMINATES = (
    "After the last epoch, {} of the two losses. Supported where one of the four or more is better and none is worse, "
    f"contradicted where one or more is worse. {CORRECTED.format('four axes')} {NEEDED}"
)
ONE_AXIS = "Difference, after the last epoch, of {}. " + CORRECTED.format("four axes") + f" {NEEDED}"
TAUGHT = (
    "Differences of the test errors of students after their last epoch, at each temperature that both losses teach at. "
    "Supported where one or more {} and none {}, contradicted where one or more {}. " + CORRECTED.format("temperatures")
)


def _dominates(number: int, name: str, compared: tuple[str, ...], against: str, other: str) -> Claim:
    """Return the claim that losses are better than another on some axis and worse on none."""
    return Claim(
        f"P{number}",
        OWN,
        f"{name[0].upper()}{name[1:]} is better than {other} on one of four axes or more, and worse on none.",
        DOMINATES.format(OF_AXES),
        profile,
        labels=LABELS,
        margins=MARGINS,
        subject=name,
        holds=f"is better than {other} on an axis and worse on none",
        fails=f"is worse than {other} on an axis",
        below=BELOW,
        figures=FIGURE,
        combine=somewhere_and_nowhere_else,
        why=why_nowhere,
        p=least_p,
        tests=len(AXES),
        compared=compared,
        against=(against,),
    )


CLAIMS = (
    _dominates(1, "scheduled label smoothing", LS_SCHEDULED, LS, "constant label smoothing"),
    _dominates(2, "scheduled MaxSup", MAXSUP_SCHEDULED, MAXSUP, "constant MaxSup"),
    _dominates(3, "label smoothing on any schedule", (LS, *LS_SCHEDULED), "ce", "cross entropy"),
    _dominates(4, "MaxSup on any schedule", (MAXSUP, *MAXSUP_SCHEDULED), "ce", "cross entropy"),
    Claim(
        "P5",
        OWN,
        "Label smoothing that is dropped makes a better teacher than label smoothing that is kept.",
        ONE_AXIS.format("the error of the students, mean over the temperatures that both losses teach at"),
        on_axis(STUDENT, better=True),
        labels={STUDENT: LABELS[STUDENT]},
        margins={STUDENT: MARGINS[STUDENT]},
        subject="label smoothing that is dropped",
        holds="teaches better than label smoothing that is kept",
        fails="teaches worse than label smoothing that is kept",
        below="teaches better",
        figures=FIGURE,
        tests=len(AXES),
        compared=("ls_drop",),
        against=(LS,),
    ),
    Claim(
        "P6",
        OWN,
        "A teacher trained with constant label smoothing teaches worse than one trained with cross entropy, at the "
        "same temperatures.",
        ONE_AXIS.format("the error of the students, mean over the temperatures that both losses teach at"),
        on_axis(STUDENT, better=False),
        labels={STUDENT: LABELS[STUDENT]},
        margins={STUDENT: MARGINS[STUDENT]},
        subject="a smoothed teacher",
        holds="teaches worse than one trained with cross entropy, at the same temperatures",
        fails="teaches better than one trained with cross entropy, at the same temperatures",
        below="teaches better",
        figures=FIGURE,
        tests=len(AXES),
        compared=(LS,),
        against=("ce",),
    ),
    Claim(
        "P7",
        OWN,
        "Features trained with constant MaxSup transfer better than those trained with constant label smoothing.",
        ONE_AXIS.format("the accuracy of linear probes, mean over the target sets"),
        on_axis(PROBE, better=True),
        labels={PROBE: LABELS[PROBE]},
        margins={PROBE: MARGINS[PROBE]},
        subject="MaxSup",
        holds="transfers better than label smoothing, on average over the target sets",
        fails="transfers worse than label smoothing, on average over the target sets",
        below="transfers worse",
        figures=FIGURE,
        tests=len(AXES),
        compared=(MAXSUP,),
        against=(LS,),
    ),
    Claim(
        "P8",
        OWN,
        "A teacher trained with MaxSup teaches better than one trained with label smoothing.",
        TAUGHT.format("is lower", "is higher", "is higher"),
        as_teacher(better=True),
        labels={STUDENT: LABELS[STUDENT]},
        margins={STUDENT: MARGINS[STUDENT]},
        subject="a teacher trained with MaxSup",
        holds="teaches better than one trained with label smoothing",
        fails="teaches worse than one trained with label smoothing",
        below="teaches better",
        figures=FIGURE,
        combine=somewhere_and_nowhere_else,
        why=why_nowhere,
        p=least_p,
        tests=None,
        compared=(MAXSUP,),
        against=(LS,),
    ),
    Claim(
        "P9",
        OWN,
        "A teacher trained with MaxSup teaches worse than one trained with cross entropy, as smoothed ones do.",
        TAUGHT.format("is higher", "is lower", "is lower"),
        as_teacher(better=False),
        labels={STUDENT: LABELS[STUDENT]},
        margins={STUDENT: MARGINS[STUDENT]},
        subject="a teacher trained with MaxSup",
        holds="teaches worse than one trained with cross entropy",
        fails="teaches better than one trained with cross entropy",
        below="teaches better",
        figures=FIGURE,
        combine=somewhere_and_nowhere_else,
        why=why_nowhere,
        p=least_p,
        tests=None,
        compared=(MAXSUP,),
        against=("ce",),
    ),
)
"""Claims on the profile of a schedule, then on single axes, then on MaxSup as a teacher."""
