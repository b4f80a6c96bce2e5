"""Penultimate features on the plane through the templates of three classes, one pair of panels per loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, over_seeds
from nclens.metrics.catalogue import SPLITS
from nclens.metrics.representation import project, template_plane, template_spread, with_samples

PER_CLASS = 100
# Tol's bright ones: the losses' colours would be taken for losses.
COLOURS = ("#4477AA", "#EE6677", "#228833")
MARKERS = ("o", "^", "s")
COLUMNS = ("loss", "seed", "split", "class", "x", "y", "spread")
OF_ARCS = ("loss", "seed", "split", "class", "x", "y", "ratio", "low", "high", "seeds")
FEWEST = 3
"""The fewest seeds whose arc ratio has an interval, as a claim has: it is printed and not drawn."""


@style.look()
def projections(inputs: FigureInputs) -> Drawing:
    """Features of three classes on the plane of their templates, training set above test set, for each loss.

    One network per loss, that of the first seed after the last epoch. The first 100 samples of each class in the
    split's order; all panels have one scale, the origin at the centre of the triangle of the training set's class
    means. A class that a split lacks is replaced by the most frequent other one. The table has every point, and the
    spread of all samples of the three classes, or of a seeded sample where the experiment keeps no features.
    """
    chosen = _with_samples(inputs)
    parts = {loss: _points(inputs, loss, chosen) for loss in inputs.losses}
    absent = [inputs.labels[loss] for loss, own in parts.items() if own.empty]
    table = pd.concat(parts.values(), ignore_index=True)
    figure, grid = _page(inputs, sharex=True, sharey=True)
    for axes, loss, split in _panels(inputs, grid):
        own = table[(table["loss"] == loss) & (table["split"] == split)]
        _draw_panel(axes, own, chosen)
        name = f"{inputs.labels[loss]}\n" if split == "train" else ""
        spread = f", s = {own['spread'].iloc[0]:.2g}" if len(own) else ""
        axes.set_title(f"{name}{SPLITS[split]}{spread}")
    _scale(grid[0, 0], table)
    style.legend(figure, _class_keys(inputs, chosen))
    spreads = table.drop_duplicates(["loss", "split"]).set_index("loss")
    figure.finding = joined(
        phrase(f"Spread s, {name}", compared(inputs, spreads.loc[spreads["split"] == split, "spread"]))
        for split, name in SPLITS.items()
    )
    style.notes(
        figure,
        [
            _shown(inputs, table),
            f"Penultimate features of the first {PER_CLASS} samples of each class on the plane through its three "
            "templates (rows of the classifier), in the features' own unit, all panels on one scale; origin: centre of "
            "the training set's class means",
            "s: mean squared distance from the class mean, divided by that of the class means from their centre, over "
            f"{_samples(inputs, chosen)} of the three classes in the split",
            "No plane: " + ", ".join(absent) if absent else "",
        ],
    )
    return Drawing(figure, table)


@style.look()
def arcs(inputs: FigureInputs) -> Drawing:
    """Features of two similar classes and a third on the plane of their templates, training set above test set.

    One network per loss, that of the first seed after the last epoch, and the classes of the experiment's arcs. The
    first 100 samples of each class in the split's order; each panel has its own scale, alike along both axes, and its
    origin at the mean of the third class. The table has every point, and the arc ratio with its interval over seeds.
    """
    rows = [inputs.select(f"arc_class_{place}", "test", inputs.last_epoch) for place in (1, 2, 3)]
    chosen = [int(own["value"].iloc[0]) for own in rows if len(own)]
    ratios = {split: inputs.select("arc_ratio", split, inputs.last_epoch) for split in SPLITS}
    means = {split: over_seeds(own, log=True, fewest=FEWEST).set_index("loss") for split, own in ratios.items()}
    parts = [_about_the_third(inputs, loss, chosen, means) for loss in inputs.losses]
    table = pd.concat(parts, ignore_index=True)
    figure, grid = _page(inputs, lines=4)
    for axes, loss, split in _panels(inputs, grid):
        own = table[(table["loss"] == loss) & (table["split"] == split)]
        _draw_panel(axes, own, chosen)
        if len(own):
            axes.plot(0, 0, "+", color=style.INK, markersize=8, zorder=3)
            _scale(axes, own)
        name = f"{inputs.labels[loss]}\n" if split == "train" else ""
        axes.set_title(f"{name}{SPLITS[split]}\n{_ratio(means[split], loss)}")
    style.legend(figure, _class_keys(inputs, chosen))
    figure.finding = joined(
        phrase(f"Arc ratio, {name}", compared(inputs, means[split]["mean"])) for split, name in SPLITS.items()
    )
    absent = [inputs.labels[loss] for loss, own in zip(inputs.losses, parts, strict=True) if own.empty]
    seeds = sorted({int(count) for own in means.values() for count in own["seeds"]})
    style.notes(
        figure,
        [
            _shown(inputs, table),
            f"Penultimate features of the first {PER_CLASS} samples of each class on the plane through its three "
            "templates (rows of the classifier), each panel on its own scale; origin (+): mean of the third class "
            f"({inputs.class_name(chosen[2])})"
            if len(chosen) == 3
            else "No classes were chosen: fewer than three have samples, or there are too many",
            "Arc ratio: variance of the two similar classes along the direction of their means from the origin over "
            "that across, of all training samples, and of the test samples that the classes were not chosen on; "
            f"geometric mean over {' or '.join(map(str, seeds))} seeds, with its 95% t-interval from {FEWEST} seeds on"
            if seeds
            else "",
            "No plane: " + ", ".join(absent) if absent and chosen else "",
        ],
    )
    return Drawing(figure, table)


def _ratio(means: pd.DataFrame, loss: str) -> str:
    """The arc ratio of a loss, with its interval below it where it has one: beside it they are wider than a panel."""
    mean, low, high = means.reindex([loss])[["mean", "low", "high"]].to_numpy(dtype=float)[0]
    if not np.isfinite(mean):
        return "no arc ratio"
    return f"arc ratio {mean:.2g}" + (f"\n[{low:.2g}, {high:.2g}]" if np.isfinite(low) else "")


def _page(inputs: FigureInputs, lines: int = 2, **options: bool) -> tuple[style.Page, np.ndarray]:
    """A page with a column a loss, at most four side by side, and for each two panels, one above the other.

    `lines` is how many a title has at most.
    """
    columns = min(len(inputs.losses), 4)
    blocks = -(-len(inputs.losses) // columns)
    # The panels of a single loss are no larger than those of two.
    height = (3.9 if columns > 2 else 5.6) + 0.3 * (lines - 2)
    return style.page(2 * blocks, columns, height * blocks, True, **options)


def _panels(inputs: FigureInputs, grid: np.ndarray) -> Iterator[tuple[Axes, str, str]]:
    """Yield each panel with its loss and split; those that are left over are hidden."""
    for (row, column), axes in np.ndenumerate(grid):
        number = (row // 2) * grid.shape[1] + column
        if number < len(inputs.losses):
            yield axes, inputs.losses[number], list(SPLITS)[row % 2]
        else:
            axes.set_visible(False)


def _class_keys(inputs: FigureInputs, chosen: Sequence[int]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=4.5, label=inputs.class_name(label))
        for label, colour, marker in zip(chosen, COLOURS, MARKERS, strict=False)
    ]


def _shown(inputs: FigureInputs, table: pd.DataFrame) -> str:
    """Which networks are drawn."""
    seeds = ", ".join(map(str, sorted(set(table["seed"]))))
    counts = " or ".join(map(str, sorted({len(inputs.seeds(loss)) for loss in inputs.losses})))
    drawn = f", one network per loss: seed {seeds} of {counts}" if seeds else ""
    return f"{inputs.experiment}, epoch {inputs.last_epoch}{drawn}"


def _with_samples(inputs: FigureInputs) -> list[int]:
    """The classes to show: those of `projection_classes`, or others where a split lacks one, which all losses share."""
    for loss in inputs.losses:
        if seeds := inputs.seeds(loss):
            arrays = inputs.last_features(loss, seeds[0])
            return with_samples(inputs.projection_classes, *(arrays[f"{split}.targets"] for split in SPLITS))
    return list(inputs.projection_classes)


def _arrays(inputs: FigureInputs, loss: str) -> dict[str, torch.Tensor]:
    """What the first seed's network made of the data; nothing where the loss has no run."""
    seeds = inputs.seeds(loss)
    found = inputs.last_features(loss, seeds[0]) if seeds else {}
    return {name: torch.as_tensor(np.asarray(array)) for name, array in found.items()}


