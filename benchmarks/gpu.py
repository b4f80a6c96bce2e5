"""What only a GPU can show, in ten minutes: the tests that need one, and a study on real data, with its rate.

    python benchmarks/gpu.py --data FOLDER [--output docs/results/gpu/README.md] [--minutes 10] [--slots 3]

FOLDER is the unpacked `cifar-10-batches-py`, or what it lies in; nothing is downloaded. Of the time a quarter at most
is for the tests, a twentieth for bf16 matrix products, and what is left for the study. What overruns is stopped, and
the table says so.

* Every test that is marked `cuda`.
* The rate of a product of two bf16 matrices.
* `studies/paper_cifar10_short.yaml` by Snakemake: first a single run to its end, alone on the GPU, then the other three
  at a time, `--slots` of them, and what the study makes of all. The rate is `samples_per_second` of run.json, of
  training steps alone. A step has three times the operations of a forward pass (docs/models.md).

It writes a small table in Markdown, and all else into a new folder, `--folder`. The exit code is 1 where a test or a
job failed, a part was stopped, or a step was no replay of a CUDA graph.
"""

import argparse
import contextlib
import csv
import datetime
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import yaml

from nclens.study import load_study, read_study
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.provenance import git_revision

# Only the measured processes import torch: this one would hold a part of the GPU's memory.

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "studies" / "paper_cifar10_short.yaml"
BATCHES = "cifar-10-batches-py"
FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
#: Shares of the whole time, and seconds of it that are kept for the table.
TESTS, PRODUCTS, KEPT = 0.25, 0.05, 10.0
#: Seconds that a part has to end after it was interrupted: a training writes a checkpoint.
PATIENCE = 15.0
#: What is on the machine, as JSON.
MACHINE = """
import json, sys, torch
there = torch.cuda.is_available()
name = torch.cuda.get_device_name() if there else None
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "device": name}))
"""
#: The rate of a bf16 product, operations a second.
PRODUCT = """
import sys
from options import product_rate
print(product_rate(sys.argv[1], "bf16", int(sys.argv[2])))
"""
#: The study at a size that a CPU trains in seconds, without what takes longest: for the tests of this file.
TINY = {
    "datasets": {"cifar10": {"image_size": 8, "train_per_class": 8, "test_per_class": 4}},
    "theory": {"lambda_w": 1, "lambda_h": 1, "lambda_h_samples": 1},
    "experiments": {
        "cifar10": {
            "training": {"epochs": 2, "batch_size": 40, "lr_schedule": {"milestones": [1]}},
            "snapshots": 1,
            "figures": [],
        }
    },
}
#: What a training says where its steps are launched kernel by kernel.
NO_GRAPH = "without a CUDA graph"
#: What the table shows of a run's last epoch: heading, split, metric, digits.
SHOWN = (
    ("test error", "test", "error", 3),
    ("NC1, train", "train", "nc1", 3),
    ("NC2, train", "train", "nc2", 3),
    ("NC3, train", "train", "nc3", 3),
    ("ECE, test", "test", "ece", 3),
)


@dataclass
class Part:
    """What was done in one part: its limit and its seconds, what came of it, and what went wrong, a line each."""

    name: str
    limit: float
    seconds: float = 0.0
    found: str = ""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Machine:
    """What the parts ran on."""

    device: str
    torch: str
    cuda: str | None


class Clock:
    """What is left of the whole time."""

    def __init__(self, seconds):
        self.seconds, self._begun = seconds, time.monotonic()

    @property
    def spent(self):
        return time.monotonic() - self._begun

    def limit(self, share=1.0):
        """Return the seconds of a part: its share of the whole, of what is left if that is less."""
        return max(0.0, min(share * self.seconds, self.seconds - KEPT - PATIENCE - self.spent))


def run(part, command, log, cwd, environment):
    """Run a command of a part, in what is left of its limit; return its exit code, or None where it was stopped.

    What it prints goes to the end of a file. Stopped is it and all that it started.
    """
    begun = time.monotonic()
    limit = part.limit - part.seconds
    with open(log, "a", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(map(str, command))}\n")
        output.flush()
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell's background job ignores the signal by which it is stopped, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            code = process.wait(timeout=max(0.0, limit))
        except subprocess.TimeoutExpired:
            code = None
            part.wrong.append(f"stopped after its {part.limit:.0f} seconds")
            _signal(process, signal.SIGINT)
        finally:
            if process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=PATIENCE)
            _signal(process, signal.SIGKILL)  # also what it left behind
            process.wait()
    part.seconds += time.monotonic() - begun
    return code


