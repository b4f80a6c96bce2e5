"""The tables of a study's runs, one a task."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nclens.metrics.catalogue import METRICS
from nclens.report.page import Cell, Column, Section, Table
from nclens.report.text import Names, as_text, sentence

RUN_METRICS = {
    "classification": (
        *(("test", "accuracy"), ("test", "ece")),
        *(("train", "nc1"), ("train", "nc2"), ("train", "nc3")),
    ),
    "regression": (
        *(("test", "r2"), ("test", "mse"), ("train", "mse")),
        *(("train", "nrc1"), ("train", "nrc2"), ("train", "nrc3")),
    ),
}
"""Task -> columns of its run table: split, key of the metric; one that no run has is left out."""

INTRODUCTIONS = {
    "classification": "Accuracy and the expected calibration error (15 bins, before scaling) are those of the test "
    "split; NC1, NC2 and NC3 those of the training features, where 0 is full collapse.",
    "regression": "The mean squared error is summed over the targets and averaged over the samples, in the units of "
    "the stored targets, squared; R² is the plain mean over the targets. NRC1, NRC2 and NRC3 are those of the "
    "training features, where 0 is full collapse.",
}


def run_table(names: Names, metrics: pd.DataFrame, runs: Mapping[tuple[str, str, str, int], Any]) -> Section:
    """Return one row a run, a table a task: its metrics at the last snapshot, and how long it trained on what."""
    parts = [
        {"task": task, "text": INTRODUCTIONS[task], "table": _table(names, task, metrics, runs)}
        for task in RUN_METRICS
        if names.of_task(task)
    ]
    return Section("runs", "Runs", "runs.html.j2", {"parts": parts})


def last_values(metrics: pd.DataFrame, wanted: set[str]) -> dict[tuple[Any, ...], float]:
    """Return ((dataset, model, loss, seed), (split, metric)) -> the value at the last snapshot, for these metrics."""
    run, column = ["dataset", "model", "loss", "seed"], ["split", "metric"]
    rows = metrics[metrics["metric"].isin(list(wanted))]
    # The last row counts also where it is undefined: an earlier value would not be that of the trained network.
    last = rows.sort_values("epoch").drop_duplicates([*run, *column], keep="last")[[*run, *column, "value"]]
    return {(row[:4], row[4:6]): row[6] for row in last.itertuples(index=False, name=None)}


def _table(names: Names, task: str, metrics: pd.DataFrame, runs: Mapping[tuple[str, str, str, int], Any]) -> Table:
    measured = last_values(metrics, {metric for _, metric in RUN_METRICS[task]})
    own = [(experiment, key) for experiment, key in names.runs() if names.task(experiment) == task]
    keys = {key for _, key in own}
    chosen = [column for column in RUN_METRICS[task] if any((key, column) in measured for key in keys)]
    rows = []
    for experiment, key in own:
        record = runs.get(key, {})
        values = [measured.get((key, column)) for column in chosen]
        rows.append(
            [
                Cell(experiment),
                Cell("", loss=names.loss(experiment, key[2])),
                Cell(str(key[3]), key[3]),
                *(Cell.of(value) for value in [*values, record.get("wall_time")]),
                Cell(as_text(record.get("device")) or "–"),
            ]
        )
    columns = [
        *(Column("Experiment"), Column("Loss"), Column("Seed", numeric=True)),
        *(Column(sentence(METRICS[metric].label), split, numeric=True) for split, metric in chosen),
        *(Column("Training", "s", numeric=True), Column("Device")),
    ]
    return Table(columns, rows, sortable=True)
