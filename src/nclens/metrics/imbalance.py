"""Collapse and accuracy of classes of unequal size, in float64.

Notation as in `nclens.metrics.collapse`; n_k are the training samples of class k, N their sum. A measure *weighs
classes* where each class counts alike whatever its size, and *weighs samples* where each sample does.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nclens._inputs import Array, as_tensor, check_labels, count_rows, describe
from nclens.metrics.calibration import check_logits
from nclens.metrics.collapse import check_float64, check_samples, class_means, has_two_classes, whitening

_CHUNK = 4096

TABLE_KEYS = ("nc1_balanced", "nc1_sample_mean", "nc2_sample_mean", "nc3_sample_mean", "seli_means")
"""The keys of `imbalance_table`, in order."""


def class_imbalance(
    features: Array, labels: Array, logits: Array, weight: Array, train_counts: Array
) -> dict[str, float]:
    """Measure a split whose network was trained on classes of unequal size.

    | key | formula | range |
    |---|---|---|
    | `nc1_balanced` | mean over k of `nc1_class_k`: nc1, each class weighing alike | [0, inf] |
    | `nc1_sample_mean` | tr(S_W pinv(S_B)) / K with S_B = sum_k (m_k / N) (hbar_k - hS)(hbar_k - hS)', hS the mean of \
the samples, m_k the class's samples in the split | [0, inf] |
    | `nc2_sample_mean`, `nc3_sample_mean` | nc2 and nc3 with hS in place of hG, the mean of the class means | [0, 2] |
    | `error_balanced` | mean over k of the error on class k | [0, 1] |
    | `classes_measured` | classes with two samples or more in the split, whose collapse is measured | 0 ... K |
    | `seli_means` | |nrm(M M') - nrm(U L U')|_F, see `seli_grams` | [0, 2] |
    | `accuracy_class_k` | accuracy on class k | [0, 1] |
    | `nc1_class_k` | mean over class k of |diag(1/s) V' (h_i - hbar_k)|^2, s and V of M | [0, inf] |
    | `feature_norm_class_k` | |hbar_k - hG| | [0, inf) |

    With equal classes `nc1_balanced` and `nc1_sample_mean` are `nc1`, `nc2_sample_mean` and `nc3_sample_mean` are `nc2`
    and `nc3`, `seli_means` is `nc2_means`, and `error_balanced` is the error. A class that the split lacks has nan.
    Where fewer than two classes have two samples, all but the error, the accuracies and the count are nan.

    Args:
        features: (N, d).
        labels: (N,), integers in [0, K).
        logits: (N, K); the prediction is the first of the largest.
        weight: (K, d), the classifier's.
        train_counts: (K,), n_k >= 1, whichever split is measured.

    Raises:
        ValueError: as `nclens.metrics.collapse.neural_collapse`, but not for classes that lack samples, as
            `nclens.metrics.calibration.check_logits`, or for counts that are not K numbers of at least 1.

    Source: Fang et al., arXiv 2101.12699 (measures against class size); Thrampoulidis et al., arXiv 2208.05512 (SELI).
    """
    with torch.no_grad():
        features, labels = check_samples(features, labels, count_rows("weight", weight))
        weight = check_float64("weight", weight, (None, features.shape[1]), features)
        train = check_counts(train_counts, len(weight))
        found = as_tensor("logits", logits)
        if found.shape != (len(labels), len(weight)):
            raise ValueError(f"logits: expected shape ({len(labels)}, {len(weight)}), got {describe(found)}")
        right = (check_logits(found, labels)[0].argmax(1) == labels).double()
        counts = labels.bincount(minlength=len(weight)).double()
        rights = torch.zeros_like(counts).index_add_(0, labels, right)
        if not has_two_classes(labels, len(weight)):
            check_float64("features", features, (None, None), weight)
            return imbalance_of(counts, rights, None, weight, train)
        kept = counts >= 2
        means = class_means(features, labels, len(weight), min_samples=2)
        own = torch.where(kept[:, None], means, 0.0)
        squares = _squares(features, labels, own, whitening(means[kept]))
        moments = Scattered(means, squares, lambda white: _squares(features, labels, own, white)[kept].sum())
        return imbalance_of(counts, rights, moments, weight, train)


class Scattered(NamedTuple):
    """What `imbalance_of` takes of the features of a split in which two classes have two samples.

    Attributes:
        means: (K, d), class means; of classes with fewer than two samples anything.
        squares: (K,), sums over the samples of each class of |A'(h_i - hbar_k)|^2, A the `whitening` of the means.
        along: of another matrix A the sum over all samples of classes with two or more.
    """

    means: Tensor
    squares: Tensor
    along: Callable[[Tensor], Tensor]


def imbalance_of(
    counts: Tensor, rights: Tensor, scattered: Scattered | None, weight: Tensor, train: Tensor
) -> dict[str, float]:
    """Return every key of `class_imbalance`.

    Args:
        counts: (K,), m_k, samples a class.
        rights: (K,), those that are predicted correctly.
        scattered: None where fewer than two classes have two samples.
        weight: (K, d).
        train: (K,), n_k.
    """
    kept, accuracy = counts >= 2, rights / counts
    nothing = torch.full_like(counts, torch.nan)
    table, squares, norms = dict.fromkeys(TABLE_KEYS, nothing[0]), nothing, nothing.clone()
    if scattered is not None:
        means, sizes = scattered.means[kept], counts[kept]
        centred, from_samples = means - means.mean(0), _from_samples(means, sizes)
        squares = scattered.squares / counts
        table = {
            "nc1_balanced": squares[kept].mean(),
            "nc1_sample_mean": scattered.along(_whitening_by_samples(from_samples, sizes)) / sizes.sum(),
            **_to_weight(weight[kept], from_samples),
            "seli_means": _to_seli(centred, train[kept.to(train.device)]),
        }
        norms[kept] = centred.norm(dim=1)
    balanced = 1 - accuracy[counts > 0].mean()
    values = table | {"error_balanced": balanced, "classes_measured": kept.sum().double()}
    values |= _by_class("accuracy", accuracy)
    values |= _by_class("nc1", squares.masked_fill(~kept, torch.nan))
    values |= _by_class("feature_norm", norms)
    return {name: float(value) for name, value in values.items()}


def imbalance_table(
    counts: Tensor, means: Tensor, scatter: Tensor, by_class: Tensor, weight: Tensor, train_counts: Tensor
) -> dict[str, Tensor]:
    """The keys of `class_imbalance` that class means and scatter determine, as float64 scalars; K classes are measured.

    Those that need the scatter are nan where a class has a single sample.

    Args:
        counts: (K,), m_k, samples a class.
        means: (K, d), class means.
        scatter: (d, d), N S_W, the sum of (h_i - hbar_{y_i})(h_i - hbar_{y_i})' over the samples.
        by_class: (d, d), the same sum with each sample weighed by 1 / m_{y_i}.
        weight: (K, d).
        train_counts: (K,), n_k.
    """
    from_samples = _from_samples(means, counts)
    balanced = spread(by_class, whitening(means)) / len(counts)
    by_samples = spread(scatter, _whitening_by_samples(from_samples, counts)) / counts.sum()
    if bool((counts < 2).any()):
        balanced, by_samples = balanced * torch.nan, by_samples * torch.nan
    return {
        "nc1_balanced": balanced,
        "nc1_sample_mean": by_samples,
        **_to_weight(weight, from_samples),
        "seli_means": _to_seli(means - means.mean(0), train_counts),
    }


def classifier_imbalance(weight: Array, train_counts: Array) -> dict[str, float]:
    """Measure the rows of a classifier that was trained on classes of unequal size.

    | key | formula | range |
    |---|---|---|
    | `minority_collapse` | mean over k < l in the minority of cos(w_k, w_l); 1: one direction | [-1, 1] |
    | `seli_classifier` | |nrm(W W') - nrm(V L V')|_F, see `seli_grams` | [0, 2] |
    | `train_count_class_k` | n_k | 1 ... |
    | `classifier_norm_class_k` | |w_k| | [0, inf) |
    | `classifier_cosine_class_k` | mean over l != k of cos(w_k, w_l) | [-1, 1] |

    The minority classes have fewer training samples than the mean class, N / K: in a step imbalance those of its
    minority. `minority_collapse` is nan where there are fewer than two. With equal classes `seli_classifier` is
    `nc2_classifier`. A row w_k = 0 has a cosine of nan.

    Args:
        weight: (K, d), K >= 2.
        train_counts: (K,), n_k >= 1.

    Raises:
        ValueError: wrong types or shapes, values that are not finite, or counts below 1.

    Source: as `class_imbalance`.
    """
    with torch.no_grad():
        given = as_tensor("weight", weight)
        rows = check_float64("weight", weight, (None, None), given)
        counts = check_counts(train_counts, len(rows)).to(rows.device).double()
        unit = rows / rows.norm(dim=1, keepdim=True)
        cosines = unit @ unit.T
        small = (counts < counts.mean()).nonzero()[:, 0]
        pairs = torch.triu_indices(len(small), len(small), 1)
        values = {
            "minority_collapse": cosines[small][:, small][pairs[0], pairs[1]].mean(),
            "seli_classifier": _distance(rows @ rows.T, seli_grams(train_counts)[0].to(rows.device)),
        }
        values |= _by_class("train_count", counts)
        values |= _by_class("classifier_norm", rows.norm(dim=1))
        values |= _by_class("classifier_cosine", (cosines.sum(1) - cosines.diagonal()) / (len(rows) - 1))
        return {name: float(value) for name, value in values.items()}


def seli_grams(train_counts: Array) -> tuple[Tensor, Tensor]:
    """Return V L V' and U L U' (K, K), float64: the Gram matrices that classifier and features have at the optimum.

    V L U' is the singular value decomposition of the simplex-encoded labels Z = (I - 11'/K) Y, Y (K, N) one-hot.
    U L U' is read at one sample a class. With D = diag(n_k) and C = I - 11'/K they are (C D C)^(1/2) and
    C (C D C)^(-1/2) C, the pseudo-inverse; with equal classes both are C but for a factor.

    Args:
        train_counts: (K,), n_k >= 1, K >= 2.

    Raises:
        ValueError: the counts are not K >= 2 numbers of at least 1.

    Source: Thrampoulidis et al., arXiv 2208.05512.
    """
    counts = check_counts(train_counts, None).double()
    classes = len(counts)
    centre = torch.eye(classes, dtype=torch.float64, device=counts.device) - 1 / classes
    values, vectors = torch.linalg.eigh(centre @ (counts[:, None] * centre))
    # Ascending: the first is the direction of ones, whose eigenvalue is 0.
    roots, v = values[1:].sqrt(), vectors[:, 1:]
    return (v * roots) @ v.T, centre @ ((v / roots) @ v.T) @ centre


def check_counts(train_counts: Array, classes: int | None, name: str = "train_counts") -> Tensor:
    """Return n_k, int64, after checking that they are K (None: any) integers of at least 1."""
    counts = check_labels(train_counts, None, name=name)
    if len(counts) < 2 or classes not in (None, len(counts)) or int(counts.min()) < 1:
        wanted = "at least two" if classes is None else str(classes)
        raise ValueError(f"{name}: expected {wanted} integers of at least 1, got {counts.tolist()[:10]}")
    return counts


def _squares(features: Tensor, labels: Tensor, means: Tensor, white: Tensor) -> Tensor:
    """(K,), sum over the samples of each class of |A'(h_i - hbar_k)|^2; inf where A has no column."""
    total = means.new_zeros(len(means))
    if not white.shape[1]:
        return total + torch.inf
    for x, y in zip(features.split(_CHUNK), labels.split(_CHUNK), strict=True):
        total.index_add_(0, y, ((x.double() - means[y]) @ white).square().sum(1))
    return total


