"""How far the claims C1 to C4 depend on how they are measured: the effect by every specification that was possible.

A specification is a choice of the measure, the set, the epoch and the level; a claim has one of its own, and others
that an author might have chosen as well. Each effect is judged as the claim's own is, by its interval over paired
seeds; how many have the sign of the claim's own says how far a verdict rests on the choice. The specifications share
their runs: they are no independent evidence, and no test is made of their number. Source: Simonsohn, Simmons, Nelson,
Specification Curve Analysis, 2020.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd

from nclens.claims.cross_entropy_vs_label_smoothing import (
    CENTRES,
    CLAIMS,
    MATCHED_LEVELS,
    collapse_paths,
    log_ratio_at_same_nc1,
)
from nclens.claims.effects import Curves, curves, final, interpolated, logs, paired_runs, time_ratio
from nclens.claims.measurements import Measurements
from nclens.claims.rows import pairs
from nclens.claims.verdict import THEORY, Comparison, Measure, Scale, judge_pairs, log_ratio

NC1 = ("nc1", "nc1_quotient", "cdnv")
NC2 = ("nc2", "nc2_means", "nc2_classifier")
NC3 = ("nc3", "unc3")
ECE = ("ece", "ece_20", "ece_25", "ece_adaptive", "ece_classwise", "ece_l2")
LATE = 0.75
"""The share of training after which a snapshot is a late one."""

CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "C1": {"measure": NC1, "split": ("train", "test"), "level": ("end", "75%", "50%")},
    "C2": {"measure": (*NC1, *NC2, *NC3), "split": ("train", "test"), "epoch": ("last", "late", "best")},
    "C3": {"measure": NC2, "matched": NC1, "split": ("train", "test"), "level": ("all", "middle", "lowest")},
    "C4": {"measure": ECE, "split": ("test", "train"), "epoch": ("last", "late", "best")},
}
"""Claim -> choice -> options, those of the claim's own specification first.

* `measure`: NC1 by the pseudo-inverse, as a quotient of traces, and CDNV; NC2 of both, of the means and of the
  classifier; NC3 and UNC3; ECE of 15, 20 and 25 bins, adaptive, classwise, and by the l2 norm. What is a multiple or a
  power of another (`nc1_sum`, `nc3_squared`) has the same sign always and is left out.
* `split`: the set that is measured.
* `epoch`: after the last epoch; the mean over the snapshots of the last quarter of training, of ratios the geometric
  one; and the snapshot of the run's lowest test error, the first of equals.
* `level` of C1: the baseline's measure at the end, after 75% and after 50% of training.
* `matched` and `level` of C3: the measure at whose value NC2 is compared, over all values that both runs come down
  through, at the middle one (on the log scale) and at the lowest.
