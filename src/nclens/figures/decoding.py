"""Decoding of sequences: error and calibration against the temperature and the width of the beam."""

from __future__ import annotations

import re

import pandas as pd

from nclens.figures import style
from nclens.figures.curves import Scaled, draw_lines, finish_panel, line_note
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, means_of, omissions, range_of, seeds_note, with_seeds

SCORES = {"error": Scaled("token error rate (%)", percent=True), "bleu": Scaled("BLEU")}
"""Score of decoding -> its axis; of text BLEU."""
CALIBRATION = {"ece": Scaled("ECE (%), 15 bins", percent=True), "nll": Scaled("cross entropy (nats)", log=True)}
MOST_TICKS = 8
"""Up to so many widths or temperatures each has a tick."""


@style.look()
def decoding(inputs: FigureInputs) -> Drawing:
    """Token error rate against the beam's width and the temperature; ECE and cross entropy of the next token."""
    probe = (inputs.probes_of("decoding") or [{"suffix": "", "samples": "all", "width": "given"}])[0]
    figure, grid = style.page(2, 2, 4.6)
    markers, tables, left_out, cut = style.markers(inputs.losses), [], [], False
    panels = _panels(inputs)
    for axes, (metric, (scaled, label)) in zip(grid.flat, panels.items(), strict=True):
        rows = _rows(inputs, metric, str(probe["suffix"]))
        table = with_seeds(rows, scaled.log)
        draw_lines(axes, inputs, rows, table, scaled.log, markers=markers, within=range_of(metric, scaled.percent))
        left_out += omissions(inputs, rows, metric, scaled.log)
        cut |= finish_panel(axes, scaled, table)
        axes.set_xlabel(label)
        if len(rows):
            drawn = sorted(rows["epoch"].unique())
            axes.set(xscale="log", xlim=(drawn[0] / 1.1, 1.1 * drawn[-1]))
            if len(drawn) <= MOST_TICKS:
                axes.set_xticks(drawn, [f"{at:g}" for at in drawn])
                axes.set_xticks([], minor=True)
            else:
                style.log_axis(axes.xaxis)
        tables.append(table.rename(columns={"epoch": "at"}).assign(metric=metric))
    table = pd.concat(tables, ignore_index=True)
    style.legend(
        figure, [style.loss_key(inputs.labels[loss], inputs.colours[loss], markers[loss]) for loss in inputs.losses]
    )
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}, {probe['samples']} test sequences",
            line_note(inputs, table, "of the cross entropy"),
            f"Beams of width {probe['width']} at the temperatures; T = 1 at the widths",
            "Bands are cut at the panels' edges" if cut else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    figure.finding = joined(_best(inputs, table, metric, *panel) for metric, panel in panels.items())
    names = ("metric", "loss", "at", "seed", "mean", "low", "high", "seeds", "left_out")
    return Drawing(figure, table[list(names)])


def _panels(inputs: FigureInputs) -> dict[str, tuple[Scaled, str]]:
    """Metric -> its axis, and what it is drawn against."""
    names = " ".join(map(str, inputs.metrics["metric"].unique()))
    score = next((name for name in SCORES if f"{name}_by_width/" in names.replace("sequence_error", "")), "error")
    temperature = {f"{name}_by_temperature": (axis, "temperature T") for name, axis in CALIBRATION.items()}
    return {
        f"{score}_by_width": (SCORES[score], "beam width"),
        f"{score}_by_temperature": (SCORES[score], "temperature T"),
        **temperature,
    }


def _best(inputs: FigureInputs, table: pd.DataFrame, metric: str, scaled: Scaled, label: str) -> str:
    """Where each loss's mean is best."""
    lines = means_of(table[table["metric"] == metric]).dropna(subset="mean").reset_index(drop=True)
    highest = metric.startswith("bleu")
    grouped = lines.groupby("loss", sort=False)["mean"]
    best = lines.loc[grouped.idxmax() if highest else grouped.idxmin()].set_index("loss")["at"]
    return phrase(f"{'highest' if highest else 'lowest'} {scaled.label}, at {label}", compared(inputs, best))


def _rows(inputs: FigureInputs, metric: str, suffix: str) -> pd.DataFrame:
    """The rows of a metric, the width or temperature as `epoch`."""
    pattern = re.compile(rf"{metric}/([0-9.e+-]+){re.escape(suffix)}")
    named = {name: float(found[1]) for name in inputs.metrics["metric"].unique() if (found := pattern.fullmatch(name))}
    parts = [
        inputs.select(name, "test", inputs.last_epoch).assign(epoch=at)
        for name, at in sorted(named.items(), key=lambda item: item[1])
    ]
    empty = pd.DataFrame({"loss": [], "seed": [], "epoch": [], "value": []})
    return pd.concat(parts, ignore_index=True) if parts else empty
