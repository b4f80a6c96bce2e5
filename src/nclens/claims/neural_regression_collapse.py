"""Claims on neural regression collapse (NRC): arXiv 2409.04180 on trained regressors, and one of our own.

The paper's claims are judged by the metrics over seeds, each loss entry (weight decay) by itself; how each is measured
is our choice, stated in its `rule`. Two of them are about networks that were trained with the penalties of the
unconstrained feature model, lambda_W/2 |W|_F^2 + lambda_H/(2M) |H|_F^2, with c = lambda_W lambda_H.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from nclens.claims.effects import curves_of
from nclens.claims.margins import COLLAPSE
from nclens.claims.verdict import (
    Claim,
    Comparison,
    Measure,
    Side,
    Verdict,
    judge_pairs,
    judge_shares,
    largest_p,
    log_ratio,
)

PAPER = "Neural multivariate regression collapse (arXiv 2409.04180)"
OWN = "Our own, on classification as regression on one-hot targets"

FALLEN = 0.5
"""A measure counts as fallen when it ends below half of the highest value that it had."""
LEAST_SHARE = 0.2
"""Highest value from which R6 counts a share of the directions at least, so that one below 0.1 counts as collapsed."""
SHARES = ("onehot_nrc1", "onehot_nrc2")
GRAM_TOLERANCE = 0.1
"""Relative error up to which W W' is taken to be the closed form's."""
PERFECT_FIT = 1.0
"""|C - c I|_F / |c I|_F of a network without residuals, C = 0: the result of fitting alone."""
NORMS = ("weight_norm_frobenius", "feature_norm_rms")
CLASSIFICATION = {
    **{key: f"NC{key[2:]}" for key in ("nc1", "nc2", "nc3")},
    **{f"onehot_{key}": f"NRC{key[3:]} on one-hot targets" for key in ("nrc1", "nrc2", "nrc3")},
}
"""Metrics of R6, in both senses of collapse -> what each is, as a note."""
OVER_HIGHEST = "{} at the end, over its highest value"


def falls_with_weight_decay(comparison: Comparison, metric: str) -> list[Measure]:
    """R1 to R3: a metric after the last epoch over its highest value, and over its value without weight decay.

    Without weight decay, and without the model's penalties, the claim is that it has not fallen. None where the metric
    is not defined: NRC3 of one target.
    """
    if not _is_measured(comparison, metric):
        return []
    decay = _decay(comparison)
    trained = "the model's penalties" if comparison.regularised else f"weight decay {decay:g}"
    claimed: Side = "below" if _is_penalised(comparison) else "above"
    measures = [_fall(comparison, metric, claimed, [f"trained with {trained}"])]
    reference = next((loss for loss, value in comparison.weight_decays.items() if value == 0), None)
    if reference is not None and decay > 0:
        measures.append(_against(comparison, metric, reference))
    return measures


def gram_is_predicted(comparison: Comparison) -> list[Measure]:
    """R4: relative error of W W' to the closed form, |W W' - G|_F / |G|_F, then of the two norms."""
    if comparison.predictions is None or not comparison.regularised:
        return []
    table = comparison.predictions
    table = table[(table["loss"] == comparison.loss) & (table["penalties"] == "explicit")]
    table = table[table["seed"].isin(comparison.seeds)]
    if table.duplicated(["seed", "quantity"]).any():
        raise ValueError(f"{comparison.experiment}: a prediction for {comparison.loss} occurs twice")
    rows = {"gram": table[table["quantity"].str.match(r"gram_\d+$")]}
    rows |= {norm: table[table["quantity"] == norm] for norm in NORMS}
    return [
        judge_shares(
            f"{name}_by_explicit_penalties",
            {int(str(seed)): relative_distance(own) for seed, own in entries.groupby("seed")},
            comparison.seeds,
            GRAM_TOLERANCE,
            claimed="below",
            unit="relative error",
        )
        for name, entries in rows.items()
        if len(entries) or name == "gram"
    ]


def relative_distance(entries: pd.DataFrame) -> float:
    """Frobenius distance |A - G|_F / |G|_F of a symmetric matrix, or of a number; nan for G = 0.

    Args:
        entries: columns quantity, measured, predicted; `gram_ij` with i < j counts for both entries, ij and ji.
    """
    places = entries["quantity"].str.removeprefix("gram_")
    weight = places.map(lambda place: 2.0 if place[: len(place) // 2] != place[len(place) // 2 :] else 1.0)
    weight = weight.where(entries["quantity"].str.startswith("gram_"), 1.0)
    measured, predicted = entries["measured"].astype(float), entries["predicted"].astype(float)
    size = float((weight * predicted**2).sum(skipna=False))
    return math.sqrt(float((weight * (measured - predicted) ** 2).sum(skipna=False)) / size) if size > 0 else math.nan


def residuals_are_isotropic(comparison: Comparison) -> list[Measure]:
    """R5: distance of the residual covariance C to c I after the last epoch, then the fall of its anisotropy.

    None where the model predicts another covariance, since c exceeds an eigenvalue of the targets' covariance.
    """
    if not comparison.regularised or not _every_direction_is_fitted(comparison):
        return []
    curves = curves_of(comparison, comparison.loss, "train", "residual_deviation")
    measures = [
        judge_shares(
            "residual_deviation",
            {seed: _last(curve) for seed, curve in curves.items()},
            comparison.seeds,
            PERFECT_FIT,
            claimed="below",
            unit="relative distance",
            notes=[_course(curves)] if curves else [],
        )
    ]
    if _is_measured(comparison, "residual_anisotropy"):
        measures.append(_fall(comparison, "residual_anisotropy", "below"))
    return measures


def collapses_in_both_senses(comparison: Comparison) -> list[Measure]:
    """R6: NC1 to NC3, and NRC1 to NRC3 of one-hot targets, after the last epoch over their highest values.

    None for losses that were not measured as regressions, or trained without any penalty.
    """
    if "onehot_nrc1" not in comparison.metrics.metrics_of(comparison.loss) or not _is_penalised(comparison):
        return []
    return [
        _fall(comparison, metric, "below", [name], least=LEAST_SHARE if metric in SHARES else 0.0)
        for metric, name in CLASSIFICATION.items()
    ]


def all_of_them(measures: Sequence[Measure]) -> tuple[Verdict, str]:
    """Combine R6: supported when every measure is, contradicted when one of them is, and otherwise inconclusive."""
    found = {measure.verdict for measure in measures}
    named = [f"{measure.quantity}: {measure.verdict}" for measure in measures if measure.verdict != "supported"]
    verdict: Verdict = "contradicted" if "contradicted" in found else "inconclusive"
    return ("supported", "") if found == {"supported"} else (verdict, "; ".join(named))


def the_main_one(measures: Sequence[Measure]) -> tuple[Verdict, str]:
    """Combine R4: the verdict of the first measure; the others are shown."""
    return measures[0].verdict, measures[0].note


def _fall(comparison: Comparison, metric: str, claimed: Side, notes: Sequence[str] = (), least: float = 0.0) -> Measure:
    """Judge whether a metric ends below a part of its highest value, or whether it does not.

    A highest value below `least` counts as that.
    """
    curves = curves_of(comparison, comparison.loss, "train", metric)
    values = {seed: _over_highest(curve, least) for seed, curve in curves.items()}
    return judge_shares(
        f"{metric}_end_over_highest",
        values,
        comparison.seeds,
        FALLEN,
        claimed=claimed,
        unit="ratio",
        notes=[*notes, *([_course(curves)] if curves else [])],
    )


def _against(comparison: Comparison, metric: str, reference: str) -> Measure:
    """Judge the ratio of a metric after the last epoch to that of the networks without weight decay."""
    ends, others = (
        {seed: _last(curve) for seed, curve in curves_of(comparison, loss, "train", metric).items()}
        for loss in (comparison.loss, reference)
    )
    return judge_pairs(
        f"{metric}_end_over_no_decay",
        {seed: log_ratio(ends[seed], others[seed]) for seed in ends.keys() & others.keys()},
        comparison.seeds,
        scale="ratio",
        claimed="below",
        unit="ratio",
        notes=[f"against {comparison.label(reference)}"],
    )


def _over_highest(curve: pd.Series, least: float) -> float:
    """Return a curve's last value over its highest; nan where a value is no number or infinite, or none is above 0."""
    highest = float(curve.max(skipna=False))
    return _last(curve) / max(highest, least) if 0 < highest < math.inf else math.nan


