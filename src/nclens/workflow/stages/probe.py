"""Run the networks of a run's snapshots again, for what their features alone do not show: its probes."""

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from nclens.data.prepared import place_split, place_splits, references_of
from nclens.data.tasks import split_names
from nclens.data.tensors import Split
from nclens.models import Network, place_network
from nclens.training.loop import derived_seed, extract_features
from nclens.training.runtime import configure
from nclens.workflow import tables
from nclens.workflow.build.functions import library_function
from nclens.workflow.build.models import network_of
from nclens.workflow.build.own import own_measured
from nclens.workflow.devices import device_slot
from nclens.workflow.epochs import read_weights
from nclens.workflow.files import read_tensors, write_json
from nclens.workflow.paths import StudyFolder
from nclens.workflow.specs import LOSS_AFTER, PREPROCESSED, OwnProbe, Probe, ProbeRun
from nclens.workflow.streams import read_manifest


def probe(spec: ProbeRun, root: Path, threads: int, hypotheses: bool = False) -> None:
    """Write RUN/probes.csv: epoch, split, metric, value; as metrics.csv.

    With `hypotheses` also RUN/hypotheses.json: what each probe of decoding text found at its last epoch, by the suffix
    of its metrics, `hypotheses` beside `references`, and the `signatures` of their scores.

    Args:
        spec: the run's network and its probes.
        root: folder of the study, R; data sets and the run are read below it.
        threads: CPU threads; another number gives other bits.
        hypotheses: as above; a run that decodes no text has none.

    Raises:
        FileError: a snapshot or data set is missing or damaged; names it and the rule that makes it.
        ValueError: a probe fails; names the run, the epoch and the kind of probe, or the user's function.
    """
    configure(threads)
    said: dict[str, Any] = {"signatures": {}, "probes": {}}
    with device_slot(spec.device, spec.run) as device:
        rows = [dict(zip(tables.PROBES.columns, row, strict=True)) for row in _rows(spec, root, device, said)]
    folder = StudyFolder(root).run(spec.run)
    if hypotheses:
        write_json(folder.hypotheses, said)
    tables.write_rows(tables.PROBES, folder.probes, rows)


def _rows(
    spec: ProbeRun, root: Path, device: torch.device, said: dict[str, Any]
) -> Iterator[tuple[int, str, str, float]]:
    """Yield (epoch, split, metric, value), snapshot by snapshot; add to `said` what RUN/hypotheses.json holds."""
    folder = StudyFolder(root)
    manifest = read_manifest(folder.manifest(spec.dataset))
    tensors, _ = read_tensors(folder.data(spec.dataset), "prepare")
    train, test = place_splits(tensors, manifest, device)
    validation = place_split(tensors, manifest, device, "val") if "val" in split_names(manifest) else None
    network = network_of(spec.model, manifest)
    network = place_network(network, manifest["shape"], device)
    of_data = {"references": references_of(tensors, "test"), "manifest": manifest}
    if "tokenizers" in manifest and any(entry.kind == "decoding" for entry in spec.probes):
        # By name, so that it counts for text alone.
        for score, signature in library_function("nclens.metrics.translation:signatures")().items():
            said["signatures"][score] = signature
            print(f"{spec.run}: {score}: {signature}", file=sys.stderr, flush=True)
    given = [_given(entry, spec.seed, manifest, folder, device) for entry in spec.probes]
    others = {name: _other(name, manifest, folder, device) for name in {own.dataset for own in spec.own_probes} if name}
    for epoch in spec.snapshots:
        read_weights(network, folder.run(spec.run).snapshots, epoch)
        for entry, arguments in zip(spec.probes, given, strict=True):
            if epoch not in entry.snapshots:
                continue
            try:
                known: dict[str, Any] = {"network": network, "train": train, "test": test, **of_data}
                known |= {"validation": validation}
                known |= {"untrained": partial(_untrained, spec, manifest, network)}
                known |= {"keep": partial(_keep, said["probes"], entry.suffix)}
                known |= {"loss": _trained(spec, epoch, train, network.head.out_features)}
                found = _call(library_function(entry.function), arguments | known)
            except ValueError as error:
                raise ValueError(f"{spec.run}, epoch {epoch}, probe {entry.kind}: {error}") from error
            for split, measured in (found if entry.split == "both" else {entry.split: found}).items():
                yield from ((epoch, split, metric + entry.suffix, value) for metric, value in measured.items())
        for own in spec.own_probes:
            if epoch not in own.snapshots:
                continue
            known = {"train": train, "test": test, "device": device}
            known |= {"seed": derived_seed(spec.seed, "probe", own.name)}
            known |= {"other": others[own.dataset]} if own.dataset else {}
            for split in own.splits:
                # What the function before did to the network is undone.
                read_weights(network, folder.run(spec.run).snapshots, epoch)
                try:
                    # A copy: what a function adds to it, such as a hook, is gone after the call.
                    found = _own(own, copy.deepcopy(network), train if split == "train" else test, known)
                except ValueError as error:
                    raise ValueError(f"{spec.run}, epoch {epoch}: {error}") from error
                yield from ((epoch, split, metric, value) for metric, value in found.items())


