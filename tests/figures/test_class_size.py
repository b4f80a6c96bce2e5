"""Measures of each class against its size: what is drawn, and where there is nothing."""

from dataclasses import replace

import pandas as pd
import pytest

from nclens.figures.class_size import class_size
from nclens.figures.inputs import THEORY_COLUMNS, FigureInputs, means_of
from tests.figures.artists import notes_of, seed_lines

SIZES = (40, 10, 10, 4)


def inputs(metrics):
    rows = [
        ("ce", seed, split, 5, f"{metric}_class_{k}", value + seed)
        for metric, split in metrics.items()
        for k, value in enumerate(SIZES if metric == "train_count" else (1.0, 2.0, 4.0, 8.0))
        for seed in (0, 1)
    ]
    rows = [(*row[:5], row[5] - row[1]) if row[4].startswith("train_count") else row for row in rows]
    rows += [("ce", seed, "train", 5, "minority_collapse", 0.5 + 0.1 * seed) for seed in (0, 1)]
    table = pd.DataFrame(rows, columns=["loss", "seed", "split", "epoch", "metric", "value"])
    looks = {"labels": {"ce": "CE"}, "colours": {"ce": "#0072B2"}, "baseline": "ce"}
    theory = pd.DataFrame(columns=THEORY_COLUMNS)
    return FigureInputs("tail", table, theory, ["ce"], last_features=lambda *_: {}, **looks)


ALL = {"train_count": "train", "accuracy": "test", "nc1": "train", "classifier_norm": "train"}


def test_classes_of_one_size_are_one_point_and_nc1_has_its_geometric_mean():
    figure, table = class_size(inputs(ALL | {"classifier_cosine": "train"}))
    means = means_of(table)
    norms = means[means["metric"] == "classifier_norm"].set_index("samples")
    assert sorted(norms.index) == [4, 10, 40]
    assert norms["mean"].to_dict() == {4.0: 8.5, 10.0: 3.5, 40.0: 1.5}
    assert (norms["seeds"] == 2).all()
    nc1 = means[means["metric"] == "nc1"].set_index("samples")["mean"]
    assert nc1[40] == pytest.approx((1.0 * 2.0) ** 0.5)
    assert "0.55" in figure.finding
    drawn = [line.get_xydata().tolist() for line in seed_lines(figure.axes[2], "#0072B2")]
    assert drawn == [[[4, 8 + seed], [10, 3 + seed], [40, 1 + seed]] for seed in (0, 1)]
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 4


def test_classes_of_many_sizes_as_tokens_have_are_averaged_over_ranges():
    counts = {k: 2.0**k for k in range(25)}  # 24 doublings, two a range; the last has three classes
    rows = [("ce", 0, "train", 5, f"train_count_class_{k}", count) for k, count in counts.items()]
    rows += [("ce", 0, "test", 5, f"accuracy_class_{k}", k / 100) for k in counts]
    table = pd.DataFrame(rows, columns=["loss", "seed", "split", "epoch", "metric", "value"])
    figure, drawn = class_size(replace(inputs(ALL), metrics=table))
    found = drawn[drawn["metric"] == "accuracy"].set_index("samples")["mean"]
    expected = {2.0 ** (k + 0.5): (k + 0.5) / 100 for k in range(0, 22, 2)} | {2.0**23: 0.23}
    assert list(found.index) == pytest.approx(list(expected))
    assert list(found) == pytest.approx(list(expected.values()))
    assert "classes of similar size are averaged" in notes_of(figure)


def test_without_measures_of_classes_the_panels_say_so():
    figure, table = class_size(inputs({}))
    assert table.empty
    assert any("no classes of different size" in text.get_text() for axes in figure.axes for text in axes.texts)
