"""Networks trained elsewhere in the workflow: what runs again, one seed, a real run, and published networks."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from nclens.report.text import Names
from nclens.study import ConfigError, load_study
from nclens.workflow import specs
from nclens.workflow.one_network import measure_network
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.plan import Plan
from nclens.workflow.stages.ingest import ingest
from nclens.workflow.stages.prepare import prepare
from tests.project import ROOT, Place, planned_runs, shortened
from tests.workflow.stages.test_ingest import OWN
from tests.workflow.test_specs import of_study

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def raw(tmp_path):
    for loss in ("ce", "ls"):
        for epoch in (1, 2):
            (tmp_path / f"{loss}{epoch}.pt").write_bytes(loss.encode())
    return {
        "study": "elsewhere",
        "datasets": {"mnist5k": {"source": "mnist5k"}},
        "models": {"resnet8": {"name": "resnet8"}, "wide": {"name": "resnet8", "width": 32}},
        "losses": {"ls": {"smoothing": 0.1}},
        "experiments": {
            "e": {
                **{"kind": "imported", "dataset": "mnist5k", "model": "resnet8", "normalise": "none"},
                "runs": {loss: {0: f"{loss}{{epoch}}.pt"} for loss in ("ce", "ls")},
            }
        },
    }


def specifications(study):
    """Every specification but `train`, by step."""
    (name,) = study.experiments
    trained, study_steps = next(study.runs(name)), (specs.collect, specs.judge, specs.draw, specs.theory, specs.predict)
    made = {step.__name__: specs.encode(step(study)) for step in (*study_steps, specs.resolve)}
    made |= {"report": specs.encode(specs.report(study, ""))}
    for step in (specs.ingest, specs.extract, specs.measure, specs.track_run):
        made[step.__name__] = "".join(specs.encode(step(study, run)) for run in study.runs(trained.experiment))
    return made


NETWORK = {"ingest", "extract", "resolve"}
#: A key of an imported experiment -> another value, and the steps that depend on it.
USED = {
    "normalise": ("data", NETWORK),
    "resize": (32, NETWORK),
    "crop": (16, NETWORK),
    "prefix": ("module.", {"ingest", "resolve"}),
    "key": ("model", {"ingest", "resolve"}),
    "expected_error": (0.5, {"ingest", "resolve"}),
    "device": ("auto", NETWORK),
    "keep_features": ("last", {"extract", "measure", "resolve"}),
    "baseline": ("ls", {"collect", "draw", "report", "resolve"}),  # arcs are of cross entropy as the baseline
}


@pytest.mark.parametrize("key", USED)
def test_a_setting_changes_the_steps_whose_result_it_can_change(raw, tmp_path, key):
    value, steps = USED[key]
    before = specifications(load_study(raw, [tmp_path]))
    raw["experiments"]["e"][key] = value
    after = specifications(load_study(raw, [tmp_path]))
    assert {step for step in before if before[step] != after[step]} == steps


def test_another_place_of_the_same_files_changes_nothing_and_another_content_the_run(raw, tmp_path):
    def identity(folder):
        plan = Plan(load_study(raw, [folder]))
        runs = list(plan.study.runs())
        return [(specs.encode(specs.ingest(plan.study, run)), plan.checkpoints_digest(run)) for run in runs]

    before = identity(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "moved")
    assert identity(tmp_path / "moved") == before
    (tmp_path / "moved" / "ls2.pt").write_bytes(b"other")
    after = identity(tmp_path / "moved")
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_every_specification_survives_the_command_line(raw, tmp_path):
    study = load_study(raw, [tmp_path])
    for run in study.runs():
        for step in (specs.ingest, specs.extract, specs.measure, specs.track_run):
            assert specs.decode(type(step(study, run)), specs.encode(step(study, run))) == step(study, run)


def test_a_trained_study_has_the_specifications_that_it_had(raw_study):
    """The network of a trained run has no preprocessing and no key of an imported one."""
    text = "".join(specs.encode(spec) for spec in of_study(load_study(raw_study)).values())
    assert "preprocessed" not in text
    assert '"normalise"' not in text


def test_runs_that_are_trained_and_imported_have_a_rule_each(raw, raw_study, tmp_path):
    both = copy.deepcopy(raw_study)
    both["models"] |= {"wide": raw["models"]["wide"]}
    both["experiments"]["e"] = raw["experiments"]["e"] | {"model": "wide"}
    plan = Plan(load_study(both, [tmp_path]))
    assert "resnet8" in plan.trained
    assert "wide" not in plan.trained
    assert plan.imported == r"mnist5k/wide/(?:ce|ls)/seed(?:0)"
    assert plan.pattern == f"{plan.trained}|{plan.imported}"


def test_an_imported_network_may_teach(raw, raw_study, tmp_path):
    raw["losses"]["student"] = {"name": "distillation", "teacher": {"experiment": "e", "loss": "ls"}}
    student = raw_study["experiments"]["smoke"] | {"losses": ["student"], "seeds": [0], "snapshots": [6]}
    raw["experiments"]["students"] = student | {"model": "wide"}
    plan = Plan(load_study(raw, [tmp_path]))
    run = next(plan.study.runs("students"))
    teacher = specs.train(plan.study, run).teacher
    assert (teacher.model.name, teacher.epoch, teacher.run) == ("preprocessed", 2, "mnist5k/resnet8/ls/seed0")
    assert "nclens.models.preprocessing" in plan.code_used("train", run)["modules"]
    raw["losses"]["student"]["teacher"]["loss"] = "other"
    with pytest.raises(ConfigError, match=r"experiments.e does not train it; it trains: ce, ls"):
        load_study(raw, [tmp_path])


def test_with_one_seed_there_are_no_verdicts_and_the_page_says_so(raw, tmp_path):
    study = load_study(raw, [tmp_path])
    assert specs.judge(study).experiments == ()
    report = specs.report(study, "")
    (line,) = Names({"experiments": [vars(entry) for entry in report.experiments]}).facts(where=True)
    assert line.endswith(
        "1 seed, trained elsewhere, measured at 2 epochs from 1 to 2; with one seed there are values without intervals "
        "and verdicts"
    )
    raw["experiments"]["e"]["runs"] = {"ce": {0: "ce1.pt", 1: "ls1.pt"}}
    study = load_study(raw, [tmp_path])
    assert [entry.experiment for entry in specs.judge(study).experiments] == ["e"]
    report = specs.report(study, "")
    (line,) = Names({"experiments": [vars(entry) for entry in report.experiments]}).facts(where=True)
    assert line.endswith("2 seeds, trained elsewhere, measured at epoch 0")


def test_figures_are_those_that_have_something_to_show(raw, tmp_path):
    curves = load_study(raw, [tmp_path]).figures("e")
    assert "collapse_curves" in curves
    assert "training_loss" not in curves
    raw["experiments"]["e"]["runs"] = {"ce": {0: "ce1.pt"}}
    single = load_study(raw, [tmp_path]).figures("e")
    assert "collapse_curves" not in single
    assert {"norms", "reliability"} <= set(single)


# --- real runs -------------------------------------------------------------------------------------------------------


def save(place, name, seed):
    made = {}
    exec(OWN, made)
    torch.manual_seed(seed)
    torch.save(made["net"]((3, 8, 8), 3).state_dict(), place.path("mine", name))


@pytest.mark.slow
@pytest.mark.workflow
def test_a_study_of_networks_and_features_from_elsewhere_runs_and_an_edited_file_runs_its_run_again(tmp_path):
    place = Place.copy_to(tmp_path / "nclens")
    place.quick_jobs = True
    place.path("mine").mkdir()
    place.path("mine", "mine.py").write_text(OWN)
    for seed in (0, 1):
        for epoch in (1, 2):
            save(place, f"s{seed}_e{epoch}.pt", 10 * seed + epoch)
    random = np.random.default_rng(0)
    arrays = {f"{split}_features": random.normal(size=(n, 5)) for split, n in (("train", 60), ("test", 30))}
    arrays |= {f"{split}_labels": np.arange(n) % 3 for split, n in (("train", 60), ("test", 30))}
    np.savez(place.path("mine", "epoch7.npz"), **arrays, weight=random.normal(size=(3, 5)))
    imported = {"kind": "imported", "dataset": "images"}
    place.configure(
        shortened(
            {
                "study": "elsewhere",
                "datasets": {
                    "images": {"function": "mine:images"},
                    "features": {"source": "arrays", "path": str(place.path("mine", "epoch7.npz"))},
                },
                "models": {"net": {"function": "mine:net"}},
                "experiments": {
                    "networks": imported
                    | {"model": "net", "normalise": "none", "runs": {"ce": {s: f"s{s}_e{{epoch}}.pt" for s in (0, 1)}}},
                    "recorded": imported | {"dataset": "features", "runs": {"mine": {0: "epoch{epoch}.npz"}}},
                },
            },
            "norms",
        )
    )
    place.snakemake("--cores", "2")
    page = place.path("results", "elsewhere", "report.html").read_text()
    assert "trained elsewhere, measured at epoch 7; with one seed" in page
    assert place.planned() == set()
    save(place, "s1_e2.pt", 99)
    assert planned_runs(place.snakemake("--dry-run").stdout)["ingest"] == ["images/net/ce/seed1"]


def test_the_study_of_published_networks_is_read_where_their_files_are(tmp_path):
    for part in (ROOT / "studies" / "published").iterdir():
        shutil.copy(part, tmp_path)
    for name in PUBLISHED:
        (tmp_path / name).touch()
    study = load_study(yaml.safe_load((tmp_path / "resnets.yaml").read_text(encoding="utf-8")), [tmp_path])
    assert {run.loss: run.model for run in study.runs()} == {"resnet20": "resnet20", "resnet56": "resnet56"}


PUBLISHED = ("resnet20-12fca82f.th", "resnet56-4bfd9763.th")
without_networks = pytest.mark.skipif(
    not (SHARED / "checkpoints").is_dir(), reason=f"no published networks: {SHARED / 'checkpoints'}"
)


@pytest.mark.slow
@without_networks
def test_a_published_network_has_its_published_error_on_all_of_cifar10s_test_set(tmp_path, capsys):
    shutil.copy(ROOT / "studies" / "published" / "resnets.py", tmp_path)
    data = "datasets: {cifar10: {source: torchvision, name: CIFAR10, train_per_class: 20}}"
    (tmp_path / "data.yaml").write_text(data)
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    chosen = {"normalise": statistics, "prefix": "module.", "expected_error": 0.0827}
    checkpoint = str(SHARED / "checkpoints" / "cifar10" / PUBLISHED[0])
    arguments = ("resnets:resnet", {"blocks": 3}, f"{tmp_path}/data.yaml", SHARED / "cifar10", chosen, 1)
    values = measure_network(checkpoint, *arguments)
    assert values["error"]["test"] == pytest.approx(0.0827, abs=1e-9)
    assert "test split: error 8.27%" in capsys.readouterr().err


@pytest.mark.slow
@without_networks
def test_the_study_of_published_networks_takes_up_the_deeper_one_with_its_published_error(tmp_path, capsys):
    """Of the 10,000 test images, so that two decimals of a percent are all; a pass over them takes a minute."""
    for part in (ROOT / "studies" / "published").iterdir():
        shutil.copy(part, tmp_path)
    for name in PUBLISHED:
        (tmp_path / name).symlink_to(SHARED / "checkpoints" / "cifar10" / name)
    raw = yaml.safe_load((tmp_path / "resnets.yaml").read_text(encoding="utf-8"))
    raw["datasets"]["cifar10"]["train_per_class"] = 20
    study, of = load_study(raw, [tmp_path]), StudyFolder(tmp_path / "results")
    _, run = study.runs()
    data, folder = (of.data("cifar10"), of.manifest("cifar10")), of.run(path_of(run)).folder
    prepare(specs.prepare(study, "cifar10"), *data, SHARED / "cifar10")
    spec, files = specs.ingest(study, run), study.imported(run.experiment).files(run.loss, run.seed)
    assert spec.expected_error == 0.0661
    ingest(spec, "", *data, folder, files)
    assert "test split: error 6.61%" in capsys.readouterr().err
