"""Tar shards as WebDataset writes them: `NAME.jpg` beside `NAME.cls` or `NAME.json`, one after the other.

Shards are indexed once: where each member begins and how long it is. So they are read in any order by plain reads, and
the same images as files of their own, in the same order, give the same bits.
"""

import contextlib
import json
import os
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nclens._torchvision import import_torchvision
from nclens.data.hidden import is_hidden
from nclens.data.labels import class_labels, listed
from nclens.data.raw import RawData
from nclens.data.shares import Wanted
from nclens.data.stream_dataset import StreamDataset, stream_dataset
from nclens.data.stream_files import Files

#: Bytes of a block of a tar file; one of zeros ends it.
BLOCK = 512


@dataclass
class _Member:
    """A sample of a shard: its image, and what names its class, `cls` or a key of `json`."""

    image: str = ""
    offset: int = 0
    size: int = 0
    label: bytes | None = None


@dataclass
class _Split:
    """The samples of the shards of a split."""

    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def load(
    raw: RawData,
    path: str,
    train_shards: str,
    test_shards: str | None,
    val_shards: str | None,
    label_key: str | None,
    class_names: str | None,
    image_size: int,
    channels: int,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    stream: Mapping[str, Any],
    test: float | None = None,
    validation: float | None = None,
) -> StreamDataset:
    """Return the images of shards, which stay where they are.

    Labels are class numbers from 0, or names, which become classes in ascending order or in that of `class_names`.

    Args:
        raw: the folder of raw data.
        path: the folder of the shards, relative to that of raw data unless absolute.
        train_shards, test_shards, val_shards: the shards of each split, as by `expanded`; None for no such split.
        label_key: key of `NAME.json` with the label; None reads `NAME.cls`.
        class_names: file of the folder with the names of the classes, one a line; None for none.
        image_size, channels, stream: as for `nclens.data.stream_dataset.stream_dataset`.
        train_per_class, test_per_class, split_seed, test, validation: as for `nclens.data.shares.draw`.

    Raises:
        ValueError: a shard is missing, cut short or no tar file, a sample lacks its image or label, or as
            `stream_dataset` and `nclens.data.labels.class_labels`; names the shard and the sample.
    """
    root = raw.place(path)
    if not root.is_dir():
        raise ValueError(f"shards: no folder {root.resolve()}; `path` is relative to `data_dir` unless absolute")
    patterns = {"train": train_shards, "test": test_shards, "val": val_shards}
    shards: list[tuple[str, int]] = []
    splits: dict[str, _Split] = {}
    for split, pattern in patterns.items():
        if pattern is None:
            continue
        splits[split] = _Split()
        for name in expanded(root, pattern):
            if name in (known for known, _ in shards):
                raise ValueError(f"{root / name} is a shard of two splits; allowed: each shard in one")
            shards.append((name, os.stat(root / name).st_size))
            _add(splits[split], root / name, len(shards) - 1, label_key)
    named = None if class_names is None else _lines(root / class_names)
    labels = _labels(splits, root, shards, named)
    classes, numbers = class_labels(labels, named)
    files = Files.of(
        [name for one in splits.values() for name in one.names],
        [size for one in splits.values() for size in one.sizes],
        shards,
        [place for one in splits.values() for place in one.places],
    )
    return stream_dataset(
        raw,
        root,
        files,
        dict(zip(splits, numbers, strict=True)),
        classes,
        Wanted(train_per_class, test_per_class, split_seed, test, validation),
        {**stream, "image_size": image_size, "channels": channels, "plain": False},
        source=f"tar shards of the folder {path}",
        facts={"shards": len(shards)},
    )


def expanded(root: Path, pattern: str) -> list[str]:
    """Return the names of shards below a folder, in order.

    `{000..146}` stands for the numbers, of that many digits, `{a,b}` for each of the texts, and `*`, `?` and `[...]`
    for what is there.

    Raises:
        ValueError: a file is missing, nothing matches, or a name leads out of the folder.
    """
    names: list[str] = []
    for one in _without_braces(pattern):
        if Path(one).is_absolute() or ".." in Path(one).parts:
            raise ValueError(f"{pattern} leads out of {root}, the folder `path`; allowed: names of shards below it")
        found = sorted(str(path.relative_to(root)) for path in root.glob(one)) if re.search(r"[*?[]", one) else [one]
        if not found:
            raise ValueError(f"{root}: no shard is named as {one}")
        if missing := next((name for name in found if not (root / name).is_file()), None):
            raise ValueError(f"{root / missing} is missing, a shard of {pattern}")
        names += found
    if not names:  # numbers that descend
        raise ValueError(f"{root}: no shard is named as {pattern}; allowed: numbers that ascend, as {{000..146}}")
    if repeated := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise ValueError(f"{root}: {pattern} names {repeated} twice; allowed: each shard once")
    return names


