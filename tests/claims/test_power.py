"""The seeds that decide a claim: the least number that leaves no mean undecided, and what it does not depend on."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from nclens.claims import CLAIMS, Claim, claim_rows, claims_table
from nclens.claims.margins import Margin
from nclens.claims.power import (
    COLUMNS,
    MOST,
    NO_MARGIN,
    NO_SPREAD,
    NO_VALUE,
    ONE_SEED,
    RESOLVED,
    decided,
    needed,
    seeds_needed,
)
from nclens.claims.verdict import EQUIVALENT, against_margin, judge_pairs
from tests.claims.runs import compare

EXACT = (-1.5, 0.5, 1.0)
"""Differences of three seeds: every sum is exact in binary."""


def claim(values, *, quantity="error", scale="difference", margin=0.01, resolution=0.0, null=None, **details):
    """A claim with a measure for each list of values, all of one margin."""

    def measures(comparison):
        return [
            judge_pairs(
                f"{quantity}{place or ''}",
                dict(enumerate(own)),
                range(len(own)),
                scale=scale,
                claimed="below",
                unit=scale,
                resolution=resolution,
                null=null,
            )
            for place, own in enumerate(values)
        ]

    names = [f"{quantity}{place or ''}" for place in range(len(values))]
    margins = {} if margin is None else dict.fromkeys(names, Margin(margin, "why"))
    return Claim("C1", "a paper", "It is.", "a rule", measures, dict.fromkeys(names, "x"), margins=margins, **details)


def rows_of(one, given=None):
    table = claims_table(claim_rows(one, compare()))
    return needed(table, {"C1": one}, given)


def with_moments(mean, deviation, count):
    """Values of just this mean and standard deviation."""
    values = np.arange(count, dtype=float)
    return mean + deviation * (values - values.mean()) / values.std(ddof=1)


def test_the_number_is_that_of_the_half_widths_by_hand():
    # (t(.975, 15) + t(.95, 15)) / √16 = (2.1314 + 1.7531) / 4 = 0.971, and at 15 (2.1448 + 1.7613) / √15 = 1.009.
    assert (t.ppf(0.975, 15) + t.ppf(0.95, 15)) / 4 < 1 < (t.ppf(0.975, 14) + t.ppf(0.95, 14)) / math.sqrt(15)
    assert seeds_needed(1.0, 1.0) == 16
    # t(.975, 6) / √7 = 0.925 and t(.975, 5) / √6 = 1.049.
    assert seeds_needed(1.0, 1.0, equivalence=None) == 7
    assert seeds_needed(0.0, 1e-9) == 3
    assert seeds_needed(1.0, 1.0, confidence=1 - 0.05 / 4) == 21  # (2.759 + 1.729) / √20 = 1.004
    assert seeds_needed(1.0, 1e-3) == math.inf
    assert seeds_needed(1e-9, 1.0, resolution=0.51) == math.inf
    assert seeds_needed(1e-9, 1.0, resolution=0.5) == 3


@pytest.mark.parametrize("scale", ["difference", "ratio"])
def test_with_the_number_every_mean_is_decided_and_with_one_less_some_are_not(scale):
    deviation, size = 0.05, Margin(0.08 if scale == "difference" else math.exp(0.08), "why")
    count = seeds_needed(deviation, 0.08)

    def is_decided(mean, count):
        effects = dict(enumerate(with_moments(mean, deviation, count)))
        one = judge_pairs("error", effects, range(count), scale=scale, claimed="below", unit=scale)
        one = against_margin(one, size)
        return one.verdict != "inconclusive" or one.reason == EQUIVALENT

    means = np.linspace(-0.16, 0.16, 641)
    assert all(is_decided(mean, count) for mean in means)
    assert not all(is_decided(mean, count - 1) for mean in means)
    assert is_decided(0.08, count - 1)  # it is effects between no effect and the margin that are open
    assert is_decided(0.0, count - 1)


def test_the_number_comes_from_the_spread_of_the_pairs_and_its_upper_limit():
    found = rows_of(claim([EXACT], margin=2.0))
    head, measure = found
    assert (head.level, head.quantity, head.seeds) == ("claim", "error", 3)
    assert measure.spread == pytest.approx(math.sqrt(3.5 / 2))
    assert measure.largest == pytest.approx(measure.spread / math.sqrt(-math.log(0.8)))  # χ²(.2, 2) = -2 ln .8
    assert (head.needed, head.needed_at_most) == (
        seeds_needed(measure.spread, 2.0),
        seeds_needed(measure.largest, 2.0),
    )
    ratio = rows_of(claim([EXACT], scale="ratio", margin=math.exp(2.0)))[0]
    assert (ratio.needed, ratio.needed_at_most) == (head.needed, head.needed_at_most)
    assert (ratio.spread, ratio.margin) == pytest.approx((math.exp(measure.spread), math.exp(2.0)))


@pytest.mark.parametrize("shift", [-1024.0, -2.0, 0.25, 8.0])
def test_nothing_depends_on_the_effects(shift):
    """Neither on the differences' mean nor on what is made from it: intervals, p values, verdicts, reasons."""
    values = [EXACT, (0.5, -0.75, 0.25)]
    one, other = claim(values, margin=2.0), claim([tuple(x + shift for x in own) for own in values], margin=2.0)
    assert rows_of(one) == rows_of(other)
    table = claims_table(claim_rows(one, compare()))
    assert set(COLUMNS).isdisjoint({"effect", "low", "high", "verdict", "reason", "note", "p", "p_holm", "smallest"})
    assert needed(table[list(COLUMNS)], {"C1": one}) == rows_of(one)


