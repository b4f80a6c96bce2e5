"""NC0 along training, measured and by its law, and the floor that it sets under NC3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from nclens.figures import style
from nclens.figures.curves import Panel, Series, draw_curves
from nclens.figures.inputs import METRIC_COLUMNS, Drawing, FigureInputs
from nclens.ufm.nc0 import TOLERANCE, nc3_floor

NC0 = r"NC0 = $\Vert W^{T}\mathbf{1}\,\Vert^2\,/\,K$"
FLOOR = "nc3_floor"
"""What the floor under NC3 is called among the metrics of a figure."""
FLOOR_LABEL = "least NC3 that NC0 allows"


@style.look()
def nc0_law(inputs: FigureInputs) -> Drawing:
    """NC0; over its value at the first snapshot, measured and by the law; and their relative deviation; log axes.

    The law starts from the first snapshot, where the deviation is 0 by definition and is not drawn.
    """
    rows = inputs.nc0.sort_values("epoch", kind="stable")
    later = rows[rows["epoch"] > rows["reference"]]
    first = rows.groupby(["loss", "seed"])["measured"].transform("first")
    metrics = {
        "nc0": rows["measured"],
        "nc0_ratio": rows["measured"] / first,
        "nc0_law": rows["predicted"] / first,
        "nc0_deviation": (later["measured"] / later["predicted"] - 1).abs(),
    }
    keys = rows[["loss", "seed", "epoch"]].assign(split="train")
    parts = [keys.loc[values.index].assign(metric=name, value=values) for name, values in metrics.items()]
    panels = [
        Panel(NC0, (Series("nc0", "train", "measured"),), log=True),
        Panel(
            "NC0 over its first value",
            (Series("nc0_ratio", "train", "measured"), Series("nc0_law", "train", "law")),
            log=True,
        ),
        Panel(
            r"$|\,$NC0$\,/\,$law$\,-\,1\,|$",
            (Series("nc0_deviation", "train", "measured"),),
            log=True,
            reference=TOLERANCE,
        ),
    ]
    drawing = draw_curves(
        replace(inputs, metrics=pd.concat(parts, ignore_index=True)[list(METRIC_COLUMNS)]),
        panels,
        columns=3,
        legend={"measured": "measured", "law": "law"},
        height=2.5,
        remarks=_remarks(inputs),
    )
    for line in drawing.figure.axes[1].lines:
        if line.is_dashed():  # the law: in the colour of a loss it could not be seen on what follows it
            line.set(color=style.INK, marker="", zorder=4, linewidth=min(line.get_linewidth(), 1.0))
    return drawing


def _remarks(inputs: FigureInputs) -> list[str]:
    """Where the law starts, the line, and for which losses its premise fails."""
    found = ["Horizontal line: 1%, the tolerance of claim N1"]
    if len(starts := sorted({int(epoch) for epoch in inputs.nc0["reference"]})) == 1:
        found.insert(0, f"The law starts from the value at epoch {starts[0]}, the first snapshot")
    failing = inputs.nc0[inputs.nc0["premise"].astype(bool)].drop_duplicates("loss")
    for premise, rows in failing.groupby("premise", sort=False):
        names = ", ".join(inputs.labels[loss] for loss in inputs.losses if loss in set(rows["loss"]))
        found.append(f"The law's premise fails for {names}: {premise}")
    return found


def with_nc3_floor(inputs: FigureInputs, metrics: Iterable[str]) -> FigureInputs | None:
    """Return the inputs with some metrics, and the floor that NC0 sets under NC3 of the training set, run by run.

    A loss whose training set lacks samples of a class has no floor: its NC0 is of all rows of W, its NC3 of the classes
    measured. None where no loss has one.
    """
    table = inputs.metrics
    training = table[table["split"] == "train"]
    # Measured only where a class is left out.
    lacking = training.loc[training["metric"] == "classes_measured", "loss"]
    shares = training[(training["metric"] == "nc0_share") & ~training["loss"].isin(list(lacking))]
    if shares.empty:
        return None
    floors = shares.assign(metric=FLOOR, value=nc3_floor(shares["value"].astype(float).to_numpy()))
    named = dict.fromkeys(("loss", "split", "metric"), object)
    parts = [part[list(METRIC_COLUMNS)].astype(named) for part in (table[table["metric"].isin(list(metrics))], floors)]
    return replace(inputs, metrics=pd.concat(parts, ignore_index=True))
