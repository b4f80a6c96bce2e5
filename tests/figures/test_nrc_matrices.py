from dataclasses import replace

import numpy as np
import pytest
import torch

from nclens.figures.nrc_matrices import closed_form, nrc_gram, predicted_form
from nclens.metrics.regression import nrc3, target_covariance
from nclens.ufm.regression import UnconstrainedRegression
from tests.claims.simulate_regression import DECAYS, DIM, LAMBDA, targets_of
from tests.figures.simulate_regression import simulate
from tests.figures.test_neural_regression_collapse import notes_of

pytestmark = pytest.mark.lengthy  # it draws


def matrix_of(table, loss, what):
    own = table[(table["loss"] == loss) & (table["what"] == what)]
    return own.pivot(index="i", columns="j", values="mean").to_numpy(float)


def images(figure):
    """The heat maps: axes of the page's cells, without the colour bar."""
    return [axes for axes in figure.axes if axes.collections and axes.get_label() != "<colorbar>"]


@pytest.mark.parametrize("n", [2, 3])
def test_nrc3_is_the_distance_of_the_matrices_that_are_shown(n):
    inputs = simulate(seeds=(0,), n=n)
    _, table = nrc_gram(inputs)
    for loss in DECAYS:
        distance = ((matrix_of(table, loss, "last") - matrix_of(table, loss, "predicted")) ** 2).sum()
        chosen = inputs.select("nrc3", "train", 400)
        assert distance == pytest.approx(chosen.loc[chosen["loss"] == loss, "value"].item(), abs=1e-12)


def test_the_predicted_form_is_that_of_the_measurement():
    inputs = simulate(seeds=(0, 1))
    gammas = inputs.select("nrc3_gamma", "train", 400)
    for (loss, seed), shape in predicted_form(inputs).items():
        gamma = gammas.loc[(gammas["loss"] == loss) & (gammas["seed"] == seed), "value"].item()
        weight = torch.linalg.cholesky(torch.tensor(shape) + 1e-15 * torch.eye(2, dtype=torch.float64))
        assert nrc3(weight, target_covariance(targets_of(2)), gamma) == pytest.approx(0, abs=1e-12)


def test_the_closed_form_is_the_models_and_keeps_its_scale():
    inputs = simulate(regularised=True)
    model = UnconstrainedRegression(targets_of(2).numpy(), dim=DIM, lambda_w=LAMBDA, lambda_h_mean=LAMBDA)
    np.testing.assert_allclose(closed_form(inputs)["ufm", 0], model.gram)
    figure, table = nrc_gram(inputs)
    np.testing.assert_allclose(matrix_of(table, "ufm", "predicted"), model.gram)
    assert table.loc[table["what"] == "predicted", "low"].isna().all()
    arrays = [inputs.last_features("ufm", seed)["weight"] for seed in (0, 1, 2)]
    np.testing.assert_allclose(matrix_of(table, "ufm", "last"), np.mean([w @ w.T for w in arrays], axis=0))
    assert len(images(figure)) == 3
    for axes, what in zip(images(figure), ("first", "last", "predicted"), strict=True):
        np.testing.assert_allclose(axes.collections[0].get_array().reshape(2, 2), matrix_of(table, "ufm", what))
    assert "λ_W = 0.1, λ_H = 0.1" in notes_of(figure)


def test_before_after_and_predicted_for_every_loss():
    figure, table = nrc_gram(simulate())
    assert len(images(figure)) == 9
    assert list(table["what"].unique()) == ["first", "last", "predicted"]
    assert (table["seeds"] == 3).all()
    for loss in DECAYS:
        for what in ("first", "last"):  # over the norm: the mean over seeds is at most 1
            assert np.linalg.norm(matrix_of(table, loss, what)) <= 1 + 1e-12
    assert "Mean γ" in notes_of(figure)


def test_one_target_has_no_form():
    figure, table = nrc_gram(simulate(n=1, seeds=(0,)))
    assert not images(figure)
    assert table["mean"].isna().all()
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"not defined"}
    assert "NRC3 is not defined" in notes_of(figure)


def test_an_experiment_without_measurements_is_drawn_empty():
    inputs = simulate()
    figure, table = nrc_gram(replace(inputs, metrics=inputs.metrics[:0]))
    assert table.empty
    assert not images(figure)
