from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nclens.figures import style
from nclens.figures.ufm_dynamics import DISTANCES, VERDICTS, ufm_dynamics
from nclens.figures.unconstrained_feature_model import DEFINITIONS
from nclens.ufm.explanations import explanations, relative_iterations
from tests.figures.artists import bars_of, notes_of, points_of
from tests.figures.simulate import dynamics_table


@pytest.fixture(scope="module")
def drawn(simulate):
    """The figure of the simulated experiment, which no test changes, and its table."""
    return ufm_dynamics(simulate())


def keys_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_lines_are_geometric_means_of_ratios_to_the_smallest_smoothing(drawn):
    figure, table = drawn
    raw = dynamics_table()
    own = table[table["row"] < 3]
    assert own.groupby("row")["step_rule"].unique().map(list).to_dict() == {1: ["relative"], 2: ["absolute"]}
    iterations = own[own["quantity"] == "iterations"]
    assert set(iterations["tolerance"]) == {1e-6}
    assert len(iterations) == 2 * 4 * 2 * 4  # step rules, distances, momenta, smoothings
    for row in iterations.sample(20, random_state=0).itertuples():
        chosen = raw.query(
            "quantity == 'iterations' and distance == @row.distance and tolerance == 1e-6 and "
            "momentum == @row.momentum and step_rule == @row.step_rule"
        )
        counts = chosen.pivot_table(values="value", index="start", columns="smoothing", aggfunc="first").astype(float)
        assert row.starts == len(counts) == 2
        assert row.mean == pytest.approx(np.exp(np.log(counts[row.smoothing] / counts[0.0]).mean()), rel=1e-12)
    assert set(own.loc[own["smoothing"] == 0, "mean"].round(12)) == {1.0}
    # The claimed definition's line in the first panel is the table's.
    first = own[(own["row"] == 1) & (own["distance"] == "orbit")]
    claimed = next(line for line in figure.axes[0].lines if line.get_color() == DEFINITIONS["kappa_ce"].colour)
    np.testing.assert_allclose(claimed.get_ydata(), first.loc[first["quantity"] == "rate_kappa_ce", "mean"])


def test_lines_and_discs_are_those_of_the_rates_of_plain_gradient_descent(drawn):
    _, table = drawn
    raw = dynamics_table()
    own = table[table["quantity"].str.startswith("rate") & (table["row"] < 3)]
    assert set(own["momentum"]) == {0.0}
    plain = raw[(raw["momentum"] == 0) & (raw["step_rule"] == "relative") & (raw["start"] == 0)]
    rates = plain[plain["quantity"].str.startswith("rate")].set_index(["quantity", "distance", "smoothing"])["value"]
    here = own[(own["row"] == 1) & (own["smoothing"] == 0.05)].set_index(["distance", "quantity"])["mean"]
    predicted = rates["rate_kappa_joint", "", 0.0] / rates["rate_kappa_joint", "", 0.05]
    for distance in DISTANCES:  # NC1 goes with the square of the error: no matter in a ratio
        assert here[distance, "rate_kappa_joint"] == pytest.approx(predicted, rel=1e-12)
    found = rates["rate", "orbit", 0.0] / rates["rate", "orbit", 0.05]
    assert here["orbit", "rate"] == pytest.approx(found, rel=1e-2)  # of one of the two starts


def test_discs_and_bars_are_those_of_the_table(drawn):
    figure, table = drawn
    first = table[(table["row"] == 1) & (table["distance"] == "nc1")]
    for quantity, marker, colour in (("rate", "o", style.INK), ("iterations", "D", style.FAINT)):
        own = first[(first["quantity"] == quantity) & ((first["momentum"] == 0) == (quantity == "rate"))]
        np.testing.assert_allclose(
            points_of(figure.axes[2], colour, marker), own[["smoothing", "mean"]].to_numpy(float), rtol=1e-11
        )
        bars = bars_of(figure.axes[2], colour).reshape(-1, 4)
        expected = own[["smoothing", "low", "smoothing", "high"]].to_numpy(float)
        for row in expected[1:]:  # at the smallest smoothing all are 1
            assert np.isclose(bars, row, rtol=1e-11).all(axis=1).any()