"""
Courses = Callable[[str, str], Curves]
"""Split, metric -> a metric along training."""
Value = Callable[[str, int, pd.Series], float]
"""Loss, seed, curve -> the value that a run is compared by."""
LEVELS = {"end": 1.0, "75%": 0.75, "50%": 0.5}
PLACES = {"all": CENTRES, "middle": np.array([MATCHED_LEVELS / 2]), "lowest": np.array([0.0])}


@dataclass(frozen=True)
class Specification:
    """A choice of what is measured; a choice that a claim does not have is empty."""

    measure: str
    matched: str = ""
    split: str = ""
    epoch: str = ""
    level: str = ""

    @property
    def name(self) -> str:
        """The options that were chosen, such as `nc1, train, last`."""
        return ", ".join(filter(None, vars(self).values()))


@dataclass(frozen=True)
class SpecificationRow:
    """A row of the table of specifications.

    Attributes:
        claim, experiment, dataset, model, loss, baseline: as in the table of claims.
        specification: its name.
        own: whether it is the claim's own, that of its main measure.
        measure, matched, split, epoch, level: the options, see `CHOICES`; empty where the claim has no such choice.
        effect, low, high, unit, scale, seeds, verdict: as in the table of claims.
        same_sign: whether the effect is on the same side of no effect as that of the claim's own specification; false
            where one of them is not defined.
    """

    claim: str
    experiment: str
    dataset: str
    model: str
    loss: str
    baseline: str
    specification: str
    own: bool
    measure: str
    matched: str
    split: str
    epoch: str
    level: str
    effect: float
    low: float
    high: float
    unit: str
    scale: str
    seeds: int
    verdict: str
    same_sign: bool


def specifications(
    metrics: pd.DataFrame,
    *,
    experiment: str,
    dataset: str,
    model: str,
    losses: Sequence[str],
    seeds: Sequence[int],
    epochs: int,
    kinds: Mapping[str, str],
    strengths: Mapping[str, float | None],
    baseline: str | None,
    optimizers: Mapping[str, str] | None = None,
    peers: Mapping[str, Sequence[str]] | None = None,
    models: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return the effects of an experiment by every specification of C1 to C4 that its measurements allow.

    Args:
        metrics: of the experiment, the columns loss, seed, split, epoch, metric, value (more are allowed).
        experiment, dataset, model: names.
        seeds: of every loss.
        epochs: length of training.
        losses, kinds, strengths, baseline, optimizers, peers, models: as `nclens.claims.pairs` takes them.

    Returns:
        a row a claim, pair of losses and specification, columns the attributes of `SpecificationRow`; the claim's own
        specification comes first. An experiment without label smoothing to compare has no rows.
    """
    measurements = Measurements(metrics)
    rows: list[SpecificationRow] = []
    for claim in CLAIMS:
        for loss, against in pairs(claim, losses, kinds, strengths, baseline, optimizers, peers, models):
            comparison = Comparison(
                experiment=experiment,
                dataset=dataset,
                model=dict(models or {}).get(loss, model),
                baseline=against,
                loss=loss,
                seeds=tuple(seeds),
                epochs=epochs,
                metrics=measurements,
                theory=pd.DataFrame(columns=list(THEORY)),
            )
            rows += _rows(claim.id, comparison)
    table = pd.DataFrame([vars(row) for row in rows], columns=[field.name for field in fields(SpecificationRow)])
    return table.astype(dict.fromkeys(("effect", "low", "high"), float) | dict.fromkeys(("own", "same_sign"), bool))


def _rows(claim: str, comparison: Comparison) -> Iterator[SpecificationRow]:
    """Yield the rows of a claim on a pair, that of its own specification first; none where that was not measured."""
    chosen = list(possible(claim, comparison))
    if not chosen or chosen[0] != Specification(**{choice: options[0] for choice, options in CHOICES[claim].items()}):
        return
    sign, read = 0.0, cache(partial(curves, comparison))
    for place, specification in enumerate(chosen):
        measure = judged(claim, specification, comparison, read)
        side = _side(measure)
        sign = side if place == 0 else sign
        yield SpecificationRow(
            claim,
            comparison.experiment,
            comparison.dataset,
            comparison.model,
            comparison.loss,
            comparison.baseline,
            specification.name,
            place == 0,
            **vars(specification),
            **{name: getattr(measure, name) for name in ("effect", "low", "high", "unit", "scale")},
            seeds=measure.seeds or 0,
            verdict=measure.verdict,
            same_sign=side == sign != 0,
        )


def _side(measure: Measure) -> float:
    """Return -1 for an effect below no effect, where all four claims put it, 1 for one above; 0 where neither is known.

    Of an effect that is known on one side only, such as one of runs that never reach a level, the verdict says which.
    """
    if measure.verdict != "inconclusive":
        return -1.0 if measure.verdict == "supported" else 1.0
    return 0.0 if math.isnan(measure.effect) else float(np.sign(measure.effect - measure.null))


