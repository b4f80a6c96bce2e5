"""Every claim is complete in itself: its figures exist, and its labels are those of its measures."""

import re
from dataclasses import replace
from functools import cache

import pandas as pd
import pytest

from nclens.claims import CLAIMS, PAPERS, Claim, Comparison, Measure, Measurements, claim_rows, many_classes, pairs
from nclens.claims.unconstrained_feature_model import CONDITION_NUMBERS, DISTANCES, PENALTIES, PREDICTED, STEP_RULES
from nclens.claims.verdict import NO_EFFECT
from nclens.figures.catalogue import FIGURES
from tests.claims.runs import runs
from tests.claims.simulate import simulate_metrics, simulate_theory
from tests.claims.simulate_regression import DECAYS, simulate_predictions, simulate_regression

SEEDS, EPOCHS = (0, 1, 2), 60
WITHIN = {"mutual_information_minus_log_2", "round_test"}
WITHIN |= {f"{quantity}_by_{penalties}_penalties" for quantity in PREDICTED for penalties in PENALTIES}
"""Measures that are claimed to be within a tolerance of no effect."""
PERFECT_FIT = {"residual_deviation"}
"""Compared with 1, the distance of a network without residuals."""
PROBES = [f"gradient_variance_{part}_{targets}" for part in ("network", "head") for targets in ("onehot", "smoothed")]
MORE = ["nc0", "d_within", "top_logit_gap_incorrect", "teacher_error", "onehot_nrc1", "onehot_nrc2", "onehot_nrc3"]
MORE += [f"ood_auroc_{score}" for score in ("neco", "msp", "energy", "mahalanobis", "nci")]
MORE += ["layers_correlation", "arc_ratio", "student_error/T1", "student_error/T4"]
MORE += [f"{score}_difference{part}" for score in ("bleu", "chrf") for part in ("", "_p")]
MORE += [f"{name}_by_temperature/{at}" for name in ("error", "ece", "nll") for at in ("0.5", "1", "2")]
MORE += [*many_classes.GENERALISED, many_classes.OPTIMUM]
MORE += ["minority_collapse", "error_balanced", "nc1_clean", "error_clean"]
MORE += [f"{metric}/probe" for metric in ("probe_accuracy", "segmentation_miou", "mutual_information", *PROBES)]
"""Metrics that `simulate_metrics` lacks."""
TEACHERS = {
    loss: {"experiment": "main", "loss": loss, "temperature": 2.0, "weight": 1.0} for loss in ("student", "other")
}


def classification():
    """A comparison that has all that the claims on classification can be judged by."""
    more = [
        runs(lambda epoch, seed: 1 / (1 + epoch + seed), loss, metric, split, SEEDS, (0, 1, 10, EPOCHS))
        for loss in ("ce", "ls")
        for metric in MORE
        for split in ("train", "test")
    ]
    more += [
        runs(lambda epoch, seed, size=size: size, "ls", f"train_count_class_{size}", "train", SEEDS, (0, EPOCHS))
        for size in (4, 40)
    ]
    theory = simulate_theory()
    kappas = [theory[theory["quantity"] == "kappa_ce"].assign(quantity=name) for name in CONDITION_NUMBERS]
    theory = pd.concat([theory[~theory["quantity"].str.startswith("kappa")], *kappas])
    model = {"classes": 10, "per_class": 4, "lambda_w": 1e-3, "lambda_h": 0.05 / 40, "lambda_b": 1e-2, "momentum": 0.0}
    descents = [
        model | {"smoothing": delta, "step_rule": rule, "start": start, "distance": distance, "value": 1e3 + start}
        for delta in (0.0, 0.05)
        for rule in STEP_RULES
        for start in SEEDS
        for distance in DISTANCES
    ]
    predictions = [
        {"loss": "ls", "penalties": penalties, "seed": seed, "quantity": quantity, "measured": 1.0 + seed}
        for penalties in PENALTIES
        for seed in SEEDS
        for quantity in PREDICTED
    ]
    nc0 = {"loss": "ls", "reference": 0, "measured": 1.0, "predicted": 1.0, "rounding": 0.0, "premise": ""}
    return Comparison(
        *("main", "mnist5k", "resnet8", "ce", "ls", SEEDS, EPOCHS),
        Measurements(pd.concat([simulate_metrics(), *more])),
        theory,
        pd.DataFrame(descents).assign(quantity="iterations", tolerance=1e-3),
        pd.DataFrame(predictions).assign(smoothing=0.05, predicted=1.0),
        weight_decays={"ce": 5e-4, "ls": 5e-4},
        teachers={"ce": TEACHERS["other"], "ls": TEACHERS["student"]},
        nc0=pd.DataFrame([nc0 | {"seed": seed, "epoch": epoch} for seed in SEEDS for epoch in (0, EPOCHS)]),
    )


def regression(loss, regularised=False):
    """A grid of weight decays, or networks trained with the model's penalties."""
    decays = {loss: 0.0} if regularised else DECAYS
    metrics = simulate_regression(tuple(decays.items()), regularised=regularised)
    return Comparison(
        *("main", "reacher", "mlp", "", loss, SEEDS, 400),
        Measurements(metrics),
        simulate_theory()[:0],
        predictions=simulate_predictions(metrics) if regularised else None,
        task="regression",
        weight_decays=decays,
        regularised=regularised,
    )


@cache
def comparisons():
    return classification(), regression("wd_5e-3"), regression("ufm", regularised=True)


