"""The claims C1 to C4 of "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective", as pure functions.

Guo, Andriopoulos, Zhao, Dong, Ling, Ross: arXiv 2402.03979. They are judged by the metrics over paired seeds. The paper
gives no test: how each is measured is our choice, stated in its `rule`. Its claims C5 and C6 are theory, in
`unconstrained_feature_model`.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from nclens.claims.effects import (
    Curves,
    curves,
    error_level,
    final,
    interpolated,
    logs,
    paired_runs,
    reach_epochs,
    time_ratio,
)
from nclens.claims.margins import COLLAPSE, ECE, ECE_CLASSWISE, EPOCHS
from nclens.claims.verdict import Claim, Comparison, Measure, judge_pairs

PAPER = "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective (arXiv 2402.03979)"

NC1_LEVELS = {"epochs_to_final_nc1": 1.0, "epochs_to_nc1_at_75_percent": 0.75, "epochs_to_nc1_at_50_percent": 0.5}
"""Measure of C1 -> the share of training after which the baseline's nc1 is the level to reach."""
FINAL_COLLAPSE = ("nc1", "nc2", "nc2_means", "nc2_classifier", "nc3")
CALIBRATION_ERRORS = ("ece", "ece_20", "ece_25", "ece_adaptive", "ece_classwise")
MATCHED_LEVELS = 200
"""Number of nc1 levels, evenly spaced on the log scale, at which C3 compares nc2."""
CENTRES = np.arange(MATCHED_LEVELS) + 0.5


def converges_faster(comparison: Comparison) -> list[Measure]:
    """C1: ratio of the epochs at which loss and baseline first reach the baseline's own levels of nc1 and of error."""
    nc1 = curves(comparison, "train", "nc1")
    log_nc1 = {loss: {seed: logs(curve) for seed, curve in runs.items()} for loss, runs in nc1.items()}

    def level_after(share: float) -> Callable[[pd.Series], float]:
        return lambda curve: interpolated(curve, share * comparison.epochs)

    measures = [
        time_ratio(comparison, quantity, log_nc1, level_after(share), interpolate=True)
        for quantity, share in NC1_LEVELS.items()
    ]
    error = curves(comparison, "train", "error")
    return [*measures, time_ratio(comparison, "epochs_to_error", error, error_level, interpolate=False)]


def collapses_more(comparison: Comparison) -> list[Measure]:
    """C2: ratio of the collapse metrics after the last epoch, on the training set."""
    return [final(comparison, "train", metric, scale="ratio") for metric in FINAL_COLLAPSE]


def has_lower_nc2_at_same_nc1(comparison: Comparison) -> list[Measure]:
    """C3: ratio of nc2 at the same nc1, averaged on the log scale over the nc1 that both runs pass through."""
    nc1, nc2 = curves(comparison, "train", "nc1"), curves(comparison, "train", "nc2")
    paths = collapse_paths(nc1, nc2)
    effects: dict[int, float] = {}
    ranges: dict[int, tuple[float, float]] = {}
    for seed, path, baseline in paired_runs(comparison, paths):
        ranges[seed] = common_range(path, baseline)
        effects[seed] = log_ratio_at_same_nc1(path, baseline)
    apart = [str(seed) for seed, (low, high) in ranges.items() if not low < high]
    notes = [f"no NC1 in common: seed {', '.join(apart)}"] if apart else []
    if ranges and not apart:
        low, high = math.exp(min(low for low, _ in ranges.values())), math.exp(max(high for _, high in ranges.values()))
        notes.append(f"NC1 in common from {low:.3g} to {high:.3g}")
    return [
        judge_pairs(
            "nc2_at_same_nc1", effects, comparison.seeds, scale="ratio", claimed="below", unit="ratio", notes=notes
        )
    ]


def calibrates_better(comparison: Comparison) -> list[Measure]:
    """C4: difference of the calibration errors after the last epoch, on the test set, before any scaling."""
    return [
        final(comparison, "test", metric, scale="difference", unit="difference in ECE") for metric in CALIBRATION_ERRORS
    ]


def common_range(path: pd.DataFrame, baseline: pd.DataFrame) -> tuple[float, float]:
    """Return the log nc1 that both runs come down through: (lowest, highest); lowest >= highest where there is none.

    A run comes down from its nc1 at the first snapshot to its smallest one.
    """
    if path.empty or baseline.empty:
        return math.inf, -math.inf
    lowest = max(path["nc1"].min(), baseline["nc1"].min())
    return float(lowest), float(min(path["nc1"].iloc[0], baseline["nc1"].iloc[0]))


