"""Claims on the unconstrained feature model (UFM): C5 and C6 of arXiv 2402.03979, and C7, our own.

C5 and C6 are judged by the theory table and by gradient descents on the UFM, C7 by what the UFM predicts for trained
networks. The paper gives no test: how each is measured is our choice, stated in its `rule`. The paper does not say
which condition number C6 means, nor in which sense convergence is faster: every definition is a measure.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from nclens.claims.cross_entropy_vs_label_smoothing import PAPER
from nclens.claims.margins import ITERATIONS
from nclens.claims.verdict import (
    IDENTICAL,
    MODEL,
    NOT_MEASURED,
    NOT_REACHED,
    Claim,
    Comparison,
    Measure,
    Reason,
    Verdict,
    decide,
    judge_pairs,
    judge_within,
    largest_p,
    log_ratio,
    why,
)
from nclens.ufm import explanations
from nclens.ufm.quantities import CONDITION_NUMBERS, MINIMISER, PREDICTED

OWN = "Our own, on the unconstrained feature model"

THEORY_TOLERANCE = 1e-6
"""Relative error up to which C5 takes closed form and numeric minimiser as equal."""
PREDICTION_TOLERANCE = 0.1
"""Relative error up to which C7 takes a prediction as right, and up to which C6 says that a speed is explained."""
CHECKPOINTS = 0.01
"""Distance between the checkpoints of a descent, over the number of iterations."""

DISTANCES = {
    "orbit": "(W, H) to the orbit of minimisers",
    "logits": "the centred logits to the minimisers'",
    "nc1": "NC1 over its value at the start",
    "nc2": "NC2 over its value at the start",
}
"""Distances whose decrease C6 measures, the main one first -> what each is."""
STEP_RULES = {"relative": "same_fraction", "absolute": "same_step"}
STEPS = {"relative": "the same fraction of 1/L", "absolute": "the same step"}
DECISIVE = ("logit_gap", "confidence")
PENALTIES = {
    "explicit": "the penalties are those of training",
    "effective": "the penalties are fitted to the other smoothings of the same seed",
}


def closed_form_is_minimum(comparison: Comparison) -> list[Measure]:
    """C5: largest relative error between closed form and numeric minimiser, over both losses and all quantities."""
    losses = (comparison.baseline, comparison.loss)
    theory = comparison.theory[comparison.theory["loss"].isin(losses)]
    both = theory[theory["closed_form"].notna() & theory["numeric"].notna()]
    # A closed form of 0 has no relative error: there the numeric value itself is the error; of a norm its square, since
    # the logits, on which the objective depends, are products of two.
    absolute = both["numeric"].abs() ** both["quantity"].isin(["weight_norm", "feature_norm"]).add(1)
    errors = both["relative_error"].abs().where(both["closed_form"] != 0, absolute).astype(float)
    effect = math.nan
    verdict: Verdict = "inconclusive"
    if absent := [loss for loss in losses if loss not in set(both["loss"])]:
        note = f"no closed form beside a numeric value for {' and '.join(map(comparison.label, absent))}"
    elif not np.isfinite(errors).all():
        note = "a relative error is missing or infinite"
    else:
        effect, worst = float(errors.max()), both.iloc[int(errors.argmax())]
        verdict = "supported" if effect <= THEORY_TOLERANCE else "contradicted"
        where = f"{_name(str(worst['quantity']))} of {comparison.label(str(worst['loss']))}"
        note = f"largest for {where}; up to {THEORY_TOLERANCE:g} counts as equal"
    reason: Reason = NOT_MEASURED if verdict == "inconclusive" else ""
    return [_theory_measure("largest_relative_error", effect, "relative error", math.nan, verdict, note, reason)]


def is_better_conditioned_and_faster(comparison: Comparison) -> list[Measure]:
    """C6: ratios of the condition numbers, one a definition, then of the iterations of gradient descent on the UFM.

    Quantities ``kappa_...`` (the first half of the claim; those that the theory table has, kappa_ce always) and
    ``iterations_{distance}_same_fraction`` and ``..._same_step`` (the second half; none where no descents were run).
    """
    descents = _descents(comparison)
    speeds = {} if descents is None else _speeds(comparison, descents)
    present = set(comparison.theory["quantity"])
    names = [name for place, name in enumerate(CONDITION_NUMBERS) if place == 0 or name in present]
    return [*(_conditioning(comparison, name, descents, speeds) for name in names), *speeds.values()]


def halves(measures: Sequence[Measure]) -> tuple[Verdict, str]:
    """Combine C6: each half by its main measure, which no other of the half may contradict; then both.

    A half is supported when its first measure is and none of it is contradicted, contradicted when its first measure
    is and none of it is supported, and inconclusive otherwise, since the claim does not say which definition it means.
    The claim is supported when both halves are, contradicted when one of them is, and inconclusive otherwise.
    """
    notes, verdicts = [], []
    for name, prefix in (("lower condition number", "kappa_"), ("faster", "iterations_")):
        half = [measure for measure in measures if measure.quantity.startswith(prefix)]
        verdicts.append(_unanimous(half))
        notes.append(f"{name}: {verdicts[-1]} ({_supported(half)})")
    return _conjunction(verdicts), "; ".join(notes)


def is_predicted(comparison: Comparison) -> list[Measure]:
    """C7: relative error of what the UFM predicts for the trained networks of a loss, measured / predicted - 1.

    Quantities ``{quantity}_by_{explicit or effective}_penalties``; none where nothing was predicted for the loss. An
    infinite prediction for a finite measurement has the error -1, the limit; a prediction of 0 has no relative error.
    """
    if comparison.predictions is None:
        return []
    table = comparison.predictions[comparison.predictions["loss"] == comparison.loss]
    return [
        _prediction(comparison, rows[rows["quantity"] == quantity], str(quantity), str(penalties))
        for penalties, rows in table.groupby("penalties", sort=False, observed=True)
        for quantity in PREDICTED
        if (rows["quantity"] == quantity).any()
    ]


def gap_and_confidence(measures: Sequence[Measure]) -> tuple[Verdict, str]:
    """Combine C7: supported when logit gap and confidence are, contradicted when one of them is."""
    decisive = _decisive(measures)
    rest = [measure for measure in measures if measure not in decisive]
    note = "; ".join(f"{measure.quantity}: {measure.verdict}" for measure in [*decisive, *rest])
    return _conjunction([measure.verdict for measure in decisive]), note or "not measured"


def _decisive(measures: Sequence[Measure]) -> list[Measure]:
    return [measure for measure in measures if measure.quantity.startswith(DECISIVE)]


def _conditioning(
    comparison: Comparison, quantity: str, descents: pd.DataFrame | None, speeds: dict[tuple[str, str], Measure]
) -> Measure:
    """Ratio of one condition number, and how well it explains the iterations to the orbit."""
    theory = comparison.theory[comparison.theory["quantity"] == quantity]
    value, baseline = (_only(theory.loc[theory["loss"] == loss, "closed_form"]) for loss in comparison.pair)
    effect = math.exp(log_ratio(value, baseline))
    notes = [] if math.isfinite(effect) else ["not exactly one finite value for each loss"]
    if descents is not None:
        notes += _explanations(comparison, quantity, descents, speeds)
    notes.append(CONDITION_NUMBERS[quantity].definition)
    verdict = decide(effect, effect, 1.0, "below")
    reason: Reason = "" if verdict != "inconclusive" else IDENTICAL if math.isfinite(effect) else NOT_MEASURED
    return _theory_measure(quantity, effect, "ratio", 1.0, verdict, "; ".join(notes), reason)


def _explanations(
    comparison: Comparison, quantity: str, descents: pd.DataFrame, speeds: dict[tuple[str, str], Measure]
) -> Iterable[str]:
    """Compare the ratio of iterations to the orbit that a condition number predicts with the one that was found."""
    for rule, same in STEPS.items():
        rows = descents[(descents["quantity"] == f"rate_{quantity}") & (descents["step_rule"] == rule)]
        # The predicted rate is the same for every start.
        rates = [_only(rows.loc[rows["loss"] == loss, "value"].drop_duplicates()) for loss in comparison.pair]
        predicted, found = math.exp(log_ratio(rates[1], rates[0])), speeds["orbit", rule].effect
        if math.isfinite(predicted) and math.isfinite(found):
            yield (
                f"iterations at {same}: {predicted:.3g} times predicted, {found:.3g} found, "
                f"{explanations.verdict([predicted], [found])}"
            )


def _speeds(comparison: Comparison, descents: pd.DataFrame) -> dict[tuple[str, str], Measure]:
    """Ratio of iterations by (distance, step rule), paired by random start."""
    iterations = descents[descents["quantity"] == "iterations"]
    return {
        (distance, rule): _speed(
            comparison,
            f"iterations_{distance}_{STEP_RULES[rule]}",
            f"{what}, at {STEPS[rule]}",
            iterations[(iterations["distance"] == distance) & (iterations["step_rule"] == rule)],
        )
        for rule in STEP_RULES
        for distance, what in DISTANCES.items()
    }


def _speed(comparison: Comparison, quantity: str, what: str, iterations: pd.DataFrame) -> Measure:
    """Ratio of the iterations to the smallest tolerance that every descent of both losses reached."""
    tables = [
        iterations[iterations["loss"] == loss].pivot_table("value", "start", "tolerance", dropna=False)
        for loss in comparison.pair
    ]
    both = pd.concat(tables, axis=1, keys=["loss", "baseline"])
    reached = [
        tolerance
        for tolerance in tables[0].columns.intersection(tables[1].columns)
        if not both["loss"][tolerance].isna().any() and not both["baseline"][tolerance].isna().any()
    ]
    if not reached:
        note = f"{what}; no tolerance that every descent of both losses reached"
        return _theory_measure(quantity, math.nan, "ratio of iterations", 1.0, "inconclusive", note, NOT_REACHED)
    goal = min(reached)
    effects = {
        int(start): log_ratio(value, baseline)
        for start, value, baseline in zip(both.index, both["loss"][goal], both["baseline"][goal], strict=True)
    }
    sizes = f"{iterations['classes'].iloc[0]} classes of {iterations['per_class'].iloc[0]} samples"
    found = judge_pairs(
        quantity,
        effects,
        list(effects),
        scale="ratio",
        claimed="below",
        unit="ratio of iterations",
        # Either count is known to one checkpoint.
        resolution=2 * CHECKPOINTS * math.exp(float(np.mean(list(effects.values())))),
        notes=[f"{what}, to {goal:g}; plain gradient descent from {len(effects)} random starts, {sizes}"],
    )
    return replace(found, seeds=None)


def _descents(comparison: Comparison) -> pd.DataFrame | None:
    """Return the plain gradient descents on the models of both losses, with a column loss; None without a table.

    Descents run on small models with the experiment's N lambda_H: of those with as many classes or fewer, the largest.
    """
    if comparison.dynamics is None:
        return None
    table = comparison.dynamics[comparison.dynamics["momentum"] == 0]
    found = []
    for loss in comparison.pair:
        rows = comparison.theory.loc[comparison.theory["loss"] == loss, list(MODEL)].drop_duplicates()
        for model in rows.to_dict("records"):
            same = table["classes"] <= model["classes"]
            for name in ("lambda_w", "lambda_b", "smoothing"):
                same &= np.isclose(table[name], model[name], rtol=1e-9, atol=1e-12)
            same &= np.isclose(_feature_penalty(table), _feature_penalty(model), rtol=1e-9, atol=0)
            chosen = table[same]
            found.append(chosen[chosen["classes"] == chosen["classes"].max()].assign(loss=loss))
    return pd.concat(found) if found else table.iloc[:0].assign(loss="")


def _feature_penalty(model: Any) -> Any:
    """N lambda_H, of one model or of a table of them."""
    return model["lambda_h"] * model["per_class"] * model["classes"]


def _prediction(comparison: Comparison, rows: pd.DataFrame, quantity: str, penalties: str) -> Measure:
    """Mean relative error over seeds, supported within the tolerance, contradicted beyond it."""
    if rows["seed"].duplicated().any():
        raise ValueError(f"{comparison.experiment}: the prediction of {quantity} for {comparison.loss} occurs twice")
    seeds = rows[rows["seed"].isin(comparison.seeds)].set_index("seed")
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = seeds["measured"].astype(float) / seeds["predicted"].astype(float) - 1
    return judge_within(
        f"{quantity}_by_{penalties}_penalties",
        {int(str(seed)): float(error) for seed, error in errors.items()},
        comparison.seeds,
        PREDICTION_TOLERANCE,
        scale="difference",
        unit="relative error",
        notes=[
            f"smoothing {rows['smoothing'].iloc[0]:g}, mean measured {seeds['measured'].mean():.3g}, predicted "
            f"{seeds['predicted'].mean():.3g}; {PENALTIES[penalties]}"
        ],
    )


def _unanimous(measures: Sequence[Measure]) -> Verdict:
    found = {measure.verdict for measure in measures}
    if not measures or measures[0].verdict == "inconclusive" or {"supported", "contradicted"} <= found:
        return "inconclusive"
    return measures[0].verdict


def _conjunction(verdicts: Sequence[Verdict]) -> Verdict:
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if set(verdicts) == {"supported"} else "inconclusive"


def _supported(measures: Sequence[Measure]) -> str:
    """Say how many of the definitions support the claim."""
    supported = sum(measure.verdict == "supported" for measure in measures)
    return f"{supported} of {len(measures)} agree" if measures else "not measured"


def _theory_measure(
    quantity: str, effect: float, unit: str, null: float, verdict: Verdict, note: str, reason: Reason
) -> Measure:
    return Measure(quantity, effect, math.nan, math.nan, unit, null, None, verdict, note, reason=reason)


def _name(quantity: str) -> str:
    """Return what a quantity of the theory is called."""
    if quantity in CONDITION_NUMBERS:
        return f"the condition number ({CONDITION_NUMBERS[quantity].label})"
    return MINIMISER.get(quantity, quantity)


def _only(values: pd.Series) -> float:
    return float(values.iloc[0]) if len(values) == 1 else math.nan


CLAIMS = (
    Claim(
        "C5",
        PAPER,
        "The unconstrained feature model has closed-form global minimisers under both losses.",
        "Largest relative error between the closed form and a numeric minimiser, over both losses and all quantities "
        f"that have both; supported up to {THEORY_TOLERANCE:g}, contradicted above.",
        closed_form_is_minimum,
        labels={"largest_relative_error": "largest relative error"},
        subject="the unconstrained feature model",
        holds="has closed-form minimisers under both losses",
        fails="does not have the closed-form minimisers",
        figures=("ufm_conditioning",),
        compared=("ls",),
    ),
    Claim(
        "C6",
        PAPER,
        "The condition number of the unconstrained feature model is lower under label smoothing, and convergence in "
        "theory therefore faster.",
        "Two halves. First, ratios of the condition numbers at the closed-form minimiser, one a definition (that of "
        "the cross-entropy part alone is the main one). Second, ratios of the iterations that plain gradient "
        "descent on the model needs from the same random starts, at the same fraction of 1/L, L the largest curvature, "
        "which is what a condition number speaks of (the main one: to the orbit of minimisers), and at the same step; "
        "to the smallest tolerance that all descents reach, with an interval over starts. The note on each condition "
        "number says what ratio of iterations to the orbit it predicts (at the same step together with L) and whether "
        "that explains the ratio found: to "
        f"{explanations.TOLERANCE:.0%}, in its direction only, or not. A half is supported when its "
        "main measure is and no other of it is contradicted, contradicted when its main measure is and no other of it "
        "is supported, and otherwise inconclusive: then the answer depends on the definition, which the claim leaves "
        "open. The claim is supported when both halves are, contradicted when one of them is, and otherwise "
        "inconclusive.",
        is_better_conditioned_and_faster,
        labels={
            **{name: f"condition number, {number.label}" for name, number in CONDITION_NUMBERS.items()},
            **{
                f"iterations_{distance}_{step}": f"iterations to the {target}, {same}"
                for distance, target in {"orbit": "minimisers", "logits": "logits", "nc1": "NC1", "nc2": "NC2"}.items()
                for step, same in {"same_fraction": "same fraction of 1/L", "same_step": "same step size"}.items()
            },
        },
        subject="label smoothing",
        holds="is better conditioned and faster in the unconstrained feature model",
        fails="is not both better conditioned and faster in the unconstrained feature model",
        margins={f"iterations_{distance}_{step}": ITERATIONS for distance in DISTANCES for step in STEP_RULES.values()},
        below={"kappa_": "better conditioned", "iterations_": "faster"},
        figures=("ufm_dynamics", "ufm_conditioning"),
        combine=halves,
        compared=("ls",),
    ),
    Claim(
        "C7",
        OWN,
        "The unconstrained feature model predicts the logit gap and the confidence of trained networks.",
        "Relative errors, measured over predicted minus 1, of logit gap and confidence on the training set after the "
        "last epoch, at each smoothing, with an interval over seeds. The penalties of the model are those of training "
        "(explicit), or, where training had plain weight decay, fitted for each seed to its networks at the other "
        "smoothings (effective), so that no prediction has seen what it predicts. A measure is supported when its "
        f"whole interval lies within ±{PREDICTION_TOLERANCE:.0%}, contradicted when the whole interval lies beyond. "
        "The claim is supported when both measures are, contradicted when one of them is, and otherwise inconclusive; "
        "its p value is the larger one of the two, of the t tests against the ends of the range. "
        "Confidences near 1 differ little in relative terms: there the gap is the sharper of the two. The norms are "
        "shown as well and decide nothing.",
        is_predicted,
        labels={
            f"{quantity}_by_{kind}_penalties": f"{label}, predicted by {kind} penalties"
            for quantity, label in PREDICTED.items()
            for kind in PENALTIES
        },
        subject="the unconstrained feature model",
        holds="predicts the logit gap and the confidence of the networks",
        fails="does not predict both the logit gap and the confidence of the networks",
        figures=("theory_error", "smoothing_calibration"),
        combine=gap_and_confidence,
        why=lambda verdict, measures: why(verdict, _decisive(measures)),
        p=lambda measures: largest_p(_decisive(measures)),
        paired=False,
    ),
)
"""The paper's claims on the model, then our own."""
