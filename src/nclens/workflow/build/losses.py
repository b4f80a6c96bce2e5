"""From a loss entry to the function that is minimised."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nclens.losses import LOSSES, Schedule
from nclens.training.loss import PARTS, Teacher, TrainedLoss
from nclens.workflow.build.functions import failure, load_function
from nclens.workflow.specs import Loss


def build_loss(
    entry: Loss, epochs: int | None = None, teacher: Teacher | None = None, counts: Sequence[int] | None = None
) -> TrainedLoss:
    """Return the loss of an entry, for a training of so many epochs, with a teacher if it is distilled.

    The user's own function gets logits, class numbers, its arguments, and what it names of `PARTS`; it returns one
    value per sample or their mean. An entry's class weights are part of the loss where `counts` are given, the training
    samples of each class.

    Raises:
        ValueError: the schedule does not fit the epochs, or has no argument to vary; or, when it is called, the user's
            function fails or returns something else than (N,) or one number.
    """
    weights = None if counts is None else class_weights(entry, counts)
    if entry.function is not None:
        return TrainedLoss(_own(entry), entry.arguments, needs=_named(entry), class_weights=weights)
    registered = LOSSES[entry.called]
    # A class is a loss with a state: each run has an instance.
    function = registered() if isinstance(registered, type) else registered
    chosen = entry.schedule
    schedule = Schedule() if chosen is None else Schedule(chosen.kind, chosen.end, chosen.epoch)
    if schedule.kind != "constant" and entry.parameter is None:
        raise ValueError(f"{entry.name} has no argument that its schedule {schedule.kind} could vary")
    return TrainedLoss(function, entry.arguments, entry.parameter, schedule, epochs, teacher, class_weights=weights)


def class_weights(entry: Loss, counts: Sequence[int]) -> Tensor | None:
    """Return the factor on each class's samples (K,), float32; None where there is none.

    Balanced, it is N / (K n_k) with the K classes that have samples, and 1 for one without, which no sample trains.

    Raises:
        ValueError: there are not as many weights as classes.
    """
    if entry.balanced:
        sizes = torch.tensor(counts, dtype=torch.float64)
        present = sizes > 0
        return torch.where(present, sizes.sum() / (present.sum() * sizes), 1.0).float()
    if entry.class_weights and len(entry.class_weights) != len(counts):
        raise ValueError(
            f"losses.{entry.entry}.class_weights has {len(entry.class_weights)} numbers, and the data have "
            f"{len(counts)} classes; allowed: `balanced`, or one number a class"
        )
    return torch.tensor(entry.class_weights) if entry.class_weights else None


def loss_after(entry: Loss, epoch: int, epochs: int, counts: Sequence[int] | None = None) -> TrainedLoss | None:
    """Return the loss at its strength in the last of so many epochs; None where logits do not determine its value.

    That is the user's own function, which may return the mean over samples, a loss with a memory, which no snapshot
    holds, and one with a teacher. `counts` are the training samples of each class, for class weights.
    """
    if entry.function is not None:
        return None
    loss = build_loss(entry, epochs, counts=counts)
    loss.begin_epoch(max(epoch - 1, 0))
    return None if loss.remembers or loss.is_taught else loss


def _named(entry: Loss) -> list[str]:
    """Return what the user's own function names of `PARTS`."""
    parameters = inspect.signature(load_function(str(entry.file), str(entry.function))).parameters
    return [name for name in PARTS if name in parameters and name not in entry.arguments]


def _own(entry: Loss) -> Callable[..., Tensor]:
    """The user's own function; its errors name it."""
    name = f"{entry.function} ({entry.file})"
    function = load_function(str(entry.file), str(entry.function))

    def loss(logits: Tensor, targets: Tensor, **keywords: Any) -> Tensor:
        try:
            values = function(logits, targets, **keywords)
        except Exception as error:
            raise failure(str(entry.function), str(entry.file), error) from error
        if not isinstance(values, Tensor) or values.shape not in (targets.shape, ()):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"{name} must return one value per sample, shape ({len(targets)},), or one number, not {found}"
            )
        return values

    return loss
