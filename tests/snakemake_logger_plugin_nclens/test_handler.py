"""The logger: who prints where, in a terminal and without one."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest

from snakemake_logger_plugin_nclens import LogHandler, view
from tests.project import BIN, ROOT, Place

SETTINGS = {"dryrun": False, "verbose": False, "printshellcmds": False, "debug_dag": False, "quiet": None}

#: A study of one job that fails, in the terminal that this process has; a job prints too, as a child.
SCRIPT = """
import logging, os, sys, time
from types import SimpleNamespace
from snakemake_logger_plugin_nclens import LogHandler
from tests.snakemake_logger_plugin_nclens.records import begun, ended, failed, planned, provided, record

settings = SimpleNamespace(dryrun=False, verbose=False, printshellcmds=False, debug_dag=False, quiet=None, nocolor=True)
handler = LogHandler(settings, None)
handler.setFormatter(logging.Formatter("said: %(message)s"))
print("before", flush=True)
now = time.time()
for each in (provided(cores=2), planned(now, train=2, draw=1)):
    handler.handle(each)
handler.begin()
handler.begin()
os.system("echo a job prints; echo a job complains >&2")
print("Snakemake scrolls", file=sys.stderr)
for each in (
    begun(1, "train", "a/b/c/seed0", now),
    begun(2, "train", "a/b/c/seed1", now),
    record(None, now, "Select jobs to execute..."),
    record(None, now, "Terminating processes on user request"),
    record(None, now, "disk is slow", logging.WARNING),
    failed(2, now),
):
    handler.handle(each)
time.sleep(0.7)
handler.end()
handler.end()
print("after", flush=True)
os.system("echo verdicts; echo complaints >&2")
"""


def in_terminal(command, folder, **environment):
    """Run a command in a pseudo-terminal of 100 x 30; return its exit code and the text that it wrote there."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    text = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    os.close(terminal)
    return process.wait(), re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text.decode())


def test_in_a_terminal_others_print_to_a_file_while_the_view_is_up(tmp_path):
    (tmp_path / ".snakemake" / "log").mkdir(parents=True)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    code, text = in_terminal([sys.executable, "-c", SCRIPT], tmp_path, PYTHONPATH=paths)
    assert code == 0, text
    before, _, rest = text.partition("before")
    shown, _, after = rest.partition("after")
    assert not before
    for part in ("estimating the time left", "0 of 2 trained", "a/b/c/seed0", "failed  train a/b/c/seed1"):
        assert part in shown
    for part in ("said: Terminating processes on user request", "said: disk is slow"):
        assert part in shown
    assert "Select jobs" not in text
    assert shown.rstrip().endswith("0 of 3 jobs done in 1 s, 1 failed")
    assert after.split() == ["verdicts", "complaints"]
    (file,) = (tmp_path / ".snakemake" / "log").glob("*.terminal.log")
    assert file.read_text().splitlines() == ["a job prints", "a job complains", "Snakemake scrolls"]


def test_without_snakemakes_folder_what_others_print_is_dropped(tmp_path):
    code, text = in_terminal([sys.executable, "-c", SCRIPT], tmp_path, PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
    assert code == 0, text
    assert "a job prints" not in text
    assert "verdicts" in text


@pytest.mark.parametrize(
    ("changed", "terminal", "term", "wanted"),
    [
        ({}, True, "xterm", True),
        ({"quiet": [SimpleNamespace(name="HOST"), SimpleNamespace(name="REASON")]}, True, "xterm", True),
        ({}, False, "xterm", False),
        ({}, True, "dumb", False),
        ({}, True, None, False),
        ({"dryrun": True}, True, "xterm", False),
        ({"verbose": True}, True, "xterm", False),
        ({"printshellcmds": True}, True, "xterm", False),
        ({"debug_dag": True}, True, "xterm", False),
        *(({"quiet": [SimpleNamespace(name=name)]}, True, "xterm", False) for name in ("ALL", "RULES", "PROGRESS")),
    ],
)
def test_there_is_a_view_only_where_it_is_wanted(changed, terminal, term, wanted, monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda descriptor: terminal)
    monkeypatch.delenv("TERM", raising=False)
    if term:
        monkeypatch.setenv("TERM", term)
    assert LogHandler(SimpleNamespace(**SETTINGS | changed), None)._is_wanted() == wanted


def test_without_this_logger_the_hooks_do_nothing():
    view(SimpleNamespace(queue_listener=None), "begin")


def plain(text):
    """The lines that were printed, without times; Snakemake lists equal jobs in any order."""
    times = r"Date: .*|Workflow ID: .*|\[?\w{3} \w{3} +\d+ [\d:]+ \d{4}\]?|\d{4}-\d\d-\d\dT[\d.]+|Elapsed time: \S+"
    return sorted(re.sub(r"Job \d+:|jobid: \d+", "Job", re.sub(times, "TIME", text)).splitlines())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The project with the smoke study, not run, whose jobs are quick."""
    copy = Place.copy_to(tmp_path_factory.mktemp("view") / "project")
    copy.study = copy.path("studies", "smoke.yaml")
    copy.quick_jobs = True
    return copy


@pytest.mark.workflow
@pytest.mark.slow
def test_without_a_terminal_all_is_printed_as_without_this_logger(place):
    target = ("--cores", "1", "--forcerun", "resolve", "--", "results/smoke/study.yaml")
    commands = [("--dry-run",), target, ("--quiet", *target), ("--cores", "1", "results/smoke/nothing")]
    place.snakemake(*target)
    with_logger = [place.snakemake(*command, check=False) for command in commands]
    place.edit("profiles/default/config.yaml", "logger: nclens\n", "")
    without = [place.snakemake(*command, check=False) for command in commands]
    place.edit("profiles/default/config.yaml", "show-failed-logs: true\n", "show-failed-logs: true\nlogger: nclens\n")
    assert [done.returncode for done in with_logger] == [0, 0, 0, 1]
    for command, one, other in zip(commands, with_logger, without, strict=True):
        assert plain(one.stdout) == plain(other.stdout), command
        assert plain(one.stderr) == plain(other.stderr), command
    assert not list(place.path(".snakemake", "log").glob("*.terminal.log"))


@pytest.mark.workflow
@pytest.mark.slow
def test_in_a_terminal_a_study_has_its_view_and_snakemakes_log_is_whole(place):
    command = [BIN / "snakemake", "--configfile", "studies/smoke.yaml", "--cores", "1"]
    logs = place.path(".snakemake", "log")
    before = set(logs.glob("*.snakemake.log"))
    code, text = in_terminal(
        [*command, "--forcerun", "resolve", "--", "results/smoke/study.yaml"], place.folder, **place.environment()
    )
    assert code == 0, text
    assert "Job stats:" in text
    assert "resolve\N{NO-BREAK SPACE}" in text
    assert "1 of 1 jobs done" in text
    assert "steps (100%) done" not in text
    (log,) = set(logs.glob("*.snakemake.log")) - before
    assert "1 of 1 steps (100%) done" in log.read_text()
    code, text = in_terminal([*command, "results/smoke/nothing"], place.folder, **place.environment())
    assert code == 1
    assert "MissingRuleException" in text
    assert "jobs done" not in text
