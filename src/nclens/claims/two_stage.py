"""The claims of "Towards Understanding Label Smoothing", arXiv 2006.11653, on two-stage smoothing (TSLA).

Two-stage smoothing is label smoothing in the first epochs and cross entropy from an epoch on. Of the paper only the
abstract was read: its hyper-parameters are not known, those of our studies are ours, and so is how each claim is
measured. It is held against cross entropy and against the label smoothing of the same strength that is never dropped.
"""

from nclens.claims.effects import curves, error_level, final, interpolated, logs, time_ratio
from nclens.claims.verdict import Claim, Comparison, Measure

PAPER = "Towards Understanding Label Smoothing (arXiv 2006.11653); hyper-parameters ours"
OWN = "Our own, on what two-stage smoothing leaves of the collapse"

DROPPED = ("ls_drop",)
COLLAPSE = ("nc1", "nc2", "nc3")


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


CLAIMS = (
    Claim(
        "T1",
        PAPER,
        "Two-stage smoothing trains in fewer epochs.",
        "Ratios of the epochs at which two-stage smoothing and the other loss first reach a level that the other loss "
        "sets: its error at the end, or 1% where that is lower, as the epoch's mean on the training set (the main "
        "measure) and on the test set; and its nc1 at the end, log nc1 taken as linear in epoch between snapshots. "
        "Where the level is reached before the drop, two-stage smoothing and label smoothing are the same.",
        is_faster,
        compared=DROPPED,
        against=("ce", "ls"),
    ),
    Claim(
        "T2",
        PAPER,
        "Two-stage smoothing ends with a lower error.",
        "Difference of the test errors after the last epoch.",
        ends_with_less_error,
        compared=DROPPED,
        against=("ce", "ls"),
    ),
    Claim(
        "T3",
        OWN,
        "What label smoothing has collapsed stays collapsed after it is dropped.",
        "Ratios of nc1 (the main measure), nc2 and nc3 after the last epoch, training set, against cross entropy from "
        "the first epoch on.",
        stays_collapsed,
        compared=DROPPED,
        against=("ce",),
    ),
)
"""The paper's claims, then our own question put as a claim."""
