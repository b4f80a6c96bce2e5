"""How fast gradient descent reaches the unconstrained feature model's minimisers, and which condition number says so.

Our own figure for claim C6 of "Cross Entropy versus Label Smoothing" (arXiv 2402.03979), which says that the
conditioning number is lower under label smoothing and that training therefore converges faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.tables import Drawing, FigureInputs, FigureSpec, over_seeds

DISTANCES = {
    "orbit": "to the minimisers",
    "logits": "of the logits",
    "nc1": "NC1",
    "nc2": "NC2",
}
"""Distance -> its name above the column."""

RULES = {"relative": ("same fraction of 1/L", True), "absolute": ("same step for all δ", False)}
"""Step rule -> its name, and whether its points are filled."""

READINGS = {
    "rate_kappa_ce": (r"$\kappa_\mathrm{CE}$", "cross entropy part, W or H", "#D55E00"),
    "rate_kappa_full": (r"$\kappa_\mathrm{full}$", "whole objective, W", "#E69F00"),
    "rate_kappa_full_features": (r"$\kappa_\mathrm{full,H}$", "whole objective, H", "#8C564B"),
    "rate_kappa_full_range": (
        r"$\kappa_\mathrm{full,range}$",
        r"whole objective, directions of $\kappa_\mathrm{CE}$",
        "#CC79A7",
    ),
    "rate_kappa_joint": (r"$\kappa_\mathrm{joint}$", "whole objective, (W, H)", "#0072B2"),
    "rate_kappa_joint_logits": (r"$\kappa_\mathrm{joint,logits}$", "(W, H), what moves the logits", "#009E73"),
    "rate_kappa_joint_scaled": (r"$\kappa_\mathrm{joint,scaled}$", "whole objective, scaled (W, H)", "#56B4E9"),
}
"""Predicted rate -> symbol of its condition number, which Hessian it is of, and its colour."""

CLAIMED = "rate_kappa_ce"
SLOWEST = "rate_linear"
QUADRATIC = ("nc1",)
"""Distances that go with the square of the error, and so have twice its rate."""

SETTING = {
    "classes": "K =",
    "per_class": "n =",
    "dim": "d =",
    "lambda_w": "classifier penalty",
    "lambda_h": "feature penalty",
    "lambda_b": "bias penalty",
}
"""What tells one model of the table from another -> its name in the notes."""
COLUMNS = (
    *("row", "momentum", "step_rule", "distance", "quantity", "tolerance", "smoothing"),
    *("mean", "low", "high", "starts", "not_reached"),
)


@style.look()
def ufm_dynamics(inputs: FigureInputs) -> Drawing:
    """Iterations to a near and to a far tolerance, and the local speed measured and predicted, against the smoothing.

    One column a distance. Rows 1 and 2: iterations until the distance has fallen to the largest and to the smallest
    tolerance of the table, with and without momentum, by both step rules. Rows 3 and 4, plain gradient descent, one
    row a step rule: iterations per e-fold (a factor e) in the local regime, 1 / rate; points are measured, each line is
    what one reading of "condition number" predicts. The line that runs through the points explains the speed. Means
    over random starts are geometric.
    """
    table, others = _setting(inputs)
    tolerances = sorted(table["tolerance"].dropna().unique(), reverse=True)
    shown = [tolerances[0], tolerances[-1]] if tolerances else [np.nan, np.nan]
    rows = [_iterations(table, tolerance).assign(row=place) for place, tolerance in enumerate(shown, start=1)]
    plain = table[table["momentum"] == table["momentum"].min()]
    rows += [_rates(plain[plain["step_rule"] == rule]).assign(row=place) for place, rule in enumerate(RULES, start=3)]
    drawn = pd.concat(rows, ignore_index=True)[list(COLUMNS)]
    figure, grid = style.page(4, len(DISTANCES), 6.7, sharex=True, sharey="row")
    merged = _merged(drawn)
    for place, axes_row in enumerate(grid, start=1):
        own = drawn[drawn["row"] == place]
        for distance, axes in zip(DISTANCES, axes_row, strict=True):
            here = own[own["distance"] == distance]
            if place <= 2:
                _draw_iterations(axes, here)
            else:
                _draw_rates(axes, here, merged)
        _finish_row(axes_row, own)
    _name_axes(grid, shown)
    if len(drawn):
        style.legend(figure, _keys(drawn, merged))
    style.notes(figure, _notes(inputs, table, drawn, others))
    return Drawing(figure, drawn)


def _setting(inputs: FigureInputs) -> tuple[pd.DataFrame, int]:
    """The rows of one model, and how many other models there are; the experiment's number of classes decides."""
    table = inputs.dynamics
    columns = [column for column in SETTING if column in table]
    if table.empty or not columns:
        return table, 0
    models = table[columns].drop_duplicates().reset_index(drop=True)
    chosen = models.iloc[0]
    if "classes" in models and "classes" in inputs.theory and not inputs.theory.empty:
        # The table's models have at most as many classes as the data.
        fitting = models[models["classes"] <= inputs.theory["classes"].max()]
        chosen = fitting.loc[fitting["classes"].idxmax()] if len(fitting) else chosen
    return table[(table[columns] == chosen).all(axis=1)], len(models) - 1


