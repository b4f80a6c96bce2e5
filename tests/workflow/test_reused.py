"""Runs of another study in the workflow: where they are read, what is refused, what runs again, and a real run."""

import copy
import html
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from nclens.report.links import Link, Links
from nclens.report.provenance import provenance, reproduce
from nclens.report.text import Names
from nclens.study import ConfigError, load_study
from nclens.workflow import specs, tables
from nclens.workflow.check import check_file, check_study
from nclens.workflow.files import FileError, read_json
from nclens.workflow.paths import RunFolder, StudyFolder
from nclens.workflow.plan import Plan
from nclens.workflow.reused import check_reused_data, resolved_sources, reused_lines
from nclens.workflow.running import show_verdicts
from nclens.workflow.stages.collect import collect
from nclens.workflow.stages.reuse import reuse
from tests.finished import DATA, finish
from tests.project import ROOT, Place, planned_runs

SECTION = re.search(
    r"## Runs of another study\n(.*?)\n## ", (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8"), re.DOTALL
)[1]


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def there(raw_study, tmp_path, monkeypatch):
    """The finished smoke study."""
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    shutil.copy(ROOT / "studies" / "smoke.yaml", "studies")
    return finish(raw_study)


@pytest.fixture
def raw():
    """The study of the page."""
    return yaml.safe_load(snippets("yaml")[0])


def made(raw, folder="results/mine"):
    """The folder of a study with its own runs and manifest, as the smoke study's, and its plan."""
    own = copy.deepcopy(raw)
    own["experiments"]["mine"]["losses"] = ["maxsup"]
    finish(own, folder)
    return Plan(check_study(raw, [Path()]))


def test_runs_are_looked_up_where_they_are_and_never_made(there, raw):
    plan = made(raw)
    assert plan.sources == {"mnist5k/resnet8/ce": "results/smoke/mnist5k/resnet8/ce"}
    assert resolved_sources(plan.study.resolved()) == plan.sources
    assert plan.folder.run("mnist5k/resnet8/ce/seed1").run == Path("results/smoke/mnist5k/resnet8/ce/seed1/run.json")
    assert plan.folder.run("mnist5k/resnet8/maxsup/seed1").run.parts[1] == "mine"
    assert {path.rpartition("/")[0] for path in plan.runs} == {"mnist5k/resnet8/maxsup"}
    assert plan.pattern == r"mnist5k/resnet8/(?:maxsup)/seed(?:0|1)"
    assert not any("smoke" in str(path) or "/ce/" in str(path) for path in plan.promised())
    assert plan.reused() == [Path("results/mine/reused.json")]
    raw["experiments"]["mine"]["losses"] = raw["experiments"]["mine"]["losses"][1:]
    alone = Plan(check_study(raw, [Path()]))
    assert (alone.runs, alone.pattern, alone.trained) == ({}, "(?!)", "(?!)")
    assert alone.manifests() == [Path("results/mine/data/mnist5k.json")]


def test_a_study_without_runs_of_another_has_no_record_of_them(raw_study):
    plan = Plan(load_study(raw_study))
    assert (plan.sources, plan.reused()) == ({}, [])


def test_specifications_have_the_loss_and_survive_the_command_line(there, raw):
    raw["experiments"]["mine"]["training"]["optimizer"] = {"name": "sgd", "learning_rate": 0.1}
    study = check_study(raw, [Path()])
    steps = (specs.resolve, specs.reuse, specs.collect, specs.predict, specs.judge, specs.draw, specs.track_study)
    for spec in (*(step(study) for step in steps), specs.report(study, "")):
        assert specs.decode(type(spec), specs.encode(spec)) == spec
    (item,) = specs.reuse(study).reused
    assert (item.loss, item.study, item.there, item.loss_there) == (
        *("ce", "smoke", specs.OfExperiment("smoke", "mnist5k", "resnet8"), "ce"),
    )
    assert specs.collect(study).experiments[0].others == ("ce",)
    assert specs.judge(study).experiments[0].kinds == {"maxsup": "maxsup", "ce": "ce"}
    assert specs.predict(study).experiments[0].losses == ()  # trained otherwise
    assert list(specs.track_study(study).experiments[0].labels) == ["maxsup"]
    assert "reused.json" in specs.track_study(study).files
    found = specs.report(study, "").experiments[0].origins["ce"]
    assert found.command == "nclens run studies/smoke.yaml"
    assert found.differences == (("training.optimizer.learning_rate", "0.05", "0.1"),)


def test_where_runs_are_is_no_part_of_a_specification_and_their_contents_are_one_digest(there, raw):
    def identity(study):
        raw["experiments"]["mine"]["losses"][1]["study"] = study
        plan = Plan(check_study(raw, [Path()]))
        return specs.encode(specs.reuse(plan.study)), specs.encode(specs.collect(plan.study)), plan.reused_digests()

    before = identity("results/smoke")
    shutil.copytree("results/smoke", "moved/old")
    assert identity("moved/old") == before
    Path("moved/old/mnist5k/resnet8/ls/seed0/metrics.csv").write_text("other")
    assert identity("moved/old") == before
    Path("moved/old/mnist5k/resnet8/ce/seed1/metrics.csv").write_text("other")
    after = identity("moved/old")
    assert after[:2] == before[:2]
    assert after[2].keys() == before[2].keys() == {"mnist5k/resnet8/ce"}
    assert after[2] != before[2]


def test_an_unfinished_study_is_refused_with_the_command_that_finishes_it(there, raw):
    metrics = there.run("mnist5k/resnet8/ce/seed1").metrics
    metrics.unlink()
    finishes = "is missing: `nclens run studies/smoke.yaml` finishes it"
    with pytest.raises(ConfigError, match=re.escape(f"ce of results/smoke: is unfinished, {metrics} {finishes}")):
        check_study(raw, [Path()])
    there.run("mnist5k/resnet8/ce/seed0").features.unlink()
    with pytest.raises(ConfigError, match=re.escape(f"ce/seed0/features.safetensors and 1 more {finishes}")):
        check_study(raw, [Path()])


def test_other_snapshots_are_refused_with_both_lists(there, raw):
    raw["experiments"]["mine"]["snapshots"] = [2, 6]
    with pytest.raises(ConfigError, match=r"snapshots of the epochs \[1, 2, 6\], and experiments.mine of \[2, 6\]"):
        check_study(raw, [Path()])


def test_the_check_says_what_the_page_shows(there, raw):
    Path("mine").mkdir()
    Path("mine/study.yaml").write_text(snippets("yaml")[0])
    study = check_file(Path("mine/study.yaml"))
    *lines, fine = snippets("text")[0].splitlines()
    assert list(reused_lines(study)) == lines
    assert fine == f"mine/study.yaml: fine; runs: {sum(1 for _ in study.runs())}, experiments: 1"
    raw["experiments"]["mine"] |= {"seeds": [0], "training": {"epochs": 6, "batch_size": 20}}
    (line,) = reused_lines(load_study(raw))
    assert line.startswith(
        "mine: ce is ce of results/smoke, smoke: 1 run reused; training.batch_size = 40 there, 20 here"
    )


# --- stages ----------------------------------------------------------------------------------------------------------


def test_the_record_has_the_digest_of_every_file(there, raw):
    plan = made(raw)
    spec, root = specs.reuse(plan.study), plan.folder.root
    reuse(spec, root, plan.sources, plan.reused_digests())
    record = read_json(plan.folder.reused, "reuse")["mnist5k/resnet8/ce"]
    assert {key: record[key] for key in ("study", "experiment", "loss")} == {
        **{"study": "smoke", "experiment": "smoke", "loss": "ce"}
    }
    assert record["sha256"] == plan.reused_digests()["mnist5k/resnet8/ce"]
    names = {"run.json", "history.csv", "metrics.csv", "film.safetensors", "features.safetensors"}
    assert record["files"].keys() == {f"seed{seed}/{name}" for seed in (0, 1) for name in names}
    digests = plan.reused_digests()
    there.run("mnist5k/resnet8/ce/seed1").film.write_text("other")
    with pytest.raises(FileError, match="a run of another study has changed since the workflow was planned"):
        reuse(spec, root, plan.sources, digests)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"sha256": "cd" * 32}, f"its data set mnist5k has the checksum {'ab' * 32}, and mnist5k here {'cd' * 32}"),
        ({"train": 1000}, "the train split has 200 samples there and 1,000 here; allowed: the same data and splits"),
        ({"test": 100}, "the test split has 200 samples there and 100 here"),
    ],
)
def test_other_data_are_refused_with_both_values(there, raw, own, said):
    plan = made(raw)
    plan.folder.manifest("mnist5k").write_text(json.dumps(DATA | own))
    with pytest.raises(ValueError, match=re.escape(f"mine: ce of the study smoke: {said}")):
        reuse(specs.reuse(plan.study), plan.folder.root, plan.sources)


