from dataclasses import replace

import numpy as np
import pytest

from nclens.figures.reliability import bootstrap_accuracy, reliability
from tests.figures.artists import notes_of


def two_samples(loss, seed):
    """Logits with confidences 0.8 (right) and 0.6 (wrong) for two classes."""
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6]]))
    return {"test.logits": logits.astype(np.float64), "test.targets": np.array([0, 0])}


def test_bins_before_scaling_by_hand(simulate):
    inputs = replace(simulate(losses=("ce",), seeds=(0, 1)), last_features=two_samples)
    _, table = reliability(inputs)
    before = table[(table["scaling"] == "before") & (table["count"] > 0)]
    # 0.6 is an upper edge of fifteenths, 9/15, so it belongs to bin 9; 0.8 = 12/15 to bin 12; each once a seed.
    assert before["bin"].tolist() == [9, 12]
    assert before["count"].tolist() == [2, 2]
    np.testing.assert_allclose(before["confidence"], [0.6, 0.8], rtol=1e-12)
    assert before["accuracy"].tolist() == [0.0, 1.0]
    assert before["seeds"].tolist() == [2, 2]


def test_scaling_uses_each_seeds_own_temperature(simulate):
    def change(table):
        temperature = table["metric"] == "temperature"
        return table.assign(value=table["value"].mask(temperature, table["seed"] + 1.0))

    inputs = replace(simulate(losses=("ce",), seeds=(0, 1), change=change), last_features=two_samples)
    _, table = reliability(inputs)
    after = table[(table["scaling"] == "after") & (table["count"] > 0)]
    # Odds 4 and 1.5 at T = 1, their square roots 2 and 1.2247 at T = 2.
    confidences = sorted([0.8, 0.6, 2 / 3, np.sqrt(1.5) / (1 + np.sqrt(1.5))])
    assert after["count"].sum() == 4
    assert (after["count"] * after["confidence"]).sum() == pytest.approx(sum(confidences))
    assert set(after["temperature_mean"]) == {1.5}


def test_samples_of_all_seeds_are_pooled(simulate):
    inputs = simulate()
    figure, table = reliability(inputs)
    samples = len(inputs.last_features("ce", 0)["test.targets"])
    assert table.groupby(["loss", "scaling"])["count"].sum().tolist() == [3 * samples] * 4
    assert "pooled" in notes_of(figure)


def test_features_are_read_once_a_run(simulate):
    read = []

    def recording(loss, seed):
        read.append((loss, seed))
        return two_samples(loss, seed)

    reliability(replace(simulate(), last_features=recording))
    assert sorted(read) == [(loss, seed) for loss in ("ce", "ls") for seed in range(3)]


def test_a_missing_temperature_is_named_and_only_its_seed_is_left_out(simulate):
    def change(table):
        return table[~((table["metric"] == "temperature") & (table["seed"] == 1) & (table["loss"] == "ls"))]

    figure, table = reliability(simulate(change=change))
    seeds = table.groupby(["loss", "scaling"])["seeds"].first()
    assert seeds["ls", "after"] == 2
    assert seeds["ls", "before"] == seeds["ce", "after"] == 3
    notes = notes_of(figure)
    assert "where T is missing: temperature (test), LS (δ = 0.05): 13 missing" not in notes
    assert "where T is missing: temperature (test), LS (δ = 0.05): 1 missing, of 3 values" in notes


def test_title_has_a_dash_where_there_is_no_number(simulate):
    figure, _ = reliability(simulate(change=lambda table: table[table["metric"] != "temperature"]))
    assert "T 1 → –, ECE" in figure.axes[0].get_title("left")


# --- bootstrap -------------------------------------------------------------------------------------------------------


def test_bootstrap_interval_is_the_binomial_one_of_independent_samples():
    random = np.random.default_rng(1)
    correct = random.random((1, 400)) < 0.7
    low, high = bootstrap_accuracy(np.full((1, 400), 0.65), correct, bins=2)
    # 400 draws of a coin: mean ± 1.96 standard deviations.
    half = 1.96 * np.sqrt(correct.mean() * (1 - correct.mean()) / 400)
    np.testing.assert_allclose([low[1], high[1]], correct.mean() + half * np.array([-1, 1]), atol=0.01)
    assert np.isnan([low[0], high[0]]).all()


def test_networks_that_agree_are_worth_one():
    random = np.random.default_rng(1)
    confidence, correct = random.random((1, 300)), random.random((1, 300)) < 0.7
    once = bootstrap_accuracy(confidence, correct, bins=5)
    thrice = bootstrap_accuracy(confidence.repeat(3, axis=0), correct.repeat(3, axis=0), bins=5)
    np.testing.assert_allclose(thrice, once, rtol=1e-12)


def test_a_bin_of_few_samples_has_no_interval_however_many_networks_there_are():
    confidence = np.full((20, 300), 0.95)
    confidence[:, :9] = 0.05
    low, _ = bootstrap_accuracy(confidence, np.ones((20, 300), dtype=bool), bins=10)
    assert np.isnan(low[0])
    assert low[9] == 1
    confidence[0, 9] = 0.05
    low, high = bootstrap_accuracy(confidence, np.ones((20, 300), dtype=bool), bins=10)
    assert (low[0], high[0]) == (1, 1)


def test_intervals_stand_in_the_table_and_hold_the_accuracy(simulate):
    _, table = reliability(simulate())
    with_interval = table[table["accuracy_low"].notna()]
    assert len(with_interval) > 20
    assert (with_interval["count"] >= 10).all()
    inside = with_interval["accuracy"].between(with_interval["accuracy_low"], with_interval["accuracy_high"])
    assert inside.mean() > 0.95
