r"""Condition numbers of the unconstrained feature model from eigenvalues of its Hessians, to verify ``spectra``.

The Hessians are operators at any collapsed point (W, h_k, b), for example one from ``numeric.minimise``; neither a
closed form nor a symmetry between classes is used. The following structure is used, so that K = 100, d = 512 takes
seconds:

* the Hessian in H is block diagonal, and samples of one class share one (d, d) block;
* in W and in (W, H) it is applied through the (K, K) logits, ``J_k x = p_k * (x - p_k . x)``: no K d x K d matrix;
* all directions of R^d outside the span of W and the h_k are equivalent: one of them represents all;
* variations of H split into class means and within-class deviations, which are not coupled.

For small problems all eigenvalues of the reduced matrix are computed; for large ones the extreme eigenvalues, by
Lanczos with full reorthogonalisation, started in the wanted part of the spectrum.
"""

import math
from dataclasses import dataclass

import numpy as np

from nclens._lanczos import Operator, lanczos
from nclens.ufm.classification import Array, UnconstrainedFeatureModel, simplex_frame
from nclens.ufm.spectra import condition_number

# As in `numeric.minimise`: for smaller s rounding obscures the penalties.
SMALLEST_S = 1e-7
DENSE = 800
# Directions in which scaled W and H are smaller than this (squared, in units of s) count as outside their span.
EMPTY = 1e-10
# An eigenvector leaves the logits unchanged if its logit change is below this fraction of the largest.
STILL = 1e-6


def numeric_condition_numbers(
    problem: UnconstrainedFeatureModel, weight: Array, class_features: Array, bias: Array
) -> dict[str, float | None]:
    """Return the condition numbers of ``spectra.condition_numbers``, by the same names, from numeric eigenvalues.

    Args:
        problem: K, n, d, lambdas and smoothing.
        weight: W (K, d).
        class_features: h_k (K, d), the feature of every sample of class k.
        bias: b (K,).

    Returns:
        name -> condition number; None if there is no such eigenvalue, inf if the smallest is not positive.

    Raises:
        ValueError: wrong shapes, non-finite entries, or s < 1e-7 (float64 does not resolve the penalties).
    """
    if problem.s < SMALLEST_S:
        raise ValueError(
            f"numeric Hessian: s must be >= {SMALLEST_S} for float64 to resolve it, got {problem.s:.3g}; "
            "the closed forms allow smaller s"
        )
    shape = (problem.classes, problem.dim)
    for name, array, wanted in (("weight", weight, shape), ("class_features", class_features, shape)):
        if array.shape != wanted or not np.isfinite(array).all():
            raise ValueError(f"numeric Hessian: {name} must be finite with shape {wanted}, got shape {array.shape}")
    if bias.shape != shape[:1] or not np.isfinite(bias).all():
        raise ValueError(f"numeric Hessian: bias must be finite with shape {shape[:1]}, got shape {bias.shape}")
    point = _reduce(problem, weight, class_features, bias)
    weight_range, feature_range = _weight_range(point), _feature_range(point)
    ridge_w, ridge_h = problem.lambda_w, problem.lambda_h_sum
    # A row added to all classes is always flat in W; a feature direction is flat in H if C W is zero on it.
    full_w = [ridge_w, *(ridge_w + value for value in weight_range)]
    full_h = [ridge_h + value for value in feature_range]
    if len(feature_range) == 0 or len(point.rows) < problem.dim:
        full_h.append(ridge_h)
    joint, moving = _joint(point, 1.0, 1.0)
    scaled, _ = _joint(point, math.sqrt(ridge_w), math.sqrt(ridge_h))
    return {
        "kappa_ce": condition_number(weight_range),
        "kappa_full": condition_number(full_w),
        "kappa_full_features": condition_number(full_h),
        "kappa_full_range": condition_number([ridge_w + value for value in weight_range]),
        "kappa_joint": condition_number(joint),
        "kappa_joint_logits": condition_number([max(joint), *moving]) if moving else None,
        "kappa_joint_scaled": condition_number(scaled),
    }


