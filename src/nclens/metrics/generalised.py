"""Generalised neural collapse: how evenly class means and classifier cover the sphere, for any number of classes.

With K > d + 1 classes in d dimensions there is no simplex, so the measures of `neural_collapse` that compare with one
cannot reach 0. These compare directions alone: u_k are unit rows, of M (rows hbar_k - hG, the class means minus their
mean) or of the classifier's weight W, which is not centred. Tables of K x K numbers are made in tiles.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from nclens._inputs import Array, as_integer, as_tensor, scaled
from nclens.metrics.alignment import unit_rows
from nclens.metrics.collapse import centred_rows, check_float64, class_means, with_mean

KERNELS = ("log", "riesz", "distance")
MATRICES = ("means", "classifier")
KEYS = (
    *(f"gnc2_{kernel}{part}_{matrix}" for kernel in KERNELS for part in ("", "_variance") for matrix in MATRICES),
    *(f"one_vs_rest_{matrix}" for matrix in MATRICES),
    "one_vs_rest_optimum",
    "unc3",
)
"""The keys of `generalised_collapse`, in order."""

# Bytes of one tile of pairs, or of one group of differences.
_TILE_BYTES = 2**21
# Below this squared distance, 2 - 2 cos has lost two digits or more, and differences are taken instead.
_CLOSE = 1e-2
# Where the rows' singular values span more than this, the closed form of affinely independent rows loses digits.
_WELL_CONDITIONED = 1e-4
# Rows beyond which bounds are made tighter before a row is solved for, the most that are at a time, and their steps.
_MANY, _ROWS, _STEPS, _BETWEEN = 200, 256, 200, 10


def generalised_collapse(
    features: Array,
    labels: Array,
    weight: Array,
    *,
    ignore_index: int | None = None,
    min_samples: int | None = None,
) -> dict[str, float]:
    """Measure generalised neural collapse on one split, of the class means M and of the classifier W.

    With unit rows m_k of M, w_k of W, and u_k of either, and natural logarithms:

    | key | formula | range |
    |---|---|---|
    | `gnc2_log_...` | mean over pairs k < l of log(1 / |u_k - u_l|); hyperspherical energy | [-log 2, inf] |
    | `gnc2_riesz_...` | mean over pairs of 1 / |u_k - u_l|, the Riesz kernel with s = 1 | [1/2, inf] |
    | `gnc2_distance_...` | mean over pairs of |u_k - u_l| | [0, 2] |
    | `gnc2_..._variance_...` | population variance over pairs of the same kernel | [0, inf) |
    | `one_vs_rest_...` | min_k dist(u_k, conv{u_l, l != k}): `one_vs_rest_distance`; larger is better | [0, 2] |
    | `one_vs_rest_optimum` | the largest possible one, where known: `one_vs_rest_optimum`; else nan | [0, 2] |
    | `unc3` | population variance over k of w_k'm_k; 0 does not mean aligned | [0, 1] |

    The keys end in `_means` and `_classifier`. For K <= d + 1 a simplex is optimal for every kernel, and its variances
    are 0; for K > d + 1 distances differ, and no variance is 0. Two rows in one direction make the means of `log` and
    `riesz` inf and their variances nan. A row that is zero has no direction: all keys of its matrix, and `unc3`, are
    nan. No key has a unit; all are invariant to scaling of single rows of W, to scaling of the features, to a common
    offset of the features, and to rotation of features and W together.

    The class means are those of the split that is measured; a class needs one sample. K is the number of classes
    measured. With many classes `one_vs_rest_...` takes longest: some seconds for 1,000 classes whose distances differ,
    a minute where all are nearly equal and K > d + 1.

    Args:
        features: (N, d), any floating dtype; a tensor or NumPy array, as all arguments.
        labels: (N,), integers in [0, K), every class at least once, unless `min_samples` is given.
        weight: (K, d), the classifier's weight, K >= 2.
        ignore_index: samples with this label are left out, whatever their features; by default none is.
        min_samples: classes with fewer samples are left out, with their rows of W; by default no class may lack any.

    Raises:
        ValueError: as `nclens.metrics.collapse.class_means`; a weight of another shape or device, or not finite.

    Source: kernels and `unc3`: Liu et al., arXiv 2303.06484; one-vs-rest distance: Jiang et al., arXiv 2310.05351.

    >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> values = generalised_collapse(features, torch.arange(4), features)
    >>> round(values["one_vs_rest_means"], 9), values["one_vs_rest_optimum"], round(values["gnc2_distance_means"], 4)
    (1.0, 1.0, 1.6095)
    """
    with torch.no_grad():
        weight = check_float64("weight", weight, (None, None), as_tensor("features", features))
        means = class_means(features, labels, len(weight), ignore_index=ignore_index, min_samples=min_samples)
        weight = check_float64("weight", weight, tuple(means.shape), means)
        kept = with_mean(means)
        values = generalised_table(means[kept], weight[kept])
        return dict(zip(KEYS, torch.stack([values[key] for key in KEYS]).tolist(), strict=True))


def generalised_table(means: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Return every key as float64 scalars.

    Args:
        means: (K, d), float64 class means.
        weight: (K, d), float64.
    """
    rows = {"means": unit_rows(centred_rows(scaled(means)[0])), "classifier": unit_rows(weight)}
    values: dict[str, Tensor] = {}
    for matrix, unit in rows.items():
        for kernel, (mean, variance) in _pair_kernels(unit).items():
            values |= {f"gnc2_{kernel}_{matrix}": mean, f"gnc2_{kernel}_variance_{matrix}": variance}
        values[f"one_vs_rest_{matrix}"] = means.new_tensor(_one_vs_rest(unit.cpu().numpy()))
    values["one_vs_rest_optimum"] = means.new_tensor(one_vs_rest_optimum(*means.shape))
    values["unc3"] = (rows["means"] * rows["classifier"]).sum(1).var(correction=0)
    return values