def test_the_check_compares_the_data_that_it_reads(there, raw):
    splits = SimpleNamespace(tensors={})
    study = check_study(raw, [Path()])
    described = {key: DATA[key] for key in ("train", "test")}
    with pytest.raises(
        ConfigError, match=f"experiments.mine.losses: ce of results/smoke: .* has the checksum {'ab' * 32}"
    ):
        check_reused_data(study, {"mnist5k": (splits, described)})
    run = there.run("mnist5k/resnet8/ce/seed0").run
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    run.write_text(run.read_text().replace("ab" * 32, empty))
    check_reused_data(study, {"mnist5k": (splits, described)})


def test_rows_are_read_from_the_other_study_under_the_names_here(there, raw):
    plan = made(raw)
    collect(specs.collect(plan.study), plan.folder.root, plan.folder.metrics, plan.sources)
    table = tables.read(tables.COLLECTED, plan.folder.metrics)
    assert set(table.groupby(["experiment", "loss", "seed"], observed=True).size().index) == {
        ("mine", loss, seed) for loss in ("maxsup", "ce") for seed in (0, 1)
    }
    assert set(table.loc[(table["loss"] == "ce") & (table["seed"] == 1), "value"]) == {1.5}


def test_a_metric_that_the_own_runs_have_and_the_others_lack_is_named(there, raw):
    plan = made(raw)
    for seed in (0, 1):
        with plan.folder.run(f"mnist5k/resnet8/maxsup/seed{seed}").metrics.open("a") as file:
            file.write("6,test,aurc,0.5\n")
    with pytest.raises(ValueError, match=r"smoke/mnist5k/resnet8/ce lacks aurc of the test split and 0 more metrics"):
        collect(specs.collect(plan.study), plan.folder.root, plan.folder.metrics, plan.sources)


