"""The claims C1 to C4 of "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective", as pure functions.

Guo, Andriopoulos, Zhao, Dong, Ling, Ross: arXiv 2402.03979. They are judged by the metrics over paired seeds; how each
is measured is our choice and stands in its `rule`: the paper gives no test. Its claims C5 and C6 are theory and stand
in `unconstrained_feature_model`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nclens.claims.verdict import Claim, Comparison, Measure, Scale, judge_pairs, log_ratio

PAPER = "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective (arXiv 2402.03979)"

NC1_LEVELS = {"epochs_to_final_nc1": 1.0, "epochs_to_nc1_at_75_percent": 0.75, "epochs_to_nc1_at_50_percent": 0.5}
"""Measure of C1 -> the share of training after which the baseline's nc1 is the level to reach."""
LOWEST_ERROR_LEVEL = 0.01
"""Training errors below 1% count as 1%, since a few last samples say little about the speed of training."""
FINAL_COLLAPSE = ("nc1", "nc2", "nc2_means", "nc2_classifier", "nc3")
CALIBRATION_ERRORS = ("ece", "ece_20", "ece_25", "ece_adaptive", "ece_classwise")
MATCHED_LEVELS = 200
"""Number of nc1 levels, evenly spaced on the log scale, at which C3 compares nc2."""

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
    """Return a metric along training: loss -> seed -> values indexed by epoch, ascending.

    A run that has no value at the last epoch is left out: it is missing or was cut short.

    Raises:
        ValueError: a run has two values for the same epoch.
    """
    table = comparison.metrics
    rows = table[(table["split"] == split) & (table["metric"] == metric)]
    found: Curves = {comparison.baseline: {}, comparison.loss: {}}
    for loss, runs in found.items():
        for seed in comparison.seeds:
            run = rows[(rows["loss"] == loss) & (rows["seed"] == seed)]
            if run["epoch"].duplicated().any():
                raise ValueError(f"{comparison.experiment}: {split} {metric} of {loss}, seed {seed}, stands twice")
            if (run["epoch"] == comparison.epochs).any():
                runs[seed] = run.set_index("epoch")["value"].sort_index().astype(float)
    return found


def first_reach(curve: pd.Series, level: float, *, interpolate: bool) -> Reach:
    """Return when a curve is first at or below a level, also where it rises again later.

    Args:
        curve: values indexed by epoch, ascending.
        level: on the scale of the values.
        interpolate: take the curve as linear in epoch between snapshots; without it, and beside a value that is not
            finite, the level is reached at the snapshot that is first at or below it.
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


def converges_faster(comparison: Comparison) -> list[Measure]:
    """C1: ratio of the epochs at which loss and baseline first reach the baseline's own levels of nc1 and of error."""
    nc1 = curves(comparison, "train", "nc1")
    log_nc1 = {loss: {seed: _logs(curve) for seed, curve in runs.items()} for loss, runs in nc1.items()}

    def level_after(share: float) -> Callable[[pd.Series], float]:
        return lambda curve: _interpolated(curve, share * comparison.epochs)

    measures = [
        _time_ratio(comparison, quantity, log_nc1, level_after(share), interpolate=True)
        for quantity, share in NC1_LEVELS.items()
    ]
    error = curves(comparison, "train", "error")
    return [*measures, _time_ratio(comparison, "epochs_to_error", error, _error_level, interpolate=False)]


def collapses_more(comparison: Comparison) -> list[Measure]:
    """C2: ratio of the collapse metrics after the last epoch, on the training set."""
    return [_final(comparison, "train", metric, "ratio", "ratio") for metric in FINAL_COLLAPSE]


