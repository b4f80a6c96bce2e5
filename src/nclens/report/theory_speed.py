"""How fast gradient descent reaches the model's minimisers, and which condition number explains it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nclens.report.text import Names, number
from nclens.ufm.explanations import explanations, relative_iterations
from nclens.ufm.quantities import CLAIMED, CONDITION_NUMBERS

DISTANCES = {"orbit": "(W, H) to the minimisers", "logits": "the logits", "nc1": "NC1", "nc2": "NC2"}
RULES = {"relative": "The same fraction of 1/L", "absolute": "The same step for all δ"}
SIZES = {"classes": "K", "per_class": "n", "dim": "d"}
NEAR = 1e-9


def speed(names: Names, theory: pd.DataFrame, dynamics: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return one entry a model that descents were run on for one of the study's experiments; none without a table.

    Descents run on small models with the experiment's N lambda_H: of those with as many classes or fewer, the largest.
    """
    if dynamics is None or dynamics.empty:
        return []
    found: dict[tuple[Any, ...], tuple[pd.DataFrame, list[str]]] = {}
    keys = ["experiment", "classes", "per_class", "lambda_w", "lambda_h", "lambda_b"]
    for row in theory[keys].drop_duplicates().to_dict("records"):
        own = _model_of(dynamics, row)
        if len(own):
            model = tuple(own[[*SIZES, "lambda_h"]].iloc[0])
            experiment = str(row["experiment"])
            where = names.where(experiment) if experiment in names.experiments else experiment
            found.setdefault(model, (own, []))[1].append(where)
    return [_entry(own, places) for own, places in found.values()]


def _model_of(dynamics: pd.DataFrame, row: Mapping[Any, Any]) -> pd.DataFrame:
    total = dynamics["lambda_h"] * dynamics["per_class"] * dynamics["classes"]
    same = np.isclose(total, row["lambda_h"] * row["per_class"] * row["classes"], rtol=NEAR, atol=0)
    for name in ("lambda_w", "lambda_b"):
        same &= np.isclose(dynamics[name], row[name], rtol=NEAR, atol=0)
    own = dynamics[same & (dynamics["classes"] <= row["classes"])]
    return own[own["classes"] == own["classes"].max()]


def _entry(own: pd.DataFrame, places: list[str]) -> dict[str, Any]:
    ratios = relative_iterations(own)
    judged = explanations(ratios)
    claimed = judged.loc[judged["predictor"] == CLAIMED, "verdict"]
    relative = own.loc[own["step_rule"] == "relative", "fraction"]
    smoothings = sorted(own["smoothing"].unique())
    return {
        "places": places,
        "given": [(symbol, number(own[column].iloc[0], 6, trim=True)) for column, symbol in SIZES.items()],
        "starts": int(own["start"].nunique()),
        "fraction": number(relative.median(), trim=True) if len(relative) else "",
        "least": number(smoothings[0], trim=True),
        "smoothings": [number(delta, trim=True) for delta in smoothings[1:]],
        "all_smoothings": [number(delta, trim=True) for delta in smoothings],
        "rules": [_rule(ratios, judged, rule) for rule in RULES if (ratios["step_rule"] == rule).any()],
        "claimed": {
            "cases": len(claimed),
            "explained": int((claimed == "explained").sum()),
            "direction": int((claimed == "direction only").sum()),
        },
        "momenta": list(_momenta(own)),
        "iterations": list(_iterations(own, smoothings)),
        "tolerance": number(own["tolerance"].astype(float).min(), trim=True).removeprefix("1×"),
    }


def _rule(ratios: pd.DataFrame, judged: pd.DataFrame, rule: str) -> dict[str, Any]:
    """Ratios of iterations near the minimiser for one step rule: found, and predicted by the claimed definition."""
    plain = ratios[(ratios["momentum"] == ratios["momentum"].min()) & (ratios["step_rule"] == rule)]
    rows = []
    for distance, what in DISTANCES.items():
        here = judged[(judged["step_rule"] == rule) & (judged["distance"] == distance)]
        kappas = here[here["predictor"].isin(list(CONDITION_NUMBERS))]
        linear = here.loc[here["predictor"] == "linear", "verdict"]
        rows.append(
            {
                "distance": what,
                "values": _means(plain[(plain["distance"] == distance) & (plain["quantity"] == "rate")]),
                "explained": kappas.loc[kappas["verdict"] == "explained", "predictor"].tolist(),
                "direction": kappas.loc[kappas["verdict"] == "direction only", "predictor"].tolist(),
                "slowest": bool((linear == "explained").any()),
            }
        )
    predicted = plain[(plain["quantity"] == f"rate_{CLAIMED}") & (plain["distance"] == next(iter(DISTANCES)))]
    return {"name": RULES[rule], "claimed": _means(predicted), "rows": rows}


def _means(rows: pd.DataFrame) -> list[str]:
    """Geometric means over starts at every smoothing but the smallest; none where one start has no value."""
    above = rows[rows["smoothing"] > rows["smoothing"].min()]
    return [number(_geometric(values)) for _, values in above.groupby("smoothing")["value"]]


def _geometric(values: pd.Series) -> float:
    numbers = values.astype(float)
    return math.nan if numbers.isna().any() else math.exp(float(np.log(numbers).mean()))


def _momenta(own: pd.DataFrame) -> Iterator[dict[str, str | bool]]:
    """For each momentum the range of rates near the minimiser, predicted by the condition numbers and measured."""
    linear = own["distance"] != "nc1"  # nc1 is quadratic: twice the rate
    for momentum, rows in own[linear & (own["momentum"] > own["momentum"].min())].groupby("momentum"):
        predicted = rows.loc[rows["quantity"].str.startswith("rate_kappa"), "value"].astype(float).dropna()
        measured = rows.loc[rows["quantity"] == "rate", "value"].astype(float).dropna()
        if len(predicted) and len(measured):
            name = number(momentum, trim=True)
            alike = bool(np.isclose(predicted.min(), predicted.max(), rtol=NEAR, atol=0))
            yield {"momentum": name, "predicted": _range(predicted), "measured": _range(measured), "alike": alike}


def _range(values: pd.Series) -> str:
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low} to {high}"


def _iterations(own: pd.DataFrame, smoothings: list[float]) -> Iterator[dict[str, Any]]:
    """Iterations from the start to the smallest tolerance, one row a momentum, step rule and distance."""
    rows = own[
        (own["quantity"] == "iterations") & (own["tolerance"].astype(float) == own["tolerance"].astype(float).min())
    ]
    for (momentum, rule, distance), line in rows.groupby(["momentum", "step_rule", "distance"], sort=False):
        values = {delta: _geometric(value) for delta, value in line.groupby("smoothing")["value"]}
        yield {
            "method": "plain" if momentum == 0 else f"momentum {number(momentum, trim=True)}",
            "rule": RULES[str(rule)],
            "distance": DISTANCES[str(distance)],
            "values": [
                "not reached" if math.isnan(values.get(delta, math.nan)) else f"{values[delta]:.0f}"
                for delta in smoothings
            ],
        }
