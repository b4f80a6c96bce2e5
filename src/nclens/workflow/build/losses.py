"""From a loss entry to the function that is minimised."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nclens.losses import LOSSES, STRENGTHS, Schedule
from nclens.training.loss import Teacher, TrainedLoss
from nclens.workflow.build.functions import load_function


def build_loss(entry: dict[str, Any], epochs: int | None = None, teacher: Teacher | None = None) -> TrainedLoss:
    """Return the loss of an entry, for a training of so many epochs where its strength varies, taught by a teacher.

    An entry is `{name: <registered loss>, <its parameters>, schedule: {kind, ...}}` or `{function: module:name,
    parameters: {...}}`. The user's own function gets logits, class numbers and its parameters, and returns one value a
    sample or their mean.

    Raises:
        ValueError: the schedule does not fit the epochs; or, when it is called, the user's function fails or returns
            something else than (N,) or one number.
    """
    if "function" in entry:
        return TrainedLoss(_own(entry), entry["parameters"])
    name = entry["name"]
    parameters = {key: value for key, value in entry.items() if key not in ("entry", "name", "schedule")}
    # A class is a loss with a memory: one of it a run.
    function = LOSSES[name]() if isinstance(LOSSES[name], type) else LOSSES[name]
    schedule = _schedule(entry.get("schedule", {}))
    return TrainedLoss(function, parameters, STRENGTHS.get(name), schedule, epochs, teacher)


def _schedule(entry: Mapping[str, Any]) -> Schedule:
    """The schedule of an entry `{kind: linear, to, until}`, `{kind: drop, at}`, `{kind: constant}` or `{}`."""
    return Schedule(entry.get("kind", "constant"), entry.get("to"), entry.get("at", entry.get("until")))


def _own(entry: dict[str, Any]) -> Callable[..., Tensor]:
    """The user's own function, its mistakes told with its name."""
    name = f"{entry['function']} ({entry['file']})"
    function = load_function(entry["file"], entry["function"])

    def loss(logits: Tensor, targets: Tensor, **keywords: Any) -> Tensor:
        try:
            values = function(logits, targets, **keywords)
        except Exception as error:
            raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(values, Tensor) or values.shape not in (targets.shape, ()):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"{name} must return one value a sample, shape ({len(targets)},), or one number, not {found}"
            )
        return values

    return loss
