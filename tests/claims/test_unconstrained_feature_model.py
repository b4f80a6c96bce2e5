import math

import numpy as np
import pandas as pd
import pytest

from nclens.claims.measurements import Measurements
from nclens.claims.rows import claim_rows
from nclens.claims.unconstrained_feature_model import (
    CLAIMS,
    CONDITION_NUMBERS,
    DISTANCES,
    closed_form_is_minimum,
    gap_and_confidence,
    halves,
    is_better_conditioned_and_faster,
    is_predicted,
)
from nclens.claims.verdict import DYNAMICS, MODEL, Comparison, Measure
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.dynamics import DISTANCES as DESCENT_DISTANCES
from nclens.ufm.dynamics import STEP_RULES, descend, records
from nclens.ufm.spectra import condition_numbers
from nclens.workflow import tables
from nclens.workflow.stages.theory import KEYS
from nclens.workflow.tables import LAMBDAS
from tests.claims.simulate import simulate_theory

SEEDS = (0, 1, 2)
NO_METRICS = pd.DataFrame(columns=["loss", "seed", "split", "epoch", "metric", "value"])
NO_THEORY = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])


def compare(theory=NO_THEORY, *, baseline="ce", loss="ls", seeds=SEEDS, dynamics=None, predictions=None):
    names = "main", "mnist5k", "resnet8", baseline, loss
    return Comparison(*names, tuple(seeds), 100, Measurements(NO_METRICS), theory, dynamics, predictions)


def by_quantity(measures):
    return {measure.quantity: measure for measure in measures}


def measure(quantity, verdict):
    return Measure(quantity, 0.5, 0.4, 0.6, "ratio", 1.0, None, verdict)


# --- C5 -------------------------------------------------------------------------------------------------------------


def theory(rows):
    return pd.DataFrame(rows, columns=NO_THEORY.columns)


def test_c5_supported_on_the_closed_forms():
    (found,) = closed_form_is_minimum(compare(simulate_theory()))
    assert (found.verdict, found.effect, found.seeds) == ("supported", pytest.approx(1e-9), None)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(("error", "verdict"), [(1e-6, "supported"), (1.01e-6, "contradicted"), (0.3, "contradicted")])
@pytest.mark.parametrize("loss", ["ce", "ls"])
def test_c5_largest_error_of_both_losses_decides_and_is_named(error, verdict, loss):
    table = simulate_theory()
    table.loc[(table["loss"] == loss) & (table["quantity"] == "objective"), "relative_error"] = error
    (found,) = closed_form_is_minimum(compare(table))
    assert (found.verdict, found.effect) == (verdict, error)
    assert f"largest for minimum of the objective of {loss}" in found.note


def test_c5_quantities_without_one_of_the_two_do_not_count():
    rows = [(loss, "logit_gap", 2.0, 2.0, 0.0) for loss in ("ce", "ls")]
    rows += [("ls", "kappa_ce", math.nan, 3.0, math.nan), ("ls", "kappa_full", 3.0, math.nan, math.nan)]
    rows += [("other", "logit_gap", 1.0, 9.0, 8.0)]
    (found,) = closed_form_is_minimum(compare(theory(rows)))
    assert (found.verdict, found.effect) == ("supported", 0.0)


@pytest.mark.parametrize(("numeric", "verdict"), [(1e-9, "supported"), (-1e-3, "contradicted")])
def test_c5_closed_form_of_zero_is_compared_with_the_number_itself(numeric, verdict):
    rows = [("ce", "logit_gap", 2.0, 2.0, 0.0), ("ls", "logit_gap", 0.0, numeric, math.nan)]
    (found,) = closed_form_is_minimum(compare(theory(rows)))
    assert (found.verdict, found.effect) == (verdict, abs(numeric))


def test_c5_norms_of_zero_count_by_their_squares():
    rows = [("ce", "logit_gap", 2.0, 2.0, 0.0), ("ls", "weight_norm", 0.0, 2e-5, math.nan)]
    (found,) = closed_form_is_minimum(compare(theory(rows)))
    assert (found.verdict, found.effect) == ("supported", pytest.approx(4e-10))


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([], "no closed form beside a numeric value for ce and ls"),
        ([("ce", "logit_gap", 2.0, 2.0, 0.0)], "no closed form beside a numeric value for ls"),
        ([("ce", "p", 2.0, 2.0, 0.0), ("ls", "p", 2.0, 2.0, math.nan)], "a relative error is missing or infinite"),
    ],
)
def test_c5_without_numbers_is_inconclusive(rows, note):
    (found,) = closed_form_is_minimum(compare(theory(rows)))
    assert found.verdict == "inconclusive"
    assert math.isnan(found.effect)
    assert found.note == note


