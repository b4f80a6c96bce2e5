"""W W' of the last layer before and after training, and as predicted (arXiv 2409.04180)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import Normalize

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, can_be_drawn, over_seeds, seeds_note
from nclens.figures.neural_regression_collapse import title_of

MOST_NUMBERS = 4
"""Matrices up to this size have their numbers written into them."""
COLOURS = "RdBu_r"


@dataclass(frozen=True)
class Shown:
    """A matrix of each run.

    Attributes:
        what: first, last or predicted, as in the table.
        label: what is written beside it.
        matrices: (loss, seed) -> the matrix (n, n).
    """

    what: str
    label: str
    matrices: Mapping[tuple[str, int], np.ndarray]


@style.look()
def nrc_gram(inputs: FigureInputs) -> Drawing:
    """W W' at the first and at the last snapshot above its predicted form, a column for each loss; means over seeds.

    With plain weight decay the form is known up to scale: W W' is divided by its Frobenius norm, and the prediction is
    Sigma^{1/2} - gamma^{1/2} I over its own, with the gamma of the run's NRC3 and negative eigenvalues set to 0.
    With the penalties of the unconstrained feature model it is known altogether: W W' is shown as it is beside the
    closed form of the theory table.
    """
    sized = inputs.regularised and bool(inputs.regression["quantity"].astype(str).str.match(r"gram_\d+$").any())
    epochs = sorted(int(epoch) for epoch in inputs.select("gram_00", "train")["epoch"].unique())
    shown = [
        Shown(what, f"epoch {epoch:,}", _measured(inputs, epoch, sized))
        for what, epoch in zip(("first", "last"), epochs[:1] + epochs[1:][-1:], strict=False)
    ]
    shown.append(Shown("predicted", "predicted", closed_form(inputs) if sized else predicted_form(inputs)))
    table = pd.concat([_table(one) for one in shown], ignore_index=True)
    single = len(inputs.losses) == 1
    figure, grid = (
        style.page(1, len(shown), 2.1)
        if single
        else style.page(len(shown), len(inputs.losses), 0.4 + 1.45 * len(shown))
    )
    cells = grid.T if single else grid
    largest = float(np.nanmax(np.abs(table["mean"].to_numpy(float)), initial=0.0)) or 1.0
    scale, image = Normalize(-largest, largest), None
    for one, panels in zip(shown, cells, strict=True):
        for axes, loss in zip(panels, inputs.losses, strict=True):
            own = table[(table["loss"] == loss) & (table["what"] == one.what)]
            image = _draw(axes, own, scale) or image
        panels[0].set(**{"title" if single else "ylabel": one.label})
    for axes, loss in zip(cells[0], [] if single else inputs.losses, strict=False):
        axes.set_title(title_of(inputs, loss))
    if image is not None:
        figure.colorbar(image, ax=grid, location="bottom", shrink=0.5, aspect=30, label="entry")
    figure.finding = _finding(inputs, table)
    style.notes(figure, [f"{inputs.experiment}, {seeds_note(inputs)}", *_remarks(inputs, table, sized)])
    return Drawing(figure, table)


def predicted_form(inputs: FigureInputs) -> dict[tuple[str, int], np.ndarray]:
    """nrm([Sigma^{1/2} - gamma^{1/2} I]_+) for each run, with the training targets' Sigma and the run's own gamma.

    A run without a gamma, of one target or with a head of zeros, has none.
    """
    rows = inputs.select("nrc3_gamma", "train", inputs.last_epoch)
    found = {}
    for loss, seed, gamma in rows[can_be_drawn(rows["value"])][["loss", "seed", "value"]].itertuples(index=False):
        targets = np.asarray(inputs.last_features(loss, int(seed))["train.targets"], dtype=float)
        values, vectors = np.linalg.eigh(np.cov(targets, rowvar=False, bias=True))
        shape = (vectors * np.maximum(np.sqrt(values.clip(0)) - np.sqrt(gamma), 0)) @ vectors.T
        found[loss, int(seed)] = shape / np.linalg.norm(shape)
    return found


def closed_form(inputs: FigureInputs) -> dict[tuple[str, int], np.ndarray]:
    """W W' in closed form at the penalties of training, the same for every seed: under the number 0."""
    table = inputs.regression
    found: dict[tuple[str, int], np.ndarray] = {}
    for loss in inputs.losses:
        own = table[(table["loss"] == loss) & table["quantity"].astype(str).str.match(r"gram_\d+$")]
        if len(own):
            found[loss, 0] = _matrix(dict(zip(own["quantity"], own["closed_form"].astype(float), strict=True)))
    return found


def _measured(inputs: FigureInputs, epoch: int, sized: bool) -> dict[tuple[str, int], np.ndarray]:
    """W W' of each run after an epoch, over its norm unless `sized`."""
    table = inputs.metrics
    chosen = (table["split"] == "train") & (table["epoch"] == epoch) & table["loss"].isin(list(inputs.losses))
    rows = table[chosen & table["metric"].astype(str).str.match(r"gram_\d+$")]
    found = {}
    for (loss, seed), own in rows.groupby(["loss", "seed"], observed=True, sort=False):
        matrix = _matrix(dict(zip(own["metric"], own["value"].astype(float), strict=True)))
        # Over its norm, a matrix of one entry is 1 whatever was learned, and one of zeros is not defined.
        norm = 1.0 if sized else np.linalg.norm(matrix) if len(matrix) > 1 else 0.0
        found[str(loss), int(str(seed))] = matrix / norm if norm else np.full_like(matrix, np.nan)
    return found


