import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.figures.inputs import FigureInputs, interval_note, means_of, omissions, over_seeds, seeds_note, with_seeds


def rows(values, loss="ce", epoch=1):
    return pd.DataFrame({"loss": loss, "seed": range(len(values)), "epoch": epoch, "value": values})


def test_mean_and_interval_by_hand():
    # s = 1, t(0.975, 2) = 4.302653, so the half-width is 4.302653 / sqrt(3) = 2.484138.
    table = over_seeds(rows([1.0, 2.0, 3.0]), fewest=2)
    assert table["mean"][0] == pytest.approx(2.0)
    assert table["low"][0] == pytest.approx(2 - 2.484138, abs=1e-6)
    assert table["high"][0] == pytest.approx(2 + 2.484138, abs=1e-6)
    assert (table["seeds"][0], table["left_out"][0]) == (3, 0)


def test_geometric_mean_and_interval_by_hand():
    table = over_seeds(rows([0.1, 1.0, 10.0]), log=True, fewest=2)
    assert table["mean"][0] == pytest.approx(1.0)
    assert np.log10(table["high"][0]) == pytest.approx(2.484138, abs=1e-6)
    assert np.log10(table["low"][0]) == pytest.approx(-2.484138, abs=1e-6)


def test_one_seed_has_no_interval():
    table = over_seeds(rows([0.5]))
    assert table["mean"][0] == 0.5
    assert np.isnan(table["low"][0])
    assert np.isnan(table["high"][0])


def test_four_values_have_an_interval_and_fewer_are_kept_one_by_one():
    # s = 1.290994, t(0.975, 3) = 3.182446, so the half-width is 2.054260.
    table = with_seeds(rows([1.0, 2.0, 3.0, 4.0]))
    assert len(table) == 1
    assert table[["mean", "low", "high"]].iloc[0].tolist() == pytest.approx([2.5, 0.44574, 4.55426], abs=1e-5)
    table = with_seeds(pd.concat([rows([1.0, np.inf, 3.0]), rows([5.0], loss="ls")]))
    assert means_of(table)["mean"].tolist() == [2.0, 5.0]
    assert means_of(table)[["low", "high"]].isna().all(axis=None)
    seeds = table[table["seed"].notna()]
    assert seeds["loss"].tolist() == ["ce"] * 3
    assert seeds["seed"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(seeds["mean"], [1.0, np.nan, 3.0])


@pytest.mark.parametrize(("log", "left_out", "mean"), [(False, 2, 1.0), (True, 3, np.sqrt(3.0))])
def test_what_cannot_be_drawn_is_left_out_and_counted(log, left_out, mean):
    table = over_seeds(rows([1.0, 3.0, -1.0, np.nan, np.inf]), log)
    assert table["left_out"][0] == left_out
    assert table["seeds"][0] == 5 - left_out
    assert table["mean"][0] == pytest.approx(mean)


def test_nothing_to_average_gives_nan_and_no_row_is_lost():
    table = over_seeds(rows([np.nan, np.inf]))
    assert np.isnan(table["mean"][0])
    assert (table["seeds"][0], table["left_out"][0]) == (0, 2)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6), st.floats(1e-3, 1e3))
def test_geometric_mean_scales_with_its_values(values, factor):
    plain, scaled = (over_seeds(rows(list(np.array(values) * f)), log=True, fewest=2) for f in (1.0, factor))
    for column in ("mean", "low", "high"):
        assert scaled[column][0] == pytest.approx(factor * plain[column][0], rel=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.randoms())
