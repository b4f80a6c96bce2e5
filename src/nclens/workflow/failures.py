"""Failures that would only happen again: remembered, and reported at once the next time.

Snakemake repeats a failed job whatever the reason (`retries`), and a person repeats the command. A killed process or a
full disk deserves that; a loss that is not finite, or a network that does not fit its inputs, would cost the same time
for the same message. Such a failure is kept beside the run with the identity of everything that it depends on.
"""

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path

from nclens.workflow.files import FileError, read_json, write_json
from nclens.workflow.specs import Extract, Train

#: Name of the record, in a run's folder.
RECORD = ".failed.json"

KINDS = {kind.__name__: kind for kind in (ValueError, FloatingPointError)}


@contextlib.contextmanager
def remembered(run: Path, identity: str) -> Iterator[None]:
    """Remember a deterministic failure of the block; raise it at once, the block not run, if it is remembered already.

    Deterministic are a ValueError and a FloatingPointError, unless what caused them lies outside the run: a file, the
    memory, a package that is not installed.

    Args:
        run: the run's folder.
        identity: digest of everything that the block depends on: with another one it is tried again.
    """
    record = run / RECORD
    _raise_again(record, identity)
    try:
        yield
    except tuple(KINDS.values()) as error:
        if not _comes_from_outside(error):
            kind = next(name for name, known in KINDS.items() if isinstance(error, known))
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            write_json(record, {"identity": identity, "kind": kind, "message": str(error), "failed": now})
        raise
    record.unlink(missing_ok=True)


@contextlib.contextmanager
def enough_memory(spec: Train | Extract) -> Iterator[None]:
    """Turn a lack of memory inside a stage that runs a network into one message: how large, and what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        from nclens.models.memory import is_out_of_memory  # with PyTorch, which takes seconds to load

        if not is_out_of_memory(error):
            raise
        called = f"model `{spec.model.entry}` ({spec.model.called})"
        if isinstance(spec, Train):
            size, lower = f"training.batch_size = {spec.training.batch_size}", "lower training.batch_size, "
        else:
            size, lower = "batches for evaluation, of at most 250 samples", ""
        detail = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"out of memory with {called} and {size}: {lower}take a smaller model, or let fewer jobs run at once "
            f"(--cores; on a GPU, the profile's limit of `gpu`). It said: {detail}"
        ) from error


def forget_failures(root: Path) -> list[Path]:
    """Delete the records of a run, or of all runs below a folder, and return them; the runs are then tried again."""
    records = sorted(root.rglob(RECORD))
    for record in records:
        record.unlink()
    return records


def _raise_again(record: Path, identity: str) -> None:
    if not record.is_file():
        return
    try:
        known = read_json(record, "train")
        same, kind, message = known["identity"] == identity, KINDS[known["kind"]], known["message"]
    except (FileError, KeyError, TypeError):
        same = False  # damaged: as good as none
    if not same:
        record.unlink()
        return
    raise kind(
        f"{message}\n(It failed with this message before ({record}), and nothing that it depends on has changed since, "
        f"so it was not tried again. To try all the same: nclens retry {record.parent})"
    )


def _comes_from_outside(error: BaseException) -> bool:
    from nclens.models.memory import is_out_of_memory

    cause = error.__cause__
    if cause is None:
        return False
    return isinstance(cause, OSError | ImportError) or is_out_of_memory(cause) or _comes_from_outside(cause)
