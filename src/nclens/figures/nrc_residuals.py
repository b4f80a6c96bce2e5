"""The residuals of a regression before and after training, and the circle that the model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.neural_regression_collapse import title_of

MOST_POINTS = 1000
"""Samples drawn in a panel, evenly spaced through the training set where it has more."""
CIRCLE = np.linspace(0, 2 * np.pi, 181)
DEVIATIONS = 5.0
"""Half the width of a panel in standard deviations of its residuals, along their widest direction."""


@style.look()
def residuals(inputs: FigureInputs) -> Drawing:
    """Residuals y - z of the training set at the first and the last snapshot, one seed, a column for each loss.

    Of more than two targets the first two are shown; of one, its residual against the target. The ellipse has the
    residuals' covariance, one standard deviation from their mean; with the model's penalties the dashed circle has the
    predicted one, c I, with c = lambda_W lambda_H, about 0.
    """
    seed = min((inputs.seeds(loss)[0] for loss in inputs.losses if inputs.seeds(loss)), default=0)
    epochs = {"first": int(inputs.metrics["epoch"].min()) if len(inputs.metrics) else 0, "last": inputs.last_epoch}
    single = len(inputs.losses) == 1
    figure, grid = (
        style.page(1, 2, 3.0) if single else style.page(2, len(inputs.losses), 0.9 + 2 * 5.6 / len(inputs.losses))
    )
    cells, tables, targets, outside = grid.T if single else grid, [], 0, 0
    for what, panels in zip(epochs, cells, strict=True):
        for loss, axes in zip(inputs.losses, panels, strict=True):
            arrays = (inputs.first_features if what == "first" else inputs.last_features)(loss, seed)
            if arrays is None:
                _nothing(axes)
                continue
            found, targets = plane(arrays)
            table = found.assign(loss=loss, seed=seed, what=what, epoch=epochs[what])
            variance = predicted_variance(inputs, loss) if targets > 1 else np.nan
            _draw(axes, table, inputs.colours[loss], variance)
            outside += _finish(axes, table, targets, variance)
            axes.set_xlabel(f"residual, {_target(inputs, 0)}" if targets > 1 else "target")
            tables.append(table)
        label = f"epoch {epochs[what]:,}"
        y = f"residual, {_target(inputs, 1)}" if targets > 1 else "residual"
        panels[0].set(**{"title": label, "ylabel": y} if single else {"ylabel": f"{label}\n{y}"})
    for axes, loss in zip(cells[0], [] if single else inputs.losses, strict=False):
        axes.set_title(title_of(inputs, loss))
    columns = ["loss", "seed", "what", "epoch", "mark", "x", "y"]
    table = pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    size = table[table["mark"] == "sample"].groupby(["what", "loss"], sort=False)[["x", "y"]].std(ddof=0).mean(axis=1)
    figure.finding = joined(
        phrase(f"Standard deviation of the residuals, {what} snapshot", compared(inputs, own.droplevel("what")))
        for what, own in (size.groupby("what", sort=False) if targets > 1 else ())
    )
    style.legend(figure, _handles(inputs, targets))
    style.notes(figure, [f"{inputs.experiment}, seed {seed}", *_remarks(inputs, table, targets, outside)])
    return Drawing(figure, table)


def plane(arrays: Mapping[str, np.ndarray]) -> tuple[pd.DataFrame, int]:
    """The points of a panel, and the number n of targets.

    Returns:
        columns mark, x, y: a row for each sample drawn (`sample`), then the outline of the ellipse of one standard
        deviation (`covariance`), which is that of all samples. For n = 1, x is the target and there is no ellipse.
    """
    targets = np.asarray(arrays["train.targets"], dtype=float)
    left = targets - np.asarray(arrays["train.logits"], dtype=float)
    points = left[:, :2] if left.shape[1] > 1 else np.hstack([targets, left])
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).astype(int))
    tables = [pd.DataFrame(points[chosen], columns=["x", "y"]).assign(mark="sample")]
    if left.shape[1] > 1:
        values, vectors = np.linalg.eigh(np.cov(points, rowvar=False, bias=True))
        ring = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1) * np.sqrt(values.clip(0))
        outline = points.mean(0) + ring @ vectors.T
        tables.append(pd.DataFrame(outline, columns=["x", "y"]).assign(mark="covariance"))
    return pd.concat(tables, ignore_index=True), left.shape[1]


def predicted_variance(inputs: FigureInputs, loss: str) -> float:
    """c = lambda_W lambda_H at the penalties of training; nan where they were not trained with."""
    own = inputs.regression[inputs.regression["loss"] == loss]
    found = (own["lambda_w"] * own["lambda_h_mean"]).astype(float).unique()
    return float(found[0]) if inputs.regularised and len(found) == 1 else np.nan


def _draw(axes: Axes, table: pd.DataFrame, colour: str, variance: float) -> None:
    samples, outline = (table[table["mark"] == mark] for mark in ("sample", "covariance"))
    look: dict[str, Any] = {"s": 4, "color": colour, "alpha": 0.35, "linewidth": 0, "rasterized": True}
    sns.scatterplot(samples, x="x", y="y", ax=axes, **look)
    path: dict[str, Any] = {"sort": False, "estimator": None, "color": style.INK, "ax": axes}
    sns.lineplot(outline, x="x", y="y", linewidth=1.1, **path)
    if np.isfinite(variance):
        x, y = np.sqrt(variance) * np.cos(CIRCLE), np.sqrt(variance) * np.sin(CIRCLE)
        sns.lineplot(x=x, y=y, linewidth=1, linestyle=(0, (3, 2)), **path)
    style.clear_labels(axes)


def _finish(axes: Axes, table: pd.DataFrame, targets: int, variance: float) -> int:
    """Scale a panel by its residuals' deviation, not by its farthest sample; how many samples lie outside."""
    samples = table[table["mark"] == "sample"]
    if targets > 1:
        outline = table.loc[table["mark"] == "covariance", ["x", "y"]].to_numpy(float)
        # The outline ends where it began: one of the two points would shift its centre.
        widest = float(np.linalg.norm(outline - outline[1:].mean(0), axis=1).max())
        reach = float(np.nanmax([DEVIATIONS * widest, 1.3 * np.sqrt(variance)])) or 1.0
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4, symmetric=True, steps=[1, 2, 5, 10]))
        return int((samples[["x", "y"]].abs() > reach).any(axis=1).sum())
    axes.axhline(0, color=style.FAINT, linewidth=0.8)
    reach = DEVIATIONS * float(samples["y"].std(ddof=0)) or 1.0
    axes.set(ylim=(-reach, reach))
    return int((samples["y"].abs() > reach).sum())


