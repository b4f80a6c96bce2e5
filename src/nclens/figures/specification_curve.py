"""The claims C1 to C4 by every way to measure them: effects above, what each specification chose below. Our own."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.findings import joined
from nclens.figures.inputs import SPECIFICATION_COLUMNS, Drawing, FigureInputs
from nclens.figures.printing import points
from nclens.metrics.catalogue import metric

MOST_PAIRS = 3
"""Pairs of losses that are drawn; the table of the study has all."""
CHOICES = ("measure", "matched", "split", "epoch", "level")
SHORT = {
    "nc1_quotient": "NC1, traces",
    "nc2": "NC2",
    "nc2_means": "NC2, means",
    "nc2_classifier": "NC2, classifier",
    "ece": "ECE, 15 bins",
    "ece_20": "ECE, 20 bins",
    "ece_25": "ECE, 25 bins",
    "ece_adaptive": "ECE, adaptive",
    "ece_classwise": "ECE, classwise",
    "ece_l2": "ECE, l2 norm",
}
"""Metric -> its label where that of the catalogue is too long."""
OPTIONS = {
    "split": {"train": "training set", "test": "test set"},
    "epoch": {"last": "last epoch", "late": "last quarter", "best": "lowest test error"},
    "level": {
        **{"end": "level at the end", "75%": "level at 75%", "50%": "level at 50%"},
        **{"all": "all levels", "middle": "middle level", "lowest": "lowest level"},
    },
}
"""Choice -> option -> what the figure calls it."""
UNITS = {
    "ratio of epochs": "ratio of epochs",
    "ratio": "ratio",
    "difference in ECE": "difference in ECE\n(percentage points)",
}
ROW, TOP, BETWEEN = 0.118, 1.05, 0.3
"""Inches of a row of the matrix, of the effects, and of a panel's title and what is around it."""


class _Panel(NamedTuple):
    claim: str
    loss: str
    baseline: str
    rows: pd.DataFrame
    options: list[tuple[str, str]]


@style.look()
def specification_curve(inputs: FigureInputs) -> Drawing:
    """Effects of C1 to C4 by each specification, sorted, above the matrix of what each chose; a panel a claim and pair.

    An effect that is not defined is not drawn and not counted.
    """
    table = inputs.specifications()
    known = table[np.isfinite(table["effect"].astype(float))]
    pairs = list(dict.fromkeys(zip(known["loss"], known["baseline"], strict=True)))
    panels = [panel for pair in pairs[:MOST_PAIRS] for panel in _panels(known, *pair)]
    heights = [ROW * max(len(panel.options) for panel in row) + TOP + BETWEEN for row in _in_rows(panels)] or [2.0]
    figure, grid = style.page(len(heights), 2, sum(heights), height_ratios=heights)
    cut = []
    for axes, panel in zip(grid.flat, panels, strict=False):
        cut += [panel.claim] if _draw(axes, inputs, panel, several=len(pairs) > 1) else []
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    if not panels:
        grid[0, 0].set_visible(True)
        style.empty_panel(grid[0, 0], "no claim of C1 to C4 has an effect")
    style.legend(figure, _keys() if panels else [])
    drawn = pd.concat([panel.rows for panel in panels], ignore_index=True) if panels else table.iloc[:0]
    style.notes(figure, [inputs.experiment, *_remarks(inputs, table, known, pairs, cut)])
    figure.finding = joined(_counted(inputs, panel) for panel in panels)
    columns = [*SPECIFICATION_COLUMNS, "place"]
    return Drawing(figure, drawn.reindex(columns=columns))


def _panels(known: pd.DataFrame, loss: str, baseline: str) -> list[_Panel]:
    """The panels of a pair: the rows of each claim by effect, and the options that they chose, in the table's order."""
    own = known[(known["loss"] == loss) & (known["baseline"] == baseline)]
    found = []
    for claim, rows in own.groupby("claim", sort=True):
        options = [
            (choice, option)
            for choice in CHOICES
            for option in dict.fromkeys(rows[choice])
            if option and rows[choice].nunique() > 1
        ]
        ordered = rows.sort_values("effect", kind="stable").reset_index(drop=True)
        found.append(_Panel(str(claim), loss, baseline, ordered.assign(place=range(1, len(rows) + 1)), options))
    return found


