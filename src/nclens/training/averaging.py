"""An exponential moving average of a network's weights."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nclens.models import Network
from nclens.models.memory import is_out_of_memory


class Average:
    """The average of a network's weights over its steps, by `torch.optim.swa_utils.AveragedModel`.

    After step t = 1, 2, ... it is decay times the average before plus (1 - decay) times the weights; after the first
    step it is the weights (Polyak averaging with exponential weights). Floating-point buffers that a snapshot has, such
    as the running statistics of batch normalisation, are averaged likewise. All others are copied: counts, and what no
    snapshot has or is not finite at first, such as a mask of -inf, whose mean would be nan.

    Attributes:
        network: the network with the averaged weights; before the first step, with those of the other.
    """

    def __init__(self, network: Network, decay: float) -> None:
        """Begin with a network's weights.

        Args:
            network: the network in training, on its device.
            decay: in [0, 1).

        Raises:
            ValueError: the network cannot be copied.
        """
        self._trained = network
        try:
            self._averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        except (RuntimeError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"an average of the weights needs a network that can be copied: {reason}") from error
        self.network = cast(Network, self._averaged.module)
        saved, own = network.state_dict().keys(), dict(network.named_buffers())
        self._copied = [
            (kept, own[name])
            for name, kept in self.network.named_buffers()
            if name not in saved or not kept.is_floating_point() or not bool(kept.isfinite().all())
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average."""
        self._averaged.update_parameters(self._trained)
        for kept, own in self._copied:
            kept.copy_(own)

    def state(self) -> dict[str, Tensor]:
        """Return what later averages depend on."""
        return self._averaged.state_dict()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._averaged.load_state_dict(state)
