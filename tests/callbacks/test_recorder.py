"""What the recorder writes, whole or not at all."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import nclens

LABELS = torch.arange(8) % 2
FEATURES = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
HEAD = nn.Linear(3, 2)
GIVEN = {
    "train": (FEATURES, LABELS),
    "test": (FEATURES[:4].bfloat16(), LABELS[:4].numpy().astype(np.uint8)),
    "head": HEAD,
}


def test_an_epoch_is_one_file_of_plain_arrays(tmp_path):
    recorder = nclens.Recorder(tmp_path / "mine", loss="ls", seed=3)
    assert not (tmp_path / "mine").exists()
    for epoch in (0, np.int64(12)):
        assert recorder.log(epoch, **GIVEN) == tmp_path / "mine" / "ls" / "seed3" / f"epoch{epoch}.npz"
    with np.load(tmp_path / "mine/ls/seed3/epoch12.npz", allow_pickle=False) as file:
        found = dict(file)
    expected = {
        "train_features": FEATURES.float().numpy(),
        "train_labels": LABELS.numpy(),
        "test_features": FEATURES[:4].bfloat16().float().numpy(),
        "test_labels": LABELS[:4].numpy(),
        "weight": HEAD.weight.detach().numpy(),
        "bias": HEAD.bias.detach().numpy(),
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == (np.int64 if "labels" in name else np.float32)
        np.testing.assert_array_equal(found[name], array)


def test_a_head_without_bias_and_an_epoch_again(tmp_path):
    recorder = nclens.Recorder(str(tmp_path), loss="ce", seed=0)
    recorder.log(1, **GIVEN)
    path = recorder.log(1, **GIVEN | {"head": nn.Linear(3, 2, bias=False)})
    with np.load(path) as file:
        assert "bias" not in file
    assert [one.name for one in path.parent.iterdir()] == ["epoch1.npz"]
    assert path.stat().st_mode & 0o444 == 0o444


def test_what_a_watch_collects_is_recorded(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    loader, watch = [(FEATURES[:, :2].float(), LABELS)], nclens.watch(model)
    path = nclens.Recorder(tmp_path, loss="ce", seed=0).log(
        1, train=watch.collect(loader), test=watch.collect(loader), head=watch.head
    )
    with np.load(path) as file:
        np.testing.assert_array_equal(file["train_features"], model[:2](FEATURES[:, :2].float()).detach())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train": (FEATURES[:, :2], LABELS)},
            r"train: features: expected a floating-point tensor of shape \(any, 3\)",
        ),
        ({"test": (FEATURES, LABELS[1:])}, r"test: labels: expected shape \(8,\)"),
        ({"test": (FEATURES, LABELS + 1)}, r"test: labels must lie in \[0, 2\), got 2 at index 1"),
        ({"train": (FEATURES / 0, LABELS)}, "train: features: every value must be finite"),
        ({"train": (FEATURES * 1e300, LABELS)}, "train: features: a value exceeds float32"),
        ({"train": FEATURES}, r"train: expected \(features, labels\), got Tensor"),
        ({"head": nn.ReLU()}, r"head: expected a layer with a weight \(K, d\), got ReLU"),
        ({"epoch": -1}, "epoch: expected an integer of 0 or more, got -1"),
        ({"epoch": 1.5}, "epoch: expected an integer of 0 or more, got 1.5"),
    ],
)
def test_nothing_wrong_is_written(tmp_path, changed, message):
    recorder = nclens.Recorder(tmp_path, loss="ce", seed=0)
    with pytest.raises(ValueError, match=message):
        recorder.log(**{"epoch": 1, **GIVEN, **changed})
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"loss": "../ce", "seed": 0},
            "loss: expected a letter and at most 63 letters, digits and _ . . -, got '../ce'",
        ),
        ({"loss": "", "seed": 0}, "loss: expected a letter"),
        ({"loss": "ce", "seed": math.pi}, "seed: expected an integer of 0 or more"),
        ({"loss": "ce", "seed": True}, "seed: expected an integer of 0 or more"),
    ],
)
def test_a_run_has_a_name(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        nclens.Recorder(tmp_path, **options)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        nclens.Recorder(tmp_path, loss="ce", seed=0).log(1, **GIVEN)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
