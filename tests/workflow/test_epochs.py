"""A file of several epochs: safetensors like any other, whole or not there, checked epoch by epoch."""

import builtins
import errno
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from nclens.workflow import epochs as module
from nclens.workflow.epochs import has_epoch, load_weights, read_ahead, read_epoch, read_weights, write_epochs
from nclens.workflow.files import FileError, tensors_digest
from tests.epochs import write_all


def tensors(seed):
    """Tensors of every type and form; odd numbers of narrow values before wide ones in the order of the names."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 5, generator=random)
    return {
        "a.flags": values[0] > 0,
        "b.bytes": (values[0] * 10).to(torch.uint8),
        "c.brain": values[:1, :3].to(torch.bfloat16),
        "d.half": values[:, :3].half(),
        "e.count": torch.tensor(seed),
        "f.wide": torch.randint(9, (7,), generator=random),
        "g.double": values.double(),
        "h.weight": values,
        "i.scalar": torch.tensor(0.5 + seed),
        "j.empty": torch.zeros(0, 4),
        "k.turned": values.T,
        'l."é/δ"': values[1, ::2],
        "m.parameter": torch.nn.Parameter(values[2]),
        "n.flag": torch.tensor(seed % 2 == 0),
    }


CONTENT = {epoch: tensors(epoch) for epoch in (0, 1, 10)}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)
        assert not found[name].requires_grad


@pytest.fixture
def path(tmp_path):
    write_all(tmp_path / "t.safetensors", CONTENT)
    return tmp_path / "t.safetensors"


# --- what is written -------------------------------------------------------------------------------------------------


def test_every_epoch_comes_back_with_its_checksum(path):
    for epoch, expected in CONTENT.items():
        found, digest = read_epoch(path, epoch, "train")
        assert_equal(found, expected)
        assert digest == tensors_digest(expected)
        assert has_epoch(path, epoch, "train")
    assert not has_epoch(path, 2, "train")
    assert os.listdir(path.parent) == [path.name]


def test_safetensors_itself_reads_the_file_and_every_tensor_is_aligned(path):
    found = load_file(path)
    assert found.keys() == {f"epoch{epoch}/{name}" for epoch in CONTENT for name in CONTENT[epoch]}
    for epoch, expected in CONTENT.items():
        assert_equal({name: found[f"epoch{epoch}/{name}"] for name in expected}, expected)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {f"epoch{epoch}.sha256": tensors_digest(CONTENT[epoch]) for epoch in CONTENT}
        starts = [(file.get_tensor(key).data_ptr(), file.get_tensor(key).itemsize) for key in file.keys()]  # noqa: SIM118
    assert all(start % width == 0 for start, width in starts)


def test_the_bytes_depend_on_the_content_and_not_on_the_order_of_writing(path):
    first = path.read_bytes()
    with write_epochs(path, list(CONTENT)) as put:
        for epoch in (10, 0, 1):
            put(epoch, dict(reversed(CONTENT[epoch].items())))
    assert path.read_bytes() == first
    write_all(path, CONTENT | {1: tensors(7)})
    assert path.read_bytes() != first


def test_a_file_of_no_epochs_is_a_file(tmp_path):
    write_all(tmp_path / "t.safetensors", {})
    assert load_file(tmp_path / "t.safetensors") == {}
    assert not has_epoch(tmp_path / "t.safetensors", 0, "extract")


def test_an_epoch_without_tensors_is_one(tmp_path):
    write_all(tmp_path / "t.safetensors", {3: {}, 4: {}})
    assert read_epoch(tmp_path / "t.safetensors", 3, "train") == ({}, tensors_digest({}))


# --- what is refused -------------------------------------------------------------------------------------------------


def other(**changes):
    return {**CONTENT[1], **changes}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({0: CONTENT[0], 10: CONTENT[10]}, r"no tensors were written of the epochs \[1\]"),
        ({}, r"no tensors were written of the epochs \[0, 1, 10\]"),
        ({0: CONTENT[0], 1: other(more=torch.ones(1))}, "epoch 1 has other tensors, types or shapes"),
        ({0: CONTENT[0], 1: {"h.weight": torch.ones(3, 5)}}, "epoch 1 has other tensors, types or shapes"),
        ({0: CONTENT[0], 1: other(**{"h.weight": torch.ones(5, 3)})}, "epoch 1 has other tensors, types or shapes"),
        ({0: CONTENT[0], 1: other(**{"h.weight": torch.ones(3, 5).int()})}, "epoch 1 has other tensors"),
        ({0: CONTENT[0], 2: CONTENT[1]}, r"epoch 2 is written already, or none of \[0, 1, 10\]"),
    ],
    ids=["missing", "none", "a tensor more", "tensors less", "shape", "type", "unknown"],
)
def test_epochs_that_are_missing_or_differ_are_refused_and_leave_no_file(tmp_path, given, words):
    with pytest.raises(ValueError, match=words), write_epochs(tmp_path / "t.safetensors", [0, 1, 10]) as put:
        for epoch, content in given.items():
            put(epoch, content)
    assert os.listdir(tmp_path) == []


def test_an_epoch_is_written_once(tmp_path):
    with (
        pytest.raises(ValueError, match="epoch 0 is written already"),
        write_epochs(tmp_path / "t.safetensors", [0, 1]) as put,
    ):
        put(0, CONTENT[0])
        put(0, CONTENT[0])


def test_an_error_leaves_the_old_file_and_passes_through(path):
    old = path.read_bytes()
    for error in (KeyError("mine"), FileNotFoundError(errno.ENOENT, "No such file or directory", "mine.txt")):
        with pytest.raises(type(error), match="mine") as caught, write_epochs(path, [0]) as put:
            put(0, CONTENT[1])
            raise error
        assert caught.value is error
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*file/t\.safetensors"):
        write_all(tmp_path / "file" / "t.safetensors", CONTENT)


class FullDisk:
    """A file on a disk that fills up after so many writes, or when it is closed."""

    def __init__(self, file, writes):
        self._file, self._left = file, writes

    def write(self, content):
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


@pytest.mark.parametrize("writes", [0, 20, 42])
def test_a_full_disk_is_one_message_and_leaves_the_old_file(path, monkeypatch, writes):
    """In the first epoch, in a later one, and at the header."""
    old, real = path.read_bytes(), Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r": FullDisk(real(self, mode), writes))
    with pytest.raises(FileError, match=r"cannot write .*t\.safetensors: No space left on device \(free some space"):
        write_all(path, CONTENT)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


def test_a_real_full_disk(path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    monkeypatch.setattr(module._Writer, "_begin", lambda *_: None)
    monkeypatch.setattr(Path, "open", lambda *_: builtins.open("/dev/full", "wb"))  # noqa: SIM115 (the writer closes it)
    with pytest.raises(FileError, match="No space left on device"), write_epochs(path, []):
        pass


# --- damage ----------------------------------------------------------------------------------------------------------


def place_of(path, key):
    """Where the bytes of a tensor begin in the file."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    with safe_open(path, framework="pt") as file:
        value = file.get_tensor(key).reshape(-1)[:3].view(torch.uint8).numpy().tobytes()
    return content.index(value, 8 + size)