def test_the_order_of_seeds_does_not_matter(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    first, second = over_seeds(rows(values), fewest=2), over_seeds(rows(shuffled), fewest=2)
    np.testing.assert_allclose(
        first[["mean", "low", "high"]].to_numpy(), second[["mean", "low", "high"]].to_numpy(), rtol=1e-9, atol=1e-9
    )


def test_select_orders_by_loss_epoch_seed(simulate):
    inputs = simulate(losses=("ls", "ce"), change=lambda table: table.sample(frac=1, random_state=0))
    chosen = inputs.select("nc1", "train")
    assert list(dict.fromkeys(chosen["loss"])) == ["ls", "ce"]
    own = chosen[chosen["loss"] == "ce"]
    assert list(zip(own["epoch"], own["seed"], strict=True)) == sorted(zip(own["epoch"], own["seed"], strict=True))
    assert len(inputs.select("nc1", "train", epoch=60)) == 6


def test_omissions_name_each_kind(simulate):
    def change(table):
        value = table["value"].copy()
        nc1 = (table["metric"] == "nc1") & (table["split"] == "train") & (table["loss"] == "ce")
        value[nc1 & (table["epoch"] == 1)] = np.inf
        value[nc1 & (table["epoch"] == 2) & (table["seed"] == 0)] = np.nan
        value[nc1 & (table["epoch"] == 3) & (table["seed"] == 0)] = 0.0
        return table.assign(value=value)[~(nc1 & (table["epoch"] == 60) & (table["seed"] == 2))]

    inputs = simulate(change=change)
    chosen = inputs.select("nc1", "train")
    assert omissions(inputs, chosen, "nc1", log=True) == [
        "nc1, CE: 1 missing, 1 nan, 3 infinite, 1 not positive, of 39 values"
    ]
    assert omissions(inputs, chosen, "nc1") == ["nc1, CE: 1 missing, 1 nan, 3 infinite, of 39 values"]
    assert omissions(inputs, chosen[chosen["loss"] == "ls"], "nc1") == ["nc1, CE: no values"]
    assert omissions(inputs, chosen[:0], "nc1") == ["nc1: no values"]


def note(inputs):
    return interval_note(inputs, with_seeds(inputs.select("nc1", "train")), "Line", "band", "thin")


def test_notes_say_how_many_seeds_and_where_there_is_no_interval(simulate):
    assert seeds_note(simulate()) == "n = 3 seeds"
    single = simulate(seeds=(0,))
    assert seeds_note(single) == "n = 1 seed"
    assert "no band" in note(single)
    several = [note(simulate(seeds=tuple(range(count)))) for count in (3, 4)]
    assert several == ["Line: mean over seeds, thin: each seed", "Line: mean over seeds, band: its 95% t-interval"]

    def change(table):
        return table[(table["loss"] == "ce") | (table["seed"] == 0)]

    mixed = simulate(seeds=tuple(range(4)), change=change)
    assert seeds_note(mixed) == "seeds: CE 4, LS (δ = 0.05) 1"
    assert "none for LS (δ = 0.05)" in note(mixed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metrics": pd.DataFrame({"loss": []})}, "metrics table of digits lacks the columns seed, split"),
        ({"theory": pd.DataFrame()}, "theory table of digits lacks the columns loss, quantity"),
        ({"losses": []}, "at least one, each once"),
        ({"losses": ["ce", "ce"]}, "at least one, each once"),
        ({"labels": {"ce": "CE"}}, "loss ls of digits has no label"),
        ({"colours": {"ce": "#0072B2", "ls": "#00"}}, "colour of loss ls: '#00'"),
        ({"dynamics": pd.DataFrame()}, "dynamics table of digits lacks the columns smoothing, momentum"),
        ({"predictions": pd.DataFrame({"loss": []})}, "predictions table of digits lacks the columns penalties, seed"),
        ({"smoothings": {"ls": 1.0}}, r"smoothing of loss ls of digits: 1.0; allowed: \[0, 1\)"),
        ({"smoothings": {"ls": np.nan}}, "smoothing of loss ls of digits: nan"),
        ({"baseline": "mse"}, "baseline mse of digits; allowed: ce, ls"),
    ],
)
def test_wrong_inputs_are_refused(simulate, wrong, message):
    right = simulate()
    with pytest.raises(ValueError, match=message):
        FigureInputs(**{**right.__dict__, **wrong})
