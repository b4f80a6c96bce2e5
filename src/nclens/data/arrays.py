"""Data sets given as arrays in one .npz or .safetensors file."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

from torch import Tensor

from nclens.data.dataset import Dataset, class_balanced_subsets
from nclens.data.download import verify
from nclens.data.hidden import is_hidden
from nclens.data.numbers import Layout, class_numbers, from_array, refuse_unknown, stored_inputs
from nclens.data.raw import RawData

NAMES = (("features", "inputs"), ("labels", "targets"))
SPLITS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
#: The validation split that a file with `SPLITS` may hold too.
VALIDATION = ("val_inputs", "val_targets")
#: The true labels of training samples whose targets are noisy, which such a file may hold too.
CLEAN = "train_clean_targets"
WHOLE = ("inputs", "targets")
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
) -> Dataset:
    """Return the data set in a file with the four arrays of `SPLITS`, or the two of `WHOLE`, which are split here.

    A file with `SPLITS` may hold `VALIDATION` too, a validation split, which is taken whole, and `CLEAN`.

    A file of recorded features is one with `train_features`, `train_labels` and those of the test split, which are rows
    and targets; its `weight` and `bias` are left out.

    Inputs are uint8 images (N, C, H, W), uint8 images of one channel (N, H, W), or real rows (N, F), stored as by
    `nclens.data.numbers.stored_inputs`; targets are integer class labels in 0..K-1, (N,).

    Args:
        raw: the folder of raw data.
        path: the file, relative to that folder unless absolute.
        sha256: the expected checksum; None skips the check.
        classes: names of the K classes; None numbers them.
        layout: of images with four axes; None is NCHW, and refuses images that look like NHWC.
        train_per_class, test_per_class: samples per class; None takes all, if the file has both splits.
        split_seed: seed of the random choice of samples.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is missing, lacks such arrays, or has others.
    """
    file, arrays = read_own_arrays(raw, path, sha256, "arrays")
    if {name for name, new in RECORDED.items() if new in SPLITS} <= set(arrays):
        arrays = {RECORDED.get(name, name): values for name, values in arrays.items() if name not in ("weight", "bias")}
    names: tuple[str, ...] = SPLITS if set(SPLITS) <= set(arrays) else WHOLE
    if names == SPLITS and set(VALIDATION) & set(arrays):
        names += VALIDATION
    if not set(names) <= set(arrays):
        raise ValueError(
            f"{file} must hold {', '.join(SPLITS)}, or {' and '.join(WHOLE)}; with the former it may hold "
            f"{' and '.join(VALIDATION)}; it has {', '.join(arrays)}"
        )
    clean = arrays.pop(CLEAN, None) if names != WHOLE else None
    refuse_unknown(arrays, (*names, *((CLEAN,) if clean is not None else ())), str(file))
    inputs, facts = stored_inputs({f"{name} of {file}": arrays[name] for name in names[::2]}, layout)
    targets = [class_numbers(arrays[names[1]], f"{names[1]} of {file}")]
    named = list(classes) if classes else [str(label) for label in range(int(targets[0].max()) + 1)]
    targets += [class_numbers(arrays[name], f"{name} of {file}", len(named)) for name in names[3::2]]
    for name, values, numbers in zip(names[::2], inputs, targets, strict=True):
        if len(values) != len(numbers):
            raise ValueError(f"{file}: {name} has {len(values)} samples, but {len(numbers)} targets")
    val: dict[str, Any] = dict(zip(VALIDATION, (inputs.pop(), targets.pop()), strict=True)) if len(inputs) == 3 else {}
    if clean is not None:
        clean = class_numbers(clean, f"{CLEAN} of {file}", len(named))
        if len(clean) != len(targets[0]):
            raise ValueError(f"{file}: train_targets has {len(targets[0])} labels, but {CLEAN} {len(clean)}")
    chosen = class_balanced_subsets(targets, (train_per_class, test_per_class), named, split_seed, str(file))
    return Dataset(
        train_inputs=inputs[0][chosen[0]],
        train_targets=targets[0][chosen[0]],
        test_inputs=inputs[-1][chosen[1]],
        test_targets=targets[-1][chosen[1]],
        train_clean_targets=None if clean is None else clean[chosen[0]],
        **val,
        classes=named,
        source=f"arrays of the file {path}",
        facts=facts,
    )


def read_own_arrays(raw: RawData, path: str, sha256: str | None, source: str) -> tuple[Path, dict[str, Tensor]]:
    """Return the path of a user's file and its arrays (`read_arrays`); error messages start with `source`.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is missing or cannot be read.
    """
    file = raw.place(path)
    if not file.is_file():
        raise ValueError(f"{source}: no file {file.resolve()}; `path` is relative to `data_dir` unless absolute")
    if sha256 is not None:
        verify(file, f"sha256:{sha256}")
    return file, read_arrays(file)


def read_arrays(file: Path) -> dict[str, Tensor]:
    """Return the arrays of an .npz or .safetensors file as tensors.

    Raises:
        ValueError: the file cannot be read, or contains something other than numbers.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        # Never unpickle: that would let a data file run code.
        with np.load(file, allow_pickle=False) as opened:
            return {name: from_array(opened[name]) for name in opened.files if not is_hidden(name)}
    except (SafetensorError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as {file.suffix} arrays of numbers: {error}") from error
