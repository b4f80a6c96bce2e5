"""A file from the network: resumable, verified by checksum, renamed into place only when it is right."""

import contextlib
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

#: Seconds between two lines of progress, and without a byte after which a server counts as silent.
REPORT_EVERY = 5.0
SILENT_AFTER = 30.0
#: Broken connections in a row, without a new byte, after which a server is given up; seconds between them.
ATTEMPTS = 4
PAUSE = 1.0
CHUNK = 2**20


class DownloadError(OSError):
    """A file is not what its publisher describes, or cannot be written."""


class NotFetchedError(DownloadError):
    """No server gave the file."""


def checksum_of(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hexadecimal; `algorithm` is `md5` or `sha256`."""
    with open(path, "rb") as file:
        # MD5 is what the publishers of most data sets give.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def verify(path: Path, checksum: str) -> None:
    """Compare a file with a checksum, `md5:...` or `sha256:...`; it is not changed.

    Raises:
        DownloadError: they differ; names the file, its size and both checksums.
    """
    algorithm, _, expected = checksum.partition(":")
    found = checksum_of(path, algorithm)
    if found != expected:
        raise DownloadError(
            f"{path} ({path.stat().st_size:,} bytes) is truncated or altered: its {algorithm.upper()} is {found}, "
            f"not {expected}. It was neither used nor deleted; move it away or delete it, then run again"
        )


def download(urls: Sequence[str], target: Path, checksum: str, say: Callable[[str], None]) -> None:
    """Fetch `target` from the first of `urls` that gives it, and verify it.

    What arrives stands in `target` + `.part`, which a later call goes on with where the server allows it (HTTP ranges).
    A complete `.part` with a wrong checksum stays where it is, named in the error.

    Raises:
        NotFetchedError: no server gave the file.
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
    """Receive all of a file into `part`, again and again as long as a broken connection brings new bytes."""
    fruitless = 0
    while True:
        before = _size(part)
        problem: Exception | None = None
        try:
            if _receive(url, part, say):
                return
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                return  # nothing is left to send: the checksum decides
            if error.code < 500:
                raise
            problem = error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            # A name that cannot be resolved, a refused connection: waiting does not help.
            if isinstance(error, DownloadError) or (isinstance(error, urllib.error.URLError) and not before):
                raise
            problem = error
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless >= ATTEMPTS:
            raise problem or ConnectionError(f"the connection broke {ATTEMPTS} times in a row")
        time.sleep(PAUSE * fruitless)


def _receive(url: str, part: Path, say: Callable[[str], None]) -> bool:
    """Receive what is missing of a file; return whether it is complete, as far as the server says how long it is."""
    begin = _size(part)
    headers = {"User-Agent": "nclens", "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENT_AFTER) as response:
        # A server that does not know ranges sends the whole file again.
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
    """Read the next bytes; a connection that breaks ends the file here, and the loop above takes it up again."""
    try:
        return response.read1(CHUNK)
    except (http.client.HTTPException, OSError):
        return b""


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell an error of the disk from one of the network, both of which are an OSError."""
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
    """Tells how far a download is, now and then."""

    def __init__(self, name: str, begin: int, total: int | None, say: Callable[[str], None]) -> None:
        self.name, self.begin, self.total, self.say = name, begin, total, say
        self.started = self.told = time.monotonic()
        if begin:
            say(f"{name}: goes on after {begin / 1e6:.1f} MB")

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self.told < REPORT_EVERY and done != self.total:
            return
        self.told = now
        self.say(progress(self.name, self.begin, done, self.total, max(now - self.started, 1e-9)))


def progress(name: str, begin: int, done: int, total: int | None, seconds: float) -> str:
    """Return a line of progress: bar, share, megabytes, speed since `begin`, time left.

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
