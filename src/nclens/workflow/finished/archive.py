"""A study in one file: an RO-Crate in a ZIP archive, with the checksum of every file, written and read.

`manifest-sha256.txt` lists the SHA-256 of every other file, as `sha256sum` writes and checks it. Entries are stored as
they are, without compression, in the order of their names and with the same time: the same files give the same archive.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote

from nclens.workflow.files import MOST_OF_NAME, FileError, atomic_write, not_written

#: Names of the list of checksums, and of the crate's metadata.
MANIFEST, METADATA = "manifest-sha256.txt", "ro-crate-metadata.json"
#: The largest of the two that is read, in bytes.
MOST_BYTES = 256 * 2**20
#: The most names in a message, and the most characters of one.
MOST_NAMES, MOST_SHOWN = 5, 120
#: The time of every entry: the first that a ZIP archive can have.
FIRST_TIME = (1980, 1, 1, 0, 0, 0)
CHUNK = 2**20

#: The most bytes of a part of a name, and the most parts: no file system has longer ones.
MOST_PART_BYTES, MOST_PARTS = 255, 100
#: What `is_path` allows, as messages say it.
ALLOWED_NAMES = (
    f"at most {MOST_PARTS} folders, names of at most {MOST_PART_BYTES} bytes in UTF-8, and no control character, \\ or "
    ": in them"
)
#: The most bytes that one byte of deflated data becomes.
MOST_DEFLATED = 1032

#: What reading a damaged ZIP archive raises, an unknown compression and a password among it.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, LookupError, OverflowError, MemoryError),
)


class Archive:
    """An archive of a study, read without unpacking it.

    >>> Archive("digits.zip").open("claims.csv")  # doctest: +SKIP

    Attributes:
        path: the archive.
        study: the name of its study.
        files: the study's files by their paths below `results/STUDY`, sorted.

    Raises:
        FileError: there is no such file, it is damaged, it is no archive of `nclens pack`, or has a file too much or
            too little.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not os.path.isfile(self.path):  # unlike Path's, of a name that is too long too
            raise FileError(f"{path} is missing: `nclens pack STUDY` writes an archive")
        with self._zip() as file, self._reading():
            entries = _entries(file, self.path)
            self._digests = _manifest(_content(file, MANIFEST, self.path), self.path)
            _compare(entries, self._digests, self.path)
            metadata = _content(file, METADATA, self.path)
        if hashlib.sha256(metadata).hexdigest() != self._digests[METADATA]:
            raise _damaged(self.path, [f"{METADATA} is not what was packed"])
        root = _root_of(metadata, entries, self.path)
        self.study = root.split("/")[1]
        self._names = sorted(entries)
        self._root = f"{root}/"
        self.files = [name.removeprefix(self._root) for name in self._names if name.startswith(self._root)]

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a file of the study, open for reading in binary; its checksum has been checked.

        Args:
            name: its path below `results/STUDY`, such as `claims.csv` or `theory/ufm.csv`.

        Raises:
            FileError: the archive has no such file, or it is damaged.
        """
        if name not in self.files:
            raise FileError(f"{self.path}: has no {name}; it has: {_some(self.files, 20)}")
        entry = self._root + name
        with self._zip() as file:
            with self._reading(), file.open(entry) as stream:
                found = _digest(stream)
            if found != self._digests[entry]:
                raise _damaged(self.path, [f"{entry} is not what was packed"])
            with file.open(entry) as stream:
                yield stream

    @contextlib.contextmanager
    def _zip(self) -> Iterator[zipfile.ZipFile]:
        with self._reading():
            file = zipfile.ZipFile(self.path)
        with file:
            yield file

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            raise _damaged(self.path, [_why(error)]) from None
        except OSError as error:
            if isinstance(error, FileError):
                raise
            if _leads_out(error):
                raise _damaged(self.path, [_why(error)]) from None
            raise FileError(f"cannot read {self.path}: {error.strerror}") from error

    def unpack(self, to: Path) -> None:
        """Write every file below a new folder, each checked against its checksum; see `unpack`."""
        folder = None
        with _new_parents(to):
            try:
                # A name may be as long as a file system allows: this one is longer.
                folder = Path(tempfile.mkdtemp(prefix=f".{to.name[:MOST_OF_NAME]}.", suffix=".part", dir=to.parent))
                with self._zip() as file:
                    faults = [fault for name in self._names if (fault := self._write(file, name, folder))]
                if faults:
                    raise _damaged(self.path, faults)
                _finish(folder)
                if to.exists():
                    raise _exists(to)
                folder.rename(to)
            except OSError as error:
                if isinstance(error, FileError) or error.errno is None:
                    raise
                raise not_written(to, error) from error
            finally:
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)

    def _write(self, file: zipfile.ZipFile, name: str, folder: Path) -> str | None:
        """Write a file; return what is wrong with it, if anything is."""
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with file.open(name) as stream, target.open("xb") as written:
                found = _digest(stream, written.write)
        except BROKEN as error:
            return f"{_shown(name)}: {_why(error)}"
        except OSError as error:
            if not _leads_out(error):
                raise
            return f"{_shown(name)}: {_why(error)}"
        # The list of checksums has no checksum: what it lists is compared.
        return None if found == self._digests.get(name, found) else f"{_shown(name)} is not what was packed"


def unpack(archive: str | Path, to: str | Path | None = None) -> Path:
    """Write the files of an archive below a new folder, after which the study is in `results/STUDY` of that folder.

    Every file is checked against its SHA-256. Nothing is run, and nothing is written where a file is damaged, missing
    or not listed. All files get the time of the unpacking, the same one: no result is older than what it is made from.

    Args:
        archive: the file that `nclens pack` has written.
        to: the folder; by default the archive's name without `.zip`, in the current folder.

    Returns:
        The folder of the study's results.

    Raises:
        FileError: the archive is missing or damaged, with the files concerned, or is no archive of a study; the folder
            exists or cannot be written.
    """
    archive = Path(archive)
    folder = Path(archive.stem if to is None else to)
    # Not `exists`, which raises on a name that is too long: writing says so.
    if os.path.lexists(folder):
        raise _exists(folder)
    opened = Archive(archive)
    with opened._zip() as file:
        needed = sum(entry.file_size for entry in file.infolist())
    there = next(parent for parent in folder.absolute().parents if os.path.isdir(parent))
    if needed > shutil.disk_usage(there).free:
        raise not_written(folder, OSError(errno.ENOSPC, ""))
    opened.unpack(folder)
    return folder / "results" / opened.study


def write_archive(path: Path, root: str, files: Mapping[str, Path | bytes], digests: Mapping[str, str]) -> None:
    """Write an archive whole or not at all, with the list of checksums, file by file.

    Args:
        path: of the archive.
        root: the folder of the study's results in it, which the crate describes.
        files: what goes in, a file or its content by its name in the archive.
        digests: the SHA-256 of each, which what is written is compared with.

    Raises:
        FileError: a file has changed since its checksum was computed, or the archive cannot be written.
        ValueError: a name that no archive can have.
    """
    check_names(files)
    manifest = "".join(f"{digests[name]}  {name}\n" for name in sorted(files))
    contents: dict[str, Path | bytes] = {**files, MANIFEST: manifest.encode(), f"{root}/": b""}
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as written:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, FIRST_TIME)
            mode = stat.S_IFDIR | 0o755 if name.endswith("/") else stat.S_IFREG | 0o644
            entry.create_system, entry.external_attr = 3, mode << 16
            entry.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
            with written.open(entry, "w") as stream:
                if isinstance(content, bytes):
                    stream.write(content)
                    continue
                with content.open("rb") as source:
                    found = _digest(source, stream.write)
            if found != digests[name]:
                raise FileError(f"{content} has changed while it was packed: run the same command again")


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no archive can have, by a ValueError."""
    for name in names:
        if not is_path(name):
            raise ValueError(f"{_shown(name)} cannot be in an archive; allowed: {ALLOWED_NAMES}")


