"""What students learn from teachers: their error against the teacher's smoothing and against the temperature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import (
    FEWEST_SEEDS,
    Drawing,
    FigureInputs,
    can_be_drawn,
    interval,
    interval_note,
    omissions,
    seeds_note,
)

LOOKS: dict[str, tuple[str, str, str]] = {
    "teacher": ("teacher", style.FAINT, "s"),
    "student": ("student", "#0072B2", "o"),
    "alone": ("student's network alone", "#D55E00", "^"),
}
"""Kind of line -> its name, colour and marker."""
LEVELS = {"CE": "alone, with CE", "LS": "alone, with its best LS"}
"""Horizontal line of the right panel -> its name."""
COLUMNS = ["panel", "series", "label", "loss", "x", "seed", "mean", "low", "high", "seeds", "left_out"]


_interval = partial(interval, least=0.0, most=1.0)


@dataclass(frozen=True)
class Line:
    """One line of a panel, with the loss entries at its points.

    Attributes:
        series: key of `LOOKS`.
        label: what it is called in the legend.
        losses: position on the horizontal axis -> the entry shown there.
        metric: of the entry, on the test set.
    """

    series: str
    label: str
    losses: dict[float, str]
    metric: str = "error"


@style.look()
def distillation(inputs: FigureInputs) -> Drawing:
    """Test error of students against their teacher's smoothing (left) and the temperature (right), last epoch.

    Only teachers trained with cross entropy or label smoothing are shown. Points are means over seeds, bars their 95%
    t-intervals. For comparison: the teachers, and the student's network trained alone.
    """
    rows = pd.concat(
        [
            inputs.select(metric, "test", inputs.last_epoch).assign(metric=metric)
            for metric in ("error", "teacher_error")
        ]
    )
    figure, grid = style.page(1, 2, 2.9, sharey=True)
    panels = {"smoothing": list(_against_smoothing(inputs)), "temperature": list(_against_temperature(inputs))}
    tables = []
    for (panel, lines), axes in zip(panels.items(), grid.flat, strict=True):
        table = pd.concat([_points(panel, line, rows) for line in lines] or [pd.DataFrame(columns=COLUMNS)])
        _draw(axes, lines, rows, table, log=panel == "temperature")
        tables.append(table)
    levels = _levels(inputs, rows) if panels["temperature"] else pd.DataFrame(columns=COLUMNS)
    for level in levels.itertuples():
        grid[0, 1].axhline(level.mean, **_level_look(str(level.series)))
    _finish(grid[0], list(panels.values()))
    style.legend(figure, _keys(list(panels.values()), levels))
    shown = {loss for lines in panels.values() for line in lines for loss in line.losses.values()}
    hidden = [inputs.labels[loss] for loss in inputs.teachers if loss not in shown]
    left_out = omissions(inputs, rows[rows["metric"] == "error"].drop(columns="metric"), "error (test)")
    table = pd.concat([table for table in (*tables, levels) if len(table)] or [tables[0]], ignore_index=True)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}, test set",
            interval_note(inputs, table, "Point", "bar", "small points")
            + "; points at the same position are shifted apart",
            "δ = 0: cross entropy. Each student learns from the teacher of its own seed",
            "Not in either panel: " + ", ".join(hidden) if hidden else "",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    students = table[table["series"] == "student"].drop_duplicates("loss").set_index("loss")["mean"]
    figure.finding = joined([phrase("Test error of students", compared(inputs, students))])
    return Drawing(figure, table[COLUMNS])


def _against_smoothing(inputs: FigureInputs) -> Iterator[Line]:
    """Students of one temperature and weight whose teachers differ in δ; those teachers; the student's network alone.

    A group without a smoothed teacher is only in the other panel.
    """
    groups: dict[tuple[str, float, float], dict[float, str]] = {}
    for loss, teacher in inputs.teachers.items():
        if teacher["smoothing"] is not None:
            key = (teacher["experiment"], teacher["temperature"], teacher["weight"])
            groups.setdefault(key, {})[teacher["smoothing"]] = loss
    groups = {key: losses for key, losses in groups.items() if max(losses) > 0}
    several = len({experiment for experiment, *_ in groups}) > 1
    for experiment in dict.fromkeys(experiment for experiment, *_ in groups):
        of_teacher = {x: loss for key, losses in groups.items() if key[0] == experiment for x, loss in losses.items()}
        yield Line("teacher", "teacher" + (f" of {experiment}" if several else ""), of_teacher, "teacher_error")
    for (experiment, temperature, weight), losses in groups.items():
        yield Line("student", _words(f"T = {temperature:g}", weight, experiment if several else ""), losses)
    alone = {smoothing: loss for loss, smoothing in inputs.smoothings.items() if loss not in inputs.teachers}
    if groups and alone:
        yield Line("alone", "student's network alone, with δ", alone)


def _against_temperature(inputs: FigureInputs) -> Iterator[Line]:
    """Students of one teacher at two temperatures or more, and the teacher."""
    groups: dict[tuple[str, str, float], dict[float, str]] = {}
    for loss, teacher in inputs.teachers.items():
        if teacher["smoothing"] is not None:
            key = (teacher["experiment"], teacher["loss"], teacher["weight"])
            groups.setdefault(key, {})[teacher["temperature"]] = loss
    groups = {key: losses for key, losses in groups.items() if len(losses) > 1}
    several = len({experiment for experiment, *_ in groups}) > 1
    shown: set[str] = set()
    for (experiment, _, weight), losses in groups.items():
        teacher = inputs.teachers[next(iter(losses.values()))]["label"]
        label = f"teacher, {teacher}" + (f" of {experiment}" if several else "")
        if label not in shown:
            shown.add(label)
            yield Line("teacher", label, losses, "teacher_error")
        yield Line("student", _words(f"of {teacher}", weight, experiment if several else ""), losses)


def _words(what: str, weight: float, experiment: str) -> str:
    parts = [f"student {what}" if what.startswith("of") else f"student, {what}"]
    parts += [f"b = {weight:g}"] if weight != 1 else []
    return ", ".join([*parts, *([f"teachers of {experiment}"] if experiment else [])])


def _points(panel: str, line: Line, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per point: mean over seeds and its interval; where seeds are too few for one, one row per seed too."""
    made = []
    for x, loss in sorted(line.losses.items()):
        own = rows[(rows["metric"] == line.metric) & (rows["loss"] == loss)]
        key = {"panel": panel, "series": line.series, "label": line.label, "loss": loss, "x": x}
        mean = _over_seeds(own["value"])
        made.append(key | mean)
        if 1 < mean["seeds"] < FEWEST_SEEDS:
            found = own[can_be_drawn(own["value"])]
            made += [
                key | {"seed": seed, "mean": value} for seed, value in zip(found["seed"], found["value"], strict=True)
            ]
    return pd.DataFrame(made, columns=COLUMNS)


