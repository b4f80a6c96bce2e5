"""What `nclens check --data` and `--model` try: each data set is read, each network and loss of the user's called."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nclens.data.dataset import Splits
from nclens.data.labels import listed
from nclens.data.shares import repeated
from nclens.data.tasks import OUTPUTS, task_of
from nclens.data.tensors import Split
from nclens.models import FeatureMap, Network, layers_of
from nclens.models.network import try_out
from nclens.study import ConfigError, Study
from nclens.study.experiments import Experiment
from nclens.training.loop import parts_of
from nclens.workflow import specs
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import network_of
from nclens.workflow.stages.prepare import read

#: Training samples of a trial's forward pass: batch normalisation needs two.
TRIED = 2

#: Data set -> its splits, and what its manifest will say.
Read = dict[str, tuple[Splits, dict[str, Any]]]


def read_data(study: Study, data_dir: Path) -> Read:
    """Return the data sets of a study, read as `prepare` reads them, downloads included.

    Raises:
        ConfigError: names every data set that cannot be read, and why.
    """
    found: Read = {}
    faults = []
    for name, entry in study.datasets.items():
        try:
            found[name] = read(specs.prepare(study, name), data_dir, specs.user_paths(entry))
        except (ValueError, OSError) as error:
            faults.append(f"datasets.{name}: {error}")
    _refuse(faults)
    return found


def described_data(data: Read) -> Iterator[str]:
    """Yield a line on each data set: sizes of its splits, shape of an input, number of classes or targets, classes.

    Another line says where two splits are the same samples.
    """
    for name, (splits, manifest) in data.items():
        task = task_of(manifest)
        # Masks have the names of their classes where labels have them.
        names = OUTPUTS.get(task, "classes")
        outputs = len(manifest[names])
        read, counted = ("sequences", "tokens") if task == "sequences" else ("samples", "samples")
        sizes = f"{manifest['train']:,} training and {manifest['test']:,} test {read}"
        sizes += f", {manifest['val']:,} validation {read}" if "val" in manifest else ""
        line = f"{name}: {sizes} of shape {tuple(manifest['shape'])}, {outputs} {names}"
        if (counts := manifest.get("train_counts")) is not None:
            low, high = min(counts), max(counts)
            line += f" of {low:,} training {counted}" if low == high else f" of {low:,} to {high:,} training {counted}"
            line += f": {listed(manifest['classes'])}"
        yield line
        # Only a function of the user's own may return such splits.
        inputs, targets = ({split: part[place] for split, part in splits.parts.items()} for place in (0, 1))
        if same := repeated(inputs, targets):
            yield f"{name}: the splits {' and '.join(same)} are the same samples"


def check_batches(study: Study, data: Read) -> None:
    """Refuse batches of more samples than a training split has.

    Raises:
        ConfigError: names every experiment that has such batches.
    """
    faults = []
    for name, entry in study.experiments.items():
        if not isinstance(entry, Experiment) or not entry.own:
            continue
        size, there = entry.training.batch_size, data[entry.dataset][1]["train"]
        if size > there:
            faults.append(
                f"experiments.{name}.training.batch_size = {size:,}: {entry.dataset} has {there:,} training samples; "
                "allowed: at most that many"
            )
    _refuse(faults)


def tried_networks(study: Study, data: Read) -> Iterator[str]:
    """Yield a line on each network of the study, which is built and called once in training mode: its head, d and K.

    Losses of the user's own are called on its logits, and their gradient is taken.

    Raises:
        ConfigError: names every network and loss that fails, and why.
    """
    faults = []
    for experiment, dataset, model, losses in _distinct(study):
        place = f"models.{model} on {dataset}"
        try:
            network, features, logits, targets = _called(_trained(study, experiment, model), *data[dataset])
        except (ValueError, RuntimeError) as error:
            faults.append(f"{place}: {error}")
            continue
        outputs, dim = network.head.weight.shape
        if (declared := study.models[model].dim) not in (None, dim):
            faults.append(f"{place}: dim = {declared}, but its features have {dim} dimensions")
        weights = sum(parameter.numel() for parameter in network.parameters())
        names = "n" if task_of(data[dataset][1]) == "regression" else "K"
        yield f"{place}: linear head `{network.head_path}`, d = {dim}, {names} = {outputs}, {weights:,} parameters"
        for probe, entry in _probes_of(study, dataset, model):
            if (asked := getattr(entry, "directions", None)) is not None and asked > dim:
                faults.append(
                    f"probes.{probe} on {place}: directions = {asked}, but its features have {dim} dimensions"
                )
            if getattr(entry, "kind", None) == "segmentation":
                try:
                    maps = FeatureMap(network, data[dataset][1]["shape"])
                    yield f"{place}: feature map of probes.{probe}: {maps.channels} channels, stride {maps.stride}"
                except ValueError as error:
                    faults.append(f"probes.{probe} on {place}: {error}")
            if getattr(entry, "kind", None) != "layers":
                continue
            try:
                layers = enumerate(layers_of(network.backbone, getattr(entry, "names", None)), start=1)
                yield f"{place}: layers of probes.{probe}: " + ", ".join(f"{n} `{one}`" for n, one in layers)
            except ValueError as error:
                faults.append(f"probes.{probe} on {place}: {error}")
        for loss in losses:
            try:
                run = study.run(experiment, loss, min(study.experiments[experiment].seeds))
                counts = data[dataset][1].get("train_counts")
                tried = build_loss(specs.train(study, run).loss, study.experiments[experiment].epochs, counts=counts)
                found = tried(logits, targets, **parts_of(network, features, tried.needs)).mean()
                if not found.requires_grad:
                    raise ValueError("does not depend on the network's outputs: it has no gradient")
                found.backward(retain_graph=True)
            except (ValueError, RuntimeError) as error:
                faults.append(f"losses.{loss} on {dataset}: {error}")
    _refuse(faults)


def _distinct(study: Study) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield (experiment, data set, model, the user's own losses) for each pair of data set and model."""
    seen: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for name, entry in study.experiments.items():
        # `ingest` reads networks that were trained elsewhere; those of another study are trained there.
        if not isinstance(entry, Experiment) or not entry.own:
            continue
        for loss in entry.own:
            _, losses = seen.setdefault((entry.dataset, entry.model_of(loss)), (name, []))
            if getattr(study.losses[loss], "function", None) and loss not in losses:
                losses.append(loss)
    for (dataset, model), (experiment, losses) in seen.items():
        yield experiment, dataset, model, losses