def _average(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Geometric means over starts with their interval, for each combination of keys and smoothing.

    A mean over only those starts that arrived would look faster than it is: it is left empty where one did not.
    """
    if rows.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    # `over_seeds` averages for each loss and epoch: here for each combination of keys, and each smoothing.
    group = rows.groupby(list(keys), sort=False).ngroup()
    given = rows.assign(loss=group, epoch=rows["smoothing"], value=rows["value"].astype(float))
    means = over_seeds(given, log=True).rename(columns={"epoch": "smoothing", "left_out": "not_reached"})
    means["starts"] = means["seeds"] + means["not_reached"]
    means.loc[means["not_reached"] > 0, ["mean", "low", "high"]] = np.nan
    named = rows[list(keys)].assign(loss=group).drop_duplicates()
    return means.merge(named, on="loss").sort_values(["loss", "smoothing"], kind="stable").drop(columns="loss")


def _iterations(table: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    own = table[(table["quantity"] == "iterations") & (table["tolerance"] == tolerance)]
    means = _average(own, ["momentum", "step_rule", "distance"])
    return means.assign(quantity="iterations", tolerance=tolerance)


def _rates(table: pd.DataFrame) -> pd.DataFrame:
    """1 / rate of one step rule, iterations for a factor e: measured, and predicted for each distance."""
    rates = table[table["quantity"].str.startswith("rate")]
    general = rates[~rates["distance"].isin(list(DISTANCES))]
    rates = pd.concat(
        [rates[rates["distance"].isin(list(DISTANCES))], *(general.assign(distance=name) for name in DISTANCES)]
    )
    twice = rates["distance"].isin(QUADRATIC) & ~rates["quantity"].isin(["rate", SLOWEST])
    values = rates["value"].astype(float).mask(twice, 2 * rates["value"].astype(float))
    means = _average(rates.assign(value=1 / values), ["momentum", "step_rule", "distance", "quantity"])
    return means.assign(tolerance=np.nan)


def _draw_iterations(axes: Axes, own: pd.DataFrame) -> None:
    for (momentum, rule), line in own.groupby(["momentum", "step_rule"], sort=True):
        look = _setting_look(momentum == own["momentum"].min(), str(rule))
        axes.plot(line["smoothing"], line["mean"], **look)
        x, low, high = (line[name].to_numpy(float) for name in ("smoothing", "low", "high"))
        if np.isfinite(low).any():
            axes.fill_between(x, low, high, color=style.INK, alpha=0.12, linewidth=0)
        _draw_not_reached(axes, line)


def _draw_not_reached(axes: Axes, line: pd.DataFrame) -> None:
    """A triangle at the panel's upper edge, for there is no number of iterations."""
    x = line.loc[line["mean"].isna(), "smoothing"]
    axes.scatter(
        x,
        np.full(len(x), 0.96),
        transform=axes.get_xaxis_transform(),
        s=16,
        marker="^",
        c=style.GROUND,
        edgecolors=style.INK,
        linewidths=0.8,
        zorder=4,
    )


def _setting_look(plain: bool, rule: str) -> dict[str, Any]:
    filled = RULES.get(rule, ("", False))[1]
    return {
        "color": style.INK if plain else style.FAINT,
        "linestyle": style.STROKES[0 if plain else 1],
        "linewidth": 1.1,
        "marker": "o" if plain else "D",
        "markersize": 3.4 if plain else 2.8,
        "markerfacecolor": ((style.INK if plain else style.FAINT) if filled else style.GROUND),
        "markeredgewidth": 0.8,
    }


def _merged(drawn: pd.DataFrame) -> dict[str, list[str]]:
    """Readings that are drawn -> themselves and those that predict the same everywhere, to a part in 10^9."""
    predicted = drawn[drawn["quantity"].astype(str).str.startswith("rate_") & (drawn["quantity"] != SLOWEST)]
    wide = predicted.pivot_table(
        index=["row", "distance", "smoothing"], columns="quantity", values="mean", dropna=False, sort=False
    )
    groups: dict[str, list[str]] = {}
    for name in [*(name for name in READINGS if name in wide), *(name for name in wide if name not in READINGS)]:
        same = next((first for first in groups if np.allclose(wide[first], wide[name], 1e-9, 0, equal_nan=True)), None)
        groups.setdefault(same or str(name), []).append(str(name))
    return groups


def _reading(name: str) -> tuple[str, str, str]:
    return READINGS.get(name, (name.removeprefix("rate_").replace("_", " "), "", style.FAINT))


def _draw_rates(axes: Axes, own: pd.DataFrame, merged: dict[str, list[str]]) -> None:
    marks = style.markers(list(merged))
    for name in merged:
        line = own[own["quantity"] == name]
        thick = 1.8 if name == CLAIMED else 1.2
        axes.plot(
            line["smoothing"],
            line["mean"],
            color=_reading(name)[2],
            linewidth=thick,
            marker=marks[name],
            markersize=2.6,
            zorder=2.5,
        )
    line = own[own["quantity"] == SLOWEST]
    axes.plot(line["smoothing"], line["mean"], color=style.INK, linestyle=style.STROKES[2], linewidth=1.0, zorder=3)
    line = own[own["quantity"] == "rate"]
    filled = any(RULES.get(rule, ("", False))[1] for rule in line["step_rule"])
    axes.vlines(line["smoothing"], line["low"], line["high"], color=style.INK, linewidth=0.9, zorder=3.5)
    axes.scatter(
        line["smoothing"],
        line["mean"],
        s=20,
        c=style.INK if filled else style.GROUND,
        edgecolors=style.INK,
        linewidths=0.9,
        zorder=4,
    )
    axes.set_title(_verdict(own), fontsize=6.8)


def factors(own: pd.DataFrame) -> dict[str, float]:
    """exp(mean over δ of |log(measured / predicted)|) of each condition number: 1 where it predicts exactly."""
    measured = own[own["quantity"] == "rate"].set_index("smoothing")["mean"].astype(float)
    off = {}
    for name, line in own[own["quantity"].astype(str).str.startswith("rate_kappa")].groupby("quantity"):
        ratio = (measured / line.set_index("smoothing")["mean"].astype(float)).to_numpy()
        if np.isfinite(ratio).any():
            off[str(name)] = float(np.exp(np.nanmean(np.abs(np.log(ratio)))))
    return off


def _verdict(own: pd.DataFrame) -> str:
    """The reading that comes nearest, and the claimed one, with their typical factors."""
    off = factors(own)
    if not off:
        return ""
    nearest = min(off, key=lambda name: off[name])
    lines = [f"nearest: {_reading(nearest)[0]}, off ×{off[nearest]:.2f}"]
    if CLAIMED in off and nearest != CLAIMED:
        lines.append(f"claimed: {_reading(CLAIMED)[0]}, off ×{off[CLAIMED]:.2f}")
    return "\n".join(lines)


def _finish_row(axes_row: np.ndarray, own: pd.DataFrame) -> None:
    """A log axis that holds all means of a row of panels, and words where a panel is empty."""
    for distance, axes in zip(DISTANCES, axes_row, strict=True):
        here = own[own["distance"] == distance]
        text = "not reached" if (here["not_reached"] > 0).any() else "no values"
        if own["mean"].isna().all():
            style.empty_panel(axes, text)
        elif here["mean"].isna().all():  # the axis is shared with panels that need its ticks
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=style.FAINT)
    if own["mean"].notna().any():
        # Room above for the triangles of what was not reached.
        style.fit_to_means(axes_row[0].yaxis, own, log=True, margin=0.12 if own["mean"].isna().any() else 0.06)
        style.log_axis(axes_row[0].yaxis)


