"""The files of torchvision's data sets: its addresses and checksums, our downloads.

torchvision's own download starts again from zero when it breaks, and writes over files that it takes for damaged. So
its download code runs with our functions in the place of those that fetch and unpack: first to learn which files a set
consists of, without touching anything, then, where something is missing, to fetch it.
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

#: The arguments of the two splits, training and test.
Arguments = Sequence[dict[str, Any]]

_ALTERED = (
    "{} is truncated or altered: it is not what its archive holds. It was neither used nor deleted; move it away or "
    "delete it, then run again"
)


def compare(archive: Path) -> None:
    """Compare a file with the verified .gz beside it that it was unpacked from, where both are there."""
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
    """Return the unpacked files for which torchvision has checksums."""
    listed = [*getattr(kind, "train_list", []), *getattr(kind, "test_list", [])]
    if hasattr(kind, "meta"):
        listed.append((kind.meta["filename"], kind.meta["md5"]))
    return [RawFile(f"{kind.base_folder}/{file}", f"md5:{md5}") for file, md5 in listed]


def archives_of(kind: type, arguments: Arguments) -> list[RawFile]:
    """Return the files that torchvision would download, learnt from its own code in an empty folder."""
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
            # It finds nothing to read, which is all that can go wrong: all archives are known by then.
            with contextlib.suppress(RuntimeError, OSError, TypeError):
                kind(folder, download=True, **chosen)
    return list(found.values())


def _described(kind: type, url: str, place: Path, md5: str | None, folder: Path) -> RawFile:
    """Return a file that torchvision asks for, with every mirror that it knows of it."""
    if md5 is None:
        raise ValueError(f"torchvision knows no checksum of {url}")
    mirrors = getattr(kind, "mirrors", ())
    mirror = next((mirror for mirror in mirrors if url.startswith(mirror)), None)
    urls = (url,) if mirror is None else tuple(other + url.removeprefix(mirror) for other in mirrors)
    return RawFile(str(place.relative_to(folder)), f"md5:{md5}", urls)


@contextlib.contextmanager
def downloads_into(raw: RawData, kind: type, needed: Sequence[RawFile]) -> Iterator[None]:
    """Let torchvision's download code fetch into the folder of raw data by our functions.

    Args:
        raw: the folder.
        kind: the data set's class.
        needed: all its files, packed and unpacked.
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
    """Let a class of torchvision fetch and unpack by other functions than its own."""
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
    """Unpack an archive beside its destination and move what is new there; what is there stays as it is.

    Raises:
        ValueError: a file that is there has other content than the archive's.
    """
    extract = import_torchvision().datasets.utils.extract_archive
    # A fixed name: what a killed process left behind is taken away here. One process at a time comes this far.
    unpacked = destination / f".{archive.name}.unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    try:
        extract(str(archive), str(unpacked))
        _settle(unpacked, destination)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _settle(unpacked: Path, destination: Path) -> None:
    """Move files to their destination, all of them or, where one is there with other content, none."""
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
