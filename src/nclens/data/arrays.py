"""Data sets given as arrays in one .npz or .safetensors file."""

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nclens.data.dataset import CLEAN, SPLITS, VALIDATION, WHOLE, Dataset
from nclens.data.download import verify
from nclens.data.hidden import is_hidden
from nclens.data.labels import as_texts, class_labels
from nclens.data.numbers import Layout, from_array, refuse_unknown, stored_inputs
from nclens.data.raw import RawData
from nclens.data.shares import Wanted, draw, refuse_same_samples

NAMES = (("features", "inputs"), ("labels", "targets"))
#: Arrays that may hold texts, which become classes.
LABELS = (*SPLITS[1::2], VALIDATION[1], WHOLE[1], CLEAN)
#: Arrays of recorded features, which are a data set of rows too, and what they are called there.
RECORDED = {f"{split}_{old}": f"{split}_{new}" for split in ("train", "test", "val") for old, new in NAMES}


def load(
    raw: RawData,
    path: str,
    sha256: str | None,
    classes: list[str] | None,
    layout: Layout | None,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    test: float | None = None,
    validation: float | None = None,
) -> Dataset:
    """Return the data set in a file with the four arrays of `SPLITS`, or the two of `WHOLE`, which are split here.

    A file with `SPLITS` may hold `VALIDATION` too, a validation split, which is taken whole, and `CLEAN`.

    A file of recorded features is one with `train_features`, `train_labels` and those of the test split, which are rows
    and targets; its `weight` and `bias` are left out.

    Inputs are uint8 images (N, C, H, W), uint8 images of one channel (N, H, W), or real rows (N, F), stored as by
    `nclens.data.numbers.stored_inputs`; targets are integer class labels in 0..K-1, (N,), or texts, which become
    classes by `nclens.data.labels.number_classes`.

    Args:
        raw: the folder of raw data.
        path: the file, relative to that folder unless absolute.
        sha256: the expected checksum; None skips the check.
        classes: names of the K classes; None numbers them, or takes the texts in ascending order.
        layout: of images with four axes; None is NCHW, and refuses images that look like NHWC.
        train_per_class, test_per_class: samples per class; None takes all, if the file has both splits or `test` is
            given.
        split_seed: seed of the random choice of samples.
        test, validation: shares of each class, as in `nclens.data.shares.draw`.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is missing, lacks such arrays, or has others.
    """
    file, arrays = read_own_arrays(raw, path, sha256, "arrays", LABELS)
    if {name for name, new in RECORDED.items() if new in SPLITS} <= set(arrays):
        arrays = {RECORDED.get(name, name): values for name, values in arrays.items() if name not in ("weight", "bias")}
    names = _names(arrays, file)
    clean = {CLEAN: arrays[CLEAN]} if CLEAN in arrays and names != WHOLE else {}
    refuse_unknown(arrays, (*names, *clean), str(file))
    stored, facts = stored_inputs({f"{name} of {file}": arrays[name] for name in names[::2]}, layout)
    given = {name: arrays[name] for name in names[1::2]} | clean
    named, numbers = class_labels({f"{name} of {file}": values for name, values in given.items()}, classes)
    # Of one set, the training split is what the others leave.
    splits = ("train", "test", "val")[: len(stored)]
    inputs, targets = dict(zip(splits, stored, strict=True)), dict(zip(splits, numbers, strict=False))
    for split, name in zip(splits, names[::2], strict=True):
        if len(inputs[split]) != len(targets[split]):
            raise ValueError(f"{file}: {name} has {len(inputs[split])} samples, but {len(targets[split])} targets")
    if clean and len(numbers[-1]) != len(targets["train"]):
        raise ValueError(f"{file}: train_targets has {len(targets['train'])} labels, but {CLEAN} {len(numbers[-1])}")
    wanted = Wanted(train_per_class, test_per_class, split_seed, test, validation)
    refuse_same_samples(inputs, targets, str(file))
    chosen = draw(targets, wanted, named, str(file))
    fields: dict[str, Any] = {}
    for split, (of, index) in chosen.items():
        fields |= {f"{split}_inputs": inputs[of][index], f"{split}_targets": targets[of][index]}
    return Dataset(
        **fields,
        train_clean_targets=numbers[-1][chosen["train"][1]] if clean else None,
        classes=named,
        source=f"arrays of the file {path}",
        facts=facts | wanted.facts,
    )


def _names(arrays: Collection[str], file: Path) -> tuple[str, ...]:
    """Return the names of the inputs and targets of each split that a file has, or those of one set."""
    names: tuple[str, ...] = SPLITS if set(SPLITS) <= set(arrays) else WHOLE
    if names == SPLITS and set(VALIDATION) & set(arrays):
        names += VALIDATION
    if not set(names) <= set(arrays):
        raise ValueError(
            f"{file} must hold {', '.join(SPLITS)}, or {' and '.join(WHOLE)}; with the former it may hold "
            f"{' and '.join(VALIDATION)}; it has {', '.join(arrays)}"
        )
    return names


def read_own_arrays(
    raw: RawData, path: str, sha256: str | None, source: str, texts: Collection[str] = ()
) -> tuple[Path, dict[str, Any]]:
    """Return the path of a user's file and its arrays, tensors; error messages start with `source`.

    Those named in `texts` may hold texts, and then are NumPy arrays.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is missing or cannot be read.
    """
    file = raw.place(path)
    if not file.is_file():
        raise ValueError(f"{source}: no file {file.resolve()}; `path` is relative to `data_dir` unless absolute")
    if sha256 is not None:
        verify(file, f"sha256:{sha256}")
    return file, _read(file, texts)


def read_arrays(file: Path) -> dict[str, Tensor]:
    """Return the arrays of an .npz or .safetensors file as tensors.

    Raises:
        ValueError: the file cannot be read, or contains something other than numbers.
    """
    return _read(file)


def _read(file: Path, texts: Collection[str] = ()) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix.lower() == ".safetensors":
            return load_file(file)
        # Never unpickle: that would let a data file run code.
        with np.load(file, allow_pickle=False) as opened:
            return {name: _array(opened, name, texts) for name in opened.files if not is_hidden(name)}
    except (SafetensorError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as {file.suffix} arrays of numbers: {error}") from error


def _array(opened: Any, name: str, texts: Collection[str]) -> Any:
    try:
        values = opened[name]
    except ValueError as error:
        if name in texts and "allow_pickle" in str(error):
            raise ValueError(
                f"{name} is pickled, as an array of Python objects; save texts as numpy.asarray(labels, dtype=str)"
            ) from error
        raise
    if name in texts and values.dtype.kind in "SU" and values.ndim != 1:
        raise ValueError(f"{name} must be texts (N,), not of shape {values.shape}; save them as labels.reshape(-1)")
    found = as_texts(values) if name in texts else None
    return from_array(values) if found is None else found