def _entries(file: zipfile.ZipFile, path: Path) -> set[str]:
    """Return the names of an archive's files, each of which can be written below a folder.

    Raises:
        FileError: a name leads out of the folder or is there twice, an entry is a link, an empty folder or a folder
            with content, or it says that it has more bytes than it can have.
    """
    size, places = path.stat().st_size, file.infolist()
    for entry in places:
        name = _shown(entry.filename)
        if not is_path(entry.filename.removesuffix("/")):
            raise _refused(path, f"its entry {name} is no path below the archive's folder")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
            raise _refused(path, f"its entry {name} is a link or a device; allowed: files")
        # Some programs compress nothing to two bytes.
        if entry.is_dir() and (entry.file_size or entry.compress_size > 2):
            raise _refused(path, f"its entry {name} is a folder with content of its own")
        if not _fits(entry, size):
            raise _damaged(path, [f"its entry {name} lies outside the file, or has not the bytes that it says"])
    found = Counter(entry.filename for entry in places if not entry.is_dir())
    if twice := sorted(name for name, count in found.items() if count > 1):
        raise _refused(path, f"it has two entries {_some(twice)}")
    parents = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    if both := sorted(parents & set(found)):
        raise _refused(path, f"its entry {both[0]} is a file and a folder")
    if empty := sorted({entry.filename for entry in places if entry.is_dir()} - {f"{name}/" for name in parents}):
        raise _damaged(path, [f"{name} is not in {MANIFEST}" for name in empty])
    return set(found)


def _fits(entry: zipfile.ZipInfo, size: int) -> bool:
    """Return whether an entry can be where an archive of `size` bytes says that it is, with as many bytes."""
    inside = entry.header_offset >= 0 and entry.header_offset + entry.compress_size <= size
    if entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1:  # a password takes some bytes
        return inside and entry.file_size == entry.compress_size
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        return inside and entry.file_size <= MOST_DEFLATED * entry.compress_size
    return inside


