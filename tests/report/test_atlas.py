"""The page of the atlas: complete without scripts, filtered and sorted with them, nothing outside the screen."""

import math
import re
from html.parser import HTMLParser

import pytest

from nclens.claims import CLAIMS
from nclens.claims.across_studies import summaries
from nclens.report.atlas import atlas_page
from nclens.workflow import tables

NOW = ("0.1.0", "ab12")
SETTINGS = {"loss_settings": "ls (smoothing 0.05)", "baseline_settings": "ce", "optimizer": "sgd"}


def cell(study, claim, effect, verdict, data="digits", **changes):
    """A row of an atlas; a ratio with an interval of a tenth on both sides."""
    row = dict.fromkeys(tables.ATLAS.columns, "") | {"study": study, "status": "finished", "origin": study}
    row |= {"link": f"results/{study}/report.html", "version": NOW[0], "code": NOW[1], "claim": claim}
    known = CLAIMS.get(claim)
    row |= {"paper": known.paper, "statement": known.statement} if known else {"paper": "Stated by the study"}
    row |= {"experiment": study, "dataset": data, "data": data, "train": "1000", "test": "500", "model": "net"}
    row |= {"baseline": "ce", "baseline_label": "CE", "loss": "ls", "loss_label": "LS", "quantity": "nc1"}
    row |= {"measure": "NC1", "effect": str(effect), "low": str(effect - 0.1), "high": str(effect + 0.1)}
    row |= {"unit": "ratio", "null": "1.0", "scale": "ratio", "seeds": "3", "verdict": verdict, "standard_error": "0.1"}
    return row | SETTINGS | changes


def rows():
    return [
        cell("a", "C2", 0.5, "supported"),
        cell("a", "C4", 2.0, "contradicted"),
        cell("b", "C2", 0.25, "supported", "faces"),
        cell("b", "C4", 1.0, "inconclusive", "faces", reason="too few seeds"),
        cell("c", "C2", 10.0, "contradicted", "shoes", model="deep <net>"),
        cell("c", "W1", math.nan, "inconclusive", "shoes", reason="not testable", low="", high="", standard_error=""),
    ]


def page_of(given):
    return atlas_page(given, summaries(row for row in given if row["claim"]), NOW)


