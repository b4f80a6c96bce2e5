"""The formulas that the page shows are those of docs/theory.md, character by character."""

from pathlib import Path

import pytest

from nclens.ufm.formulas import CLOSED_FORMS, FORMULAS, REGRESSION, SYMBOLS
from nclens.ufm.quantities import CONDITION_NUMBERS, MINIMISER

NOTES = " ".join((Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("formulas", [SYMBOLS, CLOSED_FORMS, FORMULAS, REGRESSION])
def test_every_formula_is_on_the_page_of_the_theory(formulas):
    assert [name for name, latex in formulas.items() if latex not in NOTES] == []


def test_symbols_and_closed_forms_are_those_of_the_quantities():
    assert list(SYMBOLS) == list(CONDITION_NUMBERS)
    assert all(CLOSED_FORMS[name].startswith(f"{SYMBOLS[name]} = ") for name in CLOSED_FORMS.keys() & SYMBOLS.keys())
    assert {*MINIMISER, *CONDITION_NUMBERS} - set(CLOSED_FORMS) == {"nuclear_norm", "kappa_joint_scaled"}
