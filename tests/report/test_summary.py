"""The table over all losses: means, intervals, and a best one only where the seeds leave no doubt."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.report.summary import COLUMNS, side_by_side, summarise
from tests.claims.runs import decay, runs

LOSSES, SEEDS, EPOCHS = ["ce", "ls", "maxsup"], [0, 1, 2], 100


def constant(values, metric="error", split="test", epochs=(1, EPOCHS)):
    """Rows of one metric: loss -> a value a seed, the same at every epoch."""
    return pd.concat(
        [
            runs(lambda _, seed, of=of_loss: of[seed], loss, metric, split, seeds=range(len(of_loss)), epochs=epochs)
            for loss, of_loss in values.items()
        ]
    )


def summary(*tables, baseline="ce", losses=LOSSES, seeds=SEEDS):
    return summarise(pd.concat(tables, ignore_index=True), losses, seeds, EPOCHS, baseline)


def best(table):
    return list(table.loc[table["best"], "loss"])


def test_mean_and_interval_are_those_over_seeds():
    table = summary(constant({"ce": [1.0, 2.0, 3.0], "ls": [5.0, 5.0, 5.0]}), losses=["ce", "ls"])
    assert tuple(table.columns) == COLUMNS
    first, second = table.to_dict("records")
    assert [first[key] for key in ("mean", "low", "high", "seeds")] == pytest.approx(
        [2.0, -0.4841, 4.4841, 3], abs=1e-4
    )
    assert [second[key] for key in ("mean", "low", "high")] == [5.0, 5.0, 5.0]


def test_the_best_is_named_where_paired_differences_leave_no_doubt():
    noise = [0.0, 0.3, 0.6]  # far larger than the difference, and the same for all losses of a seed
    clear = {"ce": [0.30 + x for x in noise], "ls": [0.20 + x for x in noise], "maxsup": [0.25 + x for x in noise]}
    assert best(summary(constant(clear))) == ["ls"]
    doubtful = clear | {"maxsup": [0.19, 0.55, 0.75]}
    assert best(summary(constant(doubtful))) == []


def test_higher_is_better_for_probes_and_neither_for_spread():
    values = {"ce": [0.1, 0.1, 0.1], "ls": [0.2, 0.2, 0.2], "maxsup": [0.3, 0.3, 0.3]}
    probe = summary(constant(values, "probe_accuracy/digits"))
    assert (best(probe), set(probe["quantity"])) == (["maxsup"], {"probe accuracy/digits"})
    assert best(summary(constant(values, "d_within"))) == []


def test_the_studys_own_metrics_follow_with_their_labels_directions_and_splits():
    values = {"ce": [0.1, 0.1, 0.1], "ls": [0.2, 0.2, 0.2], "maxsup": [0.3, 0.3, 0.3]}
    names = ("error", "feature_norm", "feature_mine", "feature_more_mine", "rank")
    tables = [constant(values, name, split) for name in names for split in ("train", "test")]
    own = [
        {"name": "feature", "label": "", "better": "", "splits": ("train",)},
        {"name": "feature_more", "label": "More", "better": "lower", "splits": ("test",)},
        {"name": "rank", "label": "Rank", "better": "higher", "splits": ("train", "test")},
    ]
    table = summarise(pd.concat(tables, ignore_index=True), LOSSES, SEEDS, EPOCHS, "ce", own)
    rows = table[table["loss"] == "maxsup"].drop(columns="loss").set_index("metric")[["quantity", "split", "better"]]
    assert [(name, *row) for name, *row in rows.itertuples()] == [
        ("error", "error", "test", "lower"),
        ("feature_mine", "feature, mine", "train", ""),
        ("feature_more_mine", "More, mine", "test", "lower"),
        ("rank", "Rank", "train", "higher"),
        ("rank", "Rank", "test", "higher"),
    ]
    assert list(table.loc[(table["metric"] == "rank") & table["best"], "loss"]) == ["maxsup", "maxsup"]


def test_two_seeds_never_name_a_best():
    assert best(summary(constant({"ce": [1.0, 1.0], "ls": [2.0, 2.0]}), losses=["ce", "ls"], seeds=[0, 1])) == []


@settings(deadline=None, max_examples=30)
@given(st.permutations(LOSSES), st.lists(st.integers(0, 4), min_size=9, max_size=9))
def test_at_most_one_is_best_and_it_is_the_best_mean_whatever_the_order(order, numbers):
    values = {loss: [float(x) for x in numbers[3 * i : 3 * i + 3]] for i, loss in enumerate(LOSSES)}
    table = summary(constant(values, epochs=(EPOCHS,)), losses=list(order))
    assert list(table["loss"]) == list(order)
    assert best(table) == best(summary(constant(values, epochs=(EPOCHS,))))
    assert len(best(table)) <= 1
    if best(table):
        assert np.mean(values[best(table)[0]]) == min(np.mean(of_loss) for of_loss in values.values())


def test_epochs_to_collapse_are_counted_against_the_baselines_run_of_the_same_seed():
    tables = [
        runs(lambda epoch, seed, rate=rate: decay(rate * (1 + 0.1 * seed))(epoch, seed), loss)
        for loss, rate in (("ce", 0.02), ("ls", 0.04), ("maxsup", 0.01))
    ]
    table = summary(*tables).query("metric == 'epochs_to_collapse'").set_index("loss")
    assert table.loc["ce", "mean"] == pytest.approx(EPOCHS)
    assert table.loc["ls", "mean"] == pytest.approx(EPOCHS / 2)
    assert table.loc["maxsup", "mean"] == math.inf
    assert math.isnan(table.loc["maxsup", "high"])
    assert best(table.reset_index()) == ["ls"]
    assert "epochs_to_collapse" not in set(summary(*tables, baseline=None)["metric"])
    once = [table[table["epoch"] == EPOCHS] for table in tables]  # as networks that were trained elsewhere
    assert "epochs_to_collapse" not in set(summary(*once)["metric"])


def test_missing_runs_and_values_that_are_not_numbers_are_seen():
    values = {"ce": [0.3, 0.3, 0.3], "ls": [0.1, math.nan, 0.1]}
    table = summary(constant(values)).set_index("loss")
    assert math.isnan(table.loc["ls", "mean"])
    assert (table.loc["maxsup", "seeds"], table["best"].any()) == (0, False)


def test_an_experiment_without_these_metrics_has_no_rows():
    assert summary(constant({"ce": [1.0, 1.0, 1.0]}, "nrc1")).empty


def taught(*names):
    """Two experiments: losses, and students, whose errors `collect` has put among the metrics of their teachers."""
    losses = {"experiment": "main", "losses": LOSSES, "seeds": SEEDS, "epochs": EPOCHS, "baseline": "ce"}
    students = {"experiment": "students", "losses": ["of_ce"], "seeds": SEEDS, "epochs": 10, "baseline": None}
    metrics = pd.concat(
        [
            constant({loss: [0.5, 0.5, 0.5] for loss in LOSSES}).assign(experiment="main"),
            constant({"of_ce": [0.1, 0.1, 0.1]}, epochs=(1, 10)).assign(experiment="students"),
            *(
                constant({"ce": [0.1 * (1 + place)] * 3, "ls": [0.2 * (1 + place)] * 3}, name).assign(experiment="main")
                for place, name in enumerate(names)
            ),
        ],
        ignore_index=True,
    ).astype({"experiment": "category", "loss": "category", "metric": "category"})
    return side_by_side([losses, students], metrics)


def test_the_error_of_students_is_in_the_row_of_the_loss_of_their_teacher():
    table = taught("student_error").query("experiment == 'main' and metric == 'student_error'").set_index("loss")
    assert table["mean"].to_dict() == pytest.approx({"ce": 0.1, "ls": 0.2, "maxsup": math.nan}, nan_ok=True)
    assert table["seeds"].to_dict() == {"ce": 3, "ls": 3, "maxsup": 0}
    assert table["best"].to_dict() == {"ce": True, "ls": False, "maxsup": False}
    assert set(table["quantity"]) == {"student's error"}


def test_students_of_several_temperatures_have_columns_of_their_own():
    table = taught("student_error/T1", "student_error/T4").query("experiment == 'main'")
    columns = list(dict.fromkeys(table["quantity"]))
    assert columns == ["error", "student's error/T = 1", "student's error/T = 4"]
    found = table.set_index(["loss", "quantity"])["mean"]
    assert found["ls", "student's error/T = 4"] == pytest.approx(0.4)


def test_without_students_there_is_no_such_column():
    assert set(taught("student_error").query("experiment == 'students'")["quantity"]) == {"error"}
