r"""An independent numeric minimiser of the unconstrained feature model, to verify the closed forms.

L-BFGS in float64 from several random starts, over W, b and all N = nK columns of H: neither collapse nor symmetry nor
any closed form is assumed. Needs scipy (the ``metrics`` extra).

For small lambdas the penalties vary less along the valley than the objective's rounding error. Therefore every start
first minimises problems with larger lambdas (with a perturbation in between, since a minimiser of one problem may be a
saddle of the next), and Newton steps on the gradient refine the best result.

Large problems. Given (W, b), the objective is a sum of strictly convex problems, one per sample, and identical for
samples of the same class: at every minimiser :math:`h_{ki} = h_k`. On such points
:math:`\mathcal L = \frac1K\sum_k CE_\delta(W h_k + b, k) + \frac{\lambda_W}2|W|^2 + \frac{n\lambda_H}2\sum_k|h_k|^2 +
\frac{\lambda_b}2|b|^2`, which depends on n and :math:`\lambda_H` only through :math:`n\lambda_H`. If N d is too large,
n is therefore reduced with :math:`n\lambda_H` held fixed, and the result records the n that was used. W, b, the h_k,
the probabilities and the objective are unchanged; |H|_F is not (it is a sum over samples).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, minres

from nclens.ufm.checks import check_integer
from nclens.ufm.classification import Array, UnconstrainedFeatureModel

LARGEST_FEATURES = 20_000
# Below this s rounding obscures the balance of |W| and |H|: with smoothing, the norms are accurate to five digits only.
SMALLEST_S = 1e-7
# Size of the perturbation between two problems of the continuation, relative to the largest coordinate.
PERTURBATION = 1e-3


def smoothed_targets(problem: UnconstrainedFeatureModel) -> Array:
    """Targets (N, K): (1 - delta) onehot + delta / K, sorted by class."""
    one_hot = np.repeat(np.eye(problem.classes), problem.per_class, axis=0)
    return (1 - problem.smoothing) * one_hot + problem.smoothing / problem.classes


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, any shape."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Mean cross entropy of logits (N, K) with soft targets (N, K), in nats, and its gradient in the logits.

    A logit of -inf where the target is 0 counts nothing: 0 log 0 = 0.
    """
    top = logits.max(axis=1, keepdims=True)
    powers = np.exp(logits - top)
    totals = powers.sum(axis=1, keepdims=True)
    aligned = (targets * np.where(targets == 0, 0.0, logits)).sum(axis=1, keepdims=True)
    value = float(np.mean(np.log(totals) + top - aligned))
    return value, (powers / totals - targets) / len(logits)


def half_squared_error(logits: Array, targets: Array) -> tuple[float, Array]:
    """``|logits - targets|^2 / (2N)``, summed over classes, and its gradient in the logits."""
    residual = logits - targets
    return float(np.sum(residual**2)) / (2 * len(logits)), residual / len(logits)


