"""Every study of the project, planned by the real Snakefile: what it would run is what it says."""

import re
from collections import Counter

import pytest
import yaml

from nclens.losses import Schedule
from nclens.study import load_study
from nclens.workflow.paths import path_of
from tests.process import python
from tests.project import PARTS, ROOT, planned_runs

STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))

#: Plans each study in a fork of one process, which has imported the workflow and read the package's code: half of what
#: a start of Snakemake computes. Each writes what it prints to a file of its own.
PLAN_ALL = """
import os, sys
from pathlib import Path
import snakemake.cli
from nclens.figures.catalogue import FIGURES
from nclens.metrics.catalogue import MEASUREMENTS
from nclens.probes.catalogue import PROBES
from nclens.workflow import check, forkserver, plan, provenance, running

called = [*FIGURES.values()], [*MEASUREMENTS], [*PROBES.values()]
modules = {getattr(entry, "draw", None) or entry.function for entries in called for entry in entries}
for stage in ("draw", "measure", "probe", "report", "train"):
    provenance.code_digest(stage, {module.partition(":")[0] for module in modules})

failed = 0
for name in sys.argv[2:]:
    child = os.fork()
    if not child:
        with open(Path(sys.argv[1], name), "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        # As many slots as a run of several devices needs.
        sys.argv = ["snakemake", "--configfile", f"studies/{name}.yaml", "--dry-run", "--resources", "gpu=8"]
        snakemake.cli.main()
        os._exit(1)
    failed |= os.waitpid(child, 0)[1]
sys.exit(bool(failed))
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """What a dry run of each study prints."""
    folder = tmp_path_factory.mktemp("planned")
    for part in PARTS:
        (folder / part).symlink_to(ROOT / part)
    (folder / "said").mkdir()
    python(PLAN_ALL, folder / "said", *STUDIES, cwd=folder, check=False)
    return {name: (folder / "said" / name).read_text(encoding="utf-8") for name in STUDIES}


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_plans_a_training_a_run(name, planned):
    found = planned_runs(planned[name])
    content = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
    study = load_study(yaml.safe_load(content), [ROOT / "studies"])
    runs = sorted(path_of(run) for run in study.runs())
    for stage in ("train", "extract", "measure"):
        assert sorted(found.get(stage, [])) == runs, planned[name]


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("when_does_it_help", {"help": 36}),
        ("when_does_it_help_full", {"cifar10": 35, "cifar100": 35}),
    ],
)
def test_a_study_with_probes_plans_one_a_run_and_prepares_what_they_transfer_to(name, expected, planned):
    probed = planned_runs(planned[name])["probe"]
    content = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
    experiments = {path_of(run): run.experiment for run in load_study(yaml.safe_load(content)).runs()}
    assert len(probed) == len(set(probed))
    assert Counter(experiments[run] for run in probed) == expected
    assert len(re.findall(r"^ *Job \d+: prepare \S+$", planned[name], flags=re.MULTILINE)) == 2


@pytest.mark.parametrize("name", STUDIES)
def test_the_head_of_a_study_has_its_command(name):
    head = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8").split("\nstudy:")[0]
    assert f"\n#   snakemake --configfile studies/{name}.yaml --cores all" in head


@pytest.mark.parametrize("name", ["schedules", "schedules_full"])
def test_the_study_of_schedules_has_five_of_each_loss_and_two_students_of_each(name):
    content = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
    study = load_study(yaml.safe_load(content), [ROOT / "studies"])
    teachers, students = study.experiments["schedules"], study.experiments["students"]
    strengths = {
        "": [0.1] * 60,
        "_off": [0.1] * 40 + [0.0] * 20,
        "_decay": [0.1 * (60 - epoch) / 60 for epoch in range(60)],
        "_warm": [0.1 * min(epoch / 20, 1) for epoch in range(60)],
    }
    for loss in ("ls", "maxsup"):
        for suffix, expected in strengths.items():
            chosen = study.losses[loss + suffix].specification()
            schedule, value = Schedule(**chosen["schedule"]), chosen["arguments"][chosen["parameter"]]
            assert [schedule.at(value, epoch, teachers.epochs) for epoch in range(60)] == pytest.approx(expected)
    assert set(teachers.losses) == {"ce", *(loss + suffix for loss in ("ls", "maxsup") for suffix in strengths)}
    taught = [(one["loss"], one["temperature"]) for one in study.teachers("students").values()]
    assert sorted(taught) == sorted((loss, at) for loss in teachers.losses for at in (1.0, 4.0))
    assert (len(teachers.seeds), len(students.seeds)) == (5, 5)
    assert len(study.transfer_datasets("schedules")) >= 2
    assert students.snapshot_epochs == [students.epochs]
