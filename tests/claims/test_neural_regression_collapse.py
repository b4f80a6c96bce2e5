import math

import numpy as np
import pandas as pd
import pytest

from nclens.claims import CLAIMS
from nclens.claims.measurements import Measurements
from nclens.claims.neural_regression_collapse import (
    CLASSIFICATION,
    all_of_them,
    collapses_in_both_senses,
    falls_with_weight_decay,
    gram_is_predicted,
    relative_distance,
    residuals_are_isotropic,
)
from nclens.claims.rows import claim_rows
from nclens.claims.verdict import Comparison, Measure
from tests.claims.simulate_regression import DECAYS, C, simulate_predictions, simulate_regression

SEEDS = (0, 1, 2)
NO_THEORY = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])
UFM = (("ufm", 0.0),)


def compare(metrics, loss, *, predictions=None, **changes):
    given = {"experiment": "reacher", "dataset": "reacher", "model": "mlp", "baseline": "", "loss": loss}
    given |= {
        "seeds": SEEDS,
        "epochs": 400,
        "metrics": Measurements(metrics),
        "theory": NO_THEORY,
        "predictions": predictions,
    }
    return Comparison(**(given | {"task": "regression", "weight_decays": DECAYS} | changes))


def regularised(metrics=None, **changes):
    """The comparison of runs that were trained with the model's penalties."""
    own = simulate_regression(UFM, regularised=True)
    given = {"predictions": simulate_predictions(own), "weight_decays": dict(UFM), "regularised": True}
    return compare(own if metrics is None else metrics, "ufm", **(given | changes))


def curve(values, loss="wd_5e-3", metric="nrc1", epochs=(0, 100, 400)):
    """The metrics table of three seeds with the same values, or with a list of them each."""
    rows = [
        {"loss": loss, "seed": seed, "split": "train", "epoch": epoch, "metric": metric, "value": value}
        for seed in SEEDS
        for epoch, value in zip(epochs, values[seed] if np.ndim(values) == 2 else values, strict=True)
    ]
    return pd.DataFrame(rows)


def verdicts(comparison):
    rows = [row for claim in CLAIMS.values() if not claim.paired for row in claim_rows(claim, comparison)]
    return {row.claim: row.verdict for row in rows if row.level == "claim"}


def by_quantity(measures):
    return {measure.quantity: measure for measure in measures}


# --- what applies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", DECAYS)
def test_a_grid_of_weight_decays_has_the_claims_on_the_three_measures(loss):
    found = verdicts(compare(simulate_regression(), loss))
    assert list(found) == ["R1", "R2", "R3"]
    assert found["R1"] == found["R2"] == "supported"


def test_the_models_penalties_have_all_claims_on_regression():
    assert verdicts(regularised()) == dict.fromkeys(("R1", "R2", "R3", "R4", "R5"), "supported")


def test_other_tasks_have_none_of_them():
    assert verdicts(compare(simulate_regression(), "wd_5e-3", task="classification")) == {}


def test_one_target_has_no_nrc3_and_no_anisotropy():
    metrics = simulate_regression(UFM, n=1, regularised=True)
    found = verdicts(regularised(metrics, predictions=simulate_predictions(metrics, n=1)))
    assert list(found) == ["R1", "R2", "R4", "R5"]
    measures = residuals_are_isotropic(regularised(metrics))
    assert [measure.quantity for measure in measures] == ["residual_deviation"]


def test_an_experiment_without_measurements_is_inconclusive():
    empty = simulate_regression()[:0]
    assert verdicts(compare(empty, "wd_0")) == dict.fromkeys(("R1", "R2", "R3"), "inconclusive")


# --- R1 to R3 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "with_decay"),
    [
        ((1.0, 1.0, 0.4), "supported"),
        ((0.2, 1.0, 0.4), "supported"),  # from the highest, not from the first
        ((1.0, 0.1, 0.6), "contradicted"),
        ((0.3, 0.2, 1.0), "contradicted"),
        (((1.0, 1.0, 0.1), (1.0, 1.0, 0.5), (1.0, 1.0, 0.9)), "inconclusive"),
        (((1.0, 1.0, 1e-9), (1.0, 1.0, 0.01), (1.0, 1.0, 0.03)), "supported"),  # factors mean nothing near zero
    ],
)
def test_fall_by_hand_and_the_opposite_claim_without_decay(values, with_decay):
    opposite = {"supported": "contradicted", "contradicted": "supported", "inconclusive": "inconclusive"}
    (found,) = falls_with_weight_decay(compare(curve(values), "wd_5e-3", weight_decays={"wd_5e-3": 5e-3}), "nrc1")
    assert (found.verdict, found.null, found.seeds) == (with_decay, 0.5, 3)
    table = np.broadcast_to(values, (3, 3))
    shares = [max(row[-1] / max(row), 0.5 / 100) for row in table]
    assert found.effect == pytest.approx(math.prod(shares) ** (1 / 3))
    assert 0 < found.low <= found.high
    (without,) = falls_with_weight_decay(compare(curve(values, "wd_0"), "wd_0"), "nrc1")
    assert (without.verdict, without.effect) == (opposite[with_decay], found.effect)