def _keep(said: dict[str, Any], suffix: str, hypotheses: list[str], references: list[str]) -> None:
    said[suffix] = {"hypotheses": hypotheses, "references": references}


def _trained(spec: ProbeRun, epoch: int, train: Split, classes: int) -> Callable[..., torch.Tensor] | None:
    """Return the loss that the run was trained with, after an epoch; None where logits do not determine it."""
    if spec.loss is None:
        return None
    # By name, so that their code counts for probes of the trained loss alone.
    if spec.loss.name == "ce" and not (spec.loss.balanced or spec.loss.class_weights):
        return library_function("nclens.losses:ce")
    counts = train.targets.bincount(minlength=classes).tolist()
    return library_function(LOSS_AFTER)(spec.loss, epoch, spec.epochs, counts)


def _untrained(spec: ProbeRun, manifest: dict[str, Any], trained: Network) -> Network:
    """Return the run's network with the random weights that `train` begins with, and the preprocessing that it has."""
    device = trained.head.weight.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derived_seed(spec.seed, "weights"))
        network = network_of(spec.model, manifest)
    if spec.model.name == PREPROCESSED:
        fitted = ("backbone.scale", "backbone.shift")
        kept = {name: value for name, value in trained.state_dict().items() if name in fitted}
        network.load_state_dict(kept, strict=False)
    return place_network(network, manifest["shape"], device).eval()


def _given(
    entry: Probe, seed: int, manifest: dict[str, Any], folder: StudyFolder, device: torch.device
) -> dict[str, Any]:
    """Return a probe's keys, its seed, the same for all losses and epochs, and the data set that it names, if any."""
    given = entry.arguments | {"seed": derived_seed(seed, "probe", entry.kind)}
    if "dataset" not in given:
        return given
    return given | {"other": _other(given["dataset"], manifest, folder, device)}


def _other(name: str, manifest: dict[str, Any], folder: StudyFolder, device: torch.device) -> tuple[Split, Split]:
    """Return both splits of the data set that a probe names, normalised as the network's own."""
    other = read_manifest(folder.manifest(name))
    if other.get("task") == "segmentation":
        # A feature map is there of images of any size.
        if other["shape"][0] != manifest["shape"][0]:
            own = manifest["shape"]
            raise ValueError(
                f"the probe's data set {name} has images of {other['shape'][0]} channels, the network takes inputs of "
                f"shape {own}"
            )
    elif any(other.get(key) != manifest.get(key) for key in ("shape", "vocabulary")):
        raise ValueError(
            f"the probe's data set {name} has inputs of shape {other['shape']}, the network takes {manifest['shape']}"
        )
    tensors, _ = read_tensors(folder.data(name), "prepare")
    # Normalised as the network's own data: the normalisation is frozen with the network.
    where = {key: other[key] for key in ("root", "workers") if key in other}  # of a stream
    return place_splits(tensors, manifest | where, device)


def _call(function: Callable[..., dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    """Call a function with those of the arguments that its signature names."""
    return function(**{name: given[name] for name in inspect.signature(function).parameters if name in given})


class _Offered(Mapping[str, Any]):
    """The arguments of a probe of the user's own, each computed when the function names it."""

    def __init__(self, made: Mapping[str, Callable[[], Any]]) -> None:
        self._made = made

    def __getitem__(self, name: str) -> Any:
        return self._made[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def _own(entry: OwnProbe, network: Network, split: Split, known: Mapping[str, Any]) -> dict[str, float]:
    """Return what a probe of the user's own yields on a split; `known` are arguments that any split has."""
    device, seed = known["device"], known["seed"]
    network.eval().requires_grad_(True).zero_grad()

    @cache
    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            features, logits = extract_features(network, split)
        return features.to(device), logits.to(device)

    made: dict[str, Callable[[], Any]] = {
        "network": lambda: network,
        "split": lambda: split,
        "inputs": lambda: split.normalise(split.inputs[:]),  # those of a stream are decoded by indexing
        "features": lambda: outputs()[0],
        "generator": lambda: torch.Generator(device).manual_seed(seed),
        **{name: partial(known.get, name) for name in known},
    }
    if split.task != "regression":
        made |= {"logits": lambda: outputs()[1], "labels": lambda: split.of_samples(split.targets)}
    else:
        made |= {"targets": lambda: split.targets}
    # A function that draws from PyTorch's global generator gives the same numbers again too.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return own_measured(entry, _Offered(made), "probes")
