"""Means and norms over all pairs of classes, in tiles: beyond one tile no K x K table is in memory.

Tables of at most `ONE_TILE` classes are one tile. The rows given are float64, (K, d).
"""

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

ONE_TILE = 512
"""Rows and columns of a tile: float64 scores of a tile stay in a processor's cache."""

# Below this share of |a|^2 + |b|^2, |a|^2 + |b|^2 - 2 a'b has lost two digits or more of |a - b|^2.
_CLOSE = 1e-2
# Numbers of one group of differences.
_DIFFERENCES = 2**18


def pair_measures(rows: Tensor, wanted: Collection[str], variances: Tensor | None = None) -> dict[str, Tensor]:
    """Return `etf`, `equiangularity` and `cdnv` of one matrix, those wanted, from one pass over the tiles of A A'.

    They are `distance_to_etf(rows, rows)`, `equiangularity(rows)` and `cdnv(rows, variances)`.

    Args:
        rows: (K, d), A; for `cdnv` the class means about their mean.
        wanted: some of the three names.
        variances: (K,), v_k of `cdnv`.
    """
    classes = len(rows)
    if classes <= ONE_TILE:
        whole: dict[str, Callable[[], Tensor]] = {
            "etf": lambda: distance_to_etf(rows, rows),
            "equiangularity": lambda: equiangularity(rows),
            "cdnv": lambda: cdnv(rows, rows.new_zeros(classes) if variances is None else variances),
        }
        return {name: whole[name]() for name in wanted}
    sums = {name: rows.new_zeros(()) for name in wanted}
    inverse, squares = 1 / rows.norm(dim=1), rows.square().sum(1)
    along = _along(rows, rows)
    for k, m in _tiles(classes, symmetric=True):
        tile = rows[k] @ rows[m].T
        if "equiangularity" in sums:
            cosines = (tile * inverse[k, None]).mul_(inverse[m])
            sums["equiangularity"] += _deviation(cosines, classes, own=k == m)
        if "cdnv" in sums:
            assert variances is not None
            distances = squared_distances(rows[k], rows[m], squares[k], squares[m], own=k == m, products=tile)
            sums["cdnv"] += _ratios(distances, variances[k], variances[m], own=k == m)
        if "etf" in sums:
            sums["etf"] += _rest(tile, along, classes, own=k == m) * (1 if k == m else 2)
    pairs = classes * (classes - 1)
    ends = {
        "etf": lambda total: _from_rest(along, total),
        "equiangularity": lambda total: total / (pairs / 2),
        "cdnv": lambda total: total / pairs,
    }
    return {name: ends[name](total) for name, total in sums.items()}


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
    if others is rows:
        return pair_measures(rows, ("etf",))["etf"]
    along, rest = _along(rows, others), rows.new_zeros(())
    for k, m in _tiles(classes, symmetric=False):
        rest += _rest(rows[k] @ others[m].T, along, classes, own=k == m)
    return _from_rest(along, rest)


def _along(rows: Tensor, others: Tensor) -> Tensor:
    """<A B', E>."""
    classes = len(rows)
    return ((rows * others).sum() - rows.sum(0) @ others.sum(0) / classes) / (classes - 1) ** 0.5


def _rest(tile: Tensor, along: Tensor, classes: int, own: bool) -> Tensor:
    """|R|_F^2 of a tile of A B', which is overwritten; `own` where it is on the diagonal."""
    root = (classes - 1) ** 0.5
    tile += along / (classes * root)
    if own:
        tile.diagonal().sub_(along / root)
    return tile.flatten().dot(tile.flatten())


def _from_rest(along: Tensor, rest: Tensor) -> Tensor:
    norm = (along.square() + rest).sqrt()
    gap = torch.where(along > 0, rest / (norm * (along + norm)), 1 - along / norm)
    return (gap.square() + rest / norm.square()).sqrt()


def equiangularity(rows: Tensor) -> Tensor:
    """Mean over k != l of |cos_kl + 1/(K-1)|; nan where a row is zero."""
    classes = len(rows)
    if classes > ONE_TILE:
        return pair_measures(rows, ("equiangularity",))["equiangularity"]
    unit = rows / rows.norm(dim=1, keepdim=True)
    return _off_diagonal((unit @ unit.T + 1 / (classes - 1)).abs()).mean()


def _deviation(cosines: Tensor, classes: int, own: bool) -> Tensor:
    """Sum of |cos_kl + 1/(K-1)| over a tile, which is overwritten: of one on the diagonal over k < l."""
    tile = cosines.add_(1 / (classes - 1)).abs_()
    return (tile.triu_(1) if own else tile).sum()


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
    return pair_measures(centred, ("cdnv",), variances)["cdnv"]


def _ratios(distances: Tensor, variances: Tensor, others: Tensor, own: bool) -> Tensor:
    """Sum of (v_k + v_l) / |a_k - a_l|^2 over a tile: of one on the diagonal over k < l."""
    ratios = (variances[:, None] + others).div_(distances)
    if not bool(distances.amin() > 0):  # the diagonal, or rows that are equal
        ratios = torch.where(distances > 0, ratios, torch.inf)
    return (ratios.triu_(1) if own else ratios).sum()


def squared_distances(
    rows: Tensor,
    others: Tensor,
    squares: Tensor,
    other_squares: Tensor,
    own: bool,
    products: Tensor | None = None,
) -> Tensor:
    """|a - b|^2 by the matrix product, but by differences of the pairs that are close beside their norms.

    Of rows with themselves (`own`) only what is above the diagonal counts. `products` are a'b, where they are known.
    """
    sums = squares[:, None] + other_squares
    distances = torch.addmm(sums, rows, others.T, alpha=-2) if products is None else sums - 2 * products
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
