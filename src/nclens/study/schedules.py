"""Schedule entries: how a loss's strength changes over the epochs."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nclens.study.fields import Closed, Count, Integer, NonNegative, kind


class Constant(Closed):
    """The strength stays what the loss entry says."""

    kind: Literal["constant"] = "constant"

    @property
    def suffix(self) -> str:
        """What a label says of the schedule, after the strength."""
        return ""

    @property
    def last(self) -> int:
        """The last epoch that the schedule names."""
        return 0


class Linear(Closed):
    """The strength v becomes v + (end - v) t/epoch in epoch t = 0, 1, ..., and stays `end` from `epoch` on."""

    renamed: ClassVar = {"to": "end", "until": "epoch"}

    kind: Literal["linear"]
    end: NonNegative
    """Strength at the end, in the same range as the loss's own."""
    epoch: Count | None = None
    """The first epoch, counted from 0, with the strength `end`; by default the number of epochs."""

    @property
    def suffix(self) -> str:
        """What a label says of the schedule, after the strength."""
        return f" → {self.end:g}" + ("" if self.epoch is None else f" at epoch {self.epoch}")

    @property
    def last(self) -> int:
        """The last epoch that the schedule names."""
        return self.epoch or 0


class Drop(Closed):
    """The strength falls to 0: from an epoch on, the loss is plain cross entropy."""

    renamed: ClassVar = {"at": "epoch"}

    kind: Literal["drop"]
    epoch: Annotated[Integer, Field(ge=0)]
    """The first epoch, counted from 0, without the loss: 0 never uses it, the number of epochs always."""

    @property
    def suffix(self) -> str:
        """What a label says of the schedule, after the strength."""
        return f" until epoch {self.epoch}"

    @property
    def last(self) -> int:
        """The last epoch that the schedule names."""
        return self.epoch


ScheduleEntry = kind("kind", {"constant": Constant, "linear": Linear, "drop": Drop})
