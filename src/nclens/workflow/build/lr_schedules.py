"""From a run's schedule of the learning rate to what gives the rate of every step; without PyTorch."""

from nclens.training.learning_rate import LrSchedule
from nclens.workflow.build.functions import call
from nclens.workflow.specs import LrSchedule as ChosenSchedule


def build_lr_schedule(entry: ChosenSchedule) -> LrSchedule:
    """Return the schedule of an entry; the user's own gets the epochs completed and their number in all.

    Raises:
        ValueError: when it is used, the user's function fails.
    """
    if entry.function is None:
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.arguments.items()}
        return LrSchedule(entry.kind, entry.warmup_epochs, **given)  # type: ignore[arg-type]
    file, function = str(entry.file), entry.function

    def factor(epoch: int, epochs: int) -> float:
        found: float = call(file, function, epoch, epochs, **entry.arguments)
        return found

    return LrSchedule("function", entry.warmup_epochs, function=factor)
