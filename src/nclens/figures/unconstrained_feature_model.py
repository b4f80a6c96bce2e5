"""The unconstrained feature model's two condition numbers, one row a loss: our own figure for claims C5 and C6."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.per_loss import loss_rows
from nclens.figures.tables import Drawing, FigureInputs, FigureSpec, can_be_drawn

QUANTITIES = {
    "kappa_ce": "κ$_\\mathrm{CE}$: loss part only,\nlargest / smallest non-zero eigenvalue",
    "kappa_full": "κ$_\\mathrm{full}$: whole objective, ridge included,\nlargest / smallest eigenvalue",
}


@style.look()
def ufm_conditioning(inputs: FigureInputs) -> Drawing:
    """Condition number of the Hessian at the UFM's global minimiser, by both definitions, closed form and numeric.

    kappa_ce is largest over smallest non-zero eigenvalue of the Hessian of the loss part; kappa_full is largest over
    smallest of the whole objective's, ridge included, over the whole space. Each is of the Hessian in H with W fixed
    or in W with H fixed: the two are the same. The two definitions need not order the losses alike, so both are drawn.
    """
    columns = ["loss", "quantity", "closed_form", "numeric"]
    theory = inputs.theory[inputs.theory["loss"].isin(list(inputs.losses))]
    table = theory.loc[theory["quantity"].isin(list(QUANTITIES)), columns].reset_index(drop=True)
    figure, grid = style.page(1, len(QUANTITIES), 0.8 + 0.36 * len(inputs.losses), sharey=True)
    left_out: list[str] = []
    for (quantity, label), axes in zip(QUANTITIES.items(), grid.flat, strict=True):
        own = table[table["quantity"] == quantity]
        left_out += _omissions(inputs, own, quantity)
        _draw_panel(axes, inputs, own)
        axes.set_xlabel(label)
    loss_rows(grid, inputs)
    style.legend(
        figure,
        [
            Line2D([], [], color=style.FAINT, linewidth=5, alpha=0.5, solid_capstyle="butt", label="closed form"),
            Line2D([], [], linestyle="", marker="o", markersize=5, color=style.FAINT, label="numeric minimiser"),
        ],
    )
    style.notes(
        figure,
        [
            inputs.experiment,
            "Hessian in H with W fixed, or in W with H fixed (the same), at the global minimiser; bars start "
            "at 1, the best there is",
            "No seeds: theory",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    return Drawing(figure, table)


def _omissions(inputs: FigureInputs, own: pd.DataFrame, quantity: str) -> list[str]:
    phrases = []
    for loss in inputs.losses:
        rows = own[own["loss"] == loss]
        if rows.empty:
            phrases.append(f"{quantity}, {inputs.labels[loss]}: not in the theory table")
        for column in ("closed_form", "numeric"):
            if missing := int((~can_be_drawn(rows[column])).sum()):
                phrases.append(f"{quantity}, {inputs.labels[loss]}: {missing} {column.replace('_', ' ')} not finite")
    return phrases


def _draw_panel(axes: Axes, inputs: FigureInputs, own: pd.DataFrame) -> None:
    """Bars from 1 to the closed form, its value beside it, the numeric value as a point."""
    shown = [1.0]
    for row, loss in enumerate(inputs.losses):
        for closed, numeric in own.loc[own["loss"] == loss, ["closed_form", "numeric"]].itertuples(index=False):
            finite = [value for value in (closed, numeric) if pd.notna(value) and abs(value) != float("inf")]
            shown += finite
            axes.barh(row, closed - 1, left=1, height=0.42, color=inputs.colours[loss], alpha=0.45, linewidth=0)
            axes.scatter(numeric, row, s=30, color=inputs.colours[loss], zorder=3)
            if finite:
                axes.annotate(f"{finite[0]:.4g}", (max(finite), row), (7, 0), textcoords="offset points", va="center")
    if len(shown) == 1:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=style.FAINT)
        axes.set_xticks([])
        return
    axes.grid(axis="y", visible=False)
    axes.set_xlim(min(shown), max(shown) + 0.2 * (max(shown) - min(shown)))


FIGURES = {
    "ufm_conditioning": FigureSpec(
        title="Conditioning of the unconstrained feature model",
        source="our own, for claims C5 and C6",
        caption="Condition number of the Hessian at the global minimiser by two definitions: of the loss part alone, "
        "and of the whole objective with its ridge. Bars: closed form; points: the numeric minimiser.",
        draw=ufm_conditioning,
    ),
}
"""The figures of the unconstrained feature model by file stem."""
