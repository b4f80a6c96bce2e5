"""ImageNet (ILSVRC 2012) in the folders that torchvision's `ImageNet` makes, `train/` and `val/` by WordNet ID.

The classes are torchvision's: the WordNet IDs in ascending order. (The devkit's own numbers, ILSVRC2012_ID, have
another order.) Their names are the devkit's, from torchvision's `meta.bin`, where it is there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nclens.data.hidden import visible
from nclens.data.imagefolder import listed_images
from nclens.data.raw import RawData
from nclens.data.shares import Wanted
from nclens.data.stream_dataset import StreamDataset, of_folder

META = "meta.bin"
CITATION = "Russakovsky and others (2015), ImageNet large scale visual recognition challenge"
#: What makes the layout from the published archives.
HOW = "torchvision.datasets.ImageNet(FOLDER, split), once for `train` and once for `val`, unpacks the archives into it"


def load(
    raw: RawData,
    path: str,
    image_size: int,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    stream: Mapping[str, Any],
    test: float | None = None,
    validation: float | None = None,
) -> StreamDataset:
    """Return ImageNet's images, which stay where they are; the test split is `val/`.

    Images are read as torchvision reads them: converted to RGB, the EXIF orientation passed over. Where `val/` has the
    images themselves, as in the archive, their classes are those that `meta.bin` lists.

    Args:
        raw: the folder of raw data.
        path: the folder, relative to that of raw data unless absolute.
        image_size, stream: as for `nclens.data.stream_dataset.stream_dataset`.
        train_per_class, test_per_class, split_seed, test, validation: as for `nclens.data.shares.draw`.

    Raises:
        ValueError: the folder has another layout, or its classes are not those of `meta.bin`; or as `stream_dataset`.
    """
    root = raw.place(path)
    for folder in ("train", "val"):
        if not (root / folder).is_dir():
            raise ValueError(f"{root / folder} is missing; {HOW}")
    known, truths = _meta(root)
    _refuse_beside_classes(root / "train")
    train = listed_images(root / "train", raw)
    wnids = train.classes
    if known and set(wnids) != set(known):
        differing = sorted(set(wnids) ^ set(known))
        raise ValueError(
            f"{root}: the folders of train/ and the {len(known)} classes of {META} differ in {', '.join(differing[:5])}"
            f"{' and others' if len(differing) > 5 else ''}; allowed: the same classes, or a folder without {META}"
        )
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    samples = {"train": list(train.samples), "test": _validation(root, numbers, truths, raw)}
    prefix = len(str(root)) + 1
    return of_folder(
        raw,
        root,
        [file[prefix:] for part in samples.values() for file, _ in part],
        {split: torch.tensor([label for _, label in part], dtype=torch.int64) for split, part in samples.items()},
        [names_of(known, wnids)[wnid] for wnid in wnids],
        Wanted(train_per_class, test_per_class, split_seed, test, validation),
        {**stream, "image_size": image_size, "channels": 3, "plain": True},
        source=f"ImageNet (ILSVRC 2012), the folder {path}",
        licence="ImageNet's terms of access: research and education, not commercial",
        citation=CITATION,
        facts={"wordnet_ids": wnids},
    )


def _meta(root: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the names of each WordNet ID, and the IDs of the validation images in order; nothing without the file."""
    file = root / META
    if not file.is_file():
        return {}, []
    try:
        names, truths = torch.load(file, weights_only=True)
        return {str(wnid): tuple(map(str, texts)) for wnid, texts in names.items()}, list(map(str, truths))
    except Exception as error:  # of a damaged file it is what the reader happens to raise, with advice in many lines
        raise ValueError(f"{file} cannot be read as torchvision's {META}; delete it, and {HOW}") from error


def names_of(known: Mapping[str, tuple[str, ...]], wnids: list[str]) -> dict[str, str]:
    """Return a name for each WordNet ID: the devkit's first, with the ID where two classes share it, or the ID alone.

    >>> names_of({"n01": ("crane",), "n02": ("crane", "derrick"), "n03": ("kite",)}, ["n01", "n02", "n03"])
    {'n01': 'crane (n01)', 'n02': 'crane (n02)', 'n03': 'kite'}
    """
    first = {wnid: known[wnid][0] if known.get(wnid) else wnid for wnid in wnids}
    alike = [name.casefold() for name in first.values()]
    return {wnid: f"{name} ({wnid})" if alike.count(name.casefold()) > 1 else name for wnid, name in first.items()}


def _validation(root: Path, numbers: Mapping[str, int], truths: list[str], raw: RawData) -> list[tuple[str, int]]:
    """Return the files and classes of the validation images."""
    folder = root / "val"
    if any(path.is_dir() for path in visible(folder)):
        _refuse_beside_classes(folder)
        listed = listed_images(folder, raw)
        if alone := sorted(set(listed.classes) - set(numbers)):
            raise ValueError(f"{folder} must have classes of train/ alone; it also has {', '.join(alone[:5])}")
        return [(file, numbers[listed.classes[label]]) for file, label in listed.samples]
    images = [str(path) for path in visible(folder)]
    if not truths or len(images) != len(truths):
        raise ValueError(
            f"{folder} has {len(images):,} files and no folders of classes, and {META} lists the classes "
            f"of {len(truths):,}; {HOW}"
        )
    return [(file, numbers[wnid]) for file, wnid in zip(images, truths, strict=True)]


def _refuse_beside_classes(folder: Path) -> None:
    """Refuse what an interrupted unpacking leaves: archives of classes, or images that are in no folder yet."""
    endings = (".tar", ".jpeg")
    if beside := [path.name for path in visible(folder) if path.is_file() and path.name.lower().endswith(endings)]:
        raise ValueError(
            f"{folder} has {len(beside):,} files beside the folders of classes, as {beside[0]}, which an interrupted "
            f"unpacking leaves; delete the folder, and {HOW}"
        )
