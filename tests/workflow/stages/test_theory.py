import csv
import json

import pytest

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.classification_tables import QUANTITIES
from nclens.ufm.dynamics import DISTANCES, TOLERANCES
from nclens.ufm.spectra import condition_numbers
from nclens.workflow import specs, tables
from nclens.workflow.stages import theory as stage
from nclens.workflow.stages.theory import theory, write_tables


def loss(name, smoothing, **changes):
    keys = {"experiment": "e", "dataset": "d", "model": "m", "loss": name, "smoothing": smoothing}
    sizes = {"classes": 4, "per_class": 20, "dim": 6}
    return keys | sizes | {"lambda_w": 1e-3, "lambda_h_total": 8e-3, "lambda_b": 1e-2} | changes


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_is_tidy_and_the_numbers_agree(tmp_path):
    write_tables([loss("ce", 0.0), loss("ls", 0.05)], tmp_path / "theory" / "ufm.csv")
    rows = read(tmp_path / "theory" / "ufm.csv")
    assert list(rows[0]) == list(tables.THEORY.columns)
    assert [path.name for path in (tmp_path / "theory").iterdir()] == ["ufm.csv"]
    names = [row["quantity"] for row in rows if row["loss"] == "ls"]
    assert names[:6] == list(QUANTITIES)
    assert {"kappa_ce", "kappa_full"} <= set(names)
    assert len(rows) == 2 * len(names)
    for row in rows:
        error = abs(float(row["numeric"]) - float(row["closed_form"])) / abs(float(row["closed_form"]))
        assert float(row["relative_error"]) == pytest.approx(error)
        assert error < 1e-6
        assert float(row["lambda_h"]) == pytest.approx(1e-4)


def test_a_problem_of_many_experiments_is_solved_once(tmp_path, monkeypatch):
    solved = []
    monkeypatch.setattr(stage, "theory_rows", lambda problem: solved.append(problem) or [{"quantity": "s"}])
    losses = [loss("ce", 0.0), loss("ls", 0.05), loss("other", 0.05), loss("wide", 0.05, dim=7)]
    write_tables([{**item, "experiment": name} for name in "ab" for item in losses], tmp_path / "ufm.csv")
    assert [(problem.smoothing, problem.dim) for problem in solved] == [(0.0, 6), (0.05, 6), (0.05, 7)]
    names = [(row["experiment"], row["loss"]) for row in read(tmp_path / "ufm.csv")]
    assert names == [(name, item["loss"]) for name in "ab" for item in losses]


def test_a_regression_of_many_experiments_is_solved_once(tmp_path, monkeypatch):
    solved = []
    monkeypatch.setattr(stage, "regression_rows", lambda problem: solved.append(problem) or [{"quantity": "mse"}])
    (tmp_path / "data").mkdir()
    manifest = {"target_mean": [0.0], "target_covariance": [[1.0]]}
    (tmp_path / "data" / "d.json").write_text(json.dumps(manifest), encoding="utf-8")
    penalties = [(1e-3, 1e-2), (1e-3, 1e-2), (2e-3, 1e-2)]
    experiments = [
        specs.TheoryRegression(name, "d", "m", 4, ("ufm",), *pair) for name, pair in zip("abc", penalties, strict=True)
    ]
    stage.write_regressions(experiments, tmp_path, tmp_path / "regression.csv")
    assert [problem.lambda_w for problem in solved] == [1e-3, 2e-3]
    assert [row["experiment"] for row in read(tmp_path / "regression.csv")] == ["a", "b", "c"]


def test_what_is_not_defined_stays_empty(tmp_path):
    losses = [loss("narrow", 0.0, dim=2), loss("zero", 0.9, lambda_w=0.1, lambda_h_total=8.0)]
    write_tables(losses, tmp_path / "ufm.csv")
    table = {(row["loss"], row["quantity"]): row for row in read(tmp_path / "ufm.csv")}
    assert table["narrow", "logit_gap"]["closed_form"] == table["narrow", "logit_gap"]["relative_error"] == ""
    assert float(table["narrow", "logit_gap"]["numeric"]) > 0
    assert ("narrow", "kappa_ce") not in table
    assert table["zero", "kappa_ce"]["closed_form"] == table["zero", "kappa_ce"]["numeric"] == ""
    assert table["zero", "logit_gap"]["closed_form"] == "0.0"
    assert table["zero", "logit_gap"]["relative_error"] == ""
    assert float(table["zero", "objective"]["relative_error"]) < 1e-12


def test_counts_come_from_the_manifest_and_n_lambda_h_is_held(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "d.json").write_text(json.dumps({"train": 83, "classes": list("abcd")}), encoding="utf-8")
    experiment = specs.TheoryExperiment("e", "d", "m", dim=6, losses=("ce",), smoothings={"ce": 0.0})
    penalties = specs.Penalties(lambda_w=1e-3, lambda_h_total=0.05, lambda_b=1e-2)
    theory(specs.Theory(penalties, (experiment,), ()), tmp_path, tmp_path / "ufm.csv")
    row = read(tmp_path / "ufm.csv")[0]
    assert (row["classes"], row["per_class"]) == ("4", "20")
    assert float(row["lambda_h"]) * 80 == pytest.approx(0.05)
    expected = UnconstrainedFeatureModel(4, 20, 6, 1e-3, 0.05 / 80, 1e-2)
    assert float(row["closed_form"]) == pytest.approx(expected.logit_gap)


def test_dynamics_table(tmp_path, monkeypatch):
    monkeypatch.setattr("nclens.ufm.classification_tables.SMOOTHINGS", (0.0,))
    monkeypatch.setattr("nclens.ufm.classification_tables.PER_CLASS", 2)
    losses = [loss("ce", 0.0), loss("ls", 0.1)]
    losses = [item | {"classes": 3, "lambda_w": 1e-2, "lambda_h_total": 0.06} for item in losses]
    write_tables(losses, tmp_path / "ufm.csv", tmp_path / "dynamics.csv")
    rows = read(tmp_path / "dynamics.csv")
    assert list(rows[0]) == list(tables.DYNAMICS.columns)
    assert {row["smoothing"] for row in rows} == {"0.0", "0.1"}
    assert {row["classes"] for row in rows} == {"3"}
    assert float(rows[0]["lambda_h"]) * 3 * 2 == pytest.approx(0.06)
    runs = 2 * 2 * 2 * 5  # smoothings, momenta, step rules, starts
    problem = UnconstrainedFeatureModel(3, 2, 9, 1e-2, 1e-2, 1e-2)
    assert len(rows) == runs * (len(DISTANCES) * (len(TOLERANCES) + 2) + 1 + len(condition_numbers(problem)))
