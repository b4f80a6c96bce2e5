"""What the claims read off the runs of two losses."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.claims.effects import curves, final, first_reach, time_to
from nclens.claims.verdict import named_seeds
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


# Steps of a last place are rounding, and have no level between them.
steps_and_values = st.lists(
    st.tuples(st.integers(1, 5), st.floats(-3, 3).map(lambda value: round(value, 6))), min_size=1, max_size=8
)


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


# --- the epoch of a level ---------------------------------------------------------------------------------------------


def steps(*epochs):
    """A run's course, given the epoch at which each seed falls from 1 to 0; None for never."""
    return lambda epoch, seed: float(epochs[seed] is None or epoch < epochs[seed])


def reached(own, other, claimed="below", **options):
    tables = runs(steps(*own), "ls"), runs(steps(*other), "ce")
    return time_to(compare(*tables), "t", "train", "nc1", 0.5, rising=False, claimed=claimed, **options)


def test_time_to_a_level_is_the_ratio_of_the_epochs():
    found = reached((20, 30, 20), (90, 90, 100))
    assert found.effect == pytest.approx((20 / 90 * 30 / 90 * 20 / 100) ** (1 / 3))
    assert found.verdict == "supported"
    assert (found.unit, found.null) == ("ratio of epochs", 1)
    assert reached((90, 90, 100), (20, 30, 20)).verdict == "contradicted"


def test_a_rising_metric_reaches_its_level_from_below():
    tables = [
        runs(lambda epoch, seed, of=of: 1 - steps(*of)(epoch, seed), loss)
        for loss, of in (("ls", (20, 30, 20)), ("ce", (90, 90, 100)))
    ]
    found = time_to(compare(*tables), "t", "train", "nc1", 0.5, rising=True, claimed="below")
    assert found.effect == pytest.approx(reached((20, 30, 20), (90, 90, 100)).effect)


@pytest.mark.parametrize(
    ("own", "other", "low", "high", "verdict"),
    [
        # The loss never gets there: the ratio is known from below.
        ((None, 90, 90), (20, 20, 20), None, math.inf, "contradicted"),
        ((None, None, None), (90, 90, 90), None, math.inf, "contradicted"),
        ((None, 20, 20), (90, 90, 90), None, math.inf, "inconclusive"),
        # The baseline never gets there: it is known from above.
        ((20, 20, 30), (None, 90, 90), 0, None, "supported"),
        ((90, 90, 90), (None, None, None), 0, None, "supported"),
        ((90, 90, 90), (None, 20, 20), 0, None, "inconclusive"),
        # By the first snapshot: the loss from above, the baseline from below.
        ((1, 1, 10), (90, 90, 90), 0, None, "supported"),
        ((90, 90, 90), (1, 1, 1), None, math.inf, "contradicted"),
        # Nothing is known of the pair.
        ((None, 20, 20), (None, 90, 90), math.nan, math.nan, "inconclusive"),
        ((1, 20, 20), (1, 90, 90), math.nan, math.nan, "inconclusive"),
    ],
)
def test_a_censored_run_opens_the_interval_and_is_named(own, other, low, high, verdict):
    found = reached(own, other)
    assert found.verdict == verdict
    for end, expected in ((found.low, low), (found.high, high)):
        assert expected is None or end == expected or (math.isnan(expected) and math.isnan(end))
    for loss, epochs in (("ls", own), ("ce", other)):
        for epoch, words in ((None, "never gets there"), (1, "is there by its first snapshot")):
            named = [seed for seed in range(3) if epochs[seed] == epoch]
            assert (f"{loss} {words}: {named_seeds(named)}" in found.note) == bool(named)


def test_a_margin_is_not_shown_by_a_bound_on_the_other_side_of_it():
    # Every ratio is above 1; that each is above 1.5 is not known.
    found = reached((None, None, None), (90, 90, 90), claimed="above", null=1.5)
    assert found.verdict == "inconclusive"
    assert reached((None, None, None), (20, 20, 20), claimed="above", null=1.5).verdict == "supported"
