"""A study at a glance, as a notebook shows it: its experiments and its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nclens.report.effects import Effect, pair
from nclens.report.text import NO_CLAIM, plural
from nclens.workflow.files import FileError

if TYPE_CHECKING:
    from nclens.workflow.finished.study import FinishedStudy

#: The most rows of a table, and the most names in a cell.
MOST_ROWS, MOST_NAMES = 30, 12
COLOURS = {"supported": "#1a7f37", "contradicted": "#c62828", "inconclusive": "#8a6d00"}


def overview(study: FinishedStudy) -> str:
    """Return a study's title, folder, experiments and verdicts as HTML; of an unfinished one, what finishes it."""
    title = f"<b>{escape(study.title or study.name)}</b><br><code>{escape(str(study.folder))}</code>"
    heads = ("experiment", "data", "model", "losses", "seeds", "figures")
    shown = [
        [row["experiment"], row["dataset"], *(_names(row[key]) for key in ("models", "losses", "seeds", "figures"))]
        for row in study.experiments.to_dict("records")
    ]
    return f"<div>{title}{_table(heads, [[escape(cell) for cell in row] for row in shown])}{_verdicts(study)}</div>"


def _verdicts(study: FinishedStudy) -> str:
    try:
        claims = study.claims
    except FileError as error:
        return f"<p>{escape(str(error))}</p>"
    labels, rows = study.labels, []
    for row in claims[claims["level"] == "claim"].to_dict("records"):
        compared = pair(*(labels.get(row[key], row[key]) for key in ("loss", "baseline")))
        colour = COLOURS.get(row["verdict"], "inherit")
        cells = [row["claim"], row["statement"], row["experiment"], compared, Effect.of(row).numbers]
        verdict = f'<b style="color:{colour}">{escape(row["verdict"])}</b>'
        rows.append([*(escape(cell) for cell in cells), verdict])
    if not rows:
        return f"<p>{NO_CLAIM}</p>"
    return _table(("claim", "statement", "experiment", "losses", "effect [95% interval]", "verdict"), rows)


def _names(names: Iterable[object]) -> str:
    known = [str(name) for name in names]
    more = [f"{len(known) - MOST_NAMES} more"] if len(known) > MOST_NAMES else []
    return ", ".join([*known[:MOST_NAMES], *more])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells in HTML, its first rows where there are many."""
    left = 'style="text-align:left"'
    head = "".join(f"<th {left}>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td {left}>{cell}</td>' for cell in row)}</tr>" for row in rows[:MOST_ROWS])
    more = f"<p>and {plural(len(rows) - MOST_ROWS, 'more row')}</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
