"""Metrics of trained networks, one row per loss: seeds as small dots, their mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.findings import last_values
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    can_be_drawn,
    centre,
    interval,
    interval_note,
    joined_with,
    omissions,
    over_seeds,
    range_of,
    seed_values,
    seeds_note,
)


@dataclass(frozen=True)
class Dots:
    """One metric on one split, as filled or as hollow dots."""

    metric: str
    split: str
    hollow: bool = False


@dataclass(frozen=True)
class DotPanel:
    """One panel and its axis.

    Attributes:
        label: of the horizontal axis, with the unit.
        dots: what is drawn; the first one uppermost.
        percent: whether fractions, at most 1, are shown as percentages.
        reference: where to draw a thin vertical line.
    """

    label: str
    dots: tuple[Dots, ...]
    percent: bool = False
    reference: float | None = None


def draw_dots(
    inputs: FigureInputs, panels: Sequence[DotPanel], names: Mapping[bool, str], remarks: Sequence[str]
) -> Drawing:
    """Draw each panel's metrics at the last epoch, one row per loss.

    Args:
        inputs: what to draw from.
        panels: left to right.
        names: meaning of hollow (True) and filled (False) dots where a panel has both; else empty.
        remarks: sentences for the notes below the panels.

    Returns:
        the figure and a table with columns metric, split, loss, epoch, seed, mean, low, high, seeds, left_out, as
        `with_seeds` has them, with the seeds of every loss.
    """
    figure, grid = style.page(1, len(panels), 0.8 + 0.36 * len(inputs.losses), sharey=True)
    tables, left_out, cut = [], [], False
    for panel, axes in zip(panels, grid.flat, strict=True):
        drawn = []
        for place, dots in enumerate(panel.dots):
            rows = inputs.select(dots.metric, dots.split, inputs.last_epoch)
            left_out += omissions(inputs, rows, f"{dots.metric} ({dots.split})")
            seeds = rows[can_be_drawn(rows["value"])]
            table = joined_with(over_seeds(rows), seed_values(seeds, inputs.losses))
            table = table.assign(metric=dots.metric, split=dots.split)
            shift = 0.0 if len(panel.dots) == 1 else (place / (len(panel.dots) - 1) - 0.5) * 0.4
            _draw_rows(axes, inputs, seeds, shift, dots.hollow, range_of(dots.metric, panel.percent))
            drawn.append(
                table[["metric", "split", "loss", "epoch", "seed", "mean", "low", "high", "seeds", "left_out"]]
            )
        style.clear_labels(axes)
        axes.set_xlabel(panel.label)
        if panel.percent:
            style.percent_axis(axes.xaxis)
        cut |= _finish_panel(axes, panel, pd.concat(drawn))
        tables += drawn
    loss_rows(grid, inputs)
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 5, "color": style.FAINT}
    fills = {True: style.GROUND, False: style.FAINT}
    keys = [Line2D([], [], markerfacecolor=fills[hollow], label=name, **look) for hollow, name in names.items()]
    if keys:
        style.legend(figure, keys)
    table = pd.concat(tables, ignore_index=True)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            interval_note(inputs, table, "Large dot", "bar"),
            "Small dots below: seeds" if any(len(inputs.seeds(loss)) > 1 for loss in inputs.losses) else "",
            "Bars are cut at the panels' edges" if cut else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
            *remarks,
        ],
    )
    figure.finding = last_values(inputs, table)
    return Drawing(figure, table)


def loss_rows(grid: np.ndarray, inputs: FigureInputs) -> None:
    """Name the rows of panels that share them after the losses, the first one uppermost."""
    grid.flat[0].set_yticks(range(len(inputs.losses)), [inputs.labels[loss] for loss in inputs.losses])
    grid.flat[0].set_ylim(len(inputs.losses) - 0.5, -0.5)
    for axes in grid.flat:
        axes.tick_params(axis="y", length=0)


def _draw_rows(
    axes: Axes, inputs: FigureInputs, seeds: pd.DataFrame, shift: float, hollow: bool, within: tuple[float, float]
) -> None:
    """The mean and interval of each loss in its row, and below them the seeds where there are several."""
    if seeds.empty:
        return
    place = seeds["loss"].map({loss: row + shift for row, loss in enumerate(inputs.losses)}).astype(float)
    losses = [loss for loss in inputs.losses if (seeds["loss"] == loss).any()]
    look: dict[str, Any] = {"hue_order": losses, "palette": dict(inputs.colours), "legend": False, "ax": axes}
    several = seeds.groupby("loss", sort=False)["seed"].transform("size") > 1
    if several.any():
        sns.scatterplot(seeds[several], x="value", y=place[several] + 0.13, hue="loss", s=5, linewidth=0, **look)
    sns.pointplot(
        seeds,
        x="value",
        y=place,
        hue="loss",
        orient="y",
        native_scale=True,
        estimator=centre,
        errorbar=partial(interval, least=within[0], most=within[1]) if several.any() else None,
        linestyle="none",
        markersize=5.8,
        markeredgewidth=1,
        **({"markerfacecolor": style.GROUND} if hollow else {}),
        err_kws={"linewidth": 1.2, "alpha": 0.7, "zorder": 2.5},
        zorder=3,
        **look,
    )


def _finish_panel(axes: Axes, panel: DotPanel, drawn: pd.DataFrame) -> bool:
    """Scale a panel; True where an interval is cut at its edge."""
    if drawn["mean"].notna().sum() == 0:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=style.FAINT)
        axes.set_xticks([])
        return False
    shown = drawn[["mean", "low", "high"]]
    if panel.reference is not None:
        axes.axvline(panel.reference, color=style.FAINT, linewidth=0.8, zorder=1)
        shown = pd.concat([shown, pd.DataFrame({"mean": [panel.reference]})])
    axes.grid(axis="y", visible=False)
    ranges = [range_of(dots.metric, panel.percent) for dots in panel.dots]
    least, most = min(low for low, _ in ranges), max(high for _, high in ranges)
    return style.fit_to_means(axes.xaxis, shown, room=1.5, margin=0.1, least=least, most=most)
