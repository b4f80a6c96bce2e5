r"""Hessian spectra of the unconstrained feature model at its minimiser, in closed form, and their condition numbers.

Three Hessians, each of the cross-entropy part (``part="ce"``) and of the whole objective (``part="full"``):

* ``weight_spectrum``: in W, features and bias fixed;
* ``feature_spectrum``: in H, head and bias fixed;
* ``joint_spectrum``: in (W, H) together, bias fixed at its minimiser 0.

Permutations of the classes and of the samples of a class, and rotations of the feature space, map minimisers to
minimisers; these symmetries split each Hessian into blocks of at most 3 x 3 (derivation: docs/theory.md). The cost does
not depend on K, d or n. ``nclens.ufm.hessian`` computes the same from eigenvalues of the Hessian itself.

Notation: p, q are the probabilities of the true and of a wrong class, g = p - q, a the logit gap; N = nK.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nclens.ufm.classification import Array, UnconstrainedFeatureModel

Part = Literal["ce", "full"]

# An eigenvector leaves the logits unchanged if its logit change is below this fraction of the spectrum's largest.
STILL = 1e-9
# Smallest s for which float64 resolves the joint Hessian's blocks, and a bound on s, |W| and |h| with finite squares.
SMALLEST_S = 1e-20
LARGEST_NORM = 1e100


@dataclass(frozen=True)
class Mode:
    """One eigenvalue of a Hessian.

    Attributes:
        name: the kind of its eigenvectors (listed in the docstrings of the spectra).
        value: the eigenvalue.
        multiplicity: >= 1.
        logit_change: Frobenius norm of the first-order change of the centred (N, K) logits for a unit step along the
            eigenvector.
    """

    name: str
    value: float
    multiplicity: int
    logit_change: float


@dataclass(frozen=True)
class _Point:
    """The minimiser as the blocks need it: sizes, ridges, probabilities, and scales of W and H.

    In the span of the frame M (M M' = I - 11'/K): W = omega M and h_k = eta m_k. ``coupling`` is the scale of the
    gradient G with respect to the logits, which couples W to H by <G, V U>:
    G = -coupling / sqrt(n) (I - 11'/K) (x) 1_n'.
    """

    classes: int
    per_class: int
    dim: int
    ridge_w: float
    ridge_h: float
    q: float
    g: float  # p - q = 1 - s - delta, 0 in the zero regime
    omega: float
    eta: float
    coupling: float
    tie: float  # coupling / sqrt(lambda_w lambda_h): 1 in the simplex regime, (1 - delta) / s < 1 in the zero regime
    size_w: float = 1.0
    size_h: float = 1.0

    @property
    def theta(self) -> float:
        """Change of the logits per unit change of a class's features together, omega / sqrt(n)."""
        return self.omega / math.sqrt(self.per_class)

    @property
    def samples(self) -> int:
        return self.classes * self.per_class

    @property
    def outside(self) -> int:
        """Dimensions of the feature space outside the frame's span."""
        return self.dim - self.classes + 1


def _point(problem: UnconstrainedFeatureModel, part: Part, scaled: bool = False) -> _Point:
    if part not in ("ce", "full"):
        raise ValueError(f"Hessian spectrum: part must be 'ce' or 'full', got {part!r}")
    classes, ridge = problem.classes, 1.0 if part == "full" else 0.0
    unit = math.sqrt(classes / (classes - 1))
    tie = 1.0 if problem.regime == "simplex" else (1 - problem.smoothing) / problem.s
    eta, omega = problem.feature_norm * unit, problem.weight_norm * unit
    if not max(eta, omega) < LARGEST_NORM:
        raise ValueError(f"Hessian spectrum: lambda_w and lambda_h_sum are too far apart for float64, got {problem}")
    return _Point(
        classes=classes,
        per_class=problem.per_class,
        dim=problem.dim,
        ridge_w=ridge * problem.lambda_w,
        ridge_h=ridge * problem.lambda_h_sum,
        q=problem.p_other,
        g=max(0.0, 1 - problem.s - problem.smoothing),
        omega=omega,
        eta=eta,
        coupling=min(problem.s, 1 - problem.smoothing) / (classes * math.sqrt(problem.per_class)),
        tie=tie,
        size_w=math.sqrt(problem.lambda_w) if scaled else 1.0,
        size_h=math.sqrt(problem.lambda_h_sum) if scaled else 1.0,
    )


def weight_spectrum(problem: UnconstrainedFeatureModel, part: Part = "full") -> tuple[Mode, ...]:
    r"""Return the K d eigenvalues of the Hessian in W, features fixed: ``ridge + (eta^2 / K) mu``.

    ===========  ==================  ==================  ==========================================
    name         mu                  multiplicity        eigenvectors V, seen through V h_k
    ===========  ==================  ==================  ==========================================
    ``flat``     0                   K d - (K-1)^2       change no probability at any feature
    ``pairs``    q                   K^2 - 3K + 1        leave the true logit of every class unchanged
    ``classes``  q (1 + (K-2) g)     K - 1 (0 for K=2)   raise some true logits and lower others
    ``gap``      q (1 + (K-1) g)     1                   raise all gaps together; mu = K p q
    ===========  ==================  ==================  ==========================================

    ``eta^2 = a sqrt(lambda_W / (n lambda_H))``. In the zero regime H = 0 and all K d are ``flat``.
    Raises ValueError where the minimiser is not known (d < K - 1, simplex regime).
    """
    at = _point(problem, part)
    k, fit = at.classes, at.eta**2 / at.classes
    if at.eta == 0:
        return (Mode("flat", at.ridge_w, k * at.dim, 0.0),)
    moves = math.sqrt(at.per_class) * at.eta
    modes = [Mode("flat", at.ridge_w, k * at.dim - (k - 1) ** 2, 0.0)]
    if k >= 3:
        modes.append(Mode("pairs", at.ridge_w + fit * at.q, k * k - 3 * k + 1, moves))
        modes.append(Mode("classes", at.ridge_w + fit * at.q * (1 + (k - 2) * at.g), k - 1, moves))
    modes.append(Mode("gap", at.ridge_w + fit * at.q * (1 + (k - 1) * at.g), 1, moves))
    return tuple(modes)


def feature_spectrum(problem: UnconstrainedFeatureModel, part: Part = "full") -> tuple[Mode, ...]:
    r"""Return the N d eigenvalues of the Hessian in H, head fixed: ``ridge + (omega^2 / N) mu``.

    ==========  ==================  =============  =================================================
    name        mu                  multiplicity   eigenvectors u of one sample, seen through W u
    ==========  ==================  =============  =================================================
    ``flat``    0                   N (d - K + 1)  orthogonal to the rows of W
    ``others``  q                   N (K - 2)      change wrong logits relative to each other
    ``gap``     q (1 + (K-1) g)     N              raise the true logit over all others; mu = K p q
    ==========  ==================  =============  =================================================

    ``omega^2 = a sqrt(n lambda_H / lambda_W)``. In the zero regime W = 0 and all N d are ``flat``.
    Raises ValueError where the minimiser is not known (d < K - 1, simplex regime).
    """
    at = _point(problem, part)
    if at.omega == 0:
        return (Mode("flat", at.ridge_h, at.samples * at.dim, 0.0),)
    return tuple(_per_sample(at, at.samples))


def _per_sample(at: _Point, copies: int, prefix: str = "") -> Iterator[Mode]:
    k, fit = at.classes, at.omega**2 / at.samples
    for name, mu, directions, moves in (
        ("flat", 0.0, at.outside, 0.0),
        ("others", at.q, k - 2, at.omega),
        ("gap", at.q * (1 + (k - 1) * at.g), 1, at.omega),
    ):
        if copies * directions > 0:
            value = (at.ridge_h + fit * mu) / at.size_h**2
            yield Mode(prefix + name, value, copies * directions, moves / at.size_h)


def joint_spectrum(
    problem: UnconstrainedFeatureModel, part: Part = "full", *, scaled: bool = False
) -> tuple[Mode, ...]:
    r"""Return the K d + N d eigenvalues of the Hessian in (W, H).

    =====================  =============================================  ==============================
    name                   eigenvectors                                   multiplicity
    =====================  =============================================  ==============================
    ``rotation``           the orbit's tangent: W A', A H, A' = -A        (K-1)(d-K+1) + (K-1)(K-2)/2
    ``outside``            (W, H) leave the frame's span together         (K-1)(d-K+1)
    ``row_mean``           a row common to all classes added to W         d
    ``feature_mean``       a feature outside the span added to all        d - K + 1
    ``within_flat``        within a class, outside the rows of W          K(n-1)(d-K+1)
    ``within_others``      within a class, wrong logits among themselves  K(n-1)(K-2)
    ``within_gap``         within a class, true logit over all others     K(n-1)
    ``antisymmetric``      stretching against the rotations in the span   (K-1)(K-2)/2
    ``pairs``              2 x 2 block, pairs of classes                  K(K-3)/2 each (K >= 4)
    ``classes``            3 x 3 block (K=2: 1 x 1), single classes       K - 1 each
    ``gap``                2 x 2 block, all gaps together                 1 each
    =====================  =============================================  ==============================

    ``rotation`` is exactly zero for the whole objective, which is invariant along the orbit. In the zero regime there
    is no orbit, and the modes are ``balance`` (2 x 2 block, d (K-1) each), ``row_mean`` (d), ``feature_mean`` (d) and
    ``within_flat``.

    The minimiser is not stationary for the cross-entropy part alone (``part="ce"``), whose joint Hessian is indefinite
    (``outside`` and ``rotation`` become +-coupling): it has no condition number.

    Args:
        problem: the problem; its minimiser must be known and s >= 1e-20, else ValueError.
        part: ``"ce"`` or ``"full"``.
        scaled: in the coordinates (sqrt(lambda_w) W, sqrt(lambda_h_sum) H), in which both ridges have curvature 1.
    """
    at = _point(problem, part, scaled)
    if not SMALLEST_S <= problem.s < LARGEST_NORM:
        raise ValueError(
            f"Hessian in (W, H): s must lie in [{SMALLEST_S}, {LARGEST_NORM}) for float64 to resolve it, got "
            f"s = {problem.s:.3g}"
        )
    modes = _zero_modes(at) if at.omega == 0 else _simplex_modes(at)
    return tuple(mode for mode in modes if mode.multiplicity > 0)


def _zero_modes(at: _Point) -> Iterator[Mode]:
    k, d = at.classes, at.dim
    for value, change in _block(at, 0.0, 1):
        yield Mode("balance", value, d * (k - 1), change)
    yield Mode("row_mean", at.ridge_w / at.size_w**2, d, 0.0)
    yield Mode("feature_mean", at.ridge_h / at.size_h**2, d, 0.0)
    yield Mode("within_flat", at.ridge_h / at.size_h**2, d * k * (at.per_class - 1), 0.0)


def _simplex_modes(at: _Point) -> Iterator[Mode]:
    k = at.classes
    antisymmetric = (k - 1) * (k - 2) // 2
    outside = [(value, 0.0) for value, _ in _block(at, 0.0, 1)]
    yield from _orbit(at, "outside", outside, (k - 1) * at.outside)
    yield from _orbit(at, "antisymmetric", _block(at, at.q, -1), antisymmetric)
    yield Mode("row_mean", at.ridge_w / at.size_w**2, at.dim, 0.0)
    yield Mode("feature_mean", at.ridge_h / at.size_h**2, at.outside, 0.0)
    yield from _per_sample(at, k * (at.per_class - 1), "within_")
    for value, change in _block(at, at.q, 1):
        yield Mode("pairs", value, max(0, k * (k - 3) // 2), change)
    for value, change in _classes_block(at):
        yield Mode("classes", value, k - 1, change)
    for value, change in _block(at, at.q * (1 + (k - 1) * at.g), 1):
        yield Mode("gap", value, 1, change)


def _orbit(at: _Point, name: str, pair: list[tuple[float, float]], multiplicity: int) -> Iterator[Mode]:
    (low, low_change), (high, high_change) = pair
    exact = at.ridge_w > 0  # the whole objective is constant along its orbit of minimisers
    yield Mode("rotation", 0.0 if exact else low, multiplicity, 0.0 if exact else low_change)
    yield Mode(name, high, multiplicity, high_change)


def _block(at: _Point, mu: float, sign: int) -> list[tuple[float, float]]:
    """Return eigenvalues, ascending, and logit changes of a 2 x 2 block with coordinates (W, class means of H).

    ``sign`` is +1 for symmetric and -1 for antisymmetric matrices: <G, V U> = -coupling * sign * w h.
    """
    return _solve(at, np.array([[at.eta, at.theta]]), np.array([[math.sqrt(mu)]]), sign)


def _classes_block(at: _Point) -> list[tuple[float, float]]:
    """Return the block of single classes, with coordinates (W, class means of H, their part common to all classes).

    It changes two coordinates of the logits: C diag(x) C and x 1'. For K = 2 the first is zero, and with it the block's
    first two coordinates.
    """
    k, g = at.classes, at.g
    if k == 2:
        value = at.ridge_h + at.q * (1 + g) * at.theta**2 / k
        return [(value / at.size_h**2, at.omega / at.size_h)]
    mix = g * math.sqrt(k - 2)
    curvature = at.q * np.array([[1 + (k - 2) * g, mix], [mix, 1 + g]])
    logits = np.array([[at.eta, at.theta, 0.0], [0.0, 0.0, at.theta]])
    return _solve(at, logits, np.asarray(np.linalg.cholesky(curvature).T, dtype=np.float64), 1)


def _solve(at: _Point, logits: Array, root: Array, sign: int) -> list[tuple[float, float]]:
    """Return eigenvalues, ascending, and logit changes of a block whose first two coordinates are coupled.

    ``logits`` maps the block's coordinates to class logits, whose Hessian is ``root' root``.
    """
    sizes = np.array([at.size_w, *[at.size_h] * (logits.shape[1] - 1)])
    seen = root @ logits / math.sqrt(at.classes)
    if at.ridge_w > 0:
        # The whole objective is a sum of squares, |sqrt(lw) w - tie sign sqrt(lh) h|^2 + (1 - tie^2) lh |h|^2 + ...:
        # singular values are accurate to twice as many digits as eigenvalues of the matrix.
        squares = np.zeros((logits.shape[1], logits.shape[1]))
        np.fill_diagonal(squares, math.sqrt(at.ridge_h))
        squares[0, :2] = math.sqrt(at.ridge_w), -sign * at.tie * math.sqrt(at.ridge_h)
        squares[1, 1] *= math.sqrt((1 - at.tie) * (1 + at.tie))
        _, strengths, rows = np.linalg.svd(np.concatenate([squares, seen]) / sizes, full_matrices=False)
        values, vectors = strengths[::-1] ** 2, rows[::-1].T
    else:
        matrix = seen.T @ seen
        matrix[0, 1] -= sign * at.coupling
        matrix[1, 0] -= sign * at.coupling
        values, vectors = np.linalg.eigh(matrix / np.outer(sizes, sizes))
    changes = math.sqrt(at.per_class) * np.linalg.norm(logits @ (vectors / sizes[:, None]), axis=0)
    return [(float(value), float(change)) for value, change in zip(values, changes, strict=True)]


def condition_numbers(problem: UnconstrainedFeatureModel) -> dict[str, float | None]:
    r"""Return every condition number by name, in the order of `quantities.CONDITION_NUMBERS`; None where not defined.

    How a condition number depends on delta is a matter of its definition:

    ============================  ===================  ===========================  ==================================
    name                          Hessian of           in                           part of the spectrum
    ============================  ===================  ===========================  ==================================
    ``kappa_ce``                  cross-entropy part   W (H fixed); H (W fixed)     non-zero eigenvalues
    ``kappa_full``                whole objective      W (H fixed)                  all (the smallest is lambda_w)
    ``kappa_full_features``       whole objective      H (W fixed)                  all; = kappa_full for d > K - 1
    ``kappa_full_range``          whole objective      W (H fixed); H (W fixed)     directions of kappa_ce
    ``kappa_joint``               whole objective      (W, H)                       all but ``rotation``
    ``kappa_joint_logits``        whole objective      (W, H)                       eigenvectors that change the logits
    ``kappa_joint_scaled``        whole objective      scaled (W, H)                all but ``rotation``
    ============================  ===================  ===========================  ==================================

    ``kappa_joint_logits`` is the largest joint eigenvalue over the smallest whose eigenvectors change the logits to
    first order. "Scaled" means (sqrt(lambda_w) W, sqrt(lambda_h_sum) H).

    ``kappa_ce = K p`` for K >= 3 and 1 for K = 2 (None in the zero regime, where the Hessian is 0), and
    ``kappa_full = 1 + a K p q / s``. For s + delta = 1 the joint Hessian has further zeros, and its condition numbers
    are inf.

    That ``kappa_ce`` is the conditioning number of the paper's claim C6 (arXiv 2402.03979) is an inference, not a
    statement of the paper.

    Raises:
        ValueError: the minimiser is not known, or the lambdas are too small (s < 1e-20) or too far apart.
    """
    weight, features = weight_spectrum(problem), feature_spectrum(problem)
    moved = [mode.value for mode in weight if mode.logit_change > 0]
    joint = [mode for mode in joint_spectrum(problem) if mode.name != "rotation"]
    scaled = [mode.value for mode in joint_spectrum(problem, scaled=True) if mode.name != "rotation"]
    still = STILL * max(mode.logit_change for mode in joint)
    moving = [mode.value for mode in joint if mode.logit_change > still]
    top = max(mode.value for mode in joint)
    return {
        "kappa_ce": condition_number([mode.value for mode in weight_spectrum(problem, "ce") if mode.logit_change > 0]),
        "kappa_full": condition_number([mode.value for mode in weight]),
        "kappa_full_features": condition_number([mode.value for mode in features]),
        "kappa_full_range": condition_number(moved),
        "kappa_joint": condition_number([mode.value for mode in joint]),
        "kappa_joint_logits": condition_number([top, *moving]) if moving else None,
        "kappa_joint_scaled": condition_number(scaled),
    }


def condition_number(values: list[float]) -> float | None:
    """Return largest over smallest of some eigenvalues; None for no values, inf if the smallest is not positive."""
    if not values:
        return None
    return max(values) / min(values) if min(values) > 0 else math.inf
