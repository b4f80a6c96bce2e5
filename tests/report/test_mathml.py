"""Formulas as MathML: whole, plain, and as LaTeX means them."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nclens import report
from nclens.report.mathml import assignment, mathml
from nclens.ufm.formulas import CLOSED_FORMS, FORMULAS, REGRESSION, SYMBOLS

TEMPLATES = sorted((Path(report.__file__).parent / "templates").glob("*.j2"))
LATEX = [*SYMBOLS.values(), *CLOSED_FORMS.values(), *FORMULAS.values(), *REGRESSION.values()]


@pytest.mark.parametrize("latex", LATEX)
def test_every_formula_is_whole_and_has_no_command_left(latex):
    for block in (False, True):
        text = str(mathml(latex, block=block))
        assert text.startswith('<math display="block"><mrow>' if block else "<math><mrow>")
        element = ElementTree.fromstring(text)
        assert element.tag == "math"
        assert "\\" not in "".join(element.itertext())
        # Browsers ignore every other value.
        assert {node.get("mathvariant", "normal") for node in element.iter()} == {"normal"}


def test_bars_slashes_and_functions_are_spaced_as_in_latex():
    assert '<mo stretchy="false" lspace="0" rspace="0">|</mo>' in mathml("|W|_F")
    assert '<mo lspace="0" rspace="0">/</mo>' in mathml("1/L")
    assert '<mi>log</mi><mspace width="0.167em"/><mi>s</mi>' in mathml(r"\log s")
    assert "<mo>±</mo>" in mathml(r"a \pm b")


def test_an_assigned_value_is_text():
    element = ElementTree.fromstring(assignment(r"\lambda_W", "<1×10⁻⁵>"))
    assert "".join(element.itertext()) == "λW=<1×10⁻⁵>"
    assert len(element.findall(".//mn")) == 1


def test_templates_write_symbols_only_and_take_formulas_from_their_home():
    inline = [
        (path.name, latex)
        for path in TEMPLATES
        for latex in re.findall(r'tex\("(.*?)"\)', path.read_text(encoding="utf-8"))
    ]
    assert len(inline) > 50
    assert not [found for found in inline if re.search(r"[=<>]|\\\\(le|ge|ne)\b", found[1])]
    assert not [path.name for path in TEMPLATES if "<math" in path.read_text(encoding="utf-8")]
