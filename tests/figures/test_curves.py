import numpy as np
import pytest
from matplotlib.colors import to_hex

from nclens.figures import style
from nclens.figures.curves import EARLY, Panel, Series, draw_curves, draw_lines
from nclens.figures.inputs import means_of, range_of, with_seeds
from tests.figures.artists import bands_of, mean_lines, notes_of, seed_lines

NC1 = Panel("NC1", (Series("nc1", "train", "train"), Series("nc1", "test", "test")), log=True)
ERROR = Panel("error (%)", (Series("error", "train", "train"),), percent=True)
STROKES = {"train": "training set", "test": "test set"}


def draw(inputs, panels=(NC1, ERROR), **options):
    with style.look():
        return draw_curves(inputs, panels, columns=2, legend=STROKES, height=3.0, **options)


def test_lines_are_the_metrics_of_a_single_seed(simulate):
    inputs = simulate(seeds=(4,))
    figure, _ = draw(inputs)
    for loss, line in zip(inputs.losses, figure.axes[0].lines[:2], strict=True):
        own = inputs.select("nc1", "train")
        own = own[own["loss"] == loss]
        np.testing.assert_allclose(line.get_xdata(), own["epoch"])
        np.testing.assert_allclose(line.get_ydata(), own["value"], rtol=1e-12)


def test_the_table_is_what_was_drawn(simulate):
    figure, table = draw(simulate())
    means, seeds = means_of(table), table[table["seed"].notna()]
    keys = ["panel", "metric", "split", "loss"]
    for rows, by, lines_of in ((means, keys, mean_lines), (seeds, [*keys, "seed"], seed_lines)):
        lines = [line for axes in figure.axes for line in lines_of(axes)]
        for (_, own), line in zip(rows.groupby(by, sort=False), lines, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), own["epoch"])
            np.testing.assert_allclose(line.get_ydata(), own["mean"], rtol=1e-12)
    assert set(table.loc[table["metric"] == "nc1", "average"]) == {"geometric"}
    assert set(table.loc[table["metric"] == "error", "average"]) == {"arithmetic"}


def test_under_four_seeds_each_seed_is_a_line_in_the_colour_and_style_of_its_loss(simulate):
    inputs = simulate()
    figure, table = draw(inputs)
    assert not any(axes.collections for axes in figure.axes)
    assert table[["low", "high"]].isna().all(axis=None)
    seeds = table[table["seed"].notna() & (table["panel"] == 1) & (table["loss"] == "ls")]
    for split, dashed in (("train", False), ("test", True)):
        raw = inputs.select("nc1", split).query("loss == 'ls'").sort_values(["seed", "epoch"])
        own = seeds[seeds["split"] == split].sort_values(["seed", "epoch"])
        assert own["mean"].tolist() == raw["value"].tolist()
        lines = [line for line in seed_lines(figure.axes[0], inputs.colours["ls"]) if line.is_dashed() == dashed]
        assert [y for line in lines for y in line.get_ydata()] == raw["value"].tolist()
    low, high = figure.axes[0].get_ylim()
    assert table.loc[table["panel"] == 1, "mean"].between(low, high).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["CE", "LS (δ = 0.05)"]
    assert "thin lines: each seed" in notes_of(figure)
    assert "band" not in notes_of(figure)


def test_a_loss_with_some_means_of_fewer_seeds_has_a_band_and_lines(simulate):
    def change(table):
        gone = (table["metric"] == "error") & (table["epoch"] == 60) & (table["seed"] > 2) & (table["loss"] == "ls")
        return table.assign(value=table["value"].mask(gone))

    inputs = simulate(seeds=tuple(range(5)), change=change)
    figure, table = draw(inputs)
    axes, seeds = figure.axes[1], table[table["seed"].notna()]
    assert set(zip(seeds["metric"], seeds["loss"], strict=True)) == {("error", "ls")}
    assert [np.isnan(line.get_ydata()[-1]) for line in seed_lines(axes)] == [False, False, False, True, True]
    ((x, _, _),) = bands_of(axes, inputs.colours["ls"])
    assert x[-1] < 60
    assert "thin lines: each seed, where they are fewer than 4" in notes_of(figure)


def test_the_bands_are_the_intervals_of_the_table(simulate):
    inputs = simulate(seeds=tuple(range(4)))
    figure, table = draw(inputs)
    assert table["seed"].isna().all()
    for number, axes in enumerate(figure.axes, start=1):
        for loss in inputs.losses:
            bands = bands_of(axes, inputs.colours[loss])
            own = table[(table["panel"] == number) & (table["loss"] == loss)]
            for band, (_, series) in zip(bands, own.groupby(["metric", "split"], sort=False), strict=True):
                within = series.assign(**series[["low", "high"]].clip(*range_of(series["metric"].iloc[0])))
                for drawn, column in zip(band, ("epoch", "low", "high"), strict=True):
                    np.testing.assert_allclose(drawn, within[column], rtol=1e-11)


