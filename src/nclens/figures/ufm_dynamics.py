"""Speed of gradient descent on the unconstrained feature model, and the condition number that explains it.

Our own figure for claim C6 of "Cross Entropy versus Label Smoothing" (arXiv 2402.03979), which says that the
conditioning number is lower under label smoothing and that training therefore converges faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.findings import joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, centre, interval, over_seeds
from nclens.figures.unconstrained_feature_model import DEFINITIONS, Definition
from nclens.ufm.explanations import TOLERANCE, explanations, relative_iterations
from nclens.ufm.quantities import CLAIMED

DISTANCES = {
    "orbit": "to the minimisers",
    "logits": "of the logits",
    "nc1": "NC1",
    "nc2": "NC2",
}
"""Distance -> its name above the column."""

RULES = {"relative": "same fraction of 1/L", "absolute": "same step for all δ"}
"""Step rule -> its name; a row of panels each."""

SLOWEST = Definition("slowest error", "that changes this distance", style.INK)
VERDICTS = {
    "explained": ("#00755a", style.GROUND),
    "direction only": ("#bfe3d8", style.INK),
    "not explained": ("#f1f1f1", style.FAINT),
}
"""Verdict on a condition number -> colour of its cell and of the number in it."""

SETTING = {
    "classes": "K =",
    "per_class": "n =",
    "dim": "d =",
    "lambda_w": "classifier penalty",
    "lambda_h": "feature penalty",
    "lambda_b": "bias penalty",
}
"""What tells one model of the table from another -> its name in the notes."""
KEYS = ("momentum", "step_rule", "distance", "quantity", "tolerance")
FEWEST_STARTS = 2
"""The fewest random starts whose mean has an interval. Starts differ less than trained networks."""
COLUMNS = (
    *("row", "momentum", "step_rule", "distance", "quantity", "tolerance", "smoothing"),
    *("mean", "low", "high", "starts", "not_reached", "factor", "verdict"),
)


@style.look()
def ufm_dynamics(inputs: FigureInputs) -> Drawing:
    """Iterations relative to those at the smallest smoothing, measured and predicted.

    One column per distance. Rows 1 and 2, one per step rule: discs are iterations per e-fold (a factor e) near the
    minimiser, each line is the prediction of one condition number for them, diamonds are iterations from the
    start to the smallest tolerance of the table. Row 3 rates the condition numbers: by how much the worst prediction of
    each is off. All are ratios to the smallest smoothing, start by start; means over random starts are geometric.
    """
    table, others = _setting(inputs)
    ratios = relative_iterations(table)
    rows = _shown(ratios)
    drawn = pd.concat([_lines(rows), _cells(ratios)], ignore_index=True)[list(COLUMNS)]
    merged = _merged(drawn)
    figure, grid = style.page(3, len(DISTANCES), 5.0, sharey="row", height_ratios=[1, 1, 0.95])
    for place, (rule, axes_row) in enumerate(zip(RULES, grid[:2], strict=True), start=1):
        for distance, axes in zip(DISTANCES, axes_row, strict=True):
            own = drawn[(drawn["row"] == place) & (drawn["distance"] == distance)]
            _draw_lines(axes, own, merged)
            _draw_points(axes, own, rows[(rows["step_rule"] == rule) & (rows["distance"] == distance)])
        _finish_row(axes_row, drawn[drawn["row"] == place])
    for distance, axes in zip(DISTANCES, grid[2], strict=True):
        _draw_cells(axes, drawn[(drawn["row"] == 3) & (drawn["distance"] == distance)], merged)
    _name_axes(grid, table)
    if len(drawn):
        style.legend(figure, _keys(drawn, merged))
    figure.finding = _finding(drawn)
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


def _shown(ratios: pd.DataFrame) -> pd.DataFrame:
    """Rates of plain gradient descent, and iterations to the smallest tolerance of every momentum, start by start."""
    plain, last = ratios["momentum"] == ratios["momentum"].min(), ratios["tolerance"] == ratios["tolerance"].min()
    return ratios[(plain & ratios["quantity"].str.startswith("rate")) | (last & (ratios["quantity"] == "iterations"))]


def _lines(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over starts of `_shown`.

    A mean over only those starts that arrived would look faster than it is: it is left empty where one did not.
    """
    if rows.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    keys = list(KEYS)
    # `over_seeds` averages for each loss and epoch: here for each combination of keys, and each smoothing.
    group = rows.groupby(keys, sort=False, dropna=False).ngroup()
    means = over_seeds(rows.assign(loss=group, epoch=rows["smoothing"]), log=True, fewest=FEWEST_STARTS)
    means = means.rename(columns={"epoch": "smoothing", "left_out": "not_reached"})
    means["starts"] = means["seeds"] + means["not_reached"]
    means.loc[means["not_reached"] > 0, ["mean", "low", "high"]] = np.nan
    means = means.merge(rows[keys].assign(loss=group).drop_duplicates(), on="loss")
    means = means.sort_values(["loss", "smoothing"], kind="stable").drop(columns="loss")
    return means.assign(row=means["step_rule"].map({rule: place for place, rule in enumerate(RULES, start=1)}))


