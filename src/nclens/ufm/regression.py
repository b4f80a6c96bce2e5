r"""The unconstrained feature model (UFM) of multivariate regression: closed form and numeric minimiser.

The model treats the features themselves as free parameters. Samples are **rows** here (arXiv 2409.04180, "the paper",
NeurIPS 2024, writes columns): targets Y (M, n), features H (M, d), head W (n, d), bias b (n,). It minimises

.. math:: \mathcal L = \frac{1}{2M}|H W' + 1 b' - Y|_F^2 + \frac{\lambda_H}{2M}|H|_F^2 + \frac{\lambda_W}{2}|W|_F^2 .

The squared error is **summed over the n targets and averaged over the M samples**, and :math:`|H|_F^2` is divided by M
too: the penalty is therefore called ``lambda_h_mean``; it is not ``lambda_h_sum`` of classification. The bias has no
penalty. The solution depends on :math:`c = \lambda_H\lambda_W` relative to the eigenvalues of Sigma, the targets'
covariance. An objective that averages over the targets has another c: `equivalent_penalties`.

`UnconstrainedRegression` is the closed form, `minimise` an independent numeric check. Given P = H W', the penalties are
at least sqrt(c/M) times the nuclear norm of P, so the solution shrinks the singular values of Y - 1 ybar'. This gives
the closed form for every d. Results beyond the paper are marked *ours*.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from nclens.ufm.checks import check_integer, check_positive
from nclens.ufm.classification import Array

WHERE = "unconstrained regression"
# Smallest product and quotient of the penalties whose squares, and those of their inverses, are finite in float64.
SMALLEST = 1e-150
Fit = Literal["sum", "half_mean", "mse_loss"]
Regime = Literal["full", "partial", "zero"]


def equivalent_penalties(lambda_w: float, lambda_h_mean: float, *, targets: int, fit: Fit) -> tuple[float, float]:
    r"""Return penalties with which the model above has the same minimisers as an objective with another fit (*ours*).

    The given objective is ``fit`` + :math:`\frac{\lambda_H}{2M}|H|_F^2 + \frac{\lambda_W}{2}|W|_F^2`, with R the (M, n)
    residuals:

    ============== ======================================= ============= ===================================
    ``fit``        squared error                           both lambdas  :math:`c`
    ============== ======================================= ============= ===================================
    ``sum``        :math:`|R|_F^2 / (2M)`                  times 1       :math:`\lambda_W\lambda_H`
    ``half_mean``  :math:`|R|_F^2 / (2Mn)`                 times n       :math:`n^2\lambda_W\lambda_H`
    ``mse_loss``   :math:`|R|_F^2 / (Mn)`, `F.mse_loss`    times n / 2   :math:`n^2\lambda_W\lambda_H / 4`
    ============== ======================================= ============= ===================================

    For n = 2 ``mse_loss`` agrees with ``sum``, which can hide a mistake: test with n = 3. The model's objective is the
    given one times the same factor.

    Args:
        lambda_w: weight of :math:`|W|_F^2 / 2` in the given objective, > 0.
        lambda_h_mean: weight of :math:`|H|_F^2 / (2M)` in the given objective, > 0.
        targets: n >= 1.
        fit: its squared error.

    Returns:
        ``(lambda_w, lambda_h_mean)`` for `UnconstrainedRegression`.

    Raises:
        ValueError: an argument outside its range.

    >>> equivalent_penalties(0.25, 0.5, targets=3, fit="mse_loss")
    (0.375, 0.75)
    """
    check_positive(WHERE, "lambda_w", lambda_w)
    check_positive(WHERE, "lambda_h_mean", lambda_h_mean)
    check_integer(WHERE, "targets", targets)
    factors = {"sum": 1.0, "half_mean": float(targets), "mse_loss": targets / 2}
    if fit not in factors:
        raise ValueError(f"unconstrained regression: fit must be one of {', '.join(factors)}, got {fit!r}")
    return lambda_w * factors[fit], lambda_h_mean * factors[fit]


@dataclass(frozen=True, eq=False)
class UnconstrainedRegression:
    r"""A problem and its global minimisers in closed form.

    With :math:`\lambda_1 \ge \dots \ge \lambda_n` and :math:`u_j` the eigenvalues and eigenvectors of Sigma and
    :math:`p_j = \max(\sqrt{\lambda_j} - \sqrt c, 0)`, the standard deviation along :math:`u_j` is
    :math:`\sqrt{\lambda_j}` for the targets and :math:`p_j` for the fitted targets. Regimes:

    * ``"full"``: c < lambda_n. With :math:`A = \Sigma^{1/2} - \sqrt c I`: W W' = sqrt(lambda_h_mean/lambda_w) A, the
      residual covariance is c I, and the objective is n c/2 + sqrt(c) tr A.
    * ``"partial"``: lambda_n <= c < lambda_1. Only the eigenvectors with lambda_j > c are fitted.
    * ``"zero"``: c >= lambda_1. W = H = 0, b = ybar.

    The paper's j* counts the eigenvalues >= c. An eigenvalue equal to c has p_j = 0, so ``rank`` does not count it; the
    minimiser is the same.

    Minimisers form an orbit under the orthogonal group: (W Q, H Q) has the same value for every orthogonal Q (d, d).
    One representative is returned; W W', H W' and the objective are the same for all. The bias is ybar.

    For d < n (*ours*) at most d directions are fitted: those of the largest eigenvalues, by von Neumann's trace
    inequality. Then ``rank`` is at most d, the other directions remain in the residuals, and W W' has rank d: the
    collapse is not the paper's, and ``nrc3`` is not zero if more than d eigenvalues exceed c. If
    lambda_d = lambda_{d+1} > c the choice among equal directions is arbitrary.

    lambda_w and lambda_h_mean must be positive. If one of them is 0 the infimum is not attained (one factor goes to
    infinity, the other to zero); if both are 0 every H that allows a perfect fit is a minimiser: without
    regularisation there is no collapse.

    Args:
        targets: Y (M, n), finite, M >= 1, n >= 1; copied to float64.
        dim: d >= 1, length of a feature.
        lambda_w: weight of |W|_F^2 / 2, > 0.
        lambda_h_mean: weight of |H|_F^2 / (2M), > 0.

    Raises:
        ValueError: an argument outside its range.

    >>> targets = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])  # eigenvalues 4 and 1
    >>> model = UnconstrainedRegression(targets, dim=3, lambda_w=0.5, lambda_h_mean=0.5)
    >>> model.c, model.regime, model.objective
    (0.25, 'full', 1.25)
    >>> model.gram
    array([[1.5, 0. ],
           [0. , 0.5]])
    """

    targets: Array
    dim: int
    lambda_w: float
    lambda_h_mean: float

    def __post_init__(self) -> None:
        try:
            targets = np.array(self.targets, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError("unconstrained regression: targets must be a matrix (M, n) of real numbers") from error
        if targets.ndim != 2 or 0 in targets.shape:
            raise ValueError(f"unconstrained regression: targets must be a matrix (M, n), got shape {targets.shape}")
        if not np.isfinite(targets).all():
            raise ValueError("unconstrained regression: targets must be finite, got nan or inf")
        object.__setattr__(self, "targets", targets)
        check_integer(WHERE, "dim", self.dim)
        check_positive(WHERE, "lambda_w", self.lambda_w)
        check_positive(WHERE, "lambda_h_mean", self.lambda_h_mean)
        # Both must be finite in float64: the product is c, the quotient balances W and H.
        for what, value in (("product", self.c), ("quotient", self.lambda_h_mean / self.lambda_w)):
            if not SMALLEST <= value <= 1 / SMALLEST:
                raise ValueError(
                    f"unconstrained regression: the {what} of lambda_w {self.lambda_w!r} and lambda_h_mean "
                    f"{self.lambda_h_mean!r} is {value:g}; it must lie in [{SMALLEST:g}, {1 / SMALLEST:g}]"
                )

    @property
    def samples(self) -> int:
        """M."""
        return len(self.targets)

    @property
    def n(self) -> int:
        """Number of targets."""
        return self.targets.shape[1]

    @property
    def c(self) -> float:
        """lambda_w lambda_h_mean, in squared target units."""
        return self.lambda_w * self.lambda_h_mean

    @cached_property
    def covariance(self) -> Array:
        """Sigma (n, n), the targets' covariance (divisor M)."""
        centred = self.targets - self.bias
        return centred.T @ centred / self.samples

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues (n,) of Sigma, in descending order."""
        return self._eigen[0]

    @property
    def regime(self) -> Regime:
        """``"full"``, ``"partial"`` or ``"zero"``, by c relative to the eigenvalues, whatever d is."""
        if self.c >= self.eigenvalues[0]:
            return "zero"
        return "full" if self.c < self.eigenvalues[-1] else "partial"

    @property
    def rank(self) -> int:
        """Rank of W and of H at the minimiser: the number of eigenvalues above c, at most d."""
        return min(int((self.eigenvalues > self.c).sum()), self.dim)

    @property
    def objective(self) -> float:
        """Value at the minimiser: the sum of c/2 + sqrt(c) p_j over fitted eigenvalues and lambda_j/2 over others."""
        fitted = self.rank * self.c / 2 + math.sqrt(self.c) * float(self._fitted.sum())
        return fitted + float(self.eigenvalues[self.rank :].sum()) / 2

    @property
    def gram(self) -> Array:
        """W W' (n, n) at every minimiser: sqrt(lambda_h_mean/lambda_w) sum_j p_j u_j u_j'."""
        axes = self._axes
        return (axes * self._fitted) @ axes.T * self._balance**2

    @property
    def residual_covariance(self) -> Array:
        """Covariance (n, n) of Y - H W' - 1 b': c along fitted eigenvectors, lambda_j along the others."""
        values = self.eigenvalues.copy()
        values[: self.rank] = self.c
        return (self._eigen[1] * values) @ self._eigen[1].T

    @property
    def weight(self) -> Array:
        """Head W (n, d) of one minimiser."""
        return self._balance * (self._axes * np.sqrt(self._fitted)) @ np.eye(self.rank, self.dim)

    @property
    def features(self) -> Array:
        """Features H (M, d) of the same minimiser: sqrt(lambda_w/lambda_h_mean) (Y - 1 ybar') Sigma^{-1/2} W."""
        scores = (self.targets - self.bias) @ self._axes / np.sqrt(self.eigenvalues[: self.rank])
        return scores * np.sqrt(self._fitted) @ np.eye(self.rank, self.dim) / self._balance

    @property
    def bias(self) -> Array:
        """Bias b (n,): the mean of the targets."""
        return self.targets.mean(axis=0)

    def value(self, weight: Array, features: Array, bias: Array) -> float:
        """Return the objective at W (n, d), H (M, d), b (n,)."""
        residuals = features @ weight.T + bias - self.targets
        fit = (residuals**2).sum() + self.lambda_h_mean * (features**2).sum()
        return float(fit / self.samples + self.lambda_w * (weight**2).sum()) / 2

    def predictions(self) -> dict[str, float]:
        """Return the values of `nclens.metrics.regression.regression_collapse` at the minimiser with gamma = c.

        The keys are the same, without ``zero_features``. ``nrc1``, ``nrc1_centred`` and ``nrc2`` are 0, and so is
        ``nrc3`` unless d < n (see the class). If W = H = 0, these and the ``evr`` are nan.

        Raises:
            ValueError: a constant target, whose R2 is not defined.
        """
        variances, residual = self.covariance.diagonal(), self.residual_covariance
        # Rounding of the mean may give a constant target a small positive variance.
        if not (variances > (64 * np.finfo(np.float64).eps * np.abs(self.targets).max(axis=0)) ** 2).all():
            raise ValueError("unconstrained regression: targets must not be constant for R2 to be defined")
        nothing = math.nan if self.rank == 0 else 0.0
        total = float(self._fitted.sum())
        share = np.zeros(min(self.n + 1, self.dim))
        share[: self.rank] = self._fitted
        errors = residual.diagonal()
        found = {"nrc1": nothing, "nrc1_centred": nothing, "nrc2": nothing, "evr": 1.0 + nothing}
        found |= {f"evr_{k}": float(p) / total if total else math.nan for k, p in enumerate(share, start=1)}
        found |= {"mse": float(errors.sum()), "r2": float((1 - errors / variances).mean())}
        found |= {f"mse_{j}": float(error) for j, error in enumerate(errors)}
        found |= {f"r2_{j}": float(score) for j, score in enumerate(1 - errors / variances)}
        found |= {"residual_variance": float(errors.sum()) / self.n}
        found |= {"feature_norm_rms": math.sqrt(total) / self._balance}
        found |= {"weight_norm_frobenius": math.sqrt(total) * self._balance}
        if self.n > 1:
            isotropic = found["residual_variance"] * np.eye(self.n)
            found["residual_anisotropy"] = float(np.linalg.norm(residual - isotropic) / np.linalg.norm(isotropic))
            found |= {"nrc3": self._predicted_nrc3(), "nrc3_gamma": self.c}
        return found

    def _predicted_nrc3(self) -> float:
        wanted = np.maximum(np.sqrt(self.eigenvalues) - math.sqrt(self.c), 0)
        if self.rank == 0:
            return math.nan
        got = np.where(np.arange(self.n) < self.rank, wanted, 0)
        return float(((got / np.linalg.norm(got) - wanted / np.linalg.norm(wanted)) ** 2).sum())

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(self.covariance)
        return np.maximum(values[::-1], 0), vectors[:, ::-1]

    @property
    def _axes(self) -> Array:
        return self._eigen[1][:, : self.rank]

    @property
    def _fitted(self) -> Array:
        """p_j of the fitted eigenvectors."""
        return np.sqrt(self.eigenvalues[: self.rank]) - math.sqrt(self.c)

    @property
    def _balance(self) -> float:
        return (self.lambda_h_mean / self.lambda_w) ** 0.25


@dataclass(frozen=True, eq=False)
class NumericRegressionMinimum:
    """The best point found by `minimise`.

    Attributes:
        weight: W (n, d).
        features: H (M, d).
        bias: b (n,).
        objective: value at this point.
        gradient_norm: Euclidean norm of the gradient at this point, in scaled coordinates (order 1).
        objectives: final value of each start.
    """

    weight: Array
    features: Array
    bias: Array
    objective: float
    gradient_norm: float
    objectives: tuple[float, ...]

    @property
    def gram(self) -> Array:
        """W W' (n, n)."""
        return self.weight @ self.weight.T


def minimise(problem: UnconstrainedRegression, *, starts: int = 3, seed: int = 0) -> NumericRegressionMinimum:
    """Minimise numerically over W, b and all of H, by L-BFGS in float64 from several random starts.

    The closed form is not used: neither the collapse, nor b = ybar, nor the balance of |W| and |H|. The variables are
    rescaled so that both penalties have the same weight, which does not change the minimisers. Convergence is slow if
    an eigenvalue of Sigma almost equals c: the objective is then quartic in the direction that vanishes.

    Memory: about 30 (M + n) d numbers. The result depends on d only through min(d, n): for large networks a dim of n or
    a little more gives the same objective, W W' and residuals.

    Args:
        problem: the problem.
        starts: number of random starts, >= 1.
        seed: seed of the starts.

    Raises:
        ValueError: starts below 1, or a seed below 0.
    """
    check_integer(WHERE, "starts", starts)
    check_integer(WHERE, "seed", seed, 0)
    search = _Search(problem)
    generator = np.random.default_rng(seed)
    results = [
        minimize(
            search,
            search.random_start(generator),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-13},
        )
        for _ in range(starts)
    ]
    best = min(results, key=lambda result: float(result.fun))
    weight, features, bias = search.unpack(best.x)
    return NumericRegressionMinimum(
        weight=weight,
        features=features,
        bias=bias,
        objective=problem.value(weight, features, bias),
        gradient_norm=float(np.linalg.norm(search(best.x)[1])),
        objectives=tuple(float(result.fun) * search.scale for result in results),
    )


