"""What the README shows works as it stands there."""

import re

import pytest
import yaml

from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.files import read_json
from nclens.workflow.paths import path_of
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.stages.train import train
from tests.project import ROOT


@pytest.fixture
def own(raw_study, tmp_path):
    """The smoke study with the README's own loss, model and data."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    chapter = re.search(r"## Your own loss, model, data\n(.*?)\n## ", text, re.DOTALL)[1]
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", chapter, re.DOTALL)
    (tmp_path / "my_parts.py").write_text("\n\n".join(code for kind, code in blocks if kind == "python"))
    for table, entries in (item for kind, code in blocks if kind == "yaml" for item in yaml.safe_load(code).items()):
        raw_study[table] |= entries
    raw_study["experiments"]["smoke"] |= {"dataset": "blobs", "model": "net", "losses": ["soft"], "seeds": [0]}
    return load_study(raw_study, [tmp_path])


def test_the_users_own_parts_train(own, tmp_path):
    root, run = tmp_path / own.root, next(own.runs())
    data, manifest = root / "data" / "blobs.safetensors", root / "data" / "blobs.json"
    prepare(specs.prepare(own, "blobs"), data, manifest, tmp_path)
    train(specs.train(own, run), "code", data, manifest, root / path_of(run), threads=1, waited=False)
    assert read_json(root / path_of(run) / "run.json", "train")["parameters"] == 5 * 64 + 64 + 64 * 3 + 3
