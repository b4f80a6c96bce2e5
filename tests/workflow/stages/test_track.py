"""MLflow is a view of the files: rebuilt, never doubled, and never in the way of finished work."""

import datetime
import getpass
import json
import math
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow.entities import Dataset, Metric

from nclens.claims import ClaimRow
from nclens.data.prepared import place_splits
from nclens.metrics.intervals import t_interval
from nclens.report.markdown import verdicts_page
from nclens.study import load_study
from nclens.workflow import logged_model, saved_view, specs, tables, tracking
from nclens.workflow.build.models import build_network
from nclens.workflow.epochs import read_epoch, read_weights
from nclens.workflow.paths import path_of
from nclens.workflow.recorded import LONGEST, clean, description, parameters
from nclens.workflow.specs import Entry, flat
from nclens.workflow.stages import extract, measure, prepare, track, train
from tests.process import nclens

pytestmark = pytest.mark.lengthy

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
R = Path("results/smoke")
ROW = ClaimRow(
    *("C1", "The paper (arXiv 2402.03979)", "It is | faster.", "smoke", "mnist5k", "resnet8", "ce", "ls", "claim"),
    *("epochs_to_error", 0.5, 0.1, 2.0, "ratio", 1.0, 2, "inconclusive", ""),
    reason="too few seeds",
)
PAGE = verdicts_page([ROW, replace(ROW, level="measure")], [])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with one finished run of the smoke study, and the study's own files."""
    folder = tmp_path_factory.mktemp("finished")
    study = load_study(yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")))
    run = next(study.runs())
    root = folder / R
    data, manifest = root / "data" / "mnist5k.safetensors", root / "data" / "mnist5k.json"
    prepare.prepare(specs.prepare(study, "mnist5k"), data, manifest)
    train.train(specs.train(study, run), "code", data, manifest, root / path_of(run), threads=1, waited=False)
    extract.extract(specs.extract(study, run), data, manifest, root / path_of(run), threads=1)
    measure.measure(specs.measure(study, run), root / path_of(run), threads=1)
    (root / "logs" / "train" / path_of(run)).parent.mkdir(parents=True)
    (root / "logs" / "train" / f"{path_of(run)}.log").write_text("epoch 1/6\n")
    (root / "claims.csv").write_text(
        "claim,paper,experiment,loss,level,verdict\nC1,The paper (arXiv 2402.03979),smoke,ls,claim,inconclusive\n"
    )
    (root / "claims.md").write_text(PAGE)
    (root / "figures").mkdir()
    (root / "figures" / "smoke_norms.png").write_bytes(b"picture")
    return folder, specs.track_run(study, run)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables, which take MLflow half a second to make."""
    folder = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with tracking.connected() as client:
            client.search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def recorded(finished, empty_database, tmp_path, monkeypatch):
    """The finished run in a folder of its own, recorded once; returns its specification."""
    folder, spec = finished
    shutil.copytree(folder / "results", tmp_path / "results")
    shutil.copy(empty_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track.track_setup(specs.TrackSetup("smoke"), R)
    track.track_run(spec, R)
    return spec


def active_runs():
    with tracking.connected() as client:
        experiment = client.get_experiment_by_name("smoke")
        return client, client.search_runs([experiment.experiment_id])


def test_a_record_holds_all_that_it_promises(recorded):
    client, (run,) = active_runs()
    assert run.info.run_name == recorded.run
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runColor"] == recorded.colour
    assert run.data.params["training.epochs"] == "6"
    assert run.data.params["loss.name"] == run.data.params["loss"] == "ce"
    assert run.data.params["model"] == "resnet8"
    assert int(run.data.params["flops_per_sample"]) > 0
    curve = client.get_metric_history(run.info.run_id, "train/nc1")
    assert [point.step for point in curve] == [1, 2, 6]
    assert len(client.get_metric_history(run.info.run_id, "test/epoch_loss")) == 6
    (dataset,) = run.inputs.dataset_inputs
    manifest = json.loads((R / "data" / "mnist5k.json").read_text())
    assert dataset.dataset.name == "mnist5k"
    assert manifest["sha256"].startswith(dataset.dataset.digest)
    assert run.data.tags[tracking.KIND] == "run"
    assert run.info.user_id == run.data.tags["mlflow.user"] == getpass.getuser()
    assert re.fullmatch("[0-9a-f]{16}", run.data.tags[tracking.DIGEST])
    paths = {item.path for folder in ("", "logs/train") for item in client.list_artifacts(run.info.run_id, folder)}
    assert {"run.json", "history.csv", "metrics.csv", "logs/train/seed0.log"} <= paths
    assert {"snapshots.safetensors", "features.safetensors", "film.safetensors"} <= paths


def test_a_run_starts_and_ends_with_its_training(recorded):
    _, (run,) = active_runs()
    trained = json.loads((R / recorded.run / "run.json").read_text())
    end = datetime.datetime.fromisoformat(trained["finished"]).timestamp() * 1000
    assert run.info.end_time == pytest.approx(end, abs=1)
    assert run.info.end_time - run.info.start_time == pytest.approx(trained["wall_time"] * 1000, abs=2)


def test_runs_are_found_by_loss_final_values_and_kind(recorded):
    """The queries that README shows."""
    client, (run,) = active_runs()
    for query in re.findall(r"^(?:params|metrics|tags)\..*$", README.read_text(encoding="utf-8"), flags=re.MULTILINE):
        client.search_runs([run.info.experiment_id], query)  # none is a syntax error
    for query, found in {
        'params.loss = "ce"': 1,
        'params.loss = "ls"': 0,
        "metrics.`train/nc1` < 1e9 and params.loss = 'ce'": 1,
        "tags.`nclens.kind` = 'run'": 1,
        "tags.`nclens.kind` = 'study'": 0,
    }.items():
        assert len(client.search_runs([run.info.experiment_id], query)) == found, query


def test_a_metric_that_stops_early_has_no_final_value(recorded):
    path = R / recorded.run / "metrics.csv"
    path.write_text(path.read_text() + "1,train,early,0.5\n2,train,early,0.4\n6,train,early,nan\n6,train,late,0.5\n")
    track.track_run(recorded, R)
    client, (run,) = active_runs()
    assert math.isnan(run.data.metrics["train/early"])
    assert run.data.metrics["train/late"] == 0.5
    points = client.get_metric_history(run.info.run_id, "train/early")
    assert [(point.step, point.value) for point in points][:2] == [(1, 0.5), (2, 0.4)]
    assert points[2].step == 6
    assert math.isnan(points[2].value)
    assert not client.search_runs([run.info.experiment_id], "metrics.`train/early` < 1")


def test_what_nobody_looks_up_stays_in_the_tables(recorded):
    path = R / recorded.run / "metrics.csv"
    names = ("evr_3", "ece_20", "ece_20_scaled", "ece_unscaled", "temperature_authors", "nc1_quotient", "ece_scaled")
    rows = [row for row in path.read_text().splitlines() if row.split(",")[2] not in names]
    path.write_text("\n".join([*rows, *(f"6,test,{name},1" for name in names)]) + "\n")
    track.track_run(recorded, R)
    _, (run,) = active_runs()
    assert {name for name in names if f"test/{name}" in run.data.metrics} == {"nc1_quotient", "ece_scaled"}
    assert "train/learning_rate" in run.data.metrics
    assert "test/learning_rate" not in run.data.metrics


def test_the_recorded_network_makes_the_extracted_logits_of_what_the_data_set_holds(recorded):
    import mlflow

    from nclens.workflow.files import read_tensors

    _, (run,) = active_runs()
    (model,) = run.outputs.model_outputs
    uri = f"models:/{model.model_id}"
    network = mlflow.pytorch.load_model(uri)
    data, _ = read_tensors(R / "data" / "mnist5k.safetensors", "prepare")
    manifest = json.loads((R / "data" / "mnist5k.json").read_text())
    features, _ = read_epoch(R / recorded.run / "features.safetensors", 6, "extract")
    inputs = data["test.inputs"]
    assert inputs.dtype == torch.uint8
    with torch.no_grad():
        found = network(inputs)
    torch.testing.assert_close(found, features["test.logits"], rtol=1e-3, atol=1e-3)
    assert torch.equal(torch.from_numpy(mlflow.pyfunc.load_model(uri).predict(inputs.numpy())), found)

    # The graph computes what the trained network computes, to the bit, for any number of samples.
    entry = Entry(**json.loads((R / recorded.run / "run.json").read_text())["spec"]["model"])
    trained = build_network(flat(entry), manifest["shape"], 10)
    read_weights(trained, R / recorded.run / "snapshots.safetensors", 6)
    split = place_splits(data, manifest, torch.device("cpu"))[1]
    with torch.no_grad():
        assert torch.equal(network(inputs[:7]), trained.eval()(split.normalise(inputs[:7])))

    loaded = tracking.load_network(uri)
    assert not any(layer.training for layer in loaded.modules())
    assert loaded.eval() is loaded
    assert loaded.train(False) is loaded
    with torch.no_grad():
        assert torch.equal(loaded.eval()(inputs), found)
    with pytest.raises(ValueError, match=rf"the network {uri} is an exported graph .* cannot train; build the model"):
        loaded.train()

    # What input it expects is in its signature, its description and its metadata.
    described = mlflow.models.get_model_info(uri)
    (tensor,) = described.signature.inputs.inputs
    assert (tensor.type, tensor.shape) == (np.dtype("uint8"), (-1, 1, 28, 28))
    (tensor,) = described.signature.outputs.inputs
    assert (tensor.type, tensor.shape) == (np.dtype("float32"), (-1, 10))
    assert {key: described.metadata[key] for key in ("mean", "std", "classes")} == {
        key: manifest[key] for key in ("mean", "std", "classes")
    }
    note = mlflow.get_logged_model(model.model_id).tags["mlflow.note.content"]
    assert "Input: uint8 (N, 1, 28, 28), pixels from 0 to 255 as the data set holds them" in note
    assert "The network normalises them: (pixels / 255 - mean) / std of each channel" in note
    assert f"with the mean {manifest['mean']}, std {manifest['std']} of the model's metadata" in note
    assert "Output: logits, float32 (N, 10), in the order of the metadata's classes" in note
    files = Path(mlflow.get_logged_model(model.model_id).artifact_location, "data")
    assert [path.name for path in files.iterdir()] == ["model.pt2"]  # an exported graph, no pickle


def test_inputs_that_are_normalised_already_are_refused(recorded):
    _, (run,) = active_runs()
    network = tracking.load_network(f"models:/{run.outputs.model_outputs[0].model_id}")
    with pytest.raises(RuntimeError, match="dtype mismatch"):
        network(torch.zeros(2, 1, 28, 28))


def test_the_best_model_is_found_by_a_metric_of_the_last_epoch(recorded):
    import mlflow

    # Another seed, more collapsed and worse calibrated.
    other = R / recorded.run.replace("seed0", "seed1")
    shutil.copytree(R / recorded.run, other)
    table = pd.read_csv(other / "metrics.csv")
    table.loc[table["metric"] == "nc1", "value"] /= 2
    table.loc[table["metric"] == "ece", "value"] += 0.1
    table.to_csv(other / "metrics.csv", index=False)
    track.track_run(replace(recorded, run=recorded.run.replace("seed0", "seed1"), seed=1), R)

    _, runs = active_runs()
    digest = runs[0].inputs.dataset_inputs[0].dataset.digest
    assert len(digest) == 8

    def best(metric, **dataset):
        order = [{"field_name": f"metrics.{metric}", "ascending": True, **dataset}]
        return mlflow.search_logged_models([runs[0].info.experiment_id], order_by=order, output_format="list")

    of_data = {"dataset_name": "mnist5k", "dataset_digest": digest}
    assert [model.name for model in best("train/nc1", **of_data)] == ["ce-seed1", "ce-seed0"]
    assert [model.name for model in best("test/ece", **of_data)] == ["ce-seed0", "ce-seed1"]
    model = best("train/nc1")[0]
    found = {metric.key: metric for metric in model.metrics}
    assert {(metric.step, metric.dataset_name, metric.dataset_digest) for metric in found.values()} == {
        (6, "mnist5k", digest)
    }
    last = table[(table["metric"] == "nc1") & (table["split"] == "train") & (table["epoch"] == 6)]
    assert found["train/nc1"].value == last["value"].item()
    assert {"test/error", "test/epoch_loss"} <= found.keys()
    assert model.params["training.epochs"] == "6"
    (output,) = next(run for run in runs if run.info.run_id == model.source_run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, 6)


def test_a_value_that_is_not_finite_is_none_of_the_models():
    dataset = Dataset("digits", "0123abcd", "local", "")
    given = [Metric("a", 1.0, 5, 6), Metric("a", 2.0, 5, 1), Metric("b", float("nan"), 5, 6)]
    found = [metric.model_id for metric in logged_model.linked(given, "m-1", dataset, 6)]
    assert found == ["m-1", None, None]


def test_a_name_with_points_is_one_that_a_model_may_have():
    from mlflow.utils.validation import _validate_logged_model_name

    _validate_logged_model_name(logged_model.name_of("ls.05+x-1", 3))
    assert logged_model.name_of("ls.05", 3) == "ls_05-seed3"
    assert logged_model.name_of("ls", 0) == "ls-seed0"


def test_a_recorded_network_that_is_not_there_is_one_message(recorded):
    with pytest.raises(OSError, match=r"the tracking server sqlite:///mlflow.db cannot be used: .*nothing"):
        tracking.load_network("models:/m-nothing")


def test_probes_are_recorded_as_curves_and_as_their_table(recorded):
    (R / recorded.run / "probes.csv").write_text(
        "epoch,split,metric,value\n6,test,probe_accuracy/digits8,0.9\n6,train,mutual_information,0.7\n"
    )
    (R / "logs" / "probe" / recorded.run).parent.mkdir(parents=True)
    (R / "logs" / "probe" / f"{recorded.run}.log").write_text("fine\n")
    track.track_run(replace(recorded, probed=True), R)
    client, (run,) = active_runs()
    (point,) = client.get_metric_history(run.info.run_id, "test/probe_accuracy/digits8")
    assert (point.step, point.value) == (6, 0.9)
    assert "train/mutual_information" in run.data.metrics
    paths = {item.path for folder in ("", "logs/probe") for item in client.list_artifacts(run.info.run_id, folder)}
    assert {"probes.csv", "logs/probe/seed0.log"} <= paths


def test_unchanged_files_touch_nothing(recorded):
    _, before = active_runs()
    (R / recorded.run / "mlflow.json").unlink()
    track.track_run(recorded, R)
    _, after = active_runs()
    assert [run.info.run_id for run in after] == [run.info.run_id for run in before]


def test_changed_files_replace_the_run(recorded):
    _, (before,) = active_runs()
    path = R / recorded.run / "metrics.csv"
    path.write_text(path.read_text() + "6,test,extra,1.5\n")
    track.track_run(recorded, R)
    _, (after,) = active_runs()
    assert after.info.run_id != before.info.run_id
    assert after.data.metrics["test/extra"] == 1.5
    assert json.loads((R / recorded.run / "mlflow.json").read_text())["run_id"] == after.info.run_id
    with tracking.connected() as client:
        models = client.search_logged_models([after.info.experiment_id])
    assert [model.source_run_id for model in models] == [after.info.run_id]


def test_a_run_left_behind_by_a_killed_process_is_replaced(recorded):
    client, (run,) = active_runs()
    orphan = client.create_run(run.info.experiment_id, run_name=recorded.run, tags={tracking.KEY: recorded.run})
    track.track_run(recorded, R)
    _, runs = active_runs()
    assert orphan.info.run_id not in [run.info.run_id for run in runs]
    assert len(runs) == 1


def test_a_deleted_database_is_rebuilt(recorded):
    Path("mlflow.db").unlink()
    track.track_setup(specs.TrackSetup("smoke"), R)
    track.track_run(recorded, R)
    assert len(active_runs()[1]) == 1


def test_a_moved_folder_is_recorded_anew_where_it_lies(recorded, tmp_path, monkeypatch):
    (tmp_path / "moved").mkdir()
    for path in [tmp_path / "results", tmp_path / "mlartifacts", *tmp_path.glob("mlflow.db*")]:
        shutil.move(path, tmp_path / "moved" / path.name)
    monkeypatch.chdir(tmp_path / "moved")
    track.track_run(recorded, R)
    _, (run,) = active_runs()
    assert Path(run.info.artifact_uri).is_relative_to(tmp_path / "moved")
    assert Path(run.info.artifact_uri, "run.json").is_file()


def test_without_tensors_they_are_listed_with_size_and_checksum(recorded):
    track.track_run(replace(recorded, tensors=False), R)
    client, (run,) = active_runs()
    paths = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert "files.json" in paths
    assert not {"snapshots.safetensors", "features.safetensors", "film.safetensors"} & paths
    listed = json.loads(Path(run.info.artifact_uri, "files.json").read_text())["files"]
    assert {"path", "bytes", "sha256"} == set(listed[0])
    names = {Path(item["path"]).name for item in listed}
    assert names == {"snapshots.safetensors", "features.safetensors", "film.safetensors"}
    assert len(listed) == 3


def test_deleted_features_are_no_part_of_the_record(recorded):
    (R / recorded.run / "earlier_features.safetensors").write_bytes(b"not deleted yet")
    (R / recorded.run / "metrics.csv").open("a").write("6,test,extra,1.5\n")  # so that it is recorded again
    track.track_run(recorded, R)
    client, (run,) = active_runs()
    paths = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {path for path in paths if "features" in path} == {"features.safetensors"}


def test_the_study_has_one_run_with_its_verdicts(recorded):
    for _ in range(2):
        track.track_study(specs.TrackStudy("smoke", "Tiny", ("claims.csv", "figures/smoke_norms.png")), R)
    client, runs = active_runs()
    (run,) = [run for run in runs if run.data.tags[tracking.KEY] == "study"]
    assert run.data.tags[tracking.KIND] == "study"
    assert [item.path for item in client.list_artifacts(run.info.run_id, "figures")] == ["figures/smoke_norms.png"]
    # Nothing of it is in the columns, charts and groups of the trained runs.
    assert run.data.params == run.data.metrics == {}
    tags = client.get_experiment(run.info.experiment_id).tags
    text = tags["mlflow.note.content"]
    assert run.data.tags["mlflow.note.content"] == text
    assert text.startswith("**Tiny**\n")
    found = r"| **C1** It is \| faster. | inconclusive: too few seeds | mnist5k, resnet8 | ls against ce"
    row = f"{found} | 0.500 [0.100, 2.00] ratio; below 1: faster |"
    assert row in text.splitlines()
    assert "`nc1`" not in text
    assert "[arXiv 2402.03979](https://arxiv.org/abs/2402.03979)" in text
    assert (
        f"[report](#/experiments/1/runs/{run.info.run_id}/artifacts/report.html?workflowType=machine_learning)" in text
    )
    assert saved_view.TAG in tags


def test_a_long_description_has_the_verdicts_that_fit():
    page = PAGE.replace("It is", f"It is {'very ' * 100}")
    first, second = page.split("## Measures")
    row = next(line for line in first.splitlines() if line.startswith("| C1"))
    page = f"{first.rstrip()}\n" + f"{row}\n" * 20 + f"\n## Measures{second}"
    claims = pd.DataFrame({"paper": ["The paper (arXiv 2402.03979)"] * 21})
    text = description("Tiny", page, claims, "1", "r")
    assert 3000 < len(text) <= LONGEST
    shown = text.count("**C1**")
    assert f"{21 - shown} more verdicts: [all](#/experiments/1/runs/r/artifacts/claims.md?" in text
    assert text.endswith("(https://arxiv.org/abs/2402.03979)).")
    assert description("Tiny", "# Verdicts\n", claims[:0], "1", "r").startswith("**Tiny**\n\n[Curves](#/")


LABELS, COLOURS = {"ce": "CE", "ls": "LS"}, {"ce": "#000000", "ls": "#0072b2"}
LOOKS = specs.TrackExperiment("smoke", "mnist5k", "resnet8", LABELS, COLOURS)


def collect(seeds, losses=("ce", "ls")):
    """Write the study's table, with two metrics at two epochs of some seeds; return the values of nc1 at epoch 6."""
    keys = {"experiment": "smoke", "dataset": "mnist5k", "model": "resnet8", "split": "train"}
    rows = [
        {**keys, "loss": loss, "seed": seed, "metric": metric, "epoch": epoch, "value": 1 / (seed + epoch + 1)}
        for loss in losses
        for seed in seeds
        for metric in ("nc1", "cdnv")
        for epoch in (1, 6)
    ]
    names = [name for name, kind in tables.COLLECTED.columns.items() if kind is tables.NAME]
    table = pd.DataFrame(rows).astype(dict.fromkeys(names, "category"))
    tables.write(tables.COLLECTED, R / "metrics.parquet", table)
    return [1 / (seed + 7) for seed in seeds]


def of_kind(kind):
    client, runs = active_runs()
    return client, {run.info.run_name: run for run in runs if run.data.tags[tracking.KIND] == kind}


def test_a_loss_has_one_aggregate_which_is_replaced_when_a_seed_is_added(recorded):
    study = specs.TrackStudy("smoke", "Tiny", ("claims.csv",), (LOOKS,))
    ids = []
    for seeds in ([0, 1], [0, 1], [0, 1, 2]):
        values = collect(seeds)
        track.track_study(study, R)
        client, found = of_kind("aggregate")
        assert set(found) == {"mnist5k/resnet8/ce/mean", "mnist5k/resnet8/ls/mean"}
        run = found["mnist5k/resnet8/ls/mean"]
        ids.append(run.info.run_id)
        mean, low, high = t_interval(values)
        for key, value in {"train/nc1": mean, "train_low/nc1": low, "train_high/nc1": high}.items():
            points = client.get_metric_history(run.info.run_id, key)
            assert [point.step for point in points] == [1, 6]
            assert points[1].value == pytest.approx(value)
        assert "train/cdnv" in run.data.metrics
        assert "train_low/cdnv" not in run.data.metrics
        written = pd.read_csv(Path(run.info.artifact_uri, "aggregate.csv"))
        assert set(written["metric"]) == {"nc1", "cdnv"}
        assert list(written.columns) == ["split", "metric", "epoch", "mean", "low", "high"]
        tags = {key: run.data.tags[f"nclens.{key}"] for key in ("study", "experiment", "dataset", "model", "loss")}
        assert list(tags.values()) == ["smoke", "smoke", "mnist5k", "resnet8", "ls"]
        assert run.data.tags["nclens.seeds"] == ", ".join(map(str, seeds))
        assert run.data.tags["mlflow.runColor"] == "#0072b2"
        assert "LS on mnist5k with resnet8: mean over the seeds" in run.data.tags["mlflow.note.content"]
    assert ids[0] == ids[1] != ids[2]
    (run,) = of_kind("study")[1].values()
    assert json.loads((R / "mlflow.json").read_text())["run_id"] == run.info.run_id


def test_searches_for_seeds_find_no_aggregate(recorded):
    collect([0, 1])
    track.track_study(specs.TrackStudy("smoke", "Tiny", ("claims.csv",), (LOOKS,)), R)
    client, runs = active_runs()
    assert len(runs) == 4
    for search in ("tags.`nclens.kind` = 'run'", "params.loss = 'ce'", "tags.`nclens.seed` LIKE '%'"):
        assert [run.info.run_name for run in client.search_runs([runs[0].info.experiment_id], search)] == [recorded.run]


def test_an_aggregate_of_a_loss_that_the_study_has_no_more_or_of_one_seed_goes(recorded):
    collect([0, 1])
    study = specs.TrackStudy("smoke", "Tiny", ("claims.csv",), (LOOKS,))
    track.track_study(study, R)
    alone = replace(LOOKS, labels={"ce": "CE"}, colours={"ce": "#000000"})
    track.track_study(replace(study, experiments=(alone,)), R)
    assert set(of_kind("aggregate")[1]) == {"mnist5k/resnet8/ce/mean"}
    collect([0])
    track.track_study(study, R)
    assert not of_kind("aggregate")[1]


def test_values_that_are_not_finite_do_not_stop_the_record(recorded):
    path = R / recorded.run / "metrics.csv"
    path.write_text(path.read_text() + "6,test,one,nan\n6,test,two,inf\n")
    track.track_run(recorded, R)
    assert "test/one" not in active_runs()[1][0].data.metrics


def test_an_unreachable_server_is_named_within_half_a_minute_without_its_password(finished, tmp_path):
    folder, spec = finished
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://someone:secret@127.0.0.1:9/"}
    start = time.monotonic()
    track_run = ["track", "run", "--spec", specs.encode(spec), "--root", R]
    failed = nclens(*track_run, cwd=folder, env=environment, check=False)
    assert time.monotonic() - start < 60  # half a minute for the server, the rest for a busy machine to start Python
    assert failed.returncode == 1
    assert "http://127.0.0.1:9/ cannot be used" in failed.stderr
    assert "secret" not in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_missing_file_is_named(recorded):
    (R / recorded.run / "history.csv").unlink()
    with pytest.raises(OSError, match=r"history\.csv"):
        track.track_run(recorded, R)


def test_the_addresses_lead_to_the_studys_runs(recorded, tmp_path, monkeypatch):
    runs = "http://127.0.0.1:5001/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=collapse"
    assert tracking.addresses(5001)["smoke"] == {"curves": f"{runs}&compareRunsMode=CHART", "runs": runs}
    with tracking.connected() as client:
        client.delete_experiment_tag("1", saved_view.TAG)
    assert tracking.addresses(5001)["smoke"]["runs"] == runs.replace("&viewStateShareKey=collapse", "")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ValueError, match="nothing is recorded"):
        tracking.addresses(5001)


@pytest.mark.parametrize("key", ["loss.a!b", "loss.options.a\nb", "x" * 300, "loss.é δ", 'a:"b"', "{seed}"])
def test_a_parameter_of_any_name_is_one_that_mlflow_takes(key):
    from mlflow.utils.validation import _validate_param_name

    _validate_param_name(clean(key))


def test_parameters_have_plain_names_unless_two_would_have_one():
    spec = {
        "seed": 0,
        "loss": {"entry": "strong", "name": "ls", "arguments": {"smoothing": 0.3, "seed": 7}, "function": None},
        "model": {"entry": "small", "name": "resnet8", "arguments": {"width": 4}},
        "training": {"epochs": 2},
    }
    record = {"spec": spec, "parameters": 10, "dim": 4, "flops_per_sample": 20}
    assert parameters(record) == {
        **{"loss": "strong", "loss.name": "ls", "smoothing": "0.3", "loss.seed": "7", "seed": "0"},
        **{"model": "small", "model.name": "resnet8", "model.width": "4", "training.epochs": "2"},
        **{"parameters": "10", "dim": "4", "flops_per_sample": "20"},
    }
