"""Draw the figures of every experiment: the metrics, the theory and the last features in, PNG, PDF, SVG and CSV out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nclens.data.tasks import held_out_split
from nclens.figures.catalogue import FIGURES
from nclens.figures.inputs import FigureInputs
from nclens.figures.style import encode
from nclens.workflow import tables
from nclens.workflow.build.figures import draw_figure, draw_own
from nclens.workflow.epochs import has_epoch, read_epoch
from nclens.workflow.files import FileError, atomic_write, read_json
from nclens.workflow.parallel import results
from nclens.workflow.paths import StudyFolder, run_path
from nclens.workflow.specs import Draw, DrawExperiment, OwnFigure

#: The tables that figures are drawn from, as they are called in `FigureInputs`.
TABLES = {
    "metrics": tables.COLLECTED,
    "theory": tables.THEORY,
    "dynamics": tables.DYNAMICS,
    "predictions": tables.PREDICTIONS,
    "regression": tables.REGRESSION,
    "nc0": tables.NC0,
}


def draw(
    spec: Draw,
    metrics: Path,
    theory: Path,
    root: Path,
    *,
    dynamics: Path | None = None,
    predictions: Path | None = None,
    regression: Path | None = None,
    nc0: Path | None = None,
    threads: int = 1,
    sources: Mapping[str, str] | None = None,
) -> None:
    """Write {experiment}_{stem}.png, .pdf, .svg and .csv for every figure of every experiment.

    Args:
        spec: the experiments; their losses are drawn in the order given.
        metrics: the study's table, R/metrics.parquet.
        theory: R/theory/ufm.csv.
        root: the study's folder, R; features and the names of classes or targets are read, figures written below it.
        dynamics: R/theory/dynamics.csv; without it the figures that show it say that there are no values.
        predictions: R/theory/predictions.csv; likewise.
        regression: R/theory/regression.csv; likewise.
        nc0: R/theory/nc0.csv; likewise.
        threads: processes that draw; any number gives the same files.
        sources: the folders of runs that other studies have made; see `nclens.workflow.paths.StudyFolder`.

    Raises:
        FileError: an input is missing or damaged, or an output cannot be written; names the file.
        ValueError: a figure is not known or cannot be drawn; names the experiment and the figure.
    """
    own_figures = {entry.name: entry for entry in spec.own_figures}
    for experiment in spec.experiments:
        if unknown := [stem for stem in experiment.figures if stem not in FIGURES and stem not in own_figures]:
            raise ValueError(
                f"unknown figures of {experiment.experiment}: {', '.join(unknown)}; allowed: {', '.join(FIGURES)}"
            )
    paths = {"metrics": metrics, "theory": theory, "dynamics": dynamics, "predictions": predictions}
    found = read_tables(paths | {"regression": regression, "nc0": nc0})
    # Taken apart once, for a search of a whole table in each experiment takes the square of their number.
    parts = {
        key: dict(list(table.groupby("experiment", observed=True)))
        for key, table in found.items()
        if "experiment" in table
    }
    folder = StudyFolder(root, sources or {})
    wanted = [(experiment, stem) for experiment in spec.experiments for stem in experiment.figures]
    used = [FIGURES[stem] for _, stem in wanted if stem in FIGURES]
    for module in {one.split(":")[0] for figure in used for one in (figure.draw, figure.table) if one}:
        import_module(module)  # before the processes are forked, which then share it

    @lru_cache(maxsize=1)
    def inputs_of(name: str) -> FigureInputs:
        own = {key: parts[key].get(name, table.iloc[:0]) if key in parts else table for key, table in found.items()}
        return experiment_inputs(next(item for item in spec.experiments if item.experiment == name), own, folder)

    def drawn(number: int) -> dict[str, bytes]:
        experiment, stem = wanted[number]
        name, inputs = f"{experiment.experiment}_{stem}", inputs_of(experiment.experiment)
        return _drawn(name, stem, inputs, own_figures.get(stem))

    with _rarely_collected():
        for number, content in results(drawn, len(wanted), threads):
            experiment, stem = wanted[number]
            for kind, data in content.items():
                with atomic_write(folder.figure(experiment.experiment, stem, kind)) as temporary:
                    temporary.write_bytes(data)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Collect garbage less often: a figure is tens of thousands of objects, beside all those of the packages."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _drawn(name: str, stem: str, inputs: FigureInputs, own: OwnFigure | None = None) -> dict[str, bytes]:
    """Return a figure's files by ending."""
    try:
        drawing = draw_own(own, inputs) if own else draw_figure(stem, inputs)
        content = {kind: encode(drawing.figure, kind) for kind in ("png", "pdf", "svg")}
    except FileError:
        raise
    except Exception as error:
        raise ValueError(f"figure {name} cannot be drawn: {type(error).__name__}: {error}") from error
    return content | {"csv": drawing.table.to_csv(index=False, lineterminator="\n").encode()}


