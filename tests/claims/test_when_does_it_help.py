import math
from dataclasses import replace

import pandas as pd
import pytest

from nclens.claims.measurements import Measurements
from nclens.claims.rows import claim_rows, pairs
from nclens.claims.verdict import Comparison
from nclens.claims.when_does_it_help import (
    CLAIMS,
    ECE_MARGIN,
    ERROR_MARGIN,
    INFORMATION_MARGIN,
    distils_worse,
    erases_information,
    no_better_than_smoothing,
    replaces_scaling,
    tightens_clusters,
)

SEEDS = (0, 1, 2)
SNAPSHOTS = (0, 1, 10, 50, 100)
COLUMNS = ["loss", "seed", "split", "epoch", "metric", "value"]
NO_THEORY = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])


def runs(loss, metric, value, split="train"):
    """Rows of three runs: `value` is a number, with a little noise by seed, or a function of (epoch, seed)."""
    course = value if callable(value) else lambda epoch, seed: value + 1e-4 * (seed - 1)
    rows = [(loss, seed, split, epoch, metric, float(course(epoch, seed))) for seed in SEEDS for epoch in SNAPSHOTS]
    return pd.DataFrame(rows, columns=COLUMNS)


def compare(*tables):
    metrics = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return Comparison("main", "mnist5k", "resnet8", "ce", "ls", SEEDS, 100, Measurements(metrics), NO_THEORY)


def by_quantity(measures):
    return {measure.quantity: measure for measure in measures}


def claim(name):
    return next(entry for entry in CLAIMS if entry.id == name)


# --- W1 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("excess", "verdict"),
    [(-0.02, "supported"), (0.005, "supported"), (0.01, "inconclusive"), (0.02, "contradicted")],
)
def test_w1_compares_smoothing_as_it_is_with_the_scaled_baseline(excess, verdict):
    tables = [
        runs("ls", "ece_unscaled", 0.03 + excess, "test"),
        runs("ce", "ece_scaled", 0.03, "test"),
        # What must not count: the scaled loss, the baseline without scaling.
        runs("ls", "ece_scaled", 0.5, "test"),
        runs("ce", "ece_unscaled", 0.9, "test"),
    ]
    # The noise by seed is the same in both, so that the interval is a point but for rounding.
    tables[0]["value"] += 1e-5 * (tables[0]["seed"] - 1)
    main = replaces_scaling(compare(*tables))[0]
    assert main.effect == pytest.approx(excess, abs=1e-9)
    assert (main.quantity, main.null, main.verdict) == ("ece_against_scaled", ECE_MARGIN, verdict)


def test_w1_without_the_metrics_is_inconclusive():
    assert {measure.verdict for measure in replaces_scaling(compare())} == {"inconclusive"}


# --- W2 --------------------------------------------------------------------------------------------------------------


def test_w2_is_a_ratio_of_spreads_after_the_last_epoch():
    def spread(last):
        return lambda epoch, seed: last if epoch == 100 else 7.0

    found = by_quantity(
        tightens_clusters(
            compare(
                runs("ls", "template_spread", spread(0.02)),
                runs("ce", "template_spread", spread(0.08)),
                runs("ls", "template_spread", spread(0.3), "test"),
                runs("ce", "template_spread", spread(0.2), "test"),
                runs("ls", "nc1_quotient", spread(0.5)),
                runs("ce", "nc1_quotient", spread(1.0)),
            )
        )
    )
    assert {name: (measure.effect, measure.verdict) for name, measure in found.items()} == {
        "template_spread_train": (pytest.approx(0.25), "supported"),
        "template_spread_test": (pytest.approx(1.5), "contradicted"),
        "nc1_quotient_train": (pytest.approx(0.5), "supported"),
    }


# --- W3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "verdict"), [(0.0, "supported"), (-0.05, "supported"), (0.3, "contradicted"), (-0.3, "contradicted")]
)
def test_w3_is_supported_near_log_2_on_either_side(above, verdict):
    tables = [runs("ls", "mutual_information", math.log(2) + above), runs("ce", "mutual_information", 1.2)]
    found = by_quantity(erases_information(compare(*tables)))
    assert found["mutual_information_minus_log_2"].verdict == verdict
    assert found["mutual_information_minus_log_2"].effect == pytest.approx(above)
    assert found["mutual_information"].effect == pytest.approx(math.log(2) + above - 1.2)


def test_w3_is_inconclusive_where_the_interval_crosses_the_margin():
    def course(epoch, seed):
        return math.log(2) + INFORMATION_MARGIN * (0.5 + 0.4 * seed)

    tables = [runs("ls", "mutual_information", course), runs("ce", "mutual_information", 1.2)]
    assert erases_information(compare(*tables))[0].verdict == "inconclusive"


