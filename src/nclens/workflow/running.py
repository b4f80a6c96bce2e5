"""Whether a workflow still runs in a folder, the lock of one that was killed, and what one ends with."""

import atexit
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nclens.workflow.paths import StudyFolder
from nclens.workflow.plan import Plan

DEFAULT_STUDY = "workflow_config.yaml"


def show_verdicts(root: Path) -> None:
    """Print a study's verdicts and where its results are.

    Raises:
        FileError: the table of claims is missing or damaged.
    """
    from nclens.report.terminal import print_verdicts
    from nclens.study import read_study
    from nclens.study.reused import entries_of
    from nclens.workflow import tables

    folder = StudyFolder(root)
    study = read_study(folder.resolved) if folder.resolved.is_file() else {"losses": {}, "experiments": {}}
    losses = study["losses"] | entries_of(study)
    labels = {loss: entry.get("label") or loss for loss, entry in losses.items()}
    print_verdicts(root.name, tables.read_rows(tables.CLAIMS, folder.claims), folder.report, labels)


def command(configfiles: Sequence[Path]) -> str:
    """Return the command that reproduces a study: README's, but where the study is in several files.

    >>> command([Path("studies/maxsup.yaml")]), command([Path("a.yaml"), Path("b.yaml")])
    ('make reproduce STUDY=studies/maxsup.yaml', 'snakemake --configfile a.yaml b.yaml --cores all')
    """
    files = [os.path.relpath(file) for file in configfiles]
    if len(files) > 1:
        return f"snakemake --configfile {shlex.join(files)} --cores all"
    return " ".join(["make reproduce", *(f"STUDY={shlex.quote(file)}" for file in files if file != DEFAULT_STUDY)])


class Ending:
    """Prints the verdicts at the end of a Snakemake that has nothing to do, for which Snakemake has no hook.

    Snakemake says itself, in one line before, that nothing is to be done.

    Args:
        workflow: Snakemake's.
        plan: of the study.
    """

    def __init__(self, workflow: Any, plan: Plan) -> None:
        self._workflow, self._plan = workflow, plan
        if workflow.is_main_process:
            atexit.register(self.show)

    def has_jobs(self) -> None:
        """Leave the ending to the hooks of a workflow with jobs."""
        atexit.unregister(self.show)

    def show(self) -> None:
        """Print the verdicts, if the study was to be made and is complete."""
        # Without a scheduler nothing was to be made, as for --lint.
        idle = self._workflow.scheduler is not None and not len(self._workflow.dag)
        if idle and not self._workflow.dryrun and self._plan.is_judged():
            # Here, for no process starts while this one ends.
            show_verdicts(self._plan.folder.root)


def remove_stale_lock(folder: Path) -> None:
    """Remove the lock of a killed Snakemake, if none is alive in this folder."""
    lock = folder / ".snakemake" / "locks"
    if snakemake_alive(folder) or not lock.is_dir():
        return
    for path in lock.glob("*.lock"):
        path.unlink()


def snakemake_alive(folder: Path) -> bool:
    """Return whether a Snakemake process of this folder is alive."""
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = process.info["cmdline"] or []
        is_snakemake = any(Path(word).name == "snakemake" for word in words[:3]) or "snakemake" in words[1:3]
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if is_snakemake and alive and process.info["cwd"] and Path(process.info["cwd"]) == folder.resolve():
            return True
    return False
