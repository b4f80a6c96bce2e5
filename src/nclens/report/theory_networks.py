"""Predictions of the unconstrained feature model for trained networks, with measurements and quality of the fits."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nclens.report.text import Names, number
from nclens.ufm.quantities import PREDICTED

LOOSE, VAST = 1.0, 100.0
"""Standard errors of log s: above the first (a factor e) a fit leaves s open, above the second no number is shown."""


def networks(names: Names, predictions: pd.DataFrame | None, effective: pd.DataFrame | None) -> dict[str, Any]:
    """Return the predictions of each experiment that has some, and the names of those that have none."""
    entries = []
    if predictions is not None:
        for experiment, rows in predictions.groupby("experiment", sort=False):
            fits = None if effective is None else effective[effective["experiment"] == experiment]
            entries.append(_entry(names, str(experiment), rows, fits))
    known = {entry["experiment"] for entry in entries}
    without = [names.where(name) for name in names.of_task("classification") if name not in known]
    return {"entries": entries, "without": without, "tables": predictions is not None}


def _entry(names: Names, experiment: str, rows: pd.DataFrame, fits: pd.DataFrame | None) -> dict[str, Any]:
    quantities = [name for name in PREDICTED if (rows["quantity"] == name).any()]
    losses = [str(loss) for loss in dict.fromkeys(rows["loss"])]
    own = fits if fits is not None and len(fits) else None
    return {
        "experiment": experiment,
        "where": names.where(experiment) if experiment in names.experiments else experiment,
        "explicit": bool((rows["penalties"] == "explicit").all()),
        "quantities": quantities,
        "rows": [
            {
                "loss": names.loss(experiment, loss),
                "seeds": int(rows.loc[rows["loss"] == loss, "seed"].nunique()),
                "cells": [_cell(rows[(rows["loss"] == loss) & (rows["quantity"] == name)]) for name in quantities],
            }
            for loss in losses
        ],
        "fits": [] if own is None else [_fit(group, delta) for delta, group in own.groupby("held_out")],
        "loose": False if own is None else bool((own["log_s_standard_error"].astype(float) > LOOSE).any()),
    }


def _cell(rows: pd.DataFrame) -> dict[str, str]:
    """Means over seeds of what was measured and predicted, and of measured over predicted minus 1."""
    measured, predicted = rows["measured"].astype(float), rows["predicted"].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = float((measured / predicted - 1).mean())
    return {
        "measured": number(measured.mean()),
        "predicted": number(predicted.mean()) if predicted.notna().all() else "–",
        "error": f"{100 * error:+.1f} %".replace("-", "−") if math.isfinite(error) else "–",
    }


def _fit(group: pd.DataFrame, held_out: Any) -> dict[str, str]:
    """The fits of all seeds without one smoothing: s as a range, the rest as the worst of the seeds."""
    columns: Mapping[str, pd.Series] = {name: group[name].astype(float) for name in group.columns[2:]}
    s = columns["s"].dropna()
    low, high = (number(s.min()), number(s.max())) if len(s) else ("–", "–")
    return {
        "held_out": number(held_out, trim=True),
        "points": number(columns["points"].min(), trim=True),
        "s": low if low == high else f"{low} to {high}",
        "error": f"above {VAST:g}" if (error := columns["log_s_standard_error"].max()) > VAST else number(error, 2),
        "gap": _percent(columns["rms_relative_residual"].max()),
        "ratio": _percent(columns["ratio_rms_relative_residual"].max()),
    }


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2g} %"
