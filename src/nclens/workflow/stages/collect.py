"""Collect the measurements, probes and histories of all runs into the one table that everything below reads."""

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nclens.metrics.arc import arc_ratio, mean_probabilities, similar_classes
from nclens.metrics.held_out import divided, held_out_of
from nclens.metrics.representation import template_plane
from nclens.metrics.translation import paired_bootstrap
from nclens.training.history import HISTORY
from nclens.workflow import tables
from nclens.workflow.epochs import read_epoch
from nclens.workflow.files import read_json
from nclens.workflow.paths import StudyFolder, run_path
from nclens.workflow.specs import Arcs, Collect, CollectExperiment

#: Two of the similar classes, and the third.
Triple = tuple[int, int, int]


def collect(spec: Collect, root: Path, output: Path, sources: Mapping[str, str] | None = None) -> None:
    """Write R/metrics.parquet from every run's metrics.csv, history.csv and, where it was probed, probes.csv.

    A student's rows hold `teacher_error` besides, at its last epoch: the final `error` of the run that taught it. The
    teacher's rows hold `student_error`, at its own last epoch: the student's final `error` on the test split, with what
    tells its students apart after a slash, such as `student_error/T4`. Where arcs are measured, each run's hold
    `arc_ratio`, at the last epoch, of the classes that the experiment's runs of cross entropy say, and these classes.
    Where text is translated, each own run's but the baseline's hold the differences of BLEU and chrF from the
    baseline's run of the same seed, with their p-values.

    Args:
        spec: the experiments.
        root: folder of the study, R.
        output: R/metrics.parquet.
        sources: the folders of runs that other studies have made; see `nclens.workflow.paths.StudyFolder`.

    Raises:
        FileError: a table or features are missing or damaged.
        ValueError: a run of another study lacks a metric that the experiment's own runs have; names it.
    """
    parts = []
    folder, of_students = StudyFolder(root, sources or {}), _students(spec)
    for item in spec.experiments:
        classes = _similar(item, item.arcs, folder) if item.arcs else None
        for loss in item.losses:
            for seed in item.seeds:
                model = item.model_of(loss)
                keys = {"experiment": item.experiment, "dataset": item.dataset, "model": model}
                run = folder.run(run_path(item.dataset, model, loss, seed))
                metrics = [tables.read(tables.METRICS, run.metrics)]
                if teacher := item.teachers.get(loss):
                    of = next(entry for entry in spec.experiments if entry.experiment == teacher.experiment)
                    name = of_students[item.experiment, loss]
                    parts.append(_students_error(metrics[0], item.epochs, of, teacher.loss, seed, name))
                    metrics.append(_teachers_error(root, of, teacher.loss, seed, item.epochs))
                metrics += [tables.read(tables.PROBES, run.probes)] if item.probed else []
                if item.arcs and classes:
                    metrics.append(_arc(run.features, item.epochs, item.arcs, classes))
                if against := item.translations.get(loss):
                    other = folder.run(run_path(item.dataset, item.model_of(against), against, seed))
                    metrics.append(_compared(run.hypotheses, other.hypotheses, item.epochs))
                history = tables.read(tables.HISTORY[item.task], run.history)
                history = history.rename(columns=HISTORY).melt(["epoch", "split"], var_name="metric")
                parts += [table.assign(**keys, loss=loss, seed=seed) for table in (*metrics, history)]
        _check_reused(item, folder)
    names = [name for name, kind in tables.COLLECTED.columns.items() if kind is tables.NAME]
    table = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(names, "category"))
    tables.write(tables.COLLECTED, output, table)


def _similar(item: CollectExperiment, arcs: Arcs, folder: StudyFolder) -> Triple | None:
    """Return the classes of an experiment's arcs; None where there are too many, or fewer than three with samples."""
    found = []
    for seed in item.seeds:
        run = folder.run(run_path(item.dataset, item.model_of(arcs.loss), arcs.loss, seed))
        tensors, _ = read_epoch(run.features, item.epochs, "extract")
        classes = len(tensors["weight"])
        if classes > arcs.most_classes:
            return None
        if "val.targets" not in tensors and int(tensors["test.targets"].bincount().max()) < 2:
            return None  # nothing can be held out
        (logits, own), (_, rest) = _parts(tensors, arcs, "logits")
        if not logits.amax(1).isfinite().all():  # the network has diverged
            continue
        probabilities = mean_probabilities(logits, own)
        # A variance takes two samples, where the arcs are measured; of sequences collapse takes more.
        fewest = int(tensors.get("min_samples", 2))
        for labels in (tensors["train.targets"], rest):
            probabilities[labels.bincount(minlength=classes) < fewest] = math.nan
        found.append(probabilities)
    mean = torch.stack(found).mean(0) if found else torch.empty(0, 1)
    return similar_classes(mean) if int((~mean.isnan().all(1)).sum()) > 2 else None


