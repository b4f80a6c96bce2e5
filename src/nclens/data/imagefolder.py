"""Image files in one folder per class."""

import filecmp
import importlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nclens._torchvision import import_torchvision
from nclens.data.dataset import Dataset
from nclens.data.hidden import is_hidden, visible, visible_to_torchvision
from nclens.data.images import read_image, stack_images
from nclens.data.raw import RawData
from nclens.data.shares import Wanted, draw, same_samples

#: Accepted folder names of the test split, in order of preference.
TEST_FOLDERS = ("test", "val", "valid", "validation")
#: Folder names of the validation split beside a test folder that has none of them.
VAL_FOLDERS = TEST_FOLDERS[1:]


def load(
    raw: RawData,
    path: str,
    test_folder: str | None,
    image_size: int | None,
    channels: int,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    test: float | None = None,
    validation: float | None = None,
    stream: Mapping[str, Any] | None = None,
) -> Dataset:
    """Return the images below a folder as uint8 (N, C, H, W); classes are numbered in alphabetical order.

    With `stream` the images stay in their files, see `nclens.data.stream_dataset.stream_dataset`.

    The folder contains `train/` and a test folder, each with one folder per class; or the class folders themselves,
    which are then split at random, by shares of each class or into `train_per_class` and `test_per_class` images per
    class. The first of `VAL_FOLDERS` with class folders is the validation split, which is taken whole, unless the test
    folder has one of these names. With `test`, a share of `train/`, there is no test folder. Hidden files are ignored
    (`nclens.data.hidden`).

    Args:
        raw: the folder of raw data.
        path: the folder, relative to that of raw data unless absolute.
        test_folder: name of the folder with the test split; None takes the first of `TEST_FOLDERS` with class folders.
        image_size: side in pixels to which images are scaled and centre-cropped; None if all have the same size.
        channels: 3 for RGB, 1 for grayscale.
        train_per_class, test_per_class: images per class; None takes all, if the splits have separate folders or `test`
            is given.
        split_seed: seed of the random choice of images.
        test, validation: shares of each class, as in `nclens.data.shares.draw`.
        stream: further keys of a stream's entry, or None.

    Raises:
        ValueError: the folder is missing or has another layout, a class has too few images, two splits are the same
            files, or an image cannot be read or has another range than 8-bit images, as in
            `nclens.data.images.read_image`.
    """
    root = raw.place(path)
    if not root.is_dir():
        raise ValueError(f"imagefolder: no folder {root.resolve()}; `path` is relative to `data_dir` unless absolute")
    splits = _splits(root, test_folder, test is None, raw)
    for one, other in itertools.combinations(splits, 2):
        if _same_files(splits[one], splits[other]):
            raise same_samples(one, other, str(root))
    classes = splits["train"].classes
    # A test or validation folder may lack classes: its own numbers are not those of train/.
    numbers = {name: number for number, name in enumerate(classes)}
    pools = {
        split: torch.tensor([numbers[listed.classes[label]] for label in listed.targets], dtype=torch.int64)
        for split, listed in splits.items()
    }
    wanted = Wanted(train_per_class, test_per_class, split_seed, test, validation)
    facts = {f"{split}_folder": Path(listed.root).name for split, listed in splits.items() if split != "train"}
    source = f"image files of the folder {path}"
    if stream is not None:
        prefix = len(str(root)) + 1
        names = [file[prefix:] for listed in splits.values() for file, _ in listed.samples]
        stream = {**stream, "image_size": image_size, "channels": channels, "plain": False}
        # By name, so that its code counts for streams alone.
        streamed = importlib.import_module("nclens.data.stream_dataset").of_folder
        return streamed(raw, root, names, pools, classes, wanted, stream, source=source, facts=facts)
    fields: dict[str, Any] = {}
    for split, (of, index) in draw(pools, wanted, classes, str(root)).items():
        samples, where = splits[of].samples, splits[of].root
        pictures = (read_image(samples[position][0]) for position in index.tolist())
        fields[f"{split}_inputs"] = stack_images(pictures, len(index), image_size, channels, where)
        fields[f"{split}_targets"] = pools[of][index]
    return Dataset(**fields, classes=classes, source=source, facts={**facts, **wanted.facts})


