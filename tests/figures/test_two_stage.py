from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclens.figures.style import encode
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import notes_of

LOSSES = ("ce", "ls", "ls_0.1", "ls_0.2")
DROPS = {"ls": 20, "ls_0.1": 40}


def also(table):
    test = table[(table["metric"] == "error") & (table["split"] == "test")]
    return pd.concat([table, test.assign(metric="epoch_error")], ignore_index=True)


@pytest.fixture
def inputs(simulate):
    return replace(simulate(losses=LOSSES, change=also), drops=DROPS)


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", ["two_stage", "drop_epoch"])
def test_the_same_inputs_make_the_same_figure_of_all_losses(inputs, stem):
    first, second = draw_figure(stem, inputs), draw_figure(stem, inputs)
    assert encode(first.figure, "pdf") == encode(second.figure, "pdf")
    assert set(first.table["loss"]) == set(LOSSES)


def test_each_drop_is_marked_in_every_panel_in_the_colour_of_its_loss(inputs):
    figure, _ = draw_figure("two_stage", inputs)
    for axes in figure.axes:
        marks = {to_hex(line.get_color()): line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"}
        assert marks == {to_hex(inputs.colours[loss]): epoch for loss, epoch in DROPS.items()}


def test_without_a_drop_nothing_is_marked(inputs):
    figure, _ = draw_figure("two_stage", replace(inputs, drops={}))
    assert not any(line.get_linestyle() == ":" for axes in figure.axes for line in axes.lines)
    assert "Dotted" not in notes_of(figure)
