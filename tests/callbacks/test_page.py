"""The lines of docs/callbacks.md work as they stand there, each with the real library."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import nclens
from nclens._torchvision import repair_on_import
from tests.process import python
from tests.project import ROOT

PAGE = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")


def lines(chapter):
    """The code of a chapter of the page."""
    text = PAGE.split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the page takes for granted."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    data = list(zip(torch.randn(40, 4) + labels[:, None], labels, strict=True))
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "loss": nn.CrossEntropyLoss(),
        "train_loader": DataLoader(data, 10),
        "val_loader": DataLoader(data, 10),
        "test_loader": DataLoader(data, 10),
        "train_one_epoch": nn.Module.train,
    }


def test_ten_lines_each():
    for chapter in ("A loop in PyTorch", "Lightning", "Hugging Face", "Recording for a study"):
        assert len([line for line in lines(chapter).splitlines() if line.strip()]) <= 10


def test_a_loop_in_pytorch(names):
    exec(lines("A loop in PyTorch"), names)
    assert names["values"]["nc1"] == nclens.watch(names["model"]).measure(names["train_loader"])["nc1"]


def test_recording(names, tmp_path):
    exec(lines("Recording for a study"), names)
    for epoch in (1, 2):
        with np.load(tmp_path / f"results/mine/ls/seed0/epoch{epoch}.npz") as file:
            assert file["train_features"].shape == (40, 8)
            splits = {f"{split}_{what}" for split in ("train", "test") for what in ("features", "labels")}
            assert set(file) == {*splits, "weight", "bias"}
            assert all(f"`{name}`" in nclens.Recorder.__doc__ for name in file)


@pytest.mark.lengthy
def test_lightning(names, tmp_path):
    repair_on_import()
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = names["model"]

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, number):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def validation_step(self, batch, number):
            pass

    names |= {"module": Module(), "logger": lightning.loggers.CSVLogger(tmp_path)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(lines("Lightning"), names)
    value = nclens.watch(names["model"]).measure(names["val_loader"])["nc1"]
    assert float(names["trainer"].callback_metrics["val/nc1"]) == pytest.approx(value, rel=1e-5)


@pytest.mark.lengthy
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_hugging_face(names):
    repair_on_import()
    pytest.importorskip("transformers")
    from tests.callbacks.test_huggingface import Rows, model

    names |= {"model": model(), "train_dataset": Rows(), "eval_dataset": Rows(seed=1), "report_to": []}
    exec(lines("Hugging Face"), names)
    assert "eval_nc1" in names["trainer"].state.log_history[0]


@pytest.mark.slow
def test_wandb_in_a_loop(names, monkeypatch, tmp_path, wandb):
    logged = []
    log = wandb.Run.log
    monkeypatch.setattr(wandb.Run, "log", lambda run, values, **more: (logged.append(values), log(run, values, **more)))
    exec(lines("Weights & Biases and MLflow"), names)
    # Offline, a run's summary stays in its file.
    assert logged[-1]["train/nc1"] == names["values"]["nc1"]
    assert list(tmp_path.rglob("*.wandb"))


@pytest.mark.lengthy
@pytest.mark.parametrize("chapter", ["Lightning", "Hugging Face"])
def test_a_callback_comes_before_the_library_that_needs_torchvision(chapter):
    imports = [line for line in lines(chapter).splitlines() if line.startswith(("import", "from"))]
    python("\n".join(imports))