def test_cells_judge_every_definition(drawn):
    figure, table = drawn
    judged = explanations(relative_iterations(dynamics_table())).set_index(["step_rule", "distance", "predictor"])
    cells = table[table["row"] == 3]
    assert len(cells) == len(judged) == 2 * 4 * 8
    for cell in cells.itertuples():
        expected = judged.loc[(cell.step_rule, cell.distance, cell.quantity.removeprefix("rate_"))]
        assert (cell.factor, cell.verdict) == (expected["factor"], expected["verdict"])
    orbit = figure.axes[8]
    names = [text.get_text() for text in orbit.get_yticklabels()]
    assert names[0] == r"$\kappa_{\mathrm{CE}}$"
    joint = next(place for place, name in enumerate(names) if name.startswith(r"$\kappa_{\mathrm{joint}}$"))
    # Seaborn puts the number into the middle of its cell.
    shown = {(int(x), int(y)): text for text in orbit.texts for x, y in [text.get_position()]}
    assert shown[0, joint].get_text() == f"×{judged.loc[('relative', 'orbit', 'kappa_joint'), 'factor']:.2f}"
    assert shown[0, joint].get_fontweight() == "bold"
    assert shown[0, 0].get_fontweight() == "normal"
    colours = [to_hex(colour) for colour in orbit.collections[0].get_facecolors()]
    assert len(colours) == 2 * len(names)
    assert set(colours) <= {colour for colour, _ in VERDICTS.values()}
    assert len(keys_of(figure)) <= 8
    assert "dark cells: within 10% at every δ, pale ones: the direction only" in notes_of(figure)


def test_readings_that_agree_everywhere_are_one_line(drawn, simulate):
    figure, _ = drawn
    assert any(
        r"$\kappa_{\mathrm{full}}$ = $\kappa_{\mathrm{full},H}$: whole objective, W or H" in k for k in keys_of(figure)
    )
    raw = dynamics_table()
    some = (raw["quantity"] == "rate_kappa_full_features") & (raw["smoothing"] == 0.2)
    changed = raw.assign(value=raw["value"].mask(some, raw["value"] * 1.1))
    figure, _ = ufm_dynamics(replace(simulate(), dynamics=changed))
    assert r"$\kappa_{\mathrm{full},H}$: whole objective, H" in keys_of(figure)


def test_a_reading_that_is_new_is_drawn_under_its_own_name(simulate):
    raw = dynamics_table()
    new = raw[raw["quantity"] == "rate_kappa_joint"].assign(quantity="rate_kappa_new", value=0.5)
    figure, table = ufm_dynamics(replace(simulate(), dynamics=pd.concat([raw, new])))
    assert "kappa new" in keys_of(figure)
    assert ((table["quantity"] == "rate_kappa_new") & (table["row"] < 3)).sum() == 2 * 4 * 4


def test_what_was_not_reached_is_a_triangle_and_counted(simulate):
    raw = dynamics_table()
    gone = (raw["quantity"] == "iterations") & (raw["distance"] == "nc2") & (raw["tolerance"] == 1e-6)
    gone &= (raw["smoothing"] == 0.5) & (raw["start"] == 1) & (raw["momentum"] == 0)
    value = raw["value"].astype(float).mask(gone)
    figure, table = ufm_dynamics(replace(simulate(), dynamics=raw.assign(value=value)))
    own = table[(table["quantity"] == "iterations") & (table["not_reached"] > 0)]
    assert len(own) == 2  # both step rules
    assert own["mean"].isna().all()
    assert (own["starts"] == 2).all()
    for panel in (3, 7):
        marks = [line for line in figure.axes[panel].lines if line.get_marker() == "^" and not line.is_dashed()]
        triangles = [line.get_xydata() for line in marks if len(line.get_xydata()) and line.get_ydata()[0] == 0.96]
        assert [place.tolist() for place in triangles] == [[[0.5, 0.96]]]
    assert "some start did not arrive, here or at the smallest δ (ratios: nc2 iterations: 2)" in notes_of(figure)


