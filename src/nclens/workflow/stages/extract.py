"""Extract the features, logits and head of every snapshot of a run, un-augmented, in the data set's own order.

With `keep_features: none` of a classifier: statistics, from which `measure` computes the same, in place of features.
"""

from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from nclens.data.prepared import measured_split
from nclens.data.tasks import split_names
from nclens.data.tensors import Split
from nclens.models import Network, place_network
from nclens.training.loop import Backbone, extract_features
from nclens.training.passes import Passes
from nclens.training.runtime import configure
from nclens.workflow.agreement import nc1_of
from nclens.workflow.build.checkpoints import with_logits
from nclens.workflow.build.functions import library_function
from nclens.workflow.build.models import network_of
from nclens.workflow.devices import device_slot
from nclens.workflow.epochs import Put, load_weights, read_ahead, write_epochs
from nclens.workflow.files import read_tensors
from nclens.workflow.paths import RunFolder
from nclens.workflow.specs import Extract
from nclens.workflow.streams import read_manifest


def extract(spec: Extract, data: Path, manifest: Path, run: Path, threads: int, earlier: bool = False) -> None:
    """Write RUN/features.safetensors and, where `earlier`, RUN/earlier_features.safetensors of the epochs not kept.

    In float32 whatever the training's precision was: what is measured is the weights.

    Raises:
        FileError: a file is missing, damaged or cannot be written.
        ValueError: the head is not z = W h + b; names the run, the epoch, the split and the layer.
    """
    described, folder = read_manifest(manifest), RunFolder(run)
    if spec.model is None:
        _recorded(spec, folder, earlier)
        return
    with device_slot(spec.device, folder.name) as device:
        tensors, _ = read_tensors(data, "prepare")
        network = network_of(spec.model, described)
        configure(threads)  # after the import of the user's file, which may have changed PyTorch's precision
        network = place_network(network, described["shape"], device)
        splits = {name: measured_split(tensors, described, device, name) for name in split_names(described)}
        passes = Passes(network, splits["train"], nc1_of)
        with ExitStack() as files:
            puts = _writers(spec, folder, earlier, files)
            epochs = [epoch for epoch in spec.snapshots if epoch in puts]
            for epoch, weights, _ in read_ahead(folder.snapshots, epochs, "train"):
                load_weights(network, weights, folder.snapshots)
                backbone = passes.choose()
                made: dict[str, Tensor] = {}
                clean = {name: tensors[name] for name in ("train.clean_targets",) if name in tensors}
                try:
                    if spec.statistics is None:
                        for name, split in splits.items():
                            found = _extracted(network, name, split, passes.batch_size, backbone)
                            made |= {f"{name}.{key}": values for key, values in found.items()}
                    else:
                        # By name, so that its code counts where there are no features alone.
                        of = library_function("nclens.workflow.build.statistics:statistics_of")
                        made = of(network, splits, passes.batch_size, backbone, spec.statistics, epoch, *clean.values())
                except ValueError as error:
                    raise ValueError(f"{folder.name}, epoch {epoch}, {error}") from error
                made |= clean
                if "measured" in described:  # the features are a part's
                    made["train_counts"] = torch.tensor(described["train_counts"])
                    made["min_samples"] = torch.tensor(described["min_samples"])
                # After the forward passes, in which hooks such as `torch.nn.utils.weight_norm` set the weight.
                made |= {"weight": network.head.weight, "bias": _bias(network.head)}
                puts[epoch](epoch, made)


def _writers(spec: Extract, folder: RunFolder, earlier: bool, files: ExitStack) -> dict[int, Put]:
    """Return what writes the features of each epoch, those that are not kept only where `earlier`."""
    puts = dict.fromkeys(spec.kept, files.enter_context(write_epochs(folder.features, spec.kept)))
    if earlier:
        others = [epoch for epoch in spec.snapshots if epoch not in spec.kept]
        puts |= dict.fromkeys(others, files.enter_context(write_epochs(folder.earlier_features, others)))
    return puts


def _recorded(spec: Extract, folder: RunFolder, earlier: bool) -> None:
    """Write features that were recorded without a network, with their logits."""
    with ExitStack() as files:
        puts = _writers(spec, folder, earlier, files)
        for epoch, tensors, _ in read_ahead(folder.snapshots, puts, "ingest"):
            puts[epoch](epoch, with_logits(tensors))


def _extracted(network: Network, name: str, split: Split, batch_size: int, backbone: Backbone) -> dict[str, Tensor]:
    try:
        features, logits = extract_features(network, split, batch_size, backbone)
    except ValueError as error:
        raise ValueError(f"{name} split: {error}") from error
    return {"features": features, "logits": logits, "targets": split.of_samples(split.targets)}


def _bias(head: torch.nn.Linear) -> torch.Tensor:
    return torch.zeros(head.out_features) if head.bias is None else head.bias