def possible(claim: str, comparison: Comparison) -> Iterator[Specification]:
    """Yield the specifications of a claim that the measurements of both losses allow, its own first.

    A snapshot that is the only late one is the last, and makes no choice.
    """
    known = comparison.metrics.metrics_of(comparison.loss) & comparison.metrics.metrics_of(comparison.baseline)
    late = [epoch for epoch in _snapshots(comparison) if epoch >= LATE * comparison.epochs]
    left_out = {name for name, there in (("late", len(late) > 1), ("best", "error" in known)) if not there}
    names = list(CHOICES[claim])
    for options in product(*CHOICES[claim].values()):
        found = Specification(**dict(zip(names, options, strict=True)))
        if found.epoch not in left_out and {found.measure, found.matched} - {""} <= known:
            yield found


def _snapshots(comparison: Comparison) -> list[int]:
    rows = comparison.metrics.of(comparison.baseline, "train", "nc1")
    return sorted(set(rows["epoch"]))


def judged(claim: str, chosen: Specification, comparison: Comparison, read: Courses) -> Measure:
    """Return the effect of a claim's comparison by a specification, judged as the claim's measures are."""
    if claim == "C1":
        return _time(chosen, comparison, read)
    if claim == "C3":
        return _matched(chosen, comparison, read)
    scale: Scale = "ratio" if claim == "C2" else "difference"
    unit = "ratio" if claim == "C2" else "difference in ECE"
    if chosen.epoch == "last":
        return final(comparison, chosen.split, chosen.measure, scale=scale, unit=unit)
    value = _late(comparison, scale) if chosen.epoch == "late" else _best(read("test", "error"))
    own = read(chosen.split, chosen.measure)
    values = {loss: {seed: value(loss, seed, curve) for seed, curve in runs.items()} for loss, runs in own.items()}
    effects = {
        seed: log_ratio(*pair) if scale == "ratio" else pair[0] - pair[1]
        for seed, *pair in paired_runs(comparison, values)
    }
    return _of_pairs(chosen, effects, comparison, scale=scale, unit=unit)


def _of_pairs(
    chosen: Specification, effects: Mapping[int, float], comparison: Comparison, *, scale: Scale, unit: str
) -> Measure:
    return judge_pairs(chosen.measure, effects, comparison.seeds, scale=scale, claimed="below", unit=unit)


def _late(comparison: Comparison, scale: Scale) -> Value:
    """Return what reads the mean over the late snapshots, of ratios the geometric one."""

    def value(loss: str, seed: int, curve: pd.Series) -> float:
        late = curve[curve.index >= LATE * comparison.epochs]
        return float(np.exp(logs(late).mean(skipna=False)) if scale == "ratio" else late.mean(skipna=False))

    return value


def _best(errors: Curves) -> Value:
    """Return what reads the value at the snapshot of a run's lowest test error; nan where it has none."""

    def value(loss: str, seed: int, curve: pd.Series) -> float:
        error = errors[loss].get(seed)
        return math.nan if error is None or error.isna().any() else float(curve.get(error.idxmin(), math.nan))

    return value


def _time(chosen: Specification, comparison: Comparison, read: Courses) -> Measure:
    runs = read(chosen.split, chosen.measure)
    log_runs = {loss: {seed: logs(curve) for seed, curve in of_loss.items()} for loss, of_loss in runs.items()}
    level = partial(interpolated, epoch=LEVELS[chosen.level] * comparison.epochs)
    return time_ratio(comparison, chosen.measure, log_runs, level, interpolate=True)


def _matched(chosen: Specification, comparison: Comparison, read: Courses) -> Measure:
    nc1, nc2 = (read(chosen.split, name) for name in (chosen.matched, chosen.measure))
    effects = {
        seed: log_ratio_at_same_nc1(path, baseline, PLACES[chosen.level])
        for seed, path, baseline in paired_runs(comparison, collapse_paths(nc1, nc2))
    }
    return _of_pairs(chosen, effects, comparison, scale="ratio", unit="ratio")
