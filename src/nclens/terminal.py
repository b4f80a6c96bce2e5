"""What a person sees in the terminal at the end of a study, and whether a workflow still runs in a folder."""

import csv
from pathlib import Path

from nclens.files import FileError

_STYLES = {"supported": "green", "contradicted": "red", "inconclusive": "yellow"}


def print_verdicts(root: Path) -> None:
    """Print the verdict table of a finished study and where to look next."""
    from rich.console import Console
    from rich.table import Table

    path = root / "claims.csv"
    if not path.is_file():
        raise FileError(f"{path} is missing: the rule `judge` makes it")
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "claim"]
    table = Table(title=f"Verdicts of the study {root.name}", title_justify="left")
    for heading in ("claim", "what it says", "on", "effect [95% interval]", "seeds", "verdict"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        style = _STYLES.get(row["verdict"], "")
        on = " / ".join(row[key] for key in ("dataset", "model", "loss") if row[key])
        table.add_row(
            row["claim"],
            row["statement"],
            on,
            _effect(row),
            row["seeds"],
            f"[{style}]{row['verdict']}[/]" if style else "",
        )
    console = Console()
    console.print(table)
    console.print(f"Page: {root / 'report.html'}    MLflow: make ui", highlight=False)


def _effect(row: dict[str, str]) -> str:
    if not row["effect"]:
        return "-"
    effect = f"{float(row['effect']):.3g}"
    if row["low"] and row["high"]:
        effect += f" [{float(row['low']):.3g}, {float(row['high']):.3g}]"
    return f"{effect} {row['unit']}".rstrip()


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
