"""Neural regression collapse against epoch, after arXiv 2409.04180: a column of panels for each weight decay.

Also our own figure of classification with squared error, with the measures of both kinds of collapse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves, draw_lines, line_note
from nclens.figures.findings import last_values
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    omissions,
    range_of,
    seeds_note,
    with_seeds,
)

TRAIN, TEST, CENTRED = "training set", "test set", "training set, components of the centred features"
STYLES = dict(zip((TRAIN, TEST, CENTRED), style.LINE_STYLES, strict=True))


@dataclass(frozen=True)
class Row:
    """One quantity, a row of panels.

    Attributes:
        label: of the vertical axis, with the unit.
        series: metric, split and name of each line.
        log: whether the vertical axis is logarithmic; the mean over seeds is then the geometric one.
        percent: whether fractions, at most 1, are shown as percentages.
        predicted: the quantity of the predictions that is drawn as a thin line, if any.
    """

    label: str
    series: tuple[tuple[str, str, str], ...]
    log: bool = True
    percent: bool = False
    predicted: str = ""


ROWS = (
    Row("NRC1", (("nrc1", "train", TRAIN), ("nrc1_centred", "train", CENTRED))),
    Row("NRC2", (("nrc2", "train", TRAIN),)),
    Row("NRC3", (("nrc3", "train", TRAIN),)),
    Row("explained var. (%)", (("evr", "train", TRAIN),), log=False, percent=True),
    Row("MSE", (("mse", "train", TRAIN), ("mse", "test", TEST)), predicted="mse"),
)
RESIDUALS = Row(
    "residual covariance\n" r"$\Vert C - cI\,\Vert_F\,/\,\Vert cI\,\Vert_F$", (("residual_deviation", "train", TRAIN),)
)


@style.look()
def nrc_curves(inputs: FigureInputs) -> Drawing:
    """NRC1 to NRC3, explained variance and the mean squared error at every snapshot, a column for each loss.

    The explained variance is that of as many principal components as there are targets; the mean squared error is
    summed over the targets, in the targets' units squared. With the penalties of the model the figure adds the
    distance of the residuals' covariance from c I, and the predicted squared error as a thin line. The panels of a
    single loss are side by side instead of in a column.
    """
    rows = (*ROWS, RESIDUALS) if inputs.regularised else ROWS
    single = len(inputs.losses) == 1
    if single:
        figure, grid = style.page(2, 3, 3.9, sharex=True)
        for axes in grid.flat[len(rows) :]:
            axes.set_visible(False)
        cells = [[axes] for axes in grid.flat[: len(rows)]]
    else:
        figure, grid = style.page(len(rows), len(inputs.losses), 0.5 + 1.12 * len(rows), sharex=True, sharey="row")
        cells = [list(axes) for axes in grid]
    tables, left_out, cut = [], [], False
    for row, panels in zip(rows, cells, strict=True):
        own, missing = _tables(inputs, row)
        cut |= _draw_row(inputs, row, panels, own)
        tables.append(own)
        left_out += missing
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        _epochs(lowest, inputs)
    for axes, loss in zip(cells[0], [] if single else inputs.losses, strict=False):
        axes.set_title(title_of(inputs, loss))
    table = pd.concat(tables, ignore_index=True)
    style.legend(figure, _handles(inputs, rows, single))
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            line_note(inputs, table, "on log axes"),
            "Explained var.: share of the features' variance that as many principal components as targets explain",
            "MSE: summed over the targets, in the units of the stored targets, squared",
            "Bands are cut at the panels' edges" if cut else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    figure.finding = last_values(inputs, table)
    return Drawing(figure, table)


def title_of(inputs: FigureInputs, loss: str) -> str:
    """Title of a column: the weight decay where the losses differ in it, else the loss's label."""
    decays = [inputs.weight_decays.get(name) for name in inputs.losses]
    if inputs.regularised or None in decays or len(set(decays)) < len(decays):
        return inputs.labels[loss]
    return f"weight decay {inputs.weight_decays[loss]:g}"


def predicted_of(inputs: FigureInputs, loss: str, quantity: str) -> float:
    """The model's prediction of a quantity, at the penalties of training; nan where there is none."""
    table = inputs.predictions
    own = table[(table["loss"] == loss) & (table["quantity"] == quantity) & (table["penalties"] == "explicit")]
    return float(own["predicted"].astype(float).mean()) if len(own) else np.nan


