import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.dynamics import descend, records
from nclens.ufm.explanations import explanations, relative_iterations, trend, verdict
from nclens.ufm.quantities import CONDITION_NUMBERS
from nclens.ufm.spectra import condition_numbers

PROBLEM = UnconstrainedFeatureModel(4, 2, 5, 5e-3, 5e-3, 1e-2)


def rows(quantity, values, *, distance="orbit", rule="relative", momentum=0.0, start=0, tolerance=None):
    """One row per smoothing, 0, 0.1, ..."""
    keys = {"momentum": momentum, "step_rule": rule, "distance": distance, "quantity": quantity, "start": start}
    return [keys | {"tolerance": tolerance, "smoothing": place / 10, "value": v} for place, v in enumerate(values)]


def ratios_of(*parts):
    return relative_iterations(pd.DataFrame([row for part in parts for row in part]))


def test_the_names_are_those_of_the_condition_numbers():
    assert list(condition_numbers(PROBLEM)) == list(CONDITION_NUMBERS)


def test_ratios_by_hand():
    found = ratios_of(
        rows("iterations", [100, 50, None], tolerance=1e-6),
        rows("rate", [0.1, 0.2, 0.05]),
        rows("rate", [0.4, 0.4, 0.4], start=1),
        rows("rate_kappa_ce", [0.1, 0.3, 0.0], distance=""),
        rows("diverged", [0, 0, 0], distance=""),
        rows("rate", [0.1, 0.1, 0.1], distance="nc1"),
    )
    values = {key: group["value"].tolist() for key, group in found.groupby(["distance", "quantity", "start"])}
    assert values["orbit", "iterations", 0] == pytest.approx([1, 0.5, math.nan], nan_ok=True)
    assert values["orbit", "rate", 0] == pytest.approx([1, 0.5, 2])
    assert values["orbit", "rate", 1] == [1, 1, 1]  # start by start
    # A prediction for any distance is repeated for each; a rate of 0 takes infinitely long.
    for distance in ("orbit", "nc1"):
        assert values[distance, "rate_kappa_ce", 0] == pytest.approx([1, 1 / 3, math.nan], nan_ok=True)
    assert len(values) == 6


def test_ratios_do_not_mix_tolerances_rules_or_momenta():
    found = ratios_of(
        rows("iterations", [10, 5], tolerance=0.1),
        rows("iterations", [100, 200], tolerance=1e-6),
        rows("iterations", [10, 30], tolerance=0.1, rule="absolute"),
        rows("iterations", [10, 70], tolerance=0.1, momentum=0.9),
    )
    assert found.loc[found["smoothing"] > 0, "value"].tolist() == [0.5, 2, 3, 7]


def test_explanations_by_hand():
    found = explanations(
        ratios_of(
            rows("rate", [1, 1 / 2, 1 / 4]),
            rows("rate_kappa_ce", [1, 2, 4], distance=""),
            rows("rate_kappa_full", [1, 1 / 1.9, 1 / 4.2], distance=""),
            rows("rate_kappa_joint", [1, 1 / 3, 1 / 3], distance=""),
            rows("rate_linear", [2, 1, 0.5]),
            rows("rate", [1, 1, 1], momentum=0.9),  # not plain
        )
    ).set_index("predictor")
    assert found["verdict"].to_dict() == {
        "kappa_ce": "not explained",
        "kappa_full": "explained",
        "kappa_joint": "direction only",
        "linear": "explained",
    }
    expected = {"kappa_ce": 16, "kappa_full": 2 / 1.9, "kappa_joint": 1.5, "linear": 1}
    assert found["factor"].to_dict() == pytest.approx(expected)


def test_nothing_found_explains_nothing():
    found = explanations(ratios_of(rows("rate", [None, None]), rows("rate_kappa_ce", [1, 2], distance="")))
    assert found["verdict"].tolist() == ["not explained"]
    assert math.isnan(found["factor"].iloc[0])
    assert explanations(ratios_of(rows("rate", [1.0]), rows("rate_kappa_ce", [1.0], distance=""))).empty


def test_real_descents_are_explained_by_kappa_joint_and_not_by_kappa_ce():
    problems = [UnconstrainedFeatureModel(4, 2, 5, 5e-3, 5e-3, 1e-2, delta) for delta in (0.0, 0.05, 0.2, 0.5)]
    table = pd.DataFrame(records(descend(problems, starts=2, momenta=(0.0,), iterations=3000)))
    judged = explanations(relative_iterations(table)).set_index(["step_rule", "distance", "predictor"])
    for rule in ("relative", "absolute"):
        assert judged.loc[(rule, "orbit", "kappa_joint"), "verdict"] == "explained"
        assert judged.loc[(rule, "orbit", "linear"), "factor"] < 1.01
    assert judged.loc[("relative", "orbit", "kappa_ce"), "verdict"] == "not explained"


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=1))
def test_verdicts_are_symmetric_in_speed_and_slowness(pairs):
    predicted, found = zip(*pairs, strict=True)
    inverse = verdict([1 / p for p in predicted], [1 / f for f in found])
    if all(abs(abs(math.log(p / f)) - math.log(1.1)) > 1e-9 for p, f in pairs) and all(
        abs(abs(math.log(r)) - math.log(1.1)) > 1e-9 for r in (*predicted, *found)
    ):
        assert verdict(predicted, found) == inverse == verdict(found, predicted)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_trend_names_the_turns(values):
    smoothings = np.linspace(0, 0.9, len(values)).tolist()
    words = trend(smoothings, values).split(", then ")
    assert trend(smoothings[::-1], values[::-1]).split(", then ") == words  # the order of the rows does not matter
    assert all(one != two for one, two in pairwise(words))
    if sorted(values) == values and values[-1] - values[0] > 1e-3:
        assert words == ["rises"]
