"""What a job requests from a cluster: minutes and memory, by measurement where a like run has ended, else by estimate.

A queue wants both before a job starts, and kills what exceeds them; a retry requests more (the rules multiply by the
attempt). So an estimate is generous, and a measured figure takes its place as soon as one run of the experiment is
there. This module is read at every parse and imports nothing heavy.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nclens.probes.catalogue import FORWARD_AND_BACKWARD, Size, probe_of
from nclens.workflow.specs import Entry, Extract, ProbeRun, Train, plain

#: Forward floating-point operations of one 32 x 32 image, 1e9; other sizes in proportion to their pixels.
GFLOPS = {
    "resnet8": 0.006,
    "resnet20": 0.08,
    "resnet18": 1.1,
    "resnet34": 2.3,
    "resnet50": 2.6,
    "vgg": 0.6,
    "mlp": 0.001,
}
#: Of a Transformer, for each parameter of a layer and token: a multiply-add. A layer has some 14 d^2 parameters.
_LAYER = 2 * 14
#: Seconds that measuring takes for a logit, most of them in the search for a temperature.
_MEASURED_LOGIT = 2e-6
#: What is assumed of a model that is not in the table.
GFLOPS_UNKNOWN = 2.0
#: Operations a second that training reaches on one CPU core and on a GPU, 1e9; modest ones of their kind.
RATES = {"cpu": 10.0, "cuda": 3000.0}
#: Interpreter, PyTorch and a safe rest, MB.
BASE_MB = 1500
#: Margins over what was measured.
MORE_TIME, MORE_MEMORY = 1.5, 1.3


class Needs(NamedTuple):
    """Wall time in minutes and main memory in MB, both whole and positive."""

    minutes: int
    memory_mb: int


def training_needs(spec: Train, manifest: Path, records: Iterable[Path]) -> Needs:
    """Return what a training run needs.

    Args:
        spec: the run in full.
        manifest: of its data set; where it is not there yet, an image of CIFAR-10's size and number is assumed.
        records: run.json files of the experiment's other runs; those that are there and ran on the same kind of
            device count.
    """
    training, devices = spec.training, spec.training.devices or 1
    measured = [record for record in map(_read, records) if record and _alike(record, spec)]
    if measured:
        seconds = max(record["wall_time"] for record in measured)
        memory = max(record["peak_memory_bytes"] for record in measured) / 1e6
        return Needs(math.ceil(MORE_TIME * seconds / 60) + 5, max(devices * BASE_MB, math.ceil(MORE_MEMORY * memory)))
    data = _read(manifest) or {}
    operations, values = _operations(spec.model, data)
    samples, evaluated = data.get("train", 50_000), data.get("test", 10_000)
    per_epoch = operations * (FORWARD_AND_BACKWARD * samples + evaluated)
    if spec.teacher is not None:
        # Its forward pass only, beside each of the student's.
        per_epoch += _operations(spec.teacher.model, data)[0] * (samples + evaluated)
    seconds = training.epochs * per_epoch / (1e9 * _rate(training.device) * devices)
    # Kept for the backward pass: about a byte for every hundred operations.
    at_once = training.batch_size // ((training.recipe and training.recipe.accumulate) or 1)
    # Each device's process has all data, and a part of the batch.
    memory = 2e-6 * values * (samples + evaluated) * devices + 1e-8 * operations * at_once
    return Needs(math.ceil(2 * seconds / 60) + 10, devices * BASE_MB + math.ceil(memory))


def measuring_needs(spec: Extract, manifest: Path, dim: int | None) -> Needs:
    """Return what extracting or measuring a run's snapshots needs.

    Args:
        spec: of the extraction.
        manifest: as above.
        dim: feature dimension d; None for unknown, 512 is assumed.
    """
    data = _read(manifest) or {}
    operations, values = _operations(spec.model, data)
    samples, logits = _samples(data), _logits(data)
    features = samples * (dim or 512)
    seconds = len(spec.snapshots) * (
        operations * samples / (1e9 * _rate(spec.device)) + 2e-7 * features + _MEASURED_LOGIT * sum(logits)
    )
    # One snapshot at a time: features in single precision, a copy, and chunks in double precision. Logits in single
    # precision, of one split in double precision with their probabilities and products.
    memory = (2 * 4 * features + 2 * values * samples + 4 * sum(logits) + 4 * 8 * max(logits, default=0)) / 1e6
    if spec.statistics is not None:
        work, memory = _of_statistics(samples, values, dim or 512, data)
        seconds += len(spec.snapshots) * (operations * samples / (1e9 * _rate(spec.device)) + work)
    return Needs(math.ceil(2 * seconds / 60) + 10, BASE_MB + math.ceil(memory))


def _of_statistics(samples: int, values: int, dim: int, data: Mapping[str, Any]) -> tuple[float, float]:
    """Return seconds beside the forward passes, and MB, of statistics in place of features."""
    classes = len(data.get("classes", range(10)))
    products = samples * dim * (3 * dim + 10 * classes)
    # Class means, their directions and scatter of both splits, with what is made of them; a few numbers of each
    # sample, twice; rows of a batch in double precision, and its logits; test logits in single and double precision.
    matrices = 8 * (12 * classes * dim + 6 * dim**2) + 8 * 4096 * (6 * dim + 12 * classes)
    tests = data.get("test", 10_000) + data.get("val", 0)
    memory = matrices + 2 * 100 * samples + 2 * values * samples + 16 * tests * classes
    return products / (1e9 * RATES["cpu"]), memory / 1e6


def probing_needs(spec: ProbeRun, manifests: Mapping[str, Path], dim: int | None) -> Needs:
    """Return what the probes of a run need.

    Args:
        spec: of the probes.
        manifests: of the run's data set and of those that its probes name, by name; as above.
        dim: feature dimension d; None for unknown, 512 is assumed.
    """
    data = _read(manifests[spec.dataset]) or {}
    operations, values = _operations(spec.model, data)
    loaded = samples = _samples(data)
    work = 0.0
    for probe in spec.probes:
        name = probe.arguments.get("dataset")
        other: dict[str, Any] = {"train": 0, "test": 0} if name is None else _read(manifests[name]) or {}
        own_shape = data.get("shape", [3, 32, 32])
        pixels = math.prod(other.get("shape", own_shape)) / math.prod(own_shape)
        size = Size(_samples(other), len(other.get("classes", range(100))), dim or 512, samples, pixels)
        cost = probe_of(probe.kind).cost(probe.arguments, size)
        loaded = max(loaded, samples + math.ceil(max(1.0, pixels) * size.samples))
        seconds = operations * cost.passes / _rate(spec.device) + cost.operations / RATES["cpu"]
        work += len(probe.snapshots) * seconds
    for own in spec.own_probes:
        other = {"train": 0, "test": 0} if own.dataset is None else _read(manifests[own.dataset]) or {}
        loaded = max(loaded, samples + _samples(other))
        # What a function of the user's computes is not known: taken for a gradient of every sample, split by split.
        passes = FORWARD_AND_BACKWARD * len(own.splits) * (samples + _samples(other))
        work += len(own.snapshots) * operations * passes / _rate(spec.device)
    # Inputs as they are stored and normalised, features twice in double precision.
    memory = (5 * values + 2 * 8 * (dim or 512)) * loaded / 1e6
    # Of sequences that are decoded, logits in single precision, and three times in double.
    decoded = max((probe.arguments["samples"] for probe in spec.probes if probe.kind == "decoding"), default=0)
    memory += 28 * min(decoded, data.get("test", 0)) * _target_length(data) * len(data.get("classes", ())) / 1e6
    return Needs(math.ceil(2 * work / 1e9 / 60) + 10, BASE_MB + math.ceil(memory))


def has_gpu() -> bool:
    """Return whether this machine looks as if it had a GPU, which PyTorch would tell too, in seconds."""
    nodes = [*Path("/dev").glob("nvidia[0-9]*"), Path("/dev/kfd"), Path("/dev/dxg")]
    return bool(os.environ.get("NCLENS_DEVICES")) or any(node.exists() for node in nodes)


def _values(data: Mapping[str, Any]) -> int:
    """Return the number of values of a sample that are held in memory: none of a stream."""
    return 0 if data.get("storage") == "stream" else math.prod(data.get("shape", [3, 32, 32]))


def _operations(model: Entry | None, data: Mapping[str, Any]) -> tuple[float, int]:
    """Return forward operations of a sample, and its values in memory; no operations without a network."""
    shape = data.get("shape", [3, 32, 32])
    if model is None:
        return 0.0, _values(data)
    if model.called == "transformer":
        sizes = model.arguments
        layers = sizes["encoder_layers"] + sizes["decoder_layers"]
        head = 2 * len(data.get("classes", [])) * sizes["width"] * _target_length(data)
        return _LAYER * layers * sizes["width"] ** 2 * math.prod(shape) + head, math.prod(shape)
    pixels = shape[1] * shape[2] if len(shape) == 3 else 1024
    return 1e9 * GFLOPS.get(model.called, GFLOPS_UNKNOWN) * pixels / 1024, _values(data)


def _target_length(data: Mapping[str, Any]) -> int:
    """Return the tokens of the longest target of sequences; 0 where it is not known."""
    return data.get("vocabulary", {}).get("longest_target", 0)


def _logits(data: Mapping[str, Any]) -> list[float]:
    """Return the numbers of logits of the measured tokens of each split of sequences; none of other data.

    Of those, features and inputs are the larger part.
    """
    if data.get("task") != "sequences":
        return []
    return [
        len(data["classes"]) * data["tokens"][split] * len(chosen) / data[split]
        for split, chosen in data["measured"].items()
    ]


def _samples(data: Mapping[str, Any]) -> int:
    return data.get("train", 50_000) + data.get("test", 10_000) + data.get("val", 0)


def _rate(device: str) -> float:
    return RATES["cpu" if device == "cpu" else "cuda"]


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's content; None when it is not there, or not whole: then nothing was measured."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _alike(record: Mapping[str, Any], spec: Train) -> bool:
    """Return whether a recorded run did as much work on the same kind of device."""
    try:
        found, wanted = record["spec"], plain(spec)
        same = all(found[key] == wanted[key] for key in ("dataset", "model", "training"))
        same = same and (found["teacher"] or {}).get("model") == (wanted["teacher"] or {}).get("model")
        return same and record["wall_time"] > 0 and record["peak_memory_bytes"] > 0
    except (KeyError, TypeError):
        return False
