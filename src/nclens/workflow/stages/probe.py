"""Ask the networks of a run's snapshots what their features alone do not tell: on other data, or sample by sample."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from nclens.data.prepared import place_splits
from nclens.data.tensors import Split
from nclens.losses import ce, ls
from nclens.metrics.representation import mutual_information
from nclens.models import Network, place_network
from nclens.probes import AUGMENTATIONS, gradient_variance, linear_probe, logit_differences
from nclens.training.loop import derived_seed, extract_features
from nclens.training.runtime import configure
from nclens.workflow import tables
from nclens.workflow.build.models import build_network
from nclens.workflow.devices import device_slot
from nclens.workflow.files import read_json, read_tensors, read_weights
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import Probe, ProbeRun, flat

#: (split, metric, value).
Row = tuple[str, str, float]
#: What is asked of a network at one snapshot.
Question = Callable[[Network], Iterator[Row]]


def probe(spec: ProbeRun, root: Path, threads: int) -> None:
    """Write RUN/probes.csv: epoch, split, metric, value; as metrics.csv.

    Args:
        spec: the run's network and its probes.
        root: folder of the study, R; data sets and the run are read below it.
        threads: CPU threads; another number gives other bits.

    Raises:
        FileError: a snapshot or data set is missing or damaged; names it and the rule that makes it.
        ValueError: a probe cannot be answered; names the run, the epoch and the kind of probe.
    """
    configure(threads)
    with device_slot(spec.device, spec.run) as device:
        rows = list(_answers(spec, root, device))
    found = pd.DataFrame(rows, columns=list(tables.PROBES.columns))
    tables.write(tables.PROBES, StudyFolder(root).run(spec.run).probes, found)


def _answers(spec: ProbeRun, root: Path, device: torch.device) -> Iterator[tuple[int, str, str, float]]:
    """Yield (epoch, split, metric, value), snapshot by snapshot."""
    folder = StudyFolder(root)
    described = read_json(folder.manifest(spec.dataset), "prepare")
    tensors, _ = read_tensors(folder.data(spec.dataset), "prepare")
    train, _ = place_splits(tensors, described, device)
    network = build_network(flat(spec.model), described["shape"], len(described["classes"]))
    network = place_network(network, described["shape"], device)
    questions = [(asked, _question(asked, spec.seed, train, described, root)) for asked in spec.probes]
    for epoch in spec.snapshots:
        read_weights(network, folder.run(spec.run).snapshot(epoch))
        for asked, question in questions:
            if epoch not in asked.snapshots:
                continue
            try:
                found = list(question(network))
            except ValueError as error:
                raise ValueError(f"{spec.run}, epoch {epoch}, probe {asked.kind}: {error}") from error
            yield from ((epoch, split, metric + asked.suffix, value) for split, metric, value in found)


def _question(asked: Probe, seed: int, train: Split, manifest: dict[str, Any], root: Path) -> Question:
    """Return what a probe asks; its chance is of the run's seed and the kind, the same for all losses and epochs."""
    chance = derived_seed(seed, "probe", asked.kind)
    if asked.kind == "transfer":
        return _transfer(asked, chance, train, manifest, root)
    if asked.kind == "gradient_variance":
        return _gradient_variance(asked, chance, train)
    return _mutual_information(asked, chance, train)


def _transfer(asked: Probe, chance: int, train: Split, manifest: dict[str, Any], root: Path) -> Question:
    """Rows `probe_accuracy` and `probe_strength` on `test`, the other data set's test split."""
    name = asked.arguments["dataset"]
    other = read_json(StudyFolder(root).manifest(name), "prepare")
    if other["shape"] != manifest["shape"]:
        raise ValueError(
            f"the probe's data set {name} has inputs of shape {other['shape']}, the network takes {manifest['shape']}"
        )
    tensors, _ = read_tensors(StudyFolder(root).data(name), "prepare")
    # Normalised as the network's own data are: it is frozen, and that is a part of it.
    splits = place_splits(tensors, manifest, train.inputs.device)

    def ask(network: Network) -> Iterator[Row]:
        features, test_features = (extract_features(network, split)[0] for split in splits)
        targets, test_targets = (split.targets.cpu() for split in splits)
        found = linear_probe(
            features, targets, test_features, test_targets, held_out=asked.arguments["held_out"], seed=chance % 2**31
        )
        yield "test", "probe_accuracy", found.accuracy
        yield "test", "probe_strength", found.strength

    return ask


def _gradient_variance(asked: Probe, chance: int, train: Split) -> Question:
    """Rows `gradient_variance_{head,network}_{onehot,smoothed}` on `train`."""
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(chance))[: asked.arguments["samples"]]
    chosen = chosen.sort().values.to(train.inputs.device)
    inputs, targets = train.normalise(train.inputs[chosen]), train.targets[chosen]
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "onehot": ce,
        "smoothed": partial(ls, smoothing=asked.arguments["smoothing"]),
    }

    def ask(network: Network) -> Iterator[Row]:
        for name, loss in losses.items():
            for part, value in gradient_variance(network, inputs, targets, loss).items():
                yield "train", f"gradient_variance_{part}_{name}", value

    return ask


def _mutual_information(asked: Probe, chance: int, train: Split) -> Question:
    """A row `mutual_information` on `train`, in nats."""

    def ask(network: Network) -> Iterator[Row]:
        draws, means = logit_differences(
            network,
            train,
            tuple(asked.arguments["classes"]),
            AUGMENTATIONS[asked.arguments["augmentation"]],
            samples=asked.arguments["samples"],
            draws=asked.arguments["draws"],
            generator=torch.Generator(train.inputs.device).manual_seed(chance),
        )
        yield "train", "mutual_information", mutual_information(draws, means)

    return ask
