"""Cost of the workflow by number of runs: parsing, DAG and dry run; tables, verdicts, figures and report.

A study with 10 losses, 50 seeds and as many experiments as needed is generated in a temporary folder. Each size runs in
a separate process. `collect` to `report` read simulated measurements in the stages' own formats.

    python benchmarks/scale.py plan --runs 1000 2500 5000 10000
    python benchmarks/scale.py plan --runs 1000 --profile snakemake.prof      then: python -m pstats snakemake.prof
    python benchmarks/scale.py stages --runs 1000 10000
    python benchmarks/scale.py jobs --runs 10 30 [--against 472c36c]

`jobs` runs studies of that many runs to their end and prints the processor time of each further run outside its
training, for this version and another.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from workflow import run_study, versions

from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.paths import THEORY, RunFolder, StudyFolder, path_of

ROOT = Path(__file__).parents[1]
LOSSES, SEEDS = 10, 50
EPOCHS = 100


def study(runs, seeds=SEEDS):
    """Return the configuration of a study with that many runs, 8 snapshots each."""
    experiments, rest = divmod(runs, LOSSES * seeds) if seeds else (0, 0)
    if rest or not experiments:
        sys.exit(f"--runs {runs}: must be a multiple of {LOSSES * (seeds or 1)}")
    losses = {"ce": {"name": "ce"}}
    losses |= {f"ls{n}": {"name": "ls", "smoothing": n / 50} for n in range(1, LOSSES)}
    training = {"epochs": EPOCHS, "batch_size": 40}
    shared = {"model": "resnet8", "losses": list(losses), "seeds": list(range(seeds)), "training": training}
    return {
        "study": "scale",
        "datasets": {
            f"data{n}": {"source": "mnist5k", "train_per_class": 20, "test_per_class": 20, "split_seed": n}
            for n in range(experiments)
        },
        "models": {"resnet8": {"name": "resnet8", "width": 8}},
        "losses": losses,
        "experiments": {
            f"experiment{n}": {**shared, "dataset": f"data{n}", "snapshots": 8, "figures": ["collapse_curves"]}
            for n in range(experiments)
        },
    }


def measured(command, folder):
    """Run a command; return its wall and CPU seconds, its peak memory in MB, and its output."""
    with tempfile.TemporaryFile("w+") as output:
        clock = os.times()
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        output.seek(0)
        if status:
            sys.exit(output.read()[-3000:])
        wall = os.times().elapsed - clock.elapsed
        return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, output.read()


def show(what, runs, wall, cpu, memory):
    print(f"{what:24}{runs:8}{wall:10.1f}{cpu:10.1f}{1000 * cpu / runs:14.2f}{memory:10.0f}", flush=True)


def plan(folder, runs, profile, options):
    """Measure Snakemake's work before the first job."""
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", "study.yaml"]
    show("parse", runs, *measured([*snakemake, "--list-rules"], folder)[:3])
    if profile:
        snakemake[1:1] = ["-m", "cProfile", "-o", profile.resolve()]
    *costs, output = measured([*snakemake, "--dry-run", "--quiet", "rules", *options], folder)
    if options == [] and not re.search(rf"^train +{runs}$", output, re.MULTILINE):
        sys.exit(output[-3000:])
    show(" ".join(["DAG and dry run", *options]), runs, *costs)


def stages(folder, runs, raw):
    """Measure the stages that read every run, on measurements simulated from one real run of two epochs."""
    study = load_study(raw)
    root = folder / study.root
    results = StudyFolder(root)
    # In a separate process, since a child's peak memory includes its parent's.
    with get_context("spawn").Pool(1) as pool:
        pattern = pool.apply(real_run, (raw, folder))
    random = np.random.default_rng(0)
    for run in study.runs():
        write_run(results.run(path_of(run)), pattern, random)
    for name in study.datasets:
        shutil.copy(folder / "real" / "data.json", results.manifest(name))
    tables = {name: results.theory(name) for name in THEORY}
    metrics, theory = results.metrics, results.theory("ufm")
    shared = ["--metrics", metrics, "--theory", theory, "--dynamics", tables["dynamics"]]
    shared += ["--predictions", tables["predictions"]]
    steps = {
        "theory": (specs.theory(study), ["--output", theory, "--dynamics", tables["dynamics"], "--regression"]),
        "collect": (specs.collect(study), ["--output", metrics]),
        "predict": (specs.predict(study), ["--metrics", metrics, "--output", tables["predictions"], "--effective"]),
        "judge": (specs.judge(study), [*shared, "--claims", results.claims, "--page", results.claims_page]),
        "draw": (specs.draw(study), [*shared, "--regression", tables["regression"]]),
        "report": (specs.report(study, "make"), ["--output", results.report]),
    }
    steps["theory"][1].append(tables["regression"])
    steps["predict"][1].append(tables["effective"])
    for stage, (spec, options) in steps.items():
        place = [] if stage == "judge" else ["--root", root]
        command = [sys.executable, "-m", "nclens.cli", stage, "--spec", specs.encode(spec), *place, *options]
        show(stage, runs, *measured(command, folder)[:3])


