"""The plan of a study: its runs, their files, and what their jobs need."""

import copy
import json
import os
import re
from pathlib import Path

import pytest

from nclens.study import ConfigError, load_study, read_study
from nclens.study.kept_features import features_mb
from nclens.workflow import specs
from nclens.workflow.plan import Plan
from nclens.workflow.provenance import code_parts

STUDIES = Path(__file__).parents[2] / "studies"
TEXT = "translation_full"


@pytest.fixture
def raw(raw_study):
    """Two experiments, on two data sets and models, that share losses."""
    raw_study["datasets"]["digits8"] = {"source": "digits8"}
    raw_study["models"]["a.b"] = {"name": "resnet8", "width": 2}
    raw_study["experiments"]["other"] = copy.deepcopy(raw_study["experiments"]["smoke"])
    raw_study["experiments"]["other"] |= {"dataset": "digits8", "model": "a.b", "seeds": [1, 12]}
    return raw_study


def plan(raw):
    return Plan(load_study(raw))


def matched(plan, pattern):
    return {path for path in plan.runs if re.fullmatch(pattern, path)}


def features(made):
    """The names of the files of features that each experiment is measured from."""
    runs = {name: next(made.study.runs(name)) for name in made.study.experiments}
    return {name: [path.name for path in made.features(run)] for name, run in runs.items()}


ALL, EARLIER = "features.safetensors", "earlier_features.safetensors"


@pytest.mark.parametrize(
    ("change", "epochs", "kept", "files"),
    [
        ({}, (1, 2, 6), (1, 2, 6), [ALL]),
        ({"snapshots": [3, 6]}, (3, 6), (3, 6), [ALL]),
        ({"keep_features": "last"}, (1, 2, 6), (6,), [ALL, EARLIER]),
        ({"keep_features": "none"}, (1, 2, 6), (1, 2, 6), [ALL]),
    ],
    ids=["the same", "epochs", "features", "no features"],
)
def test_experiments_that_keep_other_epochs_share_their_rules_and_extract_their_own(raw, change, epochs, kept, files):
    raw["experiments"]["other"] |= change
    made = plan(raw)
    assert matched(made, made.pattern) == set(made.runs)
    smoke, other = next(made.study.runs("smoke")), next(made.study.runs("other"))
    for step in (specs.extract, specs.measure):
        spec = step(made.study, other)
        assert (spec.snapshots, spec.kept) == (epochs, kept)
        spec = step(made.study, smoke)
        assert (spec.snapshots, spec.kept) == ((1, 2, 6), (1, 2, 6))
    assert specs.train(made.study, other).snapshots == epochs
    assert features(made) == {"smoke": [ALL], "other": files}
    assert made.of(other).features in made.promised()


def test_without_features_an_extraction_depends_on_the_loss_and_on_the_statistics(raw):
    plain = code_parts("extract", **plan(raw).code_used("extract", next(plan(raw).study.runs("other"))))
    raw["experiments"]["other"]["keep_features"] = "none"
    made = plan(raw)
    smoke, other = next(made.study.runs("smoke")), next(made.study.runs("other"))
    added = code_parts("extract", **made.code_used("extract", other)) - plain
    assert {"nclens.metrics.sufficient", "nclens.losses:ce"} <= {name for name, _ in added}
    assert not {name for name, _ in code_parts("extract", **made.code_used("extract", smoke))} & {
        *("nclens.metrics.sufficient", "nclens.losses:ce")
    }
    assert "nclens.metrics.from_statistics" in made.code_used("measure", other)["modules"]


def test_the_rule_of_extraction_has_a_file_that_goes_only_in_a_study_that_keeps_the_last_features(raw):
    assert plan(raw).earlier_features == []
    raw["experiments"]["other"]["keep_features"] = "last"
    made = plan(raw)
    assert made.earlier_features == [Path("results/smoke/{run}/earlier_features.safetensors")]
    assert not set(made.of_all(lambda run: made.of(run).earlier_features)) & set(made.promised())


def test_translations_are_kept_and_compared_where_text_is_decoded():
    made = {name: Plan(load_study(read_study(STUDIES / f"{name}.yaml"))) for name in ("beam_search", TEXT)}
    assert made["beam_search"].any_hypotheses == made["beam_search"].of_all(made["beam_search"].hypotheses) == []
    (name,) = made[TEXT].any_hypotheses
    assert name == Path(f"results/{TEXT}/{{run}}/hypotheses.json")
    assert len(made[TEXT].of_all(made[TEXT].hypotheses)) == len(made[TEXT].runs)
    (item,) = specs.collect(made[TEXT].study).experiments
    assert item.translations == {"ls": "ce", "maxsup": "ce"}


def test_a_pattern_matches_no_combination_that_is_not_a_run(raw):
    made = plan(raw)
    for path in ("mnist5k/a.b/ce/seed1", "digits8/resnet8/ce/seed1", "digits8/aXb/ce/seed1", "digits8/a.b/ce/seed2"):
        assert not re.fullmatch(made.pattern, path)
    assert "{" not in made.pattern  # Snakemake would take it for a wildcard
    assert not any(re.fullmatch(made.probed, path) for path in ("", *made.runs))


def test_probes_have_their_runs_files_and_the_data_that_they_transfer_to(raw):
    raw["probes"] = {"digits": {"kind": "transfer", "dataset": "digits8"}, "variance": {"kind": "gradient_variance"}}
    raw["experiments"]["other"]["probes"] = ["digits"]
    made = plan(raw)
    assert matched(made, made.probed) == {path for path in made.runs if path.startswith("digits8/")}
    smoke, other = next(made.study.runs("smoke")), next(made.study.runs("other"))
    assert (made.probes(smoke), made.transfer_data(smoke)) == ([], [])
    assert made.transfer_data(other) == [made.folder.data("digits8"), made.folder.manifest("digits8")]
    assert made.probes(other) == [made.of(other).probes]
    assert specs.probe(made.study, other).snapshots == (6,)


