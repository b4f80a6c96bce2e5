"""Calibration against the temperature that divides the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nclens.figures import style
from nclens.figures.curves import draw_lines, line_note
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    can_be_drawn,
    means_of,
    omissions,
    over_seeds,
    range_of,
    seeds_note,
    with_seeds,
)
from nclens.metrics.calibration import calibration_at_temperatures

TEMPERATURES = tuple(float(value) for value in np.geomspace(0.25, 4, 49))
"""From 1/4 to 4, evenly spaced on the log scale, 1 among them."""

PANELS = {"ece": ("ECE (%), 15 bins", ""), "nll": ("cross entropy (nats)", "geometric")}
"""Metric -> label of its panel, and how it is averaged."""


@style.look()
def ece_temperature(inputs: FigureInputs) -> Drawing:
    """ECE (15 bins) and cross entropy of the whole test set with all logits divided by T, against T, for each loss.

    The dot on a line is at the geometric mean over seeds of the temperatures fitted by NLL on the validation split
    or a held-out part of the test set; a temperature beyond the panel is named below it.
    """
    rows = pd.concat([_curves(inputs, loss) for loss in inputs.losses], ignore_index=True)
    fitted = inputs.select("temperature", "test", inputs.last_epoch)
    figure, grid = style.page(1, len(PANELS), 2.7)
    marks, tables, beyond, cut = style.markers(inputs.losses), [], [], False
    means = over_seeds(fitted, log=True).set_index("loss")["mean"]
    for axes, (metric, (label, average)) in zip(grid.flat, PANELS.items(), strict=True):
        own_rows = rows[rows["metric"] == metric]
        table = with_seeds(own_rows, log=average == "geometric")
        draw_lines(axes, inputs, own_rows, table, log=average == "geometric", within=range_of(metric))
        table = table.rename(columns={"epoch": "temperature"}).assign(metric=metric, average=average or "arithmetic")
        for loss in inputs.losses:
            own = means_of(table[table["loss"] == loss]).dropna(subset="mean")
            if own.empty:
                continue
            best = float(means.get(loss, np.nan))
            if np.isfinite(best) and not TEMPERATURES[0] <= best <= TEMPERATURES[-1]:
                beyond.append(f"{inputs.labels[loss]} {best:.3g}")
            elif np.isfinite(best):
                at = np.interp(np.log(best), np.log(own["temperature"].astype(float)), own["mean"].astype(float))
                mark: dict[str, Any] = {"marker": marks[loss], "s": 36, "edgecolor": style.GROUND, "zorder": 4}
                sns.scatterplot(x=[best], y=[at], color=inputs.colours[loss], ax=axes, **mark)
        cut |= _finish_panel(axes, table, label, percent=metric == "ece", log=average == "geometric")
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    style.legend(
        figure, [style.loss_key(inputs.labels[loss], inputs.colours[loss], marks[loss]) for loss in inputs.losses]
    )
    left_out = omissions(inputs, fitted, "temperature (test)", log=True)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}, whole test set",
            line_note(inputs, table, "of the cross entropy"),
            f"Dot: at the temperature fitted by NLL on {inputs.fitted_on}, geometric mean over seeds; vertical "
            "line: T = 1, no scaling",
            "Bands are cut at the panels' edges" if cut else "",
            "Fitted temperatures beyond the panels: " + ", ".join(dict.fromkeys(beyond)) if beyond else "",
            "No dot where a temperature is missing: " + "; ".join(left_out) if left_out else "",
        ],
    )
    table["fitted"] = table["loss"].map(means)
    names = ("metric", "loss", "temperature", "average", "seed", "mean", "low", "high", "seeds", "left_out", "fitted")
    lines = means_of(table).dropna(subset="mean")
    least = lines.loc[lines.groupby(["metric", "loss"], sort=False)["mean"].idxmin()]
    figure.finding = joined(
        [
            phrase("Temperature fitted by NLL", compared(inputs, means)),
            *(
                phrase(f"lowest {label}, at T", compared(inputs, own.set_index("loss")["temperature"]))
                for metric, (label, _) in PANELS.items()
                for own in [least[least["metric"] == metric]]
            ),
        ]
    )
    return Drawing(figure, table[list(names)])


def _curves(inputs: FigureInputs, loss: str) -> pd.DataFrame:
    """Both metrics of a loss's seeds at every temperature; the column `epoch` holds the temperature."""
    rows: list[dict[str, Any]] = []
    for seed in inputs.seeds(loss):
        arrays = inputs.last_features(loss, seed)
        found = calibration_at_temperatures(arrays["test.logits"], arrays["test.targets"], TEMPERATURES)
        rows += [
            {"loss": loss, "seed": seed, "epoch": temperature, "metric": metric, "value": value}
            for metric in PANELS
            for temperature, value in zip(TEMPERATURES, found[metric], strict=True)
        ]
    return pd.DataFrame(rows, columns=["loss", "seed", "epoch", "metric", "value"]).astype(
        {"epoch": float, "value": float}
    )


def _finish_panel(axes: Axes, table: pd.DataFrame, label: str, *, percent: bool, log: bool) -> bool:
    """Scale and label a panel; True where a band is cut at its edge."""
    axes.set(xlabel="temperature T", ylabel=label)
    if not can_be_drawn(table["mean"]).any():
        style.empty_panel(axes, "no finite values")
        return False
    axes.axvline(1, color=style.FAINT, linewidth=0.8, zorder=1)
    axes.set_xlim(TEMPERATURES[0], TEMPERATURES[-1])
    style.log_axis(axes.xaxis)
    axes.set_xticks([0.25, 0.5, 1, 2, 4])
    cut = style.fit_to_means(axes.yaxis, table, log, least=0.0, most=1.0 if percent else np.inf)
    if log:
        style.log_axis(axes.yaxis)
    if percent:
        style.percent_axis(axes.yaxis)
    return cut
