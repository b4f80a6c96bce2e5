"""What a person sees in the terminal at the end of a study, and whether a workflow still runs in a folder."""

import csv
from pathlib import Path

from nclens.files import FileError

_STYLES = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


def print_verdicts(root: Path) -> None:
    """Print the verdict table of a finished study and where to look next."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    path = root / "claims.csv"
    if not path.is_file():
        raise FileError(f"{path} is missing: the rule `judge` makes it")
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "claim"]
    table = Table(title=f"Verdicts of the study {root.name}", title_justify="left", show_lines=True)
    for heading in ("claim", "verdict", "what it says, and the effect with its 95% interval"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        style = _STYLES.get(row["verdict"], "default")
        said = f"{escape(row['statement'])}\n[dim]{escape(_effect(row))}[/]"
        table.add_row(row["claim"], f"[{style}]{row['verdict']}[/]", said)
    console = Console(highlight=False)
    console.print(table)
    # Not folded: a path must stay whole to be copied.
    console.print(f"The page with figures and reasons: {root / 'report.html'}", soft_wrap=True)
    console.print("The recorded runs: make ui")


def _effect(row: dict[str, str]) -> str:
    """Return effect, interval, unit, seeds and place of a verdict in one line."""
    where = f"{row['loss']} on {row['dataset']}, {row['model']}"
    if not row["effect"]:
        return f"no effect could be measured; {where}"
    effect = f"{float(row['effect']):.3g}"
    if row["low"] and row["high"]:
        effect += f" [{float(row['low']):.3g}, {float(row['high']):.3g}]".replace("inf]", "∞)")
    seeds = f", {row['seeds']} seeds" if row["seeds"] else ""
    return f"{effect} {row['unit']}; {where}{seeds}"


def snakemake_alive(folder: Path) -> bool:
    """Return whether a Snakemake process of this folder is alive."""
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = process.info["cmdline"] or []
        is_snakemake = any(Path(word).name == "snakemake" for word in words[:3]) or "snakemake" in words[1:3]
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if is_snakemake and alive and process.info["cwd"] and Path(process.info["cwd"]) == folder.resolve():
            return True
    return False
