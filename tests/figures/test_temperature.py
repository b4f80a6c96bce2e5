from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection

from nclens.figures.inputs import means_of
from nclens.figures.temperature import TEMPERATURES, ece_temperature
from nclens.metrics.calibration import expected_calibration_error, negative_log_likelihood
from tests.figures.artists import bands_of, notes_of, seed_lines


def two_samples(loss, seed):
    """Logits of odds 4 (right) and 1.5 (wrong) for two classes; seed 1 has half the logits."""
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6]])) / (1 + seed)
    return {"test.logits": logits, "test.targets": np.array([0, 0])}


def test_one_is_among_the_temperatures():
    assert min(abs(value - 1) for value in TEMPERATURES) < 1e-12
    assert (TEMPERATURES[0], TEMPERATURES[-1]) == pytest.approx((0.25, 4))


def test_a_point_is_the_mean_over_seeds_of_the_metric_at_that_temperature(simulate):
    inputs = replace(simulate(losses=("ce",), seeds=(0, 1)), last_features=two_samples)
    figure, drawn = ece_temperature(inputs)
    for axes, metric in zip(figure.axes, ("ece", "nll"), strict=True):
        seeds = drawn[drawn["seed"].notna() & (drawn["metric"] == metric)].groupby("seed")["mean"].apply(list)
        assert [line.get_ydata().tolist() for line in seed_lines(axes)] == seeds.tolist()
    table = means_of(drawn)
    for row in table[table["metric"] == "ece"].iloc[::8].itertuples():
        values = []
        for seed in (0, 1):
            arrays = {name: torch.as_tensor(array) for name, array in two_samples("ce", seed).items()}
            p = torch.softmax(arrays["test.logits"] / row.temperature, dim=1)
            values.append(expected_calibration_error(p, arrays["test.targets"]))
        assert row.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert (row.seeds, row.average) == (2, "arithmetic")
    for row in table[table["metric"] == "nll"].iloc[::8].itertuples():
        values = []
        for seed in (0, 1):
            arrays = {name: torch.as_tensor(array) for name, array in two_samples("ce", seed).items()}
            values.append(negative_log_likelihood(arrays["test.logits"] / row.temperature, arrays["test.targets"]))
        assert row.mean == pytest.approx(np.exp(np.log(values).mean()), rel=1e-12)
        assert row.average == "geometric"


def test_halving_the_logits_moves_the_line_by_a_factor_of_two(simulate):
    tables = [
        ece_temperature(replace(simulate(losses=("ce",), seeds=(seed,)), last_features=two_samples))[1]
        for seed in (0, 1)
    ]
    steps = round(np.log(2) / np.log(TEMPERATURES[1] / TEMPERATURES[0]))
    for metric in ("ece", "nll"):
        first, second = (table.loc[table["metric"] == metric, "mean"].to_numpy() for table in tables)
        np.testing.assert_allclose(second[:-steps], first[steps:], rtol=1e-9)


def test_dots_stand_at_the_fitted_temperatures(simulate):
    inputs = simulate(losses=("ce", "ls"))
    figure, table = ece_temperature(inputs)
    dots = [marks.get_offsets()[0] for marks in figure.axes[0].collections if isinstance(marks, PathCollection)]
    expected = [
        np.exp(np.log(inputs.select("temperature", "test", 60).query("loss == @loss")["value"]).mean())
        for loss in ("ce", "ls")
    ]
    np.testing.assert_allclose([x for x, _ in dots], expected)
    np.testing.assert_allclose(table.groupby("loss", sort=False)["fitted"].first(), expected)


def test_the_bands_are_the_intervals_of_the_table(simulate):
    inputs = simulate(losses=("ce", "ls"), seeds=tuple(range(4)))
    figure, table = ece_temperature(inputs)
    for axes, metric in zip(figure.axes, ("ece", "nll"), strict=True):
        for loss in inputs.losses:
            own = table[(table["metric"] == metric) & (table["loss"] == loss)]
            ((x, low, high),) = bands_of(axes, inputs.colours[loss])
            np.testing.assert_allclose([x, low, high], own[["temperature", "low", "high"]].T, rtol=1e-11)


def test_a_temperature_beyond_the_panel_or_missing_is_named(simulate):
    def change(table):
        of_ls = (table["metric"] == "temperature") & (table["loss"] == "ls")
        gone = (table["metric"] == "temperature") & (table["loss"] == "ce") & (table["seed"] == 2)
        return table.assign(value=table["value"].mask(of_ls, 8.0))[~gone]

    figure, _ = ece_temperature(simulate(losses=("ce", "ls"), change=change))
    assert "beyond the panels: LS (δ = 0.05) 8." in notes_of(figure)
    assert "where a temperature is missing: temperature (test), CE: 1 missing, of 3 values" in notes_of(figure)


def test_features_are_read_once_a_run(simulate):
    read = []

    def recording(loss, seed):
        read.append((loss, seed))
        return two_samples(loss, seed)

    ece_temperature(replace(simulate(), last_features=recording))
    assert sorted(read) == [(loss, seed) for loss in ("ce", "ls") for seed in range(3)]
