import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.effective import EffectivePenalties
from nclens.ufm.nc0 import nc0_law, nc0_rounding
from nclens.workflow import specs, tables
from nclens.workflow.files import FileError
from nclens.workflow.paths import run_path
from nclens.workflow.stages.predict import predict

PENALTIES = specs.Penalties(lambda_w=1e-3, lambda_h_total=0.05, lambda_b=1e-2)
SWEEP = {"ce": 0.0, "ls_0.1": 0.1, "ls_0.5": 0.5, "ls_0.8": 0.8}
METRICS = {"logit_gap": "logit_gap", "weight_norm": "classifier_norm", "feature_norm": "feature_norm"}
METRICS |= {"p_true": "confidence"}
TRUTH = EffectivePenalties(10, 0.02, 0.25, 0.0, 0.0, 0.0, 4)


def experiment(name="sweep", *, losses=SWEEP, regularised=False, seeds=(0, 1), dim=16, model="net"):
    keys = {"dataset": "digits", "model": model, "dim": dim, "regularised": regularised, "epochs": 20}
    return specs.PredictExperiment(name, losses=tuple(losses), smoothings=losses, seeds=seeds, **keys)


def metrics_of(item, truth=TRUTH, seed_step=0.0):
    """Runs that end where the truth says, seed by seed stronger by `seed_step`; other splits and epochs are off."""
    rows = []
    for loss, smoothing in item.smoothings.items():
        for seed in item.seeds:
            s = truth.s * (1 + seed_step * seed)
            for quantity, value in EffectivePenalties(10, s, 0.25, 0, 0, 0, 4).predict(smoothing).items():
                for split, epoch, factor in (("train", 20, 1.0), ("train", 10, 9.0), ("test", 20, 8.0)):
                    keys = (item.experiment, loss, seed, split, epoch, METRICS[quantity])
                    rows.append((*keys, value * factor))
    columns = ["experiment", "loss", "seed", "split", "epoch", "metric", "value"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype(dict.fromkeys(["experiment", "loss", "split", "metric"], "category"))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "data").mkdir()
    manifest = {"classes": [str(name) for name in range(10)], "train": 4000}
    (tmp_path / "data" / "digits.json").write_text(json.dumps(manifest))

    def run(*experiments, metrics=None, dims=None):
        for item in (item for item in experiments if item.losses):
            record = tmp_path / run_path(item.dataset, item.model, item.losses[0], item.seeds[0]) / "run.json"
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps({"dim": (dims or {}).get(item.model, item.dim)}))
        if metrics is not None:
            metrics.to_parquet(tmp_path / "metrics.parquet", index=False)
        outputs = tmp_path / "theory" / "predictions.csv", tmp_path / "theory" / "effective.csv"
        predict(specs.Predict(PENALTIES, experiments, ()), tmp_path / "metrics.parquet", tmp_path, *outputs)
        return tuple(pd.read_csv(path) for path in outputs)

    run.root = tmp_path
    return run


def test_effective_penalties_predict_the_smoothing_that_they_have_not_seen(run):
    item = experiment()
    predictions, fits = run(item, metrics=metrics_of(item, seed_step=0.5))
    assert list(predictions.columns) == list(tables.PREDICTIONS.columns)
    assert list(fits.columns) == list(tables.EFFECTIVE.columns)
    assert len(predictions) == 4 * 2 * 4
    assert set(predictions["penalties"]) == {"effective"}
    assert predictions["relative_error"].max() < 1e-4
    assert predictions["lambda_b"].isna().all()
    second = predictions[predictions["seed"] == 1]
    assert second["lambda_w"].to_numpy() == pytest.approx(0.5 * 0.03 / 10, rel=1e-3)
    assert second["lambda_h"].to_numpy() == pytest.approx(0.03 / (10 * 0.5) / 400, rel=1e-3)
    assert fits.groupby("seed")["s"].mean().to_dict() == pytest.approx({0: 0.02, 1: 0.03}, rel=1e-3)
    assert set(fits["points"]) == {3}
    assert sorted(fits["held_out"].unique()) == [0.0, 0.1, 0.5, 0.8]
    assert (fits["rms_relative_residual"] < 1e-5).all()


