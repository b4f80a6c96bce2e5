"""Prepare a data set once for all runs: stored as it is, with a manifest of what it is."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nclens.data.alterations import altered
from nclens.data.chosen_classes import choose_classes
from nclens.data.dataset import Splits
from nclens.data.raw import RawData
from nclens.workflow.build.data import load_dataset
from nclens.workflow.files import write_json, write_tensors
from nclens.workflow.specs import Prepare, user_places
from nclens.workflow.streams import workers_of
from nclens.workflow.user_files import unchanged


def prepare(
    spec: Prepare,
    data: Path,
    manifest: Path,
    data_dir: Path = Path("data"),
    paths: Mapping[str, str] | None = None,
    digests: Mapping[str, str] | None = None,
) -> None:
    """Write a data set's tensors and its manifest.

    Args:
        spec: the data set's name and entry.
        data, manifest: the files to write.
        data_dir: the folder of raw data, shared by all studies.
        paths: the paths of the user's files that the entry is read from, by key.
        digests: digests of the user's data files when the workflow was planned, by key.

    Raises:
        ValueError, OSError: the data cannot be had, have changed or do not fit; names the data set, the file and what
            to do.
    """
    dataset, described = read(spec, data_dir, paths, digests)
    digest = write_tensors(data, dataset.tensors)
    write_json(manifest, {"dataset": spec.dataset, "sha256": digest, **described})


def read(
    spec: Prepare,
    data_dir: Path = Path("data"),
    paths: Mapping[str, str] | None = None,
    digests: Mapping[str, str] | None = None,
) -> tuple[Splits, dict[str, Any]]:
    """Return a data set and what the manifest says of it, as `prepare` writes them."""

    def say(text: str) -> None:
        print(f"{spec.dataset}: {text}", file=sys.stderr, flush=True)

    paths = paths or {}
    # What a function reads it finds itself.
    entry = spec.arguments | {key: place for key, place in paths.items() if not key.startswith("files.")}
    normalisation = entry.pop("normalisation", None)
    alterations = {key: entry.pop(key, None) for key in ("imbalance", "label_noise")}
    if "stream" in entry:
        entry["stream"] = entry["stream"] | {"workers": workers_of(spec.dataset)}
    numbers = [one for one in entry.get("classes") or () if isinstance(one, int)]  # of `arrays` it may be names
    if numbers:
        entry = {key: value for key, value in entry.items() if key != "classes"}
        entry |= {"classes": None} if entry.get("source") == "arrays" else {}
    with unchanged(user_places(paths, data_dir), digests or {}) as files:
        dataset = load_dataset(entry, RawData(data_dir.expanduser(), say))
    dataset = altered(choose_classes(dataset, numbers) if numbers else dataset, **alterations)
    described = describe(dataset, normalisation)
    if columns := [j for j, offset in enumerate(described.get("input_offset", ())) if offset]:
        say(f"columns {columns} of the inputs are stored less their mean, as float32 would round them (input_offset)")
    return dataset, described | ({"files": files} if files else {})


def describe(dataset: Splits, normalisation: dict[str, list[float]] | None = None) -> dict[str, Any]:
    """Return what the manifest says of a data set, the checksum and its name aside.

    Args:
        dataset: the data set.
        normalisation: mean and standard deviation to normalise by, per channel scaled to [0, 1] or per column; None
            takes those of the training split.

    Raises:
        ValueError: `normalisation` is not of as many channels or columns as the inputs.
    """
    if normalisation is None:
        mean, std = dataset.statistics
    else:
        mean, std = normalisation["mean"], normalisation["std"]
    if normalisation is not None and len(mean) != dataset.input_shape[0]:
        raise ValueError(f"normalisation has {len(mean)} channels or columns, the inputs have {dataset.input_shape[0]}")
    if normalisation is not None and (offsets := dataset.facts.get("input_offset")):
        # Stored values lack the offset, so their mean does too.
        mean = [value - offset for value, offset in zip(mean, offsets, strict=True)]
    return {
        "source": dataset.source,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "task": dataset.task,
        **dataset.target_facts,
        "shape": dataset.input_shape,
        "mean": mean,
        "std": std,
        "train": len(dataset.train_targets),
        "test": len(dataset.test_targets),
        # A manifest without `val` has its held-out samples in the test split (`nclens.data.tasks.held_out_split`).
        **({"val": len(dataset.val_targets), "held_out": "val"} if dataset.val_targets is not None else {}),
        **dataset.facts,
    }
