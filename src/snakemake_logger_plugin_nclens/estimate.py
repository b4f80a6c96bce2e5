"""The time that is left of a study, from measured times: plain arithmetic on plain values."""

import heapq
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Seconds that a job takes in the default study on two quiet cores: what is assumed of a rule until one of its jobs has
#: ended.
USUAL = {
    "prepare": 4.0,
    "extract": 5.5,
    "measure": 2.0,
    "theory": 10.0,
    "reuse": 1.0,
    "collect": 1.5,
    "predict": 1.0,
    "judge": 1.5,
    "draw": 8.5,
    "report": 1.0,
    "track_setup": 6.0,
    "track": 4.0,
    "track_study": 1.0,
}
#: The same, of a rule that is not in the table.
USUAL_OTHER = 5.0
#: Stages that run beside the others, where cores are idle.
BESIDE = ("theory", "track")
#: A machine is taken to be at most so many times slower or faster; what is beyond lies in the study.
LIMIT = 3.0


@dataclass
class Rule:
    """What is known of the jobs of one rule; times are in seconds.

    Attributes:
        total: jobs in all.
        times: of the jobs that have ended.
        running: for each running job how long it has run, and how much longer by its own account, if it gives one.
        use: what one job occupies of each limited resource, such as cores.
        lost: jobs that cannot run because another has failed.
    """

    total: int
    times: list[float] = field(default_factory=list)
    running: list[tuple[float, float | None]] = field(default_factory=list)
    use: Mapping[str, float] = field(default_factory=lambda: {"cores": 1.0})
    lost: int = 0

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return max(0, self.total - len(self.times) - len(self.running) - self.lost)

    @property
    def mean(self) -> float | None:
        """Mean time of a job: of those that have ended, or else of those running that can say how long they take."""
        times = self.times or [past + left for past, left in self.running if left is not None]
        return sum(times) / len(times) if times else None


def time_left(
    rules: Mapping[str, Rule], provided: Mapping[str, float], long: frozenset[str] = frozenset()
) -> float | None:
    """Return the seconds until all jobs have ended; None while nothing like the waiting jobs has been measured.

    The larger of two bounds: no resource gives more than all of itself, and behind the last of the `long` jobs one job
    of each rule of the runs follows, then the single jobs that close the study. A rule without a time of its own counts
    as `USUAL` says, times the machine's speed so far.

    Args:
        rules: by name.
        provided: the amount of each limited resource.
        long: rules of which nothing is assumed before one of their jobs is measured: training.
    """
    speed = _speed(rules)
    work = dict.fromkeys(provided, 0.0)
    chain = last = 0.0
    for name, rule in rules.items():
        mean = rule.mean
        if mean is None and (rule.waiting or rule.running):
            if name in long or speed is None:
                return None
            mean = speed * (_usual(name) or USUAL_OTHER)
        mean = mean or 0.0
        # A job that has outlasted its like goes on for a while.
        lefts = [max(mean - past, past / 4) if left is None else left for past, left in rule.running]
        if name in long:
            last = max(last, _rounds(lefts, rule.waiting, mean, _slots(rule, provided)))
        else:
            last = max([last, *lefts])
            chain += mean if rule.waiting and name.split("_")[0] not in BESIDE else 0.0
        for resource in work:
            work[resource] += (sum(lefts) + rule.waiting * mean) * rule.use.get(resource, 0.0)
    return max([last + chain, *(amount / provided[resource] for resource, amount in work.items())])


def _slots(rule: Rule, provided: Mapping[str, float]) -> int:
    """Return how many jobs of a rule can run at a time."""
    return max(1, int(min(provided[name] / rule.use[name] for name in provided if rule.use.get(name))))


def _rounds(running: list[float], waiting: int, mean: float, slots: int) -> float:
    """Return when the last of a rule's jobs ends, each of those that wait taking the first free slot."""
    whole = max(0, waiting // slots - 1)  # full rounds shift all ends alike
    ends = [0.0] * max(0, slots - len(running)) + running
    heapq.heapify(ends)
    for _ in range(waiting - whole * slots):
        heapq.heapreplace(ends, ends[0] + mean)
    return max(ends) + whole * mean


def _speed(rules: Mapping[str, Rule]) -> float | None:
    """Return by how much the ended jobs took longer than usual: the machine's part, so within limits."""
    known = [(rule.mean, _usual(name)) for name, rule in rules.items() if rule.times]
    ratios = [mean / usual for mean, usual in known if mean and usual]
    return min(max(statistics.median(ratios), 1 / LIMIT), LIMIT) if ratios else None


def _usual(name: str) -> float | None:
    return USUAL.get(name) or USUAL.get(name.split("_")[0])


def training_left(first: float, now: float, end: float, seconds: float) -> float | None:
    """Return the seconds that a training needs from epoch `now` to `end`, if it took `seconds` from `first`."""
    return seconds * (end - now) / (now - first) if now > first else None
