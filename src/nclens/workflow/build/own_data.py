"""From a function of the user's own to a data set."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nclens.data.dataset import CLEAN, SPLITS, VALIDATION, WHOLE, Dataset, Splits
from nclens.data.labels import as_texts, class_labels
from nclens.data.numbers import (
    Empty,
    copied,
    from_array,
    in_chunks,
    is_mapped,
    real_numbers,
    refuse_unknown,
    stored_inputs,
)
from nclens.data.regression import RegressionDataset, scaled_splits
from nclens.data.shares import Wanted, draw, draw_unstratified
from nclens.workflow.build.functions import failure, load_function

#: What describes the data, and what names the classes or targets.
TEXTS = ("source", "licence", "citation")
NAMES = {"classification": "classes", "regression": "targets"}


def own_data(entry: Mapping[str, Any]) -> Splits:
    """Return the data set that a function of the user's own returns.

    It returns a mapping with `train_inputs`, `train_targets`, `test_inputs`, `test_targets` (NumPy arrays or tensors;
    uint8 images (N, C, H, W) or (N, H, W), or rows (N, F) of numbers, stored as by
    `nclens.data.numbers.stored_inputs`) and optionally a validation split, `val_inputs` and `val_targets`, true labels
    `train_clean_targets` of a classification whose `train_targets` are noisy, and `source`, `licence`, `citation`.
    Where the entry has a share `test`, it returns `inputs` and `targets` of one set instead. Targets are integer class
    labels from 0, or texts (`nclens.data.labels.class_labels`), with `classes` for their names, or, where the entry has
    `task: regression`, numbers (N, n) or (N,), with `targets` for their n names but of one set. Other keys are refused.
    The entry's `layout` is that of images.

    Memory-mapped inputs stay where they are; what is converted of them is in a temporary file, not in memory.

    Raises:
        ValueError: the data do not fit; says what is allowed.
    """
    what, task = f"{entry['function']} ({entry['file']})", entry.get("task", "classification")
    made = _made(entry)
    keys = _keys(made, what, task)
    wanted = Wanted(None, None, entry.get("split_seed", 0), entry.get("test"), entry.get("validation"))
    if "test" not in keys and wanted.test is None:
        raise ValueError(f"{what} returns one set, {' and '.join(WHOLE)}: set `test`, a share as 0.2")
    empty = mapped_empty if any(is_mapped(made[key]) for key, _ in keys.values()) else torch.empty
    given = {f"{key} of {what}": _array(made[key], what) for key, _ in keys.values()}
    stored, facts = stored_inputs(given, entry.get("layout"), empty)
    inputs = dict(zip(keys, _apart(stored, empty), strict=True))
    targets, named = _TARGETS[task](made, {split: key for split, (_, key) in keys.items()}, what)
    clean = targets.pop(CLEAN, None)
    if wanted.shares:
        for split, part in targets.items():
            if len(part) != len(inputs[split]):
                raise ValueError(f"{keys[split][1]} of {what}: {len(part)} targets, but {len(inputs[split])} inputs")
        chosen = draw(targets, wanted, named, what) if named else draw_unstratified(targets, wanted, what)
        inputs = {split: _gathered(inputs[of], index, empty) for split, (of, index) in chosen.items()}
        targets = {split: targets[of][index] for split, (of, index) in chosen.items()}
        clean = None if clean is None else clean[chosen["train"][1]]
    fields: dict[str, Any] = {
        **{key: str(made.get(key, "")) for key in TEXTS},
        "source": str(made.get("source") or f"{entry['function']} of {entry['file']}"),
        "facts": {**facts, **wanted.facts},
        **{f"{split}_inputs": values for split, values in inputs.items()},
    }
    if task == "classification":
        fields |= {f"{split}_targets": values for split, values in targets.items()}
        return Dataset(**fields, classes=named, train_clean_targets=clean)
    # Of one set, `targets` are the numbers.
    names = made.get("targets") if keys["train"] != WHOLE else None
    names = (
        [f"target_{j}" for j in range(targets["train"].shape[1])] if names is None else [str(name) for name in names]
    )
    return RegressionDataset(**fields, **scaled_splits(targets, "none"), targets=names)


def _made(entry: Mapping[str, Any]) -> Any:
    # Not by `call`: it has parameters of its own named `file` and `function`, which are fit names for a data set's.
    function = load_function(entry["file"], entry["function"])
    try:
        return function(**entry["parameters"])
    except Exception as error:
        raise failure(entry["function"], entry["file"], error) from error


def _keys(made: Any, what: str, task: str) -> dict[str, tuple[str, str]]:
    """Return the names of the inputs and the targets of each split that a function returns; one set is `train`."""
    if isinstance(made, dict) and set(WHOLE) <= made.keys():
        refuse_unknown(made, (*WHOLE, NAMES[task], *TEXTS), f"the dict that {what} returns")
        return {"train": WHOLE}
    if not isinstance(made, dict) or any(key not in made for key in SPLITS):
        raise ValueError(f"{what} must return a dict with {', '.join(SPLITS)}, or with {' and '.join(WHOLE)}")
    clean = (CLEAN,) if task == "classification" else ()
    refuse_unknown(made, (*SPLITS, *VALIDATION, *clean, NAMES[task], *TEXTS), f"the dict that {what} returns")
    found = {"train": SPLITS[:2], "test": SPLITS[2:]} | ({"val": VALIDATION} if made.keys() & set(VALIDATION) else {})
    if missing := [key for pair in found.values() for key in pair if key not in made]:
        raise ValueError(f"{what} returns no {missing[0]}; allowed: {' and '.join(VALIDATION)}, or neither")
    return {split: (pair[0], pair[1]) for split, pair in found.items()}


def _array(values: Any, what: str) -> Tensor:
    try:
        return from_array(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} must return arrays of numbers: {error}") from error


def _classes(made: Mapping[str, Any], keys: Mapping[str, str], what: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the class numbers (N,) of each split, and of `CLEAN` where there are any, and the names of the classes."""
    keys = {**keys, **({CLEAN: CLEAN} if CLEAN in made else {})}
    names = made.get("classes")
    labels = {}
    for key in keys.values():
        try:
            texts = as_texts(made[key])
        except ValueError:  # not of one shape: said below
            texts = None
        # Two of them may be one array, which a file of tensors cannot hold.
        labels[f"{key} of {what}"] = _array(made[key], what).clone() if texts is None else texts
    classes, numbers = class_labels(labels, None if names is None else [str(name) for name in names])
    return dict(zip(keys, numbers, strict=True)), classes


