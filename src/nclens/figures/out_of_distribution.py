"""Out-of-distribution detection: every score against every data set, and detection against collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nclens.figures import style
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import (
    Drawing,
    FigureInputs,
    can_be_drawn,
    centre,
    interval,
    interval_note,
    means_of,
    omissions,
    seeds_note,
    with_seeds,
)
from nclens.metrics.catalogue import PREFIXES

SCORES = {
    "msp": "MSP",
    "max_logit": "MaxLogit",
    "energy": "energy",
    "mahalanobis": "Mahalanobis",
    "neco": "NECO",
    "neco_maxlogit": "NECO × MaxLogit",
    "nci": "NCI",
}
MEASURES = {"auroc": "AUROC (%)", "fpr95": "FPR95 (%)"}
AGAINST = "neco"
"""The score that is drawn against collapse."""
DODGE = 0.62
"""Height of the marks of all losses in the row of a score."""
COLUMNS = ("probe", "measure", "score", "loss", "seed", "mean", "low", "high", "seeds", "left_out")


@style.look()
def out_of_distribution(inputs: FigureInputs) -> Drawing:
    """AUROC and FPR95 of every score, a column of panels a data set, a row of marks a score and a mark a loss."""
    probes = _probes(inputs)
    height = 0.6 + (0.6 + (0.18 + 0.085 * len(inputs.losses)) * len(SCORES)) * len(MEASURES)
    figure, grid = style.page(len(MEASURES), len(probes), height, sharey=True, sharex="row")
    tables, left_out = [], []
    for row, (measure, label) in enumerate(MEASURES.items()):
        for column, probe in enumerate(probes):
            axes, parts, drawn = grid[row, column], [], []
            for score in SCORES:
                name = f"{PREFIXES[probe['shift']]}_{measure}_{score}{probe['suffix']}"
                rows = inputs.select(name, "test", inputs.last_epoch)
                left_out += omissions(inputs, rows, f"{name} (test)") if score == "msp" else []
                parts.append(rows.assign(score=score))
                keys = {"probe": probe["title"], "measure": measure, "score": score}
                drawn.append(with_seeds(rows).assign(**keys)[list(COLUMNS)])
            _draw_scores(axes, inputs, pd.concat(parts), pd.concat(drawn))
            tables += drawn
            axes.set_xlabel(label)
            style.percent_axis(axes.xaxis)
            if row == 0:
                axes.set_title(probe["title"])
    marks = style.markers(inputs.losses)
    style.legend(figure, [style.loss_key(inputs.labels[one], inputs.colours[one], marks[one]) for one in inputs.losses])
    table = pd.concat(tables, ignore_index=True)
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}",
            interval_note(inputs, table, "Mark", "bar", "small marks"),
            "AUROC: 50% is chance; FPR95: outsiders that pass where 95% of the network's own test samples do",
            "In distribution is the positive class: the test samples that are not held out",
            "Not drawn: " + "; ".join(left_out) if left_out else "",
        ],
    )
    shown = means_of(table[(table["measure"] == "auroc") & (table["score"] == AGAINST)])
    figure.finding = joined(
        phrase(f"AUROC (%) of {SCORES[AGAINST]}, {title}", compared(inputs, 100 * own.set_index("loss")["mean"]))
        for title, own in shown.groupby("probe", sort=False)
    )
    return Drawing(figure, table)


@style.look()
def detection_against_collapse(inputs: FigureInputs) -> Drawing:
    """AUROC of NECO and of the softmax probability against NC1 of the training set: a mark a run."""
    probes, chosen = _probes(inputs), (AGAINST, "msp")
    figure, grid = style.page(len(chosen), len(probes), 0.5 + 2.1 * len(chosen), sharex=True)
    marks, tables = style.markers(inputs.losses), []
    nc1 = inputs.select("nc1", "train", inputs.last_epoch).rename(columns={"value": "nc1"})
    for row, score in enumerate(chosen):
        for column, probe in enumerate(probes):
            axes = grid[row, column]
            name = f"{PREFIXES[probe['shift']]}_auroc_{score}{probe['suffix']}"
            rows = inputs.select(name, "test", inputs.last_epoch).merge(nc1, on=["loss", "seed", "epoch"])
            rows = rows[can_be_drawn(rows["nc1"], log=True) & can_be_drawn(rows["value"])]
            _draw_runs(axes, inputs, rows, marks)
            axes.set_xlabel("NC1, training set" if row == len(chosen) - 1 else "")
            axes.set_ylabel(f"AUROC of {SCORES[score]} (%)" if column == 0 else "")
            if row == 0:
                axes.set_title(probe["title"])
            keys = {"probe": probe["title"], "score": score}
            tables.append(rows.assign(**keys).rename(columns={"value": "auroc"}))
    style.legend(figure, [style.loss_key(inputs.labels[one], inputs.colours[one], marks[one]) for one in inputs.losses])
    table = pd.concat(tables, ignore_index=True)[["probe", "score", "loss", "seed", "nc1", "auroc"]]
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}; a mark is a run, further left is "
            "more collapsed",
            "Runs of a loss are not independent of each other, so no interval is given",
        ],
    )
    figure.finding = joined(
        f"Rank correlation of NC1 and AUROC of {SCORES[score]}, {title}: {value:.2f}"
        for title in dict.fromkeys(table["probe"])
        for score in chosen
        if np.isfinite(value := _rank_correlation(table[(table["probe"] == title) & (table["score"] == score)]))
    )
    return Drawing(figure, table)


def _probes(inputs: FigureInputs) -> Sequence[Mapping[str, Any]]:
    """The probes with the titles of their panels, covariate shifts last."""
    found = inputs.probes_of("out_of_distribution") or [{"suffix": "", "dataset": "another data set"}]
    titled = []
    for probe in found:
        shift = probe.get("shift", "semantic")
        own = probe["suffix"].removeprefix("/")
        named = f"{own}: {probe['dataset']}" if own and own != probe["dataset"] else probe["dataset"]
        title = named + ("\n(covariate shift)" if shift == "covariate" else "")
        titled.append({"suffix": probe["suffix"], "shift": shift, "title": title})
    return sorted(titled, key=lambda probe: probe["shift"] == "covariate")


def _draw_scores(axes: Axes, inputs: FigureInputs, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    rows = rows[can_be_drawn(rows["value"])]
    if rows.empty:
        style.empty_panel(axes, "no finite values")
        return
    losses = [loss for loss in inputs.losses if (rows["loss"] == loss).any()]
    marks = style.markers(inputs.losses)
    sns.pointplot(
        rows,
        x="value",
        y="score",
        hue="loss",
        order=list(SCORES),
        hue_order=losses,
        palette=dict(inputs.colours),
        markers=[marks[loss] for loss in losses],
        orient="y",
        dodge=DODGE if len(losses) > 1 else False,
        linestyle="none",
        markersize=4,
        estimator=centre,
        errorbar=partial(interval, least=0.0, most=1.0) if table["low"].notna().any() else None,
        err_kws={"linewidth": 1.0, "alpha": 0.7},
        legend=False,
        ax=axes,
    )
    shifts = dict(zip(losses, np.linspace(-DODGE / 2, DODGE / 2, len(losses)) if len(losses) > 1 else [0], strict=True))
    for loss, seeds in table[table["seed"].notna()].groupby("loss", sort=False):
        at = seeds["score"].map({score: place + shifts[str(loss)] for place, score in enumerate(SCORES)})
        axes.plot(seeds["mean"], at, marker=marks[str(loss)], color=inputs.colours[str(loss)], **style.SEED_DOT)
    style.clear_labels(axes)
    axes.set_yticks(range(len(SCORES)), list(SCORES.values()))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    for line in range(1, len(SCORES)):
        axes.axhline(line - 0.5, color=style.FAINT, linewidth=0.3, alpha=0.5, zorder=0)


def _draw_runs(axes: Axes, inputs: FigureInputs, rows: pd.DataFrame, marks: Mapping[str, str]) -> None:
    if rows.empty:
        style.empty_panel(axes, "no finite values")
        return
    losses = [loss for loss in inputs.losses if (rows["loss"] == loss).any()]
    sns.scatterplot(
        rows,
        x="nc1",
        y="value",
        hue="loss",
        style="loss",
        hue_order=losses,
        style_order=losses,
        palette=dict(inputs.colours),
        markers={loss: marks[loss] for loss in losses},
        s=26,
        edgecolor=style.GROUND,
        linewidth=0.4,
        legend=False,
        ax=axes,
    )
    style.clear_labels(axes)
    axes.set_xscale("log")
    style.log_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)


def _rank_correlation(runs: pd.DataFrame) -> float:
    """Spearman's correlation; nan where one of the two does not vary."""
    if len(runs) < 3 or runs[["nc1", "auroc"]].nunique().min() < 2:
        return float("nan")
    return float(np.corrcoef(runs["nc1"].rank(), runs["auroc"].rank())[0, 1])
