"""A copy of the project with a study of its own, in which tests run the real Snakefile."""

import copy
import fcntl
import os
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.process import ROOT, quick_jobs, run

PARTS = ("Snakefile", "workflow_config.yaml", "rules", "profiles", "envs", "src", "studies")
BIN = Path(sys.executable).parent
#: What a copy of a finished project has in common with it: files that no test and no job writes to in place.
SHARED = ("results",)
WRITTEN = (".log", ".db", ".tsv")


def planned_runs(output):
    """Return what a dry run would do to runs: for each stage its runs, `dataset/model/loss/seedN`, in order.

    The stage is the first word of a job's message.
    """
    runs = {}
    for stage, which in re.findall(r"^ *Job \d+: (\w+) (\S+/seed\d+)$", output, flags=re.MULTILINE):
        runs.setdefault(stage, []).append(which)
    return runs


def shortened(study, *figures):
    """Leave out of a study what takes longest where no test looks at it: all but some figures, and the descents.

    With these penalties W = H = 0 minimises the unconstrained feature model, and there is nothing to descend to.
    """
    study["theory"] = {"lambda_w": 1, "lambda_h": 1, "lambda_h_samples": 1}
    for experiment in study["experiments"].values():
        experiment["figures"] = list(figures)
    return study


@contextmanager
def once(folder):
    """Yield whether a folder that the workers share is still to be made; the others wait until it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        yield not done.exists()
        done.touch()


class Place:
    """A copy of the project, with a study of its own, in which the real Snakefile runs.

    With `quick_jobs` its jobs are forks of a process that has imported PyTorch. Without, each job starts as a user's.
    """

    quick_jobs = False

    def __init__(self, folder):
        self.folder = folder
        self.study = folder / "mine" / "study.yaml"

    @classmethod
    def copy_to(cls, folder):
        """Copy what a user checks out, without results."""
        folder.mkdir()
        for part in PARTS:
            source = ROOT / part
            ignore = shutil.ignore_patterns("*.egg-info")
            shutil.copytree(source, folder / part, ignore=ignore) if source.is_dir() else shutil.copy2(source, folder)
        return cls(folder)

    @classmethod
    def of(cls, finished, folder):
        """Copy a finished project, times of files and all, for a test to change; results share their files with it.

        A job removes what it makes before it writes. A test that writes into a result in place calls `own` first.
        """

        def copy(source, target):
            shared = Path(source).relative_to(finished.folder).parts[0] in SHARED and not source.endswith(WRITTEN)
            return os.link(source, target) if shared else shutil.copy2(source, target)

        shutil.copytree(finished.folder, folder, symlinks=True, copy_function=copy)
        return cls(folder)

    def own(self, *parts):
        """Return the path of a result after giving it a file that no other copy has."""
        path = self.path(*parts)
        shutil.copy2(path, path.with_name(f"{path.name}.own"))
        return path.with_name(f"{path.name}.own").replace(path)

    def path(self, *parts):
        return self.folder.joinpath(*parts)

    def shorten(self, *figures):
        """Write the study again without what takes longest; return it as it was."""
        study = yaml.safe_load(self.study.read_text(encoding="utf-8"))
        self.study.write_text(yaml.safe_dump(shortened(copy.deepcopy(study), *figures), sort_keys=False))
        return study

    def configure(self, study):
        self.study.parent.mkdir(exist_ok=True)
        self.study.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")

    def edit(self, path, old, new):
        file = self.path(path)
        content = file.read_text(encoding="utf-8")
        assert old in content, f"{old!r} is not in {path}"
        file.write_text(content.replace(old, new, 1), encoding="utf-8")

    def environment(self, **changes):
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"}
        folders = [quick_jobs()] if self.quick_jobs else []
        environment["PATH"] = os.pathsep.join(map(str, [*folders, BIN, environment["PATH"]]))
        environment.pop("MLFLOW_TRACKING_URI", None)
        return environment | changes

    def command(self, *arguments, configfile=True):
        chosen = ["--configfile", str(self.study.relative_to(self.folder))] if configfile else []
        return [str(BIN / "snakemake"), *chosen, *arguments]

    def snakemake(self, *arguments, check=True, configfile=True, **environment):
        command = self.command(*arguments, configfile=configfile)
        return run(command, self.folder, self.environment(**environment), check)

    def planned(self):
        """What a dry run would do, as `rule` or `rule loss/seed`; all of it."""
        output = self.snakemake("--dry-run").stdout
        if "Nothing to be done" in output:
            return set()
        jobs = set()
        for stage, what in re.findall(r"^ *Job \d+: (\w+) ?(\S*)$", output, flags=re.MULTILINE):
            run = re.fullmatch(r"(\w+)/\w+/(\w+)/seed(\d+)", what)
            experiment = run and ("rows" if run[1] == "blobs" else "smoke")
            jobs.add(f"{stage}_{experiment} {run[2]}/{run[3]}" if run else f"{stage}_{what}".rstrip("_"))
        assert jobs, output
        return jobs