# --- the page --------------------------------------------------------------------------------------------------------


def shown(raw):
    report = specs.report(check_study(raw, [Path()]), "make reproduce")
    return vars(report) | {"experiments": [vars(entry) for entry in report.experiments]}


def test_the_page_says_whose_runs_they_are_and_what_was_trained_otherwise(there, raw):
    assert Names(shown(raw)).facts(where=True)[1] == "CE: runs of the study smoke, used as they are"
    raw["models"]["resnet8"]["width"] = 4
    assert Names(shown(raw)).facts(where=True)[1] == (
        "CE: runs of the study smoke, used as they are; model.width is 8 there and 4 here; with two models seeds are "
        "paired by their number, and the initialisations differ"
    )


def test_provenance_has_the_digest_and_the_links_go_to_the_other_study(there, raw):
    tracking = {"uri": "http://127.0.0.1:5000", "experiment_id": "7"}
    other = {"root": "../smoke", "path": "mnist5k/resnet8/ce", "sha256": "12" * 32, "tracking": tracking}
    links = Links.of([], StudyFolder(Path()), lambda path: "smoke" in path, elsewhere={"mnist5k/resnet8/ce": other})
    study = shown(raw)
    names = Names(study)
    record = {"wall_time": 1.0}
    runs = {key: record for _, key in names.runs()}
    content = provenance(names, {}, runs, links).content
    ((loss, study_there, experiment, loss_there, digest),) = content["reused"].rows
    assert (loss.loss["label"], study_there.links) == ("CE", [Link("smoke", "../smoke/report.html")])
    assert (experiment.text, loss_there.text, digest.text) == ("smoke", "ce", "12" * 32)
    assert [row[0].loss["label"] for row in content["durations"].rows] == ["MaxSup (α = 0.1)"]
    addresses = [link.address for link in links.run("mnist5k/resnet8/ce/seed1")]
    assert addresses[0] == "../smoke/mnist5k/resnet8/ce/seed1/run.json"
    assert addresses[-1].startswith("http://127.0.0.1:5000/#/experiments/7/")
    assert links.run("mnist5k/resnet8/maxsup/seed1") == []
    again = reproduce(study, theory=True, links=links).content
    assert again["before"] == [("smoke", "nclens run studies/smoke.yaml", ["12" * 32])]
    assert again["runs"] == ["mnist5k/resnet8/*/seed*/"]
    raw["experiments"]["mine"]["losses"] = raw["experiments"]["mine"]["losses"][1:]
    assert reproduce(shown(raw), theory=True, links=links).content["runs"] == []


