"""The effects by every specification: the claim's own among them, each by hand, and what is left out."""

import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from nclens.claims import CLAIMS, claim_rows
from nclens.claims.effects import first_reach, reach_epochs
from nclens.claims.measurements import Measurements
from nclens.claims.specifications import CHOICES, SpecificationRow, specifications
from nclens.claims.verdict import THEORY, Comparison
from nclens.workflow import tables
from tests.claims.runs import runs
from tests.claims.simulate import simulate_metrics

SEEDS, EPOCHS = (0, 1, 2), 100
FACTS = {"experiment": "main", "dataset": "mnist5k", "model": "resnet8", "losses": ("ce", "ls"), "seeds": SEEDS}
FACTS |= {"kinds": {"ce": "ce", "ls": "ls"}, "strengths": {"ce": None, "ls": 0.05}, "baseline": "ce"}


def effects(*parts, **facts):
    """Specification -> row of the table of some runs."""
    made = specifications(pd.concat(parts, ignore_index=True), **FACTS | {"epochs": EPOCHS} | facts)
    return {(row["claim"], row["specification"]): row for row in made.to_dict("records")}


def both(course, other, metric, split="train", **options):
    """Runs of label smoothing and of cross entropy."""
    return runs(course, "ls", metric, split, **options), runs(other, "ce", metric, split, **options)


def constant(value):
    """A course with a seed's own level: value, times 1, 2 and 4."""
    return lambda epoch, seed: value * 2.0**seed


def test_the_claims_own_specification_is_its_main_measure():
    metrics = simulate_metrics()
    made = specifications(metrics, **FACTS | {"epochs": 60})
    own = made[made["own"]].set_index("claim")
    comparison = Comparison(
        "main", "mnist5k", "resnet8", "ce", "ls", SEEDS, 60, Measurements(metrics), pd.DataFrame(columns=THEORY)
    )
    for claim in ("C1", "C2", "C3", "C4"):
        judged = claim_rows(CLAIMS[claim], comparison)[1]
        found = own.loc[claim]
        for name in ("effect", "low", "high", "unit", "scale", "seeds", "verdict"):
            assert found[name] == getattr(judged, name), (claim, name)
        assert found["same_sign"]
    assert (
        list(made.columns) == [field.name for field in fields(SpecificationRow)] == list(tables.SPECIFICATIONS.columns)
    )
    assert not made.duplicated(["claim", "loss", "baseline", "specification"]).any()


def test_every_combination_of_what_was_measured_is_there():
    made = specifications(simulate_metrics(losses=("ce", "ls", "ls2")), **FACTS | _three() | {"epochs": 60})
    lacking = {"unc3", "ece_l2"}  # what the simulation does not have
    for claim, choices in CHOICES.items():
        count = math.prod(len(set(options) - lacking) for options in choices.values())
        assert (made[made["claim"] == claim].groupby("loss").size() == count).all()
    assert list(made["loss"].unique()) == ["ls", "ls2"]
    assert made.groupby(["claim", "loss"])["own"].sum().eq(1).all()


def _three():
    kinds, strengths = {"ce": "ce", "ls": "ls", "ls2": "ls"}, {"ce": None, "ls": 0.05, "ls2": 0.2}
    return {"losses": ("ce", "ls", "ls2"), "kinds": kinds, "strengths": strengths}


def test_the_last_quarter_is_averaged_and_the_best_epoch_is_that_of_the_lowest_test_error():
    def ece(epoch, seed):  # .2 but at the last epochs: 80, 90 and 100 are late
        return {80: 0.3, 90: 0.4, 100: 0.5}.get(epoch, 0.2)

    def error(epoch, seed):
        return 0.1 if epoch in (30, 50) else 0.2

    found = effects(
        *both(ece, lambda epoch, seed: 0.1 + 0.001 * seed, "ece", "test"),
        *both(error, lambda epoch, seed: 1 / epoch, "error", "test"),
        *both(lambda epoch, seed: 2.0**epoch, lambda epoch, seed: 1.0, "nc1"),
    )
    assert found["C4", "ece, test, last"]["effect"] == pytest.approx(0.4 - 0.001)
    assert found["C4", "ece, test, late"]["effect"] == pytest.approx(0.3 - 0.001)
    assert found["C4", "ece, test, best"]["effect"] == pytest.approx(0.1 - 0.001)
    # Epoch 30 is the first of equal errors; of ratios the late mean is geometric.
    assert found["C2", "nc1, train, best"]["effect"] == pytest.approx(2.0**30)
    assert found["C2", "nc1, train, late"]["effect"] == pytest.approx(2.0**90)
    assert found["C4", "ece, test, last"]["same_sign"]
    assert found["C2", "nc1, train, last"]["verdict"] == "contradicted"


