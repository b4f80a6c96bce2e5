"""Trained networks against the smoothing δ of their training, and the prediction of the unconstrained feature model.

MaxSup at its strength α is shown beside label smoothing of the same δ. Points are means over seeds at the last epoch.
Lines are predictions that do not use the points they are compared with: the penalties are those of the training, or
fitted on the experiment's other smoothings. After figures 6 and 7 of arXiv 2402.03979, in our numbering.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.cross_entropy_vs_label_smoothing import NC1, NC2, NC3
from nclens.figures.curves import Scaled, finish_panel
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
from nclens.ufm.quantities import PREDICTED

LOOKS: dict[str, tuple[str, bool]] = {
    "training set": ("o", True),
    "test set": ("o", False),
    "after scaling": ("s", True),
    "before scaling": ("s", False),
}
"""Kind of point -> its marker, and whether it is filled."""

MAXSUP = "D"
"""The marker of every kind of point of MaxSup."""

SHIFT = 0.014
"""How far right of α the points of MaxSup are drawn, as a share of the axis: those of label smoothing stay readable."""

PENALTIES = {
    "explicit": ("UFM, the training's penalties", style.LINE_STYLES[0]),
    "effective": ("UFM, fitted on the other δ", style.LINE_STYLES[1]),
}
"""Kind of penalties in the table of predictions -> name and style of its line."""


@dataclass(frozen=True)
class Points:
    """One metric on one split, and the kind of its points, a key of `LOOKS`."""

    metric: str
    split: str
    look: str = "training set"


@dataclass(frozen=True)
class SweepPanel(Scaled):
    """One panel: what is drawn in it.

    Attributes:
        points: what is measured.
        predicted: the quantity in the table of predictions that belongs to the first of the points; None for none.
    """

    points: tuple[Points, ...]
    predicted: str | None = None


FEATURE_NORM = SweepPanel(
    r"feature norm  mean$_k\ \Vert\bar h_k - h_G\Vert$", (Points("feature_norm", "train"),), "feature_norm"
)
CLASSIFIER_NORM = SweepPanel(
    r"classifier norm  mean$_k\ \Vert w_k\Vert$", (Points("classifier_norm", "train"),), "weight_norm"
)


@style.look()
def smoothing_collapse(inputs: FigureInputs) -> Drawing:
    """NC1 (log), NC2 and NC3 on the training set, test error, and both norms with their prediction, against δ."""
    panels = (
        SweepPanel(NC1, (Points("nc1", "train"),), log=True),
        SweepPanel(NC2, (Points("nc2", "train"),)),
        SweepPanel(NC3, (Points("nc3", "train"),)),
        SweepPanel("error (%)", (Points("error", "test", "test set"),), percent=True),
        FEATURE_NORM,
        CLASSIFIER_NORM,
    )
    return draw_sweep(inputs, panels, columns=3, height=4.2)


@style.look()
def smoothing_calibration(inputs: FigureInputs) -> Drawing:
    """Logit gap (log) and confidence with their prediction, temperature, ECE before and after scaling, against δ.

    The temperature is fitted by NLL on held-out samples, both ECEs (15 bins) are of other test samples.
    """
    panels = (
        SweepPanel(
            "logit gap (nats)\n" r"mean $z_y -$ mean$_{j\neq y}\,z_j$",
            (Points("logit_gap", "train"), Points("logit_gap", "test", "test set")),
            "logit_gap",
            log=True,  # without smoothing it is many times as large, measured or predicted
        ),
        SweepPanel(
            "confidence (%)",
            (Points("confidence", "train"), Points("confidence", "test", "test set")),
            "confidence",
            percent=True,
        ),
        SweepPanel(
            "optimal temperature\nT (1: no scaling)", (Points("temperature", "test", "test set"),), reference=1.0
        ),
        SweepPanel(
            "ECE (%)\n15 bins, test set",
            (Points("ece_unscaled", "test", "before scaling"), Points("ece_scaled", "test", "after scaling")),
            percent=True,
        ),
    )
    remark = f"T is fitted by NLL on {inputs.fitted_on}, both ECEs are of {inputs.scaled_part}"
    return draw_sweep(inputs, panels, columns=2, height=4.4, remarks=[remark])


def draw_sweep(
    inputs: FigureInputs, panels: Sequence[SweepPanel], columns: int, height: float, remarks: Sequence[str] = ()
) -> Drawing:
    """Draw each panel's metrics at the last epoch against the smoothing of the losses.

    Args:
        inputs: what to draw from; losses without a smoothing δ, and other than MaxSup of one α, are not drawn and named
            on the figure.
        panels: left to right, then down.
        columns: panels in a row.
        height: of the panels, inches.
        remarks: sentences for the notes below the panels.

    Returns:
        the figure and a table with columns panel, source (measured, or predicted with which penalties), metric, split,
        loss, smoothing (δ, or α of MaxSup), epoch, average, seed, mean, low, high, seeds, left_out, as `with_seeds` has
        them; `panel` counts from 1.
    """
    figure, grid = style.page(-(-len(panels) // columns), columns, height, sharex=True)
    tables, left_out, cut = [], [], False
    for number, (panel, axes) in enumerate(zip(panels, grid.flat, strict=False), start=1):
        measured, missing = _measured(inputs, panel)
        predicted = _predicted(inputs, panel)
        left_out += [*missing, *_unpredicted(inputs, panel, predicted)]
        _draw_lines(axes, inputs, panel, predicted)
        for points in panel.points:
            _draw_points(axes, inputs, points, panel, measured)
        drawn = pd.concat([measured, predicted], ignore_index=True)
        within = range_of(panel.points[0].metric, panel.percent)
        cut |= finish_panel(axes, panel, drawn, margin=0.08, within=within)
        tables.append(drawn.assign(panel=number)[["panel", *drawn.columns]])
    for axes in grid[-1]:
        axes.set_xlabel("smoothing δ, or α of MaxSup" if inputs.alphas else "smoothing δ")
    if strengths := _strengths(inputs):
        grid[0, 0].set_xlim(*_limits(list(strengths.values())))
    table = pd.concat(tables, ignore_index=True)
    figure.finding = last_values(inputs, table[table["source"] == "measured"])
    style.legend(figure, _keys(panels, table, bool(inputs.alphas)))
    outside = [inputs.labels[loss] for loss in inputs.losses if loss not in strengths]
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}, epoch {inputs.last_epoch}",
            interval_note(
                inputs,
                table[table["source"] == "measured"],
                "Point",
                "bar",
                "small points",
                "on the log axis" if any(panel.log for panel in panels) else "",
            ),
            "Bars and bands are cut at the panels' edges" if cut else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
            *remarks,
            *_prediction_notes(inputs, panels, table),
            "Diamonds of MaxSup stand slightly right of their α" if inputs.alphas else "",
            "Not shown, without a smoothing: " + ", ".join(outside) if outside else "",
        ],
    )
    return Drawing(figure, table)


def _strengths(inputs: FigureInputs) -> dict[str, float]:
    """The place on the axis of each loss that has one: δ, or α of MaxSup."""
    return {**inputs.smoothings, **inputs.alphas}


def _measured(inputs: FigureInputs, panel: SweepPanel) -> tuple[pd.DataFrame, list[str]]:
    """Means and seeds of a panel's points, of the losses that have a place on the axis; and what cannot be drawn."""
    parts, left_out = [], []
    for points in panel.points:
        rows = inputs.select(points.metric, points.split, inputs.last_epoch)
        left_out += omissions(inputs, rows, f"{points.metric} ({points.split})", panel.log)
        rows = rows[rows["loss"].isin(list(_strengths(inputs)))]
        parts.append(
            _summary(inputs, rows, panel.log).assign(source="measured", metric=points.metric, split=points.split)
        )
    return _ordered(pd.concat(parts)), left_out


