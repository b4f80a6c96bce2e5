"""Regression collapse against slow literal references, hand-computed numbers, invariances and edge values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from torch import Tensor

import nclens.metrics.regression
from nclens.metrics.regression import (
    explained_variance_ratio,
    fit_gamma,
    measure_keys,
    nrc1,
    nrc2,
    nrc3,
    regression_collapse,
    residual_deviation,
    target_covariance,
)

Problem = tuple[Tensor, Tensor, Tensor, Tensor]


def problem(samples: int = 40, dim: int = 6, n: int = 3, seed: int = 0, offset: float = 1.0) -> Problem:
    """Features, targets, weight and bias without any structure."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    targets = normal(samples, n) @ normal(n, n) + 2 * normal(n)
    return normal(samples, dim) @ normal(dim, dim) + offset * normal(dim), targets, normal(n, dim), normal(n)


def random_rotation(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q


def literal(h: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, gamma: float) -> dict[str, float]:
    """The paper's formulas, samples as columns, one sample at a time, with full projectors."""
    (d, m), n = h.shape, len(y)
    centred = h - h.mean(axis=1, keepdims=True)
    unit = [h[:, i] / math.sqrt(sum(v * v for v in h[:, i])) for i in range(m)]

    def outside(projector: np.ndarray) -> float:
        return sum(float(np.sum((u - projector @ u) ** 2)) for u in unit) / m

    def components(matrix: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix @ matrix.T)
        top = vectors[:, np.argsort(values)[::-1][:n]]
        return top @ top.T

    def nrm(matrix: np.ndarray) -> np.ndarray:
        return matrix / math.sqrt(np.sum(matrix**2))

    residuals = [y[:, i] - w @ h[:, i] - b for i in range(m)]
    y_mean, r_mean = y.mean(axis=1), sum(residuals) / m
    sigma = sum(np.outer(y[:, i] - y_mean, y[:, i] - y_mean) for i in range(m)) / m
    scatter = sum(np.outer(r - r_mean, r - r_mean) for r in residuals) / m
    variances = np.sort(np.linalg.eigvalsh(centred @ centred.T / m))[::-1]
    found = {
        "nrc1": outside(components(h)),
        "nrc1_centred": outside(components(centred)),
        "nrc2": outside(w.T @ np.linalg.inv(w @ w.T) @ w),
        "evr": float(variances[:n].sum() / variances.sum()),
        "mse": sum(float(r @ r) for r in residuals) / m,
        "residual_variance": float(np.trace(scatter)) / n,
        "feature_norm_rms": math.sqrt(np.sum(h**2) / m),
        "weight_norm_frobenius": math.sqrt(np.sum(w**2)),
        "zero_features": 0.0,
    }
    for k in range(min(n + 1, d)):
        found[f"evr_{k + 1}"] = float(variances[k] / variances.sum())
    for j in range(n):
        found[f"mse_{j}"] = sum(float(r[j]) ** 2 for r in residuals) / m
        found[f"r2_{j}"] = 1 - found[f"mse_{j}"] / float(sigma[j, j])
    found["r2"] = sum(found[f"r2_{j}"] for j in range(n)) / n
    if n > 1:
        values, vectors = np.linalg.eigh(sigma)
        root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
        found["nrc3"] = float(np.sum((nrm(w @ w.T) - nrm(root - math.sqrt(gamma) * np.eye(n))) ** 2))
        found["nrc3_gamma"] = gamma
        level = found["residual_variance"]
        found["residual_anisotropy"] = math.sqrt(np.sum((scatter - level * np.eye(n)) ** 2) / (n * level**2))
    return found


@pytest.mark.parametrize(("samples", "dim", "n"), [(40, 6, 3), (5, 9, 2), (30, 4, 1), (50, 3, 3), (7, 2, 2)])
def test_every_key_agrees_with_the_literal_reference(samples: int, dim: int, n: int) -> None:
    features, targets, weight, bias = problem(samples, dim, n, seed=samples)
    gamma = 0.3 * torch.linalg.eigvalsh(target_covariance(targets))[0].item() if n > 1 else None
    measured = regression_collapse(features, targets, weight, bias, gamma=gamma)
    expected = literal(features.numpy().T, targets.numpy().T, weight.numpy(), bias.numpy(), gamma or 0.0)
    assert tuple(measured) == measure_keys(n, dim)
    assert set(measured) == set(expected)
    for key, value in expected.items():
        assert measured[key] == pytest.approx(value, rel=1e-10, abs=1e-12), key


def test_other_libraries_agree() -> None:
    features, targets, weight, bias = problem()
    measured = regression_collapse(features, targets, weight, bias)
    predictions = features @ weight.T + bias
    assert measured["r2"] == pytest.approx(r2_score(targets.numpy(), predictions.numpy()), rel=1e-12)
    assert measured["mse"] / 3 == pytest.approx(torch.nn.functional.mse_loss(predictions, targets).item(), rel=1e-12)
    ratios = PCA().fit(features.numpy()).explained_variance_ratio_
    assert explained_variance_ratio(features, 10) == pytest.approx(ratios.tolist(), rel=1e-10)


def test_parts_are_those_of_the_whole() -> None:
    features, targets, weight, bias = problem()
    measured = regression_collapse(features, targets, weight, bias)
    covariance = target_covariance(targets)
    assert measured["nrc1"] == nrc1(features, 3)
    assert measured["nrc1_centred"] == nrc1(features, 3, centred=True)
    assert measured["nrc2"] == nrc2(features, weight)
    assert measured["nrc3_gamma"] == fit_gamma(weight, covariance)
    assert measured["nrc3"] == nrc3(weight, covariance, measured["nrc3_gamma"])
    residuals = targets - features @ weight.T - bias
    q = measured["residual_variance"] / 0.7
    identity = math.hypot(q * measured["residual_anisotropy"], q - 1)
    assert residual_deviation(target_covariance(residuals), 0.7) == pytest.approx(identity, rel=1e-12)


def test_nrc1_as_is_and_centred_differ_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.0, 2.0]])
    assert nrc1(features, 1) == pytest.approx(1 / 5)  # the top component as is: the mean's direction
    assert nrc1(features, 1, centred=True) == pytest.approx(4 / 5)
    assert nrc1(features, 2) == pytest.approx(0, abs=1e-30)
    # Centred, H has one direction; a second one would be arbitrary and is not used.
    assert nrc1(features, 2, centred=True) == pytest.approx(4 / 5)