def test_the_sign_is_compared_with_the_claims_own():
    found = effects(
        *both(lambda epoch, seed: 0.1 + 0.001 * seed, lambda epoch, seed: 0.2, "ece", "test"),
        *both(lambda epoch, seed: 0.3 + 0.001 * seed, lambda epoch, seed: 0.2, "ece", "train"),
        *both(lambda epoch, seed: 0.2, lambda epoch, seed: 0.2, "ece_20", "test"),
        *both(lambda epoch, seed: math.nan, lambda epoch, seed: 0.2, "ece_25", "test"),
        *both(lambda epoch, seed: 1 / epoch, lambda epoch, seed: 1 / epoch, "nc1"),
    )
    signs = {key[1]: row["same_sign"] for key, row in found.items() if key[0] == "C4"}
    assert signs["ece, test, last"]
    assert signs["ece, test, late"]
    assert not signs["ece, train, last"]
    assert not signs["ece_20, test, last"]  # an effect of 0 has no sign
    assert math.isnan(found["C4", "ece_25, test, last"]["effect"])
    assert not signs["ece_25, test, last"]
    assert found["C4", "ece, train, last"]["verdict"] == "contradicted"
    assert "best" not in {row["epoch"] for row in found.values()}  # for no error was measured


def test_collapse_is_matched_at_all_levels_at_the_middle_one_and_at_the_lowest():
    # log NC2 is 2 log NC1 with smoothing and log NC1 without: their difference at a level is log NC1 there.
    fast, slow = (lambda epoch, seed: math.exp(-0.05 * epoch)), (lambda epoch, seed: math.exp(-0.05 * epoch))
    found = effects(*both(fast, slow, "nc1"), *both(lambda epoch, seed: fast(epoch, seed) ** 2, slow, "nc2"))
    high, low = -0.05, -5.0
    for level, expected in (("all", (high + low) / 2), ("middle", (high + low) / 2), ("lowest", low)):
        assert math.log(found["C3", f"nc2, nc1, train, {level}"]["effect"]) == pytest.approx(expected)


def test_times_are_of_the_measure_the_set_and_the_level_that_are_chosen():
    found = effects(
        *both(lambda epoch, seed: math.exp(-0.1 * epoch), lambda epoch, seed: math.exp(-0.05 * epoch), "nc1"),
        *both(lambda epoch, seed: math.exp(-0.1 * epoch), lambda epoch, seed: math.exp(-0.02 * epoch), "cdnv"),
    )
    # The level of the baseline at a share of the training is reached in a half or a fifth of the time.
    for level in ("end", "75%", "50%"):
        assert found["C1", f"nc1, train, {level}"]["effect"] == pytest.approx(0.5, rel=1e-6)
        assert found["C1", f"cdnv, train, {level}"]["effect"] == pytest.approx(0.2, rel=1e-6)


def test_the_side_of_an_effect_that_is_only_bounded_is_that_of_its_verdict():
    # Label smoothing never reaches the baseline's last level, and counts as there at the last epoch, as the baseline.
    found = effects(
        *both(lambda epoch, seed: 1 + 1 / epoch, lambda epoch, seed: 1 / epoch, "nc1"),
        *both(lambda epoch, seed: 2 / epoch, lambda epoch, seed: 1 / epoch, "cdnv"),
    )
    own = found["C1", "nc1, train, end"]
    assert (own["effect"], own["high"], own["verdict"]) == (1.0, math.inf, "contradicted")
    assert own["same_sign"]
    assert found["C1", "cdnv, train, 50%"]["effect"] > 1
    assert found["C1", "cdnv, train, 50%"]["same_sign"]


def test_one_late_snapshot_is_the_last_one():
    snapshots = (1, 50, 100)
    found = effects(*both(constant(0.1), constant(0.2), "nc1", epochs=snapshots), epochs=100)
    assert {row["epoch"] for row in found.values()} == {"last", ""}


def test_without_its_own_specification_a_claim_has_none():
    assert not effects(*both(constant(0.1), constant(0.2), "cdnv"))
    assert {claim for claim, _ in effects(*both(constant(0.1), constant(0.2), "nc1"))} == {"C1", "C2"}


def test_without_label_smoothing_there_are_none():
    made = specifications(simulate_metrics(), **FACTS | {"epochs": 60, "kinds": {"ce": "ce", "ls": "maxsup"}})
    assert made.empty
    assert list(made.columns) == list(tables.SPECIFICATIONS.columns)


def test_two_seeds_have_effects_and_no_intervals():
    made = specifications(simulate_metrics(seeds=(0, 1)), **FACTS | {"epochs": 60, "seeds": (0, 1)})
    assert made["low"].isna().all()
    assert (made["verdict"] == "inconclusive").all()
    assert np.isfinite(made["effect"]).any()


def test_many_levels_are_reached_when_each_is():
    random = np.random.default_rng(0)
    for count in (1, 2, 15):
        values = -random.normal(size=count).cumsum()
        for odd in (None, math.nan, math.inf):
            known = values if odd is None else np.where(random.random(count) < 0.3, odd, values)
            curve = pd.Series(known, index=np.sort(random.choice(100, count, replace=False)))
            levels = 5 * random.normal(size=40)
            each = [first_reach(curve, level, interpolate=True).epoch for level in levels]
            assert reach_epochs(curve, levels).tolist() == each