def one_vs_rest_distance(rows: Array) -> float:
    """Return min_k dist(u_k, conv{u_l, l != k}) of the unit rows u_k = a_k / |a_k|: how far each is from all others.

    Larger is better. 0: a row lies in the convex hull of the others. The largest possible value is
    `one_vs_rest_optimum`. Each distance is that of the min-norm point of the differences V' (columns u_l - u_k), x =
    y / sum y with y the non-negative least-squares solution of [V; 1'] y = [0; 1], by `scipy.optimize.nnls`. Rows that
    are affinely independent and have their foot in the hull, as near a simplex, have the closed form 1 / |g_k|, g_k a
    column of the pseudo-inverse of the centred rows. Rows whose distance is at least that of another, by the bounds
    1 - max_l u_k'u_l and 1 / |g_k|, are not solved for. With more than 200 rows, steps of an accelerated projected
    gradient first bound all distances from both sides: for a point p of the hull of the differences, min_l p'v_l / |p|
    is at most the distance and |p| at least. So few rows are left to solve for, and the value is that of the solver.

    Args:
        rows: (K, d), K >= 2, any floating dtype.

    Returns:
        A value in [0, 2], without unit, to about 1e-7 below 1e-6 and 1e-12 above; nan where a row is zero.

    Raises:
        ValueError: a wrong type or shape, values that are not finite, or fewer than two rows.

    Source: Jiang et al., Generalized neural collapse for a large number of classes, arXiv 2310.05351.

    >>> round(one_vs_rest_distance(torch.tensor([[3.0], [-2.0]])), 12)
    2.0
    """
    with torch.no_grad():
        given = as_tensor("rows", rows)
        checked = check_float64("rows", given, (None, None), given)
        if len(checked) < 2 or checked.shape[1] < 1:
            raise ValueError(f"rows: expected two or more, of a column or more, got {tuple(checked.shape)}")
        return _one_vs_rest(unit_rows(checked).cpu().numpy())


