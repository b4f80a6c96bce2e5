"""Training a student as its users meet it: whose snapshot it reads, and what happens when that changes or is lost."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.epochs import read_epoch
from nclens.workflow.paths import RunFolder, path_of
from tests.epochs import read_all, write_all
from tests.process import ROOT, Process, nclens, wait_for

pytestmark = pytest.mark.lengthy

TEACHER, STUDENT, ALONE = (f"own/mnist5k/{name}/seed0" for name in ("resnet8/ls", "small/student", "small/ce"))
SNAPSHOTS = f"{TEACHER}/snapshots.safetensors"


@pytest.fixture(autouse=True, scope="module")
def _frequent_checkpoints():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCLENS_CHECKPOINT_MINUTES", "0.001")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a teacher, its student and the student's network trained alone, and their specifications."""
    folder = tmp_path_factory.mktemp("students")
    raw = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    raw["study"] = "own"
    raw["models"]["small"] = {"name": "resnet8", "width": 2}
    raw["losses"]["student"] = {"name": "distillation", "teacher": {"experiment": "smoke", "loss": "ls"}}
    raw["experiments"]["smoke"]["training"] |= {"epochs": 20, "augmentation": "flip_crop"}
    raw["experiments"]["smoke"]["snapshots"] = [0, 20]
    students = {"model": "small", "losses": ["ce", "student"], "seeds": [0]}
    raw["experiments"]["students"] = raw["experiments"]["smoke"] | students
    study = load_study(raw)
    spec, files = specs.encode(specs.prepare(study, "mnist5k")), ["--data", "d.safetensors", "--manifest", "d.json"]
    nclens("prepare", "--spec", spec, *files, cwd=folder)
    wanted = {f"own/{path_of(run)}": specs.train(study, run) for run in study.runs()}
    for run in (TEACHER, STUDENT, ALONE):
        nclens("train", *arguments(wanted, run), cwd=folder)
    return folder, wanted


def arguments(wanted, run, code="c", **changes):
    spec = replace(wanted[run], training=replace(wanted[run].training, **changes))
    files = ["--data", "d.safetensors", "--manifest", "d.json"]
    return ["--spec", specs.encode(spec), "--code", code, *files, "--run", run]


@pytest.fixture
def place(trained, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(trained[0], tmp_path / "copy")
    return tmp_path / "copy", trained[1]


def digest(folder, run, epoch):
    return read_epoch(RunFolder(folder / run).snapshots, epoch, "train")[1]


def test_a_student_begins_as_the_same_network_alone_and_records_its_teacher(trained):
    folder, _ = trained
    assert digest(folder, STUDENT, 0) == digest(folder, ALONE, 0)
    assert digest(folder, STUDENT, 20) != digest(folder, ALONE, 20)
    record = json.loads((folder / STUDENT / "run.json").read_text())
    assert record["teacher_sha256"] == digest(folder, TEACHER, 20)
    assert record["spec"]["teacher"]["run"] == TEACHER.removeprefix("own/")
    assert "teacher_sha256" not in json.loads((folder / ALONE / "run.json").read_text())


def kill_at_a_checkpoint(folder, wanted):
    """Start the student again and kill it once a checkpoint is there."""
    shutil.rmtree(folder / STUDENT)
    process = Process(["nclens", "train", *arguments(wanted, STUDENT)], cwd=folder)
    wait_for(folder / STUDENT / ".work" / "checkpoint.safetensors", process)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_killed_student_ends_with_the_same_bits(place, trained):
    folder, wanted = place
    kill_at_a_checkpoint(folder, wanted)
    assert "goes on after epoch" in nclens("train", *arguments(wanted, STUDENT), cwd=folder).stderr
    assert digest(folder, STUDENT, 20) == digest(trained[0], STUDENT, 20)
    tables = [pd.read_csv(root / STUDENT / "history.csv").drop(columns="seconds") for root in (folder, trained[0])]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.slow
def test_a_checkpoint_under_another_teacher_is_not_taken_up(place, trained):
    folder, wanted = place
    kill_at_a_checkpoint(folder, wanted)
    nclens("train", *arguments(wanted, TEACHER, clip_gradient_norm=0.5), cwd=folder)
    assert "goes on" not in nclens("train", *arguments(wanted, STUDENT), cwd=folder).stderr
    assert digest(folder, STUDENT, 0) == digest(trained[0], STUDENT, 0)
    assert digest(folder, STUDENT, 20) != digest(trained[0], STUDENT, 20)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "is missing: the rule `train` makes it"),
        (lambda file: file.write_bytes(file.read_bytes()[:-7]), "is damaged"),
        (lambda file: shutil.copy(file.parents[4] / f"{ALONE[4:]}/snapshots.safetensors", file), "is damaged"),
        (lambda file: write_all(file, read_all(file, (0,), "train")), "is damaged (it lacks epoch 20)"),
    ],
    ids=["missing", "truncated", "of another network", "without its last epoch"],
)
def test_a_teacher_that_is_missing_or_damaged_is_named_with_its_rule(place, damage, words):
    folder, wanted = place
    damage(folder / SNAPSHOTS)
    shutil.rmtree(folder / STUDENT)
    failed = nclens("train", *arguments(wanted, STUDENT), cwd=folder, check=False)
    assert failed.returncode == 1
    assert f"{SNAPSHOTS} {words}" in failed.stderr
    assert "rule `train`" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list((folder / STUDENT).glob(".failed*"))