@cache
def rows_of(name):
    return [row for comparison in comparisons() for row in claim_rows(CLAIMS[name], comparison)]


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_measure_has_a_label_and_no_label_is_unused(claim):
    rows = rows_of(claim.id)
    assert {row.quantity.partition("/")[0] for row in rows if row.level == "measure"} == set(claim.labels)
    assert all(label.strip() for label in claim.labels.values())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_claim_says_what_was_found_and_which_way_its_effects_go(claim):
    words = (claim.subject, claim.holds, claim.fails)
    assert all(text and not text.endswith(".") for text in words)
    assert claim.holds != claim.fails
    rows = [row for row in rows_of(claim.id) if row.level == "measure"]
    ratios = [row for row in rows if row.unit.startswith("ratio")]
    assert all(claim.meaning(row.quantity) for row in ratios)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_measure_of_no_effect_has_a_margin_with_its_reason(claim):
    """And no other has one; a factor where it is a ratio. What is inconclusive has a reason, what is not has none."""
    rows = [row for row in rows_of(claim.id) if row.level == "measure"]
    compared = {
        row.quantity.partition("/")[0]: row.scale
        for row in rows
        if row.scale and row.null == NO_EFFECT[row.scale] and row.quantity.partition("/")[0] not in WITHIN | PERFECT_FIT
    }
    assert {name: scale for name, scale in compared.items() if scale != "correlation"} == {
        name: "ratio" if margin.size > 1 else "difference" for name, margin in claim.margins.items()
    }
    assert all(0 < margin.size < 2 and margin.reason for margin in claim.margins.values())
    assert all((row.verdict == "inconclusive") == bool(row.reason) for row in rows)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_figure_of_a_claim_exists(claim):
    assert claim.figures
    assert set(claim.figures) <= set(FIGURES)


def test_a_label_names_the_probe_and_one_that_is_missing_is_refused():
    measure = Measure("nc9/digits", 0.5, 0.4, 0.6, "ratio", 1.0, 3, "supported")
    claim = Claim("X1", "a paper", "", "", lambda _: [measure], {"nc1": "NC1"})
    assert (claim.label("nc1"), claim.label("nc1/digits")) == ("NC1", "NC1 (digits)")
    with pytest.raises(ValueError, match="claim X1: the measure 'nc9' has no label; known: nc1"):
        claim_rows(claim, comparisons()[0])


def test_claims_are_ordered_by_letter_and_number_and_no_id_is_used_twice():
    names = [claim.id for paper in PAPERS for claim in paper.CLAIMS]
    assert len(names) == len(CLAIMS)
    assert all(re.fullmatch(r"[A-Z]\d+", name) for name in names)
    assert list(CLAIMS) == [
        *(f"C{k}" for k in range(1, 8)),
        *(f"M{k}" for k in range(1, 9)),
        *(f"T{k}" for k in range(1, 4)),
        *(f"W{k}" for k in range(1, 14)),
        *(f"S{k}" for k in range(1, 3)),
        "D1",
        *(f"R{k}" for k in range(1, 7)),
        "O1",
        "N1",
        *(f"G{k}" for k in range(1, 6)),
        *(f"K{k}" for k in range(1, 4)),
        *(f"L{k}" for k in range(1, 6)),
        "E1",
        *(f"P{k}" for k in range(1, 10)),
    ]


LOSSES = {"ce": "ce", "ls": "ls", "focal": "focal", "mine": "own", "student": "distillation_ce"}


def judged(models):
    """Loss -> the claims that compare it with cross entropy."""
    strengths = dict.fromkeys(LOSSES)
    found = {loss: set() for loss in LOSSES}
    for claim in CLAIMS.values():
        for loss, other in pairs(claim, list(LOSSES), LOSSES, strengths, "ce", models=models):
            found[loss] |= {claim.id} if other == "ce" else set()
    return found


def test_only_the_claims_on_any_loss_compare_networks_of_two_models():
    """There they are on label smoothing too, whose claims are the papers' else."""
    generic = {"G1", "G2", "G3", "G4", "G5"}
    same, other = judged({}), judged({loss: "other" for loss in LOSSES if loss != "ce"})
    assert same == judged(dict.fromkeys(LOSSES, "m"))
    assert {"C1", "C2", "C3", "C4", "G5"} <= same["ls"]
    assert not same["ls"] & (generic - {"G5"})
    assert same["mine"] == generic | {"D1"}
    assert other["mine"] == generic
    assert other["ls"] == other["focal"] == generic
    assert other["student"] == set()


def test_a_comparison_of_two_models_names_both_and_says_what_pairs():
    same = replace(classification(), models={"ce": "resnet8", "ls": "resnet8"})
    rows, of_two = (claim_rows(CLAIMS["G5"], one) for one in (same, replace(same, models={"ls": "wide"})))
    assert {row.model for row in rows} == {"resnet8"}
    assert {row.model for row in of_two} == {"wide against resnet8"}
    note = "two models: runs of one seed have the same order of the data, not the same initial weights"
    assert [row.note.endswith(note) for row in of_two] == [row.level == "claim" for row in of_two]
    assert note not in "".join(row.note for row in rows)
    assert [replace(row, model="", note="") for row in rows] == [replace(row, model="", note="") for row in of_two]
    alone = replace(same, baseline="", models={"ls": "wide"})
    assert alone.networks == ("wide",)