def _without_braces(pattern: str) -> Iterator[str]:
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        yield pattern
        return
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if bounds:
        # One at a time: the first that is missing ends a long list.
        parts: Iterable[str] = (f"{number:0{len(bounds[1])}}" for number in range(int(bounds[1]), int(bounds[2]) + 1))
    else:
        parts = found[1].split(",")
    for part in parts:
        yield from _without_braces(pattern[: found.start()] + part + pattern[found.end() :])


def _add(split: _Split, shard: Path, number: int, label_key: str | None) -> None:
    """Add the samples of a shard to those of its split."""
    images = {ending.lstrip(".") for ending in import_torchvision().datasets.folder.IMG_EXTENSIONS}
    wanted = "cls" if label_key is None else "json"
    samples: dict[str, _Member] = {}
    with open(shard, "rb") as file:
        for name, offset, size in members(shard):
            folder, _, base = name.rpartition("/")
            stem, _, ending = base.partition(".")
            sample = samples.setdefault(f"{folder}/{stem}", _Member())
            if ending.lower() in images:
                if sample.image:
                    raise ValueError(f"{shard}: {sample.image} and {name} are two images of one sample")
                sample.image, sample.offset, sample.size = name, offset, size
            elif ending.lower() == wanted:
                if sample.label is not None:
                    raise ValueError(f"{shard}: {name} is a second label of one sample")
                file.seek(offset)
                sample.label = file.read(size)
    for key, sample in samples.items():
        key = key.lstrip("/")
        if not sample.image or sample.label is None:
            what = f"label, {key}.{wanted}" if sample.image else f"image, {key}.jpg or another of {sorted(images)}"
            raise ValueError(f"{shard}: the sample {key} has no {what}")
        split.names.append(sample.image)
        split.sizes.append(sample.size)
        split.places.append((number, sample.offset))
        split.labels.append(_label(sample.label, label_key, f"{shard}: {key}.{wanted}"))


def _label(content: bytes, key: str | None, what: str) -> str:
    try:
        text = content.decode()
        value = text.strip() if key is None else json.loads(text)[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{what} has no label{f' `{key}`' if key else ''}: {error!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{what}: the label is {value!r}; allowed: a class number or name")
    if value == "":
        raise ValueError(f"{what}: the label is empty; allowed: a class number or name")
    return str(value)


def members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the files of a tar shard, in order; hidden ones are left out.

    Raises:
        ValueError: it is no uncompressed tar file, or is cut short; names the member.
    """
    length, last = os.stat(shard).st_size, "its beginning"
    try:
        with contextlib.closing(tarfile.open(shard, "r:")) as tar:
            while (member := tar.next()) is not None:
                last = member.name
                if (end := member.offset_data + (member.size if member.isreg() else 0)) > length:
                    raise ValueError(
                        f"{shard} is cut short: its member {last} ends at byte {end:,}, and the file has {length:,}"
                    )
                if member.isreg() and not is_hidden(member.name.removeprefix("./")):
                    yield member.name, member.offset_data, member.size
            end = tar.offset
    except tarfile.TarError as error:
        raise ValueError(f"{shard} cannot be read as an uncompressed tar file, behind {last}: {error}") from None
    with open(shard, "rb") as file:
        file.seek(end)
        # tarfile takes a missing or damaged header for the end.
        if file.read(BLOCK) != bytes(BLOCK):
            raise ValueError(
                f"{shard} is cut short or damaged behind its member {last}: the mark of its end is missing"
            )


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}, the file `class_names`, cannot be read: {error}") from None


def _labels(
    splits: Mapping[str, _Split], root: Path, shards: Sequence[tuple[str, int]], named: Sequence[str] | None
) -> dict[str, Any]:
    """Return the labels of each split: numbers where all are whole numbers, else texts; those of classes alone."""
    if empty := next((split for split, one in splits.items() if not one.labels), None):
        raise ValueError(f"{root}: the shards of the split {empty} have no samples")
    numbers = all(_is_number(label) for one in splits.values() for label in one.labels)
    made: Mapping[str, Sequence[Any]] = {f"{root}, {split} labels": one.labels for split, one in splits.items()}
    first = splits["train"].labels
    known: Collection[Any] = set(named or first)
    if numbers:
        known = range(len(named) if named else max(map(int, first)) + 1)
    for one in splits.values():
        for (shard, _), image, label in zip(one.places, one.names, one.labels, strict=True):
            if (int(label) if numbers else label) not in known:
                classes = f"0 to {len(known) - 1}" if numbers else listed(sorted(known))
                what = f"{root}/{shards[shard][0]}: the label of {image} is {label}"
                raise ValueError(f"{what}, which is none of the classes, {classes}")
    if numbers:
        return {what: torch.tensor([int(label) for label in labels]) for what, labels in made.items()}
    return {what: np.asarray(labels, dtype=str) for what, labels in made.items()}


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,9}", text) is not None
