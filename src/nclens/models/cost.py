"""What a network costs: floating-point operations of a forward pass."""

from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nclens.models.network import Network, try_out


def count_flops(network: Network, shape: Sequence[int]) -> int:
    """Return the floating-point operations of the forward pass of one sample of `shape`, in evaluation mode.

    Counted are the convolutions and matrix products (linear layers and attention among them), a multiply-add as two
    operations: 2 C_in k^2 C_out H_out W_out of a k x k convolution, 2 d K of the head. Not counted are biases,
    normalisation, activations, pooling and recurrent layers. A step of training costs about three times as much a
    sample: the gradients of inputs and of weights are as many products again, each.

    Weights, statistics and chance are afterwards as they were.
    """
    example = torch.zeros(1, *shape, device=network.head.weight.device)
    # With gradients and plain attention everything runs as products that the counter knows; the fast paths of
    # inference are operators of their own, which it would pass over.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        try_out(network, example, training=False)
    return int(counter.get_total_flops())