def test_nrc2_by_hand() -> None:
    features = torch.tensor([[3.0, 3.0, 0.0], [0.0, 0.0, 7.0], [5.0, 0.0, 0.0], [-4.0, 0.0, 4.0]])
    assert nrc2(features, torch.tensor([[2.0, 0.0, 0.0]])) == pytest.approx((1 / 2 + 1 + 0 + 1 / 2) / 4)
    # A second row in the same direction adds nothing to the row space.
    assert nrc2(features, torch.tensor([[2.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])) == pytest.approx(1 / 2)


def test_nrc3_by_hand() -> None:
    covariance = torch.diag(torch.tensor([9.0, 4.0]))
    weight = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    # nrm(W W') = diag(1, 0), Sigma^{1/2} - I = diag(2, 1): (1 - 2/sqrt 5)^2 + 1/5 = 2 - 4/sqrt 5.
    assert nrc3(weight, covariance, 1.0) == pytest.approx(2 - 4 / math.sqrt(5))
    # Beyond lambda_min the positive part is diag(1/2, 0), the paper's formula would have diag(1/2, -1/2).
    assert nrc3(weight, covariance, 6.25) == pytest.approx(0, abs=1e-30)
    assert nrc3(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), covariance, 6.25) == pytest.approx(2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 4), extra=st.integers(0, 4), scale=st.floats(1e-3, 1e3))
def test_invariances(seed: int, n: int, extra: int, scale: float) -> None:
    features, targets, weight, bias = problem(30, n + extra, n, seed)
    gamma = 0.5 * torch.linalg.eigvalsh(target_covariance(targets))[0].item()
    before = regression_collapse(features, targets, weight, bias, gamma=gamma)
    turn = random_rotation(n + extra, seed)
    moved = torch.linspace(-3, 3, n, dtype=torch.float64)
    after = regression_collapse(
        scale * features @ turn, targets + moved, weight @ turn / scale, bias + moved, gamma=gamma
    )
    for key, value in before.items():
        factor = {"feature_norm_rms": scale, "weight_norm_frobenius": 1 / scale}.get(key, 1.0)
        assert after[key] == pytest.approx(factor * value, rel=1e-7, abs=1e-10), key
    basis = random_rotation(n, seed + 1)
    turned = regression_collapse(features, targets @ basis, basis.T @ weight, bias @ basis, gamma=gamma)
    for key in ("nrc1", "nrc1_centred", "nrc2", "nrc3", "evr", "mse", "residual_variance", "residual_anisotropy"):
        assert turned[key] == pytest.approx(before[key], rel=1e-7, abs=1e-10), key
    for key in ("nrc1", "nrc1_centred", "nrc2", "evr"):
        assert 0 <= before[key] <= 1
    assert 0 <= before["nrc3"] <= 2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 4))
