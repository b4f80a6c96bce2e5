"""Measure collapse, logits and calibration on the features of every snapshot of a run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from nclens.calibration import stratified_mask, temperature_metrics
from nclens.collapse import class_means
from nclens.files import atomic_write, read_tensors
from nclens.measurement import measure_split
from nclens.objective import build_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def measure(spec: dict[str, Any], run: Path, threads: int) -> None:
    """Write RUN/metrics.csv: epoch, split, metric, value."""
    torch.set_num_threads(threads)
    rows = []
    for epoch in spec["snapshots"]:
        tensors, _ = read_tensors(run / "features" / f"epoch{epoch}.safetensors", "extract")
        loss = loss_after(spec["loss"], epoch, spec["epochs"])
        for split, metric, value in measure_snapshot(tensors, spec["held_out"], spec["held_out_seed"], loss):
            rows.append({"epoch": epoch, "split": split, "metric": metric, "value": value})
    with atomic_write(run / "metrics.csv") as temporary:
        # 17 digits: a table read again has the same bits.
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.17g")


def loss_after(entry: dict[str, Any], epoch: int, epochs: int) -> Loss | None:
    """Return the loss of the last of so many epochs, at its strength; None where logits do not tell its value.

    That is the user's own function, which may return the mean over samples, and a loss with a memory, which no snapshot
    holds.
    """
    if "function" in entry:
        return None
    loss = build_loss(entry, epochs)
    loss.begin_epoch(max(epoch - 1, 0))
    return None if loss.remembers else loss


def measure_snapshot(
    tensors: dict[str, Tensor], held_out: float, held_out_seed: int, loss: Loss | None
) -> Iterator[tuple[str, str, float]]:
    """Yield (split, metric, value) of one snapshot's features; nc4 on test uses the class means of train."""
    weight, bias = tensors["weight"], tensors["bias"]
    train_means = class_means(tensors["train.features"], tensors["train.targets"], len(weight))
    for split in ("train", "test"):
        features, logits, targets = (tensors[f"{split}.{name}"] for name in ("features", "logits", "targets"))
        values = measure_split(features, logits, targets, weight, bias, reference_means=train_means, loss=loss)
        if split == "test":
            values |= temperature_metrics(logits, targets, stratified_mask(targets, held_out, held_out_seed))
        yield from ((split, metric, value) for metric, value in values.items())
