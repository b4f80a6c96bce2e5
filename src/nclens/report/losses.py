"""All losses of an experiment side by side: one sortable table each."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nclens.report.links import Links
from nclens.report.page import Cell, Column, Section, Table
from nclens.report.text import Names, sentence, uncertain

FEW = 4
"""The most losses that are columns."""


def losses_side_by_side(names: Names, losses: pd.DataFrame, links: Links) -> Section | None:
    """Return a table an experiment that has two losses or more; None without any.

    Args:
        names: of the study.
        losses: columns of `nclens.report.summary.COLUMNS` and experiment.
        links: where the page can lead.
    """
    tables = []
    for experiment in names.experiments:
        rows = losses[losses["experiment"] == experiment]
        if rows["loss"].nunique() > 1:
            tables.append({"where": names.where(experiment), "table": table_of(names, experiment, rows)})
    if not tables:
        return None
    sources = [*links.file("losses"), links.rule("report"), links.code("nclens.report.summary:summarise")]
    return Section("losses", "Losses side by side", "losses.html.j2", {"tables": tables}, sources)


def table_of(names: Names, experiment: str, rows: pd.DataFrame) -> Table:
    """Return a row a quantity where the losses are few, which fits paper; else a row a loss, which can be sorted."""
    quantities = list(dict.fromkeys(zip(rows["quantity"], rows["split"], strict=True)))
    losses = list(dict.fromkeys(rows["loss"]))
    cells = {(row["loss"], row["quantity"], row["split"]): _cell(row) for row in rows.to_dict("records")}
    if len(losses) <= FEW:
        heads = [Column("", loss=names.loss(experiment, loss), numeric=True) for loss in losses]
        return Table(
            [Column("Quantity"), *heads],
            [
                [
                    Cell(sentence(quantity), detail=split_of(quantity, split)),
                    *(cells[loss, quantity, split] for loss in losses),
                ]
                for quantity, split in quantities
            ],
        )
    columns = [Column(sentence(quantity), split_of(quantity, split), numeric=True) for quantity, split in quantities]
    return Table(
        [Column("Loss"), *columns],
        [
            [Cell("", loss=names.loss(experiment, loss)), *(cells[loss, *quantity] for quantity in quantities)]
            for loss in losses
        ],
        sortable=True,
    )


def split_of(quantity: str, split: str) -> str:
    """Return the split that a quantity is written with: none where its label names it."""
    return "" if f"{split} set" in quantity else split


def _cell(row: Mapping[Any, Any]) -> Cell:
    """Mean with half its interval; a level that a run never reached is sorted last."""
    mean, half = row["mean"], (row["high"] - row["low"]) / 2
    if math.isinf(mean):
        return Cell("never")
    return Cell(uncertain(mean, half), None if math.isnan(mean) else mean, strong=bool(row["best"]))