def test_a_prediction_never_saw_what_it_predicts(run):
    item = experiment(seeds=(0,))
    table = metrics_of(item)
    before, fits_before = run(item, metrics=table)
    changed = table.copy()
    changed.loc[changed["loss"] == "ls_0.5", "value"] *= 1.7
    after, fits_after = run(item, metrics=changed)
    own = before["loss"] == "ls_0.5"
    assert (after.loc[own, "predicted"] == before.loc[own, "predicted"]).all()
    assert (after.loc[own, "measured"] != before.loc[own, "measured"]).all()
    assert (after.loc[~own, "predicted"] != before.loc[~own, "predicted"]).any()
    held = fits_before["held_out"] == 0.5
    assert (fits_after.loc[held, "s"] == fits_before.loc[held, "s"]).all()
    assert (fits_after.loc[~held, "rms_relative_residual"] > 1e-2).all()


def test_explicit_penalties_are_those_of_training(run):
    item = experiment("reg", losses={"ce": 0.0, "ls": 0.05}, regularised=True)
    predictions, fits = run(item, metrics=metrics_of(item))
    assert fits.empty
    assert len(predictions) == 2 * 2 * 4
    row = predictions[(predictions["loss"] == "ls") & (predictions["seed"] == 1)].set_index("quantity")
    problem = UnconstrainedFeatureModel(10, 400, 16, 1e-3, 1e-6 * 50_000 / 4000, 1e-2, 0.05)
    assert row["predicted"].to_dict() == pytest.approx(
        {
            "logit_gap": problem.logit_gap,
            "weight_norm": problem.weight_norm,
            "feature_norm": problem.feature_norm,
            "confidence": problem.p_true,
        }
    )
    # The constants of the published code's lambdas: N lambda_H is held fixed.
    assert (row["predicted"]["weight_norm"], row["predicted"]["feature_norm"]) == pytest.approx(
        (3.1278, 1.3988), abs=5e-5
    )
    assert row["lambda_h"].iloc[0] == pytest.approx(1.25e-5)
    error = (row["measured"] / row["predicted"] - 1).abs()
    assert row["relative_error"].to_dict() == pytest.approx(error.to_dict())
    assert row["measured"]["confidence"] == pytest.approx(TRUTH.predict(0.05)["p_true"])


def test_nothing_to_predict_needs_no_metrics_and_leaves_headers(run):
    pair = experiment("main", losses={"ce": 0.0, "ls": 0.05})
    narrow = experiment("narrow", dim=8, regularised=True, model="narrow")
    twins = experiment("twins", losses={"ce": 0.0, "ls_0": 0.0, "ls": 0.05})
    for experiments in ([], [pair, narrow, twins, experiment("none", losses={})]):
        predictions, fits = run(*experiments)
        assert (predictions.empty, fits.empty) == (True, True)
        assert (*predictions.columns,) == (*tables.PREDICTIONS.columns,)
        assert (*fits.columns,) == (*tables.EFFECTIVE.columns,)


def test_two_entries_of_one_smoothing_are_held_out_together(run):
    item = experiment(losses={"ce": 0.0, "ls_0": 0.0, "ls_0.1": 0.1, "ls_0.5": 0.5}, seeds=(0,))
    predictions, fits = run(item, metrics=metrics_of(item))
    assert fits.set_index("held_out")["points"].to_dict() == {0.0: 2, 0.1: 3, 0.5: 3}
    assert len(predictions) == 4 * 4


def test_collapsed_networks_are_not_fitted_to_but_predicted(run):
    item = experiment(seeds=(0,))
    table = metrics_of(item)
    table.loc[(table["loss"] == "ls_0.8") & table["metric"].isin(["logit_gap", "classifier_norm"]), "value"] = 0.0
    predictions, fits = run(item, metrics=table)
    assert fits.set_index("held_out")["points"].to_dict() == {0.0: 2, 0.1: 2, 0.5: 2, 0.8: 3}
    collapsed = predictions[predictions["loss"] == "ls_0.8"].set_index("quantity")
    assert collapsed.loc["logit_gap", "relative_error"] == 1.0
    table.loc[(table["loss"] == "ls_0.5") & (table["metric"] == "logit_gap"), "value"] = -0.1
    predictions, fits = run(item, metrics=table)
    assert fits.set_index("held_out")["points"].to_dict() == {0.0: 0, 0.1: 0, 0.5: 2, 0.8: 2}
    lost = predictions[predictions["loss"] == "ce"]
    assert lost[["predicted", "relative_error", "lambda_w", "lambda_h"]].isna().all(axis=None)
    assert lost["measured"].notna().all()


