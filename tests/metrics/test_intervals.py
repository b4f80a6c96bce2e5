import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nclens.metrics.intervals import (
    CONFIDENCE,
    half_width,
    holm,
    largest_spread,
    means,
    spread,
    t_interval,
    t_test,
)

effects = st.floats(-5, 5).map(lambda x: round(x, 3))


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        # s / sqrt(n) by hand, times the tabulated quantile t(0.975, n - 1).
        ([1.0, 2.0, 3.0], 2.0, 4.302653 / math.sqrt(3)),
        ([0.0, 0.0, 2.0, 2.0], 1.0, 3.182446 * math.sqrt(4 / 3) / 2),
        ([0.0, 1.0], 0.5, 12.706205 * 0.5),
        ([0.25, 0.25, 0.25], 0.25, 0.0),
        ([-2e9, -2e9 - 6.0], -2e9 - 3.0, 12.706205 * 3.0),
    ],
)
def test_t_interval_by_hand(values, mean, half):
    assert t_interval(values) == pytest.approx((mean, mean - half, mean + half), rel=1e-6)
    assert [float(part[0]) for part in means([values])] == pytest.approx([mean, half], rel=1e-6)


@pytest.mark.parametrize("values", [[0.05, 0.05, 0.05], [0.3, 0.1 + 0.2, 0.3], [-0.3, -0.3, -0.1 - 0.2], [0.0, 0.0]])
def test_values_that_differ_by_rounding_have_a_point(values):
    assert t_interval(values) == (values[0],) * 3
    mean, half = means([values])
    assert (mean.tolist(), half.tolist()) == (values[:1], [0.0])


def test_means_of_groups_leave_out_what_is_not_there():
    values = [[1.0, 3.0, 9.0], [5.0, 9.0, 9.0], [9.0, 9.0, 9.0], [1.0, np.nan, 2.0], [1.0, np.inf, 2.0]]
    there = np.array([[True, True, False], [True, False, False], [False] * 3, [True] * 3, [True] * 3])
    mean, half = means(values, there)
    np.testing.assert_allclose(mean, [2.0, 5.0, np.nan, np.nan, np.inf])
    np.testing.assert_allclose(half, [12.706205, np.nan, np.nan, np.nan, np.nan], rtol=1e-6)


@given(st.lists(effects, min_size=3, max_size=12).filter(lambda values: len(set(values)) > 1))
def test_t_interval_holds_the_nulls_that_a_t_test_does_not_reject(values):
    _, low, high = t_interval(values)
    for null in (low - 0.01, low + 0.3 * (high - low), high + 0.01):
        assert (low <= null <= high) == (stats.ttest_1samp(values, null).pvalue >= 0.05)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan, 2.0], [1.0, math.inf]])
def test_t_interval_wants_two_finite_values(values):
    with pytest.raises(ValueError, match="at least two finite values"):
        t_interval(values)


def test_half_widths_of_many_groups_are_those_of_each():
    random = np.random.default_rng(0)
    groups = [random.standard_normal(n) for n in (2, 3, 3, 10, 40)]
    halves = half_width([np.std(group, ddof=1) for group in groups], [len(group) for group in groups])
    for group, half in zip(groups, halves, strict=True):
        mean, low, high = t_interval(group)
        assert (low, high) == (mean - half, mean + half)
        own = stats.t.interval(CONFIDENCE, len(group) - 1, np.mean(group), stats.sem(group))
        assert (low, high) == pytest.approx(own, rel=1e-12)


@pytest.mark.parametrize("count", [0, 1])
def test_no_interval_under_two_values(count):
    assert math.isnan(half_width(1.0, count))
    assert np.isnan(half_width(pd.Series([np.nan, 1.0]), np.array([count, count]))).all()


def test_the_t_test_is_scipys_and_agrees_with_the_interval():
    random = np.random.default_rng(0)
    for count in (2, 3, 5, 9):
        for shift in (0.0, 0.5, 3.0):
            values = random.normal(shift, 1.0, count).tolist()
            for null in (0.0, -0.25):
                p, (_, low, high) = t_test(values, null), t_interval(values)
                assert p == pytest.approx(stats.ttest_1samp(values, null).pvalue, rel=1e-9)
                assert (p < 1 - CONFIDENCE) == (not low <= null <= high)


def test_the_t_test_of_equal_values_is_certain():
    assert [t_test([value] * 3) for value in (0.0, 0.1, -0.1)] == [1.0, 0.0, 0.0]
    assert t_test([0.3, 0.1 + 0.2, 0.3], 0.3) == 1.0
    with pytest.raises(ValueError, match="at least two finite values are needed"):
        t_test([0.1])


def rejected_by_holm(p, alpha):
    """Holm's procedure as it is written: from the smallest p value on, until one is above alpha / (m - i)."""
    found = set()
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[index] > alpha / (len(p) - place):
            break
        found.add(index)
    return found


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        # Worked by hand: 4 x .01, then 3 x .02 = .06, 2 x .03 = .06, 1 x .04 < .06.
        ([0.01, 0.04, 0.03, 0.02], [0.04, 0.06, 0.06, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.0, 1.0, 0.02], [0.0, 1.0, 0.04]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(p, expected):
    assert holm(p) == pytest.approx(expected)


@given(st.lists(st.integers(0, 100).map(lambda x: x / 1000 + 1e-5), max_size=6))
def test_holm_rejects_what_its_procedure_rejects(p):
    corrected = holm(p)
    assert all(value >= plain for value, plain in zip(corrected, p, strict=True))
    for alpha in (0.05, 0.0123, 0.2):
        assert {place for place, value in enumerate(corrected) if value <= alpha} == rejected_by_holm(p, alpha)


@pytest.mark.parametrize("p", [[0.1, 1.1], [-0.1], [math.nan, 0.2]])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match=r"p values must lie in \[0, 1\], got"):
        holm(p)


def test_a_spread_is_the_deviation_of_the_interval_and_0_of_equal_values():
    values = [0.3, -0.1, 0.7, 0.2]
    _, low, high = t_interval(values)
    assert half_width(spread(values), 4) == pytest.approx((high - low) / 2)
    assert spread([0.1 + 0.2, 0.3]) == 0.0
    for wrong in ([1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="at least two finite values"):
            spread(wrong)


@pytest.mark.parametrize("count", [2, 5, 30])
def test_the_upper_limit_of_a_deviation_covers_the_true_one_as_often_as_it_says(count):
    drawn = np.random.default_rng(0).standard_normal((20_000, count)).std(axis=1, ddof=1)
    limits = largest_spread(1.0, count, 0.8) * drawn
    assert (limits >= 1).mean() == pytest.approx(0.8, abs=0.01)
