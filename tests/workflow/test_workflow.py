"""The real Snakefile: what runs, what runs again, and what a person sees when something is wrong."""

import datetime
import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from nclens.workflow.epochs import has_epoch, read_epoch
from nclens.workflow.files import read_tensors, sha256_of
from nclens.workflow.finished.archive import unpack
from nclens.workflow.finished.pack import Chosen, pack
from tests.project import BIN, ROOT, Place, once

OWN_LOSS = """
from torch.nn import functional


def soft(logits, targets, strength):
    return functional.cross_entropy(logits, targets, reduction="none") + strength * logits.square().mean(1)
"""

OWN_PARTS = """
import numpy as np
from torch import nn


def net(shape, outputs, hidden):
    return nn.Sequential(nn.Linear(shape[0], hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def blobs(count):
    random = np.random.default_rng(0)
    targets = np.arange(count) % 3
    rows = random.normal(size=(count, 5)) + 3 * np.eye(5)[targets]
    return {"train_inputs": rows, "train_targets": targets, "test_inputs": rows[:30], "test_targets": targets[:30]}
"""

pytestmark = pytest.mark.workflow


def own_study():
    """The smoke study with a loss, a model and a data set of the user's own, and a second experiment."""
    study = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    study["study"] = "own"
    study["losses"]["soft"] = {"function": "my_loss:soft", "parameters": {"strength": 0.01}}
    study["datasets"]["blobs"] = {"function": "my_parts:blobs", "parameters": {"count": 90}}
    study["datasets"]["other"] = {"function": "my_parts:blobs", "parameters": {"count": 60}}
    study["probes"] = {
        "elsewhere": {"kind": "transfer", "dataset": "other"},
        "variance": {"kind": "gradient_variance", "samples": 20},
    }
    study["models"]["net"] = {"function": "my_parts:net", "parameters": {"hidden": 8}, "dim": 8}
    study["experiments"]["smoke"] |= {"losses": ["ce", "ls", "soft"], "seeds": [0]}
    study["experiments"]["rows"] = {
        "dataset": "blobs",
        "model": "net",
        "losses": ["ce"],
        "seeds": [3],
        "training": {"epochs": 4, "batch_size": 30},
        "snapshots": [1, 3, 4],
        "probes": ["elsewhere", "variance"],
        "figures": ["probe_accuracy", "gradient_variance"],
        "keep_features": "last",
    }
    return study


def prepared(folder):
    """The project with its study and what the study uses, not run yet."""
    place = Place.copy_to(folder)
    place.configure(own_study())
    place.path("mine", "my_loss.py").write_text(OWN_LOSS, encoding="utf-8")
    place.path("mine", "my_parts.py").write_text(OWN_PARTS, encoding="utf-8")
    return place


