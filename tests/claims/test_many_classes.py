"""K1 to K3 on runs along given courses."""

import math

import pytest

from nclens.claims import CLAIMS
from nclens.claims.many_classes import GENERALISED, OPTIMUM, SIMPLEX
from tests.claims.runs import by_quantity, compare, runs


def comparison(optimum, end, start=0.2, metrics=(*GENERALISED, *SIMPLEX, "nc3")):
    """Each metric goes from `start` to `end`, at an optimum of the one-vs-rest distance."""
    tables = [runs(lambda epoch, seed: optimum, "ls", OPTIMUM)]
    tables += [
        runs(lambda epoch, seed: end * (1 + 0.001 * seed) if epoch == 100 else start, "ls", metric)
        for metric in metrics
    ]
    return compare(*tables)


def test_a_distance_at_its_optimum_supports_k1_and_one_away_from_it_contradicts():
    near = by_quantity(CLAIMS["K1"].measures(comparison(1.0, 0.99)))
    assert near["one_vs_rest_classifier"].verdict == "supported"
    assert near["one_vs_rest_classifier"].effect == pytest.approx(0.01 / 0.8, rel=0.2)
    assert "optimum 1" in near["one_vs_rest_classifier"].note
    away = by_quantity(CLAIMS["K1"].measures(comparison(1.0, 0.6)))
    assert {one.verdict for one in away.values()} == {"contradicted"}


def test_an_unknown_optimum_is_inconclusive():
    found = by_quantity(CLAIMS["K1"].measures(comparison(math.nan, 0.99)))
    assert {one.verdict for one in found.values()} == {"inconclusive"}
    assert "optimum not known" in found["one_vs_rest_means"].note
    assert CLAIMS["K2"].measures(comparison(math.nan, 0.99))


def test_simplex_measures_that_stay_up_support_k2_and_nc3_that_falls_supports_k3():
    up = by_quantity(CLAIMS["K2"].measures(comparison(1.0, 0.15)))
    assert {one.verdict for one in up.values()} == {"supported"}
    fallen = comparison(1.0, 0.001)
    assert {one.verdict for one in CLAIMS["K2"].measures(fallen)} == {"contradicted"}
    assert CLAIMS["K3"].measures(fallen)[0].verdict == "supported"
    exact = CLAIMS["K3"].measures(comparison(1.0, 0.0))[0]
    assert exact.verdict == "supported"


def test_where_a_simplex_exists_nothing_is_claimed():
    for claim in ("K1", "K2", "K3"):
        assert CLAIMS[claim].measures(comparison(10 / 9, 0.99)) == []
        assert CLAIMS[claim].measures(compare(runs(lambda epoch, seed: 0.1, "ls"))) == []