def is_path(name: str) -> bool:
    """Return whether a name is the relative path of a file, as POSIX and Windows read it, which both can write."""
    parts = name.split("/")
    with contextlib.suppress(UnicodeEncodeError):
        return (
            len(parts) <= MOST_PARTS
            and all(part not in ("", ".", "..") and len(part.encode()) <= MOST_PART_BYTES for part in parts)
            and not re.search(r"[\x00-\x1f\x7f\\:]", name)
        )
    return False


def _manifest(content: bytes, path: Path) -> dict[str, str]:
    """Return the checksum of each file of an archive, by name."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").rstrip("\n").split("\n"):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line.rstrip("\r"))
        if match is None:
            raise _damaged(path, [f"{MANIFEST} has a line that is no checksum and name: {line[:60]!r}"])
        found[match[2]] = match[1]
    return found


def _compare(entries: Iterable[str], listed: Iterable[str], path: Path) -> None:
    """Refuse an archive whose files are not those that its list of checksums names."""
    entries, listed = set(entries) - {MANIFEST}, set(listed)
    faults = [f"{name} is missing" for name in sorted(listed - entries)]
    faults += [f"{name} is not in {MANIFEST}" for name in sorted(entries - listed)]
    if METADATA not in listed:
        faults.insert(0, f"{METADATA} is missing")
    if faults:
        raise _damaged(path, faults)


def _content(file: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Return the content of one of the two files that an archive begins to be read by."""
    if name not in file.namelist():
        raise _refused(path, f"it has no {name}")
    size = file.getinfo(name).file_size
    if size > MOST_BYTES:
        raise _refused(path, f"its {name} has {size:,} bytes; at most {MOST_BYTES:,} are read")
    return file.read(name)


def _root_of(metadata: bytes, entries: Iterable[str], path: Path) -> str:
    """Return the folder of the study's results in an archive, by the crate's metadata: its one Dataset `results/...`.

    Raises:
        FileError: the crate is not one of a study, or of one that has no file in the archive.
    """
    try:
        graph: list[dict[str, Any]] = json.loads(metadata)["@graph"]
        ids = [unquote(str(entity["@id"])) for entity in graph if entity["@type"] == "Dataset"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _refused(path, f"its {METADATA} is no RO-Crate's") from None
    found = [name.rstrip("/") for name in ids if re.fullmatch(r"results/[^/]+/", name)]
    if len(found) != 1:
        raise _refused(path, f"its {METADATA} describes no study")
    if not is_path(found[0]) or not any(name.startswith(f"{found[0]}/") for name in entries):
        raise _refused(path, f"its {METADATA} describes the study {_shown(found[0])}, of which it has no file")
    return found[0]


def _digest(stream: IO[bytes], write: Callable[[bytes], Any] = len) -> str:
    """Return the SHA-256 of what a stream holds, and hand it on in parts."""
    digest = hashlib.sha256()
    while part := stream.read(CHUNK):
        digest.update(part)
        write(part)
    return digest.hexdigest()


def _finish(folder: Path) -> None:
    """Give the files below a folder one time, and the folder the permissions of any other."""
    now = time.time_ns()
    for place, _, files in os.walk(folder):
        for name in files:
            os.utime(Path(place, name), ns=(now, now))
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)


@contextlib.contextmanager
def _new_parents(folder: Path) -> Iterator[None]:
    """Make the folders that a new one is in, and remove those that were made where the block fails."""
    made = [parent for parent in folder.parents if not os.path.lexists(parent)]
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise not_written(folder, error) from error
        yield
    except BaseException:
        for parent in made:  # the innermost first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _leads_out(error: OSError) -> bool:
    """Return whether a damaged archive is read at a place that no file has."""
    return error.errno in (None, errno.EINVAL, errno.EOVERFLOW)


def _why(error: BaseException) -> str:
    """Return what is wrong with an archive, by what reading it raised."""
    if isinstance(error, OSError | LookupError | OverflowError | MemoryError | struct.error) or not str(error):
        return "it ends too early, or its list of entries is wrong"
    # Some quote the bytes of a name, of which a wrong length makes any number.
    return str(error).split("\n")[0][: 2 * MOST_SHOWN]


def _shown(name: str) -> str:
    """Return a name for a message: shortened, and quoted where it is not plain."""
    short = name if len(name) <= MOST_SHOWN else f"{name[: MOST_SHOWN // 2]}...{name[-MOST_SHOWN // 2 :]}"
    return short if is_path(name.removesuffix("/")) else repr(short)


def _damaged(path: Path, faults: list[str]) -> FileError:
    return FileError(f"{path} is damaged: {_some(faults, separator='; ')}; get it again")


def _refused(path: Path, why: str) -> FileError:
    return FileError(f"{path} is no archive that `nclens pack` has written: {why}")


def _exists(folder: Path) -> FileError:
    return FileError(f"{folder} exists already: choose another folder by --to, or remove it")


def _some(names: list[str], most: int = MOST_NAMES, separator: str = ", ") -> str:
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])
