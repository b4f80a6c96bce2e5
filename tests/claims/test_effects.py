"""What the claims read off the runs of two losses."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.claims.effects import curves, final, first_reach
from tests.claims.runs import SNAPSHOTS, compare, decay, runs

# --- first_reach ----------------------------------------------------------------------------------------------------


def curve(values):
    return pd.Series(values, dtype=float)


@pytest.mark.parametrize(
    ("values", "level", "epoch", "step", "when"),
    [
        ({1: 0, 11: -10}, -5.0, 6.0, 10.0, "later"),
        ({1: 0, 11: -10}, -10.0, 11.0, 10.0, "later"),
        ({1: 0, 2: -1, 4: -3, 8: -3}, -3.0, 4.0, 2.0, "later"),
        ({1: 0, 2: -4, 3: 0, 4: -8}, -4.0, 2.0, 1.0, "later"),
        ({1: 0, 2: -4, 3: 0, 4: -8}, -6.0, 3.75, 1.0, "later"),
        ({3: 0, 5: -1}, 0.0, 3.0, 3.0, "first"),
        ({3: 0, 5: -1}, 7.0, 3.0, 3.0, "first"),
        ({3: 0, 5: -1}, -1.5, 5.0, 2.0, "never"),
        ({3: 0}, -1.5, 3.0, 3.0, "never"),
        ({1: math.inf, 5: -1, 9: -2}, 0.0, 5.0, 4.0, "later"),
        ({1: 0, 5: -math.inf}, -3.0, 5.0, 4.0, "later"),
        ({1: 0, 3: math.nan, 5: -4}, -2.0, 5.0, 2.0, "later"),
        ({1: 0, 5: -1}, math.nan, 5.0, 4.0, "never"),
    ],
)
def test_first_reach_by_hand(values, level, epoch, step, when):
    found = first_reach(curve(values), level, interpolate=True)
    assert (found.epoch, found.step, found.when) == (pytest.approx(epoch, rel=1e-12), step, when)


def test_first_reach_without_interpolation_is_the_snapshot():
    assert first_reach(curve({1: 0.5, 11: 0.0}), 0.4, interpolate=False).epoch == 11


steps_and_values = st.lists(st.tuples(st.integers(1, 5), st.floats(-3, 3)), min_size=1, max_size=8)


@given(steps_and_values, st.floats(-3.5, 3.5))
def test_first_reach_against_a_walk_along_the_curve(pairs, level):
    epochs = np.cumsum([step for step, _ in pairs])
    values = np.array([value for _, value in pairs])
    found = first_reach(pd.Series(values, index=epochs), level, interpolate=True)
    walk = np.linspace(epochs[0], epochs[-1], 100 * (len(epochs) - 1) + 1)
    below = walk[np.interp(walk, epochs, values) <= level - 1e-9]
    if found.when == "never":
        assert below.size == 0
    else:
        assert np.interp(found.epoch, epochs, values) <= level + 1e-9
        assert below.size == 0 or found.epoch <= below[0] + 1e-9


@given(steps_and_values, st.integers(0, 100))
def test_a_run_reaches_its_own_interpolated_level_by_then(pairs, percent):
    epochs = np.cumsum([step for step, _ in pairs])
    own = pd.Series([value for _, value in pairs], index=epochs)
    then = epochs[0] + percent / 100 * (epochs[-1] - epochs[0])
    found = first_reach(own, float(np.interp(then, epochs, own)), interpolate=True)
    assert found.when != "never"
    assert found.epoch <= then + 1e-6


# --- the runs of a comparison ---------------------------------------------------------------------------------------


def test_curves_are_sorted_and_hold_only_complete_runs_of_the_two_losses():
    table = pd.concat(
        [
            runs(decay(0.1), "ce").sample(frac=1, random_state=0),
            runs(decay(0.2), "ls", seeds=(0, 1)),
            runs(decay(0.2), "ls", seeds=(2,), epochs=SNAPSHOTS[:-1]),
            runs(decay(0.3), "maxsup"),
            runs(decay(9.0), "ce", split="test"),
            runs(decay(9.0), "ls", seeds=(7,)),
        ]
    ).astype({"loss": "category", "split": "category", "metric": "category"})
    found = curves(compare(table), "train", "nc1")
    assert {loss: list(seeds) for loss, seeds in found.items()} == {"ce": [0, 1, 2], "ls": [0, 1]}
    assert list(found["ce"][1].index) == list(SNAPSHOTS)
    assert found["ce"][1].to_list() == pytest.approx([math.exp(-0.1 * epoch) for epoch in SNAPSHOTS])


def test_curves_refuse_a_value_that_occurs_twice():
    with pytest.raises(ValueError, match="main: train nc1 of ce, seed 0, occurs twice"):
        curves(compare(runs(decay(0.1), "ce"), runs(decay(0.1), "ce", seeds=(0,))), "train", "nc1")


# --- after the last epoch --------------------------------------------------------------------------------------------


def test_final_is_the_paired_effect_after_the_last_epoch_against_a_margin():
    level = {"ce": 0.10, "ls": 0.12}
    tables = [runs(lambda epoch, seed, at=at: at + 0.001 * seed, loss, "error", "test") for loss, at in level.items()]
    comparison = compare(*tables)
    options = {"scale": "difference", "unit": "difference"}
    found = final(comparison, "test", "error", **options)
    assert (found.effect, found.null, found.verdict) == (pytest.approx(0.02), 0.0, "contradicted")
    for margin, verdict in ((0.03, "supported"), (0.01, "contradicted")):
        found = final(comparison, "test", "error", **options, null=margin, quantity="error_kept")
        assert (found.quantity, found.null, found.verdict) == ("error_kept", margin, verdict)
    assert final(comparison, "test", "error", scale="ratio", claimed="above").verdict == "supported"
