"""What CONTRIBUTING.md promises of additions: one of each kind, by exactly the files that it names, through a real run.

A loss, a metric, a claim, a figure and a probe are added to a copy of the project, and each is found in the tables, on
the page and in the record.
"""

import json
import re
import sqlite3

import pandas as pd
import pytest
import yaml

from tests.process import run
from tests.project import ROOT, Place, shortened

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

LIBRARY = "src/nclens"

#: Kind of addition -> file -> its insertions: the text before which a part comes, None for the end, and the part.
ADDITIONS = {
    "a loss": {
        "losses.py": [
            (
                None,
                """

@register
def poly(logits: Tensor, targets: Tensor, *, epsilon: float) -> Tensor:
    p = F.softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
    return F.cross_entropy(logits, targets, reduction="none") + epsilon * (1 - p)
""",
            )
        ],
        "study/losses.py": [
            (
                "LOSSES: dict[",
                """class Poly(Scheduled):
    parameter, short, symbol = "epsilon", "Poly-1", "ε"
    name: Literal["poly"]
    epsilon: NonNegative


""",
            ),
            ('    "ls": LabelSmoothing,\n', '    "poly": Poly,\n'),
        ],
    },
    "a metric": {
        "metrics/representation.py": [
            (
                None,
                """

def feature_sparsity(features: Tensor) -> float:
    return float((features == 0).double().mean())
""",
            )
        ],
        "metrics/catalogue.py": [
            (
                ')\n"""Every measurement, in the order',
                """    Measurement(
        "nclens.metrics.representation:feature_sparsity",
        (Metric("feature_sparsity", "share of zeros in the features"),),
    ),
""",
            )
        ],
    },
    "a claim": {
        "claims/maxsup.py": [
            (
                ')\n"""The paper\'s claims, then our own."""',
                """    Claim(
        "M9",
        OWN,
        "A network trained with Poly-1 has sparser features than one trained with cross entropy.",
        "Difference of feature_sparsity after the last epoch, training set.",
        lambda comparison: [final(comparison, "train", "feature_sparsity", scale="difference", claimed="above")],
        labels={"feature_sparsity": "share of zeros in the features, difference"},
        subject="Poly-1",
        holds="has sparser features than cross entropy",
        fails="has denser features than cross entropy",
        figures=("sparsity",),
        compared=("poly",),
        against=("ce",),
    ),
""",
            )
        ],
    },
    "a figure": {
        "figures/catalogue.py": [
            (
                ")\n\nFIGURES = ",
                """    FigureEntry(
        stem="sparsity",
        title="Sparsity of the features",
        source=OWN,
        caption="The share of zeros in the features at the last epoch.",
        draw="nclens.figures.maxsup:sparsity",
        needs=("loss:poly",),
    ),
""",
            )
        ],
        "figures/maxsup.py": [
            (
                None,
                """

@style.look()
def sparsity(inputs: FigureInputs) -> Drawing:
    panel = DotPanel("zeros in features", (Dots("feature_sparsity", "train", False),))
    return draw_dots(inputs, [panel], names={False: "training set"}, remarks=[])
""",
            )
        ],
    },
    "a probe": {
        "study/probes.py": [
            (
                "KINDS = {name:",
                """class DeadUnits(ProbeBase):
    kind: Literal["dead_units"]
    samples: Annotated[Integer, Field(ge=2)] = 100


""",
            )
        ],
        "probes/dead_units.py": [
            (
                None,
                """import torch

from nclens.data.tensors import Split
from nclens.models import Network


def dead_units(network: Network, train: Split, samples: int) -> dict[str, float]:
    network.eval()
    with torch.no_grad():
        features = network.backbone(train.normalise(train.inputs[:samples]))
    return {"dead_units": float((features == 0).all(dim=0).double().mean())}
""",
            )
        ],
        "probes/catalogue.py": [
            (
                '}\n"""Every kind of probe by its name in a study."""',
                """    "dead_units": Probe(
        model="DeadUnits",
        function="nclens.probes.dead_units:dead_units",
        split="train",
        metrics=(Metric("dead_units", "share of dead units"),),
        cost=lambda keys, size: Cost(keys["samples"]),
    ),
""",
            )
        ],
    },
}


