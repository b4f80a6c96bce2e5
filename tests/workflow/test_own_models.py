"""The study of docs/losses.md with ArcFace and a cosine head, as it is printed there: checked, and run in process."""

import html
import re

import pandas as pd
import pytest
import torch

from nclens.workflow import specs, tables
from nclens.workflow.check import check_file
from nclens.workflow.epochs import read_epoch
from nclens.workflow.paths import THEORY, path_of
from nclens.workflow.plan import Plan
from nclens.workflow.stages.collect import collect
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.judge import judge
from nclens.workflow.stages.measure import measure
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.stages.report import report
from nclens.workflow.stages.train import train
from nclens.workflow.trials import described_data, read_data, tried_networks
from tests.project import ROOT, Place

SECTION = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8").split("## Features, weights and another model")[1]
MODELS = {"ce": "linear", "arcface": "cosine"}
PAIRED = "two models: runs of one seed have the same order of the data, not the same initial weights"


def write(folder):
    """The section's study and module."""
    folder.mkdir(parents=True)
    for name, language in (("study.yaml", "yaml"), ("margins.py", "python")):
        (folder / name).write_text(re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[0])
    return folder / "study.yaml"


def run_in_process(study):
    """What the rules call, without figures and theory."""
    plan = Plan(study)
    folder = plan.folder
    prepare(specs.prepare(study, "digits"), folder.data("digits"), folder.manifest("digits"))
    for run in study.runs():
        of, made = plan.of(run), (folder.data("digits"), folder.manifest("digits"))
        train(specs.train(study, run), "code", *made, of.folder, threads=1, waited=False)
        extract(specs.extract(study, run), *made, of.folder, 1)
        measure(specs.measure(study, run), of.folder, 1)
    collect(specs.collect(study), folder.root, folder.metrics)
    kinds = dict(zip(THEORY, (tables.THEORY, tables.DYNAMICS, tables.REGRESSION), strict=False))
    kinds |= {"predictions": tables.PREDICTIONS, "effective": tables.EFFECTIVE}
    for name, table in kinds.items():
        tables.write_rows(table, folder.theory(name), [])
    judge(specs.judge(study), folder.metrics, folder.theory("ufm"), folder.claims, folder.claims_page)
    shown = specs.report(study, "snakemake")
    shown = specs.decode(specs.Report, specs.encode(shown))
    report(shown, folder.root, folder.report)
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of the finished study."""
    place = tmp_path_factory.mktemp("arcface")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        study = check_file(write(place / "arcface").relative_to(place))
        return run_in_process(study), study, place


@pytest.mark.lengthy
def test_the_check_finds_both_networks(ran, monkeypatch):
    _, study, place = ran
    monkeypatch.chdir(place)
    found = read_data(study, place)
    lines = [*described_data(found), *tried_networks(study, found)]
    assert [line.split(":")[0] for line in lines] == ["digits", "models.linear on digits", "models.cosine on digits"]


@pytest.mark.lengthy
def test_the_head_that_is_measured_is_the_one_that_the_logits_are_of(ran, monkeypatch):
    folder, study, place = ran
    monkeypatch.chdir(place)
    runs = {run.loss: run for run in study.runs()}
    tensors, _ = read_epoch(folder.run(path_of(runs["arcface"])).features, 10, "extract")
    features, weight = tensors["test.features"], tensors["weight"]
    torch.testing.assert_close(features.norm(dim=1), torch.ones(200))
    torch.testing.assert_close(weight.norm(dim=1), torch.full((10,), 16.0))
    torch.testing.assert_close(features @ weight.T, tensors["test.logits"])
    assert not tensors["bias"].any()
    # The last row of history has the loss itself, with the margin: more than cross entropy.
    history = pd.read_csv(folder.run(path_of(runs["arcface"])).history).iloc[-1]
    assert history["loss"] > history["cross_entropy"] > 0


@pytest.mark.lengthy
def test_tables_verdicts_and_page_have_the_model_of_each_run(ran):
    folder, study, place = ran
    root = place / folder.root
    metrics = pd.read_parquet(root / "metrics.parquet").astype({"loss": str, "model": str})
    assert dict(metrics[["loss", "model"]].drop_duplicates().itertuples(index=False)) == MODELS
    assert {path_of(run) for run in study.runs()} == {
        f"digits/{model}/{loss}/seed{seed}" for loss, model in MODELS.items() for seed in range(3)
    }
    claims = pd.read_csv(root / "claims.csv")
    paired = claims[claims["baseline"].notna()]
    assert set(paired["claim"]) == {"G1", "G2", "G3", "G4", "G5"}
    assert set(paired["model"]) == {"cosine against linear"}
    assert (paired["seeds"] == 3).all()
    assert all(note.endswith(PAIRED) for note in paired.loc[paired["level"] == "claim", "note"])
    page = html.unescape((root / "report.html").read_text(encoding="utf-8"))
    assert f"5 verdicts compare {PAIRED}." in page
    assert "On digits with linear and cosine, ArcFace" in page
    assert "CE (linear) and ArcFace (cosine); 3 seeds, 10 epochs" in page
    assert "digits/linear/*/seed*/" in page
    assert "digits/cosine/*/seed*/" in page
    assert 'id="film-1"' in page
    assert not re.search(r"Not shown: .*ArcFace", page)


@pytest.mark.slow
@pytest.mark.workflow
def test_the_study_of_the_section_runs_from_the_command_line(tmp_path):
    place = Place.copy_to(tmp_path / "nclens")
    place.quick_jobs = True
    place.study = write(place.path("arcface"))
    place.shorten("norms")
    place.snakemake("--cores", "2")
    root = place.path("results", "arcface")
    assert sorted(path.parts[-4:-1] for path in root.rglob("run.json")) == sorted(
        (model, loss, f"seed{seed}") for loss, model in MODELS.items() for seed in range(3)
    )
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.path('mlflow.db')}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    recorded = [run.data for run in client.search_runs(ids)]
    kinds = {"run": 6, "aggregate": 2}
    for kind, count in kinds.items():
        found = [data.tags for data in recorded if data.tags["nclens.kind"] == kind]
        assert len(found) == count
        assert all(tags["nclens.model"] == MODELS[tags["nclens.loss"]] for tags in found)
    assert {data.params["model"] for data in recorded if "model" in data.params} == {"linear", "cosine"}
    assert place.planned() == set()
