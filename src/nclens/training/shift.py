"""Whether a loss ignores a constant added to all logits, tested by its gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

#: Sizes of the random logits, and constants that are added to them.
SIZES, OFFSETS = (0.3, 3.0, 10.0), (-5.0, 0.0, 5.0)
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Type of the logits -> the largest value of `shift_gradient` that is rounding, of a loss in float32 among others."""


def shift_gradient(loss: Callable[[Tensor, Tensor], Tensor], classes: int, dtype: torch.dtype = torch.float64) -> float:
    """Return how much a loss depends on a constant added to all logits of a sample.

    The largest |sum_k g_ik| over the largest sum_k |g_ik|, g_i the gradient with respect to the logits of sample i, at
    random logits of several sizes with several constants added. 0 up to rounding (`TOLERANCES`) where the gradients sum
    to zero over the classes, as those of cross entropy do; 1 where all have one sign.

    Args:
        loss: maps logits (N, K) and labels (N,) to one value per sample (N,), or to their mean.
        classes: K, at least 2.
        dtype: of the logits.

    Returns:
        A value in [0, 1], without unit, the largest over the sizes and constants; 0 for a loss without gradients, nan
        where a gradient is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(max(64, 2 * classes)) % classes
    found = [0.0]
    for size in SIZES:
        drawn = size * torch.randn(len(labels), classes, generator=generator, dtype=dtype)
        for offset in OFFSETS:
            logits = (drawn + offset).requires_grad_()
            with torch.enable_grad():
                value = loss(logits, labels).sum()
            if not value.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
            if gradient is not None and gradient.any():
                sums = gradient.double()
                found.append(float(sums.sum(1).abs().max() / sums.abs().sum(1).max()))
    return float("nan") if any(one != one for one in found) else max(found)
