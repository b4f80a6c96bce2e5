import math
import re

import pandas as pd
import pytest

from nclens.claims import CLAIMS
from nclens.report import CLAIM_COLUMNS
from nclens.report.text import number
from nclens.workflow import specs
from nclens.workflow import tables as tables_of_workflow
from nclens.workflow.files import FileError, read_json
from nclens.workflow.provenance import git_revision, versions
from nclens.workflow.stages.judge import judge
from tests.claims.simulate import simulate_metrics, simulate_theory
from tests.claims.simulate_regression import DECAYS, simulate_regression

CE, LS = {"kind": "ce", "strength": None}, {"kind": "ls", "strength": 0.05}
BOTH = {"losses": {"ce": CE, "ls": LS}}
MAIN = {"name": "main", "dataset": "mnist5k", "model": "resnet8", "baseline": "ce", "seeds": [0, 1, 2], "epochs": 60}
MAIN |= {"losses": {"ce": CE, "ls": LS, "ls_0.1": LS | {"strength": 0.1}}}
MAIN |= {
    "task": "classification",
    "weight_decays": dict.fromkeys(("ce", "ls", "ls_0.1", "null"), 5e-4),
    "regularised": False,
}


@pytest.fixture(scope="module")
def tables():
    metrics = simulate_metrics(losses=("ce", "ls", "ls_0.1"))
    return metrics, simulate_theory(smoothing={"ce": 0.0, "ls": 0.05, "ls_0.1": 0.1})


@pytest.fixture
def inputs(tmp_path, tables):
    tables[0].to_parquet(tmp_path / "metrics.parquet", index=False)
    tables[1].to_csv(tmp_path / "ufm.csv", index=False)
    return tmp_path


def spec_of(experiments, claims=(), comparisons=()):
    """The specification of experiments as they are written above."""
    made = []
    for item in experiments:
        losses, facts = item["losses"], {"experiment": item["name"], "seeds": tuple(item["seeds"])}
        facts |= {f"{key}s": {loss: known[key] for loss, known in losses.items()} for key in ("kind", "strength")}
        rest = {key: item[key] for key in item if key not in ("name", "losses", "seeds")}
        made.append(specs.JudgeExperiment(**facts, **rest, losses=tuple(losses)))
    return specs.Judge(tuple(made), tuple(claims), tuple(comparisons))


def run(folder, *experiments, claims=(), comparisons=(), **more):
    paths = [folder / name for name in ("metrics.parquet", "ufm.csv", "claims.csv", "claims.md")]
    judge(spec_of(experiments, claims, comparisons), *paths, **more)
    return pd.read_csv(folder / "claims.csv"), (folder / "claims.md").read_text(encoding="utf-8")


def table_below(page, heading):
    """The cells of the first table after a heading."""
    lines = page[page.index(heading) :].splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| Claim |"))
    end = next(place for place in range(start, len(lines)) if not lines[place].startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]


def test_table_has_the_columns_and_rows_that_the_report_wants(inputs):
    table, _ = run(inputs, MAIN)
    assert tuple(table.columns) == CLAIM_COLUMNS
    heads = table[table["level"] == "claim"]
    claims = ("C1", "C2", "C3", "C4", "C5", "C6", "W1", "W2", "S1", "S2", "G5")
    assert list(zip(heads["loss"], heads["claim"], strict=True)) == [
        (loss, claim) for loss in ("ls", "ls_0.1") for claim in claims
    ]
    assert heads["quantity"].isna().all()
    assert (heads["seeds"].isna() == heads["claim"].isin(["C5", "C6"])).all()
    simulated = heads[~heads["claim"].isin(["S1", "S2"])]  # whose metrics the table lacks
    assert (simulated["seeds"].dropna() == 3).all()
    measures = table[(table["level"] == "measure") & (table["loss"] == "ls")]
    expected = {"C1": 4, "C2": 5, "C3": 1, "C4": 5, "C5": 1, "C6": 2, "W1": 2, "W2": 3, "G5": 2}
    expected |= {"S1": 4, "S2": 5}
    assert measures.groupby("claim").size().to_dict() == expected
    assert set(table["verdict"]) <= {"supported", "contradicted", "inconclusive"}


