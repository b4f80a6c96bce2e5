"""Metrics against epoch: panels of lines, one a loss, each the mean over seeds with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclens.figures import style
from nclens.figures.tables import Drawing, FigureInputs, interval_note, omissions, over_seeds, seeds_note


@dataclass(frozen=True)
class Series:
    """One metric on one split, and the name of the stroke that it is drawn with."""

    metric: str
    split: str
    stroke: str


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """How the vertical axis of a panel reads.

    Attributes:
        label: of the axis, with the unit.
        log: whether the axis is logarithmic; the mean over seeds is then the geometric one.
        percent: whether fractions, at most 1, are shown as percentages.
        reference: where to draw a thin level line.
    """

    label: str = field(kw_only=False)
    log: bool = False
    percent: bool = False
    reference: float | None = None


@dataclass(frozen=True)
class Panel(Scaled):
    """One panel of metrics against epoch: what is drawn in it.

    Attributes:
        series: what is drawn, each loss once a series.
        transform: rows (loss, seed, epoch, value) -> the same rows with other values, before averaging.
        name: what the transformed metric is called in the table; the metric's own key by default.
    """

    series: tuple[Series, ...]
    transform: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    name: str | None = None


def draw_curves(
    inputs: FigureInputs,
    panels: Sequence[Panel],
    columns: int,
    strokes: Mapping[str, str],
    height: float,
    until: int | None = None,
    marks: Mapping[str, float] | None = None,
    log_epochs: bool = False,
    remarks: Sequence[str] = (),
) -> Drawing:
    """Draw each panel's metrics against epoch.

    Args:
        inputs: what to draw from.
        panels: left to right, then down.
        columns: panels in a row.
        strokes: stroke -> its name in the legend, solid first; one alone needs no legend.
        height: of the panels, inches.
        until: the last epoch shown; all by default.
        marks: loss -> an epoch at which a dotted upright in its colour stands in each panel.
        log_epochs: a logarithmic axis of epochs, for what happens early; epoch 0 has no place on it.
        remarks: sentences for the notes below the panels.

    Returns:
        the figure and a table with columns panel, metric, split, loss, epoch, average (arithmetic or geometric), mean,
        low, high, seeds, left_out; `panel` counts from 1.
    """
    figure, grid = style.page(-(-len(panels) // columns), columns, height, sharex=True)
    dashes = dict(zip(strokes, style.STROKES, strict=False))
    tables, left_out, cut, hidden = [], [], False, False
    for number, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False), start=1):
        drawn = []
        for series in panel.series:
            rows = inputs.select(series.metric, series.split)
            rows = rows if until is None else rows[rows["epoch"] <= until]
            hidden |= log_epochs and bool((rows["epoch"] == 0).any())
            rows = rows[rows["epoch"] > 0] if log_epochs else rows
            rows = panel.transform(rows) if panel.transform else rows
            name = panel.name or series.metric
            left_out += omissions(inputs, rows, f"{name} ({series.split})", panel.log)
            table = over_seeds(rows, panel.log)
            _draw_losses(inputs, axes, table, dashes[series.stroke])
            key: dict[str, Any] = {"panel": number, "metric": name, "split": series.split}
            drawn.append(
                table.assign(**key, average="geometric" if panel.log else "arithmetic")[
                    [*key, "loss", "epoch", "average", "mean", "low", "high", "seeds", "left_out"]
                ]
            )
        cut |= finish_panel(axes, panel, pd.concat(drawn))
        for loss, epoch in (marks or {}).items():
            axes.axvline(epoch, color=inputs.colours[loss], linestyle=":", linewidth=1.0, alpha=0.8, zorder=1)
        tables += drawn
    for axes in grid[-1]:
        style.epoch_axis(axes)
        if log_epochs and (epochs := [epoch for table in tables for epoch in table["epoch"]]):
            axes.set_xlim(min(epochs) / 1.1, 1.1 * max(epochs))
            style.log_axis(axes.xaxis)
    keys = style.markers(inputs.losses)
    handles = [style.loss_key(inputs.labels[loss], inputs.colours[loss], keys[loss]) for loss in inputs.losses]
    if len(strokes) > 1:
        handles += [style.stroke_key(text, dashes[stroke]) for stroke, text in strokes.items()]
    style.legend(figure, handles)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            interval_note(inputs, "Line", "band", "on log axes" if any(panel.log for panel in panels) else ""),
            "Bands are cut at the panels' edges" if cut else "",
            "Epoch 0 has no place on the log axis" if hidden else "",
            *remarks,
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    return Drawing(figure, pd.concat(tables, ignore_index=True))


def _draw_losses(inputs: FigureInputs, axes: Axes, table: pd.DataFrame, dashes: object) -> None:
    for loss, marker in style.markers(inputs.losses).items():
        own = table[table["loss"] == loss]
        if own["mean"].notna().any():
            style.mean_and_band(axes, own, inputs.colours[loss], marker, dashes)


def finish_panel(axes: Axes, panel: Scaled, drawn: pd.DataFrame, margin: float = 0.05) -> bool:
    """Scale and label a panel by the columns mean, low and high; True where an interval is cut at its edge."""
    axes.set_ylabel(panel.label)
    if drawn["mean"].notna().sum() == 0:
        style.empty_panel(axes, "no finite values")
        return False
    shown = drawn[["mean", "low", "high"]]
    if panel.reference is not None:
        axes.axhline(panel.reference, color=style.FAINT, linewidth=0.8, zorder=1)
        shown = pd.concat([shown, pd.DataFrame({"mean": [panel.reference]})])
    cut = style.fit_to_means(axes.yaxis, shown, panel.log, margin=margin, most=1.0 if panel.percent else np.inf)
    if panel.log:
        style.log_axis(axes.yaxis)
    if panel.percent:
        style.percent_axis(axes.yaxis)
    return cut