def test_gaps_beyond_every_fit_predict_infinity_without_smoothing(run):
    item = experiment(losses={"ce": 0.0, "a": 0.1, "b": 0.2}, seeds=(0,))
    table = metrics_of(item)
    table.loc[(table["metric"] == "logit_gap") & (table["loss"] != "ce"), "value"] *= 1.5
    predictions, fits = run(item, metrics=table)
    assert fits.set_index("held_out")["s"][0.0] == 0
    ce = predictions[predictions["loss"] == "ce"].set_index("quantity")
    assert ce.loc["logit_gap", ["predicted", "relative_error"]].to_list() == [math.inf, 1.0]


def test_total_collapse_predicted_has_no_relative_error(run):
    item = experiment("reg", losses={"ls": 0.99}, regularised=True, seeds=(0,))
    predictions, _ = run(item, metrics=metrics_of(item))
    row = predictions.set_index("quantity")
    assert row.loc["logit_gap", "predicted"] == 0
    assert math.isnan(row.loc["logit_gap", "relative_error"])
    assert row.loc["confidence", "predicted"] == pytest.approx(0.1)


def test_several_experiments_stand_in_one_table(run):
    sweep, regularised = experiment(), experiment("reg", losses={"ce": 0.0}, regularised=True, seeds=(3,))
    both = pd.concat([metrics_of(sweep), metrics_of(regularised)], ignore_index=True)
    predictions, fits = run(sweep, regularised, metrics=both)
    assert predictions.groupby("experiment").size().to_dict() == {"reg": 4, "sweep": 32}
    assert set(fits["experiment"]) == {"sweep"}


def test_bad_input_is_named(run):
    item = experiment()
    with pytest.raises(FileError, match=r"metrics.parquet is missing: the rule `collect`"):
        run(item)
    table = metrics_of(item)
    with pytest.raises(
        ValueError, match=r"logit_gap of sweep, ls_0\.5, seed 1, epoch 20 on the training split .* not 0"
    ):
        missing = (table["loss"] == "ls_0.5") & (table["seed"] == 1) & (table["metric"] == "logit_gap")
        run(item, metrics=table[~missing])
    with pytest.raises(ValueError, match="once, not 2 times"):
        run(item, metrics=pd.concat([table, table.head(1)]))
    (run.root / "metrics.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(FileError, match=r"metrics.parquet is damaged.*`collect`"):
        run(item)
    (run.root / "data" / "digits.json").unlink()
    with pytest.raises(FileError, match=r"digits.json is missing: the rule `prepare`"):
        run(item)
    assert not (run.root / "theory").exists()


def test_the_feature_dimension_is_the_networks_and_one_in_the_study_must_be_it(run):
    item = experiment(dim=None, regularised=True)
    assert len(run(item, metrics=metrics_of(item), dims={"net": 16})[0]) == 4 * 2 * 4
    # Below K - 1 dimensions nothing is predicted, whether or not the study says so.
    assert run(item, metrics=metrics_of(item), dims={"net": 8})[0].empty
    with pytest.raises(
        ValueError, match=r"models\.net\.dim is 16, but the network's features have 8 dimensions; write"
    ):
        run(experiment(regularised=True), metrics=metrics_of(item), dims={"net": 8})


# The law of NC0

SGD = specs.Optimizer(0.1, 0.01, {"momentum": 0.9, "nesterov": False}, "sgd")
STEPS = specs.LrSchedule("step", 0, {"milestones": [10], "factor": 0.1})
DESCENT = specs.Descent(
    batch_size=300, optimizer=SGD, lr_schedule=STEPS, clip_gradient_norm=None, precision="float32", lambda_w=0.0
)
SNAPSHOTS = (2, 5, 20)


def nc0_runs(seeds=(0, 1), **changes):
    """An experiment of two losses, and NC0 of its runs at half of their first value later on."""
    keys = {"dataset": "digits", "model": "net", "epochs": 20, "losses": ("ce", "mse"), "seeds": seeds}
    descents = {"ce": DESCENT, "mse": replace(DESCENT, optimizer=replace(SGD, weight_decay=0.0), ignores_shift=False)}
    item = specs.PredictNC0("main", **keys, descents=descents)
    rows = [
        ("main", loss, seed, split, epoch, metric, value * (1 if split == "train" else 7))
        for loss in item.losses
        for seed in seeds
        for split in ("train", "test")
        for epoch in reversed(SNAPSHOTS)
        for metric, value in {"nc0": 1.0 + seed if epoch == 2 else 0.5, "nc0_share": 0.25, "nc1": 9.0}.items()
    ]
    table = pd.DataFrame(rows, columns=["experiment", "loss", "seed", "split", "epoch", "metric", "value"])
    return item, table.astype(dict.fromkeys(["experiment", "loss", "split", "metric"], "category"))


def by_law(root, item, table):
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "digits.json").write_text(json.dumps({"classes": list("0123456789"), "train": 1000}))
    table.to_parquet(root / "metrics.parquet", index=False)
    outputs = [root / "theory" / f"{name}.csv" for name in ("predictions", "effective", "nc0")]
    predict(specs.Predict(PENALTIES, (), (), (item,)), root / "metrics.parquet", root, *outputs)
    return tables.read(tables.NC0, outputs[2])