def test_effects_are_those_of_the_tables(inputs, tables):
    table, _ = run(inputs, MAIN)
    last = tables[0][(tables[0]["epoch"] == 60) & (tables[0]["split"] == "train") & (tables[0]["metric"] == "nc1")]
    values = last.pivot_table("value", "seed", "loss", observed=True)
    expected = math.exp(sum(math.log(a / b) for a, b in zip(values["ls_0.1"], values["ce"], strict=True)) / 3)
    row = table[(table["claim"] == "C2") & (table["level"] == "claim") & (table["loss"] == "ls_0.1")]
    assert row["effect"].item() == pytest.approx(expected)


def test_page_says_plainly_what_was_contradicted(inputs):
    _, page = run(inputs, MAIN)
    sentence = next(line for line in page.splitlines() if line.startswith("**C4"))
    assert sentence.startswith("**C4 is contradicted** on mnist5k with resnet8, ls against ce: ")
    assert "improves calibration" in sentence
    assert (
        page.index("**C4 is contradicted**")
        < page.index("**C6 is inconclusive (measures disagree)**")
        < page.index("| Claim |")
    )
    assert "**C1 is" not in page


def test_page_repeats_the_table_and_the_rule(inputs):
    table, page = run(inputs, MAIN)
    cells = table_below(page, "# Verdicts")
    heads = table[table["level"] == "claim"]
    assert [(row[0], row[3], row[7]) for row in cells] == [
        (row.claim, f"{row.loss} against ce", row.verdict + (f": {row.reason}" if row.reason else ""))
        for row in heads.fillna({"reason": ""}).itertuples()
    ]
    main = heads.iloc[0]
    assert cells[0][4] == f"{number(main['effect'])} [{number(main['low'])}, {number(main['high'])}]"
    assert cells[0][5:7] == ["ratio of epochs; below 1: faster", "3"]
    assert [row[1] for row in table_below(page, "## Measures")] == [
        CLAIMS[row.claim].label(row.quantity) for row in table[table["level"] == "measure"].itertuples()
    ]
    assert "> **Measure.** A measure is supported when its whole interval" in page
    assert "> **C1.** Ratio of the epochs" in page
    judged = set(heads["claim"])
    assert {name for name in CLAIMS if f"> **{name}.** " in page} == judged != set(CLAIMS)


def test_losses_are_called_by_their_labels(inputs):
    labels = {"ce": "CE", "ls": "LS (δ = 0.05)", "ls_0.1": "LS (δ = 0.1)"}
    table, page = run(inputs, MAIN | {"labels": labels})
    assert "**C4 is contradicted** on mnist5k with resnet8, LS (δ = 0.05) against CE: " in page
    assert {row[3] for row in table_below(page, "## Measures")} == {f"{labels[x]} against CE" for x in ("ls", "ls_0.1")}
    (note,) = table.query("quantity == 'epochs_to_final_nc1' and loss == 'ls'")["note"]
    assert note.startswith("mean epoch")
    assert "for LS (δ = 0.05), " in note
    assert note.split("; ")[0].endswith("for CE")
    assert "ls" not in re.findall(r"\w+", " ".join(table["note"].dropna()))
    assert set(table["loss"]) == {"ls", "ls_0.1"}


def test_verdict_of_calibration_follows_the_numbers(inputs, tables):
    metrics = tables[0].copy()
    metrics.loc[metrics["metric"].str.startswith("ece") & (metrics["loss"] == "ce"), "value"] += 0.3
    metrics.to_parquet(inputs / "metrics.parquet", index=False)
    _, page = run(inputs, MAIN | BOTH)
    assert "C4 is" not in page
    assert [row[7] for row in table_below(page, "# Verdicts") if row[0] == "C4"] == ["supported"]


def test_open_interval_is_written_as_one(inputs, tables):
    metrics = tables[0].copy()
    metrics.loc[(metrics["metric"] == "nc1") & (metrics["loss"] == "ls"), "value"] *= 50
    metrics.to_parquet(inputs / "metrics.parquet", index=False)
    table, page = run(inputs, MAIN | BOTH)
    assert table["high"].iloc[0] == math.inf
    assert [row[4] for row in table_below(page, "# Verdicts") if row[0] == "C1"] == ["1.00 [1.00, ∞)"]
    assert "**C1 is contradicted**" in page


