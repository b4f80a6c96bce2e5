"""Measure collapse, and logits and calibration or fit, on the features of every snapshot of a run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nclens.metrics.calibration import stratified_mask, temperature_metrics
from nclens.metrics.collapse import class_means
from nclens.metrics.measurement import measure_split
from nclens.metrics.regressor import onehot_metrics, regressor_metrics, run_gamma, with_onehot_targets
from nclens.workflow import tables
from nclens.workflow.build.losses import build_loss
from nclens.workflow.files import read_tensors
from nclens.workflow.paths import RunFolder
from nclens.workflow.specs import Loss as LossEntry
from nclens.workflow.specs import Measure, flat

Loss = Callable[[Tensor, Tensor], Tensor]
#: Epoch -> the tensors that `extract` wrote.
Read = Callable[[int], dict[str, Tensor]]
Rows = Iterator[tuple[int, str, str, float]]


def measure(spec: Measure, run: Path, threads: int) -> None:
    """Write RUN/metrics.csv: epoch, split, metric, value."""
    torch.set_num_threads(threads)

    def read(epoch: int) -> dict[str, Tensor]:
        return read_tensors(RunFolder(run).features(epoch), "extract")[0]

    rows = pd.DataFrame(MEASURES[spec.task](read, spec), columns=list(tables.METRICS.columns))
    tables.write(tables.METRICS, RunFolder(run).metrics, rows)


def _classification(read: Read, spec: Measure) -> Rows:
    """Yield (epoch, split, metric, value) of a classifier's snapshots, and as a regressor where it is one."""
    chosen = spec.classifier
    assert chosen is not None
    gamma = run_gamma(with_onehot_targets(read(spec.snapshots[-1]))) if chosen.onehot else None
    for epoch in spec.snapshots:
        tensors = read(epoch)
        loss = loss_after(chosen.loss, epoch, chosen.epochs)
        for row in measure_snapshot(tensors, chosen.held_out, chosen.held_out_seed, loss):
            yield epoch, *row
        for row in onehot_metrics(tensors, gamma) if chosen.onehot else ():
            yield epoch, *row
        del tensors  # before the next ones are read: at the paper's scale each are half a gigabyte


def _regression(read: Read, spec: Measure) -> Rows:
    """Yield (epoch, split, metric, value) of a regressor's snapshots."""
    chosen = spec.regressor
    assert chosen is not None
    gamma = run_gamma(read(spec.snapshots[-1]), chosen.c)
    for epoch in spec.snapshots:
        for row in regressor_metrics(read(epoch), gamma, chosen.c):
            yield epoch, *row


#: What is measured, by task.
MEASURES = {"classification": _classification, "regression": _regression}


def loss_after(entry: LossEntry, epoch: int, epochs: int) -> Loss | None:
    """Return the loss of the last of so many epochs, at its strength; None where logits do not tell its value.

    That is the user's own function, which may return the mean over samples, a loss with a memory, which no snapshot
    holds, and one that asks a teacher.
    """
    if entry.function is not None:
        return None
    loss = build_loss(flat(entry), epochs)
    loss.begin_epoch(max(epoch - 1, 0))
    return None if loss.remembers or loss.is_taught else loss


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
