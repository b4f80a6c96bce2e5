"""The tables of a study of classification: its runs."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nclens.reporting.page import Cell, Column, Section, Table
from nclens.reporting.words import Names, as_text

RUN_METRICS = (
    ("Accuracy", "test", "accuracy"),
    ("ECE", "test", "ece"),
    ("NC1", "train", "nc1"),
    ("NC2", "train", "nc2"),
    ("NC3", "train", "nc3"),
)
"""Columns of the run table: heading, split, key of the metric; one that no run has is left out."""


def run_table(names: Names, metrics: pd.DataFrame, runs: Mapping[tuple[str, str, str, int], Any]) -> Section:
    """Return one row a run: its metrics at the last snapshot, and how long it trained on what."""
    run, column = ["dataset", "model", "loss", "seed"], ["split", "metric"]
    wanted = metrics[metrics["metric"].isin([metric for *_, metric in RUN_METRICS])]
    # The last row counts also where it is undefined: an earlier value would not be that of the trained network.
    last = wanted.sort_values("epoch").drop_duplicates([*run, *column], keep="last")[[*run, *column, "value"]]
    measured = {(row[:4], row[4:6]): row[6] for row in last.itertuples(index=False, name=None)}
    chosen = [metric for metric in RUN_METRICS if any(found == metric[1:] for _, found in measured)]
    rows = []
    for experiment, key in names.runs():
        record = runs.get(key, {})
        values = [measured.get((key, metric[1:])) for metric in chosen]
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
        *(Column(heading, split, numeric=True) for heading, split, _ in chosen),
        *(Column("Training", "s", numeric=True), Column("Device")),
    ]
    return Section("runs", "Runs", "runs.html.j2", {"table": Table(columns, rows, sortable=True)})
