import math

import numpy as np
import pytest
from scipy import stats

from nclens.claims.rows import claim_rows, pairs
from nclens.claims.schedules import AXES, CLAIMS, LS_SCHEDULED, MAXSUP_SCHEDULED, profile
from tests.claims.runs import by_quantity, compare, runs

BY_ID = {claim.id: claim for claim in CLAIMS}
SEEDS = (0, 1, 2, 3, 4)
STUDENTS = ("student_error/T1", "student_error/T4")
PROBES = ("probe_accuracy/digits8", "probe_accuracy/textures")
METRICS = ("error", "ece_adaptive", *STUDENTS, *PROBES)
NOISE = np.random.default_rng(0).normal(0, 1e-3, (len(METRICS), 2, len(SEEDS)))
"""Of metric, loss and seed."""


def comparison(shifts=None, without=(), seeds=SEEDS, scale=1.0):
    """A loss and a baseline that differ by a shift a metric, 0 by default, and by noise."""
    tables = []
    for place, metric in enumerate(METRICS):
        if metric not in without:
            for side, loss in enumerate(("base", "loss")):

                def value(epoch, seed, place=place, side=side, metric=metric):
                    moved = (shifts or {}).get(metric, 0.0) * side
                    return 0.3 + moved + scale * NOISE[place, side, seed]

                tables.append(runs(value, loss, metric, "test", seeds, epochs=(1, 100)))
    return compare(*tables, baseline="base", loss="loss", seeds=SEEDS)


def differences(metric, shift=0.0):
    own = NOISE[METRICS.index(metric)]
    return shift + own[1] - own[0]


def test_the_profile_is_the_mean_difference_along_four_axes():
    found = by_quantity(profile(comparison({"error": -0.02, PROBES[0]: 0.05})))
    assert list(found) == list(AXES) == ["error", "ece_adaptive", "student_error", "probe_accuracy"]
    expected = {
        "error": differences("error", -0.02),
        "ece_adaptive": differences("ece_adaptive"),
        "student_error": np.mean([differences(name) for name in STUDENTS], axis=0),
        "probe_accuracy": np.mean([differences(PROBES[0], 0.05), differences(PROBES[1])], axis=0),
    }
    for name, values in expected.items():
        low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
        assert (found[name].effect, found[name].low, found[name].high) == pytest.approx((values.mean(), low, high))
        assert (found[name].seeds, found[name].null) == (5, 0.0)
    assert {name: one.verdict for name, one in found.items()} == {
        "error": "supported",
        "ece_adaptive": "inconclusive",
        "student_error": "inconclusive",
        "probe_accuracy": "supported",
    }


def test_a_verdict_is_that_of_the_corrected_p_value_and_the_interval_the_plain_one():
    """A shift that the plain interval excludes 0 at, and four times whose p value does not."""
    noise = differences("error")
    for shift in np.linspace(-5e-3, 0, 501):
        p = stats.ttest_1samp(noise + shift, 0).pvalue
        if 0.02 < p < 0.04 and (noise + shift).mean() < 0:
            break
    found = by_quantity(profile(comparison({"error": shift, **dict.fromkeys(PROBES, 0.5)})))
    others = [stats.ttest_1samp(differences("ece_adaptive"), 0).pvalue]
    others.append(stats.ttest_1samp(np.mean([differences(name) for name in STUDENTS], axis=0), 0).pvalue)
    assert min(others) > p  # so that of the three that are not rejected first, error is the second smallest
    one = found["error"]
    assert one.high < 0
    assert one.verdict == "inconclusive"
    assert one.note == f"corrected p = {3 * p:.2g} over the axes, plain p = {p:.2g}"


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [
        ({}, "inconclusive"),
        ({"error": -0.02}, "supported"),
        ({"ece_adaptive": -0.02, STUDENTS[1]: -0.05}, "supported"),
        ({PROBES[0]: 0.05}, "supported"),
        ({PROBES[0]: -0.05}, "contradicted"),
        ({"error": -0.02, STUDENTS[0]: 0.05}, "contradicted"),
    ],
)
@pytest.mark.parametrize("claim", ["P1", "P2", "P3", "P4"])
def test_a_loss_dominates_where_it_is_better_on_an_axis_and_worse_on_none(claim, shifts, verdict):
    (head, *rows) = claim_rows(BY_ID[claim], comparison(shifts))
    assert head.verdict == verdict
    assert len(rows) == 4


