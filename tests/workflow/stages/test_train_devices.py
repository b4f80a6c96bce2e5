"""The train stage on two devices, here two processes of the CPU: one that dies, a stop, another number of them."""

import json
import signal
from dataclasses import replace

import pandas as pd
import psutil
import pytest
import yaml

from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.epochs import read_epoch
from nclens.workflow.paths import RunFolder
from tests.process import ROOT, Process, nclens, wait_for

pytestmark = [pytest.mark.lengthy, pytest.mark.slow]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prepared data, and the specification of a run of 30 epochs on two devices."""
    folder = tmp_path_factory.mktemp("devices")
    raw = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    raw["experiments"]["smoke"]["training"] |= {"epochs": 30, "augmentation": "flip_crop", "devices": 2}
    study = load_study(raw)
    prepared = specs.encode(specs.prepare(study, "mnist5k"))
    nclens("prepare", "--spec", prepared, "--data", "d.safetensors", "--manifest", "d.json", cwd=folder)
    return folder, specs.train(study, next(study.runs()))


@pytest.fixture(autouse=True, scope="module")
def _frequent_checkpoints():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLENS_CHECKPOINT_MINUTES", "0.002")
        yield


def arguments(place, name, code="c+d", **changes):
    spec = replace(place[1], training=replace(place[1].training, **changes))
    options = ["--spec", specs.encode(spec), "--code", code, "--data", "d.safetensors", "--manifest", "d.json"]
    return ["train", *options, "--run", name]


@pytest.fixture(scope="module")
def reference(place):
    nclens(*arguments(place, "reference"), cwd=place[0])
    return place[0] / "reference"


def begun(place, name):
    """A training that has written a checkpoint."""
    process = Process(["nclens", *arguments(place, name)], cwd=place[0])
    wait_for(place[0] / name / ".work" / "checkpoint.safetensors", process)
    return process


def workers(process):
    found = psutil.Process(process.pid).children(recursive=True)
    return [one for one in found if "worker" in one.cmdline()]


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_process_that_is_killed_ends_the_job_with_its_own_message_and_the_retry_ends_with_the_same_bits(
    place, reference
):
    process = begun(place, "killed")
    (last,) = (one for one in workers(process) if one.environ()["RANK"] == "1")
    last.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "nclens train: the process of device 1 of 2 was killed by SIGKILL, and the others were ended; the same command "
        "goes on from the last checkpoint"
    )
    assert "Traceback" not in errors
    again = nclens(*arguments(place, "killed"), cwd=place[0])
    assert "killed: goes on after epoch" in again.stderr
    found = place[0] / "killed"
    assert RunFolder(found).snapshots.read_bytes() == RunFolder(reference).snapshots.read_bytes()
    tables = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in (found, reference)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert record(found)["identity"] == record(reference)["identity"]
    assert record(found)["devices"] == [[0, 2]]
    assert not (found / ".work").exists()


def test_a_stopped_training_goes_on_on_one_device(place, reference):
    process = begun(place, "stopped")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == "stopped: stopped by SIGTERM; the same command goes on from here"
    resumed = nclens(*arguments(place, "stopped", code="c", devices=None), cwd=place[0])
    assert "on 1 device, not 2" in resumed.stderr
    found = record(place[0] / "stopped")
    assert [count for _, count in found["devices"]] == [2, 1]
    assert found["identity"] == record(reference)["identity"]
    epochs = [read_epoch(RunFolder(run).snapshots, 30, "train")[0] for run in (place[0] / "stopped", reference)]
    assert epochs[0].keys() == epochs[1].keys()


def test_processes_end_with_the_job_that_started_them(place):
    process = begun(place, "orphaned")
    left = workers(process)
    assert len(left) == 2
    process.kill()
    process.wait()
    assert psutil.wait_procs(left, timeout=10)[1] == []


def test_what_is_wrong_is_said_once(place):
    changed = replace(place[1].training.optimizer, learning_rate=1e9)
    failed = nclens(*arguments(place, "diverged", optimizer=changed), cwd=place[0], check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("not finite in epoch") == 1
    assert "Traceback" not in failed.stderr
    again = nclens(*arguments(place, "diverged", optimizer=changed), cwd=place[0], check=False)
    assert "so it was not tried again" in again.stderr
