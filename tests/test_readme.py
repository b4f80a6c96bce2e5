"""What README and the first page of the documentation show works as it stands there."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import nclens
from nclens.study import ConfigError, load_study
from nclens.workflow import specs
from nclens.workflow.check import check_study
from nclens.workflow.files import read_json
from nclens.workflow.paths import path_of
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.stages.train import train
from nclens.workflow.trials import read_data
from tests.epochs import write_all
from tests.project import ROOT

README = ROOT / "README.md"


def blocks(path: Path, chapter: str) -> list[tuple[str, str]]:
    """The fenced blocks of a chapter: language, text."""
    text = re.search(rf"## {chapter}\n(.*?)\n## ", path.read_text(encoding="utf-8"), re.DOTALL)[1]
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def own(raw_study, tmp_path):
    """The smoke study with the documentation's own loss, model and data."""
    parts = blocks(README, "Your own loss")
    parts += blocks(ROOT / "docs" / "getting_started.md", "Your own model and data")
    (tmp_path / "my_parts.py").write_text("\n\n".join(code for kind, code in parts if kind == "python"))
    for table, entries in (item for kind, code in parts if kind == "yaml" for item in yaml.safe_load(code).items()):
        raw_study[table] |= entries
    (tmp_path / "table.csv").write_text("".join(f"{i / 7},{i % 5},{i % 3}\n" for i in range(100)))
    raw_study["experiments"]["smoke"] |= {"dataset": "blobs", "model": "net", "losses": ["soft"], "seeds": [0]}
    return load_study(raw_study, [tmp_path])


def test_the_users_own_parts_train(own, tmp_path):
    root, run = tmp_path / own.root, next(own.runs())
    data, manifest = root / "data" / "blobs.safetensors", root / "data" / "blobs.json"
    prepare(specs.prepare(own, "blobs"), data, manifest, tmp_path, specs.user_paths(own.datasets["blobs"]))
    train(specs.train(own, run), "code", data, manifest, root / path_of(run), threads=1, waited=False)
    table = specs.prepare(own, "table"), data.with_name("table.safetensors"), data.with_name("table.json")
    prepare(*table, tmp_path, specs.user_paths(own.datasets["table"]))
    assert read_json(table[2], "prepare")["train"] == 80
    assert read_json(root / path_of(run) / "run.json", "train")["parameters"] == 5 * 64 + 64 + 64 * 3 + 3


def test_the_table_of_the_documentation_becomes_a_study(tmp_path):
    (kind, code), *_ = blocks(ROOT / "docs" / "data.md", "table")
    rows = [f"{i % 7},{i / 9},{('iris', 'rose', 'Aster')[i % 3]}" for i in range(60)]
    (tmp_path / "flowers.csv").write_text("\n".join(["length,width,species", *rows]))
    study = check_study(yaml.safe_load(code), [tmp_path])
    splits, manifest = read_data(study, tmp_path)["flowers"]
    assert (kind, manifest["classes"], manifest["columns"]) == ("yaml", ["Aster", "iris", "rose"], ["length", "width"])
    assert (manifest["train_counts"], splits.test_targets.bincount().tolist()) == ([16] * 3, [4] * 3)
    (tmp_path / "flowers.csv").write_text("length,width,kind\n1,2,rose")
    with pytest.raises(ConfigError, match=r"flowers\.csv has no column species .*; it has, .*, length, width, kind"):
        read_data(study, tmp_path)


def test_the_smaller_imagenet_of_the_documentation_is_a_study():
    from snakemake.utils import update_config

    study = yaml.safe_load((ROOT / "studies" / "imagenet_maxsup.yaml").read_text(encoding="utf-8"))
    (_, code), *_ = blocks(ROOT / "docs" / "scale.md", "ImageNet")
    update_config(study, yaml.safe_load(code))  # as Snakemake does with a second file
    small = check_study(study, [ROOT / "studies"])
    assert small.experiments["imagenet"].snapshot_epochs == [1, 2]
    assert small.datasets["imagenet"].train_per_class == 50


@pytest.fixture
def features():
    """What README's lines about the library take for granted: ten classes of features and their head."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    features = torch.randn(10, 512, generator=generator)[labels] + torch.randn(200, 512, generator=generator)
    head = nn.Linear(512, 10)
    names = {"features": features, "labels": labels, "weight": head.weight, "bias": head.bias, "head": head}
    model = nn.Sequential(nn.Dropout(), head)  # features, but in evaluation mode only
    loader = list(zip(features.split(50), labels.split(50), strict=True))
    return names | {"model": model, "loader": loader, "epochs": 2, "train": nn.Module.train}


def test_the_library_in_six_lines_and_the_trap(features):
    library, trap = (code for kind, code in blocks(README, "The library") if kind == "python")
    assert len([line for line in library.splitlines() if line.strip()]) == 6
    whole, watched = features, dict(features)
    exec(library.split("watch =")[0], whole)
    exec(library, watched)
    assert watched["values"] == pytest.approx(whole["values"] | {"classes_measured": 10})
    assert watched["model"].training
    exec(trap, features)
    assert features["trap"] > 1e6
    assert features["safe"] < 0.01


def test_the_streaming_form_of_the_library_page(features):
    """Its lines are in evaluation mode, and the network is in training mode again."""
    codes = [code for _, code in blocks(ROOT / "docs" / "library.md", "Neural collapse")]
    streaming, balanced = (code for code in codes if "metric = nclens.NeuralCollapse(" in code)
    names = features | {"backbone": features["model"][0], "nclens": nclens, "torch": torch}
    exec(streaming, names)
    given = (features[name] for name in ("features", "labels", "weight", "bias"))
    whole = nclens.neural_collapse(*given)
    values = {key: float(value) for key, value in names["values"].items()}
    assert values == pytest.approx({key: value for key, value in whole.items() if key != "nc4"})
    assert names["model"].training
    names["train_labels"] = features["labels"]
    exec(balanced, names)
    names["metric"].update(features["features"], features["labels"], features["weight"])
    assert names["metric"].compute()["nc1_balanced"] == pytest.approx(whole["nc1"])


def test_the_weights_of_an_epoch_are_read_as_the_documentation_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = {epoch: nn.Linear(3, 2).state_dict() for epoch in (6, 60)}
    write_all("results/digits/mnist5k/resnet8/ce/seed0/snapshots.safetensors", networks)
    found = blocks(ROOT / "docs" / "training.md", "The weights of an epoch")
    assert [kind for kind, _ in found] == ["python", "python"]
    for _, code in found:
        names = {}
        exec(code, names)
        assert names["weights"].keys() == networks[60].keys()
        assert all(torch.equal(names["weights"][name], networks[60][name]) for name in networks[60])


def test_the_front_page_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 140
