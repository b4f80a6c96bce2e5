"""What Snakemake's records and the progress files of trainings say of a study."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_nclens.estimate import Rule, time_left, training_left

#: Where a training says how far it is, beside its output `run.json`.
PROGRESS = Path(".work", "progress.json")
#: The stage whose jobs count as runs.
RUNS = "train"


@dataclass
class Training:
    """How far a training is, by its progress file; `left` is in seconds and counted from `read`."""

    epoch: int
    epochs: int
    loss: float | None
    left: float | None
    stamp: int
    read: float

    def left_at(self, now: float) -> float | None:
        """Return the seconds left at a time."""
        return None if self.left is None else max(0.0, self.left - (now - self.read))


@dataclass
class Job:
    """A job that has begun; `begun` is in seconds since the epoch."""

    rule: str
    name: str
    begun: float
    logs: list[str]
    file: Path | None = None
    training: Training | None = None
    looked: float = field(default=0.0, repr=False)

    def look(self, now: float, every: float) -> None:
        """Read the progress file again, at most once in `every` seconds."""
        if self.file is None or now - self.looked < every:
            return
        self.looked = now
        try:
            stamp = self.file.stat().st_mtime_ns
            # One that an interrupted training left says nothing; clocks of two machines may differ a little.
            if stamp / 1e9 < self.begun - 5 or (self.training and stamp == self.training.stamp):
                return
            content = json.loads(self.file.read_text(encoding="utf-8"))
            position = content["position"]
            left = training_left(content["first"], position, content["epochs"], content["seconds"])
            self.training = Training(int(position), content["epochs"], content["loss"], left, stamp, now)
        except (OSError, ValueError, KeyError, TypeError):
            return  # not written yet, or gone with the end of the training


@dataclass
class Counts:
    """Jobs of a stage."""

    total: int = 0
    done: int = 0
    running: int = 0
    failed: int = 0

    @property
    def waiting(self) -> int:
        """Jobs that have neither begun nor failed."""
        return max(0, self.total - self.done - self.running - self.failed)


@dataclass
class Picture:
    """What the screen shows at a time; times are in seconds."""

    past: float
    left: float | None
    stages: dict[str, Counts]
    running: list[Job]
    failed: list[Job]
    now: float


class Study:
    """The jobs of a study, from records that one thread takes while another looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, int] = {}
        self._running: dict[int, Job] = {}
        self._failed: dict[int, Job] = {}
        self._times: dict[str, list[float]] = {}
        self._use: dict[str, dict[str, float]] = {}
        self._provided: dict[str, float] = {}
        self._most = 1
        self._begun = time.time()

    def take(self, record: LogRecord) -> None:
        """Take up a record of Snakemake's."""
        said = record.__dict__
        with self._lock:
            match said.get("event"):
                case LogEvent.RUN_INFO:
                    self._totals = {rule: n for rule, n in said["stats"].items() if rule not in ("total", "all")}
                    self._begun = record.created
                case LogEvent.RESOURCES_INFO:
                    self._provide(said)
                case LogEvent.JOB_INFO:
                    self._start(said, record.created)
                case LogEvent.JOB_FINISHED:
                    if job := self._running.pop(said["job_id"], None):
                        self._times.setdefault(job.rule, []).append(record.created - job.begun)
                case LogEvent.JOB_ERROR:
                    if job := self._running.pop(said["jobid"], None):
                        self._failed[said["jobid"]] = job

    def _provide(self, said: Mapping[str, Any]) -> None:
        if (cores := said.get("cores")) is not None:
            self._provided["cores"] = float(cores)
        for name, amount in (said.get("provided_resources") or {}).items():
            value = getattr(amount, "value", amount)
            if not name.startswith("_") and isinstance(value, int) and value > 0:
                self._provided[name] = float(value)

    def _start(self, said: Mapping[str, Any], created: float) -> None:
        rule = said["rule_name"]
        if rule not in self._totals:
            return
        file = next((Path(path).parent / PROGRESS for path in said["output"] if Path(path).name == "run.json"), None)
        # A message of ours is the stage, then what it is done to.
        _, _, name = (said["rule_msg"] or "").partition(" ")
        self._failed.pop(said["jobid"], None)  # it is tried again
        self._running[said["jobid"]] = Job(rule, name, created, list(said["log"] or ()), file)
        self._most = max(self._most, len(self._running))
        use = {key: float(n) for key, n in (said["resources"] or {}).items() if isinstance(n, int)}
        self._use[rule] = use | {"cores": float(said["threads"] or 1)}

    def picture(self, now: float) -> Picture:
        """Return what is to be shown at a time, in seconds since the epoch."""
        with self._lock:
            running, failed = list(self._running.values()), list(self._failed.values())
            rules = {name: Rule(total, list(self._times.get(name, ()))) for name, total in self._totals.items()}
            uses, provided, most = dict(self._use), dict(self._provided), self._most
        every = max(1.0, len(running) / 20)  # a cluster's file system is not to be busy with hundreds of trainings
        for job in running:
            job.look(now, every)
            left = job.training.left_at(now) if job.training else None
            rules[job.rule].running.append((now - job.begun, left))
        for name, rule in rules.items():
            rule.use = uses.get(name, rule.use)
            rule.lost = _lost(name, rule, failed)
        # A cluster gives what it gives: as many jobs at a time as have been seen.
        left = time_left(rules, provided if "cores" in provided else {"cores": float(most)}, _long(rules))
        return Picture(now - self._begun, left, _stages(rules, failed), running, failed, now)


def stage_of(rule: str) -> str:
    """Return the stage of a rule, which may be one rule of several: `train_smoke`, `track_setup`."""
    return rule.split("_")[0]


def _long(rules: Mapping[str, Rule]) -> frozenset[str]:
    return frozenset(name for name in rules if stage_of(name) == RUNS)


def _lost(name: str, rule: Rule, failed: list[Job]) -> int:
    """Return how many jobs of a rule have failed or wait for one that has: one of its run, and those of the study."""
    own = sum(job.rule == name for job in failed)
    if rule.total == 1:
        return int(bool(failed) and not rule.times and not rule.running)
    return own if stage_of(name) == RUNS else len({job.name for job in failed})


def _stages(rules: Mapping[str, Rule], failed: list[Job]) -> dict[str, Counts]:
    stages: dict[str, Counts] = {}
    for name, rule in rules.items():
        counts = stages.setdefault(stage_of(name), Counts())
        counts.total += rule.total
        counts.done += len(rule.times)
        counts.running += len(rule.running)
        counts.failed += sum(job.rule == name for job in failed)
    return stages