def read_tables(paths: Mapping[str, Path | None]) -> dict[str, pd.DataFrame]:
    """Return the tables that figures are drawn from, by their names in `TABLES`, of those that have a path."""
    return {name: tables.read(TABLES[name], path) for name, path in paths.items() if path is not None}


def experiment_inputs(
    experiment: DrawExperiment, found: Mapping[str, pd.DataFrame], folder: StudyFolder
) -> FigureInputs:
    """Return what an experiment's figures are drawn from; features are read when a figure needs them.

    Args:
        experiment: the experiment.
        found: its own rows of the tables, by their names in `TABLES`.
        folder: of the study.

    Raises:
        FileError: the manifest is damaged.
    """
    path = folder.manifest(experiment.dataset)
    manifest = read_json(path, "prepare") if path.is_file() else {}

    def features_of(loss: str, seed: int) -> Path:
        return folder.run(run_path(experiment.dataset, experiment.model_of(loss), loss, seed)).features

    def last_features(loss: str, seed: int) -> Mapping[str, np.ndarray]:
        return _arrays(features_of(loss, seed), experiment.epochs)

    def first_features(loss: str, seed: int) -> Mapping[str, np.ndarray] | None:
        path, epoch = features_of(loss, seed), experiment.first_epoch
        return _arrays(path, epoch) if has_epoch(path, epoch, "extract") else None

    own: dict[str, Any] = {}
    for key, table in found.items():
        own[key] = table[table["seed"].isin(experiment.seeds)] if "seed" in table else table
    of_losses: dict[str, Any] = {
        key: {loss: getattr(experiment, key)[loss] for loss in experiment.losses if loss in getattr(experiment, key)}
        for key in ("labels", "colours", "smoothings", "alphas", "drops", "weight_decays")
    }
    return FigureInputs(
        experiment=experiment.experiment,
        losses=list(experiment.losses),
        **of_losses,
        regularised=experiment.regularised,
        baseline=experiment.baseline,
        last_features=last_features,
        specifications=lambda: _specifications(experiment, own["metrics"]),
        first_features=first_features,
        teachers=experiment.labelled_teachers,
        probes=[{"kind": probe.kind, **probe.arguments, "suffix": probe.suffix} for probe in experiment.probes],
        projection_classes=experiment.projection_classes,
        class_names=manifest.get("classes", ()),
        target_names=manifest.get("targets", ()),
        held_out=held_out_split(manifest),
        **own,
    )


def _specifications(experiment: DrawExperiment, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the effects of an experiment by every specification, computed by what the catalogue names."""
    assert experiment.judged is not None, "no figure of the experiment shows them"
    drawn = [FIGURES[stem] for stem in experiment.figures if stem in FIGURES]
    module, function = next(figure.table for figure in drawn if figure.table).split(":")
    made: pd.DataFrame = getattr(import_module(module), function)(metrics, **experiment.judged.compared)
    return made


def _arrays(path: Path, epoch: int) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in read_epoch(path, epoch, "extract")[0].items()}