def test_no_band_without_an_interval(simulate):
    figure, _ = draw(simulate(seeds=(4,)))
    assert not any(axes.collections for axes in figure.axes)


@pytest.mark.parametrize("log", [False, True])
def test_a_line_ends_where_a_mean_is_missing(simulate, log):
    inputs = simulate(losses=("ce",), seeds=tuple(range(4)))
    rows = inputs.select("nc1", "train")
    epochs = sorted(rows["epoch"].unique())
    rows = rows.assign(value=rows["value"].mask(rows["epoch"] == epochs[4], np.inf))
    with style.look():
        _, grid = style.page(1, 1, 2.0)
        draw_lines(grid[0, 0], inputs, rows, with_seeds(rows, log), log)
    parts = [list(line.get_xdata()) for line in grid[0, 0].lines]
    assert parts == [epochs[:4], epochs[5:]]
    assert [list(band[0]) for band in bands_of(grid[0, 0], inputs.colours["ce"])] == parts


def test_means_agree_with_a_slow_reference(simulate):
    inputs = simulate()
    _, table = draw(inputs)
    for row in means_of(table).sample(20, random_state=0).itertuples():
        values = inputs.metrics.query(
            "loss == @row.loss and split == @row.split and epoch == @row.epoch and metric == @row.metric"
        )["value"]
        expected = np.exp(np.log(values).mean()) if row.metric == "nc1" else values.mean()
        assert row.mean == pytest.approx(expected, rel=1e-12)
        assert row.seeds == len(values) == 3


def test_a_loss_has_its_colour_in_every_panel(simulate):
    inputs = simulate(losses=("ls", "ce", "maxsup"))
    figure, _ = draw(inputs)
    expected = [to_hex(inputs.colours[loss]) for loss in inputs.losses]
    for axes in figure.axes:
        drawn = [to_hex(line.get_color()) for line in mean_lines(axes)]
        assert drawn == expected * (len(drawn) // 3)


def test_until_leaves_out_later_epochs(simulate):
    _, table = draw(simulate(), until=5)
    assert table["epoch"].max() <= 5


def test_gaps_are_counted_and_named(simulate):
    def change(table):
        gone = (table["metric"] == "nc1") & (table["split"] == "train") & (table["epoch"] == 60)
        return table.assign(value=table["value"].mask(gone & (table["loss"] == "ls"), np.inf))

    figure, table = draw(simulate(change=change))
    last = table.query("metric == 'nc1' and split == 'train' and loss == 'ls' and epoch == 60").iloc[0]
    assert np.isnan(last["mean"])
    assert (last["seeds"], last["left_out"]) == (0, 3)
    assert "nc1 (train), LS (δ = 0.05): 3 infinite, of 39 values" in notes_of(figure)
    assert "n = 3 seeds" in notes_of(figure)


def test_a_panel_without_values_says_so(simulate):
    figure, table = draw(simulate(change=lambda table: table[table["metric"] != "error"]))
    assert [text.get_text() for text in figure.axes[1].texts] == ["no finite values"]
    assert "error (train): no values" in notes_of(figure)
    assert set(table["metric"]) == {"nc1"}


def test_one_stroke_needs_no_legend_entry(simulate):
    with style.look():
        figure, _ = draw_curves(simulate(), [ERROR], columns=1, legend={"train": "training set"}, height=3.0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CE", "LS (δ = 0.05)"]


def test_a_panel_that_shows_nothing_of_later_epochs_has_an_inset(simulate):
    def early(table):
        falling = (table["metric"] == "error") & (table["epoch"] > 5)
        return table.assign(value=table["value"].where(~falling, 0.01 + 1e-4 * table["epoch"]))

    inputs = simulate(change=early)
    panel = Panel("error", (Series("error", "train", "train"),))
    figure, table = draw_curves(inputs, [panel], 1, {"train": "training set"}, 2.0)
    (inset,) = figure.axes[0].child_axes
    first = table.loc[table["epoch"] > EARLY, "epoch"].min()
    assert inset.get_title() == f"from epoch {first}"
    assert inset.get_ylim()[1] < 0.1 < figure.axes[0].get_ylim()[1]
    figure, _ = draw_curves(inputs, [panel], 1, {"train": "training set"}, 2.0, until=10)
    assert not figure.axes[0].child_axes
    few = simulate(change=lambda table: early(table[table["epoch"] < 5 * EARLY]))
    assert (few.metrics["epoch"] > EARLY).any()
    figure, _ = draw_curves(few, [panel], 1, {"train": "training set"}, 2.0)
    assert not figure.axes[0].child_axes