def test_fit_gamma_finds_the_minimum_of_a_grid_and_of_calculus(seed: int, n: int) -> None:
    _, targets, weight, _ = problem(30, n + 2, n, seed)
    covariance = target_covariance(targets)
    values, vectors = torch.linalg.eigh(covariance)
    gamma = fit_gamma(weight, covariance)
    assert 0 < gamma < values[0].item()
    best = nrc3(weight, covariance, gamma)
    smallest = values[0].sqrt().item()
    assert best <= min(nrc3(weight, covariance, (t * smallest) ** 2) for t in np.linspace(0, 0.999999, 60)) + 1e-6
    # Where the derivative of NRC3 in t = sqrt(gamma) vanishes, if that is inside the interval.
    root = vectors @ values.sqrt().diag() @ vectors.T
    gram = weight @ weight.T
    a, b = (gram * root).sum().item(), gram.trace().item()
    s1, s2 = root.trace().item(), covariance.trace().item()
    stationary = (b * s2 - a * s1) / (b * s1 - n * a)
    if 0.01 * smallest < stationary < 0.99 * smallest:
        assert math.sqrt(gamma) == pytest.approx(stationary, rel=1e-5)


def test_fit_gamma_recovers_the_gamma_that_made_the_weights() -> None:
    _, targets, _, _ = problem(n=3)
    values, vectors = torch.linalg.eigh(target_covariance(targets))
    gamma = 0.4 * values[0].item()
    shape = values.sqrt() - math.sqrt(gamma)
    weight = 0.01 * vectors @ shape.sqrt().diag() @ random_rotation(7, 3)[:3]
    assert fit_gamma(weight, target_covariance(targets)) == pytest.approx(gamma, rel=1e-6)
    assert nrc3(weight, target_covariance(targets), gamma) == pytest.approx(0, abs=1e-24)


def test_one_hot_targets_give_the_self_duality_of_classification() -> None:
    classes = 4
    targets = torch.eye(classes, dtype=torch.float64).repeat(5, 1)
    features, _, weight, bias = problem(20, 6, classes)
    measured = regression_collapse(features, targets, weight, bias)
    frame = torch.eye(classes, dtype=torch.float64) - 1 / classes
    gram = weight @ weight.T
    expected = torch.linalg.matrix_norm(gram / gram.norm() - frame / frame.norm()) ** 2
    assert measured["nrc3"] == pytest.approx(expected.item(), rel=1e-6)
    assert nrc3(frame @ torch.eye(classes, 6, dtype=torch.float64), target_covariance(targets), 0.1) < 1e-24


def test_tiny_collapse_is_measured_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    plane /= plane.norm(dim=1, keepdim=True)
    size = 1e-9
    features = torch.cat([plane, torch.full((50, 1), size, dtype=torch.float64)], dim=1)
    features[::2, 2] *= -1
    weight = torch.eye(2, 3, dtype=torch.float64)
    assert nrc2(features, weight) == pytest.approx(size**2, rel=1e-6)
    assert nrc1(features, 2, centred=True) == pytest.approx(size**2, rel=0.2)
    assert nrc3(1e-170 * weight, torch.eye(2), 0.5) == pytest.approx(0, abs=1e-30)
    assert nrc2(1e-170 * features, weight) == pytest.approx(size**2, rel=1e-6)


def test_a_large_common_offset_does_not_hide_the_variance() -> None:
    features, targets, weight, bias = problem(offset=0)
    offset = torch.full((6,), 1e6, dtype=torch.float64)
    before = regression_collapse(features, targets, weight, bias)
    after = regression_collapse(features + offset, targets, weight, bias - weight @ offset)
    for key in ("evr", "evr_1", "evr_4", "mse", "residual_anisotropy"):
        assert after[key] == pytest.approx(before[key], rel=1e-6), key


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets, weight, bias = problem(37, 8, 2)
    whole = regression_collapse(features, targets, weight, bias)
    monkeypatch.setattr(nclens.metrics.regression, "_CHUNK_ROWS", 5)
    chunked = regression_collapse(features, targets, weight, bias)
    assert chunked == pytest.approx(whole, rel=1e-11)


