"""From the metrics of two losses' runs to measures: after the last epoch, or by the epoch that a level is reached."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nclens.claims.verdict import (
    NOT_MEASURED,
    NOT_REACHED,
    RESOLUTION,
    Comparison,
    Measure,
    Reason,
    Scale,
    Side,
    judge_pairs,
    log_ratio,
    named_seeds,
)

LOWEST_ERROR_LEVEL = 0.01
"""Errors below 1% count as 1%: the last few samples carry little information on the speed of training."""

Curves = dict[str, dict[int, pd.Series]]


@dataclass(frozen=True)
class Reach:
    """When a curve first comes down to a level.

    Attributes:
        epoch: the first such epoch; the first snapshot's where the level is reached by then, the last one's where it
            never is.
        step: epochs between the two snapshots around it (0 and the first, or the last two where it never is).
        when: by the `first` snapshot, `later`, or `never`.
    """

    epoch: float
    step: float
    when: str


def curves(comparison: Comparison, split: str, metric: str) -> Curves:
    """Return a metric along training: loss -> seed -> values indexed by epoch, ascending; see `curves_of`."""
    return {loss: curves_of(comparison, loss, split, metric) for loss in (comparison.baseline, comparison.loss)}


def curves_of(comparison: Comparison, loss: str, split: str, metric: str) -> dict[int, pd.Series]:
    """Return a metric of a loss along training: seed -> values indexed by epoch, ascending.

    A run that has no value at the last epoch is left out: it is missing or was cut short.

    Raises:
        ValueError: a run has two values for the same epoch.
    """
    rows = comparison.metrics.of(loss, split, metric)
    # In sorted rows a seed is a slice; searching all rows for each seed would take quadratic time.
    rows = rows.sort_values(["seed", "epoch"], kind="stable")
    seeds, epochs, values = (rows[column].to_numpy() for column in ("seed", "epoch", "value"))
    found: dict[int, pd.Series] = {}
    for seed in comparison.seeds:
        own = slice(*np.searchsorted(seeds, [seed, seed + 1]))
        if (np.diff(epochs[own]) == 0).any():
            raise ValueError(f"{comparison.experiment}: {split} {metric} of {loss}, seed {seed}, occurs twice")
        if (epochs[own] == comparison.epochs).any():
            index = pd.Index(epochs[own], name="epoch")
            found[seed] = pd.Series(values[own].astype(float), index=index, name="value")
    return found


def first_reach(curve: pd.Series, level: float, *, interpolate: bool) -> Reach:
    """Return when a curve is first at or below a level, also where it rises again later.

    Args:
        curve: values indexed by epoch, ascending.
        level: on the scale of the values.
        interpolate: take the curve as linear in epoch between snapshots; otherwise, and next to a value that is not
            finite, the level is reached at the first snapshot at or below it.
    """
    epochs, values = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    steps = np.diff(epochs, prepend=0.0)
    at_or_below = np.flatnonzero(values <= level)
    if len(at_or_below) == 0:
        return Reach(float(epochs[-1]), float(steps[-1]), "never")
    place = int(at_or_below[0])
    if place == 0:
        return Reach(float(epochs[0]), float(steps[0]), "first")
    before, after = values[place - 1], values[place]
    share = (before - level) / (before - after) if interpolate and np.isfinite([before, after]).all() else 1.0
    return Reach(float(epochs[place - 1] + share * steps[place]), float(steps[place]), "later")


def reach_epochs(curve: pd.Series, levels: np.ndarray) -> np.ndarray:
    """Return the epochs at which a curve first is at or below each of many levels, as `first_reach` interpolates them.

    Args:
        curve: values indexed by epoch, ascending.
        levels: (L,), on the scale of the values.
    """
    epochs, values = curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float)
    steps = np.diff(epochs, prepend=0.0)
    there = values <= levels[:, None]
    place = there.argmax(axis=1)
    before, after = values[place - 1], values[place]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.isfinite(before) & np.isfinite(after), (before - levels) / (before - after), 1.0)
    found = np.where(place > 0, epochs[place - 1] + share * steps[place], epochs[0])
    return np.where(there.any(axis=1), found, epochs[-1])


def paired_runs(comparison: Comparison, runs: Mapping[str, Mapping[int, Any]]) -> list[tuple[int, Any, Any]]:
    """Return (seed, of the loss, of the baseline) for each seed that has both."""
    of_loss, of_baseline = runs[comparison.loss], runs[comparison.baseline]
    return [
        (seed, of_loss[seed], of_baseline[seed]) for seed in comparison.seeds if seed in of_loss and seed in of_baseline
    ]


def same_until(curve: pd.Series, other: pd.Series, epoch: float = math.inf) -> bool:
    """Return whether two runs have the same values at each snapshot up to the first one at or after an epoch.

    Then they are the same network so far, bit for bit. A value that never changes does not say so, nor does one
    snapshot.
    """
    later = curve.index[curve.index >= epoch]
    end = later[0] if len(later) else math.inf
    own, others = curve[curve.index <= end], other[other.index <= end]
    return len(own) > 1 and own.nunique(dropna=False) > 1 and own.equals(others)


def logs(curve: pd.Series) -> pd.Series:
    """Return the natural logarithm of a curve's values, without warnings."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(curve)


