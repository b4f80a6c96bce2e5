"""Preparing a data set: stored as it is, described by its manifest, without ever holding it as floats."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from nclens.workflow import specs
from nclens.workflow.files import read_json, read_tensors
from nclens.workflow.stages.prepare import prepare

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 4), dtype=np.uint8)
TARGETS = np.arange(60) % 3
CONSTANTS = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.243, 0.261]}


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "raw").mkdir()
    np.savez(tmp_path / "raw" / "mine.npz", inputs=IMAGES, targets=TARGETS)
    keys = {
        "train_per_class": 12,
        "test_per_class": 8,
        "split_seed": 0,
        "classes": None,
        "sha256": None,
        "layout": None,
    }
    return specs.Prepare("mine", {"source": "arrays", "path": "mine.npz", "normalisation": None, **keys})


def prepared(spec, tmp_path):
    prepare(spec, tmp_path / "data.safetensors", tmp_path / "data.json", tmp_path / "raw")
    return read_tensors(tmp_path / "data.safetensors", "prepare"), read_json(tmp_path / "data.json", "prepare")


def test_tensors_are_stored_as_they_are_and_described(spec, tmp_path):
    (tensors, metadata), manifest = prepared(spec, tmp_path)
    assert tensors["train.inputs"].dtype == torch.uint8
    assert manifest["sha256"] == metadata["sha256"]
    assert manifest["dataset"] == "mine"
    assert (manifest["train"], manifest["test"], manifest["train_counts"]) == (36, 24, [12] * 3)
    scaled = tensors["train.inputs"].double() / 255
    assert manifest["mean"] == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert manifest["std"] == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), rel=1e-12)


def test_the_same_specification_gives_the_same_bits(spec, tmp_path):
    first = prepared(spec, tmp_path)[1]
    assert prepared(spec, tmp_path)[1] == first
    spec.arguments["split_seed"] = 1
    assert prepared(spec, tmp_path)[1]["sha256"] != first["sha256"]


def test_some_classes_are_kept_and_relabelled_and_normalised_by_themselves(spec, tmp_path):
    (every, _), _ = prepared(spec, tmp_path)
    spec.arguments["classes"] = [2, 0]
    (chosen, _), manifest = prepared(spec, tmp_path)
    assert (manifest["classes"], manifest["class_numbers"], manifest["train_counts"]) == (["2", "0"], [2, 0], [12, 12])
    for split in ("train", "test"):
        for new, old in ((0, 2), (1, 0)):
            own, before = chosen[f"{split}.targets"] == new, every[f"{split}.targets"] == old
            assert torch.equal(chosen[f"{split}.inputs"][own], every[f"{split}.inputs"][before])
    scaled = chosen["train.inputs"].double() / 255
    assert manifest["mean"] == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    spec.arguments["classes"] = [2, 3]
    with pytest.raises(ValueError, match=r"classes = \[2, 3\]: the data have 3 classes, numbered from 0 to 2"):
        prepared(spec, tmp_path)
    spec.arguments["classes"] = ["a", "b", "c"]
    assert prepared(spec, tmp_path)[1]["classes"] == ["a", "b", "c"]


def test_given_constants_take_the_place_of_the_statistics(spec, tmp_path):
    before, _ = prepared(spec, tmp_path)
    spec.arguments["normalisation"] = CONSTANTS
    after, manifest = prepared(spec, tmp_path)
    assert (manifest["mean"], manifest["std"]) == (CONSTANTS["mean"], CONSTANTS["std"])
    assert torch.equal(before[0]["train.inputs"], after[0]["train.inputs"])
    spec.arguments["normalisation"] = {"mean": [0.5], "std": [0.5]}
    with pytest.raises(ValueError, match="normalisation has 1 channels or columns, the inputs have 3"):
        prepared(spec, tmp_path)


def test_an_offset_of_the_inputs_is_in_the_manifest_and_in_the_log(spec, tmp_path, capsys):
    rows = np.stack([1e9 + np.arange(60), np.arange(60)], axis=1)
    np.savez(tmp_path / "raw" / "mine.npz", inputs=rows, targets=TARGETS)
    (tensors, _), manifest = prepared(spec, tmp_path)
    offset, none = manifest["input_offset"]
    assert (offset > 1e9, none) == (True, 0)
    original = tensors["train.inputs"][:, 0].double() + offset
    assert len(torch.unique(original.round())) == 36
    assert "mine: columns [0] of the inputs are stored less their mean" in capsys.readouterr().err
    spec.arguments["normalisation"] = {"mean": [1e9 + 30, 3.0], "std": [17.0, 17.0]}
    _, manifest = prepared(spec, tmp_path)
    assert (manifest["mean"], manifest["std"]) == ([1e9 + 30 - offset, 3.0], [17.0, 17.0])


def test_the_command_finds_data_dir_in_the_environment_or_as_an_option(spec, tmp_path, monkeypatch):

    from typer.testing import CliRunner

    from nclens.cli import app

    monkeypatch.chdir(tmp_path)
    command = ["prepare", "--spec", specs.encode(spec), "--data", "d.safetensors", "--manifest", "d.json"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ValueError)
    assert str(tmp_path / "data" / "mine.npz") in str(result.exception)
    assert CliRunner().invoke(app, [*command, "--data-dir", "raw"]).exit_code == 0
    (tmp_path / "d.json").unlink()
    monkeypatch.setenv("NCLENS_DATA_DIR", str(tmp_path / "raw"))
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "d.json").is_file()


def test_nothing_is_written_when_the_data_do_not_fit(spec, tmp_path):
    spec.arguments["train_per_class"] = 13
    with pytest.raises(
        ValueError,
        match=r"class 0 has 20 samples, .* class 2 has 20 samples, fewer than train_per_class \+ test_per_class = 21",
    ):
        prepared(spec, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}


MEMORY = """
import sys
from pathlib import Path
import torch
from nclens.data.dataset import Dataset
from nclens.data.prepared import place_splits
from nclens.workflow.files import read_tensors, write_tensors
from nclens.workflow.stages.prepare import describe

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

def run(count):
    inputs, targets = torch.full((count, 3, 96, 96), 7, dtype=torch.uint8), torch.arange(count) % 2
    few = {"test_inputs": inputs[:4].clone(), "test_targets": targets[:4].clone()}
    dataset = Dataset(train_inputs=inputs, train_targets=targets, classes=["a", "b"], **few)
    started = peak()
    manifest = describe(dataset)
    write_tensors(sys.argv[1], dataset.tensors)
    del inputs, dataset
    tensors, _ = read_tensors(sys.argv[1], "prepare")
    train, _ = place_splits(tensors, manifest, torch.device("cpu"))
    for start in range(0, count, 250):
        train.normalise(train.inputs[start:start + 250])
    return peak() - started

run(8)
print(run(5000) / (5000 * 3 * 96 * 96))
"""


@pytest.mark.lengthy
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from /proc")
def test_images_of_stl10s_size_are_never_held_as_floats(tmp_path):
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "data.safetensors")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # In bytes per stored byte, beyond the stored tensor itself; as float32 it would be 4 of them, as float64 8.
    assert float(done.stdout) < 3, done.stdout
