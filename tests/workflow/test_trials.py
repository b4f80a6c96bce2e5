"""What `nclens check --data` and `--model` find before anything runs."""

import copy

import pytest
import yaml

from nclens.study import ConfigError
from nclens.workflow.check import check_study
from nclens.workflow.trials import check_batches, described_data, read_data, tried_networks
from tests.process import ROOT

SMOKE = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
MINE = """
import torch
from torch import nn


def data(task):
    rows, numbers = torch.randn(12, 5), torch.arange(12) % 3
    made = {"train_inputs": rows, "train_targets": numbers, "test_inputs": rows, "test_targets": numbers}
    return made if task == "right" else {**made, "train_targets": numbers[:3]}


def model(shape, outputs, hidden, wrong=0):
    return nn.Sequential(nn.Linear(shape[0], hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, outputs + wrong))


def loss(logits, targets, power):
    if power < 0:
        raise RuntimeError("power must be positive")
    return (torch.logsumexp(logits, 1) - logits.gather(1, targets[:, None])[:, 0]) ** power


def detached(logits, targets):
    return loss(logits.detach(), targets, 1)


def centred(logits, targets, *, features, weight, bias):
    assert torch.allclose(features @ weight.T + bias, logits)
    return (features - features.mean(0)).square().sum(1)


def detached_features(logits, targets, features):
    return features.detach().sum(1)
"""


def tried(tmp_path, model=None, losses=None, data="right", dim=None, probes=None):
    raw = copy.deepcopy(SMOKE)
    (tmp_path / "mine.py").write_text(MINE)
    raw["datasets"] = {"rows": {"function": "mine:data", "parameters": {"task": data}}}
    raw["models"] = {"net": {"function": "mine:model", "parameters": model or {"hidden": 7}, "dim": dim}}
    raw["losses"] = {"ce": {"name": "ce"}} | (losses or {})
    (experiment,) = raw["experiments"].values()
    raw["probes"] = probes or {}
    raw["datasets"] |= {
        probe["dataset"]: raw["datasets"]["rows"] for probe in raw["probes"].values() if "dataset" in probe
    }
    experiment |= {"dataset": "rows", "model": "net", "losses": list(raw["losses"]), "probes": list(raw["probes"])}
    study = check_study(raw, [tmp_path])
    found = read_data(study, tmp_path)
    return [*described_data(found), *tried_networks(study, found)]


def test_what_is_fine_is_described(tmp_path):
    own = {"mine": {"function": "mine:loss", "parameters": {"power": 2}}, "centred": {"function": "mine:centred"}}
    assert tried(tmp_path, losses=own, dim=7) == [
        "rows: 12 training and 12 test samples of shape (5,), 3 classes of 4 training samples: 0, 1, 2",
        "rows: the splits train and test are the same samples",
        "models.net on rows: linear head `2`, d = 7, K = 3, 80 parameters",
    ]


def test_a_batch_of_more_samples_than_there_are_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    raw = copy.deepcopy(SMOKE)
    raw["datasets"]["rows"] = {"function": "mine:data", "parameters": {"task": "right"}}
    raw["models"]["mlp"] = {"name": "mlp"}
    raw["experiments"]["rows"] = {**raw["experiments"]["smoke"], "dataset": "rows", "model": "mlp"}
    raw["experiments"]["rows"]["training"] = {"epochs": 1, "batch_size": 12}
    study = check_study(raw, [tmp_path])
    found = read_data(study, tmp_path)
    check_batches(study, found)
    raw["experiments"]["rows"]["training"]["batch_size"] = 13
    said = r"^experiments\.rows\.training\.batch_size = 13: rows has 12 training samples; allowed: at most that many$"
    with pytest.raises(ConfigError, match=said):
        check_batches(check_study(raw, [tmp_path]), found)