def _predicted(inputs: FigureInputs, panel: SweepPanel) -> pd.DataFrame:
    """Means and seeds of a panel's predictions, in the order of the smoothings, for each kind of penalties."""
    parts = []
    for penalties, rows in _prediction_rows(inputs, panel):
        summary = _summary(inputs, rows, panel.log).sort_values("smoothing", kind="stable")
        first = panel.points[0]
        parts.append(summary.assign(source=f"predicted, {penalties}", metric=first.metric, split=first.split))
    empty = _summary(inputs, pd.DataFrame(columns=["loss", "seed", "epoch", "value"]), panel.log)
    return _ordered(pd.concat(parts) if parts else empty.assign(source="", metric="", split=""))


def _prediction_rows(inputs: FigureInputs, panel: SweepPanel) -> Iterator[tuple[str, pd.DataFrame]]:
    """Kind of penalties -> loss, seed, epoch, value of a panel's predictions."""
    table = inputs.predictions
    table = table[(table["quantity"] == panel.predicted) & table["loss"].isin(list(inputs.smoothings))]
    for penalties, own in table.groupby("penalties", sort=False):
        yield (
            str(penalties),
            own[["loss", "seed"]].assign(epoch=inputs.last_epoch, value=own["predicted"].astype(float)),
        )


