"""Collect the measurements, probes and histories of all runs into the one table that everything below reads."""

from pathlib import Path

import pandas as pd

from nclens.training.history import HISTORY
from nclens.workflow import tables
from nclens.workflow.paths import StudyFolder, run_path
from nclens.workflow.specs import Collect, CollectExperiment


def collect(spec: Collect, root: Path, output: Path) -> None:
    """Write R/metrics.parquet from every run's metrics.csv, history.csv and, where it was probed, probes.csv.

    A student's rows hold `teacher_error` besides, at its last epoch: the final `error` of the run that taught it.
    """
    parts = []
    for item in spec.experiments:
        for loss in item.losses:
            for seed in item.seeds:
                keys = {"experiment": item.experiment, "dataset": item.dataset, "model": item.model_of(loss)}
                run = StudyFolder(root).run(run_path(item.dataset, item.model_of(loss), loss, seed))
                metrics = [tables.read(tables.METRICS, run.metrics)]
                if teacher := item.teachers.get(loss):
                    of = next(entry for entry in spec.experiments if entry.experiment == teacher.experiment)
                    metrics.append(_teachers_error(root, of, teacher.loss, seed, item.epochs))
                metrics += [tables.read(tables.PROBES, run.probes)] if item.probed else []
                history = tables.read(tables.HISTORY[item.task], run.history)
                history = history.rename(columns=HISTORY).melt(["epoch", "split"], var_name="metric")
                parts += [table.assign(**keys, loss=loss, seed=seed) for table in (*metrics, history)]
    names = [name for name, kind in tables.COLLECTED.columns.items() if kind is tables.NAME]
    table = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(names, "category"))
    tables.write(tables.COLLECTED, output, table)


def _teachers_error(root: Path, experiment: CollectExperiment, loss: str, seed: int, epoch: int) -> pd.DataFrame:
    """Return the last error of a teacher, a run of its own experiment, on both splits, under its student's epoch."""
    run = StudyFolder(root).run(run_path(experiment.dataset, experiment.model_of(loss), loss, seed))
    table = tables.read(tables.METRICS, run.metrics)
    table = table[(table["metric"] == "error") & (table["epoch"] == experiment.epochs)]
    return table.assign(epoch=epoch, metric="teacher_error")