def _cells(ratios: pd.DataFrame) -> pd.DataFrame:
    judged = explanations(ratios)
    quantity = "rate_" + judged["predictor"].astype(str)
    return judged.assign(row=3, momentum=ratios["momentum"].min(), quantity=quantity)


def _merged(drawn: pd.DataFrame) -> dict[str, list[str]]:
    """Condition numbers that are drawn -> themselves and those that predict the same everywhere, to a part in 10^9."""
    predicted = drawn[(drawn["row"] < 3) & drawn["quantity"].astype(str).str.startswith("rate_kappa")]
    wide = predicted.pivot_table(
        index=["row", "distance", "smoothing"], columns="quantity", values="mean", dropna=False, sort=False
    )
    wide = wide.rename(columns=lambda name: str(name).removeprefix("rate_"))
    groups: dict[str, list[str]] = {}
    for name in [*(name for name in DEFINITIONS if name in wide), *(name for name in wide if name not in DEFINITIONS)]:
        same = next((first for first in groups if np.allclose(wide[first], wide[name], 1e-9, 0, equal_nan=True)), None)
        groups.setdefault(same or str(name), []).append(str(name))
    return groups


def _definition(name: str) -> Definition:
    return DEFINITIONS.get(name, Definition(name.replace("_", " "), "", style.FAINT))


def _symbols(names: Sequence[str]) -> str:
    return " = ".join(_definition(name).symbol for name in names)


def _draw_lines(axes: Axes, own: pd.DataFrame, merged: dict[str, list[str]]) -> None:
    """The predictions, one line per condition number, and that of the slowest error."""
    axes.axhline(1, color=style.FAINT, linewidth=0.8, zorder=1)
    marks = style.markers(list(merged))
    looks: dict[str, dict[str, Any]] = {
        name: {"color": _definition(name).colour, "linewidth": 2.0 if name == CLAIMED else 1.1, "marker": marks[name]}
        for name in merged
    }
    looks["linear"] = {"color": style.INK, "linewidth": 1.0, "linestyle": style.LINE_STYLES[2], "zorder": 3}
    for name, look in looks.items():
        line = own[own["quantity"] == f"rate_{name}"]
        # A line ends where a prediction is missing.
        for _, part in line.groupby(line["mean"].isna().cumsum()):
            more = {"markersize": 2.6, "markeredgewidth": 0, "zorder": 2.5} | look
            sns.lineplot(part, x="smoothing", y="mean", estimator=None, ax=axes, **more)
    style.clear_labels(axes)