def _unpredicted(inputs: FigureInputs, panel: SweepPanel, predicted: pd.DataFrame) -> list[str]:
    """The predictions that are not finite (no fit, or an infinite one), one phrase a loss."""
    gaps = means_of(predicted)
    gaps = gaps[gaps["left_out"] > 0]
    return [
        f"{panel.predicted} ({source}), {inputs.labels[loss]}: {left_out} not finite, of {left_out + seeds} values"
        for source, loss, left_out, seeds in gaps[["source", "loss", "left_out", "seeds"]].itertuples(index=False)
    ]


def _summary(inputs: FigureInputs, rows: pd.DataFrame, log: bool) -> pd.DataFrame:
    summary = with_seeds(rows.astype({"value": float}), log)
    smoothing = summary["loss"].map(_strengths(inputs)).astype(float)
    return summary.assign(smoothing=smoothing, average="geometric" if log else "arithmetic")


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["source", "metric", "split", "loss", "smoothing", "epoch", "average"]
    return table[[*keys, "seed", "mean", "low", "high", "seeds", "left_out"]]


def _draw_lines(axes: Axes, inputs: FigureInputs, panel: SweepPanel, table: pd.DataFrame) -> None:
    """The prediction: a cross at each smoothing that it was made for, straight lines between, and a band or seeds."""
    for penalties, rows in _prediction_rows(inputs, panel):
        drawn = rows[can_be_drawn(rows["value"], panel.log)]
        drawn = drawn.assign(smoothing=drawn["loss"].map(dict(inputs.smoothings)).astype(float))
        # Losses of the same smoothing are separate points, as in the table.
        place = drawn.groupby("smoothing")["loss"].rank("dense")
        for _, own in drawn.groupby(place):
            sns.lineplot(
                own,
                x="smoothing",
                y="value",
                estimator=partial(centre, log=panel.log),
                errorbar=partial(interval, log=panel.log) if table["low"].notna().any() else None,
                err_kws={"alpha": 0.12, "linewidth": 0},
                color=style.INK,
                linestyle=_penalties(penalties)[1],
                linewidth=1.1,
                marker="x",
                markersize=3.6,
                markeredgecolor=style.INK,
                zorder=2,
                ax=axes,
            )
    seeds = table[table["seed"].notna()]
    place = seeds.groupby(["source", "smoothing", "seed"])["loss"].rank("dense")
    for (source, *_), own in seeds.groupby(["source", place, "seed"]):
        axes.plot(
            own["smoothing"], own["mean"], color=style.INK, linestyle=_penalties(str(source))[1], **style.SEED_LINE
        )
    style.clear_labels(axes)


def _draw_points(axes: Axes, inputs: FigureInputs, points: Points, panel: SweepPanel, table: pd.DataFrame) -> None:
    log, (least, most) = panel.log, range_of(points.metric, panel.percent)
    rows = inputs.select(points.metric, points.split, inputs.last_epoch)
    rows = rows[can_be_drawn(rows["value"], log) & rows["loss"].isin(list(_strengths(inputs)))]
    marker, filled = LOOKS[points.look]
    fill: dict[str, Any] = {} if filled else {"markerfacecolor": style.GROUND}
    low, high = _limits(list(_strengths(inputs).values())) if _strengths(inputs) else (0.0, 1.0)
    kinds = ((marker, inputs.smoothings, 0.0), (MAXSUP, inputs.alphas, SHIFT * (high - low)))
    seeds = table[(table["metric"] == points.metric) & (table["split"] == points.split) & table["seed"].notna()]
    for shape, places, shift in kinds:
        own = rows[rows["loss"].isin(list(places))]
        if own.empty:
            continue
        sns.pointplot(
            own,
            x=own["loss"].map(dict(places)).astype(float) + shift,
            y="value",
            hue="loss",
            hue_order=[loss for loss in inputs.losses if (own["loss"] == loss).any()],
            palette=dict(inputs.colours),
            native_scale=True,
            estimator=partial(centre, log=log),
            errorbar=partial(interval, log=log, least=least, most=most) if table["low"].notna().any() else None,
            linestyle="none",
            marker=shape,
            markersize=4.9,
            markeredgewidth=1.1,
            **fill,
            err_kws={"linewidth": 1.2, "alpha": 0.7, "zorder": 3},
            zorder=4,
            legend=False,
            ax=axes,
        )
        for loss, dots in seeds[seeds["loss"].isin(list(places))].groupby("loss", sort=False):
            look = {"marker": shape, "color": inputs.colours[str(loss)]} | fill | style.SEED_DOT
            axes.plot(dots["smoothing"] + shift, dots["mean"], **look)
    style.clear_labels(axes)


