"""The summary of a finished study in the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nclens.report.effects import Effect, pair
from nclens.report.text import plural

_STYLES = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


def print_verdicts(study: str, rows: Sequence[Mapping[str, str]], page: Path) -> None:
    """Print the verdict table of a finished study and where to look next.

    Args:
        study: its name.
        rows: of its table of claims, every cell as text.
        page: its report.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Verdicts of the study {study}", title_justify="left", show_lines=True)
    for heading in ("claim", "verdict", "statement, and effect with its 95% interval"):
        table.add_column(heading, overflow="fold")
    for row in (row for row in rows if row["level"] == "claim"):
        style = _STYLES.get(row["verdict"], "default")
        effect = Effect.of(row)
        seeds = f", {plural(int(effect.seeds), 'seed')}" if effect.seeds.isdigit() else ""
        line = f"{effect.numbers}; {pair(row['loss'], row['baseline'])} on {row['dataset']}, {row['model']}{seeds}"
        text = f"{escape(row['statement'])}\n[dim]{escape(line)}[/]"
        table.add_row(row["claim"], f"[{style}]{row['verdict']}[/]", text)
    console = Console(highlight=False)
    console.print(table)
    # Not folded: a path must stay whole to be copied.
    console.print(f"The page with figures and reasons: {page}", soft_wrap=True)
    console.print("The recorded runs: make ui")