class Tags(HTMLParser):
    """What is open at the end, and the anchors and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta", "link", "br", "input", "circle", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_its_links_lead_somewhere():
    tags = Tags(page_of(rows()))
    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    assert {link[1:] for link in tags.links if link.startswith("#")} <= set(tags.ids)
    outside = {link for link in tags.links if "://" in link}
    assert all(link.startswith("https://arxiv.org/abs/") for link in outside)


def test_every_claim_is_there_and_one_that_was_not_run_says_so():
    glance = page_of(rows()).split('id="glance"')[1].split("</section>")[0]
    for claim in CLAIMS.values():
        row = next(row for row in glance.split("<tr ") if f'<span class="id">{claim.id}</span>' in row)
        assert ("not run" in row) == (claim.id not in ("C2", "C4", "W1")), claim.id
    marks = re.findall(r'class="cell ([\w-]+)" href="([^"]+)"', glance)
    assert marks == [
        ("supported", "results/a/report.html#claim-C2"),
        ("supported", "results/b/report.html#claim-C2"),
        ("contradicted", "results/c/report.html#claim-C2"),
        ("contradicted", "results/a/report.html#claim-C4"),
        ("inconclusive", "results/b/report.html#claim-C4"),
        ("not-tested", "results/c/report.html#claim-W1"),
    ]


def test_the_table_has_effects_seeds_and_reasons():
    table = page_of(rows()).split('id="verdicts"')[1].split("</table>")[0]
    text = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in table.split("<tr ")[1:]]
    assert text[0].endswith("C2 a digits net LS against CE NC1 0.500 [0.400, 0.600] ratio 3 supported")
    assert text[3].endswith("1.00 [0.900, 1.10] ratio 3 inconclusive too few seeds")
    assert text[5].endswith("NC1 not measured 3 not tested not testable")
    assert "deep &lt;net&gt;" in table


def test_a_statement_of_another_version_is_a_row_of_its_own():
    given = [*rows(), cell("old", "C2", 0.5, "supported", statement="An older <statement>.", version="0.0.1")]
    page = page_of(given)
    assert page.count("An older &lt;statement&gt;.") == 1
    assert "† other version" in page


def test_a_study_without_verdicts_is_named_with_what_it_lacks():
    lacking = dict.fromkeys(tables.ATLAS.columns, "") | {"study": "half", "status": "unfinished", "lacks": "x <y> is"}
    page = page_of([*rows(), lacking])
    assert "half is unfinished: x &lt;y&gt; is" in page
    assert "4 studies on 3 data sets: 6 verdicts on 3 claims" in page


def test_an_atlas_without_a_verdict_is_a_page():
    assert "0 verdicts" in page_of([dict.fromkeys(tables.ATLAS.columns, "") | {"study": "a", "status": "finished"}])


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(shown_page):
    """Open the page in a browser."""
    return lambda given, *width, **looks: shown_page(page_of(given), *width, **looks)


def shown(page):
    """(study, claim) of the rows that are seen, in their order, and the claims of the marks that are."""
    rows = page.locator(".every > tbody > tr:visible").all_inner_texts()
    marks = page.locator(".glance a.cell:visible")
    titles = marks.evaluate_all("cells => cells.map(cell => cell.title.split(':')[0].split(', '))")
    return [tuple(row.split("\t")[:2])[::-1] for row in rows], sorted(tuple(title[::-1]) for title in titles)


def test_filters_narrow_rows_and_marks_alike(opened):
    page = opened(rows())
    every = [("a", "C2"), ("a", "C4"), ("b", "C2"), ("b", "C4"), ("c", "C2"), ("c", "W1")]
    assert shown(page) == (every, sorted(every))
    for name, value, expected in (
        ("data", "faces", [("b", "C2"), ("b", "C4")]),
        ("outcome", "contradicted", [("a", "C4"), ("c", "C2")]),
        ("reason", "not testable", [("c", "W1")]),
        ("paper", CLAIMS["W1"].paper, [("c", "W1")]),
    ):
        page.select_option(f"select[name={name}]", label=value)
        assert shown(page) == (expected, sorted(expected))
        assert page.inner_text("output") == f"{len(expected)} of 6 verdicts"
        page.click(".filters button")
        assert shown(page)[0] == every
    page.fill("input[name=text]", "DEEP c2")
    assert shown(page)[0] == [("c", "C2")]
    assert page.locator(".glance > tbody > tr:visible").count() == 2  # the paper and its claim
    page.select_option("select[name=outcome]", label="supported")
    assert shown(page) == ([], [])


def test_columns_sort_by_number_and_keep_the_marks_rows(opened):
    page = opened(rows())
    page.click(".every th:has-text('Effect') button")
    order = [("b", "C2"), ("a", "C2"), ("b", "C4"), ("a", "C4"), ("c", "C2"), ("c", "W1")]
    assert shown(page)[0] == order
    page.click(".every th:has-text('Effect') button")
    assert shown(page)[0] == order[::-1]
    page.fill("input[name=text]", "faces")
    assert shown(page) == ([("b", "C4"), ("b", "C2")], [("b", "C2"), ("b", "C4")])


def test_without_scripts_everything_is_shown(opened):
    page = opened(rows(), java_script_enabled=False)
    assert page.locator(".every > tbody > tr:visible").count() == 6
    assert page.locator(".filters").is_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_outside_the_screen(opened, width):
    page = opened([*rows(), *(cell(f"study{n}", "C2", 1.0, "supported", f"data set {n}") for n in range(12))], width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