def test_float32_and_gradients_are_taken_as_they_are() -> None:
    tensors = [t.float().requires_grad_() for t in problem()]
    copies = [t.detach().clone() for t in tensors]
    assert regression_collapse(*tensors) == regression_collapse(*[t.double() for t in copies])
    assert all(torch.equal(t, copy) for t, copy in zip(tensors, copies, strict=True))


def test_no_bias_is_a_zero_bias() -> None:
    features, targets, weight, bias = problem()
    assert regression_collapse(features, targets, weight, None) == regression_collapse(
        features, targets, weight, torch.zeros_like(bias)
    )


# Edges


def test_one_target_has_no_nrc3() -> None:
    features, targets, weight, bias = problem(n=1)
    measured = regression_collapse(features, targets, weight, bias)
    assert not {"nrc3", "nrc3_gamma", "residual_anisotropy"} & set(measured)
    assert all(math.isfinite(value) for value in measured.values())
    for call in (
        lambda: regression_collapse(features, targets, weight, bias, gamma=0.1),
        lambda: nrc3(weight, target_covariance(targets), 0.1),
        lambda: fit_gamma(weight, target_covariance(targets)),
    ):
        with pytest.raises(ValueError, match="NRC3 is not defined"):
            call()


def test_rank_deficient_features_have_no_variance_past_their_rank() -> None:
    _, targets, weight, bias = problem(n=3)
    features = torch.zeros(40, 6, dtype=torch.float64)
    features[:, 0] = torch.arange(40) + 1.0
    measured = regression_collapse(features, targets, weight, bias)
    assert (measured["nrc1"], measured["nrc1_centred"]) == (0.0, 0.0)
    assert [measured[f"evr_{k}"] for k in (1, 2, 3, 4)] == [1.0, 0.0, 0.0, 0.0]
    assert explained_variance_ratio(features[:2], 5) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_equal_features_have_no_principal_components() -> None:
    _, targets, weight, bias = problem(n=2)
    features = torch.full((40, 6), 0.1, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="evr, evr_1, evr_2, evr_3$"):
        measured = regression_collapse(features, targets, weight, bias)
    assert measured["nrc1"] == pytest.approx(0, abs=1e-30)
    assert measured["nrc1_centred"] == 1.0
    assert math.isnan(measured["evr"])


def test_zero_weights_leave_every_direction_outside() -> None:
    features, targets, _, bias = problem()
    with pytest.warns(RuntimeWarning, match="nrc3, nrc3_gamma$"):
        measured = regression_collapse(features, targets, torch.zeros(3, 6), bias)
    assert measured["nrc2"] == pytest.approx(1, rel=1e-14)
    assert math.isnan(measured["nrc3"])
    assert math.isnan(nrc3(torch.zeros(3, 6), target_covariance(targets), 0.0))
    with pytest.raises(ValueError, match="weight: expected a non-zero entry"):
        fit_gamma(torch.zeros(3, 6), target_covariance(targets))


def test_zero_features_have_no_direction() -> None:
    features, targets, weight, bias = problem()
    features[[3, 7]] = 0
    measured = regression_collapse(features, targets, weight, bias)
    assert measured["zero_features"] == 2
    kept = torch.ones(40, dtype=torch.bool)
    kept[[3, 7]] = False
    assert measured["nrc2"] == pytest.approx(nrc2(features[kept], weight), rel=1e-13)
    with pytest.warns(RuntimeWarning, match="nrc1, nrc1_centred, nrc2, .*evr"):
        measured = regression_collapse(torch.zeros(40, 6), targets, weight, bias)
    assert measured["zero_features"] == 40
    assert {key for key, value in measured.items() if math.isnan(value)} == {
        *("nrc1", "nrc1_centred", "nrc2", "evr", "evr_1", "evr_2", "evr_3", "evr_4")
    }


def test_more_targets_than_dimensions() -> None:
    features, targets, weight, bias = problem(40, 2, 3)
    measured = regression_collapse(features, targets, weight, bias)
    assert measured["nrc1"] < 1e-30
    assert measured["nrc2"] < 1e-30
    assert measured["nrc3"] > 0.01  # W W' has rank 2, Sigma^{1/2} - gamma^{1/2} I has rank 3
    assert "evr_3" not in measured


