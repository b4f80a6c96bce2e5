"""The stages on streamed images: killed inside an epoch, with other workers, after the files have changed."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml

from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.epochs import read_epoch
from nclens.workflow.files import read_tensors
from nclens.workflow.paths import RunFolder
from nclens.workflow.plan import Plan
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.stages.train import train
from nclens.workflow.streams import VARIABLE, read_manifest
from tests.data.pictures import pictures
from tests.process import ROOT, python

SHARED = ROOT.parent / "shared" / "data" / "tinyimagenet20"

#: Trains in forked children; each but the last is killed when it has taken so many steps more, the workers of some by
#: a signal to the whole group before. Prints how many steps were taken when each began.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from nclens.training.loop import Trainer
from nclens.workflow.specs import Train, decode
from nclens.workflow.stages import train as stage

spec, run, kills = decode(Train, sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
advance, resume = Trainer.advance, stage._resume
for steps, number in [*kills, (None, 0)]:
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        left = steps

        def watched(self, stop):
            def stopped():
                global left
                due = stop()
                if left is not None and (left := left - 1) == 0:
                    os.killpg(0, number)
                return due or stop()

            return advance(self, stopped)

        def said(trainer, *arguments):
            seconds = resume(trainer, *arguments)
            print(trainer.epoch, trainer.step, flush=True)
            return seconds

        Trainer.advance, stage._resume = watched, said
        stage.train(spec, "c", Path("d.safetensors"), Path("d.json"), run, 1, False)
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prepared files, a study of them, and one of its runs, trained without a pause or a worker."""
    folder = tmp_path_factory.mktemp("stream")
    pictures(folder / "data" / "pets", train=10, test=4)
    raw = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    pets = {"source": "imagefolder", "path": "pets", "storage": "stream", "image_size": 16, "workers": 2}
    raw["datasets"] = {"pets": pets}
    raw["models"]["resnet8"]["width"] = 2
    smoke = raw["experiments"]["smoke"]
    smoke |= {"dataset": "pets", "snapshots": 1, "training": {"epochs": 2, "batch_size": 5}}
    study = load_study(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(specs.prepare(study, "pets"), Path("d.safetensors"), Path("d.json"), paths={"path": "pets"})
    return folder, study


@pytest.fixture
def inside(place, monkeypatch):
    """The folder as the current one; a checkpoint after each step, and no worker."""
    monkeypatch.chdir(place[0])
    monkeypatch.setenv("NCLENS_CHECKPOINT_MINUTES", "0.0000001")
    monkeypatch.setenv(VARIABLE, json.dumps({"pets": {"workers": 0}}))
    return place[1]


def spec_of(study):
    return specs.train(study, next(study.runs()))


def trained(study, name):
    """A run that is trained in this process, whose handlers of signals stay."""
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    train(spec_of(study), "c", Path("d.safetensors"), Path("d.json"), Path(name), 1, False)
    for one, handler in handlers.items():
        signal.signal(one, handler)


def results(name):
    history = (Path(name) / "history.csv").read_text().splitlines()
    return read_epoch(RunFolder(Path(name)).snapshots, 2, "train")[1], [line.rsplit(",", 1)[0] for line in history]


@pytest.mark.lengthy
def test_features_are_in_the_order_of_the_files(inside):
    trained(inside, "m/l/p/seed0")
    spec = specs.extract(inside, next(inside.runs()))
    extract(spec, Path("d.safetensors"), Path("d.json"), Path("m/l/p/seed0"), 1)
    found, _ = read_epoch(RunFolder(Path("m/l/p/seed0")).features, 2, "extract")
    assert found["train.targets"].tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert found["test.features"].shape == (12, 8)
    assert len(found["test.features"].unique(dim=0)) == 12


@pytest.mark.slow
def test_killed_inside_epochs_it_ends_with_the_same_bits(inside, monkeypatch):
    trained(inside, "whole")
    monkeypatch.setenv(VARIABLE, json.dumps({"pets": {"workers": 2}}))
    kills = [(2, signal.SIGKILL), (1, signal.SIGTERM), (4, signal.SIGINT), (3, signal.SIGKILL)]
    done = python(KILLED, specs.encode(spec_of(inside)), "killed", json.dumps(kills), cwd=Path.cwd())
    said = done.stdout.split("\n")
    ends = [int(line.split()[1]) for line in said if line.startswith("ended")]
    # A signal that can be caught ends the step, and the process by its own exit code; the workers do not die of it.
    assert ends == [-signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGKILL, 0]
    begun = [tuple(map(int, line.split())) for line in said if line[:1].isdigit()]
    assert begun[0] == (0, 0)
    assert sum(step > 0 for _, step in begun) >= 3
    assert results("killed") == results("whole")


@pytest.mark.lengthy
def test_a_file_that_has_changed_since_it_was_prepared_stops_the_training_by_its_name(inside, tmp_path):
    path = Path("data/pets/train/dog/003.jpg").absolute()
    content = path.read_bytes()
    path.write_bytes(content + b"1")
    try:
        with pytest.raises(OSError, match=r"data/pets/train/dog/003.jpg has changed since the data set was prepared"):
            trained(inside, "changed")
    finally:
        path.write_bytes(content)
    assert not Path("changed/.failed.json").exists()


def test_where_files_are_is_what_the_workflow_says(inside, monkeypatch):
    assert read_manifest("d.json")["root"] == "data/pets"
    monkeypatch.setenv(VARIABLE, json.dumps({"pets": {"root": "elsewhere", "workers": 1}}))
    assert {key: read_manifest("d.json")[key] for key in ("root", "workers")} == {"root": "elsewhere", "workers": 1}
    monkeypatch.setenv(VARIABLE, "[1]")
    with pytest.raises(OSError, match="NCLENS_STREAMS must be a JSON table"):
        read_manifest("d.json")
    known = json.loads(Plan(inside).environment[VARIABLE])
    assert known == {"pets": {"root": "data/pets", "workers": 2}}


def test_the_manifest_has_what_was_found(inside):
    manifest = json.loads(Path("d.json").read_text())
    assert (manifest["train"], manifest["test"], manifest["classes"]) == (30, 12, ["cat", "dog", "owl"])
    assert manifest["stream"]["random_resized_crop"] == {"scale": [0.08, 1.0], "ratio": [0.75, 4 / 3]}
    assert "workers" not in manifest
    tensors, metadata = read_tensors("d.safetensors", "prepare")
    assert metadata["sha256"] == manifest["sha256"]
    assert tensors["files.sizes"].sum() == manifest["bytes"]


@pytest.mark.lengthy
@pytest.mark.skipif(not SHARED.is_dir(), reason="no images of Tiny ImageNet here")
def test_images_of_tiny_imagenet_are_streamed(inside, tmp_path):
    raw = {"source": "imagefolder", "path": str(SHARED), "storage": "stream", "image_size": 56, "resize_size": 64}
    raw |= {"train_per_class": 5, "test_per_class": 2, "rand_augment": {}}
    study = load_study({**inside.model_dump(mode="json", by_alias=True), "datasets": {"pets": raw}})
    data, manifest = tmp_path / "d.safetensors", tmp_path / "d.json"
    prepare(specs.prepare(study, "pets"), data, manifest, paths={"path": str(SHARED)})
    described = read_manifest(manifest)
    assert (len(described["classes"]), described["train"], described["test"]) == (20, 100, 40)
    assert described["mean"] == pytest.approx([0.48, 0.45, 0.40], abs=0.06)  # as ImageNet's
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    os.environ.pop(VARIABLE)
    train(spec_of(study), "c", data, manifest, tmp_path / "run", 1, False)
    for one, handler in handlers.items():
        signal.signal(one, handler)
    found, _ = read_epoch(RunFolder(tmp_path / "run").snapshots, 2, "train")
    assert all(torch.isfinite(values).all() for values in found.values())
