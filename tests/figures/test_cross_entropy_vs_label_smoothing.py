import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from nclens.figures import style
from nclens.figures.catalogue import FIGURES
from nclens.figures.cross_entropy_vs_label_smoothing import LOSS_FLOOR, above_minimum
from nclens.figures.inputs import means_of
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import bars_of, notes_of, points_of, seed_lines

# What is simulated here classifies; figures of regression have tests of their own.
ALL = [stem for stem, figure in FIGURES.items() if figure.task == "classification"]
FIVE = ("ce", "ls", "ls_0.1", "ls_0.2", "maxsup")


def holes(table: pd.DataFrame) -> pd.DataFrame:
    """Values that are nan, infinite, zero or missing, as real runs have them."""
    value = table["value"].copy()
    value[(table["metric"] == "nc1_incorrect") & (table["seed"] == 1)] = np.nan
    value[(table["metric"] == "nc1") & (table["epoch"] == 1)] = np.inf
    value[(table["metric"] == "nll_correct") & (table["epoch"] == 60)] = 0.0
    value[(table["metric"] == "temperature") & (table["loss"] == "ls")] = np.nan
    gone = (table["metric"] == "error") & (table["split"] == "test")
    return table.assign(value=value)[~gone & ~((table["seed"] == 2) & (table["loss"] == "ls"))]


CASES = {
    "one loss, one epoch": {"losses": ("ls",), "last": 1, "count": 1},
    "one seed": {"seeds": (7,), "count": 6},
    "no rows": {"change": lambda table: table[:0]},
}


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", ALL)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_draws_whatever_the_metrics(simulate, stem, case):
    figure, table = draw_figure(stem, simulate(**CASES[case]))
    assert isinstance(table, pd.DataFrame)
    assert notes_of(figure).startswith("digits")


def overlap(first, second) -> bool:
    return (
        min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    )


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", ALL)
def test_nothing_is_clipped_and_nothing_covers_anything(simulate, stem):
    """Also with values that are missing."""
    with style.look():
        figure, table = draw_figure(stem, simulate(losses=FIVE, count=8, change=holes))
        figure.draw_without_rendering()
    assert isinstance(table, pd.DataFrame)
    assert notes_of(figure).startswith("digits")
    page = figure.bbox
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    for axes in [*figure.axes, *(inset for panel in figure.axes for inset in panel.child_axes)]:
        # Ticks beyond the limits keep their text but are not drawn.
        for axis in (axes.xaxis, axes.yaxis):
            drawn = set(axis._update_ticks()) if axes.get_visible() else set()
            hidden = {tick for tick in (*axis.majorTicks, *axis.minorTicks) if tick not in drawn}
            shown = [t for t in shown if not any(t in (tick.label1, tick.label2) for tick in hidden)]
        if not axes.get_visible():
            shown = [text for text in shown if text.axes is not axes]
    boxes = {text: text.get_window_extent() for text in shown}
    for text, box in boxes.items():
        assert page.x0 - 1 <= box.x0, text
        assert box.x1 <= page.x1 + 1, text
        assert page.y0 - 1 <= box.y0, text
        assert box.y1 <= page.y1 + 1, text
    pairs = [(a, b) for place, a in enumerate(shown) for b in shown[place + 1 :] if overlap(boxes[a], boxes[b])]
    assert pairs == []
    for legend in figure.legends:
        panels = [axes.get_window_extent() for axes in figure.axes if axes.get_visible()]
        assert not any(overlap(legend.get_window_extent(), panel) for panel in panels)


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", ALL)
def test_same_input_same_bytes_and_the_input_is_left_alone(simulate, stem):
    inputs = simulate(losses=("ce",), seeds=(0, 1), count=6)
    metrics, theory = inputs.metrics.copy(), inputs.theory.copy()
    first, second = (style.encode(draw_figure(stem, inputs).figure, "png", dpi=50) for _ in range(2))
    assert first == second
    pd.testing.assert_frame_equal(inputs.metrics, metrics)
    pd.testing.assert_frame_equal(inputs.theory, theory)


def test_above_minimum_by_hand():
    rows = pd.DataFrame({"loss": "ce", "seed": [0, 0, 0, 1, 1], "epoch": [1, 2, 3, 1, 2]})
    rows["value"] = [2.0, 0.5, 1.0, 0.7, np.nan]
    np.testing.assert_allclose(
        above_minimum(rows)["value"], np.array([1.5, 0.0, 0.5, 0.0, np.nan]) + LOSS_FLOOR, rtol=1e-12
    )


