"""Collapse by layer: measures against depth, a column of panels a snapshot."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from nclens.figures import style
from nclens.figures.curves import Scaled, draw_lines, finish_panel, line_note
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, means_of, omissions, seeds_note, with_seeds
from nclens.metrics.catalogue import SPLITS

CLASSIFICATION = {
    "nc1": Scaled("NC1", log=True),
    "accuracy": Scaled("nearest-class-mean\naccuracy (%)", percent=True),
    "equiangular": Scaled("deviation from the\nsimplex's angles"),
    "stable_rank": Scaled("stable rank\nof the features"),
}
REGRESSION = {
    "noise": Scaled("noise share"),
    "cka": Scaled("CKA with\nthe targets"),
    "readout_mse": Scaled("MSE of the\nlinear read-out", log=True),
    "stable_rank": Scaled("stable rank\nof the features"),
}
MOST = 4
"""Snapshots drawn: the first, the last and others evenly spaced between them."""


@style.look()
def layers(inputs: FigureInputs) -> Drawing:
    """NC1, accuracy of the nearest class mean, angles and stable rank of a classifier against depth."""
    figure, table = _draw(inputs, CLASSIFICATION)
    suffix = _suffix(inputs)
    last = {
        name: inputs.select(f"layers_{name}{suffix}", "train", inputs.last_epoch).groupby("loss")["value"].mean()
        for name in ("slope", "correlation")
    }
    said = joined(
        phrase(f"Law of equi-separation, epoch {inputs.last_epoch}, training set: {label}", compared(inputs, values))
        for label, values in (("slope of log NC1 a layer", last["slope"]), ("r", last["correlation"]))
    )
    figure.finding = said or "Fewer than six layers: no slope over the layers."
    return Drawing(figure, table)


@style.look()
def nrc_layers(inputs: FigureInputs) -> Drawing:
    """Noise share, CKA, error of the linear read-out and stable rank of a regressor against depth."""
    figure, table = _draw(inputs, REGRESSION)
    means = means_of(table)
    cka = means[(means["measure"] == "cka") & (means["split"] == "train") & (means["epoch"] == means["epoch"].max())]
    last = cka[cka["layer"] == cka["layer"].max()].set_index("loss")["mean"]
    figure.finding = joined([phrase("CKA with the targets of the last layer, training set", compared(inputs, last))])
    return Drawing(figure, table)


def _suffix(inputs: FigureInputs) -> str:
    """What follows the metrics of the first probe of the kind."""
    probes = inputs.probes_of("layers")
    return str(probes[0]["suffix"]) if probes else ""


def _draw(inputs: FigureInputs, measures: dict[str, Scaled]) -> tuple[style.Page, pd.DataFrame]:
    rows = _rows(inputs)
    epochs = _chosen(sorted(rows["snapshot"].unique())) or [inputs.last_epoch]
    rows = rows[rows["snapshot"].isin(epochs)]
    figure, grid = style.page(len(measures), len(epochs), 0.5 + 1.3 * len(measures), sharex=True, sharey="row")
    lines, markers = dict(zip(SPLITS, style.LINE_STYLES, strict=False)), style.markers(inputs.losses)
    tables, left_out = [], []
    for place, (measure, scaled) in enumerate(measures.items()):
        drawn = [pd.DataFrame(columns=["mean", "low", "high"])]
        for column, epoch in enumerate(epochs):
            for split in SPLITS:
                own = rows[(rows["measure"] == measure) & (rows["split"] == split) & (rows["snapshot"] == epoch)]
                means = with_seeds(own, scaled.log)
                draw_lines(grid[place, column], inputs, own, means, scaled.log, lines[split], markers)
                if len(own):
                    left_out += omissions(inputs, own, f"{measure} ({split}), epoch {epoch}", scaled.log)
                drawn.append(means.assign(measure=measure, split=split, snapshot=epoch))
        together = pd.concat(drawn[1:], ignore_index=True)
        for column, axes in enumerate(grid[place]):
            finish_panel(axes, scaled, together)
            axes.set_ylabel(scaled.label if column == 0 else "")
            if place == 0:
                axes.set_title(f"epoch {epochs[column]}")
        tables.append(together)
    for axes in grid[-1]:
        style.epoch_axis(axes)
        axes.set_xlabel("layer")
    handles = [style.loss_key(inputs.labels[loss], inputs.colours[loss], markers[loss]) for loss in inputs.losses]
    style.legend(figure, handles + [style.line_style_key(text, lines[split]) for split, text in SPLITS.items()])
    columns = ["measure", "split", "snapshot", "loss", "epoch", "seed", "mean", "low", "high", "seeds", "left_out"]
    table = pd.concat(tables, ignore_index=True)[columns].rename(columns={"epoch": "layer"})
    style.notes(
        figure,
        [
            f"{inputs.experiment}, {seeds_note(inputs)}",
            line_note(inputs, table, "on log axes"),
            "Not drawn: " + "; ".join(left_out) if left_out else "",
            "Layer 1 is the first block, not the input; outputs are averaged over places",
            "Test set: about its own class means, but for the accuracy, to the means of the training set"
            if "accuracy" in measures
            else "The read-out is fitted to the training set",
        ],
    )
    return figure, table.rename(columns={"snapshot": "epoch"})


def _rows(inputs: FigureInputs) -> pd.DataFrame:
    """The measures of the layers: measure, split, snapshot, loss, seed, value, and the layer as `epoch`."""
    suffix, table = _suffix(inputs), inputs.metrics
    pattern = rf"^layers_(?P<measure>\w+)/(?P<layer>\d+){re.escape(suffix)}$"
    named = {name: found for name in table["metric"].unique() if (found := _match(pattern, str(name)))}
    chosen = table[table["metric"].isin(list(named)) & table["loss"].isin(list(inputs.losses))]
    parts = [named[str(name)] for name in chosen["metric"]]
    rank = chosen["loss"].astype(object).map({loss: place for place, loss in enumerate(inputs.losses)}).astype(int)
    rows = pd.DataFrame(
        {
            "measure": [measure for measure, _ in parts],
            "split": chosen["split"].astype(object).to_numpy(),
            "snapshot": chosen["epoch"].to_numpy(),
            "loss": chosen["loss"].astype(object).to_numpy(),
            "seed": chosen["seed"].to_numpy(),
            "epoch": np.array([layer for _, layer in parts], dtype=int),
            "value": chosen["value"].to_numpy(float),
            "rank": rank.to_numpy(),
        }
    )
    return rows.sort_values(["rank", "epoch", "seed"], kind="stable").drop(columns="rank").reset_index(drop=True)


def _match(pattern: str, name: str) -> tuple[str, int] | None:
    found = re.match(pattern, name)
    return (found["measure"], int(found["layer"])) if found else None


def _chosen(epochs: list[int]) -> list[int]:
    places = np.linspace(0, len(epochs) - 1, min(MOST, len(epochs))).round().astype(int)
    return [int(epochs[place]) for place in places]
