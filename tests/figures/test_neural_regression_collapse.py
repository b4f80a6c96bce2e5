from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from nclens.figures.inputs import means_of, over_seeds
from nclens.figures.neural_regression_collapse import (
    SENSES,
    TRAIN,
    nrc_classification,
    nrc_curves,
    predicted_of,
    title_of,
)
from nclens.figures.style import encode
from tests.claims.simulate_regression import DECAYS, C
from tests.figures.artists import notes_of
from tests.figures.simulate import simulate as simulate_classification
from tests.figures.simulate_regression import simulate

pytestmark = pytest.mark.lengthy  # it draws


@cache
def drawn():
    """The curves of the simulated experiment, which no test changes."""
    return nrc_curves(simulate())


def keys_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_column_for_each_weight_decay_and_a_row_for_each_quantity():
    figure, table = drawn()
    assert len(figure.axes) == 5 * len(DECAYS)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "weight decay 0",
        "weight decay 0.0005",
        "weight decay 0.005",
    ]
    rows = [axes.get_ylabel() for axes in figure.axes[::3]]
    assert rows == ["NRC1", "NRC2", "NRC3", "explained var. (%)", "MSE"]
    assert [axes.get_yscale() for axes in figure.axes[::3]] == ["log", "log", "log", "linear", "log"]
    for start in range(0, 15, 3):  # one scale a row
        assert len({axes.get_ylim() for axes in figure.axes[start : start + 3]}) == 1
    assert set(table["metric"]) == {"nrc1", "nrc1_centred", "nrc2", "nrc3", "evr", "mse"}
    assert "n = 3 seeds" in notes_of(figure)


@pytest.mark.parametrize(("metric", "log"), [("nrc1", True), ("evr", False)])
def test_lines_are_means_over_seeds_of_the_training_set(metric, log):
    inputs = simulate()
    figure, table = drawn()
    expected = over_seeds(inputs.select(metric, "train"), log)
    own = means_of(table[(table["metric"] == metric) & (table["series"] == TRAIN)])
    np.testing.assert_allclose(own[["mean", "low", "high"]], expected[["mean", "low", "high"]], rtol=1e-12)
    place = {"nrc1": 2, "evr": 11}[metric]  # weight decay 5e-3
    line = figure.axes[place].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), own.loc[own["loss"] == "wd_5e-3", "mean"])
    np.testing.assert_array_equal(line.get_xdata(), own.loc[own["loss"] == "wd_5e-3", "epoch"])


def test_epoch_zero_is_on_the_axis():
    figure, table = drawn()
    axes = figure.axes[-1]
    assert table["epoch"].min() == 0
    assert axes.get_xlim()[0] < 0
    assert axes.get_xlim()[1] > 400
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10", "100"]


def test_one_loss_with_the_models_penalties_has_its_panels_side_by_side_and_the_prediction():
    inputs = simulate(regularised=True)
    figure, table = nrc_curves(inputs)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 6
    assert shown[-1].get_ylabel().startswith("residual covariance")
    assert "residual_deviation" in set(table["metric"])
    assert predicted_of(inputs, "ufm", "mse") == pytest.approx(2 * C)
    heights = [line.get_ydata()[0] for line in shown[4].get_lines() if len(set(line.get_ydata())) == 1]
    assert heights == pytest.approx([2 * C])
    assert keys_of(figure)[0] == "penalties of the model"
    assert "predicted by the model" in keys_of(figure)
    assert "predicted by the model" not in keys_of(drawn().figure)


def test_one_target_has_no_nrc3_and_says_so():
    figure, _ = nrc_curves(simulate(n=1, seeds=(0,)))
    assert "nrc3 (train): no values" in notes_of(figure)
    assert [text.get_text() for text in figure.axes[6].texts] == ["no finite values"]
    assert "n = 1 seed" in notes_of(figure)


def test_columns_are_named_by_weight_decay_only_where_that_tells_them_apart():
    inputs = simulate()
    same = replace(inputs, weight_decays=dict.fromkeys(DECAYS, 5e-4))
    assert title_of(same, "wd_0") == "wd_0"
    assert title_of(replace(inputs, weight_decays={}), "wd_0") == "wd_0"
    assert title_of(simulate(regularised=True), "ufm") == "penalties of the model"


def test_values_that_a_log_axis_cannot_show_are_counted():
    def change(table):
        return table.assign(value=table["value"].where((table["metric"] != "nrc2") | (table["epoch"] < 400), 0.0))

    figure, table = nrc_curves(simulate(change=change))
    assert "nrc2 (train), wd_0: 3 not positive, of 30 values" in notes_of(figure)
    assert table.loc[(table["metric"] == "nrc2") & (table["epoch"] == 400), "mean"].isna().all()


# --- both senses of collapse ----------------------------------------------------------------------------------------


def both_senses():
    """A classification experiment in which the second loss was measured as a regression too."""
    inputs = simulate_classification(losses=("ce", "ls"))
    rows = inputs.metrics[inputs.metrics["metric"].isin(SENSES["NC"]) & (inputs.metrics["loss"] == "ls")]
    regression = rows.assign(metric="onehot_nr" + rows["metric"].str[1:], value=rows["value"] / 3)
    return replace(inputs, metrics=pd.concat([inputs.metrics, regression], ignore_index=True))


def test_classification_shows_the_losses_that_were_measured_in_both_senses():
    inputs = both_senses()
    figure, table = nrc_classification(inputs)
    assert set(table["loss"]) == {"ls"}
    assert list(table["metric"].unique()) == [metric for metrics in SENSES.values() for metric in metrics]
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels[:3] == ["NC1", "NC2", "NC3"]
    assert labels[3] == "NRC1, one-hot targets"
    nc1, nrc1 = (
        table[(table["metric"] == metric) & (table["split"] == "train")]["mean"].to_numpy()
        for metric in ("nc1", "onehot_nrc1")
    )
    np.testing.assert_allclose(nrc1, nc1 / 3)


def test_classification_without_such_a_loss_says_so():
    figure, _ = nrc_classification(simulate_classification(losses=("ce", "ls")))
    assert "onehot_nrc1 (train): no values" in notes_of(figure)


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_same_bytes_twice(kind):
    first, second = (encode(nrc_curves(simulate(seeds=(0,))).figure, kind) for _ in range(2))
    assert first == second
