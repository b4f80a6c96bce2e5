"""The build: the wheel takes the workflow's files along, whose only source is the top folder of the checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

#: What goes with the package, and where `nclens.workflow.start` looks for it.
PARTS = ("Snakefile", "workflow_config.yaml", "rules", "profiles", "envs", "studies", "LICENSE")
TARGET = ("nclens", "workflow", "_files")


def workflow_files() -> list[Path]:
    """Return the files of the workflow, relative to this folder; hidden and compiled ones are left out."""
    found = [file for part in map(Path, PARTS) for file in (sorted(part.rglob("*")) if part.is_dir() else [part])]
    return [file for file in found if file.is_file() and not any(part[0] in "._" for part in file.parts)]


class BuildWithWorkflow(build_py):
    """Copies the workflow's files into the package that is built; an editable installation finds them at the top."""

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, *TARGET)
        shutil.rmtree(target, ignore_errors=True)  # an earlier build may have left files that are no more
        for file in workflow_files():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file)

    def get_source_files(self) -> list[str]:
        """Return what a source distribution needs: the workflow's files too."""
        return [*super().get_source_files(), *map(str, workflow_files())]


setup(cmdclass={"build_py": BuildWithWorkflow})
