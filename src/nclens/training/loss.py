"""A loss over the epochs of a training: its schedule, its memory, its teacher."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nclens.losses import Schedule, StatefulLoss, is_taught

#: A trained network that is asked for its logits (N, K) on inputs (N, ...), such as `nclens.training.loop.as_teacher`.
Teacher = Callable[[Tensor], Tensor]


class TrainedLoss:
    """A loss over the epochs of a training: logits (N, K), class numbers (N,) -> one value a sample (N,).

    Attributes:
        parameters: keyword arguments that the function is called with in the epoch that `begin_epoch` named last, or,
            before that, in the first one.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        parameters: Mapping[str, Any] | None = None,
        strength: str | None = None,
        schedule: Schedule | None = None,
        epochs: int | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """Set up the loss for its first epoch.

        Args:
            function: the loss itself.
            parameters: its keyword arguments.
            strength: which of them the schedule varies; None for none.
            schedule: of the strength; constant by default.
            epochs: length of the training; a constant strength needs none.
            teacher: whose logits a loss that is taught is given, on the inputs of each batch.

        Raises:
            ValueError: the strength varies and there is no number of epochs, or it varies after the last of them.
        """
        self._function, self._start, self._strength = function, dict(parameters or {}), strength
        self._schedule, self._epochs, self._teacher = schedule or Schedule(), epochs, teacher
        self._is_taught = is_taught(function)
        if epochs is None and self._schedule.kind != "constant":
            raise ValueError(f"the schedule {self._schedule.kind} needs the number of epochs")
        self.begin_epoch(0)

    def __call__(self, logits: Tensor, targets: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Loss of each sample at the strength of this epoch.

        Args:
            logits: (N, K).
            targets: class numbers (N,).
            inputs: (N, ...), as the network saw them; only a loss that is taught needs them.

        Raises:
            ValueError: the loss is taught, and inputs or a teacher are missing.
        """
        if not self.is_taught:
            return self._function(logits, targets, **self.parameters)
        if self._teacher is None or inputs is None:
            raise ValueError("this loss asks a teacher: it needs one, and the inputs of the batch")
        return self._function(logits, targets, self._teacher(inputs), **self.parameters)

    def begin_epoch(self, epoch: int) -> None:
        """Set the strength of epoch 0, 1, ..., `epochs` - 1.

        Raises:
            ValueError: the epoch is none of these, or the schedule goes on after the last.
        """
        if epoch < 0 or (self._epochs is not None and epoch >= self._epochs):
            allowed = "0 or more" if self._epochs is None else f"in [0, {self._epochs})"
            raise ValueError(f"epoch must be {allowed}, got {epoch}")
        self.parameters = dict(self._start)
        if self._strength is not None and self._epochs is not None:
            value = self._start[self._strength]
            self.parameters[self._strength] = self._schedule.at(value, epoch, self._epochs)

    def end_epoch(self) -> None:
        """Let a loss with a memory make use of the epoch behind it."""
        if isinstance(self._function, StatefulLoss):
            self._function.end_epoch()

    @property
    def remembers(self) -> bool:
        """Whether its values depend on the samples of the epochs before."""
        return isinstance(self._function, StatefulLoss)

    @property
    def is_taught(self) -> bool:
        """Whether its values depend on a teacher."""
        return self._is_taught

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the memory: named tensors, none for most losses."""
        return self._function.state_dict() if isinstance(self._function, StatefulLoss) else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        if isinstance(self._function, StatefulLoss):
            self._function.load_state_dict(state)