def test_a_claim_needs_the_most_of_its_measures():
    found = rows_of(claim([EXACT, [4 * x for x in EXACT], [x / 4 for x in EXACT]], margin=4.0))
    head, *measures = found
    assert head.quantity == "error1"
    assert head.needed == max(one.needed for one in measures) == measures[1].needed
    assert head.needed_at_most == measures[1].needed_at_most


def test_two_seeds_have_a_spread_and_one_has_none():
    assert rows_of(claim([(0.0, 1.0)], margin=2.0))[0].needed == seeds_needed(math.sqrt(0.5), 2.0)
    assert rows_of(claim([(0.5,)]))[0].remark == ONE_SEED
    assert rows_of(claim([(0.5, math.nan, 0.1)]))[0].remark == NO_VALUE
    assert rows_of(claim([(0.5, 0.5, 0.5)]))[0].remark == NO_SPREAD
    assert rows_of(claim([EXACT], margin=None))[0].remark == NO_MARGIN
    assert rows_of(claim([EXACT], margin=2.0, resolution=2.5))[0].remark == RESOLVED
    assert rows_of(claim([EXACT], margin=1e-3))[0].remark == f"more than {MOST} seeds"


def test_censored_pairs_have_no_spread():
    effects = {0: 0.5, 1: 0.6, 2: 0.7}
    for seeds in (range(2), range(3)):
        known = {seed: effects[seed] for seed in seeds}
        one = judge_pairs("x", known, seeds, scale="ratio", claimed="below", unit="ratio", only_above=[1])
        assert math.isnan(one.spread)


def test_measures_without_a_number_are_counted():
    one = claim([EXACT, (0.5, 0.5, 0.5)], margin=2.0)
    assert rows_of(one)[0].remark == "1 of 2 measures has no number"
    turned = claim([(0.5, 0.5, 0.5), EXACT], margin=2.0)
    assert (rows_of(turned)[0].remark, math.isnan(rows_of(turned)[0].needed)) == (NO_SPREAD, True)


def test_another_null_value_is_as_far_as_a_margin():
    found = rows_of(claim([EXACT], null=-2.0, margin=None))[0]
    assert (found.margin, found.needed) == (2.0, seeds_needed(found.spread, 2.0, equivalence=None))
    assert rows_of(claim([EXACT], null=-2.0, margin=None, paired=False))[0].remark == NO_MARGIN


def test_corrected_measures_need_the_strictest_interval():
    plain, four = (rows_of(claim([EXACT], margin=2.0, tests=tests))[0] for tests in (1, 4))
    assert four.needed == seeds_needed(plain.spread, 2.0, confidence=1 - 0.05 / 4) > plain.needed
    assert rows_of(claim([EXACT, EXACT], margin=2.0, tests=None))[0].needed == seeds_needed(
        plain.spread, 2.0, confidence=1 - 0.05 / 2
    )
    counts = {name: one.tests for name, one in CLAIMS.items() if one.tests != 1}
    assert counts == {**{f"P{number}": 4 for number in range(1, 8)}, "P8": None, "P9": None}


def test_given_margins_take_the_place_of_the_claims():
    assert rows_of(claim([EXACT], margin=None), {"error": 2.0}) == rows_of(claim([EXACT], margin=2.0))
    for scale, size, words in (("difference", -0.1, "above 0"), ("ratio", 0.9, "above 1"), ("ratio", math.inf, "1")):
        with pytest.raises(ValueError, match=f"the margin {size:g} of error has the wrong sign or size.*{words}"):
            rows_of(claim([EXACT], scale=scale), {"error": size})
    with pytest.raises(ValueError, match="no measure is called mean; allowed: error"):
        rows_of(claim([EXACT]), {"mean": 1.0})


@pytest.mark.parametrize(
    ("arguments", "words"), [((1.0, 0.0), "margin = 0"), ((1.0, -1.0), "margin = -1"), ((-1.0, 1.0), "spread = -1")]
)
def test_margins_and_spreads_of_the_wrong_sign_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        seeds_needed(*arguments)


def test_theory_is_left_out():
    one = claim([EXACT], margin=2.0)
    rows = [replace(row, seeds=None) for row in claim_rows(one, compare())]
    assert needed(claims_table(rows), {"C1": one}) == []
    assert needed(pd.DataFrame(columns=list(COLUMNS)), {}) == []


def test_claims_that_numbers_of_seeds_decide_are_counted():
    rows = [rows_of(claim([EXACT], margin=margin))[0] for margin in (2.0, 8.0, 1e-3)]
    assert [row.needed for row in rows] == [8, 3, math.inf]
    assert list(decided(rows, (3, 8))) == [(3, 1, 0), (8, 2, 1)]
