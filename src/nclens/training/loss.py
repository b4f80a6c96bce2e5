"""A loss during training, with its schedule, its memory and its teacher."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor

from nclens.losses import Schedule, StatefulLoss, is_taught

#: A trained network: maps inputs (N, ...) to logits (N, K), such as `nclens.training.loop.as_teacher` returns.
Teacher = Callable[[Tensor], Tensor]

#: What a loss may get by name: features (B, d), and the head's weight (K, d) and bias (K,).
PARTS = ("features", "weight", "bias")


class TrainedLoss:
    """A loss during training: maps logits (N, K) and class labels (N,) to one value per sample (N,).

    Attributes:
        parameters: the function's keyword arguments in the current epoch, set by `begin_epoch`; at first, epoch 0.
        needs: what the function gets by name beside them: some of `PARTS`.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        parameters: Mapping[str, Any] | None = None,
        parameter: str | None = None,
        schedule: Schedule | None = None,
        epochs: int | None = None,
        teacher: Teacher | None = None,
        needs: Sequence[str] = (),
        class_weights: Tensor | None = None,
    ) -> None:
        """Prepare the loss for its first epoch.

        Args:
            function: the loss function.
            parameters: its keyword arguments.
            parameter: name of the one that the schedule varies, the strength; None for none.
            schedule: schedule of that parameter; constant by default.
            epochs: number of epochs of training; not needed for a constant schedule.
            teacher: the teacher of a distillation loss, called on the inputs of each batch.
            needs: names of further arguments of the function, some of `PARTS`.
            class_weights: (K,), a factor on the loss of each class's samples; None for 1.

        Raises:
            ValueError: the schedule is not constant and `epochs` is missing, or it ends after the last epoch.
        """
        self._function, self._start, self._parameter = function, dict(parameters or {}), parameter
        self._schedule, self._epochs, self._teacher = schedule or Schedule(), epochs, teacher
        self._is_taught, self._class_weights = is_taught(function), class_weights
        self.needs = tuple(needs)
        if epochs is None and self._schedule.kind != "constant":
            raise ValueError(f"the schedule {self._schedule.kind} needs the number of epochs")
        self.begin_epoch(0)

    def __call__(self, logits: Tensor, targets: Tensor, inputs: Tensor | None = None, **parts: Tensor) -> Tensor:
        """Return the loss of each sample (N,) with the parameters of the current epoch.

        Args:
            logits: (N, K).
            targets: class labels (N,).
            inputs: the network's inputs (N, ...); only a distillation loss needs them.
            **parts: what `needs` names.

        Raises:
            ValueError: a distillation loss lacks its teacher or the inputs.
        """
        if not self.is_taught:
            return self._weighted(self._function(logits, targets, **parts, **self.parameters), targets)
        if self._teacher is None or inputs is None:
            raise ValueError("this loss needs a teacher, and the inputs of the batch")
        return self._weighted(self._function(logits, targets, self._teacher(inputs), **self.parameters), targets)

    def _weighted(self, values: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample times the weight of its class."""
        if self._class_weights is None:
            return values
        if values.ndim == 0:
            raise ValueError("class_weights need a loss that returns one value per sample, not their mean")
        if self._class_weights.device != values.device:  # once, so that a recorded step copies nothing
            self._class_weights = self._class_weights.to(values.device)
        return values * self._class_weights[targets]

    def begin_epoch(self, epoch: int) -> None:
        """Set the parameters of epoch 0, 1, ..., `epochs` - 1.

        Raises:
            ValueError: the epoch is out of range, or the schedule ends after the last epoch.
        """
        if epoch < 0 or (self._epochs is not None and epoch >= self._epochs):
            allowed = "0 or more" if self._epochs is None else f"in [0, {self._epochs})"
            raise ValueError(f"epoch must be {allowed}, got {epoch}")
        self.parameters = dict(self._start)
        if self._parameter is not None and self._epochs is not None:
            value = self._start[self._parameter]
            self.parameters[self._parameter] = self._schedule.at(value, epoch, self._epochs)

    def end_epoch(self) -> None:
        """Let a stateful loss update its memory after an epoch."""
        if isinstance(self._function, StatefulLoss):
            self._function.end_epoch()

    @property
    def remembers(self) -> bool:
        """Whether its values depend on the samples of previous epochs."""
        return isinstance(self._function, StatefulLoss)

    @property
    def constants(self) -> Hashable:
        """The arguments in the current epoch, by name; None for a loss with a memory, which changes at each step."""
        return None if self.remembers else tuple(sorted(self.parameters.items()))

    @property
    def is_taught(self) -> bool:
        """Whether its values depend on a teacher."""
        return self._is_taught

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory as named tensors; empty for a stateless loss."""
        return self._function.state_dict() if isinstance(self._function, StatefulLoss) else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        if isinstance(self._function, StatefulLoss):
            self._function.load_state_dict(state)
