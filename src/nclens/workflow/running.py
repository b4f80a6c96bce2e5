"""Whether a workflow still runs in a folder, the lock of one that was killed, and what one ends with."""

import atexit
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nclens.workflow.files import FileError
from nclens.workflow.paths import StudyFolder
from nclens.workflow.plan import Plan

DEFAULT_STUDY = "workflow_config.yaml"


def show_verdicts(root: Path) -> None:
    """Print a study's verdicts and where its results are.

    Raises:
        FileError: the folder is no study's, or its table of claims is missing or damaged.
    """
    from nclens.report.terminal import print_verdicts
    from nclens.study import read_study
    from nclens.study.reused import entries_of
    from nclens.workflow import tables
    from nclens.workflow.finished.opening import locate, read_resolved

    folder = StudyFolder(root)
    if not folder.claims.is_file():
        read_resolved(locate(root))  # where the folder is no study's, says which are
    study = read_study(folder.resolved) if folder.resolved.is_file() else {"losses": {}, "experiments": {}}
    losses = study["losses"] | entries_of(study)
    labels = {loss: entry.get("label") or loss for loss, entry in losses.items()}
    records = f"{'make' if in_clone() else 'nclens'} ui"
    print_verdicts(root.name, tables.read_rows(tables.CLAIMS, folder.claims), folder.report, labels, records)


def workflow_files() -> Path:
    """Return the folder of the Snakefile, its rules, profiles, environments and studies.

    An installed package holds a copy of them; that of a checkout is its top folder.

    Raises:
        FileNotFoundError: the installation lacks them.
    """
    folders = (Path(__file__).with_name("_files"), Path(__file__).parents[3])
    for folder in folders:
        if (folder / "Snakefile").is_file():
            return folder
    raise FileNotFoundError(
        f"this installation of nclens has no Snakefile, neither in {folders[0]} nor in {folders[1]}"
    )


def in_clone() -> bool:
    """Return whether the current folder is that of the Snakefile, where `make` has its targets."""
    return workflow_files().resolve() == Path.cwd()


def command(configfiles: Sequence[Path], user: Path | None = None) -> str:
    """Return the command that reproduces a study: README's, but where the study is in several files.

    Args:
        configfiles: the study's.
        user: the folder of the Snakefile that uses the workflow as a module, which is then what is run.

    >>> command([Path("studies/maxsup.yaml")]), command([Path("a.yaml"), Path("b.yaml")])
    ('make reproduce STUDY=studies/maxsup.yaml', 'snakemake --configfile a.yaml b.yaml --cores all')
    """
    files = [os.path.relpath(file) for file in configfiles]
    if user is None and not in_clone():
        return f"nclens run {'--configfile ' if len(files) > 1 else ''}{shlex.join(files)}"
    if user is not None or len(files) > 1:
        return " ".join(["snakemake", *(["--configfile", shlex.join(files)] if files else []), "--cores all"])
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

    def check(self) -> None:
        """Refuse to call a study complete of which results are missing.

        With `keep-going`, as the profile has it, Snakemake does not look for jobs that it has lost sight of.

        Raises:
            FileError: names the first of them.
        """
        if all(job.rule.name != "all" for job in self._workflow.dag.jobs):
            return
        if missing := [str(path) for path in self._plan.promised() if not path.is_file()]:
            raise FileError(
                f"Snakemake has ended without {len(missing)} of the study's files, {missing[0]} first: "
                "start the same command again"
            )

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
        is_snakemake = any(Path(word).name == "snakemake" for word in words[:3]) or "snakemake" in words[1:4]
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if is_snakemake and alive and process.info["cwd"] and Path(process.info["cwd"]) == folder.resolve():
            return True
    return False
