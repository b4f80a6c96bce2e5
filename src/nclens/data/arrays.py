"""Data sets given as arrays in one .npz or .safetensors file."""

import zipfile
from pathlib import Path

import torch
from torch import Tensor

from nclens.data.dataset import Dataset, class_balanced_subsets
from nclens.data.download import verify
from nclens.data.raw import RawData

SPLITS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
WHOLE = ("inputs", "targets")


def load(
    raw: RawData,
    path: str,
    sha256: str | None,
    classes: list[str] | None,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
) -> Dataset:
    """Return the data set in a file with the four arrays of `SPLITS`, or the two of `WHOLE`, which are split here.

    Inputs are uint8 images (N, C, H, W), uint8 images of one channel (N, H, W), or real rows (N, F); targets are
    integer class labels in 0..K-1, (N,).

    Args:
        raw: the folder of raw data.
        path: the file, relative to that folder unless absolute.
        sha256: the expected checksum; None skips the check.
        classes: names of the K classes; None numbers them.
        train_per_class, test_per_class: samples per class; None takes all, if the file has both splits.
        split_seed: seed of the random choice of samples.

    Raises:
        DownloadError: the checksum is wrong.
        ValueError: the file is missing or lacks such arrays.
    """
    file, arrays = read_own_arrays(raw, path, sha256, "arrays")
    names = SPLITS if set(SPLITS) <= set(arrays) else WHOLE
    if not set(names) <= set(arrays):
        raise ValueError(f"{file} must hold {', '.join(SPLITS)}, or {' and '.join(WHOLE)}; it has {', '.join(arrays)}")
    inputs = [_inputs(arrays[name], f"{name} of {file}") for name in names[::2]]
    targets = [_class_numbers(arrays[name], f"{name} of {file}") for name in names[1::2]]
    for name, values, numbers in zip(names[::2], inputs, targets, strict=True):
        if len(values) != len(numbers):
            raise ValueError(f"{file}: {name} has {len(values)} samples, but {len(numbers)} targets")
    count = len(classes) if classes else int(targets[0].max()) + 1
    per_class = (train_per_class, test_per_class)
    chosen = class_balanced_subsets(targets, per_class, count, split_seed, str(file))
    return Dataset(
        train_inputs=inputs[0][chosen[0]],
        train_targets=targets[0][chosen[0]],
        test_inputs=inputs[-1][chosen[1]],
        test_targets=targets[-1][chosen[1]],
        classes=list(classes) if classes else [str(number) for number in range(count)],
        source=f"arrays of the file {path}",
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
            return {name: torch.from_numpy(opened[name]) for name in opened.files}
    except (SafetensorError, zipfile.BadZipFile, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as {file.suffix} arrays of numbers: {error}") from error


def _inputs(values: Tensor, what: str) -> Tensor:
    """Return inputs as they are stored: uint8 images with channels, or float32 rows."""
    if values.dtype == torch.uint8 and values.ndim == 3:
        return values[:, None]
    if values.ndim == 2 and not values.is_complex():
        return values.float()
    if values.dtype != torch.uint8 or values.ndim != 4:
        raise ValueError(
            f"{what} must be uint8 images (N, C, H, W) or (N, H, W), or rows (N, F), not {values.dtype} of shape "
            f"{tuple(values.shape)}"
        )
    return values


def _class_numbers(values: Tensor, what: str) -> Tensor:
    """Return class labels as int64 (N,)."""
    if values.ndim != 1 or values.is_floating_point() or values.is_complex() or not len(values):
        raise ValueError(f"{what} must be integer class labels (N,), not {values.dtype} of shape {tuple(values.shape)}")
    if int(values.min()) < 0:
        raise ValueError(f"{what} must be class labels from 0; the smallest is {int(values.min())}")
    return values.long()
