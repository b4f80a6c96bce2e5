from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures.ufm_dynamics import DISTANCES, factors, ufm_dynamics
from tests.figures.simulate import dynamics_table


def notes_of(figure):
    return figure.get_supxlabel().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def keys_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_iterations_are_geometric_means_over_starts(simulate):
    figure, table = ufm_dynamics(simulate())
    raw = dynamics_table()
    own = table[table["quantity"] == "iterations"]
    assert own.groupby("row")["tolerance"].unique().map(list).to_dict() == {1: [0.1], 2: [1e-6]}
    assert len(own) == 2 * 4 * 2 * 2 * 4  # tolerances, distances, momenta, step rules, smoothings
    for row in own.sample(20, random_state=0).itertuples():
        values = raw.query(
            "quantity == 'iterations' and distance == @row.distance and tolerance == @row.tolerance and "
            "momentum == @row.momentum and step_rule == @row.step_rule and smoothing == @row.smoothing"
        )["value"].astype(float)
        assert row.starts == len(values) == 2
        assert row.mean == pytest.approx(np.exp(np.log(values).mean()), rel=1e-12)
    # The first panel has a line a momentum and step rule, and they are the table's.
    first = own[(own["row"] == 1) & (own["distance"] == "orbit")]
    for line, (_, expected) in zip(figure.axes[0].lines, first.groupby(["momentum", "step_rule"]), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected["mean"])


def test_e_folds_are_one_over_the_rate_of_plain_gradient_descent(simulate):
    _, table = ufm_dynamics(simulate())
    raw = dynamics_table()
    own = table[table["row"] > 2]
    assert set(own["momentum"]) == {0.0}
    assert own.groupby("row")["step_rule"].unique().map(list).to_dict() == {3: ["relative"], 4: ["absolute"]}
    plain = raw[(raw["momentum"] == 0) & (raw["step_rule"] == "relative") & (raw["smoothing"] == 0.05)]
    predicted = plain.loc[plain["quantity"] == "rate_kappa_joint", "value"].iloc[0]
    measured = plain[(plain["quantity"] == "rate") & (plain["distance"] == "orbit")]["value"].astype(float)
    here = own[(own["row"] == 3) & (own["smoothing"] == 0.05)].set_index(["distance", "quantity"])["mean"]
    assert here["orbit", "rate_kappa_joint"] == pytest.approx(1 / predicted, rel=1e-12)
    assert here["orbit", "rate"] == pytest.approx(1 / np.exp(np.log(measured).mean()), rel=1e-12)
    # NC1 goes with the square of the error: half the iterations.
    assert here["nc1", "rate_kappa_joint"] == pytest.approx(0.5 / predicted, rel=1e-12)


def test_the_reading_that_explains_is_named_above_the_panel_and_so_is_the_claimed_one(simulate):
    figure, table = ufm_dynamics(simulate())
    title = figure.axes[8].get_title(loc="left")
    assert title.startswith(r"nearest: $\kappa_\mathrm{joint}$, off ×1.0")
    assert r"claimed: $\kappa_\mathrm{CE}$, off ×" in title
    off = factors(table[(table["row"] == 3) & (table["distance"] == "orbit")])
    assert off["rate_kappa_joint"] < 1.05
    assert off["rate_kappa_ce"] > 2


def test_factors_by_hand():
    rows = [("rate", 0.0, 10.0), ("rate", 0.5, 40.0), ("rate_kappa_a", 0.0, 20.0), ("rate_kappa_a", 0.5, 5.0)]
    rows += [("rate_kappa_b", 0.0, 10.0), ("rate_kappa_b", 0.5, np.nan), ("rate_linear", 0.0, 1.0)]
    table = pd.DataFrame(rows, columns=["quantity", "smoothing", "mean"])
    # Off by 2 and by 8: the geometric mean is 4. Where nothing is predicted nothing is off.
    assert factors(table) == pytest.approx({"rate_kappa_a": 4.0, "rate_kappa_b": 1.0})


def test_readings_that_agree_everywhere_are_one_line(simulate):
    figure, _ = ufm_dynamics(simulate())
    assert any(
        r"$\kappa_\mathrm{full}$ = $\kappa_\mathrm{full,H}$: whole objective, W or H" in k for k in keys_of(figure)
    )
    raw = dynamics_table()
    changed = raw.assign(value=raw["value"].mask(raw["quantity"] == "rate_kappa_full_features", raw["value"] * 1.1))
    figure, _ = ufm_dynamics(replace(simulate(), dynamics=changed))
    assert r"$\kappa_\mathrm{full,H}$: whole objective, H" in keys_of(figure)


