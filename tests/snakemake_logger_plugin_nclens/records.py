"""Records as Snakemake 9 makes them, and a study that is replayed from the times of its jobs."""

import heapq
import logging

from snakemake_interface_logger_plugins.common import LogEvent


class Amount:
    """A resource as Snakemake gives it."""

    def __init__(self, value):
        self.value = value


def record(event, at, message=None, level=logging.INFO, **fields):
    """A record at a time, in seconds."""
    made = logging.LogRecord("snakemake.logging", level, "", 0, message, (), None)
    made.__dict__ |= {"created": float(at)} | fields
    if event is not None:
        made.event = event
    return made


def planned(at=0.0, **totals):
    """How many jobs each rule has."""
    return record(LogEvent.RUN_INFO, at, stats=totals | {"all": 1, "total": sum(totals.values()) + 1})


def provided(cores=None, **resources):
    """What jobs may use."""
    if cores is not None:
        return record(LogEvent.RESOURCES_INFO, 0, cores=cores)
    return record(LogEvent.RESOURCES_INFO, 0, provided_resources={key: Amount(n) for key, n in resources.items()})


def begun(number, rule, name="", at=0.0, output=(), threads=1, **resources):
    """A job begins."""
    stage = rule.split("_")[0]
    return record(
        LogEvent.JOB_INFO,
        at,
        jobid=number,
        rule_name=rule,
        rule_msg=f"{stage} {name}".strip(),
        output=list(output),
        log=[f"logs/{rule}/{name}.log"],
        threads=threads,
        resources={"tmpdir": "/tmp", **resources},
    )


def ended(number, at):
    """A job ends."""
    return record(LogEvent.JOB_FINISHED, at, job_id=number)


def failed(number, at):
    """A job fails."""
    return record(LogEvent.JOB_ERROR, at, level=logging.ERROR, jobid=number)


#: Seconds of each job of the default study, measured on two quiet cores; a list has one for each run.
DIGITS = {
    "resolve": 0.3,
    "prepare": 3.7,
    "track_setup": 6.0,
    "train": [66.9, 68.4, 67.0, 62.5, 66.3, 63.0],
    "extract": [5.3, 5.8, 5.6, 5.3, 5.5, 5.6],
    "measure": [1.9, 2.8, 1.8, 2.0, 2.0, 2.1],
    "theory": 9.9,
    "collect": 1.4,
    "predict": 1.0,
    "judge": 1.5,
    "draw": 8.5,
    "report": 0.9,
    "track": [4.7, 3.0, 3.0, 4.0, 4.5, 4.6],
    "track_study": 0.9,
}
#: What a job waits for, of its own run or of all; and Snakemake's priorities.
AFTER = {
    "train": ["prepare"],
    "extract": ["train"],
    "measure": ["extract"],
    "theory": ["prepare"],
    "collect": ["measure"],
    "predict": ["collect", "theory"],
    "judge": ["predict"],
    "draw": ["predict"],
    "report": ["judge", "draw"],
    "track": ["measure", "track_setup"],
    "track_study": ["report"],
}
PRIORITY = {"collect": 40, "judge": 40, "draw": 40, "report": 40, "measure": 30, "extract": 20, "train": 10}


def replayed(seconds=DIGITS, cores=2):
    """Return the records of a study whose jobs take the given times, and when it ends."""
    jobs = {
        (rule, run): time for rule, t in seconds.items() for run, time in enumerate(t if isinstance(t, list) else [t])
    }
    number = {job: index for index, job in enumerate(jobs)}
    records = [provided(cores=cores), planned(**{rule: sum(job[0] == rule for job in jobs) for rule in seconds})]
    waiting, done, running, now = list(jobs), set(), [], 0.0

    def ready(job):
        rule, run = job
        before = [(other, r) for (other, r) in jobs if other in AFTER.get(rule, ())]
        single = not isinstance(seconds[rule], list)
        return all((o, r) in done for o, r in before if single or r == run or not isinstance(seconds[o], list))

    while waiting or running:
        for job in sorted(filter(ready, waiting), key=lambda job: -PRIORITY.get(job[0], 0))[: cores - len(running)]:
            waiting.remove(job)
            records.append(begun(number[job], job[0], f"mnist5k/resnet8/ce/seed{job[1]}", now))
            heapq.heappush(running, (now + jobs[job], job))
        now, job = heapq.heappop(running)
        done.add(job)
        records.append(ended(number[job], now))
    return records, now