def _matrix(entries: Mapping[str, float]) -> np.ndarray:
    """The symmetric matrix whose entries with i <= j are named gram_ij."""
    places = {name: name.removeprefix("gram_") for name in entries}
    size = 1 + max(int(place[len(place) // 2 :]) for place in places.values())
    matrix = np.full((size, size), np.nan)
    for name, place in places.items():
        i, j = int(place[: len(place) // 2]), int(place[len(place) // 2 :])
        matrix[i, j] = matrix[j, i] = entries[name]
    return matrix


def _table(row: Shown) -> pd.DataFrame:
    """Mean and interval over seeds of every entry: loss, what, i, j, mean, low, high, seeds, left_out."""
    entries = [
        {"loss": loss, "seed": seed, "epoch": f"{i} {j}", "value": float(matrix[i, j])}
        for (loss, seed), matrix in row.matrices.items()
        for i in range(len(matrix))
        for j in range(len(matrix))
    ]
    rows = pd.DataFrame(entries, columns=["loss", "seed", "epoch", "value"]).astype({"value": float})
    table = over_seeds(rows, fewest=2)  # a cell has no room for the seeds
    places = table.pop("epoch").astype(str).str.split(" ", expand=True).reindex(columns=[0, 1]).astype("Int64")
    table.insert(1, "what", row.what)
    table.insert(2, "i", places[0])
    table.insert(3, "j", places[1])
    return table


def _draw(axes: Axes, table: pd.DataFrame, scale: Normalize) -> Collection | None:
    """Draw one matrix of means; the cells, or None where there is nothing to draw."""
    if table["mean"].notna().sum() == 0:
        style.empty_panel(axes, "not defined")
        axes.set_xticks([])
        return None
    matrix = table.pivot(index="i", columns="j", values="mean").astype(float)
    half = table.pivot(index="i", columns="j", values="high").astype(float) - matrix
    numbers = [
        [_number(*entry) for entry in zip(*rows, strict=True)] for rows in zip(matrix.values, half.values, strict=True)
    ]
    style.heat_map(
        axes,
        matrix,
        cmap=COLOURS,
        vmin=scale.vmin,
        vmax=scale.vmax,
        annot=numbers if len(matrix) <= MOST_NUMBERS else None,
        square=True,
        xticklabels=False,
        yticklabels=False,
    )
    style.keep_colours(axes.collections[0], *axes.texts)
    return axes.collections[0]


def _finding(inputs: FigureInputs, table: pd.DataFrame) -> str:
    """How far the last matrix is from the predicted one, relative to the latter, by loss."""
    wide = table.pivot(index=["loss", "i", "j"], columns="what", values="mean").astype(float)
    if not {"last", "predicted"} <= set(wide):
        return ""
    squares = wide.assign(gap=(wide["last"] - wide["predicted"]) ** 2, all=wide["predicted"] ** 2).groupby("loss")
    relative = (squares["gap"].sum(min_count=1) / squares["all"].sum(min_count=1)) ** 0.5
    return joined([phrase("Distance of the last W W′ from the predicted one, relative", compared(inputs, relative))])


def _number(mean: float, half: float) -> str:
    """A mean with half its interval, where there is one, to two decimals."""
    text = f"{round(mean, 2) + 0.0:.2f}".replace("-", "−")
    if not np.isfinite(half):
        return text
    return f"{text}\n±{half:.2f}" if half >= 0.005 else f"{text}\n±<0.01"


def _remarks(inputs: FigureInputs, table: pd.DataFrame, sized: bool) -> list[str]:
    form = "[Σ^(1/2) − γ^(1/2) I]₊ divided by its own; Σ: covariance of the training targets"
    remarks = [f"W W′ is divided by its Frobenius norm; predicted: {form}"]
    if sized:
        remarks = ["W W′ is unscaled; predicted: the closed form (λ_H/λ_W)^(1/2) [Σ^(1/2) − c^(1/2) I]₊"]
    names = f" ({', '.join(inputs.target_names)})" if inputs.target_names else ""
    remarks.append(f"Rows and columns: the targets, in the order of the data set{names}")
    remarks.append("Numbers: mean over seeds" + (", ± half its 95% t-interval" if (table["seeds"] > 1).any() else ""))
    if sized:
        given = {name: inputs.regression[name].dropna().unique() for name in ("lambda_w", "lambda_h_mean")}
        if all(len(values) == 1 for values in given.values()):
            remarks.append(f"λ_W = {given['lambda_w'][0]:.3g}, λ_H = {given['lambda_h_mean'][0]:.3g}")
        return remarks
    gammas = inputs.select("nrc3_gamma", "train", inputs.last_epoch)
    means = [
        # The lower end of the search is 0, reached up to rounding.
        f"{own['value'].mean() if own['value'].mean() > 1e-12 else 0:.2g} ({title_of(inputs, str(loss))})"
        for loss, own in gammas[can_be_drawn(gammas["value"])].groupby("loss", sort=False)
    ]
    return [*remarks, "Mean γ: " + ", ".join(means) if means else "No γ: NRC3 is not defined"]
