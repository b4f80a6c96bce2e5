from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclens.figures.distillation import LOOKS
from nclens.figures.inputs import FigureInputs
from nclens.figures.style import encode
from nclens.metrics.intervals import t_interval
from nclens.workflow.build.figures import draw_figure
from tests.figures.artists import lines_of, notes_of

ALONE = {"ce": 0.0, "ls_0.1": 0.1, "ls_0.3": 0.3}
SEEDS = (0, 1, 2)


def teacher(loss, smoothing, temperature, weight=1.0, experiment="large"):
    label = "CE" if loss == "ce" else f"LS (δ = {smoothing})"
    keys = {"experiment": experiment, "loss": loss, "label": label, "smoothing": smoothing}
    return keys | {"temperature": temperature, "weight": weight}


TEACHERS = {f"of_ce_{temperature}": teacher("ce", 0.0, float(temperature)) for temperature in (1, 2, 4, 8)}
TEACHERS |= {f"of_ls_{smoothing}": teacher(f"ls_{smoothing}", smoothing, 1.0) for smoothing in (0.1, 0.3)}


def students(teachers=TEACHERS, seeds=SEEDS, change=lambda table: table):
    """Students that learn most from cross entropy at T = 4, of teachers that smoothing makes more accurate."""
    random = np.random.default_rng(0)
    rows = []
    for seed in seeds:
        for loss, smoothing in ALONE.items():
            rows.append((loss, seed, "test", 10, "error", 0.09 - 0.03 * smoothing + 0.003 * random.random()))
        for loss, of in teachers.items():
            alpha = of["smoothing"] or 0.0
            error = 0.08 - 0.02 * (of["temperature"] == 4) + 0.04 * alpha + 0.003 * random.random()
            rows.append((loss, seed, "test", 10, "error", error))
            rows.append((loss, seed, "test", 10, "teacher_error", 0.04 - 0.02 * alpha + 0.001 * seed))
    columns = ["loss", "seed", "split", "epoch", "metric", "value"]
    losses = [*ALONE, *teachers]
    return FigureInputs(
        experiment="students",
        metrics=change(pd.DataFrame(rows, columns=columns)),
        theory=pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric"]),
        losses=losses,
        labels={loss: f"label of {loss}" for loss in losses},
        colours=dict.fromkeys(losses, "#0072B2"),
        baseline="ce",
        last_features=lambda loss, seed: {},
        smoothings=ALONE,
        teachers=teachers,
    )


def draw(inputs):
    return draw_figure("distillation", inputs)


def values(table, panel, series):
    own = table[(table["panel"] == panel) & (table["series"] == series)]
    return dict(zip(own["x"], own["loss"], strict=True))


def test_students_stand_at_their_teachers_smoothing_and_temperature():
    _, table = draw(students())
    assert values(table, "smoothing", "student") == {0.0: "of_ce_1", 0.1: "of_ls_0.1", 0.3: "of_ls_0.3"}
    assert values(table, "smoothing", "teacher") == {0.0: "of_ce_1", 0.1: "of_ls_0.1", 0.3: "of_ls_0.3"}
    assert values(table, "smoothing", "alone") == {smoothing: loss for loss, smoothing in ALONE.items()}
    at = {float(temperature): f"of_ce_{temperature}" for temperature in (1, 2, 4, 8)}
    assert values(table, "temperature", "student") == values(table, "temperature", "teacher") == at


def test_a_point_is_the_mean_and_a_bar_its_interval_which_takes_four_seeds():
    inputs = students(seeds=range(5))
    figure, table = draw(inputs)
    for row in table[table["series"].isin(["student", "alone"])].itertuples():
        own = inputs.metrics.query("loss == @row.loss and metric == 'error'")["value"]
        assert (row.mean, row.low, row.high) == pytest.approx(t_interval(own))
        assert (row.seeds, row.left_out) == (5, 0)
    left = table[(table["panel"] == "smoothing") & (table["series"] == "alone")]
    (line,) = (line for line in lines_of(figure.axes[0], LOOKS["alone"][1], True) if line.get_linestyle() == "-")
    np.testing.assert_allclose(line.get_ydata(), left["mean"], rtol=1e-12)
    bars = [part for part in figure.axes[0].collections if to_hex(part.get_colors()[0]) == LOOKS["alone"][1].lower()]
    ends = np.array([segment[:, 1] for segment in bars[0].get_segments()])
    np.testing.assert_allclose(ends, left[["low", "high"]], rtol=1e-12)
    assert "Point: mean over seeds, bar: its 95% t-interval" in notes_of(figure)


