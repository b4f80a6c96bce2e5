"""What surrounds the training: processor time outside the training jobs, and wall time, of this version and another.

The study runs from scratch in a temporary folder, with each version's own Snakefile and package and the same installed
packages, one version after the other on an otherwise idle machine. A training job is measured as a process, imports
included. Then the same command runs again, with nothing to do.

    python benchmarks/workflow.py [--against 472c36c] [--study workflow_config.yaml] [--cores 2]
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The command line of a version, which adds the processor time of its training jobs to a file.
NCLENS = """#!{python}
import os, sys
if sys.argv[1:2] == ["train"]:
    job = os.fork()
    if job:
        import signal
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: os.kill(job, number))
        _, status, used = os.wait4(job, 0)
        with open({trained!r}, "a") as file:
            print(used.ru_utime + used.ru_stime, file=file)
        sys.exit(abs(os.waitstatus_to_exitcode(status)))
from nclens.{module} import main
main()
"""


def environment(folder, version, trained):
    """Make a Python environment of the installed packages with a version's `nclens`; return what a process needs."""
    venv.create(folder, symlinks=True)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    Path(packages, "installed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    command = folder / "bin" / "nclens"
    module = "__main__" if (version / "src" / "nclens" / "__main__.py").exists() else "cli"
    text = NCLENS.format(python=folder / "bin" / "python", trained=str(trained), module=module)
    command.write_text(text, encoding="utf-8")
    command.chmod(0o755)
    return {**os.environ, "PYTHONPATH": str(version / "src"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def measured(command, folder, variables):
    """Return wall and processor seconds of a command."""
    start = time.perf_counter()
    with open(folder / "output", "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit((folder / "output").read_text(encoding="utf-8")[-3000:])
    return time.perf_counter() - start, used.ru_utime + used.ru_stime


@contextmanager
def versions(against):
    """Yield the folder of this version, and before it that of another revision if one is named, by name."""
    with tempfile.TemporaryDirectory() as folder:
        if against:
            archive = subprocess.run(["git", "archive", against], cwd=ROOT, stdout=subprocess.PIPE, check=True)
            subprocess.run(["tar", "x"], cwd=folder, input=archive.stdout, check=True)
        yield {against: Path(folder), "this version": ROOT} if against else {"this version": ROOT}


def run_study(version, study, cores):
    """Run a study with a version; return wall, processor and training seconds, and the wall time of doing nothing.

    The study's file is absolute, or relative to the version's folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        trained, results = folder / "trained", folder / "study"
        results.mkdir()
        variables = environment(folder / "environment", version, trained)
        command = [folder / "environment" / "bin" / "python", "-m", "snakemake", "--snakefile", version / "Snakefile"]
        command += ["--configfile", version / study, "--cores", str(cores)]
        wall, processor = measured(command, results, variables)
        training = sum(map(float, trained.read_text(encoding="utf-8").split()))
        idle, _ = measured(command, results, variables)
    return wall, processor, training, idle


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REVISION", help="another version, of this repository's history")
    parser.add_argument("--study", type=Path, default=Path("workflow_config.yaml"), help="below the project's folder")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with versions(options.against) as folders:
        found = {name: run_study(folder, options.study, options.cores) for name, folder in folders.items()}
    print(f"{options.study} on {options.cores} cores, seconds")
    print(f"{'':24}{'wall':>10}{'processor':>12}{'training':>12}{'outside':>10}{'nothing to do':>16}")
    for name, (wall, processor, training, idle) in found.items():
        print(f"{name:24}{wall:10.1f}{processor:12.1f}{training:12.1f}{processor - training:10.1f}{idle:16.1f}")
    if options.against:
        before, after = found.values()
        print(f"processor time outside the training jobs, over {options.against}: ", end="")
        print(f"{(after[1] - after[2]) / (before[1] - before[2]):.2f}")
        print(f"wall time, over {options.against}: {after[0] / before[0]:.2f}")


if __name__ == "__main__":
    main()
