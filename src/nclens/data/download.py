"""Resumable downloads, renamed into place only after their checksum is verified."""

import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

#: Seconds between two lines of progress, and until a connection without data times out.
REPORT_EVERY = 5.0
SILENT_AFTER = 30.0
#: Consecutive broken connections without new data after which a download fails, and the pause in seconds that grows
#: with their number.
ATTEMPTS = 4
PAUSE = 1.0
CHUNK = 2**20


class DownloadError(OSError):
    """A file has the wrong checksum, or cannot be written."""


class NotFetchedError(DownloadError):
    """No server delivered the file."""


def checksum_of(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hexadecimal; `algorithm` is `md5` or `sha256`."""
    with open(path, "rb") as file:
        # Most data sets are published with an MD5.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def verify(path: Path, checksum: str) -> None:
    """Verify the checksum, `md5:...` or `sha256:...`, of a file; the file is not changed.

    Raises:
        DownloadError: it differs; names the file, its size and both checksums.
    """
    algorithm, _, expected = checksum.partition(":")
    found = checksum_of(path, algorithm)
    if found != expected:
        raise DownloadError(
            f"{path} ({path.stat().st_size:,} bytes) is truncated or altered: its {algorithm.upper()} is {found}, "
            f"not {expected}. It was neither used nor deleted; move or delete it, then run again"
        )


def download(urls: Sequence[str], target: Path, checksum: str, say: Callable[[str], None]) -> None:
    """Download `target` from the first of `urls` that delivers it, and verify it.

    Data are written to `target` + `.part`. A later call resumes from that file if the server supports HTTP ranges. A
    complete `.part` with a wrong checksum is kept, and named in the error.

    Raises:
        NotFetchedError: no server delivered the file.
        DownloadError: it cannot be written, or its checksum is wrong.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"cannot write {target.parent}: {error.strerror or error}") from error
    problems = []
    for url in urls:
        try:
            _retrieve(url, part, say)
            break
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, DownloadError):
                raise
            problems.append(f"{url}: {_reason(error)}")
    else:
        begun = f"; {part.stat().st_size:,} bytes are kept in {part}" if _size(part) else ""
        raise NotFetchedError("; ".join(problems) + begun)
    verify(part, checksum)
    part.replace(target)
    say(f"{target.name} is complete and verified ({checksum.partition(':')[0].upper()})")


def _retrieve(url: str, part: Path, say: Callable[[str], None]) -> None:
    """Download a file into `part`; reconnect as long as each connection delivers new data."""
    fruitless = 0
    while True:
        before = _size(part)
        problem: Exception | None = None
        try:
            if _receive(url, part, say):
                return
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                return  # nothing is left to send; the checksum decides
            if error.code < 500:
                raise
            problem = error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            # An unknown host, a refused connection: a retry does not help.
            if isinstance(error, DownloadError) or (isinstance(error, urllib.error.URLError) and not before):
                raise
            problem = error
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise problem or ConnectionError(f"the connection broke {ATTEMPTS} times in a row")
        time.sleep(PAUSE * fruitless)


def _receive(url: str, part: Path, say: Callable[[str], None]) -> bool:
    """Download the missing part of a file; return whether it is complete, judged by the server's Content-Length."""
    begin = _size(part)
    headers = {"User-Agent": "nclens", "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENT_AFTER) as response:
        # A server without support for ranges sends the whole file again.
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and response.headers.get(
            "Content-Range", ""
        ).startswith(f"bytes {begin}-")
        begin = begin if resumed else 0
        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        report = _Report(part.name.removesuffix(".part"), begin, total, say)
        with _writing(part), open(part, "ab" if resumed else "wb") as file:
            done = begin
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                report.at(done)
    return total is None or done >= total


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read the next chunk; a broken connection reads as the end of the file, and `_retrieve` reconnects."""
    try:
        return response.read1(CHUNK)
    except (http.client.HTTPException, OSError):
        return b""


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Distinguish disk errors from network errors, since both are an OSError."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"cannot write {path}: {error.strerror or error}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    reason = getattr(error, "reason", error)
    return f"no answer ({getattr(reason, 'strerror', None) or reason})"


class _Report:
    """Reports the progress of a download every `REPORT_EVERY` seconds."""

    def __init__(self, name: str, begin: int, total: int | None, say: Callable[[str], None]) -> None:
        self.name, self.begin, self.total, self.say = name, begin, total, say
        self.started = self.reported = time.monotonic()
        if begin:
            say(f"{name}: resuming after {begin / 1e6:.1f} MB")

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self.reported < REPORT_EVERY and done != self.total:
            return
        self.reported = now
        self.say(progress(self.name, self.begin, done, self.total, max(now - self.started, 1e-9)))


def progress(name: str, begin: int, done: int, total: int | None, seconds: float) -> str:
    """Return a line of progress: bar, percentage, megabytes, speed since `begin`, remaining time.

    >>> progress("a.zip", 0, 25_000_000, 100_000_000, 5.0)
    'a.zip [#####...............] 25% of 100.0 MB, 5.0 MB/s, 0:15 left'
    >>> progress("a.zip", 0, 25_000_000, None, 5.0)
    'a.zip: 25.0 MB, 5.0 MB/s'
    """
    speed = (done - begin) / seconds
    if not total:
        return f"{name}: {done / 1e6:.1f} MB, {speed / 1e6:.1f} MB/s"
    bar = ("#" * (20 * done // total)).ljust(20, ".")
    minutes, left = divmod(round((total - done) / speed) if speed else 0, 60)
    moving = f"{speed / 1e6:.1f} MB/s, {minutes}:{left:02d} left"
    return f"{name} [{bar}] {done / total:.0%} of {total / 1e6:.1f} MB, {moving}"
