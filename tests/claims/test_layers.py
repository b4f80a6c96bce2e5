"""E1 on simulated tables."""

import math

import pytest

from nclens.claims.layers import CLAIMS, separates_evenly
from nclens.claims.verdict import claim_rows
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
    assert measure.effect == pytest.approx(value + 0.001)
    (claim,) = CLAIMS
    assert claim_rows(claim, compare(*tables))
