"""Kill the streamed smoke study again and again, resume it each time, and compare its results with an undisturbed run.

A copy of the project runs the study once without a kill. In another copy, jobs of every kind are waited for and killed
at a random moment, and the same command goes on; when that study is complete, a further copy begins, until there were
as many kills as asked for. Every complete study must have the bits of the first, no process may outlive its workflow,
and no temporary file may be left. The kills are drawn from a seed; at which step a process is hit is up to the machine.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--folder kills]

Five ways to kill, all by SIGKILL, of which SHARES says how often each is taken: `group`, the workflow with the
processes of its group, of which the others must end by themselves; `workflow`, Snakemake alone, so that its jobs live
on; `job`, one job; `reader`, one process that a job has started, to decode images or to draw; `server`, one of the
processes that start the jobs.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import yaml

from nclens.workflow.provenance import CLOCK_FIELDS

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow_config.yaml", "rules", "profiles", "envs", "src", "studies")
STUDY = "streamed_smoke"
#: How often each kind of job is killed in a copy, in the order in which they run.
QUOTAS = {
    **{"resolve": 1, "prepare": 3, "train": 7, "extract": 4, "measure": 3, "collect": 2, "theory": 2, "predict": 1},
    **{"judge": 2, "track setup": 1, "track run": 3, "draw": 3, "report": 2, "track study": 2},
}
#: How often each way to kill is taken.
SHARES = {"group": 9, "workflow": 5, "job": 7, "reader": 5, "server": 1}
#: Names the processes of a copy in their environment.
MARK = "NCLENS_KILLS"
#: Seconds that processes without their workflow have to end, and that a workflow may go on without a job's end.
ENDING, STUCK = 60, 900
#: So many copies in a row without a kill end it.
IDLE = 3
#: No results: the clock's, MLflow's, and what is in other files.
NO_RESULT = ("logs", "benchmarks", ".locks")
NO_RESULTS = ("mlflow.json", "report.html")


def copy_to(folder, images=None, study=STUDY):
    """Make a copy of the project; checkpoints are taken in every moment.

    The images are written, or those of a folder with their times, which manifests have a digest of.
    """
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(source, folder / part, ignore=ignore) if source.is_dir() else shutil.copy2(source, folder)
    file = folder / "studies" / f"{study}.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "\ncheckpoint_minutes: 0.001\n", encoding="utf-8")
    if images is not None:
        shutil.copytree(images, folder / "data")
        return
    variables = os.environ | {"PYTHONPATH": str(folder / "src")}
    subprocess.run([sys.executable, "studies/streamed_smoke.py"], cwd=folder, env=variables, check=True)


class Workflow:
    """A Snakemake of a copy, and the processes that it has started."""

    def __init__(self, folder, cores, retries):
        self.folder, self.began = folder, time.monotonic()
        variables = os.environ | {"PYTHONPATH": str(folder / "src"), MARK: str(folder), "OMP_NUM_THREADS": "1"}
        variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        variables.pop("MLFLOW_TRACKING_URI", None)
        unlock = [sys.executable, "-m", "nclens", "unlock"]
        subprocess.run(unlock, cwd=folder, env=variables, check=True, stdout=subprocess.DEVNULL)
        options = ["--configfile", f"studies/{STUDY}.yaml", "--cores", str(cores), "--retries", str(retries)]
        with (folder / "said.txt").open("a") as said:
            command = [sys.executable, "-m", "snakemake", *options]
            streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
            self._process = subprocess.Popen(command, cwd=folder, env=variables, start_new_session=True, **streams)
        self.pid = self._process.pid

    def ended(self):
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def processes(self):
        """Return the kinds of the jobs that run, and the processes that a way to kill may hit."""
        try:
            below = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return [], {}
        stages, parents = {}, {}
        for one in below:
            with contextlib.suppress(psutil.Error):
                parents[one.pid] = one.ppid()
                if stage := stage_of(one.cmdline()):
                    stages[one.pid] = stage
        kinds, found = [], {"job": [], "reader": [], "server": []}
        for one in below:
            # A fork has the command line of the process above it: a job that of its server, a reader that of its job.
            stage, above = stages.get(one.pid), parents.get(one.pid)
            if stage == "forkserver":
                depth = (above in stages) + (parents.get(above) in stages)
                found[("server", "job", "reader")[depth]].append(one)
            elif stage:
                found["reader" if above in stages else "job"].append(one)
                kinds += [] if above in stages else [stage]
        return sorted(kinds), found

    def kill(self, way, candidates, chance):
        """Kill in a way, or a job where nothing is there to be killed so; return the way, None where nothing was."""
        if way == "group":
            os.killpg(self.pid, signal.SIGKILL)
        elif way == "workflow":
            self._process.kill()
        else:
            way = way if candidates[way] else "job"
            if not candidates[way]:
                return None
            try:
                chance.choice(candidates[way]).kill()
            except psutil.NoSuchProcess:
                return None
        if way in ("group", "workflow"):
            self._process.wait()
        return way


def stage_of(command):
    """Return the stage that a command line of `nclens` runs, `forkserver` of a server's; None of any other."""
    words = [word for word in command[1:5] if word not in ("-P", "-m")]
    if len(words) < 2 or Path(words[0]).name != "nclens" or words[1] in ("show", "unlock"):
        return None
    return f"track {command[command.index('track') + 1]}" if words[1] == "track" else words[1]


