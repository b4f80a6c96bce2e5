"""Data set entries with a class for every pixel: what a probe of kind `segmentation` is trained and measured on."""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nclens.study.digits import FiveThousand
from nclens.study.fields import Closed, Integer, Seed

#: Scenes or images of a split.
Images = Annotated[Integer, Field(ge=2, le=100_000)]


class SegmentationData(Closed):
    """What every data set for segmentation has."""

    task: ClassVar[str] = "segmentation"

    @property
    def train_samples(self) -> int | None:
        """Size of the training split, where it is known before the data are read."""
        return None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the images."""

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.shape[0]


class Scenes(SegmentationData, FiveThousand):
    """Scenes of MNIST-5k's digits, 20 to 40 pixels large and overlapping, on seeded textures: 10 classes, background.

    Training scenes are composed of training digits alone, test scenes of test digits: those of a `mnist5k` with the
    same numbers and seed.
    """

    source: Literal["scenes"]
    image_size: Annotated[Integer, Field(ge=40, le=1024)] = 96
    """Side of the scenes in pixels."""
    train_scenes: Images = 400
    """Training scenes."""
    test_scenes: Images = 200
    """Test scenes."""
    train_per_class: Annotated[Integer, Field(ge=2, le=499)] = 400
    """Digits of each class that training scenes are composed of."""
    test_per_class: Annotated[Integer, Field(ge=2, le=498)] = 100
    """Digits of each class that test scenes are composed of; the two together are at most 500."""
    split_seed: Seed = 0
    """Seed of the stratified split of the digits, and of the scenes."""

    @property
    def train_samples(self) -> int:
        """Size of the training split."""
        return self.train_scenes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the images."""
        return (1, self.image_size, self.image_size)


class OxfordPets(SegmentationData):
    """Masks of torchvision's OxfordIIITPet, from `data_dir` or downloaded: pet and background; the border is left out.

    Images and masks are scaled and centrally cropped.
    """

    source: Literal["oxford_pets"]
    image_size: Annotated[Integer, Field(ge=32, le=1024)] = 96
    """Side of the images in pixels."""
    channels: Literal[1, 3] = 3
    """3 reads every image as RGB, 1 as grayscale."""
    train_images: Annotated[Integer, Field(ge=2, le=3680)] | None = None
    """Training images, drawn at random; null takes all 3,680."""
    test_images: Annotated[Integer, Field(ge=2, le=3669)] | None = None
    """Test images, drawn at random; null takes all 3,669."""
    split_seed: Seed = 0
    """Seed of the subsets."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the images."""
        return (self.channels, self.image_size, self.image_size)


SEGMENTATION_KINDS: dict[str, type[Closed]] = {"scenes": Scenes, "oxford_pets": OxfordPets}
