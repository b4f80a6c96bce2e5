"""How many dimensions the features, their residuals and their class means fill: effective rank and stable rank.

h_i is the feature of sample i, hbar_k the mean of class k, hG the mean of the class means, M the matrix with rows
hbar_k - hG. Three matrices are measured: the features about the mean of all samples, the residuals h_i - hbar_{y_i},
and M.
"""

import torch
from torch import Tensor

from nclens._inputs import Array, scaled
from nclens.metrics.collapse import centred_rows, check_samples, class_means, with_mean

# Samples of a chunk.
_CHUNK = 1024

MATRICES = ("features", "residuals", "means")
KEYS = tuple(f"{kind}_rank_{matrix}" for kind in ("effective", "stable") for matrix in MATRICES)
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
    features as they are and eps the relative spacing of their type. Singular values are the roots of the eigenvalues of
    A'A, summed in float64: those below about 1e-8 max s are lost in rounding and count as zero, which moves a rank by
    1e-6 of itself at most. Memory beyond the inputs is a few d x d matrices.

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
        scatter = means.new_zeros((h.shape[1], h.shape[1]))
        for x, y in zip(h.split(_CHUNK), classes_of.split(_CHUNK), strict=True):
            residual = x.double() - means[y]
            if len(kept) < classes:
                residual = residual[~residual.isnan().any(dim=1)]
            scatter.addmm_(residual.T, residual)
        values = ranks_table(scatter, counts, means[kept], torch.finfo(h.dtype).eps)
        return dict(zip(KEYS, torch.stack([values[key] for key in KEYS]).tolist(), strict=True))


def ranks_table(scatter: Tensor, counts: Tensor, means: Tensor, eps: Tensor | float) -> dict[str, Tensor]:
    """Return every key, as float64 scalars.

    Args:
        scatter: (d, d), sum over all samples of (h_i - hbar_{y_i}) (h_i - hbar_{y_i})'.
        counts: (K,), samples a class.
        means: (K, d), class means.
        eps: relative spacing of the features' type, below which residuals are rounding.
    """
    shifted = means - means[:1]
    between = counts.sqrt()[:, None] * (shifted - (counts @ shifted) / counts.sum())
    within = scatter.trace()
    norm = within + counts @ means.square().sum(1)
    matrices = {
        "features": _singular_values(scatter + between.T @ between),
        "residuals": _singular_values(scatter if within > eps**2 * norm else torch.zeros_like(scatter)),
        "means": torch.linalg.svdvals(centred_rows(means)),
    }
    effective = {f"effective_rank_{name}": _effective_rank(s) for name, s in matrices.items()}
    return effective | {f"stable_rank_{name}": (s / s.max()).square().sum() for name, s in matrices.items()}


def _singular_values(gram: Tensor) -> Tensor:
    """Singular values of A from A'A; zero where they are lost in rounding."""
    values = torch.linalg.eigvalsh(gram)
    return values.where(values > len(values) * torch.finfo(values.dtype).eps * values.max(), 0).sqrt()


def _effective_rank(singular: Tensor) -> Tensor:
    p = singular / singular.sum()
    return torch.special.entr(p).sum().exp()