def _signal(process, number):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def tail(log, lines=3):
    """Return the last lines of a file that are not empty, in one line."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])


# --- parts -----------------------------------------------------------------------------------------------------------


def look(environment):
    """Return what is on the machine: versions of PyTorch and CUDA, and the GPU's name or None."""
    command = [sys.executable, "-c", MACHINE]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        sys.exit("gpu.py: PyTorch has not found out in two minutes whether there is a GPU; does `nvidia-smi` answer?")
    if done.returncode:
        sys.exit(f"gpu.py: this Python ({sys.executable}) cannot import PyTorch: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def results_of_tests(text):
    """Return how many tests passed and were skipped, and what failed, a line each, of pytest's JUnit XML."""
    passed, skipped, failed = 0, 0, []
    for case in ElementTree.fromstring(text).iter("testcase"):
        kinds = {child.tag: child for child in case}
        fault = kinds.get("failure", kinds.get("error"))
        if fault is not None:
            reason = (fault.get("message") or "").strip().splitlines() or ["no message"]
            failed.append(f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}: {reason[0][:200]}")
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, skipped, failed


def test(part, folder, environment, needs_gpu):
    """Run every test that is marked `cuda`."""
    xml, log = folder / "tests.xml", folder / "tests.log"
    # Pytest reads the files that have such tests, not all: that alone would take minutes.
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.cuda" in path.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-n0", "-p", "no:cacheprovider"]
    code = run(part, [*command, f"--junitxml={xml}", *files], log, ROOT, environment)
    if not xml.exists():
        if code is not None:
            part.wrong.append(f"pytest ended with {code}: {tail(log)}")
        return
    passed, skipped, failed = results_of_tests(xml.read_text(encoding="utf-8"))
    part.found = ", ".join([f"{passed} passed", f"{len(failed)} failed", f"{skipped} skipped"])
    part.wrong += failed
    if needs_gpu and not passed + len(failed):
        part.wrong.append("no test ran")


def multiply(part, folder, environment, device, size):
    """Measure the rate of a bf16 product; return it in operations a second, None where it failed."""
    log = folder / "products.log"
    code = run(part, [sys.executable, "-c", PRODUCT, device, size], log, ROOT / "benchmarks", environment)
    if code != 0:
        if code is not None:
            part.wrong.append(f"the product ended with {code}: {tail(log)}")
        return None
    rate = float(log.read_text(encoding="utf-8").split()[-1])
    part.found = f"{rate / 1e12:.3g} TFLOP/s"
    return rate


class ShortStudy:
    """The study, and its runs as files have them."""

    def __init__(self, folder, data, device, slots, tiny):
        self.folder, self.slots = folder, slots
        self.files = [STUDY, folder / "machine.yaml"]
        here = {"data_dir": str(data)}
        changes = TINY if tiny else {}
        training = changes.get("experiments", {}).get("cifar10", {}).get("training", {})
        experiment = {**changes.get("experiments", {}).get("cifar10", {}), "training": {**training, "device": device}}
        content = {**changes, **here, "experiments": {"cifar10": experiment}}
        self.files[1].write_text(yaml.safe_dump(content), encoding="utf-8")
        study = load_study(read_study(STUDY), [STUDY.parent])
        self._results = StudyFolder(Path(study.root))
        self.runs = [path_of(run) for run in study.runs()]

    def at(self, run):
        return self._results.run(run)

    def make(self, part, targets, slots, environment):
        """Let Snakemake make files, by as many runs at a time as there are slots; return whether it did."""
        log = self.folder / "study.log"
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", os.cpu_count()]
        command += ["--resources", f"gpu={slots}", "mlflow=1", "--configfile", *self.files, "--", *targets]
        code = run(part, command, log, self.folder, environment)
        if code:
            part.wrong.append(f"Snakemake ended with {code}: {self._first_error(log)}")
        return code == 0

    def _first_error(self, log):
        """Return what a job said: its line begins with the command's name."""
        text = log.read_text(encoding="utf-8", errors="replace")
        said = [line.strip() for line in text.splitlines() if line.strip().startswith("nclens ")]
        said = [line for line in said if ": " in line and " --" not in line]
        return said[0][:300] if said else tail(log)

    @property
    def report(self):
        return self._results.report

    def without_graph(self, run):
        """Return what the log of a training says of steps that were no replays of a CUDA graph; None if nothing."""
        log = self.folder / self._results.log("train", run)
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        return next((f"{run}: {line.strip()}" for line in text.splitlines() if NO_GRAPH in line), None)

    def record(self, run):
        """Return run.json of a run; None where it has not ended."""
        path = self.folder / self.at(run).run
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def measured(self, run):
        """Return the metrics of a run's last epoch by split and name; empty where it is not measured."""
        path = self.folder / self.at(run).metrics
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        last = max(int(row["epoch"]) for row in rows)
        return {
            (row["split"], row["metric"]): float(row["value"] or "nan") for row in rows if int(row["epoch"]) == last
        }