def interpolated(curve: pd.Series, epoch: float) -> float:
    """Return a curve's value at an epoch, linear between snapshots; nan before the first one."""
    return float(np.interp(epoch, curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float), left=math.nan))


def error_level(curve: pd.Series) -> float:
    """Return the error that counts as a run's final one: at least `LOWEST_ERROR_LEVEL`; nan if it is not finite."""
    final = float(curve.iloc[-1])
    return max(final, LOWEST_ERROR_LEVEL) if math.isfinite(final) else math.nan


def final(
    comparison: Comparison,
    split: str,
    metric: str,
    *,
    scale: Scale,
    claimed: Side = "below",
    unit: str = "",
    quantity: str = "",
    null: float | None = None,
    notes: Sequence[str] = (),
) -> Measure:
    """Judge a metric after the last epoch: loss over baseline, or loss minus baseline.

    Args:
        comparison: the two losses.
        split: train or test.
        metric: a key of the metrics table.
        scale: ratio or difference.
        claimed: the side on which the claim puts the loss.
        unit: of the effect; the scale's name by default.
        quantity: what to call the measure; the metric's key by default.
        null: the value of no effect, where it is not that of the scale.
        notes: remarks that open the note.
    """
    effects, identical = {}, []
    for seed, curve, baseline in paired_runs(comparison, curves(comparison, split, metric)):
        values = float(curve.iloc[-1]), float(baseline.iloc[-1])
        effects[seed] = log_ratio(*values) if scale == "ratio" else values[0] - values[1]
        identical += [seed] if same_until(curve, baseline) else []
    return judge_pairs(
        quantity or metric,
        effects,
        comparison.seeds,
        scale=scale,
        claimed=claimed,
        unit=unit or scale,
        identical=identical,
        null=null,
        notes=notes,
    )


def time_ratio(
    comparison: Comparison,
    quantity: str,
    runs: Mapping[str, Mapping[int, pd.Series]],
    level_of: Callable[[pd.Series], float],
    *,
    interpolate: bool,
) -> Measure:
    """Judge the ratio of the epochs at which loss and baseline first reach the baseline's level.

    One step between snapshots is a step of `step / epoch of the baseline` in the ratio where it is the loss's, and of
    `ratio * step / epoch of the baseline` where it is the baseline's; what the measure resolves is the largest of all
    pairs'. A pair whose level is not finite, whose baseline is there by its first snapshot, or whose loss is there
    before training, at epoch 0, is undefined.
    """
    effects: dict[int, float] = {}
    reaches: dict[int, tuple[Reach, Reach]] = {}
    identical: list[int] = []
    undefined: dict[int, Reason] = {}
    steps = [0.0]
    for seed, curve, baseline_curve in paired_runs(comparison, runs):
        level = level_of(baseline_curve)
        reach = first_reach(curve, level, interpolate=interpolate)
        baseline = first_reach(baseline_curve, level, interpolate=interpolate)
        known = math.isfinite(level) and baseline.when == "later"
        effects[seed] = log_ratio(reach.epoch, baseline.epoch) if known else math.nan
        undefined[seed] = RESOLUTION if "first" in (reach.when, baseline.when) else NOT_MEASURED
        identical += [seed] if same_until(curve, baseline_curve, baseline.epoch) else []
        if math.isfinite(effects[seed]):
            reaches[seed] = reach, baseline
            steps += [reach.step / baseline.epoch, reach.epoch * baseline.step / baseline.epoch**2]
    never = [seed for seed, (reach, _) in reaches.items() if reach.when == "never"]
    return judge_pairs(
        quantity,
        effects,
        comparison.seeds,
        scale="ratio",
        claimed="below",
        unit="ratio of epochs",
        only_above=never,
        identical=identical,
        undefined=undefined,
        resolution=max(steps),
        notes=_time_notes(comparison, reaches),
    )


