"""Collect the measurements, probes and histories of all runs into the one table that everything below reads."""

from pathlib import Path

import pandas as pd

from nclens.training.history import HISTORY, history_columns
from nclens.workflow.files import FileError, atomic_write, damaged
from nclens.workflow.specs import Collect, CollectExperiment

TIDY = ["epoch", "split", "metric", "value"]
COLUMNS = ["experiment", "dataset", "model", "loss", "seed", "split", "epoch", "metric", "value"]


def collect(spec: Collect, root: Path, output: Path) -> None:
    """Write R/metrics.parquet from every run's metrics.csv, history.csv and, where it was probed, probes.csv.

    A student's rows hold `teacher_error` besides, at its last epoch: the final `error` of the run that taught it.
    """
    tables = []
    for item in spec.experiments:
        for loss in item.losses:
            for seed in item.seeds:
                keys = {"experiment": item.experiment, "dataset": item.dataset, "model": item.model}
                run = root / item.dataset / item.model / loss / f"seed{seed}"
                metrics = [_read(run / "metrics.csv", "measure", TIDY)]
                if teacher := item.teachers.get(loss):
                    of = next(entry for entry in spec.experiments if entry.experiment == teacher.experiment)
                    metrics.append(_teachers_error(root, of, teacher.loss, seed, item.epochs))
                metrics += [_read(run / "probes.csv", "probe", TIDY)] if item.probed else []
                history = _read(run / "history.csv", "train", history_columns(item.task))
                history = history.rename(columns=HISTORY).melt(["epoch", "split"], var_name="metric")
                tables += [table.assign(**keys, loss=loss, seed=seed) for table in (*metrics, history)]
    table = pd.concat(tables, ignore_index=True)[COLUMNS]
    names = ["experiment", "dataset", "model", "loss", "split", "metric"]
    table = table.astype(dict.fromkeys(names, "category"))
    with atomic_write(output) as temporary:
        table.to_parquet(temporary, index=False)


def _teachers_error(root: Path, experiment: CollectExperiment, loss: str, seed: int, epoch: int) -> pd.DataFrame:
    """Return the last error of a teacher, a run of its own experiment, on both splits, under its student's epoch."""
    run = root / experiment.dataset / experiment.model / loss / f"seed{seed}"
    table = _read(run / "metrics.csv", "measure", TIDY)
    table = table[(table["metric"] == "error") & (table["epoch"] == experiment.epochs)]
    return table.assign(epoch=epoch, metric="teacher_error")


def _read(path: Path, made_by: str, columns: list[str]) -> pd.DataFrame:
    try:
        return pd.read_csv(path)[columns]
    except FileNotFoundError:
        raise FileError(f"{path} is missing: the rule `{made_by}` makes it") from None
    except (ValueError, KeyError) as error:
        raise damaged(path, made_by, str(error)) from None
