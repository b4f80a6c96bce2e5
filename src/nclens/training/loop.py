"""The training loop: one network, one loss, one seed; every state of it can be saved and taken up again, bit for bit.

There is no loader: the data set lies on the device as one tensor and a batch is an index into it. Each purpose of
chance (initial weights, order of the samples, augmentation) has a generator of its own, seeded by the run's seed and
the purpose, so that two losses with one seed start from the same weights and see the same batches.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from nclens.data.tasks import TASKS
from nclens.data.tensors import Split, flip_crop
from nclens.models import Network
from nclens.training.history import STATISTICS


class Loss(Protocol):
    """A loss that goes with the epochs, such as :class:`nclens.training.loss.TrainedLoss`."""

    def __call__(self, logits: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (N, K) and class numbers (N,) or targets (N, K) to one value a sample (N,), or to their mean.

        `inputs` (N, ...) are what the network saw, augmentation included: a teacher is asked about the same.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Be as in epoch 0, 1, ...; called before its first batch, and again when training is resumed within it."""

    def end_epoch(self) -> None:
        """Called when the epoch is trained and evaluated."""

    def state_dict(self) -> dict[str, Tensor]:
        """What the loss has learned from the samples; a checkpoint holds it."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""


#: A network's backbone, perhaps compiled: inputs (N, ...) to features (N, d).
Backbone = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Penalties:
    """The unconstrained feature model's penalties on the head and the penultimate features.

    lambda_W/2 |W|_F^2 + lambda_H/2 |H|_F^2 + lambda_b/2 |b|^2, with |H|_F^2 summed over all N training samples
    (2402.03979, UFM). A batch estimates the middle term without bias by (N lambda_H)/2 times the mean of |h_i|^2.

    Attributes:
        lambda_w: lambda_W, on the head's weight (K, d).
        lambda_h_total: N lambda_H, over all N training samples: the product that the minimiser depends on.
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
    """How a network is trained: SGD with momentum and a step schedule.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples a step; the last partial batch of an epoch is dropped.
        learning_rate: step size before the first milestone.
        momentum: momentum of SGD (no Nesterov), in [0, 1).
        weight_decay: L2 coefficient on all parameters.
        milestones: epochs after which the learning rate is multiplied by `decay`.
        decay: factor at each milestone.
        augmentation: `none` or `flip_crop`.
        record_every: epochs between two rows of the history; the first and the last epoch have theirs always.
        precision: of the backbone's forward and backward pass: `float32`, `tf32` (see `nclens.training.runtime`), or
            `bf16` for autocast to bfloat16; the weights, the head and the loss are float32 always.
        compile: run the backbone's training steps through `torch.compile`.
        penalties: of the unconstrained feature model, added to the loss; None for none.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    augmentation: str = "none"
    record_every: int = 1
    precision: str = "float32"
    compile: bool = False
    penalties: "Penalties | None" = None

    def records(self, epoch: int) -> bool:
        """Return whether epoch 1, 2, ..., `epochs` has rows in the history."""
        return epoch in (1, self.epochs) or epoch % self.record_every == 0

    def learning_rate_in(self, epoch: int) -> float:
        """Return the step size during epoch 1, 2, ..., `epochs`."""
        return self.learning_rate * self.decay ** sum(milestone < epoch for milestone in self.milestones)


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose of a run; different purposes and different seeds are unrelated."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Trainer:
    """Trains one network, a stretch at a time, and can be saved between any two steps.

    Attributes:
        epoch: completed epochs.
        step: completed steps of the epoch under way.
        history: one dict a recorded epoch and split: epoch, split, loss, learning_rate and the task's statistics.
        seconds: time spent in training steps, evaluation left out.
    """

    def __init__(self, network: Network, loss: Loss, train: Split, test: Split, settings: Settings, seed: int) -> None:
        if len(train) < settings.batch_size:
            raise ValueError(
                f"batch_size {settings.batch_size} is larger than the training split ({len(train)} samples)"
            )
        if settings.augmentation == "flip_crop" and train.inputs.ndim != 4:
            raise ValueError("augmentation flip_crop needs images (C, H, W), not rows; allowed for rows: none")
        self.network, self.loss, self.settings, self.seed = network, loss, settings, seed
        self.train_split, self.test_split = train, test
        self.device = train.inputs.device
        # Rows are small and not augmented: they are normalised once.
        self._rows = train.normalise(train.inputs) if train.inputs.ndim == 2 else None
        # The compiled backbone shares the network's parameters; evaluation and the saved state see the plain one.
        self._backbone: Backbone = torch.compile(network.backbone) if settings.compile else network.backbone
        self.parameters = list(network.parameters())
        # From zero the first step leaves the gradient there, as torch.optim.SGD does.
        self.momentum = [torch.zeros_like(weight) if settings.momentum else None for weight in self.parameters]
        self.augmentation = torch.Generator(self.device).manual_seed(derived_seed(seed, "augmentation"))
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self._columns = ("loss", *STATISTICS[train.task])
        self._sums = torch.zeros(len(self._columns), dtype=torch.float64, device=self.device)
        # Layers with chance of their own, such as dropout, draw from the global generator.
        torch.manual_seed(derived_seed(seed, "layers"))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return len(self.train_split) // self.settings.batch_size

    def advance(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end of the epoch under way and evaluate; return False as soon as `stop()` is true after a step.

        Raises:
            FloatingPointError: the loss of a recorded epoch is not finite; names the epoch and the learning rate.
        """
        number = self.epoch + 1
        self.loss.begin_epoch(self.epoch)
        rate = self.settings.learning_rate_in(number)
        # The order is drawn on the CPU, so that it is the same on every device.
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", number))
        order = torch.randperm(len(self.train_split), generator=generator).to(self.device)
        batches = order[: self.steps_per_epoch * self.settings.batch_size].view(self.steps_per_epoch, -1)
        self.network.train()
        begun = time.monotonic()
        while self.step < self.steps_per_epoch:
            self._train_on(batches[self.step], rate, self.settings.records(number))
            self.step += 1
            if stop():
                self.seconds += time.monotonic() - begun
                return False
        sums = self._sums.tolist()  # waits for the device
        self.seconds += time.monotonic() - begun
        self._finish_epoch(number, rate, sums)
        return True

    def _train_on(self, index: Tensor, rate: float, record: bool) -> None:
        inputs, targets = self._batch(index)
        logits, loss = objective(
            self.network,
            self.loss,
            self.settings.penalties,
            inputs,
            targets,
            precision=self.settings.precision,
            backbone=self._backbone,
        )
        if not loss.requires_grad:
            raise ValueError("the loss does not depend on the logits: it has no gradient")
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        with torch.no_grad():
            self._descend(rate)
            if record:
                # Kept on the device: reading a number here would wait for it at every step.
                self._sums += torch.stack([loss, *TASKS[self.train_split.task].statistics(logits, targets)])

    def _descend(self, rate: float) -> None:
        """Take a step of SGD: the function behind torch.optim.SGD, whose `step` takes as long as a small layer."""
        learned = [place for place, parameter in enumerate(self.parameters) if parameter.grad is not None]
        sgd(
            [self.parameters[place] for place in learned],
            [cast(Tensor, self.parameters[place].grad) for place in learned],
            [self.momentum[place] for place in learned],
            fused=True,
            lr=rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def _batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's inputs and the targets of a batch."""
        split = self.train_split
        if self._rows is not None:
            return self._rows.index_select(0, index), split.targets.index_select(0, index)
        stored = split.inputs[index]
        if self.settings.augmentation == "flip_crop":
            stored = flip_crop(stored, self.augmentation)
        return split.normalise(stored), split.targets[index]

    def _finish_epoch(self, number: int, rate: float, sums: list[float]) -> None:
        if self.settings.records(number):
            self._record(number, rate, sums)
        self.epoch, self.step = number, 0
        self.loss.end_epoch()

    def _record(self, number: int, rate: float, sums: list[float]) -> None:
        values = dict(zip(self._columns, (value / self.steps_per_epoch for value in sums), strict=True))
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss is not finite in epoch {number} (learning rate {rate:g}); lower the learning rate"
            )
        self._sums.zero_()
        common = {"epoch": number, "learning_rate": rate}
        self.history.append({**common, "split": "train", **values})
        self.history.append({**common, "split": "test", **self._evaluate()})

    def _evaluate(self) -> dict[str, float]:
        settings = self.settings
        return evaluate(
            self.network, self.loss, self.test_split, penalties=settings.penalties, precision=settings.precision
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the rest of the training depends on: tensors, and plain values."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"momentum.{place}": kept for place, kept in enumerate(self.momentum) if kept is not None}
        tensors |= {f"loss.{name}": value for name, value in self.loss.state_dict().items()}
        tensors |= {"random.cpu": torch.get_rng_state(), "random.augmentation": self.augmentation.get_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        tensors["sums"] = self._sums
        return tensors, {"epoch": self.epoch, "step": self.step, "history": self.history, "seconds": self.seconds}

    def resume(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go back to a state that `state` returned."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.loss.load_state_dict(part("loss."))
        for place, kept in enumerate(self.momentum):
            if kept is not None:
                # The fused step walks memory, so a buffer must lie in it as its parameter does (channels last).
                kept.copy_(tensors[f"momentum.{place}"])
        self._sums.copy_(tensors["sums"])
        self.epoch, self.step, self.history = values["epoch"], values["step"], list(values["history"])
        self.seconds = values["seconds"]
        self.augmentation.set_state(tensors["random.augmentation"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


def objective(
    network: Network,
    loss: Loss,
    penalties: Penalties | None,
    inputs: Tensor,
    targets: Tensor,
    *,
    precision: str = "float32",
    backbone: Backbone | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the logits (B, K) of a batch and the trained objective, a scalar: mean loss plus penalties.

    With `precision` bf16 the backbone runs under autocast; head, loss and penalties are float32 always. `backbone`
    stands in for the network's own, which it is a compiled form of.
    """
    features = _features(backbone or network.backbone, inputs, precision)
    logits = network.head(features)
    value = loss(logits, targets, inputs).mean()
    return logits, value if penalties is None else value + penalties.of(network, features)


def as_teacher(network: Network, precision: str = "float32") -> Callable[[Tensor], Tensor]:
    """Return the function from inputs (B, ...) to a trained network's logits (B, K), float32, for a student's loss.

    The network is frozen: it is in evaluation mode, whatever mode the student is in, and gets no gradients. `precision`
    is as in `Settings`.
    """
    network.eval().requires_grad_(False)

    def ask(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network.head(_features(network.backbone, inputs, precision))
        return logits

    return ask


def _features(backbone: Backbone, inputs: Tensor, precision: str) -> Tensor:
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
        features = backbone(inputs)
    return features.float()


def evaluation_batch(inputs: Tensor) -> int:
    """Return how many of a split's inputs (N, C, H, W) or (N, F) are evaluated at once.

    250 rows or images of up to 32 x 32 pixels, and of larger images so many that they have no more pixels together:
    the memory of a convolutional network's hidden layers grows with both.
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
) -> dict[str, float]:
    """Return the trained objective (`loss`), and the task's statistics of a split in evaluation mode.

    `precision` is as in `Settings`; the logits are float32 always.
    """
    network.eval()
    batch_size = batch_size or evaluation_batch(split.inputs)
    columns = ("loss", *STATISTICS[split.task])
    sums = torch.zeros(len(columns), dtype=torch.float64, device=split.inputs.device)
    for start in range(0, len(split), batch_size):
        targets = split.targets[start : start + batch_size]
        inputs = split.normalise(split.inputs[start : start + batch_size])
        logits, value = objective(network, loss, penalties, inputs, targets, precision=precision)
        sums += torch.stack([value, *TASKS[split.task].statistics(logits, targets)]) * len(targets)
    return dict(zip(columns, (sums / len(split)).tolist(), strict=True))


@torch.no_grad()
def extract_features(network: Network, split: Split, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Return features (N, d) and logits (N, K) of a split in evaluation mode, in its order, float32 on the CPU."""
    network.eval()
    batch_size = batch_size or evaluation_batch(split.inputs)
    # Filled in place: batches that are put together at the end would need the memory twice.
    features = torch.empty(len(split), network.head.in_features)
    logits = torch.empty(len(split), network.head.out_features)
    for start in range(0, len(split), batch_size):
        hidden = network.backbone(split.normalise(split.inputs[start : start + batch_size]))
        features[start : start + batch_size] = hidden
        logits[start : start + batch_size] = network.head(hidden)
    return features, logits