def one_vs_rest_optimum(classes: int, dim: int) -> float:
    """Return the largest one-vs-rest distance that K unit vectors in d dimensions can have; nan where it is not known.

    K / (K - 1), a simplex, for K <= d + 1; 1 for d + 2 <= K <= 2d; 1 - cos(2 pi / K), a regular polygon, for d = 2.

    Args:
        classes: K, 2 or more.
        dim: d, 1 or more.

    Raises:
        ValueError: K or d is no integer, or too small.

    Source: Jiang et al., arXiv 2310.05351.

    >>> one_vs_rest_optimum(3, 2), one_vs_rest_optimum(10, 5), one_vs_rest_optimum(10, 4)
    (1.5, 1.0, nan)
    """
    classes, dim = as_integer("classes", classes, 2), as_integer("dim", dim, 1)
    if classes <= dim + 1:
        return classes / (classes - 1)
    if classes <= 2 * dim:
        return 1.0
    return 1 - math.cos(2 * math.pi / classes) if dim == 2 else math.nan


def _pair_kernels(unit: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and population variance of each kernel over the pairs of rows."""
    count, coinciding = 0, False
    mean, squares = unit.new_zeros(len(KERNELS)), unit.new_zeros(len(KERNELS))
    for distance in _pair_distances(unit):
        coinciding |= bool((distance == 0).any())
        values = torch.stack([-distance.log(), 1 / distance, distance])
        own = values.mean(1)
        share = distance.numel() / (count + distance.numel())
        squares += (values - own[:, None]).square().sum(1) + (own - mean).square() * (count * share)
        mean, count = mean + (own - mean) * share, count + distance.numel()
    variance = squares / count
    if coinciding:
        mean[:2], variance[:2] = math.inf, math.nan
    return {kernel: (mean[place], variance[place]) for place, kernel in enumerate(KERNELS)}


def _pair_distances(unit: Tensor) -> Iterator[Tensor]:
    """Yield the distances |u_k - u_l|, k < l, of some rows k at a time."""
    size = max(1, _TILE_BYTES // (8 * len(unit)))
    for start in range(0, len(unit) - 1, size):
        rows, others = unit[start : start + size], unit[start:]
        k, m = torch.triu_indices(len(rows), len(others), 1, device=unit.device)
        squared = (2 - 2 * (rows @ others.T)[k, m]).clamp(min=0)
        close = (squared < _CLOSE).nonzero()[:, 0]
        for part in close.split(max(1, _TILE_BYTES // (8 * unit.shape[1]))):
            squared[part] = (rows[k[part]] - others[m[part]]).square().sum(1)
        yield squared.sqrt()


def _one_vs_rest(unit: NDArray[np.float64]) -> float:
    """The one-vs-rest distance of unit rows (K, d)."""
    if not np.isfinite(unit).all():
        return math.nan
    if unit.shape[1] > len(unit):
        unit = np.asarray(np.linalg.qr(unit.T, mode="r")).T
    bound, exact = _bounds(unit)
    best = float(bound[exact].min(initial=math.inf))
    order = np.argsort(bound, kind="stable")
    if len(unit) > _MANY:
        order = _tighten(unit, bound, order[bound[order] < best], best)
    for k in order:
        if bound[k] >= best:
            continue
        if math.isnan(distance := _hull_distance(unit, int(k))):
            return math.nan
        best = min(best, distance)
    return min(best, 2.0)  # not beyond it by rounding


def _bounds(unit: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A lower bound (K,) of each row's distance to the hull of the others, and where it is the distance itself."""
    classes, dim = unit.shape
    bound, exact = np.zeros(classes), np.zeros(classes, dtype=bool)
    gradients = None
    if classes <= dim + 1:
        u, s, vt = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
        u, s, vt = u[:, : classes - 1], s[: classes - 1], vt[: classes - 1]
        if s[-1] > _WELL_CONDITIONED * s[0]:
            gradients = (u / s) @ vt  # the barycentric coordinate of row k grows along row k of these alone
    size = max(1, _TILE_BYTES // (8 * classes))
    for start in range(0, classes, size):
        tile = slice(start, min(start + size, classes))
        own = np.arange(tile.start, tile.stop)
        cosines = unit[tile] @ unit.T
        cosines[own - start, own] = -1.0
        bound[tile] = np.maximum(1 - cosines.max(1), 0.0)
        if gradients is not None:
            products = gradients[tile] @ gradients.T
            height = 1 / np.sqrt(products[own - start, own])
            products[own - start, own] = -1.0
            exact[tile] = products.max(1) <= 0
            bound[tile] = np.where(exact[tile], height, np.maximum(bound[tile], height))
    return bound, exact


def _tighten(
    unit: NDArray[np.float64], bound: NDArray[np.float64], order: NDArray[np.intp], best: float
) -> NDArray[np.intp]:
    """Raise the lower bounds of the rows in `order`; return those that may have the least distance, the likely first.

    Args:
        unit: (K, d).
        bound: (K,), written to.
        order: rows, by their bounds.
        best: a distance that is known.
    """
    rows = unit - unit.mean(0)
    step = 1 / max(float(np.linalg.eigvalsh(rows.T @ rows)[-1]), np.finfo(np.float64).tiny)
    ceiling, above = best, np.full(len(unit), math.inf)
    for start in range(0, len(order), _ROWS):
        own = order[start : start + _ROWS]
        own = own[bound[own] <= ceiling]
        x = np.full((len(own), len(unit)), 1 / len(unit))
        momentum, theta = x, 1.0
        for count in range(_STEPS):
            if not len(own):
                break
            gap = momentum @ rows - rows[own]
            new = _onto_simplex(momentum - step * (gap @ rows.T), own)
            # Momentum that points uphill is given up (O'Donoghue and Candes).
            turn = ((momentum - new) * (new - x)).sum() > 0
            following = 1.0 if turn else (1 + math.sqrt(1 + 4 * theta * theta)) / 2
            momentum = new if turn else new + (theta - 1) / following * (new - x)
            x, theta = new, following
            if count % _BETWEEN == _BETWEEN - 1:
                point = x @ rows - rows[own]
                norm = np.linalg.norm(point, axis=1)
                products = point @ rows.T
                places = np.arange(len(own))
                products -= products[places, own][:, None]
                products[places, own] = math.inf
                lower = products.min(1) / np.maximum(norm, np.finfo(np.float64).tiny)
                bound[own], above[own] = np.maximum(bound[own], lower), np.minimum(above[own], norm)
                ceiling = min(ceiling, float(norm.min()))
                left = (bound[own] <= ceiling) & (lower < norm * (1 - 1e-9))
                own, x, momentum = own[left], x[left], momentum[left]
    kept = order[bound[order] <= ceiling]
    return kept[np.argsort(above[kept], kind="stable")]


def _onto_simplex(values: NDArray[np.float64], own: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the nearest points to rows (R, K) with entries of 0 or more that sum to 1, and 0 at their own place."""
    places = np.arange(len(own))
    values[places, own] = values.max(1) - 2  # below any threshold
    falling = -np.sort(-values, axis=1)
    excess = (falling.cumsum(1) - 1) / np.arange(1, values.shape[1] + 1)
    threshold = excess[places, (falling > excess).sum(1) - 1]
    return np.maximum(values - threshold[:, None], 0)


def _hull_distance(unit: NDArray[np.float64], k: int) -> float:
    """Distance of row k to the convex hull of the others; nan, with a warning, where the solver does not converge."""
    differences = np.delete(unit, k, axis=0) - unit[k]
    system = np.vstack([differences.T, np.ones(len(differences))])
    try:
        y, _ = nnls(system, np.eye(len(system))[-1], maxiter=30 * len(differences))
    except RuntimeError:
        warnings.warn("one-vs-rest distance: the solver does not converge", RuntimeWarning, stacklevel=2)
        return math.nan
    return float(np.linalg.norm(y @ differences) / y.sum())