def test_a_reading_that_is_new_is_drawn_under_its_own_name(simulate):
    raw = dynamics_table()
    new = raw[raw["quantity"] == "rate_kappa_joint"].assign(quantity="rate_kappa_new", value=0.5)
    figure, table = ufm_dynamics(replace(simulate(), dynamics=pd.concat([raw, new])))
    assert "kappa new" in keys_of(figure)
    assert (table["quantity"] == "rate_kappa_new").sum() == 2 * 4 * 4


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
    triangles = [c for c in figure.axes[7].collections if len(c.get_offsets()) and c.get_offsets()[0][1] == 0.96]
    assert [list(c.get_offsets()[0]) for c in triangles] == [[0.5, 0.96]] * 2
    assert "Triangles: some start did not reach it, no mean (runs: nc2 1e-06: 2)" in notes_of(figure)


def test_nothing_reached_and_no_rate_at_all(simulate):
    raw = dynamics_table((0.0, 0.05), iterations=5)
    late = raw[~((raw["quantity"] == "iterations") & (raw["tolerance"] > 0.01))]
    figure, table = ufm_dynamics(replace(simulate(), dynamics=late))
    assert [axes.texts[0].get_text() for axes in figure.axes[4:8]] == ["not reached"] * 4
    assert "Not drawn, for some start has no finite rate (runs: orbit rate: 8" in notes_of(figure)
    assert table.loc[table["quantity"] == "rate", "mean"].isna().all()


def test_diverged_runs_are_counted(simulate):
    raw = dynamics_table()
    value = raw["value"].astype(float).mask((raw["quantity"] == "diverged") & (raw["start"] == 0), 1.0)
    figure, _ = ufm_dynamics(replace(simulate(), dynamics=raw.assign(value=value)))
    assert "16 runs diverged" in notes_of(figure)
    assert "diverged" not in notes_of(ufm_dynamics(simulate())[0])


def test_one_smoothing_one_start_and_no_momentum(simulate):
    raw = dynamics_table()
    few = raw[(raw["smoothing"] == 0.05) & (raw["start"] == 0) & (raw["momentum"] == 0)]
    figure, table = ufm_dynamics(replace(simulate(), dynamics=few))
    assert table["low"].isna().all()
    assert "no intervals (they take two starts)" in notes_of(figure)
    assert "Momentum" not in notes_of(figure)
    assert set(table["distance"]) == set(DISTANCES)


def test_momentum_without_a_lower_row_is_given_in_words(simulate):
    # Every reading predicts -log(sqrt(0.9)) = 0.0527 where momentum is all that limits.
    assert "Momentum 0.9 has no lower row: the condition numbers predict rates of 0.0527 a step" in notes_of(
        ufm_dynamics(simulate())[0]
    )


def test_without_dynamics_the_figure_says_so(simulate):
    inputs = simulate()
    figure, table = ufm_dynamics(replace(inputs, dynamics=inputs.dynamics[:0]))
    assert {axes.texts[0].get_text() for axes in figure.axes} == {"no values"}
    assert "No dynamics" in notes_of(figure)
    assert table.empty


def test_the_model_with_the_experiments_classes_is_drawn_and_the_others_are_counted(simulate):
    inputs = simulate()
    larger = inputs.dynamics.assign(classes=10)
    both = pd.concat([larger, inputs.dynamics])
    figure, _ = ufm_dynamics(replace(inputs, dynamics=both, theory=inputs.theory.assign(classes=4)))
    assert "K = 4, n = 2, d = 5" in notes_of(figure)
    assert "Not drawn: 1 other model of the table" in notes_of(figure)
    figure, _ = ufm_dynamics(replace(inputs, dynamics=both, theory=inputs.theory.assign(classes=100)))
    assert "K = 10, n = 2, d = 5" in notes_of(figure)


def test_a_table_read_from_a_file_draws_the_same(simulate, tmp_path):
    inputs = simulate()
    inputs.dynamics.to_csv(tmp_path / "dynamics.csv", index=False)
    read = pd.read_csv(tmp_path / "dynamics.csv")  # an empty distance comes back as nan
    pd.testing.assert_frame_equal(
        ufm_dynamics(inputs).table, ufm_dynamics(replace(inputs, dynamics=read)).table, check_dtype=False
    )
