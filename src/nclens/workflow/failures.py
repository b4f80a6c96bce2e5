"""Failures: the two kinds that would only happen again are remembered, and the machine's are explained.

Snakemake repeats a failed job whatever the reason (`retries`), and a person repeats the command. For a loss that is not
finite, or a network that does not fit its data, that would cost the same time for the same message. Such a failure is
kept beside the run with the identity of everything that it depends on. All else is tried again.
"""

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path

from nclens.workflow.files import FileError, read_json, write_json
from nclens.workflow.specs import Extract, Ingest, Train

#: Name of the record, in a run's folder.
RECORD = ".failed.json"


@contextlib.contextmanager
def remembered(run: Path, identity: str) -> Iterator[None]:
    """Remember a failure of the block that would recur; raise it at once, the block not run, if it is remembered.

    These are a `NonFiniteError` of the loss and an `UnfitError` of data and model. Whatever else fails, the import of
    the user's file among it, may go better the next time.

    Args:
        run: the run's folder.
        identity: digest of everything that the block depends on: with another one it is tried again.
    """
    record = run / RECORD
    _raise_again(record, identity)
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        if type(error).__name__ in _kinds():
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            content = {"identity": identity, "kind": type(error).__name__, "message": str(error), "failed": now}
            write_json(record, content)
        raise
    record.unlink(missing_ok=True)


def _kinds() -> dict[str, type[ValueError] | type[FloatingPointError]]:
    """Return the errors that are remembered, by name."""
    # With PyTorch, which takes seconds to load.
    from nclens.models.network import UnfitError
    from nclens.training.loop import NonFiniteError

    return {kind.__name__: kind for kind in (UnfitError, NonFiniteError)}


@contextlib.contextmanager
def enough_memory(spec: Train | Ingest | Extract) -> Iterator[None]:
    """Turn a lack of memory inside a stage that runs a network into one message: how large, and what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        from nclens.models.memory import is_out_of_memory  # with PyTorch, which takes seconds to load

        if not is_out_of_memory(error):
            raise
        called = f"model `{spec.model.entry}` ({spec.model.called})" if spec.model else "recorded features"
        if isinstance(spec, Train):
            size, lower = f"training.batch_size = {spec.training.batch_size}", "lower training.batch_size, "
        else:
            size, lower = "batches for evaluation, of at most 250 samples", ""
        detail = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"out of memory with {called} and {size}: {lower}take a smaller model, or let fewer jobs run at once "
            f"(--cores; on a GPU, the profile's limit of `gpu`). It said: {detail}"
        ) from error


@contextlib.contextmanager
def lost_readers() -> Iterator[None]:
    """Turn PyTorch's error about a killed process that reads images into one message.

    It may rise anywhere in the process that trains: a signal brings it.

    Raises:
        OSError: such a process was killed.
    """
    try:
        yield
    except RuntimeError as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not said.startswith("DataLoader worker"):
            raise
        raise OSError(
            f"a process that reads images was killed; the same command goes on. Where memory or /dev/shm is short, "
            f"lower `workers` of the data set, or let fewer jobs run at once (--cores). PyTorch says: {said}"
        ) from error


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Replace PyTorch's errors about unsupported options by one readable message.

    Raises:
        OSError: `compile` is set and this machine cannot compile.
        ValueError: `deterministic` is set and the network has an operation without a deterministic implementation.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "does not have a deterministic implementation" in text:
            message = (
                f"training.deterministic is true, but {text.split(' does')[0]} has no deterministic implementation"
            )
            raise ValueError(f"{message}; set it to false, or choose another model") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next((line for line in reversed(text.splitlines()) if "Error" in line or "ompiler" in line), text)
        raise OSError(
            "training.compile is true, but PyTorch cannot compile the network on this machine; on a CPU it needs a C++ "
            f"compiler (g++, or the one in the variable CXX). Install one, or set it to false. PyTorch says: {reason}"
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
        same, kind, message = known["identity"] == identity, _kinds()[known["kind"]], known["message"]
    except (FileError, KeyError, TypeError):
        same = False  # damaged: as good as none
    if not same:
        record.unlink()
        return
    raise kind(
        f"{message}\n(It failed with this message before ({record}), and nothing that it depends on has changed since, "
        f"so it was not tried again. To try all the same: nclens retry {record.parent})"
    )
