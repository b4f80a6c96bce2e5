"""The seeds that decide each claim of a study, for the terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence

from nclens.claims import Claim
from nclens.claims.power import CERTAINTY, COUNTS, MOST, RESOLVED, Needed, decided
from nclens.report.effects import pair, size
from nclens.report.text import number, plural, sentence

HEADS = ("claim", "ran", "needed", "at most", "the measure that needs most seeds, its spread and margin")
RULE = (
    "Needed: seeds in all, those that ran among them, with which every measure is supported, contradicted or without "
    "an effect beyond its margin, whatever the effect, if the spread stays as it is. At most: the same for the upper "
    f"{CERTAINTY:.0%} limit of the spread. No effect and no verdict is read. Fix the number before more seeds run, and "
    "look at no verdict on the way: adding seeds until a claim is decided inflates its error."
)


def print_power(
    study: str,
    rows: Sequence[Needed],
    known: Mapping[str, Claim],
    labels: Mapping[str, str],
    remarks: Iterable[str] = (),
) -> None:
    """Print the seeds that each claim needs, and how many claims some numbers of seeds decide.

    Args:
        study: its name.
        rows: of its claims and measures; claims are printed.
        known: every claim by its id.
        labels: loss entry -> what it is called.
        remarks: what else there is to say, a sentence each.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    claims = [row for row in rows if row.level == "claim"]
    places = {row.experiment for row in claims}
    title = f"Seeds that decide the claims of the study {study}"
    table = Table(title=title, title_justify="left", show_lines=True)
    for heading in HEADS:
        table.add_column(heading, overflow="fold", justify="right" if heading in HEADS[1:4] else "left")
    for row in claims:
        losses = pair(labels.get(row.loss, row.loss), labels.get(row.baseline, row.baseline))
        losses += f" in {row.experiment}" if len(places) > 1 else ""
        lines = [f"{escape(losses)}: {escape(known[row.claim].label(row.quantity))}", *_sizes(row)]
        lines += [f"[dim]{escape(sentence(row.remark))}[/]"] if row.remark else []
        numbers = (_seeds(value, row.remark) for value in (row.needed, row.needed_at_most))
        table.add_row(row.claim, str(row.seeds), *numbers, "\n".join(lines))
    console = Console(highlight=False)
    console.print(table)
    counted = [row for row in claims if not math.isnan(row.needed)]
    for count, of_spread, of_limit in decided(counted, COUNTS):
        of = f"{of_spread} of {plural(len(counted), 'claim')}, {of_limit} at the upper limit"
        console.print(f"{count} seeds decide {of}")
    if left := len(claims) - len(counted):
        console.print(f"{plural(left, 'more claim')} {'has' if left == 1 else 'have'} no number, for the reason shown.")
    for remark in (*remarks, RULE):
        console.print(remark)


def _sizes(row: Needed) -> list[str]:
    """Return spread and margin as a line, where they are known."""
    spread = size(row.spread, row.scale).removeprefix("±")
    sizes = {"spread": spread, "margin": size(row.margin, row.scale)}
    known = [f"{name} {text}" for name, text in sizes.items() if not math.isnan(getattr(row, name))]
    return [", ".join(known)] if known else []


def _seeds(value: float, remark: str) -> str:
    """Return a number of seeds as text."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "no number" if remark.startswith(RESOLVED) else f"> {MOST}"
    return number(value, 9, trim=True)
