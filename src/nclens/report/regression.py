"""Neural regression collapse: the measures, the results of the study, and the predictions of the model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nclens.metrics.catalogue import METRICS
from nclens.metrics.intervals import t_interval
from nclens.report.links import Links
from nclens.report.page import Section
from nclens.report.tables import last_values
from nclens.report.text import Names, number, plural, sentence, uncertain
from nclens.ufm.formulas import REGRESSION as FORMULAS
from nclens.ufm.quantities import REGRESSION

MEASURED = (
    *(("train", "nrc1"), ("train", "nrc2"), ("train", "nrc3"), ("train", "evr")),
    *(("train", "mse"), ("test", "mse"), ("test", "r2")),
)
"""Columns of the table of results: split, key of the metric; one that no run has is left out."""

CLAIMS = {"nrc1": "R1", "nrc2": "R2", "nrc3": "R3"}
"""Metric -> the claim that it falls; the verdict is shown below its value."""
MODEL_CLAIMS = ("R4", "R5")


def regression(
    names: Names,
    judged: Sequence[Mapping[str, Any]],
    metrics: pd.DataFrame,
    theory: pd.DataFrame | None,
    predictions: pd.DataFrame | None,
    links: Links,
) -> Section | None:
    """Return the section on regression; None for a study without an experiment of the task.

    Args:
        names: of the study.
        judged: the claims with their verdicts, as `verdicts.judged_claims` returns them.
        metrics: every metric of every run.
        theory: closed form and numeric minimiser, for experiments trained with the model's penalties.
        predictions: the model's predictions for each of their runs.
        links: where the page can lead.
    """
    experiments = names.of_task("regression")
    if not experiments:
        return None
    verdicts = {
        (claim["id"], row["experiment"], row["entry"]): row["verdict"] for claim in judged for row in claim["rows"]
    }
    content = {
        "outcomes": [_outcome(names, name, metrics, verdicts) for name in experiments],
        "models": [] if theory is None else _models(names, theory, predictions, verdicts),
    }
    sources = [
        *links.file("theory", "regression"),
        *(links.rule("theory"), links.code("nclens.metrics.regression:regression_collapse")),
        *links.log("theory"),
    ]
    return Section("regression", "Regression collapse", "regression.html.j2", content, sources)


def _outcome(
    names: Names, experiment: str, metrics: pd.DataFrame, verdicts: Mapping[tuple[str, str, str], str]
) -> dict[str, Any]:
    """One row a loss: its weight decay, and means over seeds at the last snapshot with half their intervals."""
    entry = names.experiments[experiment]
    measured = last_values(metrics, {metric for _, metric in MEASURED})
    values: dict[tuple[str, tuple[str, str]], list[float]] = {}
    for name, key in names.runs():
        for column in MEASURED:
            if name == experiment and (key, column) in measured:
                values.setdefault((key[2], column), []).append(measured[key, column])
    chosen = [column for column in MEASURED if any(found == column for _, found in values)]
    rows = []
    for loss in entry["losses"]:
        own = [values.get((loss, column), []) for column in chosen]
        judged = [verdicts.get((CLAIMS.get(metric, ""), experiment, loss), "") for _, metric in chosen]
        rows.append(
            {
                "loss": names.loss(experiment, loss),
                "decay": "" if entry.get("regularised") else f"weight decay {entry['weight_decays'][loss]:g}",
                "seeds": plural(max(map(len, own), default=0), "seed"),
                "cells": [_mean(found) | {"verdict": verdict} for found, verdict in zip(own, judged, strict=True)],
            }
        )
    counts = {row["seeds"] for row in rows}
    return {
        "where": names.where(experiment),
        "seeds": counts.pop() if len(counts) == 1 else "",
        "regularised": bool(entry.get("regularised", False)),
        "columns": [(METRICS[metric].label, split) for split, metric in chosen],
        "rows": rows,
    }


def _mean(values: Sequence[float]) -> dict[str, str]:
    """The mean over seeds, and half its 95% interval where there is one."""
    if not values or not all(math.isfinite(value) for value in values):
        return {"mean": "–", "half": ""}
    if len(values) == 1:
        return {"mean": number(values[0]), "half": ""}
    mean, low, _ = t_interval(values)
    text = uncertain(mean, mean - low)
    # In two lines, but for a power of ten that is common to both.
    value, _, half = (text, "", "") if "(" in text else text.partition(" ± ")
    return {"mean": value, "half": half}


def _models(
    names: Names,
    theory: pd.DataFrame,
    predictions: pd.DataFrame | None,
    verdicts: Mapping[tuple[str, str, str], str],
) -> list[dict[str, Any]]:
    """The model of each experiment that was trained with its penalties: closed form, numeric value, networks."""
    models = []
    for (experiment, loss), rows in theory.groupby(["experiment", "loss"], sort=False):
        networks = _networks(predictions, str(experiment), str(loss))
        lambda_w, lambda_h = (float(rows[name].iloc[0]) for name in ("lambda_w", "lambda_h_mean"))
        given = {r"\lambda_W": lambda_w, r"\lambda_H": lambda_h, FORMULAS["c"]: lambda_w * lambda_h}
        judged = {claim: verdicts.get((claim, str(experiment), str(loss)), "") for claim in MODEL_CLAIMS}
        models.append(
            {
                "where": names.where(str(experiment)) if experiment in names.experiments else str(experiment),
                "given": [(symbol, number(value, 4, trim=True)) for symbol, value in given.items()],
                "rows": [_row(record, networks) for record in rows.to_dict("records")],
                "partial": _partial(rows, lambda_w * lambda_h),
                "error": number(rows["relative_error"].abs().max(), 2),
                "verdicts": [(claim, verdict) for claim, verdict in judged.items() if verdict],
            }
        )
    return models


def _partial(rows: pd.DataFrame, c: float) -> bool:
    """Whether c exceeds an eigenvalue of Sigma, so that the residuals' mean variance is less than c."""
    variance = rows.loc[rows["quantity"] == "residual_variance", "closed_form"].astype(float)
    return bool((variance < c * (1 - 1e-6)).any())


def _row(record: Mapping[Any, Any], networks: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    quantity = str(record["quantity"])
    return {
        "quantity": quantity,
        "label": _label(quantity),
        "closed_form": number(record["closed_form"], 5),
        "numeric": number(record["numeric"], 5),
        "relative_error": number(record["relative_error"], 2),
        "network": networks.get(quantity, _mean([])),
    }


def _label(quantity: str) -> str:
    if quantity.startswith("gram_"):
        place = quantity.removeprefix("gram_")
        return f"W W′, row {int(place[: len(place) // 2]) + 1}, column {int(place[len(place) // 2 :]) + 1}"
    if quantity not in REGRESSION:
        raise ValueError(f"regression: quantity {quantity!r}; known: {', '.join((*REGRESSION, 'gram_ij'))}")
    return sentence(REGRESSION[quantity])


def _networks(predictions: pd.DataFrame | None, experiment: str, loss: str) -> dict[str, dict[str, str]]:
    """Quantity -> what was measured of the trained networks, the mean over seeds with half its interval."""
    if predictions is None:
        return {}
    own = predictions[(predictions["experiment"] == experiment) & (predictions["loss"] == loss)]
    return {
        str(quantity): _mean(rows["measured"].astype(float).tolist())
        for quantity, rows in own.groupby("quantity", sort=False)
    }
