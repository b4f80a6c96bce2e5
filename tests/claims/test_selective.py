"""S1 and S2: which way their effects go, and where they are not testable."""

import math

import pytest

from nclens.claims.rows import claim_rows
from nclens.claims.selective import CLAIMS, FEWEST_ERRORS, degrades, is_repaired
from tests.claims.runs import by_quantity, compare, runs

SEEDS = (0, 1, 2)
SCORES = ("aurc", "e_aurc", "coverage_at_risk", "risk_at_coverage")
WORSE = {"aurc": 0.02, "e_aurc": 0.01, "coverage_at_risk": -0.1, "risk_at_coverage": 0.03}


def at_end(loss, metric, value):
    """A metric that is `value` at the end, with a little noise by seed, and something else before."""
    return runs(lambda epoch, seed: value + 1e-4 * seed if epoch == 100 else 0.9, loss, metric, "test")


def enough(error=0.2, errors=200, rest=100):
    return [
        at_end(loss, metric, value)
        for loss in ("ce", "ls")
        for metric, value in (("error", error), ("errors", errors), ("errors_rest", rest))
    ]


def scores(loss, value, suffix="", **changes):
    return [at_end(loss, f"{metric}{suffix}", value + changes.get(metric, 0.0)) for metric in SCORES]


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "contradicted")])
def test_s1_every_score_gets_worse_on_its_own_side(sign, verdict):
    changes = {metric: sign * change for metric, change in WORSE.items()}
    found = by_quantity(degrades(compare(*scores("ce", 0.3), *scores("ls", 0.3, **changes), *enough())))
    assert list(found) == list(SCORES)
    assert {measure.verdict for measure in found.values()} == {verdict}
    for metric, change in changes.items():
        assert found[metric].effect == pytest.approx(change, abs=1e-9)


@pytest.mark.parametrize(
    ("premise", "reason"),
    [
        ({"error": 0.05 - 1e-3}, "a run has a test error of 0.049, not above 0.05"),
        ({"errors": 49, "rest": 24}, "a run has 49 wrong predictions, fewer than 50"),
    ],
)
def test_s1_is_not_testable_with_few_errors(premise, reason):
    comparison = compare(*scores("ce", 0.3), *scores("ls", 0.3, **WORSE), *enough(**premise))
    measures = degrades(comparison)
    assert {measure.verdict for measure in measures} == {"inconclusive"}
    assert all(math.isnan(measure.low) and math.isnan(measure.high) for measure in measures)
    assert measures[0].effect == pytest.approx(WORSE["aurc"])
    assert measures[0].note == reason
    assert claim_rows(CLAIMS[0], comparison)[0].note == reason


def test_one_run_with_few_errors_is_enough():
    few = runs(lambda epoch, seed: 10 if seed == 1 else 300, "ls", "errors", "test")
    others = [table for table in enough() if not (table["loss"].eq("ls") & table["metric"].eq("errors")).any()]
    measures = degrades(compare(*scores("ce", 0.3), *scores("ls", 0.3, **WORSE), *others, few))
    assert measures[0].note == "a run has 10 wrong predictions, fewer than 50"


def test_s1_at_the_limits_is_testable():
    premise = enough(error=0.051, errors=FEWEST_ERRORS)
    assert degrades(compare(*scores("ce", 0.3), *scores("ls", 0.3, **WORSE), *premise))[0].verdict == "supported"


def test_s2_compares_with_and_without_normalisation_and_with_the_baseline():
    better = {metric: -change for metric, change in WORSE.items()}
    tables = [
        *scores("ls", 0.3, "_unnormalised"),
        *scores("ls", 0.3, "_normalised", **better),
        *scores("ce", 0.29, "_unnormalised"),
        # What must not count: the baseline's with normalisation, scores of the whole test set.
        *scores("ce", 0.9, "_normalised"),
        *scores("ls", 0.9),
    ]
    found = by_quantity(is_repaired(compare(*tables, *enough())))
    for metric in SCORES:
        assert found[f"{metric}_repaired"].effect == pytest.approx(better[metric])
        assert found[f"{metric}_repaired"].verdict == "supported"
    assert found["aurc_against_baseline"].effect == pytest.approx(-0.01)
    assert found["aurc_against_baseline"].verdict == "supported"


def test_s2_what_is_left_of_the_damage_withdraws_the_support():
    better = {metric: -change for metric, change in WORSE.items()}
    tables = [
        *scores("ls", 0.3, "_unnormalised"),
        *scores("ls", 0.3, "_normalised", **better),
        *scores("ce", 0.2, "_unnormalised"),
    ]
    rows = claim_rows(CLAIMS[1], compare(*tables, *enough()))
    assert (rows[0].verdict, rows[-1].verdict) == ("inconclusive", "contradicted")


def test_s2_counts_the_errors_of_its_own_part():
    tables = [
        *scores("ls", 0.3, "_unnormalised"),
        *scores("ls", 0.2, "_normalised"),
        *scores("ce", 0.2, "_unnormalised"),
    ]
    measures = is_repaired(compare(*tables, *enough(errors=98, rest=49)))
    assert measures[0].note == "a run has 49 wrong predictions, fewer than 50"


def test_without_the_metrics_both_are_inconclusive():
    for measures in (degrades(compare()), is_repaired(compare())):
        assert {measure.verdict for measure in measures} == {"inconclusive"}
        assert "not testable" not in measures[0].note