def test_two_seeds_are_inconclusive(inputs):
    table, _ = run(inputs, MAIN | {"seeds": [0, 1]})
    heads = table[(table["level"] == "claim") & table["claim"].isin(["C1", "C2", "C3", "C4"])]
    assert set(heads["verdict"]) == {"inconclusive"}
    assert heads["effect"].notna().all()
    assert heads["low"].isna().all()


@pytest.mark.parametrize("changes", [{"losses": {}}, {"baseline": None}, {"losses": {"ce": CE}}])
def test_experiment_without_a_comparison_is_named_and_not_judged(inputs, changes):
    table, page = run(inputs, MAIN | changes)
    assert table.empty
    assert tuple(table.columns) == CLAIM_COLUMNS
    assert "Experiment main has no two losses that a claim compares." in page
    assert "| Claim |" not in page


def test_baseline_among_the_compared_losses_is_passed_over(inputs):
    table, _ = run(inputs, MAIN | {"baseline": "ls"})
    assert set(table["loss"]) == {"ce", "ls_0.1"}
    assert set(table["baseline"]) == {"ls"}
    assert set(table.loc[table["loss"] == "ce", "claim"]) == {"G1", "G2", "G3", "G4", "G5"}


def test_experiments_do_not_mix(inputs, tables):
    alone, _ = run(inputs, MAIN)
    other = simulate_metrics("other", seeds=(0, 1, 2, 3), epochs=30, dataset="cifar10", model="resnet18")
    both = pd.concat([tables[0], other], ignore_index=True)
    both.to_parquet(inputs / "metrics.parquet", index=False)
    second = MAIN | {"name": "other", "dataset": "cifar10", "model": "resnet18"} | BOTH
    second |= {"seeds": [0, 1, 2, 3], "epochs": 30}
    together, page = run(inputs, MAIN, second)
    # But that Holm's correction is over the claims of both.
    own = together[together["experiment"] == "main"]
    pd.testing.assert_frame_equal(own.drop(columns="p_holm"), alone.drop(columns="p_holm"))
    assert (own["p_holm"].dropna() >= alone["p_holm"].dropna()).all()
    rest = together[together["experiment"] == "other"]
    assert set(rest["dataset"]) == {"cifar10"}
    heads = rest[rest["level"] == "claim"].set_index("claim")
    assert heads.loc["C2", "seeds"] == 4
    # The theory table has no rows of it.
    assert heads.loc["C5", "verdict"] == "inconclusive"
    assert "cifar10 with resnet18" in page


@pytest.mark.parametrize(("few", "judged_in"), [([0, 1], "main"), ([0, 1, 2], "parts"), ([0, 1, 3], "both")])
def test_what_two_experiments_share_is_judged_in_the_one_with_more_seeds(inputs, few, judged_in):
    parts = MAIN | {"name": "parts", "seeds": few}
    table, _ = run(inputs, parts, MAIN | BOTH)
    heads = table[table["level"] == "claim"]
    shared = heads[heads["loss"] != "ls_0.1"]
    assert set(shared["experiment"]) == ({"main", "parts"} if judged_in == "both" else {judged_in})
    assert set(heads.loc[heads["loss"] == "ls_0.1", "experiment"]) == {"parts"}


def write_dynamics(path):
    """Descents on the model of simulate_theory: label smoothing takes twice the iterations."""
    keys = {"classes": 10, "per_class": 10, "dim": 16, "lambda_w": 1e-3, "lambda_h": 0.05 / 100, "lambda_b": 1e-2}
    keys |= {"momentum": 0.0, "step": 1.0, "fraction": 0.25, "quantity": "iterations", "tolerance": 1e-6}
    rows = [
        keys | {"smoothing": smoothing, "step_rule": rule, "start": start, "distance": distance, "value": value + start}
        for smoothing, value in ((0.0, 1000), (0.05, 2000), (0.1, None))
        for rule in ("relative", "absolute")
        for start in range(3)
        for distance in ("orbit", "logits", "nc1", "nc2")
        if value
    ]
    table = pd.DataFrame(rows)
    table["value"] = table["value"].where(table["distance"] != "nc1")  # not reached
    table.to_csv(path, index=False)
    return path


