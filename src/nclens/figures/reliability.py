"""Reliability diagrams: accuracy against confidence, before and after temperature scaling."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, can_be_drawn, omissions, over_seeds, seeds_note
from nclens.metrics.calibration import binary_reliability_bins, top_predictions

SCALINGS = {"before": "before scaling (T = 1)", "after": "after scaling (each run's T)"}
# Behind and hollow: before; in front and filled: after.
LOOKS: dict[str, dict[str, Any]] = {
    "before": {"linestyle": style.LINE_STYLES[1], "linewidth": 1.1, "markerfacecolor": style.GROUND, "markersize": 4.5},
    "after": {"linestyle": "-", "linewidth": 1.5, "markersize": 4.5},
}


COLUMNS = (
    *("loss", "scaling", "bin", "lower", "upper", "count", "confidence", "accuracy"),
    *("accuracy_low", "accuracy_high", "seeds", "temperature_mean", "ece_mean"),
)

RESAMPLES = 1000
FEWEST_SAMPLES = 10
"""A bin with fewer test samples gets no interval: resampling so few says nothing of other samples."""


@style.look()
def reliability(inputs: FigureInputs) -> Drawing:
    """Reliability diagrams before and after scaling with the counts of the bins beneath (figure 9).

    One panel per loss. The samples of all seeds are pooled: every test sample counts once for each seed, with the
    probabilities, and after scaling the temperature, of that seed's network. T was fitted on the validation split or a
    held-out part of the test set; the diagram shows the whole test set. Vertical lines are bootstrap intervals, see
    `bootstrap_accuracy`.
    """
    temperatures = inputs.select("temperature", "test", inputs.last_epoch)
    table = pd.concat([_pooled_bins(inputs, loss, temperatures) for loss in inputs.losses], ignore_index=True)
    columns = min(len(inputs.losses), 3)
    rows = -(-len(inputs.losses) // columns)
    figure, grid = style.page(
        2 * rows,
        columns,
        0.25 + (3.5 if columns < 3 else 2.9) * rows,
        by_column=True,
        height_ratios=[3.4, 1] * rows,
        sharex=True,
        sharey="row",
    )
    for place in range(rows * columns):
        upper, lower = grid[2 * (place // columns) : 2 * (place // columns) + 2, place % columns]
        if place >= len(inputs.losses):
            upper.set_visible(False)
            lower.set_visible(False)
            continue
        loss = inputs.losses[place]
        _draw_diagram(upper, table[table["loss"] == loss], inputs.colours[loss])
        _draw_counts(lower, table[table["loss"] == loss], inputs.colours[loss])
        upper.set_title(f"{inputs.labels[loss]}\n{_summary(table[table['loss'] == loss])}")
        if place + columns >= len(inputs.losses):
            lower.set_xlabel("confidence (%)")
            lower.tick_params(labelbottom=True)
        if place % columns == 0:
            upper.set_ylabel("accuracy (%)")
            lower.set_ylabel("samples")
    # One scale of counts for all, so that panels in different rows compare.
    most = float(table["count"].max()) if len(table) else 1.0
    for axes in grid[1::2].flat:
        axes.set_ylim(0.7, 2 * most)
        style.log_axis(axes.yaxis)
    means = table.drop_duplicates(["loss", "scaling"]).set_index("loss")
    figure.finding = joined(
        phrase(f"ECE (%) {SCALINGS[name]}", compared(inputs, 100 * means.loc[means["scaling"] == name, "ece_mean"]))
        for name in SCALINGS
    )
    keys = [Line2D([], [], color=style.FAINT, marker="o", label=SCALINGS[name], **LOOKS[name]) for name in SCALINGS]
    style.legend(figure, keys)
    left_out = omissions(inputs, temperatures, "temperature (test)")
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}, pooled: each test sample counts "
            "once per seed",
            "Points: mean confidence and accuracy in a bin; vertical lines: 95% bootstrap interval of the accuracy "
            f"over test samples, a sample with all its seeds; none under {FEWEST_SAMPLES} samples",
            "Whole test set; T was fitted on the validation split; T and ECE above the panels: means over seeds"
            if inputs.held_out == "val"
            else "Whole test set, of which a held-out part was used to fit T; T and ECE above the panels: means over "
            "seeds, ECE of the part that was not used to fit T",
            "No diagram after scaling where T is missing: " + "; ".join(left_out) if left_out else "",
        ],
    )
    return Drawing(figure, table)


def _pooled_bins(inputs: FigureInputs, loss: str, temperatures: pd.DataFrame) -> pd.DataFrame:
    """The bins of one loss before and after scaling, with the mean temperature and ECE of the metrics table."""
    own = temperatures[(temperatures["loss"] == loss) & can_be_drawn(temperatures["value"], log=True)]
    fitted = {int(seed): float(value) for seed, value in zip(own["seed"], own["value"], strict=True)}
    tops: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in SCALINGS}
    for seed in inputs.seeds(loss):
        arrays = inputs.last_features(loss, seed)
        for name, temperature in (("before", 1.0), ("after", fitted.get(seed))):
            if temperature is not None:
                tops[name].append(top_predictions(arrays["test.logits"], arrays["test.targets"], temperature))
    tables = [pd.DataFrame(columns=list(COLUMNS))]
    for name in SCALINGS:
        if tops[name]:
            confidence, correct = (torch.stack(each) for each in zip(*tops[name], strict=True))
            bins = binary_reliability_bins(confidence.flatten(), correct.flatten())
            table = pd.DataFrame({field.name: getattr(bins, field.name).numpy() for field in fields(bins)})
            low, high = bootstrap_accuracy(confidence.numpy(), correct.numpy(), len(table))
            table = table.assign(accuracy_low=low, accuracy_high=high)
            temperature_mean = 1.0 if name == "before" else _last_mean(inputs, "temperature", loss)
            ece_mean = _last_mean(inputs, "ece_unscaled" if name == "before" else "ece_scaled", loss)
            keys: dict[str, Any] = {
                "loss": loss,
                "scaling": name,
                "bin": range(1, len(table) + 1),
                "seeds": len(tops[name]),
            }
            table = table.assign(**keys, temperature_mean=temperature_mean, ece_mean=ece_mean)
            tables.append(table[list(COLUMNS)])
    return pd.concat(tables[1:] or tables, ignore_index=True)


def bootstrap_accuracy(confidence: np.ndarray, correct: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """95% bootstrap interval of the accuracy in equal-width bins of the confidence, over the test samples.

    A test set of the same size is drawn from the samples with replacement, 1,000 times from a fixed seed; a sample
    brings its predictions by all networks, which are not independent of each other. The interval is from the 2.5th to
    the 97.5th percentile of the bin's accuracy. It describes another test set, not another training run.

    Args:
        confidence, correct: (S, N) of S networks on the same N samples.
        bins: number of bins J, (j/J, (j+1)/J].

    Returns:
        lower and upper ends, each (J,); nan in bins with fewer than `FEWEST_SAMPLES` different samples.
    """
    random = np.random.default_rng(0)
    samples = confidence.shape[1]
    index = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    inside = index[:, :, None] == np.arange(bins)
    counts, rights = inside.sum(axis=0), (inside & correct[:, :, None]).sum(axis=0)
    kept = (counts > 0).sum(axis=0) >= FEWEST_SAMPLES
    drawn = np.full((RESAMPLES, bins), np.nan)
    for place in range(RESAMPLES):
        weight = np.bincount(random.integers(samples, size=samples), minlength=samples)
        total = weight @ counts
        np.divide(weight @ rights, total, out=drawn[place], where=kept & (total > 0))
    ends = np.full((2, bins), np.nan)
    ends[:, kept] = np.nanpercentile(drawn[:, kept], [2.5, 97.5], axis=0)
    return ends[0], ends[1]


def _last_mean(inputs: FigureInputs, metric: str, loss: str) -> float:
    rows = inputs.select(metric, "test", inputs.last_epoch)
    means = over_seeds(rows[rows["loss"] == loss])["mean"]
    return float(means.iloc[0]) if len(means) else float("nan")


def _draw_diagram(axes: Axes, own: pd.DataFrame, colour: str) -> None:
    axes.plot([0, 1], [0, 1], color=style.FAINT, linewidth=0.8, zorder=1)
    for name in SCALINGS:
        bins = own[(own["scaling"] == name) & (own["count"] > 0)]
        ends = bins["accuracy_low"], bins["accuracy_high"]
        axes.vlines(bins["confidence"], *ends, color=colour, linewidth=LOOKS[name]["linewidth"], alpha=0.45)
        look = {"estimator": None, "color": colour, "marker": "o", "markeredgecolor": colour, **LOOKS[name]}
        sns.lineplot(bins, x="confidence", y="accuracy", ax=axes, **look)
    style.clear_labels(axes)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    style.percent_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)


def _summary(own: pd.DataFrame) -> str:
    """Such as "T 1 → 1.52, ECE 4.1 → 1.3 %"; a dash where there is no number."""
    first = own.drop_duplicates("scaling").set_index("scaling").reindex(list(SCALINGS))
    temperatures, errors = first["temperature_mean"].astype(float), first["ece_mean"].astype(float)
    text = f"T 1 → {temperatures['after']:.2f}, ECE {100 * errors['before']:.1f} → {100 * errors['after']:.1f} %"
    return text.replace("nan", "–")


def _draw_counts(axes: Axes, own: pd.DataFrame, colour: str) -> None:
    """Counts of the bins, for a log axis; an empty bin has no bar."""
    for name in SCALINGS:
        bins = own[own["scaling"] == name]
        if len(bins):
            edges = [*bins["lower"], bins["upper"].iloc[-1]]
            filled = {"fill": True, "alpha": 0.35} if name == "after" else {"linestyle": LOOKS["before"]["linestyle"]}
            axes.stairs(bins["count"], edges, baseline=0.7, color=colour, **filled)