def test_the_end_is_compared_with_the_same_seed_without_weight_decay():
    metrics = pd.concat([curve((1.0, 1.0, 0.01)), curve((1.0, 1.0, 0.8), "wd_0")])
    found = by_quantity(falls_with_weight_decay(compare(metrics, "wd_5e-3"), "nrc1"))
    assert list(found) == ["nrc1_end_over_highest", "nrc1_end_over_no_decay"]
    assert found["nrc1_end_over_no_decay"].effect == pytest.approx(0.01 / 0.8)
    assert found["nrc1_end_over_no_decay"].note == "against wd_0"
    # A run that ends higher than without decay cannot support the claim.
    higher = pd.concat([curve((1.0, 1.0, 0.4)), curve((0.1, 0.1, 0.1), "wd_0")])
    assert verdicts(compare(higher, "wd_5e-3"))["R1"] == "inconclusive"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_undefined_values_are_not_passed_over(bad, place):
    values = [1.0, 1.0, 0.01]
    values[place] = bad
    metrics = pd.concat([curve((1.0, 1.0, 0.01)).query("seed != 1"), curve(values).query("seed == 1")])
    (found,) = falls_with_weight_decay(compare(metrics, "wd_5e-3", weight_decays={"wd_5e-3": 5e-3}), "nrc1")
    assert (found.verdict, "no finite effect: seed 1" in found.note) == ("inconclusive", True)


def test_a_run_cut_short_is_named():
    metrics = curve((1.0, 1.0, 0.01)).query("seed != 2 or epoch < 400")
    (found,) = falls_with_weight_decay(compare(metrics, "wd_5e-3", weight_decays={"wd_5e-3": 5e-3}), "nrc1")
    assert (found.verdict, found.seeds) == ("inconclusive", 2)
    assert "a run is missing: seed 2" in found.note


# --- R4 -------------------------------------------------------------------------------------------------------------


def entries(**values):
    rows = [{"quantity": name, "measured": pair[0], "predicted": pair[1]} for name, pair in values.items()]
    return pd.DataFrame(rows)


def test_relative_distance_is_that_of_the_matrices():
    random = np.random.default_rng(0)
    measured, predicted = (matrix + matrix.T for matrix in random.standard_normal((2, 3, 3)))
    table = entries(
        **{f"gram_{i}{j}": (measured[i, j], predicted[i, j]) for i in range(3) for j in range(i, 3)},
    )
    expected = np.linalg.norm(measured - predicted) / np.linalg.norm(predicted)
    assert relative_distance(table) == pytest.approx(expected)
    assert relative_distance(entries(mse=(1.2, 1.0))) == pytest.approx(0.2)
    assert math.isnan(relative_distance(entries(gram_00=(1.0, 0.0))))
    assert math.isnan(relative_distance(entries(gram_00=(math.nan, 1.0), gram_11=(1.0, 1.0))))


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "supported"), (1.05, "supported"), (1.2, "contradicted")])
def test_gram_matrix_against_the_closed_form(factor, verdict):
    predictions = simulate_predictions(simulate_regression(UFM, regularised=True))
    gram = predictions["quantity"].str.startswith("gram")
    predictions["measured"] = predictions["predicted"] * np.where(gram, factor, 3.0)
    comparison = regularised(predictions=predictions)
    found = by_quantity(gram_is_predicted(comparison))
    assert found["gram_by_explicit_penalties"].effect == pytest.approx(max(factor - 1, 0.1 / 100))
    assert found["gram_by_explicit_penalties"].verdict == verdict
    # The norms are shown and decide nothing.
    assert found["feature_norm_rms_by_explicit_penalties"].verdict == "contradicted"
    assert verdicts(comparison)["R4"] == verdict


def test_a_prediction_that_occurs_twice_is_refused():
    predictions = simulate_predictions(simulate_regression(UFM, regularised=True))
    with pytest.raises(ValueError, match="a prediction for ufm occurs twice"):
        gram_is_predicted(regularised(predictions=pd.concat([predictions, predictions])))


