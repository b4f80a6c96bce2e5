import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel, simplex_frame

RELEASE = {"classes": 10, "per_class": 5000, "dim": 512, "lambda_w": 1e-3, "lambda_h_sum": 1e-6, "lambda_b": 1e-2}


@st.composite
def problems(draw, low=-6.0, high=0.0):
    classes = draw(st.integers(2, 8))
    lambdas = [10 ** draw(st.floats(low, high)) for _ in range(3)]
    return UnconstrainedFeatureModel(
        classes=classes,
        per_class=draw(st.integers(1, 5)),
        dim=classes - 1 + draw(st.integers(0, 3)),
        lambda_w=lambdas[0],
        lambda_h_sum=lambdas[1],
        lambda_b=lambdas[2],
        smoothing=draw(st.sampled_from([0.0, 0.05, 0.3, 0.9]) | st.floats(0, 0.99)),
    )


def literal_objective(problem, weight, features, bias):
    """The definition, sample by sample."""
    total = 0.0
    for index, feature in enumerate(features):
        logits = weight @ feature + bias
        log_p = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        target = np.full(problem.classes, problem.smoothing / problem.classes)
        target[index // problem.per_class] += 1 - problem.smoothing
        total -= target @ log_p
    penalty = problem.lambda_w * (weight**2).sum() + problem.lambda_h_sum * (features**2).sum()
    return total / problem.samples + (penalty + problem.lambda_b * (bias**2).sum()) / 2


@pytest.mark.parametrize(
    ("smoothing", "weight_norm", "feature_norm"),
    [(0.0, 3.4987, 1.5647), (0.05, 3.1278, 1.3988), (0.1, 2.9371, 1.3135)],
)
def test_norms_at_the_release_lambdas(smoothing, weight_norm, feature_norm):
    problem = UnconstrainedFeatureModel(**RELEASE, smoothing=smoothing)
    assert problem.weight_norm == pytest.approx(weight_norm, abs=5e-5)
    assert problem.feature_norm == pytest.approx(feature_norm, abs=5e-5)


def test_hand_computed_two_classes():
    # s = 2 sqrt(1 * 0.01 * 0.04) = 0.04, so p_other = 0.02, a = log(0.98 / 0.02) = log 49.
    problem = UnconstrainedFeatureModel(2, 1, 1, lambda_w=0.01, lambda_h_sum=0.04, lambda_b=1.0)
    assert problem.s == pytest.approx(0.04)
    assert problem.logit_gap == pytest.approx(math.log(49))
    assert problem.p_true == pytest.approx(0.98)
    assert problem.weight_norm == pytest.approx(math.sqrt(math.log(49) / 2 * 2))
    assert problem.feature_norm == pytest.approx(math.sqrt(math.log(49) / 2 / 2))
    assert problem.objective == pytest.approx(-math.log(0.98) + 0.02 * math.log(49))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_arrays_agree_with_the_scalars(problem):
    weight, means, features = problem.weight(), problem.class_features(), problem.features()
    k = problem.classes
    logits = means @ weight.T
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), problem.weight_norm, rtol=1e-12, atol=0)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), problem.feature_norm, rtol=1e-12, atol=0)
    np.testing.assert_allclose(logits, problem.logits(), atol=1e-13 * (1 + problem.logit_gap))
    np.testing.assert_array_equal(features, np.repeat(means, problem.per_class, axis=0))
    np.testing.assert_array_equal(problem.bias(), np.zeros(k))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.diag(probabilities), problem.p_true, rtol=1e-11)
    np.testing.assert_allclose(probabilities[0, 1:], problem.p_other, rtol=1e-10)
    assert problem.p_true + (k - 1) * problem.p_other == pytest.approx(1)
    nuclear = np.linalg.svd(features @ weight.T, compute_uv=False).sum()
    assert problem.nuclear_norm == pytest.approx(nuclear, rel=1e-10, abs=1e-12)
    assert problem.objective == pytest.approx(literal_objective(problem, weight, features, problem.bias()), rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(0, 2**31), st.floats(-5, 1))
def test_no_other_point_is_lower(problem, seed, size):
    generator = np.random.default_rng(seed)
    point = [problem.weight(), problem.features(), problem.bias()]
    moved = [part + 10**size * generator.standard_normal(part.shape) for part in point]
    assert literal_objective(problem, *moved) >= problem.objective * (1 - 1e-12)


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(0, 2**31))
def test_objective_and_stationarity_are_the_same_along_the_orbit(problem, seed):
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.standard_normal((problem.dim, problem.dim)))
    weight, features = problem.weight() @ rotation, problem.features() @ rotation
    assert literal_objective(problem, weight, features, problem.bias()) == pytest.approx(problem.objective, rel=1e-10)
    logits = features @ weight.T
    slope = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope -= problem.smoothing / problem.classes
    slope[np.arange(len(slope)), np.repeat(np.arange(problem.classes), problem.per_class)] -= 1 - problem.smoothing
    slope /= problem.samples
    scale_w = max(problem.lambda_w * problem.weight_norm, 1e-300)
    scale_h = max(problem.lambda_h_sum * problem.feature_norm, 1e-300)
    assert np.abs(slope.T @ features + problem.lambda_w * weight).max() <= 1e-8 * scale_w + 1e-15 * problem.feature_norm
    assert (
        np.abs(slope @ weight + problem.lambda_h_sum * features).max() <= 1e-8 * scale_h + 1e-15 * problem.weight_norm
    )
    assert np.abs(slope.sum(axis=0)).max() <= 1e-15 * problem.classes


