"""Classification data sets of torchvision, read by torchvision."""

from typing import Any

import torch
from torch import Tensor

from nclens._torchvision import import_torchvision
from nclens.data.dataset import Dataset, class_balanced_subsets
from nclens.data.hidden import visible_to_torchvision
from nclens.data.images import stack_images
from nclens.data.raw import RawData
from nclens.data.torchvision_files import Arguments, archives_of, compare, downloads_into, unpacked_of


def load(
    raw: RawData,
    name: str,
    arguments: Arguments,
    expected: dict[str, Any],
    image_size: int | None,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    licence: str,
    citation: str,
) -> Dataset:
    """Return a data set of torchvision; images are uint8 (N, C, H, W), classes are numbered from 0.

    Args:
        raw: the folder of raw data.
        name: the data set's class in `torchvision.datasets`.
        arguments: keyword arguments of that class for the training and for the test split.
        expected: `classes` K and `samples` [training, test] of the complete data set.
        image_size: side in pixels to which images are scaled and centre-cropped; None if all have the same size.
        train_per_class, test_per_class: size of class-balanced subsets; None for all.
        split_seed: seed of the random choice of subsets.
        licence, citation: free text for the manifest.

    Raises:
        DownloadError: a file has the wrong checksum, or is missing and cannot be downloaded.
        ValueError: the number of classes or of images is not the expected one.
    """
    kind = _without_unlabelled(getattr(import_torchvision().datasets, name))
    splits = _open(kind, name, arguments, raw)
    found = [_targets(split, name) for split in splits]
    numbers = torch.unique(found[0])
    complete = [len(targets) for targets in found] == expected["samples"] and len(numbers) == expected["classes"]
    if not complete or not torch.equal(torch.unique(found[1]), numbers):
        raise ValueError(
            f"{name} in {raw.folder} has {len(numbers)} classes and {len(found[0]):,} + {len(found[1]):,} images, "
            f"not {expected['classes']} and {expected['samples'][0]:,} + {expected['samples'][1]:,}: files are missing"
        )
    # Some data sets number their classes from 1.
    targets = [torch.searchsorted(numbers, values) for values in found]
    classes = _class_names(splits[0], numbers.tolist())
    chosen = class_balanced_subsets(targets, (train_per_class, test_per_class), classes, split_seed, name)
    images = [
        stack_images((split[position][0] for position in index.tolist()), len(index), image_size, None, name)
        for split, index in zip(splits, chosen, strict=True)
    ]
    return Dataset(
        train_inputs=images[0],
        train_targets=targets[0][chosen[0]],
        test_inputs=images[1],
        test_targets=targets[1][chosen[1]],
        classes=classes,
        source=f"{name}, as torchvision {import_torchvision().__version__.partition('+')[0]} reads it",
        licence=licence,
        citation=citation,
    )


def _without_unlabelled(kind: type) -> type:
    """Return the class without its files of unlabelled images, which are not used (2.8 GB of STL10)."""
    files = getattr(kind, "train_list", [])
    labelled = [file for file in files if not file[0].startswith("unlabeled")]
    return type(kind.__name__, (kind,), {"train_list": labelled}) if len(labelled) < len(files) else kind


def _open(kind: type, name: str, arguments: Arguments, raw: RawData) -> list[Any]:
    """Return the two splits, read from verified files; missing files are downloaded."""
    archives, unpacked = archives_of(kind, arguments), unpacked_of(kind)
    absent = [file.path for file in archives if not raw.is_there(file)]
    for file in unpacked:
        raw.is_there(file)
    for file in archives:
        compare(raw.place(file.path))
    try:
        splits = _read(kind, name, arguments, raw)
    except (RuntimeError, FileNotFoundError) as error:
        if not archives:
            raise ValueError(f"{name} must be put into {raw.folder.resolve()} by hand: {error}") from error
    else:
        if absent and not unpacked:
            raw.say(
                f"{name} found unpacked, without {', '.join(absent)}: no checksum to verify, so classes and images are "
                "counted"
            )
        return splits
    with raw.alone(name), downloads_into(raw, kind, [*archives, *unpacked]):
        try:
            return _read(kind, name, arguments, raw, download=True)
        except (RuntimeError, FileNotFoundError) as error:
            raise ValueError(
                f"{name} in {raw.folder} cannot be read ({error}): move its unpacked files away, then run again"
            ) from error


def _read(kind: type, name: str, arguments: Arguments, raw: RawData, **options: bool) -> list[Any]:
    """Return the two splits as torchvision reads them.

    Raises:
        RuntimeError, FileNotFoundError: files are missing.
        ValueError: the files cannot be read.
    """
    try:
        with visible_to_torchvision(kind):
            return [kind(str(raw.folder), **chosen, **options) for chosen in arguments]
    except (RuntimeError, OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{name} in {raw.folder} cannot be read: {type(error).__name__}: {error}") from error


def _targets(split: Any, name: str) -> Tensor:
    """Return the class labels (N,) of a split, without reading images if torchvision lists the labels."""
    for attribute in ("targets", "labels", "_labels"):
        listed = getattr(split, attribute, None)
        if listed is not None and torch.as_tensor(listed).ndim == 1:
            return torch.as_tensor(listed).long()
    numbers = [number for _, number in getattr(split, "_samples", split)]
    if None in numbers:
        raise ValueError(f"{name}: the files contain no labels for the test split")
    return torch.tensor(numbers)


def _class_names(split: Any, numbers: list[int]) -> list[str]:
    """Return the names of the classes: torchvision's, the first of several synonyms, or numbers if it has none."""
    names = getattr(split, "classes", None) or []
    if len(names) <= max(numbers):
        return [str(number) for number in numbers]
    return [names[number] if isinstance(names[number], str) else names[number][0] for number in numbers]