@pytest.mark.parametrize(("claim", "metrics", "sign"), [("P5", STUDENTS, -1), ("P6", STUDENTS, 1), ("P7", PROBES, 1)])
def test_a_claim_on_one_axis_names_a_side_of_it(claim, metrics, sign):
    for direction, verdict in ((sign, "supported"), (-sign, "contradicted"), (0, "inconclusive")):
        (head, row) = claim_rows(BY_ID[claim], comparison(dict.fromkeys(metrics, 0.05 * direction)))
        assert (head.verdict, row.verdict) == (verdict, verdict)
        assert "over the axes, plain p = " in row.note


@pytest.mark.parametrize(("claim", "sign"), [("P8", -1), ("P9", 1)])
def test_maxsup_as_a_teacher_is_judged_at_each_temperature(claim, sign):
    (head, *rows) = claim_rows(BY_ID[claim], comparison({STUDENTS[1]: 0.05 * sign}, without=PROBES))
    assert [row.quantity for row in rows] == ["student_error/T = 1", "student_error/T = 4"]
    assert [row.verdict for row in rows] == ["inconclusive", "supported"]
    assert head.verdict == "supported"
    assert head.note == "the student's error (T = 4): supported"
    assert "over the temperatures, plain p = " in rows[0].note
    worse = {STUDENTS[0]: -0.05 * sign, STUDENTS[1]: 0.05 * sign}
    assert claim_rows(BY_ID[claim], comparison(worse))[0].verdict == "contradicted"


@pytest.mark.parametrize("axis", [("error",), ("ece_adaptive",), STUDENTS, PROBES])
def test_without_one_axis_no_claim_on_the_profile_applies(axis):
    of_profile = [claim_rows(BY_ID[f"P{number}"], comparison(without=axis)) for number in range(1, 8)]
    assert of_profile == [[]] * 7
    of_teachers = [claim_rows(BY_ID[claim], comparison(without=axis)) for claim in ("P8", "P9")]
    assert all(map(bool, of_teachers)) == (axis != STUDENTS)


def test_a_temperature_that_one_loss_does_not_teach_at_is_left_out():
    one = comparison({STUDENTS[0]: -0.05})
    table = one.metrics.table
    gone = (table["loss"] == "base") & (table["metric"] == STUDENTS[1])
    few = compare(table[~gone], baseline="base", loss="loss", seeds=SEEDS)
    assert by_quantity(profile(few))["student_error"].effect == pytest.approx(differences(STUDENTS[0], -0.05).mean())


def test_two_pairs_and_undefined_values_are_inconclusive_and_count_among_the_axes():
    few = profile(comparison({"error": -0.5}, seeds=(0, 1)))
    assert {one.verdict for one in few} == {"inconclusive"}
    assert all("no interval under 3 pairs" in one.note and math.isnan(one.low) for one in few)
    assert not any("p = " in one.note for one in few)
    undefined = by_quantity(profile(comparison({"error": -0.02, "ece_adaptive": math.nan})))
    assert undefined["ece_adaptive"].verdict == "inconclusive"
    p = stats.ttest_1samp(differences("error", -0.02), 0).pvalue
    assert undefined["error"].note == f"corrected p = {4 * p:.2g} over the axes, plain p = {p:.2g}"


def test_schedules_are_compared_with_the_constant_loss_and_with_cross_entropy():
    kinds = {"ce": "ce", "ls": "ls", "off": "ls_drop", "warm": "ls_linear", "ms": "maxsup", "ms_off": "maxsup_drop"}
    strengths = dict.fromkeys(kinds, 0.1) | {"ce": None, "warm": 0.0}
    expected = {
        "P1": [("off", "ls"), ("warm", "ls")],
        "P2": [("ms_off", "ms")],
        "P3": [("ls", "ce"), ("off", "ce"), ("warm", "ce")],
        "P4": [("ms", "ce"), ("ms_off", "ce")],
        "P5": [("off", "ls")],
        "P6": [("ls", "ce")],
        "P7": [("ms", "ls")],
        "P8": [("ms", "ls")],
        "P9": [("ms", "ce")],
    }
    assert {claim.id: pairs(claim, list(kinds), kinds, strengths, "ce") for claim in CLAIMS} == expected
    assert {*LS_SCHEDULED, *MAXSUP_SCHEDULED} == {"ls_drop", "ls_linear", "maxsup_drop", "maxsup_linear"}
