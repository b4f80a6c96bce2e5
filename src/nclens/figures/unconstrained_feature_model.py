"""The unconstrained feature model's condition numbers, one row per definition: our own figure for claims C5 and C6."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, can_be_drawn
from nclens.figures.printing import points
from nclens.ufm.explanations import trend
from nclens.ufm.formulas import SYMBOLS
from nclens.ufm.quantities import CONDITION_NUMBERS


class Definition(NamedTuple):
    """How a condition number is written: its symbol, which Hessian it is of, and its colour."""

    symbol: str
    meaning: str
    colour: str


COLOURS = {
    "kappa_ce": "#D55E00",
    "kappa_full": "#E69F00",
    "kappa_full_features": "#8C564B",
    "kappa_full_range": "#CC79A7",
    "kappa_joint": "#0072B2",
    "kappa_joint_logits": "#009E73",
    "kappa_joint_scaled": "#56B4E9",
}
DEFINITIONS = {
    name: Definition(f"${SYMBOLS[name]}$", number.label, COLOURS[name]) for name, number in CONDITION_NUMBERS.items()
}
"""Condition number -> how it is written."""

MARKS: dict[str, dict[str, Any]] = {
    "closed_form": {"markersize": 7.9, "markeredgewidth": 1.2, "markerfacecolor": "none"},
    "numeric": {"markersize": 3.6, "markeredgewidth": 0},
}
"""Column of the theory table -> how its markers look."""


@style.look()
def ufm_conditioning(inputs: FigureInputs) -> Drawing:
    """Condition numbers of the Hessian at the UFM's global minimiser, closed form and numeric, one marker per loss.

    Open markers are closed forms, filled ones eigenvalues at the point that the numeric minimiser found. A loss to the
    right of the baseline is worse conditioned. The definitions may order the losses differently, so all are drawn.
    """
    columns = ["loss", "quantity", "closed_form", "numeric"]
    theory = inputs.theory[inputs.theory["loss"].isin(list(inputs.losses))]
    table = theory.loc[theory["quantity"].isin(list(DEFINITIONS)), columns].reset_index(drop=True)
    shown = [name for name in DEFINITIONS if (table["quantity"] == name).any()]
    figure, grid = style.page(1, 1, 0.6 + 0.42 * max(len(shown), 2))
    axes = grid[0, 0]
    _draw_rows(axes, inputs, table, shown)
    _name_rows(axes, inputs, table, shown)
    marks = style.markers(list(inputs.losses))
    keys = [style.loss_key(inputs.labels[loss], inputs.colours[loss], marks[loss]) for loss in inputs.losses]
    ring: dict[str, Any] = {
        "linestyle": "",
        "marker": "o",
        "color": style.FAINT,
        "markersize": 8,
        "markerfacecolor": style.GROUND,
    }
    style.legend(
        figure,
        [
            *keys,
            Line2D([], [], label="closed form", **ring),
            Line2D([], [], linestyle="", marker="o", markersize=4, color=style.FAINT, label="numeric minimiser"),
        ],
    )
    figure.finding = joined(
        phrase(
            f"Condition number {DEFINITIONS[name].meaning}",
            compared(inputs, table[table["quantity"] == name].set_index("loss")["closed_form"]),
        )
        for name in shown
    )
    left_out = _omissions(inputs, table, shown)
    style.notes(
        figure,
        [
            inputs.experiment,
            "Largest over smallest eigenvalue of the Hessian at the global minimiser; left is better, 1 is the optimum",
            "W or H: with the other one fixed, the two are the same. Scaled: in coordinates that give both ridges the "
            "curvature 1",
            "No seeds: theory",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    return Drawing(figure, table)


def _omissions(inputs: FigureInputs, table: pd.DataFrame, shown: list[str]) -> list[str]:
    phrases = []
    for loss in inputs.losses:
        own = table[table["loss"] == loss]
        absent = [name for name in shown if name not in set(own["quantity"])]
        if absent:
            names = "no condition number" if len(absent) == len(shown) else ", ".join(absent)
            phrases.append(f"{inputs.labels[loss]}: {names}{' in the theory table' * (names != absent)}")
        for column in ("closed_form", "numeric"):
            missing = own.loc[~can_be_drawn(own[column].astype(float)), "quantity"]
            phrases += [f"{inputs.labels[loss]}: {column.replace('_', ' ')} of {name} not finite" for name in missing]
    return phrases


def _draw_rows(axes: Axes, inputs: FigureInputs, table: pd.DataFrame, shown: list[str]) -> None:
    """Open markers at the closed forms, filled ones at the numeric values, a thin line along each row."""
    marks = style.markers(list(inputs.losses))
    finite = table[["closed_form", "numeric"]].to_numpy(float)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        style.empty_panel(axes, "no finite values")
        axes.set_xticks([])
        return
    for row, name in enumerate(shown):
        own = table[table["quantity"] == name]
        values = own["closed_form"].astype(float).dropna()
        if len(values):
            axes.hlines(row, values.min(), values.max(), color="#c8c8c8", linewidth=1, zorder=1)
    for column, look in MARKS.items():
        losses = [loss for loss in inputs.losses if can_be_drawn(table.loc[table["loss"] == loss, column]).any()]
        sns.pointplot(
            table,
            x=column,
            y=table["quantity"].map({name: row for row, name in enumerate(shown)}).astype(float),
            hue="loss",
            hue_order=losses,
            palette=dict(inputs.colours),
            markers=[marks[loss] for loss in losses],
            orient="y",
            native_scale=True,
            errorbar=None,
            linestyle="none",
            zorder=3,
            legend=False,
            ax=axes,
            **look,
        )
    style.clear_labels(axes)
    axes.set_xlim(0.9 * min(finite.min(), 1), 1.15 * max(finite.max(), 10))
    style.log_axis(axes.xaxis)
    axes.axvline(1, color=style.FAINT, linewidth=0.8, zorder=1)
    axes.set_xlabel("condition number")


def _name_rows(axes: Axes, inputs: FigureInputs, table: pd.DataFrame, shown: list[str]) -> None:
    """Above the marks of a row its definition, and how it moves with the smoothing."""
    axes.set_yticks([])
    if not shown:
        return
    axes.set_ylim(len(shown) - 0.5, -0.75)
    for row, name in enumerate(shown):
        axes.axhline(row, color="#e4e4e4", linewidth=0.6, zorder=0)
        own = table[(table["quantity"] == name) & table["loss"].isin(list(inputs.smoothings))]
        moves = trend([inputs.smoothings[loss] for loss in own["loss"]], own["closed_form"].astype(float).tolist())
        words = f"{DEFINITIONS[name].symbol}: {DEFINITIONS[name].meaning}" + (f"; {moves} with δ" if moves else "")
        above: dict[str, Any] = {"xytext": (3, 6.5), "textcoords": "offset points", "fontsize": points(7.5)}
        axes.annotate(words, (0, row), xycoords=axes.get_yaxis_transform(), **above)