def _over_seeds(values: pd.Series) -> dict[str, Any]:
    usable = values[can_be_drawn(values)]
    low, high = _interval(usable)
    counts = {"seeds": len(usable), "left_out": len(values) - len(usable)}
    return {"seed": np.nan, "mean": usable.mean(), "low": low, "high": high, **counts}


def _levels(inputs: FigureInputs, rows: pd.DataFrame) -> pd.DataFrame:
    """The student's network trained alone: with cross entropy, and with the label smoothing of the lowest mean."""
    alone = {loss: smoothing for loss, smoothing in inputs.smoothings.items() if loss not in inputs.teachers}
    errors = rows[rows["metric"] == "error"]
    made = [
        {"panel": "temperature", "series": "LS" if smoothing else "CE", "label": inputs.labels[loss], "loss": loss}
        | {"x": np.nan, **_over_seeds(errors.loc[errors["loss"] == loss, "value"])}
        for loss, smoothing in alone.items()
    ]
    table = pd.DataFrame(made, columns=COLUMNS)
    table = table[table["mean"].notna()].sort_values("mean", kind="stable")
    return table.drop_duplicates("series").sort_values("series", kind="stable")


def _level_look(series: str) -> dict[str, Any]:
    return {"color": LOOKS["alone"][1], "linestyle": style.LINE_STYLES[2 if series == "CE" else 1], "linewidth": 1.2}


