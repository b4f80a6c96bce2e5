"""The report's section on regression: it explains the measures, repeats the tables, and stays out of other studies."""

import re

import pandas as pd
import pytest

from nclens.claims import CLAIMS, Comparison, Measurements, claim_rows, claims_table
from nclens.report import report_page
from nclens.report.text import number
from tests.claims.simulate_regression import DECAYS
from tests.figures.simulate_regression import COLOURS, UFM, simulate
from tests.report.test_report import Reader, looks_of, page, simulated_metrics, simulated_study, table_rows

NO_THEORY = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])
EXPERIMENTS = {"grid": (simulate, {}, DECAYS), "ufm": (simulate, {"regularised": True}, UFM)}


def simulated(names=("grid", "ufm"), **changes):
    """The page's inputs for experiments on regression: a grid of weight decays, and runs with the model's penalties."""
    experiments, metrics, predictions, theory, rows = [], [], [], [], []
    for name in names:
        make, options, decays = EXPERIMENTS[name]
        inputs = make(**options)
        looks = {loss: {"label": inputs.labels[loss], "colour": colour} for loss, colour in zip(decays, COLOURS)}  # noqa: B905
        experiment = {"experiment": name, "dataset": "reacher", "model": "mlp", **looks_of(looks), "baseline": None}
        experiment |= {"seeds": [0, 1, 2], "epochs": 400, "figures": [], "task": "regression"}
        experiments.append(experiment | {"weight_decays": decays, "regularised": inputs.regularised})
        metrics.append(inputs.metrics.assign(experiment=name))
        predictions.append(inputs.predictions.assign(experiment=name, smoothing=""))
        theory.append(inputs.regression.assign(experiment=name, dataset="reacher", model="mlp"))
        for loss in decays:
            tables = (Measurements(metrics[-1]), NO_THEORY, None, predictions[-1])
            place = (name, "reacher", "mlp", "", loss, (0, 1, 2), 400)
            comparison = Comparison(*place, *tables, "regression", decays, inputs.regularised)
            rows += [row for claim in CLAIMS.values() if not claim.paired for row in claim_rows(claim, comparison)]
    given = {"study": {"study": "r", "title": "Regression", "command": "make", "experiments": experiments}}
    given |= {"claims": claims_table(rows), "metrics": pd.concat(metrics)}
    theories = [table.assign(relative_error=1e-8) for table in theory if len(table)]
    given |= {"predictions": pd.concat(predictions), "regression": pd.concat(theories or theory)}
    if not theories:
        given["regression"] = None
    return given | changes


def last_mean(metrics, experiment, loss, metric, split="train"):
    rows = metrics[(metrics["experiment"] == experiment) & (metrics["loss"] == loss) & (metrics["epoch"] == 400)]
    return rows[(rows["metric"] == metric) & (rows["split"] == split)]["value"].mean()


def test_the_section_is_well_formed_and_explains_the_measures_first():
    text = report_page(**simulated())
    reader = Reader(text)
    sections = [attributes["id"] for attributes in reader.all("section")]
    assert sections.index("regression") == sections.index("verdicts") + 1
    words = reader.text
    assert words.index("What is measured") < words.index("Results: reacher") < words.index("Theory of the collapse")
    for name in ("NRC1", "NRC2", "NRC3"):
        assert name in words[words.index("What is measured") : words.index("Results: reacher")]
    assert len(reader.all("math")) > 20


def test_results_are_the_tables_last_snapshot_with_its_verdicts():
    given = simulated()
    rows = table_rows(report_page(**given), "regression")
    assert rows[0] == [
        *("Loss", "NRC1 train", "NRC2 train", "NRC3 train", "EVR train"),
        *("MSE train", "MSE test", "R² test"),
    ]
    row = next(row for row in rows if row[0].startswith("wd_5e-3"))
    assert row[0] == "wd_5e-3weight decay 0.005"
    for place, metric, split in ((1, "nrc1", "train"), (5, "mse", "train"), (7, "r2", "test")):
        mean, half = re.match(r"([\d.]+)(?:± ([\d.]+(?:×\S+)?))?", row[place]).groups()
        # To the same decimal place, but for an interval of nearly nothing; the simulated R² has none.
        assert (half is None) == (metric == "r2")
        assert half is None or len(mean) == len(half) or "×" in half
        exact = last_mean(given["metrics"], "grid", "wd_5e-3", metric, split)
        assert float(mean) == pytest.approx(exact, abs=0.51 * 10.0 ** -len(mean.split(".")[1]))
    claims = given["claims"].query("level == 'claim' and loss == 'wd_5e-3'").set_index("claim")
    for place, claim in ((1, "R1"), (2, "R2"), (3, "R3")):
        assert row[place].endswith(claims.loc[claim, "verdict"])
    assert "supported" not in row[4]
    assert "mean over 3 seeds ± half its 95% interval" in Reader(report_page(**given)).text


