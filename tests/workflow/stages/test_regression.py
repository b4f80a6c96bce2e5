"""A study of regression through the stages: from targets to predictions, with nothing of classification in the way."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nclens.study import load_study
from nclens.workflow import specs, tables, tracking
from nclens.workflow.epochs import read_epoch
from nclens.workflow.files import read_json, read_tensors
from nclens.workflow.paths import path_of
from nclens.workflow.stages import collect, extract, measure, predict, prepare, theory, track, train
from tests.process import nclens

pytestmark = pytest.mark.lengthy

OWN = """
import numpy as np


def data(n):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(90, 5))
    targets = np.tanh(inputs @ random.normal(size=(5, n))) + 0.3
    names = [f"torque {j}" for j in range(n)]
    return {"train_inputs": inputs[:60], "train_targets": targets[:60], "test_inputs": inputs[60:],
            "test_targets": targets[60:], "targets": names}
"""


def raw_study(n, **theory):
    training = {"epochs": 60, "batch_size": 20, "record_every": 7}
    training["optimizer"] = {"name": "sgd", "learning_rate": 0.05, "weight_decay": 0}
    common = {"dataset": "mine", "seeds": [0, 1], "snapshots": [0, 1, 60]}
    mlp = {"name": "mlp", "widths": [24, 16]}
    return {
        "study": "regression",
        "datasets": {"mine": {"function": "mine:data", "task": "regression", "parameters": {"n": n}}},
        "models": {"mlp": mlp, "signed": mlp | {"signed_features": True}},
        "losses": {
            "wd": {"name": "squared_error", "weight_decay": 0.01},
            "wd_0": {"name": "squared_error"},
            "ufm": {"name": "squared_error"},
        },
        "experiments": {
            "decay": {**common, "model": "mlp", "losses": ["wd", "wd_0"], "training": training},
            "penalties": {
                **common,
                **{"model": "signed", "losses": ["ufm"], "training": training | {"ufm_regularised": True}},
            },
        },
        "theory": {"lambda_w": 0.2, "lambda_h_mean": 0.3} | theory,
    }


def run_stages(folder, n, **penalties):
    """All stages of the study below a folder; returns the study and R."""
    (folder / "mine.py").write_text(OWN)
    study = load_study(raw_study(n, **penalties), [folder])
    root = folder / study.root
    data, manifest = root / "data" / "mine.safetensors", root / "data" / "mine.json"
    paths = specs.user_paths(study.datasets["mine"])
    prepare.prepare(specs.prepare(study, "mine"), data, manifest, paths=paths)
    for run in study.runs():
        place = root / path_of(run)
        train.train(specs.train(study, run), "code", data, manifest, place, threads=1, waited=False)
        extract.extract(specs.extract(study, run), data, manifest, place, threads=1)
        measure.measure(specs.measure(study, run), place, threads=1)
    collect.collect(specs.collect(study), root, root / "metrics.parquet")
    tables = root / "theory"
    theory.theory(specs.theory(study), root, tables / "ufm.csv", None, tables / "regression.csv")
    predict.predict(
        specs.predict(study),
        root / "metrics.parquet",
        root,
        tables / "predictions.csv",
        tables / "effective.csv",
    )
    return study, root


@pytest.fixture(scope="module", params=[2, 1], ids=["two targets", "one target"])
def finished(request, tmp_path_factory):
    return (request.param, *run_stages(tmp_path_factory.mktemp("regression"), request.param))


def test_the_manifest_says_what_the_targets_are(finished):
    n, _, root = finished
    manifest = read_json(root / "data" / "mine.json", "prepare")
    tensors, _ = read_tensors(root / "data" / "mine.safetensors", "prepare")
    targets = tensors["train.targets"]
    assert (targets.shape, targets.dtype) == ((60, n), torch.float32)
    assert (manifest["task"], manifest["targets"]) == ("regression", [f"torque {j}" for j in range(n)])
    expected = np.cov(targets.double().T, bias=True).reshape(n, n)
    np.testing.assert_allclose(manifest["target_covariance"], expected, rtol=1e-12)
    np.testing.assert_allclose(manifest["target_mean"], targets.double().mean(0), rtol=1e-12)
    assert "classes" not in manifest


def test_the_history_has_the_epochs_that_are_recorded(finished):
    _, _, root = finished
    history = pd.read_csv(root / "mine" / "mlp" / "wd" / "seed0" / "history.csv")
    assert list(history.columns) == ["epoch", "split", "loss", "mse", "learning_rate", "seconds"]
    assert list(history["epoch"].unique()) == [1, 7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert list(history["split"]) == ["train", "test"] * 10
    # Without penalties the loss is half the squared error; the train rows are means over the steps of an epoch.
    np.testing.assert_allclose(history["loss"], history["mse"] / 2, rtol=1e-6)
    assert history["mse"].iloc[-2] < history["mse"].iloc[0] / 2


def test_features_are_those_of_a_regressor(finished):
    n, _, root = finished
    tensors, _ = read_epoch(root / "mine" / "mlp" / "wd" / "seed1" / "features.safetensors", 60, "extract")
    assert tensors["train.targets"].dtype == torch.float32
    assert tensors["weight"].shape == (n, 16)
    expected = tensors["test.features"] @ tensors["weight"].T + tensors["bias"]
    torch.testing.assert_close(tensors["test.logits"], expected, rtol=1e-5, atol=1e-6)
    assert bool((tensors["train.features"] >= 0).all())
    signed, _ = read_epoch(root / "mine" / "signed" / "ufm" / "seed1" / "features.safetensors", 60, "extract")
    assert bool((signed["train.features"] < 0).any())


def test_a_film_shows_the_principal_plane_of_the_features_with_the_first_target_as_colour(finished):
    _, study, root = finished
    film, _ = read_tensors(root / path_of(next(study.runs())) / "film.safetensors", "measure")
    assert film["principal.points"].shape == (3, 60, 2)
    targets = read_tensors(root / "data" / "mine.safetensors", "prepare")[0]["train.targets"][:, 0]
    shown = film["values"] * film["values.scale"]
    torch.testing.assert_close(
        shown, targets[film["samples"].long()].double(), rtol=0, atol=float(film["values.scale"])
    )


def test_one_gamma_a_run_and_the_penalties_c(finished):
    n, _, root = finished
    table = pd.read_parquet(root / "metrics.parquet")
    metrics = set(table["metric"])
    assert {"nrc1", "nrc2", "r2", "evr", "gram_00", "epoch_loss", "epoch_mse", "residual_deviation"} <= metrics
    assert not {"epoch_error", "nc1", "accuracy"} & metrics
    gammas = table[table["metric"] == "nrc3_gamma"].groupby(["loss", "seed"], observed=True)["value"]
    assert len(gammas) == (6 if n > 1 else 0)
    assert (gammas.nunique() == 1).all()
    if n > 1:
        assert gammas.first()["ufm"].to_list() == pytest.approx([0.06, 0.06])
    deviation = table[table["metric"] == "residual_deviation"]
    assert set(deviation["loss"]) == {"ufm"}


def test_weight_decays_of_the_losses_are_trained_with(finished):
    _, study, root = finished
    records = {
        loss: json.loads((root / "mine" / "mlp" / loss / "seed0" / "run.json").read_text())["spec"]
        for loss in ("wd", "wd_0")
    }
    assert {loss: spec["training"]["optimizer"]["weight_decay"] for loss, spec in records.items()} == {
        "wd": 0.01,
        "wd_0": 0.0,
    }
    sizes = {}
    for loss in records:
        path = root / "mine" / "mlp" / loss / "seed0" / "snapshots.safetensors"
        sizes[loss] = sum(float(tensor.square().sum()) for tensor in read_epoch(path, 60, "train")[0].values())
    assert sizes["wd"] < 0.95 * sizes["wd_0"]
    facts = {item.experiment: item for item in specs.judge(study).experiments}["decay"]
    assert facts.weight_decays == {"wd": 0.01, "wd_0": 0.0}
    assert (facts.task, facts.regularised) == ("regression", False)


def test_theory_stands_beside_the_networks_that_were_trained_with_its_penalties(finished):
    n, _, root = finished
    table = pd.read_csv(root / "theory" / "regression.csv")
    assert list(table.columns) == list(tables.REGRESSION.columns)
    assert table["relative_error"].max() < 1e-6
    assert set(table["experiment"]) == {"penalties"}
    predicted = pd.read_csv(root / "theory" / "predictions.csv")
    assert set(predicted["loss"]) == {"ufm"}
    assert len(predicted) == 2 * (4 + n * (n + 1) // 2)
    row = predicted.set_index(["quantity", "seed"]).loc[("gram_00", 1)]
    closed = table.set_index("quantity").loc["gram_00", "closed_form"]
    assert row["predicted"] == pytest.approx(closed)
    assert row["relative_error"] == pytest.approx(abs(row["measured"] / closed - 1))
    assert (row["lambda_w"], row["lambda_h_mean"], row["penalties"]) == (0.2, 0.3, "explicit")
    assert np.isnan(row["lambda_h"])
    assert pd.read_csv(root / "theory" / "ufm.csv").empty


def test_a_run_is_recorded_with_its_curves(finished, monkeypatch):
    _, study, root = finished
    monkeypatch.chdir(root.parents[1])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = next(study.runs())
    relative = root.relative_to(root.parents[1])
    track.track_setup(specs.TrackSetup("regression"), relative)
    track.track_run(specs.track_run(study, run), relative)
    with tracking.connected() as client:
        identifier = read_json(root / path_of(run) / "mlflow.json", "track")["run_id"]
        found = client.get_run(identifier)
        assert {"train/nrc1", "train/epoch_mse", "test/r2", "test/epoch_loss"} <= found.data.metrics.keys()
        assert found.data.params["training.optimizer.weight_decay"] == "0.01"
        assert [point.step for point in client.get_metric_history(identifier, "test/epoch_mse")][:3] == [1, 7, 14]
        (model,) = client.search_logged_models([found.info.experiment_id])
    # The recorded network takes the stored rows.
    data, _ = read_tensors(root / "data" / f"{run.dataset}.safetensors", "prepare")
    features, _ = read_epoch(root / path_of(run) / "features.safetensors", 60, "extract")
    with torch.no_grad():
        outputs = tracking.load_network(model.model_uri)(data["test.inputs"])
    torch.testing.assert_close(outputs, features["test.logits"], rtol=1e-3, atol=1e-3)
    assert model.name == f"{run.loss}-seed{run.seed}"
    note = model.tags["mlflow.note.content"]
    assert note.startswith(f"Input: float32 (N, {data['test.inputs'].shape[1]}), rows as the data set holds them. The ")
    assert "(values - mean) / std of each column" in note
    assert "Output: predictions, float32 (N, " in note


def test_penalties_beyond_every_eigenvalue_collapse_all(tmp_path):
    _, root = run_stages(tmp_path, 2, lambda_w=3.0, lambda_h_mean=3.0)
    predicted = pd.read_csv(root / "theory" / "predictions.csv")
    assert (predicted[predicted["quantity"] == "gram_00"]["predicted"] == 0).all()
    table = pd.read_parquet(root / "metrics.parquet")
    assert (table[(table["metric"] == "nrc3_gamma") & (table["loss"] == "ufm")]["value"] < 9).all()


def test_a_network_that_takes_images_says_so(tmp_path):
    raw = raw_study(2)
    raw["models"]["mlp"] = {"name": "resnet8"}
    (tmp_path / "mine.py").write_text(OWN)
    study = load_study(raw, [tmp_path])
    paths = specs.user_paths(study.datasets["mine"])
    prepare.prepare(specs.prepare(study, "mine"), tmp_path / "d.safetensors", tmp_path / "d.json", paths=paths)
    files = ["--data", "d.safetensors", "--manifest", "d.json", "--run", "run"]
    spec = specs.encode(specs.train(study, next(study.runs())))
    done = nclens("train", "--spec", spec, "--code", "x", *files, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "resnet8 needs images" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(tmp_path / "run" / "run.json").exists()


def test_without_regressions_the_table_of_theory_has_its_columns(tmp_path):
    theory.write_regressions([], tmp_path, tmp_path / "regression.csv")
    table = pd.read_csv(tmp_path / "regression.csv")
    assert table.empty
    assert list(table.columns) == list(tables.REGRESSION.columns)
