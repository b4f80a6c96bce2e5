"""Every study of the project, planned by the real Snakefile: what it would run is what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nclens.study import load_study

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_plans_a_training_a_run(name, tmp_path):
    for part in ("Snakefile", "workflow_config.yaml", "rules", "profiles", "envs", "src", "studies"):
        (tmp_path / part).symlink_to(ROOT / part)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [BIN / "snakemake", "--configfile", f"studies/{name}.yaml", "--dry-run", "--quiet", "rules"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    study = load_study(yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8")))
    for stage in ("train", "extract", "measure"):
        # A rule a set of runs that keep the same epochs: train, train_2, ...
        jobs = dict(re.findall(rf"^({stage}(?:_\d+)?)\s+(\d+)$", done.stdout, flags=re.MULTILINE))
        assert sum(map(int, jobs.values())) == len(list(study.runs()))


@pytest.mark.parametrize("name", STUDIES)
def test_the_head_of_a_study_has_its_command(name):
    head = (ROOT / "studies" / f"{name}.yaml").read_text(encoding="utf-8").split("\nstudy:")[0]
    assert f"\n#   snakemake --configfile studies/{name}.yaml --cores all" in head