def test_the_layers_of_a_probe_are_listed_and_one_that_the_model_lacks_is_refused(tmp_path):
    chosen = {"depth": {"kind": "layers"}, "one": {"kind": "layers", "names": ["0"]}}
    *_, first, second = tried(tmp_path, probes=chosen)
    assert first.startswith("models.net on rows: layers of probes.depth: 1 `0`, 2 `1`")
    assert second == "models.net on rows: layers of probes.one: 1 `0`"
    with pytest.raises(
        ConfigError, match=r"probes\.one on models\.net on rows: the network has no layer x; it has: 0, 1"
    ):
        tried(tmp_path, probes={"one": {"kind": "layers", "names": ["x"]}})


def test_the_feature_map_of_segmentation_is_described_with_its_stride(tmp_path):
    raw = copy.deepcopy(SMOKE)
    raw["datasets"]["scenes"] = {"source": "scenes", "train_scenes": 3, "test_scenes": 2}
    raw["probes"] = {"dense": {"kind": "segmentation", "dataset": "scenes"}}
    raw["experiments"]["smoke"]["probes"] = ["dense"]
    study = check_study(raw, [tmp_path])
    found = read_data(study, tmp_path)
    assert [*described_data(found)][1] == "scenes: 3 training and 2 test samples of shape (1, 96, 96), 11 classes"
    assert [*tried_networks(study, found)][1:] == [
        "models.resnet8 on mnist5k: feature map of probes.dense: 32 channels, stride 8"
    ]
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\ndef model(shape, outputs):\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, outputs))\n"
    )
    raw["models"]["resnet8"] = {"function": "flat:model"}
    with pytest.raises(ConfigError, match=r"probes\.dense on models\.resnet8 on mnist5k: .* pools no feature map"):
        [*tried_networks(check_study(raw, [tmp_path]), found)]


def test_directions_of_a_probe_are_compared_with_the_networks_features(tmp_path):
    probe = {"kind": "out_of_distribution", "dataset": "far", "directions": 7}
    assert tried(tmp_path, probes={"far": probe})
    with pytest.raises(ConfigError, match=r"probes\.far on models\.net on rows: directions = 8, .* 7 dimensions"):
        tried(tmp_path, probes={"far": probe | {"directions": 8}})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"data": "wrong"}, r"datasets\.rows: .*12.*3"),
        ({"model": {"hidden": 7, "wrong": 1}}, r"models\.net on rows: .*mine:model.* 3"),
        (
            {"model": {"hidden": -1}},
            r"models\.net on rows: mine:model \(.*mine\.py, line 13: `return .*`\) failed: RuntimeError",
        ),
        ({"dim": 8}, r"models\.net on rows: dim = 8, but its features have 7 dimensions"),
        (
            {"losses": {"mine": {"function": "mine:loss", "parameters": {"power": -1}}}},
            r"losses\.mine on rows: mine:loss \(.*mine\.py, line 18: `raise .*`\) failed: RuntimeError: power must be",
        ),
        (
            {"losses": {"mine": {"function": "mine:detached"}}},
            "losses.mine on rows: .*no gradient",
        ),
        (
            {"losses": {"mine": {"function": "mine:detached_features"}}},
            "losses.mine on rows: .*no gradient",
        ),
        (
            {"losses": {"mine": {"function": "mine:centred", "parameters": {"features": 1}}}},
            r"gets `features` from us \(logits, targets, features, weight, bias\); as a parameter allowed: none",
        ),
    ],
)
def test_what_would_fail_in_a_job_is_named(tmp_path, parts, message):
    with pytest.raises(ConfigError, match=message):
        tried(tmp_path, **parts)


@pytest.mark.lengthy
def test_regression_counts_its_targets(tmp_path):
    raw = yaml.safe_load((ROOT / "studies" / "regression_more.yaml").read_text(encoding="utf-8"))
    raw["datasets"] = {"strokes": raw["datasets"]["strokes"]}
    raw["experiments"] = {key: entry for key, entry in raw["experiments"].items() if entry["dataset"] == "strokes"}
    study = check_study(raw, [ROOT / "studies"])
    found = read_data(study, tmp_path)
    data, network = *described_data(found), *tried_networks(study, found)
    assert data.endswith(", 4 targets")
    assert ", n = 4, " in network
