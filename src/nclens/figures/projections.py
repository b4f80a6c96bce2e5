"""Penultimate features on the plane through the templates of three classes, one pair of panels per loss."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.metrics.representation import project, template_plane, template_spread, with_samples

PER_CLASS = 100
SPLITS = {"train": "training set", "test": "test set"}
# Tol's bright ones: the losses' colours would be taken for losses.
COLOURS = ("#4477AA", "#EE6677", "#228833")
MARKERS = ("o", "^", "s")
COLUMNS = ("loss", "seed", "split", "class", "x", "y", "spread")


@style.look()
def projections(inputs: FigureInputs) -> Drawing:
    """Features of three classes on the plane of their templates, training set above test set, for each loss.

    One network per loss, that of the first seed after the last epoch. The first 100 samples of each class in the
    split's order; all panels have one scale, the origin at the centre of the triangle of the training set's class
    means. A class that a split lacks is replaced by the most frequent other one. The table has every point, and the
    spread of all samples of the three classes.
    """
    chosen = _with_samples(inputs)
    parts = {loss: _points(inputs, loss, chosen) for loss in inputs.losses}
    absent = [inputs.labels[loss] for loss, own in parts.items() if own.empty]
    table = pd.concat(parts.values(), ignore_index=True)
    columns = min(len(inputs.losses), 4)
    blocks = -(-len(inputs.losses) // columns)
    # The panels of a single loss are no larger than those of two.
    figure, grid = style.page(
        2 * blocks, columns, (3.9 if columns > 2 else 5.6) * blocks, True, sharex=True, sharey=True
    )
    for place, axes in np.ndenumerate(grid):
        row, column = place
        number = (row // 2) * columns + column
        split = list(SPLITS)[row % 2]
        if number >= len(inputs.losses):
            axes.set_visible(False)
            continue
        own = table[(table["loss"] == inputs.losses[number]) & (table["split"] == split)]
        _draw_panel(axes, own, chosen)
        name = f"{inputs.labels[inputs.losses[number]]}\n" if split == "train" else ""
        spread = f", s = {own['spread'].iloc[0]:.2g}" if len(own) else ""
        axes.set_title(f"{name}{SPLITS[split]}{spread}")
    _one_scale(grid, table)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=4.5, label=inputs.class_name(label))
        for label, colour, marker in zip(chosen, COLOURS, MARKERS, strict=False)
    ]
    style.legend(figure, handles)
    spreads = table.drop_duplicates(["loss", "split"]).set_index("loss")
    figure.finding = joined(
        phrase(f"Spread s, {name}", compared(inputs, spreads.loc[spreads["split"] == split, "spread"]))
        for split, name in SPLITS.items()
    )
    seeds = sorted(set(table["seed"]))
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, one network per loss: "
            f"seed {', '.join(map(str, seeds))} of {_seed_counts(inputs)}",
            f"Penultimate features of the first {PER_CLASS} samples of each class on the plane through its three "
            "templates (rows of the classifier), in the features' own unit, all panels on one scale; origin: centre of "
            "the training set's class means",
            "s: mean squared distance from the class mean, divided by that of the class means from their centre, over "
            "all samples of the three classes in the split",
            "No plane: " + ", ".join(absent) if absent else "",
        ],
    )
    return Drawing(figure, table)


def _with_samples(inputs: FigureInputs) -> list[int]:
    """The classes to show: those of `projection_classes`, or others where a split lacks one, which all losses share."""
    for loss in inputs.losses:
        if seeds := inputs.seeds(loss):
            arrays = inputs.last_features(loss, seeds[0])
            return with_samples(inputs.projection_classes, *(arrays[f"{split}.targets"] for split in SPLITS))
    return list(inputs.projection_classes)


def _seed_counts(inputs: FigureInputs) -> str:
    counts = sorted({len(inputs.seeds(loss)) for loss in inputs.losses})
    return " or ".join(map(str, counts))


def _points(inputs: FigureInputs, loss: str, chosen: list[int]) -> pd.DataFrame:
    """The points of one loss; none where it has no run, or its classes or templates span no plane."""
    seeds, empty = inputs.seeds(loss), pd.DataFrame(columns=list(COLUMNS))
    if not seeds:
        return empty
    arrays = {name: torch.as_tensor(np.asarray(array)) for name, array in inputs.last_features(loss, seeds[0]).items()}
    weight = arrays["weight"]
    try:
        plane = template_plane(weight, chosen)
    except ValueError:
        return empty
    parts, centre = [], None
    for split in SPLITS:
        features, targets = arrays[f"{split}.features"], arrays[f"{split}.targets"]
        at = project(features, plane)
        if centre is None:
            centre = torch.stack([at[targets == label].mean(dim=0) for label in chosen]).mean(dim=0)
        spread = template_spread(features, targets, weight, chosen)
        for label in chosen:
            x, y = (at[targets == label][:PER_CLASS] - centre).T.numpy()
            keys = {"loss": loss, "seed": seeds[0], "split": split, "class": label}
            parts.append(pd.DataFrame({**keys, "x": x, "y": y, "spread": spread}))
    return pd.concat(parts, ignore_index=True)


def _draw_panel(axes: Axes, own: pd.DataFrame, chosen: list[int]) -> None:
    for label, colour, marker in zip(chosen, COLOURS, MARKERS, strict=False):
        look = {"color": colour, "marker": marker, "s": 7, "alpha": 0.6, "linewidth": 0}
        sns.scatterplot(own[own["class"] == label], x="x", y="y", ax=axes, **look)
    style.clear_labels(axes)
    axes.set_box_aspect(1)
    if own.empty:
        axes.text(0.5, 0.5, "no plane", transform=axes.transAxes, ha="center", va="center", color=style.FAINT)


def _one_scale(grid: np.ndarray, table: pd.DataFrame) -> None:
    """The same square in every panel, round all points."""
    axes = grid[0, 0]
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if table.empty:
        return
    low, high = table[["x", "y"]].min().to_numpy(), table[["x", "y"]].max().to_numpy()
    half, middle = 0.54 * (high - low).max(), (low + high) / 2
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
