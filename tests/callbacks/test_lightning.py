"""Lightning's own training with the callback: its logger gets the values, which are those of the network."""

import csv
import math
import warnings
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nclens
from nclens._torchvision import repair_on_import
from tests.callbacks.processes import run_two

pytestmark = [
    pytest.mark.lengthy,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@cache
def library():
    """Lightning, which takes seconds to import: not where its tests are only collected."""
    repair_on_import()
    return pytest.importorskip("lightning.pytorch")


@cache
def module_class():
    class Module(library().LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, number):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, number):
            self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    return Module


def data(samples=51, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 3
    return TensorDataset(torch.randn(samples, 5, generator=generator) + labels[:, None], labels)


def fit(folder, callbacks, module=None, loader=None, **options):
    module = module or module_class()()
    options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1} | options
    trainer = library().Trainer(
        default_root_dir=folder,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **{"logger": False, **options},
    )
    loader = loader or DataLoader(data(), 17, shuffle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader, DataLoader(data(seed=1), 10))
    return trainer, module


def test_the_trainers_logger_gets_what_the_network_is(tmp_path):
    logger = library().loggers.CSVLogger(tmp_path)
    callback = nclens.LightningCallback()
    trainer, module = fit(tmp_path, [callback], logger=logger)
    for name, dataset in {"train": data(), "val": data(seed=1)}.items():
        values = nclens.watch(module).measure(DataLoader(dataset, 10))
        assert callback.values[name] == pytest.approx(values, rel=1e-5)
        logged = {key: float(trainer.callback_metrics[f"{name}/{key}"]) for key in values}
        assert logged == pytest.approx(values, rel=1e-5)
    with open(tmp_path / "lightning_logs/version_0/metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["train/nc1"]]
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[-1]["val/nc3"]) == pytest.approx(callback.values["val"]["nc3"], rel=1e-5)


def test_loaders_epochs_and_steps_of_ones_own(tmp_path):
    seen = []

    def step(module, batch):
        seen.append(module.trainer.current_epoch)
        module(batch["x"])
        return batch["y"]

    inputs, labels = data().tensors
    callback = nclens.LightningCallback(
        "net.4", loaders={"mine": [{"x": inputs, "y": labels}]}, every=2, step=step, nc4=False, min_samples=3
    )
    _, module = fit(tmp_path, [callback], max_epochs=5)
    assert seen == [1, 3, 4]
    values = nclens.watch(module).measure([(inputs, labels)], nc4=False)
    assert callback.values == {"mine": pytest.approx(values, rel=1e-6)}


def test_the_training_is_the_same_with_and_without_it(tmp_path):
    def train(callbacks):
        library().seed_everything(3, verbose=False)
        return fit(tmp_path, callbacks)[1].state_dict()

    watched, alone = train([nclens.LightningCallback()]), train([])
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


def test_mixed_and_half_precision(tmp_path):
    for precision, tolerance in (("bf16-mixed", 1e-5), ("bf16-true", 1e-6)):
        callback = nclens.LightningCallback()
        _, module = fit(tmp_path, [callback], precision=precision, max_epochs=1)
        inputs, labels = data().tensors
        dtype = module.net[0].weight.dtype
        values = nclens.watch(module).measure(
            [(part.to(dtype), y) for part, y in zip(inputs.split(10), labels.split(10), strict=True)]
        )
        assert callback.values["train"] == pytest.approx(values, rel=tolerance)


def test_several_loaders_and_wrong_options(tmp_path):
    loaders = {"a": DataLoader(data(), 17), "b": DataLoader(data(), 17)}

    class Both(module_class()):
        def training_step(self, batch, number):
            return super().training_step(batch["a"], number)

    with pytest.raises(ValueError, match="loaders: the trainer has several for `train`; name those to measure"):
        fit(tmp_path, [nclens.LightningCallback()], Both(), loaders)
    with pytest.raises(ValueError, match="every: expected an integer of 1 or more, got 0"):
        nclens.LightningCallback(every=0)


@pytest.mark.slow
def test_mlflow_gets_the_values(tmp_path):
    from mlflow import MlflowClient

    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    logger = library().loggers.MLFlowLogger("collapse", tracking_uri=address, artifact_location=str(tmp_path / "files"))
    callback = nclens.LightningCallback()
    fit(tmp_path, [callback], logger=logger)
    history = MlflowClient(address).get_metric_history(logger.run_id, "val/nc1")
    assert len(history) == 2
    assert history[-1].value == pytest.approx(callback.values["val"]["nc1"], rel=1e-5)


@pytest.mark.slow
def test_wandb_gets_the_values(tmp_path, wandb):
    logger = library().loggers.WandbLogger(project="collapse", save_dir=str(tmp_path), offline=True)
    callback = nclens.LightningCallback()
    fit(tmp_path, [callback], logger=logger)
    summary = dict(logger.experiment.summary)
    wandb.finish()
    for key, value in callback.values["val"].items():
        assert summary[f"val/{key}"] == pytest.approx(value, rel=1e-5)
    assert list(tmp_path.rglob("*.wandb"))


PROCESS = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
import nclens
from tests.callbacks.test_lightning import data, fit
rank, folder, port = int(sys.argv[1]), sys.argv[2], sys.argv[3]
import os
os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
callback = nclens.LightningCallback(min_samples=17)
trainer, module = fit(folder, [callback], devices=2, strategy="ddp", max_epochs=1)
logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
torch.save((callback.values, logged, module.state_dict()), f"{folder}/values{rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_real_processes_are_one(tmp_path):
    """51 samples, 17 a class, of which one is repeated as padding: with it a class would have 18."""
    run_two(PROCESS, tmp_path)
    for rank in (0, 1):
        values, logged, state = torch.load(tmp_path / f"values{rank}.pt")
        module = module_class()()
        module.load_state_dict(state)
        for name, dataset in {"train": data(), "val": data(seed=1)}.items():
            one = nclens.watch(module).measure(DataLoader(dataset, 51))
            assert one["classes_measured"] == 3
            assert values[name] == pytest.approx(one, rel=1e-5)
            assert all(math.isclose(logged[f"{name}/{key}"], one[key], rel_tol=1e-5, abs_tol=1e-9) for key in one)