def _splits(root: Path, chosen: str | None, with_test: bool, raw: RawData) -> dict[str, Any]:
    """Return the lists of images by split: `train` alone without a folder `train/`, else perhaps `test` and `val`."""
    if not (root / "train").is_dir():
        _refuse_splits_as_classes(root, chosen)
        return {"train": listed_images(root, raw)}
    folders = {"train": root / "train"}
    if with_test or chosen is not None or (root / "test").is_dir():
        folders["test"] = _test_folder(root, chosen)
        raw.say(f"the test split is {folders['test']}")
    taken = folders["test"].name if "test" in folders else None
    if taken not in VAL_FOLDERS and (found := _first_with_classes(root, VAL_FOLDERS)):
        folders["val"] = found
        raw.say(f"the validation split is {found}")
    splits = {split: listed_images(folder, raw) for split, folder in folders.items()}
    for split, listed in splits.items():
        if alone := set(listed.classes) - set(splits["train"].classes):
            raise ValueError(
                f"{root}: {folders[split].name}/ must have classes of train/ alone; it also has "
                f"{', '.join(sorted(alone))}. The key `test_folder` names another test folder"
            )
    return splits


def _same_files(one: Any, other: Any) -> bool:
    """Return whether two lists of images are of files with the same names and contents."""
    first, second = ([Path(path) for path, _ in listed.samples] for listed in (one, other))
    if [path.relative_to(one.root) for path in first] != [path.relative_to(other.root) for path in second]:
        return False
    pairs = [*zip(first, second, strict=True)]
    # The sizes first: files are read only where all of them agree.
    return all(a.stat().st_size == b.stat().st_size for a, b in pairs) and all(
        filecmp.cmp(a, b, shallow=False) for a, b in pairs
    )


def _first_with_classes(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first folder of these names that has class folders."""
    found = (root / name for name in names if (root / name).is_dir())
    return next((folder for folder in found if any(path.is_dir() for path in visible(folder))), None)


def _refuse_splits_as_classes(root: Path, chosen: str | None) -> None:
    """Refuse a folder without `train/` in which there are splits instead of classes."""
    names = [path.name for path in visible(root) if path.is_dir()]
    if chosen is not None:
        raise ValueError(f"test_folder = {chosen}: {root} has no train/ beside it; it has {', '.join(names) or 'none'}")
    if names and {name.lower() for name in names} <= {"train", "training", "testing", *TEST_FOLDERS}:
        raise ValueError(
            f"{root} has the folders {', '.join(names)}, which are no classes; the training split is train/"
        )


def _test_folder(root: Path, chosen: str | None) -> Path:
    """Return the chosen test folder, or the first of `TEST_FOLDERS` with class folders."""
    candidates = TEST_FOLDERS if chosen is None else (chosen,)
    found = [root / name for name in candidates if (root / name).is_dir()]
    if found and found[0].resolve() in (root.resolve(), (root / "train").resolve()):
        raise ValueError(f"test_folder = {chosen}: must be another folder of {root} than the training split, train/")
    if folder := _first_with_classes(root, candidates):
        return folder
    what = f"no class folders in {', '.join(path.name for path in found)}/" if found else "no test folder"
    allowed = ", ".join(TEST_FOLDERS) if chosen is None else f"{chosen} (`test_folder`)"
    raise ValueError(
        f"{root} has train/ but {what}; allowed names: {allowed}, with a folder for each class, or `test`, a share of "
        "train/"
    )


def listed_images(folder: Path, raw: RawData) -> Any:
    """Return torchvision's list of a folder's images and classes; other files are logged and left out."""
    datasets = import_torchvision().datasets
    images = tuple(datasets.folder.IMG_EXTENSIONS)
    # Those in no folder of a class; what else lies there may be anything.
    loose = [path.name for path in visible(folder) if path.is_file() and path.name.lower().endswith(images)]
    if loose:
        raw.say(f"{len(loose):,} images of {folder} are in no folder of a class and are ignored, as {loose[0]}")
    others: list[str] = []

    def is_image(path: str) -> bool:
        known = datasets.folder.is_image_file(path)
        if not known and not is_hidden(Path(path).relative_to(folder)):
            others.append(path)
        return known

    try:
        with visible_to_torchvision(datasets.ImageFolder):
            # Empty classes are allowed here, because the number of images is checked class by class.
            listed = datasets.ImageFolder(str(folder), is_valid_file=is_image, allow_empty=True)
    except FileNotFoundError as error:
        raise ValueError(f"imagefolder: {error}") from error
    if others:
        raw.say(f"{len(others):,} files of {folder} are ignored, as {others[0]}; read are {' '.join(images)}")
    return listed
