from dataclasses import replace

import numpy as np
import pytest

from nclens.figures.nrc_residuals import MOST_POINTS, plane, predicted_variance, residuals
from tests.claims.simulate_regression import SAMPLES, C
from tests.figures.simulate_regression import simulate
from tests.figures.test_neural_regression_collapse import keys_of, notes_of

pytestmark = pytest.mark.lengthy  # it draws


def arrays_of(left):
    targets = np.random.default_rng(0).standard_normal(left.shape)
    return {"train.targets": targets, "train.logits": targets - left}


@pytest.mark.parametrize("n", [2, 3])
def test_the_ellipse_has_the_residuals_covariance(n):
    random = np.random.default_rng(1)
    left = random.standard_normal((500, n)) @ random.standard_normal((n, n)) + 1.0
    table, targets = plane(arrays_of(left))
    assert targets == n
    samples, outline = (table.loc[table["mark"] == mark, ["x", "y"]].to_numpy() for mark in ("sample", "covariance"))
    np.testing.assert_allclose(samples, left[:, :2])
    inverse = np.linalg.inv(np.cov(left[:, :2], rowvar=False, bias=True))
    centred = outline - left[:, :2].mean(0)
    np.testing.assert_allclose(np.einsum("ki,ij,kj->k", centred, inverse, centred), 1.0)  # one standard deviation


def test_of_many_samples_some_are_drawn_and_the_ellipse_is_that_of_all():
    left = np.random.default_rng(2).standard_normal((4_321, 2))
    table, _ = plane(arrays_of(left))
    assert (table["mark"] == "sample").sum() == MOST_POINTS
    outline = table.loc[table["mark"] == "covariance", ["x", "y"]].to_numpy() - left.mean(0)
    assert np.linalg.norm(outline, axis=1).max() ** 2 == pytest.approx(
        np.linalg.eigvalsh(np.cov(left.T, bias=True))[-1]
    )


def test_one_target_is_drawn_against_itself():
    left = np.random.default_rng(3).standard_normal((20, 1))
    arrays = arrays_of(left)
    table, targets = plane(arrays)
    assert targets == 1
    np.testing.assert_allclose(table[["x", "y"]], np.hstack([arrays["train.targets"], left]))
    figure, _ = residuals(simulate(n=1, seeds=(0,)))
    assert figure.axes[0].get_xlabel() == "target"
    assert keys_of(figure) == ["a training sample"]


def test_before_and_after_of_the_first_seed():
    figure, table = residuals(simulate(seeds=(4, 1)))
    assert set(table["seed"]) == {1}
    assert set(table["epoch"]) == {0, 400}
    assert (table["mark"] == "sample").sum() == 2 * 3 * SAMPLES
    assert "seed 1" in notes_of(figure)
    assert "predicted: radius √c" not in keys_of(figure)


def test_a_panel_is_scaled_by_the_deviation_and_what_lies_outside_is_counted():
    figure, table = residuals(simulate(seeds=(0,)))
    last = table[(table["what"] == "last") & (table["loss"] == "wd_0")]
    samples = last.loc[last["mark"] == "sample", ["x", "y"]]
    widest = np.sqrt(np.linalg.eigvalsh(np.cov(samples.T, bias=True))[-1])
    for limits in (figure.axes[3].get_xlim(), figure.axes[3].get_ylim()):
        assert limits == pytest.approx((-5 * widest, 5 * widest), rel=1e-3)
    assert "lie outside" not in notes_of(figure)
    inputs = simulate(regularised=True, seeds=(0,))

    def features(loss, seed):
        arrays = dict(inputs.last_features(loss, seed))
        arrays["train.logits"] = arrays["train.logits"].copy()
        arrays["train.logits"][:1] += 10
        return arrays

    figure, table = residuals(replace(inputs, last_features=features))
    assert f"1 of {2 * SAMPLES} samples drawn lie outside their panel" in notes_of(figure)
    assert table["x"].abs().max() > 9  # the table has them


def test_the_models_penalties_predict_a_circle():
    inputs = simulate(regularised=True)
    assert predicted_variance(inputs, "ufm") == pytest.approx(C)
    assert np.isnan(predicted_variance(simulate(), "wd_0"))
    figure, table = residuals(inputs)
    circle = figure.axes[1].get_lines()[-1]
    np.testing.assert_allclose(np.hypot(circle.get_xdata(), circle.get_ydata()), np.sqrt(C))
    outline = table[(table["mark"] == "covariance") & (table["what"] == "last")]
    np.testing.assert_allclose(np.hypot(outline["x"], outline["y"]), np.sqrt(C), rtol=1e-6)
    assert "predicted: radius √c" in keys_of(figure)
    assert "c = 0.01" in notes_of(figure)


def test_features_that_were_not_kept_are_owned_up_to():
    figure, table = residuals(simulate(kept=False, n=3))
    assert [text.get_text() for axes in figure.axes[:3] for text in axes.texts] == ["features not kept"] * 3
    assert set(table["what"]) == {"last"}
    assert "The first two of 3 targets" in notes_of(figure)
