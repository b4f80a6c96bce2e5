import pandas as pd
import pytest

from nclens.figures import findings
from nclens.figures.catalogue import FIGURES
from nclens.workflow.build.figures import draw_figure

CLASSIFICATION = [stem for stem, entry in FIGURES.items() if entry.task == "classification"]


def test_values_are_named_from_the_lowest(simulate):
    inputs = simulate(losses=("ce", "ls", "ls_0.1", "ls_0.2"))
    values = pd.Series({"ce": 0.12345, "ls": 0.01})
    assert findings.compared(inputs, values) == "LS (δ = 0.05) 0.01, CE 0.123"
    values = pd.Series({"ce": 4.0, "ls": 3.0, "ls_0.1": 2.0, "ls_0.2": 1.0})
    assert findings.compared(inputs, values) == "from LS (δ = 0.2) 1 to CE 4"
    assert findings.compared(inputs, pd.Series({"ce": float("nan")})) == ""


@pytest.mark.parametrize("stem", ["collapse_curves", "norms"])
def test_the_numbers_are_those_of_the_table(simulate, stem):
    figure, table = draw_figure(stem, simulate())
    last = table[table["epoch"] == table["epoch"].max()]
    last = last[last["seed"].isna()] if "seed" in last else last
    for row in last.itertuples():
        assert f"{simulate().labels[row.loss]} {row.mean:.3g}" in figure.finding


@pytest.mark.lengthy
@pytest.mark.parametrize("stem", CLASSIFICATION)
def test_figures_say_what_they_show(simulate, stem):
    figure, table = draw_figure(stem, simulate())
    assert table.empty or figure.finding.endswith(".")
