"""The verdicts of a study as a page of Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nclens.claims import RULES, ClaimRow
from nclens.report.effects import Effect, pair


def verdicts_page(
    rows: Sequence[ClaimRow], without_comparison: Sequence[str], stated: Mapping[str, str] | None = None
) -> str:
    """Return the verdicts: a sentence on each claim that does not hold, the tables, how a verdict is reached.

    Args:
        rows: of the table of claims, in its order.
        without_comparison: experiments without two losses that a claim compares.
        stated: the rules of the claims that the study states, by id.
    """
    claims, measures = ([row for row in rows if row.level == level] for level in ("claim", "measure"))
    parts = ["# Verdicts"]
    parts += [
        _sentence(row) for verdict in ("contradicted", "inconclusive") for row in claims if row.verdict == verdict
    ]
    if claims and all(row.verdict == "supported" for row in claims):
        parts.append("Every claim is supported.")
    parts += [f"Experiment {name} has no two losses that a claim compares." for name in without_comparison]
    if claims:
        parts.append(_table([_cells(row, row.statement) for row in claims], "Claim", "Statement"))
        parts.append("## Measures")
        parts.append(_table([_cells(row, f"`{row.quantity}`") for row in measures], "Claim", "Measure"))
    parts.append("## How a verdict is reached")
    parts.append("\n>\n".join(f"> **{name}.** {rule}" for name, rule in {**RULES, **(stated or {})}.items()))
    return "\n\n".join(parts) + "\n"


def _sentence(row: ClaimRow) -> str:
    effect = Effect.of(asdict(row))
    where = f"{row.dataset} with {row.model}, {pair(row.loss, row.baseline)}"
    null = f" (null value {effect.null})" if effect.value and effect.null else ""
    note = f"; {row.note}" if row.note else ""
    return f"**{row.claim} is {row.verdict}** on {where}: “{row.statement}” Effect: {effect.numbers}{null}{note}."


def _cells(row: ClaimRow, what: str) -> list[str]:
    effect = Effect.of(asdict(row))
    numbers = " ".join(filter(None, (effect.value or "–", effect.interval)))
    where = f"{row.dataset}, {row.model}"
    losses = pair(row.loss, row.baseline)
    return [row.claim, what, where, losses, numbers, effect.unit, effect.seeds, row.verdict, row.note]


def _table(rows: Sequence[Sequence[str]], *first: str) -> str:
    heads = [*first, "Data, model", "Losses", "Effect [95% interval]", "Unit", "Seeds", "Verdict", "Note"]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
