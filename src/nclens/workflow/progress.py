"""How far a training is, for whoever watches: a file that is no output and goes when the run is complete."""

import contextlib
import time
from typing import TYPE_CHECKING

from nclens.workflow.files import write_json
from nclens.workflow.paths import RunFolder

if TYPE_CHECKING:
    from nclens.training.loop import Trainer

#: Seconds between two writings at least.
EVERY = 1.0


class Progress:
    """Writes the position in epochs, where this process began, the last loss, and the seconds since.

    Args:
        trainer: the training that is followed.
        work: the folder of what it has written so far.
    """

    def __init__(self, trainer: "Trainer", work: RunFolder) -> None:
        self._trainer = trainer
        self._file = work.progress
        self._begun = time.monotonic()
        self._first = self._position()
        self._write(self._begun)

    def note(self) -> None:
        """Write the file, if it is due or the training has ended."""
        now = time.monotonic()
        if now >= self._due or self._trainer.epoch == self._trainer.settings.epochs:
            self._write(now)

    def _write(self, now: float) -> None:
        trainer = self._trainer
        rows = [row for row in trainer.history[-2:] if row["split"] == "train"]
        content = {
            "epochs": trainer.settings.epochs,
            "first": self._first,
            "position": self._position(),
            "loss": rows[-1]["loss"] if rows else None,
            "seconds": now - self._begun,
        }
        with contextlib.suppress(OSError):  # a training does not end for want of being watched
            write_json(self._file, content)
        self._due = now + EVERY

    def _position(self) -> float:
        return self._trainer.epoch + self._trainer.step / self._trainer.steps_per_epoch
