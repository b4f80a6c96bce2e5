"""Loss entries: what is minimised, and how it looks in figures."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nclens.config.fields import Closed, Colour, Custom, NonNegative, Number, kind


class LossBase(Closed):
    """What every loss entry may say of its regulariser and its looks."""

    #: The task whose targets the loss takes; None for any.
    task: ClassVar[str | None] = "classification"

    weight_decay: NonNegative | None = None
    """L2 coefficient on all parameters, in place of `training.weight_decay`: the regulariser is a part of what is
    minimised, and entries that differ in it alone make a grid."""

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


class SquaredError(LossBase):
    """Squared error of a regression, (1/2) |z - y|^2, summed over the targets."""

    task: ClassVar[str | None] = "regression"

    name: Literal["squared_error"]


class CustomLoss(Custom, LossBase):
    """A loss that the user's function computes."""

    task: ClassVar[str | None] = None


LossEntry = kind("name", {"ce": CrossEntropy, "ls": LabelSmoothing, "squared_error": SquaredError}, CustomLoss)