def _name_axes(grid: np.ndarray, tolerances: Sequence[float]) -> None:
    for axes, name in zip(grid[0], DISTANCES.values(), strict=True):
        axes.set_title(name)
    for axes, tolerance in zip(grid[:2, 0], tolerances, strict=True):
        axes.set_ylabel("iterations" + ("" if np.isnan(tolerance) else f"\nto distance {_power(tolerance)}"))
    for axes, (name, _) in zip(grid[2:, 0], RULES.values(), strict=True):
        axes.set_ylabel(f"iterations per e-fold\n{name}")
    for axes in grid[-1]:
        axes.set_xlabel("smoothing δ")


def _power(value: float) -> str:
    return f"$10^{{{np.log10(value):.3g}}}$" if value < 0.01 else f"{value:g}"


def _keys(drawn: pd.DataFrame, merged: dict[str, list[str]]) -> list[Artist]:
    handles: list[Artist] = []
    momenta = sorted(drawn.loc[drawn["row"] <= 2, "momentum"].unique())
    for momentum in momenta:
        for rule, (name, _) in RULES.items():
            method = "gradient descent" if momentum == 0 else f"momentum {momentum:g}"
            look = _setting_look(momentum == momenta[0], rule)
            handles.append(Line2D([], [], label=f"{method}, {name}", **look))
    marks = style.markers(list(merged))
    for name, same in merged.items():
        symbols = " = ".join(_reading(other)[0] for other in same)
        meanings = [text for text in (_reading(other)[1] for other in same) if text]
        meaning = " or ".join([*meanings[:1], *(text.removeprefix("whole objective, ") for text in meanings[1:])])
        label = f"{symbols}: {meaning}" if meaning else symbols
        handles.append(style.loss_key(label, _reading(name)[2], marks[name]))
    if (drawn["quantity"] == SLOWEST).any():
        label = "slowest curvature that changes this distance"
        handles.append(Line2D([], [], color=style.INK, linestyle=style.STROKES[2], linewidth=1.0, label=label))
    return handles


