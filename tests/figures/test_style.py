import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns

from nclens.figures import style


def drawing(height: float = 2.0):
    with style.look():
        figure, grid = style.page(1, 1, height)
        axes = grid[0, 0]
        table = pd.DataFrame({"epoch": [1, 2, 3], "mean": [3.0, 2.0, 1.0]})
        sns.lineplot(table, x="epoch", y="mean", color="#0072B2", marker="o", ax=axes)
        style.clear_labels(axes)
        style.epoch_axis(axes)
        style.legend(figure, [style.loss_key("CE", "#0072B2", "o")])
        style.notes(figure, ["n = 3 seeds"])
    return figure


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_same_figure_same_bytes(kind):
    assert style.encode(drawing(), kind) == style.encode(drawing(), kind)


def test_png_and_pdf_have_one_layout(monkeypatch):
    figure, laid_out = drawing(), []
    execute = type(figure.get_layout_engine()).execute
    monkeypatch.setattr(
        type(figure.get_layout_engine()), "execute", lambda *given: laid_out.append(1) or execute(*given)
    )
    png = style.encode(figure, "png")
    places = [axes.get_position().bounds for axes in figure.axes]
    style.encode(figure, "pdf")
    assert laid_out == [1]
    assert [axes.get_position().bounds for axes in figure.axes] == places
    assert style.encode(figure, "png") == png == style.encode(drawing(), "png")


def test_files_carry_no_dates_and_no_versions():
    assert b"Software" not in style.encode(drawing(), "png")
    pdf = style.encode(drawing(), "pdf")
    assert not re.search(rb"CreationDate|Producer|Creator", pdf)


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'gif'; allowed: png, pdf, svg"):
        style.encode(drawing(), "gif")


def test_the_users_settings_neither_change_nor_are_changed():
    expected = style.encode(drawing(), "png")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert style.encode(drawing(), "png") == expected
        assert dict(matplotlib.rcParams) == before


def test_page_width_in_pixels_and_room_for_legend_and_notes():
    data = style.encode(drawing(height=2.0), "png", dpi=100)
    width, height = (int.from_bytes(data[place : place + 4]) for place in (16, 20))
    assert width == 400  # one column of panels
    assert 220 < height < 280


def test_no_figure_is_left_with_pyplot():
    drawing()
    assert plt.get_fignums() == []


def test_seaborns_labels_are_cleared_also_where_they_were_hidden():
    with style.look():
        _, grid = style.page(2, 1, 2.0, sharex=True)
        sns.lineplot(x=[1, 2], y=[1, 2], ax=grid[0, 0])
        style.clear_labels(grid[0, 0])
        grid[0, 0].set_xlabel("epoch")
    assert grid[0, 0].xaxis.label.get_visible()
    assert (grid[0, 0].get_xlabel(), grid[0, 0].get_ylabel()) == ("epoch", "")


@pytest.mark.parametrize("log", [False, True])
def test_axis_holds_means_and_moderate_bands(log):
    table = pd.DataFrame({"mean": [1.0, 2.0, 4.0], "low": [0.9, 1.8, 3.6], "high": [1.1, 2.2, 4.4]})
    with style.look():
        _, grid = style.page(1, 1, 2.0)
        cut = style.fit_to_means(grid[0, 0].yaxis, table, log)
    bottom, top = grid[0, 0].get_ylim()
    assert not cut
    assert bottom < 0.9
    assert top > 4.4


@pytest.mark.parametrize("log", [False, True])
def test_a_huge_band_is_cut_and_reported(log):
    table = pd.DataFrame({"mean": [1.0, 4.0], "low": [1e-9, 3.6], "high": [1e6, 4.4]})
    with style.look():
        _, grid = style.page(1, 1, 2.0)
        assert style.fit_to_means(grid[0, 0].yaxis, table, log)
    bottom, top = grid[0, 0].get_ylim()
    assert bottom < 1
    assert 4 < top < 20


def test_notes_take_two_lines_of_whole_sentences_and_the_rest_is_kept():
    with style.look():
        figure, _ = style.page(1, 2, 2.0)
        said = ["n = 3 seeds", "word " * 50 + "end", "", "left out for its length " * 20, "last"]
        style.notes(figure, said)
    lines = figure.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ").split("\n")
    assert len(lines) == style.NOTE_LINES
    assert " ".join(lines) == f"n = 3 seeds. {said[1]}. last."
    assert figure.sentences == tuple(filter(None, said))


def test_intervals_end_where_the_quantity_does():
    table = pd.DataFrame({"mean": [0.0, 0.2], "low": [-0.5, 0.1], "high": [0.5, 0.3]})
    with style.look():
        _, grid = style.page(1, 1, 2.0)
        style.fit_to_means(grid[0, 0].yaxis, table, least=0.0, room=9)
    assert -0.05 < grid[0, 0].get_ylim()[0] <= 0


def test_no_room_where_the_quantity_cannot_be():
    table = pd.DataFrame({"mean": [0.2, 0.9], "low": [-0.3, 0.8], "high": [0.7, 1.2]})
    with style.look():
        _, grid = style.page(1, 1, 2.0)
        assert style.fit_to_means(grid[0, 0].yaxis, table, most=1.0)
    bottom, top = grid[0, 0].get_ylim()
    assert -0.1 < bottom < 0
    assert 1 < top < 1.1


def test_no_finite_mean_leaves_the_axis_alone():
    table = pd.DataFrame({"mean": [np.nan], "low": [np.nan], "high": [np.nan]})
    _, grid = style.page(1, 1, 2.0)
    assert not style.fit_to_means(grid[0, 0].yaxis, table)
    assert grid[0, 0].get_ylim() == (0.0, 1.0)


@pytest.mark.parametrize("limits", [(1e-6, 1e3), (0.02, 0.9), (0.5, 6.0), (1.1, 1.4)])
def test_log_axes_have_at_least_two_plain_labels(limits):
    with style.look():
        figure, grid = style.page(1, 1, 2.0)
        axes = grid[0, 0]
        axes.set_ylim(*limits)
        style.log_axis(axes.yaxis)
        figure.canvas.draw()
        low, high = axes.get_ylim()
        labels = [tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert len([label for label in labels if label]) >= 2
    assert axes.get_yscale() == "log"


def test_legend_takes_as_many_rows_as_it_needs_and_stays_on_the_page():
    with style.look():
        figure, grid = style.page(1, 1, 3.0)
        keys = [style.loss_key(f"a loss with a long name {place}", "#0072B2", "o") for place in range(7)]
        style.legend(figure, keys)
        figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends) == 1
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= grid[0, 0].get_window_extent().y1


def test_markers_tell_losses_apart_and_never_run_out():
    names = [f"loss{place}" for place in range(len(style.MARKERS) + 2)]
    assert len(set(list(style.markers(names).values())[: len(style.MARKERS)])) == len(style.MARKERS)
    assert list(style.markers(names)) == names