def _course(curves: Mapping[int, pd.Series]) -> str:
    """A note on the metric's mean over seeds at the first snapshot, at its highest and at the end."""
    means = [sum(pick(curve) for curve in curves.values()) / len(curves) for pick in (_first, pd.Series.max, _last)]
    return "mean {:.3g} at the first snapshot, {:.3g} at its highest, {:.3g} at the end".format(*means)


def _first(curve: pd.Series) -> float:
    return float(curve.iloc[0])


def _last(curve: pd.Series) -> float:
    return float(curve.iloc[-1])


def _every_direction_is_fitted(comparison: Comparison) -> bool:
    """False where the predicted mean variance of the residuals is another than c, which runs have as their gamma."""
    table = comparison.predictions
    if table is None:
        return True
    chosen = (table["loss"] == comparison.loss) & (table["quantity"] == "residual_variance")
    predicted = table.loc[chosen & (table["penalties"] == "explicit"), "predicted"].astype(float)
    gammas = [_last(curve) for curve in curves_of(comparison, comparison.loss, "train", "nrc3_gamma").values()]
    return all(math.isclose(value, gamma, rel_tol=1e-6) for value in predicted for gamma in gammas)


def _decay(comparison: Comparison) -> float:
    return comparison.weight_decays.get(comparison.loss, 0.0)


