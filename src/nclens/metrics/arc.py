"""Arcs: do the samples of two similar classes lie at one distance from a third class, or in round clusters?"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nclens._inputs import Array, as_tensor, check_labels, check_masked
from nclens.metrics.representation import project, template_plane

#: Distance over spread below which a round cluster is as flat in polar coordinates as an arc.
NEAREST = 6.0


def mean_probabilities(logits: Array, labels: Array) -> Tensor:
    """Return P (K, K), P_ab the mean softmax probability of class b over the samples of class a, float64.

    A row of a class without samples is nan.

    Args:
        logits: (N, K).
        labels: integers (N,) in [0, K).

    Raises:
        ValueError: on wrong shapes, labels out of range, or logits of nan or +inf.
    """
    z = as_tensor("logits", logits)
    if z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"logits must be (N, K), got {tuple(z.shape)}")
    check_masked(z)
    y = check_labels(labels, z.shape[1], len(z))
    total = z.new_zeros(z.shape[1], z.shape[1], dtype=torch.float64)
    total.index_add_(0, y, z.double().softmax(1))
    return total / y.bincount(minlength=z.shape[1])[:, None]


def similar_classes(probabilities: Array) -> tuple[int, int, int]:
    """Return two similar classes a and b, and a third, c, that resembles neither.

    (a, b) are the classes of the largest P_ab, a != b; c is the class of the least P_ac + P_ca + P_bc + P_cb. Of equals
    the first is taken. A class whose row is nan, as that of one without samples is, is none of the three.

    Args:
        probabilities: P (K, K), K >= 3, as `mean_probabilities` gives it, here its mean over seeds.

    Raises:
        ValueError: P is not square, has another value that is not finite, or fewer than three classes with samples.
    """
    p = as_tensor("probabilities", probabilities).double()
    if p.ndim != 2 or p.shape[0] != p.shape[1] or len(p) < 3:
        raise ValueError(f"probabilities must be (K, K) of three classes or more, got {tuple(p.shape)}")
    known = (~p.isnan().all(1)).nonzero()[:, 0]
    if len(known) < 3:
        raise ValueError(f"three classes or more need samples, got {len(known)}")
    p = p[known][:, known]
    if not p.isfinite().all():
        raise ValueError("probabilities must be finite, but for the rows of classes without samples")
    exchanged = p.clone().fill_diagonal_(-math.inf)
    first, second = divmod(int(exchanged.argmax()), len(p))
    others = (p + p.T)[[first, second]].sum(0)
    others[[first, second]] = math.inf
    return int(known[first]), int(known[second]), int(known[others.argmin()])


def arc_ratio(features: Array, labels: Array, weight: Array, classes: Sequence[int]) -> dict[str, float]:
    """Return how flat the clusters of two classes are, seen from a third.

    In the plane of the three templates, with o the projection of the third class's mean and m_k that of class k:

    arc_ratio = sum_k var(x . u_k) / sum_k var(x . v_k), over the two classes k, with u_k the direction of m_k - o and
    v_k the direction across. It is 1 for round clusters at any distance, and less for arcs about o.

    arc_ratio_polar = sum_k var(r) / sum_k mean(r)^2 var(theta), with distance r and angle theta about o. It is nan
    where |m_k - o| is below 6 times the cluster's spread sqrt((var(x . u_k) + var(x . v_k)) / 2): nearer, round
    clusters are not round in these coordinates.

    o is the mean of features and no template: templates and features are not on one scale. Variances are those of the
    population.

    Args:
        features: (N, d), finite, d >= 2.
        labels: integers (N,).
        weight: the head's W (K, d).
        classes: the two similar classes and the third, as `similar_classes` gives them.

    Raises:
        ValueError: on wrong shapes or non-finite features, classes that are not three distinct ones or lack samples, or
            templates on one line.

    Source: Mueller et al., arXiv 1906.02629, figure 1, says that similar classes form an arc; the measure is ours.
    """
    plane = template_plane(weight, classes)
    if (found := as_tensor("features", features)).shape[1:] != plane.shape[:1]:
        raise ValueError(f"features must be (N, {len(plane)}) as the rows of weight, got {tuple(found.shape)}")
    points = project(features, plane)
    y = check_labels(labels, len(weight), len(points)).to(points.device)
    groups = [points[y == k] for k in classes]
    if short := [k for k, group in zip(classes, groups, strict=True) if len(group) < 2]:
        raise ValueError(f"classes {short}: each needs two samples or more")
    centre = groups[2].mean(0)
    along, across, radial, angular, distances = (0.0, 0.0, 0.0, 0.0, [])
    for group in groups[:2]:
        offset = group.mean(0) - centre
        distance = offset.norm()
        u = offset / distance
        v = torch.stack([-u[1], u[0]])
        variances = [float((group @ direction).var(correction=0)) for direction in (u, v)]
        along, across = along + variances[0], across + variances[1]
        distances.append(float(distance) / math.sqrt(sum(variances) / 2) if sum(variances) else math.inf)
        relative = group - centre
        radius, angle = relative.norm(dim=1), torch.atan2(relative @ v, relative @ u)
        radial += float(radius.var(correction=0))
        angular += float(radius.mean().square() * angle.var(correction=0))
    far = min(distances) >= NEAREST
    return {"arc_ratio": _ratio(along, across), "arc_ratio_polar": _ratio(radial, angular) if far else math.nan}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
