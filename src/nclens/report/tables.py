"""The tables of a study's runs, one a task."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nclens.metrics.catalogue import METRICS
from nclens.report.links import Link, Links
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
    "classification": "Accuracy and the expected calibration error (15 bins, before scaling) are those of the whole "
    "test set; NC1, NC2 and NC3 those of the training features, where 0 is full collapse.",
    "regression": "The mean squared error is summed over the targets and averaged over the samples, in the units of "
    "the stored targets, squared; R² is the plain mean over the targets. NRC1, NRC2 and NRC3 are those of the "
    "training features, where 0 is full collapse.",
}


SPLITS = {("test", "ece"): "whole test set"}
"""Column -> its split where that is told apart from the same measure of a part of it."""


def run_table(
    names: Names, metrics: pd.DataFrame, runs: Mapping[tuple[str, str, str, int], Any], links: Links
) -> Section:
    """Return one row a run, a table a task: its metrics at the last snapshot, its training, and links to its files."""
    parts = [
        {"task": task, "text": INTRODUCTIONS[task], "table": _table(names, task, metrics, runs, links)}
        for task in RUN_METRICS
        if names.of_task(task)
    ]
    recorded = links.recorded("study")
    sources = [
        *links.file("metrics"),
        links.rule("collect"),
        *links.log("collect"),
        *([Link("all runs in MLflow", recorded.split("&searchFilter")[0])] if recorded else []),
    ]
    return Section("runs", "Runs", "runs.html.j2", {"parts": parts, "recorded": bool(recorded)}, sources)


def last_values(metrics: pd.DataFrame, wanted: set[str]) -> dict[tuple[Any, ...], float]:
    """Return ((dataset, model, loss, seed), (split, metric)) -> the value at the last snapshot, for these metrics."""
    run, column = ["dataset", "model", "loss", "seed"], ["split", "metric"]
    rows = metrics[metrics["metric"].isin(list(wanted))]
    # The last row counts also where it is undefined: an earlier value would not be that of the trained network.
    last = rows.sort_values("epoch").drop_duplicates([*run, *column], keep="last")[[*run, *column, "value"]]
    return {(row[:4], row[4:6]): row[6] for row in last.itertuples(index=False, name=None)}


def _table(
    names: Names,
    task: str,
    metrics: pd.DataFrame,
    runs: Mapping[tuple[str, str, str, int], Any],
    links: Links,
) -> Table:
    measured = last_values(metrics, {metric for _, metric in RUN_METRICS[task]})
    own = [(experiment, key) for experiment, key in names.runs() if names.task(experiment) == task]
    keys = {key for _, key in own}
    chosen = [column for column in RUN_METRICS[task] if any((key, column) in measured for key in keys)]
    several = len({experiment for experiment, _ in own}) > 1
    files = {key: links.run("/".join(map(str, key[:3])) + f"/seed{key[3]}") for _, key in own}
    linked = any(files.values())
    rows = []
    for experiment, key in own:
        record = runs.get(key, {})
        values = [measured.get((key, column)) for column in chosen]
        rows.append(
            [
                *([Cell(experiment)] if several else []),
                Cell("", loss=names.loss(experiment, key[2])),
                Cell(str(key[3]), key[3]),
                *(Cell.of(value) for value in [*values, record.get("wall_time")]),
                Cell(as_text(record.get("device")) or "–"),
                *([Cell("", links=files[key])] if linked else []),
            ]
        )
    columns = [
        *([Column("Experiment")] if several else []),
        *(Column("Loss"), Column("Seed", numeric=True)),
        *(
            Column(sentence(METRICS[metric].label), SPLITS.get((split, metric), split), numeric=True)
            for split, metric in chosen
        ),
        *(Column("Training", "seconds", numeric=True), Column("Device")),
        *([Column("Files")] if linked else []),
    ]
    return Table(columns, rows, sortable=True)
