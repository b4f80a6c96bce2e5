import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.spectra import condition_numbers, feature_spectrum, joint_spectrum, weight_spectrum

RELEASE = {"classes": 10, "per_class": 5000, "dim": 512, "lambda_w": 1e-3, "lambda_h_sum": 1e-6, "lambda_b": 1e-2}

# classes, per_class, dim, lambda_w, lambda_h_sum, smoothing: both regimes, K = 2, d = K - 1, n = 1 and the rest.
CASES = [
    (2, 2, 1, 0.01, 0.02, 0.0),
    (2, 2, 3, 0.01, 0.02, 0.1),
    (3, 2, 2, 0.01, 0.003, 0.0),
    (3, 1, 4, 0.01, 0.003, 0.2),
    (4, 1, 3, 0.01, 0.01, 0.0),
    (5, 2, 6, 0.002, 0.01, 0.1),
    (6, 2, 6, 0.001, 0.01, 0.05),
    (3, 2, 3, 0.3, 0.3, 0.5),
    (4, 2, 2, 0.1, 0.1, 0.9),
]


def build(case):
    *sizes, smoothing = case
    return UnconstrainedFeatureModel(*sizes, 0.1, smoothing)


def dense_hessian(problem, part, scaled=False):
    """torch.func.hessian of the definition at the minimiser, in (W, H)."""
    k, n, d = problem.classes, problem.per_class, problem.dim
    targets = (1 - problem.smoothing) * torch.eye(k).repeat_interleave(n, 0) + problem.smoothing / k
    size_w, size_h = (problem.lambda_w**0.5, problem.lambda_h_sum**0.5) if scaled else (1.0, 1.0)

    def objective(point):
        weight = point[: k * d].reshape(k, d) / size_w
        features = point[k * d :].reshape(n * k, d) / size_h
        value = -(targets * torch.log_softmax(features @ weight.T, 1)).sum(1).mean()
        if part == "full":
            value = value + problem.lambda_w / 2 * weight.square().sum()
            value = value + problem.lambda_h_sum / 2 * features.square().sum()
        return value

    point = np.concatenate([size_w * problem.weight().ravel(), size_h * problem.features().ravel()])
    return torch.func.hessian(objective)(torch.from_numpy(point)), k * d


def expand(modes):
    return np.sort(np.concatenate([np.full(mode.multiplicity, mode.value) for mode in modes]))


@pytest.mark.parametrize("part", ["ce", "full"])
@pytest.mark.parametrize("case", CASES)
def test_all_spectra_with_multiplicities_against_the_dense_hessian(case, part):
    torch.set_default_dtype(torch.float64)
    try:
        problem = build(case)
        hessian, cut = dense_hessian(problem, part)
        blocks = {
            weight_spectrum: hessian[:cut, :cut],
            feature_spectrum: hessian[cut:, cut:],
            joint_spectrum: hessian,
        }
        for spectrum, block in blocks.items():
            dense = torch.linalg.eigvalsh(block).numpy()
            closed = expand(spectrum(problem, part))
            np.testing.assert_allclose(closed, dense, atol=1e-13 * max(hessian.abs().max().item(), 1e-3))
        scaled, _ = dense_hessian(problem, part, scaled=True)
        dense = torch.linalg.eigvalsh(scaled).numpy()
        closed = expand(joint_spectrum(problem, part, scaled=True))
        np.testing.assert_allclose(closed, dense, atol=1e-13 * np.abs(dense).max())
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_logit_change_against_the_dense_eigenvectors(case):
    """Summed over an eigenspace, |logit change|^2 is the trace of the logit map's Gram matrix on it."""
    torch.set_default_dtype(torch.float64)
    try:
        problem = build(case)
        hessian, _ = dense_hessian(problem, "full")
    finally:
        torch.set_default_dtype(torch.float32)
    values, vectors = np.linalg.eigh(hessian.numpy())
    k, n, d = problem.classes, problem.per_class, problem.dim
    weight, features = problem.weight(), problem.features()
    changes = []
    for vector in vectors.T:
        head, moved = vector[: k * d].reshape(k, d), vector[k * d :].reshape(n * k, d)
        change = features @ head.T + moved @ weight.T
        changes.append(np.linalg.norm(change - change.mean(axis=1, keepdims=True)) ** 2)
    modes = joint_spectrum(problem)
    for mode in modes:
        near = np.abs(values - mode.value) < 1e-9
        total = sum(m.multiplicity * m.logit_change**2 for m in modes if abs(m.value - mode.value) < 1e-9)
        assert np.array(changes)[near].sum() == pytest.approx(total, rel=1e-6, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 200),
    st.integers(1, 1000),
    st.integers(0, 50),
    st.floats(-6, 0),
    st.floats(-6, 0),
    st.just(0.0) | st.floats(0, 0.95),
)
def test_dimensions_traces_and_signs(classes, per_class, spare, log_w, log_h, smoothing):
    problem = UnconstrainedFeatureModel(
        classes, per_class, classes - 1 + spare, 10**log_w, 10**log_h, 0.1, smoothing=smoothing
    )
    k, n, d = classes, per_class, problem.dim
    sizes = {weight_spectrum: k * d, feature_spectrum: n * k * d, joint_spectrum: (n + 1) * k * d}
    sums = {}
    for spectrum, size in sizes.items():
        full, part = spectrum(problem, "full"), spectrum(problem, "ce")
        assert sum(mode.multiplicity for mode in full) == sum(mode.multiplicity for mode in part) == size
        assert all(mode.multiplicity > 0 and mode.value >= 0 for mode in full)
        sums[spectrum] = [sum(mode.multiplicity * mode.value for mode in modes) for modes in (full, part)]
    # The joint trace is that of its diagonal blocks.
    for index in (0, 1):
        blocks = sums[weight_spectrum][index] + sums[feature_spectrum][index]
        assert sums[joint_spectrum][index] == pytest.approx(blocks, rel=1e-8, abs=1e-12)
    # The trace of the cross-entropy part from its definition: tr J = sum p (1 - p).
    p, q = problem.p_true, problem.p_other
    trace = p * (1 - p) + (k - 1) * q * (1 - q)
    assert sums[weight_spectrum][1] == pytest.approx(trace * problem.feature_norm**2, rel=1e-6, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 50), st.integers(0, 10), st.floats(1e-6, 0.2), st.floats(0, 0.5))
