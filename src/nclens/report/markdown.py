"""The verdicts of a study as a page of Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nclens.claims import CLAIMS, Claim, ClaimRow, rules_of
from nclens.report.effects import Effect, meaning, pair
from nclens.report.text import plainly


def verdicts_page(
    rows: Sequence[ClaimRow],
    without_comparison: Sequence[str],
    labels: Mapping[str, Mapping[str, str]] | None = None,
    known: Mapping[str, Claim] = CLAIMS,
) -> str:
    """Return the verdicts: a sentence on each claim that does not hold, the tables, how a verdict is reached.

    Args:
        rows: of the table of claims, in its order.
        without_comparison: experiments without two losses that a claim compares.
        labels: experiment -> loss entry -> what it is called; by default its entry.
        known: every claim by its id, those that the study states among them.
    """
    claims, measures = ([row for row in rows if row.level == level] for level in ("claim", "measure"))
    # A verdict has the numbers of its main measure, which comes right after it.
    main = [after.quantity for row, after in zip(rows, [*rows[1:], *rows[-1:]], strict=True) if row.level == "claim"]
    losses = {id(row): _losses(row, (labels or {}).get(row.experiment, {})) for row in rows}
    parts = ["# Verdicts"]
    parts += [
        _sentence(row, losses[id(row)])
        for verdict in ("contradicted", "inconclusive")
        for row in claims
        if row.verdict == verdict
    ]
    if claims and all(row.verdict == "supported" for row in claims):
        parts.append("Every claim is supported.")
    parts += [f"Experiment {name} has no two losses that a claim compares." for name in without_comparison]
    if claims:
        cells = [
            _cells(row, row.statement, losses[id(row)], quantity, known)
            for row, quantity in zip(claims, main, strict=True)
        ]
        parts.append(_table(cells, ["Claim", "Statement"], ["p", "p, by Holm"]))
        parts.append("## Measures")
        cells = [_cells(row, _label(row, known), losses[id(row)], row.quantity, known) for row in measures]
        parts.append(_table(cells, ["Claim", "Measure"], ["p"]))
    parts.append("## How a verdict is reached")
    rules = rules_of({row.claim for row in rows}, known)
    parts.append("\n>\n".join(f"> **{name}.** {plainly(rule)}" for name, rule in rules.items()))
    return "\n\n".join(parts) + "\n"


def _losses(row: ClaimRow, labels: Mapping[str, str]) -> str:
    return pair(labels.get(row.loss, row.loss), labels.get(row.baseline, row.baseline))


def _label(row: ClaimRow, known: Mapping[str, Claim]) -> str:
    return known[row.claim].label(row.quantity) if row.claim in known else row.quantity


def _sentence(row: ClaimRow, losses: str) -> str:
    effect = Effect.of(asdict(row))
    where = f"{row.dataset} with {row.model}, {losses}"
    null = f" (null value {effect.null})" if effect.value and effect.null else ""
    note = f"; {plainly(row.note)}" if row.note else ""
    reason = f" ({effect.reason})" if effect.reason else ""
    return (
        f"**{row.claim} is {row.verdict}{reason}** on {where}: “{row.statement}” Effect: {effect.numbers}{null}{note}."
    )


def _cells(row: ClaimRow, what: str, losses: str, quantity: str, known: Mapping[str, Claim]) -> list[str]:
    effect = Effect.of(asdict(row))
    numbers = " ".join(filter(None, (effect.value or "–", effect.interval)))
    unit = "; ".join(filter(None, (effect.unit, meaning(known.get(row.claim), quantity, effect.null))))
    where = f"{row.dataset}, {row.model}"
    found = f"{row.verdict}: {effect.reason}" if effect.reason else row.verdict
    tests = [effect.smallest, effect.p, *([effect.p_holm] if row.level == "claim" else [])]
    return [row.claim, what, where, losses, numbers, unit, effect.seeds, found, *tests, plainly(row.note)]


def _table(rows: Sequence[Sequence[str]], first: Sequence[str], p: Sequence[str]) -> str:
    heads = [*first, "Data, model", "Losses", "Effect [95% interval]", "Unit", "Seeds", "Verdict"]
    heads += ["Smallest effect that these seeds could show", *p, "Note"]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