def test_w3_judges_each_probe_and_says_nothing_where_there_is_none():
    tables = [
        runs(loss, f"mutual_information/{name}", value)
        for loss, value in (("ls", 0.7), ("ce", 0.9))
        for name in ("four_nine", "one_seven")
    ]
    names = [measure.quantity for measure in erases_information(compare(*tables))]
    assert names == [
        f"mutual_information{what}/{name}" for name in ("four_nine", "one_seven") for what in ("_minus_log_2", "")
    ]
    assert claim_rows(claim("W3"), compare(runs("ls", "nc1", 1.0))) == []


# --- W5, W6 ----------------------------------------------------------------------------------------------------------

TEACHERS = {
    "of_ls": {"experiment": "main", "loss": "ls", "temperature": 1.0, "weight": 1.0},
    "of_ce_1": {"experiment": "main", "loss": "ce", "temperature": 1.0, "weight": 1.0},
    "of_ce_2": {"experiment": "main", "loss": "ce", "temperature": 2.0, "weight": 1.0},
    "of_ce_8": {"experiment": "main", "loss": "ce", "temperature": 8.0, "weight": 1.0},
}


def taught(errors, teacher_errors, baseline="of_ce_2", teachers=TEACHERS, loss="of_ls"):
    """Students with these errors, of teachers with those, after the last epoch; the noise by seed is common."""
    values = {("error", loss): value for loss, value in errors.items()}
    values |= {("teacher_error", loss): value for loss, value in teacher_errors.items()}
    tables = [
        runs(loss, metric, lambda epoch, seed, v=value: v + 0.01 * seed if epoch == 100 else 0.9, "test")
        for (metric, loss), value in values.items()
    ]
    metrics = pd.concat(tables, ignore_index=True)
    return Comparison(
        "students", "mnist5k", "small", baseline, loss, SEEDS, 100, Measurements(metrics), NO_THEORY, teachers=teachers
    )


ERRORS = {"of_ls": 0.08, "of_ce_1": 0.01, "of_ce_2": 0.05, "of_ce_8": 0.06, "ls": 0.07}
ACCURATE = {"of_ls": 0.03, "of_ce_1": 0.04, "of_ce_2": 0.04, "of_ce_8": 0.04}


def test_w5_compares_with_the_best_temperature_above_1_and_with_all_of_them():
    measures = distils_worse(taught(ERRORS, ACCURATE))
    assert [(m.quantity, round(m.effect, 9), m.verdict) for m in measures] == [
        ("student_error_against_best_temperature", 0.03, "supported"),
        ("student_error_against_mean_temperature", 0.025, "supported"),
        ("teacher_error", -0.01, "supported"),
    ]


def test_w5_is_judged_once_whatever_the_number_of_temperatures():
    kinds = {loss: f"distillation_{teacher['loss']}" for loss, teacher in TEACHERS.items()}
    strengths = dict.fromkeys(TEACHERS) | {"of_ls": 0.1}
    found = pairs(claim("W5"), list(TEACHERS), kinds, strengths, "ce")
    assert found == [("of_ls", other) for other in ("of_ce_1", "of_ce_2", "of_ce_8")]
    judged = {other: claim_rows(claim("W5"), taught(ERRORS, ACCURATE, other)) for _, other in found}
    assert [other for other, rows in judged.items() if rows] == ["of_ce_2"]
    assert claim_rows(claim("W5"), taught(ERRORS | {"of_ce_8": 0.04}, ACCURATE)) == []


@pytest.mark.parametrize("change", [{"weight": 0.5}, {"experiment": "other"}, {"temperature": 1.0}])
def test_w5_compares_teachers_of_one_experiment_and_weight_at_a_temperature(change):
    teachers = {name: t | (change if name.startswith("of_ce") else {}) for name, t in TEACHERS.items()}
    assert distils_worse(taught(ERRORS, ACCURATE, teachers=teachers)) == []


def test_w5_is_no_more_than_inconclusive_where_the_smoothed_teacher_is_less_accurate():
    row = claim_rows(claim("W5"), taught(ERRORS, ACCURATE | {"of_ls": 0.09}))[0]
    assert (row.verdict, row.level) == ("inconclusive", "claim")
    assert "the teacher's error, against cross entropy's: contradicted" in row.note
    assert claim_rows(claim("W5"), taught(ERRORS | {"of_ls": 0.02}, ACCURATE))[0].verdict == "contradicted"


def test_w5_names_a_student_that_is_missing():
    comparison = taught(ERRORS, ACCURATE)
    table = comparison.metrics.table
    metrics = table[~((table["loss"] == "of_ce_8") & (table["seed"] == 1))]
    found = by_quantity(distils_worse(replace(comparison, metrics=Measurements(metrics))))
    assert found["student_error_against_best_temperature"].seeds == 3
    assert "a run is missing: seed 1" in found["student_error_against_mean_temperature"].note


