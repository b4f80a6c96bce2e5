"""Take up networks that were trained elsewhere, or recorded features: the files of a run, as training would write them.

What follows reads the same files as after a training: snapshots, a history of no epoch, and what the run is.
"""

import datetime
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nclens.data.prepared import place_splits
from nclens.data.tasks import split_names, task_of
from nclens.models import count_flops, place_network
from nclens.models.preprocessing import Preprocessed
from nclens.training.history import STATISTICS
from nclens.training.loop import extract_features
from nclens.training.passes import Passes
from nclens.training.runtime import configure
from nclens.training.statistics import batch_statistics
from nclens.workflow import tables
from nclens.workflow.agreement import nc1_of
from nclens.workflow.build.checkpoints import (
    give_weights,
    is_of_transformers,
    read_by_transformers,
    read_recorded,
    read_weights,
    with_logits,
)
from nclens.workflow.build.models import network_of
from nclens.workflow.devices import device_slot
from nclens.workflow.epochs import write_epochs
from nclens.workflow.files import FileError, damaged, read_tensors, write_json
from nclens.workflow.paths import RunFolder
from nclens.workflow.provenance import git_revision, versions
from nclens.workflow.specs import PREPROCESSED, Ingest, plain
from nclens.workflow.streams import read_manifest
from nclens.workflow.user_files import checkpoints_digest

#: How far a test error may be from the expected one: half of a digit in percent with one decimal.
CLOSE = 5e-4

#: A message has the statistics of at most so many channels or columns.
MOST_CHANNELS = 4


