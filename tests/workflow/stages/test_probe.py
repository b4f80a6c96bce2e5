"""The stage `probe`: snapshots and data in, a tidy table out."""

import json
import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml

from nclens.data.prepared import place_splits
from nclens.losses import ce, ls
from nclens.metrics.representation import mutual_information
from nclens.probes.catalogue import probe_of
from nclens.probes.gradients import gradient_variance
from nclens.probes.information import logit_differences, random_shift
from nclens.probes.layers import layer_measures
from nclens.probes.segmentation import segmentation
from nclens.probes.sharpness import sharpness_of_losses
from nclens.probes.transfer import linear_probe
from nclens.study import load_study
from nclens.training.loop import derived_seed, extract_features
from nclens.workflow import specs
from nclens.workflow.build.models import build_network
from nclens.workflow.files import FileError, read_json, read_tensors
from nclens.workflow.paths import RunFolder
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.stages.probe import _trained, probe
from tests.epochs import read_all, write_all
from tests.process import ROOT

pytestmark = pytest.mark.lengthy

KINDS = ("head_onehot", "head_smoothed", "network_onehot", "network_smoothed")


def study_of(raw):
    raw["datasets"]["digits8"] = {"source": "digits8", "train_per_class": 10, "test_per_class": 10}
    raw["models"]["resnet8"]["width"] = 2
    raw["probes"] = {
        "digits8": {"kind": "transfer", "dataset": "digits8"},
        "four_nine": {"kind": "mutual_information", "classes": [4, 9], "draws": 2},
        "variance": {"kind": "gradient_variance", "samples": 20, "smoothing": 0.3},
    }
    raw["experiments"]["smoke"]["probes"] = list(raw["probes"])
    return raw


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the prepared data sets."""
    folder = tmp_path_factory.mktemp("probe")
    study = load_study(study_of(yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))))
    for name in ("mnist5k", "digits8"):
        prepare(specs.prepare(study, name), folder / f"{name}.safetensors", folder / f"{name}.json")
    return folder


@pytest.fixture
def run(data, raw_study, tmp_path):
    """A run on disk whose snapshots are networks at random weights; a function that probes it."""

    class Run:
        root = tmp_path
        folder = RunFolder(tmp_path / "mnist5k" / "resnet8" / "ce" / "seed0")
        raw = study_of(raw_study)

        def spec(self):
            study = load_study(self.raw)
            return specs.probe(study, next(study.runs()))

        def network(self, epoch):
            torch.manual_seed(epoch)
            network = build_network({"name": "resnet8", "width": 2}, (1, 28, 28), 10)
            with torch.no_grad():
                network.train()(torch.randn(50, 1, 28, 28))
                network.head.weight.mul_(5)
            return network

        def replace(self, epoch, network):
            epochs = read_all(self.folder.snapshots, (1, 2, 6), "train") | {epoch: network.state_dict()}
            write_all(self.folder.snapshots, epochs)

        def splits(self, name="mnist5k"):
            tensors, _ = read_tensors(tmp_path / "data" / f"{name}.safetensors", "prepare")
            manifest = read_json(tmp_path / "data" / "mnist5k.json", "prepare")
            return place_splits(tensors, manifest, torch.device("cpu"))

        def table(self):
            probe(self.spec(), tmp_path, threads=1)
            return pd.read_csv(self.folder.probes)

    made = Run()
    shutil.copytree(data, tmp_path / "data")
    write_all(made.folder.snapshots, {epoch: made.network(epoch).state_dict() for epoch in (1, 2, 6)})
    return made


def value(table, metric, epoch):
    (found,) = table.loc[(table["metric"] == metric) & (table["epoch"] == epoch), "value"]
    return found


def test_the_table_is_tidy_and_has_every_probe_at_its_epochs(run):
    table = run.table()
    assert list(table.columns) == ["epoch", "split", "metric", "value"]
    assert not table.duplicated(["epoch", "split", "metric"]).any()
    found = table.groupby("metric")["epoch"].apply(list).to_dict()
    variances = [f"gradient_variance_{kind}" for kind in KINDS]
    assert found == {
        **{key: [6] for key in ["probe_accuracy", "probe_strength"]},
        **{key: [1, 2, 6] for key in ["mutual_information", *variances]},
    }
    assert set(table.loc[table["metric"].str.startswith("probe"), "split"]) == {"test"}
    assert set(table.loc[~table["metric"].str.startswith("probe"), "split"]) == {"train"}


def test_metrics_are_those_of_the_catalogue_in_its_order(run):
    for name, asked in run.raw["probes"].items():
        run.raw["experiments"]["smoke"]["probes"] = [name]
        table = run.table()
        found = table[table["epoch"] == 6]
        listed = probe_of(asked["kind"])
        assert list(found["metric"]) == [metric.name for metric in listed.metrics]
        assert set(found["split"]) == {listed.split}


def test_values_are_those_of_the_library_at_the_snapshots_weights(run):
    table = run.table()
    train, _ = run.splits()
    chance = derived_seed(0, "probe", "gradient_variance")
    chosen = torch.randperm(200, generator=torch.Generator().manual_seed(chance))[:20].sort().values
    for epoch in (1, 6):
        network = run.network(epoch)
        inputs, targets = train.normalise(train.inputs[chosen]), train.targets[chosen]
        for name, loss in (("onehot", ce), ("smoothed", partial(ls, smoothing=0.3))):
            for part, expected in gradient_variance(network, inputs, targets, loss).items():
                assert value(table, f"gradient_variance_{part}_{name}", epoch) == pytest.approx(expected, rel=1e-6)
        generator = torch.Generator().manual_seed(derived_seed(0, "probe", "mutual_information"))
        found = logit_differences(network, train, (4, 9), random_shift, draws=2, generator=generator)
        assert value(table, "mutual_information", epoch) == pytest.approx(mutual_information(*found), rel=1e-6)


def test_transfer_normalises_the_other_data_as_the_networks_own(run):
    table = run.table()
    network, (train, test) = run.network(6), run.splits("digits8")
    seed = derived_seed(0, "probe", "transfer") % 2**31
    features = [extract_features(network, split)[0] for split in (train, test)]
    expected = linear_probe(features[0], train.targets, features[1], test.targets, seed=seed)
    assert value(table, "probe_accuracy", 6) == expected.accuracy
    assert value(table, "probe_strength", 6) == pytest.approx(expected.strength)
    own = read_json(run.root / "data" / "digits8.json", "prepare")["mean"]
    assert own != read_json(run.root / "data" / "mnist5k.json", "prepare")["mean"]


def test_again_the_same_bytes_and_another_seed_other_ones(run):
    path = run.folder.probes
    run.table()
    first = path.read_bytes()
    run.table()
    assert path.read_bytes() == first
    probe(replace(run.spec(), seed=1), run.root, threads=1)
    assert path.read_bytes() != first


def test_several_of_a_kind_stand_side_by_side(run):
    run.raw["probes"]["one_seven"] = {"kind": "mutual_information", "classes": [1, 7], "draws": 2}
    run.raw["experiments"]["smoke"]["probes"] = ["four_nine", "one_seven"]
    table = run.table()
    assert set(table["metric"]) == {"mutual_information/four_nine", "mutual_information/one_seven"}


def test_an_output_that_does_not_vary_is_an_error_that_names_run_epoch_and_probe(run):
    network = run.network(2)
    torch.nn.init.zeros_(network.head.weight)
    run.replace(2, network)
    run.raw["experiments"]["smoke"]["probes"] = ["four_nine"]
    with pytest.raises(ValueError, match=r"mnist5k/resnet8/ce/seed0, epoch 2, probe mutual_information: .* s = 0"):
        run.table()
    assert not run.folder.probes.exists()


def test_other_data_of_another_shape_are_refused(run):
    manifest = run.root / "data" / "digits8.json"
    manifest.write_text(manifest.read_text().replace("28", "32"))
    with pytest.raises(ValueError, match=r"digits8 has inputs of shape \[1, 32, 32\], the network takes \[1, 28, 28\]"):
        run.table()


def test_what_is_missing_or_of_another_network_is_named(run):
    right = read_all(run.folder.snapshots, (1, 2, 6), "train")
    network = build_network({"name": "resnet8", "width": 3}, (1, 28, 28), 10)
    write_all(run.folder.snapshots, dict.fromkeys((1, 2, 6), network.state_dict()))
    with pytest.raises(FileError, match=r"seed0/snapshots.safetensors is damaged \(Error\(s\) in loading"):
        run.table()
    write_all(run.folder.snapshots, {epoch: right[epoch] for epoch in (2, 6)})
    with pytest.raises(FileError, match=r"seed0/snapshots.safetensors is damaged \(it lacks epoch 1\).*rule `train`"):
        run.table()
    run.folder.snapshots.unlink()
    with pytest.raises(FileError, match=r"seed0/snapshots.safetensors is missing: the rule `train` makes it"):
        run.table()
    (run.root / "data" / "digits8.safetensors").unlink()
    with pytest.raises(FileError, match=r"digits8.safetensors is missing: the rule `prepare` makes it"):
        run.table()


MINE = """
import torch


