"""Files are whole or not there, checked when read, and written by one process at a time."""

import errno
import multiprocessing
import os
import stat
import time

import numpy as np
import pytest
import torch

from nclens.workflow.files import (
    FileError,
    atomic_write,
    exclusive,
    read_features,
    read_json,
    read_tensors,
    tensors_digest,
    write_json,
    write_tensors,
)

TENSORS = {"a": torch.arange(6).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.zeros(0)}


def test_an_error_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_full_disk_is_told_clearly_and_leaves_nothing(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*table\.csv.*space"), atomic_write(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_real_full_disk(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(FileError, match="No space left"), atomic_write(tmp_path / "x"), open("/dev/full", "w") as full:
        full.write("x" * 100_000)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FileError, match=r"cannot write \S+x\.csv: \S+file is a file"),
        atomic_write(tmp_path / "file" / "x.csv"),
    ):
        pass


def test_files_are_as_readable_as_others(tmp_path):
    write_json(tmp_path / "x.json", {})
    (tmp_path / "y").touch()
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == stat.S_IMODE((tmp_path / "y").stat().st_mode)


def test_tensors_come_back_with_their_metadata(tmp_path):
    digest = write_tensors(tmp_path / "t.safetensors", TENSORS, {"epoch": "3"})
    tensors, metadata = read_tensors(tmp_path / "t.safetensors", "train")
    assert metadata == {"epoch": "3", "sha256": digest}
    assert digest == tensors_digest(TENSORS)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("change", [("a", torch.zeros(2, 3)), ("a", torch.arange(6)), ("d", TENSORS["a"])])
def test_the_digest_sees_values_types_shapes_and_names(change):
    name, tensor = change
    assert tensors_digest({**TENSORS, name: tensor}) != tensors_digest(TENSORS)


@pytest.mark.parametrize("damage", ["truncated", "altered", "emptied", "text"])
def test_a_damaged_file_is_named_with_the_rule_that_makes_it(tmp_path, damage):
    path = tmp_path / "t.safetensors"
    write_tensors(path, TENSORS)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-5]
    elif damage == "altered":
        content[-1] ^= 1
    else:
        content = bytearray(b"" if damage == "emptied" else b"hello, world")
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"t\.safetensors is damaged .*the rule `train` makes it"):
        read_tensors(path, "train")


def test_missing_and_damaged_json(tmp_path):
    with pytest.raises(FileError, match=r"missing.*`prepare`"):
        read_json(tmp_path / "x.json", "prepare")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(FileError, match=r"damaged.*`prepare`"):
        read_json(tmp_path / "x.json", "prepare")


def _hold(path, seconds, started):
    with exclusive(path, "run"):
        started.set()
        time.sleep(seconds)


@pytest.mark.lengthy
def test_a_second_process_waits_and_knows_that_it_did(tmp_path, capsys):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "lock", 0.5, started))
    other.start()
    assert started.wait(60)
    with exclusive(tmp_path / "lock", "the run") as waited:
        assert waited
    other.join()
    assert "the run: another process" in capsys.readouterr().err
    with exclusive(tmp_path / "lock", "the run") as waited:
        assert not waited


@pytest.mark.lengthy
def test_a_killed_process_leaves_no_lock(tmp_path):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "lock", 600, started))
    other.start()
    assert started.wait(60)
    other.kill()
    other.join()
    with exclusive(tmp_path / "lock", "the run"):
        pass


@pytest.mark.parametrize("name", ["logits", "val_features", "targets"])
def test_arrays_that_would_be_ignored_are_refused(tmp_path, name):
    arrays = dict.fromkeys(("features", "labels", "weight", name), np.eye(2))
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=f"a.npz also has {name}; allowed: features, labels, weight, bias"):
        read_features(tmp_path / "a.npz")


def test_features_of_the_other_byte_order_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", features=np.eye(2, dtype=">f4"), labels=np.arange(2, dtype=">u2"), weight=np.eye(2))
    found = read_features(tmp_path / "a.npz")
    assert (found["features"].tolist(), found["labels"].tolist()) == ([[1, 0], [0, 1]], [0, 1])