def test_verdicts_call_a_loss_of_another_study_by_its_label(there, raw, capsys):
    root = finish(raw, "results/mine", folders=["."]).root
    row = {"claim": "C1", "statement": "It is faster.", "dataset": "blobs", "model": "net", "loss": "maxsup"}
    row |= {"baseline": "ce", "level": "claim", "effect": 0.5, "unit": "ratio", "null": 1, "verdict": "supported"}
    tables.write_rows(tables.CLAIMS, root / "claims.csv", [row])
    show_verdicts(root)
    assert "MaxSup (α = 0.1) against CE" in " ".join(re.sub("[│\n]", " ", capsys.readouterr().out).split())


# --- a real run ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.timeout(1200)
def test_the_studies_of_the_page_run_and_what_changes_there_runs_again_here(tmp_path):
    place = Place.copy_to(tmp_path / "nclens")
    place.quick_jobs = True
    place.study = place.path("studies", "smoke.yaml")
    place.shorten("norms")
    place.snakemake("--cores", "2", "results/smoke/study.yaml", "results/smoke/report.html")  # finished, not recorded
    place.study = place.path("mine", "study.yaml")
    place.study.parent.mkdir()
    place.study.write_text(snippets("yaml")[0])
    place.shorten("norms")
    place.snakemake("--cores", "2")
    root, other = (StudyFolder(place.path("results", name)) for name in ("mine", "smoke"))

    assert not root.run("mnist5k/resnet8/ce/seed0").folder.exists()
    here, there = (pd.read_parquet(folder.metrics) for folder in (root, other))
    # Arcs are of an experiment's losses, and there is no label smoothing here.
    of_runs = [frame[~frame["metric"].astype(str).str.startswith("arc_")] for frame in (here, there)]
    chosen = [frame[frame["loss"] == "ce"].reset_index(drop=True) for frame in of_runs]
    columns = ["loss", "seed", "split", "epoch", "metric", "value"]
    pd.testing.assert_frame_equal(
        *(frame[columns].astype({"loss": str, "metric": str, "split": str}) for frame in chosen)
    )
    claims = pd.read_csv(root.claims)
    assert set(claims["baseline"].dropna()) == {"ce"}
    page = html.unescape(root.report.read_text(encoding="utf-8"))
    assert "CE: runs of the study smoke, used as they are" in page
    assert read_json(root.reused, "reuse")["mnist5k/resnet8/ce"]["sha256"] in page
    assert "../smoke/mnist5k/resnet8/ce/seed0/run.json" in page
    assert "nclens run studies/smoke.yaml" in page
    assert place.planned() == set()

    metrics = RunFolder(other.run("mnist5k/resnet8/ce/seed0").folder).metrics
    metrics.touch()
    unused = other.run("mnist5k/resnet8/ls/seed0").metrics
    unused.write_text(unused.read_text() + "6,train,more,1\n")
    assert place.planned() == set()
    metrics.write_text(metrics.read_text() + "6,train,more,1\n")
    planned = place.snakemake("--dry-run").stdout
    assert not planned_runs(planned)
    assert {"reuse", "collect", "predict", "judge", "draw", "report"} <= set(re.findall(r"Job \d+: (\w+)", planned))
