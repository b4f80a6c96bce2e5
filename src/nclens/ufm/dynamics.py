r"""The speed at which gradient descent reaches the minimisers of the unconstrained feature model, and its predictions.

Gradient descent, with or without heavy-ball momentum, on W and H from random starts, with the bias fixed at its
minimiser 0 (so the Hessian in (W, H) of ``nclens.ufm.spectra`` applies). All problems, starts, momenta and step rules
run in one float64 batch. "The same step" can mean two things, hence two step rules:

* ``relative``: ``fraction / L`` with L the largest curvature, the largest eigenvalue of the joint Hessian at the
  problem's own minimiser;
* ``absolute``: the smallest of these steps, the same for every problem.

The distances are relative:

* ``orbit``: ``min_R |(W, H) - (W* R', R H*)| / |(W*, H*)|`` over orthogonal R (Procrustes);
* ``logits``: ``|C W H - W* H*| / |W* H*|``, where C centres over classes, since softmax is invariant to shifts;
* ``nc1``, ``nc2``: as in ``nclens.metrics.collapse`` (arXiv 2402.03979, equation (4) and the plotted NC2), over their
  value at the start.

A condition number kappa predicts a local rate: on a quadratic whose curvatures lie between L / kappa and L, the slowest
error shrinks per step by the factor 1 - step L / kappa (with momentum: ``contraction``). ``Run.linear_rate`` is
sharper: it is the rate of the slowest error that changes the given distance. docs/theory.md has the details.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from nclens.ufm.checks import is_number
from nclens.ufm.classification import Array, UnconstrainedFeatureModel, simplex_frame
from nclens.ufm.spectra import STILL, condition_numbers, joint_spectrum

DISTANCES = ("orbit", "logits", "nc1", "nc2")
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
STEP_RULES = ("relative", "absolute")
# Smallest norm of a start whose fourth power, and that of its inverse, are finite in float64.
SMALLEST_START = 1e-70
# Distances in the local regime: smaller ones are rounding errors.
LOCAL = (1e-11, 1e-3)
# Ratio of successive checkpoints, once they are more than one iteration apart.
SPACING = 1.01
# A run with an entry of W or H beyond this has diverged.
HUGE = 1e9
# Every start, momentum and step of a problem has the same.
_modes = lru_cache(joint_spectrum)
_kappas = lru_cache(condition_numbers)
_FLAT = "dynamics: nc1 needs at least 2 classes with means that span {} dimensions"


@dataclass(frozen=True)
class Run:
    """One run of gradient descent, and its distances at the checkpoints.

    Attributes:
        problem: the problem.
        start: index of the random start; the starts are the same for every problem.
        momentum: beta in [0, 1).
        step_rule: ``"relative"`` or ``"absolute"``.
        step: learning rate.
        top: largest curvature L, the largest eigenvalue of the joint Hessian at the minimiser.
        iterations: checkpoints (C,), increasing from 0.
        distances: (C, 4), columns as in ``DISTANCES``.
        diverged: whether an entry of W or H exceeded 1e9 or was nan; the run then ends, and reaches no tolerance.
    """

    problem: UnconstrainedFeatureModel
    start: int
    momentum: float
    step_rule: str
    step: float
    top: float
    iterations: Array
    distances: Array
    diverged: bool

    def reached(self, distance: str, tolerance: float) -> float | None:
        """Return the iterations until the distance first is at or below the tolerance; None if it never is.

        Between two checkpoints (1% apart) the logarithm of the distance is interpolated linearly.
        """
        values = self.distances[:, DISTANCES.index(distance)]
        below = np.flatnonzero(values <= tolerance)
        if self.diverged or len(below) == 0:
            return None
        after = int(below[0])
        if after == 0 or not values[after] > 0:
            return float(self.iterations[after])
        before, now = math.log(values[after - 1]), math.log(values[after])
        share = (before - math.log(tolerance)) / (before - now)
        return float(self.iterations[after - 1] + share * (self.iterations[after] - self.iterations[after - 1]))

    def rate(self, distance: str) -> float | None:
        """Return the local linear rate, -d log(distance) / d iteration, by least squares.

        The fit uses the last half of the local regime, which starts where the distance stays below 1e-3. None if it has
        fewer than 10 checkpoints, or the run diverged.
        """
        values = self.distances[:, DISTANCES.index(distance)]
        usable = np.isfinite(values) & (values > LOCAL[0])
        late = np.flatnonzero(~(values <= LOCAL[1]))
        first = int(late[-1]) + 1 if len(late) else 0
        chosen = np.flatnonzero(usable & (np.arange(len(values)) >= first))
        if self.diverged or len(chosen) < 10:
            return None
        middle = (self.iterations[chosen[0]] + self.iterations[chosen[-1]]) / 2
        chosen = chosen[self.iterations[chosen] >= middle]
        return -float(np.polyfit(self.iterations[chosen], np.log(values[chosen]), 1)[0])

    def predicted_rate(self, kappa: float) -> float:
        """Return the rate per iteration that a condition number >= 1 predicts for this step and momentum; 0 for inf."""
        if not (is_number(kappa) and kappa >= 1):
            raise ValueError(f"dynamics: a condition number must be >= 1, got {kappa!r}")
        return -math.log(contraction(self.step * self.top / kappa, self.momentum))

    def linear_rate(self, distance: str) -> float:
        """Return the rate per iteration of the slowest error that changes the distance; inf if none does.

        This is the rate of ``slowest_curvature``, or of a product of two errors, neither of which changes the distance
        alone. A product decays at the sum of their rates, and counts if that is slower. Errors of W outside the span
        (``outside``) combine with those of all features (``feature_mean``) or of a class (``within_flat``) outside it.
        For equal penalties W may be too large where H is too small (the lowest of ``pairs``, ``classes`` and ``gap``),
        which changes the logits to second order. nc1 is quadratic in deviations within a class along the rows of W:
        twice their rate, or twice that of the product of ``outside`` and ``within_flat``.
        """

        def rate(curvature: float) -> float:
            return math.inf if curvature == math.inf else -math.log(contraction(self.step * curvature, self.momentum))

        def quiet(*names: str) -> float:
            return rate(min((mode.value for mode in unseen if mode.name in names), default=math.inf))

        slowest = rate(slowest_curvature(self.problem, distance))
        modes = _modes(self.problem)
        still = STILL * max(mode.logit_change for mode in modes)
        unseen = [mode for mode in modes if mode.logit_change <= still]
        if distance == "nc1":
            return 2 * min(slowest, quiet("outside") + quiet("within_flat"))
        if distance == "logits":
            tilted = quiet("outside") + quiet("outside", "within_flat", "feature_mean")
            return min(slowest, tilted, 2 * quiet("pairs", "classes", "gap"))
        return slowest


def slowest_curvature(problem: UnconstrainedFeatureModel, distance: str) -> float:
    """Return the smallest joint eigenvalue whose eigenvectors change the distance to leading order.

    ``orbit``: all but the rotations. ``logits``: those that change the logits. ``nc1``: within-class ones along the
    rows of W (inf for n = 1). ``nc2``: those that change the logits of the class means, and ``row_mean``, since NC2
    does not centre W. A product of two errors may decay more slowly: see ``Run.linear_rate``.
    """
    modes = [mode for mode in _modes(problem) if mode.name != "rotation"]
    still = STILL * max(mode.logit_change for mode in modes)
    if distance == "orbit":
        chosen = modes
    elif distance == "logits":
        chosen = [mode for mode in modes if mode.logit_change > still]
    elif distance == "nc1":
        chosen = [mode for mode in modes if mode.name in ("within_others", "within_gap")]
    elif distance == "nc2":
        between = [mode for mode in modes if not mode.name.startswith("within")]
        chosen = [mode for mode in between if mode.logit_change > still or mode.name == "row_mean"]
    else:
        raise ValueError(f"dynamics: distance must be one of {DISTANCES}, got {distance!r}")
    return min((mode.value for mode in chosen), default=math.inf)


def contraction(curvature: float, momentum: float = 0.0) -> float:
    """Return the factor per step by which (heavy-ball) gradient descent shrinks the error of a quadratic mode.

    It is the spectral radius of [[1 + beta - c, -beta], [1, 0]], where c, the argument ``curvature``, is step times
    eigenvalue, and beta is the momentum; for beta = 0 it is |1 - c|.

    Raises:
        ValueError: a curvature that is negative or not finite, or a momentum outside [0, 1).
    """
    if not (is_number(curvature) and 0 <= curvature < math.inf):
        raise ValueError(f"dynamics: curvature must be a finite number >= 0, got {curvature!r}")
    if not (is_number(momentum) and 0 <= momentum < 1):
        raise ValueError(f"dynamics: momentum must be in [0, 1), got {momentum!r}")
    trace = 1 + momentum - curvature
    root = trace * trace - 4 * momentum
    return math.sqrt(momentum) if root < 0 else (abs(trace) + math.sqrt(root)) / 2


def descend(
    problems: Sequence[UnconstrainedFeatureModel],
    *,
    starts: int = 5,
    seed: int = 0,
    start_norm: float = 1.0,
    fraction: float = 0.25,
    momenta: Sequence[float] = (0.0, 0.9),
    step_rules: Sequence[str] = STEP_RULES,
    iterations: int = 20_000,
) -> list[Run]:
    """Run gradient descent on every problem from the same random starts.

    Args:
        problems: problems with the same classes, per_class and dim, in the simplex regime, with d >= K - 1.
        starts: number of random starts, >= 1, with Gaussian W and H.
        seed: seed of the starts.
        start_norm: root mean square of |w_k| and |h_i| at the start, in [1e-70, 1e70].
        fraction: step in units of 1/L, in (0, 2).
        momenta: heavy-ball momenta beta, each in [0, 1).
        step_rules: any of ``STEP_RULES``.
        iterations: largest number, >= 1; a run ends earlier when all distances reach the smallest tolerance.

    Raises:
        ValueError: an argument outside its range.
    """
    _check(problems)
    for name, fine, allowed in (
        ("starts", type(starts) is int and starts >= 1, "an integer >= 1"),
        ("seed", type(seed) is int and seed >= 0, "an integer >= 0"),
        (
            "start_norm",
            is_number(start_norm) and SMALLEST_START <= start_norm <= 1 / SMALLEST_START,
            f"in [{SMALLEST_START}, {1 / SMALLEST_START}]",
        ),
        ("fraction", is_number(fraction) and 0 < fraction < 2, "in (0, 2)"),
        ("momenta", bool(momenta) and all(is_number(b) and 0 <= b < 1 for b in momenta), "one or more in [0, 1)"),
        ("step_rules", bool(step_rules) and set(step_rules) <= set(STEP_RULES), f"one or more of {STEP_RULES}"),
        ("iterations", type(iterations) is int and iterations >= 1, "an integer >= 1"),
    ):
        if not fine:
            raise ValueError(f"dynamics: {name} must be {allowed}")
    tops = [max(mode.value for mode in _modes(problem)) for problem in problems]
    grid = list(product(range(len(problems)), range(starts), momenta, step_rules))
    steps = [fraction / (tops[index] if rule == "relative" else max(tops)) for index, _, _, rule in grid]
    # Both rules give the problem with the largest curvature the same step: its runs are computed once.
    place: dict[tuple[int, int, float, float], int] = {}
    rows = [place.setdefault((*run[:3], step), len(place)) for run, step in zip(grid, steps, strict=True)]
    batch = _Batch([problems[index] for index, *_ in place], [step for *_, step in place], [key[2] for key in place])
    points = _random_starts(problems[0], starts, seed, start_norm)
    marks, table, diverged = batch.run(points[[start for _, start, _, _ in place]], iterations)
    runs = []
    for row, step, (index, start, beta, rule) in zip(rows, steps, grid, strict=True):
        length = int(np.flatnonzero(~np.isnan(table[:, row, 0]))[-1]) + 1
        runs.append(
            Run(
                problem=problems[index],
                start=start,
                momentum=beta,
                step_rule=rule,
                step=step,
                top=tops[index],
                iterations=marks[:length],
                distances=table[:length, row],
                diverged=bool(diverged[row]),
            )
        )
    return runs


def records(runs: Sequence[Run]) -> Iterator[dict[str, str | float | int | None]]:
    """Yield tidy rows of the runs: iterations to each tolerance, and measured and predicted rates.

    Keys: smoothing, momentum, step_rule, step, fraction (step times L), start, distance, quantity, tolerance, value.
    ``quantity`` is ``iterations`` (to the tolerance; value None if not reached), ``rate`` (measured, per iteration),
    ``rate_linear`` (predicted by ``Run.linear_rate``), or, with an empty ``distance``, ``rate_kappa_...`` (predicted
    by that condition number for every distance) and ``diverged`` (0 or 1).
    """
    for run in runs:
        keys: dict[str, str | float | int | None] = {
            "smoothing": run.problem.smoothing,
            "momentum": run.momentum,
            "step_rule": run.step_rule,
            "step": run.step,
            "fraction": run.step * run.top,
            "start": run.start,
        }
        for distance in DISTANCES:
            for tolerance in TOLERANCES:
                value = run.reached(distance, tolerance)
                yield keys | {"distance": distance, "quantity": "iterations", "tolerance": tolerance, "value": value}
            yield keys | {"distance": distance, "quantity": "rate", "tolerance": None, "value": run.rate(distance)}
            yield keys | {
                "distance": distance,
                "quantity": "rate_linear",
                "tolerance": None,
                "value": run.linear_rate(distance),
            }
        yield keys | {"distance": "", "quantity": "diverged", "tolerance": None, "value": int(run.diverged)}
        for name, kappa in _kappas(run.problem).items():
            rate = None if kappa is None else run.predicted_rate(kappa)
            yield keys | {"distance": "", "quantity": f"rate_{name}", "tolerance": None, "value": rate}


def orbit_distance(weight: Tensor, features: Tensor, best_weight: Tensor, best_features: Tensor) -> Tensor:
    """Return the distance (...,) of (W, H) to the orbit of (W*, H*) under rotations of the features, over |(W*, H*)|.

    Shapes are (..., K, d) and (..., N, d) with any leading dimensions; NumPy arrays are taken too. The best rotation is
    the polar factor of W*' W + H*' H (orthogonal Procrustes problem).

    Raises:
        ValueError: (W*, H*) is zero, so that no relative distance is defined.
    """
    weight, features, best_weight, best_features = map(torch.as_tensor, (weight, features, best_weight, best_features))
    best = torch.cat([best_weight, best_features], -2)
    if not (torch.linalg.matrix_norm(best) > 0).all():
        raise ValueError("dynamics: the distance to a minimiser W = H = 0 has no relative size")
    return _orbit_distance(torch.cat([weight, features], -2), best)


def _orbit_distance(point: Tensor, best: Tensor) -> Tensor:
    """Return the distance (...,) of W and H, one block (..., K + N, d), to an orbit; ``best`` may lack zero columns."""
    left, _, right = torch.linalg.svd(best.mT @ point, full_matrices=False)
    gap = point - best @ (left @ right)
    return torch.linalg.matrix_norm(gap) / torch.linalg.matrix_norm(best)


def collapse_distances(weight: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return nc1 = tr(S_W pinv(S_B)) / K and nc2 = |nrm(W M') - E|_F, each (B,), of a batch of models.

    The same quantities as in ``nclens.metrics.collapse``; S_B is inverted on the K - 1 dimensions that
    the class means span.

    Args:
        weight: (B, K, d), a tensor or NumPy array.
        features: (B, K, n, d), likewise.

    Raises:
        ValueError: the class means span fewer than K - 1 dimensions, so that nc1 is not defined.
    """
    weight, features = torch.as_tensor(weight), torch.as_tensor(features)
    classes, per_class = features.shape[1:3]
    means = features.mean(dim=2)
    centred = means - means.mean(dim=1, keepdim=True)
    if classes < 2 or features.shape[3] < classes - 1:
        raise ValueError(_FLAT.format(classes - 1))
    # In coordinates of the K - 1 dimensional space of centred columns S_B = B' B / K with B of full rank.
    coordinates = torch.from_numpy(simplex_frame(classes, classes - 1)).to(centred)
    basis, strengths = torch.linalg.qr((coordinates.mT @ centred).mT)
    if not (strengths.diagonal(dim1=1, dim2=2).abs() > 0).all():
        raise ValueError(_FLAT.format(classes - 1))
    inverse = torch.linalg.solve_triangular(strengths.mT, basis, upper=False, left=False)
    deviations = (features - means[:, :, None]).flatten(1, 2)
    nc1 = (deviations @ inverse).square().sum((1, 2)) / (classes * per_class)
    product_ = weight @ centred.mT
    frame = (torch.eye(classes, dtype=weight.dtype) - 1 / classes) / math.sqrt(classes - 1)
    nc2 = (product_ / torch.linalg.matrix_norm(product_)[:, None, None] - frame).square().sum((1, 2)).sqrt()
    return nc1, nc2