def _whitening(rows: Tensor) -> Tensor:
    """As `nclens.metrics.collapse.whitening`, for rows that are centred already and must not be again."""
    classes, dim = rows.shape
    _, s, vh = torch.linalg.svd(rows, full_matrices=False)
    s = s[: classes - 1]
    rank = int((s > max(classes, dim) * torch.finfo(s.dtype).eps * s[0]).sum())
    return vh[:rank].T / s[:rank]


def spread(scatter: Tensor, white: Tensor) -> Tensor:
    """tr(A' S A), the sum over samples of |A'(h_i - hbar_{y_i})|^2; inf where A has no column."""
    return (white * (scatter @ white)).sum() if white.shape[1] else scatter.new_tensor(torch.inf)


def _from_samples(means: Tensor, sizes: Tensor) -> Tensor:
    """(K, d), the class means about the mean of the samples; exactly 0 where all are equal."""
    shifted = means - means[:1]
    return shifted - (sizes / sizes.sum()) @ shifted


def _whitening_by_samples(from_samples: Tensor, sizes: Tensor) -> Tensor:
    return _whitening((sizes / sizes.sum() * len(sizes)).sqrt()[:, None] * from_samples)


def _to_weight(weight: Tensor, from_samples: Tensor) -> dict[str, Tensor]:
    return {
        "nc2_sample_mean": _distance(weight @ from_samples.T, _simplex(from_samples)),
        "nc3_sample_mean": _distance(weight, from_samples),
    }


def _to_seli(centred: Tensor, train_counts: Tensor) -> Tensor:
    return _distance(centred @ centred.T, seli_grams(train_counts)[1].to(centred.device))


def _simplex(rows: Tensor) -> Tensor:
    return torch.eye(len(rows), dtype=rows.dtype, device=rows.device) - 1 / len(rows)


def _distance(one: Tensor, other: Tensor) -> Tensor:
    return (one / one.norm() - other / other.norm()).norm()


def _by_class(name: str, values: Tensor) -> dict[str, Tensor]:
    return {f"{name}_class_{k}": value for k, value in enumerate(values)}
