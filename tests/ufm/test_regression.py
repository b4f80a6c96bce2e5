"""The regression UFM's closed form against direct minimisation, hand-computed numbers and its own metrics."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nclens.metrics.regression import regression_collapse
from nclens.ufm.regression import UnconstrainedRegression, equivalent_penalties, minimise

Array = np.ndarray

SQUARE = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])  # covariance diag(4, 1)


def box(n: int) -> Array:
    """Targets whose covariance has the eigenvalues 1, 4, 9 ... (the first n), in general position."""
    corners = np.array(list(product(*((-k, k) for k in range(1, n + 1)))), dtype=float)
    return corners @ np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0] + np.arange(n)


def model_of(
    seed: int, n: int, dim: int, ratio: float, balance: float = 1.0, samples: int = 12
) -> UnconstrainedRegression:
    """Random targets, with c = ratio * (largest eigenvalue)."""
    generator = np.random.default_rng(seed)
    targets = generator.standard_normal((samples, n)) @ generator.standard_normal((n, n))
    targets += 3 * generator.standard_normal(n)
    largest = np.linalg.eigvalsh(np.cov(targets.T, bias=True).reshape(n, n))[-1]
    root = math.sqrt(ratio * largest)
    return UnconstrainedRegression(targets, dim, lambda_w=root * balance, lambda_h_mean=root / balance)


def residual_covariance(targets: Array, weight: Array, features: Array, bias: Array) -> Array:
    residuals = targets - features @ weight.T - bias
    residuals = residuals - residuals.mean(axis=0)
    return residuals.T @ residuals / len(targets)


def test_hand_computed_numbers() -> None:
    model = UnconstrainedRegression(SQUARE + np.array([5, 7]), dim=3, lambda_w=0.125, lambda_h_mean=2.0)
    assert (model.samples, model.n, model.rank, model.regime) == (4, 2, 2, "full")
    assert model.c == 0.25
    # A = diag(2, 1) - 1/2 I = diag(3/2, 1/2); sqrt(2 / 0.125) = 4.
    np.testing.assert_allclose(model.gram, np.diag([6.0, 2.0]), atol=1e-14)
    np.testing.assert_allclose(model.residual_covariance, 0.25 * np.eye(2), atol=1e-14)
    np.testing.assert_allclose(model.bias, [5, 7])
    assert model.objective == pytest.approx(2 * 0.25 / 2 + 0.5 * (1.5 + 0.5))
    # Predictions are y (1 - sqrt(c / lambda)): 3/4 and 1/2 of the centred targets.
    np.testing.assert_allclose(model.features @ model.weight.T, SQUARE * [0.75, 0.5], atol=1e-14)


@pytest.mark.parametrize(
    ("c", "regime", "rank", "gram", "residual", "objective"),
    [
        (0.25, "full", 2, [1.5, 0.5], [0.25, 0.25], 0.25 + 0.5 * 2.0),
        (1.0, "partial", 1, [1.0, 0.0], [1.0, 1.0], 0.5 + 1.0 + 0.5),
        (2.25, "partial", 1, [0.5, 0.0], [2.25, 1.0], 1.125 + 1.5 * 0.5 + 0.5),
        (4.0, "zero", 0, [0.0, 0.0], [4.0, 1.0], 2.5),
        (9.0, "zero", 0, [0.0, 0.0], [4.0, 1.0], 2.5),
    ],
)
def test_regimes_of_c(
    c: float, regime: str, rank: int, gram: list[float], residual: list[float], objective: float
) -> None:
    model = UnconstrainedRegression(SQUARE, dim=5, lambda_w=math.sqrt(c), lambda_h_mean=math.sqrt(c))
    assert (model.regime, model.rank) == (regime, rank)
    np.testing.assert_allclose(model.gram, np.diag(gram), atol=1e-12)
    np.testing.assert_allclose(model.residual_covariance, np.diag(residual), atol=1e-12)
    assert model.objective == pytest.approx(objective, rel=1e-12)
    assert model.weight.shape == (2, 5)
    assert model.features.shape == (4, 5)
    assert model.value(model.weight, model.features, model.bias) == pytest.approx(objective, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    dim=st.integers(1, 6),
    exponent=st.floats(-4, 0.5),
    balance=st.floats(1e-2, 1e2),
)
def test_numeric_minimiser_agrees(seed: int, n: int, dim: int, exponent: float, balance: float) -> None:
    model = model_of(seed, n, dim, 10**exponent, balance)
    spectrum = np.append(model.eigenvalues, 0)
    # At c = lambda_j a direction vanishes quartically, and for d < n equal eigenvalues leave a choice.
    assume(np.abs(np.log(model.c / model.eigenvalues)).min() > 0.03)
    assume(dim >= n or spectrum[dim] < 0.99 * spectrum[dim - 1])
    numeric = minimise(model, starts=3, seed=seed)
    assert numeric.objective == pytest.approx(model.objective, rel=1e-10)
    assert min(numeric.objectives) == pytest.approx(model.objective, rel=1e-10)
    assert numeric.gradient_norm < 1e-6
    gram_scale = math.sqrt(model.lambda_h_mean / model.lambda_w * model.eigenvalues[0])
    np.testing.assert_allclose(numeric.gram, model.gram, rtol=0, atol=1e-6 * (np.abs(model.gram).max() or gram_scale))
    scale = np.abs(model.targets).max()
    np.testing.assert_allclose(numeric.bias, model.bias, rtol=0, atol=1e-6 * scale)
    products = (numeric.features @ numeric.weight.T, model.features @ model.weight.T)
    np.testing.assert_allclose(*products, rtol=0, atol=1e-6 * scale)
    found = residual_covariance(model.targets, numeric.weight, numeric.features, numeric.bias)
    np.testing.assert_allclose(found, model.residual_covariance, rtol=0, atol=1e-6 * model.eigenvalues[0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), dim=st.integers(1, 6), exponent=st.floats(-6, 0.5))
def test_the_minimiser_attains_the_objective_and_nothing_near_beats_it(
    seed: int, n: int, dim: int, exponent: float
) -> None:
    model = model_of(seed, n, dim, 10**exponent, balance=3.0)
    weight, features, bias = model.weight, model.features, model.bias
    assert model.value(weight, features, bias) == pytest.approx(model.objective, rel=1e-10)
    np.testing.assert_allclose(weight @ weight.T, model.gram, rtol=0, atol=1e-9 * (np.abs(model.gram).max() or 1))
    found = residual_covariance(model.targets, weight, features, bias)
    np.testing.assert_allclose(found, model.residual_covariance, rtol=0, atol=1e-9 * model.eigenvalues[0])
    # H = sqrt(lambda_w / lambda_h_mean) W' Sigma^{-1/2} (Y - Ybar), in the paper's columns.
    values, vectors = np.linalg.eigh(model.covariance)
    inverse_root = vectors @ np.diag(values**-0.5) @ vectors.T
    columns = math.sqrt(model.lambda_w / model.lambda_h_mean) * weight.T @ inverse_root @ (model.targets - bias).T
    np.testing.assert_allclose(features, columns.T, rtol=0, atol=1e-7 * (np.abs(features).max() or 1))
    # Both penalties are equal, and the value is that of the whole orbit.
    ridges = model.lambda_w * (weight**2).sum(), model.lambda_h_mean * (features**2).sum() / model.samples
    assert ridges[0] == pytest.approx(ridges[1], rel=1e-9, abs=1e-12)
    generator = np.random.default_rng(seed)
    turn = np.linalg.qr(generator.standard_normal((dim, dim)))[0]
    assert model.value(weight @ turn, features @ turn, bias) == pytest.approx(model.objective, rel=1e-10)
    for size in (1e-3, 1e-1, 1.0):
        moved = [part + size * generator.standard_normal(part.shape) for part in (weight, features, bias)]
        assert model.value(*moved) >= model.objective * (1 - 1e-12)


def test_full_regime_is_the_papers_formula() -> None:
    model = UnconstrainedRegression(box(3), 5, lambda_w=0.5, lambda_h_mean=0.125)
    assert model.regime == "full"
    np.testing.assert_allclose(model.eigenvalues, [9, 4, 1], rtol=1e-12)
    values, vectors = np.linalg.eigh(np.cov(model.targets.T, bias=True))
    shape = vectors @ np.diag(np.sqrt(values)) @ vectors.T - math.sqrt(model.c) * np.eye(3)
    np.testing.assert_allclose(model.gram, math.sqrt(model.lambda_h_mean / model.lambda_w) * shape, rtol=1e-9)
    np.testing.assert_allclose(model.residual_covariance, model.c * np.eye(3), atol=1e-12)
    assert model.objective == pytest.approx(3 * model.c / 2 + math.sqrt(model.c) * np.trace(shape), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "dim", "ratio"),
    [(3, 6, 1e-3), (3, 3, 1e-3), (3, 6, 0.5), (2, 5, 1e-2), (1, 4, 0.1), (4, 2, 1e-4), (3, 1, 1e-3)],
)
def test_predictions_are_what_the_metrics_measure(n: int, dim: int, ratio: float) -> None:
    model = model_of(seed=4, n=n, dim=dim, ratio=ratio, balance=0.3)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0]
    arrays = (model.features @ turn, model.targets, model.weight @ turn, model.bias)
    measured = regression_collapse(*map(torch.from_numpy, arrays), gamma=model.c if n > 1 else None)
    predicted = model.predictions()
    assert set(measured) - set(predicted) == {"zero_features"}
    for key, value in predicted.items():
        assert measured[key] == pytest.approx(value, rel=1e-9, abs=1e-9), key
    if n > 1:
        assert (predicted["nrc3"] == 0) == (dim >= n)


def test_predictions_of_total_collapse() -> None:
    model = model_of(seed=4, n=3, dim=6, ratio=2.0)
    arrays = (model.features, model.targets, model.weight, model.bias)
    with pytest.warns(RuntimeWarning, match="nrc1"):
        measured = regression_collapse(*map(torch.from_numpy, arrays), gamma=model.c)
    assert measured.pop("zero_features") == model.samples
    assert model.predictions() == pytest.approx(measured, nan_ok=True, rel=1e-9, abs=1e-12)
    assert math.isnan(measured["nrc1"])


def test_fewer_dimensions_than_targets_keep_the_largest_eigenvalues() -> None:
    model = UnconstrainedRegression(SQUARE, dim=1, lambda_w=0.5, lambda_h_mean=0.5)
    assert (model.regime, model.rank) == ("full", 1)
    np.testing.assert_allclose(model.gram, np.diag([1.5, 0]), atol=1e-14)
    np.testing.assert_allclose(model.residual_covariance, np.diag([0.25, 1]), atol=1e-14)
    # diag(1, 0) against diag(3, 1)/sqrt 10.
    assert model.predictions()["nrc3"] == pytest.approx(2 - 6 / math.sqrt(10))
    assert minimise(model).objective == pytest.approx(model.objective, rel=1e-12)


# The squared error's normalisation


def half_sum(prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (prediction - targets).square().sum() / (2 * len(targets))


def half_mean(prediction: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return 0.5 * (prediction - targets).square().mean()


FITS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "sum": half_sum,
    "half_mean": half_mean,
    "mse_loss": torch.nn.functional.mse_loss,
}


def train(fit: str, targets: Array, dim: int, lambda_w: float, lambda_h_mean: float) -> tuple[float, Array, Array]:
    """Objective, W W' and residual covariance after minimising fit + penalties as one would write it in torch."""
    y = torch.from_numpy(targets)
    generator = torch.Generator().manual_seed(0)
    weight, features, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((y.shape[1], dim), (len(y), dim), (y.shape[1],))
    )
    optimiser = torch.optim.LBFGS(
        [weight, features, bias], max_iter=5000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = FITS[fit](features @ weight.T + bias, y)
        loss = loss + lambda_h_mean / (2 * len(y)) * features.square().sum() + lambda_w / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    w, h, b = (part.detach().numpy() for part in (weight, features, bias))
    return closure().item(), w @ w.T, residual_covariance(targets, w, h, b)


@pytest.mark.parametrize(("n", "factor"), [(2, 1.0), (3, 2.25)])
def test_mse_loss_has_another_c_except_for_two_targets(n: int, factor: float) -> None:
    lambdas = (0.25, 0.5)
    naive = UnconstrainedRegression(box(n), n + 1, *lambdas)
    assert naive.regime == "full"
    objective, gram, residual = train("mse_loss", naive.targets, n + 1, *lambdas)
    assert np.trace(residual) / n == pytest.approx(factor * naive.c, rel=1e-5)  # n^2 c / 4
    model = UnconstrainedRegression(naive.targets, n + 1, *equivalent_penalties(*lambdas, targets=n, fit="mse_loss"))
    assert model.c == pytest.approx(factor * naive.c, rel=1e-12)
    np.testing.assert_allclose(gram, model.gram, atol=1e-5 * model.gram.max())
    assert objective == pytest.approx(model.objective / (n / 2), rel=1e-9)
    apart = np.abs(gram - naive.gram).max() / naive.gram.max()
    assert apart < 1e-5 if n == 2 else apart > 0.01


@pytest.mark.parametrize(("fit", "factor"), [("sum", 1.0), ("half_mean", 9.0), ("mse_loss", 2.25)])
def test_equivalent_penalties_for_three_targets(fit: str, factor: float) -> None:
    lambdas = (0.25, 0.125)
    equivalent = equivalent_penalties(*lambdas, targets=3, fit=fit)  # type: ignore[arg-type]
    model = UnconstrainedRegression(box(3), 4, *equivalent)
    assert model.c == pytest.approx(factor * lambdas[0] * lambdas[1], rel=1e-12)
    assert model.regime == "full"
    objective, gram, residual = train(fit, model.targets, 4, *lambdas)
    assert objective * math.sqrt(factor) == pytest.approx(model.objective, rel=1e-9)
    np.testing.assert_allclose(gram, model.gram, atol=1e-5 * model.gram.max())
    np.testing.assert_allclose(residual, model.c * np.eye(3), atol=1e-5 * model.c)


# Edges


def test_constant_targets_are_predicted_by_the_bias_alone() -> None:
    model = UnconstrainedRegression(np.full((5, 2), 0.1), 3, 1.0, 1.0)
    assert (model.regime, model.rank, model.objective) == ("zero", 0, pytest.approx(0, abs=1e-30))
    assert minimise(model).objective == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="must not be constant"):
        UnconstrainedRegression(np.array([[1.0, 0.0], [2.0, 0.0]]), 3, 0.1, 0.1).predictions()
    # The mean of seven times 0.1 is not 0.1.
    with pytest.raises(ValueError, match="must not be constant"):
        UnconstrainedRegression(np.column_stack([np.full(7, 0.1), np.arange(7.0)]), 2, 0.1, 0.1).predictions()


