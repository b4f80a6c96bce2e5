"""What MLflow is given of a run and of a study: parameters, points, times and texts."""

import datetime
import getpass
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nclens.training.history import HISTORY
from nclens.workflow import saved_view, tables
from nclens.workflow.paths import RunFolder, StudyFolder
from nclens.workflow.specs import TrackRun

#: The longest value that MLflow takes for an experiment's tag.
LONGEST = 5000
#: Columns of the history that are the same for both splits.
OF_THE_EPOCH = ("learning_rate", "epoch_seconds")
#: Metrics that stay in metrics.csv alone: one a class or dimension, other numbers of bins, other temperatures.
SECONDARY = re.compile(r"_(?:\d+|authors)(?:_|$)|_un(?:scaled|normalised)$")
VERDICTS = {"supported": "supported", "contradicted": "**contradicted**", "inconclusive": "inconclusive"}


# --- a run -----------------------------------------------------------------------------------------------------------


def parameters(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a run from its `run.json`.

    `loss` and `model` are the names of the study's entries. The loss's own arguments have their plain names, such as
    `smoothing`, unless another parameter has that name. All others are named by their place: `training.epochs`.
    """
    spec = record["spec"]
    found = _flat(spec) | {key: record[key] for key in ("parameters", "dim", "flops_per_sample") if key in record}
    for part in ("loss", "model"):
        if f"{part}.entry" in found:  # recorded features have no model
            found[part] = found.pop(f"{part}.entry")
    for name in (spec.get("loss") or {}).get("arguments", ()):
        if f"loss.{name}" in found and name not in found:
            found[name] = found.pop(f"loss.{name}")
    return {clean(key): str(value)[:6000] for key, value in found.items()}


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            # An argument of a model is named without the word: model.width.
            found |= _flat(value, prefix if key == "arguments" else f"{prefix}{key}.")
        elif value is not None:
            found[prefix + key] = value
    return found


def clean(key: str) -> str:
    """Return a name that MLflow takes for a parameter."""
    return re.sub(r"[^\w\-./ ]", "_", key)[:250]


def times(record: Mapping[str, Any]) -> tuple[int, int]:
    """Return a training's start and end, in milliseconds since 1970; pauses of an interrupted one are left out."""
    end = datetime.datetime.fromisoformat(record["finished"]).timestamp()
    return int((end - record.get("wall_time", 0)) * 1000), int(end * 1000)


def user() -> str:
    """Return the user that records, as the UI's column `User` shows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return "unknown"


def points(run: RunFolder, spec: TrackRun, record: Mapping[str, Any]) -> Iterator[tuple[str, float, int, int]]:
    """Yield every point of a run: `split/metric`, value, time in milliseconds since 1970, epoch.

    The UI shows a metric's last point as its value. So a metric that is undefined from some epoch on, such as NC1 of
    wrong predictions when there are none, has NaN at the last epoch.
    """
    measured = tables.read(tables.METRICS, run.metrics)
    measured = measured[~measured["metric"].str.contains(SECONDARY)]
    if spec.probed:
        measured = pd.concat([measured, tables.read(tables.PROBES, run.probes)])
    history = (
        tables.read(tables.HISTORY[spec.task], run.history)
        .rename(columns=HISTORY)
        .melt(["epoch", "split"], var_name="metric")
    )
    history = history[(history["split"] == "train") | ~history["metric"].isin(OF_THE_EPOCH)]
    _, end = times(record)
    for table in (measured, history):
        for split, metric, value, epoch in _ended(table).itertuples(index=False):
            yield f"{split}/{metric}", float(value), end, int(epoch)
    for key in ("wall_time", "samples_per_second", "peak_memory_bytes"):
        if key in record:  # of networks that were trained elsewhere nothing is known
            yield f"run/{key}", float(record[key]), end, 0


def shown(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows of a table with columns metric and split MLflow is given."""
    metrics, splits = rows["metric"].astype(str), rows["split"].astype(str)
    return ~metrics.str.contains(SECONDARY) & ((splits == "train") | ~metrics.isin(OF_THE_EPOCH))


def _ended(table: pd.DataFrame) -> pd.DataFrame:
    """Return the finite values, and NaN at the last epoch of what has none there; what never has one is left out."""
    columns = ["split", "metric", "value", "epoch"]
    finite = table.loc[np.isfinite(table["value"]), columns]
    last = finite.groupby(["split", "metric"], as_index=False)["epoch"].max()
    early = last[last["epoch"] < table["epoch"].max()].assign(value=np.nan, epoch=table["epoch"].max())
    return pd.concat([finite, early[columns]]) if len(early) else finite


# --- a study ---------------------------------------------------------------------------------------------------------


def description(title: str, page: str, claims: pd.DataFrame, experiment: str, run: str) -> str:
    """Return what MLflow shows of a study, in Markdown: its title, links and verdicts.

    Args:
        title: the study's.
        page: the verdicts' page, claims.md, whose table has each effect as text.
        claims: the table of claims.
        experiment: its id in MLflow.
        run: the id of the study's own run, which has the files.
    """
    curves, runs = saved_view.links("#", experiment, saved=True).values()
    folder = StudyFolder(Path())
    report, verdicts = (saved_view.artifact(experiment, run, str(path)) for path in (folder.report, folder.claims_page))
    lines = [
        f"**{title}**",
        "",
        f"[Curves]({curves}) · [runs]({runs}) · [report]({report}) · [verdicts]({verdicts})",
        "",
        "| Claim | Verdict | Data, model | Losses | Effect [95% interval] |",
        "| --- | --- | --- | --- | --- |",
    ]
    papers = [f"Papers: {'; '.join(dict.fromkeys(map(_linked, claims['paper'])))}."]
    rows = list(_verdicts(page))
    room = LONGEST - 200 - sum(len(line) + 1 for line in [*lines, *papers])
    shown = next((n for n in range(len(rows), 0, -1) if sum(len(row) + 1 for row in rows[:n]) <= room), 0)
    rest = [f"{len(rows) - shown} more verdicts: [all]({verdicts})."] if shown < len(rows) else []
    return "\n".join([*lines, *rows[:shown], "", *rest, *papers])[:LONGEST] if rows else "\n".join(lines[:3])


def _verdicts(page: str) -> Iterator[str]:
    """Yield a row for each row of the page's first table, by the names of its columns."""
    table = [line for line in page.split("## Measures")[0].splitlines() if line.startswith("|")]
    heads, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table] or [[]]
    for cells in rows[1:]:  # after the rule below the heads
        of = dict(zip(heads, cells, strict=True))
        verdict, *reason = of["Verdict"].split(": ", 1)
        found = ": ".join([VERDICTS[verdict], *reason])
        effect = f"{of['Effect [95% interval]']} {of['Unit']}"
        yield f"| **{of['Claim']}** {of['Statement']} | {found} | {of['Data, model']} | {of['Losses']} | {effect} |"


def _linked(paper: str) -> str:
    return re.sub(r"\(arXiv (\d{4}\.\d{4,5})\)", r"([arXiv \1](https://arxiv.org/abs/\1))", str(paper))