def test_rotations_are_the_orbits_dimension(classes, spare, scale, smoothing):
    problem = UnconstrainedFeatureModel(classes, 3, classes - 1 + spare, scale, scale / classes, 0.1, smoothing)
    zero = [mode for mode in joint_spectrum(problem) if mode.value == 0]
    rank = classes - 1
    if problem.regime == "zero":
        assert zero == []
    else:
        assert {mode.name for mode in zero} <= {"rotation"}
        orbit = problem.dim * (problem.dim - 1) // 2 - (problem.dim - rank) * (problem.dim - rank - 1) // 2
        assert sum(mode.multiplicity for mode in zero) == orbit


def test_kappas_of_papers_at_the_release_lambdas():
    full = [
        condition_numbers(UnconstrainedFeatureModel(**RELEASE, smoothing=delta))["kappa_full"]
        for delta in (0, 0.05, 0.1)
    ]
    assert full == pytest.approx([6.96, 15.7, 21.9], abs=0.05)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 100), st.integers(0, 3), st.floats(-6, -1), st.floats(0, 0.6))
def test_condition_numbers_formulas(classes, spare, log_scale, smoothing):
    scale = 10**log_scale / classes
    problem = UnconstrainedFeatureModel(classes, 1, classes - 1 + spare, scale, 2 * scale, 0.1, smoothing)
    kappas = condition_numbers(problem)
    k, a, p, q, s = classes, problem.logit_gap, problem.p_true, problem.p_other, problem.s
    assert kappas["kappa_ce"] == pytest.approx(k - (k - 1) * (smoothing + s) if k >= 3 else 1)
    assert kappas["kappa_full"] == pytest.approx(1 + a * p * q * k / s)
    if spare > 0:
        assert kappas["kappa_full_features"] == pytest.approx(kappas["kappa_full"])
    smallest = q if k >= 3 else k * p * q
    assert kappas["kappa_full_range"] == pytest.approx((s + a * k * p * q) / (s + a * smallest))
    assert kappas["kappa_joint"] >= kappas["kappa_joint_logits"] * (1 - 1e-9)
    assert kappas["kappa_joint"] >= kappas["kappa_full"] * (1 - 1e-9)  # a block's spectrum lies inside, rotations apart


def test_two_definitions_move_in_opposite_directions():
    table = [condition_numbers(UnconstrainedFeatureModel(**RELEASE, smoothing=delta)) for delta in (0, 0.05, 0.1, 0.2)]
    assert np.all(np.diff([row["kappa_ce"] for row in table]) < 0)
    for name in ("kappa_full", "kappa_full_range", "kappa_joint", "kappa_joint_logits", "kappa_joint_scaled"):
        assert np.diff([row[name] for row in table])[:2].min() > 0, name


def test_zero_regime_has_no_loss_curvature():
    problem = UnconstrainedFeatureModel(3, 2, 4, 0.3, 0.3, 0.1, 0.5)
    kappas = condition_numbers(problem)
    assert [name for name, value in kappas.items() if value is None] == [
        "kappa_ce",
        "kappa_full_range",
        "kappa_joint_logits",
    ]
    assert kappas["kappa_full"] == 1
    # 2 x 2 block [[1, -r], [-r, 1]] in scaled coordinates, r = (1 - delta) / s.
    ratio = 0.5 / problem.s
    assert kappas["kappa_joint_scaled"] == pytest.approx((1 + ratio) / (1 - ratio))


def test_on_the_edge_the_joint_hessian_is_singular():
    smoothing = 0.5
    problem = UnconstrainedFeatureModel(2, 1, 1, 0.25, 0.25, 0.1, smoothing)
    assert problem.s + problem.smoothing == 1
    assert condition_numbers(problem)["kappa_joint"] == math.inf


def test_joint_hessian_of_the_loss_alone_is_indefinite():
    problem = UnconstrainedFeatureModel(4, 2, 5, 0.01, 0.02, 0.1, 0.1)
    values = [mode.value for mode in joint_spectrum(problem, "ce")]
    coupling = math.sqrt(problem.lambda_w * problem.lambda_h_sum)
    assert min(values) == pytest.approx(-coupling, rel=0.5)
    outside = {mode.name: mode.value for mode in joint_spectrum(problem, "ce") if mode.name == "outside"}
    assert outside["outside"] == pytest.approx(coupling)


def test_refusals():
    with pytest.raises(ValueError, match="part must be 'ce' or 'full'"):
        weight_spectrum(build(CASES[0]), "both")
    with pytest.raises(ValueError, match="no known closed form"):
        weight_spectrum(UnconstrainedFeatureModel(5, 1, 2, 1e-3, 1e-3, 0.1))
    with pytest.raises(ValueError, match="for float64 to resolve it"):
        joint_spectrum(UnconstrainedFeatureModel(5, 1, 5, 1e-300, 1e-300, 0.1))
    with pytest.raises(ValueError, match="too far apart"):
        weight_spectrum(UnconstrainedFeatureModel(5, 1, 5, 1e300, 5e-324, 0.1))
