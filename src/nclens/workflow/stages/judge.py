"""Judge the papers' claims in every experiment: the metrics and the theory in, a table and a page of verdicts out."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from nclens.claims import (
    CLAIMS,
    RULES,
    Claim,
    ClaimRow,
    Comparison,
    Measurements,
    claim_rows,
    claims_table,
    pairs,
    verdict,
)
from nclens.workflow import tables
from nclens.workflow.files import write_text
from nclens.workflow.specs import Judge, JudgeExperiment

#: The columns that the claims read, by table.
METRICS = ["experiment", *verdict.METRICS]
THEORY = ["experiment", *verdict.THEORY, *verdict.MODEL]
PREDICTIONS = ["experiment", *verdict.PREDICTIONS]


def judge(
    spec: Judge,
    metrics: Path,
    theory: Path,
    claims_csv: Path,
    claims_md: Path,
    *,
    dynamics: Path | None = None,
    predictions: Path | None = None,
) -> None:
    """Write the verdicts as a table and as a page.

    Args:
        spec: the experiments. Where a task has claims on two losses, an experiment in which none finds two to compare
            is named on the page; one without measurements is inconclusive.
        metrics: the study's table, R/metrics.parquet.
        theory: R/theory/ufm.csv.
        claims_csv: one row a claim, experiment and pair of losses (level `claim`), each followed by its measures (level
            `measure`). After the comparisons of an experiment come the claims on its losses alone, loss by loss; their
            `baseline` is empty.
        claims_md: the same in Markdown, with the rule.
        dynamics: R/theory/dynamics.csv; without it the speed of descents is not judged.
        predictions: R/theory/predictions.csv; without it, and where it has no rows, nothing is said of predictions.

    Raises:
        FileError: an input is missing or damaged, or an output cannot be written; names the file.
        ValueError: an experiment does not fit the tables; says how.
    """
    metrics_table = tables.read(tables.COLLECTED, metrics, METRICS)
    theory_table = tables.read(tables.THEORY, theory, THEORY)
    dynamics_table = None if dynamics is None else tables.read(tables.DYNAMICS, dynamics, verdict.DYNAMICS)
    predictions_table = None if predictions is None else tables.read(tables.PREDICTIONS, predictions, PREDICTIONS)
    own_metrics, own_theory = _by_experiment(metrics_table), _by_experiment(theory_table)
    own_predictions = None if predictions_table is None else _by_experiment(predictions_table)
    rows: list[ClaimRow] = []
    idle: list[str] = []
    for item in spec.experiments:
        name, claims = item.experiment, _claims_on(item)
        if not claims and any(claim.paired and claim.task == item.task for claim in CLAIMS):
            idle.append(name)
        for loss in item.losses:
            claims[loss, ""] = [claim for claim in CLAIMS if not claim.paired]
        measurements = Measurements(own_metrics(name))
        for (loss, against), judged in claims.items():
            comparison = Comparison(
                experiment=name,
                dataset=item.dataset,
                model=item.model,
                baseline=against,
                loss=loss,
                seeds=item.seeds,
                epochs=item.epochs,
                metrics=measurements,
                theory=own_theory(name),
                dynamics=dynamics_table,
                predictions=None if own_predictions is None else own_predictions(name),
                task=item.task,
                weight_decays=item.weight_decays,
                regularised=item.regularised,
                teachers={taught: vars(teaching) for taught, teaching in item.teachers.items()},
            )
            rows += [row for claim in judged for row in claim_rows(claim, comparison)]
    tables.write(tables.CLAIMS, claims_csv, claims_table(rows))
    write_text(claims_md, _page(rows, idle))


def _claims_on(item: JudgeExperiment) -> dict[tuple[str, str], list[Claim]]:
    """Return the claims on each pair of an experiment's losses, (loss, baseline)."""
    losses = {loss: {"kind": item.kinds[loss], "strength": item.strengths[loss]} for loss in item.losses}
    claims: dict[tuple[str, str], list[Claim]] = {}
    for claim in CLAIMS:
        for pair in pairs(claim, losses, item.baseline):
            claims.setdefault(pair, []).append(claim)
    return claims


def _by_experiment(table: pd.DataFrame) -> Callable[[str], pd.DataFrame]:
    """Return experiment -> its rows; searched for each again, a table takes the square of the number of experiments."""
    parts = dict(list(table.groupby("experiment", observed=True)))
    return lambda name: parts.get(name, table.iloc[:0])


def _page(rows: Sequence[ClaimRow], idle: Sequence[str]) -> str:
    """Return the verdicts in Markdown: a sentence on each claim that did not hold, the tables, the rule."""
    claims, measures = ([row for row in rows if row.level == level] for level in ("claim", "measure"))
    parts = ["# Verdicts"]
    parts += [
        _sentence(row) for verdict in ("contradicted", "inconclusive") for row in claims if row.verdict == verdict
    ]
    if claims and all(row.verdict == "supported" for row in claims):
        parts.append("Every claim is supported.")
    parts += [
        f"Experiment {name} has no two losses that a claim compares: nothing to judge between them." for name in idle
    ]
    if claims:
        parts.append(_table([_cells(row, row.statement) for row in claims], "Claim", "What it says"))
        parts.append("## Measures")
        parts.append(_table([_cells(row, f"`{row.quantity}`") for row in measures], "Claim", "Measure"))
    parts.append("## How a verdict is reached")
    parts.append("\n>\n".join(f"> **{name}.** {rule}" for name, rule in RULES.items()))
    return "\n\n".join(parts) + "\n"


def _sentence(row: ClaimRow) -> str:
    where = f"{row.dataset} with {row.model}, {_losses(row)}"
    numbers = f" {_effect(row)} {row.unit}" if math.isfinite(row.effect) else " no effect could be measured"
    null = f" (held against {row.null:g})" if math.isfinite(row.effect) and math.isfinite(row.null) else ""
    note = f"; {row.note}" if row.note else ""
    return f"**{row.claim} is {row.verdict}** on {where}: “{row.statement}” Measured:{numbers}{null}{note}."


def _losses(row: ClaimRow) -> str:
    return f"{row.loss} against {row.baseline}" if row.baseline else row.loss


def _effect(row: ClaimRow) -> str:
    """Return the effect with its interval, as far as they are defined."""
    if math.isnan(row.effect):
        return "–"
    interval = "" if math.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]".replace("inf]", "∞)")
    return f"{row.effect:.3g}{interval}"


def _cells(row: ClaimRow, what: str) -> list[str]:
    seeds = "–" if row.seeds is None else str(row.seeds)
    where = f"{row.dataset}, {row.model}"
    return [
        row.claim,
        what,
        where,
        _losses(row),
        _effect(row),
        row.unit,
        seeds,
        row.verdict,
        row.note,
    ]


def _table(rows: Sequence[Sequence[str]], *first: str) -> str:
    heads = [*first, "Data, model", "Losses", "Effect [95% interval]", "Unit", "Seeds", "Verdict", "Note"]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