def spoilt(network, inputs, labels, logits, features, split, generator, seed, size):
    with torch.no_grad():
        same = (network(inputs) - logits).abs().max()
        assert (network.head(features) - logits).abs().max() < 1e-4
    assert not network.training and network.head.weight.grad is None and len(split) == len(labels)
    network(inputs[:2]).sum().backward()
    torch.nn.init.zeros_(network.head.weight)
    network.train().requires_grad_(False)
    drawn = torch.randn(1, generator=generator).item(), torch.randn(1).item()
    return {"same": same, "error": (logits.argmax(1) != labels).double().mean(), "seed": seed % 1000,
            "drawn": drawn[0], "alike": drawn[0] == drawn[1], "size": size}


def sizes(train, test, other, device):
    return len(train) + len(test) + 10_000 * len(other[0])


def raising(network):
    return network.nothing


def table(logits):
    return logits
"""


@pytest.fixture
def own(run, tmp_path, monkeypatch):
    """The run with probes of the user's own; a function that adds one and returns its specification's table."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    run.raw["probes"] = {}

    def probed(**entries):
        run.raw["probes"] |= {name: {"function": f"mine:{name}"} | entry for name, entry in entries.items()}
        run.raw["experiments"]["smoke"]["probes"] = list(entries)
        return run.table().set_index(["metric", "split", "epoch"])["value"]

    return probed