# --- C6: the condition numbers --------------------------------------------------------------------------------------


def is_better_conditioned(comparison):
    return [found for found in is_better_conditioned_and_faster(comparison) if found.quantity.startswith("kappa")]


def test_c6_names_every_condition_number_and_every_distance():
    assert list(CONDITION_NUMBERS) == list(condition_numbers(UnconstrainedFeatureModel(4, 3, 5, 1e-2, 1e-2, 1e-2)))
    assert list(DISTANCES) == list(DESCENT_DISTANCES)


def test_c6_definition_decides_the_answer():
    # At the release's lambdas N lambda_H is that of 50,000 samples, so papers' numbers hold: 6.96 and 15.7.
    ce, full = is_better_conditioned(compare(simulate_theory()))
    s = math.sqrt(10 * 50_000 * 1e-3 * 1e-6)
    assert (ce.quantity, ce.verdict) == ("kappa_ce", "supported")
    assert ce.effect == pytest.approx((10 - 9 * (0.05 + s)) / (10 - 9 * s))
    assert (full.quantity, full.verdict) == ("kappa_full", "contradicted")
    assert full.effect == pytest.approx(15.707 / 6.9603, rel=1e-4)
    assert "cross-entropy part alone" in ce.note
    assert "whole objective" in full.note
    verdict, note = halves([ce, full])
    assert verdict == "inconclusive"
    assert note == ("lower condition number: inconclusive (1 of 2 agree); faster: inconclusive (not measured)")


@pytest.mark.parametrize(
    ("ls", "verdict"), [(9.0, "supported"), (10.0, "inconclusive"), (11.0, "contradicted"), (math.nan, "inconclusive")]
)
def test_c6_verdicts(ls, verdict):
    rows = [("ce", "kappa_ce", 10.0, 10.0, 0.0), ("ls", "kappa_ce", ls, 10.0, 0.0), ("ls", "kappa_full", 1.0, 1.0, 0.0)]
    ce, full = is_better_conditioned(compare(theory(rows)))
    assert (ce.verdict, ce.seeds) == (verdict, None)
    assert full.verdict == "inconclusive"
    assert "not exactly one finite value for each loss" in full.note


def test_c6_two_values_of_one_loss_are_not_chosen_from():
    rows = [("ce", "kappa_ce", 10.0, 10.0, 0.0), ("ls", "kappa_ce", 9.0, 9.0, 0.0), ("ls", "kappa_ce", 8.0, 8.0, 0.0)]
    assert is_better_conditioned(compare(theory(rows)))[0].verdict == "inconclusive"


def test_c6_lists_the_readings_that_the_table_has_and_kappa_ce_always():
    assert [found.quantity for found in is_better_conditioned_and_faster(compare())] == ["kappa_ce"]
    rows = [(loss, "kappa_joint", 2.0, 2.0, 0.0) for loss in ("ce", "ls")]
    assert [found.quantity for found in is_better_conditioned(compare(theory(rows)))] == ["kappa_ce", "kappa_joint"]


# --- C6: the speed of descents --------------------------------------------------------------------------------------

SMOOTHING = {"ce": 0.0, "ls": 0.05}
# simulate_theory: N lambda_H = 0.05 on 10 classes.
DESCENTS = {"classes": 10, "per_class": 4, "lambda_w": 1e-3, "lambda_h": 0.05 / 40, "lambda_b": 1e-2, "momentum": 0.0}
STARTS = range(4)


def descents(iterations, *, tolerances=(1e-1, 1e-3), rates=None, **changes):
    """A table of descents; `iterations(loss, step rule, distance, tolerance, start)` may be None: not reached."""
    rows = []
    for loss, smoothing in SMOOTHING.items():
        for rule in STEP_RULES:
            keys = DESCENTS | {"smoothing": smoothing, "step_rule": rule}
            for start in STARTS:
                for distance in DISTANCES:
                    for tolerance in tolerances:
                        value = iterations(loss, rule, distance, tolerance, start)
                        own = {"distance": distance, "quantity": "iterations", "tolerance": tolerance, "value": value}
                        rows.append(keys | {"start": start} | own)
                for name, rate in ((rates or {}).get((loss, rule)) or {}).items():
                    own = {"distance": "", "quantity": f"rate_{name}", "tolerance": None, "value": rate}
                    rows.append(keys | {"start": start} | own)
    return pd.DataFrame(rows).assign(**changes)


