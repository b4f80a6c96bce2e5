"""Measures of the representation: spread within classes, logits on errors, projections, mutual information.

Pure functions of features (N, d) or logits (N, K), computed in float64 on the device of the input.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor

from nclens._inputs import Array, as_tensor, check_labels, scaled, unscaled
from nclens.metrics.calibration import check_logits, present


def _check_features(values: Array, name: str = "features") -> Tensor:
    features = as_tensor(name, values)
    if features.ndim != 2 or 0 in features.shape or not features.is_floating_point():
        raise ValueError(
            f"{name} must be a non-empty float tensor (N, d), got {features.dtype} {tuple(features.shape)}"
        )
    if not torch.isfinite(features).all():
        raise ValueError(f"{name} must be finite, got nan or inf")
    return features


def angular_spread(features: Array, labels: Array) -> dict[str, float]:
    """Spread of the features' directions within classes and in total, each class with the same weight.

    With unit vectors u = h/|h|, their class means ubar_k and the mean over classes:
    ``d_within = 1 - mean_k |ubar_k|^2``, ``d_total = 1 - |mean_k ubar_k|^2``, ``r2_angular = 1 - d_within / d_total``.
    0 <= d_within <= d_total <= 1 and 0 <= r2_angular <= 1. Computed as mean squared distances from the means, which
    is the same and does not cancel when the classes collapse. Invariant to rotation and to scaling of every single
    feature. The source calls r2_angular R^2; it is no coefficient of determination of predictions.

    A feature vector that is zero has no direction: all three are then nan, with a warning. If all directions are the
    same, r2_angular is nan.

    Args:
        features: (N, d), finite.
        labels: (N,) integers of 0 or more; the classes are the values that occur.

    Raises:
        ValueError: on wrong shapes or types, non-finite features, or negative labels.

    Source: feature metrics of MaxSup, arXiv 2502.15798.
    """
    features = _check_features(features)
    labels = check_labels(labels, None, len(features), features)
    h = features.double()
    # Scaled by the largest entry first, so that squaring neither overflows nor vanishes.
    largest = h.abs().amax(dim=1, keepdim=True)
    if not largest.all():
        zeros = int((largest == 0).sum())
        warnings.warn(
            f"{zeros} of {len(h)} feature vectors are zero and have no direction: angular spread is nan",
            RuntimeWarning,
            stacklevel=2,
        )
        return dict.fromkeys(("d_within", "d_total", "r2_angular"), math.nan)
    u = torch.nn.functional.normalize(h / largest, dim=1)
    _, group, count = torch.unique(labels, return_inverse=True, return_counts=True)
    size = count.double()
    means = u.new_zeros(len(size), u.shape[1]).index_add_(0, group, u) / size[:, None]
    # The mean over classes of the means over their samples, as one weighted sum.
    weight = 1 / (size[group] * len(size))
    within = float((weight * (u - means[group]).square().sum(dim=1)).sum())
    between = float((means - means.mean(dim=0)).square().sum(dim=1).mean())
    total = within + between
    return {"d_within": within, "d_total": total, "r2_angular": between / total if total > 0 else math.nan}


def by_correctness(values: dict[str, Tensor], correct: Tensor) -> dict[str, float]:
    """Means over the samples predicted rightly and wrongly; nan if there are none."""
    parts = {"correct": correct, "incorrect": ~correct}
    return {
        f"{name}_{part}": float(value[mask].mean()) for name, value in values.items() for part, mask in parts.items()
    }


def logit_gap(logits: Array, labels: Array) -> float:
    """Mean over samples of ``z_y - mean_{j != y} z_j``, the lead of the label's logit over the others.

    In units of the logits, of either sign. At the minimiser of the unconstrained feature model every sample has the gap
    ``a_delta`` (2402.03979, UFM, ``logit_gap`` of :mod:`nclens.ufm`).

    A masked class is none of the others. The gap is -inf where a label is masked, and nan where a sample has no other
    class.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) in [0, K).

    Raises:
        ValueError: as :func:`nclens.metrics.calibration.check_logits`.
    """
    logits, labels = check_logits(logits, labels)
    return mean_gap(leads(logits.double(), labels), logits.shape[1])


def leads(z: Tensor, labels: Tensor) -> Tensor:
    """Return of each sample ``(K - 1) (z_y - mean_{j != y} z_j)`` (N,) from float64 logits (N, K)."""
    there, _ = present(z)
    lead = (z.gather(1, labels[:, None]) - z).masked_fill(~there, 0)
    # The factor is 1 where no class is masked.
    return lead.sum(dim=1) * ((z.shape[1] - 1) / (there.sum(dim=1) - 1).double())


def mean_gap(lead: Tensor, classes: int) -> float:
    """Return :func:`logit_gap` from the `leads` of all samples (N,)."""
    return float(lead.mean() / (classes - 1))


def margin(features: Array, labels: Array, weight: Array, bias: Array | None = None) -> float:
    """Mean distance of the features to the nearest decision boundary of their class, relative to their norms.

    ``mean_i min_{j != y} ((w_y - w_j).h_i + b_y - b_j) / (|w_y - w_j| |h_i|)`` with y the label of sample i: positive
    where a sample is predicted correctly. Without a bias it is the sine of the angle to the boundary, in [-1, 1], and
    invariant to scaling of every single feature and of W; with one, to scaling all features and the bias together, and
    to scaling W and b together. At neural collapse without a bias it is ``sqrt(K / (2 (K - 1)))``.

    A class whose row of W equals that of y has no boundary with it and is left out. nan, with a warning, where a
    feature vector is zero or no class is left.

    Args:
        features: (N, d), finite.
        labels: (N,) integers in [0, K).
        weight: (K, d), finite.
        bias: (K,), finite; None for a head without.

    Raises:
        ValueError: on wrong shapes or types, non-finite values, or labels out of range.

    Source: ours; the distance to the boundary of a linear classifier.
    """
    features, weight = _check_features(features), _check_features(weight, "weight")
    if features.shape[1] != weight.shape[1]:
        raise ValueError(
            f"features (N, d) and weight (K, d) do not fit: {tuple(features.shape)}, {tuple(weight.shape)}"
        )
    labels = check_labels(labels, len(weight), len(features), features)
    b = weight.new_zeros(len(weight)) if bias is None else as_tensor("bias", bias)
    if b.shape != (len(weight),) or not b.is_floating_point() or not torch.isfinite(b).all():
        raise ValueError(f"bias must be a finite float tensor ({len(weight)},), got {b.dtype} {tuple(b.shape)}")
    # Features and bias by one power of two, weight and bias by another, so that no product leaves the range.
    h, size = scaled(features.double())
    w, other = scaled(weight.double())
    offset = unscaled(b.double(), -size - other)
    norm = h.norm(dim=1)
    total = h.new_zeros(())
    for label in labels.unique():
        own = labels == label
        difference = w[label] - w
        distance = difference.norm(dim=1)
        there = distance > 0
        if not (there.any() and norm[own].all()):
            what = "a feature vector is zero" if there.any() else f"all rows of weight equal row {int(label)}"
            warnings.warn(f"{what}: the margin is nan", RuntimeWarning, stacklevel=2)
            return math.nan
        lead = h[own] @ difference[there].T + (offset[label] - offset[there])
        total += ((lead / distance[there]).amin(dim=1) / norm[own]).sum()
    return float(total / len(h))


def smoothing_parts(logits: Array, labels: Array) -> dict[str, float]:
    """The two parts of label smoothing's penalty, and the penalty of MaxSup, on right and on wrong predictions.

    Label smoothing adds ``alpha (z_y - mean z)`` to cross entropy, the sum of two parts. Given per unit of alpha, in
    units of the logits, whatever the network was trained with, each as the mean over correct and over incorrect samples
    (keys ``..._correct`` and ``..._incorrect``; nan if there are none):

    * ``ls_regularisation`` = ``(1/K) sum_{z_m < z_y} (z_y - z_m)`` >= 0.
    * ``ls_error_amplification`` = ``(1/K) sum_{z_n > z_y} (z_y - z_n)`` <= 0; it is 0 on correct predictions.
    * ``top_logit_gap`` = ``max_k z_k - mean z`` >= 0, how far the network commits itself. On correct predictions it
      is ``ls_regularisation``.

    A masked class is left out, also of K. Where a label is masked, ``ls_error_amplification`` is -inf.

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) in [0, K).

    Raises:
        ValueError: as :func:`nclens.metrics.calibration.check_logits`.

    Source: the decomposition of MaxSup, arXiv 2502.15798.
    """
    logits, labels = check_logits(logits, labels)
    z = logits.double()
    return by_correctness(parts_of_smoothing(z, labels), z.argmax(dim=1) == labels)


def parts_of_smoothing(z: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the parts that :func:`smoothing_parts` averages, of each sample (N,) of float64 logits (N, K)."""
    there, share = present(z)
    lead = (z.gather(1, labels[:, None]) - z).masked_fill(~there, 0)
    gap = (z.amax(dim=1, keepdim=True) - z).masked_fill(~there, 0)
    return {
        "ls_regularisation": lead.clamp(min=0).mean(dim=1) * share,
        "ls_error_amplification": lead.clamp(max=0).mean(dim=1) * share,
        "top_logit_gap": gap.mean(dim=1) * share,
    }