def test_a_probe_of_the_users_own_gets_what_it_names_and_leaves_no_trace(own, run):
    found = own(
        spoilt={"parameters": {"size": 3}, "splits": ["train", "test"]},
        sizes={"snapshots": "last", "dataset": "digits8"},
    )
    names = [f"spoilt_{key}" for key in ("same", "error", "seed", "drawn", "alike", "size")]
    assert [*found.index][: len(names)] == [(name, "train", 1) for name in names]
    assert len(found) == 6 * 2 * 3 + 1
    train, test = run.splits()
    assert found["sizes", "test", 6] == len(train) + len(test) + 10_000 * len(run.splits("digits8")[0])
    for name, split in (("train", train), ("test", test)):
        logits = extract_features(run.network(6), split)[1]
        assert found["spoilt_error", name, 6] == pytest.approx((logits.argmax(1) != split.targets).double().mean())
    assert found["spoilt_same"].max() < 1e-4
    assert found["spoilt_drawn"].nunique() == found["spoilt_seed"].nunique() == 1
    assert set(found["spoilt_alike"]) == {1}
    assert set(found["spoilt_size"]) == {3}
    first = run.folder.probes.read_bytes()
    run.table()
    assert run.folder.probes.read_bytes() == first


def test_built_in_probes_are_the_same_beside_one_of_the_users_own(own, run):
    run.raw["probes"] = {"variance": {"kind": "gradient_variance", "samples": 20}}
    run.raw["experiments"]["smoke"]["probes"] = ["variance"]
    alone = run.table()
    run.raw["probes"]["spoilt"] = {"function": "mine:spoilt", "parameters": {"size": 1}}
    run.raw["experiments"]["smoke"]["probes"] = ["spoilt", "variance"]
    beside = run.table()
    pd.testing.assert_frame_equal(beside[~beside["metric"].str.startswith("spoilt")].reset_index(drop=True), alone)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raising", r"mine:raising \(mine\.py, line 23: `return network\.nothing`\) failed: AttributeError"),
        ("table", r"probes\.table: mine:table \(mine\.py\) must return a number or a dict of numbers, not Tensor"),
    ],
)
def test_a_probe_of_the_users_own_that_fails_is_named_with_run_epoch_and_line(own, run, name, message):
    with pytest.raises(ValueError, match=r"^mnist5k/resnet8/ce/seed0, epoch 1: .*" + message):
        own(**{name: {}})
    assert not run.folder.probes.exists()


