"""Metrics against epoch: a line for each loss, the mean over seeds, with its interval or with the seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nclens.figures import style
from nclens.figures.findings import last_values
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    can_be_drawn,
    centre,
    interval,
    interval_note,
    means_of,
    omissions,
    range_of,
    seeds_note,
    with_seeds,
)

EARLY = 5
"""A panel in which nothing can be seen after this epoch has an inset, of trainings at least five times as long: in a
shorter one it would cover the epochs before."""


@dataclass(frozen=True)
class Series:
    """One metric on one split; `key` tells series of one panel apart, by line style."""

    metric: str
    split: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """The vertical axis of a panel.

    Attributes:
        label: of the axis, with the unit.
        log: whether the axis is logarithmic; the mean over seeds is then the geometric one.
        percent: whether fractions, at most 1, are shown as percentages.
        reference: where to draw a thin horizontal line.
    """

    label: str = field(kw_only=False)
    log: bool = False
    percent: bool = False
    reference: float | None = None


@dataclass(frozen=True)
class Panel(Scaled):
    """One panel of metrics against epoch.

    Attributes:
        series: what is drawn, once for each loss.
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
    legend: Mapping[str, str],
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
        legend: key of a series -> its name in the legend, solid line first; one alone is not listed.
        height: of the panels, inches.
        until: the last epoch shown; all by default.
        marks: loss -> an epoch that a dotted vertical line in its colour marks in each panel.
        log_epochs: whether the axis of epochs is logarithmic, which leaves out epoch 0.
        remarks: sentences for the notes below the panels.

    Returns:
        the figure and a table with columns panel, metric, split, loss, epoch, average (arithmetic or geometric), seed,
        mean, low, high, seeds, left_out, as `with_seeds` has them; `panel` counts from 1.
    """
    figure, grid = style.page(-(-len(panels) // columns), columns, height, sharex=True)
    line_styles, keys = dict(zip(legend, style.LINE_STYLES, strict=False)), style.markers(inputs.losses)
    tables, left_out, cut, clipped, hidden = [], [], False, False, False
    for number, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False), start=1):
        drawn: list[pd.DataFrame] = []
        shown: list[Lines] = []
        for series in panel.series:
            rows = inputs.select(series.metric, series.split)
            rows = rows if until is None else rows[rows["epoch"] <= until]
            hidden |= log_epochs and bool((rows["epoch"] == 0).any())
            rows = rows[rows["epoch"] > 0] if log_epochs else rows
            rows = panel.transform(rows) if panel.transform else rows
            name = panel.name or series.metric
            left_out += omissions(inputs, rows, f"{name} ({series.split})", panel.log)
            table = with_seeds(rows, panel.log)
            within = (-np.inf, np.inf) if panel.transform else range_of(name, panel.percent)
            draw_lines(axes, inputs, rows, table, panel.log, line_styles[series.key], keys, within)
            shown.append((rows, table, line_styles[series.key], within))
            clipped |= bool((table["low"] < within[0]).any() or (table["high"] > within[1]).any())
            key: dict[str, Any] = {"panel": number, "metric": name, "split": series.split}
            drawn.append(
                table.assign(**key, average="geometric" if panel.log else "arithmetic")[
                    [*key, "loss", "epoch", "average", "seed", "mean", "low", "high", "seeds", "left_out"]
                ]
            )
        cut |= finish_panel(axes, panel, pd.concat(drawn), within=_widest([ends for *_, ends in shown]))
        if until is None and not log_epochs:
            _later(axes, inputs, panel, shown, keys)
        for loss, epoch in (marks or {}).items():
            axes.axvline(epoch, color=inputs.colours[loss], linestyle=":", linewidth=1.0, alpha=0.8, zorder=1)
        tables += drawn
    for axes in grid[-1]:
        style.epoch_axis(axes)
        if log_epochs and (epochs := [epoch for table in tables for epoch in table["epoch"]]):
            axes.set_xlim(min(epochs) / 1.1, 1.1 * max(epochs))
            style.log_axis(axes.xaxis)
    table = pd.concat(tables, ignore_index=True)
    handles = [style.loss_key(inputs.labels[loss], inputs.colours[loss], keys[loss]) for loss in inputs.losses]
    if len(legend) > 1:
        handles += [style.line_style_key(text, line_styles[key]) for key, text in legend.items()]
    style.legend(figure, handles)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            line_note(inputs, table, "on log axes" if any(panel.log for panel in panels) else ""),
            "Bands are cut at the panels' edges" if cut else "",
            "Bands end at the measure's range" if clipped else "",
            "Epoch 0 is not on the log axis" if hidden else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
            *remarks,
        ],
    )
    figure.finding = last_values(inputs, table)
    return Drawing(figure, table)


Lines = tuple[pd.DataFrame, pd.DataFrame, Any, tuple[float, float]]
"""What a panel's lines are drawn from: rows, `with_seeds` of them, the line style, the range of the metric."""


