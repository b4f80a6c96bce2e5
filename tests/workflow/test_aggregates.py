"""Means and intervals over seeds are those of claims, tables and figures, and of the same seeds at every point."""

import math

import pandas as pd
import pytest

from nclens.metrics.intervals import t_interval
from nclens.workflow import aggregates


def table(values, epoch=1, split="train", metric="nc1"):
    """Rows of a metric at an epoch, one a seed."""
    content = {"seed": range(len(values)), "split": split, "epoch": epoch, "metric": metric, "value": values}
    return pd.DataFrame(content).astype({"split": "category", "metric": "category"})


@pytest.mark.parametrize("values", [[0.3, 0.1, 0.7], [1.0, 2.0], [1e-9, 3.0, 5.0, 4.0], [0.1, 0.1, 0.1]])
def test_mean_and_ends_are_those_of_the_t_interval(values):
    (found,) = aggregates.over_seeds(table(values)).to_dict("records")
    assert (found["split"], found["metric"], found["epoch"]) == ("train", "nc1", 1)
    assert [found[key] for key in ("mean", "low", "high")] == pytest.approx(t_interval(values), rel=1e-12)


def test_the_interval_of_equal_values_is_a_point():
    (found,) = aggregates.over_seeds(table([0.1, 0.1, 0.1])).to_dict("records")
    assert found["mean"] == found["low"] == found["high"] == 0.1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_point_that_a_seed_lacks_is_left_out(value):
    rows = pd.concat([table([1.0, 2.0]), table([1.0, value], epoch=2), table([1.0], epoch=3)])
    assert list(aggregates.over_seeds(rows)["epoch"]) == [1]


def test_a_seed_without_any_finite_value_leaves_nothing():
    assert aggregates.over_seeds(table([1.0, 2.0, math.nan])).empty
    assert aggregates.over_seeds(table([math.nan, math.nan])).empty


def test_every_mean_is_a_curve_and_the_intervals_of_a_few_metrics():
    rows = pd.concat([table([1.0, 3.0]), table([1.0, 3.0], metric="cdnv"), table([2.0, 2.0], epoch=5, split="test")])
    mean, low, high = t_interval([1.0, 3.0])
    found = {(key, epoch): value for key, epoch, value in aggregates.curves(aggregates.over_seeds(rows))}
    assert found == {
        ("train/nc1", 1): mean,
        ("train_low/nc1", 1): pytest.approx(low),
        ("train_high/nc1", 1): pytest.approx(high),
        ("train/cdnv", 1): mean,
        **{(f"{split}/nc1", 5): 2.0 for split in ("test", "test_low", "test_high")},
    }
