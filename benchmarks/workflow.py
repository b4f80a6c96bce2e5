"""Overhead of the workflow over its training jobs: wall time of a whole study, and of a run with nothing to do.

The default study runs from scratch in a temporary folder, on all cores. Wall time times cores is compared with the
summed time of the training jobs (from Snakemake's benchmark files). Then the same command runs again.

    python benchmarks/workflow.py [--study workflow_config.yaml] [--cores 2]
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def timed(command, folder):
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=ROOT / "workflow_config.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    options = parser.parse_args()
    command = [str(Path(sys.executable).parent / "snakemake"), "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(options.study.resolve()), "--cores", str(options.cores)]
    with tempfile.TemporaryDirectory() as folder:
        wall = timed(command, folder)
        training = 0.0
        for path in Path(folder).glob("results/*/benchmarks/train/**/*.tsv"):
            with open(path, encoding="utf-8", newline="") as file:
                training += sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
        idle = timed(command, folder)
    print(f"{options.study.name} on {options.cores} cores")
    print(f"wall time                                {wall:8.1f} s")
    print(f"summed time of the training jobs         {training:8.1f} s")
    print(f"wall time x cores / summed training time {wall * options.cores / training:8.2f}")
    print(f"the same command with nothing to do      {idle:8.1f} s")


if __name__ == "__main__":
    main()
