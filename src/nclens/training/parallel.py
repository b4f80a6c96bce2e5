"""One network trained by several processes, a device each, by PyTorch's DistributedDataParallel.

Every process has the whole network, and takes an equal part of each batch: rank r of R the samples from r B/R on. The
gradients are averaged, so that all take the same step. Data, draws and statistics are those of one process with the
whole batch; :class:`nclens.training.loop.Trainer` says what is not.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from nclens.data.tensors import Split
from nclens.models import Network
from nclens.training.recipe import Part

#: How long a process waits for the others: they may read images, compile, or evaluate.
PATIENCE = timedelta(minutes=30)


class Processes:
    """The processes of a job, seen from one of them; all call the same methods in the same order.

    Attributes:
        rank: number of this process, from 0.
        count: number of all processes.
    """

    def __init__(self, device: torch.device) -> None:
        """Find the others by the variables that torchrun sets: gloo connects CPUs, NCCL GPUs.

        Args:
            device: the device of this process.
        """
        cuda = device.type == "cuda"
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE, device_id=device if cuda else None)
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        # On the CPU's side, where a wish costs no wait for the GPU.
        self._wishes = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._asked: tuple[Tensor, dist.Work] | None = None
        self._share: tuple[Split, Split | None] | None = None
        self._wrapped: DistributedDataParallel | None = None

    def close(self) -> None:
        """Leave the others."""
        if self._asked is not None:
            self._asked[1].wait()
        dist.destroy_process_group()

    # --- a step ------------------------------------------------------------------------------------------------------

    def places(self, batch_size: int, *, mixed: bool) -> Tensor:
        """Return the places in a batch of the samples of this process (B / count,), in order.

        If samples are `mixed`, the sample before them, or the last one, comes first: it is mixed into the first.

        Raises:
            ValueError: the processes do not divide the batch.
        """
        if batch_size % self.count:
            raise ValueError(f"{self.count} devices do not divide batch_size {batch_size}")
        size = batch_size // self.count
        first = self.rank * size
        return torch.arange(first - int(mixed), first + size) % batch_size

    def seed_layers(self, seed: int, device: torch.device) -> None:
        """Seed what random layers draw from in a step, for this process; `seed` is that of the step.

        So no generator's state is in a checkpoint, and any number of processes can resume it.
        """
        own = (seed + self.rank) % 2**63
        torch.default_generator.manual_seed(own)
        if device.type == "cuda":
            torch.cuda.manual_seed(own)

    def forward(self, network: Network, objective: Callable[..., Part], part: Part, *, last: bool) -> Part:
        """Return an objective of some samples; the backward pass of the `last` part averages the gradients."""
        if self._wrapped is None or self._wrapped.module.network is not network:
            self._wrapped = DistributedDataParallel(
                _Called(network),
                broadcast_buffers=False,  # `equalise` does, after the step and not before the next
                # Buckets then stay as they are at first: the order of a sum is the same before and after a pause. And a
                # network may leave out layers.
                find_unused_parameters=True,
            )
        with contextlib.nullcontext() if last else self._wrapped.no_sync():
            found: Part = self._wrapped(objective, *part)
        return found

    @torch.no_grad()
    def equalise(self, network: Network) -> None:
        """Give the buffers of a network the values that they have in the first process.

        Statistics of batch normalisation are then of its part of each batch. All networks are the same after each step,
        and so are averages of their weights, snapshots and evaluations.
        """
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in network.buffers():
            if buffer.numel():
                kinds.setdefault(buffer.dtype, []).append(buffer)
        for buffers in kinds.values():
            values = torch.cat([buffer.flatten() for buffer in buffers])
            dist.broadcast(values, 0)
            if self.rank:
                for buffer, value in zip(buffers, values.split([one.numel() for one in buffers]), strict=True):
                    buffer.copy_(value.view(buffer.shape))

    # --- statistics --------------------------------------------------------------------------------------------------

    def all_of(self, values: Tensor) -> Tensor:
        """Return the values of all processes (count, ...), by rank."""
        found = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(found, values.contiguous())
        return torch.stack(found)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes, summed by rank."""
        return self.all_of(values).sum(0) / self.count

    def share_of(self, split: Split, batch_size: int) -> Split | None:
        """Return every `count`th batch of a split, from that of the rank on; None where there is none.

        The share of the last split is kept.
        """
        if self._share is None or self._share[0] is not split:
            batches = torch.arange(len(split)).split(batch_size)[self.rank :: self.count]
            chosen = split.subset(torch.cat(batches).to(split.targets.device)) if batches else None
            self._share = (split, chosen)
        return self._share[1]

    def in_turn(self, rows: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """Return the rows of all processes in the order of the split; `rows`, each like `like`, are this one's."""
        counts = self.all_of(torch.tensor(len(rows), device=like.device)).tolist()
        table = torch.zeros(max(counts), *like.shape, dtype=like.dtype, device=like.device)
        for place, row in enumerate(rows):
            table[place] = row
        tables = self.all_of(table)
        return [tables[rank, turn] for turn in range(max(counts)) for rank in range(self.count) if turn < counts[rank]]

    # --- agreement ---------------------------------------------------------------------------------------------------

    def any_before(self, wish: bool) -> bool:
        """Return whether a process had a wish one call earlier: no process waits for the others."""
        asked = self._asked
        wished = torch.tensor(int(wish))
        work = dist.all_reduce(wished, dist.ReduceOp.MAX, group=self._wishes, async_op=True)
        assert work is not None
        self._asked = (wished, work)
        if asked is None:
            return False
        found, before = asked
        before.wait()
        return bool(found)

    def largest(self, *values: int) -> list[int]:
        """Return of each number the largest that a process has; all wait for each other."""
        found = torch.tensor(values)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self._wishes)
        return [int(value) for value in found]


class _Called(nn.Module):
    """A module that returns what a function of its parameters does."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, objective: Callable[..., Part], *part: Tensor) -> Part:
        return objective(*part)


def synchronised(network: Network) -> Network:
    """Return the network with batch normalisation over the batch of all processes, `torch.nn.SyncBatchNorm`.

    Raises:
        ValueError: it is not on a GPU.
    """
    if any(parameter.device.type != "cuda" for parameter in network.parameters()):
        raise ValueError("training.sync_batchnorm is true, and PyTorch has it on CUDA alone; set it to false")
    found: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return found
