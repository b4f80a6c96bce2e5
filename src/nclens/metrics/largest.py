"""The largest of many scores of each sample, found in float32 and settled in float64.

The scores are h a_k + o_k. In float32 each differs from its float64 value by at most about d 2^-24 |h| |a_k|. Where the
largest leads by more than twice that bound it is the largest in float64 too; the other samples are computed again.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

# Scores of one tile, and of a group of which only the largest is looked at.
_TILE, _GROUP = 512, 32
# Beyond this float32 may overflow.
_REACH = 2.0**120


def find_largest(x: Tensor, rows: Tensor, offset: Tensor) -> Tensor:
    """Return argmax_k of x @ rows.T + offset in float64, (n,): of equals the lowest.

    On the CPU most products are in float32. The result is that of float64 arithmetic, but for samples whose two best
    scores differ by its own rounding.

    Args:
        x: (n, d), float64, n >= 0.
        rows: (K, d), float64.
        offset: (K,), float64.
    """
    if not len(x) or x.device.type != "cpu" or torch.get_float32_matmul_precision() != "highest":
        return _in_float64(x, rows, offset)
    found, certain = _in_float32(x, rows, offset)
    doubtful = (~certain).nonzero()[:, 0]
    found[doubtful] = _in_float64(x[doubtful], rows, offset)
    return found


def _in_float64(x: Tensor, rows: Tensor, offset: Tensor) -> Tensor:
    best, place = x.new_full((len(x),), -torch.inf), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for start in range(0, len(rows), _TILE):
        scores = x @ rows[start : start + _TILE].T + offset[start : start + _TILE]
        index = scores.argmax(1)
        value = scores.gather(1, index[:, None])[:, 0]
        better = value > best
        best, place = torch.where(better, value, best), torch.where(better, start + index, place)
    return place


def _in_float32(x: Tensor, rows: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of each sample (n,), and whether it is certain to be the largest in float64."""
    # About the samples' mean, the scores are smaller, and their rounding is.
    centre = x.mean(0)
    moved = offset + rows @ centre
    near = x - centre
    narrow, here = near.float(), torch.arange(len(x))
    best, second = (narrow.new_full((len(x),), -torch.inf) for _ in range(2))
    place = torch.zeros(len(x), dtype=torch.int64)
    with torch.autocast("cpu", enabled=False):  # which would compute in bfloat16
        for start in range(0, len(rows), _TILE):
            part, added = rows[start : start + _TILE].float(), moved[start : start + _TILE].float()
            if short := -len(part) % _GROUP:
                part, added = pad(part, (0, 0, 0, short)), pad(added, (0, short), value=-torch.inf)
            scores = torch.addmm(added, narrow, part.T).view(len(x), -1, _GROUP)
            top = scores.amax(2)
            group = top.argmax(1)
            inside, index = scores[here, group].topk(2, dim=1)
            others = top.scatter_(1, group[:, None], -torch.inf).amax(1)  # -inf where there is a single group
            value, runner = inside[:, 0], torch.maximum(inside[:, 1], others)
            second = torch.maximum(torch.minimum(best, value), torch.maximum(second, runner))
            place = torch.where(value > best, start + group * _GROUP + index[:, 0], place)
            best = torch.maximum(best, value)
    slope, height = rows.norm(dim=1).amax(), moved.abs().amax()
    reach = near.norm(dim=1) * slope + height
    # What float64 itself rounds, about the origin: in the scores that are meant, and in `moved`.
    whole = (x.norm(dim=1) + centre.norm()) * slope + offset.abs().amax()
    terms = x.shape[1] + 32  # of a sum, with the rounding of its parts to float32
    error = terms * (2.0**-24 * reach + 2.0**-50 * whole)
    lead = best.double() - second.double()
    largest = torch.maximum(near.abs().amax(1), torch.maximum(slope, reach))
    error += terms * 2.0**-120 * (1 + largest)  # of what vanishes in float32
    return place, (lead > 2 * error) & (largest < _REACH)
