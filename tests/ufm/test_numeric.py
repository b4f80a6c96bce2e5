import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.numeric import (
    _Search,
    cross_entropy,
    half_squared_error,
    minimise,
    reduce_samples,
    smoothed_targets,
    softmax,
)

NAMES = ("logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "objective")


@st.composite
def problems(draw):
    classes = draw(st.integers(2, 6))
    lambdas = [10 ** draw(st.floats(-6, 0)) for _ in range(3)]
    return UnconstrainedFeatureModel(
        classes,
        draw(st.integers(1, 4)),
        classes - 1 + draw(st.integers(0, 3)),
        *lambdas,
        smoothing=draw(st.just(0.0) | st.floats(0, 0.95)),
    )


def check(problem, found):
    for name in NAMES:
        closed = getattr(problem, name)
        assert getattr(found, name) == pytest.approx(closed, rel=1e-6, abs=1e-6 if closed == 0 else 0), name
    # A common shift of the bias is held by lambda_b alone: the weaker it is, the flatter.
    np.testing.assert_allclose(found.bias, 0, atol=1e-7 + 1e-12 / problem.lambda_b)


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(0, 2**31))
@pytest.mark.lengthy
def test_closed_form_agrees_over_the_grid(problem, seed):
    assume(abs(problem.s + problem.smoothing - 1) >= 0.02)
    found = minimise(problem, starts=2, seed=seed)
    check(problem, found)
    if problem.regime == "simplex":
        assert found.within_class_spread < 1e-6


@settings(max_examples=15, deadline=None)
@given(problems(), st.integers(0, 2**31))
def test_every_start_finds_the_same_value(problem, seed):
    assume(abs(problem.s + problem.smoothing - 1) >= 0.02)
    found = minimise(problem, starts=3, seed=seed)
    # L-BFGS alone, before the Newton steps: no worse local minimum.
    assert max(found.objectives) == pytest.approx(problem.objective, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.floats(-0.0199, 0.0199), st.floats(0, 0.9), st.integers(0, 2**31))
def test_near_the_edge_the_objective_agrees(classes, offset, smoothing, seed):
    strength = (1 - smoothing + offset) / classes
    problem = UnconstrainedFeatureModel(classes, 1, classes, strength, strength, 0.1, smoothing)
    assert minimise(problem, starts=2, seed=seed).objective == pytest.approx(problem.objective, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_small_lambdas(smoothing):
    problem = UnconstrainedFeatureModel(4, 2, 5, 1e-6, 1e-6, 1e-6, smoothing)
    check(problem, minimise(problem))


def test_degenerate_regime_below_k_minus_one_dimensions():
    problem = UnconstrainedFeatureModel(5, 2, 2, 0.3, 0.3, 0.1, 0.4)
    check(problem, minimise(problem))


def test_lower_bound_is_not_attained_in_too_few_dimensions():
    problem = UnconstrainedFeatureModel(5, 2, 2, 1e-3, 1e-3, 0.1)
    assert minimise(problem).objective > problem.objective_lower_bound * 1.01


def test_large_problems_are_reduced_at_fixed_n_lambda_h():
    problem = UnconstrainedFeatureModel(10, 5000, 64, 1e-3, 1e-6, 1e-2, 0.05)
    small = reduce_samples(problem, largest=6400)
    assert small.per_class == 10
    assert small.per_class * small.lambda_h_sum == pytest.approx(problem.per_class * problem.lambda_h_sum)
    found = minimise(problem, starts=1, largest=6400)
    assert found.per_class == 10
    assert found.features.shape == (100, 64)
    check(problem, found)
    assert reduce_samples(problem, largest=1).per_class == 1
    assert reduce_samples(problem, largest=10**9) == problem


@pytest.mark.parametrize("fit", [cross_entropy, half_squared_error])
def test_gradient_by_finite_differences(fit):
    problem = UnconstrainedFeatureModel(3, 2, 4, 0.02, 0.01, 0.3, 0.1)
    search = _Search(problem, fit)
    point = 0.1 * np.random.default_rng(0).standard_normal(3 * 4 + 6 * 4 + 3)
    moves = 1e-6 * np.eye(len(point))
    slopes = [(search(point + move)[0] - search(point - move)[0]) / 2e-6 for move in moves]
    np.testing.assert_allclose(search(point)[1], slopes, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(search.pack(*search.unpack(point)), point, rtol=1e-14)


def test_hand_computed_fit_terms():
    logits = np.array([[np.log(3.0), 0.0], [0.0, 0.0]])
    targets = np.array([[1.0, 0.0], [0.5, 0.5]])
    value, slope = cross_entropy(logits, targets)
    assert value == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)
    np.testing.assert_allclose(slope, [[-1 / 8, 1 / 8], [0, 0]], atol=1e-15)
    assert half_squared_error(targets + 1, targets)[0] == pytest.approx(1)
    np.testing.assert_allclose(softmax(np.array([800.0, 800.0, -800.0])), [0.5, 0.5, 0])
    problem = UnconstrainedFeatureModel(2, 2, 1, 1, 1, 1, 0.2)
    np.testing.assert_allclose(smoothed_targets(problem), [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])


def test_same_seed_same_bits():
    problem = UnconstrainedFeatureModel(3, 2, 3, 1e-3, 1e-3, 1e-2, 0.05)
    one, two = minimise(problem, seed=7), minimise(problem, seed=7)
    np.testing.assert_array_equal(one.weight, two.weight)
    assert one.objectives == two.objectives


def test_bad_input():
    problem = UnconstrainedFeatureModel(3, 2, 3, 1e-3, 1e-3, 1e-2)
    with pytest.raises(ValueError, match="starts must be an integer >= 1"):
        minimise(problem, starts=0)
    with pytest.raises(ValueError, match="s must be >= 1e-07"):
        minimise(UnconstrainedFeatureModel(3, 2, 3, 1e-300, 1e-300, 1e-2))


@pytest.mark.parametrize("lambdas", [(1e308, 5e-324), (5e-324, 1e308), (1e300, 1e300)])
def test_lambdas_far_apart_stay_finite(lambdas):
    found = minimise(UnconstrainedFeatureModel(10, 5, 10, *lambdas, 1e-2, 0.1), starts=1)
    assert np.isfinite(found.objective)
    assert np.isfinite(found.weight).all()
    assert np.isfinite(found.features).all()


def test_a_masked_class_without_mass_counts_nothing():
    logits, targets = np.array([[1.0, 2.0, -np.inf]]), np.array([[0.3, 0.7, 0.0]])
    value, slope = cross_entropy(logits, targets)
    expected, smaller = cross_entropy(logits[:, :2], targets[:, :2])
    assert value == pytest.approx(expected, rel=1e-15)
    assert slope[0].tolist() == pytest.approx([*smaller[0], 0.0])
