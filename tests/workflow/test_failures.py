"""What would only fail again is remembered; what may go better the next time is not."""

import json

import pytest

from nclens.workflow.failures import RECORD, forget_failures, remembered


def fail(run, error, identity="a", cause=None):
    with remembered(run, identity):
        raise error from cause


@pytest.mark.parametrize("kind", [ValueError, FloatingPointError])
def test_it_fails_at_once_with_the_same_message_until_something_changes(tmp_path, kind):
    with pytest.raises(kind, match=r"^wrong$"):
        fail(tmp_path, kind("wrong"))
    ran = []
    with pytest.raises(kind, match=rf"^wrong\n.*nclens retry {tmp_path}"), remembered(tmp_path, "a"):
        ran.append(1)
    assert not ran
    with remembered(tmp_path, "b"):
        ran.append(1)
    assert ran
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    "error",
    [OSError("disk full"), MemoryError("no memory"), RuntimeError("CUDA"), SystemExit(143), KeyboardInterrupt()],
)
def test_what_the_machine_did_is_not_remembered(tmp_path, error):
    with pytest.raises(type(error)):
        fail(tmp_path, error)
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    "cause", [FileNotFoundError("weights.bin"), ImportError("timm"), RuntimeError("CUDA out of memory.")]
)
def test_nor_is_what_came_from_outside(tmp_path, cause):
    outer = ValueError("mine:net failed")
    with pytest.raises(ValueError, match="mine:net"):
        fail(tmp_path, outer, cause=cause)
    assert not (tmp_path / RECORD).exists()
    with pytest.raises(ValueError, match="mine:net"):
        fail(tmp_path, outer, cause=RuntimeError("shapes"))
    assert json.loads((tmp_path / RECORD).read_text())["message"] == "mine:net failed"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"identity": "a", "kind": "exit", "message": ""}'])
def test_a_damaged_record_is_as_good_as_none(tmp_path, content):
    (tmp_path / RECORD).write_text(content)
    with remembered(tmp_path, "a"):
        pass
    assert not (tmp_path / RECORD).exists()


def test_records_of_one_run_or_of_all_are_forgotten(tmp_path):
    runs = [tmp_path / "ce" / "seed0", tmp_path / "ls" / "seed0"]
    for run in runs:
        with pytest.raises(ValueError, match="wrong"):
            fail(run, ValueError("wrong"))
    assert forget_failures(runs[0]) == [runs[0] / RECORD]
    assert forget_failures(tmp_path) == [runs[1] / RECORD]
