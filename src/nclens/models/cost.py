"""Floating-point operations of a network's forward pass."""

from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nclens.models.network import Network, try_out


def count_flops(network: Network, shape: Sequence[int]) -> int:
    """Return the floating-point operations of the forward pass of one sample of `shape`, in evaluation mode.

    Convolutions and matrix products (including linear layers and attention) are counted, a multiply-add as two
    operations: 2 C_in k^2 C_out H_out W_out for a k x k convolution, 2 d K for the head. Biases, normalisation,
    activations, pooling and recurrent layers are not counted. A training step costs about three times as much per
    sample: the gradients with respect to inputs and weights each need as many operations again.

    Weights, buffers and the state of the random generators are unchanged.
    """
    example = torch.zeros(1, *shape, device=next(network.parameters()).device)
    # The fused kernels of inference are operators that the counter does not know. With gradients and plain attention
    # everything runs as matrix products.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        try_out(network, example, training=False)
    return int(counter.get_total_flops())