def add(place, file, before, part):
    """Insert a part into a file of the copy, before a text that it has once, or at its end."""
    path = place.path(LIBRARY, file)
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    if before is None:
        path.write_text(content + part, encoding="utf-8")
        return
    assert content.count(before) == 1, f"{before!r} is in {file} {content.count(before)} times"
    path.write_text(content.replace(before, part + before, 1), encoding="utf-8")


def figures_by_default(place, study):
    """The figures of a study that names none, by the code of the copy."""
    code = """
import json, sys
from nclens.study import load_study
print(json.dumps(load_study(json.loads(sys.argv[1])).figures("smoke")))
"""
    return json.loads(run(["-c", code, json.dumps(study)], place.folder, place.environment(), check=True).stdout)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The smoke study of a copy with one addition of each kind, run once."""
    place = Place.copy_to(tmp_path_factory.mktemp("additions") / "nclens")
    for files in ADDITIONS.values():
        for file, parts in files.items():
            for before, part in parts:
                add(place, file, before, part)
    study = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    study["losses"] = {"ce": {"name": "ce"}, "poly": {"name": "poly", "epsilon": 1.0}}
    study["probes"] = {"dead": {"kind": "dead_units", "samples": 50}}
    study["experiments"]["smoke"] |= {"losses": ["ce", "poly"], "probes": ["dead"]}
    place.by_default = figures_by_default(place, study)
    place.configure(shortened(study, "sparsity"))
    place.quick_jobs = True
    place.snakemake("--cores", "2")
    return place


def test_the_files_are_those_of_contributing():
    table = re.findall(r"^\| (an? \w+) \| (\d) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    for kind, count, which in table:
        files = ADDITIONS.get(kind, [])
        assert not files or len(files) == int(count)
        named = re.findall(rf"`{LIBRARY}/(.+?)`", which)
        for file in files:
            assert file in named or any(name.endswith("/") and file.startswith(name) for name in named), (kind, file)
    assert set(ADDITIONS) <= {kind for kind, *_ in table}


def test_each_is_in_its_table(extended):
    metrics = pd.read_parquet(extended.path("results/smoke/metrics.parquet"))
    runs = metrics.drop_duplicates(["loss", "seed", "metric", "split"])
    counts = runs.groupby(["loss", "metric", "split"], observed=True).size()
    for loss in ("ce", "poly"):
        assert counts[loss, "feature_sparsity", "train"] == counts[loss, "feature_sparsity", "test"] == 2
        assert counts[loss, "dead_units", "train"] == 2
    claims = pd.read_csv(extended.path("results/smoke/claims.csv"))
    found = claims[claims["claim"] == "M9"]
    assert list(found["level"]) == ["claim", "measure"]
    assert set(found["loss"]) == {"poly"}
    assert "sparsity" in extended.by_default
    drawn = pd.read_csv(extended.path("results/smoke/figures/smoke_sparsity.csv"))
    assert set(drawn["loss"]) == {"ce", "poly"}


def test_each_is_on_the_page(extended):
    page = extended.path("results/smoke/report.html").read_text(encoding="utf-8")
    assert "Poly-1 (ε = 1)" in page
    assert "sparser features than one trained with cross entropy" in page
    assert "Share of zeros in the features, difference" in page or "share of zeros in the features, difference" in page
    assert "Sparsity of the features" in page
    assert extended.path("results/smoke/figures/smoke_sparsity.png").stat().st_size > 1000


def test_each_is_in_the_record(extended):
    with sqlite3.connect(extended.path("mlflow.db")) as database:
        keys = {key for (key,) in database.execute("SELECT DISTINCT key FROM metrics")}
        names = {value for (value,) in database.execute("SELECT DISTINCT value FROM tags WHERE key = 'nclens.loss'")}
        notes = [value for (value,) in database.execute("SELECT value FROM experiment_tags WHERE key LIKE '%note%'")]
    assert {"train/feature_sparsity", "test/feature_sparsity", "train/dead_units"} <= keys
    assert "poly" in names
    assert any("| **M9** " in note for note in notes)
    artifacts = {path.name for path in extended.path("mlartifacts").rglob("*") if path.is_file()}
    assert "smoke_sparsity.png" in artifacts