class _Batch:
    """Runs in one batch: W and H of each are stacked as one (K + N, d) block.

    Logits are (B, K, N), for a softmax over the last and short dimension takes seven times as long.
    """

    def __init__(self, problems: Sequence[UnconstrainedFeatureModel], steps: list[float], momenta: list[float]) -> None:
        first = problems[0]
        self.classes, self.per_class = first.classes, first.per_class
        one_hot = torch.eye(first.classes, dtype=torch.float64).repeat_interleave(first.per_class, 1)
        smoothing = _column([problem.smoothing for problem in problems])
        self.ridge = torch.stack([_ridges(problem) for problem in problems])
        self.targets = (1 - smoothing) * one_hot + smoothing / first.classes
        self.step = _column(steps)
        self.momentum = _column(momenta)
        # In K - 1 columns: the rest are zero, and take their time in every singular value decomposition.
        best = [np.concatenate([problem.weight(), problem.features()])[:, : self.classes - 1] for problem in problems]
        self.best = torch.from_numpy(np.stack(best))
        self.goal = self.best[:, : self.classes] @ self.best[:, self.classes :].mT

    def keep(self, rows: Tensor) -> None:
        """Drop the runs that are not named by index or mask."""
        for name in ("ridge", "targets", "step", "momentum", "best", "goal"):
            setattr(self, name, getattr(self, name)[rows])

    def run(self, point: Tensor, iterations: int) -> tuple[Array, Array, Array]:
        """Return checkpoints (C,), distances (C, B, 4), nan after the end of a run, and which runs (B,) diverged."""
        diverged = torch.zeros(len(point), dtype=torch.bool)
        active = torch.arange(len(point))
        velocity = torch.zeros_like(point)
        start = self._measure(point)
        marks, table = [0], [start / _scale(start)]
        done = 0
        while len(active) > 0 and done < iterations:
            mark = min(iterations, max(done + 1, math.ceil(done * SPACING)))
            for _ in range(mark - done):
                self._descend(point, velocity)
            done = mark
            kept = point.abs().amax(dim=(1, 2)) < HUGE  # False for nan too
            diverged[active[~kept]] = True
            point, velocity, active = self._continued(kept, point, velocity, active)
            row = torch.full_like(start, torch.nan)
            row[active] = self._measure(point) / _scale(start)[active]
            marks.append(done)
            table.append(row)
            going = (row[active] > TOLERANCES[-1]).any(dim=1)
            point, velocity, active = self._continued(going, point, velocity, active)
        return np.array(marks, dtype=np.float64), torch.stack(table).numpy(), diverged.numpy()

    def _continued(self, going: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        if going.all():
            return states
        self.keep(going)
        return tuple(state[going] for state in states)

    def _descend(self, point: Tensor, velocity: Tensor) -> None:
        """Take one step in place."""
        weight, features = point[:, : self.classes], point[:, self.classes :]
        slope = torch.softmax(weight @ features.mT, 1).sub_(self.targets).div_(features.shape[1])
        gradient = torch.cat([slope @ features, slope.mT @ weight], 1).addcmul_(self.ridge, point)
        velocity.mul_(self.momentum).addcmul_(self.step, gradient, value=-1)
        point.add_(velocity)

    def _measure(self, point: Tensor) -> Tensor:
        """Return the columns of ``DISTANCES``, with nc1 and nc2 not yet divided by their values at the start."""
        weight, features = point[:, : self.classes], point[:, self.classes :]
        logits = weight @ features.mT
        gap = logits - logits.mean(1, keepdim=True) - self.goal
        error = torch.linalg.matrix_norm(gap) / torch.linalg.matrix_norm(self.goal)
        orbit = _orbit_distance(point, self.best)
        nc1, nc2 = collapse_distances(weight, features.unflatten(1, (self.classes, self.per_class)))
        return torch.stack([orbit, error, nc1, nc2], dim=1)


def _scale(start: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(start[:, :2]), start[:, 2:]], dim=1)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


def _ridges(problem: UnconstrainedFeatureModel) -> Tensor:
    head = torch.full((problem.classes, 1), problem.lambda_w, dtype=torch.float64)
    return torch.cat([head, torch.full((problem.samples, 1), problem.lambda_h_sum, dtype=torch.float64)])


def _random_starts(problem: UnconstrainedFeatureModel, starts: int, seed: int, norm: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (starts, problem.classes + problem.samples, problem.dim)
    return norm / math.sqrt(problem.dim) * torch.randn(shape, generator=generator, dtype=torch.float64)


def _check(problems: Sequence[UnconstrainedFeatureModel]) -> None:
    if not problems:
        raise ValueError("dynamics: no problem given")
    sizes = {(problem.classes, problem.per_class, problem.dim) for problem in problems}
    if len(sizes) > 1:
        raise ValueError(f"dynamics: all problems must have the same classes, per_class and dim, got {sorted(sizes)}")
    for problem in problems:
        if problem.regime == "zero" or problem.dim < problem.classes - 1:
            raise ValueError(f"dynamics: needs s + smoothing < 1 and dim >= classes - 1, got {problem}")