@dataclass(frozen=True)
class _Reduced:
    """The point in coordinates of the span of W and H, plus one coordinate for the outside, if there is any."""

    problem: UnconstrainedFeatureModel
    weight: Array  # (K, r)
    features: Array  # (K, r), rows h_k
    spare: int  # 1 if the last coordinate represents the outside of the span, else 0
    rows: Array  # (rank, r): orthonormal basis of the row space of the centred head
    probabilities: Array  # (K, K), row k for the samples of class k
    slopes: Array  # (K, K): gradient of the cross-entropy part in the logits, summed over the samples of each class

    def curve(self, change: Array) -> Array:
        """Apply J_k to row k of logit changes (..., K, K)."""
        p = self.probabilities
        return p * (change - (p * change).sum(axis=-1, keepdims=True))


def _reduce(problem: UnconstrainedFeatureModel, weight: Array, features: Array, bias: Array) -> _Reduced:
    sizes = math.sqrt(problem.lambda_w), math.sqrt(problem.per_class) * math.sqrt(problem.lambda_h_sum)
    stacked = np.concatenate([sizes[0] * weight, sizes[1] * features])
    _, values, basis = np.linalg.svd(stacked, full_matrices=False)
    span = basis[values**2 > EMPTY * problem.s]
    spare = int(len(span) < problem.dim)
    pad = [(0, 0), (0, spare)]
    head = np.pad(weight @ span.T, pad)
    logits = features @ weight.T + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    classes, smoothing = problem.classes, problem.smoothing
    targets = (1 - smoothing) * np.eye(classes) + smoothing / classes
    _, strengths, rows = np.linalg.svd(head - head.mean(axis=0), full_matrices=False)
    return _Reduced(
        problem=problem,
        weight=head,
        features=np.pad(features @ span.T, pad),
        spare=spare,
        rows=rows[problem.lambda_w * strengths**2 > EMPTY * problem.s],
        probabilities=probabilities,
        slopes=(probabilities - targets) / classes,
    )


def _weight_range(point: _Reduced) -> list[float]:
    """Return (extreme) eigenvalues of the cross-entropy Hessian in W, on the complement of its null space.

    The null space consists of a row added to all classes, and of rows orthogonal to all features. The coordinates
    exclude it: an orthonormal basis of the complement of 1 on the left, of the features' span on the right.
    """
    classes = point.problem.classes
    left = simplex_frame(classes, classes - 1)
    _, strengths, rows = np.linalg.svd(point.features, full_matrices=False)
    weight = point.problem.per_class * point.problem.lambda_h_sum
    right = rows[weight * strengths**2 > EMPTY * point.problem.s]
    if len(right) == 0:
        return []
    seen = point.features @ right.T

    def apply(vectors: Array) -> Array:
        change = seen @ np.swapaxes(left @ vectors, -1, -2)
        return left.T @ np.swapaxes(point.curve(change), -1, -2) @ seen / classes

    generator = np.random.default_rng(0)
    return _eigenvalues(apply, generator.standard_normal((classes - 1, len(right))))


def _feature_range(point: _Reduced) -> list[float]:
    """Return eigenvalues of the cross-entropy Hessian in H on the row space of the centred head, a block per class."""
    if len(point.rows) == 0:
        return []
    head = (point.weight - point.weight.mean(axis=0)) @ point.rows.T
    p = point.probabilities
    mean = p @ head
    blocks = np.einsum("kj,ja,jb->kab", p, head, head, optimize=True) - mean[:, :, None] * mean[:, None, :]
    return [float(value) for value in np.linalg.eigvalsh(blocks / point.problem.samples).ravel()]


def _joint(point: _Reduced, size_w: float, size_h: float) -> tuple[list[float], list[float]]:
    """Return (extreme) eigenvalues of the joint Hessian without its rotations: all, and those that change logits."""
    problem = point.problem
    within = [(problem.lambda_h_sum + value) / size_h**2 for value in _feature_range(point)]
    flat = problem.lambda_h_sum / size_h**2
    alone, alone_moving = ([flat, *within], within) if problem.per_class > 1 else ([], [])
    if len(point.rows) == point.weight.shape[1]:  # no flat within-class direction
        alone = alone_moving
    operator, logits, adjoint, normal = _joint_operators(point, size_w, size_h)
    shape = (2, *point.weight.shape)
    generator = np.random.default_rng(0)
    if math.prod(shape) <= DENSE:
        means, moving = _dense_joint(operator, logits, normal, shape)
    else:
        means = lanczos(operator, normal(generator.standard_normal(shape)), normal).values
        # The image of the adjoint overlaps exactly with the eigenvectors that change the logits. A row added to all
        # classes and the coordinate outside the span never do: they are projected out, against rounding errors.
        inside = np.ones(shape[-1])
        inside[len(inside) - point.spare :] = 0

        def seen(vectors: Array) -> Array:
            vectors = normal(vectors) * inside
            vectors[0] -= vectors[0].mean(axis=0)
            return vectors

        pushed = adjoint(generator.standard_normal((problem.classes, problem.classes)))
        moving = lanczos(operator, pushed, seen).values if len(point.rows) else []
    return [*means, *alone], [*moving, *alone_moving]