def living(folder):
    """Return the processes of a copy, whoever is above them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def await_none(folder):
    """Wait until no process of a copy lives; return what is said of those that do not end."""
    deadline = time.monotonic() + ENDING
    while left := living(folder):
        if time.monotonic() > deadline:
            said = [f"{one.pid} {' '.join(one.cmdline())[:200]}" for one in left]
            for one in left:
                one.kill()
            return said
        time.sleep(0.2)
    return []


def durations(folder):
    """Return the shortest time of each kind of job in an undisturbed run, in seconds."""
    found = {}
    benchmarks = folder / "results" / STUDY / "benchmarks"
    for file in benchmarks.rglob("*.tsv"):
        parts = file.relative_to(benchmarks).with_suffix("").parts
        kind = {"track": "track run", "track_setup": "track setup", "track_study": "track study"}.get(*parts[:1] * 2)
        found[kind] = min(found.get(kind, 60.0), float(pd.read_csv(file, sep="\t")["s"].iloc[0]))
    return found


def kill_and_resume(folder, chance, wanted, lasting, cores, retries):
    """Run the study of a copy to its end, killing at most `wanted` times; return the kills and the faults."""
    left, kills, faults = Counter(QUOTAS), [], []
    workflow, ended = Workflow(folder, cores, retries), time.monotonic()
    armed, before = None, []
    while True:
        time.sleep(0.05)
        code = workflow.ended()
        if code == 0:
            return kills, faults + [f"outlives the study: {one}" for one in await_none(folder)]
        if code is not None:
            faults += [f"outlives its workflow: {one}" for one in await_none(folder)]
            if not kills or kills[-1]["session"] != workflow.began:
                return kills, [*faults, f"exit code {code} without a kill: {tail(folder)}"]
            workflow, ended, armed = Workflow(folder, cores, retries), time.monotonic(), None
            continue
        kinds, candidates = workflow.processes()
        if kinds != before:
            before, ended = kinds, time.monotonic()
        if time.monotonic() - ended > STUCK:
            return kills, [*faults, f"nothing ends for {STUCK} s: {kinds}"]
        if len(kills) == wanted:
            continue
        due = [kind for kind in kinds if left[kind] > 0]
        if armed is None and due:
            kind = chance.choice(due)
            # Not beyond two thirds: what is resumed takes less time.
            armed = kind, time.monotonic() + chance.uniform(0, lasting.get(kind, 5) * 2 / 3)
        if armed is None or time.monotonic() < armed[1]:
            continue
        kind, armed = armed[0], None
        if kind not in kinds:  # it had ended: the next of its kind is hit earlier
            lasting[kind] = lasting.get(kind, 5) / 2
            continue
        (way,) = chance.choices(list(SHARES), SHARES.values())
        if (way := workflow.kill(way, candidates, chance)) is None:
            continue
        left[kind] -= 1
        kills.append({"way": way, "jobs": kinds, "kind": kind, "session": workflow.began})
        print(f"{len(kills):3d}  {kind}: {way}, while {', '.join(kinds)}", flush=True)
        if way == "group":
            faults += [f"outlives a killed workflow: {one}" for one in await_none(folder)]
        if way in ("group", "workflow"):
            workflow, ended = Workflow(folder, cores, retries), time.monotonic()
        else:
            time.sleep(1)  # the workflow notices


def tail(folder):
    """Return the last lines of what Snakemake said."""
    return "\n".join((folder / "said.txt").read_text(encoding="utf-8").splitlines()[-30:])


def results(folder):
    """Return a digest of each result of a copy, the clock's fields aside, by its path."""
    root = folder / "results" / STUDY
    found = {}
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root)
        if file.is_file() and path.parts[0] not in NO_RESULT and path.name not in (*NO_RESULTS, ".lock"):
            found[str(path)] = hashlib.sha256(content_of(file)).hexdigest()
    return found


