"""From a data entry of the configuration to a data set."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch

from nclens.data.dataset import Dataset, Splits
from nclens.data.raw import RawData
from nclens.data.regression import RegressionDataset
from nclens.workflow.build.functions import call


def load_dataset(entry: dict[str, Any], raw: RawData | None = None) -> Splits:
    """Return the data set of an entry: `{source: <module of nclens.data>, ...}` or `{function: module:name, ...}`.

    A source that reads files takes the folder of raw data, by default `data`, as its argument `raw`.

    The user's own function returns a mapping with `train_inputs`, `train_targets`, `test_inputs`, `test_targets` (numpy
    arrays or tensors; uint8 images (N, C, H, W) or float32 rows (N, F)) and, if it likes, `source`, `licence`,
    `citation`. Targets are whole class numbers from 0, with `classes` for their names, or, where the entry has `task:
    regression`, numbers (N, n) or (N,), with `targets` for their n names.

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


def _custom(entry: dict[str, Any]) -> Splits:
    made = call(entry["file"], entry["function"], **entry["parameters"])
    needed = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    if not isinstance(made, dict) or any(key not in made for key in needed):
        raise ValueError(f"{entry['function']} ({entry['file']}) must return a dict with {', '.join(needed)}")
    try:
        # Copies: two of them may be one array, which a file of tensors cannot hold.
        tensors = {key: torch.as_tensor(made[key]).clone() for key in needed}
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{entry['function']} ({entry['file']}) must return arrays of numbers: {error}") from error
    for key in ("train_inputs", "test_inputs"):
        if tensors[key].dtype == torch.float64:
            tensors[key] = tensors[key].float()
    texts = {
        "source": str(made.get("source") or f"{entry['function']} of {entry['file']}"),
        "licence": str(made.get("licence", "")),
        "citation": str(made.get("citation", "")),
    }
    return _CUSTOM[entry.get("task", "classification")](tensors, made, texts)


def _custom_classes(tensors: dict[str, Any], made: dict[str, Any], texts: dict[str, Any]) -> Splits:
    for key in ("train_targets", "test_targets"):
        if not tensors[key].is_floating_point():
            tensors[key] = tensors[key].long()
    highest = int(tensors["train_targets"].max()) if tensors["train_targets"].numel() else 0
    classes = made.get("classes") or [str(label) for label in range(highest + 1)]
    return Dataset(**tensors, classes=[str(name) for name in classes], **texts)


def _custom_numbers(tensors: dict[str, Any], made: dict[str, Any], texts: dict[str, Any]) -> Splits:
    for key in ("train_targets", "test_targets"):
        tensors[key] = tensors[key].float().reshape(len(tensors[key]), -1)
    names = made.get("targets") or [f"target_{j}" for j in range(tensors["train_targets"].shape[1])]
    return RegressionDataset(**tensors, targets=[str(name) for name in names], **texts)


_CUSTOM = {"classification": _custom_classes, "regression": _custom_numbers}