def faster(factors):
    """Iterations of label smoothing as a multiple of those of cross entropy, by step rule."""
    return lambda loss, rule, distance, tolerance, start: (
        -100 * math.log10(tolerance) * (1 + 0.01 * start) * (factors[rule] if loss == "ls" else 1.0)
    )


def speeds(table):
    found = is_better_conditioned_and_faster(compare(simulate_theory(), dynamics=table))
    return by_quantity([one for one in found if one.quantity.startswith("iterations")])


def test_c6_tables_have_the_columns_that_are_read():
    assert set(DYNAMICS) <= set(tables.DYNAMICS.columns)
    assert set(MODEL) <= {*KEYS, *LAMBDAS}


def test_c6_ratio_of_iterations_by_hand():
    def iterations(loss, rule, distance, tolerance, start):
        slow = {"relative": [2.0, 2.0, 4.0, 4.0], "absolute": [0.5, 0.5, 0.25, 0.25]}[rule][start]
        return -100 * math.log10(tolerance) * (slow if loss == "ls" else 1.0)

    found = speeds(descents(iterations))
    assert list(found) == [f"iterations_{name}_{rule}" for rule in ("same_fraction", "same_step") for name in DISTANCES]
    # Log ratios log 2, log 2, log 4, log 4: standard deviation log(2) / sqrt(3), t(0.975, 3) = 3.182446.
    half = 3.182446 * math.log(2) / math.sqrt(3) / 2
    slow, fast = found["iterations_orbit_same_fraction"], found["iterations_orbit_same_step"]
    assert slow.effect == pytest.approx(math.sqrt(8))
    assert (slow.low, slow.high) == pytest.approx((8**0.5 * math.exp(-half), 8**0.5 * math.exp(half)), rel=1e-6)
    assert fast.effect == pytest.approx(1 / math.sqrt(8))
    assert (slow.verdict, fast.verdict) == ("contradicted", "supported")
    assert (slow.unit, slow.null, slow.seeds) == ("ratio of iterations", 1.0, None)
    assert "to 0.001; plain gradient descent from 4 random starts, 10 classes of 4 samples" in slow.note


def test_c6_smallest_tolerance_that_every_descent_reached():
    def iterations(loss, rule, distance, tolerance, start):
        if tolerance == 1e-3 and (loss, distance, start) == ("ls", "logits", 2):
            return None
        return 100.0 * (2 if tolerance == 1e-1 and loss == "ls" else 1)

    found = speeds(descents(iterations))
    assert found["iterations_logits_same_step"].effect == pytest.approx(2.0)
    assert "to 0.1;" in found["iterations_logits_same_step"].note
    assert found["iterations_orbit_same_step"].effect == pytest.approx(1.0)
    assert "to 0.001;" in found["iterations_orbit_same_step"].note


def test_c6_descents_that_reach_nothing_are_inconclusive():
    found = speeds(descents(lambda loss, *_: None if loss == "ce" else 7.0))
    assert {one.verdict for one in found.values()} == {"inconclusive"}
    assert all("no tolerance that every descent of both losses reached" in one.note for one in found.values())


@pytest.mark.parametrize("factor", [0.995, 1.0, 1.009])
def test_c6_one_checkpoint_is_no_difference(factor):
    found = speeds(descents(faster({"relative": factor, "absolute": 0.9})))
    assert found["iterations_orbit_same_fraction"].verdict == "inconclusive"
    assert found["iterations_orbit_same_step"].verdict == "supported"


@pytest.mark.parametrize(
    "changes", [{"lambda_w": 2e-3}, {"lambda_b": 1.0}, {"lambda_h": 1e-6}, {"classes": 11}, {"momentum": 0.9}]
)
def test_c6_descents_on_another_model_do_not_count(changes):
    found = speeds(descents(faster({"relative": 0.5, "absolute": 0.5}), **changes))
    assert {one.verdict for one in found.values()} == {"inconclusive"}


def test_c6_takes_the_largest_model_of_those_with_these_penalties():
    right = descents(faster({"relative": 0.5, "absolute": 0.5}))
    small = descents(faster({"relative": 3.0, "absolute": 3.0}), classes=5, lambda_h=0.05 / 20)
    found = speeds(pd.concat([small, right, small]))
    assert found["iterations_orbit_same_step"].effect == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kappa", "words"),
    [
        (2.0, "2 times predicted, 2 found, explained"),
        (2.15, "2.15 times predicted, 2 found, explained"),
        (1.4, "1.4 times predicted, 2 found, direction only"),
        (0.95, "0.95 times predicted, 2 found, not explained"),
    ],
)
def test_c6_says_which_reading_explains_the_speed(kappa, words):
    rates = {("ce", "relative"): {"kappa_ce": 0.01}, ("ls", "relative"): {"kappa_ce": 0.01 / kappa}}
    table = descents(faster({"relative": 2.0, "absolute": 0.5}), rates=rates)
    note = is_better_conditioned_and_faster(compare(simulate_theory(), dynamics=table))[0].note
    assert f"iterations at the same fraction of 1/L: {words}" in note
    assert "at the same step:" not in note