def _draw(axes: Axes, lines: Sequence[Line], rows: pd.DataFrame, table: pd.DataFrame, *, log: bool) -> None:
    """Lines through the means, with their intervals as bars or the seeds; points at the same x are shifted."""
    places = [x for line in lines for x in line.losses]
    if not places:
        return
    span = np.log(max(places) / min(places)) if log else max(places) - min(places)
    for (place, line), line_style in zip(enumerate(lines), _line_styles(lines), strict=True):
        shift = 0.012 * (place - (len(lines) - 1) / 2) * (span or 1.0)
        at = {loss: x * np.exp(shift) if log else x + shift for x, loss in line.losses.items()}
        own = rows[(rows["metric"] == line.metric) & rows["loss"].isin(list(at)) & can_be_drawn(rows["value"])]
        _, colour, marker = LOOKS[line.series]
        sns.lineplot(
            x=own["loss"].map(at).astype(float),
            y=own["value"],
            errorbar=_interval if table["low"].notna().any() else None,
            err_style="bars",
            err_kws={"elinewidth": 1.0},
            color=colour,
            linestyle=line_style,
            marker=marker,
            markersize=4.5,
            markeredgecolor=colour,
            ax=axes,
        )
        seeds = table[(table["label"] == line.label) & table["seed"].notna()]
        axes.plot(seeds["loss"].map(at), seeds["mean"], marker=marker, color=colour, **style.SEED_DOT)
    style.clear_labels(axes)


def _line_styles(lines: Sequence[Line]) -> list[Any]:
    """Line styles that tell the lines of one kind apart."""
    seen: dict[str, int] = {}
    styles = []
    for line in lines:
        styles.append(style.LINE_STYLES[seen.get(line.series, 0) % len(style.LINE_STYLES)])
        seen[line.series] = seen.get(line.series, 0) + 1
    return styles


def _finish(panels: np.ndarray, lines: Sequence[Sequence[Line]]) -> None:
    """Name the axes, whose vertical one both panels share; say where there is nothing to draw."""
    left, right = panels
    left.set(xlabel="smoothing δ (the teacher's, or the network's own)", ylabel="test error (%)")
    right.set(xlabel="temperature T")
    style.percent_axis(left.yaxis)
    if lines[0]:
        smoothings = sorted({x for line in lines[0] for x in line.losses})
        left.set_xticks(smoothings, [f"{value:g}" for value in smoothings])
    if lines[1]:
        temperatures = sorted({x for line in lines[1] for x in line.losses})
        right.set_xscale("log")
        right.set_xticks(temperatures, [f"{value:g}" for value in temperatures])
        right.set_xticks([], minor=True)
    for axes, shown, what in zip(panels, lines, ("a smoothed teacher", "a teacher at two temperatures"), strict=True):
        taught = [line.label for line in shown if line.series == "student"]
        axes.set_title(taught[0] if len(taught) == 1 else "")
        if not shown:
            axes.text(0.5, 0.5, f"no student of\n{what}", transform=axes.transAxes, ha="center", color=style.FAINT)
            axes.set_xticks([])


def _keys(panels: Sequence[Sequence[Line]], levels: pd.DataFrame) -> list[Line2D]:
    """The legend: a kind of line once, or line by line where a panel has several of the kind; and the levels."""
    drawn = [(line, look) for lines in panels for line, look in zip(lines, _line_styles(lines), strict=True)]
    keys = []
    for series, (name, colour, marker) in LOOKS.items():
        own = {line.label: look for line, look in drawn if line.series == series}
        if all(look == style.LINE_STYLES[0] for look in own.values()):
            own = {name: style.LINE_STYLES[0]} if own else {}
        looks: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5}
        keys += [Line2D([], [], linestyle=look, label=label, **looks) for label, look in own.items()]
    return keys + [
        Line2D([], [], label=LEVELS[str(level.series)], **_level_look(str(level.series)))
        for level in levels.itertuples()
    ]
