"""Figures for print: width, font and size as asked for, nothing cut off, panels below each other where they must."""

import re

import numpy as np
import pytest

from nclens.figures import printing, style
from nclens.figures.printing import Paper
from nclens.workflow.build.figures import draw_figure


def draw(paper, stem, inputs):
    return printing.print_figure(paper, lambda: draw_figure(stem, inputs), lambda figure: style.encode(figure, "pdf"))


def beyond_the_page(figure):
    """How far what is drawn goes beyond the page to the left and to the right, in points."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    return 72 * max(-box.x0, box.x1 - figure.get_figwidth(), -box.y0, box.y1 - figure.get_figheight())


def test_a_page_is_as_before_when_nothing_is_printed():
    with style.look():
        figure, grid = style.page(1, 4, 2.0)
    assert (figure.get_figwidth(), grid.shape, printing.paper()) == (7.0, (1, 4), None)


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", ["train_test", "reliability"])
def test_a_figure_has_the_width_and_the_size_that_are_asked_for(simulate, stem):
    drawing, pdf = draw(Paper(3.25, "serif", 9), stem, simulate(seeds=(0, 1)))
    figure = drawing.figure
    assert figure.get_figwidth() == 3.25
    assert re.search(rb"/MediaBox \[ ?0 0 234 ", pdf)
    assert figure.axes[0].xaxis.label.get_fontsize() == 9
    assert beyond_the_page(figure) < 1
    assert b"STIXGeneral" in pdf
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf
    assert figure._supxlabel is None
    assert figure.sentences


def test_panels_of_curves_follow_each_other_and_the_outer_ones_are_labelled():
    with printing.printed(Paper(3.25)), style.look():
        figure, grid = style.page(1, 3, 2.5, sharex=True)
        for name, axes in zip("abc", grid.flat, strict=True):
            axes.plot([0, 60], [0, 1])
            axes.set_ylabel(name)
        for axes in grid[-1]:
            axes.set_xlabel("epoch")
        printing._settle(figure)
    places = [axes.get_subplotspec() for axes in grid.flat]
    assert [(place.rowspan.start, place.colspan.start) for place in places] == [(0, 0), (0, 1), (1, 0)]
    assert [axes.get_xlabel() for axes in grid.flat] == ["", "epoch", "epoch"]
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in grid.flat] == [False, True, True]


def test_rows_with_an_axis_in_common_keep_their_panels():
    with printing.printed(Paper(3.25, across=2)), style.look():
        figure, grid = style.page(2, 4, 4.0, by_column=True, sharex=True, sharey="row", height_ratios=[3, 1])
        grid[0, 0].set_ylabel("upper")
        grid[1, 0].set_ylabel("lower")
        printing._settle(figure)
    at = np.vectorize(lambda axes: axes.get_subplotspec().rowspan.start)(grid)
    assert at.tolist() == [[0, 0, 2, 2], [1, 1, 3, 3]]
    assert [axes.get_ylabel() for axes in grid[0]] == ["upper", "", "upper", ""]
    assert grid[1, 2].get_shared_y_axes().joined(grid[1, 0], grid[1, 2])
    assert figure.axes[0].get_subplotspec().get_gridspec().get_height_ratios() == [3, 1, 3, 1]


@pytest.mark.parametrize(
    ("width", "size", "across"), [(3.25, 9, 2), (3.25, 12, 1), (6.75, 9, 4), (5.5, 10, 3), (2, 24, 1)]
)
def test_as_many_panels_in_a_row_as_can_be_read(width, size, across):
    assert Paper(width, size=size).most_across == across


def test_an_installed_family_draws_text_and_formulas():
    assert {"DejaVu Sans", "STIXGeneral"} < set(printing.installed_fonts())
    settings = Paper(3.25, "DejaVu Serif").settings(style.LOOK)
    assert settings["font.family"][0] == "DejaVu Serif"
    assert settings["mathtext.it"] == "DejaVu Serif:italic"
    assert settings["font.size"] == 9


def test_a_setting_of_print_ends_with_it():
    with pytest.raises(RuntimeError), printing.printed(Paper(3.25)):
        raise RuntimeError
    assert printing.paper() is None
    assert printing.points(7) == 7
