"""The stage `extract`: features, logits and head are those of one forward pass, and the logits are h W' + b."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

import nclens
from nclens.data.tasks import held_out_split
from nclens.metrics.sufficient import SufficientStatistics
from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.build.models import build_network
from nclens.workflow.build.statistics import MOST_SHOWN, sampled
from nclens.workflow.epochs import has_epoch, read_epoch
from nclens.workflow.files import FileError, read_json, read_tensors
from nclens.workflow.paths import RunFolder, path_of
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.measure import measure
from nclens.workflow.stages.prepare import prepare
from tests.epochs import read_all, write_all

pytestmark = pytest.mark.lengthy

#: A data set and the same network with a head that PyTorch reparametrises by hooks or by a parametrisation.
OWN = """
import warnings

import numpy as np
import torch
from torch import nn


def data():
    random = np.random.default_rng(0)
    labels = np.arange(600) % 3
    inputs = random.normal(size=(600, 4)) + np.eye(3, 4)[labels]
    return {"train_inputs": inputs[:540], "train_targets": labels[:540], "test_inputs": inputs[540:],
            "test_targets": labels[540:], "val_inputs": inputs[550:560], "val_targets": labels[550:560]}


def net(shape, outputs, wrap="plain"):
    torch.set_float32_matmul_precision("medium")  # extraction is in float32 whatever the file does
    head = nn.Linear(8, outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if wrap.endswith("hooks"):
            head = getattr(nn.utils, wrap.removesuffix("_hooks"))(head)
        elif wrap.endswith("norm"):
            head = getattr(nn.utils.parametrizations, wrap)(head)
    if wrap != "scaled":
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), head)
    # A factor that no parameter of the head holds, and that is 1 at first.
    body = nn.Linear(4, 8)
    nn.init.ones_(body.bias)
    affine = head.forward
    head.forward = lambda features: body.bias[0] * affine(features)
    return nn.Sequential(body, nn.ReLU(), head)
"""


class Runs:
    """Runs on disk whose snapshots are made by hand, one for each way to write the head."""

    def __init__(self, folder, wraps):
        (folder / "heads.py").write_text(OWN)
        raw = {
            "study": "heads",
            "datasets": {"rows": {"function": "heads:data"}},
            "models": {wrap: {"function": "heads:net", "parameters": {"wrap": wrap}} for wrap in wraps},
            "losses": {"ce": {"name": "ce"}},
            "experiments": {
                wrap: {
                    **{"dataset": "rows", "model": wrap, "losses": ["ce"], "seeds": [0], "snapshots": [1, 2]},
                    "training": {"epochs": 2, "batch_size": 20, "optimizer": {"name": "sgd", "learning_rate": 0.1}},
                }
                for wrap in wraps
            },
        }
        self.study, self.root = load_study(raw, [folder]), folder / "results"
        self.runs = {run.model: run for run in self.study.runs()}
        self.data, self.manifest = self.root / "rows.safetensors", self.root / "rows.json"
        paths = specs.user_paths(self.study.datasets["rows"])
        prepare(specs.prepare(self.study, "rows"), self.data, self.manifest, paths=paths)

    def folder(self, wrap):
        return RunFolder(self.root / path_of(self.runs[wrap]))

    def network(self, wrap):
        spec = specs.extract(self.study, self.runs[wrap])
        return build_network(specs.flat(spec.model), (4,), 3)

    def extract(self, wrap, *snapshots, earlier=False, **changes):
        """Write the snapshots of epochs 1, 2 and extract them; return the run's folder."""
        folder = self.folder(wrap)
        write_all(folder.snapshots, dict(enumerate(snapshots, 1)))
        spec = replace(specs.extract(self.study, self.runs[wrap]), **changes)
        extract(spec, self.data, self.manifest, folder.folder, 1, earlier)
        return folder

    def extracted(self, wrap, *snapshots):
        """Write the snapshots of epochs 1, 2, extract them and return what was written."""
        return list(read_all(self.extract(wrap, *snapshots).features, (1, 2), "extract").values())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    wraps = ["plain", "weight_norm", "weight_norm_hooks", "spectral_norm", "spectral_norm_hooks", "scaled"]
    return Runs(tmp_path_factory.mktemp("heads"), wraps)


#: Name of a parameter or buffer of a parametrised head -> of the same head with hooks.
OLD_NAMES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def with_hooks(weights):
    """Return a parametrised network's weights under the names of the same network with hooks."""
    prefix = "head.parametrizations."
    kept = {key: value for key, value in weights.items() if not key.startswith(prefix)}
    made = {f"head.{OLD_NAMES[key.removeprefix('head.')]}": weights[key] for key in weights if key.startswith(prefix)}
    return kept | made


