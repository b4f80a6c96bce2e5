"""The table of claims: which losses a claim compares, and the rows of its verdict and of its measures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import pandas as pd

from nclens.claims.verdict import (
    AGAINST,
    TWO_MODELS,
    Claim,
    Comparison,
    Measure,
    Reason,
    Scale,
    Verdict,
    against_margin,
)
from nclens.metrics.intervals import holm


@dataclass(frozen=True)
class ClaimRow:
    """A row of the table of claims: a claim's overall verdict (level `claim`), or one of its measures (`measure`).

    `p_holm`, of claims alone, is p corrected by Holm's method over the study; the other numbers are a `Measure`'s.
    """

    claim: str
    paper: str
    statement: str
    experiment: str
    dataset: str
    model: str
    baseline: str
    loss: str
    level: Literal["claim", "measure"]
    quantity: str
    effect: float
    low: float
    high: float
    unit: str
    null: float
    seeds: int | None
    verdict: Verdict
    note: str
    scale: Scale | Literal[""] = ""
    reason: Reason = ""
    margin: float = math.nan
    smallest: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    spread: float = math.nan
    resolution: float = math.nan


def pairs(
    claim: Claim,
    losses: Sequence[str],
    kinds: Mapping[str, str],
    strengths: Mapping[str, float | None],
    baseline: str | None,
    optimizers: Mapping[str, str] | None = None,
    peers: Mapping[str, Sequence[str]] | None = None,
    models: Mapping[str, str] | None = None,
) -> list[tuple[str, str]]:
    """Return the pairs (loss, what it is compared with) that a claim is judged on in an experiment.

    A loss is compared with those losses of a kind that start from the same strength, or with all of the kind where
    there are none, and of these with those under the same schedule where there are any; only with losses that the same
    optimiser minimises, unless the claim is on optimisers. The baseline of a loss under another optimiser than its own
    is the loss of the same kind and strength under that one.

    Args:
        claim: a claim; one that is not paired has no pairs.
        losses: the experiment's, in their order.
        kinds: loss -> what sort of loss it is.
        strengths: loss -> its strength before any schedule, None for a loss without.
        baseline: of the experiment, None where it has none.
        optimizers: loss -> what minimises it, as text; None or empty where it is the same for all.
        peers: loss -> those that differ from it in the optimiser alone, for claims on optimisers.
        models: loss -> its model; None where all have one.
    """
    if claim.by_optimizer:
        return [(loss, other) for loss in losses for other in (peers or {}).get(loss, ())]
    used = dict(optimizers or {})
    found = []
    known = models or {}
    for loss in losses:
        under = [other for other in losses if used.get(other) == used.get(loss)]
        others = [] if claim.against or baseline is None else [baseline]
        if others and baseline not in under:
            like = (kinds[others[0]], strengths[others[0]])
            others = [other for other in under if (kinds[other], strengths[other]) == like][:1]
        for kind in claim.against:
            of_kind = [other for other in under if kinds[other] == kind]
            alike = [other for other in of_kind if strengths[other] == strengths[loss]]
            others += alike or of_kind
        if claim.against:
            own = _schedule(kinds[loss], claim.compared)
            others = [other for other in others if _schedule(kinds[other], claim.against) == own] or others
        found += [
            (loss, other)
            for other in others
            if other != loss and claim.is_on(kinds[loss], two_models=known.get(loss) != known.get(other))
        ]
    return found


def _schedule(kind: str, kinds: Sequence[str]) -> str:
    """Return what a kind of loss adds to the plain one of a claim's `kinds`, such as `_linear`: its schedule."""
    plain = min((one for one in kinds if kind.startswith(one)), key=len, default=kind)
    return kind.removeprefix(plain)


def claim_rows(claim: Claim, comparison: Comparison) -> list[ClaimRow]:
    """Judge a claim: the row of its verdict, with the numbers of the main measure, then a row for each measure.

    No rows where the claim does not apply: it is on another task, or has no measures.

    Raises:
        ValueError: a measure without a label.
    """
    measures = claim.measures(comparison) if claim.task == comparison.task else []
    if not measures:
        return []
    for measure in measures:
        claim.label(measure.quantity)
    measures = [against_margin(measure, claim.margin(measure.quantity)) for measure in measures]
    verdict, note = claim.combine(measures)
    note = claim.labelled(note, [measure.quantity for measure in measures])
    if len(comparison.networks) > 1:
        note = "; ".join(filter(None, [note, TWO_MODELS]))

    def row(level: Literal["claim", "measure"], measure: Measure) -> ClaimRow:
        model = AGAINST.join(comparison.networks)
        names = (comparison.experiment, comparison.dataset, model, comparison.baseline, comparison.loss)
        numbers = {name: value for name, value in vars(measure).items() if name != "narrow"}
        return ClaimRow(claim.id, claim.paper, claim.statement, *names, level, **numbers)

    reason, p = claim.why(verdict, measures), claim.p(measures)
    head = replace(measures[0], quantity="", verdict=verdict, note=note, reason=reason, p=p)
    return [row("claim", head), *(row("measure", measure) for measure in measures)]


def corrected(rows: Sequence[ClaimRow]) -> list[ClaimRow]:
    """Return the rows of a study with p corrected by Holm's method over its claims, each with its p value.

    A claim that rests on seeds and has no p value is counted with p = 1; theory is not counted.
    """
    counted = [place for place, row in enumerate(rows) if row.level == "claim" and row.seeds is not None]
    values = holm([1.0 if math.isnan(rows[place].p) else rows[place].p for place in counted])
    found = dict(zip(counted, values, strict=True))
    return [
        replace(row, p_holm=found[place]) if place in found and not math.isnan(row.p) else row
        for place, row in enumerate(rows)
    ]


NUMBERS = ("effect", "low", "high", "null", "margin", "smallest", "p", "p_holm", "spread", "resolution")
"""Columns of the table of claims that are numbers, besides the number of seeds."""


def claims_table(rows: Sequence[ClaimRow]) -> pd.DataFrame:
    """Return the rows as a table; the number of seeds is a nullable integer, undefined numbers are missing."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(ClaimRow)])
    return table.astype({"seeds": "Int64"} | dict.fromkeys(NUMBERS, "float64"))