@pytest.mark.parametrize("damage", ["truncated", "cut in the header", "emptied", "text"])
def test_a_file_that_is_no_more_whole_is_named_with_the_rule_that_makes_it(path, damage):
    content = path.read_bytes()
    damaged = {"truncated": content[:-5], "cut in the header": content[:100], "emptied": b"", "text": b"hello, world"}
    path.write_bytes(damaged[damage])
    for read in (read_epoch, has_epoch):
        with pytest.raises(FileError, match=r"t\.safetensors is damaged .*the rule `train` makes it again"):
            read(path, 1, "train")


def test_an_altered_byte_is_found_in_its_epoch_and_the_others_are_read(path):
    place, content = place_of(path, "epoch1/h.weight"), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"t\.safetensors is damaged \(its content does not match .*`train`"):
        read_epoch(path, 1, "train")
    for epoch in (0, 10):
        assert_equal(read_epoch(path, epoch, "train")[0], CONTENT[epoch])


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"epoch1/h.weight"', b'"epoch1/h.weighs"'), (b'"shape": [3, 5]', b'"shape": [5, 3]'), (b'"F32"', b'"I32"')],
    ids=["name", "shape", "type"],
)
def test_an_altered_header_is_found(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(FileError, match=r"t\.safetensors is damaged .*`train`"):
        read_epoch(path, 1, "train")


def test_a_missing_file_and_a_missing_epoch_are_named_with_the_rule(path):
    with pytest.raises(FileError, match=r"t\.safetensors is damaged \(it lacks epoch 2\): delete it .*`extract` makes"):
        read_epoch(path, 2, "extract")
    path.unlink()
    for read in (read_epoch, has_epoch):
        with pytest.raises(FileError, match=r"t\.safetensors is missing: the rule `extract` makes it"):
            read(path, 1, "extract")


# --- networks --------------------------------------------------------------------------------------------------------


def test_a_network_takes_the_weights_of_its_epoch_and_no_other_networks(tmp_path):
    networks = {epoch: torch.nn.Linear(3, 2) for epoch in (0, 5)}
    path, made = tmp_path / "t.safetensors", torch.nn.Linear(3, 2)
    write_all(path, {epoch: network.state_dict() for epoch, network in networks.items()})
    for epoch, network in networks.items():
        assert read_weights(made, path, epoch) == tensors_digest(network.state_dict())
        assert torch.equal(made.weight, network.weight)
    with pytest.raises(FileError, match=r"t\.safetensors is damaged \(Error\(s\) in loading .*`train`"):
        read_weights(torch.nn.Linear(4, 2), path, 5)
    with pytest.raises(FileError, match=r"t\.safetensors is damaged .*`train`"):
        load_weights(made, {"weight": made.weight}, path)


# --- memory and threads ----------------------------------------------------------------------------------------------


def test_one_epoch_at_a_time_is_in_memory(tmp_path):
    made_of, most = [], 0

    def made(epoch):
        nonlocal most
        array = np.full(250_000, epoch, dtype=np.float32)  # it lives as long as a tensor on its memory does
        made_of.append(weakref.ref(array))
        most = max(most, sum(reference() is not None for reference in made_of))
        return torch.from_numpy(array)

    with write_epochs(tmp_path / "t.safetensors", range(20)) as put:
        for epoch in range(20):
            put(epoch, {"weight": made(epoch)})
    assert 1 <= most <= 2
    assert read_epoch(tmp_path / "t.safetensors", 19, "train")[0]["weight"].unique().tolist() == [19]


def test_the_next_epoch_is_read_while_one_is_in_use(path, monkeypatch):
    read, begun = [], {epoch: threading.Event() for epoch in CONTENT}

    def watched(path, epoch, made_by):
        read.append((epoch, threading.current_thread()))
        begun[epoch].set()
        return read_epoch(path, epoch, made_by)

    monkeypatch.setattr(module, "read_epoch", watched)
    order = [10, 0, 1]
    found = []
    for epoch, content, digest in read_ahead(path, order, "train"):
        following = order[len(found) + 1 :][:1]
        assert all(begun[later].wait(60) for later in following)
        assert len(read) <= len(found) + 2
        found.append(epoch)
        assert_equal(content, CONTENT[epoch])
        assert digest == tensors_digest(content)
    assert found == order == [epoch for epoch, _ in read]
    assert {thread for _, thread in read}.isdisjoint({threading.current_thread()})
    assert not any(thread.is_alive() for _, thread in read)


def test_an_epoch_that_cannot_be_read_is_an_error_at_its_turn(path):
    before = threading.active_count()
    found = read_ahead(path, [0, 2, 1], "train")
    assert next(found)[0] == 0
    with pytest.raises(FileError, match="it lacks epoch 2"):
        next(found)
    assert list(found) == []
    assert threading.active_count() == before


def test_whoever_stops_early_ends_the_thread(path):
    before = threading.active_count()
    for epoch, _, _ in (reader := read_ahead(path, [0, 1, 10], "train")):
        assert epoch == 0
        break
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before
    with pytest.raises(KeyError, match="mine"):
        for _ in read_ahead(path, [0, 1, 10], "train"):
            raise KeyError("mine")
    assert threading.active_count() == before


def test_no_epochs_are_read_as_none(path):
    assert list(read_ahead(path, [], "train")) == []