def _target(inputs: FigureInputs, number: int) -> str:
    return inputs.target_names[number] if len(inputs.target_names) > number else f"target {number + 1}"


def _nothing(axes: Axes) -> None:
    style.empty_panel(axes, "features not kept")
    axes.set_xticks([])


def _handles(inputs: FigureInputs, targets: int) -> list[Line2D]:
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3}
    handles = [Line2D([], [], color=style.FAINT, label="a training sample", **look)]
    if targets > 1:
        handles.append(Line2D([], [], color=style.INK, linewidth=1.1, label="one standard deviation"))
    if targets > 1 and any(np.isfinite(predicted_variance(inputs, loss)) for loss in inputs.losses):
        dashes: Any = (0, (3, 2))
        handles.append(Line2D([], [], color=style.INK, linewidth=1, linestyle=dashes, label="predicted: radius √c"))
    return handles


def _remarks(inputs: FigureInputs, table: pd.DataFrame, targets: int, outside: int) -> list[str]:
    remarks = ["Residual: target minus prediction, in the units of the stored targets"]
    remarks.append("Each panel has its own scale")
    if outside:
        remarks.append(f"{outside:,} of {(table['mark'] == 'sample').sum():,} samples drawn lie outside their panel")
    if targets > 2:
        remarks.append(f"The first two of {targets} targets")
    panels = table[table["mark"] == "sample"].groupby(["loss", "what"], sort=False).size()
    if len(panels) and panels.max() == MOST_POINTS:
        remarks.append(f"Drawn are at most {MOST_POINTS:,} samples, evenly spaced; the ellipse is that of all")
    variances = [predicted_variance(inputs, loss) for loss in inputs.losses]
    if np.isfinite(variances).any():
        remarks.append(f"c = {np.nanmin(variances):.3g}")
    return remarks