def _joint_operators(point: _Reduced, size_w: float, size_h: float) -> tuple[Operator, Operator, Operator, Operator]:
    """Return operators on (..., 2, K, r) = (W, sqrt(n) h_k).

    These are the Hessian, the change of the centred logits, its adjoint, and the projection normal to the orbit.
    """
    problem = point.problem
    root = math.sqrt(problem.per_class)
    features, weight, slopes = point.features / size_w, point.weight / (root * size_h), point.slopes
    mix = 1 / (root * size_w * size_h)
    ridges = np.array([problem.lambda_w / size_w**2, problem.lambda_h_sum / size_h**2])[:, None, None]

    def logits(vectors: Array) -> Array:
        head, means = vectors[..., 0, :, :], vectors[..., 1, :, :]
        change = features @ np.swapaxes(head, -1, -2) + means @ weight.T
        return change - change.mean(axis=-1, keepdims=True)

    def adjoint(change: Array) -> Array:
        change = change - change.mean(axis=-1, keepdims=True)
        return np.stack([np.swapaxes(change, -1, -2) @ features, change @ weight], axis=-3)

    def operator(vectors: Array) -> Array:
        head, means = vectors[..., 0, :, :], vectors[..., 1, :, :]
        coupling = np.stack([slopes.T @ means, slopes @ head], axis=-3) * mix
        return adjoint(point.curve(logits(vectors))) / problem.classes + coupling + ridges * vectors

    orbit = np.stack([size_w * point.weight, size_h * root * point.features])
    gram = np.einsum("skr,skt->rt", orbit, orbit)
    strengths, basis = np.linalg.eigh(gram)
    sums = strengths[:, None] + strengths[None, :]
    sums[sums <= 1e-12 * max(float(strengths[-1]), EMPTY * problem.s)] = np.inf

    def normal(vectors: Array) -> Array:
        # The antisymmetric A with (W A, H A) closest to the vectors: gram A + A gram = orbit' vectors - transposed.
        product = np.einsum("skr,...skt->...rt", orbit, vectors)
        right = basis.T @ (product - np.swapaxes(product, -1, -2)) @ basis
        turn = basis @ (right / sums) @ basis.T
        return vectors - orbit @ turn[..., None, :, :]

    return operator, logits, adjoint, normal


def _dense_joint(
    operator: Operator, logits: Operator, normal: Operator, shape: tuple[int, ...]
) -> tuple[list[float], list[float]]:
    size = math.prod(shape)
    identity = np.eye(size).reshape(size, *shape)
    matrix = operator(identity).reshape(size, size)
    projection = normal(identity).reshape(size, size)
    # An orthonormal basis of the normal space: the projection's eigenvectors with eigenvalue 1.
    shares, directions = np.linalg.eigh((projection + projection.T) / 2)
    basis = directions[:, shares > 0.5]
    reduced = basis.T @ matrix @ basis
    values, vectors = np.linalg.eigh((reduced + reduced.T) / 2)
    changes = logits((basis @ vectors).T.reshape(-1, *shape))
    sizes = np.linalg.norm(changes.reshape(len(values), -1), axis=1)
    moving = sizes > STILL * float(sizes.max()) if sizes.max() > 0 else np.zeros(len(values), dtype=bool)
    return [float(value) for value in values], [float(value) for value in values[moving]]


def _eigenvalues(operator: Operator, start: Array) -> list[float]:
    """Return all eigenvalues of a small symmetric operator, the extreme eigenvalues of a large one."""
    if start.size > DENSE:
        return lanczos(operator, start).values
    matrix = operator(np.eye(start.size).reshape(start.size, *start.shape)).reshape(start.size, start.size)
    return [float(value) for value in np.linalg.eigvalsh((matrix + matrix.T) / 2)]