def log_ratio_at_same_nc1(path: pd.DataFrame, baseline: pd.DataFrame, places: np.ndarray = CENTRES) -> float:
    """Return the mean of log nc2 minus the baseline's log nc2 over the common range of log nc1; nan without one.

    A run's nc2 at a level of nc1 is its nc2 when it first reaches that level, log nc1 and log nc2 both taken as linear
    in epoch between snapshots; where nc1 rises again and visits a level twice, the later visits do not count.

    Args:
        path: columns nc1 and nc2, both logs, indexed by epoch.
        baseline: the same of the other run.
        places: the levels, from 0, the lowest nc1 of the range, to `MATCHED_LEVELS`, the highest; by default over all.
    """
    low, high = common_range(path, baseline)
    if not low < high:
        return math.nan
    centres = low + (high - low) * places / MATCHED_LEVELS
    at_levels = [
        np.interp(reach_epochs(nc1, centres), nc1.index, nc2)
        for nc1, nc2 in ((run["nc1"], run["nc2"]) for run in (path, baseline))
    ]
    return float(np.mean(at_levels[0] - at_levels[1]))


def collapse_paths(nc1: Curves, nc2: Curves) -> dict[str, dict[int, pd.DataFrame]]:
    """Return log nc1 and log nc2 by epoch of the runs that have both: loss -> seed -> columns nc1 and nc2."""
    return {
        loss: {seed: _path(nc1[loss][seed], nc2[loss][seed]) for seed in nc1[loss].keys() & nc2[loss].keys()}
        for loss in nc1
    }


def _path(nc1: pd.Series, nc2: pd.Series) -> pd.DataFrame:
    """Return log nc1 and log nc2 by epoch, at the snapshots where both are finite."""
    path = pd.DataFrame({"nc1": logs(nc1), "nc2": logs(nc2)})
    return path[np.isfinite(path["nc1"]) & np.isfinite(path["nc2"])]


CLAIMS = (
    Claim(
        "C1",
        PAPER,
        "Label smoothing reaches a level of neural collapse in fewer epochs than cross entropy.",
        "Ratio of the epochs at which the loss and the baseline first reach a level that the baseline sets, on the "
        "training set: its NC1 at the end of training (the main measure), after 75% and after 50% of it, log NC1 taken "
        "as linear in epoch between snapshots; and its final error, or 1% where that is lower, at the first snapshot "
        "at or below it. One snapshot step, divided by the baseline's epoch, is what the ratio resolves.",
        converges_faster,
        labels={
            "epochs_to_final_nc1": "epochs to final NC1",
            "epochs_to_nc1_at_75_percent": "epochs to NC1 at 75%",
            "epochs_to_nc1_at_50_percent": "epochs to NC1 at 50%",
            "epochs_to_error": "epochs to error",
        },
        margins=dict.fromkeys((*NC1_LEVELS, "epochs_to_error"), EPOCHS),
        subject="label smoothing",
        holds="converges faster to neural collapse",
        fails="converges more slowly to neural collapse",
        below="faster",
        place="NC1 as in its equation (4)",
        figures=("collapse_curves",),
    ),
    Claim(
        "C2",
        PAPER,
        "Training with label smoothing ends at a stronger level of neural collapse than training with cross entropy.",
        "Ratios of NC1 (the main measure), NC2, NC2 of the means and of the classifier, and NC3 after the last epoch, "
        "training set.",
        collapses_more,
        labels={
            "nc1": "NC1",
            "nc2": "NC2",
            "nc2_means": "NC2 means",
            "nc2_classifier": "NC2 classifier",
            "nc3": "NC3",
        },
        margins=dict.fromkeys(FINAL_COLLAPSE, COLLAPSE),
        subject="label smoothing",
        holds="ends more strongly collapsed",
        fails="ends less strongly collapsed",
        below="more collapsed",
        place="NC1 and NC3 as in its equations (4) and (6)",
        figures=("collapse_curves", "train_test"),
    ),
    Claim(
        "C3",
        PAPER,
        "At the same NC1, NC2 is lower under label smoothing than under cross entropy.",
        "Ratio of NC2 when each run first reaches the same NC1, interpolated between snapshots and averaged on the log "
        "scale over all NC1 that both runs of a seed come down through; training set.",
        has_lower_nc2_at_same_nc1,
        labels={"nc2_at_same_nc1": "NC2 at same NC1"},
        margins={"nc2_at_same_nc1": COLLAPSE},
        subject="label smoothing",
        holds="has a lower NC2 at the same NC1",
        fails="has a higher NC2 at the same NC1",
        below="more collapsed",
        place="NC1 as in its equation (4)",
        figures=("nc1_nc2",),
    ),
    Claim(
        "C4",
        PAPER,
        "Label smoothing improves calibration.",
        "Differences of the expected calibration error before temperature scaling, after the last epoch, test set: "
        "15 bins (the main measure), 20 and 25 bins, adaptive and classwise.",
        calibrates_better,
        labels={
            "ece": "ECE, 15 bins, whole test set",
            "ece_20": "ECE, 20 bins, whole test set",
            "ece_25": "ECE, 25 bins, whole test set",
            "ece_adaptive": "adaptive ECE, whole test set",
            "ece_classwise": "classwise ECE, whole test set",
        },
        margins=dict.fromkeys(CALIBRATION_ERRORS, ECE) | {"ece_classwise": ECE_CLASSWISE},
        subject="label smoothing",
        holds="is better calibrated",
        fails="is worse calibrated",
        below="better calibrated",
        figures=("reliability",),
    ),
)
"""The paper's claims on trained networks, in its order."""