def test_nothing_reached_and_no_rate_at_all(simulate):
    raw = dynamics_table((0.0, 0.05), iterations=5)
    kappas = raw["quantity"].str.startswith("rate_")
    late = raw[~kappas & ~((raw["quantity"] == "iterations") & (raw["tolerance"] > 0.01))]
    figure, table = ufm_dynamics(replace(simulate(), dynamics=late))
    assert [axes.texts[0].get_text() for axes in figure.axes[:8]] == ["not reached"] * 8
    assert "Not drawn, as some start has no finite rate, here or at the smallest δ (ratios: orbit rate" in notes_of(
        figure
    )
    assert table["mean"].isna().all()
    assert [axes.texts[0].get_text() for axes in figure.axes[8:]] == ["no values"] * 4


def test_diverged_runs_are_counted(drawn, simulate):
    raw = dynamics_table()
    value = raw["value"].astype(float).mask((raw["quantity"] == "diverged") & (raw["start"] == 0), 1.0)
    figure, _ = ufm_dynamics(replace(simulate(), dynamics=raw.assign(value=value)))
    assert "16 runs diverged" in notes_of(figure)
    assert "diverged" not in notes_of(drawn[0])


def test_one_smoothing_one_start_and_no_momentum(simulate):
    raw = dynamics_table()
    few = raw[(raw["smoothing"] == 0.05) & (raw["start"] == 0) & (raw["momentum"] == 0)]
    figure, table = ufm_dynamics(replace(simulate(), dynamics=few))
    assert table["low"].isna().all()
    assert "no intervals (they take two starts)" in notes_of(figure)
    assert "Momentum" not in notes_of(figure)
    assert set(table["distance"]) == set(DISTANCES)


def test_rates_with_momentum_are_given_in_words(drawn):
    # Every definition predicts -log(sqrt(0.9)) = 0.0527 where momentum is all that limits.
    assert "Momentum 0.9: the condition numbers predict rates of 0.0527 a step near" in notes_of(drawn[0])


def test_without_dynamics_the_figure_says_so(simulate):
    inputs = simulate()
    figure, table = ufm_dynamics(replace(inputs, dynamics=inputs.dynamics[:0]))
    assert {axes.texts[0].get_text() for axes in figure.axes} == {"no values"}
    assert "No dynamics" in notes_of(figure)
    assert table.empty


@pytest.mark.lengthy
def test_the_model_with_the_experiments_classes_is_drawn_and_the_others_are_counted(simulate):
    inputs = simulate()
    larger = inputs.dynamics.assign(classes=10)
    both = pd.concat([larger, inputs.dynamics])
    figure, _ = ufm_dynamics(replace(inputs, dynamics=both, theory=inputs.theory.assign(classes=4)))
    assert "K = 4, n = 2, d = 5" in notes_of(figure)
    assert "Not drawn: 1 other model of the table" in notes_of(figure)
    figure, _ = ufm_dynamics(replace(inputs, dynamics=both, theory=inputs.theory.assign(classes=100)))
    assert "K = 10, n = 2, d = 5" in notes_of(figure)


@pytest.mark.lengthy
def test_a_table_read_from_a_file_draws_the_same(simulate, tmp_path):
    inputs = simulate()
    inputs.dynamics.to_csv(tmp_path / "dynamics.csv", index=False)
    read = pd.read_csv(tmp_path / "dynamics.csv")  # an empty distance comes back as nan
    pd.testing.assert_frame_equal(
        ufm_dynamics(inputs).table, ufm_dynamics(replace(inputs, dynamics=read)).table, check_dtype=False
    )
