"""The folder of raw data, shared by all studies: existing files are verified, missing ones are downloaded.

Nothing in it is ever deleted or overwritten: an error names a file with the wrong checksum, and leaves it in place.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nclens.data.download import DownloadError, NotFetchedError, download, verify
from nclens.data.hidden import visible


@dataclass(frozen=True)
class RawFile:
    """A published file.

    Attributes:
        path: relative to the folder of raw data.
        checksum: `md5:` or `sha256:` and the checksum in hexadecimal.
        urls: mirrors in order of preference; empty if it cannot be downloaded.
    """

    path: str
    checksum: str
    urls: tuple[str, ...] = ()


def _silent(text: str) -> None:
    """Discard the message."""


@dataclass(frozen=True)
class RawData:
    """The folder of raw data.

    Attributes:
        folder: where raw files are, and where downloads go.
        say: called with each line of progress.
    """

    folder: Path
    say: Callable[[str], None] = _silent

    def __post_init__(self) -> None:
        """Check that the path is not a file."""
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"data_dir = {self.folder} is a file; it must be the folder of raw data")

    def place(self, path: str) -> Path:
        """Return a path of the configuration, relative to the folder unless absolute."""
        return self.folder / Path(path).expanduser()

    def is_there(self, file: RawFile) -> bool:
        """Return whether a file exists; if so, verify it.

        Raises:
            DownloadError: its checksum is wrong.
        """
        if not self.place(file.path).is_file():
            return False
        verify(self.place(file.path), file.checksum)
        return True

    def fetch(self, file: RawFile, needed: Sequence[RawFile]) -> Path:
        """Return the path of a file, downloaded if it is missing, and verified.

        Args:
            file: the file.
            needed: all files of its data set, packed or unpacked, for the error message.

        Raises:
            NotFetchedError: no server delivers it; lists the address and the destination of every missing file.
            DownloadError: its checksum is wrong, or it cannot be written.
        """
        target = self.place(file.path)
        if self.is_there(file):
            return target
        near = self._elsewhere(needed)
        hint = f" (part of the data set is in {near}: should `data_dir` be that folder?)" if near else ""
        self.say(f"{target} is missing: downloading {file.urls[0]}{hint}")
        try:
            download(file.urls, target, file.checksum, self.say)
        except NotFetchedError as error:
            raise NotFetchedError(
                f"{target} is missing and cannot be downloaded: {error}.\n{self.advice(needed)}"
            ) from None
        return target

    def advice(self, needed: Sequence[RawFile]) -> str:
        """Return instructions for a machine without network: what to download, from where, and where to put it."""
        missing = [
            f"  {file.urls[0]}  ->  {self.place(file.path).resolve()}  ({file.checksum.replace(':', ' ')})"
            for file in needed
            if file.urls and not self.place(file.path).is_file()
        ]
        near = self._elsewhere(needed)
        or_else = "Or set `data_dir` to a folder that already has the data" + (f": perhaps {near}" if near else "")
        return "\n".join(["Without network access, download on another machine and copy to:", *missing, or_else])

    def _elsewhere(self, needed: Sequence[RawFile]) -> Path | None:
        """Return the parent folder or a subfolder if it has one of the files: `data_dir` is then likely mistaken."""
        inside = [path for path in visible(self.folder) if path.is_dir()] if self.folder.is_dir() else []
        near = [self.folder.resolve().parent, *inside]
        return next((folder for folder in near for file in needed if (folder / file.path).exists()), None)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Let only one process at a time write the files of a data set; the lock ends with its process."""
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f".{name}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                self.say(f"another process is downloading {name} into {self.folder}; waiting for it")
                lock.acquire()
        except OSError as error:
            raise DownloadError(f"cannot write {self.folder}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()
