"""Texts, tables and references as LaTeX: escaped, balanced, and what the page says."""

import re

import pytest
import yaml

from nclens.claims import CLAIMS
from nclens.claims.papers import PAPERS, SOFTWARE, named_in
from nclens.report import latex
from nclens.report.effects import Effect
from nclens.report.page import Cell, Column, Table
from tests.process import ROOT


def balanced(text):
    """Whether braces close, formulas end, and every environment that begins ends."""
    plain = re.sub(r"\\[\\{}$%&#_]", "", text)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    return depth == 0 and plain.count("$") % 2 == 0 and begun == ended


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50% #1 {x} $5", r"a\_b \& 50\% \#1 \{x\} \$5"),
        ("C:\\path~1^2", r"C:\textbackslash{}path\textasciitilde{}1\textasciicircum{}2"),
        ("LS (δ = 0.05)", r"LS ($\delta $ = 0.05)"),
        ("ΔΩ ± 3×10⁻⁷ → ∞", r"$\Delta \Omega $ $\pm $ 3$\times $10$^{-7}$ $\to $ $\infty $"),
        ("“quoted” – it’s", "``quoted'' -- it's"),
        ("Müller, 标签", "Müller, 标签"),
        ("a < b", r"a \ensuremath{<} b"),
    ],
)
def test_text_is_escaped(text, expected):
    assert latex.escaped(text) == expected
    assert balanced(latex.escaped(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.01440 ± 0.00068", r"$0.01440 \pm 0.00068$"),
        ("−2.50×10⁻⁷", r"$-2.50\times 10^{-7}$"),
        ("[0.377, ∞)", r"$[0.377, \infty )$"),
        ("–", "--"),
        ("never", "never"),
    ],
)
def test_numbers_are_formulas(text, expected):
    assert latex.math(text) == expected


def test_formulas_of_labels_stay_and_a_dollar_alone_is_text():
    assert latex.labelled(r"$\delta_{max}$ = 5%") == r"$\delta_{max}$ = 5\%"
    assert latex.labelled("5$ a_b") == r"5\$ a\_b"


UNTESTED = {"scale": "ratio", "reason": "", "margin": None, "smallest": None, "p": None, "p_holm": None}
"""Columns of a claim without tests."""


def test_a_table_with_many_columns_continues_below_with_its_first_column():
    columns = [Column("Loss"), *(Column(f"q_{place}", "test", numeric=True) for place in range(6))]
    rows = [[Cell("", loss={"label": "A&B"}), *(Cell(f"{place}.0", strong=place == 2) for place in range(6))]]
    lines = latex.table(Table(columns, rows)).splitlines()
    assert lines[0] == r"\begin{tabular}{@{}lrrrr@{}}"
    assert lines[2] == r"Loss & q\_0 (test) & q\_1 (test) & q\_2 (test) & q\_3 (test) \\"
    assert lines[4] == r"A\&B & $0.0$ & $1.0$ & $\mathbf{2.0}$ & $3.0$ \\"
    assert lines[5:8] == [r"\midrule", r"Loss & q\_4 (test) & q\_5 (test) &  &  \\", r"\midrule"]
    assert lines[8] == r"A\&B & $4.0$ & $5.0$ &  &  \\"
    assert balanced("\n".join(lines))


def test_the_table_of_verdicts_has_paper_statement_and_comparisons():
    numbers = {"effect": 0.24, "low": 0.155, "high": 0.372, "unit": "ratio of epochs", "null": 1, "seeds": 3}
    effect = Effect.of(UNTESTED | numbers | {"reason": "measures disagree"})
    row = {"apart": "", "loss": {"label": "LS_1"}, "baseline": {"label": "CE"}, "effect": effect}
    claim = {"id": "C1", "statement": "It is 50% faster.", "rows": [row | {"verdict": "inconclusive"}], "paper": []}
    paper = [type("Part", (), {"text": "A title (arXiv 2402.03979)"})]
    text = latex.verdicts_table([claim | {"paper": paper}], {"2402.03979": "guo2025cross"})
    assert r"\emph{A title (arXiv 2402.03979)}~\cite{guo2025cross}" in text
    assert r"\textbf{C1} It is 50\% faster." in text
    assert (
        r"LS\_1 against CE & $0.240$ $[0.155, 0.372]$ ratio of epochs & $3$ & inconclusive: measures disagree \\"
        in text
    )
    assert balanced(text)


def test_settings_of_many_experiments_continue_below():
    text = latex.settings_table(["a", "b_1", "c"], [["Seeds", "0", "1", "2"], ["Width", "8", "", ""]])
    assert text.count(r"\midrule") == 3
    assert r"Setting & a & b\_1 \\" in text
    assert r"Setting & c &  \\" in text
    assert text.count("Width") == 1
    assert balanced(text)


def test_every_paper_behind_a_claim_is_cited():
    numbers = set(re.findall(r"\d{4}\.\d{4,5}", " ".join(claim.paper for claim in CLAIMS.values())))
    assert numbers <= set(PAPERS)
    assert len({latex.key_of(paper) for paper in PAPERS.values()}) == len(PAPERS)


def test_the_citation_file_says_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == SOFTWARE["title"]
    assert [author["name"] for author in citation["authors"]] == [SOFTWARE["author"]]
    said = {entry["url"].rsplit("/", 1)[1]: entry for entry in citation["references"]}
    assert set(said) == set(PAPERS)
    for number, paper in PAPERS.items():
        entry = said[number]
        authors = tuple(f"{author['family-names']}, {author['given-names']}" for author in entry["authors"])
        venue = entry.get("journal", entry.get("collection-title", ""))
        assert (paper.title, paper.authors, paper.year, paper.venue) == (entry["title"], authors, entry["year"], venue)
        assert paper.journal == ("journal" in entry)


def test_the_bibliography_has_accents_as_commands():
    text = latex.bibliography(named_in(["arXiv 1906.02629", "arXiv 2303.06484, 2402.03979"]), "1.2.3")
    assert re.findall(r"^@(\w+){(\w+),$", text, re.M) == [
        ("misc", "nclens"),
        ("inproceedings", "muller2019when"),
        ("misc", "liu2023generalizing"),
        ("article", "guo2025cross"),
    ]
    assert r"M{\"u}ller, Rafael and Kornblith, Simon" in text
    assert r"Sch{\"o}lkopf, Bernhard" in text
    assert text.isascii()
    assert "note = {Version 1.2.3}" in text
    assert balanced(text)


def test_a_missing_effect_is_said():
    row = {"effect": float("nan"), "low": None, "high": None, "unit": "ratio", "null": 1, "seeds": None}
    assert latex.effect(Effect.of(UNTESTED | row)) == "not measured"
