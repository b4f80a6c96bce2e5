"""Extraction and measurement of one run of the default study, of this version and another, in processor seconds.

    git worktree add ../before 8fbb284
    python benchmarks/measuring.py --against ../before --results results/digits [--run mnist5k/resnet8/ce/seed0]

`--results` is the finished default study of either version: the prepared data and the run's snapshots are copied from
it to a temporary folder, and nothing is written there. Each version makes its own specifications of both stages from
its own `workflow_config.yaml`. A stage is a process on one thread, and the versions alternate, the first of a round by
turns. Times are user and system seconds of the process; `stage` is without imports, as in the workflow, whose jobs are
forks of a process that has them. A ratio is the median over the rounds of the ratios within a round.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGES = ("extract", "measure")
STAGE = """
import json, resource, sys
from pathlib import Path

def used():
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime

stage, config, path = sys.argv[1:]
import torch, safetensors.torch, scipy.optimize, pandas
from nclens.study import load_study
from nclens.study.reading import read_study
from nclens.workflow import specs
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.measure import measure

study = load_study(read_study(Path(config)))
run = next(run for run in study.runs() if path_of(run) == path)
folder = StudyFolder(Path("results"))
start = used()
if stage == "extract":
    spec = specs.extract(study, run)
    earlier = set(spec.kept) < set(spec.snapshots)
    extract(spec, folder.data(run.dataset), folder.manifest(run.dataset), folder.run(path).folder, 1, earlier)
else:
    measure(specs.measure(study, run), folder.run(path).folder, 1)
print(json.dumps({"stage": used() - start, "process": used()}))
"""


def measured(version: Path, stage: str, run: str, folder: Path) -> dict[str, float]:
    """Return the processor seconds of a stage of a version: of the stage, and of its process."""
    variables = {**os.environ, "PYTHONPATH": str(version / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STAGE, stage, str(version / "workflow_config.yaml"), run]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{version}: {stage}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rounds(options: argparse.Namespace) -> dict[Path, list[dict[str, dict[str, float]]]]:
    """Return the seconds of every round: version -> stage -> part -> seconds."""
    versions = [options.against.resolve(), ROOT]
    found: dict[Path, list[dict[str, dict[str, float]]]] = {version: [] for version in versions}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for version in versions:
            results = place / str(versions.index(version)) / "results"
            shutil.copytree(options.results / "data", results / "data")
            (results / options.run).mkdir(parents=True)
            for file in ("snapshots.safetensors", "run.json"):
                shutil.copy(options.results / options.run / file, results / options.run / file)
        for number in range(options.rounds):
            for version in versions if number % 2 == 0 else reversed(versions):
                folder = place / str(versions.index(version))
                found[version].append({stage: measured(version, stage, options.run, folder) for stage in STAGES})
    return found


def main() -> None:
    """Print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, required=True, help="checkout of the other version")
    parser.add_argument("--results", type=Path, required=True, help="results of a finished default study")
    parser.add_argument("--run", default="mnist5k/resnet8/ce/seed0")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    before, after = rounds(options).values()
    print(f"{'processor seconds':20}{'before':>10}{'now':>10}{'ratio':>8}{'least':>8}{'most':>8}")
    for part in ("stage", "process"):
        for name, stages in (*((stage, (stage,)) for stage in STAGES), ("both", STAGES)):
            pair = [[sum(one[stage][part] for stage in stages) for one in version] for version in (before, after)]
            ratios = [new / old for old, new in zip(*pair, strict=True)]
            medians = "".join(f"{statistics.median(seconds):10.2f}" for seconds in pair)
            spread = "".join(f"{value:8.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios)))
            print(f"{name + ', ' + part:20}{medians}{spread}")


if __name__ == "__main__":
    main()
