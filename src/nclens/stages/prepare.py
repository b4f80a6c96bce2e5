"""Prepare a data set once for all runs: stored as it is, with a manifest of what it is."""

from pathlib import Path
from typing import Any

from nclens.data.dataset import Dataset, channel_statistics
from nclens.data.sources import load_dataset
from nclens.files import write_json, write_tensors


def prepare(spec: dict[str, Any], data: Path, manifest: Path) -> None:
    """Write a data set's tensors and its manifest."""
    dataset = load_dataset(spec["entry"])
    digest = write_tensors(data, dataset.tensors)
    write_json(manifest, {"dataset": spec["dataset"], "sha256": digest, **describe(dataset)})


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what the manifest says of a data set, the checksum and its name aside."""
    mean, std = channel_statistics(dataset.train_inputs)
    return {
        "source": dataset.source,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "classes": dataset.classes,
        "shape": list(dataset.train_inputs.shape[1:]),
        "mean": mean,
        "std": std,
        "train": len(dataset.train_targets),
        "train_counts": dataset.train_targets.bincount().tolist(),
        "test": len(dataset.test_targets),
    }