def rate_of(records, product):
    """Return in words how fast runs trained that shared the GPU, and what part of a product's rate that is."""
    images = sum(record["samples_per_second"] for record in records)
    operations = sum(3 * record["flops_per_sample"] * record["samples_per_second"] for record in records)
    words = f"{images:,.0f} images/s, {operations / 1e12:.3g} TFLOP/s"
    if product:
        words += f", {operations / product:.1%} of the product's rate"
    memory = max(record["peak_memory_bytes"] for record in records)
    return f"{words}; {memory / 1e9:.2f} GB{' each' if len(records) > 1 else ''}"


def train(alone, together, study, product, clock, environment):
    """Train a run alone, then the others at a time, and make what the study makes of all."""
    first, *others = study.runs
    alone.limit = clock.limit()
    if not study.make(alone, [study.at(first).metrics], 1, environment):
        together.wrong.append("not tried: the run before did not end")
    else:
        together.limit = clock.limit()
        study.make(together, [study.report], study.slots, environment)
    alone.wrong += filter(None, [study.without_graph(first)])
    together.wrong += filter(None, map(study.without_graph, others))
    records = {run: study.record(run) for run in study.runs}
    if records[first]:
        alone.found = rate_of([records[first]], product)
    ended = [records[run] for run in others if records[run]]
    if ended and len(ended) == len(others) <= study.slots:
        together.found = f"{rate_of(ended, product)}; "
    page = "and the study's page" if (study.folder / study.report).is_file() else "no page"
    measured = sum(bool(study.measured(run)) for run in study.runs)
    trained = sum(record is not None for record in records.values())
    together.found += f"{trained} of {len(study.runs)} runs trained, {measured} measured, {page}"


# --- the table -------------------------------------------------------------------------------------------------------


