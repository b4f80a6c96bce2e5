"""Verdicts of many studies: the random-effects summary against a slow literal one and published numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nclens.claims.across_studies import SAME, comparison, outcome, random_effects, standard_error, summaries
from nclens.claims.verdict import REASONS
from nclens.metrics.intervals import t_interval

#: Tuberculosis in thirteen trials of the BCG vaccine: cases and others vaccinated, cases and others not (Colditz et
#: al., Efficacy of BCG Vaccine in the Prevention of Tuberculosis, 1994).
BCG = (
    *((4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)),
    *((180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232)),
    *((17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)),
)


def literal(effects, errors):
    """Mean, its interval, tau squared, Q and I squared, by bisection and sums."""

    def mean_and_q(between):
        weights = [1 / (error**2 + between) for error in errors]
        mean = sum(w * y for w, y in zip(weights, effects, strict=True)) / sum(weights)
        return mean, sum(w * (y - mean) ** 2 for w, y in zip(weights, effects, strict=True)), sum(weights)

    free, low, high = len(effects) - 1, 0.0, 1e6
    if mean_and_q(0.0)[1] <= free:
        high = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_and_q(middle)[1] > free else (low, middle)
    mean, left, weight = mean_and_q(high)
    half = stats.t.ppf(0.975, free) * math.sqrt(max(1, left / free) / weight)
    q = mean_and_q(0.0)[1]
    return mean, mean - half, mean + half, high, q, max(0, 1 - free / q) if q else 0, stats.chi2.sf(q, free)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 3)), min_size=2, max_size=8))
def test_a_summary_is_the_literal_one(cells):
    effects, errors = zip(*cells, strict=True)
    found = random_effects(effects, errors)
    ends = (found.effect, found.low, found.high, found.between, found.q, found.inconsistency, found.p)
    # Where Q hardly depends on the variance, 1e-5 in Q is more in the ends.
    np.testing.assert_allclose(ends, literal(effects, errors), rtol=5e-3, atol=1e-4)


def test_a_summary_of_published_trials():
    """As the R package metafor has them for log risk ratios: Q, and tau squared by Paule and Mandel."""
    trials = [(a, a + b, c, c + d) for a, b, c, d in BCG]
    effects = [math.log(a / n / (c / m)) for a, n, c, m in trials]
    errors = [math.sqrt(1 / a - 1 / n + 1 / c - 1 / m) for a, n, c, m in trials]
    found = random_effects(effects, errors)
    assert round(found.q, 2) == 152.23
    assert round(found.between, 3) == 0.318
    assert round(found.effect, 3) == -0.715
    assert found.inconsistency == pytest.approx(1 - 12 / 152.233, abs=1e-5)


def test_the_variance_is_found_where_errors_are_negligible():
    found = random_effects([1.0, 2.0, 4.0], [1e-12] * 3)
    assert found.between == pytest.approx(np.var([1, 2, 4], ddof=1))


def test_equal_effects_have_no_variance_between_and_no_narrower_interval_than_that_of_their_errors():
    found = random_effects([0.3] * 4, [0.1] * 4)
    assert (found.between, found.inconsistency, found.q, found.p) == pytest.approx((0, 0, 0, 1), abs=1e-12)
    assert found.high - found.effect == pytest.approx(stats.t.ppf(0.975, 3) * 0.1 / 2)


@pytest.mark.parametrize(("effects", "errors"), [([1.0], [1.0]), ([1.0, math.nan], [1, 1]), ([1.0, 2.0], [0.0, 1.0])])
def test_an_effect_without_an_error_is_refused(effects, errors):
    with pytest.raises(ValueError, match="at least two"):
        random_effects(effects, errors)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=10, unique=True))
def test_a_standard_error_is_that_of_the_values_behind_the_interval(values):
    mean, low, high = t_interval(values)
    for scale, shown in (("difference", float), ("ratio", math.exp)):
        row = {"low": repr(shown(low)), "high": repr(shown(high)), "seeds": str(len(values)), "scale": scale}
        expected = np.std(values, ddof=1) / math.sqrt(len(values))
        if high - low > 1e-6 * (1 + abs(mean)):
            assert standard_error(row, 0.5) == pytest.approx(expected, rel=1e-5)
        assert math.isnan(standard_error(row, math.nan))
    assert math.isnan(standard_error(row | {"scale": ""}, 0.5))
    assert math.isnan(standard_error(row | {"scale": "correlation", "low": "0.9", "high": "1.0"}, 0.5))


def test_every_reason_has_an_outcome():
    row = {"verdict": "inconclusive", "low": "0.1"}
    found = {reason: outcome(row | {"reason": reason}) for reason in REASONS}
    untested = {"identical networks", "not measured", "not testable"}
    assert {reason for reason, said in found.items() if said == "not tested"} == untested
    assert set(found.values()) == {"not tested", "inconclusive"}


def cell(data, effect, **changes):
    row = dict.fromkeys(SAME, "x") | {"scale": "difference", "effect": str(effect), "standard_error": "0.1"}
    row |= {"data": data, "model": "net", "baseline": "ce", "loss": "ls", "seeds": "3", "study": data}
    return row | {"experiment": "e"} | changes


def test_one_cell_a_data_set_is_pooled_that_with_most_seeds():
    rows = [cell("a", 1), cell("b", 2), cell("c", 3), cell("a", 9, seeds="5", study="z"), cell("b", 8, study="y")]
    (found,) = summaries(rows)
    assert [row["effect"] for row in found.cells] == ["9", "2", "3"]
    assert [row["effect"] for row in found.left_out] == ["1", "8"]
    assert found.effect == pytest.approx(random_effects([9, 2, 3], [0.1] * 3).effect)


def test_correlations_are_pooled_as_fishers_z():
    rows = [cell(data, math.tanh(z), scale="correlation") for data, z in (("a", 0.4), ("b", 0.5), ("c", 0.6))]
    (found,) = summaries(rows)
    assert found.effect == pytest.approx(math.tanh(0.5))


@pytest.mark.parametrize(
    "changes",
    [
        *({column: "y"} for column in SAME if column != "scale"),
        {"model": "a against b"},
        {"loss_settings": ""},
        {"baseline_settings": ""},
        {"standard_error": ""},
        {"data": "b"},
    ],
)
def test_a_cell_that_differs_is_not_pooled(changes):
    assert summaries([cell("a", 1), cell("b", 2), cell("c", 3) | changes]) == []


def test_a_loss_without_a_baseline_is_pooled():
    assert comparison(cell("a", 1, baseline="", baseline_settings="")) is not None