def test_nothing_predicted_is_inconclusive_and_without_a_table_not_judged():
    predictions = simulate_predictions(simulate_regression(UFM, regularised=True))
    assert verdicts(regularised(predictions=predictions[:0]))["R4"] == "inconclusive"
    assert "R4" not in verdicts(regularised(predictions=None))


# --- R5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("residual_covariance", "verdict"),
    [
        (C * np.eye(2), "supported"),
        (1.5 * C * np.eye(2), "supported"),
        (np.zeros((2, 2)), "inconclusive"),  # a perfect fit is exactly at the level
        (3 * C * np.eye(2), "contradicted"),
        (np.diag([3 * C, 0.0]), "contradicted"),
    ],
)
def test_residual_covariance_against_a_perfect_fit(residual_covariance, verdict):
    deviation = np.linalg.norm(residual_covariance - C * np.eye(2)) / np.linalg.norm(C * np.eye(2))
    metrics = curve((100.0, 10.0, deviation), "ufm", "residual_deviation")
    main, _ = residuals_are_isotropic(
        regularised(pd.concat([metrics, curve((1, 1, 0.1), "ufm", "residual_anisotropy")]))
    )
    assert (main.verdict, main.null, main.effect) == (verdict, 1.0, pytest.approx(max(deviation, 1 / 100)))


def test_a_direction_that_the_model_does_not_fit_is_no_matter_of_c():
    predictions = simulate_predictions(simulate_regression(UFM, regularised=True))
    variance = predictions["quantity"] == "residual_variance"
    np.testing.assert_allclose(predictions.loc[variance, "predicted"], C)
    assert residuals_are_isotropic(regularised(predictions=predictions))
    predictions.loc[variance, "predicted"] = 0.7 * C
    assert residuals_are_isotropic(regularised(predictions=predictions)) == []


def test_plain_weight_decay_has_no_c():
    assert residuals_are_isotropic(compare(simulate_regression(), "wd_5e-3")) == []
    assert gram_is_predicted(compare(simulate_regression(), "wd_5e-3")) == []


# --- R6 -------------------------------------------------------------------------------------------------------------


def classified(changed=(), loss="mse", decay=5e-4):
    metrics = pd.concat([curve(dict(changed).get(metric, (1, 1, 0.1)), loss, metric) for metric in CLASSIFICATION])
    decays = {"ce": decay, "mse": decay}
    return compare(metrics, loss, task="classification", weight_decays=decays)


def test_both_senses_of_collapse_must_hold():
    assert verdicts(classified()) == {"R6": "supported"}
    found = collapses_in_both_senses(classified([("onehot_nrc2", (1.0, 1.0, 0.9))]))
    assert [measure.quantity for measure in found] == [f"{metric}_end_over_highest" for metric in CLASSIFICATION]
    assert all_of_them(found) == ("contradicted", "onehot_nrc2_end_over_highest: contradicted")
    unsure = classified([("nc2", ((1, 1, 0.1), (1, 1, 0.5), (1, 1, 0.9)))])
    assert verdicts(unsure) == {"R6": "inconclusive"}


def test_a_share_that_is_small_from_the_start_counts_as_collapsed():
    small = (0.006, 0.04, 0.037)
    found = by_quantity(collapses_in_both_senses(classified([("onehot_nrc1", small), ("nc2", small)])))
    assert found["onehot_nrc1_end_over_highest"].effect == pytest.approx(0.037 / 0.2)
    assert found["onehot_nrc1_end_over_highest"].verdict == "supported"
    assert found["nc2_end_over_highest"].verdict == "contradicted"  # no share


def test_losses_that_were_not_measured_as_regressions_are_passed_over():
    metrics = pd.concat([curve((1, 1, 0.1), "ce", metric) for metric in ("nc1", "nc2", "nc3")])
    assert verdicts(compare(metrics, "ce", task="classification", weight_decays={"ce": 5e-4})) == {}
    assert verdicts(classified(decay=0.0)) == {}


def test_all_of_them():
    def measure(verdict):
        return Measure("nc1", 0.5, 0.4, 0.6, "ratio", 0.5, 3, verdict)

    assert all_of_them([measure("supported")] * 2) == ("supported", "")
    assert all_of_them([measure("supported"), measure("inconclusive")])[0] == "inconclusive"
    assert all_of_them([measure("inconclusive"), measure("contradicted")])[0] == "contradicted"
