"""The keys `test` and `validation` of data entries: shares of one set that become splits."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Number

#: Part of a set.
Share = Annotated[Number, Field(gt=0, lt=1)]


class Shares(Closed):
    """Keys of data that may be one set, which is split here."""

    test: Share | None = None
    """Share of one set that becomes the test split, in (0, 1): of each class, at least one sample; of a regression, of
    all samples. Null where the data have a test split."""
    validation: Share | None = None
    """Share that becomes the validation split, in (0, 1), of one set, or of the training split where the data have a
    test split; null makes none."""

    @model_validator(mode="after")
    def _leave_training_samples(self) -> Self:
        if (self.test or 0) + (self.validation or 0) >= 1:
            message = "test = {test} and validation = {validation}: together they must be below 1"
            raise PydanticCustomError("shares", message, {"test": self.test, "validation": self.validation})
        return self
