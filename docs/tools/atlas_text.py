"""The committed atlas, docs/results/atlas.csv: README's tables, a part of docs/atlas.md, and a page of the site.

It is brought up to date by
`nclens atlas docs/results/atlas.csv results/* --to docs/results --link '{study}/README.md'`.
"""

import math
import re
from collections import Counter
from pathlib import Path

from nclens.claims import CLAIMS
from nclens.claims.across_studies import OUTCOMES, Summary, outcome, summaries
from nclens.report.atlas import atlas_page, summary_effect
from nclens.report.effects import Effect, pair
from nclens.report.text import number
from nclens.workflow import tables

Row = dict[str, str]
#: What in docs/atlas.md comes before the committed atlas.
MARK = "<!-- What follows is generated from results/atlas.csv by `make docs`; do not edit. -->"
ABSENT = "This version has no atlas of its own studies."


#: The comparisons of README's first table: study, loss, and what the column is called.
HEADLINE = (
    ("digits", "ls", "[4,000 digits](docs/results/digits/README.md)"),
    ("cifar10_5k", "ls", "[5,000 images of CIFAR-10](docs/results/cifar10_5k/README.md)"),
)
COLUMNS = ("supported", "contradicted", "both", "inconclusive")
FIRST_PAPER = "arXiv 2402.03979"
OWN = "Our own"


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


def headline(rows: list[Row]) -> list[str]:
    """Return the claims of the first paper in the studies of README's first table, with effect and interval."""
    own = [row for row in rows if FIRST_PAPER in row["paper"] and not row["paper"].startswith(OWN)]
    columns = [
        (title, {row["claim"]: row for row in own if (row["study"], row["loss"]) == (study, loss)})
        for study, loss, title in HEADLINE
    ]
    columns = [(title, cells) for title, cells in columns if cells]
    written = [
        f"| claim | measured by | {' | '.join(title for title, _ in columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for claim in sorted({row["claim"] for row in own}):
        cells = [cells.get(claim) for _, cells in columns]
        measure = next((row["measure"] for row in cells if row), "")
        effects = " | ".join(_effect(row) if row else "" for row in cells)
        written.append(f"| {claim}: {CLAIMS[claim].holds} | {_escaped(measure)} | {effects} |")
    return written


def _effect(row: Row) -> str:
    """Return a verdict with its effect: bold where it is contradicted."""
    found = outcome(row)
    return f"{f'**{found}**' if found == 'contradicted' else found}: {Effect.of(row).numbers}"


def by_paper(rows: list[Row]) -> list[str]:
    """Return what the atlas says of each claim, a row a paper and the claims of our own in one.

    A claim stands in one column, with the number of settings (a study's data set with a model) that have this outcome,
    of those in which it was tested. In a setting it is supported or contradicted where at least one pair of losses is
    and none the reverse.
    """
    places: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for row in (row for row in rows if row["claim"] in CLAIMS and outcome(row) != "not tested"):
        setting = tuple(row[name] for name in ("study", "data", "altered", "model"))
        places.setdefault(row["claim"], {}).setdefault(setting, set()).add(outcome(row))
    papers: dict[str, dict[str, dict[str, list[str]]]] = {}
    for claim in (CLAIMS[name] for name in CLAIMS if name in places):
        column, count = _column(list(places[claim.id].values()))
        paper = f"*{OWN}*" if claim.paper.startswith(OWN) else _paper(claim.paper)
        subject = claim.subject.format(loss="a loss")
        said = f"{claim.holds} ({claim.id}: {count})"
        papers.setdefault(paper, {}).setdefault(column, {}).setdefault(subject, []).append(said)
    papers[f"*{OWN}*"] = papers.pop(f"*{OWN}*", {})
    written = [f"| paper | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for paper, found in papers.items():
        cells = [_said(found.get(column, {})) for column in COLUMNS]
        written.append(f"| {paper} | {' | '.join(cells)} |")
    return written


def _column(outcomes: list[set[str]]) -> tuple[str, str]:
    """Return the column of a claim with these outcomes, a set a setting, and how many there are of it."""
    for_it = sum("supported" in found and "contradicted" not in found for found in outcomes)
    against = sum("contradicted" in found and "supported" not in found for found in outcomes)
    both = sum({"supported", "contradicted"} <= found for found in outcomes)
    total = len(outcomes)
    if both or (for_it and against):
        parts = [f"{for_it} supported", f"{against} contradicted"] + ([f"{both} both"] if both else [])
        return "both", f"{', '.join(parts)} of {total}"
    if for_it or against:
        return ("supported" if for_it else "contradicted"), f"{for_it or against} of {total}"
    return "inconclusive", f"{total}"


def _said(subjects: dict[str, list[str]]) -> str:
    """Return claims as text: each subject with what is said of it."""
    return "; ".join(f"{subject} {', '.join(said)}" for subject, said in subjects.items())


def _paper(paper: str) -> str:
    """Return a paper's title with a link to it."""
    found = re.match(r"(.+?) \(arXiv ([\d.]+)\b", paper)
    return f"*{found[1]}* ([{found[2]}](https://arxiv.org/abs/{found[2]}))" if found else f"*{paper}*"


def readme(text: str, rows: list[Row]) -> str:
    """Return README with its two tables, each found by the first cells of its head, as the atlas has them."""
    for head, table in (("| claim | measured by |", headline(rows)), ("| paper | supported |", by_paper(rows))):
        before, found, rest = text.partition(f"\n\n{head}")
        if not found:
            raise SystemExit(f"README.md has no table that begins with `{head}`")
        text = "\n\n".join([before, "\n".join(table), rest.partition("\n\n")[2]])
    return text


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