def _is_penalised(comparison: Comparison) -> bool:
    return comparison.regularised or _decay(comparison) > 0


def _is_measured(comparison: Comparison, metric: str) -> bool:
    """False where the loss was measured and has no such metric; true where nothing of it was measured."""
    measured = comparison.metrics.metrics_of(comparison.loss)
    return not measured or metric in measured


_FALL = (
    "the highest value that it had at any snapshot, training set, geometric mean over seeds: fallen when the whole "
    f"interval lies below {FALLEN:g}, not fallen when it lies above. With weight decay, or with the penalties of the "
    "unconstrained feature model, the claim is that it falls; without, that it does not. The second measure is the "
    "ratio after the last epoch to the same seed's network without weight decay."
)


def _fall_labels(metric: str, name: str) -> dict[str, str]:
    """Labels of the two measures of `falls_with_weight_decay`."""
    return {
        f"{metric}_end_over_highest": OVER_HIGHEST.format(name),
        f"{metric}_end_over_no_decay": f"{name} at the end, over its value without weight decay",
    }


CLAIMS = (
    Claim(
        "R1",
        PAPER,
        "With weight decay, regression features collapse to the span of as many principal components as there are "
        "targets (NRC1 falls); without, they do not.",
        "NRC1 after the last epoch over " + _FALL,
        partial(falls_with_weight_decay, metric="nrc1"),
        labels=_fall_labels("nrc1", "NRC1"),
        margins={"nrc1_end_over_no_decay": COLLAPSE},
        subject="weight decay",
        holds="decides whether regression features collapse to principal components",
        fails="does not decide whether regression features collapse to principal components",
        below="more collapsed",
        figures=("nrc_curves",),
        paired=False,
        task="regression",
    ),
    Claim(
        "R2",
        PAPER,
        "With weight decay, regression features collapse to the row space of the head (NRC2 falls); without, they do "
        "not.",
        "NRC2 after the last epoch over " + _FALL,
        partial(falls_with_weight_decay, metric="nrc2"),
        labels=_fall_labels("nrc2", "NRC2"),
        margins={"nrc2_end_over_no_decay": COLLAPSE},
        subject="weight decay",
        holds="decides whether regression features collapse to the span of the head",
        fails="does not decide whether regression features collapse to the span of the head",
        below="more collapsed",
        figures=("nrc_curves",),
        paired=False,
        task="regression",
    ),
    Claim(
        "R3",
        PAPER,
        "With weight decay, the head's W W' takes the form that the targets' covariance gives it (NRC3 falls); "
        "without, it does not.",
        "NRC3 after the last epoch over " + _FALL + " NRC3's gamma is the one that fits the run's own final weights "
        "best, also without weight decay; with the model's penalties it is c.",
        partial(falls_with_weight_decay, metric="nrc3"),
        labels=_fall_labels("nrc3", "NRC3"),
        margins={"nrc3_end_over_no_decay": COLLAPSE},
        subject="weight decay",
        holds="decides whether the head takes the form of the targets' covariance",
        fails="does not decide whether the head takes the form of the targets' covariance",
        below="more collapsed",
        figures=("nrc_gram", "nrc_curves"),
        paired=False,
        task="regression",
    ),
    Claim(
        "R4",
        PAPER,
        "Trained with the model's penalties, the head's W W' is the closed form's, scale included.",
        "Relative error of W W' to the closed form at the penalties of training, in the Frobenius norm, after the last "
        "epoch, geometric mean over seeds: supported when the whole interval lies below "
        f"{GRAM_TOLERANCE:g}, contradicted when it lies above. The relative errors of the norms of head and features "
        "are shown as well and decide nothing.",
        gram_is_predicted,
        labels={
            "gram_by_explicit_penalties": "error of the head's W W′",
            "weight_norm_frobenius_by_explicit_penalties": "error of the head's norm",
            "feature_norm_rms_by_explicit_penalties": "error of the features' norm",
        },
        subject="the unconstrained feature model",
        holds="predicts the head's W W′",
        fails="does not predict the head's W W′",
        below="as predicted",
        figures=("nrc_gram",),
        combine=the_main_one,
        paired=False,
        task="regression",
    ),
    Claim(
        "R5",
        PAPER,
        "Trained with the model's penalties, the residuals' covariance tends to c times the identity.",
        "Distance |C - c I| / |c I| (Frobenius norms) of the residuals' covariance C on the training set after the "
        f"last epoch, geometric mean over seeds, compared with {PERFECT_FIT:g}, the distance of a network that fits "
        "without residuals, C = 0. The second measure is the anisotropy of C, its distance to the nearest multiple of "
        f"the identity, over the highest value that it had, compared with {FALLEN:g}. Judged where c is smaller than "
        "every eigenvalue of the targets' covariance: elsewhere the model predicts another covariance.",
        residuals_are_isotropic,
        labels={
            "residual_deviation": "distance of the residuals' covariance to c I",
            "residual_anisotropy_end_over_highest": OVER_HIGHEST.format("anisotropy of the residuals' covariance"),
        },
        subject="the unconstrained feature model",
        holds="predicts the covariance of the residuals",
        fails="does not predict the covariance of the residuals",
        below="as predicted",
        figures=("residuals", "nrc_curves"),
        paired=False,
        task="regression",
    ),
    Claim(
        "R6",
        OWN,
        "With weight decay, classification under squared error collapses in both senses: NC1 to NC3, and NRC1 to NRC3 "
        "of one-hot targets.",
        "Each of the six after the last epoch over the highest value that it had at any snapshot, training set, "
        f"geometric mean over seeds, compared with {FALLEN:g}. NRC1 and NRC2 are shares, and NRC1 can be small from "
        f"the start where there are as many components as classes: a highest value below {LEAST_SHARE:g} counts as "
        "that. The claim is supported when all six are, contradicted when one of them is, and otherwise inconclusive; "
        "its p value is the largest of the six.",
        collapses_in_both_senses,
        labels={
            **{f"nc{k}_end_over_highest": OVER_HIGHEST.format(f"NC{k}") for k in (1, 2, 3)},
            **{f"onehot_nrc{k}_end_over_highest": OVER_HIGHEST.format(f"NRC{k} of one-hot targets") for k in (1, 2, 3)},
        },
        subject="classification under squared error",
        holds="collapses in both senses",
        fails="does not collapse in both senses",
        below="more collapsed",
        figures=("nrc_classification",),
        combine=all_of_them,
        p=largest_p,
        paired=False,
    ),
)
"""The paper's claims on regression, then our own on classification."""