def _tables(inputs: FigureInputs, row: Row) -> tuple[pd.DataFrame, list[str]]:
    """The means and seeds of a row's series with the name of each, and what of them cannot be drawn."""
    tables, left_out = [], []
    for metric, split, name in row.series:
        rows = inputs.select(metric, split)
        left_out += omissions(inputs, rows, f"{metric} ({split})", row.log)
        key = {"metric": metric, "split": split, "series": name}
        table = with_seeds(rows, row.log).assign(**key, average="geometric" if row.log else "arithmetic")
        tables.append(table[[*key, "loss", "epoch", "average", "seed", "mean", "low", "high", "seeds", "left_out"]])
    return pd.concat(tables, ignore_index=True), left_out


def _draw_row(inputs: FigureInputs, row: Row, panels: Sequence[Axes], table: pd.DataFrame) -> bool:
    """Draw a quantity, a panel for each loss; True where a band is cut."""
    if table["mean"].notna().sum() == 0:
        for axes in panels:
            style.empty_panel(axes, "no finite values")
        panels[0].set_ylabel(row.label)
        return False
    shown = table[["mean", "low", "high"]]
    markers = style.markers(inputs.losses)
    for axes, loss in zip(panels, inputs.losses, strict=True):
        for metric, split, name in row.series:
            values = inputs.select(metric, split)
            own = table[(table["loss"] == loss) & (table["series"] == name)]
            draw_lines(
                axes, inputs, values[values["loss"] == loss], own, row.log, STYLES[name], markers, range_of(metric)
            )
        predicted = predicted_of(inputs, loss, row.predicted)
        if np.isfinite(predicted):
            axes.axhline(predicted, color=style.INK, linewidth=0.8, zorder=1)
            shown = pd.concat([shown, pd.DataFrame({"mean": [predicted]})])
    panels[0].set_ylabel(row.label)
    cut = style.fit_to_means(panels[0].yaxis, shown, row.log, most=1.0 if row.percent else np.inf)
    for axes in panels:
        if row.log:
            style.log_axis(axes.yaxis)
        if row.percent:
            style.percent_axis(axes.yaxis)
    return cut


def _epochs(axes: Axes, inputs: FigureInputs) -> None:
    """Epochs on a log axis, as the snapshots are spaced, that starts at 0."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    last = max(inputs.last_epoch, 1)
    axes.set_xlim(-0.15 if (inputs.metrics["epoch"] == 0).any() else 0.8, last * 1.3)
    powers = [10**power for power in range(int(np.log10(last)) + 1)]
    axes.set_xticks([0, *powers], ["0", *(f"{power:,}".replace(",", "\N{THIN SPACE}") for power in powers)])
    axes.minorticks_off()
    axes.set_xlabel("epoch")


def _handles(inputs: FigureInputs, rows: Sequence[Row], single: bool) -> list[Line2D]:
    used = {name for row in rows for *_, name in row.series}
    keys = style.markers(inputs.losses)
    losses = inputs.losses if single else []
    handles = [style.loss_key(inputs.labels[loss], inputs.colours[loss], keys[loss]) for loss in losses]
    handles += [style.line_style_key(name, line_style) for name, line_style in STYLES.items() if name in used]
    if any(np.isfinite(predicted_of(inputs, loss, row.predicted)) for loss in inputs.losses for row in rows):
        handles.append(Line2D([], [], color=style.INK, linewidth=0.8, label="predicted by the model"))
    return handles


SENSES: Mapping[str, Mapping[str, str]] = {
    "NC": {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"},
    "NRC": {f"onehot_nrc{k}": f"NRC{k}, one-hot targets" for k in (1, 2, 3)},
}
"""Kind of collapse -> its metrics: of classification, and of regression on one-hot targets."""


@style.look()
def nrc_classification(inputs: FigureInputs) -> Drawing:
    """NC1 to NC3 above NRC1 to NRC3 of the same networks, for the losses that have both measures."""
    both = inputs.metrics.loc[inputs.metrics["metric"] == "onehot_nrc1", "loss"].unique()
    losses = [loss for loss in inputs.losses if loss in both] or inputs.losses
    baseline = inputs.baseline if inputs.baseline in losses else None
    panels = [
        Panel(label, (Series(metric, "train", TRAIN), Series(metric, "test", TEST)), log=True)
        for metrics in SENSES.values()
        for metric, label in metrics.items()
    ]
    remarks: list[Any] = ["Top: as classifiers; bottom: the same networks as regressors of the one-hot labels"]
    return draw_curves(
        replace(inputs, losses=losses, baseline=baseline),
        panels,
        columns=3,
        legend={TRAIN: TRAIN, TEST: TEST},
        height=4.2,
        remarks=remarks,
    )