def _in_rows(panels: list[_Panel]) -> list[list[_Panel]]:
    return [panels[place : place + 2] for place in range(0, len(panels), 2)]


def _draw(axes: Axes, inputs: FigureInputs, panel: _Panel, several: bool) -> bool:
    """Draw a panel; return whether an interval is cut at its edge."""
    same, count, excluding = _counts(panel.rows)
    pair = f", {_called(inputs, panel.loss)} against {_called(inputs, panel.baseline)}" if several else ""
    none = "1" if _is_ratio(panel) else "0"
    axes.set_title(
        f"{panel.claim}{pair}\n{same} of {count} with the same sign, {excluding} exclude {none}", fontsize=points(7.5)
    )
    # One panel of the page: the two parts are shown together wherever it is.
    axes.set_axis_off()
    height = ROW * len(panel.options) + TOP
    share = ROW * len(panel.options) / height
    effects = axes.inset_axes((0.0, share + 0.04, 1.0, 1 - share - 0.04))
    matrix = axes.inset_axes((0.0, 0.0, 1.0, share), sharex=effects)
    (own,) = panel.rows.loc[panel.rows["own"], "place"].tolist() or [None]
    for part in (effects, matrix):
        part.set_xlim(0.0, len(panel.rows) + 1.0)
        part.tick_params(axis="x", bottom=False, labelbottom=False)
        part.grid(axis="x", visible=False)
        if own is not None:
            part.axvspan(own - 0.5, own + 0.5, color=style.FAINT, alpha=0.25, linewidth=0, zorder=0.5)
    _draw_matrix(matrix, panel)
    return _draw_effects(effects, inputs, panel)


def _draw_effects(axes: Axes, inputs: FigureInputs, panel: _Panel) -> bool:
    rows, colour, log = panel.rows, inputs.colours[panel.loss], _is_ratio(panel)
    limits = rows.rename(columns={"effect": "mean"})[["mean", "low", "high"]]
    null = 1.0 if log else 0.0
    limits = pd.concat([limits, pd.DataFrame({"mean": [null], "low": [math.nan], "high": [math.nan]})])
    cut = style.fit_to_means(axes.yaxis, limits, log, room=0.7)
    axes.axhline(null, color=style.INK, linewidth=0.8, zorder=1)
    # An open interval ends at the panel's edge.
    low, high = (rows[end].clip(*axes.get_ylim()) for end in ("low", "high"))
    axes.vlines(rows["place"], low, high, color=colour, linewidth=0.7, alpha=0.7, zorder=2)
    excludes = rows["verdict"] != "inconclusive"
    for chosen, face in ((excludes & ~rows["own"], colour), (~excludes & ~rows["own"], style.GROUND)):
        marks: dict[str, Any] = {"marker": "o", "markersize": 2.6, "markeredgewidth": 0.6, "zorder": 3}
        axes.plot(
            rows.loc[chosen, "place"],
            rows.loc[chosen, "effect"],
            linestyle="",
            markerfacecolor=face,
            markeredgecolor=colour,
            **marks,
        )
    own = rows[rows["own"]]
    axes.plot(
        own["place"],
        own["effect"],
        linestyle="",
        marker="D",
        markersize=4.5,
        markerfacecolor=colour if bool(excludes[own.index].all()) else style.GROUND,
        markeredgecolor=style.INK,
        markeredgewidth=0.8,
        zorder=4,
    )
    if log:
        style.log_axis(axes.yaxis)
    else:
        style.percent_axis(axes.yaxis)
    axes.set_ylabel(UNITS.get(str(rows["unit"].iloc[0]), str(rows["unit"].iloc[0])), fontsize=points(7))
    axes.tick_params(axis="y", labelsize=points(6.5))
    return cut


