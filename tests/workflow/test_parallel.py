import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from nclens.workflow import parallel

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks are made on Linux only")


def children():
    """The processes that this one has started and that still are."""
    return {int(line) for line in open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()}


def refuse(number):
    if number >= 2:
        raise ValueError(f"no {number}")
    return number


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_results_are_those_of_the_function_whatever_the_threads(threads, count):
    large = "x" * 100_000  # more than a pipe holds
    found = dict(parallel.results(lambda number: (number, large), count, threads))
    assert found == {number: (number, large) for number in range(count)}


@linux
def test_the_work_is_done_by_other_processes_and_none_is_left():
    before = children()
    together = multiprocessing.get_context("fork").Barrier(3)  # on a busy machine one process could take all
    found = {process for _, process in parallel.results(lambda number: together.wait(60) * 0 + os.getpid(), 3, 3)}
    assert len(found) == 3
    assert os.getpid() not in found
    assert children() == before
    here = {process for _, process in parallel.results(lambda number: os.getpid(), 6, 1)}
    assert here == {os.getpid()}


@linux
def test_all_but_one_process_take_what_is_idle():
    together = multiprocessing.get_context("fork").Barrier(3)
    levels = [level for _, level in parallel.results(lambda number: together.wait(60) * 0 + os.nice(0), 3, 3)]
    assert set(levels) == {os.nice(0), min(os.nice(0) + 10, 19)}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_is_raised_and_nothing_more_is_started(threads):
    found = []
    with pytest.raises(ValueError, match="no 2") as failure:
        found += parallel.results(refuse, 1000, threads)
    assert str(failure.value) == "no 2"
    if threads > 1 and sys.platform == "linux":
        assert "in refuse" in failure.value.__notes__[0]  # where it happened


@linux
def test_a_killed_process_is_one_message():
    def die(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    before = children()
    with pytest.raises(
        ChildProcessError, match=r"was killed \(exit code -9\); where memory is short, use fewer threads"
    ):
        list(parallel.results(die, 3, 2))
    assert children() == before


@linux
def test_leaving_early_ends_the_processes():
    before = children()
    for _ in parallel.results(lambda number: time.sleep(60 * number), 2, 2):
        break
    assert children() == before


STUCK = """
import os, signal, time, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
from nclens.workflow.parallel import results
for _ in results(lambda number: os.write(1, b"%d\\n" % os.getpid()) and time.sleep(60), 2, 2):
    pass
"""


@linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, None)])
def test_a_signal_ends_the_processes(number, code):
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(number)
        assert process.wait(30) == code or code is None
    assert not [worker for worker in workers if os.path.exists(f"/proc/{worker}")]
