from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclens.figures import style
from nclens.figures.inputs import means_of
from nclens.figures.smoothing_sweep import smoothing_calibration, smoothing_collapse
from tests.figures.artists import bands_of, bars_of, lines_of, notes_of, seed_dots, seed_lines
from tests.figures.simulate import SMOOTHINGS, SWEEP

PREDICTED = {"feature_norm": "feature_norm", "classifier_norm": "weight_norm"}


def is_filled(line):
    return to_hex(line.get_markerfacecolor()) != style.GROUND


def keys_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_point_is_the_mean_over_seeds_at_the_last_epoch(simulate):
    inputs = simulate(losses=SWEEP)
    _, table = smoothing_collapse(inputs)
    table = means_of(table)
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
    inputs = simulate(losses=SWEEP, seeds=tuple(range(4)))
    figure, table = smoothing_calibration(inputs)
    own = table[(table["source"] == "measured") & (table["metric"] == "logit_gap") & (table["split"] == "train")]
    for row in own.itertuples():
        filled = [line for line in lines_of(figure.axes[0], inputs.colours[row.loss], True) if is_filled(line)]
        points = np.concatenate([line.get_xydata() for line in filled])
        np.testing.assert_allclose(points[np.isfinite(points).all(axis=1)], [[row.smoothing, row.mean]])


@pytest.mark.parametrize("draw", [smoothing_collapse, smoothing_calibration])
def test_bars_and_bands_are_the_intervals_of_the_table(simulate, draw):
    inputs = simulate(losses=SWEEP, seeds=tuple(range(4)))
    figure, table = draw(inputs)
    for number, own in table.groupby("panel"):
        axes = figure.axes[number - 1]
        measured, predicted = own[own["source"] == "measured"], own[own["source"] != "measured"]
        for loss in SWEEP:
            bars = bars_of(axes, inputs.colours[loss])
            expected = measured.loc[measured["loss"] == loss, ["smoothing", "low", "smoothing", "high"]]
            np.testing.assert_allclose(bars.reshape(-1, 4), expected, rtol=1e-11)
        if len(predicted):
            ((_, low, high),) = bands_of(axes, style.INK)
            ordered = predicted.sort_values("smoothing")
            np.testing.assert_allclose([low, high], [ordered["low"], ordered["high"]], rtol=1e-11)


@pytest.mark.parametrize("draw", [smoothing_collapse, smoothing_calibration])
def test_under_four_seeds_points_have_their_seeds_beside_them_and_lines_each_seed(simulate, draw):
    inputs = simulate(losses=SWEEP)
    figure, table = draw(inputs)
    for number, own in table[table["seed"].notna()].groupby("panel"):
        axes = figure.axes[number - 1]
        measured, predicted = own[own["source"] == "measured"], own[own["source"] != "measured"]
        for loss in SWEEP:
            dots = seed_dots(axes, inputs.colours[loss])
            expected = measured.loc[measured["loss"] == loss, ["smoothing", "mean"]].to_numpy()
            assert sorted(dots.tolist()) == sorted(expected.tolist())
            assert len(bars_of(axes, inputs.colours[loss])) == 0
        assert not axes.collections
        lines = [line.get_xydata().tolist() for line in seed_lines(axes, style.INK)]
        ordered = predicted.sort_values(["seed", "smoothing"]).groupby("seed")
        assert lines == [seed[["smoothing", "mean"]].to_numpy().tolist() for _, seed in ordered]
    assert set(table.loc[table["seed"].notna(), "panel"]) == set(table["panel"])


def test_losses_of_the_same_smoothing_are_separate_points(simulate):
    inputs = simulate(losses=("ce", "ls", "ls_0.1"))
    figure, table = smoothing_calibration(replace(inputs, smoothings=inputs.smoothings | {"ls_0.1": 0.05}))
    own = means_of(table[(table["panel"] == 1) & (table["source"] == "predicted, effective")])
    crosses = np.concatenate([line.get_xydata() for line in figure.axes[0].lines if line.get_marker() == "x"])
    np.testing.assert_allclose(np.sort(crosses[:, 1]), np.sort(own["mean"]), rtol=1e-12)


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
    assert len([line for line in figure.axes[0].lines if line.get_marker() == "x"]) == 3
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
    assert "Not shown, without a smoothing: MaxSup with a rather long name" in notes_of(figure)
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
    marked = [line for line in figure.axes[3].lines if line.get_marker() == "s"]
    assert {is_filled(line) for line in marked} == {True, False}
    assert keys_of(figure).index("before scaling") < keys_of(figure).index("after scaling")


def test_maxsup_stands_right_of_its_alpha_in_diamonds_and_at_it_in_the_table(simulate):
    inputs = replace(simulate(losses=("ce", "ls", "maxsup")), alphas={"maxsup": 0.05})
    figure, table = smoothing_collapse(inputs)
    own = means_of(table[(table["loss"] == "maxsup") & (table["metric"] == "nc2")])
    assert own["smoothing"].tolist() == [0.05]
    diamonds = [line for line in lines_of(figure.axes[1], inputs.colours["maxsup"], True) if line.get_marker() == "D"]
    points = np.concatenate([line.get_xydata() for line in diamonds])
    points = points[np.isfinite(points).all(axis=1)]
    assert len(points) == 4  # the mean and three seeds
    assert own["mean"].item() == pytest.approx(points[0, 1])
    assert points[:, 0].min() > 0.05
    assert points[:, 0].max() < 0.052
    assert "MaxSup" in keys_of(figure)
    assert "Diamonds of MaxSup stand slightly right of their α" in notes_of(figure)
    assert "Not shown" not in notes_of(figure)
    assert figure.axes[-1].get_xlabel() == "smoothing δ, or α of MaxSup"
