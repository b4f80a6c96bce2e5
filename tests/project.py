"""A copy of the project with a study of its own, in which tests run the real Snakefile."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow_config.yaml", "rules", "profiles", "envs", "src", "studies")
BIN = Path(sys.executable).parent


class Place:
    """A copy of the project, with a study of its own, in which the real Snakefile runs."""

    def __init__(self, folder):
        self.folder = folder
        self.study = folder / "mine" / "study.yaml"

    @classmethod
    def copy_to(cls, folder):
        """Copy what a user checks out, without results."""
        folder.mkdir()
        for part in PARTS:
            source = ROOT / part
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / part, ignore=ignore) if source.is_dir() else shutil.copy2(source, folder)
        return cls(folder)

    def path(self, *parts):
        return self.folder.joinpath(*parts)

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
        environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
        environment.pop("MLFLOW_TRACKING_URI", None)
        return environment | changes

    def command(self, *arguments, configfile=True):
        chosen = ["--configfile", str(self.study.relative_to(self.folder))] if configfile else []
        return [str(BIN / "snakemake"), *chosen, *arguments]

    def snakemake(self, *arguments, check=True, configfile=True, **environment):
        done = subprocess.run(
            self.command(*arguments, configfile=configfile),
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

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
