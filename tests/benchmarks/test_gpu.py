"""The benchmark of a GPU: what it refuses, its limits, what it reads of pytest, and its table; as a whole on a CPU."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from snakemake.utils import update_config

from nclens.study import load_study, read_study
from nclens.workflow.paths import path_of

ROOT = Path(__file__).parents[2]
FILE = ROOT / "benchmarks" / "gpu.py"
DATA = ROOT.parent / "shared" / "data" / "cifar10"

TESTS = """
import pytest

def test_right():
    pass

@pytest.mark.parametrize("device", ["cuda"])
def test_wrong(device):
    assert 1 == 2, "not equal | at all"

@pytest.fixture
def broken():
    raise OSError("no disk")

def test_without_fixture(broken):
    pass

def test_skipped():
    pytest.skip("no CUDA device")
"""


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu"]


@pytest.fixture
def data(tmp_path, gpu):
    folder = tmp_path / "cifar" / gpu.BATCHES
    folder.mkdir(parents=True)
    for name in gpu.FILES:
        (folder / name).touch()
    return folder


def test_every_test_that_needs_cuda_has_the_mark():
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    assert not [path for path, text in texts.items() if "not torch.cuda.is_available" in text]
    assert len([path for path, text in texts.items() if "pytest.mark.cuda" in text]) >= 6


def test_the_results_of_tests_are_those_that_pytest_writes(gpu, tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--junitxml=found.xml"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    passed, skipped, failed = gpu.results_of_tests((tmp_path / "found.xml").read_text())
    assert (passed, skipped) == (1, 1)
    assert failed[0].startswith("test_some.py::test_wrong[cuda]: AssertionError: not equal | at all")
    assert failed[1].startswith("test_some.py::test_without_fixture: ")
    assert "no disk" in failed[1]
    assert len(failed) == 2


def test_a_part_that_overruns_is_stopped_with_all_that_it_started(gpu, tmp_path):
    part, log = gpu.Part("slow", 1.0), tmp_path / "log"
    code = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '117'])"
    begun = time.monotonic()
    assert gpu.run(part, [sys.executable, "-c", code], log, tmp_path, os.environ) is None
    assert time.monotonic() - begun < 1 + gpu.PATIENCE
    assert part.seconds >= 1
    assert part.wrong == ["stopped after its 1 seconds"]
    assert "begun" in log.read_text()
    time.sleep(0.1)
    left = [one.info["cmdline"] for one in psutil.process_iter(["cmdline", "status"]) if one.info["status"] != "zombie"]
    assert ["sleep", "117"] not in left


def test_a_part_is_interrupted_where_this_process_ignores_it(gpu, tmp_path):
    log = tmp_path / "log"
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('its last words')"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert gpu.run(gpu.Part("slow", 3.0), [sys.executable, "-c", code], log, tmp_path, os.environ) is None
    finally:
        signal.signal(signal.SIGINT, before)
    assert gpu.tail(log, 1) == "its last words"


def test_a_part_in_two_steps_has_one_limit(gpu, tmp_path):
    part, log = gpu.Part("two steps", 60.0), tmp_path / "log"
    assert gpu.run(part, [sys.executable, "-c", "print('first')"], log, tmp_path, os.environ) == 0
    code = "import sys; print('last'); sys.exit(3)"
    assert gpu.run(part, [sys.executable, "-c", code], log, tmp_path, os.environ) == 3
    assert part.wrong == []
    assert gpu.tail(log, 1) == "last"
    part.limit = 0.0
    assert gpu.run(part, ["sleep", "60"], log, tmp_path, os.environ) is None


def test_the_limits_of_all_parts_leave_time_for_the_table(gpu, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    clock = gpu.Clock(600.0)
    assert clock.limit(gpu.TESTS) == 150
    now[0] = 150 + gpu.PATIENCE  # stopped as late as can be
    assert clock.limit(gpu.PRODUCTS) == 30
    now[0] += 30 + gpu.PATIENCE
    assert clock.limit() == 600 - now[0] - gpu.PATIENCE - gpu.KEPT == 365
    now[0] = 590
    assert clock.limit() == 0


def record(rate, memory):
    return {"samples_per_second": rate, "flops_per_sample": 1_110_845_440, "peak_memory_bytes": memory}


def test_the_rate_is_that_of_all_runs_and_a_step_counts_three_forward_passes(gpu):
    assert gpu.rate_of([record(9000.0, 10**9)], 6e14) == (
        "9,000 images/s, 30 TFLOP/s, 5.0% of the product's rate; 1.00 GB"
    )
    both = [record(9000.0, 10**9), record(3000.0, 2 * 10**9)]
    assert gpu.rate_of(both, None) == "12,000 images/s, 40 TFLOP/s; 2.00 GB each"


def test_the_table_says_what_ran_and_what_failed(gpu):
    machine = gpu.Machine("NVIDIA X1", "2.13.0+cu130", "13.0")
    parts = [gpu.Part("tests marked `cuda`", 150.0, 41.2, "18 passed"), gpu.Part("products", 30.0, 4.0, "700 TFLOP/s")]
    measured = {"ce": {name: [0.1, 0.3] for name, *_ in gpu.SHOWN}}
    text = gpu.table(machine, parts, measured, 600.0, 432.0, "2026-01-02", "abc")
    assert text.startswith(
        "# On a GPU\n\nNVIDIA X1, 2026-01-02. PyTorch 2.13.0+cu130, CUDA 13.0; revision abc. "
        "`python benchmarks/gpu.py` took 7:12 of 10:00 minutes.\n\n"
        "| part | seconds | limit | what came of it |\n|---|---:|---:|---|\n"
        "| tests marked `cuda` | 41 | 150 | 18 passed |\n| products | 4 | 30 | 700 TFLOP/s |\n"
    )
    assert "\n| `ce` | 2 | 0.2 | 0.2 | 0.2 | 0.2 | 0.2 |\n" in text
    assert text.endswith("\nNothing failed, nothing was stopped.\n")
    parts[0].wrong = ["tests/a.py::b: no", "stopped after its 150 seconds"]
    parts[1].found = ""
    text = gpu.table(gpu.Machine("CPU", "2", None), parts, {}, 600.0, 432.0, "2026-01-02", None)
    assert "PyTorch 2, without CUDA; revision unknown" in text
    assert "| 18 passed (see below) |\n| products | 4 | 30 | nothing |\n" in text
    assert text.endswith(
        "\nFailed, or stopped:\n\n* tests marked `cuda`: tests/a.py::b: no\n"
        "* tests marked `cuda`: stopped after its 150 seconds\n"
    )


def test_data_are_the_unpacked_files_or_what_they_lie_in(gpu, data):
    assert gpu.folder_of_data(data) == gpu.folder_of_data(data.parent) == data.parent
    (data / "data_batch_3").unlink()
    with pytest.raises(SystemExit, match=r"--data .*cifar-10-batches-py has no data_batch_3; allowed: the unpacked"):
        gpu.folder_of_data(data)
    with pytest.raises(SystemExit, match=r"is no folder; allowed: the unpacked cifar-10-batches-py of https"):
        gpu.folder_of_data(data.parents[1] / "elsewhere")


def test_what_an_earlier_call_made_is_not_touched(gpu, tmp_path):
    folder = tmp_path / "a" / "new"
    assert gpu.new_folder(folder) == folder
    (folder / "README.md").touch()
    with pytest.raises(SystemExit, match=r"--folder .*new: is there already; allowed: a new folder. Nothing in it"):
        gpu.new_folder(folder)
    assert (folder / "README.md").exists()


@pytest.mark.parametrize(("cuda", "built"), [(None, "built without CUDA"), ("13.0", "built for CUDA 13.0")])
def test_without_a_gpu_nothing_is_begun(gpu, data, tmp_path, monkeypatch, cuda, built):
    monkeypatch.setattr(gpu, "look", lambda environment: {"torch": "2.13.0", "cuda": cuda, "device": None})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--data", str(data), "--folder", str(tmp_path / "made")])
    with pytest.raises(SystemExit, match=rf"PyTorch 2.13.0 \({built}\) finds no CUDA device; this benchmark needs one"):
        gpu.main()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("tiny", [False, True])
def test_the_study_is_the_projects_with_the_data_and_the_device_of_the_call(gpu, tmp_path, tiny):
    study = gpu.ShortStudy(tmp_path, tmp_path / "data", "cpu" if tiny else "cuda", 3, tiny)
    changes = yaml.safe_load((tmp_path / "machine.yaml").read_text())
    assert changes["data_dir"] == str(tmp_path / "data")
    if not tiny:
        assert changes == {**changes, "experiments": {"cifar10": {"training": {"device": "cuda"}}}}
        assert len(changes) == 2
    merged = read_study(gpu.STUDY)
    update_config(merged, changes)  # as Snakemake does with a second file
    loaded = load_study(merged, [gpu.STUDY.parent])
    training = loaded.experiments["cifar10"].training
    assert (training.device, training.precision, training.epochs) == (
        ("cpu", "bf16", 2) if tiny else ("cuda", "bf16", 16)
    )
    names = [f"cifar10/resnet18/{loss}/seed{seed}" for loss in ("ce", "ls") for seed in (0, 1)]
    assert study.runs == names == [path_of(run) for run in loaded.runs()]


def test_the_short_study_is_the_papers_with_its_schedule_scaled(gpu):
    short, long = (read_study(ROOT / "studies" / f"paper_cifar10{end}.yaml") for end in ("_short", ""))
    own, theirs = (study["experiments"]["cifar10"] for study in (short, long))
    assert all(short[key] == long[key] for key in ("datasets", "models", "losses"))
    trained, full = own["training"], theirs["training"]
    assert trained["epochs"] * 50 == full["epochs"]
    assert trained["lr_schedule"]["milestones"][0] * 50 == full["lr_schedule"]["milestones"][0]
    assert all(trained[key] == full[key] for key in ("batch_size", "optimizer"))


class Made:
    """A study whose files Snakemake makes or not, whose runs are trained and measured then."""

    slots, report = 3, "report"
    runs = ("a/b/ce/seed0", "a/b/ce/seed1", "a/b/ls/seed0", "a/b/ls/seed1")

    def __init__(self, folder, *succeeded):
        self.folder, self.succeeded, self.asked, self.there = folder, list(succeeded), [], []

    def at(self, run):
        return SimpleNamespace(metrics=run)

    def make(self, part, targets, slots, environment):
        self.asked.append((targets, slots))
        done = self.succeeded.pop(0)
        if done:
            self.there += [run for run in self.runs if targets in ([run], [self.report])]
            (self.folder / "report").touch()
        else:
            part.wrong.append("why")
        return done

    def record(self, run):
        return record(9000.0, 10**9) if run in self.there else None

    measured = record

    def without_graph(self, run):
        return f"{run}: no graph" if run == "a/b/ls/seed1" else None


def test_a_run_is_trained_alone_and_then_the_others_together(gpu, tmp_path):
    study, alone, together = Made(tmp_path, True, True), gpu.Part("alone", 0.0), gpu.Part("together", 0.0)
    gpu.train(alone, together, study, 6e14, gpu.Clock(600.0), {})
    assert study.asked == [([study.runs[0]], 1), (["report"], 3)]
    assert alone.found == "9,000 images/s, 30 TFLOP/s, 5.0% of the product's rate; 1.00 GB"
    assert together.found == (
        "27,000 images/s, 90 TFLOP/s, 15.0% of the product's rate; 1.00 GB each; 4 of 4 runs trained, 4 measured, and "
        "the study's page"
    )
    assert (alone.wrong, together.wrong) == ([], ["a/b/ls/seed1: no graph"])


def test_where_a_run_alone_fails_the_others_are_not_tried(gpu, tmp_path):
    study, alone, together = Made(tmp_path, False), gpu.Part("alone", 0.0), gpu.Part("together", 0.0)
    gpu.train(alone, together, study, None, gpu.Clock(600.0), {})
    assert alone.wrong == ["why"]
    assert together.wrong[0] == "not tried: the run before did not end"
    assert together.found == "0 of 4 runs trained, 0 measured, no page"


def test_of_what_snakemake_prints_the_jobs_own_message_is_taken(gpu, tmp_path):
    study = gpu.ShortStudy(tmp_path, tmp_path, "cuda", 3, False)
    log = tmp_path / "log"
    log.write_text("shell:\n  nclens train --spec {a: b}\nnclens train: no memory; less\nExiting\n")
    assert study._first_error(log) == "nclens train: no memory; less"
    log.write_text("a\n\nWorkflowError\nno rule\n")
    assert study._first_error(log) == "a / WorkflowError / no rule"


@pytest.mark.parametrize("wrong", [["--minutes", "0.4"], ["--minutes", "nan"], ["--slots", "0"]])
def test_numbers_without_sense_are_refused(gpu, wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.options_of(["--data", "here", *wrong])
    assert "must be" in capsys.readouterr().err


def test_the_command_nclens_is_that_of_this_python(gpu, tmp_path, monkeypatch):
    """An interpreter in whose environment the package is not installed has no such command."""
    python = tmp_path / "bare" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    made = gpu.surroundings(tmp_path)
    command = tmp_path / "bin" / "nclens"
    assert made["PATH"].startswith(f"{command.parent}{os.pathsep}")
    assert made["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT / "src")
    assert f"exec {python} -m nclens" in command.read_text()
    assert os.access(command, os.X_OK)


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (DATA / "cifar-10-batches-py").is_dir(), reason=f"the real CIFAR-10 is not at hand: no {DATA}")
def test_the_whole_call_on_a_cpu_at_tiny_size(tmp_path):
    command = [sys.executable, FILE, "--data", DATA, "--device", "cpu", "--tiny", "--minutes", "25"]
    command += ["--folder", tmp_path / "made", "--output", tmp_path / "table.md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + text
    assert re.search(r"\| tests marked `cuda` \| \d+ \| 375 \| \d+ passed, 0 failed, \d+ skipped \|", text)
    assert re.search(r"a run alone \| \d+ \| \d+ \| [\d,]+ images/s, .*% of the product's rate; ", text)
    assert "4 of 4 runs trained, 4 measured, and the study's page" in text
    assert re.search(r"^\| `ls` \| 2 \| 0\.\d+ \|", text, flags=re.MULTILINE)
