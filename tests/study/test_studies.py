"""Every study of the project, planned by the real Snakefile: what it would run is what it says."""

import pytest
import yaml

from nclens.study import load_study
from nclens.workflow.paths import path_of
from tests.project import PARTS, ROOT, Place, planned_runs

STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_plans_a_training_a_run(name, tmp_path):
    for part in PARTS:
        (tmp_path / part).symlink_to(ROOT / part)
    file = f"studies/{name}.yaml"
    output = Place(tmp_path).snakemake("--configfile", file, "--dry-run", configfile=False).stdout
    planned = planned_runs(output)
    study = load_study(yaml.safe_load((ROOT / file).read_text(encoding="utf-8")), [ROOT / "studies"])
    runs = sorted(path_of(run) for run in study.runs())
    for stage in ("train", "extract", "measure"):
        assert sorted(planned[stage]) == runs


@pytest.mark.parametrize("name", STUDIES)
def test_the_head_of_a_study_has_its_command(name):
    head = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8").split("\nstudy:")[0]
    assert f"\n#   snakemake --configfile studies/{name}.yaml --cores all" in head