def test_of_three_seeds_each_is_a_small_point():
    inputs = students()
    figure, table = draw(inputs)
    assert table["low"].isna().all()
    points = table[(table["panel"] == "smoothing") & (table["series"] == "alone") & table["seed"].notna()]
    errors = inputs.metrics.query("loss in @ALONE and metric == 'error'").set_index(["loss", "seed"])["value"]
    assert points.set_index(["loss", "seed"])["mean"].to_dict() == errors.to_dict()
    drawn = [line for line in lines_of(figure.axes[0], LOOKS["alone"][1], True) if line.get_linestyle() == "None"]
    np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in drawn]), points["mean"])
    assert "small points: each seed" in notes_of(figure)


def test_levels_are_the_network_alone_with_cross_entropy_and_with_its_best_smoothing():
    figure, table = draw(students())
    levels = table[table["x"].isna()].set_index("series")
    assert levels["loss"].to_dict() == {"CE": "ce", "LS": "ls_0.3"}
    drawn = {line.get_ydata()[0] for line in figure.axes[1].lines if len(set(line.get_ydata())) == 1}
    assert set(levels["mean"]) <= drawn


def test_both_panels_share_the_error_and_the_temperatures_are_named():
    left, right = draw(students())[0].axes
    assert left.get_ylim() == right.get_ylim()
    assert [text.get_text() for text in right.get_xticklabels()] == ["1", "2", "4", "8"]
    assert right.get_xscale() == "log"


def test_teachers_that_neither_panel_can_place_are_named():
    more = TEACHERS | {"of_maxsup": teacher("maxsup", None, 1.0)}
    figure, table = draw(students(more))
    assert "of_maxsup" not in set(table["loss"])
    assert "Not in either panel: label of of_maxsup." in notes_of(figure)
    assert "Not in either panel" not in notes_of(draw(students())[0])


def test_weights_and_experiments_have_lines_of_their_own():
    more = TEACHERS | {f"half_{name}": {**of, "weight": 0.5} for name, of in TEACHERS.items()}
    more |= {f"wide_{name}": {**of, "experiment": "wide"} for name, of in TEACHERS.items()}
    figure, table = draw(students(more))
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"student of CE, b = 0.5, teachers of large", "teacher, CE of large", "teacher, CE of wide"} <= legend
    labels = set(table.loc[(table["panel"] == "smoothing") & (table["series"] == "student"), "label"])
    assert labels == {
        "student, T = 1, teachers of large",
        "student, T = 1, b = 0.5, teachers of large",
        "student, T = 1, teachers of wide",
    }


@pytest.mark.parametrize("kind", ["ce", "ls"])
def test_a_panel_without_students_says_so(kind):
    figure, table = draw(students({name: of for name, of in TEACHERS.items() if of["loss"].startswith(kind)}))
    empty = 0 if kind == "ce" else 1
    assert "no student of" in figure.axes[empty].texts[0].get_text()
    assert not figure.axes[1 - empty].texts
    assert set(table["panel"]) == {("temperature", "smoothing")[empty]}


def test_missing_values_are_counted_and_named():
    def spoiled(table):
        bad = (table["loss"] == "of_ce_2") & (table["metric"] == "error") & (table["seed"] == 1)
        return table.assign(value=table["value"].where(~bad, np.nan))

    figure, table = draw(students(change=spoiled))
    row = table[(table["loss"] == "of_ce_2") & (table["series"] == "student")].iloc[0]
    assert (row["seeds"], row["left_out"]) == (2, 1)
    assert "label of of_ce_2: 1 nan, of 3 values" in notes_of(figure)
    figure, table = draw(replace(students(), metrics=students().metrics[:0]))
    assert "no values" in notes_of(figure)


@pytest.mark.lengthy
def test_the_same_inputs_make_the_same_bytes_also_of_one_seed():
    for seeds in (SEEDS, (4,)):
        first, second = (encode(draw(students(seeds=seeds)).figure, "png") for _ in range(2))
        assert first == second
