"""Slots: two jobs never have the same one, and whoever dies gives it back."""

import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest
import torch

from nclens.workflow.devices import device_slot, device_slots

pytestmark = pytest.mark.lengthy

#: Takes a slot, says which, and keeps it until it may go on.
HOLD = """
import sys
from nclens.workflow.devices import device_slots
with device_slots("auto", int(sys.argv[1]), "job") as names:
    print("held", *names, flush=True)
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


def start(devices=1):
    command = [sys.executable, "-c", HOLD, str(devices)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_too_many_waits_until_a_slot_is_given_back_or_its_holder_dies(monkeypatch, killed):
    monkeypatch.setenv("NCLENS_GPU_SLOTS", "1")
    first = start()
    assert first.stdout.readline() == "held cpu:0\n"
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
    assert second.stdout.readline() == "held cpu:0\n"
    second.communicate("\n")
    assert second.returncode == 0
    first.communicate()


def test_a_job_of_several_devices_has_a_slot_of_each(monkeypatch, capsys):
    monkeypatch.setenv("NCLENS_GPU_SLOTS", "4")
    with device_slots("auto", 1, "job") as one, device_slots("auto", 2, "job") as two:
        assert (one, two) == (["cpu:0"], ["cpu:0", "cpu:1"])
        assert [line.split("(")[1] for line in taken(capsys)] == ["slot 1 of 4)", "slot 3 of 4)", "slot 2 of 4)"]


@pytest.mark.slow
def test_it_takes_its_slots_all_or_none_and_sleeps_until_all_are_free():
    first = start()
    assert first.stdout.readline() == "held cpu:0\n"
    second = start(devices=2)
    assert "1 of 2 devices have a free slot; waiting" in second.stderr.readline()
    third = start(devices=2)
    assert "another job of several devices waits for its slots; waiting" in third.stderr.readline()
    # It holds none while it waits: another job takes the second device at once.
    with device_slot("auto", "job") as device:
        assert device == torch.device("cpu")
        before = [sum(psutil.Process(one.pid).cpu_times()[:2]) for one in (second, third)]
        time.sleep(0.5)
        after = [sum(psutil.Process(one.pid).cpu_times()[:2]) for one in (second, third)]
        assert max(b - a for a, b in zip(before, after, strict=True)) < 0.1
        first.kill()  # the system gives back what it held
    assert second.stdout.readline() == "held cpu:0 cpu:1\n"
    assert third.poll() is None
    second.communicate("\n")
    assert third.stdout.readline() == "held cpu:0 cpu:1\n"
    third.communicate("\n")
    assert (second.returncode, third.returncode) == (0, 0)
    first.communicate()


def test_more_devices_than_there_are_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"training\.devices = 3: this machine has 2 cpu devices; allowed: at most"):
        device_slots("auto", 3, "job").__enter__()
    monkeypatch.setenv("NCLENS_GPU_SLOTS", "1")
    with pytest.raises(ValueError, match=r"training\.devices = 2: this machine has 1 slots of devices"):
        device_slots("auto", 2, "job").__enter__()
    with pytest.raises(ValueError, match=r"devices = 9999: this machine has \d+ cores \(on a CPU each device is"):
        device_slots("cpu", 9999, "job").__enter__()


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


@pytest.mark.cuda
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
