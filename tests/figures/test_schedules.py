import math
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from nclens.figures.style import encode
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import notes_of

LOSSES = ("ce", "ls", "maxsup")
STUDENTS = ("student_error/T1", "student_error/T4")
PROBES = ("probe_accuracy/digits8", "probe_accuracy/textures")
MEASURED = (*STUDENTS, *PROBES, "ece_adaptive", "ece")
SEEDS = (0, 1, 2, 3, 4)
TRANSFER = tuple(
    {"kind": "transfer", "suffix": f"/{name}", "dataset": name, "held_out": 0.2} for name in ("digits8", "textures")
)


def value(metric, loss, seed):
    return 0.1 + 0.1 * MEASURED.index(metric) + 0.02 * LOSSES.index(loss) + 0.001 * seed


@pytest.fixture
def inputs(simulate):
    def also(table):
        last = table["epoch"].max()
        rows = [
            (loss, seed, "test", last, metric, value(metric, loss, seed))
            for loss in LOSSES
            for seed in SEEDS
            for metric in MEASURED
        ]
        more = pd.DataFrame(rows, columns=["loss", "seed", "split", "epoch", "metric", "value"])
        return pd.concat([table[table["metric"] != "probe_accuracy"], more], ignore_index=True)

    return replace(simulate(losses=LOSSES, seeds=SEEDS, change=also), probes=TRANSFER)


def without(inputs, *metrics):
    return replace(inputs, metrics=inputs.metrics[~inputs.metrics["metric"].isin(metrics)])


def panels(figure):
    return [axes.get_xlabel().replace("\n", " ").partition("%)")[0] for axes in figure.axes]


@pytest.mark.lengthy
def test_the_same_inputs_make_the_same_figure(inputs):
    first, second = draw_figure("schedule_profile", inputs), draw_figure("schedule_profile", inputs)
    assert encode(first.figure, "pdf") == encode(second.figure, "pdf")


def test_four_axes_and_collapse_are_side_by_side(inputs):
    figure, table = draw_figure("schedule_profile", inputs)
    assert panels(figure) == ["test error (", "ECE (", "student's error (", "linear probe (", "NC1 training set"]
    assert "Not measured" not in notes_of(figure)
    assert "digits8, textures" in notes_of(figure)
    means = table[table["seed"].isna()].set_index(["metric", "loss"])
    for loss in LOSSES:
        for metric in STUDENTS:
            assert means.loc[(metric, loss), "mean"] == pytest.approx(value(metric, loss, 2))
        expected = (value(PROBES[0], loss, 2) + value(PROBES[1], loss, 2)) / 2
        own = means.loc[("mean_probe_accuracy", loss)]
        half = 2.776445 * 0.001 * math.sqrt(2.5 / 5)
        found = (own["mean"], own["low"], own["high"], own["seeds"])
        assert found == pytest.approx((expected, expected - half, expected + half, 5))
    assert set(means.index.get_level_values("metric")) == {
        *("error", "ece", "ece_adaptive", "mean_probe_accuracy", "nc1"),
        *STUDENTS,
    }


def test_labels_of_panels_stand_clear_of_each_other_and_temperatures_are_in_their_order(inputs):
    table = inputs.metrics
    more = [table[table["metric"] == STUDENTS[1]].assign(metric=f"student_error/T{t}") for t in (16, 2)]
    figure, drawn = draw_figure("schedule_profile", replace(inputs, metrics=pd.concat([table, *more])))
    students = [name for name in dict.fromkeys(drawn["metric"]) if name.startswith("student_error")]
    assert students == [f"student_error/T{t}" for t in (1, 2, 4, 16)]
    assert "T = 1, T = 2, T = 4, T = 16 from above" in notes_of(figure)
    encode(figure, "svg")  # lays the page out
    ends = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(ends))


def test_a_run_that_lacks_a_probe_has_no_mean(inputs):
    table = inputs.metrics
    gone = (table["metric"] == PROBES[1]) & (table["loss"] == "ls") & (table["seed"] == 3)
    figure, drawn = draw_figure("schedule_profile", replace(inputs, metrics=table[~gone]))
    means = drawn[drawn["seed"].isna() & (drawn["metric"] == "mean_probe_accuracy")].set_index("loss")
    assert means["seeds"].to_dict() == {"ce": 5, "ls": 4, "maxsup": 5}
    assert "mean_probe_accuracy (test), LS" in notes_of(figure)


@pytest.mark.parametrize(
    ("metrics", "gone", "said"),
    [
        (STUDENTS, "student's error (", "Not measured: a student's error, for no network teaches another"),
        (PROBES, "linear probe (", "Not measured: transfer, for there is no probe of it"),
    ],
)
def test_an_axis_that_was_not_measured_is_left_out_and_named(inputs, metrics, gone, said):
    figure, _ = draw_figure("schedule_profile", without(inputs, *metrics))
    assert gone not in panels(figure)
    assert len(figure.axes) == 4
    assert said in notes_of(figure)


def test_without_students_and_probes_three_panels_are_left(inputs):
    figure, _ = draw_figure("schedule_profile", without(inputs, *STUDENTS, *PROBES))
    assert panels(figure) == ["test error (", "ECE (", "NC1 training set"]
    assert "no network teaches another; transfer" in notes_of(figure)
