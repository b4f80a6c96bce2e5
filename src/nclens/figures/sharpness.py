"""Sharpness along training, and calibration and collapse against it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclens.figures import style
from nclens.figures.curves import Scaled, draw_lines, finish_panel, line_note
from nclens.figures.findings import last_values
from nclens.figures.inputs import Drawing, FigureInputs, means_of, omissions, over_seeds, seeds_note, with_seeds

CURVES = {
    "sharpness_head": "sharpness of the head",
    "sharpness_network": "sharpness\nof the network",
    "sharpness_trained": "sharpness of\nthe trained loss",
}
PAIRS = (
    ("sharpness_head", ("ece_unscaled", "test"), Scaled("ECE, test set (%)", percent=True)),
    ("sharpness_network", ("ece_unscaled", "test"), Scaled("ECE, test set (%)", percent=True)),
    ("sharpness_network", ("nc1", "train"), Scaled("NC1, training set", log=True)),
)
"""Sharpness on the horizontal axis, the metric and split on the vertical one, and its axis."""


@style.look()
def sharpness(inputs: FigureInputs) -> Drawing:
    """Sharpness of head, network and trained loss against epoch, and ECE and NC1 against sharpness; log axes."""
    probes = inputs.probes_of("sharpness")
    suffix = str(probes[0]["suffix"]) if probes else ""
    figure, grid = style.page(2, len(CURVES), 4.4)
    markers = style.markers(inputs.losses)
    tables, left_out, known = [], [], {}
    for axes, (name, label) in zip(grid[0], CURVES.items(), strict=True):
        rows = inputs.select(name + suffix, "train")
        left_out += omissions(inputs, rows, f"{name} (train)", log=True)
        known[name] = with_seeds(rows, log=True)
        draw_lines(axes, inputs, rows, known[name], log=True, markers=markers)
        finish_panel(axes, Scaled(label, log=True), known[name])
        style.epoch_axis(axes)
        tables.append(known[name].assign(metric=name, split="train"))
    for axes, (across, (name, split), scaled) in zip(grid[1], PAIRS, strict=True):
        rows = inputs.select(name, split)
        left_out += omissions(inputs, rows, f"{name} ({split})", scaled.log) if across == "sharpness_network" else []
        means, reached = over_seeds(rows, scaled.log), means_of(known[across])
        _draw_path(axes, inputs, reached, means, markers)
        axes.set_xlabel(CURVES[across])
        finish_panel(axes, scaled, means[means["epoch"].isin(reached["epoch"])].assign(low=np.nan, high=np.nan))
        if not reached["mean"].dropna().empty:
            style.fit_to_means(axes.xaxis, reached.assign(low=np.nan, high=np.nan), log=True)
            style.log_axis(axes.xaxis)
        if across == "sharpness_network":
            tables.append(means.assign(metric=name, split=split))
    columns = ["metric", "split", "loss", "epoch", "seed", "mean", "low", "high", "seeds", "left_out"]
    table = pd.concat(tables, ignore_index=True)[columns]
    style.legend(
        figure, [style.loss_key(inputs.labels[one], inputs.colours[one], markers[one]) for one in inputs.losses]
    )
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            line_note(inputs, pd.concat(known.values()), "on log axes"),
            "Not drawn: " + "; ".join(left_out) if left_out else "",
            "Sharpness: largest eigenvalue of the Hessian of plain mean cross entropy in evaluation mode, biases "
            "included, without weight decay; that of the trained loss in the third panel",
            "Lower panels: means over seeds, snapshot by snapshot; the large mark is the last",
        ],
    )
    figure.finding = last_values(inputs, table)
    return Drawing(figure, table)


def _draw_path(
    axes: Axes, inputs: FigureInputs, across: pd.DataFrame, up: pd.DataFrame, markers: dict[str, str]
) -> None:
    """Draw each loss's means against each other, joined in the order of the epochs."""
    both = across.merge(up, on=["loss", "epoch"], suffixes=("_across", "_up")).dropna(subset=["mean_across", "mean_up"])
    for loss in inputs.losses:
        own = both[both["loss"] == loss].sort_values("epoch")
        if own.empty:
            continue
        look: dict[str, Any] = {"color": inputs.colours[loss], "marker": markers[loss], "markeredgecolor": style.GROUND}
        axes.plot(own["mean_across"], own["mean_up"], markersize=3, linewidth=0.9, markeredgewidth=0.3, **look)
        axes.plot(own["mean_across"].iloc[-1:], own["mean_up"].iloc[-1:], markersize=7, markeredgewidth=0.6, **look)
