"""What a person sees in the terminal at the end of a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

_STYLES = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


def print_verdicts(root: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Print the verdict table of a finished study and where to look next.

    Args:
        root: folder of the study.
        rows: of its claims.csv, as text.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Verdicts of the study {root.name}", title_justify="left", show_lines=True)
    for heading in ("claim", "verdict", "what it says, and the effect with its 95% interval"):
        table.add_column(heading, overflow="fold")
    for row in (row for row in rows if row["level"] == "claim"):
        style = _STYLES.get(row["verdict"], "default")
        said = f"{escape(row['statement'])}\n[dim]{escape(_effect(row))}[/]"
        table.add_row(row["claim"], f"[{style}]{row['verdict']}[/]", said)
    console = Console(highlight=False)
    console.print(table)
    # Not folded: a path must stay whole to be copied.
    console.print(f"The page with figures and reasons: {root / 'report.html'}", soft_wrap=True)
    console.print("The recorded runs: make ui")


def _effect(row: Mapping[str, str]) -> str:
    """Return effect, interval, unit, seeds and place of a verdict in one line."""
    where = f"{row['loss']} on {row['dataset']}, {row['model']}"
    if not row["effect"]:
        return f"no effect could be measured; {where}"
    effect = f"{float(row['effect']):.3g}"
    if row["low"] and row["high"]:
        effect += f" [{float(row['low']):.3g}, {float(row['high']):.3g}]".replace("inf]", "∞)")
    seeds = f", {row['seeds']} seeds" if row["seeds"] else ""
    return f"{effect} {row['unit']}; {where}{seeds}"
