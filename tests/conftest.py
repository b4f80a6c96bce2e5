"""What several test modules share.

Four marks say how a test runs:

* `workflow`: it runs the real Snakefile. `make quick` leaves these out.
* `lengthy`: it trains, compiles, records or draws, starts a process that imports PyTorch, or opens a browser.
  `make quick` leaves these out too. Tests that draw from simulated experiments (the fixture `simulate`) or open a
  browser (`chromium`) are marked here.
* `slow`: it is in `make test-all` only: faults, kills, clusters, servers, whole data sets, the plan of every study.
* `cuda`: it needs a CUDA device, and is skipped where there is none; `python -m pytest -m cuda` runs all of these.

`make test` runs all but the slow ones, with one real run of the smoke study (`finished` in workflow/test_workflow.py).

A worker of pytest-xdist is given a whole file, so that the file's fixtures are made once. Tests that only share the
finished project, which the workers share too, are given singly.
"""

import copy
import gc
import os
from pathlib import Path

import pytest
import torch
import yaml
from _pytest.assertion import rewrite
from _pytest.doctest import DoctestModule
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests import browser

ROOT = Path(__file__).parent.parent

# Elsewhere every run draws new examples; continuous integration judges a change, so it draws the same ones each time.
# No example is timed: how long one takes says more of the machine's other work than of the code.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A figure is tens of thousands of objects: at Python's own thresholds a seventh of the time is garbage collection.
gc.set_threshold(100_000, 50, 100)


# PyTorch looks once, at the first product on a GPU, whether products are deterministic: any test may be the first.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

#: What the servers of tests/process.py import: seconds of work, and no tests.
collect_ignore = ["preload.py", "preload_jobs.py"]

#: Files whose tests are given to the workers singly.
SINGLY = (
    "tests/workflow/test_workflow.py",
    "tests/figures/test_cross_entropy_vs_label_smoothing.py",
)


class FileScheduling(LoadScopeScheduling):
    """Gives a worker a file at a time, and tests of the files in `SINGLY` one by one."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::", 1)[0]
        return nodeid if file in SINGLY else file


def pytest_sessionstart(session):
    """Have each worker rewrite its share of the tests' assertions, where no earlier run has: all import all files.

    Also where Python may write no bytecode. A file is known by its content's hash.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    files, state = sorted(Path(__file__).parent.rglob("test_*.py")), session.config.stash[rewrite.assertstate_key]
    for file in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        kept = rewrite.get_cache_dir(file) / (file.stem + rewrite.PYC_TAIL)
        if rewrite.try_makedirs(kept.parent) and rewrite._read_pyc(file, kept) is None:
            digest, code = rewrite._rewrite_test(file, session.config)
            rewrite._write_pyc(state, code, digest, kept)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path):
    """Import a module for its examples only where it has some: each worker imports what it collects."""
    collectors = yield
    if file_path.suffix != ".py" or ">>>" in file_path.read_text(encoding="utf-8"):
        return collectors
    return [collector for collector in collectors if not isinstance(collector, DoctestModule)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal the tests out as above, where they run side by side."""
    return FileScheduling(config, log)


def pytest_collection_finish():
    """What was imported stays: no later garbage collection, pytest's own at the end among them, goes through it."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(items):
    """Mark tests that draw or open a browser; put what waits or lasts first, short tests last.

    The very first makes the finished project, while others do what needs none.
    """
    for item in items:
        if {"simulate", "chromium"}.intersection(item.fixturenames):
            item.add_marker(pytest.mark.lengthy)
    items.sort(key=_turn)
    maker = next((item for item in items if _needs_the_finished_project(item)), None)
    if maker:
        items.remove(maker)
        items.insert(0, maker)


def _turn(item):
    """Return a test's place in the order: clusters and servers, slow ones, lengthy ones, unit tests, single plans."""
    if item.path.parent.name == "cluster":
        return 0
    if item.get_closest_marker("slow"):
        return 2 if _needs_the_finished_project(item) else 1
    if item.get_closest_marker("workflow"):
        return 5
    return 3 if item.get_closest_marker("lengthy") else 4


def _needs_the_finished_project(item):
    return item.path.name == "test_workflow.py" and "finished" in item.fixturenames


def pytest_runtest_setup(item):
    """Skip a test that needs a CUDA device where there is none."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tests run side by side: one thread each."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, request):
    """A folder of this session that all workers share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


@pytest.fixture
def raw_study():
    """The parsed smoke study, a fresh copy."""
    return copy.deepcopy(yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def simulate():
    """A maker of simulated experiments, for figures and what shows them."""
    from tests.figures.simulate import simulate as make

    return make


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium as Playwright's `Browser`; where none is installed, the test is skipped."""
    if browser.executable() is None:
        pytest.skip("no Chromium here: install Debian's chromium")
    with browser.launched() as started:
        yield started


@pytest.fixture(autouse=True)
def _denormal_numbers_again():
    """A stage that trains flushes denormal numbers for the rest of its process, which tests of tiny numbers share."""
    yield
    torch.set_flush_denormal(False)