def test_perfect_fit_has_no_anisotropy() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    with pytest.warns(RuntimeWarning, match="nan: residual_anisotropy$"):
        measured = regression_collapse(features, features, torch.eye(2), torch.zeros(2))
    assert (measured["mse"], measured["r2"], measured["residual_variance"]) == (0.0, 1.0, 0.0)


def test_constant_targets_are_refused_and_dependent_ones_are_not() -> None:
    features, targets, weight, bias = problem()
    constant = targets.clone()
    constant[:, 1] = 0.1
    with pytest.raises(ValueError, match=r"constant ones: 1$"):
        regression_collapse(features, constant, weight, bias)
    with pytest.raises(ValueError, match=r"constant ones: 0, 1, 2$"):
        regression_collapse(features[:1], targets[:1], weight, bias)
    dependent = targets.clone()
    dependent[:, 1] = 2 * dependent[:, 0]
    measured = regression_collapse(features, dependent, weight, bias)
    positive = torch.linalg.eigvalsh(target_covariance(dependent))[1].item()
    assert 0 < measured["nrc3_gamma"] < positive


def test_a_single_sample_has_a_direction() -> None:
    row = torch.tensor([[3.0, 4.0]])
    assert nrc1(row, 1) == pytest.approx(0, abs=1e-30)
    assert nrc1(row, 1, centred=True) == pytest.approx(1)
    assert nrc2(row, torch.tensor([[1.0, 0.0]])) == pytest.approx(16 / 25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.zeros(6)}, r"features: expected a matrix .* got shape \(6,\)"),
        ({"features": torch.zeros(0, 6)}, r"features: expected a matrix .* got shape \(0, 6\)"),
        ({"features": torch.full((40, 6), math.nan)}, "features: expected finite"),
        ({"features": torch.zeros(40, 6, dtype=torch.complex64)}, "features: expected a tensor of real.*complex64"),
        ({"features": [[1.0]]}, "features: expected a tensor or a NumPy array, got list"),
        ({"targets": torch.zeros(39, 3)}, r"targets: expected shape \(M, n\) = \(40, 3\) .*got \(39, 3\)"),
        ({"targets": torch.zeros(40)}, r"targets: expected a matrix .* got shape \(40,\)"),
        ({"targets": torch.zeros(40, 3, dtype=torch.bool)}, "targets: expected a tensor of real.*bool"),
        ({"targets": torch.full((40, 3), math.inf)}, "targets: expected finite"),
        ({"weight": torch.zeros(6, 3)}, r"weight: expected shape \(n, d\) = \(3, 6\).*got \(6, 3\)"),
        ({"weight": torch.full((3, 6), math.nan)}, "weight: expected finite"),
        ({"bias": torch.zeros(2)}, r"bias: expected shape \(n,\) = \(3,\).*got \(2,\)"),
        ({"bias": torch.full((3,), math.inf)}, "bias: expected finite"),
        ({"gamma": -0.1}, "gamma: expected 0 <= gamma < .*got -0.1"),
        ({"gamma": 1e9}, r"gamma: expected 0 <= gamma < .*got 1e\+09"),
        ({"gamma": math.nan}, "gamma: .*got nan"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = dict(zip(("features", "targets", "weight", "bias"), problem(), strict=True))
    with pytest.raises(ValueError, match=message):
        regression_collapse(**{**arguments, **change})


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (torch.eye(3), r"covariance: expected shape \(2, 2\)"),
        (torch.zeros(2, 2), "covariance: expected targets that vary"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "covariance: expected a symmetric"),
        (torch.diag(torch.tensor([1.0, -1.0])), "covariance: expected no negative eigenvalue, got -1"),
    ],
)
def test_bad_covariance(covariance: Tensor, message: str) -> None:
    for call in (lambda: nrc3(torch.eye(2), covariance, 0.1), lambda: fit_gamma(torch.eye(2), covariance)):
        with pytest.raises(ValueError, match=message):
            call()


def test_bad_arguments_of_the_parts() -> None:
    features, _, _, _ = problem()
    with pytest.raises(ValueError, match=r"components: .*got 0"):
        nrc1(features, 0)
    with pytest.raises(ValueError, match=r"components: .*got 0"):
        explained_variance_ratio(features, 0)
    with pytest.raises(ValueError, match="weight: expected 6 columns as the features, got 5"):
        nrc2(features, torch.zeros(2, 5))
    with pytest.raises(ValueError, match="covariance: expected a square"):
        residual_deviation(torch.zeros(2, 3), 1.0)
    for c in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="c: expected a finite number > 0"):
            residual_deviation(torch.eye(2), c)