def seconds_in_words(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def table(machine, parts, measured, clock_seconds, spent, date, revision):
    """Return the table: what ran on which machine, what came of it, and what failed.

    Args:
        machine: the device and the versions.
        parts: in order.
        measured: loss -> metric -> values of its runs, by the names of `SHOWN`.
        clock_seconds, spent: the whole time, allowed and taken.
        date: of the day.
        revision: of the checkout; None outside one.
    """
    versions = f"PyTorch {machine.torch}, {f'CUDA {machine.cuda}' if machine.cuda else 'without CUDA'}"
    lines = [
        "# On a GPU",
        "",
        f"{machine.device}, {date}. {versions}; revision {revision or 'unknown'}. `python benchmarks/gpu.py` took "
        f"{seconds_in_words(spent)} of {seconds_in_words(clock_seconds)} minutes.",
        "",
        "| part | seconds | limit | what came of it |",
        "|---|---:|---:|---|",
    ]
    for part in parts:
        limit = f"{part.limit:.0f}" if part.limit else ""
        state = f"{part.found or 'nothing'}{' (see below)' if part.wrong else ''}"
        lines.append(f"| {part.name} | {part.seconds:.0f} | {limit} | {state} |")
    if measured:
        lines += ["", f"| loss | seeds | {' | '.join(name for name, *_ in SHOWN)} |", "|---" * (2 + len(SHOWN)) + "|"]
        for loss, found in measured.items():
            cells = [f"{statistics.mean(found[name]):.{digits}g}" for name, *_, digits in SHOWN]
            lines.append(f"| `{loss}` | {len(found[SHOWN[0][0]])} | {' | '.join(cells)} |")
        lines += ["", "Means over the seeds at the last epoch of a schedule that is a fiftieth of the paper's."]
    wrong = [f"* {part.name}: {line}" for part in parts for line in part.wrong]
    lines += ["", *(["Failed, or stopped:", "", *wrong] if wrong else ["Nothing failed, nothing was stopped."])]
    return "\n".join(lines) + "\n"


def by_loss(study):
    """Return the values of `SHOWN` of every run that is measured: loss -> name -> one a run."""
    found = {}
    for run in study.runs:
        values = study.measured(run)
        if values:
            of_loss = found.setdefault(run.split("/")[-2], {})
            for name, split, metric, _ in SHOWN:
                of_loss.setdefault(name, []).append(values.get((split, metric), math.nan))
    return found


# --- the command -----------------------------------------------------------------------------------------------------


def folder_of_data(given):
    """Return the folder that `cifar-10-batches-py` lies in.

    Raises:
        SystemExit: it is not there, or lacks a file.
    """
    folder = given.expanduser().resolve()
    folder = folder.parent if folder.name == BATCHES else folder
    missing = [name for name in FILES if not (folder / BATCHES / name).is_file()]
    if missing:
        what = f"has no {', '.join(missing)}" if (folder / BATCHES).is_dir() else "is no folder"
        sys.exit(
            f"gpu.py: --data {given}: {folder / BATCHES} {what}; allowed: the unpacked {BATCHES} of "
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz, or the folder that it lies in"
        )
    return folder


def new_folder(given):
    """Make the folder of this call.

    Raises:
        SystemExit: it has something in it already, whose runs would not be trained.
    """
    folder = given.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.exit(f"gpu.py: --folder {given}: is there already; allowed: a new folder. Nothing in it was changed")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def surroundings(folder):
    """Return what processes find in their environment: this checkout's package, and its command `nclens`."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    made = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    if not (Path(sys.executable).parent / "nclens").exists():
        command = folder / "bin" / "nclens"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m nclens "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        made["PATH"] = f"{command.parent}{os.pathsep}{made['PATH']}"
    return made


def options_of(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"{BATCHES}, or the folder that it lies in")
    parser.add_argument("--output", type=Path, help="the table; by default README.md of --folder")
    parser.add_argument("--folder", type=Path, default=Path("results/gpu"), help="new; for results and logs")
    parser.add_argument("--minutes", type=float, default=10.0, help="the whole time")
    parser.add_argument("--slots", type=int, default=3, help="runs on the GPU at a time")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.minutes * 60 > KEPT + PATIENCE:
        parser.error(f"argument --minutes: {options.minutes:g}: must be more than {(KEPT + PATIENCE) / 60:.2g}")
    if options.slots < 1:
        parser.error(f"argument --slots: {options.slots}: must be 1 or more")
    return options


def main():
    options = options_of()
    data = folder_of_data(options.data)
    clock = Clock(60 * options.minutes)
    seen = look(os.environ)
    if options.device == "cuda" and seen["device"] is None:
        built = f"built for CUDA {seen['cuda']}" if seen["cuda"] else "built without CUDA"
        sys.exit(f"gpu.py: PyTorch {seen['torch']} ({built}) finds no CUDA device; this benchmark needs one")
    folder = new_folder(options.folder)
    output = options.output or folder / "README.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = surroundings(folder)
    on_gpu = options.device == "cuda"
    size = 8192 if on_gpu else 256
    study = ShortStudy(folder, data, options.device, options.slots, options.tiny)
    parts = [
        Part("tests marked `cuda`", clock.limit(TESTS)),
        Part(f"bf16 product of two {size} x {size} matrices", 0.0),
        Part("training, a run alone", 0.0),
        Part(f"training, {min(options.slots, len(study.runs) - 1)} runs at a time, and the study of all", 0.0),
    ]
    tests, products, alone, together = parts
    test(tests, folder, environment, on_gpu)
    products.limit = clock.limit(PRODUCTS)
    product = multiply(products, folder, environment, options.device, size)
    # Of several GPUs one, or those that the user has named.
    train(alone, together, study, product, clock, ({"NCLENS_DEVICES": "cuda:0"} if on_gpu else {}) | environment)
    machine = Machine(seen["device"] if on_gpu else "CPU", seen["torch"], seen["cuda"])
    today = datetime.date.today().isoformat()
    text = table(machine, parts, by_loss(study), clock.seconds, clock.spent, today, git_revision())
    output.write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {output}; results and logs: {folder}")
    sys.exit(any(part.wrong for part in parts))


if __name__ == "__main__":
    main()
