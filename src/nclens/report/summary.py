"""All losses of an experiment in one table: the mean of each quantity over seeds, its interval, and the best loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nclens.claims.effects import first_reach, interpolated, logs
from nclens.claims.verdict import FEWEST_PAIRS
from nclens.metrics.catalogue import METRICS, Better, student
from nclens.metrics.catalogue import metric as built_in
from nclens.metrics.intervals import t_interval
from nclens.probes.catalogue import PROBES

COLUMNS = ("loss", "quantity", "metric", "split", "better", "mean", "low", "high", "seeds", "best")
EPOCHS_TO_COLLAPSE = "epochs_to_collapse"


@dataclass(frozen=True)
class Quantity:
    """A column of the table.

    Attributes:
        name: what it is called.
        metric: key of the metrics table, or `EPOCHS_TO_COLLAPSE`.
        split: train or test.
        better: which direction is better: lower, higher, or empty for neither. For measures of collapse it is lower,
            the more collapsed loss.
    """

    name: str
    metric: str
    split: str
    better: Better = "lower"


def _of(metric: str, *splits: str) -> tuple[Quantity, ...]:
    """A measured metric's columns, with the catalogue's label and direction."""
    return tuple(Quantity(METRICS[metric].label, metric, split, METRICS[metric].better) for split in splits)


QUANTITIES = (
    *(column for metric in ("error", "ece_unscaled", "ece_scaled", "aurc") for column in _of(metric, "test")),
    *(column for metric in ("nc1", "nc2", "nc3") for column in _of(metric, "train", "test")),
    Quantity("epochs to collapse", EPOCHS_TO_COLLAPSE, "train"),
    *(column for metric in ("d_within", "r2_angular") for column in _of(metric, "train", "test")),
)
"""The columns of every experiment; linear probes, students and the study's own metrics follow."""
MORE: dict[str, tuple[str, Better]] = {
    **{
        metric.name: (metric.label, metric.better)
        for probe in PROBES.values()
        for metric in probe.metrics
        if metric.better and (probe.summarised is None or metric.name in probe.summarised)
    },
    "student_error": ("student's error", "lower"),
}
"""Metric, which may add a name after a slash -> its label, and the better direction; of probes, those that have one."""


def own_quantities(entries: Sequence[Mapping[str, Any]], found: Sequence[str]) -> tuple[Quantity, ...]:
    """Return the columns of a study's own metrics, in the order of their entries.

    Args:
        entries: each with name, label, better and splits; its function may have returned several metrics, `NAME_key`.
        found: the metrics of the table.
    """
    names = sorted((entry["name"] for entry in entries), key=len, reverse=True)
    others = [name for name in found if not built_in(name)]
    owner = {one: next((name for name in names if one == name or one.startswith(f"{name}_")), None) for one in others}
    return tuple(
        Quantity(", ".join(filter(None, (label, one[len(name) + 1 :]))), one, split, entry["better"])
        for entry in entries
        for name, label in [(entry["name"], entry["label"] or entry["name"])]
        for one in others
        if owner[one] == name
        for split in entry["splits"]
    )


def summarise(
    metrics: pd.DataFrame,
    losses: Sequence[str],
    seeds: Sequence[int],
    epochs: int,
    baseline: str | None,
    own: Sequence[Mapping[str, Any]] = (),
) -> pd.DataFrame:
    """Return each quantity of each loss after the last epoch: mean over seeds and its 95% t interval.

    `epochs_to_collapse` is the epoch at which a run's nc1 on the training set first reaches the final nc1 of the
    baseline's run of the same seed, log nc1 linear between snapshots; infinite where it never does.

    A loss is `best` where its mean is, and where for each other loss the 95% interval of the paired differences over
    seeds lies on the same side of 0 (at least three pairs; not corrected for the number of losses). Otherwise no loss
    is best.

    Args:
        metrics: of one experiment, columns loss, seed, split, epoch, metric, value (more are allowed).
        losses: the entries, in the order of the rows.
        seeds: the seeds of every loss.
        epochs: the last epoch.
        baseline: the loss that sets the level of collapse; None for none.
        own: the study's own metrics, as `own_quantities` takes them.

    Returns:
        columns `COLUMNS`, one row a loss and quantity, quantities that no run has left out. `low` and `high` are nan
        under two finite values or where one is not finite, `mean` is nan without any.
    """
    metrics = metrics.astype({"loss": object, "metric": object, "split": object, "value": float})
    found = sorted(metrics["metric"].unique())
    named = (
        Quantity(label + _after(name, metric), name, "test", better)
        for metric, (label, better) in MORE.items()
        for name in found
        if name == metric or name.startswith(f"{metric}/")
    )
    rows: list[dict[str, object]] = []
    for quantity in (*QUANTITIES, *named, *own_quantities(own, found)):
        if quantity.metric == EPOCHS_TO_COLLAPSE:
            values = _epochs_to_collapse(metrics, losses, seeds, epochs, baseline)
        else:
            values = _last(metrics, quantity, losses, seeds, epochs)
        if not any(values.values()):
            continue
        best = _best(values, quantity.better)
        key = {"quantity": quantity.name, "metric": quantity.metric, "split": quantity.split, "better": quantity.better}
        for loss in losses:
            rows.append({"loss": loss, **key, **_mean(list(values[loss].values())), "best": loss == best})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    rank = table["loss"].map({loss: place for place, loss in enumerate(losses)})
    return table.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank").reset_index(drop=True)


