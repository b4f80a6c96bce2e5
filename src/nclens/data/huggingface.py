"""Data sets of Hugging Face's package `datasets`, saved to disk."""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nclens.data.columns import class_columns
from nclens.data.dataset import Dataset
from nclens.data.images import read_image, stack_images
from nclens.data.labels import number_classes
from nclens.data.numbers import Layout, from_array, stored_inputs
from nclens.data.raw import RawData
from nclens.data.shares import Wanted, draw, same_samples

#: Names of the test split, in order of preference.
TEST_SPLITS = ("test", "validation", "valid", "val", "dev")
#: Names of the validation split beside a test split that has none of them.
VAL_SPLITS = TEST_SPLITS[1:]


def load(
    raw: RawData,
    path: str,
    target: str | None,
    features: Sequence[str] | None,
    test_split: str | None,
    image_size: int | None,
    channels: int | None,
    layout: Layout | None,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    test: float | None = None,
    validation: float | None = None,
) -> Dataset:
    """Return the samples of a folder that `save_to_disk` has written, of a `DatasetDict` or of one `Dataset`.

    Of a `DatasetDict`, `train` is the training split, the first of `TEST_SPLITS` the test split, and the first of
    `VAL_SPLITS` the validation split, unless the test split has one of these names. A `Dataset`, or a `DatasetDict` of
    `train` alone, is split here.

    One column of images becomes uint8 (N, C, H, W), as `nclens.data.images.read_image` reads them; one column of uint8
    arrays becomes images too, by `nclens.data.numbers.stored_inputs`; columns of numbers and of arrays of numbers
    become float32 rows, side by side. Labels with class names keep names and numbers; others become classes by
    `nclens.data.labels.number_classes`.

    Args:
        raw: the folder of raw data.
        path: the folder, relative to that of raw data unless absolute.
        target: the column of the labels; None takes the only one that has class names, or else `label`.
        features: the columns of the inputs; None takes the only column of images, or else all but the labels.
        test_split: name of the test split; None takes the first of `TEST_SPLITS`.
        image_size: side in pixels to which images are scaled and centre-cropped; None if all have the same size.
        channels: 3 for RGB, 1 for grayscale; None follows the first image.
        layout: of uint8 arrays of three axes; None is CHW, and refuses what looks like HWC.
        train_per_class, test_per_class: samples per class; None takes all, with a test split or `test`.
        split_seed: seed of the random choice of samples.
        test, validation: shares of each class, as in `nclens.data.shares.draw`.

    Raises:
        ValueError: the package `datasets` is not installed; or the folder cannot be read, lacks a split or a column, or
            has values that do not fit: names them.
    """
    root = raw.place(path)
    splits = _splits(_opened(root), root, test_split, test is None, raw)
    first = splits["train"]
    label = _target(first, target, root)
    columns = _features(first, features, label, root)
    for split, part in splits.items():
        if absent := [name for name in (label, *columns) if name not in part.column_names]:
            raise ValueError(
                f"{root}: the split {split} has no column {', '.join(absent)}; it has {', '.join(part.column_names)}"
            )
    for one, other in itertools.combinations(splits, 2):
        if _same_rows(splits[one], splits[other], (label, *columns)):
            raise same_samples(one, other, str(root))
    classes, labels = _labels(splits, label, root)
    wanted = Wanted(train_per_class, test_per_class, split_seed, test, validation)
    chosen = draw(labels, wanted, classes, str(root))
    if _kind(first, columns[0]) == "Image":
        if len(columns) > 1 or layout is not None:
            raise ValueError(f"{root}: a column of images is the only one of `features`, and has no `layout`")
        inputs: dict[str, Any] = _pictures(splits, columns[0], chosen, image_size, channels, root)
        facts: dict[str, Any] = {}
    else:
        if image_size is not None or channels is not None:
            raise ValueError(f"{root}: `image_size` and `channels` are of a column of images; {columns[0]} has none")
        inputs, facts = _rows(splits, columns, chosen, layout, root)
    targets: dict[str, Any] = {f"{split}_targets": labels[of][index] for split, (of, index) in chosen.items()}
    return Dataset(
        **inputs,
        **targets,
        classes=classes,
        source=f"the data set that `datasets` saved in the folder {path}",
        facts={**facts, "columns": columns, "target": label, **wanted.facts},
        # As the data set itself states them.
        licence=first.info.license or "",
        citation=first.info.citation or "",
    )


