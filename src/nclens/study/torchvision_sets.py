"""What is known of torchvision's classification data sets before any of their files is read.

A set is listed if torchvision splits it into a training and a test part over the same classes and publishes checksums
of its files. Numbers are those of the sets' own pages. Adding one is one entry: its reader, addresses and checksums are
torchvision's. Left out: ImageNet and Places365 (more than a million images: the sources `imagenet` and `imagefolder`
stream them), PCAM (needs h5py and Google Drive), FGVCAircraft and StanfordCars (no checksum, no address),
CLEVRClassification (its targets are counts), and sets without a split.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Known:
    """One data set, or one variant of it.

    Attributes:
        classes: K.
        samples: images of the training and of the test split.
        least: the fewest images of a class in the two; None where it is not known beforehand.
        shape: (C, H, W) of every image; None where they differ, so that `image_size` is needed.
        train, test: the arguments by which torchvision's class chooses a split.
        citation, licence: as text; an empty licence is one that the set does not name.
    """

    classes: int
    samples: tuple[int, int]
    least: tuple[int, int] | None
    shape: tuple[int, int, int] | None
    citation: str
    licence: str = ""
    train: dict[str, Any] = field(default_factory=lambda: {"train": True})
    test: dict[str, Any] = field(default_factory=lambda: {"train": False})


#: The splits of classes that call them `split`.
_SPLIT: dict[str, Any] = {"train": {"split": "train"}, "test": {"split": "test"}}
_TINY_IMAGES = "Krizhevsky (2009), Learning multiple layers of features from tiny images"
_MNIST = "LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition"
_FASHION = "Xiao, Rasul, Vollgraf (2017), Fashion-MNIST: a novel image dataset for benchmarking machine learning"
_KUZUSHIJI = "Clanuwat and others (2018), Deep learning for classical Japanese literature"
_EMNIST = "Cohen, Afshar, Tapson, van Schaik (2017), EMNIST: extending MNIST to handwritten letters"
_CLIP = "Radford and others (2021), Learning transferable visual models from natural language supervision"
_IMAGENETTE = "Howard (2019), Imagenette: a smaller subset of 10 easily classified classes from ImageNet"
_GREY, _SMALL = (1, 28, 28), (3, 32, 32)


def _emnist(variant: str, classes: int, samples: tuple[int, int], least: tuple[int, int] | None) -> Known:
    splits: dict[str, Any] = {"train": {"split": variant, "train": True}, "test": {"split": variant, "train": False}}
    return Known(classes, samples, least, _GREY, _EMNIST, **splits)


def _imagenette(size: str) -> Known:
    splits: dict[str, Any] = {"train": {"split": "train", "size": size}, "test": {"split": "val", "size": size}}
    return Known(10, (9469, 3925), None, None, _IMAGENETTE, "Apache 2.0", **splits)


#: By torchvision's name of the class; a set with variants is a table of them.
SETS: dict[str, Known | dict[str, Known]] = {
    "CIFAR10": Known(10, (50_000, 10_000), (5000, 1000), _SMALL, _TINY_IMAGES),
    "CIFAR100": Known(100, (50_000, 10_000), (500, 100), _SMALL, _TINY_IMAGES),
    "STL10": Known(
        10,
        (5000, 8000),
        (500, 800),
        (3, 96, 96),
        "Coates, Lee, Ng (2011), An analysis of single-layer networks in unsupervised feature learning",
        **_SPLIT,
    ),
    "MNIST": Known(10, (60_000, 10_000), (5421, 892), _GREY, _MNIST, "CC BY-SA 3.0"),
    "FashionMNIST": Known(10, (60_000, 10_000), (6000, 1000), _GREY, _FASHION, "MIT"),
    "KMNIST": Known(10, (60_000, 10_000), (6000, 1000), _GREY, _KUZUSHIJI, "CC BY-SA 4.0"),
    "EMNIST": {
        "balanced": _emnist("balanced", 47, (112_800, 18_800), (2400, 400)),
        "letters": _emnist("letters", 26, (124_800, 20_800), (4800, 800)),
        "digits": _emnist("digits", 10, (240_000, 40_000), (24_000, 4000)),
        "mnist": _emnist("mnist", 10, (60_000, 10_000), (6000, 1000)),
        "byclass": _emnist("byclass", 62, (697_932, 116_323), None),
        "bymerge": _emnist("bymerge", 47, (697_932, 116_323), None),
    },
    "QMNIST": Known(
        10, (60_000, 60_000), None, _GREY, "Yadav, Bottou (2019), Cold case: the lost MNIST digits", "BSD-style"
    ),
    "USPS": Known(
        10, (7291, 2007), None, (1, 16, 16), "Hull (1994), A database for handwritten text recognition research"
    ),
    "SVHN": Known(
        10,
        (73_257, 26_032),
        (4659, 1595),
        _SMALL,
        "Netzer and others (2011), Reading digits in natural images with unsupervised feature learning",
        "for non-commercial use only",
        **_SPLIT,
    ),
    "FER2013": Known(
        7,
        (28_709, 7178),
        None,
        (1, 48, 48),
        "Goodfellow and others (2013), Challenges in representation learning",
        **_SPLIT,
    ),
    "Country211": Known(211, (31_650, 21_100), (150, 100), None, _CLIP, **_SPLIT),
    "RenderedSST2": Known(2, (6920, 1821), (3310, 909), None, _CLIP, **_SPLIT),
    "DTD": Known(
        47, (1880, 1880), (40, 40), None, "Cimpoi and others (2014), Describing textures in the wild", **_SPLIT
    ),
    "Flowers102": Known(
        102,
        (1020, 6149),
        None,
        None,
        "Nilsback, Zisserman (2008), Automated flower classification over a large number of classes",
        **_SPLIT,
    ),
    "Food101": Known(
        101,
        (75_750, 25_250),
        (750, 250),
        None,
        "Bossard, Guillaumin, Van Gool (2014), Food-101: mining discriminative components with random forests",
        **_SPLIT,
    ),
    "GTSRB": Known(
        43,
        (26_640, 12_630),
        None,
        None,
        "Stallkamp, Schlipsing, Salmen, Igel (2012), Man vs. computer: benchmarking machine learning algorithms",
        **_SPLIT,
    ),
    "Imagenette": {size: _imagenette(size) for size in ("full", "320px", "160px")},
    "OxfordIIITPet": Known(
        37,
        (3680, 3669),
        None,
        None,
        "Parkhi, Vedaldi, Zisserman, Jawahar (2012), Cats and dogs",
        "CC BY-SA 4.0",
        train={"split": "trainval"},
        test={"split": "test"},
    ),
}
