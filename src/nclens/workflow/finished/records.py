"""What other trackers are given of a finished study: its runs as MLflow has them, its figures and its verdicts."""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nclens.workflow import specs
from nclens.workflow.files import read_json, sha256_of
from nclens.workflow.paths import path_of
from nclens.workflow.recorded import parameters, points

if TYPE_CHECKING:
    from nclens.workflow.finished.study import FinishedStudy

#: Parameters that are names, whatever they look like.
NAMES = ("loss", "model", "dataset")
#: Columns of a verdict.
VERDICT = (
    *("claim", "statement", "paper", "experiment", "dataset", "model", "baseline", "loss"),
    *("effect", "low", "high", "unit", "null", "seeds", "verdict", "note"),
    *("scale", "reason", "margin", "smallest", "p", "p_holm"),
)


@dataclass(frozen=True)
class Record:
    """A run.

    Attributes:
        path: what it is called, `dataset/model/loss/seedN`.
        experiment: of the study.
        parameters: numbers and truth values as such, all else as text.
        points: (`split/metric`, value, epoch), in the order of the epochs; nan at the last epoch of what is undefined.
        ended: when its training ended, in seconds since 1970.
    """

    path: str
    experiment: str
    parameters: dict[str, Any]
    points: list[tuple[str, float, int]]
    ended: float

    @property
    def digest(self) -> str:
        """A digest of parameters and points."""
        return digest([self.path, self.parameters, self.points])


def records(study: FinishedStudy) -> Iterator[Record]:
    """Yield the runs of a study, but those of other studies.

    Raises:
        FileError: a file is missing or damaged.
    """
    for run in study.checked.runs():
        spec, folder = specs.track_run(study.checked, run), study.files.run(path_of(run))
        for path in (folder.run, folder.metrics, folder.history, *([folder.probes] if spec.probed else [])):
            study.require(path)
        record = read_json(folder.run, "train")
        found = list(points(folder, spec, record))
        ended = max((time for _, _, time, _ in found), default=0) / 1000
        values = sorted(((name, value, epoch) for name, value, _, epoch in found), key=lambda point: point[2])
        given = {name: text if name in NAMES else _typed(text) for name, text in parameters(record).items()}
        yield Record(path_of(run), run.experiment, given, values, ended)


def figure_files(study: FinishedStudy) -> dict[str, Path]:
    """Return the PNG file of each figure of each experiment, by experiment and name.

    Raises:
        FileError: one is missing.
    """
    names = [(entry["experiment"], name) for entry in study.experiments.to_dict("records") for name in entry["figures"]]
    found = {f"{experiment}/{name}": study.files.figure(experiment, name, "png") for experiment, name in names}
    for path in found.values():
        study.require(path)
    return found


def verdicts(study: FinishedStudy) -> list[dict[str, Any]]:
    """Return the verdicts, with the columns `VERDICT`; missing numbers are None.

    Raises:
        FileError: the table is missing or damaged.
    """
    claims = study.claims
    rows = claims.loc[claims["level"] == "claim", list(VERDICT)].to_dict("records")
    return [{str(key): None if _is_nan(value) else value for key, value in row.items()} for row in rows]


def digest_of_study(figures: dict[str, Path], judged: list[dict[str, Any]]) -> str:
    """Return a digest of figures and verdicts."""
    return digest([judged, {name: sha256_of(path) for name, path in figures.items()}])


def digest(content: Any) -> str:
    """Return a digest of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _typed(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float) else text


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
