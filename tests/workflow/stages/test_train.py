"""The train stage as its users meet it: a process that is killed, stopped, damaged and started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from random import Random

import pandas as pd
import pytest
import torch
import yaml

from nclens.models import Network, count_flops
from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.build.models import build_network
from nclens.workflow.epochs import read_epoch
from nclens.workflow.paths import RunFolder
from nclens.workflow.provenance import CLOCK_FIELDS
from nclens.workflow.stages.train import _build, _not_its_own
from tests.process import ROOT, Process, nclens, python, wait_for

pytestmark = pytest.mark.lengthy


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prepared data, and a run of 30 epochs."""
    folder = tmp_path_factory.mktemp("train")
    raw = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    raw["experiments"]["smoke"]["training"] |= {"epochs": 30, "augmentation": "flip_crop"}
    study = load_study(raw)
    nclens(
        "prepare",
        "--spec",
        specs.encode(specs.prepare(study, "mnist5k")),
        "--data",
        "d.safetensors",
        "--manifest",
        "d.json",
        cwd=folder,
    )
    return folder, next(study.runs()), study


@pytest.fixture(autouse=True, scope="module")
def _frequent_checkpoints():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLENS_CHECKPOINT_MINUTES", "0.002")
        yield


def train_arguments(place, name, code="c", **changes):
    _, run, study = place
    spec = specs.train(study, run)
    if "learning_rate" in changes:
        changes["optimizer"] = replace(spec.training.optimizer, learning_rate=changes.pop("learning_rate"))
    spec = replace(spec, training=replace(spec.training, **changes))
    return [
        "train",
        "--spec",
        specs.encode(spec),
        "--code",
        code,
        "--data",
        "d.safetensors",
        "--manifest",
        "d.json",
        "--run",
        name,
    ]


@pytest.fixture(scope="module")
def reference(place):
    nclens(*train_arguments(place, "reference"), cwd=place[0])
    return place[0] / "reference"


def assert_same_bits(found, reference):
    for epoch in (1, 5, 30):
        digests = [read_epoch(RunFolder(run).snapshots, epoch, "train")[1] for run in (found, reference)]
        assert digests[0] == digests[1]
    files = [RunFolder(run).snapshots.read_bytes() for run in (found, reference)]
    assert files[0] == files[1]
    tables = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in (found, reference)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    records = [json.loads((run / "run.json").read_text()) for run in (found, reference)]
    for record in records:
        for field in CLOCK_FIELDS:
            record.pop(field, None)
    assert records[0] == records[1]
    assert not (found / ".work").exists()


def start_and_wait_for_progress(place, name):
    process = Process(["nclens", *train_arguments(place, name)], cwd=place[0])
    wait_for(place[0] / name / ".work" / "checkpoint.safetensors", process)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(place, reference, number):
    name = f"stopped{number}"
    process = start_and_wait_for_progress(place, name)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the same command goes on from here" in errors
    assert not (place[0] / name / "run.json").exists()
    resumed = nclens(*train_arguments(place, name), cwd=place[0])
    assert "goes on after epoch" in resumed.stderr
    assert_same_bits(place[0] / name, reference)


@pytest.mark.slow
def test_kill_9_again_and_again_ends_with_the_same_bits(place, reference):
    for _ in range(3):
        process = start_and_wait_for_progress(place, "killed")
        process.kill()
        process.communicate()
    # What Snakemake does to the declared outputs of a job that failed.
    for name in ("run.json", "history.csv", "snapshots.safetensors"):
        (place[0] / "killed" / name).unlink(missing_ok=True)
    nclens(*train_arguments(place, "killed"), cwd=place[0])
    assert_same_bits(place[0] / "killed", reference)


#: Trains in forked children, which start at once because everything is imported, and ends each at a given moment.
#: Prints how each child ended: a signal's number, negative, or its exit code.
INTERRUPT = """
import json, os, sys, time
from pathlib import Path
from nclens.workflow.specs import Train, decode
from nclens.workflow.stages.train import train

spec, run, moments = decode(Train, sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
ends = []
for seconds, number in [*moments, (3600, 0)]:
    begun = time.monotonic()
    child = os.fork()
    if not child:
        train(spec, "c", Path("d.safetensors"), Path("d.json"), run, 1, False)
        os._exit(0)
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() - begun < seconds:
        time.sleep(0.001)
    if ended[0] == 0:
        os.kill(child, number)
        ended = os.waitpid(child, 0)
    ends.append(os.waitstatus_to_exitcode(ended[1]))
print(json.dumps([time.monotonic() - begun, ends]))
"""


