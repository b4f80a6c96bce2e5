"""What the entries of the embedded data sets of digits share."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Integer, Seed


class Digits(Closed):
    """Ten classes of grey images, 28 x 28, split by class."""

    #: Images that there are of every digit.
    per_class: ClassVar[int]

    train_per_class: int
    """Training images of each digit."""
    test_per_class: int
    """Test images of each digit."""
    split_seed: Seed = 0
    """Seed of the stratified split."""

    @property
    def train_samples(self) -> int:
        """Size of the training split."""
        return (self.kept_classes or 10) * self.train_per_class

    @property
    def kept_classes(self) -> int | None:
        """Number of classes that are kept: all, but where an entry chooses some."""
        return 10

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.train_per_class + self.test_per_class > self.per_class:
            message = "train_per_class + test_per_class must be at most {most}"
            raise PydanticCustomError("split", message, {"most": self.per_class})
        return self


class FiveThousand(Digits):
    """The 5,000 images of MNIST, 500 a digit."""

    per_class = 500

    train_per_class: Annotated[Integer, Field(ge=2, le=499)] = 400
    """Training images of each digit."""
    test_per_class: Annotated[Integer, Field(ge=2, le=498)] = 100
    """Test images of each digit; the two together are at most 500."""
