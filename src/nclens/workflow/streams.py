"""Where the files of streamed data are and how many processes read them: neither changes a result.

The workflow says both in the environment of its jobs. Without it the manifest says where the files were.
"""

import json
import os
from pathlib import Path
from typing import Any

from nclens.workflow.files import FileError, read_json

#: A JSON table: data set -> `root`, the folder, and `workers`.
VARIABLE = "NCLENS_STREAMS"
#: Workers where nothing says how many.
MOST_WORKERS = 8


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


def _of(dataset: str) -> dict[str, Any]:
    try:
        found = json.loads(os.environ.get(VARIABLE, "{}"))
        return dict(found.get(dataset, {}))
    except (ValueError, TypeError, AttributeError):
        raise FileError(f"{VARIABLE} must be a JSON table of data sets, each with `root` and `workers`") from None
