"""The committed atlas, docs/results/atlas.csv: README's table, a part of docs/atlas.md, and a page of the site.

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


#: The comparisons of README's table: study, loss, and what the column is called.
HEADLINE = (
    ("digits", "ls", "[4,000 digits](docs/results/digits/README.md)"),
    ("cifar10_5k", "ls", "[5,000 images of CIFAR-10](docs/results/cifar10_5k/README.md)"),
)
EVERYWHERE = "[all settings](docs/atlas.md#how-often)"
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
        "[`atlas.csv`](results/atlas.csv) has every verdict. "
        '<!-- site: <a href="results/atlas.html">The whole page, with filters</a>. -->',
        "",
        "### How often",
        "",
        "Settings, a study's data set with a model each, by what they say of the claim; *both* where pairs of losses "
        "disagree. Settings in which it could not be tested are left out.",
        "",
        *by_paper(judged),
        "",
        "### Where",
        "",
        "Each study leads to its page; a number is how many pairs of losses of the study have the verdict.",
    ]
    claims = list(dict.fromkeys((row["paper"], row["claim"], row["statement"]) for row in judged))
    claims.sort(key=lambda key: list(CLAIMS).index(key[1]) if key[1] in CLAIMS else len(CLAIMS))
    for paper in dict.fromkeys(paper for paper, *_ in claims):
        written += ["", f"#### {_escaped(paper)}", "", f"| claim | {' | '.join(OUTCOMES)} |", "|---" * 5 + "|"]
        for key in (key for key in claims if key[0] == paper):
            own = [row for row in judged if (row["paper"], row["claim"], row["statement"]) == key]
            cells = [_where([row for row in own if outcome(row) == name], docs) for name in OUTCOMES]
            written.append(f"| {_escaped(f'{key[1]}: {key[2]}')} | {' | '.join(cells)} |")
    return [*written, "", "### Pooled over data sets", "", *_pooled(summaries(judged))]


def headline(rows: list[Row]) -> list[str]:
    """Return the claims of the first paper in the studies of README's table, with effects, and in all settings."""
    own = [row for row in rows if FIRST_PAPER in row["paper"] and not row["paper"].startswith(OWN)]
    columns = [
        (title, {row["claim"]: row for row in own if (row["study"], row["loss"]) == (study, loss)})
        for study, loss, title in HEADLINE
    ]
    columns = [(title, cells) for title, cells in columns if cells]
    counts = _settings(rows)
    written = [
        f"| claim | measured by | {' | '.join(title for title, _ in columns)} | {EVERYWHERE} |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for claim in sorted({row["claim"] for row in own}):
        cells = [cells.get(claim) for _, cells in columns]
        measure = next((row["measure"] for row in cells if row), "")
        effects = " | ".join(_effect(row) if row else "" for row in cells)
        all_of_it = ", ".join(f"{counts[claim][name]}&nbsp;{name}" for name in COLUMNS if counts[claim][name])
        written.append(f"| {claim}: {CLAIMS[claim].holds} | {_escaped(measure)} | {effects} | {all_of_it} |")
    return written


def _effect(row: Row) -> str:
    """Return a verdict with its effect: bold where it is contradicted."""
    found = outcome(row)
    return f"{f'**{found}**' if found == 'contradicted' else found}: {Effect.of(row).numbers}"


def by_paper(rows: list[Row]) -> list[str]:
    """Return how often each claim held: below each paper a row a claim, ours last, and the settings of each outcome."""
    places = _settings(rows)
    papers: dict[str, list[str]] = {}
    for claim in (CLAIMS[name] for name in CLAIMS if name in places):
        said = f"{claim.id}: {claim.subject.format(loss='a loss')} {claim.holds}"
        cells = [str(places[claim.id][column] or "") for column in COLUMNS]
        papers.setdefault(_paper(claim.paper), []).append(f"| {' | '.join([said, *cells])} |")
    if OWN in papers:
        papers[OWN] = papers.pop(OWN)
    written = [f"| claim | {' | '.join(COLUMNS)} |", "|---" + "|--:" * len(COLUMNS) + "|"]
    for paper, claims in papers.items():
        written += [f"| {paper} |{' |' * len(COLUMNS)}", *claims]
    return written


def _settings(rows: list[Row]) -> dict[str, Counter[str]]:
    """Return how many settings, a study's data set with a model each, have each outcome, by claim.

    Where several pairs of losses were judged in a setting, it counts as supported or contradicted if one pair is and
    none the reverse, and as both if pairs disagree.
    """
    places: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for row in (row for row in rows if row["claim"] in CLAIMS and outcome(row) != "not tested"):
        setting = tuple(row[name] for name in ("study", "data", "altered", "model"))
        places.setdefault(row["claim"], {}).setdefault(setting, set()).add(outcome(row))
    return {claim: Counter(map(_of_setting, found.values())) for claim, found in places.items()}


def _of_setting(outcomes: set[str]) -> str:
    """Return what a setting counts as whose pairs of losses have these outcomes."""
    decided = outcomes & {"supported", "contradicted"}
    return "both" if len(decided) > 1 else next(iter(decided), "inconclusive")


def _paper(paper: str) -> str:
    """Return a paper's title with a link to it; of our own claims, that they are ours."""
    if paper.startswith(OWN):
        return OWN
    found = re.match(r"(.+?) \(arXiv ([\d.]+)\b", paper)
    return f"*{found[1]}* ([{found[2]}](https://arxiv.org/abs/{found[2]}))" if found else f"*{paper}*"


def readme(text: str, rows: list[Row]) -> str:
    """Return README with its table, found by the first cells of its head, as the atlas has it."""
    head = "| claim | measured by |"
    before, found, rest = text.partition(f"\n\n{head}")
    if not found:
        raise SystemExit(f"README.md has no table that begins with `{head}`")
    return "\n\n".join([before, "\n".join(headline(rows)), rest.partition("\n\n")[2]])


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
