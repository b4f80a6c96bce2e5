"""The files of torchvision's data sets: torchvision's addresses and checksums, our downloads.

torchvision's own download cannot be resumed, and overwrites files with a wrong checksum. Its download code therefore
runs with our functions in place of those that download and unpack: first without side effects, to list the files of a
data set, then to download the missing ones.
"""

import contextlib
import filecmp
import gzip
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nclens._torchvision import import_torchvision
from nclens.data.raw import RawData, RawFile

#: Keyword arguments of the training and of the test split.
Arguments = Sequence[dict[str, Any]]

_ALTERED = (
    "{} is truncated or altered: it differs from its archive. It was neither used nor deleted; move or delete it, then "
    "run again"
)


def compare(archive: Path) -> None:
    """Compare a verified .gz with the unpacked file beside it, if both exist.

    Raises:
        ValueError: they differ.
    """
    unpacked = archive.with_suffix("")
    if archive.suffix != ".gz" or not archive.is_file() or not unpacked.is_file():
        return
    with gzip.open(archive) as packed, open(unpacked, "rb") as plain:
        while part := packed.read(2**20):
            if plain.read(len(part)) != part:
                raise ValueError(_ALTERED.format(unpacked))
        if plain.read(1):
            raise ValueError(_ALTERED.format(unpacked))


def unpacked_of(kind: Any) -> list[RawFile]:
    """Return the unpacked files whose checksums torchvision knows."""
    listed = [*getattr(kind, "train_list", []), *getattr(kind, "test_list", [])]
    if hasattr(kind, "meta"):
        listed.append((kind.meta["filename"], kind.meta["md5"]))
    return [RawFile(f"{kind.base_folder}/{file}", f"md5:{md5}") for file, md5 in listed]


def archives_of(kind: type, arguments: Arguments) -> list[RawFile]:
    """Return the files that torchvision would download, found by a dry run of its code in an empty folder."""
    found: dict[str, RawFile] = {}

    def note(url: str, root: Any, filename: Any = None, md5: str | None = None, **options: Any) -> None:
        file = _described(kind, url, Path(root) / (filename or Path(url).name), md5, nowhere)
        found.setdefault(file.path, file)

    def note_archive(
        url: str, download_root: Any, extract_root: Any = None, filename: Any = None, md5: str | None = None, **_: Any
    ) -> None:
        note(url, download_root, filename, md5)

    with tempfile.TemporaryDirectory() as folder, _replaced(kind, note, note_archive, lambda *a, **b: None):
        nowhere = Path(folder)
        for chosen in arguments:
            # Reading fails in an empty folder, but by then all archives are known.
            with contextlib.suppress(RuntimeError, OSError, TypeError):
                kind(folder, download=True, **chosen)
    return list(found.values())


def _described(kind: type, url: str, place: Path, md5: str | None, folder: Path) -> RawFile:
    """Return a file that torchvision would download, with all its mirrors."""
    if md5 is None:
        raise ValueError(f"torchvision has no checksum for {url}")
    mirrors = getattr(kind, "mirrors", ())
    mirror = next((mirror for mirror in mirrors if url.startswith(mirror)), None)
    urls = (url,) if mirror is None else tuple(other + url.removeprefix(mirror) for other in mirrors)
    return RawFile(str(place.relative_to(folder)), f"md5:{md5}", urls)


@contextlib.contextmanager
def downloads_into(raw: RawData, kind: type, needed: Sequence[RawFile]) -> Iterator[None]:
    """Let torchvision's download code use our functions, which download into the folder of raw data.

    Args:
        raw: the folder of raw data.
        kind: the data set's class.
        needed: all its files, packed and unpacked, for the error message.
    """

    def fetch(url: str, root: Any, filename: Any = None, md5: str | None = None, **_: Any) -> Path:
        return raw.fetch(_described(kind, url, Path(root) / (filename or Path(url).name), md5, raw.folder), needed)

    def fetch_and_unpack(
        url: str, download_root: Any, extract_root: Any = None, filename: Any = None, md5: str | None = None, **_: Any
    ) -> None:
        unpack(fetch(url, download_root, filename, md5), extract_root or download_root)

    def unpack(from_path: Any, to_path: Any = None, **_: Any) -> None:
        raw.say(f"unpacking {Path(from_path).name}")
        _unpack(Path(from_path), Path(to_path or Path(from_path).parent))

    with _replaced(kind, fetch, fetch_and_unpack, unpack):
        yield


@contextlib.contextmanager
def _replaced(kind: type, *replacements: Callable[..., Any]) -> Iterator[None]:
    """Temporarily replace the functions with which a class of torchvision downloads and unpacks."""
    names = ("download_url", "download_and_extract_archive", "extract_archive")
    modules = [sys.modules[base.__module__] for base in kind.__mro__ if base.__module__.startswith("torchvision.")]
    own = [(module, name, getattr(module, name)) for module in modules for name in names if hasattr(module, name)]
    try:
        for module, name, _ in own:
            setattr(module, name, dict(zip(names, replacements, strict=True))[name])
        yield
    finally:
        for module, name, function in own:
            setattr(module, name, function)


def _unpack(archive: Path, destination: Path) -> None:
    """Unpack an archive into a temporary folder and move new files to the destination; existing ones are kept.

    Raises:
        ValueError: an existing file differs from the archive's.
    """
    extract = import_torchvision().datasets.utils.extract_archive
    # A fixed name, so that the remains of a killed process are removed. The lock admits only one process.
    unpacked = destination / f".{archive.name}.unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    try:
        extract(str(archive), str(unpacked))
        _settle(unpacked, destination)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _settle(unpacked: Path, destination: Path) -> None:
    """Move all files to their destination, or none if an existing file has other content."""
    for path in sorted(unpacked.rglob("*")):
        target = destination / path.relative_to(unpacked)
        if path.is_file() and target.is_file() and not filecmp.cmp(path, target, shallow=False):
            raise ValueError(_ALTERED.format(target))
    _move(unpacked, destination)


def _move(unpacked: Path, destination: Path) -> None:
    for path in sorted(unpacked.iterdir()):
        target = destination / path.name
        if not target.exists():
            path.rename(target)
        elif path.is_dir():
            _move(path, target)
