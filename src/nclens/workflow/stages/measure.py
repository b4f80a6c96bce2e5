"""Measure collapse, and logits and calibration or fit, on the features of every snapshot of a run, and film it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from nclens.metrics.collapse import class_means
from nclens.metrics.film import Film
from nclens.metrics.held_out import held_out_of
from nclens.metrics.regressor import run_gamma, with_onehot_targets
from nclens.workflow import tables
from nclens.workflow.build.losses import loss_after
from nclens.workflow.build.metrics import measure_snapshot, statistics_in
from nclens.workflow.epochs import read_epoch
from nclens.workflow.files import write_tensors
from nclens.workflow.paths import RunFolder
from nclens.workflow.specs import Measure

Loss = Callable[[Tensor, Tensor], Tensor]
#: Epoch -> the tensors that `extract` wrote.
Read = Callable[[int], dict[str, Tensor]]
Rows = Iterator[tuple[int, str, str, float]]


def measure(spec: Measure, run: Path, threads: int) -> None:
    """Write RUN/metrics.csv: epoch, split, metric, value; and RUN/film.safetensors, a sample of projected features."""
    torch.set_num_threads(threads)

    folder = RunFolder(run)

    def read(epoch: int) -> dict[str, Tensor]:
        file = folder.features if epoch in spec.kept else folder.earlier_features
        return read_epoch(file, epoch, "extract")[0]

    begin, measured = MEASURES[spec.task]
    last = read(spec.snapshots[-1])
    film, gamma = begin(last, spec)
    del last
    rows = [dict(zip(tables.METRICS.columns, row, strict=True)) for row in measured(read, spec, film, gamma)]
    write_tensors(folder.film, film.tensors())
    tables.write_rows(tables.METRICS, folder.metrics, rows)


def _begin_classification(last: dict[str, Tensor], spec: Measure) -> tuple[Film, float | None]:
    """Return what the last snapshot fixes: the film's planes, and gamma of a classifier that is a regressor too."""
    assert spec.classifier is not None
    onehot = any(call.task == "onehot" for call in spec.measurements)
    film = Film.of_classifier(last, spec.classifier.projection_classes, _train_means(last))
    return film, run_gamma(with_onehot_targets(last)) if onehot else None


def _classification(read: Read, spec: Measure, film: Film, gamma: float | None) -> Rows:
    """Yield (epoch, split, metric, value) of a classifier's snapshots, and as a regressor where it is one."""
    chosen = spec.classifier
    assert chosen is not None
    for epoch in spec.snapshots:
        tensors = read(epoch)
        means = _train_means(tensors)
        film.add(epoch, tensors, means)
        given = {
            "reference_means": means,
            "held_out": held_out_of(tensors, chosen.held_out, chosen.held_out_seed),
            "loss": loss_after(chosen.loss, epoch, chosen.epochs),
            "gamma": gamma,
            "train_counts": _unequal(tensors) if len(means) <= chosen.most_classes else None,
        }
        yield from ((epoch, *row) for row in measure_snapshot(spec.measurements, tensors, given, spec.own))
        del tensors  # before the next ones are read: at the paper's scale each are half a gigabyte


def _train_means(tensors: dict[str, Tensor]) -> Tensor:
    """Return the class means of the training split (K, d)."""
    known = statistics_in(tensors, "train")
    if known:
        return known["means"]
    return class_means(tensors["train.features"], tensors["train.targets"], len(tensors["weight"]), min_samples=1)


def _unequal(tensors: dict[str, Tensor]) -> Tensor | None:
    """Return the training samples of each class.

    None where all have as many, and measures of imbalance say nothing new, or where one has none.
    """
    counts = tensors.get("train_counts")
    counts = tensors["train.targets"].bincount(minlength=len(tensors["weight"])) if counts is None else counts
    return None if bool((counts == counts[0]).all() | (counts == 0).any()) else counts


def _begin_regression(last: dict[str, Tensor], spec: Measure) -> tuple[Film, float | None]:
    """Return what the last snapshot fixes: the film's plane, and gamma."""
    assert spec.regressor is not None
    return Film.of_regressor(last), run_gamma(last, spec.regressor.c)


def _regression(read: Read, spec: Measure, film: Film, gamma: float | None) -> Rows:
    """Yield (epoch, split, metric, value) of a regressor's snapshots."""
    chosen = spec.regressor
    assert chosen is not None
    for epoch in spec.snapshots:
        tensors = read(epoch)
        film.add(epoch, tensors)
        given = {"gamma": gamma, "c": chosen.c}
        yield from ((epoch, *row) for row in measure_snapshot(spec.measurements, tensors, given, spec.own))
        del tensors


#: By task: what the last snapshot fixes, and what is measured on each.
MEASURES = {
    "classification": (_begin_classification, _classification),
    "regression": (_begin_regression, _regression),
}