def test_nc0_follows_its_law_from_the_first_snapshot(tmp_path):
    found = by_law(tmp_path, *nc0_runs())
    assert list(found.columns) == list(tables.NC0.columns)
    assert len(found) == 2 * 2 * 3
    assert set(found["reference"]) == {2}
    # 1,000 samples are three batches of 300.
    law = nc0_law(np.repeat([0.1, 0.01], [10 * 3, 10 * 3]), momentum=0.9, weight_decay=0.01)
    run = found[(found["loss"] == "ce") & (found["seed"] == 1)].set_index("epoch")
    assert run["measured"].to_dict() == {2: 2.0, 5: 0.5, 20: 0.5}
    assert run["predicted"].to_dict() == pytest.approx({e: 2 * law[3 * e] / law[6] for e in SNAPSHOTS}, rel=1e-14)
    # |W|_F^2 is the largest so far, 2 / 0.25.
    expected = [nc0_rounding(run.loc[epoch, "predicted"], 8.0, 3 * (epoch - 2), 10) for epoch in SNAPSHOTS]
    assert run["rounding"].to_list() == pytest.approx(expected, rel=1e-14)
    assert set(run["premise"]) == {""}
    still = found[found["loss"] == "mse"]
    assert still.groupby("seed")["predicted"].unique().map(list).to_dict() == {0: [1.0], 1: [2.0]}
    assert set(still["premise"]) == {
        "the gradients of the loss with respect to the logits do not sum to zero over the classes"
    }


def test_what_a_run_says_of_its_classifier_is_the_premise_that_fails(tmp_path):
    record = tmp_path / "digits" / "net" / "ce" / "seed1" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"dim": 3}))
    assert set(by_law(tmp_path, *nc0_runs()).query("loss == 'ce'")["premise"]) == {""}
    record.write_text(json.dumps({"dim": 3, "classifier": "its weight is frozen"}))
    found = by_law(tmp_path, *nc0_runs()).query("loss == 'ce'")
    said = found.groupby("seed")["premise"].unique().map(list).to_dict()
    assert said == {0: [""], 1: ["the classifier is no ordinary linear layer: its weight is frozen"]}


def test_rows_that_sum_to_zero_and_a_weight_of_zero_have_no_norm(tmp_path):
    item, table = nc0_runs(seeds=(0,))
    nothing = table.assign(value=table["value"].where(table["metric"] == "nc1", 0.0))
    for share in (0.0, math.nan):
        found = by_law(
            tmp_path, item, nothing.assign(value=nothing["value"].mask(table["metric"] == "nc0_share", share))
        )
        assert (found[["measured", "predicted", "rounding"]] == 0).all(axis=None)


def test_a_run_without_nc0_is_named(tmp_path):
    item, table = nc0_runs()
    lacking = table[(table["loss"] != "ce") | (table["seed"] != 1)]
    with pytest.raises(
        ValueError, match=r"metrics.parquet: nc0 of main, ce, seed 1 on the training split must be there"
    ):
        by_law(tmp_path, item, lacking)