def _draw_matrix(axes: Axes, panel: _Panel) -> None:
    groups = list(dict.fromkeys(choice for choice, _ in panel.options))
    heights, place = [], 0.0
    for group in groups:
        for _ in (choice for choice, _ in panel.options if choice == group):
            heights.append(place)
            place += 1.0
        place += 0.35
    for height, (choice, option) in zip(heights, panel.options, strict=True):
        chosen = panel.rows.loc[panel.rows[choice] == option, "place"]
        axes.plot(chosen, [height] * len(chosen), linestyle="", marker="|", markersize=4.4, color=style.INK)
    axes.set_ylim(place - 0.35, -1.0)
    axes.set_yticks(heights, [_option(*option) for option in panel.options], fontsize=points(6.3))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=True, linewidth=0.4)
    axes.spines[["left", "bottom"]].set_visible(False)


def _option(choice: str, option: str) -> str:
    """What an option is called."""
    if choice in OPTIONS:
        return OPTIONS[choice].get(option, option)
    known = metric(option)
    label = SHORT.get(option) or (known.label if known else option)
    return f"at the same {label}" if choice == "matched" else label


def _is_ratio(panel: _Panel) -> bool:
    return bool(panel.rows["scale"].iloc[0] == "ratio")


def _called(inputs: FigureInputs, loss: str) -> str:
    return inputs.labels.get(loss, loss)


def _counts(rows: pd.DataFrame) -> tuple[int, int, int]:
    """How many have the sign of the claim's own, of how many, and how many intervals exclude no effect."""
    return int(rows["same_sign"].sum()), len(rows), int((rows["verdict"] != "inconclusive").sum())


def _counted(inputs: FigureInputs, panel: _Panel) -> str:
    same, count, excluding = _counts(panel.rows)
    pair = f"{_called(inputs, panel.loss)} against {_called(inputs, panel.baseline)}"
    return f"{panel.claim}, {pair}: {same} of {count} specifications with the same sign, {excluding} exclude no effect"


def _keys() -> list[Line2D]:
    def key(marker: str, face: str, label: str) -> Line2D:
        shown: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": style.INK, "markersize": 4.5}
        return Line2D([], [], linestyle="", marker=marker, label=label, **shown)

    return [
        key("o", style.FAINT, "interval excludes no effect"),
        key("o", style.GROUND, "interval contains it"),
        key("D", style.FAINT, "the claim's own specification"),
    ]


def _remarks(
    inputs: FigureInputs, table: pd.DataFrame, known: pd.DataFrame, pairs: list[tuple[str, str]], cut: list[str]
) -> list[str]:
    missing = []
    if undefined := len(table) - len(known):
        missing.append(
            "1 effect that is not defined" if undefined == 1 else f"{undefined} effects that are not defined"
        )
    if left := pairs[MOST_PAIRS:]:
        losses = ", ".join(f"{_called(inputs, loss)} against {_called(inputs, other)}" for loss, other in left)
        missing.append(f"{losses}: see specifications.csv")
    seeds = sorted(set(known["seeds"].astype(int)))
    bars = (
        f"Bars: 95% t intervals over {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds"
        if seeds
        else ""
    )
    if seeds and known["low"].isna().all():
        bars = "There are no intervals under 3 seeds"
    return [
        f"Not drawn: {'; '.join(missing)}" if missing else "",
        bars,
        "All four claims put the effect below the line" if seeds else "",
        f"Intervals are cut at the panel's edge: {', '.join(dict.fromkeys(cut))}" if cut else "",
        "Same sign: as the claim's own specification",
        "Last quarter: the mean over its snapshots" if (known["epoch"] == "late").any() else "",
        "Level: of C1 the baseline's, after that share of training; of C3 the value at which NC2 is compared",
    ]
