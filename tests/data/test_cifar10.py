"""The real CIFAR-10, if available: its statistics, and a network trained on a subset."""

from pathlib import Path

import pytest
import torch

from nclens.data.prepared import place_splits
from nclens.study import load_study
from nclens.training.loop import Trainer
from nclens.workflow import specs
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.files import read_json, read_tensors
from nclens.workflow.stages.prepare import prepare
from tests.training.descents import sgd_settings

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "cifar10"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "cifar-10-batches-py").is_dir(), reason=f"the real CIFAR-10 is not at hand: no {FOLDER}"
)


def prepared(raw_study, folder, **keys):
    raw_study["datasets"] = {"cifar10": {"source": "torchvision", "name": "CIFAR10", **keys}}
    raw_study["experiments"]["smoke"]["dataset"] = "cifar10"
    study = load_study(raw_study)
    prepare(specs.prepare(study, "cifar10"), folder / "data.safetensors", folder / "data.json", FOLDER)
    tensors, _ = read_tensors(folder / "data.safetensors", "prepare")
    return study, tensors, read_json(folder / "data.json", "prepare")


@pytest.mark.slow
def test_the_whole_set_has_its_known_shape_statistics_and_balance(raw_study, tmp_path):
    _, tensors, manifest = prepared(raw_study, tmp_path)
    assert tensors["train.inputs"].shape == (50_000, 3, 32, 32)
    assert tensors["test.inputs"].shape == (10_000, 3, 32, 32)
    assert tensors["train.inputs"].dtype == torch.uint8
    assert tensors["train.targets"].bincount().tolist() == [5000] * 10
    assert tensors["test.targets"].bincount().tolist() == [1000] * 10
    # papers.md rounds the deviations to three digits.
    assert manifest["mean"] == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-3)
    assert manifest["std"] == pytest.approx([0.247, 0.243, 0.261], abs=1e-3)
    assert manifest["classes"][:3] == ["airplane", "automobile", "bird"]
    assert manifest["classes"][-1] == "truck"


@pytest.mark.lengthy
def test_a_network_learns_from_a_balanced_subset(raw_study, tmp_path):
    study, tensors, manifest = prepared(raw_study, tmp_path, train_per_class=40, test_per_class=10)
    assert tensors["train.targets"].bincount().tolist() == [40] * 10
    assert tensors["test.targets"].bincount().tolist() == [10] * 10
    run = next(study.runs())
    spec = specs.train(study, run)
    torch.manual_seed(0)
    network = build_network(specs.flat(spec.model), manifest["shape"], len(manifest["classes"]))
    splits = place_splits(tensors, manifest, torch.device("cpu"))
    settings = sgd_settings(epochs=8, batch_size=40, learning_rate=0.05)
    trainer = Trainer(network, build_loss(spec.loss), *splits, settings, seed=0)
    while trainer.epoch < settings.epochs:
        trainer.advance()
    first, last = (next(row for row in trainer.history[at:] if row["split"] == "train") for at in (0, -2))
    assert last["loss"] < first["loss"] - 0.2
    assert last["error"] < first["error"] < 0.95


def test_a_parent_of_the_right_folder_is_reported(raw_study, tmp_path, monkeypatch):
    from nclens.data import download, raw

    def unreachable(*arguments):
        raise download.NotFetchedError("no network")

    monkeypatch.setattr(raw, "download", unreachable)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10").symlink_to(FOLDER)
    raw_study["datasets"] = {"c": {"source": "torchvision", "name": "CIFAR10"}}
    raw_study["experiments"]["smoke"]["dataset"] = "c"
    spec = specs.prepare(load_study(raw_study), "c")
    with pytest.raises(OSError, match=r"perhaps .*data/cifar10$"):
        prepare(spec, tmp_path / "d.safetensors", tmp_path / "d.json", tmp_path / "data")