def _numbers(made: Mapping[str, Any], keys: Mapping[str, str], what: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the numbers to regress of each split as float64 (N, n); there are no classes."""
    return {split: real_numbers(_array(made[key], what), f"{key} of {what}") for split, key in keys.items()}, []


_TARGETS = {"classification": _classes, "regression": _numbers}


def mapped_empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an uninitialised tensor in a temporary file without a name, which goes with the tensor.

    Raises:
        OSError: the folder of temporary files, by default that of `TMPDIR`, has too little space.
    """
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    with tempfile.TemporaryFile() as file:
        # A full disk is an error here; later it would be a signal that ends the process.
        if (size := int(np.prod(shape)) * kind.itemsize) and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return torch.from_numpy(np.memmap(file, kind, mode="w+", shape=tuple(shape)))


def _apart(tensors: Sequence[Tensor], empty: Empty) -> list[Tensor]:
    """Return tensors of which none shares memory with another: a file of tensors cannot hold such."""
    apart: list[Tensor] = []
    for tensor in tensors:
        shared = any(np.may_share_memory(tensor.numpy(), other.numpy()) for other in apart)
        apart.append(copied(tensor, empty, lambda part: part) if shared else tensor)
    return apart


def _gathered(values: Tensor, index: Tensor, empty: Empty) -> Tensor:
    """Return the samples at `index`, by chunks, in what `empty` returns; all of them as they are."""
    if len(index) == len(values):
        return values
    made = empty((len(index), *values.shape[1:]), dtype=values.dtype)
    places = in_chunks(made)
    for place, part in zip(places, index.split([len(place) for place in places]), strict=True):
        place.copy_(values[part])
    return made
