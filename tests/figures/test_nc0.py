"""NC0 beside its law, and the floor that it sets under NC3."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures import style
from nclens.figures.inputs import means_of
from nclens.ufm.nc0 import nc3_floor
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import mean_lines, notes_of


def test_measured_and_law_are_over_the_first_value_and_the_deviation_begins_behind_it(simulate):
    inputs = simulate()
    figure, table = draw_figure("nc0_law", inputs)
    rows = inputs.nc0
    assert list(table["metric"].unique()) == ["nc0", "nc0_ratio", "nc0_law", "nc0_deviation"]
    assert set(table["average"]) == {"geometric"}
    last = means_of(table[table["epoch"] == 60]).set_index(["metric", "loss"])["mean"]
    own = rows[(rows["loss"] == "ls") & (rows["epoch"] == 60)]
    assert last["nc0", "ls"] == pytest.approx(np.exp(np.log(own["measured"]).mean()))
    assert last["nc0_law", "ls"] == pytest.approx(np.exp(-0.02 * 59))
    assert last["nc0_ratio", "ls"] == pytest.approx(last["nc0_law", "ls"], rel=1e-5)
    off = (own["measured"] / own["predicted"] - 1).abs()
    assert last["nc0_deviation", "ls"] == pytest.approx(np.exp(np.log(off).mean()))
    assert table.loc[table["metric"] == "nc0_deviation", "epoch"].min() > 1
    assert "The law starts from the value at epoch 1, the first snapshot" in notes_of(figure)
    assert "premise" not in notes_of(figure)


def test_the_law_is_drawn_dashed_above_what_follows_it(simulate):
    figure, _ = draw_figure("nc0_law", simulate())
    lines = [line for line in figure.axes[1].lines if len(line.get_xdata()) > 1]
    dashed = [line for line in lines if line.is_dashed()]
    assert len([line for line in mean_lines(figure.axes[1]) if line in dashed]) == 2
    assert len(dashed) == 2 + 2 * 3
    assert {line.get_color() for line in dashed} == {style.INK}
    assert min(line.get_zorder() for line in dashed) > max(line.get_zorder() for line in lines if line not in dashed)
    assert [line.get_ydata()[0] for line in figure.axes[2].lines if len(set(line.get_ydata())) == 1] == [0.01]


def test_a_failing_premise_is_named(simulate):
    figure, _ = draw_figure("nc0_law", simulate(losses=("ce", "maxsup")))
    assert "The law's premise fails for MaxSup with a rather long name: the gradients do not sum" in notes_of(figure)


def test_the_floor_under_nc3_is_that_of_each_run(simulate):
    inputs = simulate()
    _, table = draw_figure("collapse_curves", inputs)
    floor = means_of(table[table["metric"] == "nc3_floor"])
    assert set(floor["panel"]) == set(table.loc[table["metric"] == "nc3", "panel"]) == {4}
    shares = inputs.select("nc0_share", "train", 60)
    expected = [nc3_floor(shares.loc[shares["loss"] == loss, "value"].to_numpy()).mean() for loss in ("ce", "ls")]
    assert floor.loc[floor["epoch"] == 60, "mean"].to_list() == pytest.approx(expected)
    # Without NC0 the other lines are the same.
    without = replace(inputs, metrics=inputs.metrics[inputs.metrics["metric"] != "nc0_share"])
    _, other = draw_figure("collapse_curves", without)
    assert other.equals(table[table["metric"] != "nc3_floor"].reset_index(drop=True))


@pytest.mark.parametrize("lacking", [("ls",), ("ce", "ls")])
def test_there_is_no_floor_under_the_nc3_of_some_classes(simulate, lacking):
    def change(table):
        left = table[(table["metric"] == "nc0_share") & table["loss"].isin(lacking)]
        return pd.concat([table, left.assign(metric="classes_measured", value=9.0)], ignore_index=True)

    figure, table = draw_figure("collapse_curves", simulate(change=change))
    floored = set(table.loc[table["metric"] == "nc3_floor", "loss"])
    assert floored == {"ce", "ls"} - set(lacking)
    assert ("nc3_floor (train), LS (δ = 0.05): no values" in notes_of(figure)) == bool(floored)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("least NC3 that NC0 allows" in legend) == bool(floored)