def test_the_loss_drawn_is_the_trained_one_of_every_epoch(simulate):
    _, table = draw_figure("training_loss", simulate())
    assert list(table["metric"].unique()) == ["epoch_loss", "epoch_loss_above_minimum"]
    assert means_of(table).groupby(["metric", "loss"]).size().tolist() == [60] * 4
    assert table.loc[table["metric"] == "epoch_loss_above_minimum", "mean"].min() >= LOSS_FLOOR * (1 - 1e-12)


@pytest.mark.parametrize(("last", "count", "until"), [(800, 160, 80), (60, 15, 6), (3, 3, 3)])
def test_the_first_epochs(simulate, last, count, until):
    figure, table = draw_figure("first_epochs", simulate(last=last, count=count, seeds=(0,)))
    assert table["epoch"].max() <= until
    assert f"epochs up to {until} of {last}" in notes_of(figure)


def test_one_point_an_epoch_and_loss(simulate):
    inputs = simulate(count=15)
    figure, table = draw_figure("nc1_nc2", inputs)
    epochs = inputs.select("nc1", "train")["epoch"].nunique()
    means = means_of(table)
    assert len(means) == epochs * 2
    for loss, axes in zip(inputs.losses, figure.axes, strict=False):
        points = axes.collections[-1].get_offsets()
        np.testing.assert_allclose(points, means.loc[means["loss"] == loss, ["nc1_mean", "nc2_mean"]])
        seeds = table[(table["loss"] == loss) & table["seed"].notna()]
        paths = [line.get_xydata() for line in seed_lines(axes)]
        for path, (number, own) in zip(paths, seeds.groupby("seed"), strict=True):
            assert path.tolist() == own[["nc1_mean", "nc2_mean"]].to_numpy().tolist()
            raw = inputs.select("nc2", "train")
            assert path[:, 1].tolist() == raw.loc[(raw["loss"] == loss) & (raw["seed"] == number), "value"].tolist()
    assert figure.axes[-1].get_xlabel() == "test error (%)"


def test_points_without_a_test_error_are_hollow_and_named(simulate):
    figure, table = draw_figure("nc1_nc2", simulate(change=holes))
    assert means_of(table)["error_mean"].isna().all()
    assert "Hollow: no test error" in notes_of(figure)
    assert len(figure.axes) == 2  # no colour bar without colours


def test_the_baselines_path_is_repeated_in_the_other_panels_only(simulate):
    figure, _ = draw_figure("nc1_nc2", simulate(losses=("ce", "ls", "maxsup")))
    dotted = [[line.get_linestyle() for line in axes.lines].count(":") for axes in figure.axes[:3]]
    assert dotted == [0, 1, 1]


def test_norms_hold_the_last_epoch_seed_by_seed_and_their_mean(simulate):
    inputs = simulate()
    _, table = draw_figure("norms", inputs)
    assert set(table["epoch"]) == {60}
    for metric, split in (("feature_norm", "train"), ("ece_unscaled", "test"), ("temperature", "test")):
        own = table[(table["metric"] == metric) & (table["loss"] == "ls")]
        raw = inputs.select(metric, split, 60).query("loss == 'ls'")["value"]
        np.testing.assert_allclose(own.loc[own["seed"].notna(), "mean"], raw)
        np.testing.assert_allclose(own.loc[own["seed"].isna(), "mean"], [raw.mean()])


@pytest.mark.parametrize("seeds", [3, 4])
def test_dots_and_bars_are_those_of_the_table(simulate, seeds):
    inputs = simulate(seeds=tuple(range(seeds)))
    figure, table = draw_figure("norms", inputs)
    means = table[table["seed"].isna()]
    for axes, metric in zip(figure.axes, ("feature_norm", "classifier_norm", "temperature"), strict=False):
        for row, loss in enumerate(inputs.losses):
            own = means[(means["metric"] == metric) & (means["loss"] == loss)].iloc[0]
            bars = bars_of(axes, inputs.colours[loss])
            np.testing.assert_allclose(points_of(axes, inputs.colours[loss]), [[own["mean"], row]], rtol=1e-12)
            expected = [[[own["low"], row], [own["high"], row]]] if seeds == 4 else np.empty((0, 2, 2))
            np.testing.assert_allclose(bars, expected, rtol=1e-11)


def test_split_panels_read_the_test_set(simulate):
    _, table = draw_figure("correct_incorrect", simulate())
    assert set(table["split"]) == {"test"}
    parts = ("correct", "incorrect")
    assert list(table["metric"].unique()) == [f"{m}_{part}" for m in ("nll", "entropy", "nc1") for part in parts]
