"""The figures of "Cross Entropy versus Label Smoothing: A Neural Collapse Perspective" (arXiv 2402.03979).

The figures follow the scripts of the authors' release and have the numbers of our own list, which may differ from
print. NC1 is `nc1`, the paper's equation (4) (the release plots K times it, `nc1_sum`); NC2 is `nc2`, which the paper
plots; NC3 is `nc3`, the paper's equation (6) (the release plots its square). All are means over seeds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.findings import compared, joined, name_of, phrase
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    interval_note,
    joined_with,
    means_of,
    omissions,
    over_seeds,
    range_of,
    seed_values,
    seeds_note,
    with_few_seeds,
)
from nclens.figures.nc0 import FLOOR, FLOOR_LABEL, with_nc3_floor
from nclens.figures.per_loss import DotPanel, Dots, draw_dots
from nclens.figures.printing import points
from nclens.metrics.catalogue import SPLITS

NC1 = r"NC1 = tr$(S_W S_B^{+})\,/\,K$"
NC2 = r"NC2 = $\Vert\,\mathrm{nrm}(WM^{T}) - E\,\Vert_F$"
NC3 = r"NC3 = $\Vert\,\mathrm{nrm}(W) - \mathrm{nrm}(M)\,\Vert_F$"

LOSS_FLOOR = 1e-3
"""Added to loss - min, in nats, so that a log axis can show the epoch of the minimum."""

COLLAPSE_PANELS = (
    Panel("error (%)", (Series("error", "train", "train"), Series("error", "test", "test")), percent=True),
    Panel(NC1, (Series("nc1", "train", "train"),), log=True),
    Panel(NC2, (Series("nc2", "train", "train"),)),
    Panel(NC3, (Series("nc3", "train", "train"),)),
)
METRICS = ("nc1", "nc2")


@style.look()
def collapse_curves(inputs: FigureInputs) -> Drawing:
    """Training and test error, NC1 (log), NC2 and NC3 on the training set, against epoch (figure 1).

    The panel of NC3 has the floor that NC0 sets under it, for the class means are centred by their own mean. A loss
    whose training set lacks samples of a class has none.
    """
    shown = {series.metric for panel in COLLAPSE_PANELS for series in panel.series}
    floored = with_nc3_floor(inputs, shown)
    if floored is None:
        return draw_curves(inputs, COLLAPSE_PANELS, columns=2, legend=SPLITS, height=4.5)
    *others, nc3 = COLLAPSE_PANELS
    panels = [*others, replace(nc3, series=(*nc3.series, Series(FLOOR, "train", FLOOR)))]
    return draw_curves(floored, panels, columns=2, legend={**SPLITS, FLOOR: FLOOR_LABEL}, height=4.5)


@style.look()
def first_epochs(inputs: FigureInputs) -> Drawing:
    """The curves of `collapse_curves` in the first epochs (figure 11).

    The window is ours: the first tenth of the training, and at least the first five snapshots.
    """
    epochs = np.unique(inputs.metrics.loc[inputs.metrics["metric"] == "nc1", "epoch"])
    until = max(inputs.last_epoch // 10, int(epochs[:5].max(initial=1)))
    remarks = [f"Shown: epochs up to {until} of {inputs.last_epoch}"]
    return draw_curves(inputs, COLLAPSE_PANELS, columns=2, legend=SPLITS, height=4.5, until=until, remarks=remarks)


@style.look()
def train_test(inputs: FigureInputs) -> Drawing:
    """NC1 (log), NC2 and NC3 on the training set and on the test set, against epoch (figure 12).

    The class means are those of the set that is measured.
    """
    panels = [
        Panel(label, (Series(metric, "train", "train"), Series(metric, "test", "test")), log=metric == "nc1")
        for metric, label in (("nc1", NC1), ("nc2", NC2), ("nc3", NC3))
    ]
    remarks = ["The class means are those of the set that is measured"]
    return draw_curves(inputs, panels, columns=3, legend=SPLITS, height=2.5, remarks=remarks)


@style.look()
def training_loss(inputs: FigureInputs) -> Drawing:
    """Training loss, and loss - min + ε on a log axis, against epoch (figure 3).

    The loss is the training objective, averaged over the batches of the epoch in training mode; the minimum is over the
    epochs of the run. ε is `LOSS_FLOOR`; the paper does not give its value.
    """
    series = (Series("epoch_loss", "train", "train"),)
    panels = [
        Panel("training loss (nats)", series),
        Panel(
            r"loss $-$ min + $\epsilon$ (nats)",
            series,
            log=True,
            transform=above_minimum,
            name="epoch_loss_above_minimum",
        ),
    ]
    remarks = [
        "Loss: training objective, mean over the batches of the epoch in training mode; min: over the epochs of the "
        rf"run; $\epsilon$ = {LOSS_FLOOR:g} nats"
    ]
    return draw_curves(inputs, panels, columns=2, legend={"train": "training set"}, height=2.5, remarks=remarks)


def above_minimum(rows: pd.DataFrame) -> pd.DataFrame:
    """loss - min + ε with the minimum over the finite values of the same loss and seed, ε = `LOSS_FLOOR`.

    Args:
        rows: columns loss, seed, epoch, value.
    """
    finite = rows["value"].where(np.isfinite(rows["value"]))
    least = finite.groupby([rows["loss"], rows["seed"]]).transform("min")
    return rows.assign(value=rows["value"] - least + LOSS_FLOOR)


@style.look()
def correct_incorrect(inputs: FigureInputs) -> Drawing:
    """Test loss, entropy and NC1 of correctly and of incorrectly classified samples, against epoch (figure 8)."""
    legend = {"correct": "correctly classified", "incorrect": "incorrectly classified"}
    panels = [
        Panel(label, tuple(Series(f"{metric}_{part}", "test", part) for part in legend), log=log)
        for metric, label, log in (
            ("nll", "test cross entropy (nats)", True),
            ("entropy", "test entropy (nats)", False),
            ("nc1", "test " + NC1, True),
        )
    ]
    remarks = [
        "NC1 of each part: scatter about the class means of the whole test set, relative to the $S_B$ of that set"
    ]
    return draw_curves(inputs, panels, columns=3, legend=legend, height=2.5, remarks=remarks)


@style.look()
def nc1_nc2(inputs: FigureInputs) -> Drawing:
    """NC2 against NC1 on the training set, one point per epoch, coloured by test error (figure 2).

    One panel per loss with the same axes; the baseline's path is repeated in the others, so that NC2 can be compared at
    the same NC1. NC1 is averaged geometrically over seeds, NC2 and the test error arithmetically.
    """
    table, left_out = _nc1_nc2_table(inputs)
    columns = min(len(inputs.losses), 3)
    rows = -(-len(inputs.losses) // columns)
    figure, grid = style.page(rows, columns, 0.7 + (2.6 if columns < 3 else 2.0) * rows, sharex=True, sharey=True)
    # Most epochs have a small error: the root spreads their colours.
    shade = ScalarMappable(PowerNorm(0.5, table["error_mean"].min(), table["error_mean"].max()), "viridis")
    marks = style.markers(inputs.losses)
    for place, (loss, axes) in enumerate(zip(inputs.losses, grid.flat, strict=False)):
        lowest = place + columns >= len(inputs.losses)
        axes.set_title(inputs.labels[loss])
        if inputs.baseline not in (None, loss):
            base = means_of(table[table["loss"] == inputs.baseline])
            dotted = {"color": inputs.colours[str(inputs.baseline)], "linestyle": ":"}
            sns.lineplot(base, x="nc1_mean", y="nc2_mean", sort=False, estimator=None, ax=axes, **dotted)
        _path(axes, table[table["loss"] == loss], inputs.colours[loss], marks[loss], shade)
        style.clear_labels(axes)
        axes.set(xlabel=NC1 if lowest else "", ylabel=NC2 if place % columns == 0 else "")
        axes.tick_params(labelbottom=lowest)
    for axes in grid.flat[len(inputs.losses) :]:
        axes.set_visible(False)
    cut = _fit_nc1_nc2(grid[0, 0], table)
    if table["error_mean"].notna().any():
        bar = figure.colorbar(shade, ax=grid, location="bottom", shrink=0.5, aspect=35, label="test error (%)")
        style.percent_axis(bar.ax.xaxis)
    means = means_of(table)
    last = means.drop_duplicates("loss", keep="last").set_index("loss")
    figure.finding = joined(
        [
            "At the last epoch",
            *(phrase(name_of(key, "train"), compared(inputs, last[f"{key}_mean"])) for key in METRICS),
        ]
    )
    ghost = None if inputs.baseline is None or len(inputs.losses) == 1 else inputs.labels[inputs.baseline]
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            interval_note(
                inputs,
                table.rename(columns={"nc1_low": "low", "nc1_seeds": "seeds"}),
                "Points, one per epoch",
                "thin lines",
                "thin paths",
                "for NC1",
            ),
            "Lines are cut at the panels' edges" if cut else "",
            "Hollow: no test error" if means["error_mean"].isna().any() else "",
            f"Dotted: path of {ghost}" if ghost else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    return Drawing(figure, table)


def _fit_nc1_nc2(axes: Axes, table: pd.DataFrame) -> bool:
    """Set both axes, shared by all panels; True where an interval is cut at an edge."""
    cut = False
    for metric, axis in (("nc1", axes.xaxis), ("nc2", axes.yaxis)):
        columns = {f"{metric}_{column}": column for column in ("mean", "low", "high")}
        span = table[list(columns)].rename(columns=columns)
        if span["mean"].isna().all():
            return cut
        cut |= style.fit_to_means(axis, span, log=metric == "nc1", room=0.15, margin=0.12)
    style.log_axis(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(5))  # not by the panels' height, which the labels change
    return cut


def _nc1_nc2_table(inputs: FigureInputs) -> tuple[pd.DataFrame, list[str]]:
    """One row per loss and epoch, columns {nc1,nc2,error}_{mean,low,high,seeds,left_out}; and what cannot be drawn.

    The seeds of losses that have too few for an interval follow, each with its NC1 and NC2.
    """
    parts, values, left_out = [], {}, []
    for metric, split, log in (("nc1", "train", True), ("nc2", "train", False), ("error", "test", False)):
        rows = inputs.select(metric, split)
        left_out += omissions(inputs, rows, f"{metric} ({split})", log)
        parts.append(over_seeds(rows, log).set_index(["loss", "epoch"]).add_prefix(f"{metric}_"))
        values[metric] = seed_values(rows, inputs.losses, log).rename(columns={"mean": f"{metric}_mean"})
    # The test error is measured at more epochs than are shown; a point without an error is hollow.
    table = parts[0].join(parts[1], how="outer").join(parts[2], how="left").reset_index()
    rank = table["loss"].map({loss: place for place, loss in enumerate(inputs.losses)})
    table = table.assign(rank=rank).sort_values(["rank", "epoch"]).drop(columns="rank").reset_index(drop=True)
    few = {loss for metric in METRICS for loss in with_few_seeds(table.rename(columns={f"{metric}_seeds": "seeds"}))}
    seeds = values["nc1"].merge(values["nc2"], on=["loss", "epoch", "seed"])
    seeds = seeds[seeds["loss"].isin(few)].sort_values("epoch", kind="stable")
    return joined_with(table, seeds), left_out


def _path(axes: Axes, own: pd.DataFrame, colour: str, marker: str, shade: ScalarMappable) -> None:
    """One loss's epochs as a path of points, first and last epoch named."""
    for _, seed in own[own["seed"].notna()].groupby("seed"):
        axes.plot(seed["nc1_mean"], seed["nc2_mean"], color=colour, **style.SEED_LINE)
    own = means_of(own).dropna(subset=["nc1_mean", "nc2_mean"])
    if own.empty:
        style.empty_panel(axes, "no finite values")
        return
    x, y = own["nc1_mean"].to_numpy(), own["nc2_mean"].to_numpy()
    path: dict[str, Any] = {"data": own, "x": "nc1_mean", "y": "nc2_mean", "ax": axes}
    sns.lineplot(**path, sort=False, estimator=None, color=colour, linewidth=1, zorder=2)
    crowded = len(own) > 30
    fine: dict[str, Any] = {"color": colour, "linewidth": 0.6, "alpha": 0.15 if crowded else 0.35}
    bars = {key: own[[f"{key}_low", f"{key}_high"]].clip(*range_of(key)).to_numpy().T for key in METRICS}
    axes.hlines(y, bars["nc1"][0], bars["nc1"][1], **fine)
    axes.vlines(x, bars["nc2"][0], bars["nc2"][1], **fine)
    size, edge = (10, 0.25) if crowded else (26, 0.8)
    known = own["error_mean"].notna()
    look = path | {"s": size, "marker": marker, "edgecolor": colour, "linewidth": edge, "zorder": 3, "legend": False}
    if not known.all():
        sns.scatterplot(**look | {"data": own[~known]}, color=style.GROUND)
    if known.any():
        sns.scatterplot(**look | {"data": own[known]}, hue="error_mean", hue_norm=shade.norm, palette=shade.cmap)
        style.keep_colours(axes.collections[-1])
    # The path comes down from the upper right, so the free corners are left of its start and right of its end.
    ends = {0: ((-6, 4), "right")} | ({len(own) - 1: ((6, -9), "left")} if len(own) > 1 else {})
    for place, (offset, side) in ends.items():
        name = f"epoch {own['epoch'].iloc[place]}"
        text = axes.annotate(
            name, (x[place], y[place]), xytext=offset, textcoords="offset points", ha=side, size=points(7)
        )
        text.set_path_effects([withStroke(linewidth=2, foreground=style.GROUND)])


@style.look()
def norms(inputs: FigureInputs) -> Drawing:
    """Feature and classifier norm, temperature, ECE before and after scaling, at the last epoch (figure 7).

    The paper draws them against the smoothing; here each row is a loss. The temperature is fitted by NLL on held-out
    samples; both ECEs are of other test samples.
    """
    panels = (
        DotPanel("feature norm\n" r"mean$_k\ \Vert\bar h_k - h_G\Vert$", (Dots("feature_norm", "train"),)),
        DotPanel("classifier norm\n" r"mean$_k\ \Vert w_k\Vert$", (Dots("classifier_norm", "train"),)),
        DotPanel("optimal temperature\nT (1: no scaling)", (Dots("temperature", "test"),), reference=1.0),
        DotPanel(
            "ECE (%)\n15 bins",
            (Dots("ece_unscaled", "test", hollow=True), Dots("ece_scaled", "test")),
            percent=True,
        ),
    )
    return draw_dots(
        inputs,
        panels,
        names={True: "ECE before scaling", False: "after scaling"},
        remarks=[
            f"Epoch {inputs.last_epoch}, norms of the training set",
            f"T is fitted by NLL on {inputs.fitted_on}, both ECEs are of {inputs.scaled_part}",
        ],
    )
