from dataclasses import replace

import numpy as np

from nclens.figures.unconstrained_feature_model import ufm_conditioning


def bars(axes):
    return [patch.get_x() + patch.get_width() for patch in axes.patches]


def test_bars_are_the_closed_form_and_points_the_numeric_value(simulate):
    inputs = simulate(losses=("ce", "ls", "ls_0.1"))
    theory = inputs.theory.assign(numeric=inputs.theory["closed_form"] * 1.01)
    figure, table = ufm_conditioning(replace(inputs, theory=theory))
    for axes, quantity in zip(figure.axes, ("kappa_ce", "kappa_full"), strict=True):
        own = table[table["quantity"] == quantity]
        np.testing.assert_allclose(bars(axes), own["closed_form"])
        points = [collection.get_offsets()[0] for collection in axes.collections]
        np.testing.assert_allclose([point[0] for point in points], own["numeric"])
        np.testing.assert_allclose([point[1] for point in points], [0, 1, 2])
    # papers.md: kappa_full is 6.96, 15.7 and 21.9 at smoothing 0, 0.05 and 0.1, so the bars' labels say so.
    assert [text.get_text()[:4] for text in figure.axes[1].texts] == ["6.96", "15.7", "21.8"]


def test_both_axes_say_which_definition(simulate):
    figure, _ = ufm_conditioning(simulate())
    assert "loss part only" in figure.axes[0].get_xlabel()
    assert "ridge included" in figure.axes[1].get_xlabel()


def test_losses_without_theory_and_values_that_are_not_finite_are_named(simulate):
    inputs = simulate(losses=("ce", "ls", "maxsup"))
    theory = inputs.theory.copy()
    theory.loc[(theory["loss"] == "ls") & (theory["quantity"] == "kappa_ce"), "numeric"] = np.inf
    figure, table = ufm_conditioning(replace(inputs, theory=theory))
    notes = figure.get_supxlabel().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
    assert "kappa_ce, MaxSup with a rather long name: not in the theory table" in notes
    assert "kappa_ce, LS (δ = 0.05): 1 numeric not finite" in notes
    assert len(table) == 4


def test_without_theory_the_panels_say_so(simulate):
    inputs = simulate()
    figure, table = ufm_conditioning(replace(inputs, theory=inputs.theory[:0]))
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["no finite values"] * 2
    assert table.empty
