from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures.unconstrained_feature_model import DEFINITIONS, ufm_conditioning
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.spectra import condition_numbers
from tests.figures.artists import lines_of, notes_of

PROBLEM = UnconstrainedFeatureModel(3, 2, 4, 0.01, 0.01, 0.01)


def marks_of(axes, inputs, row, hollow):
    """Positions of the open or of the filled markers in a row, loss by loss."""
    found = []
    for loss in inputs.losses:
        for line in lines_of(axes, inputs.colours[loss], marked=True):
            if (line.get_markerfacecolor() == "none") == hollow:
                found += [x for x, y in line.get_xydata() if y == row and np.isfinite(x)]
    return found


def test_rings_are_the_closed_form_and_dots_the_numeric_value(simulate):
    inputs = simulate(losses=("ce", "ls", "ls_0.1"))
    theory = inputs.theory.assign(numeric=inputs.theory["closed_form"] * 1.01)
    figure, table = ufm_conditioning(replace(inputs, theory=theory))
    axes = figure.axes[0]
    for row, quantity in enumerate(("kappa_ce", "kappa_full")):
        own = table[table["quantity"] == quantity]
        closed, numeric = (marks_of(axes, inputs, row, hollow) for hollow in (True, False))
        np.testing.assert_allclose(closed, own["closed_form"])
        np.testing.assert_allclose(numeric, own["numeric"])
    # papers.md: kappa_full is 6.96, 15.7 and 21.9 at smoothing 0, 0.05 and 0.1.
    assert closed == pytest.approx([6.96, 15.7, 21.9], abs=0.05)


def test_every_row_says_which_definition_and_how_it_moves(simulate):
    figure, _ = ufm_conditioning(simulate())
    assert [text.get_text() for text in figure.axes[0].texts] == [
        r"$\kappa_{\mathrm{CE}}$: cross entropy alone, W or H; falls with δ",
        r"$\kappa_{\mathrm{full}}$: whole objective, W; rises with δ",
    ]
    alone, _ = ufm_conditioning(replace(simulate(), smoothings={}))
    assert not [text for text in alone.axes[0].texts if "with δ" in text.get_text()]


def test_all_definitions_of_the_theory_are_drawn(simulate):
    inputs = simulate()
    theory = pd.concat([inputs.theory.assign(quantity=name).head(2) for name in condition_numbers(PROBLEM)])
    figure, table = ufm_conditioning(replace(inputs, theory=theory))
    assert list(table["quantity"].unique()) == list(DEFINITIONS)
    assert len(figure.axes[0].texts) == len(DEFINITIONS)


def test_losses_without_theory_and_values_that_are_not_finite_are_named(simulate):
    inputs = simulate(losses=("ce", "ls", "maxsup"))
    theory = inputs.theory.copy()
    theory.loc[(theory["loss"] == "ls") & (theory["quantity"] == "kappa_ce"), "numeric"] = np.inf
    figure, table = ufm_conditioning(replace(inputs, theory=theory))
    notes = notes_of(figure)
    assert "MaxSup with a rather long name: no condition number in the theory table" in notes
    assert "LS (δ = 0.05): numeric of kappa_ce not finite" in notes
    assert len(table) == 4


def test_without_theory_the_panel_says_so(simulate):
    inputs = simulate()
    figure, table = ufm_conditioning(replace(inputs, theory=inputs.theory[:0]))
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["no finite values"]
    assert table.empty
