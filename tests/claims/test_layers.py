"""E1 on simulated tables."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.claims.layers import CLAIMS, separates_evenly
from nclens.claims.rows import claim_rows
from tests.claims.runs import compare, runs


@pytest.mark.parametrize(
    ("value", "verdict"), [(-0.98, "supported"), (-0.5, "contradicted"), (math.nan, None), (None, None)]
)
def test_the_correlation_is_compared_with_the_margin(value, verdict):
    tables = [runs(lambda epoch, seed: 1.0, "ls")]
    if value is not None:
        course = runs(lambda epoch, seed: value + 0.001 * seed if epoch == 100 else 0.3, "ls", "layers_correlation/a")
        tables.append(course)
    found = separates_evenly(compare(*tables))
    if verdict is None:
        assert not found
        return
    (measure,) = found
    assert (measure.quantity, measure.verdict) == ("correlation/a", verdict)
    assert measure.effect == pytest.approx(value + 0.001, abs=1e-4)
    (claim,) = CLAIMS
    assert claim_rows(claim, compare(*tables))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=5))
def test_an_interval_of_correlations_stays_within_their_range(values):
    """Fisher's z interval, by scipy's artanh and Student's t; a correlation that rounding has made 1 is one."""
    (measure,) = separates_evenly(_compared(values))
    assert -1 <= measure.low <= measure.effect <= measure.high <= 1
    z = np.arctanh(np.clip(values, -1 + 1e-12, 1 - 1e-12))
    assert measure.effect == pytest.approx(float(np.tanh(z.mean())), abs=1e-9)
    if np.ptp(z) > 1e-9:
        low, high = np.tanh(scipy.stats.t.interval(0.95, len(z) - 1, z.mean(), scipy.stats.sem(z)))
        assert (measure.low, measure.high) == pytest.approx((float(low), float(high)), abs=1e-9)


def test_spread_correlations_near_their_limit_have_an_interval_below_it():
    (measure,) = separates_evenly(_compared([-0.99, -0.97, -0.85]))
    assert measure.low == pytest.approx(-0.998866, abs=1e-6)  # on the scale of r it is -1.125
    assert measure.verdict == "inconclusive"


def _compared(values):
    course = runs(
        lambda epoch, seed: values[seed], "ls", "layers_correlation", seeds=range(len(values)), epochs=(10, 100)
    )
    return compare(course, seeds=range(len(values)))
