"""Sharpness: the largest eigenvalue of the Hessian of the mean loss, in the head's weights and in all weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from nclens._inputs import Array, as_integer, as_tensor, check_labels, check_masked
from nclens._lanczos import lanczos
from nclens.data.tensors import Split
from nclens.losses import ce
from nclens.models import Network

ACCURACY = 1e-3
"""Relative error of an eigenvalue."""
STEPS = 200
"""Products of the Hessian with a vector, at most."""
CHUNK = 128
"""Samples of a backward pass."""

Loss = Callable[[Tensor, Tensor], Tensor]


def sharpness_of_losses(
    network: Network, train: Split, *, samples: int, seed: int, loss: Loss | None = None
) -> dict[str, float]:
    """Sharpness of the head and of the network for plain cross entropy, and of the network for the trained loss.

    Args:
        network: left in evaluation mode.
        train: the split that the samples are drawn from.
        samples: how many, at most all.
        seed: of the choice of samples and of the vectors that Lanczos' method starts from.
        loss: the trained loss, logits (n, K) and labels (n,) -> one value per sample (n,); None where there is none.

    Returns:
        ``sharpness_head``, see :func:`head_sharpness`, and ``sharpness_network`` and, with a loss,
        ``sharpness_trained``, see :func:`network_sharpness`.

    Raises:
        ValueError: as :func:`network_sharpness`.
    """
    generator = torch.Generator().manual_seed(as_integer("seed", seed, 0))
    chosen = torch.randperm(len(train), generator=generator)[: as_integer("samples", samples, 1)]
    chosen = chosen.sort().values.to(train.inputs.device)
    inputs, targets = train.normalise(train.inputs[chosen]), train.targets[chosen]
    with torch.no_grad():
        features = torch.cat([network.eval().backbone(part) for part in inputs.split(CHUNK)])
        logits = network.head(features)
    found = {
        "sharpness_head": head_sharpness(features, logits, bias=network.head.bias is not None, seed=seed),
        "sharpness_network": network_sharpness(network, inputs, targets, ce, seed=seed),
    }
    if loss is not None:
        plain = found["sharpness_network"]
        found["sharpness_trained"] = (
            plain if loss is ce else network_sharpness(network, inputs, targets, loss, seed=seed)
        )
    return found


def head_sharpness(features: Array, logits: Array, *, bias: bool = True, seed: int = 0) -> float:
    """Largest eigenvalue of the Hessian of mean cross entropy in the weight W and bias b of the head, features fixed.

    The Hessian is (1/N) sum_i (diag p_i - p_i p_i') (x) x_i x_i' with x_i = (h_i, 1), or h_i without the bias. No label
    is in it: label smoothing and MaxSup have the same at the same weights, and it is its own Gauss-Newton matrix. In
    float64, to a relative error of 1e-3.

    Args:
        features: (N, d), in front of the head.
        logits: (N, K); -inf masks a class.
        bias: whether b counts among the weights.
        seed: of the vector that Lanczos' method starts from.

    Returns:
        A value >= 0; nan where 200 products with a vector do not reach the accuracy.

    Raises:
        ValueError: wrong shapes, values that are not finite, or a seed that is no integer of 0 or more.
    """
    h, z = as_tensor("features", features).detach().double(), as_tensor("logits", logits).detach().double()
    if h.ndim != 2 or z.ndim != 2 or len(h) != len(z) or not len(h):
        raise ValueError(
            f"features and logits must be (N, d) and (N, K), N >= 1: got {tuple(h.shape)} and {tuple(z.shape)}"
        )
    if not bool(h.isfinite().all()):
        raise ValueError("features must be finite, found nan or inf")
    check_masked(z)
    seen = torch.cat([h, h.new_ones(len(h), 1)], dim=1) if bias else h
    p = z.softmax(1)

    def product(vector: Tensor) -> Tensor:
        change = seen @ vector.reshape(z.shape[1], seen.shape[1]).T
        curved = p * (change - (p * change).sum(1, keepdim=True))
        return (curved.T @ seen / len(seen)).flatten()

    return _largest(product, z.shape[1] * seen.shape[1], seen, seed)


def network_sharpness(network: Network, inputs: Array, targets: Array, loss: Loss, *, seed: int = 0) -> float:
    """Largest eigenvalue of the Hessian of the mean loss in all weights of a network, biases included.

    In evaluation mode, so that the loss of a sample depends on no other. Penalties such as weight decay are no part of
    it. The eigenvalue is the largest, not the largest in size; to a relative error of 1e-3, from products of the
    Hessian with vectors in the network's own precision, by two backward passes each.

    Args:
        network: its weights and gradients are not changed; it is left in evaluation mode.
        inputs: (N, ...), as the network takes them.
        targets: (N,), as the loss takes them; integers are labels in [0, K).
        loss: logits (n, K) and targets (n,) -> one value per sample (n,), such as `nclens.losses.ls`.
        seed: of the vector that Lanczos' method starts from.

    Returns:
        The eigenvalue, in units of the loss; nan where 200 products with a vector do not reach the accuracy.

    Raises:
        ValueError: there are no samples, inputs and targets differ in number, a label is out of range, the seed is no
            integer of 0 or more, or a product is not finite.
    """
    inputs, targets = as_tensor("inputs", inputs), as_tensor("targets", targets)
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            f"inputs and targets must have the same length, at least 1: got {len(inputs)} and {len(targets)}"
        )
    if targets.ndim == 1 and not targets.is_floating_point():
        targets = check_labels(targets, network.head.out_features, name="targets")
    network.eval()
    weights = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    buffers, flat = dict(network.named_buffers()), list(weights.values())
    sizes = [value.numel() for value in flat]

    def product(vector: Tensor) -> Tensor:
        parts = [part.view_as(value) for part, value in zip(vector.split(sizes), flat, strict=True)]
        total = vector.new_zeros(len(vector))
        for x, y in zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True):
            value = loss(functional_call(network, (weights, buffers), (x,)), y).sum() / len(inputs)
            slopes = torch.autograd.grad(value, flat, create_graph=True, materialize_grads=True)
            along = sum((slope * part).sum() for slope, part in zip(slopes, parts, strict=True))
            if isinstance(along, Tensor) and along.requires_grad:
                made = torch.autograd.grad(along, flat, materialize_grads=True)
                total += torch.cat([one.flatten() for one in made])
        return total

    # The fused kernels of attention have no second derivative.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        return _largest(product, sum(sizes), flat[0], seed)


def _largest(product: Callable[[Tensor], Tensor], size: int, like: Tensor, seed: int) -> float:
    """Return the largest eigenvalue of a symmetric operator on vectors of a size, of the type and device of `like`."""

    def operator(vector: np.ndarray) -> np.ndarray:
        found = product(torch.from_numpy(vector).to(like.device, like.dtype)).detach().double().cpu()
        if not bool(found.isfinite().all()):
            raise ValueError("the Hessian is not finite: the network's weights or logits are not, or overflow")
        return found.numpy()

    start = np.random.default_rng(as_integer("seed", seed, 0)).standard_normal(size)
    found = lanczos(operator, start, accuracy=ACCURACY, steps=STEPS)
    value = found.values[-1]
    reached = found.error <= ACCURACY * abs(value) or len(found.values) == size
    return value if reached else math.nan
