"""N1 on simulated tables: supported, contradicted, outside its premise, and what rounding explains."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.claims import claim_rows
from nclens.claims.nc0 import CLAIMS, follows_its_law
from tests.claims.runs import SEEDS, compare

EPOCHS = (1, 10, 50, 100)


def table(factor=lambda epoch, seed: 1.0, seeds=SEEDS, epochs=EPOCHS, rounding=1e-9, premise="", loss="ls"):
    """NC0 that falls by its law from another value a seed, and is measured as `factor` times the law."""
    rows = []
    for seed in seeds:
        for epoch in epochs:
            law = (1 + seed) * math.exp(-0.01 * (epoch - epochs[0]))
            measured = law * (1.0 if epoch == epochs[0] else factor(epoch, seed))
            rows.append((loss, seed, epoch, epochs[0], measured, law, rounding, premise))
    columns = ["loss", "seed", "epoch", "reference", "measured", "predicted", "rounding", "premise"]
    return pd.DataFrame(rows, columns=columns)


def judged(nc0, seeds=SEEDS):
    (measure,) = follows_its_law(replace(compare(baseline="", seeds=seeds), nc0=nc0))
    return measure


def test_within_one_per_cent_it_is_supported_and_beyond_contradicted():
    found = judged(table(lambda epoch, seed: 1.009 if epoch == 50 else 0.995))
    assert (found.verdict, found.effect) == ("supported", pytest.approx(0.009))
    assert found.note == (
        "the law starts from epoch 1, the first snapshot; NC0 falls to 0.372 of its value by the law; farthest from it "
        "at epoch 50 of seed 0, 0.61814 measured for 0.612626"
    )
    one = judged(table(lambda epoch, seed: 0.985 if (epoch, seed) == (50, 2) else 1.0))
    assert (one.verdict, one.effect) == ("contradicted", pytest.approx(0.015))
    assert "at epoch 50 of seed 2" in one.note
    assert all(math.isnan(number) for number in (one.low, one.high, one.null))
    assert one.seeds is None


def test_what_rounding_explains_is_no_deviation():
    small = table(lambda epoch, seed: 1.2, rounding=1.0)
    assert judged(small).verdict == "supported"
    assert judged(small).effect == pytest.approx(0.2)
    assert judged(small).note.endswith("as far as rounding to float32 explains")
    # Rounding and one per cent of the law together, as the rule says.
    exact = table(seeds=(0,), epochs=(0, 1)).assign(predicted=1.0, rounding=0.5)
    for measured, verdict in ((1.5099, "supported"), (1.5101, "contradicted")):
        exact.loc[1, "measured"] = measured
        assert judged(exact, (0,)).verdict == verdict


def test_a_law_of_zero_is_met_by_zero_alone():
    zero = table(rounding=0.0).assign(measured=0.0, predicted=0.0)
    assert (judged(zero).verdict, judged(zero).effect) == ("supported", 0.0)
    assert judged(zero.assign(measured=np.where(zero["epoch"] == 50, 1e-9, 0.0))).verdict == "contradicted"


def test_outside_its_premise_it_says_what_fails_and_how_far_off_it_is():
    found = judged(table(lambda epoch, seed: 1.43, premise="the gradients do not sum to zero"))
    assert (found.verdict, found.effect) == ("inconclusive", pytest.approx(0.43))
    assert found.note.startswith("the premise fails: the gradients do not sum to zero; the law starts from")


def test_what_is_missing_is_said():
    lacking = judged(table(seeds=(0, 2)))
    assert (lacking.verdict, "left out, a run is missing: seed 1" in lacking.note) == ("supported", True)
    single = judged(table(epochs=(1,)))
    assert (single.verdict, single.note.endswith("there is no later snapshot")) == ("inconclusive", True)
    broken = judged(table(lambda epoch, seed: math.nan if epoch == 100 else 1.0))
    assert (broken.verdict, broken.note.endswith("not a finite number at every snapshot")) == ("inconclusive", True)


def test_without_predictions_there_is_no_claim():
    for nc0 in (None, table(loss="ce"), table(seeds=(7,))):
        assert claim_rows(CLAIMS[0], replace(compare(baseline=""), nc0=nc0)) == []
    with pytest.raises(ValueError, match="the nc0 table of main lacks the columns premise"):
        replace(compare(baseline=""), nc0=table().drop(columns="premise"))
