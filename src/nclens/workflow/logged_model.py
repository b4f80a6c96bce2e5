"""The trained network of a run as an MLflow model: an exported graph that takes what the prepared data set holds."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nclens.workflow import tracking  # noqa: F401  (first: it sets what MLflow reads when it is imported)

# isort: split
import mlflow
import numpy as np
import torch
from mlflow.entities import Dataset, Metric
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn

from nclens.data.tasks import OUTPUTS, output_count, task_of
from nclens.data.tensors import Split
from nclens.workflow.build.functions import library_function
from nclens.workflow.build.models import network_of
from nclens.workflow.epochs import read_weights
from nclens.workflow.files import read_json, read_tensors
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import Entry, TrackRun

#: What the metadata of a model take over from its data set's manifest, beside the names of its outputs.
FACTS = ("mean", "std", "input_offset", "source_tokens", "vocabulary")


class Normalising(nn.Module):
    """A network that takes stored values, which it normalises as the training does.

    Args:
        network: takes normalised inputs.
        mean, std: in units of the stored values, broadcast over a batch of them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, stored: Tensor) -> Tensor:
        """Return the network's outputs for stored values."""
        return self.network(stored.to(torch.float32).sub(self.mean).div(self.std))


def log(run_id: str, root: Path, spec: TrackRun, record: Mapping[str, Any]) -> str:
    """Record the trained network of a run, with two training samples as its input example; return the model's ID.

    Of a stream the example is two grey images.

    Log it after the run's parameters, which the model takes over, and before the run's metrics. MLflow then links no
    metrics by itself, which takes a request for each; `linked` does.
    """
    manifest = read_json(StudyFolder(root).manifest(spec.dataset), "prepare")
    data, _ = read_tensors(StudyFolder(root).data(spec.dataset), "prepare")
    names = OUTPUTS[task_of(manifest)]
    network = network_of(Entry(**record["spec"]["model"]), manifest)
    read_weights(network, StudyFolder(root).run(spec.run).snapshots, spec.epoch)
    example, target = data["train.inputs"][:2].contiguous(), data["train.targets"][:2]
    if manifest.get("storage") == "stream":  # its images stay in their files, which may be gone
        example = torch.full((2, *manifest["shape"]), 128, dtype=torch.uint8)
    recorded: nn.Module
    if task_of(manifest) == "sequences":
        # By name, so that its code counts for sequences alone.
        recorded = library_function("nclens.models.encoder_decoder:AtEveryPlace")(network)
        form = _form(example.numpy(), *target.shape[1:], output_count(manifest))
    else:
        split = Split.place(example, target, manifest["mean"], manifest["std"], "cpu")
        # One value a channel: a split on the device has it for every pixel.
        mean, std = (values[..., :1, :1] if values.ndim == 4 else values for values in (split.mean, split.std))
        recorded, form = Normalising(network, mean.clone(), std.clone()), _form(example.numpy(), output_count(manifest))
    facts = {
        key: manifest[key]
        for key in ("mean", "std", "input_offset", "source_tokens", "vocabulary", names)
        if key in manifest
    }
    with mlflow.start_run(run_id=run_id):
        model = mlflow.pytorch.log_model(
            recorded.eval(),
            name=name_of(spec.loss, spec.seed),
            step=spec.epoch,
            metadata=facts,
            tags={"mlflow.note.content": _note(manifest, names)},
            **form,
        )
    return str(model.model_id)


def linked(metrics: Iterable[Metric], model_id: str, dataset: Dataset, epoch: int) -> Iterator[Metric]:
    """Yield metrics; those of the model's epoch belong to the model and to the data set that they were measured on.

    One that is not finite does not: MLflow would give the model 0 for nan.
    """
    for metric in metrics:
        if metric.step == epoch and math.isfinite(metric.value):
            of_model = {"model_id": model_id, "dataset_name": dataset.name, "dataset_digest": dataset.digest}
            yield Metric(metric.key, metric.value, metric.timestamp, metric.step, **of_model)
        else:
            yield metric


def name_of(loss: str, seed: int) -> str:
    """Return the name of a run's model. MLflow allows no point in it, which a loss's name may have."""
    return f"{loss.replace('.', '_')}-seed{seed}"


def save_one() -> None:
    """Save a network of one weight as an MLflow model, which imports and finds out what recording a run needs too."""
    with TemporaryDirectory() as folder:
        network = Normalising(nn.Linear(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
        mlflow.pytorch.save_model(network, Path(folder, "network"), **_form(np.zeros((2, 1), np.float32), 1))


def _form(example: np.ndarray, *outputs: int) -> dict[str, Any]:
    """Return the arguments by which MLflow exports a network: an input example, its signature, its requirements."""
    inputs = Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))])
    return {
        "input_example": example,
        "signature": ModelSignature(inputs, Schema([TensorSpec(np.dtype(np.float32), (-1, *outputs))])),
        "pip_requirements": ["torch"],
        "serialization_format": "pt2",  # an exported graph, no pickle
    }


def _note(manifest: Mapping[str, Any], names: str) -> str:
    """Return what a user of a recorded network must know: its inputs, its outputs and its mode."""
    shape = ", ".join(map(str, ("N", *manifest["shape"])))
    exported = (
        "The network is an exported graph, always in evaluation mode: PyTorch refuses eval() and train() on what "
        "mlflow.pytorch.load_model returns. Loaded by nclens.workflow.tracking.load_network it has eval()."
    )
    if task_of(manifest) == "sequences":
        sizes = manifest["vocabulary"]
        return (
            f"Input: int32 ({shape}), {sizes['longest_source']} source tokens, then {sizes['longest_target']} target "
            f"tokens, numbers of the metadata's source_tokens and classes, -1 behind the end. Output: logits, float32 "
            f"(N, {sizes['longest_target']}, {sizes['target']}), of each target token from the source and the earlier "
            f"target tokens. {exported}"
        )
    if len(manifest["shape"]) == 3:
        inputs = f"uint8 ({shape}), pixels from 0 to 255 as the data set holds them"
        formula, each = "(pixels / 255 - mean) / std", "channel"
    else:
        inputs = f"float32 ({shape}), rows as the data set holds them"
        formula, each = "(values - mean) / std", "column"
        if any(manifest.get("input_offset", ())):
            inputs += ", less the metadata's input_offset"
    scale = f"mean {manifest['mean']}, std {manifest['std']}" if len(manifest["mean"]) < 10 else "mean and std"
    outputs = "logits" if names == "classes" else "predictions"
    return (
        f"Input: {inputs}. The network normalises them: {formula} of each {each}, with the {scale} of the model's "
        f"metadata. Output: {outputs}, float32 (N, {len(manifest[names])}), in the order of the metadata's {names}. "
        f"{exported}"
    )
