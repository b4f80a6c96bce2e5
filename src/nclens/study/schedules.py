"""Schedule entries: how a loss's strength goes over the epochs."""

from typing import Annotated, Literal

from pydantic import Field

from nclens.study.fields import Closed, Count, Integer, NonNegative, kind


class Constant(Closed):
    """The strength stays what the loss entry says."""

    kind: Literal["constant"] = "constant"

    @property
    def words(self) -> str:
        """What a label says of the schedule, after the strength."""
        return ""

    @property
    def last(self) -> int:
        """The last epoch that the schedule names."""
        return 0


class Linear(Closed):
    """The strength v becomes v + (to - v) t/until in epoch t = 0, 1, ..., and `to` from epoch `until` on."""

    kind: Literal["linear"]
    to: NonNegative
    """Strength at the end, in the same range as the loss's own."""
    until: Count | None = None
    """The epoch, counted from 0, from which on the strength is `to`; by default the number of epochs."""

    @property
    def words(self) -> str:
        """What a label says of the schedule, after the strength."""
        return f" → {self.to:g}" + ("" if self.until is None else f" at epoch {self.until}")

    @property
    def last(self) -> int:
        """The last epoch that the schedule names."""
        return self.until or 0


class Drop(Closed):
    """The strength falls to 0: the loss is plain cross entropy from an epoch on."""

    kind: Literal["drop"]
    at: Annotated[Integer, Field(ge=0)]
    """Number of epochs with the loss's strength; the next one is the first without. 0: none, `epochs`: all."""

    @property
    def words(self) -> str:
        """What a label says of the schedule, after the strength."""
        return f" until epoch {self.at}"

    @property
    def last(self) -> int:
        """The last epoch that the schedule names."""
        return self.at


ScheduleEntry = kind("kind", {"constant": Constant, "linear": Linear, "drop": Drop})
