from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclens.figures.smoothing_sweep import smoothing_calibration, smoothing_collapse
from tests.figures.simulate import SMOOTHINGS, SWEEP

PREDICTED = {"feature_norm": "feature_norm", "classifier_norm": "weight_norm"}


def notes_of(figure):
    return figure.get_supxlabel().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def keys_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_point_is_the_mean_over_seeds_at_the_last_epoch(simulate):
    inputs = simulate(losses=SWEEP)
    _, table = smoothing_collapse(inputs)
    for row in table[table["source"] == "measured"].itertuples():
        values = inputs.metrics.query(
            "metric == @row.metric and split == @row.split and loss == @row.loss and epoch == 60"
        )["value"]
        expected = np.exp(np.log(values).mean()) if row.metric == "nc1" else values.mean()
        assert row.mean == pytest.approx(expected, rel=1e-12)
        assert (row.seeds, row.smoothing) == (3, SMOOTHINGS[row.loss])
    measured = table[table["source"] == "measured"]
    assert measured.groupby("metric", sort=False).size().to_dict() == dict.fromkeys(
        ("nc1", "nc2", "nc3", "error", "feature_norm", "classifier_norm"), 7
    )


def test_points_stand_at_their_smoothing_in_the_colour_of_their_loss(simulate):
    inputs = simulate(losses=SWEEP)
    figure, table = smoothing_calibration(inputs)
    own = table[(table["source"] == "measured") & (table["metric"] == "logit_gap") & (table["split"] == "train")]
    points = next(c for c in figure.axes[0].collections if len(c.get_offsets()) == 7)
    np.testing.assert_allclose(points.get_offsets(), own[["smoothing", "mean"]])
    assert [to_hex(colour) for colour in points.get_facecolors()] == [inputs.colours[loss].lower() for loss in SWEEP]


@pytest.mark.parametrize("order", [SWEEP, SWEEP[::-1]])
def test_the_line_is_the_mean_prediction_in_the_order_of_the_smoothings(simulate, order):
    inputs = simulate(losses=order)
    figure, _ = smoothing_collapse(inputs)
    for axes, quantity in zip(figure.axes[4:6], PREDICTED.values(), strict=True):
        line = axes.lines[0]
        own = inputs.predictions[inputs.predictions["quantity"] == quantity]
        expected = own.groupby("smoothing")["predicted"].mean()
        np.testing.assert_allclose(line.get_xdata(), sorted(SMOOTHINGS.values()))
        np.testing.assert_allclose(line.get_ydata(), expected)


@pytest.mark.parametrize(
    ("penalties", "key"), [("effective", "UFM, fitted on the other δ"), ("explicit", "UFM, the training's penalties")]
)
def test_the_legend_says_which_penalties(simulate, penalties, key):
    figure, table = smoothing_calibration(simulate(penalties=penalties))
    assert key in keys_of(figure)
    assert f"predicted, {penalties}" in set(table["source"])
    assert ("Fitted penalties: for each seed" in notes_of(figure)) == (penalties == "effective")


def test_both_kinds_of_penalties_and_an_unknown_one_each_have_a_line(simulate):
    inputs = simulate()
    kinds = [inputs.predictions.assign(penalties=kind) for kind in ("explicit", "effective", "guessed")]
    figure, table = smoothing_calibration(replace(inputs, predictions=pd.concat(kinds)))
    assert len(figure.axes[0].lines) == 3
    assert "UFM, guessed penalties" in keys_of(figure)
    assert table["source"].nunique() == 4


def test_the_error_of_the_prediction_is_on_the_figure(simulate):
    inputs = simulate()
    predictions = inputs.predictions.assign(measured=1.0, predicted=1.25)
    predictions.loc[predictions["quantity"] == "confidence", "predicted"] = 0.0
    figure, _ = smoothing_calibration(replace(inputs, predictions=predictions))
    assert "effective penalties (runs): logit gap 20% (6), confidence not defined" in notes_of(figure)


@pytest.mark.parametrize("draw", [smoothing_collapse, smoothing_calibration])
def test_without_predictions_the_points_stay_and_the_notes_say_so(simulate, draw):
    figure, table = draw(simulate(losses=SWEEP, penalties=None))
    assert set(table["source"]) == {"measured"}
    assert "No prediction of the unconstrained feature model (UFM) in the table" in notes_of(figure)
    assert not any(key.startswith("UFM") for key in keys_of(figure))


def test_losses_without_a_prediction_or_a_smoothing_are_named(simulate):
    inputs = simulate(losses=("ce", "ls", "maxsup"))
    predictions = inputs.predictions[inputs.predictions["loss"] == "ce"]
    figure, table = smoothing_collapse(replace(inputs, predictions=predictions))
    assert "Not shown, having no smoothing: MaxSup with a rather long name" in notes_of(figure)
    assert "No prediction for LS (δ = 0.05)" in notes_of(figure)
    assert set(table["loss"]) == {"ce", "ls"}


def test_predictions_that_are_not_finite_are_counted_and_named(simulate):
    inputs = simulate()
    own = (inputs.predictions["loss"] == "ls") & (inputs.predictions["quantity"] == "logit_gap")
    value = inputs.predictions["predicted"].mask(own & (inputs.predictions["seed"] == 0), np.inf)
    value = value.mask(own & (inputs.predictions["seed"] == 1))
    figure, table = smoothing_calibration(replace(inputs, predictions=inputs.predictions.assign(predicted=value)))
    text = "logit_gap (predicted, effective), LS (δ = 0.05): 2 not finite, of 3 values"
    assert text in notes_of(figure)
    line = table[(table["source"] == "predicted, effective") & (table["loss"] == "ls")].iloc[0]
    assert (line["seeds"], line["left_out"]) == (1, 2)
    assert "(runs): logit gap 9.1% (4)" in notes_of(figure)


def test_no_smoothing_at_all_gives_empty_panels(simulate):
    figure, table = smoothing_collapse(simulate(losses=("maxsup",)))
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["no finite values"] * 6
    assert table.empty


def test_values_that_cannot_be_drawn_are_counted_and_named(simulate):
    def change(table):
        gone = (table["metric"] == "nc1") & (table["epoch"] == 60) & (table["seed"] == 1)
        return table.assign(value=table["value"].mask(gone, np.inf))

    figure, table = smoothing_collapse(simulate(change=change))
    own = table[(table["metric"] == "nc1") & (table["loss"] == "ce")].iloc[0]
    assert (own["seeds"], own["left_out"]) == (2, 1)
    assert "nc1 (train), CE: 1 infinite, of 3 values" in notes_of(figure)


def test_before_and_after_scaling_differ_in_their_fill(simulate):
    figure, _ = smoothing_calibration(simulate())
    fills = [len(c.get_facecolors()) and to_hex(c.get_facecolors()[0]) for c in figure.axes[3].collections]
    assert "#ffffff" in fills
    assert keys_of(figure).index("before scaling") < keys_of(figure).index("after scaling")
