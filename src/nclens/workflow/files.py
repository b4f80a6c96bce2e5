"""Files that stages meet in: written whole or not at all, checked when read, one writer at a time."""

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


#: The characters of a file's name that the name of its temporary file begins with: a name may be as long as a file
#: system allows, and this one has more.
MOST_OF_NAME = 40


class FileError(OSError):
    """A file that is missing, damaged or cannot be written; the message names it and what to do."""


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    A reader sees the old file or the new one, never a part; a full disk or a crash leaves nothing under the final name.

    Raises:
        FileError: the file cannot be written (folder not writable, disk full); says which and why.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:MOST_OF_NAME]}.", suffix=f".part{path.suffix}", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes private files; results are as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, FileError) or error.errno is None:
            raise
        raise not_written(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def no_folder(folder: Path) -> Path | None:
    """Return what stands in the place of a folder, or of one above it: a file, or a link to nothing; None for nothing.

    A folder that is not there yet can be made where this is None.
    """
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    return None if there is None or there.is_dir() else there


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file with sorted keys, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | Path, made_by: str) -> Any:
    """Read a JSON file that the rule `made_by` makes.

    Raises:
        FileError: the file is missing or damaged; names it and the rule that makes it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path, made_by) from None
    except ValueError as error:
        raise damaged(path, made_by, str(error)) from None


def not_written(path: str | Path, error: OSError) -> FileError:
    """Return the error that says why a file cannot be written."""
    if wrong := no_folder(Path(path).parent):
        return FileError(f"cannot write {path}: {wrong} is a file or a link to nothing; allowed: a folder")
    hint = " (free some space, then run the same command again)" if error.errno == errno.ENOSPC else ""
    return FileError(f"cannot write {path}: {os.strerror(error.errno or 0)}{hint}")


def missing(path: str | Path, made_by: str) -> FileError:
    """Return the error that says a file is missing, and which rule makes it."""
    return FileError(f"{path} is missing: the rule `{made_by}` makes it")


def damaged(path: str | Path, made_by: str, why: str) -> FileError:
    """Return the error that says a file is damaged, and how it is made again."""
    return FileError(f"{path} is damaged ({why}): delete it and run again, the rule `{made_by}` makes it again")


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(tensors: "Mapping[str, Tensor]") -> str:
    """Return the SHA-256 over names, types, shapes and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(as_bytes(tensor))
    return digest.hexdigest()


def as_bytes(tensor: "Tensor") -> Any:
    """Return the bytes of a tensor without a copy, where it is contiguous and in the CPU's memory."""
    import torch

    # A view as bytes serves every type that numpy lacks, bfloat16 among them.
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(dtype=torch.uint8).numpy().data if flat.numel() else b""


def detached(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return tensors as they are written: without gradients, contiguous, in the CPU's memory."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def write_tensors(path: str | Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors as safetensors with their digest in the header; return the digest."""
    from safetensors.torch import save_file

    plain = detached(tensors)
    digest = tensors_digest(plain)
    with atomic_write(path) as temporary:
        try:
            save_file(plain, temporary, metadata={**(metadata or {}), "sha256": digest})
        except OSError:
            raise
        except Exception as error:  # safetensors wraps a full disk in another type of error
            raise FileError(f"cannot write {path}: {error}") from error
    return digest


@contextlib.contextmanager
def opened(path: str | Path, made_by: str, framework: str = "pt") -> Iterator[Any]:
    """Yield an open file of safetensors, of PyTorch's tensors or, by `np`, of arrays.

    Raises:
        FileError: the file is missing or truncated; names it and the rule that makes it.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise missing(path, made_by)
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise damaged(path, made_by, str(error)) from None


def read_tensors(path: str | Path, made_by: str) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read tensors and their metadata, and check them against the digest in the header.

    Raises:
        FileError: the file is missing, truncated or altered; names it and the rule that makes it.
    """
    with opened(path, made_by) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if tensors_digest(tensors) != metadata.get("sha256"):
        raise damaged(path, made_by, "its content does not match its checksum")
    return tensors, metadata


def read_features(file: Path) -> "dict[str, Tensor]":
    """Read an .npz with `features` (N, d), `weight` (K, d), perhaps `bias` (K,), and what was to be predicted.

    That is `labels` (N,), class numbers, or, of a regressor, `targets` (N, K).

    Raises:
        ValueError: the file is no .npz, holds pickled objects, lacks one of the arrays, or has others.
    """
    from nclens.data import arrays as reader
    from nclens.data.numbers import refuse_unknown

    if not file.exists():
        raise ValueError(f"{file} does not exist")
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{file} is no .npz, which numpy.savez(FILE, features=..., labels=..., weight=...) writes")
    arrays = reader.read_arrays(file)
    wanted = "targets" if "targets" in arrays and "labels" not in arrays else "labels"
    refuse_unknown(arrays, ("features", wanted, "weight", "bias"), str(file))
    missing = [key for key in ("features", wanted, "weight") if key not in arrays]
    if missing:
        raise ValueError(
            f"{file} lacks {', '.join(missing)}; it needs features (N, d), weight (K, d), and labels (N,) or, of a "
            f"regressor, targets (N, K), and may have bias (K,); it has: {', '.join(arrays) or 'nothing'}"
        )
    return arrays


@contextlib.contextmanager
def exclusive(path: str | Path, what: str) -> Iterator[bool]:
    """Hold an operating-system lock on the file `path` while the block runs; yield whether another held it before.

    The lock dies with its process, however that ends, so a stage orphaned by a killed workflow and the stage that the
    next workflow starts never write together: the second one waits here.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        waited = False
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waited = True
            print(
                f"{what}: another process is still writing it; waiting for that one to end", file=sys.stderr, flush=True
            )
            lock.acquire()
    except OSError as error:
        raise FileError(f"cannot write {path.parent}: {error.strerror or error}") from error
    try:
        yield waited
    finally:
        lock.release()