def has_lower_nc2_at_same_nc1(comparison: Comparison) -> list[Measure]:
    """C3: ratio of nc2 at the same nc1, averaged on the log scale over the nc1 that both runs pass through."""
    nc1, nc2 = curves(comparison, "train", "nc1"), curves(comparison, "train", "nc2")
    paths = {
        loss: {seed: _path(nc1[loss][seed], nc2[loss][seed]) for seed in nc1[loss].keys() & nc2[loss].keys()}
        for loss in nc1
    }
    effects: dict[int, float] = {}
    ranges: dict[int, tuple[float, float]] = {}
    for seed, path, baseline in _pairs(comparison, paths):
        ranges[seed] = common_range(path, baseline)
        effects[seed] = log_ratio_at_same_nc1(path, baseline)
    apart = [str(seed) for seed, (low, high) in ranges.items() if not low < high]
    notes = [f"no nc1 in common: seed {', '.join(apart)}"] if apart else []
    if ranges and not apart:
        low, high = math.exp(min(low for low, _ in ranges.values())), math.exp(max(high for _, high in ranges.values()))
        notes.append(f"nc1 in common from {low:.3g} to {high:.3g}")
    return [
        judge_pairs(
            "nc2_at_same_nc1", effects, comparison.seeds, scale="ratio", claimed="below", unit="ratio", notes=notes
        )
    ]


def calibrates_better(comparison: Comparison) -> list[Measure]:
    """C4: difference of the calibration errors after the last epoch, on the test set, before any scaling."""
    return [_final(comparison, "test", metric, "difference", "difference in ECE") for metric in CALIBRATION_ERRORS]


def common_range(path: pd.DataFrame, baseline: pd.DataFrame) -> tuple[float, float]:
    """Return the log nc1 that both runs come down through: (lowest, highest); lowest >= highest where there is none.

    A run comes down from its nc1 at the first snapshot to its smallest one.
    """
    if path.empty or baseline.empty:
        return math.inf, -math.inf
    lowest = max(path["nc1"].min(), baseline["nc1"].min())
    return float(lowest), float(min(path["nc1"].iloc[0], baseline["nc1"].iloc[0]))


def log_ratio_at_same_nc1(path: pd.DataFrame, baseline: pd.DataFrame) -> float:
    """Return the mean of log nc2 minus the baseline's log nc2 over the common range of log nc1; nan without one.

    A run's nc2 at a level of nc1 is its nc2 when it first reaches that level, log nc1 and log nc2 both taken as linear
    in epoch between snapshots; where nc1 rises again and visits a level twice, the later visits do not count.

    Args:
        path: columns nc1 and nc2, both logs, indexed by epoch.
        baseline: the same of the other run.
    """
    low, high = common_range(path, baseline)
    if not low < high:
        return math.nan
    centres = low + (high - low) * (np.arange(MATCHED_LEVELS) + 0.5) / MATCHED_LEVELS
    at_levels = [
        np.interp([first_reach(run["nc1"], level, interpolate=True).epoch for level in centres], run.index, run["nc2"])
        for run in (path, baseline)
    ]
    return float(np.mean(at_levels[0] - at_levels[1]))


def _pairs(comparison: Comparison, runs: Mapping[str, Mapping[int, Any]]) -> list[tuple[int, Any, Any]]:
    """Return (seed, of the loss, of the baseline) for each seed that has both."""
    of_loss, of_baseline = runs[comparison.loss], runs[comparison.baseline]
    return [
        (seed, of_loss[seed], of_baseline[seed]) for seed in comparison.seeds if seed in of_loss and seed in of_baseline
    ]


def _logs(curve: pd.Series) -> pd.Series:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(curve)


def _path(nc1: pd.Series, nc2: pd.Series) -> pd.DataFrame:
    """Return log nc1 and log nc2 by epoch, at the snapshots where both are finite."""
    path = pd.DataFrame({"nc1": _logs(nc1), "nc2": _logs(nc2)})
    return path[np.isfinite(path["nc1"]) & np.isfinite(path["nc2"])]


def _interpolated(curve: pd.Series, epoch: float) -> float:
    """Return a curve's value at an epoch, linear between snapshots; nan before the first one."""
    return float(np.interp(epoch, curve.index.to_numpy(dtype=float), curve.to_numpy(dtype=float), left=math.nan))


