"""Imbalance and label noise: what is done to the training split of a classification data set."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Integer, Number, Seed


class Imbalance(Closed):
    """Unequal classes in the training split, a seeded subset of it; the test split stays as it is.

    With n the samples of the smallest class before, the class k of 0..K-1 keeps n_k, rounded half up and at least 1.
    """

    kind: Literal["exponential", "step"]
    """`exponential`: n_k = n r^(-k/(K-1)). `step`: n / r for the classes of `minority`, n for the others."""
    ratio: Annotated[Number, Field(ge=1)]
    """r, the largest class over the smallest, at least 1."""
    minority: tuple[Annotated[Integer, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    """The small classes of a `step`; null takes the last K/2, rounded down."""
    seed: Seed = 0
    """Seed of the subset."""

    @model_validator(mode="after")
    def _minority_has_each_class_once(self) -> Self:
        if self.minority is not None and len(set(self.minority)) < len(self.minority):
            message = "minority = {value}: has a class twice; allowed: each class once"
            raise PydanticCustomError("imbalance", message, {"value": str(list(self.minority))})
        return self

    @model_validator(mode="after")
    def _minority_is_of_a_step(self) -> Self:
        if self.minority is not None and self.kind != "step":
            message = (
                "minority = {value}: is of `kind: step`; `exponential` shrinks each class more than the one before"
            )
            raise PydanticCustomError("imbalance", message, {"value": str(list(self.minority))})
        return self


class LabelNoise(Closed):
    """Wrong labels in the training split; the clean ones are kept beside them, and the test split stays clean."""

    share: Annotated[Number, Field(ge=0, lt=1)]
    """Share of the training samples whose label is changed, in [0, 1), rounded half up to whole samples."""
    kind: Literal["symmetric", "pair"] = "symmetric"
    """`symmetric`: to any other class, all alike; `pair`: from k to k + 1, and from the last class to 0."""
    seed: Seed = 0
    """Seed of the choice of samples and of their labels."""


class Altered(Closed):
    """Keys that every classification data set has."""

    imbalance: Imbalance | None = None
    """Unequal classes in the training split; null leaves them."""
    label_noise: LabelNoise | None = None
    """Wrong labels in the training split, after any imbalance; null leaves them."""

    def altered(self, samples: int | None) -> int | None:
        """Return the number of training samples after the imbalance; None where it is known when data are read."""
        return samples if self.imbalance is None else None

    def check_minority(self, classes: int | None) -> None:
        """Refuse a minority of classes that there are not, or of all."""
        minority = self.imbalance.minority if self.imbalance else None
        if classes is not None and minority is not None and (max(minority) >= classes or len(minority) == classes):
            message = "imbalance.minority = {value}: must be some, not all, of the classes 0 to {last}"
            raise PydanticCustomError("imbalance", message, {"value": str(list(minority)), "last": classes - 1})


def without_defaults(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return what `prepare` uses of an entry: shares, alterations and a choice of classes only where there are any."""
    absent = {"test", "validation", "imbalance", "label_noise"}
    if chosen.get("source") != "arrays":  # whose `classes` are names too
        absent.add("classes")
    return {key: value for key, value in chosen.items() if key not in absent or value is not None}