def _limits(smoothings: Sequence[float]) -> tuple[float, float]:
    low, high = min(smoothings), max(smoothings)
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin


def _penalties(source: str) -> tuple[str, Any]:
    """Name and style of a line; a kind that is not known keeps its own name."""
    kind = source.removeprefix("predicted, ")
    return PENALTIES.get(kind, (f"UFM, {kind} penalties", style.LINE_STYLES[2]))


def _keys(panels: Sequence[SweepPanel], table: pd.DataFrame, maxsup: bool) -> list[Artist]:
    handles: list[Artist] = []
    for look in dict.fromkeys(points.look for panel in panels for points in panel.points):
        marker, filled = LOOKS[look]
        fill = style.FAINT if filled else style.GROUND
        handles.append(
            Line2D([], [], linestyle="", marker=marker, markersize=5, color=style.FAINT, mfc=fill, label=look)
        )
    if maxsup:
        handles.append(Line2D([], [], linestyle="", marker=MAXSUP, markersize=5, color=style.FAINT, label="MaxSup"))
    for source in table.loc[table["source"].str.startswith("predicted"), "source"].unique():
        name, line_style = _penalties(source)
        handles.append(Line2D([], [], color=style.INK, linestyle=line_style, marker="x", markersize=4, label=name))
    return handles


def _prediction_notes(inputs: FigureInputs, panels: Sequence[SweepPanel], table: pd.DataFrame) -> list[str]:
    """What the lines are and how far they are off; or that there are none, or for which losses."""
    quantities = [panel.predicted for panel in panels if panel.predicted]
    predicted = table[table["source"].str.startswith("predicted")]
    predictions = inputs.predictions[inputs.predictions["loss"].isin(list(inputs.smoothings))]
    if not predictions["quantity"].isin(quantities).any():
        return ["No prediction of the unconstrained feature model (UFM) in the table"]
    crosses = "Crosses, the closed form of the unconstrained feature model (UFM) for the training set"
    notes = [
        interval_note(inputs, predicted, crosses, "band", "thin lines") + "; the lines between are straight",
    ]
    if (predictions["penalties"] == "effective").any():
        notes.append("Fitted penalties: for each seed and δ separately, from the runs of the same seed at the other δ")
    for penalties, own in predictions.groupby("penalties", sort=False):
        listed = ", ".join(f"{PREDICTED[name]} {_error(own[own['quantity'] == name])}" for name in quantities)
        notes.append(f"Median error relative to the prediction, {penalties} penalties (runs): {listed}")
    placed = predicted[predicted["mean"].notna()]
    absent = [inputs.labels[loss] for loss in inputs.losses if loss in inputs.smoothings]
    absent = [label for label in absent if label not in {inputs.labels[loss] for loss in placed["loss"]}]
    return [*notes, "No prediction for " + ", ".join(absent) if absent else ""]


def _error(own: pd.DataFrame) -> str:
    """Median over runs of |measured - predicted| / |predicted|, and of how many runs."""
    measured, predicted = own["measured"].astype(float), own["predicted"].astype(float)
    error = (measured - predicted).abs() / predicted.abs()
    usable = can_be_drawn(error)
    return f"{100 * error[usable].median():.2g}% ({int(usable.sum())})" if usable.any() else "not defined"