def time_to(
    comparison: Comparison,
    quantity: str,
    split: str,
    metric: str,
    level: float,
    *,
    rising: bool,
    claimed: Side,
    null: float | None = None,
) -> Measure:
    """Judge the ratio of the epochs at which loss and baseline first reach a level, each at a snapshot.

    A run that never reaches it, or is there by its first snapshot, is censored: its pair's ratio is known on one side
    only, and the note names it. Where that leaves neither side, as where neither run ever reaches the level, the pair
    has no effect, and the measure is inconclusive.

    Args:
        comparison: the two losses.
        quantity: what to call the measure.
        split: train or test.
        metric: a key of the metrics table.
        level: in the metric's unit.
        rising: whether the level is reached from below.
        claimed: the side on which the claim puts the ratio.
        null: the ratio that the interval is compared with; by default 1.
    """
    sign = -1.0 if rising else 1.0
    effects: dict[int, float] = {}
    reaches: dict[int, tuple[Reach, Reach]] = {}
    sides: dict[str, list[int]] = {"above": [], "below": []}
    identical: list[int] = []
    undefined: dict[int, Reason] = {}
    steps = [0.0]
    for seed, *pair in paired_runs(comparison, curves(comparison, split, metric)):
        own, other = (first_reach(sign * curve, sign * level, interpolate=False) for curve in pair)
        reaches[seed] = own, other
        # An epoch of which only a bound is known leaves one side of the ratio open; two of them may leave both.
        above = own.when == "never" or other.when == "first"
        below = own.when == "first" or other.when == "never"
        effects[seed] = math.nan if above and below else log_ratio(own.epoch, other.epoch)
        undefined[seed] = NOT_REACHED if "never" in (own.when, other.when) else RESOLUTION
        identical += [seed] if same_until(pair[0], pair[1], other.epoch) else []
        if math.isfinite(effects[seed]):
            sides["above"] += [seed] if above else []
            sides["below"] += [seed] if below else []
            steps += [own.step / other.epoch, own.epoch * other.step / other.epoch**2]
    return judge_pairs(
        quantity,
        effects,
        comparison.seeds,
        scale="ratio",
        claimed=claimed,
        unit="ratio of epochs",
        only_above=sides["above"],
        only_below=sides["below"],
        identical=identical,
        undefined=undefined,
        resolution=max(steps),
        null=null,
        notes=_time_notes(comparison, reaches),
    )


def _time_notes(comparison: Comparison, reaches: Mapping[int, tuple[Reach, Reach]]) -> list[str]:
    """Notes on the mean epochs of the runs, and on those that never reach the level or have by their first snapshot."""
    if not reaches:
        return []
    means = [np.mean([pair[place].epoch for pair in reaches.values()]) for place in (0, 1)]
    labels = [comparison.label(comparison.loss), comparison.label(comparison.baseline)]
    notes = [f"mean epoch {means[0]:.3g} for {labels[0]}, {means[1]:.3g} for {labels[1]}"]
    for place, label in enumerate(labels):
        for when, what in (("never", "never gets there"), ("first", "is there by its first snapshot")):
            if seeds := [seed for seed, pair in reaches.items() if pair[place].when == when]:
                notes.append(f"{label} {what}: {named_seeds(seeds)}")
    return notes