def test_the_closed_form_is_compared_with_the_networks():
    given = simulated()
    rows = {row[0]: row for row in table_rows(report_page(**given), "regression") if row[0].startswith("W W′, row")}
    assert list(rows) == [f"W W′, row {i}, column {j}" for i, j in ((1, 1), (1, 2), (2, 2))]
    closed = given["regression"].set_index("quantity")["closed_form"]
    own = given["predictions"].query("quantity == 'gram_01'")["measured"].mean()
    assert rows["W W′, row 1, column 2"][1] == number(closed["gram_01"], 5)
    mean = rows["W W′, row 1, column 2"][4].split("±")[0].replace("−", "-")
    assert float(mean) == pytest.approx(own, abs=0.51 * 10.0 ** -len(mean.split(".")[1]))
    words = Reader(report_page(**given)).text
    assert "The verdict on R4 here: supported. The verdict on R5 here: supported." in words


@pytest.mark.parametrize(("variance", "said"), [(0.01, False), (0.007, True)])
def test_a_direction_that_is_not_fitted_is_reported(variance, said):
    given = simulated(("ufm",))
    row = given["regression"].iloc[[0]].assign(quantity="residual_variance", closed_form=variance, numeric=variance)
    given["regression"] = pd.concat([given["regression"], row])
    assert ("exceeds an eigenvalue" in Reader(report_page(**given)).text) == said


def test_without_the_models_penalties_the_page_says_that_its_scale_is_not_known():
    words = Reader(report_page(**simulated(("grid",)))).text
    assert "its scale is not known" in words
    assert "its scale is not known" not in Reader(report_page(**simulated())).text


def test_runs_have_the_columns_of_their_task():
    given = simulated(("grid",))
    rows = table_rows(report_page(**given), "runs")
    assert rows[0][2:8] == ["R² test", "MSE test", "MSE train", "NRC1 train", "NRC2 train", "NRC3 train"]
    assert len(rows) == 1 + 9


def test_a_study_of_both_tasks_has_a_table_of_runs_for_each():
    study, given = simulated_study(), simulated(("grid",))
    study["experiments"] += given["study"]["experiments"]
    text = page(study=study, metrics=pd.concat([simulated_metrics().astype({"loss": str}), given["metrics"]]))
    heads = [row for row in table_rows(text, "runs") if row[0] == "Loss"]
    assert [head[2] for head in heads] == ["Accuracy test", "R² test"]
    assert "Runs, classification" in text
    # The theory of classification says nothing of regression.
    theory = text[text.index('<section id="theory"') : text.index('<section id="provenance"')]
    assert "reacher" not in theory


def test_other_studies_have_no_such_section():
    text = page()
    assert 'id="regression"' not in text
    assert "NRC1" not in text


def test_provenance_names_targets_and_expert():
    published = {"mean_return": -4.53, "std_return": 1.79, "source": "Sample Factory"}
    manifest = {"task": "regression", "source": "Reacher", "targets": ["joint0", "joint1"], "train": 1000}
    manifest["expert"] = {"mean_return": -3.6724, "std_return": 1.7112, "rollouts": 30, "published": [published]}
    manifest["simulator"] = {"gymnasium": "1.4.0", "mujoco": "3.17.0"}
    words = Reader(report_page(**simulated(("grid",)), datasets={"reacher": manifest})).text
    provenance = words[words.index("Data: reacher") :]
    assert "targets joint0, joint1" in provenance
    assert "mean return −3.67 ± 1.71 (standard deviation) over 30 rollouts" in provenance
    assert "published: mean return −4.53 ± 1.79 (Sample Factory)" in provenance
    assert "gymnasium 1.4.0, mujoco 3.17.0" in provenance


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2, 3]])
def test_seeds_that_are_missing_are_not_made_up(seeds):
    given = simulated(("grid",))
    given["study"]["experiments"][0]["seeds"] = seeds
    rows = [row for row in table_rows(report_page(**given), "regression") if row[0].startswith("wd_")]
    assert all(("±" in row[1]) == (len(seeds) > 1) for row in rows)
    assert f"mean over {min(len(seeds), 3)} seed" in Reader(report_page(**given)).text


def test_seeds_that_differ_are_reported_for_each_loss():
    given = simulated(("grid",))
    metrics = given["metrics"]
    given["metrics"] = metrics[(metrics["loss"] != "wd_0") | (metrics["seed"] != 1)]
    heads = [row[0] for row in table_rows(report_page(**given), "regression") if row[0].startswith("wd_")]
    assert [head.endswith("2 seeds") for head in heads] == [True, False, False]
    assert all(head.endswith("seeds") for head in heads)
