"""What tests of finished studies share: two of them, made once."""

import numpy as np
import pytest
import torch

from nclens.workflow.build.functions import load_function
from tests.made import make

PARTS = """
import numpy as np
from torch import nn


def blobs(count):
    random = np.random.default_rng(0)
    targets = np.arange(count) % 3
    rows = random.normal(size=(count, 5)) + 3 * np.eye(5)[targets]
    return {"train_inputs": rows, "train_targets": targets, "test_inputs": rows[:30], "test_targets": targets[:30],
            "classes": ["<b>", "b", "c"]}


def line(count):
    rows = np.random.default_rng(1).normal(size=(count, 4))
    values = rows[:, :2] + 0.1 * rows[:, 2:]
    return {"train_inputs": rows, "train_targets": values, "test_inputs": rows[:20], "test_targets": values[:20]}


def net(shape, outputs):
    return nn.Sequential(nn.Linear(shape[0], 6), nn.Tanh(), nn.Linear(6, outputs))


def drawn(metrics):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot(metrics["epoch"], metrics["value"], ".")
    return figure, metrics.head(3)
"""
TRAINED = {"seeds": [0, 1], "training": {"epochs": 4, "batch_size": 10}, "snapshots": [1, 3, 4]}
DATA = {"blobs": {"function": "parts:blobs", "parameters": {"count": 60}}}
LOSSES = {"ce": {"name": "ce"}, "ls": {"name": "ls", "smoothing": 0.1, "label": "LS <0.1>"}}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The folder of results of a study with one experiment, of the default study's names."""
    project = tmp_path_factory.mktemp("digits")
    (project / "parts.py").write_text(PARTS)
    experiment = {"dataset": "blobs", "model": "mlp", "losses": ["ce", "ls"], **TRAINED}
    raw = {"study": "digits", "title": "Digits & <i>more</i>", "datasets": DATA, "losses": LOSSES}
    raw |= {
        "models": {"mlp": {"name": "mlp", "widths": [6, 5], "signed_features": True}},
        "experiments": {"digits": experiment},
    }
    return make(raw, project).root


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """The folder of results of a study with trained networks, a regression, imported networks and recorded features."""
    project = tmp_path_factory.mktemp("mixed")
    (project / "parts.py").write_text(PARTS)
    net = load_function(project / "parts.py", "parts:net")
    random = np.random.default_rng(2)
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        torch.save(net((5,), 3).state_dict(), project / f"net{epoch}.pt")
        arrays = {"weight": random.normal(size=(3, 6)).astype(np.float32)}
        for split, count in (("train", 60), ("test", 30)):
            arrays[f"{split}_features"] = random.normal(size=(count, 6)).astype(np.float32)
            arrays[f"{split}_labels"] = np.arange(count) % 3
        np.savez(project / f"kept{epoch}.npz", **arrays)
    imported = {"kind": "imported", "dataset": "blobs"}
    own = {"model": "theirs", "normalise": "data"}
    raw = {
        "study": "mixed",
        "datasets": DATA | {"line": {"function": "parts:line", "task": "regression", "parameters": {"count": 40}}},
        "models": {name: {"function": "parts:net"} for name in ("net", "theirs")},
        "losses": {"ce": {"name": "ce"}, "l2": {"name": "squared_error"}},
        "figures": {"mine": {"function": "parts:drawn", "title": "Mine", "experiments": ["first"]}},
        "experiments": {
            "first": {"dataset": "blobs", "model": "net", "losses": ["ce"], "keep_features": "last", **TRAINED},
            "values": {"dataset": "line", "model": "net", "losses": ["l2"], **TRAINED},
            "elsewhere": imported | own | {"runs": {"ce": {0: "net{epoch}.pt"}}},
            "recorded": imported | {"runs": {"kept": {0: "kept{epoch}.npz"}}},
        },
    }
    return make(raw, project).root