def test_dependent_targets_leave_their_direction_out() -> None:
    targets = np.eye(4).repeat(3, axis=0)  # one-hot: eigenvalues 1/4 three times, and 0
    model = UnconstrainedRegression(targets, 6, 0.1, 0.1)
    assert (model.rank, model.regime) == (3, "partial")
    frame = np.eye(4) - 1 / 4
    np.testing.assert_allclose(model.gram, (0.5 - 0.1) * frame, atol=1e-14)
    assert minimise(model).objective == pytest.approx(model.objective, rel=1e-12)


def test_the_same_seed_gives_the_same_bits() -> None:
    model = model_of(seed=2, n=2, dim=3, ratio=0.01)
    first, second, other = minimise(model, seed=5), minimise(model, seed=5), minimise(model, seed=6)
    assert (first.weight == second.weight).all()
    assert (first.weight != other.weight).any()  # another point of the same orbit


def test_the_targets_are_copied() -> None:
    targets = SQUARE.copy()
    model = UnconstrainedRegression(targets, 2, 0.5, 0.5)
    targets[:] = 0
    assert model.regime == "full"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.zeros(3)}, r"targets must be a matrix \(M, n\), got shape \(3,\)"),
        ({"targets": np.zeros((0, 2))}, r"targets must be a matrix .* got shape \(0, 2\)"),
        ({"targets": np.full((3, 2), np.nan)}, "targets must be finite"),
        ({"targets": [["a"]]}, "targets must be a matrix .* of real numbers"),
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"dim": 2.0}, "dim must be an integer >= 1, got 2.0"),
        ({"lambda_w": 0.0}, "lambda_w must be a finite number > 0, got 0.0"),
        ({"lambda_h_mean": -1.0}, "lambda_h_mean must be a finite number > 0, got -1.0"),
        ({"lambda_h_mean": math.inf}, "lambda_h_mean must be a finite number > 0, got inf"),
        ({"lambda_w": "3"}, "lambda_w must be a finite number > 0, got '3'"),
        ({"lambda_w": 1e-200, "lambda_h_mean": 1e-200}, r"the product of .* is 0; it must lie in \[1e-150, 1e\+150\]"),
        ({"lambda_w": 1e-200, "lambda_h_mean": 1e150}, "the quotient of .* is inf; it must lie in"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnconstrainedRegression(**{"targets": SQUARE, "dim": 2, "lambda_w": 0.1, "lambda_h_mean": 0.1, **change})


def test_bad_arguments_of_the_functions() -> None:
    with pytest.raises(ValueError, match="starts must be an integer >= 1, got 0"):
        minimise(UnconstrainedRegression(SQUARE, 2, 0.1, 0.1), starts=0)
    with pytest.raises(ValueError, match="fit must be one of sum, half_mean, mse_loss, got 'mean'"):
        equivalent_penalties(0.1, 0.1, targets=2, fit="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lambda_w must be"):
        equivalent_penalties(0.0, 0.1, targets=2, fit="sum")
    with pytest.raises(ValueError, match="targets must be an integer"):
        equivalent_penalties(0.1, 0.1, targets=0, fit="sum")
