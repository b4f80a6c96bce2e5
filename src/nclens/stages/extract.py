"""Extract the features, logits and head of every snapshot of a run, un-augmented, in the data set's own order."""

from pathlib import Path
from typing import Any

import torch

from nclens.data.prepared import choose_device, place_splits
from nclens.files import damaged, read_json, read_tensors, write_tensors
from nclens.models import build_network, place_network
from nclens.tasks import output_count
from nclens.training import extract_features


def extract(spec: dict[str, Any], data: Path, manifest: Path, run: Path, threads: int) -> None:
    """Write RUN/features/epoch{E}.safetensors for every snapshot RUN/snapshots/epoch{E}.safetensors."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    described = read_json(manifest, "prepare")
    tensors, _ = read_tensors(data, "prepare")
    device = choose_device(spec["device"])
    network = build_network(spec["model"], described["shape"], output_count(described))
    network = place_network(network, described["shape"], device)
    splits = dict(zip(("train", "test"), place_splits(tensors, described, device), strict=True))
    for epoch in spec["snapshots"]:
        snapshot = run / "snapshots" / f"epoch{epoch}.safetensors"
        weights, _ = read_tensors(snapshot, "train")
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise damaged(snapshot, "train", str(error).splitlines()[0]) from error
        made = {"weight": network.head.weight, "bias": _bias(network.head)}
        for name, split in splits.items():
            features, logits = extract_features(network, split)
            made |= {f"{name}.features": features, f"{name}.logits": logits, f"{name}.targets": split.targets}
        write_tensors(run / "features" / f"epoch{epoch}.safetensors", made)


def _bias(head: torch.nn.Linear) -> torch.Tensor:
    return torch.zeros(head.out_features) if head.bias is None else head.bias
