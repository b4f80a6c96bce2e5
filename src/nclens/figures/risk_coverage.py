"""Risk-coverage curves, with and without logit normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from nclens.figures import style
from nclens.figures.curves import Scaled, draw_lines, finish_panel, line_note
from nclens.figures.findings import compared, joined, phrase
from nclens.figures.inputs import Drawing, FigureInputs, means_of, omissions, seeds_note, with_seeds
from nclens.metrics.selective import RISK, log_odds, normalised_logit, risks

COVERAGES = tuple(percent / 100 for percent in range(5, 101))
"""From 5% on: the risk among a few samples is that of single ones."""
PANELS = {"msp": "softmax probability", "normalised": "logit normalisation"}
"""What ranks the predictions -> title of its panel."""


@style.look()
def risk_coverage(inputs: FigureInputs) -> Drawing:
    """Risk among the most confident test predictions against their share, for each loss; p is each run's own."""
    powers = inputs.select("logit_norm_power", "test", inputs.last_epoch)
    rows = pd.concat([_curves(inputs, loss, powers) for loss in inputs.losses], ignore_index=True)
    figure, grid = style.page(1, len(PANELS), 2.9, sharey=True)
    marks, cut = style.markers(inputs.losses), False
    parts = [
        with_seeds(rows[rows["ranking"] == ranking]).rename(columns={"epoch": "coverage"}).assign(ranking=ranking)
        for ranking in PANELS
    ]
    table = pd.concat(parts, ignore_index=True)
    reached = RISK if rows["value"].max() >= RISK else None  # else the line would flatten the curves
    for axes, (ranking, title) in zip(grid.flat, PANELS.items(), strict=True):
        own = rows[rows["ranking"] == ranking]
        drawn = table[table["ranking"] == ranking].rename(columns={"coverage": "epoch"})
        draw_lines(axes, inputs, own, drawn, markers=marks, within=(0.0, 1.0))
        panel = Scaled("risk (%)" if ranking == "msp" else "", percent=True, reference=reached)
        if own.empty:
            style.empty_panel(axes, "not defined for two classes")
        else:
            cut |= finish_panel(axes, panel, table, within=(0.0, 1.0))
        axes.set(xlabel="coverage (%)", xlim=(0, 1.0))
        axes.set_title(title)
        style.percent_axis(axes.xaxis)
    style.legend(
        figure, [style.loss_key(inputs.labels[loss], inputs.colours[loss], marks[loss]) for loss in inputs.losses]
    )
    left_out = omissions(inputs, powers, "p (test)")
    style.notes(
        figure,
        [
            f"{inputs.experiment}, epoch {inputs.last_epoch}, {seeds_note(inputs)}, whole test set",
            line_note(inputs, table),
            f"Horizontal line: {RISK:.0%} risk" if reached else "",
            "At 100% coverage the risk is the test error",
            f"Exponent p of the normalisation: each run's own, chosen on {inputs.fitted_on}",
            "Bands are cut at the panels' edges" if cut else "",
            "No normalised curve where p is missing: " + "; ".join(left_out) if left_out else "",
        ],
    )
    names = ("ranking", "loss", "coverage", "seed", "mean", "low", "high", "seeds", "left_out")
    at = means_of(table[np.isclose(table["coverage"].astype(float), 0.8)])
    figure.finding = joined(
        phrase(f"Risk (%) at 80% coverage by {title}", compared(inputs, 100 * own.set_index("loss")["mean"]))
        for ranking, title in PANELS.items()
        for own in [at[at["ranking"] == ranking]]
    )
    return Drawing(figure, table[list(names)])


def _curves(inputs: FigureInputs, loss: str, powers: pd.DataFrame) -> pd.DataFrame:
    """The risk of a loss's seeds at every coverage; the column `epoch` holds the coverage."""
    own = powers[powers["loss"] == loss]
    chosen = {int(seed): float(value) for seed, value in zip(own["seed"], own["value"], strict=True)}
    rows: list[dict[str, Any]] = []
    for seed in inputs.seeds(loss):
        arrays = inputs.last_features(loss, seed)
        logits = torch.as_tensor(np.asarray(arrays["test.logits"], dtype=np.float64))
        correct = logits.argmax(dim=1) == torch.as_tensor(np.asarray(arrays["test.targets"], dtype=np.int64))
        confidences = {"msp": log_odds(logits)}
        if np.isfinite(power := chosen.get(seed, np.nan)):
            confidences["normalised"] = normalised_logit(logits, power)
        for ranking, confidence in confidences.items():
            found = risks(confidence, correct).numpy()
            rows += [
                {"loss": loss, "seed": seed, "epoch": coverage, "ranking": ranking, "value": found[place - 1]}
                for coverage in COVERAGES
                for place in [-(-round(100 * coverage) * len(found) // 100)]
            ]
    return pd.DataFrame(rows, columns=["loss", "seed", "epoch", "ranking", "value"]).astype(
        {"epoch": float, "value": float}
    )
