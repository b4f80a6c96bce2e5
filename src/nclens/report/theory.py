"""The unconstrained feature model: its minimisers and its condition numbers, from a study's tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nclens.report.links import Links
from nclens.report.page import Section
from nclens.report.text import Names, as_text, number, sentence
from nclens.report.theory_networks import networks
from nclens.report.theory_speed import speed
from nclens.ufm.explanations import trend
from nclens.ufm.quantities import CONDITION_NUMBERS, MINIMISER

GIVEN = {
    "classes": "K",
    "per_class": "n",
    "dim": "d",
    "lambda_w": r"\lambda_W",
    "lambda_h": r"\lambda_H",
    "lambda_b": r"\lambda_b",
}
"""Columns of the theory table that hold the setting -> their symbols in LaTeX."""


def ufm_theory(
    names: Names,
    judged: Sequence[Mapping[str, Any]],
    theory: pd.DataFrame,
    dynamics: pd.DataFrame | None,
    predictions: pd.DataFrame | None,
    effective: pd.DataFrame | None,
    shown: Mapping[tuple[str, str], Mapping[str, Any]],
    links: Links,
) -> Section:
    """Return the theory: model, minimiser, condition numbers, gradient descent, and what it predicts for networks.

    Args:
        names: of the study.
        judged: the claims with their verdicts, as `verdicts.judged_claims` returns them.
        theory: closed forms and numeric values, one row a loss and quantity.
        dynamics: descents on the model; None where the study has no such table.
        predictions: the model's predictions for each run; None likewise.
        effective: the fits behind predictions by effective penalties; None likewise.
        shown: (experiment, stem) -> the figures that the page shows so far, each with its number and anchor.
        links: where the page can lead.
    """
    settings = [
        _setting(names, str(experiment), dict(zip(GIVEN, given, strict=True)), rows)
        for (experiment, *given), rows in theory.groupby(["experiment", *GIVEN], sort=False, dropna=False)
    ]
    errors = theory["relative_error"].dropna()
    content = {
        "settings": settings,
        "derivation": links.source("docs/theory.md", "docs/theory.md"),
        "condition_numbers": [name for name in CONDITION_NUMBERS if (theory["quantity"] == name).any()],
        "agreement": number(errors.max(), 2) if len(errors) else "",
        "verdicts": {claim: _verdict_lines(judged, claim) for claim in ("C5", "C6", "C7")},
        "speed": speed(names, theory, dynamics),
        "figures": [figure for (_, stem), figure in shown.items() if stem == "ufm_dynamics"],
        "networks": networks(names, predictions, effective),
    }
    sources = [
        *(link for name in ("ufm", "dynamics", "predictions", "effective") for link in links.file("theory", name)),
        *(links.rule("theory"), links.rule("predict"), links.source("src/nclens/ufm", "nclens.ufm")),
        *links.log("theory"),
    ]
    return Section("theory", "Theory", "theory.html.j2", content, sources)


def _setting(names: Names, experiment: str, given: Mapping[str, Any], rows: pd.DataFrame) -> dict[str, Any]:
    """One experiment at one setting: its losses, what the minimiser is, and the condition numbers."""
    losses = [str(loss) for loss in dict.fromkeys(rows["loss"])]
    smoothings = dict(zip(rows["loss"].astype(str), rows["smoothing"].astype(float), strict=True))
    groups = {str(quantity): group for quantity, group in rows.groupby("quantity", sort=False)}
    known = names.experiments.get(experiment)
    return {
        "where": names.where(experiment) if known else experiment,
        "given": [(symbol, number(given[column], 6, trim=True)) for column, symbol in GIVEN.items()],
        "losses": [_heading(names.loss(experiment, loss)) for loss in losses],
        "minimiser": [
            _row(name, group, losses) | {"label": sentence(_label(name))}
            for name, group in groups.items()
            if name not in CONDITION_NUMBERS
        ],
        "conditioning": [
            _row(name, groups[name], losses)
            | {
                "label": CONDITION_NUMBERS[name].summary,
                "trend": trend(groups[name]["smoothing"].tolist(), groups[name]["closed_form"].tolist()),
            }
            for name in CONDITION_NUMBERS
            if name in groups
        ],
        "unknown": bool(rows.loc[rows["quantity"] == "logit_gap", "closed_form"].isna().any()),
        "change": _change(names, experiment, given, groups, smoothings),
    }


def _heading(loss: Mapping[str, str]) -> dict[str, str]:
    """A loss as the head of a narrow column: its label does not break about an equals sign."""
    return {**loss, "label": loss["label"].replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")}


def _label(quantity: str) -> str:
    if quantity not in MINIMISER:
        raise ValueError(f"theory: quantity {quantity!r}; known: {', '.join((*MINIMISER, *CONDITION_NUMBERS))}")
    return MINIMISER[quantity]


def _row(quantity: str, group: pd.DataFrame, losses: Iterable[str]) -> dict[str, Any]:
    """A quantity: its closed form for each loss, and the largest relative error of the numeric values."""
    values = dict(zip(group["loss"].astype(str), group["closed_form"], strict=True))
    errors = group["relative_error"].dropna()
    return {
        "quantity": quantity,
        "values": [number(values.get(loss), 4) for loss in losses],
        "error": number(errors.max(), 2) if len(errors) else "–",
    }


def _change(
    names: Names,
    experiment: str,
    given: Mapping[str, Any],
    groups: Mapping[str, pd.DataFrame],
    smoothings: Mapping[str, float],
) -> dict[str, Any] | None:
    """What the smoothing changes: from the smallest to the largest of the losses whose minimiser is a simplex.

    None where there are fewer than two of them.
    """
    wanted = ("logit_gap", "p_true", "weight_norm", "feature_norm")
    if any(name not in groups for name in wanted):
        return None
    table = pd.concat(
        [
            groups[name].assign(loss=groups[name]["loss"].astype(str)).set_index("loss")["closed_form"]
            for name in wanted
        ],
        axis=1,
        keys=wanted,
    ).astype(float)
    s = float(given["classes"]) * (given["per_class"] * given["lambda_w"] * given["lambda_h"]) ** 0.5
    ordered = sorted(table.index, key=lambda loss: smoothings[loss])
    simplex = [loss for loss in ordered if table.loc[loss, "logit_gap"] > 0]
    if len({smoothings[loss] for loss in simplex}) < 2:
        return None
    ends = [
        {
            "loss": names.loss(experiment, loss),
            "total": number(s + smoothings[loss]),
            **{name: number(table.loc[loss, name]) for name in wanted},
        }
        for loss in (simplex[0], simplex[-1])
    ]
    first, last = table.loc[simplex[0]], table.loc[simplex[-1]]
    return {
        "s": number(s),
        "from": ends[0],
        "to": ends[1],
        "factor": number(last["weight_norm"] / first["weight_norm"]),
        "quotient": number(first["feature_norm"] / first["weight_norm"]),
        "zero": [names.loss(experiment, loss) for loss in ordered if table.loc[loss, "logit_gap"] == 0],
    }


def _verdict_lines(judged: Sequence[Mapping[str, Any]], claim: str) -> list[dict[str, Any]]:
    """The verdicts on a claim: each with the losses and the places that it was reached for."""
    lines: dict[tuple[str, str], list[Any]] = {}
    for entry in judged:
        if entry["id"] == claim:
            for row in entry["rows"]:
                lines.setdefault((as_text(row["verdict"]), row["where"]), []).append(row["loss"])
    return [{"verdict": verdict, "where": where, "losses": losses} for (verdict, where), losses in lines.items()]
