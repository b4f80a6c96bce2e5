"""The key `classes` of data entries for classification: which classes are kept."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Integer

ClassNumbers = Annotated[tuple[Annotated[Integer, Field(ge=0, lt=2**31)], ...], Field(max_length=100_000)]


class ChosenClasses(Closed):
    """A data entry of which some classes may be kept alone."""

    classes: ClassNumbers | None = None
    """Classes to keep, two or more numbers from 0, which become the classes 0, 1, ... in this order; null keeps all."""

    @property
    def all_classes(self) -> int | None:
        """Number of classes before any are left out, where it is known before the data are read."""
        return None

    @property
    def kept_classes(self) -> int | None:
        """Number of classes, where it is known before the data are read."""
        return len(self.numbers) if self.numbers is not None else self.all_classes

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """The classes that are kept; None for all."""
        return self.classes

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        numbers, known = self.numbers, self.all_classes
        if numbers is None:
            return self
        context: dict[str, Any] = {"value": str(list(numbers))}
        if len(numbers) < 2:
            raise PydanticCustomError("classes", "classes = {value}: two or more are needed; null keeps all", context)
        if len(set(numbers)) != len(numbers):
            raise PydanticCustomError("classes", "classes {value} must not repeat", context)
        if known is not None and max(numbers) >= known:
            message = "classes = {value}: the data have {known} classes, numbered from 0 to {last}"
            raise PydanticCustomError("classes", message, context | {"known": known, "last": known - 1})
        return self