@settings(max_examples=40, deadline=None)
@given(problems())
def test_only_n_lambda_h_matters(problem):
    other = UnconstrainedFeatureModel(
        problem.classes,
        4 * problem.per_class,
        problem.dim,
        problem.lambda_w,
        problem.lambda_h_sum / 4,
        problem.lambda_b,
        problem.smoothing,
    )
    for name in ("s", "logit_gap", "weight_norm", "feature_norm", "p_true", "objective"):
        assert getattr(other, name) == pytest.approx(getattr(problem, name), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(1, 10_000))
def test_a_fixed_total_carries_penalties_over_to_another_training_set(problem, per_class):
    penalties = {name: getattr(problem, name) for name in ("lambda_w", "lambda_h_total", "lambda_b")}
    sizes = {"classes": problem.classes, "per_class": per_class, "dim": problem.dim}
    others = (
        UnconstrainedFeatureModel.from_total(**sizes, **penalties, smoothing=problem.smoothing),
        problem.with_per_class(per_class),
    )
    for other in others:
        assert (other.classes, other.per_class, other.dim) == tuple(sizes.values())
        assert other.lambda_h_total == pytest.approx(problem.lambda_h_total, rel=1e-14)
        for name in ("s", "logit_gap", "weight_norm", "feature_norm", "p_true", "objective"):
            assert getattr(other, name) == pytest.approx(getattr(problem, name), rel=1e-9)


def test_the_edge_between_the_regimes_is_continuous():
    def at(smoothing):
        return UnconstrainedFeatureModel(3, 1, 2, 0.1, 0.1, 1.0, smoothing=smoothing)

    edge = 1 - at(0).s
    inside, outside = at(edge - 1e-9), at(edge + 1e-9)
    assert (inside.regime, outside.regime) == ("simplex", "zero")
    assert 0 < inside.logit_gap < 1e-8
    assert outside.logit_gap == 0
    assert outside.objective == pytest.approx(math.log(3))
    assert inside.objective == pytest.approx(outside.objective)
    np.testing.assert_array_equal(outside.weight(), np.zeros((3, 2)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.99])
@pytest.mark.parametrize(
    "lambdas", [(1e-300, 1e-300), (5e-324, 5e-324), (1e300, 5e-324), (5e-324, 1e300), (1e308, 1e308)]
)
def test_extreme_lambdas_give_limits_and_never_nan(lambdas, smoothing):
    problem = UnconstrainedFeatureModel(10, 5, 20, *lambdas, 1e-300, smoothing=smoothing)
    names = ("logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "objective", "nuclear_norm")
    assert all(math.isfinite(getattr(problem, name)) for name in names)
    assert np.isfinite(problem.weight()).all()
    assert np.isfinite(problem.class_features()).all()
    if problem.s < 1e-15 and smoothing > 0:  # the limit without any penalty: softmax equals the smoothed targets
        assert problem.p_other == pytest.approx(smoothing / 10)
        assert problem.logit_gap == pytest.approx(math.log(10 / smoothing - 9))


def test_tiny_lambdas_without_smoothing_diverge_logarithmically():
    gaps = [UnconstrainedFeatureModel(10, 1, 9, scale, scale, 1.0).logit_gap for scale in (1e-100, 1e-200, 1e-300)]
    assert np.diff(gaps) == pytest.approx(100 * math.log(10))


def test_too_few_dimensions():
    known = UnconstrainedFeatureModel(5, 2, 3, 0.3, 0.3, 1.0, smoothing=0.5)
    assert known.regime == "zero"
    np.testing.assert_array_equal(known.weight(), np.zeros((5, 3)))
    assert known.objective == pytest.approx(math.log(5))
    unknown = UnconstrainedFeatureModel(5, 2, 3, 1e-3, 1e-3, 1.0)
    wide = UnconstrainedFeatureModel(5, 2, 4, 1e-3, 1e-3, 1.0)
    assert unknown.objective_lower_bound == wide.objective
    for read in ("logit_gap", "weight_norm", "objective", "p_true", "nuclear_norm"):
        with pytest.raises(ValueError, match="no known closed form for dim 3 < classes - 1 = 4"):
            getattr(unknown, read)
    for call in (unknown.weight, unknown.features, unknown.bias, unknown.logits):
        with pytest.raises(ValueError, match="no known closed form"):
            call()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("classes", [1, 0, 2.0, True]),
        ("per_class", [0, -1, 1.5]),
        ("dim", [0, -3]),
        ("lambda_w", [0.0, -1e-3, math.inf, math.nan]),
        ("lambda_h_sum", [0.0, -1e-3, math.inf, math.nan]),
        ("lambda_b", [0.0, -1e-3, math.inf, math.nan]),
        ("smoothing", [1.0, -0.1, 2.0, math.nan]),
    ],
)
def test_bad_input(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"unconstrained feature model: {name} must"):
            UnconstrainedFeatureModel(**{**RELEASE, name: value})


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (3, 2), (5, 9), (40, 39)])
def test_simplex_frame_is_a_tight_frame(classes, dim):
    frame = simplex_frame(classes, dim)
    np.testing.assert_allclose(frame @ frame.T, np.eye(classes) - 1 / classes, atol=1e-14)
    with pytest.raises(ValueError, match="simplex frame"):
        simplex_frame(classes, classes - 2)