class _Search:
    """The objective divided by lambda_1, and its gradient, in coordinates V, G, a of order 1.

    With W = t V, H = sqrt(M) G lambda_1^{1/2} / t, b = ybar + lambda_1^{1/2} a and t^4 = lambda_1 lambda_h_mean /
    lambda_w it is |G V' + 1 a'/sqrt(M) - Z|^2/2 + sqrt(c/lambda_1) (|V|^2 + |G|^2)/2, where Z are the centred targets
    over sqrt(M lambda_1).
    """

    def __init__(self, problem: UnconstrainedRegression) -> None:
        samples, n, dim = problem.samples, problem.n, problem.dim
        self.scale = float(problem.eigenvalues[0]) or problem.c
        self.ridge = math.sqrt(problem.c / self.scale)
        self.root = math.sqrt(samples)
        self.offset = problem.bias
        self.aim = (problem.targets - self.offset) / (self.root * math.sqrt(self.scale))
        self.head_unit = (self.scale * problem.lambda_h_mean / problem.lambda_w) ** 0.25
        self.shapes = ((n, dim), (samples, dim), (n,))
        self.cuts = (n * dim, (n + samples) * dim)

    def random_start(self, generator: np.random.Generator) -> Array:
        n, dim = self.shapes[0]
        weight = generator.standard_normal(n * dim) / math.sqrt(n * dim)
        features = generator.standard_normal(self.shapes[1][0] * dim) / (self.root * math.sqrt(dim))
        return np.concatenate([weight, features, generator.standard_normal(n)])

    def _split(self, point: Array) -> tuple[Array, Array, Array]:
        weight, features, bias = np.split(point, self.cuts)
        return weight.reshape(self.shapes[0]), features.reshape(self.shapes[1]), bias

    def unpack(self, point: Array) -> tuple[Array, Array, Array]:
        """Return W, H and b of scaled coordinates."""
        weight, features, bias = self._split(point)
        size = math.sqrt(self.scale)
        return self.head_unit * weight, self.root * size / self.head_unit * features, self.offset + size * bias

    def __call__(self, point: Array) -> tuple[float, Array]:
        weight, features, bias = self._split(point)
        residuals = features @ weight.T + bias / self.root - self.aim
        value = (residuals**2).sum() + self.ridge * ((weight**2).sum() + (features**2).sum())
        gradient = [
            (residuals.T @ features + self.ridge * weight).ravel(),
            (residuals @ weight + self.ridge * features).ravel(),
            residuals.sum(axis=0) / self.root,
        ]
        return float(value) / 2, np.concatenate(gradient)
