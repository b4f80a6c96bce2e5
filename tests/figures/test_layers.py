"""Measures against depth, and sharpness along training."""

from dataclasses import replace

import pandas as pd
import pytest

from nclens.figures.inputs import means_of
from nclens.figures.layers import MOST, layers, nrc_layers
from nclens.figures.sharpness import sharpness
from tests.figures.artists import notes_of

PROBES = ({"kind": "layers", "suffix": "/deep"}, {"kind": "sharpness", "suffix": ""})
MEASURES = ("nc1", "accuracy", "equiangular", "stable_rank", "noise", "cka", "readout_mse")


@pytest.fixture
def inputs(simulate):
    plain = simulate(losses=("ce", "ls"), seeds=(0, 1, 2))
    epochs = sorted(plain.metrics["epoch"].unique())
    rows = [
        (loss, seed, split, epoch, f"layers_{measure}/{layer:02d}/deep", 1 / (layer + seed + (split == "test")))
        for loss in ("ce", "ls")
        for seed in (0, 1, 2)
        for split in ("train", "test")
        for epoch in epochs
        for measure in MEASURES
        for layer in range(1, 12)
    ]
    for loss, slope in (("ce", -0.5), ("ls", -0.7)):
        for seed in (0, 1, 2):
            rows += [(loss, seed, "train", epochs[-1], "layers_slope/deep", slope)]
            rows += [(loss, seed, "train", epochs[-1], "layers_correlation/deep", -0.98)]
            for part, factor in (("head", 1), ("network", 2), ("trained", 3)):
                rows += [(loss, seed, "train", epoch, f"sharpness_{part}", factor / (1 + epoch)) for epoch in epochs]
    more = pd.DataFrame(rows, columns=["loss", "seed", "split", "epoch", "metric", "value"])
    # Texts as the study's table has them.
    table = pd.concat([plain.metrics, more], ignore_index=True)
    table = table.astype(dict.fromkeys(("loss", "split", "metric"), "category"))
    return replace(plain, metrics=table, probes=PROBES)


@pytest.mark.parametrize(("draw", "measures"), [(layers, MEASURES[:4]), (nrc_layers, (*MEASURES[4:], "stable_rank"))])
def test_every_layer_has_its_mean_at_the_first_and_the_last_snapshot(inputs, draw, measures):
    figure, table = draw(inputs)
    epochs = sorted(inputs.metrics["epoch"].unique())
    shown = sorted(table["epoch"].unique())
    assert len(shown) == MOST
    assert (shown[0], shown[-1]) == (epochs[0], epochs[-1])
    assert tuple(dict.fromkeys(table["measure"])) == measures
    assert len(means_of(table)) == len(table) / 4 == len(measures) * 2 * MOST * 2 * 11
    table = means_of(table)
    own = table[(table["measure"] == "stable_rank") & (table["split"] == "train") & (table["layer"] == 2)]
    assert own["mean"].to_numpy() == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert "Layer 1 is the first block, not the input" in notes_of(figure)
    if draw is layers:
        assert "slope of log NC1 a layer: LS (δ = 0.05) -0.7, CE -0.5" in figure.finding


def test_a_value_that_is_missing_is_named(inputs):
    gone = (inputs.metrics["metric"] == "layers_nc1/03/deep") & (inputs.metrics["seed"] == 1)
    figure, _ = layers(replace(inputs, metrics=inputs.metrics[~gone]))
    assert "nc1 (train), epoch 1" in notes_of(figure)


def test_sharpness_against_epoch_with_its_means(inputs):
    figure, table = sharpness(inputs)
    own = table[(table["metric"] == "sharpness_network") & (table["loss"] == "ls")]
    assert own["seed"].nunique() == 3
    assert own["mean"].to_numpy() == pytest.approx((2 / (1 + own["epoch"])).to_numpy())
    assert set(table["metric"]) == {f"sharpness_{part}" for part in ("head", "network", "trained")} | {
        *("ece_unscaled", "nc1")
    }
    assert "biases included, without weight decay" in notes_of(figure)


def test_without_values_the_panels_say_so(simulate):
    bare = replace(simulate(losses=("ce",)), probes=PROBES)
    for draw in (layers, nrc_layers):
        assert draw(bare)[1].empty
    assert "sharpness_head (train): no values" in notes_of(sharpness(bare)[0])