def _notes(inputs: FigureInputs, table: pd.DataFrame, drawn: pd.DataFrame, others: int) -> list[str]:
    if table.empty:
        return [inputs.experiment, "No dynamics of the unconstrained feature model in the table"]
    starts = table["start"].nunique()
    model = ", ".join(f"{name} {table[column].iloc[0]:.3g}" for column, name in SETTING.items() if column in table)
    fraction = table.loc[table["step_rule"] == "relative", "fraction"]
    step = f": step = {fraction.median():.3g}/L at each δ" if len(fraction) else ""
    return [
        f"{inputs.experiment}, unconstrained feature model" + (f", {model}" if model else ""),
        f"{starts} random start{'s' if starts != 1 else ''}, geometric means"
        + (", bands and bars: 95% t-intervals" if starts > 1 else ", no intervals (they take two starts)"),
        "Distances are relative: to the orbit of minimisers under rotations, of the logits, and NC1 and NC2 over their "
        "value at the start",
        f"Same fraction{step}, L the largest curvature at the minimiser; same step: the smallest of these",
        "Lower rows, gradient descent near the minimiser: points are measured, a line is what a condition number "
        "predicts; the line that runs through the points explains the speed",
        "NC1 goes with the square of the error, its lines with half the iterations",
        "Off: typical factor between measured and predicted, exp(mean over δ of |log ratio|), of the condition number "
        r"that comes nearest and of $\kappa_\mathrm{CE}$, by which claim C6's condition number falls (that the paper "
        "means this one is an inference)",
        *_momentum_notes(table),
        *_gaps(table, drawn),
        f"Not drawn: {others} other model{'s' if others > 1 else ''} of the table" if others else "",
    ]


def _momentum_notes(table: pd.DataFrame) -> list[str]:
    """The rates with momentum, which have no panel, as ranges."""
    notes = []
    for momentum, own in table[table["momentum"] > table["momentum"].min()].groupby("momentum"):
        linear = own[~own["distance"].isin(QUADRATIC)]
        measured = linear.loc[linear["quantity"] == "rate", "value"].astype(float).dropna()
        predicted = own.loc[own["quantity"].str.startswith("rate_kappa"), "value"].astype(float).dropna()
        if len(measured) and len(predicted):
            notes.append(
                f"Momentum {momentum:g} has no lower row: the condition numbers predict rates of {_range(predicted)} a "
                f"step, measured {_range(measured)} (without NC1)"
            )
    return notes


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _gaps(table: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    """What was not reached, diverged or has no rate, counted over δ and starts."""
    gaps = drawn[(drawn["not_reached"] > 0)]
    reached, rates = gaps[gaps["quantity"] == "iterations"], gaps[gaps["quantity"] != "iterations"]
    notes = []
    if len(reached):
        listed = _counts(reached, "tolerance")
        notes.append(f"Triangles: some start did not reach it, no mean (runs: {listed})")
    if len(rates):
        notes.append(f"Not drawn, for some start has no finite rate (runs: {_counts(rates, 'quantity')})")
    if diverged := int(table.loc[table["quantity"] == "diverged", "value"].astype(float).sum()):
        notes.append(f"{diverged} runs diverged")
    return notes


def _counts(gaps: pd.DataFrame, key: str) -> str:
    """How many runs are behind the gaps, for each distance and value of the key."""
    counts = gaps.groupby(["distance", key], sort=False)["not_reached"].sum().reset_index()
    parts = (counts["distance"], counts[key], counts["not_reached"])
    return ", ".join(f"{distance} {value}: {int(count)}" for distance, value, count in zip(*parts, strict=True))


FIGURES = {
    "ufm_dynamics": FigureSpec(
        title="Speed of gradient descent in the unconstrained feature model, and what explains it",
        source="our own, for claim C6",
        caption="Against the smoothing: iterations to a near and to a far tolerance (rows 1 and 2), and iterations per "
        "e-fold near the minimiser (rows 3 and 4), measured (points) and predicted by each condition number "
        "(lines). The line that runs through the points explains the speed; the others do not.",
        draw=ufm_dynamics,
    ),
}
"""The figures of the dynamics by file stem."""
