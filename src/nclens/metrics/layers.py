"""Collapse layer by layer: what the features of one layer show, and the law of equi-separation over all of them.

h_i is the pooled output of a layer for sample i, d_l numbers; y_i its class among K, or its n targets. Notation as in
`nclens.metrics.collapse` and `nclens.metrics.regression`.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import linregress
from torch import Tensor

from nclens._inputs import Array, as_integer, as_tensor, count_rows, describe
from nclens.metrics.collapse import (
    check_float64,
    check_means,
    check_samples,
    class_means,
    has_two_classes,
    neural_collapse,
    with_mean,
)
from nclens.metrics.ranks import collapse_ranks
from nclens.metrics.regression import explained_variance_ratio

KEYS = ("nc1", "nc1_quotient", "cdnv", "accuracy", "equiangular", "stable_rank")
"""The keys of `layer_collapse`, in order."""
REGRESSION_KEYS = ("noise", "cka", "readout_mse", "stable_rank", "stable_rank_weight")
"""The keys of `layer_regression`, in order."""
FEWEST_LAYERS = 6
"""Layers from which on a slope over them is fitted."""

_CHUNK = 4096


def layer_collapse(
    features: Array, labels: Array, classes: int, *, reference_means: Array | None = None
) -> dict[str, float]:
    """Return the measures of collapse of one layer's features, which need no classifier.

    | key | formula | range |
    |---|---|---|
    | `nc1` | tr(S_W pinv(S_B)) / K, of rank min(K - 1, d_l) at most, as in `neural_collapse` | [0, inf] |
    | `nc1_quotient` | tr S_W / tr S_B | [0, inf] |
    | `cdnv` | mean over k < l of (v_k + v_l) / (2 |hbar_k - hbar_l|^2) | [0, inf] |
    | `accuracy` | share of samples whose class has the nearest mean | [0, 1] |
    | `equiangular` | mean over k != l of |cos_kl + 1/(K-1)|, rows of M | [0, 2] |
    | `stable_rank` | |A|_F^2 / |A|_2^2 of the features minus their mean, A | [1, d_l] |

    All but the accuracy are about the means of the samples given. Classes with fewer than two samples are left out of
    them; with fewer than two others the values are nan, but for an accuracy by `reference_means`. The accuracy leaves
    out samples of classes without a reference mean; ties go to the lower class.

    Args:
        features: (N, d), any floating dtype; a tensor or NumPy array, as all arguments.
        labels: (N,), integers in [0, classes).
        classes: K.
        reference_means: (K, d), the means for the accuracy, a row of nan for a class without one; by default those of
            the samples. For a test split, give those of the training split.

    Raises:
        ValueError: as `neural_collapse`.
    """
    features, labels = check_samples(features, labels, as_integer("classes", classes, 2))
    if reference_means is not None and (rows := count_rows("reference_means", reference_means)) != classes:
        raise ValueError(f"reference_means: expected {classes} rows, one a class, got {rows}")
    if not has_two_classes(labels, classes):
        near = math.nan if reference_means is None else nearest_mean_accuracy(features, labels, reference_means)
        return dict.fromkeys(KEYS, math.nan) | {"accuracy": near}
    none = features.new_zeros(classes, features.shape[1])  # no key that is wanted is of the weight
    wanted = ("nc1", "nc1_quotient", "cdnv", "equiangular_means")
    found = neural_collapse(features, labels, none, None, min_samples=2, metrics=wanted)
    means = class_means(features, labels, classes, min_samples=1) if reference_means is None else reference_means
    return {
        "nc1": found["nc1"],
        "nc1_quotient": found["nc1_quotient"],
        "cdnv": found["cdnv"],
        "accuracy": nearest_mean_accuracy(features, labels, means),
        "equiangular": found["equiangular_means"],
        "stable_rank": collapse_ranks(features, labels, min_samples=2)["stable_rank_features"],
    }


def nearest_mean_accuracy(features: Array, labels: Array, reference_means: Array) -> float:
    """Return the share of samples (N, d) whose class has the nearest of the means (K, d); nan where there are none.

    A row of nan is a class without a mean; its samples are left out. Exact ties go to the lower class.

    Raises:
        ValueError: wrong types or shapes, features that are not finite, labels out of range, or fewer than two means.
    """
    means = as_tensor("reference_means", reference_means)
    features, labels = check_samples(features, labels, count_rows("reference_means", means))
    means = check_means("reference_means", means, (None, features.shape[1]), features)
    check_float64("features", features, (None, None), features)
    near = with_mean(means)
    kept = torch.isin(labels, near)
    right = 0
    for x, y in zip(features[kept].split(_CHUNK), labels[kept].split(_CHUNK), strict=True):
        distances = torch.cdist(x.double(), means[near], compute_mode="donot_use_mm_for_euclid_dist")
        right += int((near[distances.argmin(1)] == y).sum())
    return right / int(kept.sum()) if bool(kept.any()) else math.nan


def equi_separation(separations: Sequence[float]) -> tuple[float, float]:
    """Return the slope of log D_l over the layers l = 1, 2, ... and Pearson's r of both.

    D_l = tr(S_W pinv(S_B)) is K times `nc1` of layer l; the factor K changes neither. By the law of equi-separation D_l
    falls by the same factor, exp(slope), from each layer to the next, and r is -1 (He and Su, arXiv 2210.17020, who
    weigh S_B by the classes' sizes: the same where these are equal). The input is not one of the layers.

    Args:
        separations: D_l, or `nc1`, of the layers in order.

    Returns:
        slope, natural logarithm a layer, and r in [-1, 1]; both nan for fewer than six layers, or where a value is not
        finite and positive. r is nan where all are equal.

    Raises:
        ValueError: the values are no numbers.
    """
    given = np.asarray(separations)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iuf"):
        raise ValueError(f"separations: expected numbers, one a layer, got {separations!r}")
    values = given.astype(float)
    if len(values) < FEWEST_LAYERS or not (np.isfinite(values) & (values > 0)).all():
        return math.nan, math.nan
    logs = np.log(values)
    if np.ptp(logs) == 0:
        return 0.0, math.nan
    fit = linregress(np.arange(1, len(values) + 1), logs)
    return float(fit.slope), float(fit.rvalue)


def layer_regression(
    features: Array,
    targets: Array,
    *,
    train_features: Array | None = None,
    train_targets: Array | None = None,
    weight: Array | None = None,
) -> dict[str, float]:
    """Return the measures of deep neural regression collapse of one layer's features.

    | key | formula | range |
    |---|---|---|
    | `noise` | 1 - tr(V_n S_H V_n') / tr S_H, V_n the top n principal directions, n the number of targets | [0, 1] |
    | `cka` | linear CKA, |Y'H|_F^2 / (|H'H|_F |Y'Y|_F), H and Y centred | [0, 1] |
    | `readout_mse` | mean of |y_i - A h_i - a|^2, A and a the least-squares fit to the training samples | [0, inf) |
    | `stable_rank` | |H|_F^2 / |H|_2^2, H centred | [1, d_l] |
    | `stable_rank_weight` | that of the weight, not centred; nan without one | [1, d_l] |

    `readout_mse` is summed over the targets, in squared target units. A matrix that is zero has no rank: nan.

    Args:
        features: (N, d).
        targets: (N, n).
        train_features, train_targets: what A and a are fitted to; by default the samples themselves.
        weight: (d, ...) of the layer: a matrix, or a kernel, which is taken for a matrix with d rows.

    Raises:
        ValueError: wrong types or shapes, or numbers that are not finite.

    Source: arXiv 2603.23805.
    """
    h, y = (_matrix(name, given) for name, given in (("features", features), ("targets", targets)))
    fitted = h if train_features is None else _matrix("train_features", train_features)
    aims = y if train_targets is None else _matrix("train_targets", train_targets)
    for name, one, other in (("targets", y, h), ("train_targets", aims, fitted)):
        if len(one) != len(other):
            raise ValueError(f"{name}: expected {len(other)} rows as the features, got {len(one)}")
    if fitted.shape[1] != h.shape[1]:
        raise ValueError(f"train_features: expected {h.shape[1]} columns as the features, got {fitted.shape[1]}")
    if aims.shape[1] != y.shape[1]:
        raise ValueError(f"train_targets: expected {y.shape[1]} columns as the targets, got {aims.shape[1]}")
    kernel = None if weight is None else as_tensor("weight", weight)
    if kernel is not None and kernel.ndim < 2:
        raise ValueError(f"weight: expected a matrix or a kernel (d, ...), got {describe(kernel)}")
    centre, aim = fitted.mean(0), aims.mean(0)
    # On the CPU, whose driver allows for features that do not have full rank.
    solution = torch.linalg.lstsq((fitted - centre).cpu(), (aims - aim).cpu(), driver="gelsd").solution.to(h.device)
    left = y - aim - (h - centre) @ solution
    explained = math.fsum(explained_variance_ratio(h, min(y.shape[1], h.shape[1])))
    return {
        "noise": explained if math.isnan(explained) else max(0.0, 1 - explained),
        "cka": linear_cka(h, y),
        "readout_mse": float(left.square().sum(1).mean()),
        "stable_rank": stable_rank(h - h.mean(0)),
        "stable_rank_weight": math.nan if kernel is None else stable_rank(kernel.flatten(1)),
    }


def linear_cka(features: Array, targets: Array) -> float:
    """Return linear centred kernel alignment, |Y'H|_F^2 / (|H'H|_F |Y'Y|_F), of features (N, d) and targets (N, n).

    Both are centred. In [0, 1], invariant to rotation and scale of each; nan where one of the two does not vary.

    Raises:
        ValueError: wrong types or shapes, or numbers that are not finite.

    Source: Kornblith et al., arXiv 1905.00414.
    """
    h, y = (_matrix(name, given) for name, given in (("features", features), ("targets", targets)))
    if len(h) != len(y):
        raise ValueError(f"targets: expected {len(h)} rows as the features, got {len(y)}")
    h, y = (_unit(part - part.mean(0)) for part in (h, y))
    return float((y.T @ h).square().sum() / ((h.T @ h).norm() * (y.T @ y).norm()))


def stable_rank(rows: Array) -> float:
    """Return |A|_F^2 / |A|_2^2 of the matrix A with these rows, not centred: in [1, rank A]; nan where it is zero.

    Raises:
        ValueError: a wrong type or shape, or numbers that are not finite.
    """
    unit = _unit(_matrix("rows", rows))
    if not bool(unit.isfinite().all()):
        return math.nan
    singular = torch.linalg.svdvals(unit)
    return float((singular / singular.max()).square().sum())


def _matrix(name: str, values: Array) -> Tensor:
    tensor = as_tensor(name, values)
    if 0 in tensor.shape:
        raise ValueError(f"{name}: expected at least one row and one column, got {describe(tensor)}")
    return check_float64(name, tensor, (None, None), tensor)


def _unit(matrix: Tensor) -> Tensor:
    """Divided by the largest entry, so that squares stay in range; nan where it is zero."""
    return matrix / matrix.abs().max()