def content_of(file):
    """Return what of a file must be the same in every run."""
    if file.suffix == ".json":
        return json.dumps(without_clock(json.loads(file.read_text(encoding="utf-8"))), sort_keys=True).encode()
    if file.name == "study.yaml":
        study = yaml.safe_load(file.read_text(encoding="utf-8"))
        return json.dumps({key: value for key, value in study.items() if key != "checkpoint_minutes"}).encode()
    if file.suffix == ".parquet":
        table = pd.read_parquet(file)
        table = table[~table["metric"].isin(CLOCK_FIELDS)]
        return table.to_csv(index=False).encode()
    if file.suffix == ".csv":
        text = file.read_text(encoding="utf-8")
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        return table.drop(columns=table.columns.intersection(CLOCK_FIELDS)).to_csv(index=False).encode()
    return file.read_bytes()


def without_clock(content):
    """Return a JSON content without the fields that hold the clock's time."""
    if isinstance(content, dict):
        return {key: without_clock(value) for key, value in content.items() if key not in CLOCK_FIELDS}
    return [without_clock(value) for value in content] if isinstance(content, list) else content


def leftovers(folder):
    """Return what a kill has left: temporary and working files, and what is wrong with MLflow's database."""
    root = folder / "results" / STUDY
    found = [str(file) for file in root.rglob("*") if ".part" in file.name or file.name == ".work"]
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (whole,) = database.execute("pragma integrity_check").fetchone()
        runs = database.execute("select name, status, lifecycle_stage from runs order by name").fetchall()
    names = sorted([*(str(file.parent.relative_to(root)) for file in root.rglob("run.json")), "study"])
    active = [(name, status) for name, status, stage in runs if stage == "active"]
    found += [] if whole == "ok" else [f"mlflow.db: {whole}"]
    return found + ([] if active == [(name, "FINISHED") for name in names] else [f"mlflow.db: runs {active}"])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--retries", type=int, default=3, help="how often Snakemake starts a killed job again")
    options.add_argument("--folder", type=Path, default=Path("kills"), help="new, or with the undisturbed run")
    chosen = options.parse_args()
    folder = chosen.folder.resolve()
    undisturbed = folder / "undisturbed"
    if not undisturbed.exists():
        copy_to(undisturbed)
        workflow = Workflow(undisturbed, chosen.cores, 0)
        while (code := workflow.ended()) is None:
            time.sleep(0.1)
        if code:
            sys.exit(tail(undisturbed))
    expected, lasting = results(undisturbed), durations(undisturbed)
    print(f"{len(expected)} results of an undisturbed run", flush=True)
    kills, wrong, copies, idle = [], [], 0, 0
    while len(kills) < chosen.kills and idle < IDLE:
        chance, place = random.Random(chosen.seed + copies), folder / f"killed{chosen.seed + copies}"
        shutil.rmtree(place, ignore_errors=True)
        copy_to(place, undisturbed / "data")
        wanted = chosen.kills - len(kills)
        new, faults = kill_and_resume(place, chance, wanted, lasting, chosen.cores, chosen.retries)
        found = results(place)
        paths = sorted(expected.keys() | found.keys())
        faults += [f"other bits: {path}" for path in paths if expected.get(path) != found.get(path)]
        faults += [f"left behind: {one}" for one in leftovers(place)]
        print(f"copy {copies + 1}: {len(new)} kills, {len(faults)} faults", *faults, sep="\n  ", flush=True)
        kills, wrong, copies = kills + new, wrong + faults, copies + 1
        idle = 0 if new else idle + 1
    print(pd.crosstab([one["kind"] for one in kills], [one["way"] for one in kills], margins=True).to_string())
    sys.exit(bool(wrong) or len(kills) < chosen.kills)


if __name__ == "__main__":
    main()
