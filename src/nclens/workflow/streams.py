"""Where the files of streamed data are and how many processes read them: neither changes a result.

The workflow says both in the environment of its jobs. Without it the manifest says where the files were.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nclens.workflow.files import FileError, read_json

#: A JSON table: data set -> `root`, the folder, and `workers`.
VARIABLE = "NCLENS_STREAMS"
#: Workers where nothing says how many.
MOST_WORKERS = 8
#: Stages that read images.
READERS = ("prepare", "train", "ingest", "extract", "probe")
#: What Snakemake sets to the cores of a job, and libraries read when they are loaded.
THREADS = (
    *("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest of a data set; of a stream with where its files are now, and how many processes read them.

    Raises:
        FileError: the manifest is missing or damaged.
    """
    manifest: dict[str, Any] = read_json(path, "prepare")
    if manifest.get("storage") != "stream":
        return manifest
    name = manifest["dataset"]
    return manifest | {"root": _of(name).get("root", manifest["root"]), "workers": workers_of(name)}


def workers_of(dataset: str) -> int:
    """Return the number of processes that read the files of a data set, at most one a core of this process.

    The processes of a training on several devices share the cores of a machine; torchrun says how many there are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(int(_of(dataset).get("workers", MOST_WORKERS)), max(1, cores // sharing))


def share_cores(arguments: list[str]) -> None:
    """Divide the cores of a job that reads streams, `OMP_NUM_THREADS`, between its own threads and its workers.

    The rules ask for a core for each device and one for each of its workers, so that each device has one thread. A job
    that got fewer cores has fewer workers, at least one; one that got more, by `--set-threads`, has more threads.

    Args:
        arguments: those of `nclens`, the stage first; the value of `--threads` is changed, as the environment is. Those
            of other jobs stay.
    """
    try:
        spec = json.loads(_option(arguments, "--spec") or "{}") if {*arguments[:1]} & {*READERS} else {}
        asked = {name: int(_of(name)["workers"]) for name in {*_datasets(spec)} if "workers" in _of(name)}
    except (ValueError, TypeError, OSError):
        return  # the stage says what is wrong
    if not asked:
        return
    devices = (spec.get("training") or {}).get("devices") or 1
    cores = int(os.environ.get("OMP_NUM_THREADS", "1")) // devices
    threads = max(1, cores - max(asked.values()))
    for name in THREADS:
        os.environ[name] = str(threads)
    if _option(arguments, "--threads") is not None:
        arguments[arguments.index("--threads") + 1] = str(devices * threads)
    workers = {name: {**_of(name), "workers": min(most, max(1, cores - threads))} for name, most in asked.items()}
    os.environ[VARIABLE] = json.dumps(json.loads(os.environ[VARIABLE]) | workers)


def _option(arguments: list[str], name: str) -> str | None:
    """Return the value of an option, None where it is not given."""
    return arguments[arguments.index(name) + 1] if name in arguments[:-1] else None


def _datasets(content: Any) -> Iterator[str]:
    """Yield the data sets that a specification names, those of its probes too."""
    if isinstance(content, dict):
        if isinstance(content.get("dataset"), str):
            yield content["dataset"]
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from _datasets(item)


def _of(dataset: str) -> dict[str, Any]:
    try:
        found = json.loads(os.environ.get(VARIABLE, "{}"))
        return dict(found.get(dataset, {}))
    except (ValueError, TypeError, AttributeError):
        raise FileError(f"{VARIABLE} must be a JSON table of data sets, each with `root` and `workers`") from None