def _projected(arrays: dict[str, torch.Tensor], chosen: Sequence[int]) -> dict[str, dict[int, torch.Tensor]]:
    """Split -> class -> its points; nothing where there is no run, no plane, or a feature that is not finite."""
    if not arrays:
        return {}
    try:
        plane = template_plane(arrays["weight"], chosen)
        at = {split: project(arrays[f"{split}.features"], plane) for split in SPLITS}
    except ValueError:
        return {}
    return {split: {k: own[_labels(arrays, split) == k] for k in chosen} for split, own in at.items()}


def _labels(arrays: dict[str, torch.Tensor], split: str) -> torch.Tensor:
    """The labels of the samples whose features are there: of some, where the experiment keeps none."""
    labels = arrays[f"{split}.targets"]
    return labels[arrays[f"{split}.sampled"]] if f"{split}.sampled" in arrays else labels


def _samples(inputs: FigureInputs, chosen: Sequence[int]) -> str:
    """Over which samples the spread is: all, or those of which features were kept."""
    for loss in inputs.losses:
        arrays = _arrays(inputs, loss)
        for split in SPLITS if arrays else ():
            there, kept = (labels.bincount() for labels in (arrays[f"{split}.targets"], _labels(arrays, split)))
            if any(there[k] > kept[k] for k in chosen):
                return f"a seeded sample, of at most {int(kept[list(chosen)].max()):,} a class,"
    return "all samples"