def test_c6_on_descents_that_were_run():
    sizes = {"classes": 3, "per_class": 2, "dim": 3, "lambda_w": 3e-2, "lambda_h_sum": 1e-2, "lambda_b": 1e-2}
    problems = [UnconstrainedFeatureModel(**sizes, smoothing=delta) for delta in SMOOTHING.values()]
    lambdas = [sizes[name] for name in ("lambda_w", "lambda_h_sum", "lambda_b")]
    keys = dict(zip(LAMBDAS, lambdas, strict=True)) | {"classes": 3, "per_class": 2}
    dynamics = pd.DataFrame(
        [keys | row for row in records(descend(problems, starts=3, momenta=[0.0], iterations=3000))]
    )
    rows = [
        keys
        | {"loss": loss, "smoothing": problem.smoothing, "quantity": name, "closed_form": value, "numeric": value}
        | {"relative_error": 0.0}
        for (loss, problem) in zip(SMOOTHING, problems, strict=True)
        for name, value in condition_numbers(problem).items()
    ]
    found = by_quantity(is_better_conditioned_and_faster(compare(pd.DataFrame(rows), dynamics=dynamics)))
    assert len(found) == len(CONDITION_NUMBERS) + 2 * len(DISTANCES)
    # In its local regime plain descent needs kappa_joint / fraction iterations a factor e: same fraction, same ratio.
    speed = found["iterations_orbit_same_fraction"]
    assert "to 1e-06;" in speed.note
    assert speed.effect == pytest.approx(found["kappa_joint"].effect, rel=0.1)
    assert "the same fraction of 1/L:" in found["kappa_joint"].note
    assert found["kappa_joint"].note.count("explained") == 2


# --- C6: the verdict ------------------------------------------------------------------------------------------------

YES, NO, OPEN = "supported", "contradicted", "inconclusive"


@pytest.mark.parametrize(
    ("kappas", "iterations", "verdict"),
    [
        ([YES, YES], [YES, OPEN], YES),
        ([YES, YES], [NO, NO], NO),
        ([NO, NO], [YES], NO),
        ([NO, NO], [], NO),
        ([YES, NO], [YES], OPEN),
        ([NO, YES], [YES], OPEN),
        ([YES, YES], [NO, YES], OPEN),
        ([YES, YES], [YES, NO], OPEN),
        ([OPEN, YES], [YES], OPEN),
        ([YES, YES], [], OPEN),
        ([YES, NO], [NO, NO], NO),
    ],
)
def test_c6_halves(kappas, iterations, verdict):
    measures = [measure(f"kappa_{place}", found) for place, found in enumerate(kappas)]
    measures += [measure(f"iterations_{place}", found) for place, found in enumerate(iterations)]
    found, note = halves(measures)
    assert found == verdict
    assert note.startswith("lower condition number: ")
    assert ("not measured" in note) == (not iterations)


def test_c6_row_of_the_claim_says_both_halves():
    claim = next(claim for claim in CLAIMS if claim.id == "C6")
    table = descents(faster({"relative": 2.0, "absolute": 0.5}))
    head, *measures = claim_rows(claim, compare(simulate_theory(), dynamics=table))
    assert (head.verdict, head.level, len(measures)) == ("inconclusive", "claim", 10)
    assert head.note == "lower condition number: inconclusive (1 of 2 agree); faster: inconclusive (4 of 8 agree)"
    verdicts = {row.quantity: row.verdict for row in measures}
    assert (verdicts["kappa_ce"], verdicts["kappa_full"]) == ("supported", "contradicted")
    assert verdicts["iterations_orbit_same_fraction"] == "contradicted"


# --- C7 -------------------------------------------------------------------------------------------------------------


def predictions(errors, *, penalties="effective", loss="ls", predicted=4.0):
    """Predictions of one loss; errors: quantity -> relative error of each seed."""
    return pd.DataFrame(
        [
            (loss, 0.05, penalties, seed, quantity, predicted * (1 + error), predicted)
            for quantity, found in errors.items()
            for seed, error in enumerate(found)
        ],
        columns=["loss", "smoothing", "penalties", "seed", "quantity", "measured", "predicted"],
    )


