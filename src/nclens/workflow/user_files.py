"""The digests of the user's own data files: an edit runs again what reads them, a touch or a move nothing.

A file's digest is the SHA-256 of its content, remembered by path, size and times, so that an unchanged file is read
once. A folder's is that of the sorted names, sizes and modification times in it: 100,000 files take less than a second.
The digests are read when the workflow is planned, so this module imports no heavy package.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nclens.data.hidden import TOOL_MADE
from nclens.workflow.files import FileError, sha256_of, write_json

#: The digest of what is not there, or cannot be read.
MISSING = "missing"
#: A file changed less than so many nanoseconds ago may change again with the same size and time.
SETTLED = 2_000_000_000


def digest_of(path: Path) -> str:
    """Return `sha256:...` of a file's content, `listing:...` of a folder, or `MISSING`."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return f"listing:{_listing(path)}"
        return f"sha256:{sha256_of(path)}" if stat.S_ISREG(mode) else MISSING
    except OSError:
        return MISSING


def _listing(folder: Path) -> str:
    """Return the SHA-256 of the sorted names, relative to the folder, sizes and modification times."""
    found: list[bytes] = []
    todo = [(os.fsencode(folder), b"")]
    while todo:
        parent, prefix = todo.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.name.startswith(b".") or os.fsdecode(entry.name).lower() in TOOL_MADE:
                    continue
                name = prefix + entry.name
                if not _is_folder(entry):
                    found.append(b"%b\0%d\0%d" % (name, *_size_and_time(entry)))
                    continue
                found.append(name + b"/")
                if not (entry.is_symlink() and _leads_back(entry.path, parent)):
                    todo.append((entry.path, name + b"/"))
    return hashlib.sha256(b"\0\0".join(sorted(found))).hexdigest()


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _size_and_time(entry: "os.DirEntry[bytes]") -> tuple[int, int]:
    try:
        found = entry.stat()
    except OSError:  # a link to nowhere
        found = entry.stat(follow_symlinks=False)
    return found.st_size, found.st_mtime_ns


def _leads_back(link: bytes, parent: bytes) -> bool:
    """Return whether a link to a folder leads to one that it is in."""
    target, inside = os.path.realpath(link), os.path.realpath(parent)
    return (inside + os.fsencode(os.sep)).startswith(target.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep))


def weight_files(checkpoint: Path) -> list[Path]:
    """Return the files of a checkpoint: itself, or those with weights in a folder of Hugging Face, all shards or one.

    Raises:
        ValueError: the folder has no weights.
    """
    if not checkpoint.is_dir():
        return [checkpoint]
    for pattern in ("model.safetensors", "model-*-of-*.safetensors", "pytorch_model.bin", "pytorch_model-*-of-*.bin"):
        if found := sorted(checkpoint.glob(pattern)):
            return found
    raise ValueError(
        f"{checkpoint} is a folder without weights; allowed: a folder of Hugging Face with its file `model` of "
        "safetensors, or pytorch_model.bin, whole or in shards"
    )


def checkpoints_digest(checkpoints: Mapping[int, Path], digest: Callable[[Path], str] = digest_of) -> str:
    """Return the digest of the contents of checkpoints by epoch; where they are is no part of it."""
    found = []
    for epoch, checkpoint in sorted(checkpoints.items()):
        with contextlib.suppress(ValueError):  # a folder without weights: the stage says so
            found += [[epoch, digest(file)] for file in weight_files(checkpoint)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


class Digests:
    """Digests of files and folders, those of files remembered in the file `cache`.

    The cache may be deleted or damaged, and two workflows may write it: what it lacks is computed again.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._found: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return the digest of a file or folder, as `digest_of` does, computed once in a process."""
        path = Path(os.path.abspath(path))
        if path not in self._found:
            self._found[path] = self._of_file(path) if path.is_file() else digest_of(path)
        return self._found[path]

    def _of_file(self, path: Path) -> str:
        state = _state(path)
        known = self._known().get(str(path))
        if isinstance(known, list) and len(known) == 2 and known[0] == state and isinstance(known[1], str):
            return known[1]
        digest = digest_of(path)
        newest = max(state[1:], default=0)
        if digest != MISSING and _state(path) == state and abs(time.time_ns() - newest) > SETTLED:
            # Read again: another workflow may have written meanwhile. A folder that cannot be written is no fault.
            with contextlib.suppress(OSError):
                write_json(self._cache, self._known() | {str(path): [state, digest]})
        return digest

    def _known(self) -> dict[str, object]:
        try:
            content = json.loads(self._cache.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _state(path: Path) -> list[int]:
    """Return size and times by which a file is known; empty where there is none."""
    try:
        found = path.stat()
    except OSError:
        return []
    # The second time changes with the content even where the first is set back, as `cp -p` and `rsync` do.
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


@contextlib.contextmanager
def unchanged(places: Mapping[str, Path], planned: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Let the block read files, and refuse what it read if they are no longer those that were planned with.

    Args:
        places: the files and folders by key.
        planned: their digests when the workflow was planned; those that it lacks are computed before the block.

    Yields:
        The digests by key, once the block has ended.

    Raises:
        FileError: a file has changed; names it. It is raised in place of the block's own error, which may follow from
            the change.
    """
    before = {key: planned.get(key) or digest_of(path) for key, path in places.items()}
    digests: dict[str, str] = {}
    try:
        yield digests
    except Exception:
        # What is missing, the block's error says better.
        _refuse_changes({key: path for key, path in places.items() if path.exists()}, before)
        raise
    digests |= _refuse_changes(places, before)


def _refuse_changes(places: Mapping[str, Path], before: Mapping[str, str]) -> dict[str, str]:
    digests = {key: digest_of(path) for key, path in places.items()}
    for key, path in places.items():
        if digests[key] != before[key]:
            raise FileError(
                f"{path} has changed since the workflow was planned: run the same command again, which reads it as it "
                "is then"
            )
    return digests