def _error_level(curve: pd.Series) -> float:
    final = float(curve.iloc[-1])
    return max(final, LOWEST_ERROR_LEVEL) if math.isfinite(final) else math.nan


def _time_ratio(
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
    pairs'. A pair whose level is not finite, or whose baseline is there by its first snapshot, is undefined.
    """
    effects: dict[int, float] = {}
    reaches: dict[int, tuple[Reach, Reach]] = {}
    steps = [0.0]
    for seed, curve, baseline_curve in _pairs(comparison, runs):
        level = level_of(baseline_curve)
        reach = first_reach(curve, level, interpolate=interpolate)
        baseline = first_reach(baseline_curve, level, interpolate=interpolate)
        known = math.isfinite(level) and baseline.when == "later"
        effects[seed] = log_ratio(reach.epoch, baseline.epoch) if known else math.nan
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
        resolution=max(steps),
        notes=_time_notes(comparison, reaches),
    )


def _time_notes(comparison: Comparison, reaches: Mapping[int, tuple[Reach, Reach]]) -> list[str]:
    """Say when the runs get there, and which never do or are there by their first snapshot."""
    if not reaches:
        return []
    means = [np.mean([pair[place].epoch for pair in reaches.values()]) for place in (0, 1)]
    notes = [f"mean epoch {means[0]:.3g} for {comparison.loss}, {means[1]:.3g} for {comparison.baseline}"]
    for when, words in (("never", "never gets there"), ("first", "is there by its first snapshot")):
        if seeds := [str(seed) for seed, (reach, _) in reaches.items() if reach.when == when]:
            notes.append(f"{comparison.loss} {words}: seed {', '.join(seeds)}")
    return notes


def _final(comparison: Comparison, split: str, metric: str, scale: Scale, unit: str) -> Measure:
    """Judge a metric after the last epoch: lower is what the claim says."""
    effects = {}
    for seed, curve, baseline in _pairs(comparison, curves(comparison, split, metric)):
        values = float(curve.iloc[-1]), float(baseline.iloc[-1])
        effects[seed] = log_ratio(*values) if scale == "ratio" else values[0] - values[1]
    return judge_pairs(metric, effects, comparison.seeds, scale=scale, claimed="below", unit=unit)


CLAIMS = (
    Claim(
        "C1",
        PAPER,
        "Label smoothing reaches a level of neural collapse in fewer epochs than cross entropy.",
        "Ratio of the epochs at which the loss and the baseline first reach a level that the baseline sets, on the "
        "training set: its nc1 at the end of training (the main measure), after 75% and after 50% of it, log nc1 taken "
        "as linear in epoch between snapshots; and its final error, or 1% where that is lower, at the first snapshot "
        "at or below it. One snapshot step, divided by the baseline's epoch, is what the ratio resolves.",
        converges_faster,
    ),
    Claim(
        "C2",
        PAPER,
        "Training with label smoothing ends at a stronger level of neural collapse than training with cross entropy.",
        "Ratios of nc1 (the main measure), nc2, nc2_means, nc2_classifier and nc3 after the last epoch, training set.",
        collapses_more,
    ),
    Claim(
        "C3",
        PAPER,
        "At the same NC1, NC2 is lower under label smoothing than under cross entropy.",
        "Ratio of nc2 when each run first reaches the same nc1, interpolated between snapshots and averaged on the log "
        "scale over all nc1 that both runs of a seed come down through; training set.",
        has_lower_nc2_at_same_nc1,
    ),
    Claim(
        "C4",
        PAPER,
        "Label smoothing improves calibration.",
        "Differences of the expected calibration error before temperature scaling, after the last epoch, test set: "
        "15 bins (the main measure), 20 and 25 bins, adaptive and classwise.",
        calibrates_better,
    ),
)
"""The paper's claims on trained networks, in its order."""
