"""How many dimensions the features, their residuals and their class means fill: effective rank and stable rank.

h_i is the feature of sample i, hbar_k the mean of class k, hG the mean of the class means, M the matrix with rows
hbar_k - hG. Three matrices are measured: the features about the mean of all samples, the residuals h_i - hbar_{y_i},
and M.
"""

import torch
from torch import Tensor

from nclens._inputs import Array, scaled
from nclens.metrics.collapse import centred_rows, check_samples, class_means, with_mean

KEYS = tuple(
    f"{kind}_rank_{matrix}" for kind in ("effective", "stable") for matrix in ("features", "residuals", "means")
)
"""The keys of `collapse_ranks`, in order."""


def collapse_ranks(
    features: Array, labels: Array, *, ignore_index: int | None = None, min_samples: int | None = None
) -> dict[str, float]:
    """Return effective and stable rank of the centred features, of the within-class residuals and of M.

    With the singular values s of a matrix A and p = s / sum s, natural logarithms:

    | key | formula | range |
    |---|---|---|
    | `effective_rank_...` | exp(-sum_j p_j log p_j), the number of directions that A fills evenly | [1, rank A] |
    | `stable_rank_...` | sum_j s_j^2 / max_j s_j^2 = |A|_F^2 / |A|_2^2 | [1, rank A] |

    The matrices are `..._features`, the N x d features minus the mean of the N samples; `..._residuals`, the N x d
    features minus the means of their classes; `..._means`, M, whose ranks are K - 1 at a simplex. `rank_means` of
    `neural_collapse` counts the directions of M instead, whatever their size. All six have no unit and are invariant to
    rotation, to a common offset and to scaling of the features.

    A matrix that is zero has no rank: nan. So have residuals at rounding level, |A|_F <= eps |H|_F with H the
    features as they are and eps the relative spacing of their type. Singular values are those of a triangular factor
    of A, found in chunks, with an error of about 1e-16 max s; memory beyond the inputs is a few d x d matrices.

    Args:
        features: (N, d), any floating dtype; a tensor or NumPy array.
        labels: (N,), integers of 0 or more; the classes are the values that occur, two at least.
        ignore_index: samples with this label are left out, whatever their features; by default none is.
        min_samples: classes with fewer samples are left out; by default none is.

    Raises:
        ValueError: as `nclens.metrics.collapse.class_means`.

    Source: effective rank: Roy and Vetterli (2007); as a measure of features: RankMe, arXiv 2210.02885, which adds 1e-7
    to p and does not centre.

    >>> features = torch.tensor([[3.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-3.0, -1.0]])
    >>> ranks = collapse_ranks(features, torch.tensor([0, 0, 1, 1]))
    >>> round(ranks["effective_rank_means"], 9), round(ranks["stable_rank_residuals"], 9)
    (1.0, 1.0)
    """
    with torch.no_grad():
        found, labels = check_samples(features, labels, None, ignore_index)
        h, _ = scaled(found)
        _, classes_of = torch.unique(labels, return_inverse=True)
        if (classes := int(classes_of.max()) + 1 if len(classes_of) else 0) < 2:
            raise ValueError(f"labels: expected two classes or more, got {classes}")
        means = class_means(h, classes_of, classes, min_samples=min_samples)
        kept = with_mean(means)
        counts = torch.bincount(classes_of, minlength=classes)[kept].double()
        size = max(4 * h.shape[1], 2**18 // h.shape[1])  # tall chunks, or most of the work is on R itself
        r = means.new_zeros((0, h.shape[1]))
        for x, y in zip(h.split(size), classes_of.split(size), strict=True):
            residual = x.double() - means[y]
            if len(kept) < classes:
                residual = residual[~residual.isnan().any(dim=1)]
            r = torch.linalg.qr(torch.cat([r, residual]), mode="r").R
        means = means[kept]
        total = torch.linalg.qr(torch.cat([r, between(counts, means)]), mode="r").R
        norm = (r.square().sum() + counts @ means.square().sum(1)).sqrt()
        values = ranks_table(
            torch.linalg.svdvals(total),
            torch.linalg.svdvals(r),
            torch.linalg.svdvals(centred_rows(means)),
            torch.finfo(h.dtype).eps * norm,
        )
        return dict(zip(KEYS, torch.stack([values[key] for key in KEYS]).tolist(), strict=True))


def between(counts: Tensor, means: Tensor) -> Tensor:
    """Return (K, d), the class means about the mean of all samples, times the square roots of the counts (K,)."""
    first = means - means[:1]
    return counts.sqrt()[:, None] * (first - (counts @ first) / counts.sum())


def ranks_table(features: Tensor, residuals: Tensor, means: Tensor, rounding: Tensor) -> dict[str, Tensor]:
    """Return every key from the singular values of the three matrices, as float64 scalars.

    Args:
        features, residuals, means: singular values, (r,) each.
        rounding: the norm up to which residuals are zero.
    """
    if residuals.square().sum().sqrt() <= rounding:
        residuals = torch.zeros_like(residuals)
    matrices = {"features": features, "residuals": residuals, "means": means}
    effective = {f"effective_rank_{name}": _effective_rank(s) for name, s in matrices.items()}
    return effective | {f"stable_rank_{name}": (s / s.max()).square().sum() for name, s in matrices.items()}


def _effective_rank(singular: Tensor) -> Tensor:
    p = singular / singular.sum()
    return torch.special.entr(p).sum().exp()
