"""The tables of a study of classification: its runs, and the theory that they are held against."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nclens.reporting.page import Cell, Column, Section, Table
from nclens.reporting.words import Names, as_text, number, readable, sentence

RUN_METRICS = (
    ("Accuracy", "test", "accuracy"),
    ("ECE", "test", "ece"),
    ("NC1", "train", "nc1"),
    ("NC2", "train", "nc2"),
    ("NC3", "train", "nc3"),
)
"""Columns of the run table: heading, split, key of the metric; one that no run has is left out."""

THEORY_GIVEN = {
    "classes": "K",
    "per_class": "n",
    "dim": "d",
    "lambda_w": "λ_W",
    "lambda_h": "λ_H",
    "lambda_b": "λ_b",
}
"""Columns of the theory table that hold the setting, and their symbols."""


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


def ufm_theory(names: Names, theory: pd.DataFrame) -> Section:
    """Return the closed forms of the unconstrained feature model beside their numeric values."""
    tables = []
    for key, rows in theory.groupby(["experiment", *THEORY_GIVEN], sort=False, dropna=False):
        experiment, *given = key
        groups = []
        for quantity, group in rows.groupby("quantity", sort=False):
            lines = [
                {
                    "loss": names.loss(str(experiment), as_text(record["loss"])),
                    "closed_form": number(record["closed_form"], 6),
                    "numeric": number(record["numeric"], 6),
                    "relative_error": number(record["relative_error"], 2),
                }
                for record in group.to_dict("records")
            ]
            label = sentence(readable(str(quantity)))
            groups.append({"quantity": quantity, "label": label, "rows": lines})
        symbols = zip(THEORY_GIVEN.values(), (number(value, 6, trim=True) for value in given), strict=True)
        where = names.where(str(experiment)) if experiment in names.experiments else str(experiment)
        tables.append({"where": where, "given": list(symbols), "groups": groups})
    errors = theory["relative_error"].dropna()
    agreement = f"The largest relative error is {number(errors.max(), 2)}." if len(errors) else ""
    content = {"tables": tables, "agreement": agreement}
    return Section("theory", "Theory", "theory.html.j2", content)