def side_by_side(
    experiments: Sequence[Mapping[str, Any]], metrics: pd.DataFrame, own: Sequence[Mapping[str, Any]] = ()
) -> pd.DataFrame:
    """Return the table of every experiment, column `experiment` first.

    Args:
        experiments: each with experiment (its name), losses, seeds, epochs and baseline.
        metrics: of all of them, with a column experiment.
        own: the study's own metrics, as `own_quantities` takes them.
    """
    by_experiment = dict(list(metrics.groupby("experiment", observed=True)))
    tables = [
        summarise(
            by_experiment.get(entry["experiment"], metrics.iloc[:0]),
            list(entry["losses"]),
            entry["seeds"],
            entry["epochs"],
            entry["baseline"],
            own,
        ).assign(experiment=entry["experiment"])
        for entry in experiments
    ]
    columns = ["experiment", *COLUMNS]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _after(name: str, metric: str) -> str:
    """Return what follows a metric's name, of students in words."""
    text = name.removeprefix(metric)
    return f"/{student(text[1:])}" if text and metric == "student_error" else text


Values = dict[str, dict[int, float]]


def _last(metrics: pd.DataFrame, quantity: Quantity, losses: Sequence[str], seeds: Sequence[int], epoch: int) -> Values:
    """Return loss -> seed -> value after the last epoch, for the runs that have one."""
    chosen = (metrics["metric"] == quantity.metric) & (metrics["split"] == quantity.split) & (metrics["epoch"] == epoch)
    values = metrics[chosen].set_index(["loss", "seed"])["value"].to_dict()
    return {loss: {seed: float(values[loss, seed]) for seed in seeds if (loss, seed) in values} for loss in losses}


def _epochs_to_collapse(
    metrics: pd.DataFrame, losses: Sequence[str], seeds: Sequence[int], epochs: int, baseline: str | None
) -> Values:
    rows = metrics[(metrics["metric"] == "nc1") & (metrics["split"] == "train")]
    curves = {
        (str(loss), int(str(seed))): logs(run.set_index("epoch")["value"].sort_index())
        for (loss, seed), run in rows.groupby(["loss", "seed"])
    }
    found: Values = {loss: {} for loss in losses}
    for loss in losses:
        for seed in seeds:
            own, other = curves.get((loss, seed)), curves.get((str(baseline), seed))
            # Of networks measured after one epoch only, there is no time.
            if own is None or other is None or epochs not in other.index or len(other) < 2:
                continue
            reach = first_reach(own, interpolated(other, epochs), interpolate=True)
            found[loss][seed] = math.inf if reach.when == "never" else reach.epoch
    return found


def _mean(values: Sequence[float]) -> dict[str, float | int]:
    finite = len(values) > 1 and bool(np.isfinite(values).all())
    mean, low, high = t_interval(values) if finite else (np.mean(values) if values else math.nan, math.nan, math.nan)
    return {"mean": float(mean), "low": low, "high": high, "seeds": len(values)}


def _best(values: Mapping[str, Mapping[int, float]], better: str) -> str | None:
    """Return the loss that is better than every other over paired seeds, None where there is none."""
    known = {loss: of_loss for loss, of_loss in values.items() if of_loss}
    if not better or len(known) < 2:
        return None
    sign = 1 if better == "lower" else -1
    first = min(known, key=lambda loss: sign * float(np.mean(list(known[loss].values()))))
    for other in known.keys() - {first}:
        both = known[first].keys() & known[other].keys()
        effects = [sign * (known[other][seed] - known[first][seed]) for seed in both]
        # Where a value is not finite there is no interval, unless it is the other one that never gets there.
        if len(effects) < FEWEST_PAIRS or np.isnan(effects).any() or min(effects) == -math.inf:
            return None
        if np.isfinite(effects).all():
            if not t_interval(effects)[1] > 0:
                return None
        elif min(effects) != math.inf:
            return None
    return first
