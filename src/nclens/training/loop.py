"""The training loop: one network, one loss, one seed; training can be saved and resumed at any step, bit for bit.

The data set is one tensor on the device, indexed by batch, or images that worker processes read from files. Initial
weights, order of the samples and augmentation each have a separate random generator, seeded by the run's seed and the
purpose, so that two losses with the same seed start from the same weights and see the same batches.
"""

import hashlib
import itertools
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parametrize

from nclens._inputs import check_labels, unchecked
from nclens.data.tensors import Split, flip_crop
from nclens.models import Network, check_affine
from nclens.models.network import UnfitError
from nclens.training.graph import Recorder, Replayed, record_cuda_graph
from nclens.training.history import STATISTICS
from nclens.training.learning_rate import LrSchedule
from nclens.training.optimizer import Optimizer, descent
from nclens.training.recipe import Averaging, BatchLoss, Mixing, Parallel, PerSample, accumulate
from nclens.training.statistics import batch_statistics


class NonFiniteError(FloatingPointError):
    """The loss is infinite or not a number."""


class Loss(BatchLoss, Protocol):
    """A loss that may change with the epoch, such as :class:`nclens.training.loss.TrainedLoss`."""

    @property
    def constants(self) -> Hashable:
        """What the loss depends on in this epoch beside its arguments; None if it changes from step to step."""

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for epoch 0, 1, ...; called before its first batch, and again when training resumes within it."""

    def end_epoch(self) -> None:
        """Finish the epoch; called after its training and evaluation."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what the loss has learned from the samples, for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""


