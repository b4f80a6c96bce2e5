"""Schedules of the learning rate: what it is multiplied by over the epochs."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nclens.study.fields import Closed, Count, Custom, Integer, Number, kind, named

Share = Annotated[Number, Field(ge=0, le=1)]


class RateBase(Closed):
    """The keys of every schedule of the learning rate."""

    warmup_epochs: Annotated[Integer, Field(ge=0, lt=2**31)] = 0
    """Epochs of linear warm-up: in its t-th of W steps, the learning rate is multiplied by t/W."""

    def fault(self, epochs: int) -> str | None:
        """Return why a training of so many epochs cannot have the schedule, or None."""
        if self.warmup_epochs >= epochs:
            return f"warmup_epochs = {self.warmup_epochs}: must be less than epochs = {epochs}"
        return None

    @property
    def label(self) -> str:
        """What a label says of the schedule."""
        return str(getattr(self, "kind", "own schedule")).replace("_", " ")

    def specification(self) -> dict[str, Any]:
        """Return the kind, the user's function if it is one, and what they are given."""
        keys = self.model_dump(mode="json", exclude={"warmup_epochs", "kind"})
        return {"kind": getattr(self, "kind", "function"), "warmup_epochs": self.warmup_epochs, "arguments": keys}


class ConstantRate(RateBase):
    """The learning rate stays the optimiser's."""

    kind: Literal["constant"] = "constant"


class StepRate(RateBase):
    """The learning rate falls by a factor after each milestone."""

    renamed: ClassVar = {"decay": "factor"}

    kind: Literal["step"]
    milestones: tuple[Count, ...] = Field(min_length=1, max_length=1000)
    """Epochs after which the learning rate is multiplied by `factor`."""
    factor: Annotated[Number, Field(gt=0, le=1)] = 0.1
    """Factor of the learning rate at each milestone."""

    def fault(self, epochs: int) -> str | None:
        """Return why a training of so many epochs cannot have the schedule, or None."""
        if list(self.milestones) != sorted(set(self.milestones)) or self.milestones[-1] >= epochs:
            return f"milestones {list(self.milestones)} must ascend and lie below epochs = {epochs}"
        return super().fault(epochs)


class CosineRate(RateBase):
    """The learning rate falls along half a cosine, epoch by epoch, behind the warm-up."""

    kind: Literal["cosine"]
    end: Share = 0.0
    """Share of the learning rate that is approached at the end."""


class OneCycleRate(Closed):
    """The learning rate rises from a share of itself and falls again, step by step, each along half a cosine."""

    kind: Literal["one_cycle"]
    rise: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """Share of the steps until the learning rate is reached."""
    start: Share = 0.04
    """Share of the learning rate at the first step."""
    end: Share = 4e-6
    """Share of the learning rate at the last step."""

    label: ClassVar[str] = "one cycle"

    def fault(self, epochs: int) -> None:
        """Return None: it fits any training."""

    def specification(self) -> dict[str, Any]:
        """Return the kind and what it is given."""
        return {"kind": self.kind, "warmup_epochs": 0, "arguments": self.model_dump(mode="json", exclude={"kind"})}


class OwnRate(Custom, RateBase):
    """A schedule that the user's function computes: epochs completed and their number in all -> factor."""

    given: ClassVar[tuple[str, ...]] = ("epoch", "epochs")

    label: ClassVar[str] = "own schedule"

    def specification(self) -> dict[str, Any]:
        """Return the user's function, its file and its arguments."""
        own = {"function": self.function, "file": self.file, "arguments": dict(self.parameters)}
        return {"kind": "function", "warmup_epochs": self.warmup_epochs, **own}


LrScheduleEntry = named(
    "LrSchedule",
    kind(
        "kind",
        {"constant": ConstantRate, "step": StepRate, "cosine": CosineRate, "one_cycle": OneCycleRate},
        OwnRate,
    ),
)
