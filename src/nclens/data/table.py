"""Samples in the rows of CSV or Parquet files, with the targets in columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nclens.data.columns import UNNAMED, class_columns, number_column, read_table, refuse_absent
from nclens.data.dataset import Dataset, Splits
from nclens.data.labels import number_classes
from nclens.data.numbers import float32_rows, refuse_unknown
from nclens.data.raw import RawData
from nclens.data.regression import RegressionDataset, Scaling, scaled_splits
from nclens.data.shares import Wanted, draw, draw_unstratified, refuse_same_samples

if TYPE_CHECKING:
    from pandas import DataFrame

#: What to do about labels that are numbers.
REGRESSED = ", and `task: regression` regresses numbers"
#: What to do about a cell of a feature that is no number.
FILL = "a feature needs a finite number in every row: encode or fill the cells, or put the column into `leave_out`"


def load(
    raw: RawData,
    path: str,
    target: str | Sequence[str],
    task: str,
    features: Sequence[str] | None,
    leave_out: Sequence[str],
    scale_targets: Scaling | None,
    train_per_class: int | None,
    test_per_class: int | None,
    split_seed: int,
    test: float | None = None,
    validation: float | None = None,
    test_path: str | None = None,
    val_path: str | None = None,
) -> Splits:
    """Return rows of numbers and their targets, of a table of training samples, or of one set that is split here.

    Features are stored by `nclens.data.numbers.float32_rows`. The labels of a classification, as
    `nclens.data.columns.class_columns` reads them, become classes by `nclens.data.labels.number_classes`: whole numbers
    in ascending order, texts by Unicode code point.

    Args:
        raw: the folder of raw data.
        path: the table, relative to that folder unless absolute; as `nclens.data.columns.read_table` reads it.
        target: the column of the labels, or the columns of the numbers to regress.
        task: `classification` or `regression`.
        features: the columns of the features, in their order; None takes all others but `leave_out`.
        leave_out: columns that are not read.
        scale_targets: units of the targets of a regression, as in `nclens.data.regression.scaled`.
        train_per_class, test_per_class: samples per class; None takes all, with a test split or `test`.
        split_seed: seed of the random choice of samples.
        test, validation: shares, of each class as in `nclens.data.shares.draw`, of a regression's samples as in
            `nclens.data.shares.unstratified`.
        test_path, val_path: tables of the test and of the validation split; None for none.

    Raises:
        ValueError: a file cannot be read or lacks a column, a cell is no number or a label is no class; names the file,
            the column and the row, counted from 1 without the row of names. Or two splits are the same samples.
    """
    targets = [target] if isinstance(target, str) else list(target)
    places = {"train": path, "test": test_path, "val": val_path}
    files = {split: raw.place(place) for split, place in places.items() if place is not None}
    tables = {split: read_table(file, targets if task == "classification" else ()) for split, file in files.items()}
    columns = _features(tables, files, targets, features, leave_out)
    rows, facts = float32_rows(
        {f"the {split} features, {file}": _numbers(tables[split], columns, file, FILL) for split, file in files.items()}
    )
    inputs = dict(zip(files, rows, strict=True))
    wanted = Wanted(train_per_class, test_per_class, split_seed, test, validation)
    described: dict[str, Any] = {
        "source": f"columns of the table {path}",
        "facts": {**facts, "columns": columns, **wanted.facts},
    }
    if task == "classification":
        classes, labels = _labels(tables, targets[0], files)
        described["facts"]["target"] = targets[0]
        refuse_same_samples(inputs, labels, ", ".join(map(str, files.values())))
        chosen = draw(labels, wanted, classes, str(files["train"]))
        return Dataset(
            **_taken("inputs", inputs, chosen), **_taken("targets", labels, chosen), classes=classes, **described
        )
    values = {
        split: _numbers(tables[split], targets, file, "every sample needs a target") for split, file in files.items()
    }
    refuse_same_samples(inputs, values, ", ".join(map(str, files.values())))
    chosen = draw_unstratified(values, wanted, str(files["train"]))
    parts = {split: values[of][index] for split, (of, index) in chosen.items()}
    return RegressionDataset(
        **_taken("inputs", inputs, chosen),
        **scaled_splits(parts, scale_targets or "none"),
        targets=targets,
        **described,
    )


def _features(
    tables: "Mapping[str, DataFrame]",
    files: Mapping[str, Path],
    targets: Sequence[str],
    features: Sequence[str] | None,
    leave_out: Sequence[str],
) -> list[str]:
    """Return the columns of the features, which every table must have, and no other but what is left out."""
    first, file = tables["train"], files["train"]
    for key, names in (("target", targets), ("features", features or ()), ("leave_out", leave_out)):
        refuse_absent(first, names, f"`{key}`", file)
    unused = {*targets, *leave_out}
    columns = [name for name in first.columns if name not in unused] if features is None else list(features)
    if not columns:
        raise ValueError(f"{file} has no column of features; it has {', '.join(first.columns)}")
    if features is None and (unnamed := [name for name in columns if name.startswith(UNNAMED)]):
        raise ValueError(
            f"{file} has a column without a name. If it is an index, put `{unnamed[0]}` into `leave_out`; if not, list "
            "`features`"
        )
    for split, table in tables.items():
        refuse_absent(table, [*columns, *targets], f"a column of {file.name}", files[split])
        if features is None:
            refuse_unknown(table.columns, [*columns, *unused], str(files[split]))
    return columns


def _numbers(table: "DataFrame", columns: Sequence[str], file: Path, advice: str) -> Tensor:
    """Return columns of numbers as float64 (N, F)."""
    return torch.from_numpy(
        np.stack([number_column(table[name], f"{file}: column {name}", advice) for name in columns], axis=1)
    )


def _labels(
    tables: "Mapping[str, DataFrame]", target: str, files: Mapping[str, Path]
) -> tuple[list[str], dict[str, Tensor]]:
    """Return the names of the classes, and the class numbers (N,) of each split."""
    found = {split: f"{split} split, {file}: column {target}" for split, file in files.items()}
    columns = {what: tables[split][target] for split, what in found.items()}
    classes, numbers = number_classes(class_columns(columns, REGRESSED))
    if len(classes) < 2:
        raise ValueError(f"{found['train']} has one class, {classes[0]}; two or more are needed")
    return classes, dict(zip(tables, numbers, strict=True))


def _taken(name: str, parts: Mapping[str, Tensor], chosen: Mapping[str, tuple[str, Tensor]]) -> dict[str, Any]:
    """Return the chosen samples of each split as the fields of a data set."""
    return {f"{split}_{name}": parts[of][index] for split, (of, index) in chosen.items()}
