from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nclens.figures.projections import projections
from nclens.metrics.representation import project, template_plane, template_spread
from tests.figures.artists import notes_of


def corners(loss, seed):
    """Features at the templates e_0, e_1, e_2, twice as far for label smoothing, four samples a class and split."""
    targets = np.tile(np.arange(4), 4)
    scale = 2.0 if loss == "ls" else 1.0
    features = scale * np.eye(4)[targets] + 7
    return {"weight": np.eye(4)} | {
        f"{split}.{name}": array
        for split in ("train", "test")
        for name, array in (("features", features), ("targets", targets))
    }


def test_points_are_the_projections_moved_to_the_centre_of_the_training_means(simulate):
    inputs = simulate(losses=("ce", "ls"))
    _, table = projections(inputs)
    for loss in inputs.losses:
        arrays = {name: torch.as_tensor(array) for name, array in inputs.last_features(loss, 0).items()}
        plane = template_plane(arrays["weight"], [3, 4, 9])
        at = project(arrays["train.features"], plane)
        centre = torch.stack([at[arrays["train.targets"] == label].mean(dim=0) for label in (3, 4, 9)]).mean(dim=0)
        for split, count in (("train", 100), ("test", 60)):
            at = project(arrays[f"{split}.features"], plane) - centre
            own = table[(table["loss"] == loss) & (table["split"] == split)]
            spread = template_spread(
                arrays[f"{split}.features"], arrays[f"{split}.targets"], arrays["weight"], [3, 4, 9]
            )
            assert set(own["spread"]) == {spread}
            for label in (3, 4, 9):
                points = own.loc[own["class"] == label, ["x", "y"]].to_numpy()
                np.testing.assert_allclose(points, at[arrays[f"{split}.targets"] == label][:count])


def test_of_some_samples_the_same_are_drawn_and_a_draw_is_notes_of(simulate):
    inputs = simulate(losses=("ce", "ls"))

    def kept(most):
        def of_some(loss, seed):
            arrays = dict(inputs.last_features(loss, seed))
            for split in ("train", "test"):
                targets = np.asarray(arrays[f"{split}.targets"])
                rows = np.sort(np.concatenate([np.flatnonzero(targets == label)[:most] for label in (3, 4, 9)]))
                arrays |= {f"{split}.sampled": rows, f"{split}.features": arrays[f"{split}.features"][rows]}
            return arrays

        return replace(inputs, last_features=of_some)

    figure, table = projections(inputs)
    whole, same = projections(kept(None))
    pd.testing.assert_frame_equal(same, table)
    assert "over all samples of the three classes in the split" in notes_of(whole) == notes_of(figure)
    figure, fewer = projections(kept(20))
    assert "over a seeded sample, of at most 20 a class, of the three classes in the split" in notes_of(figure)
    assert len(fewer) == 2 * 2 * 3 * 20


def test_a_triangle_by_hand(simulate):
    inputs = replace(simulate(losses=("ce", "ls")), last_features=corners, projection_classes=(0, 1, 2))
    figure, table = projections(inputs)
    first = table[table["loss"] == "ce"]
    means = first.groupby("class")[["x", "y"]].mean().to_numpy()
    # Sides of √2, the first along the horizontal axis, the third class above it, the centre at 0.
    np.testing.assert_allclose(means[1] - means[0], [np.sqrt(2), 0], atol=1e-12)
    np.testing.assert_allclose(means[2], [0, np.sqrt(2 / 3)], atol=1e-12)
    np.testing.assert_allclose(table.loc[table["loss"] == "ls", ["x", "y"]], 2 * first[["x", "y"]], atol=1e-12)
    assert table["spread"].max() == pytest.approx(0, abs=1e-20)
    assert "seed 0 of 3" in notes_of(figure)


def test_all_panels_have_one_scale_that_holds_every_point(simulate):
    figure, table = projections(simulate(losses=("ce", "ls", "ls_0.1", "ls_0.2", "maxsup")))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 10
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in shown}) == 1
    (left, right), (bottom, top) = shown[0].get_xlim(), shown[0].get_ylim()
    assert right - left == pytest.approx(top - bottom)
    assert left < table["x"].min() < table["x"].max() < right
    assert bottom < table["y"].min() < table["y"].max() < top


def test_classes_are_called_by_their_names(simulate):
    inputs = replace(simulate(), class_names=[f"letter {letter}" for letter in "abcdefghij"])
    figure, _ = projections(inputs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["letter d", "letter e", "letter j"]
    figure, _ = projections(replace(inputs, class_names=()))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 3", "class 4", "class 9"]


def test_a_class_that_a_split_lacks_is_replaced_by_the_most_frequent_other_one(simulate):
    def lacking(loss, seed):
        arrays = inputs.last_features(loss, seed)
        kept = arrays["test.targets"] != 4
        return arrays | {f"test.{name}": arrays[f"test.{name}"][kept] for name in ("features", "targets")}

    inputs = simulate(losses=("ce", "ls"))
    figure, table = projections(replace(inputs, last_features=lacking))
    # The classes are of one size: the lowest.
    assert list(dict.fromkeys(table["class"])) == [3, 0, 9]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [inputs.class_name(k) for k in (3, 0, 9)]


def test_two_classes_or_collapsed_templates_span_no_plane_and_are_named(simulate):
    def collapsed(loss, seed):
        arrays = corners(loss, seed)
        return arrays if loss == "ce" else arrays | {"weight": np.zeros((4, 4))}

    inputs = replace(simulate(losses=("ce", "ls")), last_features=collapsed, projection_classes=(0, 1, 2))
    figure, table = projections(inputs)
    assert set(table["loss"]) == {"ce"}
    assert "No plane: LS (δ = 0.05)" in notes_of(figure)
    two = replace(inputs, last_features=lambda loss, seed: corners(loss, seed) | {"weight": np.eye(4)[:2]})
    figure, table = projections(two)
    assert table.empty
    assert "No plane: CE, LS (δ = 0.05)" in notes_of(figure)