def _opened(root: Path) -> Any:
    """Return the `Dataset` or `DatasetDict` in a folder."""
    if not root.is_dir():
        raise ValueError(f"huggingface: no folder {root.resolve()}; `path` is relative to `data_dir` unless absolute")
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"{root} needs Hugging Face's package `datasets`, which is not installed ({error}): "
            "pip install 'nclens[huggingface_data]'"
        ) from None
    try:
        return datasets.load_from_disk(str(root))
    except Exception as error:  # of a damaged folder it is what its reader happens to
        raise ValueError(
            f"{root} cannot be read as a data set that `save_to_disk` has written: {type(error).__name__}: {error}"
        ) from error


def _splits(found: Any, root: Path, chosen: str | None, with_test: bool, raw: RawData) -> dict[str, Any]:
    """Return the data set's splits: `train`, perhaps `test` and `val`."""
    if not isinstance(found, Mapping):
        if chosen is not None:
            raise ValueError(f"test_split = {chosen}: {root} is one set without splits")
        return {"train": found}
    if "train" not in found:
        raise ValueError(f"{root} has no split train; it has {', '.join(found)}")
    splits = {"train": found["train"]}
    candidates = TEST_SPLITS if chosen is None else (chosen,)
    name = next((name for name in candidates if name in found and name != "train"), None)
    if name is None and chosen is not None:
        raise ValueError(f"test_split = {chosen}: must be a split of {root} other than train: {', '.join(found)}")
    # A share of train/ leaves validation samples what they are.
    if name is not None and (with_test or chosen is not None or name == "test"):
        splits["test"] = found[name]
        raw.say(f"the test split is {name}")
    else:
        name = None
    if name not in VAL_SPLITS and (val := next((other for other in VAL_SPLITS if other in found), None)):
        splits["val"] = found[val]
        raw.say(f"the validation split is {val}")
    return splits


def _kind(part: Any, column: str) -> str:
    """Return the type of a column, as `datasets` names it: `ClassLabel`, `Image`, `Value`, ..."""
    return type(part.features[column]).__name__


def _target(part: Any, chosen: str | None, root: Path) -> str:
    """Return the column of the labels."""
    named = [name for name in part.column_names if _kind(part, name) == "ClassLabel"]
    if chosen is None and len(named) > 1:
        raise ValueError(f"{root} has several columns of class names, {', '.join(named)}: set `target` to one of them")
    found = chosen or (named or ["label"])[0]
    if found not in part.column_names:
        raise ValueError(f"{root} has no column {found} (`target`); it has {', '.join(part.column_names)}")
    return found


def _features(part: Any, chosen: Sequence[str] | None, label: str, root: Path) -> list[str]:
    """Return the columns of the inputs."""
    if chosen is not None:
        if label in chosen:
            raise ValueError(f"{root}: `features` must not name {label}, the column of the labels")
        return list(chosen)
    pictures = [name for name in part.column_names if _kind(part, name) == "Image"]
    if len(pictures) > 1:
        raise ValueError(f"{root} has several columns of images, {', '.join(pictures)}: set `features` to one of them")
    found = pictures or [name for name in part.column_names if name != label]
    if not found:
        raise ValueError(f"{root} has no column beside {label}, the labels")
    return found


def _column(part: Any, name: str) -> Any:
    """Return a column as an Arrow array in chunks, in the order of the samples."""
    return part.select_columns([name]).with_format("arrow")[:][name]


def _same_rows(one: Any, other: Any, columns: Sequence[str]) -> bool:
    """Return whether two splits have the same rows in the same order."""
    return len(one) == len(other) and all(_column(one, name).equals(_column(other, name)) for name in columns)


