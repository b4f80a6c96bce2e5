"""Slots: two jobs never have the same one, and whoever dies gives it back."""

import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest
import torch

from nclens.workflow.devices import device_slot

pytestmark = pytest.mark.lengthy

#: Takes a slot, says which, and keeps it until it may go on.
HOLD = """
import sys
from nclens.workflow.devices import device_slot
with device_slot("auto", "job"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("NCLENS_DEVICES", "cpu:0, cpu:1")
    monkeypatch.delenv("NCLENS_GPU_SLOTS", raising=False)


def taken(capsys):
    return capsys.readouterr().err.splitlines()


def test_jobs_are_dealt_out_to_the_devices_in_turn(monkeypatch, capsys):
    monkeypatch.setenv("NCLENS_GPU_SLOTS", "3")
    with ExitStack() as stack:
        devices = [stack.enter_context(device_slot("auto", "job")) for _ in range(3)]
    assert devices == [torch.device("cpu")] * 3
    assert [line.split()[2] for line in taken(capsys)] == ["cpu:0", "cpu:1", "cpu:0"]
    with device_slot("auto", "job"):
        assert taken(capsys) == ["job: on cpu:0 (slot 1 of 3)"]


def test_fewer_slots_than_devices_leave_the_last_ones_alone(monkeypatch, capsys):
    monkeypatch.setenv("NCLENS_GPU_SLOTS", "1")
    for _ in range(2):
        with device_slot("auto", "job"):
            pass
    assert taken(capsys) == ["job: on cpu:0 (slot 1 of 1)"] * 2


def start():
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return process


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_too_many_waits_until_a_slot_is_given_back_or_its_holder_dies(monkeypatch, killed):
    monkeypatch.setenv("NCLENS_GPU_SLOTS", "1")
    first = start()
    assert first.stdout.readline() == "held\n"
    second = start()
    assert "all 1 slots of the devices are taken; waiting" in second.stderr.readline()
    waiting = psutil.Process(second.pid)
    before = sum(waiting.cpu_times()[:2])
    time.sleep(0.5)
    assert sum(waiting.cpu_times()[:2]) - before < 0.1  # asleep in the kernel, not asking again and again
    assert second.poll() is None
    if killed:
        first.kill()
    else:
        first.communicate("\n")
    assert second.stdout.readline() == "held\n"
    second.communicate("\n")
    assert second.returncode == 0
    first.communicate()


def test_the_cpu_has_no_slots(capsys):
    with device_slot("cpu", "job") as device:
        assert device == torch.device("cpu")
    assert taken(capsys) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch, capsys):
    monkeypatch.delenv("NCLENS_DEVICES")
    with device_slot("auto", "job") as device:
        assert device == torch.device("cpu")
    assert taken(capsys) == []
    with pytest.raises(ValueError, match="finds no CUDA device"), device_slot("cuda", "job"):
        pass
    monkeypatch.setenv("NCLENS_DEVICES", "cuda:7")
    with pytest.raises(ValueError, match="cuda:7 is not there: PyTorch finds 0"), device_slot("cuda", "job"):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_taken_by_default(monkeypatch):
    monkeypatch.delenv("NCLENS_DEVICES")
    with device_slot("auto", "job") as device:
        assert device == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("variable", "value", "wanted", "words"),
    [
        ("NCLENS_DEVICES", "gpu0", "auto", "NCLENS_DEVICES = 'gpu0': must be a list of devices"),
        ("NCLENS_DEVICES", "cpu:0", "cuda", "has no cuda device"),
        ("NCLENS_GPU_SLOTS", "0", "auto", "NCLENS_GPU_SLOTS = '0': must be a whole number"),
        ("NCLENS_GPU_SLOTS", "two", "auto", "NCLENS_GPU_SLOTS = 'two': must be a whole number"),
    ],
)
def test_a_variable_without_sense_is_named(monkeypatch, variable, value, wanted, words):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=words), device_slot(wanted, "job"):
        pass
