"""What becomes of a class, against the number of its training samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nclens.figures import style
from nclens.figures.curves import draw_seeds
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    can_be_drawn,
    centre,
    interval,
    interval_note,
    omissions,
    over_seeds,
    seeds_note,
    with_seeds,
)

MOST_SIZES = 12
"""More sizes than these, as tokens have, are divided into so many ranges, alike on the log axis."""
COLUMNS = ["metric", "split", "loss", "samples", "seed", "mean", "low", "high", "seeds", "left_out"]


class _Panel(NamedTuple):
    metric: str
    split: str
    label: str
    log: bool = False
    percent: bool = False


PANELS = (
    _Panel("accuracy", "test", "test accuracy (%)", percent=True),
    _Panel("nc1", "train", "NC1 of the class, training set", log=True),
    _Panel("classifier_norm", "train", "norm of the classifier\n" r"$\Vert w_k\Vert$"),
    _Panel("classifier_cosine", "train", "mean cosine with the\nother classifiers"),
)


@style.look()
def class_size(inputs: FigureInputs) -> Drawing:
    """Accuracy, NC1, classifier norm and angle of each class after the last epoch, against its training samples.

    Classes of one size are one point, their mean in each seed; of more than `MOST_SIZES` sizes, those of a range of
    sizes, at the geometric mean of its classes' sizes.
    """
    figure, grid = style.page(2, 2, 5.2, sharex=True)
    counts = _by_class(inputs, "train_count", "train").groupby("class")["value"].first()
    sizes = _in_ranges(counts)
    alike = "one size" if sizes.equals(counts) else "similar size"
    tables, left_out = [], []
    for panel, axes in zip(PANELS, grid.flat, strict=True):
        rows = _of_sizes(_by_class(inputs, panel.metric, panel.split), sizes)
        left_out += omissions(inputs, rows, f"{panel.metric} ({panel.split})", panel.log)
        table = with_seeds(rows, panel.log).rename(columns={"epoch": "samples"})
        _draw(axes, inputs, rows, panel, table)
        tables.append(table.assign(metric=panel.metric, split=panel.split)[COLUMNS])
    for axes in grid[-1]:
        axes.set_xlabel("training samples of the class")
    marks = style.markers(inputs.losses)
    style.legend(
        figure, [style.loss_key(inputs.labels[loss], inputs.colours[loss], marks[loss]) for loss in inputs.losses]
    )
    minority = over_seeds(inputs.select("minority_collapse", "train", inputs.last_epoch)).set_index("loss")["mean"]
    cosines = [f"{inputs.labels[loss]} {minority[loss]:.2f}" for loss in inputs.losses if loss in minority.index]
    table = pd.concat(tables, ignore_index=True)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}; classes of {alike} are averaged",
            interval_note(inputs, table, "Line", "bars", "thin lines", "on log axes"),
            "Mean cosine among the minority's classifiers, 1 at minority collapse: " + ", ".join(cosines)
            if cosines
            else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    figure.finding = joined([phrase("Mean cosine among the minority's classifiers", compared(inputs, minority))])
    return Drawing(figure, table)


def _by_class(inputs: FigureInputs, metric: str, split: str) -> pd.DataFrame:
    """Rows loss, seed, class, value of a metric of each class at the last epoch."""
    pattern = rf"{metric}_class_(\d+)"
    names = inputs.metrics.loc[inputs.metrics["epoch"] == inputs.last_epoch, "metric"].astype(str).unique()
    numbers = pd.Series(names).str.fullmatch(pattern)
    parts = [
        inputs.select(name, split, inputs.last_epoch).assign(**{"class": int(name.rpartition("_")[2])})
        for name in pd.Series(names)[numbers]
    ]
    columns = {"loss": object, "seed": int, "epoch": float, "value": float, "class": int}
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns)).astype(columns)


def _in_ranges(counts: pd.Series) -> pd.Series:
    """The size that each class is drawn at: its own, or that of its range where there are many."""
    if counts.nunique() <= MOST_SIZES:
        return counts
    logs = np.log(counts)
    width = (logs.max() - logs.min()) / MOST_SIZES
    ranges = ((logs - logs.min()) / width).astype(int).clip(upper=MOST_SIZES - 1)
    return np.exp(logs.groupby(ranges).transform("mean"))


def _of_sizes(rows: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """Rows loss, seed, epoch, value: a mean over the classes of each size, which is in the column `epoch`."""
    known = rows.assign(epoch=rows["class"].map(sizes))
    groups = known.groupby(["loss", "epoch", "seed"], sort=False)["value"]
    return groups.mean().reset_index().sort_values(["epoch", "seed"], kind="stable").reset_index(drop=True)


def _draw(axes: Axes, inputs: FigureInputs, rows: pd.DataFrame, panel: _Panel, table: pd.DataFrame) -> None:
    marks = style.markers(inputs.losses)
    for loss in inputs.losses:
        own = rows[(rows["loss"] == loss) & can_be_drawn(rows["value"].astype(float), panel.log)]
        if own.empty:
            continue
        sns.lineplot(
            x=own["epoch"].astype(float),
            y=own["value"].astype(float),
            estimator=lambda values: centre(values, panel.log),
            errorbar=lambda values: interval(values, panel.log),
            err_style="bars",
            err_kws={"elinewidth": 1.0},
            color=inputs.colours[loss],
            marker=marks[loss],
            markersize=4.5,
            markeredgecolor=inputs.colours[loss],
            ax=axes,
        )
    draw_seeds(axes, inputs, table, x="samples")
    style.clear_labels(axes)
    axes.set_ylabel(panel.label)
    if rows.empty or math.isnan(rows["epoch"].max()):
        style.empty_panel(axes, "no classes of different size")
        return
    axes.set_xscale("log")
    style.log_axis(axes.xaxis)
    if panel.log:
        axes.set_yscale("log")
        style.log_axis(axes.yaxis)
    if panel.percent:
        style.percent_axis(axes.yaxis)