def interrupt(place, name, moments):
    """Interrupt a training at moments (seconds after its start, signal), then let it end."""
    arguments = [specs.encode(specs.train(place[2], place[1])), name, json.dumps(moments)]
    done = python(INTERRUPT, *arguments, cwd=place[0])
    return json.loads(done.stdout)


@pytest.mark.slow
def test_interrupted_at_random_moments_it_ends_with_the_same_bits(place, reference):
    length, _ = interrupt(place, "undisturbed", [])
    assert_same_bits(place[0] / "undisturbed", reference)
    ends = []
    for seed in range(4):
        random = Random(seed)
        numbers = [random.choice([signal.SIGKILL, signal.SIGTERM]) for _ in range(3)]
        # Three of them are before the end also where the machine is faster by then.
        moments = [(random.uniform(0, 0.3 * length), number) for number in numbers]
        ends += interrupt(place, f"random{seed}", moments)[1]
        assert_same_bits(place[0] / f"random{seed}", reference)
    # Most of the moments were before the end.
    assert sum(end == -signal.SIGKILL for end in ends) >= 3
    assert sum(end in (143, -signal.SIGTERM) for end in ends) >= 3


@pytest.mark.slow
def test_a_checkpoint_of_another_specification_or_code_is_not_taken_up(place):
    for changes in ({"learning_rate": 0.01}, {"code": "other"}):
        process = start_and_wait_for_progress(place, "changed")
        process.kill()
        process.communicate()
        resumed = nclens(*train_arguments(place, "changed", **changes), cwd=place[0])
        assert "goes on" not in resumed.stderr


@pytest.mark.slow
def test_a_checkpoint_of_another_normalisation_is_not_taken_up(place):
    manifest = json.loads((place[0] / "d.json").read_text(encoding="utf-8"))
    changed = manifest | {"std": [2 * value for value in manifest["std"]]}
    (place[0] / "other.json").write_text(json.dumps(changed), encoding="utf-8")
    process = start_and_wait_for_progress(place, "normalised")
    process.kill()
    process.communicate()
    arguments = ["other.json" if part == "d.json" else part for part in train_arguments(place, "normalised")]
    assert "goes on" not in nclens(*arguments, cwd=place[0]).stderr


@pytest.mark.slow
def test_a_damaged_checkpoint_starts_anew(place, reference):
    process = start_and_wait_for_progress(place, "damaged")
    process.kill()
    process.communicate()
    checkpoint = place[0] / "damaged" / ".work" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    resumed = nclens(*train_arguments(place, "damaged"), cwd=place[0])
    assert "starts again" in resumed.stderr
    assert_same_bits(place[0] / "damaged", reference)


@pytest.mark.slow
def test_an_orphan_and_its_successor_never_write_together(place, reference):
    orphan = start_and_wait_for_progress(place, "orphaned")
    successor = nclens(*train_arguments(place, "orphaned"), cwd=place[0])
    assert orphan.wait(60) == 0
    assert "another process is still writing it" in successor.stderr
    assert "already complete" in successor.stderr
    assert_same_bits(place[0] / "orphaned", reference)


@pytest.mark.parametrize("damage", ["truncated", "missing", "of another"])
def test_damaged_data_are_named_with_their_rule(place, tmp_path, damage):
    folder = place[0]
    data = (folder / "d.safetensors").read_bytes()
    manifest = json.loads((folder / "d.json").read_text())
    if damage != "missing":
        (tmp_path / "d.safetensors").write_bytes(data[:-100] if damage == "truncated" else data)
    if damage == "of another":
        manifest["sha256"] = "0" * 64
    (tmp_path / "d.json").write_text(json.dumps(manifest))
    failed = nclens(*train_arguments(place, "run"), cwd=tmp_path, check=False)
    assert failed.returncode == 1
    assert "d.safetensors" in failed.stderr
    assert "rule `prepare`" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_diverging_run_says_where(place):
    failed = nclens(*train_arguments(place, "diverged", learning_rate=1e9), cwd=place[0], check=False)
    assert failed.returncode == 1
    assert "not finite in epoch" in failed.stderr
    assert "learning rate 1e+09" in failed.stderr
    message = failed.stderr.splitlines()[-1]
    # The same command says the same at once; another learning rate, or a word of the user, tries again.
    again = nclens(*train_arguments(place, "diverged", learning_rate=1e9), cwd=place[0], check=False)
    assert again.returncode == 1
    assert message in again.stderr
    assert "not tried again" in again.stderr
    assert "nclens retry diverged" in again.stderr
    assert "will be tried again" in nclens("retry", "diverged", cwd=place[0]).stdout
    retried = nclens(*train_arguments(place, "diverged", learning_rate=1e9), cwd=place[0], check=False)
    assert message in retried.stderr
    assert "not tried again" not in retried.stderr
    nclens(*train_arguments(place, "diverged", learning_rate=0.01), cwd=place[0])
    assert not list((place[0] / "diverged").glob(".failed*"))


