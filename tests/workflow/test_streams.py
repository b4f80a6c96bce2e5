"""The cores of a job that reads streams: its own threads, and its workers."""

import json
import os

import pytest

from nclens.workflow.forkserver import ONE_THREAD
from nclens.workflow.streams import THREADS, VARIABLE, share_cores, workers_of

SPECS = {
    "one": {"dataset": "pets"},
    "two devices": {"dataset": "pets", "training": {"devices": 2}},
    "a probe": {"dataset": "digits", "probes": [{"arguments": {"dataset": "pets"}}]},
    "none": {"dataset": "digits", "probes": [{"arguments": {}}]},
}


@pytest.fixture
def given(monkeypatch):
    """A job that got some cores of a machine that has many: its command, and the number of its workers, here 4."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)

    def give(stage, spec, cores):
        table = {"pets": {"root": "data/pets", "workers": 4}, "birds": {"root": "data/birds", "workers": 9}}
        monkeypatch.setenv(VARIABLE, json.dumps(table))
        for name in THREADS:
            monkeypatch.setenv(name, str(cores))
        arguments = [stage, "--spec", json.dumps(SPECS[spec]), "--threads", str(cores)]
        share_cores(arguments)
        assert json.loads(os.environ[VARIABLE])["birds"]["workers"] == 9
        assert len({os.environ[name] for name in THREADS}) == 1
        return int(arguments[-1]), int(os.environ["OMP_NUM_THREADS"]), workers_of("pets")

    return give


@pytest.mark.parametrize(
    ("spec", "cores", "found"),
    [
        ("one", 5, (1, 1, 4)),  # what the rules ask for
        ("one", 3, (1, 1, 2)),  # --cores 3
        ("one", 1, (1, 1, 1)),
        ("one", 7, (3, 3, 4)),  # --set-threads train=7
        ("two devices", 10, (2, 1, 4)),
        ("two devices", 4, (2, 1, 1)),
        ("two devices", 2, (2, 1, 1)),
        ("a probe", 5, (1, 1, 4)),
        ("none", 1, (1, 1, 4)),
        ("none", 3, (3, 3, 4)),
    ],
)
def test_a_device_has_one_thread_and_the_workers_have_the_other_cores(given, spec, cores, found):
    stage = "probe" if spec == "a probe" else "train"
    assert given(stage, spec, cores) == found


def test_a_job_of_one_thread_beside_its_workers_is_for_the_fork_server(given):
    given("extract", "one", 5)
    assert os.environ.items() >= ONE_THREAD.items()


def test_jobs_that_read_no_images_keep_their_threads(given):
    assert given("draw", "one", 5) == (5, 5, 4)


@pytest.mark.parametrize("text", ["{", "[]", '{"dataset": 1}', '{"dataset": "pets"}'])
def test_what_is_wrong_is_left_to_the_stage(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, "[1]" if "pets" in text else "{}")
    arguments = ["train", "--spec", text, "--threads", "5"]
    share_cores(arguments)
    assert arguments[-1] == "5"
