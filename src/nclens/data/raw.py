"""The folder of raw data, shared by all studies: what is there is verified and used, what is missing is fetched.

Nothing in it is ever deleted or overwritten: a file that is not as published is named, and left to its owner.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nclens.data.download import DownloadError, NotFetchedError, download, verify


@dataclass(frozen=True)
class RawFile:
    """A file as its publisher describes it.

    Attributes:
        path: where it stands, below the folder of raw data.
        checksum: `md5:` or `sha256:` and the checksum in hexadecimal.
        urls: where it can be fetched, first choice first; none where it cannot.
    """

    path: str
    checksum: str
    urls: tuple[str, ...] = ()


def _silent(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class RawData:
    """The folder of raw data.

    Attributes:
        folder: where raw files stand and downloads go.
        say: told what goes on, a line at a time.
    """

    folder: Path
    say: Callable[[str], None] = _silent

    def __post_init__(self) -> None:
        """Check that the folder is one, or can become one."""
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"data_dir = {self.folder} is a file; it must be the folder of the raw data")

    def place(self, path: str) -> Path:
        """Return where a path of the configuration points: below the folder, unless absolute."""
        return self.folder / Path(path).expanduser()

    def is_there(self, file: RawFile) -> bool:
        """Return whether a file is there.

        Raises:
            DownloadError: it is there, and is not what its publisher describes.
        """
        if not self.place(file.path).is_file():
            return False
        verify(self.place(file.path), file.checksum)
        return True

    def fetch(self, file: RawFile, needed: Sequence[RawFile]) -> Path:
        """Return a file's path, verified, fetched first where it is missing.

        Args:
            file: the file.
            needed: all files that its data set consists of, packed or unpacked, for the message.

        Raises:
            NotFetchedError: no server gives it; says of every missing file what to fetch and where to put it.
            DownloadError: it is not what its publisher describes, or cannot be written.
        """
        target = self.place(file.path)
        if self.is_there(file):
            return target
        near = self._elsewhere(needed)
        hint = f" (there is some of it in {near}: should `data_dir` be that folder?)" if near else ""
        self.say(f"{target} is missing: fetching {file.urls[0]}{hint}")
        try:
            download(file.urls, target, file.checksum, self.say)
        except NotFetchedError as error:
            raise NotFetchedError(
                f"{target} is missing and cannot be fetched: {error}.\n{self.advice(needed)}"
            ) from None
        return target

    def advice(self, needed: Sequence[RawFile]) -> str:
        """Return what to do without a network: what to fetch, where from, where to put it."""
        missing = [
            f"  {file.urls[0]}  ->  {self.place(file.path).resolve()}  ({file.checksum.replace(':', ' ')})"
            for file in needed
            if file.urls and not self.place(file.path).is_file()
        ]
        near = self._elsewhere(needed)
        or_else = "Or set `data_dir` to the folder that holds the data already" + (f": perhaps {near}" if near else "")
        return "\n".join(["Without a network, fetch elsewhere and put in place:", *missing, or_else])

    def _elsewhere(self, needed: Sequence[RawFile]) -> Path | None:
        """Return a folder around this one or just inside it that holds one of the files: a near miss of `data_dir`."""
        inside = sorted(path for path in self.folder.glob("*") if path.is_dir()) if self.folder.is_dir() else []
        near = [self.folder.resolve().parent, *inside]
        return next((folder for folder in near for file in needed if (folder / file.path).exists()), None)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Let one process at a time write the files of a data set; the lock dies with its process."""
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f".{name}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self.say(f"another process is fetching {name} into {self.folder}; waiting for it")
                lock.acquire()
        except OSError as error:
            raise DownloadError(f"cannot write {self.folder}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()