def top_logit_gradient(logits: Array, labels: Array, loss: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
    """The whole gradient of a loss on the largest logit, on right and on wrong predictions.

    Keys ``top_logit_gradient_correct`` and ``top_logit_gradient_incorrect``: means of ``dL_i / dz_i,top`` with top the
    first of the largest logits (nan if there are no such samples). A step of gradient descent raises the logit where
    this is negative. For cross entropy it is p_top - 1 and p_top; label smoothing adds alpha (1 - 1/K) and -alpha/K,
    MaxSup alpha (1 - 1/K) and alpha (1 - 1/K).

    Args:
        logits: (N, K); -inf masks a class.
        labels: (N,) in [0, K).
        loss: of float64 logits and int64 labels, one value per sample (N,): a loss of :mod:`nclens.losses` with its
            parameters bound.

    Raises:
        ValueError: as :func:`nclens.metrics.calibration.check_logits`, or if the loss returns another shape than (N,).

    Source: gradient analysis of MaxSup, arXiv 2502.15798.
    """
    logits, labels = check_logits(logits, labels)
    values = {"top_logit_gradient": gradients_on_top(logits, labels, loss)}
    return by_correctness(values, logits.argmax(dim=1) == labels)


def gradients_on_top(logits: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return what :func:`top_logit_gradient` averages, of each sample (N,)."""
    with torch.enable_grad():
        z = logits.detach().double().requires_grad_()
        value = loss(z, labels)
        if value.shape != labels.shape:
            raise ValueError(f"loss must return one value per sample, shape ({len(z)},), got {tuple(value.shape)}")
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return gradient.gather(1, z.argmax(dim=1)[:, None])[:, 0].detach()


def with_samples(classes: Sequence[int], *labels: Array) -> list[int]:
    """Return the classes, each that lacks a sample in a split replaced by the most frequent one that has some in all.

    Frequent in the first split; of equally frequent classes the lower comes first. Fewer are returned where there are
    not as many.

    Args:
        classes: distinct class numbers.
        labels: of each split (N,), integers of any type.

    >>> with_samples([0, 1, 2], torch.tensor([0, 4, 4, 3, 3, 3, 2]), torch.tensor([0, 2, 4, 3]))
    [0, 3, 2]
    """
    counts = [Counter(check_labels(of_split, None).tolist()) for of_split in labels]
    common = [k for k in sorted(counts[0]) if all(k in count for count in counts)]
    others = iter(sorted((k for k in common if k not in classes), key=lambda k: -counts[0][k]))
    found = (k if k in common else next(others, None) for k in classes)
    return [k for k in found if k is not None]


def _are_distinct(classes: Sequence[int], rows: int) -> bool:
    """Whether they are integers in [0, rows), each once; True is no integer."""
    whole = all(isinstance(k, Integral) and not isinstance(k, bool) and 0 <= k < rows for k in classes)
    return whole and len(set(classes)) == len(classes)


def template_plane(weight: Array, classes: Sequence[int]) -> Tensor:
    """Orthonormal basis (d, 2) of the plane through the templates of three classes.

    The templates w_1, w_2, w_3 are rows of the head's weight; the basis is that of u = w_2 - w_1 and v = w_3 - w_1 by
    QR, its signs chosen such that u lies along the first axis and v is positive on the second.

    Args:
        weight: (K, d), d >= 2, finite.
        classes: three distinct indices in [0, K).

    Raises:
        ValueError: on wrong shape or non-finite weight, other than three distinct classes, an index out of range, or
            templates on one line.

    Source: Mueller et al., arXiv 1906.02629 (the signs are ours).
    """
    weight = _check_features(weight, "weight")
    if len(classes) != 3 or not _are_distinct(classes, len(weight)):
        raise ValueError(f"classes must be three distinct indices in [0, {len(weight)}), got {list(classes)}")
    if weight.shape[1] < 2:
        raise ValueError(f"weight must have at least 2 columns to hold a plane, got {weight.shape[1]}")
    w, _ = scaled(weight.double()[[int(k) for k in classes]])
    sides = (w[1:] - w[0]).T
    basis, triangle = torch.linalg.qr(sides)
    # Relative to the templates and not to their differences, which of equal templates are rounding errors themselves.
    # Those of the weight's own precision; with few digits, as bfloat16 has, a larger factor would refuse good planes.
    if triangle.diagonal().abs().min() <= max(1e-12, 16 * torch.finfo(weight.dtype).eps) * w.norm():
        raise ValueError(f"the templates of classes {list(classes)} lie on one line and span no plane")
    return basis * triangle.diagonal().sign()


def principal_plane(rows: Array, completed_by: Array | None = None) -> Tensor:
    """Orthonormal basis (d, 2) of the plane in which rows, such as class means, vary most.

    The first two right singular vectors of the centred rows, the entry of largest magnitude of each positive. Where
    the rows vary along one direction only, as the means of two classes do, the second vector is the direction across
    it in which `completed_by` varies most. A direction that is still missing is zero.

    Args:
        rows: (N, d), finite.
        completed_by: (M, d), finite, such as the features that the means are of.

    Raises:
        ValueError: on wrong shapes or non-finite values.
    """
    rows = _check_features(rows, "rows")
    basis = rows.new_zeros((rows.shape[1], 2), dtype=torch.float64)
    found = _directions(rows, basis)
    basis[:, : found.shape[1]] = found
    if completed_by is not None and found.shape[1] < 2:
        more = _check_features(completed_by, "completed_by")
        if more.shape[1] != rows.shape[1]:
            raise ValueError(
                f"rows (N, d) and completed_by (M, d) do not fit: {tuple(rows.shape)}, {tuple(more.shape)}"
            )
        added = _directions(more, basis)[:, : 2 - found.shape[1]]
        basis[:, found.shape[1] : found.shape[1] + added.shape[1]] = added
    return basis


def _directions(rows: Tensor, across: Tensor) -> Tensor:
    """At most two orthonormal directions (d, r) in which rows vary most, perpendicular to the columns of `across`."""
    unit, _ = scaled(rows.double())
    centred = unit - unit.mean(dim=0)
    centred = centred - centred @ across @ across.T
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = directions[:2][sizes[:2] > 1e-9 * unit.norm()].T
    largest = kept.abs().argmax(dim=0, keepdim=True)
    return kept * kept.gather(0, largest).sign()


def project(features: Array, plane: Array) -> Tensor:
    """Coordinates (N, 2) of features (N, d) in a plane (d, 2), float64; nothing is centred.

    The plane is that of :func:`template_plane` or :func:`principal_plane`.

    Raises:
        ValueError: on wrong shapes or non-finite features.
    """
    features, plane = _check_features(features), _check_features(plane, "plane")
    if plane.shape != (features.shape[1], 2):
        raise ValueError(f"plane must have shape ({features.shape[1]}, 2), got {tuple(plane.shape)}")
    return features.double() @ plane.double()


def template_spread(
    features: Array,
    labels: Array,
    weight: Array,
    classes: Sequence[int] | None = None,
    *,
    min_samples: int | None = None,
) -> float:
    """Spread of the classes' clusters relative to their distance, in the span of the head's templates.

    ``mean_k E_i |P(h_ki - hbar_k)|^2 / mean_k |P(hbar_k - hG)|^2`` with P the orthogonal projection onto the span of
    the differences ``w_k - w_l`` of the templates (rows of the head's weight) and hG the mean of the class means, each
    class with the same weight. Of three classes that span is the plane of :func:`template_plane`, and the number says
    of its picture how broad the clusters are beside the triangle of their centres; of all K it says the same without
    choosing three. Where P is the identity it is tr S_W / tr S_B, ``nc1_quotient`` of :mod:`nclens.metrics.collapse`.

    In [0, inf]; invariant to scaling of features or weight and to moving all features. inf where the projected class
    means are one, nan where all the projected features are; nan, with a warning, where the templates are one.

    Args:
        features: (N, d), finite.
        labels: (N,) integers in [0, K).
        weight: (K, d), finite.
        classes: those that are looked at, with their templates; by default all K, or those with `min_samples`.
        min_samples: 1 or more samples, with which a class is among the default.

    Raises:
        ValueError: on wrong shapes or non-finite values, labels out of range, fewer than two classes, an index out of
            range, or a class without samples.

    Source: ours, of the claim on the projections of Mueller et al., arXiv 1906.02629.
    """
    features, weight = _check_features(features), _check_features(weight, "weight")
    if features.shape[1] != weight.shape[1]:
        raise ValueError(
            f"features (N, d) and weight (K, d) do not fit: {tuple(features.shape)}, {tuple(weight.shape)}"
        )
    labels = check_labels(labels, len(weight), len(features), features)
    enough = labels.bincount(minlength=len(weight)) >= (min_samples or 0)
    chosen = enough.nonzero()[:, 0].tolist() if classes is None else list(classes)
    if len(chosen) < 2 or not _are_distinct(chosen, len(weight)):
        raise ValueError(f"classes must be at least two distinct indices in [0, {len(weight)}), got {chosen}")
    chosen = [int(k) for k in chosen]
    span = template_span(weight.double()[chosen])
    if not len(span):
        warn_no_span()
        return math.nan
    seen = scaled(features.double())[0] @ span.T
    groups = [seen[labels == k] for k in chosen]
    if not all(len(group) for group in groups):
        raise ValueError(f"every class of {chosen} needs a sample, got {[len(group) for group in groups]}")
    means = torch.stack([group.mean(dim=0) for group in groups])
    spreads = [(group - mean).square().sum(dim=1).mean() for group, mean in zip(groups, means, strict=True)]
    return float(torch.stack(spreads).mean() / (means - means.mean(dim=0)).square().sum(dim=1).mean())


def template_span(templates: Tensor) -> Tensor:
    """Orthonormal basis (r, d) of the span of the differences of float64 templates (R, d); r = 0 where they are one."""
    w, _ = scaled(templates)
    _, sizes, directions = torch.linalg.svd(w - w.mean(dim=0), full_matrices=False)
    # Relative to the templates, as in `template_plane`.
    return directions[sizes > 1e-12 * w.norm()]


def warn_no_span() -> None:
    """Warn that :func:`template_spread` is nan."""
    warnings.warn("the templates are one and span nothing: template_spread is nan", RuntimeWarning, stacklevel=3)


def mutual_information(draws: Array, means: Array) -> float:
    """Proxy of the mutual information between input and a logit difference, in nats, at most log N.

    ``I = (1/N) sum_x [ -(f_x - mu_x)^2 / (2 s^2) - log (1/N) sum_x' exp(-(f_x - mu_x')^2 / (2 s^2)) ]`` with
    ``s^2 = (1/N) sum_x (f_x - mu_x)^2``: the output as a Gaussian of shared variance round the mean of its input.
    Estimated from few augmentations it is biased and may be slightly negative; it is not clipped. Invariant to scaling
    and shifting draws and means together.

    Args:
        draws: f (N,), for each input the logit difference of two classes at one fresh random augmentation.
        means: mu (N,), the mean of it over other augmentations of the same input.

    Raises:
        ValueError: on wrong shapes, non-finite values, or s = 0.

    Source: Mueller et al., arXiv 1906.02629.
    """
    draws, means = as_tensor("draws", draws), as_tensor("means", means)
    if draws.ndim != 1 or len(draws) < 1 or means.shape != draws.shape:
        raise ValueError(
            f"draws and means must both have shape (N,), got {tuple(draws.shape)} and {tuple(means.shape)}"
        )
    both = torch.stack([draws.double(), means.double()])
    if not torch.isfinite(both).all():
        raise ValueError("draws and means must be finite, got nan or inf")
    f, mu = scaled(both)[0]
    difference = f[:, None] - mu[None, :]
    # By the size of the deviations themselves: others may then overflow, whose density is 0.
    deviation, size = scaled(difference.diagonal())
    variance = deviation.square().mean()
    if variance == 0:
        raise ValueError("draws equal their means: with s = 0 the mutual information is not defined")
    exponent = -unscaled(difference, -size).square() / (2 * variance)
    return float((exponent.diagonal() - exponent.logsumexp(dim=1)).mean()) + math.log(len(f))
