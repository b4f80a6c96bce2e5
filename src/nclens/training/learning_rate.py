"""The learning rate of every training step: a schedule over the epochs, and a linear warm-up."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LrSchedule:
    """What the learning rate is multiplied by in each step of a training.

    With E epochs of n steps, epoch e = 1, ..., E and step t = 0, ..., E n - 1 of the whole training:

    * `constant`: 1.
    * `step`: factor^m, m the number of milestones before e.
    * `cosine`: end + (1 - end) (1 + cos(pi (e - 1 - w) / (E - w))) / 2, w the epochs of warm-up: that of
      `torch.optim.lr_scheduler.CosineAnnealingLR`, epoch by epoch.
    * `one_cycle`: that of `torch.optim.lr_scheduler.OneCycleLR` with `cos`, step by step: from `start` to 1 in the
      share `rise` of the steps, then to `end`.
    * `function`: what the function returns for (e - 1, E).

    In the first w epochs this is multiplied by (t + 1) / (w n); the cosine begins behind them.

    Attributes:
        kind: one of the above.
        warmup_epochs: w, in [0, E).
        milestones: epochs after which the rate falls, of `step`.
        factor: at each milestone, of `step`.
        rise: share of the steps until the peak, in (0, 1), of `one_cycle`.
        start: share of the peak at the first step, of `one_cycle`.
        end: share of the peak at the end, of `cosine` and `one_cycle`.
        function: epochs completed and E -> factor, finite and at least 0.
    """

    kind: Literal["constant", "step", "cosine", "one_cycle", "function"] = "constant"
    warmup_epochs: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    rise: float = 0.3
    start: float = 0.04
    end: float = 0.0
    function: Callable[[int, int], float] | None = None

    def varies_in(self, epoch: int) -> bool:
        """Return whether the rate changes from step to step in epoch 1, 2, ..."""
        return self.kind == "one_cycle" or epoch <= self.warmup_epochs

    def factors(self, epoch: int, epochs: int, steps: int) -> list[float]:
        """Return the factor of each of the `steps` steps of epoch 1, 2, ..., `epochs`.

        Raises:
            ValueError: a function returns something else than a finite number of at least 0.
        """
        if self.kind == "one_cycle":
            first, total = (epoch - 1) * steps, epochs * steps
            return [self._in_cycle(step, total) for step in range(first, first + steps)]
        factor = self._of_epoch(epoch, epochs)
        if epoch > self.warmup_epochs:
            return [factor] * steps
        first, last = (epoch - 1) * steps, self.warmup_epochs * steps
        return [factor * (step + 1) / last for step in range(first, first + steps)]

    def _of_epoch(self, epoch: int, epochs: int) -> float:
        if self.kind == "step":
            return self.factor ** sum(milestone < epoch for milestone in self.milestones)
        if self.kind == "cosine":
            share = max(0, epoch - 1 - self.warmup_epochs) / (epochs - self.warmup_epochs)
            return _cosine(1.0, self.end, share)
        if self.function is None:
            return 1.0
        factor = self.function(epoch - 1, epochs)
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < math.inf:
            raise ValueError(
                f"the function of lr_schedule must return a finite number of at least 0, not {factor!r} (epoch {epoch})"
            )
        return float(factor)

    def _in_cycle(self, step: int, total: int) -> float:
        peak = self.rise * total - 1
        if step <= peak:
            return _cosine(self.start, 1.0, step / peak if peak else 1.0)
        return _cosine(1.0, self.end, (step - peak) / max(1.0, total - 1 - peak))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def learning_rates(learning_rate: float, schedule: LrSchedule, epochs: int, steps_per_epoch: int) -> list[float]:
    """Return the learning rate of every step of a training, epochs x steps_per_epoch numbers in their order.

    >>> learning_rates(0.5, LrSchedule("step", milestones=(1,)), 2, 2)
    [0.5, 0.5, 0.05, 0.05]
    """
    return [
        learning_rate * factor
        for epoch in range(1, epochs + 1)
        for factor in schedule.factors(epoch, epochs, steps_per_epoch)
    ]
