"""Data set entries for regression: where samples with several numbers as targets come from."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.digits import FiveThousand
from nclens.study.fields import ArrayFile, Closed, Count, Integer, Seed, Sha256, TableFile, Text
from nclens.study.shares import Shares


class RegressionData(Closed):
    """What every data set for regression has."""

    task: ClassVar[str] = "regression"

    scale_targets: Literal["each", "common", "none"] = "none"
    """Units in which targets are stored and errors reported: as they come (`none`), to which published weight decays
    belong; centred and divided by one number for all targets, the root of their mean variance (`common`); or each by
    its own standard deviation (`each`)."""

    @model_validator(mode="after")
    def _names_each_target_once(self) -> Self:
        targets = getattr(self, "targets", None) or ()
        if len(set(targets)) != len(targets):
            raise PydanticCustomError("duplicates", "targets {values} must not repeat", {"values": str(list(targets))})
        return self

    @property
    def train_samples(self) -> int | None:
        """Size of the training split, where it is known before the data are read."""
        return None

    @property
    def image_channels(self) -> int | None:
        """Channels of the images; None for rows."""
        return None


#: Rollouts that are computed, not read.
Rolled = Annotated[Integer, Field(ge=1, le=100_000)]


class Scripted(RegressionData):
    """Rollouts of an expert that the project contains, in MuJoCo; needs the extra `nclens[mujoco]`."""

    steps: ClassVar[int]

    train_rollouts: Rolled
    """Rollouts of the training split; no rollout is split."""
    test_rollouts: Rolled
    """Rollouts of the test split."""
    every: Count = 1
    """Keep one step in so many of each rollout."""
    seed: Seed = 0
    """Seed of the rollouts' initial states and goals."""
    targets: tuple[Literal["joint0", "joint1"], ...] = Field(default=("joint0", "joint1"), min_length=1)
    """The actions to regress, the torques of the joints; one of them for a single target."""

    @property
    def train_samples(self) -> int:
        """Size of the training split."""
        return self.train_rollouts * -(-self.steps // self.every)


class ReacherScripted(Scripted):
    """Reacher: an arm of two links turns its fingertip to a goal by inverse kinematics; rollouts of 50 steps."""

    steps: ClassVar[int] = 50

    source: Literal["reacher_scripted"]
    train_rollouts: Rolled = 20
    """Rollouts of the training split; no rollout is split."""
    test_rollouts: Rolled = 10
    """Rollouts of the test split."""


class SwimmerScripted(Scripted):
    """Swimmer: a swimmer of three links on a gait of linear feedback; rollouts of 1,000 steps."""

    steps: ClassVar[int] = 1000

    source: Literal["swimmer_scripted"]
    train_rollouts: Rolled = 20
    """Rollouts of the training split; no rollout is split."""
    test_rollouts: Rolled = 10
    """Rollouts of the test split."""
    every: Count = 20
    """Keep one step in so many of each rollout."""


class Rollouts(RegressionData):
    """Rollouts in a file of the user's: inputs and targets step by step, and each step's rollout."""

    source: Literal["rollouts"]
    path: ArrayFile
    """The file, below `data_dir` unless absolute."""
    sha256: Sha256 | None = None
    """Checksum that the file must have; a new one prepares the data again."""
    inputs: Text = "observations"
    """Key of the inputs, (N, F)."""
    outputs: Text = "actions"
    """Key of the targets, (N, n) or (N,)."""
    rollout: Text | None = "rollout"
    """Key of the rollouts' numbers, (N,); null: every sample stands for itself."""
    train_rollouts: Count
    """Rollouts of the training split; no rollout is split."""
    test_rollouts: Count
    """Rollouts of the test split."""
    every: Count = 1
    """Keep one step in so many of each rollout."""
    split_seed: Seed = 0
    """Seed of the choice of rollouts."""
    targets: tuple[Annotated[Integer, Field(ge=0, lt=2**31)], ...] | None = Field(default=None, min_length=1)
    """Columns of the targets to regress; null takes all."""


class ImageTable(Shares, RegressionData):
    """Images of a folder, and a table with a row an image: its file, and the numbers to regress."""

    source: Literal["image_table"]
    path: Text
    """The folder of the images, below `data_dir` unless absolute."""
    table_path: TableFile
    """The table, below `data_dir` unless absolute."""
    image: Text = "file"
    """The column of the images' files, relative to the folder."""
    targets: Annotated[tuple[Text, ...], Field(min_length=1)]
    """The columns of the numbers to regress."""
    split: Text | None = None
    """The column that says `train`, `test` or `val`; null where `test`, a share, makes the test split."""
    image_size: Annotated[Integer, Field(ge=4, le=1024)] | None = None
    """Side in pixels that images are scaled and centrally cropped to; null where all have one size."""
    channels: Literal[1, 3] = 3
    """3 reads every image as RGB, 1 as grayscale."""
    split_seed: Seed = 0
    """Seed of the shares."""

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.channels

    @model_validator(mode="after")
    def _has_a_test_split(self) -> Self:
        if (self.split is None) == (self.test is None):
            message = "needs a test split: either `split`, a column that names it, or `test`, a share as 0.2"
            raise PydanticCustomError("shares", message)
        columns = [self.image, *self.targets, *([self.split] if self.split else [])]
        if repeated := [name for place, name in enumerate(columns) if name in columns[:place]]:
            message = "the column {name} is named twice in `image`, `targets` and `split`"
            raise PydanticCustomError("duplicates", message, {"name": repeated[0]})
        return self


class Mnist5kStrokes(FiveThousand, RegressionData):
    """MNIST-5k with numbers computed from each image: centroid, slant and thickness of the stroke."""

    source: Literal["mnist5k_strokes"]
    scale_targets: Literal["each", "common", "none"] = "each"
    """As for other data. Pixels and a slope have no unit in common: by default each has its own deviation."""
    targets: tuple[Literal["x", "y", "slant", "thickness"], ...] = Field(
        default=("x", "y", "slant", "thickness"), min_length=1
    )
    """The numbers to regress; one of them for a single target."""


REGRESSION_KINDS: dict[str, type[Closed]] = {
    "reacher_scripted": ReacherScripted,
    "swimmer_scripted": SwimmerScripted,
    "rollouts": Rollouts,
    "mnist5k_strokes": Mnist5kStrokes,
    "image_table": ImageTable,
}