def test_a_student_reads_the_snapshots_of_its_teacher_at_the_last_epoch(raw):
    raw["losses"]["student"] = {"name": "distillation", "teacher": {"experiment": "smoke", "loss": "ls"}}
    raw["experiments"]["other"] |= {"dataset": "mnist5k", "losses": ["ce", "student"], "seeds": [1]}
    made = plan(raw)
    alone, student = made.study.runs("other")
    assert made.teachers_snapshots(alone) == []
    assert list(map(str, made.teachers_snapshots(student))) == [
        "results/smoke/mnist5k/resnet8/ls/seed1/snapshots.safetensors"
    ]
    assert specs.train(made.study, student).teacher.epoch == 6


def test_every_promised_file_is_named_once_and_features_that_go_are_not(raw):
    raw["experiments"]["other"]["keep_features"] = "last"
    paths = plan(raw).promised()
    assert len(set(paths)) == len(paths)
    for dataset in ("digits8", "mnist5k"):
        names = {path.name for path in paths if dataset in path.parts and path.suffix == ".safetensors"}
        assert names == {"snapshots.safetensors", "features.safetensors", "film.safetensors"}


@pytest.mark.parametrize(("device", "found", "slots"), [("cpu", True, 0), ("cuda", False, 1), ("auto", True, 1)])
def test_slots_of_a_gpu(raw, monkeypatch, device, found, slots):
    monkeypatch.setattr("nclens.workflow.plan.has_gpu", lambda: found)
    raw["experiments"]["smoke"]["training"]["device"] = device
    made = plan(raw)
    run = next(made.study.runs())
    assert made.gpu_slots(run, here=True) == slots
    monkeypatch.setattr("nclens.workflow.plan.has_gpu", lambda: False)
    assert made.gpu_slots(run, here=False) == int(device != "cpu")


def test_disk_and_verdicts_are_read_off_the_files(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = plan(raw)
    run = next(made.study.runs())
    assert (made.features_mb(run), made.is_judged()) == (0, False)
    made.manifest(run).parent.mkdir(parents=True)
    made.manifest(run).write_text(json.dumps({"classes": list("ab"), "train": 50_000, "test": 10_000}))
    assert made.features_mb(run) == features_mb(made.study, run, json.loads(made.manifest(run).read_text()))
    for path, moment in ((made.folder.metrics, 2), (made.folder.report, 1)):
        path.write_text("")
        os.utime(path, (moment, moment))
    assert not made.is_judged()
    os.utime(made.folder.report, (3, 3))
    assert made.is_judged()


def test_a_training_on_several_devices_takes_a_slot_and_a_core_for_each(raw, monkeypatch):
    training = raw["experiments"]["smoke"]["training"]
    training |= {"devices": 4, "device": "cuda"}
    made = plan(raw)
    run, other = next(made.study.runs("smoke")), next(made.study.runs("other"))
    assert (made.devices(run), made.training_slots(run, True), made.gpu_slots(run, True)) == (4, 4, 1)
    assert (made.devices(other), made.training_slots(other, True)) == (1, 0)
    made.check_machine(cores=1, slots=4)
    made.check_machine(cores=1, slots=None)
    with pytest.raises(ConfigError, match=r"experiments\.smoke\.training\.devices = 4: jobs may use 1 slots of GPUs"):
        made.check_machine(cores=8, slots=1)
    training["device"] = "cpu"
    made = plan(raw)
    assert made.training_slots(next(made.study.runs("smoke")), True) == 0
    with pytest.raises(ConfigError, match=r"devices = 4: jobs may use 2 cores: --cores; allowed: at most that many"):
        made.check_machine(cores=2, slots=1)


def test_a_job_that_reads_a_stream_takes_a_core_for_each_of_its_workers(raw):
    stream = {"source": "imagefolder", "path": "pets", "storage": "stream", "image_size": 16, "workers": 3}
    raw["datasets"] |= {"pets": stream, "many": stream | {"workers": 6}, "kept": {**stream, "workers": 0}}
    raw["probes"] = {"far": {"kind": "transfer", "dataset": "many"}}
    raw["experiments"]["smoke"] |= {"dataset": "pets", "probes": ["far"]}
    raw["experiments"]["smoke"]["training"] |= {"device": "cuda", "devices": 4}
    raw["experiments"]["kept"] = raw["experiments"]["other"] | {"dataset": "kept", "probes": ["far"]}
    made = plan(raw)
    run, other, kept = (next(made.study.runs(name)) for name in ("smoke", "other", "kept"))
    steps = ("train", "ingest", "extract", "probe")
    assert [made.cores(run, step) for step in steps] == [16, 4, 4, 7]
    assert [made.cores(kept, step) for step in steps] == [1, 1, 1, 7]
    assert [made.cores(other, step) for step in steps] == [1, 1, 1, 1]
    assert [made.workers(name) for name in ("pets", "many", "kept", "mnist5k")] == [3, 6, 0, 0]


def test_tasks_of_a_job_are_started_by_its_resources(raw):
    made = plan(raw)
    assert made.launcher({"gpu": 8, "nodes": 1}, 8) == ""
    several = {"mpi": "srun", "tasks": 2, "nodes": 2, "gpu": 16}
    started = "NCLENS_TASKS=2 srun --nodes=2 --ntasks=2 --cpus-per-task=8 --kill-on-bad-exit=1"
    assert made.launcher(several, 16) == f"{started} --gpus=16"
    assert made.launcher(several | {"gpu": 0, "cpus_per_task": 3}, 16) == started.replace("=8", "=3")
