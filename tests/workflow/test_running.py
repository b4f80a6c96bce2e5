"""Whether a workflow is alive in a folder, and what one ends with."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nclens.workflow import tables
from nclens.workflow.files import FileError
from nclens.workflow.paths import StudyFolder
from nclens.workflow.running import Ending, command, remove_stale_lock, snakemake_alive


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


@pytest.mark.parametrize(
    ("target", "before"),
    [("reproduce", ""), ("record", 'nclens check "studies/smoke.yaml" && nclens forget '), ("report", "")],
)
def test_make_runs_a_study_by_the_command_that_checks_it_and_removes_a_dead_lock_first(target, before):
    make = ["make", "--dry-run", "--assume-old=.venv/ready", target, "STUDY=studies/smoke.yaml"]
    done = subprocess.run(make, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    first, run, _ = done.stdout.partition('nclens run "studies/smoke.yaml"')
    assert run
    assert before in first


def workflow(jobs=0, **changes):
    """What `Ending` sees of Snakemake's workflow."""
    given = {"is_main_process": True, "scheduler": object(), "dag": [None] * jobs, "dryrun": False}
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    ("changes", "judged", "shown"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"jobs": 2}, True, False),
        ({"dryrun": True}, True, False),
        ({"scheduler": None}, True, False),  # as for --lint
    ],
)
def test_a_run_with_nothing_to_do_ends_with_the_verdicts(tmp_path, monkeypatch, capsys, changes, judged, shown):
    registered = []
    monkeypatch.setattr("nclens.workflow.running.atexit.register", registered.append)
    (tmp_path / "study.yaml").write_text("losses: {ls: {label: LS}, ce: {label: null}}", encoding="utf-8")
    row = {
        "claim": "C1",
        "statement": "It is faster.",
        "dataset": "blobs",
        "model": "net",
        "loss": "ls",
        "baseline": "ce",
    }
    row |= {
        "level": "claim",
        "effect": 0.5,
        "low": 0.4,
        "high": 0.6,
        "unit": "ratio",
        "null": 1,
        "verdict": "supported",
    }
    tables.write_rows(tables.CLAIMS, tmp_path / "claims.csv", [row])
    Ending(workflow(**changes), SimpleNamespace(folder=StudyFolder(tmp_path), is_judged=lambda: judged))
    (show,) = registered
    show()
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ("LS against ce" in printed and "report.html" in printed) == shown
    assert bool(printed) == shown


def test_the_hooks_end_a_run_with_jobs_and_a_jobs_own_process_ends_with_nothing(monkeypatch):
    registered = []
    monkeypatch.setattr("nclens.workflow.running.atexit.register", registered.append)
    monkeypatch.setattr("nclens.workflow.running.atexit.unregister", registered.remove)
    Ending(workflow(is_main_process=False), SimpleNamespace())
    assert registered == []
    ending = Ending(workflow(), SimpleNamespace())
    assert registered == [ending.show]
    ending.has_jobs()
    assert registered == []


def test_a_study_without_all_of_its_files_is_not_called_complete(tmp_path):
    paths = [tmp_path / "claims.csv", tmp_path / "report.html"]
    paths[0].touch()

    def ending(rule):
        jobs = [SimpleNamespace(rule=SimpleNamespace(name=rule))]
        seen = workflow(is_main_process=False, dag=SimpleNamespace(jobs=jobs))
        return Ending(seen, SimpleNamespace(promised=lambda: paths))

    with pytest.raises(FileError, match=r"without 1 of the study's files, \S+report.html first: start the same"):
        ending("all").check()
    ending("judge").check()  # a part of the study was asked for
    paths[1].touch()
    ending("all").check()


def test_the_command_is_that_of_the_readme():
    assert command([Path("workflow_config.yaml")]) == "make reproduce"
    assert "make reproduce   #" in (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert command([Path("studies/a b.yaml")]) == "make reproduce STUDY='studies/a b.yaml'"
    assert command([Path("a.yaml"), Path("b.yaml")]) == "snakemake --configfile a.yaml b.yaml --cores all"
