"""The committed atlas, docs/results/atlas.csv, as a part of docs/atlas.md and as a page of the site.

It is brought up to date by
`nclens atlas docs/results/atlas.csv results/* --to docs/results --link '{study}/README.md'`.
"""

import math
from collections import Counter
from pathlib import Path

from nclens.claims import CLAIMS
from nclens.claims.across_studies import OUTCOMES, Summary, outcome, summaries
from nclens.report.atlas import atlas_page, summary_effect
from nclens.report.effects import pair
from nclens.report.text import number
from nclens.workflow import tables

Row = dict[str, str]
#: What in docs/atlas.md comes before the committed atlas.
MARK = "<!-- What follows is generated from results/atlas.csv by `make docs`; do not edit. -->"
ABSENT = "This version has no atlas of its own studies."


def rows_of(table: Path) -> list[Row]:
    """Return the rows of the committed atlas; none where there is no such file."""
    return tables.read_rows(tables.ATLAS, table) if table.is_file() else []


def lines(rows: list[Row], docs: Path) -> list[str]:
    """Return the atlas in Markdown: a table a paper, and the summaries.

    Args:
        rows: of the atlas, whose links are relative to docs/results.
        docs: the folder docs.
    """
    judged = [row for row in rows if row["claim"]]
    if not judged:
        return [ABSENT]
    written = [
        "Each study leads to its page; a number is how many pairs of losses of the study have the verdict. "
        "[`atlas.csv`](results/atlas.csv) has every verdict. "
        '<!-- site: <a href="results/atlas.html">The whole page, with filters</a>. -->'
    ]
    claims = list(dict.fromkeys((row["paper"], row["claim"], row["statement"]) for row in judged))
    claims.sort(key=lambda key: list(CLAIMS).index(key[1]) if key[1] in CLAIMS else len(CLAIMS))
    for paper in dict.fromkeys(paper for paper, *_ in claims):
        written += ["", f"### {_escaped(paper)}", "", f"| claim | {' | '.join(OUTCOMES)} |", "|---" * 5 + "|"]
        for key in (key for key in claims if key[0] == paper):
            own = [row for row in judged if (row["paper"], row["claim"], row["statement"]) == key]
            cells = [_where([row for row in own if outcome(row) == name], docs) for name in OUTCOMES]
            written.append(f"| {_escaped(f'{key[1]}: {key[2]}')} | {' | '.join(cells)} |")
    return [*written, "", "### Pooled over data sets", "", *_pooled(summaries(judged))]


def _where(rows: list[Row], docs: Path) -> str:
    """Return the data sets of some cells, each with its studies."""
    found = []
    for data in sorted({row["data"] for row in rows}, key=str.casefold):
        counts = Counter((row["study"], row["link"]) for row in rows if row["data"] == data)
        studies = [_link(*study, docs) + (f" {count}" if count > 1 else "") for study, count in counts.items()]
        found.append(f"{_escaped(data)}: {', '.join(studies)}")
    return "; ".join(found)


def _link(study: str, link: str, docs: Path) -> str:
    """Return a study's name, as a link where its page is on the web or in docs/results."""
    if "://" in link:
        return f"[{_escaped(study)}]({link})"
    return f"[{study}](results/{link})" if (docs / "results" / link).is_file() else _escaped(study)


def _pooled(found: list[Summary]) -> list[str]:
    """Return the summaries as a table."""
    if not found:
        return ["No comparison was run on three data sets with an interval over seeds on each."]
    written = [
        "| claim | losses | measure | random-effects mean [95% interval] | I² | τ | data sets |",
        "|---" * 7 + "|",
    ]
    for one in found:
        row, data = one.cells[0], ", ".join(cell["data"] for cell in one.cells)
        losses = pair(row["loss_settings"], row["baseline_settings"])
        spread = f"{100 * one.found.inconsistency:.0f}% | {number(math.sqrt(one.found.between))}"
        parts = (row["claim"], losses, row["measure"], summary_effect(one).numbers)
        written.append(f"| {' | '.join(map(_escaped, parts))} | {spread} | {_escaped(data)} |")
    return written


def _escaped(text: str) -> str:
    """Return a text without marks of Markdown and HTML."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{mark}" if mark in "\\`*_[]|$" else mark for mark in plain)


def site_page(rows: list[Row], now: tuple[str, str]) -> str:
    """Return the page of the atlas for the site, where a study's README is the index of its folder."""
    return atlas_page(
        [row | {"link": row["link"].replace("/README.md", "/index.html")} for row in rows],
        summaries(row for row in rows if row["claim"]),
        now,
    )