def _probes_of(study: Study, dataset: str, model: str) -> Iterator[tuple[str, Any]]:
    """Yield the probes of a model on a data set, by name, with their entries."""
    fitting = (
        entry
        for entry in study.experiments.values()
        if isinstance(entry, Experiment) and entry.dataset == dataset
        if model in {entry.model_of(loss) for loss in entry.own}
    )
    for probe in dict.fromkeys(probe for entry in fitting for probe in entry.probes):
        yield probe, study.probes[probe]


def _trained(study: Study, experiment: str, model: str) -> specs.Train:
    """Return the first run of an experiment with a model."""
    entry = study.trained(experiment)
    loss = next(loss for loss in entry.own if entry.model_of(loss) == model)
    return specs.train(study, study.run(experiment, loss, min(entry.seeds)))


def _called(spec: specs.Train, splits: Splits, manifest: dict[str, Any]) -> tuple[Network, Tensor, Tensor, Tensor]:
    """Return a network, its features (2, d) and logits (2, K) for the first training samples, and their targets."""
    inputs, targets = splits.first_inputs(TRIED), splits.train_targets[:TRIED]
    split = Split.place(inputs, targets, manifest["mean"], manifest["std"], "cpu", task_of(manifest))
    torch.manual_seed(0)
    network = network_of(spec.model, manifest)
    features: list[Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda layer, given: features.append(given[0]))
    logits = try_out(network, split.normalise(split.inputs), training=True)
    hook.remove()
    return network, features[-1], logits, split.of_samples(split.targets)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigError("\n".join(faults))
