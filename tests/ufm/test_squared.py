import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.numeric import half_squared_error, minimise
from nclens.ufm.squared import SquaredErrorMinimiser


@st.composite
def minimisers(draw):
    classes = draw(st.integers(2, 6))
    lambdas = [10 ** draw(st.floats(-6, 0)) for _ in range(3)]
    return SquaredErrorMinimiser(
        UnconstrainedFeatureModel(
            classes,
            draw(st.integers(1, 4)),
            classes + draw(st.integers(0, 3)),
            *lambdas,
            smoothing=draw(st.just(0.0) | st.floats(0, 0.95)),
        )
    )


def literal_objective(problem, weight, means, bias):
    total = 0.0
    for k, feature in enumerate(means):
        target = np.full(problem.classes, problem.smoothing / problem.classes)
        target[k] += 1 - problem.smoothing
        total += ((weight @ feature + bias - target) ** 2).sum() / 2
    norms = problem.lambda_w * (weight**2).sum() + problem.per_class * problem.lambda_h_sum * (means**2).sum()
    return total / problem.classes + (norms + problem.lambda_b * (bias**2).sum()) / 2


def test_hand_computed():
    # K = 2, s = 2 sqrt(0.01) sqrt(0.01) = 0.02, lambda_b = 1: a = 0.98, c = 1 - 0.02 - 0.02 = 0.96, beta = 0.04 / 4.
    best = SquaredErrorMinimiser(UnconstrainedFeatureModel(2, 1, 2, 0.01, 0.01, 1.0))
    assert best.simplex_scale == pytest.approx(0.98)
    assert best.common_scale == pytest.approx(0.96)
    assert best.bias_value == pytest.approx(0.01)
    assert best.weight_norm == pytest.approx(math.sqrt(0.97))
    assert best.objective == pytest.approx((0.02**2 + 0.02**2) / 4 + 0.01 * 1.94 + 0.01**2)


def test_the_release_bias_penalty_leaves_a_simplex_and_no_bias_penalty_an_orthogonal_frame():
    with_bias = SquaredErrorMinimiser(UnconstrainedFeatureModel(10, 5000, 512, 1e-3, 1e-6, 1e-2))
    assert with_bias.common_scale == 0
    without = SquaredErrorMinimiser(UnconstrainedFeatureModel(4, 1, 6, 1e-2, 1e-2, 1e12))
    gram = without.weight() @ without.weight().T
    np.testing.assert_allclose(gram, (1 - without.problem.s) * np.eye(4), atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(minimisers(), st.integers(0, 2**31))
@pytest.mark.lengthy
def test_closed_form_agrees_with_the_numeric_minimiser(best, seed):
    problem = best.problem
    assume(abs(problem.s + problem.smoothing - 1) >= 0.02)
    assume(abs(problem.s * (1 + 1 / problem.lambda_b) - 1) >= 0.02)
    found = minimise(problem, starts=2, seed=seed, fit=half_squared_error)
    for name in ("logit_gap", "weight_norm", "feature_norm", "objective"):
        closed = getattr(best, name)
        assert getattr(found, name) == pytest.approx(closed, rel=1e-6, abs=1e-6 if closed == 0 else 0), name
    # W and H can replace the bias at little cost: if its penalty is tiny, its value is a flat direction.
    np.testing.assert_allclose(found.bias, best.bias_value, atol=1e-6 + 1e-9 / problem.lambda_b)


@settings(max_examples=40, deadline=None)
@given(minimisers())
def test_arrays_agree_with_the_scalars(best):
    weight, means, bias = best.weight(), best.class_features(), best.bias()
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), best.weight_norm, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), best.feature_norm, rtol=1e-12)
    np.testing.assert_allclose(means @ weight.T + bias, best.logits(), atol=1e-12)
    logits = best.logits()
    assert logits[0, 0] - logits[0, 1] == pytest.approx(best.logit_gap, abs=1e-12)
    assert literal_objective(best.problem, weight, means, bias) == pytest.approx(best.objective, rel=1e-9)


def test_refuses_too_few_dimensions():
    # With a strong bias penalty the best logits have rank K, one more than a simplex.
    best = SquaredErrorMinimiser(UnconstrainedFeatureModel(4, 1, 3, 1e-2, 1e-2, 1e3))
    for call in (
        best.weight,
        best.class_features,
        best.logits,
        best.bias,
        lambda: best.objective,
        lambda: best.logit_gap,
    ):
        with pytest.raises(ValueError, match="no known closed form for dim 3 < 4"):
            call()
    zero = SquaredErrorMinimiser(UnconstrainedFeatureModel(4, 1, 1, 1.0, 1.0, 1.0))
    np.testing.assert_array_equal(zero.weight(), np.zeros((4, 1)))


@pytest.mark.parametrize("lambdas", [(1e-300, 1e-300, 1e-300), (1e308, 1e308, 5e-324), (1e-300, 1e300, 1e300)])
def test_extreme_lambdas_never_give_nan(lambdas):
    best = SquaredErrorMinimiser(UnconstrainedFeatureModel(4, 3, 6, *lambdas, 0.1))
    for name in ("weight_norm", "feature_norm", "logit_gap", "objective", "bias_value"):
        assert math.isfinite(getattr(best, name))
