"""N1, our own, on the law of NC0: what theory predicts of the sum of the classifier's rows, along training."""

import math

import numpy as np
import pandas as pd

from nclens.claims.verdict import NOT_MEASURED, NOT_TESTABLE, Claim, Comparison, Measure, Reason, Verdict
from nclens.ufm.nc0 import TOLERANCE

PAPER = "Our own, on NC0 (arXiv 2602.16642)"


def follows_its_law(comparison: Comparison) -> list[Measure]:
    """N1: largest relative deviation of NC0 from its law over the runs and snapshots of a loss.

    None where there is no prediction. Where the law's premise fails the measure is inconclusive, and says what fails.
    """
    if comparison.nc0 is None:
        return []
    rows = comparison.nc0[comparison.nc0["loss"] == comparison.loss]
    rows = rows[rows["seed"].isin(comparison.seeds)].sort_values("epoch", kind="stable")
    if rows.empty:
        return []
    rows = rows.assign(start=rows.groupby("seed")["measured"].transform("first"))
    later = rows[rows["epoch"] > rows["reference"]].reset_index(drop=True)
    notes = [f"the law starts from epoch {rows['reference'].iloc[0]:g}, the first snapshot"]
    if missing := sorted(set(comparison.seeds) - set(rows["seed"])):
        notes.append(f"left out, a run is missing: seed {', '.join(map(str, missing))}")
    if premise := next(filter(None, rows["premise"]), ""):
        notes.insert(0, f"the premise fails: {premise}")
    off = (later["measured"] - later["predicted"]).abs()
    verdict: Verdict = "inconclusive"
    reason: Reason = NOT_TESTABLE if premise else NOT_MEASURED
    effect = math.nan
    if later.empty:
        notes.append("there is no later snapshot")
    elif not np.isfinite(off + later["rounding"]).all():
        notes.append("NC0 or its law is not a finite number at every snapshot")
    else:
        relative = _over(off, later["predicted"])
        effect = float(relative.max())
        notes.append(_described(later.iloc[int(relative.argmax())], later))
        if not premise:
            holds = (off <= TOLERANCE * later["predicted"] + later["rounding"]).all()
            verdict, reason = "supported" if holds else "contradicted", ""
            if holds and effect > TOLERANCE:
                notes.append("as far as rounding to float32 explains")
    return [_measure("deviation_from_law", effect, verdict, "; ".join(notes), reason)]


def _over(off: pd.Series, law: pd.Series) -> pd.Series:
    """Return deviations over the law: 0 where there is none, and inf where the law is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (off / law).where(off > 0, 0.0)


def _described(row: pd.Series, rows: pd.DataFrame) -> str:
    """Say where NC0 is farthest from the law, and how far the law says that it falls."""
    last = rows.iloc[-1]
    fallen = last["predicted"] / last["start"] if last["start"] > 0 else math.nan
    return (
        f"NC0 falls to {fallen:.3g} of its value by the law; farthest from it at epoch {row['epoch']:g} of seed "
        f"{row['seed']:g}, {row['measured']:.6g} measured for {row['predicted']:.6g}"
    )


def _measure(quantity: str, effect: float, verdict: Verdict, note: str, reason: Reason) -> Measure:
    unknown = (math.nan, math.nan)
    return Measure(quantity, effect, *unknown, "relative error", math.nan, None, verdict, note, reason=reason)


CLAIMS = (
    Claim(
        "N1",
        PAPER,
        "NC0 follows its law: learning rate, momentum, weight decay and schedule alone determine how it decays.",
        "Largest |measured - law| over the law, over all snapshots after the first and all seeds; the law starts from "
        "the value at the first snapshot, epoch 0 where the study has it. Supported where |measured - law| is at every "
        f"snapshot at most {TOLERANCE:.0%} of the law plus what rounding the classifier to float32 at each step "
        "explains, contradicted otherwise. The premise: the gradients of the loss with respect to the logits sum to "
        "zero over the classes (of your own loss this is tested), SGD takes the steps, with coupled or decoupled "
        "decay, and the classifier's weight is itself a parameter that it moves. Where the loss or the optimiser "
        "breaks it (squared error, the logit penalty; Adam and other adaptive steps), the claim is inconclusive, and "
        "the deviation says how far off the law is.",
        follows_its_law,
        labels={"deviation_from_law": "largest deviation of NC0 from its law"},
        subject="NC0",
        holds="follows its law",
        fails="does not follow its law",
        figures=("nc0_law", "collapse_curves"),
        paired=False,
    ),
)
"""The claim on NC0."""
