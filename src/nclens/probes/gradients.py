"""Gradient variance: how much the gradients of single samples differ, at given weights and for a given loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from nclens._inputs import Array, as_integer, as_tensor, check_labels
from nclens.data.tensors import Split
from nclens.losses import ce, ls
from nclens.models import Network

ENTRIES = 2**23
"""Entries of gradients that are held at once by default: 32 MiB."""


def gradient_variances(
    network: Network, train: Split, *, samples: int, smoothing: float, seed: int
) -> dict[str, float]:
    """Gradient variance of cross entropy with one-hot targets and with smoothed ones, at the same weights.

    Args:
        network: left in evaluation mode.
        train: the split that the samples are drawn from.
        samples: how many, at most all.
        smoothing: delta of the smoothed targets.
        seed: of the choice of samples.

    Returns:
        ``gradient_variance_{head,network}_{onehot,smoothed}``, see :func:`gradient_variance`.

    Raises:
        ValueError: as :func:`gradient_variance`.
    """
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:samples]
    chosen = chosen.sort().values.to(train.inputs.device)
    inputs, targets = train.normalise(train.inputs[chosen]), train.targets[chosen]
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"onehot": ce, "smoothed": partial(ls, smoothing=smoothing)}
    return {
        f"gradient_variance_{part}_{name}": value
        for name, loss in losses.items()
        for part, value in gradient_variance(network, inputs, targets, loss).items()
    }


def gradient_variance(
    network: Network,
    inputs: Array,
    targets: Array,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    chunk: int | None = None,
) -> dict[str, float]:
    """Variance of the single samples' gradients, ``(1/N) sum_i |g_i - gbar|^2`` with ``gbar = (1/N) sum_i g_i``.

    g_i is the gradient of sample i's loss with respect to the weights, in evaluation mode, so that it depends on no
    other sample; the unit is that of the loss over that of the weights, squared. The gradient of a batch of B samples
    drawn at random (with replacement) has 1/B of this variance.

    Args:
        network: its weights and gradients are not changed; it is left in evaluation mode.
        inputs: (N, ...), as the network takes them.
        targets: (N,), as the loss takes them; integers are labels in [0, K).
        loss: logits (n, K) and targets (n,) -> one value per sample (n,), such as `nclens.losses.ls`.
        chunk: samples whose gradients are held at once, by default as many as make `ENTRIES`; sums are in float64, so
            it changes the result by rounding only.

    Returns:
        ``head``: over the parameters of the head, its weight and bias; a weight shared with another layer counts
        with its whole gradient. ``network``: over all parameters, the head's among them. Both >= 0.

    Raises:
        ValueError: there are no samples, inputs and targets differ in number, a label is out of range, the chunk is not
            positive, or a gradient is not finite.

    Source: the quantity of the claim of arXiv 2006.11653 (TSLA); evaluation mode is our choice, on which the paper's
    abstract says nothing.
    """
    inputs, targets = as_tensor("inputs", inputs), as_tensor("targets", targets)
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            f"inputs and targets must have the same length, at least 1: got {len(inputs)} and {len(targets)}"
        )
    if targets.ndim == 1 and not targets.is_floating_point():
        targets = check_labels(targets, network.head.out_features, name="targets")  # `vmap` hides them from the loss
    chunk = None if chunk is None else as_integer("chunk", chunk, 1)
    network.eval()
    weights = {name: value.detach() for name, value in network.named_parameters()}
    buffers = dict(network.named_buffers())
    chunk = chunk or max(1, ENTRIES // sum(value.numel() for value in weights.values()))

    def of_one(values: dict[str, Tensor], sample: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(network, (values, buffers), (sample[None],))
        return loss(logits, target[None]).sum()

    of_each = vmap(grad(of_one), in_dims=(None, 0, 0))
    spreads = {name: _Spread() for name in weights}
    for start in range(0, len(inputs), chunk):
        made = of_each(weights, inputs[start : start + chunk], targets[start : start + chunk])
        for name, gradients in made.items():
            spreads[name].add(gradients.flatten(1).double())
    sums = {name: spread.squares for name, spread in spreads.items()}
    # By identity: a weight that the head shares with another layer has the name of that layer.
    own = {id(value) for value in network.head.parameters()}
    head = sum(sums[name] for name, value in network.named_parameters() if id(value) in own) / len(inputs)
    variances = {"head": float(head), "network": float(sum(sums.values()) / len(inputs))}
    if not all(torch.isfinite(torch.tensor(list(variances.values())))):
        raise ValueError("a gradient is not finite: the network's weights or logits are not, or overflow")
    return variances


class _Spread:
    """Mean and sum of squared deviations of vectors that come in chunks, merged by Chan's rule.

    The difference of E|g|^2 and |gbar|^2 would lose all digits where the gradients hardly differ.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, vectors: Tensor) -> None:
        """Add vectors (n, P)."""
        own, total = len(vectors), self.count + len(vectors)
        mean = vectors.mean(dim=0)
        step = mean - self.mean
        squares = (vectors - mean).square().sum() + step.square().sum() * (self.count * own / total)
        self.squares, self.mean, self.count = self.squares + squares, self.mean + step * (own / total), total
