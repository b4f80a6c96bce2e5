"""Draw the figures of every experiment: the metrics, the theory and the last features in, PNG, PDF and CSV out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nclens.figures import FIGURES, FigureInputs
from nclens.figures.style import encode
from nclens.files import FileError, atomic_write, damaged, read_tensors, write_text


def draw(experiments: list[dict[str, Any]], metrics: Path, theory: Path, root: Path, figures: Path) -> None:
    """Write {experiment}_{stem}.png, .pdf and .csv for every figure of every experiment.

    Args:
        experiments: each with `name`, `dataset`, `model`, `losses` (entry -> {label, colour}, in the order of drawing),
            `baseline` (an entry or None), `seeds`, `epochs` (of the last snapshot) and `figures` (stems).
        metrics: the study's table, R/metrics.parquet.
        theory: R/theory/ufm.csv.
        root: the study's folder, R; the last features are read below it.
        figures: the folder to write to.

    Raises:
        FileError: an input is missing or damaged, or an output cannot be written; names the file.
        ValueError: a figure is not known or cannot be drawn; names the experiment and the figure.
    """
    for experiment in experiments:
        if unknown := [stem for stem in experiment["figures"] if stem not in FIGURES]:
            raise ValueError(
                f"unknown figures of {experiment['name']}: {', '.join(unknown)}; allowed: {', '.join(FIGURES)}"
            )
    metrics_table, theory_table = _read_tables(metrics, theory)
    for experiment in experiments:
        inputs = _inputs(experiment, metrics_table, theory_table, root)
        for stem in experiment["figures"]:
            name = f"{experiment['name']}_{stem}"
            try:
                drawing = FIGURES[stem].draw(inputs)
                content = {kind: encode(drawing.figure, kind) for kind in ("png", "pdf")}
            except FileError:
                raise
            except Exception as error:
                raise ValueError(f"figure {name} cannot be drawn: {type(error).__name__}: {error}") from error
            for kind, data in content.items():
                with atomic_write(figures / f"{name}.{kind}") as temporary:
                    temporary.write_bytes(data)
            write_text(figures / f"{name}.csv", drawing.table.to_csv(index=False, lineterminator="\n"))


def _read_tables(metrics: Path, theory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    tables = []
    for path, made_by, read in ((metrics, "collect", pd.read_parquet), (theory, "theory", pd.read_csv)):
        if not path.is_file():
            raise FileError(f"{path} is missing: the rule `{made_by}` makes it")
        try:
            table = read(path)
        except (ValueError, OSError) as error:
            raise damaged(path, made_by, str(error)) from error
        if "experiment" not in table.columns:
            raise damaged(path, made_by, "it has no column `experiment`")
        tables.append(table)
    return tables[0], tables[1]


def _inputs(experiment: dict[str, Any], metrics: pd.DataFrame, theory: pd.DataFrame, root: Path) -> FigureInputs:
    """What one experiment's figures are drawn from; features are read when a figure asks for them."""
    runs = root / experiment["dataset"] / experiment["model"]

    def last_features(loss: str, seed: int) -> Mapping[str, np.ndarray]:
        path = runs / loss / f"seed{seed}" / "features" / f"epoch{experiment['epochs']}.safetensors"
        return {name: tensor.numpy() for name, tensor in read_tensors(path, "extract")[0].items()}

    name, losses = experiment["name"], experiment["losses"]
    return FigureInputs(
        experiment=name,
        metrics=metrics[(metrics["experiment"] == name) & metrics["seed"].isin(experiment["seeds"])],
        theory=theory[theory["experiment"] == name],
        losses=list(losses),
        labels={loss: look["label"] for loss, look in losses.items()},
        colours={loss: look["colour"] for loss, look in losses.items()},
        baseline=experiment["baseline"],
        last_features=last_features,
    )
