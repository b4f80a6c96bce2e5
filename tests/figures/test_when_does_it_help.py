import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures.inputs import means_of
from nclens.figures.when_does_it_help import gradient_variance, mutual_information, probe_accuracy
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import notes_of
from tests.figures.simulate import PROBES

STEMS = ("projections", "ece_temperature", "mutual_information", "gradient_variance", "probe_accuracy")


def twice(table):
    """Every metric of a probe under two names, as of two probes of one kind; the second one larger."""
    chosen = table["metric"].str.match("mutual_information|gradient_variance|probe_accuracy")
    rows = table[chosen]
    first = rows.assign(metric=rows["metric"] + "/a")
    second = rows.assign(metric=rows["metric"] + "/b", value=1.01 * rows["value"])
    return pd.concat([table[~chosen], first, second], ignore_index=True)


def of_two(inputs):
    probes = [
        {**probe, "suffix": suffix, "classes": classes}
        for probe in PROBES
        for suffix, classes in (("/a", [4, 9]), ("/b", [1, 7]))
    ]
    return replace(inputs, probes=probes)


def test_information_is_drawn_beside_log_2_with_the_names_of_the_classes(simulate):
    inputs = simulate()
    figure, table = mutual_information(inputs)
    (axes,) = figure.axes
    level = next(line for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2)
    assert level.get_ydata()[0] == math.log(2)
    assert axes.get_ylim()[0] < math.log(2) < axes.get_ylim()[1]
    assert "4 and 9" in axes.get_ylabel()
    for row in means_of(table).itertuples():
        values = inputs.metrics.query("metric == 'mutual_information' and loss == @row.loss and epoch == @row.epoch")
        assert row.mean == pytest.approx(values["value"].mean(), rel=1e-12)


def test_each_probe_of_a_kind_has_panels_of_its_own(simulate):
    inputs = of_two(simulate(change=twice))
    figure, table = mutual_information(inputs)
    assert [axes.get_ylabel().split("\n")[1] for axes in figure.axes] == ["4 and 9", "1 and 7"]
    assert set(table["metric"]) == {"mutual_information/a", "mutual_information/b"}
    figure, table = gradient_variance(inputs)
    assert len(figure.axes) == 4
    assert table["metric"].nunique() == 8
    figure, table = probe_accuracy(inputs)
    assert len(figure.axes) == 3
    assert set(table["metric"]) == {"accuracy", "probe_accuracy/a", "probe_accuracy/b"}


def test_variances_of_both_targets_are_told_apart_by_the_stroke(simulate):
    figure, table = gradient_variance(simulate())
    assert table.groupby("metric", sort=False).size().index.tolist() == [
        f"gradient_variance_{part}_{targets}" for part in ("network", "head") for targets in ("onehot", "smoothed")
    ]
    assert set(table["average"]) == {"geometric"}
    for axes in figure.axes:
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert sorted({line.get_linestyle() for line in axes.lines}) == ["-", "--"]
    assert "Smoothed targets: δ = 0.1." in notes_of(figure)


def test_epoch_0_is_left_out_of_the_log_axis_and_that_is_said(simulate):
    def with_start(table):
        return pd.concat([table, table[table["epoch"] == 1].assign(epoch=0)], ignore_index=True)

    figure, table = gradient_variance(simulate(change=with_start))
    assert table["epoch"].min() == 1
    assert "Epoch 0 is not on the log axis" in notes_of(figure)
    assert "Epoch 0" not in notes_of(gradient_variance(simulate())[0])


def test_transfer_stands_beside_the_networks_own_accuracy(simulate):
    inputs = simulate()
    figure, table = probe_accuracy(inputs)
    assert [axes.get_xlabel().split("\n")[0] for axes in figure.axes] == ["own test set", "linear probe on"]
    assert "digits8" in figure.axes[1].get_xlabel()
    rows = inputs.metrics.query("metric == 'probe_accuracy' and loss == 'ls'")
    own = table[(table["metric"] == "probe_accuracy") & (table["loss"] == "ls")]
    np.testing.assert_allclose(own.loc[own["seed"].isna(), "mean"], rows["value"].mean())
    assert sorted(own.loc[own["seed"].notna(), "mean"]) == sorted(rows["value"])


@pytest.mark.parametrize("stem", ["mutual_information", "gradient_variance", "probe_accuracy"])
def test_without_a_probe_a_figure_says_that_there_are_no_values(simulate, stem):
    def without(table):
        return table[~table["metric"].str.match("mutual_information|gradient_variance|probe_accuracy")]

    figure, _ = draw_figure(stem, replace(simulate(change=without), probes=()))
    assert "no values" in notes_of(figure)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("losses", [("ce",), ("ce", "ls"), ("ce", "ls", "ls_0.1", "ls_0.2", "maxsup")])
def test_any_number_of_losses_can_be_drawn(simulate, stem, losses):
    figure, table = draw_figure(stem, simulate(losses=losses))
    assert set(table["loss"]) == set(losses)
    assert "digits" in notes_of(figure)
