from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures.inputs import means_of
from nclens.figures.out_of_distribution import SCORES, detection_against_collapse, out_of_distribution
from tests.figures.artists import bars_of, notes_of, seed_dots

PROBES = (
    {"kind": "out_of_distribution", "suffix": "/writers", "dataset": "digits8", "shift": "covariate"},
    {"kind": "out_of_distribution", "suffix": "/far", "dataset": "textures", "shift": "semantic"},
)


@pytest.fixture
def inputs(simulate):
    plain = simulate(losses=("ce", "ls"), seeds=(0, 1, 2))
    rows = [
        (loss, seed, "test", plain.last_epoch, f"{prefix}_{measure}_{score}/{probe}", 0.5 + 0.02 * (place + seed))
        for loss in ("ce", "ls")
        for seed in (0, 1, 2)
        for prefix, probe in (("ood", "far"), ("shift", "writers"))
        for measure in ("auroc", "fpr95")
        for place, score in enumerate(SCORES)
    ]
    more = pd.DataFrame(rows, columns=["loss", "seed", "split", "epoch", "metric", "value"])
    return replace(plain, metrics=pd.concat([plain.metrics, more]), probes=PROBES)


def test_every_score_has_its_mean_over_seeds_and_shifts_come_last(inputs):
    figure, table = out_of_distribution(inputs)
    assert list(dict.fromkeys(table["probe"])) == ["far: textures", "writers: digits8\n(covariate shift)"]
    means = means_of(table)
    assert len(means) == 2 * 2 * len(SCORES) * 2
    for place, score in enumerate(SCORES):
        assert means.loc[means["score"] == score, "mean"].to_numpy() == pytest.approx(0.52 + 0.02 * place)
    for loss, shift in (("ce", -0.31), ("ls", 0.31)):
        dots = seed_dots(figure.axes[0], inputs.colours[loss])
        assert len(bars_of(figure.axes[0], inputs.colours[loss])) == 0
        expected = [[0.5 + 0.02 * (place + seed), place + shift] for place in range(len(SCORES)) for seed in range(3)]
        np.testing.assert_allclose(sorted(dots.tolist()), sorted(expected))
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes[:2]]
    assert "AUROC: 50% is chance" in notes_of(figure)
    assert figure.finding.startswith("AUROC (%) of NECO, far: textures: ")


def test_a_missing_seed_is_named(inputs):
    gone = (inputs.metrics["metric"] == "ood_auroc_msp/far") & (inputs.metrics["seed"] == 1)
    figure, _ = out_of_distribution(replace(inputs, metrics=inputs.metrics[~gone]))
    assert "ood_auroc_msp/far (test)" in notes_of(figure)


def test_against_collapse_a_mark_is_a_run(inputs):
    figure, table = detection_against_collapse(inputs)
    assert len(table) == 2 * 2 * 6
    nc1 = inputs.select("nc1", "train", inputs.last_epoch).set_index(["loss", "seed"])["value"]
    for row in table.itertuples():
        assert row.nc1 == nc1[row.loss, row.seed]
    own = table[(table["probe"] == "far: textures") & (table["score"] == "neco")]
    expected = np.corrcoef(own["nc1"].rank(), own["auroc"].rank())[0, 1]
    assert f"NC1 and AUROC of NECO, far: textures: {expected:.2f}" in figure.finding


def test_without_values_the_panels_say_so(simulate):
    figure, table = out_of_distribution(replace(simulate(losses=("ce",)), probes=PROBES[1:]))
    assert table.empty
    assert figure.axes[0].texts[0].get_text() == "no finite values"
    assert detection_against_collapse(replace(simulate(losses=("ce",)), probes=PROBES[1:]))[1].empty