def collapse(found):
    return nclens.neural_collapse(found["train.features"], found["train.targets"], found["weight"], found["bias"])


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm"])
def test_a_head_with_hooks_is_stored_as_the_same_head_with_a_parametrisation(runs, wrap):
    torch.manual_seed(5)
    snapshots = []
    for scale in (1.0, 3.0):
        network = runs.network(wrap).train()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape))
            network(torch.randn(9, 4))  # changes the vectors of the power iteration
        snapshots.append({key: value.clone() for key, value in network.state_dict().items()})
    right = runs.extracted(wrap, *snapshots)
    found = runs.extracted(f"{wrap}_hooks", *map(with_hooks, snapshots))
    for one, other in zip(found, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            torch.testing.assert_close(one[key], other[key])
        assert collapse(one) == pytest.approx(collapse(other), rel=1e-4)
        affine = one["test.features"] @ one["weight"].T + one["bias"]
        torch.testing.assert_close(one["test.logits"], affine, rtol=1e-4, atol=1e-4)
    assert not torch.equal(found[0]["weight"], found[1]["weight"])


def test_a_head_that_changes_in_training_is_refused_at_the_first_snapshot_where_it_is_not_affine(runs):
    weights = {key: torch.ones_like(value) for key, value in runs.network("scaled").state_dict().items()}
    later = {key: 2 * value for key, value in weights.items()}
    words = (
        r"seed0, epoch 2, train split: the head `2` \(Linear\) is not z = W h \+ b: a logit differs from it by \d.*"
        r"; end in a plain nn\.Linear: scale or normalise the features before it"
    )
    with pytest.raises(ValueError, match=words):
        runs.extracted("scaled", weights, later)
    assert not runs.folder("scaled").features.exists()
    assert {path.name for path in runs.folder("scaled").folder.iterdir()} == {"snapshots.safetensors"}


def test_float32_is_exact_whatever_the_users_file_sets(runs):
    torch.manual_seed(0)
    weights = runs.network("plain").state_dict()
    assert torch.get_float32_matmul_precision() == "medium"
    runs.extracted("plain", weights, weights)
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_validation_split_is_extracted_as_the_others(runs):
    weights = runs.network("plain").state_dict()
    for found in runs.extracted("plain", weights, weights):
        assert torch.equal(found["val.targets"], found["test.targets"][10:20])
        for name in ("features", "logits"):
            torch.testing.assert_close(found[f"val.{name}"], found[f"test.{name}"][10:20])
    assert read_json(runs.manifest, "prepare")["val"] == 10
    assert held_out_split(read_json(runs.manifest, "prepare")) == "val"


@pytest.mark.parametrize("earlier", [True, False])
def test_epochs_that_are_not_kept_are_written_apart_or_not_at_all(runs, earlier):
    torch.manual_seed(1)
    first, last = runs.network("plain").state_dict(), runs.network("plain").state_dict()
    expected = runs.extracted("plain", first, last)
    folder = runs.extract("plain", first, last, kept=(2,), earlier=earlier)
    assert not has_epoch(folder.features, 1, "extract")
    assert folder.earlier_features.exists() == earlier
    found = [(folder.features, 2, expected[1])]
    if earlier:
        found.append((folder.earlier_features, 1, expected[0]))
        assert not has_epoch(folder.earlier_features, 2, "extract")
    for file, epoch, wanted in found:
        tensors, _ = read_epoch(file, epoch, "extract")
        assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    folder.earlier_features.unlink(missing_ok=True)


def test_where_all_are_kept_the_file_of_earlier_features_has_no_epoch(runs):
    weights = runs.network("plain").state_dict()
    folder = runs.extract("plain", weights, weights, earlier=True)
    assert not any(has_epoch(folder.earlier_features, epoch, "extract") for epoch in (1, 2))
    folder.earlier_features.unlink()


def test_an_error_of_the_users_network_is_not_blamed_on_the_features(runs, monkeypatch):
    def absent(*_):
        raise FileNotFoundError(2, "No such file or directory", "mine.txt")

    monkeypatch.setattr("nclens.workflow.stages.extract.extract_features", absent)
    weights = runs.network("plain").state_dict()
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: 'mine.txt'") as caught:
        runs.extracted("plain", weights, weights)
    assert not isinstance(caught.value, FileError)


def test_damaged_and_missing_snapshots_are_named_with_their_rule(runs):
    weights = runs.network("plain").state_dict()
    file = runs.folder("plain").snapshots
    with pytest.raises(FileError, match=r"snapshots\.safetensors is damaged \(it lacks epoch 2\).*rule `train`"):
        runs.extract("plain", weights)
    with pytest.raises(FileError, match=r"snapshots\.safetensors is damaged .*rule `train`"):
        runs.extract("plain", {"other": torch.ones(2)}, {"other": torch.ones(2)})
    file.unlink()
    spec = specs.extract(runs.study, runs.runs["plain"])
    with pytest.raises(FileError, match=r"snapshots\.safetensors is missing: the rule `train` makes it"):
        extract(spec, runs.data, runs.manifest, runs.folder("plain").folder, threads=1)


SMOOTHED = specs.Loss("ls", "ls", arguments={"smoothing": 0.1}, parameter="smoothing")
STATISTICS = specs.Statistics(SMOOTHED, epochs=2, projection_classes=(0, 1, 2), onehot=True)


def random_weights(runs, wrap, seed):
    torch.manual_seed(seed)
    network = runs.network(wrap)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return {key: value.clone() for key, value in network.state_dict().items()}


def metrics_of(folder, statistics):
    classifier = specs.MeasureClassifier(0.5, 0, STATISTICS.loss, STATISTICS.epochs, most_classes=1000)
    called = specs.calls("classification", "onehot", from_statistics=statistics)
    measure(specs.Measure("classification", (1, 2), (1, 2), called, classifier), folder.folder, 1)
    return pd.read_csv(folder.metrics), read_tensors(folder.film, "measure")[0]


@pytest.mark.parametrize("wrap", ["plain", "weight_norm_hooks"])
def test_from_statistics_the_metrics_and_the_film_are_those_of_the_features(runs, wrap):
    snapshots = [random_weights(runs, wrap, seed) for seed in (3, 4)]
    expected, film = metrics_of(runs.extract(wrap, *snapshots), statistics=False)
    folder = runs.extract(wrap, *snapshots, statistics=STATISTICS)
    found, other = metrics_of(folder, statistics=True)
    keys = ["epoch", "split", "metric"]
    assert found[keys].equals(expected[keys])
    assert {"nc4", "onehot_nrc3", "temperature", "top_logit_gradient_correct", "rank_means"} <= set(found["metric"])
    # Of a root of the one-hot targets' covariance, which is singular, half of the digits are rounding.
    rough = expected["metric"] == "onehot_nrc3"
    for rows, close in ((~rough, {"rel": 1e-9, "abs": 1e-14}), (rough, {"rel": 1e-7})):
        values = expected.loc[rows, "value"].to_numpy()
        assert found.loc[rows, "value"].to_numpy() == pytest.approx(values, **close, nan_ok=True)
    assert all(
        film[name].allclose(other[name]) if film[name].is_floating_point() else film[name].equal(other[name])
        for name in film
    )
    tensors, _ = read_epoch(folder.features, 2, "extract")
    assert not {"train.logits", "val.features"} & tensors.keys()
    assert len(tensors["test.logits"]) == len(tensors["test.targets"])


def test_of_many_samples_the_features_of_a_seeded_draw_are_kept():
    labels = {"train": torch.arange(30_000) % 4, "test": torch.arange(40) % 4}
    first, again = (sampled(labels, (0, 1, 3)) for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)
    counts = labels["train"][first["train"]].bincount()
    assert counts.tolist()[:2] == [pytest.approx(MOST_SHOWN, abs=125)] * 2  # and what the film shows beside them
    assert counts[2] == 125
    assert first["test"].tolist() == [number for number in range(40) if number % 4 != 2]


def test_a_pass_that_is_cut_short_leaves_the_run_as_it_was(runs, monkeypatch):
    weights = random_weights(runs, "plain", 3)
    folder = runs.extract("plain", weights, weights, statistics=STATISTICS)
    before, passed = folder.features.read_bytes(), []

    def stopped(self, features, logits):
        passed.append(len(features))
        if len(passed) == 3:  # in the second snapshot
            raise KeyboardInterrupt

    monkeypatch.setattr(SufficientStatistics, "add_again", stopped)
    monkeypatch.setattr(SufficientStatistics, "tensors", lambda self: {})
    with pytest.raises(KeyboardInterrupt):
        runs.extract("plain", weights, weights, statistics=STATISTICS)
    assert folder.features.read_bytes() == before
    assert not [path.name for path in folder.folder.iterdir() if "tmp" in path.name]


def test_of_no_features_a_head_that_is_not_affine_is_refused_with_its_split(runs):
    weights = {key: 2 * torch.ones_like(value) for key, value in runs.network("scaled").state_dict().items()}
    with pytest.raises(ValueError, match=r"seed0, epoch 1, train split: the head `2` \(Linear\) is not z = W h \+ b"):
        runs.extract("scaled", weights, weights, statistics=STATISTICS)
