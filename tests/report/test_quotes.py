"""Every number of a study by its path."""

import math

import pandas as pd
import pytest

from nclens.report import quotes

EXPERIMENT = {"experiment": "e", "epochs": 4}


def metrics(rows):
    return pd.DataFrame(rows, columns=["split", "metric", "epoch", "seed", "value"]).astype({"split": "category"})


def by_path(found):
    found = list(found)
    assert not quotes.repeated(found)
    return {quote.path: quote for quote in found}


def test_means_intervals_and_seeds_have_paths():
    rows = [("train", "nc1", epoch, seed, seed + 1 + 10 * (epoch == 2)) for epoch in (2, 4) for seed in range(3)]
    found = by_path(quotes.measured(EXPERIMENT, "ls", metrics(rows)))
    assert found["e/ls/train/nc1/2"].text == "12.0 ± 2.5"
    assert found["e/ls/train/nc1/2/seed1"] == ("e/ls/train/nc1/2/seed1", 12.0, "12.0")
    assert found["e/ls/train/nc1/2"].value == 12.0
    for end in ("4", "last"):
        assert found[f"e/ls/train/nc1/{end}"].value == 2.0
        assert found[f"e/ls/train/nc1/{end}"].text == "2.0 ± 2.5"
        assert found[f"e/ls/train/nc1/{end}/seed2"].text == "3.00"
    assert found["e/ls/train/nc1/last/mean"] == ("e/ls/train/nc1/last/mean", 2.0, "2.00")
    assert found["e/ls/train/nc1/last/half"].value == pytest.approx(2.48413771)
    assert found["e/ls/train/nc1/last/interval"].text == "[−0.484, 4.48]"
    assert len(found) == 3 * 4 + 3


def test_seeds_with_one_value_have_no_interval():
    rows = [("train", "learning_rate", 4, seed, 0.05) for seed in range(3)]
    rows += [("train", "r2", 4, seed, value) for seed, value in enumerate((0.3, 0.1 + 0.2, 0.3))]
    found = by_path(quotes.measured(EXPERIMENT, "ls", metrics(rows)))
    assert found["e/ls/train/learning_rate/last"] == ("e/ls/train/learning_rate/last", 0.05, "0.0500")
    assert found["e/ls/train/r2/last"].text == "0.300"
    assert not [path for path in found if path.endswith(("/half", "/interval"))]
    assert found["e/ls/train/learning_rate/last/mean"].value == 0.05


def test_digits_are_of_numbers_without_an_interval():
    rows = [("train", "nc1", 4, 0, 0.123456)]
    found = by_path(quotes.measured(EXPERIMENT, "ls", metrics(rows), digits=5))
    assert found["e/ls/train/nc1/last/mean"].text == "0.12346"
    assert found["e/ls/train/nc1/last"].text == "0.123"
    assert "e/ls/train/nc1/last/interval" not in found


def test_a_missing_seed_is_left_out_and_an_undefined_value_is_not():
    rows = [("train", "nc1", 4, 0, 1.0), ("train", "nc1", 4, 1, 3.0), ("train", "nc2", 4, 2, 1.0)]
    rows += [("test", "nc1", 4, 0, 1.0), ("test", "nc1", 4, 1, math.nan), ("test", "nc1", 4, 2, 5.0)]
    found = by_path(quotes.measured(EXPERIMENT, "ls", metrics(rows)))
    assert found["e/ls/train/nc1/last/mean"].value == 2.0
    assert "e/ls/train/nc1/last/seed2" not in found
    assert found["e/ls/test/nc1/last"].text == "–"
    assert found["e/ls/test/nc1/last/seed1"].text == "–"
    assert found["e/ls/test/nc1/last/seed2"].value == 5.0


def test_what_the_table_of_losses_adds():
    row = {"experiment": "e", "loss": "ls", "split": "train", "low": 12.0, "high": 14.0}
    losses = pd.DataFrame(
        [
            row | {"metric": "epochs_to_collapse", "mean": 13.0},
            row | {"metric": "nc1", "mean": 1.0},
            row | {"loss": "ce", "metric": "epochs_to_collapse", "mean": math.inf, "low": math.nan, "high": math.nan},
        ]
    )
    found = by_path(quotes.derived(losses, {"e/ls/train/nc1/last"}))
    assert found["e/ls/train/epochs_to_collapse/last"].text == "13.0 ± 1.0"
    assert found["e/ls/train/epochs_to_collapse/last"].value == 13.0
    assert found["e/ce/train/epochs_to_collapse/last"].text == "never"
    assert found["e/ce/train/epochs_to_collapse/last"].value == math.inf
    assert not any("nc1" in path for path in found)


def claims(*rows):
    columns = ["experiment", "claim", "loss", "baseline", "level", "quantity", "effect", "low", "high", "unit"]
    frame = pd.DataFrame(rows, columns=columns)
    tests = {"scale": "ratio", "reason": "too few seeds", "margin": 1.1, "smallest": 1.25, "p": 0.04, "p_holm": 0.08}
    return frame.assign(null=1.0, seeds=3.0, verdict="supported", **tests)


def test_claims_have_short_paths_where_these_are_unique():
    one = ("e", "C1", "ls", "ce")
    table = claims(
        (*one, "claim", "", 0.24, 0.155, math.inf, "ratio"),
        (*one, "measure", "epochs", 0.24, 0.155, math.inf, "ratio"),
        *(("e", "N1", loss, "", "claim", "", math.nan, math.nan, math.nan, "ratio") for loss in ("ce", "ls")),
        *(("e", "T1", "ts", other, "claim", "", 0.5, math.nan, math.nan, "ratio") for other in ("ce", "ls")),
    )
    found = by_path(quotes.judged(table))
    assert found["e/C1/effect"] == ("e/C1/effect", 0.24, "0.240")
    assert found["e/C1/interval"].text == "[0.155, ∞)"
    assert (found["e/C1/low"].value, found["e/C1/high"].text) == (0.155, "∞")
    assert (found["e/C1/unit"].text, found["e/C1/null"].text, found["e/C1/seeds"].text) == ("ratio", "1", "3")
    assert found["e/C1/verdict"].text == "supported"
    assert found["e/C1/epochs/effect"].value == 0.24
    assert set(path for path in found if "/N1/" in path) == {
        f"e/N1/{loss}/{name}" for loss in ("ce", "ls") for name in ("verdict", "reason")
    }
    assert (found["e/C1/smallest"].text, found["e/C1/reason"].text) == ("a factor of 1.25", "too few seeds")
    assert (found["e/C1/p"].value, found["e/C1/p_holm"].text) == (0.04, "0.080")
    assert {"e/T1/ts/ce/effect", "e/T1/ts/ls/effect"} < set(found)


def test_a_path_of_two_numbers_is_found():
    assert quotes.repeated([quotes.Quote("a", 1.0, "1"), quotes.Quote("b", 1, ""), quotes.Quote("a", 2, "")]) == ["a"]