def stamps(place):
    """When each result was written, and its size."""
    files = (path for path in place.path("results").rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


@pytest.fixture(scope="session")
def finished(shared_folder):
    """The project with its study run to the end, once for all workers; no test changes it."""
    folder = shared_folder / "finished" / "nclens"
    output = folder.parent / "output.txt"
    with once(folder) as missing:
        if missing:
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose run failed
            output.write_text(prepared(folder).snakemake("--cores", "2").stdout, encoding="utf-8")
    place = Place(folder)
    place.output = output.read_text(encoding="utf-8")
    place.stamps = stamps(place)
    return place


@pytest.fixture
def place(finished, tmp_path):
    """A copy of the finished project that a test may change."""
    place = Place.of(finished, tmp_path / "nclens")
    place.quick_jobs = True
    yield place
    assert stamps(finished) == finished.stamps, "this test wrote into a result that it shares with others: Place.own"


def some_slow(cases, *quick):
    """Cases of a test, of which `make test` runs some: each is a dry run of seconds."""
    return [pytest.param(case, marks=() if case in quick else pytest.mark.slow, id=case) for case in cases]


PROBED = {"probe_rows ce/3", "track_rows ce/3"}
BELOW_MEASURE = {"collect", "predict", "judge", "draw", "report", "track_study"}
ALL_RUNS = {"smoke ce/0", "smoke ls/0", "smoke soft/0", "rows ce/3"}


def jobs(stages, runs):
    """The jobs of some stages for some runs, `experiment loss/seed`."""
    return {f"{stage}_{run}" for stage in stages for run in runs}


# --- what a study makes ----------------------------------------------------------------------------------------------


def test_a_study_makes_what_it_promises_and_then_there_is_nothing_to_do(finished):
    root = finished.path("results", "own")
    assert finished.planned() == set()
    table = pd.read_parquet(root / "metrics.parquet")
    assert set(table.groupby(["experiment", "loss", "seed"], observed=True).size().index) == {
        ("smoke", "ce", 0),
        ("smoke", "ls", 0),
        ("smoke", "soft", 0),
        ("rows", "ce", 3),
    }
    assert set(table.loc[table["metric"] == "nc1", "epoch"]) == {1, 2, 3, 4, 6}
    probed = table[table["metric"].str.match("probe_accuracy|gradient_variance_head_onehot")]
    assert set(probed[["experiment", "metric", "epoch"]].itertuples(index=False, name=None)) == {
        ("rows", "probe_accuracy", 4),
        *(("rows", "gradient_variance_head_onehot", epoch) for epoch in (1, 3, 4)),
    }
    claims = pd.read_csv(root / "claims.csv")
    expected = {*(f"{letter}{k}" for letter, most in (("C", 6), ("G", 5)) for k in range(1, most + 1))}
    assert set(claims["claim"]) == expected | {"W1", "W2", "W12", "S1", "S2", "N1"}
    assert (claims.loc[claims["seeds"] == 1, "verdict"] == "inconclusive").all()
    assert "verdict" in finished.output.lower()
    assert "report.html" in finished.output


@pytest.mark.slow
def test_a_run_with_nothing_to_do_ends_with_the_verdicts_and_the_page(place):
    # In a process as a user starts it, for the verdicts come when it ends; the tests' own processes just stop.
    told = {"cwd": place.folder, "env": place.environment(), "capture_output": True, "text": True, "check": True}
    idle = subprocess.run(place.command("--cores", "1"), **told)
    assert idle.stderr.count("Nothing to be done") == 1
    assert "Verdicts of the study own" in idle.stdout
    assert "results/own/report.html" in idle.stdout
    planned = subprocess.run(place.command("--cores", "1", "--dry-run"), **told)
    assert "Verdicts" not in planned.stdout


def test_experiments_have_epochs_of_their_own_and_only_the_last_features_where_asked(finished):
    root = finished.path("results", "own")
    runs = {"smoke": root / "mnist5k/resnet8/ls/seed0", "rows": root / "blobs/net/ce/seed3"}
    kept = {
        (name, file): {epoch for epoch in range(7) if has_epoch(run / f"{file}.safetensors", epoch, "extract")}
        for name, run in runs.items()
        for file in ("snapshots", "features")
    }
    assert kept == {
        ("smoke", "snapshots"): {1, 2, 6},
        ("smoke", "features"): {1, 2, 6},
        ("rows", "snapshots"): {1, 3, 4},
        ("rows", "features"): {4},
    }
    # What is extracted for measuring alone is gone, and nothing else is there.
    for run in runs.values():
        names = {path.name for path in run.iterdir() if path.suffix == ".safetensors" or path.is_dir()}
        assert names == {"snapshots.safetensors", "features.safetensors", "film.safetensors"}


def test_the_default_study_does_not_leak_into_another(finished):
    resolved = yaml.safe_load(finished.path("results", "own", "study.yaml").read_text(encoding="utf-8"))
    assert set(resolved["experiments"]) == {"smoke", "rows"}
    assert resolved["datasets"]["mnist5k"]["train_per_class"] == 20


@pytest.mark.slow
def test_snakemakes_report_has_a_label_and_a_caption_for_each_result_and_describes_the_study(finished, tmp_path):
    finished.snakemake("--report", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    categories = json.loads(re.search(r"var categories = (\{.*\});?\n", page)[1])
    assert set(categories) == {"Figures", "Summary"}
    assert {"smoke", "rows"} <= set(categories["Figures"])
    results = json.loads(re.search(r"var results = (\{.*\});?\n", page)[1])
    assert all(result["labels"] and result["caption"] for result in results.values())
    assert len(results) == 3 + len(list(finished.path("results", "own", "figures").glob("*.png")))
    assert "Experiment smoke: data set mnist5k, model resnet8, losses ce, ls, soft" in page


def test_a_page_of_docs_results_is_written_from_a_finished_study(finished, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("write", ROOT / "docs" / "results" / "write.py")
    write = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write)
    monkeypatch.setattr(write, "HERE", tmp_path / "docs" / "results")
    write.HERE.mkdir(parents=True)
    write.main(finished.path("results", "own"), [], beside=True)
    page = (write.HERE / "own" / "README.md").read_text(encoding="utf-8")
    claims = pd.read_csv(finished.path("results", "own", "claims.csv"))
    judged = claims.loc[claims["level"] == "claim", "claim"]
    assert re.findall(r"^\| ([A-Z]\d+): .* \| [^|]+ \|$", page, re.M) == list(judged)
    assert page.count("| `smoke` | error, test |") == 1
    assert "4 runs, trained on" in page


@pytest.mark.slow
def test_an_unpacked_study_is_complete_for_snakemake(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.folder)
    tables = Place(unpack(pack("mine/study.yaml", tmp_path / "tables.zip")[0], tmp_path / "tables").parents[1])
    chosen = Chosen(networks="all", features=True, data=True)
    whole = Place(unpack(pack("mine/study.yaml", tmp_path / "all.zip", chosen=chosen)[0], tmp_path / "all").parents[1])
    code = {"PYTHONPATH": str(finished.folder / "src")}
    # MLflow alone does not have it.
    planned = whole.snakemake("--dry-run", **code).stdout
    assert set(re.findall(r"^ *Job \d+: (\w+)", planned, re.MULTILINE)) == {"track", "everything"}
    page = tables.snakemake("--dry-run", "results/own/report.html", **code)
    assert "Nothing to be done" in page.stdout + page.stderr
    # Links of the page lead to files of the archive.
    text = tables.path("results", "own", "report.html").read_text(encoding="utf-8")
    links = {link for link in re.findall(r'href="([^"#]+)"', text) if not re.match(r"\w+:", link)}
    assert "claims.csv" in links
    assert [link for link in links if not tables.path("results", "own", link).is_file()] == []


def test_without_a_configfile_the_default_study_runs(finished):
    output = finished.snakemake("--dry-run", configfile=False).stdout
    assert "train mnist5k/resnet8/ls/seed2" in output
    assert "results/own" not in output


def test_every_run_has_its_record_in_the_colour_of_its_loss(finished):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{finished.path('mlflow.db')}")
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    assert {run.info.run_name for run in runs} == {
        "mnist5k/resnet8/ce/seed0",
        "mnist5k/resnet8/ls/seed0",
        "mnist5k/resnet8/soft/seed0",
        "blobs/net/ce/seed3",
        "study",
    }
    resolved = yaml.safe_load(finished.path("results", "own", "study.yaml").read_text(encoding="utf-8"))
    for run in runs:
        if run.info.run_name != "study":
            assert run.data.tags["mlflow.runColor"] == resolved["losses"][run.data.tags["nclens.loss"]]["colour"]


# --- only changed stages run again -----------------------------------------------------------------------------------


def test_a_changed_smoothing_trains_its_runs_only(place):
    study = own_study()
    study["losses"]["ls"]["smoothing"] = 0.1
    place.configure(study)
    runs = jobs(("train", "extract", "measure", "track"), ["smoke ls/0"])
    assert place.planned() == runs | BELOW_MEASURE | {"theory", "resolve"}


CHANGES_NOTHING = {
    "a docstring": ("src/nclens/metrics/collapse.py", '"""', '"""A sentence more. '),
    "a comment": ("src/nclens/metrics/collapse.py", "\nimport torch\n", "\n# A comment.\nimport torch\n"),
    "a new loss": (
        "src/nclens/losses.py",
        "\n@register\ndef ce(",
        "\n@register\ndef new(logits, targets):\n    return ce(logits, targets)\n\n\n@register\ndef ce(",
    ),
    "a comment of the user's": ("mine/my_loss.py", "def soft(", "# A comment.\ndef soft("),
    "another study": ("workflow_config.yaml", "study: digits", "study: other"),
}


@pytest.mark.parametrize("edit", some_slow(CHANGES_NOTHING, "a docstring"))
def test_what_changes_no_result_runs_nothing(place, edit):
    place.edit(*CHANGES_NOTHING[edit])
    assert place.planned() == set()


def test_the_users_own_loss_edited_trains_its_runs_only(place):
    place.edit("mine/my_loss.py", "strength * logits", "2 * strength * logits")
    runs = jobs(("train", "extract", "measure", "track"), ["smoke soft/0"])
    assert place.planned() == runs | BELOW_MEASURE


@pytest.mark.slow
def test_a_registered_loss_edited_trains_its_runs_only(place):
    content = place.path("src/nclens/losses.py").read_text(encoding="utf-8")
    head, name, tail = content.partition("\ndef ls(")
    assert name
    place.path("src/nclens/losses.py").write_text(head + name + tail.replace("return ", "return 1.0 * ", 1))
    runs = jobs(("train", "extract", "measure", "track"), ["smoke ls/0"])
    # The probe of the gradient's variance smooths targets with it, too.
    assert place.planned() == runs | PROBED | BELOW_MEASURE


def test_a_formula_of_collapse_edited_measures_again_and_trains_nothing(place):
    place.path("src/nclens/metrics/collapse.py").open("a").write("\n\nSCALE = 2.0\n")
    # Features that the study does not keep are extracted again, for they are gone.
    again = jobs(("measure", "track"), ALL_RUNS) | {"extract_rows ce/3"}
    assert place.planned() == again | BELOW_MEASURE


@pytest.mark.slow
def test_a_probe_edited_asks_again_and_trains_and_measures_nothing(place):
    place.path("src/nclens/probes/gradients.py").open("a").write("\n\nSCALE = 2.0\n")
    assert place.planned() == PROBED | BELOW_MEASURE


@pytest.mark.slow
def test_a_probe_changed_asks_again(place):
    study = own_study()
    study["probes"]["variance"]["samples"] = 30
    place.configure(study)
    assert place.planned() == PROBED | BELOW_MEASURE | {"resolve"}


def test_a_figure_edited_draws_and_reports_only(place):
    place.path("src/nclens/figures/style.py").open("a").write("\n\nWIDER = 2.0\n")
    assert place.planned() == {"draw", "report", "track_study"}


def test_tracking_edited_records_all_again_and_hides_nothing_else_that_is_missing(place):
    """Behind an input marked `ancient` whose job has to run, Snakemake looks for no other reasons."""
    place.path("src/nclens/workflow/tracking.py").open("a").write("\n\nMORE = 1\n")
    place.path("results", "own", "claims.csv").unlink()
    assert place.planned() == {"track_setup", "judge", "report", "track_study"} | jobs(("track",), ALL_RUNS)


@pytest.mark.slow
def test_snakemake_looks_for_jobs_when_one_has_finished_and_not_by_the_clock(place):
    place.path("results", "own", "claims.csv").unlink()
    output = place.snakemake("--cores", "2", "--verbose")
    # Once at the start and once after each of judge, report and track_study.
    assert output.stderr.count("Ready jobs:") <= 4


@pytest.mark.slow
def test_a_seed_added_trains_it_and_aggregates(place):
    study = own_study()
    study["experiments"]["smoke"]["seeds"] = [0, 7]
    place.configure(study)
    new = [f"smoke {loss}/7" for loss in ("ce", "ls", "soft")]
    assert place.planned() == jobs(("train", "extract", "measure", "track"), new) | BELOW_MEASURE | {"resolve"}


RUN = "mnist5k/resnet8/ls/seed0"
LS = {f"{stage}_smoke ls/0" for stage in ("train", "extract", "measure", "track")}
AGAIN = {
    "study.yaml": {"resolve", "track_study"},
    f"{RUN}/snapshots.safetensors": LS | BELOW_MEASURE,
    f"{RUN}/history.csv": LS | BELOW_MEASURE,
    f"{RUN}/run.json": LS | BELOW_MEASURE,
    f"{RUN}/features.safetensors": (LS - {"train_smoke ls/0"}) | BELOW_MEASURE,
    f"{RUN}/metrics.csv": {"measure_smoke ls/0", "track_smoke ls/0"} | BELOW_MEASURE,
    f"{RUN}/film.safetensors": {"measure_smoke ls/0", "track_smoke ls/0"} | BELOW_MEASURE,
    f"{RUN}/mlflow.json": {"track_smoke ls/0"},
    "blobs/net/ce/seed3/probes.csv": PROBED | BELOW_MEASURE,
    "theory/ufm.csv": {"theory", "judge", "draw", "report", "track_study"},
    "theory/predictions.csv": {"predict", "judge", "draw", "report", "track_study"},
    "metrics.parquet": BELOW_MEASURE,
    "claims.csv": {"judge", "report", "track_study"},
    "claims.md": {"judge", "report", "track_study"},
    "specifications.csv": {"judge", "report", "track_study"},
    "judged.json": {"judge", "report", "track_study"},
    "figures/smoke_norms.pdf": {"draw", "report", "track_study"},
    "report.html": {"report", "track_study"},
    "mlflow.json": {"track_study"},
}


@pytest.mark.parametrize("path", some_slow(AGAIN, f"{RUN}/snapshots.safetensors", "metrics.parquet"))
def test_a_deleted_output_is_made_again_with_at_most_what_stands_below_it(place, path):
    place.path("results", "own", path).unlink()
    planned = place.planned()
    assert planned <= AGAIN[path]
    maker = {"snapshots": "train", "history": "train", "run": "train", "features": "extract", "metrics": "measure"}
    maker |= {"film": "measure"}
    first = maker.get(re.sub(r".*seed0/", "", path).split("/")[0].split(".")[0]) if RUN in path else None
    assert any(job.startswith(first) for job in planned) if first and "mlflow" not in path else planned


@pytest.mark.slow
def test_deleted_data_are_prepared_again(place):
    place.path("results", "own", "data", "blobs.safetensors").unlink()
    planned = place.planned()
    assert "prepare_blobs" in planned
    assert not any("smoke" in job for job in planned)


@pytest.mark.slow
def test_raw_data_come_from_data_dir_and_moving_them_reruns_nothing_but_an_edit_does(place):
    study, target = own_study(), "results/own/data/mine.safetensors"
    keys = {"source": "arrays", "path": "mine.npz", "train_per_class": 4, "test_per_class": 2}
    study |= {"data_dir": "raw", "datasets": study["datasets"] | {"mine": keys}}
    place.configure(study)
    failed = place.snakemake("--cores", "1", target, check=False)
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert f"no file {place.path('raw', 'mine.npz')}; `path` is relative to `data_dir`" in output
    assert "Traceback" not in output
    place.path("raw").mkdir()
    np.savez(place.path("raw", "mine.npz"), inputs=np.arange(90.0).reshape(18, 5), targets=np.arange(18) % 3)
    place.snakemake("--cores", "1", target)
    assert read_tensors(place.path(target), "prepare")[0]["train.inputs"].shape == (12, 5)
    place.path("raw").rename(place.path("moved"))
    place.configure(study | {"data_dir": "moved"})
    assert "Nothing to be done" in place.snakemake("--dry-run", target).stdout
    os.utime(place.path("moved", "mine.npz"))
    place.path("moved", "mine.npz").rename(place.path("moved.npz"))
    study["datasets"]["mine"]["path"] = str(place.path("moved.npz"))
    place.configure(study)
    assert "Nothing to be done" in place.snakemake("--dry-run", target).stdout
    np.savez(place.path("moved.npz"), inputs=np.arange(90.0).reshape(18, 5) + 1, targets=np.arange(18) % 3)
    targets = target, "results/own/data/blobs.safetensors"
    planned = place.snakemake("--dry-run", *targets).stdout
    assert re.findall(r"^ *Job \d+: (prepare \S+)$", planned, flags=re.MULTILINE) == ["prepare mine"]
    place.snakemake("--cores", "1", *targets)
    digest = json.loads(place.path("results/own/data/mine.json").read_text())["files"]["path"]
    assert digest == f"sha256:{sha256_of(place.path('moved.npz'))}"


# --- bad input and faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smoothing", "words"),
    [
        ("smoothing: 1.5", "losses.ls.smoothing = 1.5: must be less than 1"),
        ("smoothing: 0.1, smoothing: 0.5", "the key `smoothing` is there twice"),
    ],
)
def test_a_wrong_configuration_starts_no_job_and_shows_no_traceback(finished, tmp_path, smoothing, words):
    text = (ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")
    assert "smoothing: 0.05" in text
    (tmp_path / "bad.yaml").write_text(text.replace("smoothing: 0.05", smoothing))
    done = finished.snakemake("--configfile", str(tmp_path / "bad.yaml"), "--cores", "1", configfile=False, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert words in output
    assert "Traceback" not in output
    assert "Select jobs" not in output


@pytest.mark.slow
def test_a_damaged_snapshot_is_named_with_its_rule(place):
    snapshots = place.own("results", "own", RUN, "snapshots.safetensors")
    snapshots.write_bytes(snapshots.read_bytes()[:-7])  # newer than the features: they are extracted again
    done = place.snakemake("--cores", "1", check=False)
    log = place.path("results", "own", "logs", "extract", f"{RUN}.log").read_text()
    assert done.returncode != 0
    assert "snapshots.safetensors is damaged" in log
    assert "rule `train`" in log
    assert "Traceback" not in log


@pytest.mark.slow
def test_a_tracking_server_that_is_down_stops_tracking_only(place):
    for record in place.path("results").rglob("mlflow.json"):
        record.unlink()
    place.path("results", "own", "logs", "track_setup.json").unlink()
    place.path("results", "own", "claims.csv").unlink()
    done = place.snakemake("--cores", "2", check=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode != 0
    assert "http://127.0.0.1:9 cannot be used" in done.stdout + done.stderr
    assert place.path("results", "own", "claims.csv").is_file()
    assert {job.split("_")[0] for job in place.planned()} == {"track"}


@pytest.fixture
def slow(tmp_path):
    """A project with one run that takes long enough to be interrupted, not run yet."""
    place = prepared(tmp_path / "nclens")
    study = own_study()
    study["experiments"] = {"smoke": study["experiments"]["smoke"] | {"losses": ["ls"]}}
    # What an interrupted AdamW goes on with are moments and step counts too, and the place in the cycle.
    study["experiments"]["smoke"]["training"] |= {
        "epochs": 60,
        "optimizer": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.01},
        "lr_schedule": {"kind": "one_cycle"},
    }
    study["checkpoint_minutes"] = 0.001
    place.configure(study)
    return place


def start(place):
    """Start a training by Snakemake and wait for its first checkpoint."""
    process = subprocess.Popen(
        place.command("--cores", "1", f"results/own/{RUN}/metrics.csv"),
        cwd=place.folder,
        env=place.environment(),
        stdout=place.path("said.txt").open("w"),
        stderr=subprocess.STDOUT,
    )
    checkpoint = place.path("results", "own", RUN, ".work", "checkpoint.safetensors")
    deadline = time.monotonic() + 120
    begun = time.time()
    while not checkpoint.exists() or checkpoint.stat().st_mtime < begun:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def trainings(process):
    """Return the processes that train for a Snakemake."""
    children = psutil.Process(process.pid).children(recursive=True)
    # A process that has ended has no arguments.
    words = {child: child.as_dict(["cmdline"])["cmdline"] or [""] for child in children if child.is_running()}
    return [child for child, command in words.items() if "train" in command and "bash" not in command[0]]


def digests(place):
    folder = place.path("results", "own", RUN)
    epochs = json.loads((folder / "run.json").read_text())["spec"]["snapshots"]
    return [read_epoch(folder / "snapshots.safetensors", epoch, "train")[1] for epoch in epochs]


@pytest.mark.slow
def test_killed_trainings_and_killed_workflows_end_with_the_same_bits(slow):
    # Slurm's warning reaches every process of a job: its shell waits until the checkpoint is written.
    process = start(slow)
    training = trainings(process)[0]
    for child in psutil.Process(process.pid).children(recursive=True):
        child.terminate()
    assert psutil.wait_procs([training], 60)[0]
    # A training killed: Snakemake starts it again, and it goes on.
    deadline = time.monotonic() + 60
    while not trainings(process):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    trainings(process)[0].kill()
    assert process.wait(300) == 0
    assert "stopped by SIGTERM; the same command goes on from here" in slow.path("said.txt").read_text()
    assert "goes on after epoch" in slow.path("results", "own", "logs", "train", f"{RUN}.log").read_text()
    assert not slow.path("results", "own", RUN, ".work").exists()
    repeated = digests(slow)
    # Snakemake killed: its lock stays, and its training lives on.
    shutil.rmtree(slow.path("results"))
    process = start(slow)
    process.send_signal(signal.SIGKILL)
    process.wait()
    locked = slow.snakemake("--cores", "1", check=False)
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout + locked.stderr
    subprocess.run([str(BIN / "nclens"), "unlock"], cwd=slow.folder, env=slow.environment(), check=True)
    target = f"results/own/{RUN}/metrics.csv"
    slow.snakemake("--cores", "1", target)
    interrupted = digests(slow)
    assert not slow.path("results", "own", RUN, ".work").exists()
    # And without any interruption:
    shutil.rmtree(slow.path("results"))
    slow.snakemake("--cores", "1", target)
    assert digests(slow) == interrupted == repeated


@pytest.mark.slow
def test_what_would_only_fail_again_is_tried_once_and_the_rest_goes_on(slow):
    slow.quick_jobs = True
    study = yaml.safe_load(slow.study.read_text(encoding="utf-8"))
    study["experiments"]["smoke"] |= {"losses": ["ls", "soft"], "training": {"epochs": 2, "batch_size": 40}}
    study["experiments"]["smoke"]["snapshots"] = [2]
    study["losses"]["soft"]["parameters"]["strength"] = 1e30
    slow.configure(study)
    targets = [f"results/own/{RUN.replace('ls', loss)}/metrics.csv" for loss in ("ls", "soft")]
    done = slow.snakemake("--cores", "1", *targets, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert output.count("Trying to restart job") == 2
    log = slow.path("results", "own", "logs", "train", f"{RUN.replace('ls', 'soft')}.log").read_text()
    assert "the loss is not finite in epoch 1 (learning rate 0.05)" in log
    assert "not tried again" in log
    assert "epoch 1/2" not in log
    assert slow.path(targets[0]).is_file()
    study["losses"]["soft"]["parameters"]["strength"] = 0.01
    slow.configure(study)
    slow.snakemake("--cores", "1", *targets)


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "expected"), [(1, {"cpu:0"}), (2, {"cpu:0", "cpu:1"}), (4, {"cpu:0", "cpu:1"})])
def test_jobs_share_devices_as_the_profile_says(slow, tmp_path, slots, expected):
    """Numbered CPUs stand for GPUs: two jobs at a time have the same one only where it has two slots, one each."""
    slow.quick_jobs = True
    study = yaml.safe_load(slow.study.read_text(encoding="utf-8"))
    study["experiments"]["smoke"] |= {"losses": ["ce", "ls"], "seeds": [0, 1], "snapshots": 1}
    study["experiments"]["smoke"]["training"] = {"epochs": 3, "batch_size": 40, "device": "auto"}
    slow.configure(study)
    profile = slow.path("profiles", "default", "config.yaml")
    profile.write_text(profile.read_text().replace("gpu: 1", f"gpu: {slots}"))
    runs = [f"{RUN.replace('ls', loss)[:-1]}{seed}" for loss in ("ce", "ls") for seed in (0, 1)]
    targets = [f"results/own/{run}/run.json" for run in runs]
    slow.snakemake("--cores", "3", *targets, NCLENS_DEVICES="cpu:0,cpu:1", TMPDIR=str(tmp_path))
    held = []
    for run in runs:
        log = slow.path("results", "own", "logs", "train", f"{run}.log").read_text()
        device, slot = re.search(rf"on (cpu:\d) \(slot (\d) of {slots}\)", log).groups()
        assert "waiting" not in log
        record = json.loads(slow.path("results", "own", *run.split("/"), "run.json").read_text())
        end = datetime.datetime.fromisoformat(record["finished"]).timestamp()
        held.append((end - record["wall_time"], end, device, slot))
    assert {device for *_, device, _ in held} == expected
    for one, other in itertools.combinations(sorted(held), 2):
        apart = one[1] < other[0]
        assert apart or one[3] != other[3]
        assert apart or slots > 2 or one[2] != other[2]


@pytest.mark.slow
def test_unlock_leaves_the_lock_of_a_living_workflow(slow):
    process = start(slow)
    subprocess.run([str(BIN / "nclens"), "unlock"], cwd=slow.folder, env=slow.environment(), check=True)
    assert list(slow.path(".snakemake", "locks").glob("*.lock"))
    process.send_signal(signal.SIGTERM)
    process.wait(60)
