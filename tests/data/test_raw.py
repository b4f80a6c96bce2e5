"""The folder of raw data: existing files are verified, missing ones downloaded, nothing is overwritten."""

import hashlib
import threading

import pytest

from nclens.data.download import DownloadError, NotFetchedError
from nclens.data.raw import RawData, RawFile

CONTENT = b"content" * 100


def described(*urls, path="set/a.bin"):
    return RawFile(path, f"md5:{hashlib.md5(CONTENT).hexdigest()}", urls)


@pytest.fixture
def raw(tmp_path):
    said = []
    raw = RawData(tmp_path / "data", said.append)
    object.__setattr__(raw, "said", said)
    return raw


def test_an_existing_file_is_used_and_nothing_downloaded(raw, site):
    file = described(site.url("a.bin"))
    raw.place(file.path).parent.mkdir(parents=True)
    raw.place(file.path).write_bytes(CONTENT)
    assert raw.fetch(file, [file]).read_bytes() == CONTENT
    assert not site.requests


def test_a_missing_file_is_downloaded(raw, site):
    file = described(site.url("a.bin"))
    site.files["a.bin"] = CONTENT
    assert raw.fetch(file, [file]).read_bytes() == CONTENT
    assert "is missing: downloading" in raw.said[0]


def test_a_damaged_file_is_named_and_left_as_it_is(raw, site):
    file = described(site.url("a.bin"))
    site.files["a.bin"] = CONTENT
    raw.place(file.path).parent.mkdir(parents=True)
    raw.place(file.path).write_bytes(CONTENT[:50])
    for check in (raw.is_there, lambda file: raw.fetch(file, [file])):
        with pytest.raises(DownloadError, match=r"set/a\.bin \(50 bytes\) is truncated or altered"):
            check(file)
    assert raw.place(file.path).read_bytes() == CONTENT[:50]
    assert not site.requests


def test_without_a_network_the_message_says_what_to_fetch_and_where_to_put_it(raw, site):
    here, there = described(site.url("a.bin")), described(site.url("b.bin"), path="set/b.bin")
    unpacked = RawFile("set/unpacked", "md5:0")
    with pytest.raises(NotFetchedError) as caught:
        raw.fetch(here, [here, there, unpacked])
    message = str(caught.value)
    for file in (here, there):
        line = next(line for line in message.splitlines() if line.startswith(f"  {file.urls[0]}  ->"))
        assert str(raw.place(file.path).resolve()) in line
        assert hashlib.md5(CONTENT).hexdigest() in line
    assert "unpacked" not in message
    assert "data_dir" in message


@pytest.mark.parametrize("near", ["..", "cifar10"])
def test_a_likely_data_dir_is_suggested(raw, site, near):
    file, unpacked = described(site.url("a.bin")), RawFile("set/unpacked", "md5:0")
    found = raw.folder / near / unpacked.path
    found.parent.mkdir(parents=True)
    found.write_bytes(CONTENT)
    with pytest.raises(NotFetchedError, match=f"perhaps {(raw.folder / near).resolve()}$"):
        raw.fetch(file, [file, unpacked])


def test_a_data_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(NotADirectoryError, match=r"data_dir = .*data is a file"):
        RawData(tmp_path / "data")


def test_one_process_at_a_time_writes(raw):
    order = []

    def second():
        with raw.alone("set"):
            order.append("second")

    with raw.alone("set"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert any("another process is downloading set" in line for line in raw.said)


def test_a_lock_that_cannot_be_created_is_reported(tmp_path):
    raw = RawData(tmp_path / "file" / "data")
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot write"), raw.alone("set"):
        pass