def _points(inputs: FigureInputs, loss: str, chosen: list[int]) -> pd.DataFrame:
    """The points of one loss; none where it has no run, or its classes or templates span no plane."""
    arrays = _arrays(inputs, loss)
    parts, centre = [pd.DataFrame(columns=list(COLUMNS))], None
    for split, groups in _projected(arrays, chosen).items():
        if centre is None:
            centre = torch.stack([own.mean(dim=0) for own in groups.values()]).mean(dim=0)
        spread = template_spread(arrays[f"{split}.features"], _labels(arrays, split), arrays["weight"], chosen)
        for label, own in groups.items():
            x, y = (own[:PER_CLASS] - centre).T.numpy()
            keys = {"loss": loss, "seed": inputs.seeds(loss)[0], "split": split, "class": label}
            parts.append(pd.DataFrame({**keys, "x": x, "y": y, "spread": spread}))
    return _joined(parts)


def _about_the_third(
    inputs: FigureInputs, loss: str, chosen: list[int], means: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """The points of one loss about the mean of the third class, with the arc ratio; none as in `_points`."""
    parts = [pd.DataFrame(columns=list(OF_ARCS))]
    for split, groups in _projected(_arrays(inputs, loss), chosen).items():
        centre = groups[chosen[2]].mean(dim=0)
        found = means[split].reindex([loss])[["mean", "low", "high", "seeds"]].iloc[0]
        for label, own in groups.items():
            x, y = (own[:PER_CLASS] - centre).T.numpy()
            keys = {"loss": loss, "seed": inputs.seeds(loss)[0], "split": split, "class": label}
            parts.append(pd.DataFrame({**keys, "x": x, "y": y, **found.rename({"mean": "ratio"})}))
    return _joined(parts)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables but for an empty first one, if there are others."""
    return pd.concat(parts[1:], ignore_index=True) if len(parts) > 1 else parts[0]


def _draw_panel(axes: Axes, own: pd.DataFrame, chosen: list[int]) -> None:
    for label, colour, marker in zip(chosen, COLOURS, MARKERS, strict=False):
        look = {"color": colour, "marker": marker, "s": 7, "alpha": 0.6, "linewidth": 0}
        sns.scatterplot(own[own["class"] == label], x="x", y="y", ax=axes, **look)
    style.clear_labels(axes)
    axes.set_box_aspect(1)
    if own.empty:
        text = "no plane" if chosen else "no classes"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=style.FAINT)


def _scale(axes: Axes, table: pd.DataFrame) -> None:
    """The square round all points, in this panel and in those that share its axes."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if table.empty:
        return
    low, high = table[["x", "y"]].min().to_numpy(), table[["x", "y"]].max().to_numpy()
    half, middle = 0.54 * (high - low).max(), (low + high) / 2
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