@dataclass(frozen=True)
class NumericMinimum:
    """The best point found by `minimise`.

    Attributes:
        problem: the problem as given.
        per_class: n used in the search, smaller than the problem's if N d was too large.
        weight: W (K, d).
        features: H' (N, d) with N = K * per_class, sorted by class.
        bias: b (K,).
        objective: value at this point.
        gradient_norm: Euclidean norm of the gradient at this point, in scaled coordinates.
        objectives: final value of each start.
        iterations: L-BFGS iterations of the best start.
    """

    problem: UnconstrainedFeatureModel
    per_class: int
    weight: Array
    features: Array
    bias: Array
    objective: float
    gradient_norm: float
    objectives: tuple[float, ...]
    iterations: int

    @property
    def class_features(self) -> Array:
        """Class means of the features (K, d)."""
        return self.features.reshape(self.problem.classes, self.per_class, -1).mean(axis=1)

    @property
    def within_class_spread(self) -> float:
        """Largest distance of a feature from its class mean, over the mean feature norm (0 if that norm is 0)."""
        deviations = self.features - np.repeat(self.class_features, self.per_class, axis=0)
        size = self.feature_norm
        return float(np.linalg.norm(deviations, axis=1).max()) / size if size > 0 else 0.0

    @property
    def weight_norm(self) -> float:
        """Mean of |w_k|."""
        return float(np.linalg.norm(self.weight, axis=1).mean())

    @property
    def feature_norm(self) -> float:
        """Mean of |h_i|."""
        return float(np.linalg.norm(self.features, axis=1).mean())

    @property
    def logit_gap(self) -> float:
        """Mean over samples of the true logit minus the mean of the wrong logits."""
        logits, own = self._logits, self._own
        wrong = (logits.sum(axis=1) - logits[own]) / (self.problem.classes - 1)
        return float(np.mean(logits[own] - wrong))

    @property
    def p_true(self) -> float:
        """Mean softmax probability of the true class."""
        return float(softmax(self._logits)[self._own].mean())

    @property
    def p_other(self) -> float:
        """Mean softmax probability of a wrong class."""
        wrong = softmax(self._logits)
        wrong[self._own] = 0.0
        return float(wrong.sum()) / (len(wrong) * (self.problem.classes - 1))

    @property
    def _logits(self) -> Array:
        return self.features @ self.weight.T + self.bias

    @property
    def _own(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return np.arange(len(self.features)), np.repeat(np.arange(self.problem.classes), self.per_class)


def reduce_samples(problem: UnconstrainedFeatureModel, largest: int = LARGEST_FEATURES) -> UnconstrainedFeatureModel:
    """Return the problem with the largest n for which N d <= ``largest`` (at least n = 1), N lambda_H held fixed."""
    return problem.with_per_class(max(1, min(problem.per_class, largest // (problem.classes * problem.dim))))


def minimise(
    problem: UnconstrainedFeatureModel,
    *,
    starts: int = 3,
    seed: int = 0,
    iterations: int = 20_000,
    largest: int = LARGEST_FEATURES,
    fit: Callable[[Array, Array], tuple[float, Array]] = cross_entropy,
) -> NumericMinimum:
    """Minimise the objective numerically: L-BFGS, float64, the best of several random starts.

    Args:
        problem: the problem; any d >= 1.
        starts: number of random starts, >= 1.
        seed: seed of the starts.
        iterations: largest number of L-BFGS iterations per start, >= 1.
        largest: largest N d in the search, >= 1; beyond it n is reduced (see the module's docstring).
        fit: mean loss and its gradient in the logits, ``cross_entropy`` or ``half_squared_error``.

    Raises:
        ValueError: starts, iterations or largest < 1, a seed < 0, or s < 1e-7 (too flat a problem for float64).
    """
    for name, value in (("starts", starts), ("iterations", iterations), ("largest", largest)):
        check_integer("numeric minimiser", name, value)
    check_integer("numeric minimiser", "seed", seed, 0)
    if problem.s < SMALLEST_S:
        raise ValueError(
            f"numeric minimiser: s must be >= {SMALLEST_S} for float64 to resolve it, got {problem.s:.3g}; "
            "the closed form has no such limit"
        )
    stages = [_Search(stage, fit) for stage in _continuation(reduce_samples(problem, largest))]
    search = stages[-1]
    generator = np.random.default_rng(seed)
    options = {"maxiter": iterations, "maxfun": 4 * iterations, "maxcor": 30, "ftol": 0.0, "gtol": 1e-13}
    results = []
    for _ in range(starts):
        point = stages[0].random_start(generator)
        for before, stage in zip([stages[0], *stages], stages, strict=False):
            point = stage.pack(*before.unpack(point))
            point = point + PERTURBATION * np.abs(point).max() * generator.standard_normal(len(point))
            result = minimize(stage, point, jac=True, method="L-BFGS-B", options=options)
            point = result.x
        results.append(result)
    best = min(results, key=lambda result: float(result.fun))
    point = _polish(search, best.x)
    objective, gradient = search(point)
    weight, features, bias = search.unpack(point)
    return NumericMinimum(
        problem=problem,
        per_class=search.problem.per_class,
        weight=weight,
        features=features,
        bias=bias,
        objective=objective,
        gradient_norm=float(np.linalg.norm(gradient)),
        objectives=tuple(float(result.fun) for result in results),
        iterations=int(best.nit),
    )


def _continuation(problem: UnconstrainedFeatureModel) -> list[UnconstrainedFeatureModel]:
    """Return the problem, preceded by those with lambda_w and lambda_h_sum 10, 100, ... times larger, largest first.

    The first has s below (1 - smoothing) / 30, far inside the regime where the minimiser is not zero.
    """
    stages = [problem]
    while stages[0].s < (1 - problem.smoothing) / 300 and max(stages[0].lambda_w, stages[0].lambda_h_sum) < 1e300:
        first = stages[0]
        stages.insert(0, replace(first, lambda_w=10 * first.lambda_w, lambda_h_sum=10 * first.lambda_h_sum))
    return stages


def _polish(search: "_Search", point: Array, steps: int = 10) -> Array:
    """Take Newton steps from a point close to a minimiser; return the point with the smallest gradient norm.

    The first steps may increase the norm: they leave the floor of a flat, curved valley, and later steps return to it.
    MINRES tolerates the zero modes of the rotations, to which the gradient is orthogonal.
    """
    best, shortest, ceiling = point, np.inf, search(point)[0] * (1 + 1e-6)
    for _ in range(steps):
        value, gradient = search(point)
        length = float(np.linalg.norm(gradient))
        if not value <= ceiling:
            break
        if length < shortest:
            best, shortest = point, length
        point = point + minres(_hessian(search, point), -gradient, rtol=1e-8, maxiter=300)[0]
    return best


def _hessian(search: "_Search", point: Array) -> LinearOperator:
    """Return the Hessian as an operator, by central differences of the gradient."""
    size = max(float(np.linalg.norm(point)), 1e-3)

    def product(direction: Array) -> Array:
        length = float(np.linalg.norm(direction))
        if length == 0:
            return np.zeros_like(point)
        step = 1e-5 * size / length
        return (search(point + step * direction)[1] - search(point - step * direction)[1]) / (2 * step)

    return LinearOperator((len(point), len(point)), matvec=product, dtype=np.float64)


class _Search:
    """The objective and its gradient in scaled coordinates.

    The coordinates are sqrt(lambda) times the parameter, so that both penalties have curvature 1 and very different
    lambdas do not slow L-BFGS. The scale of the bias includes a curvature of 1/K from the loss, except along the shift
    common to all classes, to which cross entropy is invariant: there only lambda_b counts.
    """

    def __init__(self, problem: UnconstrainedFeatureModel, fit: Callable[[Array, Array], tuple[float, Array]]) -> None:
        self.problem = problem
        self.fit = fit
        self.targets = smoothed_targets(problem)
        self.scales = (problem.lambda_w**0.5, problem.lambda_h_sum**0.5)
        flat = np.zeros_like(self.targets)
        shifted = fit(flat + 1, self.targets)[0] + fit(flat - 1, self.targets)[0] - 2 * fit(flat, self.targets)[0]
        # Curvature of the loss per unit of |b|^2, which is K for a shift by 1; below 1e-12 it is rounding error.
        held = shifted / problem.classes if shifted > 1e-12 else 0.0
        self.bias_scales = (problem.lambda_b + 1 / problem.classes) ** 0.5, (problem.lambda_b + held) ** 0.5
        classes, dim = problem.classes, problem.dim
        self.shapes = ((classes, dim), (problem.samples, dim), (classes,))
        self.cuts = (classes * dim, (classes + problem.samples) * dim)

    def random_start(self, generator: np.random.Generator) -> Array:
        """Return a Gaussian start with balanced W and H; scaled rows have norms of order sqrt(min(s, 1))."""
        size = min(self.problem.s, 1.0) ** 0.5 / self.problem.dim**0.5
        weight = size * generator.standard_normal(self.shapes[0])
        features = size / self.problem.per_class**0.5 * generator.standard_normal(self.shapes[1])
        return np.concatenate([weight.ravel(), features.ravel(), 0.1 * generator.standard_normal(self.shapes[2])])

    def pack(self, weight: Array, features: Array, bias: Array) -> Array:
        """Return the scaled coordinates of W, H' and b."""
        head, means = self.scales[0] * weight.ravel(), self.scales[1] * features.ravel()
        apart, together = self.bias_scales
        return np.concatenate([head, means, apart * (bias - bias.mean()) + together * bias.mean()])

    def unpack(self, point: Array) -> tuple[Array, Array, Array]:
        """Return W, H' and b of scaled coordinates."""
        weight, features, bias = (
            part.reshape(shape) for part, shape in zip(np.split(point, self.cuts), self.shapes, strict=True)
        )
        return weight / self.scales[0], features / self.scales[1], self._from_scaled(bias)

    def _from_scaled(self, bias: Array) -> Array:
        """Map scaled coordinates to the bias; the map is symmetric, so it also maps gradients to scaled coordinates."""
        apart, together = self.bias_scales
        return (bias - bias.mean()) / apart + bias.mean() / together

    def __call__(self, point: Array) -> tuple[float, Array]:
        weight, features, bias = self.unpack(point)
        value, slope = self.fit(features @ weight.T + bias, self.targets)
        scaled_weight, scaled_features, _ = np.split(point, self.cuts)
        value += float(scaled_weight @ scaled_weight + scaled_features @ scaled_features) / 2
        value += self.problem.lambda_b * float(bias @ bias) / 2
        gradient = [
            (slope.T @ features).ravel() / self.scales[0] + scaled_weight,
            (slope @ weight).ravel() / self.scales[1] + scaled_features,
            self._from_scaled(slope.sum(axis=0) + self.problem.lambda_b * bias),
        ]
        return value, np.concatenate(gradient)
