"""Whether a workflow is alive in a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from nclens.workflow.running import remove_stale_lock, snakemake_alive


def test_a_living_snakemake_of_this_folder_is_seen(tmp_path):
    (tmp_path / "snakemake").write_text("import time; print('up', flush=True); time.sleep(60)")
    command = [sys.executable, str(tmp_path / "snakemake")]
    assert not snakemake_alive(tmp_path)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert snakemake_alive(tmp_path)
        assert not snakemake_alive(Path("/"))
        process.kill()


def test_the_lock_of_a_dead_snakemake_is_removed(tmp_path):
    lock = tmp_path / ".snakemake" / "locks" / "0.input.lock"
    remove_stale_lock(tmp_path)
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    remove_stale_lock(tmp_path)
    assert not lock.exists()


@pytest.mark.parametrize("target", ["reproduce", "record", "report"])
def test_make_checks_the_study_and_removes_the_lock_of_a_dead_snakemake_first(target):
    make = ["make", "--dry-run", "--assume-old=.venv/ready", target, "STUDY=studies/smoke.yaml"]
    done = subprocess.run(make, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    first, _, then = done.stdout.partition("nclens unlock && ")
    assert 'nclens check "studies/smoke.yaml" && ' in first
    assert then.startswith('snakemake --configfile "studies/smoke.yaml"')