@pytest.mark.parametrize(
    ("better", "verdict"),
    [(-0.01, "supported"), (0.004, "supported"), (ERROR_MARGIN, "inconclusive"), (0.01, "contradicted")],
)
def test_w6_compares_a_student_with_smoothing_itself(better, verdict):
    comparison = taught(ERRORS | {"of_ls": 0.07 - better}, ACCURATE, baseline="ls")
    # Noise that the pairs do not share, so that an interval on the margin has two sides.
    table = comparison.metrics.table
    own = table["loss"] == "of_ls"
    noisy = table["value"] + 1e-5 * (table["seed"] - 1) * own
    (measure,) = no_better_than_smoothing(replace(comparison, metrics=Measurements(table.assign(value=noisy))))
    assert measure.verdict == verdict
    assert measure.effect == pytest.approx(-better)
    assert measure.null == -ERROR_MARGIN


def test_w6_compares_a_student_with_the_smoothing_of_its_teacher():
    kinds = {f"ls_{delta}": "ls" for delta in (0.1, 0.3)} | {
        f"of_ls_{delta}": "distillation_ls" for delta in (0.1, 0.3)
    }
    strengths = {loss: float(loss.rpartition("_")[2]) for loss in kinds}
    assert pairs(claim("W6"), list(kinds), kinds, strengths, "ce") == [("of_ls_0.1", "ls_0.1"), ("of_ls_0.3", "ls_0.3")]


# --- W7 to W11 -------------------------------------------------------------------------------------------------------

TEMPERATURES = (0.5, 1, 2)


def decoded(loss, name, values, suffix=""):
    """Rows of a score of decoding at the temperatures."""
    tables = [
        runs(loss, f"{name}_by_temperature/{at:g}{suffix}", value, "test")
        for at, value in zip(TEMPERATURES, values, strict=True)
    ]
    return pd.concat(tables)


def both(suffix=""):
    return compare(
        decoded("ce", "ece", (0.3, 0.2, 0.1), suffix),
        decoded("ls", "ece", (0.25, 0.05, 0.15), suffix),
        decoded("ce", "error", (0.24, 0.22, 0.21), suffix),
        decoded("ls", "error", (0.22, 0.20, 0.23), suffix),
        decoded("ce", "nll", (0.9, 0.5, 0.6), suffix),
        decoded("ls", "nll", (1.2, 0.9, 0.7), suffix),
    )


def effects(measures):
    return {measure.quantity: round(measure.effect, 9) for measure in measures}


def verdicts(measures):
    return {measure.verdict for measure in measures}


@pytest.mark.parametrize("suffix", ["", "/short"])
def test_claims_on_decoding_are_on_scores_at_temperatures(suffix):
    comparison = both(suffix)
    expected = {
        "W7": {"token_ece": -0.15},
        "W8": {"softened_ece": -0.1, "softened_ece_left": 0.05, "softened_error": -0.01, "softened_error_left": 0.01},
        "W9": {"scaled_ece": 0.1, "scaled_error": 0.02},
        "W10": {"token_nll": 0.1},  # at T = 2
    }
    for name, values in expected.items():
        measures = claim(name).measures(comparison)
        assert effects(measures) == {f"{quantity}{suffix}": value for quantity, value in values.items()}
        assert verdicts(measures) == {"supported"}
        assert {claim(name).label(measure.quantity) for measure in measures}


def test_w11_compares_the_distances_of_the_least_scores():
    (measure,) = claim("W11").measures(replace(both(), loss="ce", baseline=""))
    # Error and ECE are least at T = 2, the likelihood at 1: distances of 0 and of log 2, one step, which may be none.
    assert measure.effect == pytest.approx(-math.log(2))
    assert measure.high == pytest.approx(0.0, abs=1e-8)
    found = (measure.quantity, measure.verdict, measure.reason)
    assert found == ("temperature_distance", "inconclusive", "below the resolution")


def test_w11_is_supported_from_two_steps_on():
    scores = {"error": (0.24, 0.22, 0.21), "ece": (0.3, 0.2, 0.1), "nll": (0.4, 0.5, 0.6)}
    comparison = compare(*(decoded("ce", name, values) for name, values in scores.items()))
    (measure,) = claim("W11").measures(replace(comparison, loss="ce", baseline=""))
    assert (measure.effect, measure.high) == (pytest.approx(-math.log(4)), pytest.approx(-math.log(2)))
    assert measure.verdict == "supported"


def test_w13_is_the_difference_in_bleu_with_the_p_values_of_the_seeds():
    rows = [
        runs("ls", f"{score}_difference{part}/beam", value, "test")
        for score in ("bleu", "chrf")
        for part, value in (("", 0.5), ("_p", 0.01))
    ]
    bleu, chrf = claim("W13").measures(compare(*rows, runs("ce", "ece", 0.1, "test")))
    assert (bleu.quantity, bleu.effect, bleu.verdict) == ("bleu_difference/beam", pytest.approx(0.5), "supported")
    assert "0.0099 (seed 0), 0.01 (seed 1), 0.0101 (seed 2)" in bleu.note
    assert chrf.quantity == "chrf_difference/beam"


def test_claims_on_decoding_have_no_measures_without_a_probe():
    comparison = compare(runs("ls", "ece", 0.1, "test"), runs("ce", "ece", 0.1, "test"))
    assert not any(claim(name).measures(comparison) for name in ("W7", "W8", "W9", "W10", "W11", "W13"))
