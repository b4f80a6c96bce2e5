"""Loss entries: what is minimised, and how it looks in figures."""

from typing import Annotated, Literal

from pydantic import Field

from nclens.config.fields import Closed, Colour, Custom, Number, kind


class LossBase(Closed):
    """What every loss entry may say of its looks."""

    label: str | None = None
    """Name in figures and tables; by default made from the loss and its parameters."""
    colour: Colour | None = None
    """Colour in figures and in the MLflow UI, #rrggbb; by default the next one of a colour-blind-safe palette."""


class CrossEntropy(LossBase):
    """Cross entropy with one-hot targets."""

    name: Literal["ce"]


class LabelSmoothing(LossBase):
    """Cross entropy with targets (1 - smoothing) onehot + smoothing / K."""

    name: Literal["ls"]
    smoothing: Annotated[Number, Field(ge=0, lt=1)]
    """Smoothing delta, in [0, 1)."""


class CustomLoss(Custom, LossBase):
    """A loss that the user's function computes."""


LossEntry = kind("name", {"ce": CrossEntropy, "ls": LabelSmoothing}, CustomLoss)
