"""Downloads: whole or resumed, verified, and never in place with a wrong checksum."""

import hashlib
import random
import socket

import pytest

from nclens.data import download as module
from nclens.data.download import DownloadError, NotFetchedError, download, verify

CONTENT = random.Random(0).randbytes(300_000)
CHECKSUM = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "a.bin"


@pytest.fixture
def said():
    return []


def part_of(target):
    return target.with_name("a.bin.part")


def test_a_file_is_downloaded_verified_and_reported(site, target, said):
    site.files["a.bin"] = CONTENT
    download([site.url("a.bin")], target, CHECKSUM, said.append)
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()
    assert any("[####################] 100% of 0.3 MB" in line for line in said)
    assert said[-1] == "a.bin is complete and verified (MD5)"


def test_a_partial_download_is_resumed(site, target, said):
    site.files["a.bin"] = CONTENT
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT[:123_456])
    download([site.url("a.bin")], target, f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", said.append)
    assert target.read_bytes() == CONTENT
    assert site.requests == [("a.bin", "bytes=123456-")]
    assert "resuming after 0.1 MB" in said[0]


def test_a_complete_part_is_only_verified(site, target, said):
    site.files["a.bin"] = CONTENT
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    download([site.url("a.bin")], target, CHECKSUM, said.append)
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it_again(site, target, said):
    site.files["a.bin"], site.ranges = CONTENT, False
    target.parent.mkdir()
    part_of(target).write_bytes(b"of another file altogether")
    download([site.url("a.bin")], target, CHECKSUM, said.append)
    assert target.read_bytes() == CONTENT


def test_a_connection_that_breaks_repeatedly_is_resumed(site, target, said):
    site.files["a.bin"], site.limit = CONTENT, 70_000
    download([site.url("a.bin")], target, CHECKSUM, said.append)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == [None, *(f"bytes={70_000 * i}-" for i in range(1, 5))]


def test_a_server_that_sends_nothing_is_abandoned_and_the_part_kept(site, target, said):
    site.files["a.bin"], site.limit = CONTENT, 0
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT[:1000])
    with pytest.raises(NotFetchedError, match=r"broke 4 times in a row.*1,000 bytes are kept in .*a\.bin\.part"):
        download([site.url("a.bin")], target, CHECKSUM, said.append)
    assert len(site.requests) == module.ATTEMPTS
    assert part_of(target).read_bytes() == CONTENT[:1000]


def test_a_wrong_checksum_is_reported_every_time_and_nothing_deleted(site, target, said):
    site.files["a.bin"] = CONTENT[:-1] + b"?"
    for _ in range(2):
        with pytest.raises(DownloadError, match=r"a\.bin\.part \(300,000 bytes\) is truncated or altered: its MD5 is"):
            download([site.url("a.bin")], target, CHECKSUM, said.append)
    assert not target.exists()
    assert part_of(target).stat().st_size == len(CONTENT)


def test_the_next_mirror_is_tried(site, target, said):
    site.files["b/a.bin"] = CONTENT
    download([site.url("a/a.bin"), site.url("b/a.bin")], target, CHECKSUM, said.append)
    assert target.read_bytes() == CONTENT


def test_every_address_that_failed_is_named_with_its_reason(site, target, said):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/a.bin"
        with pytest.raises(NotFetchedError) as caught:
            download([site.url("a.bin"), closed], target, CHECKSUM, said.append)
    assert f"{site.url('a.bin')}: the server answers 404 Not Found" in str(caught.value)
    assert f"{closed}: no answer (Connection refused)" in str(caught.value)


def test_a_folder_that_cannot_be_created_is_named(site, tmp_path, said):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DownloadError, match=r"cannot write .*data"):
        download([site.url("a.bin")], tmp_path / "data" / "a.bin", CHECKSUM, said.append)
    assert not site.requests


def test_verifying_changes_nothing(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(CONTENT[:-5])
    with pytest.raises(DownloadError, match=rf"{file} .*neither used nor deleted"):
        verify(file, CHECKSUM)
    assert file.read_bytes() == CONTENT[:-5]
    file.write_bytes(CONTENT)
    verify(file, CHECKSUM)