#: A network's backbone, possibly compiled: maps inputs (N, ...) to features (N, d).
Backbone = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Penalties:
    """The unconstrained feature model's penalties on the head and the penultimate features.

    lambda_W/2 |W|_F^2 + lambda_H/2 |H|_F^2 + lambda_b/2 |b|^2, with |H|_F^2 summed over all N training samples
    (2402.03979, UFM). On a batch, (N lambda_H)/2 times the mean of |h_i|^2 is an unbiased estimate of the second term.

    Attributes:
        lambda_w: lambda_W, on the head's weight (K, d).
        lambda_h_total: N lambda_H for all N training samples: the product that determines the minimiser.
        lambda_b: lambda_b, on the head's bias (K,).
    """

    lambda_w: float
    lambda_h_total: float
    lambda_b: float

    def of(self, network: Network, features: Tensor) -> Tensor:
        """Return the penalty of a network and the features (B, d) of a batch, a scalar."""
        head = network.head
        bias = 0.0 if head.bias is None else self.lambda_b * head.bias.square().sum()
        mean_square = features.square().sum() / len(features)
        return (self.lambda_w * head.weight.square().sum() + self.lambda_h_total * mean_square + bias) / 2


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of training.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples per step; the last partial batch of an epoch is dropped.
        optimizer: what takes the steps, with its learning rate and weight decay.
        lr_schedule: what the learning rate is multiplied by in each step.
        clip_gradient_norm: the largest 2-norm of the gradient of all parameters together: a longer one is scaled down
            to it before the step. None for no limit.
        augmentation: `none` or `flip_crop`.
        record_every: epochs between two rows of the history; the first and the last epoch are always recorded.
        precision: of the backbone's forward and backward pass: `float32`, `tf32` (see `nclens.training.runtime`), or
            `bf16` for autocast to bfloat16; weights, head and loss are always float32.
        compile: run the backbone's training steps through `torch.compile`.
        penalties: penalties of the unconstrained feature model, added to the loss; None for none.
        cuda_graph: take the steps on a GPU as replays of a CUDA graph, see `nclens.training.graph`: `auto` where that
            is possible, `required` or an error, `never`.
        mixing: mixes the samples of each batch; None for none.
        averaging: begins an average of a network's weights, which is evaluated and kept; None for none.
        accumulate: parts of a batch whose gradients are summed before a step; divides `batch_size`.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    lr_schedule: LrSchedule = field(default_factory=LrSchedule)
    clip_gradient_norm: float | None = None
    augmentation: str = "none"
    record_every: int = 1
    precision: str = "float32"
    compile: bool = False
    penalties: "Penalties | None" = None
    cuda_graph: str = "auto"
    mixing: Mixing | None = None
    averaging: Callable[[Network], Averaging] | None = None
    accumulate: int = 1

    def records(self, epoch: int) -> bool:
        """Return whether epoch 1, 2, ..., `epochs` is recorded in the history."""
        return epoch in (1, self.epochs) or epoch % self.record_every == 0


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose of a run; seeds of different purposes and runs are unrelated."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Trainer:
    """Trains one network, epoch by epoch, and can be saved between any two steps.

    Attributes:
        epoch: completed epochs.
        step: completed steps of the current epoch.
        history: one dict per recorded epoch and split: epoch, split, loss, learning_rate and the task's statistics.
        seconds: time spent in training steps, without evaluation.
        average: the average of the network's weights; None where there is none.
        parallel: the processes that train together; None for this one alone. Each takes an equal part of every batch
            with the draws of augmentation and mixing that it has in the whole batch, so that a step is that of one
            process up to rounding, batch normalisation and random layers aside: these see a part of the batch, and draw
            by process and step.
        direct: why steps on a GPU are no replays of a CUDA graph; None where they are, and on a CPU.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        train: Split,
        test: Split,
        settings: Settings,
        seed: int,
        recorder: Recorder | None = None,
        parallel: Parallel | None = None,
    ) -> None:
        if len(train) < settings.batch_size:
            raise UnfitError(
                f"batch_size {settings.batch_size} is larger than the training split ({len(train)} samples)"
            )
        if settings.augmentation == "flip_crop" and train.inputs.ndim != 4:
            raise UnfitError("augmentation flip_crop needs images (C, H, W); rows allow only none")
        if settings.batch_size % (settings.accumulate * (parallel.count if parallel else 1)):
            parts = f"accumulate {settings.accumulate}" + (f" times {parallel.count} devices" if parallel else "")
            raise ValueError(f"{parts} does not divide batch_size {settings.batch_size}")
        if settings.mixing is not None:
            settings.mixing.check(train)
        if train.task != "regression":
            # Once, for all batches: checking the values of each would make a GPU wait at every step.
            for name, split in (("training", train), ("test", test)):
                labels = split.of_samples(split.targets)
                check_labels(labels, network.head.out_features, len(labels), name=f"the {name} labels")
        self.network, self.loss, self.settings, self.seed = network, loss, settings, seed
        self.train_split, self.test_split = train, test
        self.device = train.inputs.device
        # Rows are small and not augmented, so they are normalised once.
        rows = train.inputs.ndim == 2 and train.task != "sequences"
        self._rows = train.normalise(train.inputs) if rows else None
        # The compiled backbone shares the network's parameters; evaluation and checkpoints use the original.
        self._backbone: Backbone = torch.compile(network.backbone) if settings.compile else network.backbone
        self.parameters = list(network.parameters())
        saved = network.state_dict().keys()
        self._unsaved = {name: value.clone() for name, value in network.named_buffers() if name not in saved}
        self.descent = descent(settings.optimizer, network)
        self.average = None if settings.averaging is None else settings.averaging(network)
        self.augmentation = torch.Generator(self.device).manual_seed(derived_seed(seed, "augmentation"))
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self._columns = ("loss", *STATISTICS[train.task])
        self._sums = torch.zeros(len(self._columns), dtype=torch.float64, device=self.device)
        # Random layers such as dropout draw from the global generator.
        torch.manual_seed(derived_seed(seed, "layers"))
        self.parallel = parallel
        # Of several processes, the places of this one's samples in a batch.
        self._places: Tensor | None = None
        if parallel is not None:
            places = parallel.places(settings.batch_size, mixed=settings.mixing is not None)
            self._places = places.to(self.device)
        self._targets = settings.batch_size  # of the whole batch
        # Where a step finds its batch.
        size = settings.batch_size if self._places is None else len(self._places)
        self._index = torch.empty(size, dtype=torch.int64, device=self.device)
        # Images that are read from files, and where a step finds those of its batch.
        self._arriving: Iterator[Tensor] | None = None
        self._arrived: Tensor | None = None
        recorder = recorder or (record_cuda_graph if self.device.type == "cuda" else None)
        self.direct = _why_direct(settings, loss, train.task, parallel) if recorder else None
        if self.direct is not None and settings.cuda_graph == "required":
            raise ValueError(f"training.cuda_graph is `required`, but {self.direct}; use `auto` or `never`")
        self._replayed = self._prepared(recorder) if recorder is not None and self.direct is None else None

    @property
    def measured(self) -> Network:
        """The network that is evaluated and kept: that of the averaged weights where there is one."""
        return self.network if self.average is None else self.average.network

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in the training split."""
        return len(self.train_split) // self.settings.batch_size

    @unchecked()  # the labels are checked in `__init__`, and a loss that is not finite is found in `_record`
    def advance(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end of the current epoch and evaluate; return False as soon as `stop()` is true after a step.

        Raises:
            NonFiniteError: the loss of a recorded epoch is not finite; names the epoch and the learning rate.
            ValueError: the loss does not depend on the network, or a buffer changes that no snapshot would hold.
        """
        number = self.epoch + 1
        self.loss.begin_epoch(self.epoch)
        factors = self.settings.lr_schedule.factors(number, self.settings.epochs, self.steps_per_epoch)
        # Drawn on the CPU, so that the order is the same on every device.
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", number))
        order = torch.randperm(len(self.train_split), generator=generator).to(self.device)
        batches = order[: self.steps_per_epoch * self.settings.batch_size].view(self.steps_per_epoch, -1)
        whole = batches
        if self._places is not None:
            batches = whole[:, self._places]
        if self._arriving is None:  # else it goes on after a pause
            augmented = derived_seed(self.seed, "augmentation", number)
            self._arriving = self.train_split.arriving(batches[self.step :], augmented)
        self.network.train()
        begun = time.monotonic()
        while self.step < self.steps_per_epoch:
            self._index.copy_(batches[self.step])
            if self.parallel is not None and self.train_split.task == "sequences":
                self._targets = len(self.train_split.of_samples(self.train_split.targets[whole[self.step]]))
            self._receive()
            self._take_step(factors[self.step], number)
            if self.average is not None:
                self.average.update()  # outside a recorded step: it counts in Python
            self.step += 1
            wish = stop()
            if wish if self.parallel is None else self.parallel.any_before(wish):
                self.seconds += time.monotonic() - begun
                return False
        sums = (
            self._sums if self.parallel is None else self.parallel.mean(self._sums)
        ).tolist()  # waits for the device
        self.seconds += time.monotonic() - begun
        self._finish_epoch(number, self.settings.optimizer.learning_rate * factors[-1], sums)
        return True

    def _receive(self) -> None:
        """Put the images of the next batch, if they are read from files, where a step finds them."""
        if self._arriving is None:
            return
        images = next(self._arriving)
        if self._arrived is None:
            self._arrived = torch.empty_like(images, device=self.device)
        self._arrived.copy_(images, non_blocking=True)

    def _prepared(self, recorder: Recorder) -> Replayed:
        changing = [*self.parameters, *self.network.buffers(), self._sums]
        changing += self.descent.changing
        layers = torch.default_generator
        if self.device.type == "cuda":
            layers = torch.cuda.default_generators[self.device.index or 0]
        return Replayed(changing, [self.augmentation, layers], self.settings.cuda_graph == "required", recorder)

    def _take_step(self, factor: float, epoch: int) -> None:
        record = self.settings.records(epoch)
        step = partial(self._train, factor, record)
        # A recording holds the learning rate: in a warm-up there would be one a step.
        if self._replayed is None or self.settings.lr_schedule.varies_in(epoch):
            step()
        else:
            self._replayed.take(step, (factor, record, self.loss.constants))

    def _train(self, factor: float, record: bool) -> None:
        """Train on the batch of the samples `_index`, `factor` times the learning rate."""
        if self.parallel is not None:
            self.parallel.seed_layers(derived_seed(self.seed, "layers", self.epoch + 1, self.step), self.device)
        inputs, targets = self._batch(self._index)
        loss: BatchLoss = self.loss
        statistics = batch_statistics
        if self.settings.mixing is not None:
            seed = derived_seed(self.seed, "mixing", self.epoch + 1, self.step)
            mixed = self.settings.mixing(inputs, targets, seed)
            inputs, targets, loss, statistics = mixed.inputs, mixed.targets, mixed.loss(self.loss), mixed.statistics
            if self.parallel is not None:  # the first sample is there for the one after it
                inputs, targets = inputs[1:], targets[1:]
        logits, value = self._descend(loss, inputs, targets)
        with torch.no_grad():
            if self.settings.clip_gradient_norm is not None:
                clip_grad_norm_(self.parameters, self.settings.clip_gradient_norm)
            self.descent.step(factor)
            if record:
                # Summed on the device: reading a value would synchronise at every step.
                found = statistics(self.train_split.task, logits, targets)
                if self.parallel is not None:  # the mean over the processes is that of the batch
                    found = [one * (len(targets) * self.parallel.count / self._targets) for one in found]
                self._sums += torch.stack([value, *found])
        if self.parallel is not None:
            self.parallel.equalise(self.network)

    def _descend(self, loss: BatchLoss, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Set the gradients of the objective on a batch; return its logits and the objective's value."""
        parts = self.settings.accumulate
        if parts == 1 and self.parallel is None:
            logits, value = self._objective(loss, inputs, targets)
            self._forget_gradients()
            value.backward()
            return logits, value
        self._forget_gradients()
        if self.train_split.task == "sequences":  # each has another number of targets
            pieces = [self._batch(index) for index in self._index.chunk(parts)]
        else:
            pieces = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
        if self.parallel is None:
            return accumulate(partial(self._objective, PerSample(loss)), pieces)
        left = itertools.count(1 - len(pieces))

        def shared(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            return self._objective(PerSample(loss), inputs, targets, last=next(left) == 0)

        return accumulate(shared, pieces, self._targets / self.parallel.count)

    def _objective(self, loss: BatchLoss, inputs: Tensor, targets: Tensor, last: bool = True) -> tuple[Tensor, Tensor]:
        settings = self.settings

        def whole(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            return objective(
                self.network,
                loss,
                settings.penalties,
                inputs,
                targets,
                precision=settings.precision,
                backbone=self._backbone,
            )

        if self.parallel is None:
            logits, value = whole(inputs, targets)
        else:
            logits, value = self.parallel.forward(self.network, whole, (inputs, targets), last=last)
        if not value.requires_grad:
            known = " or ".join(["the logits", *(f"`{name}`" for name in loss.needs)])
            raise ValueError(f"the loss does not depend on {known}: it has no gradient")
        return logits, value

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's inputs and the targets of a batch."""
        split = self.train_split
        if self._rows is not None:
            return self._rows.index_select(0, index), split.targets.index_select(0, index)
        if self._arrived is not None:
            return split.normalise(self._arrived), split.targets.index_select(0, index)
        stored, targets = split.take(index)
        if self.settings.augmentation == "flip_crop":
            of = None if self._places is None else (self.settings.batch_size, self._places)
            stored = flip_crop(stored, self.augmentation, of=of)
        return split.normalise(stored), targets

    def _finish_epoch(self, number: int, rate: float, sums: list[float]) -> None:
        self._check_buffers()
        if self.settings.records(number):
            self._record(number, rate, sums)
        self.epoch, self.step, self._arriving = number, 0, None
        self.loss.end_epoch()

    def _check_buffers(self) -> None:
        """Refuse a network whose state is not all in its `state_dict`: a snapshot would be another network."""
        buffers = dict(self.network.named_buffers())
        for name, first in self._unsaved.items():
            if not torch.equal(buffers[name].nan_to_num(), first.nan_to_num()):
                raise ValueError(
                    f"the buffer `{name}` changes in training but is in no snapshot; register it with persistent=True"
                )

    def _record(self, number: int, rate: float, sums: list[float]) -> None:
        values = dict(zip(self._columns, (value / self.steps_per_epoch for value in sums), strict=True))
        if not math.isfinite(values["loss"]):
            raise NonFiniteError(
                f"the loss is not finite in epoch {number} (learning rate {rate:g}); lower the learning rate"
            )
        self._sums.zero_()
        common = {"epoch": number, "learning_rate": rate}
        self.history.append({**common, "split": "train", **values})
        self.history.append({**common, "split": "test", **self._evaluate()})

    def _evaluate(self) -> dict[str, float]:
        settings = self.settings
        return evaluate(
            self.measured,
            self.loss,
            self.test_split,
            penalties=settings.penalties,
            precision=settings.precision,
            parallel=self.parallel,
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that the rest of training depends on, as tensors and as plain values.

        Of several processes each calls it, and the first one's is the state of all; any number may resume it.
        """
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        steps, options = self.descent.state()
        tensors |= {f"optimizer.{name}": value for name, value in steps.items()}
        tensors |= {f"loss.{name}": value for name, value in self.loss.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state().items()}
        tensors |= {"random.cpu": torch.get_rng_state(), "random.augmentation": self.augmentation.get_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        tensors["sums"] = self._sums
        if self.parallel is not None:
            tensors |= {"sums": self.parallel.mean(self._sums), "sums.all": self.parallel.all_of(self._sums)}
        values = {"epoch": self.epoch, "step": self.step, "history": self.history, "seconds": self.seconds}
        return tensors, values | {"optimizer": options}

    def resume(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Restore a state that `state` returned."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.loss.load_state_dict(part("loss."))
        if self.average is not None:
            self.average.load(part("average."))
        self.descent.load(part("optimizer."), values["optimizer"])
        self._sums.copy_(tensors["sums"])
        each = tensors.get("sums.all")
        if self.parallel is not None and each is not None and len(each) == self.parallel.count:
            self._sums.copy_(each[self.parallel.rank])
        self._arriving = None
        self.epoch, self.step, self.history = values["epoch"], values["step"], list(values["history"])
        self.seconds = values["seconds"]
        self.augmentation.set_state(tensors["random.augmentation"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


def _why_direct(settings: Settings, loss: Loss, task: str, parallel: Parallel | None) -> str | None:
    """Return why the steps of a training cannot be replays of one recording; None if they can."""
    if parallel is not None:
        return "several devices train together"
    if task == "sequences":
        return "each batch of sequences has another number of tokens"
    if settings.cuda_graph == "never":
        return "cuda_graph is `never`"
    if settings.mixing is not None:
        return "mixup and cutmix draw another share at each step"
    if settings.compile:
        return "compile is true, which plans the launches itself"
    if not settings.optimizer.is_sgd:
        return "the optimiser is not sgd or sgdw"
    if settings.lr_schedule.kind == "one_cycle":
        return "the learning rate of one_cycle is another at each step"
    if loss.constants is None:
        return "the loss remembers earlier steps"
    return None


def objective(
    network: Network,
    loss: BatchLoss,
    penalties: Penalties | None,
    inputs: Tensor,
    targets: Tensor,
    *,
    precision: str = "float32",
    backbone: Backbone | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the logits (B, K) of a batch and the trained objective, a scalar: mean loss plus penalties.

    With `precision` bf16 the backbone runs under autocast; head, loss and penalties are always float32. `backbone`
    replaces the network's own, for instance by its compiled form.
    """
    features = _features(network.backbone if backbone is None else backbone, inputs, precision)
    # One W for logits and penalties: a parametrisation such as spectral_norm has another at each access in training.
    with parametrize.cached():
        logits = network.head(features)
        value = loss(logits, targets, inputs, **parts_of(network, features, loss.needs)).mean()
        return logits, value if penalties is None else value + penalties.of(network, features)


def parts_of(network: Network, features: Tensor, needs: Sequence[str]) -> dict[str, Tensor]:
    """Return what a loss names: `features` (B, d), the head's `weight` (K, d), its `bias` (K,), 0 where it has none.

    Read after the forward pass, in which hooks such as `torch.nn.utils.weight_norm` set the head's weight.
    """
    head = network.head
    known: dict[str, Callable[[], Tensor]] = {
        "features": lambda: features,
        "weight": lambda: head.weight,
        "bias": lambda: features.new_zeros(head.out_features) if head.bias is None else head.bias,
    }
    return {name: known[name]() for name in needs}


def as_teacher(network: Network, precision: str = "float32") -> Callable[[Tensor], Tensor]:
    """Return a trained network as a function from inputs (B, ...) to float32 logits (B, K), for a student's loss.

    The network is frozen: it stays in evaluation mode, whatever the mode of the student, and gets no gradients.
    `precision` is as in `Settings`.
    """
    network.eval().requires_grad_(False)

    def teach(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network.head(_features(network.backbone, inputs, precision))
        return logits

    return teach


def _features(backbone: Backbone, inputs: Tensor, precision: str) -> Tensor:
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
        features = backbone(inputs)
    return features.float()


def evaluation_batch(inputs: Tensor) -> int:
    """Return the batch size of evaluation for inputs (N, C, H, W) or (N, F).

    250 for rows and for images of up to 32 x 32 pixels. For larger images the number of pixels in a batch is kept: the
    memory of a convolutional network's hidden layers grows with it.
    """
    pixels = math.prod(inputs.shape[2:])
    return max(1, 250 * 32 * 32 // max(32 * 32, pixels))


@torch.no_grad()
def evaluate(
    network: Network,
    loss: Loss,
    split: Split,
    batch_size: int | None = None,
    penalties: Penalties | None = None,
    precision: str = "float32",
    parallel: Parallel | None = None,
) -> dict[str, float]:
    """Return the trained objective (`loss`) and the task's statistics on a split, in evaluation mode.

    `precision` is as in `Settings`; the logits are always float32. The batches are shared out among the processes of
    `parallel`; the values are those of one process, bit for bit.
    """
    network.eval()
    batch_size = batch_size or evaluation_batch(split.inputs)
    columns = ("loss", *STATISTICS[split.task])
    part = split if parallel is None else parallel.share_of(split, batch_size)
    rows = []
    for inputs, targets in part.batches(batch_size) if part is not None else ():
        logits, value = objective(network, loss, penalties, inputs, targets, precision=precision)
        rows.append(torch.stack([value, *batch_statistics(split.task, logits, targets)]) * len(targets))
    sums = torch.zeros(len(columns), dtype=torch.float64, device=split.inputs.device)
    for row in rows if parallel is None else parallel.in_turn(rows, sums):
        sums += row
    samples = len(split.of_samples(split.targets))
    return dict(zip(columns, (sums / samples).tolist(), strict=True))


@torch.no_grad()
def extract_features(
    network: Network, split: Split, batch_size: int | None = None, backbone: Backbone | None = None
) -> tuple[Tensor, Tensor]:
    """Return features (N, d) and logits (N, K) of a split in evaluation mode, in order, float32, on the CPU.

    Of sequences N is the number of target tokens. `backbone` replaces the network's own, for instance by the pass that
    `nclens.training.passes` chooses.

    Raises:
        ValueError: in the first or the last batch the logits are not h W' + b up to rounding, see
            `nclens.models.check_affine`.
    """
    network.eval()
    batch_size = batch_size or evaluation_batch(split.inputs)
    # Filled in place: concatenating batches at the end would need twice the memory.
    samples = len(split.of_samples(split.targets))
    features = torch.empty(samples, network.head.in_features, dtype=torch.float32)
    logits = torch.empty(samples, network.head.out_features, dtype=torch.float32)
    done = 0
    run = network.backbone if backbone is None else backbone  # a compiled one may not have a truth value
    for inputs, _ in split.batches(batch_size):
        hidden = run(inputs)
        rows = slice(done, done := done + len(hidden))
        features[rows] = hidden
        outputs = network.head(hidden)
        if rows.start == 0 or done == samples:
            check_affine(network.head, hidden, outputs, network.head_path)
        logits[rows] = outputs
    return features, logits
