"""The claims of "Towards Understanding Label Smoothing", arXiv 2006.11653: two-stage smoothing (TSLA), and gradients.

Two-stage smoothing is label smoothing in the first epochs and cross entropy afterwards. It is compared with cross
entropy and with label smoothing of the same strength throughout. Of the paper only the abstract was read: the
hyper-parameters of our studies are ours, and so is how each claim is measured.
"""

import math

import pandas as pd

from nclens.claims import margins
from nclens.claims.effects import curves, curves_of, error_level, final, interpolated, logs, time_ratio
from nclens.claims.verdict import Claim, Comparison, Measure, judge_pairs, log_ratio

PAPER = "Towards Understanding Label Smoothing (arXiv 2006.11653)"
TWO_STAGE = f"{PAPER}; hyper-parameters ours"
OWN = "Our own, on neural collapse after two-stage smoothing"

DROPPED = ("ls_drop",)
COLLAPSE = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
EARLY = 0.1
"""Share of training that counts as its beginning."""


def is_faster(comparison: Comparison) -> list[Measure]:
    """T1: ratios of the epochs at which both first reach the other loss's final training error, test error and nc1."""
    errors = [
        time_ratio(
            comparison,
            f"epochs_to_{split}_error",
            curves(comparison, split, "epoch_error"),
            error_level,
            interpolate=False,
        )
        for split in ("train", "test")
    ]
    nc1 = {
        loss: {seed: logs(curve) for seed, curve in runs.items()}
        for loss, runs in curves(comparison, "train", "nc1").items()
    }
    epochs = comparison.epochs
    last = time_ratio(
        comparison, "epochs_to_final_nc1", nc1, lambda curve: interpolated(curve, epochs), interpolate=True
    )
    return [*errors, last]


def ends_with_less_error(comparison: Comparison) -> list[Measure]:
    """T2: difference of the test errors after the last epoch."""
    return [final(comparison, "test", "error", scale="difference", unit="difference in error")]


def stays_collapsed(comparison: Comparison) -> list[Measure]:
    """T3: ratios of nc1, nc2 and nc3 after the last epoch, on the training set."""
    return [final(comparison, "train", metric, scale="ratio") for metric in COLLAPSE]


def reduces_gradient_variance(comparison: Comparison) -> list[Measure]:
    """W4: ratios of the gradient variance of smoothed to that of one-hot targets at the same weights.

    None without a probe.
    """
    measures = []
    for metric in comparison.metrics.probed("gradient_variance_network_onehot"):
        suffix = metric.removeprefix("gradient_variance_network_onehot")
        for name, (part, of_loss, span) in VARIANCES.items():
            place = comparison.loss if of_loss else comparison.baseline
            effects = {}
            for seed, curve in _log_variance_ratios(comparison, place, part, suffix).items():
                first, last = span[0] * comparison.epochs, span[1] * comparison.epochs
                # The first snapshot counts as early also where it comes late.
                early = max(last, curve.index[0])
                effects[seed] = float(curve[(curve.index >= first) & (curve.index <= early)].mean(skipna=False))
            measures.append(
                judge_pairs(
                    name + suffix,
                    effects,
                    comparison.seeds,
                    scale="ratio",
                    claimed="below",
                    unit="ratio of variances",
                )
            )
    return measures


VARIANCES = {
    "gradient_variance_at_loss_weights": ("network", True, (0.0, 1.0)),
    "gradient_variance_at_loss_weights_at_end": ("network", True, (1.0, 1.0)),
    "gradient_variance_of_head_at_loss_weights": ("head", True, (0.0, 1.0)),
    "gradient_variance_at_baseline_weights": ("network", False, (0.0, 1.0)),
    "gradient_variance_at_baseline_weights_early": ("network", False, (0.0, EARLY)),
}
"""Measure of W4 -> the gradient's part, whether at the loss's or the baseline's weights, and which span of training."""


