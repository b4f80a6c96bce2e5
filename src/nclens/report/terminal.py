"""The summary of a finished study in the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nclens.claims import CLAIMS
from nclens.report.effects import Effect, meaning, pair
from nclens.report.text import NO_CLAIM, folded, plainly, plural, sentence

_STYLES = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}

LONGEST_REASON = 120
"""Characters of a reason in the terminal: about two lines of its column; the page has the rest."""


def print_verdicts(
    study: str,
    rows: Sequence[Mapping[str, str]],
    page: Path,
    labels: Mapping[str, str] | None = None,
    records: str = "make ui",
) -> None:
    """Print the verdict table of a finished study and where to look next.

    Args:
        study: its name.
        rows: of its table of claims, every cell as text.
        page: its report.
        labels: loss entry -> what it is called; by default its entry.
        records: the command that shows the recorded runs.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    called = labels or {}
    places = {f"{row['dataset']}, {row['model']}" for row in rows}
    # Written once where all rows share them.
    title = f"Verdicts of the study {study}" + (f" on {next(iter(places))}" if len(places) == 1 else "")
    table = Table(title=title, title_justify="left", show_lines=True)
    for heading in ("claim", "verdict", "statement, and effect with its 95% interval"):
        table.add_column(heading, overflow="fold")
    # A verdict has the numbers of its main measure, which comes right after it.
    for row, main in zip(rows, [*rows[1:], *rows[-1:]], strict=True):
        if row["level"] != "claim":
            continue
        style = _STYLES.get(row["verdict"], "default")
        what = pair(*(called.get(row[key], row[key]) for key in ("loss", "baseline")))
        what += f" on {row['dataset']}, {row['model']}" if len(places) > 1 else ""
        lines = [f"[dim]{escape(_effect(row, main, what))}[/]"]
        if row["verdict"] == "inconclusive" and (reason := _reason(row)):
            lines.append(f"[{style}]{escape(reason)}[/]")
        table.add_row(row["claim"], f"[{style}]{row['verdict']}[/]", "\n".join([escape(row["statement"]), *lines]))
    console = Console(highlight=False)
    console.print(table if rows else NO_CLAIM)
    # Not folded: a path must stay whole to be copied.
    console.print(f"The page with figures and reasons: {page}", soft_wrap=True)
    console.print(f"The recorded runs: {records}")


def _effect(row: Mapping[str, str], main: Mapping[str, str], what: str) -> str:
    effect = Effect.of(row)
    seeds = f", {plural(int(effect.seeds), 'seed')}" if effect.seeds.isdigit() else ""
    way = meaning(CLAIMS.get(row["claim"]), main.get("quantity", ""), effect.null) if effect.value else ""
    numbers = f"{effect.numbers} ({way})" if way else effect.numbers
    return f"{numbers}; {what}{seeds}"


def _reason(row: Mapping[str, str]) -> str:
    """Why a verdict is inconclusive, the smallest effect that its seeds could show, and its note."""
    effect = Effect.of(row)
    note = folded(plainly(row["note"]), LONGEST_REASON)[0]
    reason = "" if note.startswith(effect.reason) else effect.reason
    return sentence("; ".join(filter(None, (reason, effect.power, note))))