def test_layers_are_measured_on_both_splits_with_their_numbers(run):
    run.raw["probes"] = {"all": {"kind": "layers"}, "two": {"kind": "layers", "names": ["3", "5"], "snapshots": "last"}}
    run.raw["experiments"]["smoke"]["probes"] = ["all", "two"]
    table = run.table()
    expected = layer_measures(run.network(6), *run.splits())
    for split, measured in expected.items():
        own = table[(table["split"] == split) & (table["epoch"] == 6)].set_index("metric")["value"]
        for metric, found in measured.items():
            assert own[f"{metric}/all"] == pytest.approx(found, rel=1e-3, nan_ok=True)
        assert own["layers_nc1/02/two"] == own["layers_nc1/04/all"]
        assert "layers_nc1/03/two" not in own
    assert set(table["epoch"]) == {1, 2, 6}
    run.raw["probes"]["all"]["names"] = ["stage4"]
    with pytest.raises(
        ValueError, match=r"seed0, epoch 1, probe layers: the network has no layer stage4; it has: 0, 1"
    ):
        run.table()


def test_segmentation_is_trained_on_scenes_of_another_size_between_a_floor_and_a_ceiling(run):
    run.raw["datasets"]["scenes"] = {"source": "scenes", "image_size": 40, "train_scenes": 6, "test_scenes": 4}
    run.raw["probes"] = {"dense": {"kind": "segmentation", "dataset": "scenes", "epochs": 1, "channels": 2}}
    run.raw["experiments"]["smoke"]["probes"] = ["dense"]
    data, manifest = (run.root / "data" / f"scenes.{ending}" for ending in ("safetensors", "json"))
    prepare(specs.prepare(load_study(run.raw), "scenes"), data, manifest)
    table = run.table()
    assert [*table["metric"]] == [metric.name for metric in probe_of("segmentation").metrics]
    assert set(table["split"]) == {"test"}
    assert set(table["epoch"]) == {6}

    def untrained():
        torch.manual_seed(derived_seed(0, "weights"))
        return build_network({"name": "resnet8", "width": 2}, (1, 28, 28), 10)

    (spec,) = run.spec().probes
    keys = {key: chosen for key, chosen in spec.arguments.items() if key != "dataset"}
    given = {"untrained": untrained, "seed": derived_seed(0, "probe", "segmentation")}
    expected = segmentation(run.network(6), run.splits()[0], run.splits("scenes"), **given, **keys)
    for metric, found in expected.items():
        assert value(table, metric, 6) == pytest.approx(found, abs=1e-3)
    content = read_json(manifest, "prepare")
    manifest.write_text(json.dumps(content | {"shape": [3, 40, 40]}))
    with pytest.raises(ValueError, match=r"scenes has images of 3 channels, the network takes inputs of shape \[1, 28"):
        run.table()


def test_sharpness_is_of_plain_cross_entropy_and_of_the_trained_loss(run):
    run.raw["probes"] = {"sharp": {"kind": "sharpness", "samples": 20}}
    run.raw["experiments"]["smoke"]["probes"] = ["sharp"]
    study = load_study(run.raw)
    found = {}
    for loss in ("ce", "ls"):
        spec = specs.probe(study, next(one for one in study.runs() if one.loss == loss))
        probe(replace(spec, run=specs.probe(study, next(study.runs())).run), run.root, threads=1)
        found[loss] = pd.read_csv(run.folder.probes).set_index(["metric", "epoch"])["value"]
    train, _ = run.splits()
    seed = derived_seed(0, "probe", "sharpness")
    expected = sharpness_of_losses(run.network(6), train, samples=20, seed=seed, loss=partial(ls, smoothing=0.05))
    for metric, value in expected.items():
        assert found["ls"][metric, 6] == pytest.approx(value, rel=1e-4)
    ce_run = found["ce"]
    assert ce_run["sharpness_trained", 6] == ce_run["sharpness_network", 6] == found["ls"]["sharpness_network", 6]
    assert ce_run["sharpness_head", 1] == found["ls"]["sharpness_head", 1]


def test_weights_by_class_size_count_a_class_that_the_split_lacks():
    """The trained loss has a weight for each class, the highest too, which a split without it would not count."""
    seen = []
    spec = SimpleNamespace(loss=SimpleNamespace(name="ls"), epochs=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nclens.workflow.stages.probe.library_function", lambda _: lambda *given: seen.append(given[-1]))
        _trained(spec, 1, SimpleNamespace(targets=torch.tensor([0, 1, 1])), 3)
    assert seen == [[1, 2, 0]]