def _parts(tensors: Mapping[str, Tensor], arcs: Arcs, values: str) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return (values, labels) of the held-out samples, and of the other test samples."""
    held_out = held_out_of(tensors, arcs.held_out, arcs.held_out_seed, values)
    return divided(tensors[f"test.{values}"], tensors["test.targets"], held_out)


def _arc(features: Path, epoch: int, arcs: Arcs, classes: Triple) -> pd.DataFrame:
    """Return a run's rows on its arc: of training samples, and of test samples that the classes were not chosen on.

    The ratios are nan where the templates span no plane, or the network has diverged.
    """
    tensors, _ = read_epoch(features, epoch, "extract")
    weight, own = tensors["weight"], (tensors["train.features"], tensors["train.targets"])
    plane = False
    with suppress(ValueError):
        plane = bool(template_plane(weight, classes).isfinite().all())
    rows = []
    for split, (points, labels) in {"train": own, "test": _parts(tensors, arcs, "features")[1]}.items():
        ratios = dict.fromkeys(("arc_ratio", "arc_ratio_polar"), math.nan)
        if plane and points.isfinite().all():
            ratios = arc_ratio(points, labels, weight, classes)
        chosen = {f"arc_class_{place}": float(label) for place, label in enumerate(classes, 1)}
        rows += [(epoch, split, *row) for row in (ratios | chosen).items()]
    return pd.DataFrame(rows, columns=list(tables.METRICS.columns))


def _compared(own: Path, baseline: Path, epoch: int) -> pd.DataFrame:
    """Return a run's rows on its translations beside those of the baseline's run, a paired bootstrap for each probe.

    Raises:
        ValueError: they are of other sentences.
    """
    rows = []
    first, second = (read_json(path, "probe")["probes"] for path in (baseline, own))
    for suffix, found in second.items():
        if suffix not in first or first[suffix]["references"] != found["references"]:
            raise ValueError(f"{own} and {baseline} have translations of other sentences: run their probes again")
        results = paired_bootstrap(first[suffix]["hypotheses"], found["hypotheses"], found["references"])
        for score, result in results.items():
            rows.append((epoch, "test", f"{score}_difference{suffix}", result["difference"]))
            rows.append((epoch, "test", f"{score}_difference_p{suffix}", result["p_value"]))
    return pd.DataFrame(rows, columns=list(tables.METRICS.columns))


def _check_reused(item: CollectExperiment, folder: StudyFolder) -> None:
    """Refuse runs of another study that lack a metric of every network of the task which all own runs have."""

    def measured(loss: str) -> set[tuple[str, str]]:
        run = folder.run(run_path(item.dataset, item.model_of(loss), loss, item.seeds[0]))
        found: set[tuple[str, str]] = set()
        for table, path in [(tables.METRICS, run.metrics), *([(tables.PROBES, run.probes)] if item.probed else [])]:
            rows = tables.read(table, path, ["split", "metric"]).drop_duplicates()
            found |= set(rows.itertuples(index=False, name=None))
        return {(split, metric) for split, metric in found if metric in item.always}

    own = [loss for loss in item.losses if loss not in item.others]
    if not own or not item.others:
        return
    wanted = set.intersection(*map(measured, own))
    for loss in item.others:
        if missing := sorted(wanted - measured(loss)):
            place = folder.run(run_path(item.dataset, item.model_of(loss), loss, item.seeds[0])).folder.parent
            split, metric = missing[0]
            raise ValueError(
                f"{item.experiment}: {place} lacks {metric} of the {split} split and {len(missing) - 1} more metrics: "
                "they were measured by another version; run that study again"
            )


def _teachers_error(root: Path, experiment: CollectExperiment, loss: str, seed: int, epoch: int) -> pd.DataFrame:
    """Return the last error of a teacher, a run of its own experiment, on both splits, under its student's epoch."""
    run = StudyFolder(root).run(run_path(experiment.dataset, experiment.model_of(loss), loss, seed))
    table = tables.read(tables.METRICS, run.metrics)
    table = table[(table["metric"] == "error") & (table["epoch"] == experiment.epochs)]
    return table.assign(epoch=epoch, metric="teacher_error")


def _students(spec: Collect) -> dict[tuple[str, str], str]:
    """Return (experiment, distilled loss) -> the metric of its teacher: `student_error`/what differs between students.

    That is the students' experiment, model, temperature T and weight b, where the study has several; where students of
    one teacher are alike in all of these, the name of the loss besides. MLflow takes no ``+`` in a metric: it is a
    blank here, which no other name has.
    """
    taught = {(item.experiment, loss): (item, loss) for item in spec.experiments for loss in item.teachers}
    ways = {key: _ways(*pair) for key, pair in taught.items()}
    several = {part for part in range(4) if len({way[part] for way in ways.values()}) > 1}
    parts = {key: [text for part, text in enumerate(way) if part in several] for key, way in ways.items()}
    teachers = {key: (item.teachers[loss].experiment, item.teachers[loss].loss) for key, (item, loss) in taught.items()}
    alike = Counter((teachers[key], *parts[key]) for key in taught)
    for key in taught:
        parts[key] += [key[1]] if alike[teachers[key], *parts[key]] > 1 else []
    return {key: "/".join(["student_error", *parts[key]]).replace("+", " ") for key in taught}


def _ways(item: CollectExperiment, loss: str) -> tuple[str, str, str, str]:
    """Return what tells students apart."""
    teacher = item.teachers[loss]
    return item.experiment, item.model_of(loss), f"T{teacher.temperature:g}", f"b{teacher.weight:g}"


def _students_error(
    metrics: pd.DataFrame, epochs: int, teachers: CollectExperiment, loss: str, seed: int, name: str
) -> pd.DataFrame:
    """Return the last test error of a student as a row of the run that taught it."""
    rows = (metrics["metric"] == "error") & (metrics["split"] == "test") & (metrics["epoch"] == epochs)
    keys = {"experiment": teachers.experiment, "dataset": teachers.dataset, "model": teachers.model_of(loss)}
    return metrics[rows].assign(epoch=teachers.epochs, metric=name, **keys, loss=loss, seed=seed)