def write_predictions(path, losses, experiment="main"):
    """Predictions of the gap that are 5% too low."""
    keys = {"experiment": experiment, "dataset": "mnist5k", "model": "resnet8", "smoothing": 0.0}
    keys |= {"penalties": "explicit", "lambda_b": ""}
    rows = [
        keys | {"loss": loss, "seed": seed, "quantity": "logit_gap", "measured": 1.05, "predicted": 1.0}
        for loss in losses
        for seed in range(3)
    ]
    columns = [*keys, "loss", "seed", "quantity", "measured", "predicted"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def test_speed_of_descents_joins_the_condition_numbers(inputs):
    table, page = run(inputs, MAIN, dynamics=write_dynamics(inputs / "dynamics.csv"))
    speeds = table[table["quantity"].fillna("").str.startswith("iterations")]
    assert set(speeds["claim"]) == {"C6"}
    found = speeds[speeds["loss"] == "ls"].set_index("quantity")
    assert found.loc["iterations_orbit_same_step", "effect"] == pytest.approx(2, rel=1e-2)
    assert found.loc["iterations_nc1_same_step", "verdict"] == "inconclusive"
    # No descents were run at the other loss's smoothing.
    assert set(speeds.loc[speeds["loss"] == "ls_0.1", "verdict"]) == {"inconclusive"}
    assert "**C6 is contradicted** on mnist5k with resnet8, ls against ce" in page


def test_predictions_are_judged_for_each_loss_without_a_baseline(inputs):
    predictions = write_predictions(inputs / "predictions.csv", ["ce", "null"])
    table, page = run(inputs, MAIN | {"losses": {"ce": CE, "ls": LS, "null": CE}}, predictions=predictions)
    heads = table[table["level"] == "claim"]
    compared = ["C1", "C2", "C3", "C4", "C5", "C6", "W1", "W2", "S1", "S2", "G5", "G1", "G2", "G3", "G4", "G5"]
    assert list(heads["claim"]) == [*compared, "C7", "C7"]
    own = pd.read_csv(inputs / "claims.csv", keep_default_na=False).query("claim == 'C7' and level == 'claim'")
    assert own[["loss", "baseline"]].to_numpy().tolist() == [["ce", ""], ["null", ""]]
    assert heads.loc[heads["claim"] == "C7", "effect"].to_list() == pytest.approx([0.05, 0.05])
    assert [row[3] for row in table_below(page, "# Verdicts") if row[0] == "C7"] == ["ce", "null"]


def test_predictions_are_judged_where_nothing_is_compared(inputs):
    predictions = write_predictions(inputs / "predictions.csv", ["ce"])
    table, page = run(inputs, MAIN | {"baseline": None}, predictions=predictions)
    assert set(table["claim"]) == {"C7"}
    assert "no two losses that a claim compares." in page


@pytest.mark.parametrize("others", [[], ["ce"]])
def test_experiment_without_predictions_does_not_list_their_claim(inputs, others):
    predictions = write_predictions(inputs / "predictions.csv", others, "elsewhere")
    table, _ = run(inputs, MAIN, predictions=predictions)
    pd.testing.assert_frame_equal(table, run(inputs, MAIN)[0])
    assert "C7" not in set(table["claim"])


@pytest.mark.parametrize(("name", "rule"), [("dynamics", "theory"), ("predictions", "predict")])
def test_further_tables_are_checked_as_well(inputs, name, rule):
    with pytest.raises(FileError, match=f"{name}.csv is missing: the rule `{rule}`"):
        run(inputs, MAIN, **{name: inputs / f"{name}.csv"})
    (inputs / f"{name}.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileError, match=f"{name}.csv is damaged.*`{rule}`"):
        run(inputs, MAIN, **{name: inputs / f"{name}.csv"})


def test_regression_is_judged_loss_by_loss(inputs, tables):
    other = simulate_regression()
    pd.concat([tables[0], other], ignore_index=True).to_parquet(inputs / "metrics.parquet", index=False)
    second = {"name": "reacher", "dataset": "reacher", "model": "mlp", "baseline": None, "task": "regression"}
    second |= {"seeds": [0, 1, 2], "epochs": 400, "regularised": False}
    second |= {
        "losses": {loss: {"kind": "squared_error", "strength": None} for loss in DECAYS},
        "weight_decays": DECAYS,
    }
    table, page = run(inputs, MAIN, second)
    own = table[(table["experiment"] == "reacher") & (table["level"] == "claim")]
    assert [tuple(row) for row in own[["loss", "claim"]].to_numpy()] == [
        (loss, claim) for loss in DECAYS for claim in ("R1", "R2", "R3")
    ]
    assert own["baseline"].isna().all()
    assert not table.loc[table["experiment"] == "main", "claim"].str.startswith("R").any()
    assert "no two losses that a claim compares" not in page
    measures = table[(table["loss"] == "wd_5e-3") & (table["claim"] == "R1") & (table["level"] == "measure")]
    assert list(measures["quantity"]) == ["nrc1_end_over_highest", "nrc1_end_over_no_decay"]


def test_experiment_without_measurements_is_inconclusive(inputs):
    table, page = run(inputs, MAIN | BOTH | {"name": "elsewhere"})
    assert set(table["verdict"]) == {"inconclusive"}
    assert table["effect"].isna().all()
    assert table["note"].notna().all()
    assert "Effect: not measured" in page


def test_no_experiments(inputs):
    table, page = run(inputs)
    assert table.empty
    assert page.startswith("# Verdicts\n")


def test_names_that_look_like_missing_values_and_pipes_survive(inputs):
    simulate_metrics(losses=("null", "nan"), dataset="a|b").to_parquet(inputs / "metrics.parquet", index=False)
    simulate_theory(smoothing={"null": 0.0, "nan": 0.05}).to_csv(inputs / "ufm.csv", index=False)
    _, page = run(inputs, MAIN | {"baseline": "null", "losses": {"null": CE, "nan": LS}, "dataset": "a|b"})
    assert "a\\|b, resnet8" in page
    assert "largest for logit gap of null" in page


def test_same_inputs_same_bytes(inputs):
    run(inputs, MAIN)
    first = [(inputs / name).read_bytes() for name in ("claims.csv", "claims.md")]
    run(inputs, MAIN)
    assert [(inputs / name).read_bytes() for name in ("claims.csv", "claims.md")] == first
    assert sorted(path.name for path in inputs.iterdir()) == ["claims.csv", "claims.md", "metrics.parquet", "ufm.csv"]


def test_the_specifications_of_every_classifier_are_a_table(inputs):
    path = inputs / "specifications.csv"
    run(inputs, MAIN, MAIN | {"name": "regression", "task": "regression"}, specifications_csv=path)
    found = tables_of_workflow.read(tables_of_workflow.SPECIFICATIONS, path)
    assert list(found["experiment"].unique()) == ["main"]
    assert list(found["loss"].unique()) == ["ls", "ls_0.1"]
    own = found[found["own"]]
    assert own.groupby("claim", sort=False).size().to_dict() == dict.fromkeys(("C1", "C2", "C3", "C4"), 2)
    judged = pd.read_csv(inputs / "claims.csv").query("level == 'claim'").set_index(["claim", "loss"])["effect"]
    for row in own.to_dict("records"):
        assert row["effect"] == judged[row["claim"], row["loss"]]
    run(inputs, specifications_csv=path)
    assert tables_of_workflow.read(tables_of_workflow.SPECIFICATIONS, path).empty


def test_what_judged_is_recorded(inputs):
    run(inputs, MAIN, record=inputs / "judged.json", code="ab12")
    found = read_json(inputs / "judged.json", "judge")
    assert found == {"version": versions()["nclens"], "code": "ab12", "git_revision": git_revision()}


@pytest.mark.parametrize(("name", "rule"), [("metrics.parquet", "collect"), ("ufm.csv", "theory")])
def test_missing_damaged_or_foreign_input_is_named_with_its_rule(inputs, name, rule):
    for content in (None, b"", b"PAR1 no more", b"a,b\n1,2\n"):
        (inputs / name).unlink() if content is None else (inputs / name).write_bytes(content)
        with pytest.raises(FileError, match=f"{name} is (missing|damaged).*`{rule}`"):
            run(inputs, MAIN)
    assert not (inputs / "claims.csv").exists()


def test_metrics_past_the_last_epoch_are_refused(inputs):
    with pytest.raises(ValueError, match="metrics table of main has epoch 60; the last must be 59"):
        run(inputs, MAIN | {"epochs": 59})


def stated(**changes):
    entry = {"id": "mine", "statement": "", "direction": "below", "scale": "difference", "null": -0.01, "margin": 0.01}
    place = {"metric": "ece", "label": "ECE", "split": "test", "at": "last"}
    return specs.StatedClaim(**(entry | place | changes))


def test_a_claim_of_the_study_is_judged_beside_the_papers(inputs):
    pairs = [("mine", "main", "ls", "ce"), ("mine", "main", "ls_0.1", "ls")]
    table, page = run(inputs, MAIN, claims=[stated(), stated(id="unused")], comparisons=pairs)
    heads = table[(table["claim"] == "mine") & (table["level"] == "claim")]
    assert heads[["loss", "baseline"]].to_numpy().tolist() == [["ls", "ce"], ["ls_0.1", "ls"]]
    # In the simulated study label smoothing is worse calibrated than cross entropy.
    assert heads["verdict"].iloc[0] == "contradicted"
    assert heads["effect"].iloc[0] == pytest.approx(table[table["claim"] == "C4"]["effect"].iloc[0])
    assert heads["null"].iloc[0] == -0.01
    assert "> **mine.** Difference of ECE, test set, after the last epoch. Supported when" in page


def test_a_function_of_the_user_computes_the_effects(inputs, tmp_path):
    (tmp_path / "mine.py").write_text(
        "def last(loss, baseline, metric):\n"
        "    of = [t[(t.metric == metric) & (t.split == 'test') & (t.epoch == 60)].set_index('seed').value\n"
        "          for t in (loss, baseline)]\n"
        "    return of[0] - of[1]\n"
        "def wrong(loss, baseline):\n"
        "    return 3\n"
        "def unknown(loss, baseline):\n"
        "    return {7: 1.0}\n"
        "def raising(loss, baseline):\n"
        "    return loss['nothing']\n"
    )
    own = {"metric": "", "label": "", "split": "", "at": "", "file": str(tmp_path / "mine.py"), "null": 0.01}

    def judged(name, **arguments):
        entry = stated(direction="above", function=f"mine:{name}", arguments=arguments, **own)
        return run(inputs, MAIN, claims=[entry], comparisons=[("mine", "main", "ls", "ce")])[0]

    table = judged("last", metric="ece")
    row = table[(table["claim"] == "mine") & (table["level"] == "claim")]
    assert row["effect"].item() == pytest.approx(table[table["claim"] == "C4"]["effect"].iloc[0])
    assert row["verdict"].item() == "supported"
    for name, message in (
        ("wrong", r"mine:wrong \(.*mine\.py\) must return a dict or a Series, seed -> effect, not int"),
        ("unknown", r"it has the seeds \[7\], allowed: \[0, 1, 2\]"),
        ("raising", r"mine:raising \(.*mine\.py, line 10: `return loss.*`\) failed: KeyError"),
    ):
        with pytest.raises(ValueError, match=message):
            judged(name)


@pytest.mark.parametrize(
    ("at", "effect"),
    [("best", -0.5), ("epoch 30", 3.0), ("last", 5.0)],
)
def test_a_claim_is_on_the_moment_that_it_names(inputs, at, effect):
    rows = [
        ("main", "mnist5k", "resnet8", loss, seed, "test", epoch, "ece", value)
        for loss, values in (("ls", (0.5, 4.0, 6.0)), ("ce", (2.0, 1.0, 1.0)))
        for seed in (0, 1, 2)
        for epoch, value in zip((1, 30, 60), values, strict=True)
    ]
    columns = ["experiment", "dataset", "model", "loss", "seed", "split", "epoch", "metric", "value"]
    pd.DataFrame(rows, columns=columns).to_parquet(inputs / "metrics.parquet", index=False)
    table, _ = run(inputs, MAIN, claims=[stated(at=at)], comparisons=[("mine", "main", "ls", "ce")])
    assert table[(table["claim"] == "mine") & (table["level"] == "claim")]["effect"].item() == pytest.approx(effect)
