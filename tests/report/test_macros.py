"""The file that a document reads; where a TeX is installed, by documents that use it."""

import re
import shutil
import subprocess

import pytest

from nclens.report import macros
from nclens.report.quotes import Quote
from tests.report.test_latex import balanced

LAST = [
    Quote("e/ls_1/train/nc1/last", None, "0.0363 ± 0.0048"),
    Quote("e/C1/effect", 0.24, "0.240"),
    Quote("e/C1/interval", None, "[0.155, ∞)"),
    Quote("e/C1/unit", None, "difference in R² & 50%"),
]
OTHERS = [
    Quote("e/ls_1/train/nc1_x/10", None, "(1.440 ± 0.068)×10⁻⁵"),
    Quote("e/ls_1/train/nc1/10/seed0", 0.3, "0.300"),
]
CAPTIONS = {("e", "curves"): r"\textbf{Curves of a\_b.} NC1 is $\delta$."}


@pytest.fixture
def folder(tmp_path):
    """A folder `paper` as an export writes it, with a figure that is no more than an empty page."""
    made = tmp_path / "paper"
    (made / "numbers").mkdir(parents=True)
    (made / "numbers" / "last.tex").write_text(macros.numbers_file(LAST))
    (made / "numbers" / macros.file_of("e", "ls_1")).write_text(macros.numbers_file(OTHERS, "e/ls_1/"))
    (made / "nclens.tex").write_text(macros.macro_file(["e"], [("e", "ls_1")], CAPTIONS))
    return tmp_path


def test_each_path_is_defined_once_with_its_text(folder):
    last = (folder / "paper/numbers/last.tex").read_text()
    assert re.findall(r"^\\nclens@set{(.*?)}{(.*)}$", last, re.M) == [
        ("e/ls_1/train/nc1/last", r"$0.0363 \pm 0.0048$"),
        ("e/C1/effect", "$0.240$"),
        ("e/C1/interval", r"$[0.155, \infty )$"),
        ("e/C1/unit", r"difference in R$^{2}$ \& 50\%"),
    ]
    own = (folder / "paper/numbers/e=ls_1.tex").read_text()
    assert r"\N{train/nc1_x/10}{$(1.440 \pm 0.068)\times 10^{-5}$}" in own
    assert all(balanced(path.read_text()) for path in folder.rglob("numbers/*.tex"))


def test_the_experiment_may_be_left_out_where_there_is_one(folder):
    assert r"\detokenize{e/}" in (folder / "paper/nclens.tex").read_text()
    assert r"\detokenize{}" in macros.macro_file(["a", "b"], [], {})
    assert balanced(re.sub(r"%.*", "", macros.macro_file(["a", "b"], [("a", "ls")], CAPTIONS)))


def compiled(folder, body):
    """What pdfTeX says of a document, and whether it made one."""
    if (pdflatex := shutil.which("pdflatex")) is None:
        pytest.skip("no pdflatex here: install TeX Live")
    head = r"\documentclass{article}\newcommand{\nclensfolder}{paper/}\input{paper/nclens}\begin{document}"
    (folder / "a.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, errors="replace")
    return done.returncode, done.stdout.replace("\n", "")


@pytest.mark.lengthy
def test_a_document_quotes_numbers_also_in_headings_tables_and_captions(folder):
    code, said = compiled(
        folder,
        r"\section{\nclens{C1/effect}} \nclens{ls_1/train/nc1/last} \nclens{e/C1/interval} \nclens{C1/unit}"
        r"\begin{tabular}{r}\nclens{ls_1/train/nc1/10/seed0} \\ \nclens{e/ls_1/train/nc1_x/10}\end{tabular}"
        r"\begin{figure}\caption{\nclenscaption{curves} \nclenscaption{e/curves} \nclens{C1/effect}}\end{figure}",
    )
    assert (code, "Undefined" in said, "??" in said) == (0, False, False)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (r"\nclens{ls_1/train/nc7/last}", "no number `ls_1/train/nc7/last': paper/numbers.csv has the paths"),
        (r"\nclens{C1}", "no number `C1': paper/numbers.csv"),
        (r"\nclensfigure{nothing}", "no figure `nothing': paper/nclens.tex has the figures"),
    ],
)
def test_an_unknown_path_is_an_error_of_the_document(folder, body, words):
    code, said = compiled(folder, body)
    assert code != 0
    assert words in said
