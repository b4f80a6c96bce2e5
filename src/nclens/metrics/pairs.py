"""Means and norms over all pairs of classes, in tiles: beyond one tile no K x K table is in memory.

Tables of at most `ONE_TILE` classes are one tile. The rows given are float64, (K, d).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ONE_TILE = 512
"""Rows and columns of a tile: float64 scores of a tile stay in a processor's cache."""

# Below this share of |a|^2 + |b|^2, |a|^2 + |b|^2 - 2 a'b has lost two digits or more of |a - b|^2.
_CLOSE = 1e-2
# Numbers of one group of differences.
_DIFFERENCES = 2**18


def distance_to_etf(rows: Tensor, others: Tensor) -> Tensor:
    """|nrm(A B') - E|_F of rows A and others B, which may be A itself; nrm and E as in `neural_collapse`.

    With c = <A B', E> and R = A B' - c E, which is orthogonal to E, |A B'|_F^2 = c^2 + |R|^2, and the distance comes of
    |R| in one pass over the tiles, without a cancellation near 0.
    """
    classes = len(rows)
    if classes <= ONE_TILE:
        gram = rows @ others.T
        etf = torch.eye(classes, dtype=gram.dtype, device=gram.device) - 1 / classes
        return (gram / gram.norm() - etf / (classes - 1) ** 0.5).norm()
    root = (classes - 1) ** 0.5
    along = ((rows * others).sum() - rows.sum(0) @ others.sum(0) / classes) / root
    rest = rows.new_zeros(())
    symmetric = others is rows
    for k, m in _tiles(classes, symmetric):
        tile = rows[k] @ others[m].T + along / (classes * root)
        if k == m:
            tile.diagonal().sub_(along / root)
        rest += tile.square_().sum() * (2 if symmetric and k != m else 1)
    norm = (along.square() + rest).sqrt()
    gap = torch.where(along > 0, rest / (norm * (along + norm)), 1 - along / norm)
    return (gap.square() + rest / norm.square()).sqrt()


def equiangularity(rows: Tensor) -> Tensor:
    """Mean over k != l of |cos_kl + 1/(K-1)|; nan where a row is zero."""
    classes = len(rows)
    unit = rows / rows.norm(dim=1, keepdim=True)
    if classes <= ONE_TILE:
        return _off_diagonal((unit @ unit.T + 1 / (classes - 1)).abs()).mean()
    total = rows.new_zeros(())
    for k, m in _tiles(classes, symmetric=True):
        tile = (unit[k] @ unit[m].T).add_(1 / (classes - 1)).abs_()
        total += (tile.triu_(1) if k == m else tile).sum()
    return total / (classes * (classes - 1) / 2)


def cdnv(centred: Tensor, variances: Tensor) -> Tensor:
    """Mean over pairs k != l (the pairs are symmetric) of (v_k + v_l) / (2 |a_k - a_l|^2); inf for equal rows.

    Args:
        centred: (K, d), the class means about their mean.
        variances: (K,), v_k.
    """
    classes = len(centred)
    if classes <= ONE_TILE:
        # Differences, not a matrix product: the distance of close means must not come out of a cancellation.
        distances = _by_differences(centred, centred)
        ratios = (variances[:, None] + variances) / (2 * distances)
        return _off_diagonal(torch.where(distances > 0, ratios, torch.inf)).mean()
    squares, total = centred.square().sum(1), centred.new_zeros(())
    for k, m in _tiles(classes, symmetric=True):
        distances = squared_distances(centred[k], centred[m], squares[k], squares[m], own=k == m)
        ratios = (variances[k, None] + variances[m]).div_(distances)
        if not bool(distances.amin() > 0):  # the diagonal, or rows that are equal
            ratios = torch.where(distances > 0, ratios, torch.inf)
        total += (ratios.triu_(1) if k == m else ratios).sum()
    return total / (classes * (classes - 1))


def squared_distances(rows: Tensor, others: Tensor, squares: Tensor, other_squares: Tensor, own: bool) -> Tensor:
    """|a - b|^2 by the matrix product, but by differences of the pairs that are close beside their norms.

    Of rows with themselves (`own`) only what is above the diagonal counts.
    """
    sums = squares[:, None] + other_squares
    distances = torch.addmm(sums, rows, others.T, alpha=-2)
    close = distances < sums.mul_(_CLOSE)
    close = (close.triu_(1) if own else close).nonzero()
    if len(close) > distances.numel() / 32:
        return _by_differences(rows, others)
    for part in close.split(max(1, _DIFFERENCES // rows.shape[1])):
        k, m = part.unbind(1)
        distances[k, m] = (rows[k] - others[m]).square_().sum(1)
    return distances


def _by_differences(rows: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(rows, others, compute_mode="donot_use_mm_for_euclid_dist").square()


def _tiles(classes: int, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile of a table; of a symmetric one only those on and above the diagonal."""
    parts = [slice(start, min(start + ONE_TILE, classes)) for start in range(0, classes, ONE_TILE)]
    for place, k in enumerate(parts):
        for m in parts[place:] if symmetric else parts:
            yield k, m


def _off_diagonal(square: Tensor) -> Tensor:
    return square[~torch.eye(len(square), dtype=torch.bool, device=square.device)]
