"""Run the networks of a run's snapshots again, for what their features alone do not show: its probes."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from nclens.data.prepared import place_splits
from nclens.models import place_network
from nclens.training.loop import derived_seed
from nclens.training.runtime import configure
from nclens.workflow import tables
from nclens.workflow.build.functions import library_function
from nclens.workflow.build.models import build_network
from nclens.workflow.devices import device_slot
from nclens.workflow.epochs import read_weights
from nclens.workflow.files import read_json, read_tensors
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import Probe, ProbeRun, flat


def probe(spec: ProbeRun, root: Path, threads: int) -> None:
    """Write RUN/probes.csv: epoch, split, metric, value; as metrics.csv.

    Args:
        spec: the run's network and its probes.
        root: folder of the study, R; data sets and the run are read below it.
        threads: CPU threads; another number gives other bits.

    Raises:
        FileError: a snapshot or data set is missing or damaged; names it and the rule that makes it.
        ValueError: a probe fails; names the run, the epoch and the kind of probe.
    """
    configure(threads)
    with device_slot(spec.device, spec.run) as device:
        rows = [dict(zip(tables.PROBES.columns, row, strict=True)) for row in _rows(spec, root, device)]
    tables.write_rows(tables.PROBES, StudyFolder(root).run(spec.run).probes, rows)


def _rows(spec: ProbeRun, root: Path, device: torch.device) -> Iterator[tuple[int, str, str, float]]:
    """Yield (epoch, split, metric, value), snapshot by snapshot."""
    folder = StudyFolder(root)
    manifest = read_json(folder.manifest(spec.dataset), "prepare")
    tensors, _ = read_tensors(folder.data(spec.dataset), "prepare")
    train, test = place_splits(tensors, manifest, device)
    network = build_network(flat(spec.model), manifest["shape"], len(manifest["classes"]))
    network = place_network(network, manifest["shape"], device)
    given = [_given(entry, spec.seed, manifest, folder, device) for entry in spec.probes]
    for epoch in spec.snapshots:
        read_weights(network, folder.run(spec.run).snapshots, epoch)
        for entry, arguments in zip(spec.probes, given, strict=True):
            if epoch not in entry.snapshots:
                continue
            try:
                splits = {"train": train, "test": test}
                found = _call(library_function(entry.function), arguments | {"network": network, **splits})
            except ValueError as error:
                raise ValueError(f"{spec.run}, epoch {epoch}, probe {entry.kind}: {error}") from error
            yield from ((epoch, entry.split, metric + entry.suffix, value) for metric, value in found.items())


def _given(
    entry: Probe, seed: int, manifest: dict[str, Any], folder: StudyFolder, device: torch.device
) -> dict[str, Any]:
    """Return a probe's keys, its seed, the same for all losses and epochs, and the data set that it names, if any."""
    given = entry.arguments | {"seed": derived_seed(seed, "probe", entry.kind)}
    if "dataset" not in given:
        return given
    name = given["dataset"]
    other = read_json(folder.manifest(name), "prepare")
    if other["shape"] != manifest["shape"]:
        raise ValueError(
            f"the probe's data set {name} has inputs of shape {other['shape']}, the network takes {manifest['shape']}"
        )
    tensors, _ = read_tensors(folder.data(name), "prepare")
    # Normalised as the network's own data: the normalisation is frozen with the network.
    return given | {"other": place_splits(tensors, manifest, device)}


def _call(function: Callable[..., dict[str, float]], given: dict[str, Any]) -> dict[str, float]:
    """Call a function with those of the arguments that its signature names."""
    return function(**{name: given[name] for name in inspect.signature(function).parameters if name in given})
