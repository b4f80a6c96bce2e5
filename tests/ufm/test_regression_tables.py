"""Tables of the unconstrained regression: mean and covariance of the targets are all that it needs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.ufm.regression import UnconstrainedRegression
from nclens.ufm.regression_tables import PREDICTED, predictions, problem_of, theory_rows


def targets(n, seed, samples=200):
    random = np.random.default_rng(seed)
    return random.normal(size=(samples, n)) @ (random.normal(size=(n, n)) + 2 * np.eye(n)) + random.normal(size=n)


@given(st.integers(1, 4), st.integers(0, 50), st.floats(0.01, 3))
def test_the_model_of_mean_and_covariance_is_that_of_the_targets(n, seed, penalty):
    values = targets(n, seed)
    covariance = np.cov(values.T, bias=True).reshape(n, n)
    known = problem_of(values.mean(0).tolist(), covariance.tolist(), n + 3, penalty, 0.5)
    full = UnconstrainedRegression(values, n + 3, penalty, 0.5)
    np.testing.assert_allclose(known.covariance, full.covariance, atol=1e-10)
    np.testing.assert_allclose(known.bias, full.bias, atol=1e-10)
    assert known.objective == pytest.approx(full.objective, rel=1e-9)
    np.testing.assert_allclose(known.gram, full.gram, atol=1e-8 * (1 + np.abs(full.gram).max()))
    expected = full.predictions()
    assert predictions(known) == pytest.approx(
        {f"gram_{i}{j}": full.gram[i, j] for i in range(n) for j in range(i, n)}
        | {name: expected[name] for name in PREDICTED},
        rel=1e-7,
        abs=1e-9,
    )


@pytest.mark.parametrize(("n", "dim"), [(1, None), (2, 256), (3, 3), (3, 2)])
def test_closed_form_and_search_agree(n, dim):
    values = targets(n, seed=n)
    covariance = np.cov(values.T, bias=True).reshape(n, n)
    rows = theory_rows(problem_of(values.mean(0), covariance, dim, 0.2, 0.3))
    assert [row["quantity"] for row in rows][:2] == ["objective", "gram_00"]
    assert len(rows) == 1 + n * (n + 1) // 2 + len(PREDICTED)
    assert all(row["relative_error"] < 1e-6 for row in rows)


def test_total_collapse_has_no_relative_error_of_what_is_zero():
    rows = {row["quantity"]: row for row in theory_rows(problem_of([0.0, 0.0], [[1.0, 0.2], [0.2, 1.0]], 4, 2.0, 2.0))}
    assert rows["gram_01"]["closed_form"] == rows["weight_norm_frobenius"]["closed_form"] == 0
    assert rows["gram_01"]["relative_error"] is rows["weight_norm_frobenius"]["relative_error"] is None
    assert rows["objective"]["relative_error"] < 1e-6
