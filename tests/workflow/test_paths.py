"""Every path of a study's results is in one place."""

import ast
import re
from pathlib import Path

import pytest

from nclens.workflow.paths import StudyFolder, run_path

ROOT = Path(__file__).parents[2]
HOME = ROOT / "src" / "nclens" / "workflow" / "paths.py"
#: What a path of a study's results has in it.
PATH = re.compile(
    r"seed\{|epoch\{|\.safetensors|(metrics|probes|history|claims|losses)\.(csv|md|parquet)|\.locks"
    r"|(run|mlflow|track_setup)\.json|report\.html|study\.yaml|/(snapshots|features)|(logs|benchmarks)/"
)
#: A benchmark's own study and data, the names that a run's files have in MLflow, and those inside a file of epochs.
KNOWN = {
    *(("benchmarks", "study.yaml"), ("benchmarks", "data.safetensors")),
    *(("stages", "logs/"), ("stages", ".safetensors")),
    ("workflow", "{}-seed{}"),  # the name of a model in MLflow
    # Names of other libraries' checkpoints.
    *(("build", ".safetensors"), ("workflow", "model.safetensors"), ("workflow", "model-*-of-*.safetensors")),
    # The study of a folder, by the same name, and the folders of logs of an archive.
    *(("workflow", "study.yaml"), ("finished", "{}/logs/"), ("finished", "{}/benchmarks/")),
    ("nclens", "the study, by default study.yaml of this folder, and options of Snakemake: --cores 2, --dry-run, ..."),
    *(("workflow", "epoch{}/{}"), ("workflow", "epoch{}/"), ("workflow", "epoch{}.sha256")),
}
WHERE = [
    *((ROOT / "src" / "nclens" / "workflow").rglob("*.py")),
    *(ROOT / "benchmarks" / name for name in ("features.py", "scale.py")),
    ROOT / "src" / "nclens" / "cli.py",
]


def texts(path):
    """The texts of a module, docstrings left out; of a formatted text its parts, `{}` for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            yield node.value


@pytest.mark.parametrize("path", sorted(set(WHERE) - {HOME}), ids=lambda path: path.name)
def test_no_other_module_makes_a_path_of_the_results(path):
    found = [text for text in texts(path) if PATH.search(text) and (path.parent.name, text) not in KNOWN]
    assert not found


@pytest.mark.parametrize("path", [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")], ids=lambda path: path.name)
def test_no_rule_makes_a_path_of_the_results(path):
    code = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in code if PATH.search(line) or 'f"{R}' in line or "/seed" in line]


def test_paths_hold_wildcards_of_the_workflow():
    folder = StudyFolder(Path("results/own"))
    run = folder.run(run_path("{dataset}", "{model}", "{loss}", "{seed}"))
    assert str(run.snapshots) == "results/own/{dataset}/{model}/{loss}/seed{seed}/snapshots.safetensors"
    assert str(run.features) == "results/own/{dataset}/{model}/{loss}/seed{seed}/features.safetensors"
    work = "results/own/{dataset}/{model}/{loss}/seed{seed}/.work"
    assert str(run.work.snapshot(3)) == f"{work}/snapshots/epoch3.safetensors"
    assert str(folder.log("train", "{dataset}")) == "results/own/logs/train/{dataset}.log"
    assert str(folder.benchmark("judge")) == "results/own/benchmarks/judge.tsv"


def test_a_run_knows_its_study():
    run = StudyFolder(Path("/here/results/own")).run(run_path("digits", "net", "ce", 0))
    assert (run.study.root, run.name) == (Path("/here/results/own"), "digits/net/ce/seed0")