def _log_variance_ratios(comparison: Comparison, loss: str, part: str, suffix: str) -> dict[int, pd.Series]:
    """Log of the variance of smoothed over that of one-hot targets, by seed and epoch, epoch 0 left out."""
    smoothed, onehot = (
        curves_of(comparison, loss, "train", f"gradient_variance_{part}_{targets}{suffix}")
        for targets in ("smoothed", "onehot")
    )
    found = {}
    for seed in smoothed.keys() & onehot.keys():
        curve = smoothed[seed]
        ratios = [log_ratio(value, onehot[seed].get(epoch, math.nan)) for epoch, value in curve.items()]
        found[seed] = pd.Series(ratios, index=curve.index)[curve.index > 0]
    return found


CLAIMS = (
    Claim(
        "T1",
        TWO_STAGE,
        "Two-stage smoothing trains in fewer epochs.",
        "Ratios of the epochs at which two-stage smoothing and the other loss first reach a level that the other loss "
        "sets: its error at the end, or 1% where that is lower, as the epoch's mean on the training set (the main "
        "measure) and on the test set; and its NC1 at the end, log NC1 taken as linear in epoch between snapshots. "
        "Where the level is reached before the drop, two-stage smoothing and label smoothing are the same.",
        is_faster,
        labels={
            "epochs_to_train_error": "epochs to the training error",
            "epochs_to_test_error": "epochs to test error",
            "epochs_to_final_nc1": "epochs to final NC1",
        },
        margins=dict.fromkeys(("epochs_to_train_error", "epochs_to_test_error", "epochs_to_final_nc1"), margins.EPOCHS),
        subject="two-stage smoothing",
        holds="trains in fewer epochs",
        fails="trains in more epochs",
        below="faster",
        place="abstract",
        figures=("two_stage",),
        compared=DROPPED,
        against=("ce", "ls"),
    ),
    Claim(
        "T2",
        TWO_STAGE,
        "Two-stage smoothing ends with a lower error.",
        "Difference of the test errors after the last epoch.",
        ends_with_less_error,
        labels={"error": "error"},
        margins={"error": margins.ERROR},
        subject="two-stage smoothing",
        holds="ends with a lower error",
        fails="ends with a higher error",
        below="more accurate",
        place="abstract",
        figures=("two_stage", "drop_epoch"),
        compared=DROPPED,
        against=("ce", "ls"),
    ),
    Claim(
        "T3",
        OWN,
        "The collapse reached under label smoothing remains after the smoothing is dropped.",
        "Ratios of NC1 (the main measure), NC2 and NC3 after the last epoch, training set, against cross entropy from "
        "the first epoch on.",
        stays_collapsed,
        labels=COLLAPSE,
        margins=dict.fromkeys(COLLAPSE, margins.COLLAPSE),
        subject="two-stage smoothing",
        holds="keeps the collapse of label smoothing",
        fails="ends less collapsed than cross entropy",
        below="more collapsed",
        figures=("two_stage", "drop_epoch"),
        compared=DROPPED,
        against=("ce",),
    ),
    Claim(
        "W4",
        PAPER,
        "Smoothed targets give gradients of a smaller variance than one-hot targets.",
        "Ratios of the variance over samples of the gradient with smoothed targets to that with one-hot targets at the "
        "same weights, in evaluation mode, geometric mean over snapshots: over all weights of the network, along the "
        "training with label smoothing (the main measure) and at its end; over the classifier's alone; and at the "
        f"weights of the baseline's training, all of it and its first {EARLY:.0%}. The smoothing is the probe's. "
        "Comparing at the same weights is our choice.",
        reduces_gradient_variance,
        labels={
            "gradient_variance_at_loss_weights": "gradient variance along the loss's training",
            "gradient_variance_at_loss_weights_at_end": "gradient variance at the end of the loss's training",
            "gradient_variance_of_head_at_loss_weights": "gradient variance of the classifier, along the loss's "
            "training",
            "gradient_variance_at_baseline_weights": "gradient variance along the baseline's training",
            "gradient_variance_at_baseline_weights_early": "gradient variance early in the baseline's training",
        },
        margins=dict.fromkeys(VARIANCES, margins.VARIANCE),
        subject="smoothed targets",
        holds="give gradients of a smaller variance",
        fails="give gradients of a larger variance",
        below="smaller variance",
        place="abstract",
        figures=("gradient_variance",),
        compared=("ls", "ls_linear", "ls_drop"),
    ),
)
"""The claims on two-stage smoothing, the third our own, then the paper's on gradients."""
