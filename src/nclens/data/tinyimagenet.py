"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64 pixels, read directly from its official archive."""

import contextlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nclens.data.dataset import Dataset, class_balanced_subsets
from nclens.data.hidden import is_hidden
from nclens.data.images import stack_images
from nclens.data.raw import RawData, RawFile

#: Stanford publishes no checksum: this one, of 248,100,043 bytes, is the one in common use in public code.
ARCHIVE = RawFile(
    "tiny-imagenet-200.zip",
    "md5:90528d7ca1a48142e341f4ef8d21d0de",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
)
FOLDER = "tiny-imagenet-200"
CLASSES, SAMPLES = 200, [100_000, 10_000]


@dataclass(frozen=True)
class _Files:
    """The files in the archive or the unpacked folder: their names, `tiny-imagenet-200/...`, and a reader."""

    where: str
    names: frozenset[str]
    read: Callable[[str], bytes]

    def lines(self, name: str) -> list[list[str]]:
        """Return the tab-separated lines of a text file."""
        if name not in self.names:
            raise ValueError(f"{self.where} is incomplete: it has no {name}")
        return [line.split("\t") for line in self.read(name).decode().splitlines()]


def load(raw: RawData, train_per_class: int | None, test_per_class: int | None, split_seed: int) -> Dataset:
    """Return the training split, and the validation split as test split: the original test labels are not public.

    Images are uint8 (N, 3, 64, 64); grayscale images are converted to RGB. Classes are numbered in the order of their
    WordNet identifiers. The archive is read in place. Without an archive an unpacked folder is read, and its classes
    and images are counted.

    Args:
        raw: the folder of raw data.
        train_per_class, test_per_class: size of class-balanced subsets; None for all.
        split_seed: seed of the random choice of subsets.

    Raises:
        DownloadError: the archive has the wrong checksum, or is missing and cannot be downloaded.
        ValueError: the archive or folder is incomplete.
    """
    with _files(raw) as files:
        identifiers = sorted(line[0] for line in files.lines(f"{FOLDER}/wnids.txt"))
        words = {line[0]: line[1].partition(",")[0] for line in files.lines(f"{FOLDER}/words.txt")}
        listed = [_train(files, identifiers), _validation(files, identifiers)]
        counts = [len(names) for names, _ in listed]
        if len(identifiers) != CLASSES or counts != SAMPLES or not files.names.issuperset(listed[1][0]):
            raise ValueError(
                f"{files.where} is incomplete: it has {len(identifiers)} classes and {counts[0]:,} + {counts[1]:,} "
                f"images, not {CLASSES} and {SAMPLES[0]:,} + {SAMPLES[1]:,}, or listed images are missing"
            )
        targets = [numbers for _, numbers in listed]
        per_class = (train_per_class, test_per_class)
        chosen = class_balanced_subsets(targets, per_class, identifiers, split_seed, files.where)
        images = [
            stack_images((_picture(files.read(names[i])) for i in index.tolist()), len(index), None, 3, files.where)
            for (names, _), index in zip(listed, chosen, strict=True)
        ]
    return Dataset(
        train_inputs=images[0],
        train_targets=targets[0][chosen[0]],
        test_inputs=images[1],
        test_targets=targets[1][chosen[1]],
        classes=[words.get(identifier, identifier) for identifier in identifiers],
        source=f"Tiny ImageNet, training and validation split ({ARCHIVE.urls[0]})",
        licence="ImageNet's: non-commercial research and education",
        citation="Le, Yang (2015), Tiny ImageNet visual recognition challenge",
    )


@contextlib.contextmanager
def _files(raw: RawData) -> Iterator[_Files]:
    folder, path = raw.place(FOLDER), raw.place(ARCHIVE.path)
    if not raw.is_there(ARCHIVE):
        if folder.is_dir():
            raw.say(f"{folder} found without its archive: no checksum to verify, so its files are counted")
            found = (file.relative_to(raw.folder).as_posix() for file in folder.rglob("*.*"))
            names = frozenset(name for name in found if not is_hidden(name))
            yield _Files(str(folder), names, lambda name: raw.place(name).read_bytes())
            return
        with raw.alone("tinyimagenet"):
            raw.fetch(ARCHIVE, [ARCHIVE])
    with zipfile.ZipFile(path) as opened:
        yield _Files(str(path), frozenset(opened.namelist()), opened.read)


def _train(files: _Files, identifiers: list[str]) -> tuple[list[str], Tensor]:
    """Return the names of the training images, ordered by class and name, and their class labels."""
    numbers = {identifier: number for number, identifier in enumerate(identifiers)}
    found = [
        (numbers[parts[2]], name)
        for name in files.names
        if len(parts := name.split("/")) == 5 and parts[1] == "train" and parts[2] in numbers and name.endswith("JPEG")
    ]
    found.sort()
    return [name for _, name in found], torch.tensor([number for number, _ in found], dtype=torch.int64)


def _validation(files: _Files, identifiers: list[str]) -> tuple[list[str], Tensor]:
    """Return the names of the validation images, in the order of their list, and their class labels."""
    numbers = {identifier: number for number, identifier in enumerate(identifiers)}
    lines = files.lines(f"{FOLDER}/val/val_annotations.txt")
    names = [f"{FOLDER}/val/images/{line[0]}" for line in lines]
    return names, torch.tensor([numbers[line[1]] for line in lines])


def _picture(content: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(content))