def ingest(
    spec: Ingest,
    code: str,
    data: Path,
    manifest: Path,
    run: Path,
    checkpoints: Mapping[int, Path],
    digest: str = "",
    threads: int = 1,
) -> None:
    """Write RUN/snapshots.safetensors, RUN/run.json and the header of RUN/history.csv.

    What is done to the inputs, and the error of the last network on the test split, are printed before anything is
    written.

    Args:
        spec: which weights of the files are whose, and what they are to be.
        code: digest of the code, recorded in run.json.
        data, manifest: the prepared data set.
        run: folder of the run.
        checkpoints: the files, or folders of Hugging Face, by epoch.
        digest: of the files' contents when the workflow was planned; empty for none.
        threads: CPU threads.

    Raises:
        FileError: a file is missing, cannot be read, is another model's, or has changed since the workflow was planned.
        ValueError: the data or the test error are not those that the run is to have.
    """
    described, folder = read_manifest(manifest), RunFolder(run)
    if sorted(checkpoints) != sorted(spec.snapshots):
        raise FileError(f"{folder.name}: the files are of the epochs {sorted(checkpoints)}, not {list(spec.snapshots)}")
    last, *others = sorted(checkpoints, reverse=True)
    with device_slot(spec.device, folder.name) as device:
        configure(threads)
        source = _Features(described) if spec.model is None else _Networks(spec, data, described, device)
        snapshot, outputs = source.take(checkpoints[last]), source.outputs()
        values = _values(task_of(described), *outputs)
        _say(folder, f"{source.said}; epoch {last}, test split: {_shown(values)}")
        _check_error(spec, values, source.said)
        with write_epochs(folder.snapshots, spec.snapshots) as put:
            put(last, snapshot)
            for epoch in reversed(others):
                put(epoch, source.take(checkpoints[epoch]))
            found = checkpoints_digest(checkpoints)
            if digest not in ("", found):
                raise FileError(
                    f"{folder.name}: a file has changed since the workflow was planned: run the same command again, "
                    "which reads it as it is then"
                )
    tables.write_rows(tables.HISTORY[task_of(described)], folder.history, [])
    record = {
        "spec": plain(spec),
        "seed": spec.seed,
        "versions": versions(),
        "git_revision": git_revision(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": threads,
        "data_sha256": described["sha256"],
        "code": code,
        "checkpoints": {str(epoch): path.name for epoch, path in checkpoints.items()},
        "checkpoints_sha256": found,
        "preprocessing": source.said,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        **source.facts,
    }
    write_json(folder.run, record)


class _Networks:
    """Checkpoints of a model, whose weights become snapshots of a network.

    Attributes:
        said: what is done to the inputs, for messages.
        facts: what run.json says of the network.
    """

    def __init__(self, spec: Ingest, data: Path, manifest: dict[str, Any], device: torch.device) -> None:
        assert spec.model is not None
        self._spec, self._called = spec, f"`{spec.model.entry}`"
        tensors, metadata = read_tensors(data, "prepare")
        if metadata["sha256"] != manifest["sha256"]:
            raise damaged(data, "prepare", "it is not the file that its manifest describes")
        network = network_of(spec.model, manifest)
        chosen = spec.model.arguments if spec.model.name == PREPROCESSED else {"normalise": "data"}
        if isinstance(network.backbone, Preprocessed):
            network.backbone.fit(manifest, chosen["normalise"])
        self.said = _preprocessing(chosen, manifest)
        self._network = place_network(network, manifest["shape"], device)
        self._split = place_splits(tensors, manifest, device)[1]
        self.facts = {
            "parameters": sum(value.numel() for value in network.parameters()),
            "dim": network.head.in_features,
            "flops_per_sample": count_flops(network, manifest["shape"]),
        }

    def take(self, checkpoint: Path) -> dict[str, Tensor]:
        """Return the snapshot of a checkpoint."""
        key, prefix, called = self._spec.key, self._spec.prefix, self._called
        if key is None and prefix is None and is_of_transformers(self._network, checkpoint):
            weights = read_by_transformers(self._network, checkpoint, called)
        else:
            weights = read_weights(checkpoint, key, prefix)
        give_weights(self._network, weights, checkpoint, called)
        return {name: value.detach().to("cpu", copy=True) for name, value in self._network.state_dict().items()}

    @torch.no_grad()
    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return the outputs of the last checkpoint taken on the test split, and the targets."""
        passes = Passes(self._network, self._split, nc1_of)
        outputs = extract_features(self._network, self._split, passes.batch_size, passes.choose())[1]
        return outputs, self._split.targets.cpu()


class _Features:
    """Files of features that were recorded without a network; attributes as above."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self._manifest = manifest
        self.said = "recorded features, logits h W' + b"
        self.facts: dict[str, Any] = {}
        self._last: dict[str, Tensor] = {}

    def take(self, file: Path) -> dict[str, Tensor]:
        """Return the features of a file, which must be of as many samples and classes as the data set has."""
        found, manifest = read_recorded(file), self._manifest
        classes = len(manifest["classes"])
        if len(found["weight"]) != classes:
            message = f"{file}: weight has {len(found['weight'])} rows, and {manifest['dataset']} has {classes} classes"
            raise ValueError(message)
        for split in split_names(manifest):
            if f"{split}.targets" not in found:
                raise ValueError(
                    f"{file} lacks {split}_features and {split}_labels; allowed: the splits of {manifest['dataset']}, "
                    f"{', '.join(split_names(manifest))}"
                )
            labels = found[f"{split}.targets"]
            counts = labels.bincount(minlength=classes).tolist()
            if len(labels) != manifest[split] or len(counts) > classes:
                raise ValueError(
                    f"{file}: {split}_labels are {len(labels)} of {len(counts)} classes, and {manifest['dataset']} has "
                    f"{manifest[split]} samples of {classes} in that split; allowed: the data set that was recorded"
                )
            if split == "train" and counts != manifest["train_counts"]:
                raise ValueError(
                    f"{file}: train_labels are not those of {manifest['dataset']}: other counts of classes"
                )
        self.facts, self._last = {"dim": found["weight"].shape[1]}, found
        return found

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return the logits of the last file taken on the test split, and the labels."""
        return with_logits(self._last)["test.logits"], self._last["test.targets"]


def _preprocessing(chosen: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Return what is done to the inputs, as the study says it."""
    steps = [f"{key} {chosen[key]}" for key in ("resize", "crop") if chosen.get(key) is not None]
    statistics = chosen["normalise"]
    if statistics == "data":
        statistics = {key: manifest[key] for key in ("mean", "std")}
    if statistics == "none":
        return ", ".join([*steps, "not normalised"])
    shown = {key: [float(f"{value:.4g}") for value in statistics[key]] for key in ("mean", "std")}
    if max(map(len, shown.values())) > MOST_CHANNELS:
        return ", ".join(
            [*steps, f"normalised by {chosen['normalise'] if chosen['normalise'] == 'data' else 'columns'}"]
        )
    of_data = " of the data set" if chosen["normalise"] == "data" else ""
    return ", ".join([*steps, f"normalised by mean {shown['mean']} and std {shown['std']}{of_data}"])


def _values(task: str, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the statistics of a task on a split."""
    values = batch_statistics(task, outputs, targets)
    return {name: float(value) for name, value in zip(STATISTICS[task], values, strict=True)}


def _shown(values: dict[str, float]) -> str:
    """Return the statistics as a line of text.

    >>> _shown({"cross_entropy": 0.25, "error": 0.0827})
    'error 8.27%, cross entropy 0.25'
    """
    named = {
        name.replace("_", " "): f"{value:.2%}" if name == "error" else f"{value:.4g}" for name, value in values.items()
    }
    return ", ".join(f"{name} {text}" for name, text in sorted(named.items(), reverse=True))


def _check_error(spec: Ingest, values: dict[str, float], said: str) -> None:
    expected = spec.expected_error
    if expected is not None and not abs(values["error"] - expected) <= CLOSE:
        raise ValueError(
            f"the test error is {values['error']:.4f}, and expected_error = {expected:g}; at most {CLOSE:g} apart are "
            f"allowed. The inputs are {said}: see `normalise`, `resize` and `crop`, or the weights are others"
        )


def _say(run: RunFolder, text: str) -> None:
    print(f"{run.name}: {text}", file=sys.stderr, flush=True)