def jobs(sizes, against, cores):
    """Measure the processor time beside the training that each further run takes, from two sizes of a study."""
    with versions(against) as folders:
        for name, folder in folders.items():
            outside = []
            for runs in sizes:
                with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                    yaml.safe_dump(study(runs, seeds=runs // LOSSES), file)
                    wall, processor, training, _ = run_study(folder, Path(file.name), cores)
                outside.append(processor - training)
                print(f"{name:24}{runs:8}{wall:10.1f}{processor:10.1f}", flush=True)
            more = (outside[-1] - outside[0]) / (sizes[-1] - sizes[0])
            print(f"{name}: {more:.1f} s of processor time beside the training of each further run", flush=True)


def real_run(raw, folder):
    """Train, extract and measure a run of two epochs; return its tables and its record."""
    from nclens.workflow.stages.extract import extract
    from nclens.workflow.stages.measure import measure
    from nclens.workflow.stages.prepare import prepare
    from nclens.workflow.stages.train import train

    study = load_study(raw)
    run = next(study.runs())
    data, manifest, here = (folder / "real" / name for name in ("data.safetensors", "data.json", "run"))
    prepare(specs.prepare(study, run.dataset), data, manifest, folder)
    (folder / study.root / "data").mkdir(parents=True)
    spec, measured = specs.train(study, run), specs.measure(study, run)
    short = replace(spec, snapshots=(2,), training=replace(spec.training, epochs=2))
    train(short, "code", data, manifest, here, 1, False)
    extract(replace(specs.extract(study, run), snapshots=(2,), kept=(2,)), data, manifest, here, 1)
    classifier = replace(measured.classifier, epochs=2)
    measure(replace(measured, snapshots=(2,), kept=(2,), classifier=classifier), here, 1)
    made = RunFolder(here)
    last, history = pd.read_csv(made.metrics), pd.read_csv(made.history)
    epochs = study.experiments[run.experiment].snapshot_epochs
    return {
        "metrics": pd.concat([last.assign(epoch=epoch) for epoch in epochs]),
        "history": pd.concat([history[history["epoch"] == 2].assign(epoch=n) for n in range(1, EPOCHS + 1)]),
        "run": made.run.read_text(encoding="utf-8"),
    }


def write_run(run, pattern, random):
    """Write a run's record and its tables, with each value of the pattern perturbed by a few per cent."""
    run.folder.mkdir(parents=True)
    run.run.write_text(pattern["run"], encoding="utf-8")
    run.history.write_text(pattern["history"].to_csv(index=False), encoding="utf-8")
    table = pattern["metrics"]
    values = table["value"].to_numpy() * random.normal(1, 0.03, len(table))
    rows = zip(table["epoch"], table["split"], table["metric"], values, strict=True)
    lines = "".join(f"{epoch},{split},{metric},{value:.9g}\n" for epoch, split, metric, value in rows)
    run.metrics.write_text(f"epoch,split,metric,value\n{lines}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "stages", "jobs"])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--profile", type=Path, help="file for the profile of the dry run")
    parser.add_argument("--against", metavar="REVISION", help="another version, for `jobs`")
    arguments, options = parser.parse_known_args()
    print(f"{'step':24}{'runs':>8}{'wall s':>10}{'CPU s':>10}{'CPU ms / run':>14}{'MB':>10}")
    if arguments.what == "jobs":
        jobs(arguments.runs, arguments.against, os.cpu_count())
        return
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "study.yaml").write_text(yaml.safe_dump(study(runs)), encoding="utf-8")
            if arguments.what == "plan":
                plan(folder, runs, arguments.profile, options)
            else:
                stages(folder, runs, study(runs))


if __name__ == "__main__":
    main()
