"""Draw the figures of every experiment: the metrics, the theory and the last features in, PNG, PDF and CSV out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nclens.figures.catalogue import FIGURES
from nclens.figures.style import encode
from nclens.figures.tables import FigureInputs
from nclens.workflow.build.figures import draw_figure
from nclens.workflow.files import FileError, atomic_write, damaged, read_json, read_tensors, write_text


def draw(
    experiments: list[dict[str, Any]],
    metrics: Path,
    theory: Path,
    root: Path,
    figures: Path,
    *,
    dynamics: Path | None = None,
    predictions: Path | None = None,
    regression: Path | None = None,
) -> None:
    """Write {experiment}_{stem}.png, .pdf and .csv for every figure of every experiment.

    Args:
        experiments: each with `name`, `dataset`, `model`, `losses` (entry -> {label, colour}, in the order of drawing),
            `baseline` (an entry or None), `seeds`, `epochs` (of the last snapshot), `figures` (stems) and, where its
            losses smooth, `smoothings` (entry -> smoothing), where they are dropped, `drops` (entry -> epoch), where
            they are distilled, `teachers` (entry -> its teacher, temperature and weight), and, where it has probes,
            `probes` and `projection_classes`, as `FigureInputs` has them. The figures of regression show
            besides: `first_epoch` (of the first snapshot), `weight_decays` (entry -> weight decay), `regularised`
            (whether the model's penalties were trained with).
        metrics: the study's table, R/metrics.parquet.
        theory: R/theory/ufm.csv.
        root: the study's folder, R; features and the names of classes or targets are read below it.
        figures: the folder to write to.
        dynamics: R/theory/dynamics.csv; without it the figures that show it say that there are no values.
        predictions: R/theory/predictions.csv; likewise.
        regression: R/theory/regression.csv; likewise.

    Raises:
        FileError: an input is missing or damaged, or an output cannot be written; names the file.
        ValueError: a figure is not known or cannot be drawn; names the experiment and the figure.
    """
    for experiment in experiments:
        if unknown := [stem for stem in experiment["figures"] if stem not in FIGURES]:
            raise ValueError(
                f"unknown figures of {experiment['name']}: {', '.join(unknown)}; allowed: {', '.join(FIGURES)}"
            )
    tables = {
        "metrics": _read_table(metrics, "collect", "experiment", pd.read_parquet),
        "theory": _read_table(theory, "theory", "experiment"),
    }
    if dynamics is not None:
        tables["dynamics"] = _read_table(dynamics, "theory", "smoothing")
    if predictions is not None:
        tables["predictions"] = _read_table(predictions, "predict", "experiment")
    if regression is not None:
        tables["regression"] = _read_table(regression, "theory", "experiment")
    # Taken apart once, for a search of a whole table in each experiment takes the square of their number.
    parts = {
        key: dict(list(table.groupby("experiment", observed=True)))
        for key, table in tables.items()
        if "experiment" in table
    }
    for experiment in experiments:
        own = {
            key: parts[key].get(experiment["name"], table.iloc[:0]) if key in parts else table
            for key, table in tables.items()
        }
        inputs = _inputs(experiment, own, root)
        for stem in experiment["figures"]:
            name = f"{experiment['name']}_{stem}"
            try:
                drawing = draw_figure(stem, inputs)
                content = {kind: encode(drawing.figure, kind) for kind in ("png", "pdf")}
            except FileError:
                raise
            except Exception as error:
                raise ValueError(f"figure {name} cannot be drawn: {type(error).__name__}: {error}") from error
            for kind, data in content.items():
                with atomic_write(figures / f"{name}.{kind}") as temporary:
                    temporary.write_bytes(data)
            write_text(figures / f"{name}.csv", drawing.table.to_csv(index=False, lineterminator="\n"))


def _read_table(
    path: Path, made_by: str, column: str, read: Callable[[Path], pd.DataFrame] = pd.read_csv
) -> pd.DataFrame:
    """The table in a file, which has at least this column."""
    if not path.is_file():
        raise FileError(f"{path} is missing: the rule `{made_by}` makes it")
    try:
        table = read(path)
    except (ValueError, OSError) as error:
        raise damaged(path, made_by, str(error)) from error
    if column not in table.columns:
        raise damaged(path, made_by, f"it has no column `{column}`")
    return table


def _inputs(experiment: dict[str, Any], tables: Mapping[str, pd.DataFrame], root: Path) -> FigureInputs:
    """What one experiment's figures are drawn from, by its own rows; features are read when a figure needs them."""
    runs = root / experiment["dataset"] / experiment["model"]
    path = root / "data" / f"{experiment['dataset']}.json"
    manifest = read_json(path, "prepare") if path.is_file() else {}

    def path_of(loss: str, seed: int, epoch: int) -> Path:
        return runs / loss / f"seed{seed}" / "features" / f"epoch{epoch}.safetensors"

    def last_features(loss: str, seed: int) -> Mapping[str, np.ndarray]:
        return _arrays(path_of(loss, seed, experiment["epochs"]))

    def first_features(loss: str, seed: int) -> Mapping[str, np.ndarray] | None:
        path = path_of(loss, seed, experiment.get("first_epoch", experiment["epochs"]))
        return _arrays(path) if path.is_file() else None

    name, losses, seeds = experiment["name"], experiment["losses"], experiment["seeds"]
    own: dict[str, Any] = {}
    for key, table in tables.items():
        own[key] = table[table["seed"].isin(seeds)] if "seed" in table else table
    for key in ("weight_decays", "regularised"):
        own |= {key: experiment[key]} if key in experiment else {}
    return FigureInputs(
        experiment=name,
        losses=list(losses),
        labels={loss: look["label"] for loss, look in losses.items()},
        colours={loss: look["colour"] for loss, look in losses.items()},
        baseline=experiment["baseline"],
        last_features=last_features,
        first_features=first_features,
        smoothings={loss: value for loss, value in experiment.get("smoothings", {}).items() if value is not None},
        drops=experiment.get("drops", {}),
        teachers=experiment.get("teachers", {}),
        probes=experiment.get("probes", ()),
        projection_classes=experiment.get("projection_classes", (0, 1, 2)),
        class_names=manifest.get("classes", ()),
        target_names=manifest.get("targets", ()),
        **own,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in read_tensors(path, "extract")[0].items()}