def _later(axes: Axes, inputs: FigureInputs, panel: Panel, lines: Sequence[Lines], markers: Mapping[str, str]) -> None:
    """Draw what follows epoch `EARLY` on an axis of its own, in a corner of a panel that shows nothing of it."""
    means = pd.concat([means for _, means, *_ in lines])
    later = means.loc[(means["epoch"] > EARLY) & means["mean"].notna(), "mean"]
    low, high = axes.get_ylim()
    early = ((means["epoch"] <= EARLY) & means["mean"].notna()).any()
    short = means["epoch"].max() < 5 * EARLY
    if panel.log or short or not early or len(later) < 3 or later.max() - later.min() > 0.25 * (high - low):
        return
    below = later.mean() < (low + high) / 2
    inset = axes.inset_axes((0.36, 0.4 if below else 0.12, 0.62, 0.5))
    for rows, table, line_style, within in lines:
        chosen = [part[part["epoch"] > EARLY] for part in (rows, table)]
        draw_lines(inset, inputs, chosen[0], chosen[1], False, line_style, markers, within)
    style.fit_to_means(inset.yaxis, means[means["epoch"] > EARLY], room=1.0)
    if panel.percent:
        style.percent_axis(inset.yaxis)
    style.inset(inset, f"from epoch {int(means.loc[means['epoch'] > EARLY, 'epoch'].min())}")


def _widest(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def draw_lines(
    axes: Axes,
    inputs: FigureInputs,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    log: bool = False,
    line_style: Any = "-",
    markers: Mapping[str, str] | None = None,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    """Draw each loss's mean over seeds as a line against epoch, with its interval as a band, or with its seeds' lines.

    Args:
        axes: the panel; its scale is set afterwards.
        inputs: order and colours of the losses.
        rows: columns loss, seed, epoch, value.
        table: `with_seeds` of the rows.
        log: as given to `with_seeds`.
        line_style: of all lines.
        markers: loss -> marker; with many epochs only some points are marked. Without them no point is.
        within: the range of the metric, which bands do not leave.
    """
    means = means_of(table)
    # Seaborn joins the points that there are; a line has to end where a mean is missing.
    stretch = means["mean"].isna().groupby(means["loss"], sort=False).cumsum()
    stretches = means[["loss", "epoch"]].assign(stretch=means["loss"].astype(str) + "/" + stretch.astype(str))
    drawn = rows[can_be_drawn(rows["value"], log)].merge(stretches, on=["loss", "epoch"])
    if drawn.empty:
        return
    loss_of = drawn.drop_duplicates("stretch").set_index("stretch")["loss"]
    marks = (markers or {}).get
    few = drawn.groupby("loss")["epoch"].nunique().max() <= 20
    sns.lineplot(
        drawn,
        x="epoch",
        y="value",
        hue="loss",
        hue_order=[loss for loss in inputs.losses if (drawn["loss"] == loss).any()],
        palette=dict(inputs.colours),
        style="stretch",
        dashes=dict.fromkeys(loss_of.index, "" if line_style == "-" else line_style[1]),
        markers={key: marks(str(loss), "") for key, loss in loss_of.items()} if markers else False,
        markeredgecolor=style.GROUND,
        markeredgewidth=0.4,
        markevery=1 if few else 0.07,  # of the panel's diagonal
        estimator=partial(centre, log=log),
        errorbar=partial(interval, log=log, least=within[0], most=within[1]) if means["low"].notna().any() else None,
        err_kws={"alpha": 0.16, "linewidth": 0},
        legend=False,
        ax=axes,
    )
    style.clear_labels(axes)
    draw_seeds(axes, inputs, table, line_style)


def draw_seeds(axes: Axes, inputs: FigureInputs, table: pd.DataFrame, line_style: Any = "-", x: str = "epoch") -> None:
    """Draw the seeds of a table as thin lines in the colour of their loss; a line ends where a value is missing."""
    for (loss, _), own in table[table["seed"].notna()].groupby(["loss", "seed"], sort=False):
        axes.plot(own[x], own["mean"], color=inputs.colours[str(loss)], linestyle=line_style, **style.SEED_LINE)


def line_note(inputs: FigureInputs, table: pd.DataFrame, geometric: str = "") -> str:
    """Meaning of the lines of `draw_lines`, as `interval_note` has it."""
    return interval_note(inputs, table, "Line", "band", "thin lines", geometric)


def finish_panel(
    axes: Axes,
    panel: Scaled,
    drawn: pd.DataFrame,
    margin: float = 0.05,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> bool:
    """Scale and label a panel by the columns mean, low and high; True where an interval is cut at its edge."""
    axes.set_ylabel(panel.label)
    if drawn["mean"].notna().sum() == 0:
        style.empty_panel(axes, "no finite values")
        return False
    shown = drawn[["mean", "low", "high"]]
    if panel.reference is not None:
        axes.axhline(panel.reference, color=style.FAINT, linewidth=0.8, zorder=1)
        shown = pd.concat([shown, pd.DataFrame({"mean": [panel.reference]})])
    most = min(within[1], 1.0) if panel.percent else within[1]
    cut = style.fit_to_means(axes.yaxis, shown, panel.log, margin=margin, least=within[0], most=most)
    if panel.log:
        style.log_axis(axes.yaxis)
    if panel.percent:
        style.percent_axis(axes.yaxis)
    return cut