def _draw_points(axes: Axes, own: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Iterations: geometric means over starts with their intervals; a triangle where a start did not arrive."""
    found = own[own["quantity"].isin(["rate", "iterations"])]
    for (quantity, momentum), means in found.groupby(["quantity", "momentum"], sort=True):
        look = _points(quantity == "rate", momentum == found["momentum"].min())
        arrived = means.loc[means["mean"].notna(), "smoothing"]
        values = rows[(rows["quantity"] == quantity) & (rows["momentum"] == momentum)]
        values = values[values["smoothing"].isin(arrived)]
        if len(values):
            sns.pointplot(
                values,
                x="smoothing",
                y="value",
                native_scale=True,
                estimator=partial(centre, log=True),
                errorbar=partial(interval, log=True, fewest=FEWEST_STARTS),
                linestyle="none",
                color=look["markeredgecolor"],
                err_kws={"linewidth": 0.9, "zorder": 3.5},
                zorder=4,
                ax=axes,
                **look,
            )
        absent = means.loc[means["mean"].isna() & (means["not_reached"] > 0), "smoothing"]
        # At the panel's upper edge, for there is no number.
        where: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "linestyle": "", "zorder": 4}
        axes.plot(absent, np.full(len(absent), 0.96), **(look | {"marker": "^"}), **where)
    style.clear_labels(axes)


def _points(local: bool, plain: bool) -> dict[str, Any]:
    ink = style.INK if plain else style.FAINT
    shape = {"marker": "o", "markersize": 4.2} if local else {"marker": "D", "markersize": 3.6}
    fill = ink if local else style.GROUND
    return {**shape, "markerfacecolor": fill, "markeredgecolor": ink, "markeredgewidth": 0.8}


def _draw_cells(axes: Axes, own: pd.DataFrame, merged: dict[str, list[str]]) -> None:
    """One cell per prediction and step rule: the colour is the verdict, the number how far the worst ratio is off."""
    names, verdicts = [*merged, "linear"], list(VERDICTS)
    if own.empty:
        axes.grid(False)
        style.empty_panel(axes, "no values")
        return
    cells = own.assign(
        name=own["quantity"].str.removeprefix("rate_"),
        code=own["verdict"].map(verdicts.index).astype(float),
        text=[_factor(factor) for factor in own["factor"].astype(float)],
    )
    codes, texts = (
        cells.pivot(index="name", columns="step_rule", values=column).reindex(index=names, columns=list(RULES))
        for column in ("code", "text")
    )
    style.heat_map(
        axes,
        codes,
        cmap=ListedColormap([colour for colour, _ in VERDICTS.values()]),
        vmin=0,
        vmax=len(VERDICTS) - 1,
        annot=texts.to_numpy(),
        linewidths=1.5,
        linecolor=style.GROUND,
        xticklabels=["same\nfraction", "same\nstep"],
        yticklabels=[_symbols(merged[name]) if name in merged else SLOWEST.symbol for name in names],
    )
    axes.tick_params(length=0, rotation=0)
    shown = codes.to_numpy().ravel()
    for text, code in zip(axes.texts, shown[np.isfinite(shown)], strict=True):
        verdict = verdicts[int(code)]
        text.set(color=VERDICTS[verdict][1], fontweight="bold" if verdict == "explained" else "normal")


def _factor(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"×{value:.2f}" if value < 10 else f"×{value:.3g}"


def _finish_row(axes_row: np.ndarray, own: pd.DataFrame) -> None:
    """A log axis that holds all means of a row of panels, and a note where a panel is empty."""
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
        low, high = axes_row[0].get_ylim()
        for axes in axes_row:
            axes.axhspan(low, min(1, high), color="#0072B2", alpha=0.06, linewidth=0, zorder=0)


def _name_axes(grid: np.ndarray, table: pd.DataFrame) -> None:
    for axes, name in zip(grid[0], DISTANCES.values(), strict=True):
        axes.set_title(name)
    least = f"those at δ = {table['smoothing'].min():g}" if len(table) else "those at the smallest δ"
    for axes, name in zip(grid[:2, 0], RULES.values(), strict=True):
        axes.set_ylabel(f"iterations, over\n{least},\n{name}")
    for axes in grid[:2].flat:
        axes.set_xlabel("smoothing δ")
        axes.label_outer(remove_inner_ticks=False) if axes not in grid[1] else None


def _keys(drawn: pd.DataFrame, merged: dict[str, list[str]]) -> list[Artist]:
    handles: list[Artist] = []
    marks = style.markers(list(merged))
    for name, same in merged.items():
        meanings = [text for text in (_definition(other).meaning for other in same) if text]
        meaning = " or ".join([*meanings[:1], *(text.removeprefix("whole objective, ") for text in meanings[1:])])
        label = f"{_symbols(same)}: {meaning}" if meaning else _symbols(same)
        handles.append(style.loss_key(label, _definition(name).colour, marks[name]))
    if (drawn["quantity"] == "rate_linear").any():
        label = f"{SLOWEST.symbol} {SLOWEST.meaning}"
        handles.append(Line2D([], [], color=style.INK, linestyle=style.LINE_STYLES[2], linewidth=1.0, label=label))
    return handles


def _marks(drawn: pd.DataFrame) -> str:
    """What discs, diamonds and the colours of cells mean: a legend of these would hide that of the lines."""
    iterations = drawn.loc[drawn["quantity"] == "iterations", ["momentum", "tolerance"]].drop_duplicates()
    phrases = ["Discs: gradient descent near the minimiser"] if (drawn["quantity"] == "rate").any() else []
    if len(iterations):
        momenta = [f"momentum {value:g}" for value in sorted(iterations["momentum"]) if value > 0]
        grey = f" (grey: {', '.join(momenta)})" if momenta else ""
        phrases.append(f"diamonds: from the start to {_power(iterations['tolerance'].min())}{grey}")
    if drawn["verdict"].notna().any():
        phrases.append(f"dark cells: within {TOLERANCE:.0%} at every δ, pale ones: the direction only")
    return "; ".join(phrases)


def _finding(drawn: pd.DataFrame) -> str:
    """For each distance the condition numbers that explain the speed with either step."""
    cells = drawn[(drawn["row"] == 3) & drawn["quantity"].astype(str).str.startswith("rate_kappa")]
    phrases = []
    for distance, own in cells.groupby("distance", sort=False):
        explained = own[own["verdict"] == "explained"].groupby("quantity", sort=False).size()
        names = [str(name).removeprefix("rate_").replace("_", " ") for name in explained[explained == len(RULES)].index]
        phrases.append(phrase(f"distance {DISTANCES.get(str(distance), distance)}", ", ".join(names) or "none"))
    return joined(["Condition numbers that explain the speed with either step", *phrases]) if phrases else ""


def _power(value: float) -> str:
    return f"$10^{{{np.log10(value):.3g}}}$" if value < 0.01 else f"{value:g}"


def _notes(inputs: FigureInputs, table: pd.DataFrame, drawn: pd.DataFrame, others: int) -> list[str]:
    if table.empty:
        return [inputs.experiment, "No dynamics of the unconstrained feature model in the table"]
    starts = table["start"].nunique()
    model = ", ".join(f"{name} {table[column].iloc[0]:.3g}" for column, name in SETTING.items() if column in table)
    fraction = table.loc[table["step_rule"] == "relative", "fraction"]
    step = f": step = {fraction.median():.3g}/L at each δ" if len(fraction) else ""
    return [
        f"{inputs.experiment}, unconstrained feature model",
        _marks(drawn),
        *_gaps(table, drawn),
        f"Not drawn: {others} other model{'s' if others > 1 else ''} of the table" if others else "",
        model,
        f"Shaded: fewer iterations than at δ = {table['smoothing'].min():g}",
        f"{starts} random start{'s' if starts != 1 else ''}, geometric means"
        + (", bars: 95% t-intervals" if starts > 1 else ", no intervals (they take two starts)"),
        f"Same fraction{step}, L the largest curvature at the minimiser; same step: the smallest of these",
        "Lines are predictions for the discs: iterations per factor e near the minimiser; the line that runs through "
        "them explains the speed. Cells: the largest factor between prediction and disc",
        "Distances are relative: to the orbit of minimisers under rotations, of the logits, and NC1 and NC2 over their "
        "value at the start",
        rf"Claim C6's condition number falls with δ as {DEFINITIONS[CLAIMED].symbol} does; that the paper means this "
        "one is an inference",
        *_momentum_notes(table),
    ]


def _momentum_notes(table: pd.DataFrame) -> list[str]:
    """The local rates with momentum, which have no panel, as ranges."""
    notes = []
    for momentum, own in table[table["momentum"] > table["momentum"].min()].groupby("momentum"):
        linear = own[own["distance"] != "nc1"]  # nc1 is quadratic: twice the rate
        measured = linear.loc[linear["quantity"] == "rate", "value"].astype(float).dropna()
        predicted = own.loc[own["quantity"].str.startswith("rate_kappa"), "value"].astype(float).dropna()
        if len(measured) and len(predicted):
            notes.append(
                f"Momentum {momentum:g}: the condition numbers predict rates of {_range(predicted)} a step near the "
                f"minimiser, measured {_range(measured)} (without NC1)"
            )
    return notes


def _range(values: pd.Series) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _gaps(table: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    """What was not reached, diverged or has no rate, counted over δ and starts."""
    gaps = drawn[drawn["not_reached"] > 0]
    reached, rates = gaps[gaps["quantity"] == "iterations"], gaps[gaps["quantity"] != "iterations"]
    notes = []
    if len(reached):
        notes.append(f"Triangles: some start did not arrive, here or at the smallest δ ({_counts(reached)})")
    if len(rates):
        notes.append(f"Not drawn, as some start has no finite rate, here or at the smallest δ ({_counts(rates)})")
    if diverged := int(table.loc[table["quantity"] == "diverged", "value"].astype(float).sum()):
        notes.append(f"{diverged} runs diverged")
    return notes


def _counts(gaps: pd.DataFrame) -> str:
    """How many ratios are missing, for each distance and quantity."""
    counts = gaps.groupby(["distance", "quantity"], sort=False)["not_reached"].sum().reset_index()
    parts = (counts["distance"], counts["quantity"], counts["not_reached"])
    return "ratios: " + ", ".join(
        f"{distance} {name}: {int(count)}" for distance, name, count in zip(*parts, strict=True)
    )
