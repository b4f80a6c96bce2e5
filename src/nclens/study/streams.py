"""Keys of images that stay in their files: how they are transformed, and what is done about damaged ones."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Flag, Integer, Number, Positive

Side = Annotated[Integer, Field(ge=4, le=4096)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Interpolation = Literal["nearest", "bilinear", "bicubic"]


class RandomResizedCrop(Closed):
    """torchvision's RandomResizedCrop: a random part of the image, scaled to `image_size`."""

    scale: tuple[Positive, Positive] = (0.08, 1.0)
    """Bounds of the part's area over that of the image."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Bounds of its width over its height."""

    @model_validator(mode="after")
    def _bounds_ascend(self) -> Self:
        for key, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high or (key == "scale" and high > 1):
                message = "{key} = {value}: must be two numbers, the smaller first{most}"
                context = {"key": key, "value": str([low, high]), "most": ", at most 1" if key == "scale" else ""}
                raise PydanticCustomError("bounds", message, context)
        return self


class RandAugment(Closed):
    """torchvision's RandAugment: some random operations of one magnitude (Cubuk and others, 1909.13719)."""

    num_ops: Annotated[Integer, Field(ge=1, le=100)] = 2
    """Operations on an image, one after the other."""
    magnitude: Annotated[Integer, Field(ge=0, le=1000)] = 9
    """Magnitude of all operations, below `num_magnitude_bins`."""
    num_magnitude_bins: Annotated[Integer, Field(ge=2, le=1001)] = 31
    """Number of magnitudes."""

    @model_validator(mode="after")
    def _magnitude_is_one_of_the_bins(self) -> Self:
        if self.magnitude >= self.num_magnitude_bins:
            message = "magnitude = {value}: must be below num_magnitude_bins = {bins}"
            raise PydanticCustomError("bounds", message, {"value": self.magnitude, "bins": self.num_magnitude_bins})
        return self


class Streamed(Closed):
    """Keys of images that stay in their files and are decoded by worker processes while the network computes."""

    resize_size: Side | None = None
    """Evaluation: side in pixels that the shorter side of an image is scaled to, before the centre of `image_size` is
    cropped; null takes `image_size`."""
    interpolation: Interpolation = "bilinear"
    """How images are scaled, with antialiasing."""
    random_resized_crop: RandomResizedCrop | None = RandomResizedCrop()
    """Training: the random part of an image; null takes what evaluation takes."""
    horizontal_flip: Probability = 0.5
    """Training: probability of a flip left to right."""
    rand_augment: RandAugment | None = None
    """Training: RandAugment after crop and flip; null for none."""
    skip_damaged: Flag = False
    """Leave out files that cannot be read, and count them in the manifest; `prepare` then decodes every file once. By
    default such a file stops the run, by its name."""
    checksum: Flag = False
    """Compute the SHA-256 of every file in `prepare`, and compare it each time that a file is read; by default names
    and sizes are compared."""
    workers: Annotated[Integer, Field(ge=0, le=1024)] = 4
    """Processes that read and decode for each device of a job, which requests a core for each; with fewer cores there
    are fewer, 0 for none. The results do not depend on it."""

    def check_sizes(self, image_size: int | None) -> None:
        """Refuse a stream without a size, or a scaled image that is smaller than its centre."""
        if image_size is None:
            raise PydanticCustomError("image_size", "storage = stream needs `image_size`, in pixels, as 224")
        if self.resize_size is not None and self.resize_size < image_size:
            message = "resize_size = {value}: must be at least image_size = {size}, the centre that is cropped"
            raise PydanticCustomError("resize_size", message, {"value": self.resize_size, "size": image_size})


def is_streamed(entry: Any) -> bool:
    """Return whether the images of a data entry stay in their files."""
    return isinstance(entry, Streamed) and getattr(entry, "storage", "stream") == "stream"


def of_stream(entry: Streamed, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return what `prepare` uses of an entry, `chosen`, with the keys of the stream in a table `stream`.

    The number of workers is left out: it changes no result.
    """
    keys = set(Streamed.model_fields)
    stream = {key: value for key, value in entry.model_dump(mode="json").items() if key in keys - {"workers"}}
    return {key: value for key, value in chosen.items() if key not in keys} | {"stream": stream}