def test_on_a_cpu_deterministic_changes_no_bit(place, reference):
    nclens(*train_arguments(place, "deterministic", deterministic=True), cwd=place[0])
    first, second = (RunFolder(run).snapshots for run in (place[0] / "deterministic", reference))
    assert first.read_bytes() == second.read_bytes()


def test_minutes_that_are_none_are_named_and_not_held_against_the_run(place, monkeypatch):
    monkeypatch.setenv("NCLENS_CHECKPOINT_MINUTES", "soon")
    failed = nclens(*train_arguments(place, "unpaused"), cwd=place[0], check=False)
    assert failed.returncode == 1
    assert "NCLENS_CHECKPOINT_MINUTES = 'soon': must be a number of minutes" in failed.stderr
    assert not list((place[0] / "unpaused").glob(".failed*"))


@pytest.mark.slow
def test_what_the_machine_lacks_is_said_and_not_held_against_the_run(place, tmp_path):
    machine = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    # In a new process, as PyTorch reads them when it is imported.
    command = [sys.executable, "-m", "nclens", *train_arguments(place, "uncompiled", compile=True)]
    failed = subprocess.run(command, cwd=place[0], env=os.environ | machine, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "needs a C++ compiler" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list((place[0] / "uncompiled").glob(".failed*"))


@pytest.mark.slow
def test_a_full_disk_ends_the_training_and_what_was_saved_stays(place, reference):
    """A snapshot that cannot be written, in the thread beside the loop, ends the run with the file's name."""
    blocked = place[0] / "full" / ".work" / "snapshots" / "epoch5.safetensors"
    blocked.mkdir(parents=True)
    (blocked / "in the way").write_text("")
    failed = nclens(*train_arguments(place, "full"), cwd=place[0], check=False)
    assert failed.returncode == 1
    assert "cannot write full/.work/snapshots/epoch5.safetensors" in failed.stderr
    assert not list((place[0] / "full").glob(".failed*"))
    shutil.rmtree(blocked)
    resumed = nclens(*train_arguments(place, "full"), cwd=place[0])
    assert "goes on after epoch" in resumed.stderr
    assert_same_bits(place[0] / "full", reference)


def test_the_record_of_a_run_says_what_its_throughput_is_of(reference):
    record = json.loads((reference / "run.json").read_text())
    assert 0 < record["training_seconds"] < record["wall_time"]
    samples = record["steps"] * record["spec"]["training"]["batch_size"]
    assert record["samples_per_second"] == pytest.approx(samples / record["training_seconds"])


FULL = """
import os
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.head = nn.Linear(shape[1] * shape[2], outputs)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)

    def forward(self, images):
        if len(images) > int(os.environ["ROOM"]):
            if os.environ["LACK"] == "gpu":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\\nGPU 0 has ...")
            torch.empty(10**15)
        return self.head(images.flatten(1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("lack", ["gpu", "cpu"])
def test_a_lack_of_memory_names_model_batch_size_and_what_to_lower(place, monkeypatch, lack):
    folder, run, study = place
    (folder / "full.py").write_text(FULL)
    model = {"entry": "mine", "function": "full:Net", "file": "full.py"}
    arguments = train_arguments(place, f"full {lack}", epochs=1)
    spec = json.loads(arguments[2]) | {"model": model, "snapshots": [1]}
    arguments[2] = json.dumps(spec)
    monkeypatch.setenv("LACK", lack)
    monkeypatch.setenv("ROOM", "2")  # enough for building
    failed = nclens(*arguments, cwd=folder, check=False)
    said = "CUDA out of memory. Tried to allocate 20.00 MiB." if lack == "gpu" else "can't allocate memory"
    (line,) = failed.stderr.splitlines()
    assert failed.returncode == 1
    size = spec["training"]["batch_size"]
    assert f"out of memory with model `mine` (full:Net) and training.batch_size = {size}: lower" in line
    assert said in line
    monkeypatch.setenv("ROOM", "1000")
    nclens(*arguments, cwd=folder)
    record = json.loads((folder / f"full {lack}" / "run.json").read_text())
    assert (record["parameters"], record["dim"]) == (784 * 10 + 10, 784)  # those that are trained
    monkeypatch.setenv("ROOM", "2")
    extracted = replace(specs.extract(study, run), model=specs.Entry(**model), snapshots=(1,), kept=(1,))
    extract = ["extract", "--spec", specs.encode(extracted)]
    failed = nclens(*extract, *arguments[5:], cwd=folder, check=False)
    (line,) = failed.stderr.splitlines()
    assert failed.returncode == 1
    assert "out of memory with model `mine` (full:Net) and batches for evaluation" in line
    assert said in line


def test_a_model_that_does_not_fit_the_data_is_told_before_training(place):
    folder = place[0]
    (folder / "wide.py").write_text("from torch import nn\n\ndef net(shape, outputs):\n    return nn.Linear(28, 7)\n")
    arguments = train_arguments(place, "wide")
    model = {"entry": "mine", "function": "wide:net", "file": "wide.py"}
    arguments[2] = json.dumps(json.loads(arguments[2]) | {"model": model})
    failed = nclens(*arguments, cwd=folder, check=False)
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "nclens train: the model wide:net ends in a linear layer with 7 rows; the data need 10"
    ]


def test_the_record_counts_parameters_and_operations(reference):
    record = json.loads((reference / "run.json").read_text())
    network = build_network(specs.flat(specs.Entry(**record["spec"]["model"])), (1, 28, 28), 10)
    assert record["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert record["flops_per_sample"] == count_flops(network, (1, 28, 28)) > 0


@pytest.mark.skipif(
    os.geteuid() == 0 and not os.path.exists("/proc/version"), reason="needs a file system that refuses"
)
def test_a_folder_that_cannot_be_written_is_named(place):
    (place[0] / "a file").write_text("")
    failed = nclens(*train_arguments(place, "a file/run"), cwd=place[0], check=False)
    assert failed.returncode == 1
    assert "cannot write" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_functions_of_the_user_are_trained_without_a_cuda_graph_unless_it_is_required(place, tmp_path):
    """What they do in Python would happen once, in the recording."""
    folder, run, study = place
    (tmp_path / "mine.py").write_text("def mine(logits, targets):\n    return logits.square().sum(1)\n")
    spec = specs.train(study, run)
    own = replace(spec.loss, name=None, function="mine:mine", file=str(tmp_path / "mine.py"), arguments={})

    def chosen(loss, cuda_graph):
        changed = replace(spec, loss=loss, training=replace(spec.training, cuda_graph=cuda_graph))
        manifest = json.loads((folder / "d.json").read_text())
        return _build(changed, folder / "d.safetensors", manifest, None, torch.device("cpu")).settings.cuda_graph

    assert [chosen(spec.loss, "auto"), chosen(own, "auto"), chosen(own, "required")] == ["auto", "never", "required"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda network: None, None),
        (lambda network: network.head.bias.requires_grad_(False), None),
        (lambda network: network.head.weight.requires_grad_(False), "its weight is frozen"),
        (
            lambda network: torch.nn.utils.parametrizations.weight_norm(network.head),
            "its weight is a function of other parameters",
        ),
        (lambda network: setattr(network.backbone, "weight", network.head.weight), "another layer has the same weight"),
        (
            lambda network: network.head.weight.register_hook(lambda slope: slope * 2) and None,
            "a hook sees the gradient of its weight and may change it",
        ),
    ],
    ids=["ordinary", "frozen bias", "frozen", "weight norm", "tied", "hook"],
)
def test_a_run_records_a_classifier_that_its_own_gradient_does_not_move(change, said):
    network = Network(torch.nn.Linear(3, 3), 3, 3)
    change(network)
    assert _not_its_own(network).get("classifier") == said
