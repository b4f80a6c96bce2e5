"""What the options of a recipe change in a training step, and gradients that are summed over parts of a batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from nclens.data.tensors import Split
from nclens.models import Network

#: Inputs (B, ...) and targets of some samples.
Part = tuple[Tensor, Tensor]


class BatchLoss(Protocol):
    """The loss of a batch."""

    @property
    def needs(self) -> Sequence[str]:
        """What the loss gets by name beside logits, targets and inputs, see `nclens.training.loop.parts_of`."""

    def __call__(self, logits: Tensor, targets: Tensor, inputs: Tensor, **parts: Tensor) -> Tensor:
        """Return one value per sample (N,), or their mean, of outputs (N, K) and class labels (N,) or targets (N, K).

        `inputs` (N, ...) are the network's, augmentation included: a teacher sees the same. `parts` are what `needs`
        names.
        """


class MixedBatch(Protocol):
    """A batch of mixed samples, such as `nclens.training.mixing.Mixed`."""

    @property
    def inputs(self) -> Tensor:
        """The network's inputs (B, ...)."""

    @property
    def targets(self) -> Tensor:
        """What the loss takes as targets, a row a sample."""

    def loss(self, loss: BatchLoss) -> BatchLoss:
        """Return the loss of such targets."""

    def statistics(self, task: str, outputs: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the statistics of such targets, as `nclens.training.statistics.batch_statistics`."""


class Mixing(Protocol):
    """Mixes the samples of each batch, such as `nclens.training.mixing.Mixing`."""

    def check(self, train: Split) -> None:
        """Refuse data whose samples cannot be mixed."""

    def __call__(self, inputs: Tensor, targets: Tensor, seed: int) -> MixedBatch:
        """Return a batch, mixed; the same seed gives the same draws."""


class Averaging(Protocol):
    """An average of a network's weights over its steps, such as `nclens.training.averaging.Average`."""

    @property
    def network(self) -> Network:
        """The network with the averaged weights."""

    def update(self) -> None:
        """Take the weights after a step into the average."""

    def state(self) -> dict[str, Tensor]:
        """Return what later averages depend on, for a checkpoint."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""


class Parallel(Protocol):
    """Processes that train one network together, seen from one of them: `nclens.training.parallel.Processes`.

    Attributes:
        rank: number of this process, from 0.
        count: number of all processes.
    """

    rank: int
    count: int

    def places(self, batch_size: int, *, mixed: bool) -> Tensor:
        """Return the places in a batch of the samples of this process (B / count,), in order.

        If samples are `mixed`, the sample before them, or the last one, comes first: it is mixed into the first.
        """

    def seed_layers(self, seed: int, device: torch.device) -> None:
        """Seed what random layers draw from in a step, for this process; `seed` is that of the step."""

    def forward(self, network: Network, objective: Callable[..., Part], part: Part, *, last: bool) -> Part:
        """Return an objective of some samples; the backward pass of the `last` part averages the gradients."""

    def equalise(self, network: Network) -> None:
        """Give the buffers of a network the values that they have in the first process."""

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes."""

    def all_of(self, values: Tensor) -> Tensor:
        """Return the values of all processes (count, ...), by rank."""

    def any_before(self, wish: bool) -> bool:
        """Return whether a process had a wish one call earlier: no process waits for the others."""

    def largest(self, *values: int) -> list[int]:
        """Return of each number the largest that a process has; all wait for each other."""

    def share_of(self, split: Split, batch_size: int) -> Split | None:
        """Return every `count`th batch of a split, from that of the rank on; None where there is none."""

    def in_turn(self, rows: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """Return the rows of all processes in the order of the split; `rows`, each like `like`, are this one's."""


def accumulate(
    objective: Callable[[Tensor, Tensor], Part], parts: Iterable[Part], samples: float | None = None
) -> Part:
    """Add the gradients of an objective, part by part; return the batch's outputs (N, K) and the objective's value.

    With n_j of the N targets in part j, value and gradients are sum_j (n_j / N) of the parts': those of the whole batch
    where the objective is a mean over samples, plus terms that are the same for every part.

    Args:
        objective: maps inputs and targets to outputs, a row for each target, and a scalar.
        parts: of the batch.
        samples: N; by default the targets of all parts. Of one of M processes it is the M-th part of their targets, so
            that the mean over the processes is that of the whole batch.
    """
    parts = list(parts)
    samples = samples or sum(len(targets) for _, targets in parts)
    outputs, values = [], []
    for inputs, targets in parts:
        found, value = objective(inputs, targets)
        share = value * (len(targets) / samples)
        share.backward()
        outputs.append(found.detach())
        values.append(share.detach())
    return torch.cat(outputs), torch.stack(values).sum()


class PerSample:
    """A loss that returns a value for each sample: what a mean over parts of a batch can be taken of."""

    def __init__(self, loss: BatchLoss) -> None:
        self._loss = loss

    @property
    def needs(self) -> Sequence[str]:
        """What the loss gets by name."""
        return self._loss.needs

    def __call__(self, logits: Tensor, targets: Tensor, inputs: Tensor, **parts: Tensor) -> Tensor:
        """Return the loss of each sample (N,).

        Raises:
            ValueError: the loss returns one number, which may be of the batch as a whole.
        """
        values = self._loss(logits, targets, inputs, **parts)
        if values.ndim == 0:
            raise ValueError(
                "accumulate and devices need a loss that returns one value per sample, not one number, which may need "
                "the whole batch"
            )
        return values
