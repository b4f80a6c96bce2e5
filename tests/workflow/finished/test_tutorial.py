"""The tutorial notebook: without outputs, and each cell runs on a finished study."""

import ast
import json
import shutil
from pathlib import Path

import matplotlib as mpl
import pytest

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return json.loads(TUTORIAL.read_text(encoding="utf-8"))


def run(cell, names):
    """Run a cell and return the value of its last line, if that is an expression."""
    *body, last = ast.parse("".join(cell["source"])).body
    shown = isinstance(last, ast.Expr)
    exec(compile(ast.Module([*body, *([] if shown else [last])], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if shown else None


def test_the_notebook_has_no_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    for cell in notebook["cells"]:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        )
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_every_cell_runs(notebook, digits, tmp_path, monkeypatch):
    shutil.copytree(digits, tmp_path / "results" / "digits")
    shutil.copy(digits.parents[1] / "parts.py", tmp_path)
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    mpl.use("agg")
    names = {}
    shown = [run(cell, names) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(value is not None for value in shown)
    last = (
        names["study"]
        .metrics.query("loss == 'ce' and seed == 0 and epoch == 4")
        .set_index(["split", "metric"])["value"]
    )
    assert names["error"] == pytest.approx(last["test", "error"])
    assert names["values"]["nc1"] == pytest.approx(last["train", "nc1"])
    mpl.pyplot.close("all")
