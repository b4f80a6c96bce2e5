from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclens.figures.maxsup import PART_PANELS
from nclens.figures.style import encode
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import mean_lines, notes_of

SPREAD = ("d_within", "d_total", "r2_angular")
LOSSES = ("ce", "ls", "maxsup")


def also(table):
    """The metrics that these figures show, of about the size that networks have."""
    base = table[table["metric"] == "nc3"]
    parts = [base.assign(metric=metric, value=0.3 * base["value"]) for metric in SPREAD]
    test = base[base["split"] == "test"]
    parts += [test.assign(metric=metric, value=0.1 + 0.5 * test["value"]) for _, metric in PART_PANELS]
    return pd.concat([table, *parts], ignore_index=True)


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", ["smoothing_parts", "class_spread"])
@pytest.mark.parametrize("seeds", [(0, 1, 2), (4,)])
def test_figures_are_drawn_from_their_table_and_nothing_else(simulate, stem, seeds):
    inputs = simulate(losses=LOSSES, seeds=seeds, change=also)
    first, second = draw_figure(stem, inputs), draw_figure(stem, inputs)
    assert encode(first.figure, "png") == encode(second.figure, "png")
    metrics = SPREAD if stem == "class_spread" else [metric for _, metric in PART_PANELS]
    assert set(first.table["metric"]) == set(metrics)
    means = first.table[first.table["seed"].isna()]
    for row in means.sample(10, random_state=0).itertuples():
        values = inputs.metrics.query(
            "loss == @row.loss and split == @row.split and epoch == @row.epoch and metric == @row.metric"
        )["value"]
        assert row.mean == pytest.approx(values.mean(), rel=1e-12)
        assert row.seeds == len(seeds)


def test_parts_have_a_line_a_loss_in_its_colour(simulate):
    inputs = simulate(losses=LOSSES, change=also)
    figure, _ = draw_figure("smoothing_parts", inputs)
    for axes in figure.axes:
        assert [to_hex(line.get_color()) for line in mean_lines(axes)] == [
            to_hex(inputs.colours[loss]) for loss in LOSSES
        ]


def test_a_loss_without_a_gradient_is_named(simulate):
    def without(table):
        table = also(table)
        return table[~((table["loss"] == "ls") & table["metric"].str.startswith("top_logit_gradient"))]

    figure, table = draw_figure("smoothing_parts", simulate(losses=LOSSES, change=without))
    notes = notes_of(figure)
    assert "top_logit_gradient_correct (test), LS (δ = 0.05): no values" in notes
    assert set(table.loc[table["metric"] == "top_logit_gradient_correct", "loss"]) == {"ce", "maxsup"}


def test_spread_shows_both_splits(simulate):
    _, table = draw_figure("class_spread", simulate(losses=LOSSES, change=also))
    assert set(table["split"]) == {"train", "test"}
    assert np.isfinite(table["mean"]).all()


def segmented(table, bounds=True):
    base = table[(table["metric"] == "accuracy") & (table["epoch"] == table["epoch"].max())]
    names = ["segmentation", *(["segmentation_floor", "segmentation_ceiling"] if bounds else [])]
    base = base.assign(value=0.1 + 0.5 * base["value"])
    parts = [base.assign(metric=f"{name}_{score}") for name in names for score in SCORES]
    return pd.concat([table, *parts], ignore_index=True)


SCORES = ("miou", "pixel_accuracy")


@pytest.mark.parametrize("bounds", [True, False])
def test_segmentation_stands_between_floor_and_ceiling(simulate, bounds):
    inputs = simulate(losses=LOSSES, change=lambda table: segmented(table, bounds))
    probe = {"kind": "segmentation", "suffix": "", "dataset": "scenes", "bounds": bounds}
    figure, table = draw_figure("segmentation", replace(inputs, probes=(probe,)))
    assert [axes.get_xlabel() for axes in figure.axes] == ["scenes\nmIoU (%)", "scenes\npixel accuracy (%)"]
    of = ("", "_floor", "_ceiling") if bounds else ("",)
    assert set(table["metric"]) == {f"segmentation{bound}_{score}" for bound in of for score in SCORES}
    assert ("a random network under the same head" in notes_of(figure)) == bounds
    found = table[(table["metric"] == "segmentation_miou") & (table["loss"] == "ls") & table["seed"].isna()]
    values = inputs.metrics.query("metric == 'segmentation_miou' and loss == 'ls' and split == 'test'")["value"]
    np.testing.assert_allclose(found["mean"], values.mean())