def _labels(splits: Mapping[str, Any], label: str, root: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Return the names of the classes, and the class numbers (N,) of each split."""
    places = {split: f"{root}: column {label} of the split {split}" for split in splits}
    if _kind(splits["train"], label) != "ClassLabel":
        given = {place: _column(splits[split], label).to_pandas() for split, place in places.items()}
        classes, numbers = number_classes(class_columns(given))
        return classes, dict(zip(splits, numbers, strict=True))
    classes = list(splits["train"].features[label].names)
    found = {}
    for split, place in places.items():
        if (names := getattr(splits[split].features[label], "names", None)) != classes:
            raise ValueError(f"{place}: the class names {names} are not those of the split train, {classes}")
        values = _column(splits[split], label).to_pandas().to_numpy(dtype=np.float64, na_value=np.nan)
        if len(wrong := np.flatnonzero(~((values >= 0) & (values < len(classes))))):
            raise ValueError(
                f"{place}, row {wrong[0] + 1}: {values[wrong[0]]:g} is no label; allowed are 0 to {len(classes) - 1}. "
                "If a split has no labels, `test_split` names another one"
            )
        found[split] = torch.from_numpy(values.astype(np.int64))
    return classes, found


def _pictures(
    splits: Mapping[str, Any],
    column: str,
    chosen: Mapping[str, tuple[str, Tensor]],
    image_size: int | None,
    channels: int | None,
    root: Path,
) -> dict[str, Tensor]:
    """Return the images of each split as uint8 (N, C, H, W), by the field of a data set."""
    import datasets

    stacked = {}
    for split, (of, index) in chosen.items():
        place = f"{root}: column {column} of the split {of}"
        # Encoded, as they were saved: they are decoded here, by the rules of files of images.
        part = splits[of].select_columns([column]).cast_column(column, datasets.Image(decode=False))
        rows = zip(index.tolist(), part.select(index.tolist()), strict=True)
        pictures = (_picture(row[column], f"{place}, row {position + 1}") for position, row in rows)
        stacked[f"{split}_inputs"] = stack_images(pictures, len(index), image_size, channels, place)
        channels = stacked[f"{split}_inputs"].shape[1]
    return stacked


def _picture(saved: Mapping[str, Any] | None, place: str) -> Any:
    if saved is None or (saved["bytes"] is None and saved["path"] is None):
        raise ValueError(f"{place}: no image")
    if saved["bytes"] is None:
        return read_image(saved["path"])
    return read_image(place, io.BytesIO(saved["bytes"]))


def _rows(
    splits: Mapping[str, Any],
    columns: Sequence[str],
    chosen: Mapping[str, tuple[str, Tensor]],
    layout: Layout | None,
    root: Path,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the inputs of each split, by the field of a data set, and the manifest's entries about them."""
    given = {}
    for split, part in splits.items():
        arrays = [_numbers(_column(part, name), f"{root}: column {name} of the split {split}") for name in columns]
        # One column of bytes with axes is images; all else is rows.
        if len(arrays) > 1 or arrays[0].dtype != np.uint8:
            arrays = [array.reshape(len(array), -1) for array in arrays]
        given[split] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)
    stored, facts = stored_inputs(
        {f"the split {split} of {root}": from_array(values) for split, values in given.items()}, layout
    )
    inputs = dict(zip(given, stored, strict=True))
    return {f"{split}_inputs": inputs[of][index] for split, (of, index) in chosen.items()}, facts


def _numbers(column: Any, what: str) -> NDArray[Any]:
    """Return an Arrow column of numbers, or of lists or arrays of numbers of one length, as an array (N, ...)."""
    parts: list[NDArray[Any]] = []
    for chunk in column.chunks:
        before = sum(map(len, parts))
        parts.append(_part(chunk, what, before))
        if parts[-1].shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"{what}, row {before + 1}: the shape is {parts[-1].shape[1:]}, before {parts[0].shape[1:]}"
            )
    if not parts:
        raise ValueError(f"{what} has no rows")
    values = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if values.ndim == 1:
        values = values[:, None]
    if values.dtype.kind == "f" and len(wrong := np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))):
        raise ValueError(f"{what}, row {wrong[0] + 1}: a value is not finite")
    return values


def _part(array: Any, what: str, before: int) -> NDArray[Any]:
    """Return an Arrow array as one of NumPy; rows are counted on from those `before`."""
    import pyarrow as pa

    shape = [len(array)]

    def refuse(places: Any, why: str) -> None:
        if len(wrong := np.flatnonzero(places)):
            row = before + wrong[0] // max(1, int(np.prod(shape[1:]))) + 1
            raise ValueError(f"{what}, row {row}: {why}; every sample needs as many numbers")

    while True:
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        refuse(array.is_null().to_numpy(zero_copy_only=False), "no value")
        kind = array.type
        if pa.types.is_fixed_size_list(kind):
            length = kind.list_size
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths = array.value_lengths().to_numpy(zero_copy_only=False)
            length = int(lengths[0]) if len(lengths) else 0
            refuse(lengths != length, "a list of another length than the first")
        else:
            break
        array = array.flatten()
        shape.append(length)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"{what} has values of type {kind}; allowed are numbers, arrays of numbers, or images")
    return array.to_numpy(zero_copy_only=False).reshape(shape)