def alone(table, loss="ls", seeds=SEEDS):
    return compare(baseline="", loss=loss, seeds=seeds, predictions=table)


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.05, 0.06, 0.07], "supported"),
        ([-0.05, -0.06, -0.07], "supported"),
        ([0.0, 0.0, 0.0], "supported"),
        ([0.2, 0.21, 0.22], "contradicted"),
        ([-0.2, -0.21, -0.22], "contradicted"),
        ([0.08, 0.09, 0.1], "inconclusive"),
        ([-0.09, 0.0, 0.09], "inconclusive"),
        ([0.05, 0.06], "inconclusive"),
    ],
)
def test_c7_whole_interval_within_or_beyond_the_tolerance(errors, verdict):
    (found,) = is_predicted(alone(predictions({"logit_gap": errors}), seeds=range(len(errors))))
    assert (found.quantity, found.verdict) == ("logit_gap_by_effective_penalties", verdict)
    assert (found.unit, found.null, found.seeds) == ("relative error", 0.0, len(errors))
    assert found.effect == pytest.approx(np.mean(errors), abs=1e-12)


def test_c7_interval_by_hand():
    (found,) = is_predicted(alone(predictions({"confidence": [0.01, 0.02, 0.03]})))
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-6)
    assert found.note == (
        "smoothing 0.05, mean measured 4.08, predicted 4; the penalties are fitted to the other smoothings of the same "
        "seed"
    )


def test_c7_rows_of_explicit_and_effective_penalties_and_of_norms():
    errors = {name: [0.0, 0.0, 0.0] for name in ("logit_gap", "weight_norm", "feature_norm", "confidence")}
    table = pd.concat([predictions(errors, penalties=kind) for kind in ("explicit", "effective")])
    names = ("logit_gap", "confidence", "weight_norm", "feature_norm")
    assert [found.quantity for found in is_predicted(alone(table))] == [
        f"{name}_by_{kind}_penalties" for kind in ("explicit", "effective") for name in names
    ]


def test_c7_without_predictions_is_not_listed():
    claim = next(claim for claim in CLAIMS if claim.id == "C7")
    table = predictions({"logit_gap": [0.0, 0.0, 0.0]})
    assert not claim.paired
    for comparison in (compare(baseline=""), alone(table, loss="ce"), alone(table.iloc[:0])):
        assert claim_rows(claim, comparison) == []
    assert [row.level for row in claim_rows(claim, alone(table))] == ["claim", "measure"]


@pytest.mark.parametrize(("predicted", "measured", "effect"), [(math.inf, 9.0, -1.0), (0.0, 0.1, None)])
def test_c7_predictions_without_a_finite_value(predicted, measured, effect):
    table = predictions({"logit_gap": [0.0, 0.0, 0.0]}).assign(predicted=predicted, measured=measured)
    (found,) = is_predicted(alone(table))
    assert found.verdict == ("inconclusive" if effect is None else "contradicted")
    assert math.isnan(found.effect) if effect is None else found.effect == effect


def test_c7_missing_fits_are_not_left_out_and_missing_seeds_are_named():
    table = predictions({"logit_gap": [0.01, 0.02, 0.03, 0.04]})
    (found,) = is_predicted(alone(table, seeds=range(5)))
    assert (found.seeds, found.verdict) == (4, "supported")
    assert "left out, a run is missing: seed 4" in found.note
    table.loc[1, "predicted"] = math.nan
    (found,) = is_predicted(alone(table, seeds=range(4)))
    assert (found.verdict, "no finite effect: seed 1" in found.note) == ("inconclusive", True)


def test_c7_a_prediction_that_occurs_twice_is_refused():
    table = predictions({"logit_gap": [0.01, 0.02, 0.03]})
    with pytest.raises(ValueError, match="main: the prediction of logit_gap for ls occurs twice"):
        is_predicted(alone(pd.concat([table, table])))


@pytest.mark.parametrize(
    ("gap", "confidence", "norm", "verdict"),
    [(YES, YES, NO, YES), (NO, YES, YES, NO), (YES, NO, YES, NO), (YES, OPEN, YES, OPEN), (OPEN, NO, YES, NO)],
)
def test_c7_gap_and_confidence_decide(gap, confidence, norm, verdict):
    measures = [
        measure("logit_gap_by_explicit_penalties", gap),
        measure("confidence_by_explicit_penalties", confidence),
    ]
    found, note = gap_and_confidence([*measures, measure("weight_norm_by_explicit_penalties", norm)])
    assert found == verdict
    assert "weight_norm_by_explicit_penalties" in note
