"""From a data entry of the configuration to a data set."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nclens.data.dataset import Dataset, Splits
from nclens.data.numbers import class_numbers, from_array, real_numbers, refuse_unknown, stored_inputs
from nclens.data.raw import RawData
from nclens.data.regression import RegressionDataset, scaled
from nclens.workflow.build.functions import call


def load_dataset(entry: dict[str, Any], raw: RawData | None = None) -> Splits:
    """Return the data set of an entry: `{source: <module of nclens.data>, ...}` or `{function: module:name, ...}`.

    A source that reads files takes the folder of raw data, by default `data`, as its argument `raw`.

    The user's own function returns a mapping with `train_inputs`, `train_targets`, `test_inputs`, `test_targets` (NumPy
    arrays or tensors; uint8 images (N, C, H, W) or (N, H, W), or rows (N, F) of numbers, stored as by
    `nclens.data.numbers.stored_inputs`) and optionally a validation split, `val_inputs` and `val_targets`,
    true labels `train_clean_targets` of a classification whose `train_targets` are noisy, and `source`, `licence`,
    `citation`. Targets are integer class
    labels from 0, with `classes` for their names, or, where the entry has `task: regression`, numbers (N, n) or (N,),
    with `targets` for their n names. Other keys are refused. The entry's `layout` is that of images.

    Raises:
        ValueError: the data do not fit; says what is allowed.
    """
    entry = dict(entry)
    if "function" in entry:
        return _custom(entry)
    # One small module a source, found by name: a new source changes the code of no other.
    module = importlib.import_module(f"nclens.data.{entry.pop('source')}")
    if "raw" in inspect.signature(module.load).parameters:
        entry["raw"] = raw or RawData(Path("data"))
    return module.load(**entry)


NEEDED = ("train_inputs", "train_targets", "test_inputs", "test_targets")
TARGETS = ("train_targets", "test_targets", "val_targets")
#: A validation split, which need not be there.
VALIDATION = ("val_inputs", "val_targets")
#: True labels of training samples with noisy targets, of a classification.
CLEAN = "train_clean_targets"
#: What describes the data, and what names the classes or targets.
TEXTS = ("source", "licence", "citation")
NAMES = {"classification": "classes", "regression": "targets"}


def _custom(entry: dict[str, Any]) -> Splits:
    what, task = f"{entry['function']} ({entry['file']})", entry.get("task", "classification")
    made = call(entry["file"], entry["function"], **entry["parameters"])
    if not isinstance(made, dict) or any(key not in made for key in NEEDED):
        raise ValueError(f"{what} must return a dict with {', '.join(NEEDED)}")
    optional = (*VALIDATION, *((CLEAN,) if task == "classification" else ()))
    refuse_unknown(made, (*NEEDED, *optional, NAMES[task], *TEXTS), f"the dict that {what} returns")
    names = (*NEEDED, *(VALIDATION if made.keys() & set(VALIDATION) else ()))
    if missing := [key for key in names if key not in made]:
        raise ValueError(f"{what} returns no {missing[0]}; allowed: {' and '.join(VALIDATION)}, or neither")
    try:
        # Copies: two of them may be one array, which a file of tensors cannot hold.
        tensors = {key: from_array(made[key]).detach().cpu().clone() for key in names}
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} must return arrays of numbers: {error}") from error
    given = {f"{key} of {what}": tensors[key] for key in names[::2]}
    inputs, facts = stored_inputs(given, entry.get("layout"))
    fields = {
        **{key: str(made.get(key, "")) for key in TEXTS},
        **{"source": str(made.get("source") or f"{entry['function']} of {entry['file']}"), "facts": facts},
        **dict(zip(names[::2], inputs, strict=True)),
    }
    targets = {f"{key} of {what}": tensors[key] for key in names[1::2]}
    if CLEAN in made:
        fields[CLEAN] = class_numbers(from_array(made[CLEAN]).detach().cpu().clone(), f"{CLEAN} of {what}", 2**31)
    return _CUSTOM[task](targets, made.get(NAMES[task]), fields)


def _custom_classes(given: dict[str, Tensor], classes: Any, fields: dict[str, Any]) -> Splits:
    (what, first), *others = given.items()
    train = class_numbers(first, what)
    names = [str(name) for name in (range(int(train.max()) + 1) if classes is None else classes)]
    targets: dict[str, Any] = dict(
        zip(TARGETS[1:], (class_numbers(values, key, len(names)) for key, values in others), strict=False)
    )
    return Dataset(train_targets=train, classes=names, **targets, **fields)


def _custom_numbers(given: dict[str, Any], names: Any, fields: dict[str, Any]) -> Splits:
    train, *others = (real_numbers(values, key) for key, values in given.items())
    names = [f"target_{j}" for j in range(train.shape[1])] if names is None else names
    if any(values.shape[1] != train.shape[1] for values in others):
        shapes = ", ".join(f"{key}: {tuple(values.shape)}" for key, values in given.items())
        raise ValueError(f"targets must have the same number of columns, not {shapes}")
    # In the units of the test split.
    stored = scaled(train, torch.cat(others), "none")
    parts = stored.pop("test_targets").split([len(values) for values in others])
    return RegressionDataset(
        **stored, **dict(zip(TARGETS[1:], parts, strict=False)), targets=[str(name) for name in names], **fields
    )


_CUSTOM = {"classification": _custom_classes, "regression": _custom_numbers}
