"""A finished study in Weights & Biases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb

from nclens.workflow.files import write_json
from nclens.workflow.finished.records import VERDICT, digest, digest_of_study, figure_files, records, verdicts

if TYPE_CHECKING:
    from nclens.workflow.finished.study import FinishedStudy

#: What is done without an account or a connection.
WITHOUT = (
    "Without an account or a connection, set WANDB_MODE=offline: to_wandb then writes to the folder wandb, which "
    "`wandb sync` uploads later"
)
#: The file of a run that says that it is complete, and the key of its summary that says the same.
MARK, COMPLETE = "nclens.json", "nclens/complete"


def log(study: FinishedStudy, project: str, entity: str | None) -> list[str]:
    """Log a study, and return the ids of the runs that were not there; see `FinishedStudy.to_wandb`."""
    study.require_current()
    place = {"project": project, "entity": entity, "group": study.name}
    logged = []
    for record in records(study):

        def fill(run: Any, points: list[tuple[str, float, int]] = record.points) -> None:
            for epoch, values in groupby(points, key=lambda point: point[2]):
                run.log({name: value for name, value, _ in values}, step=epoch)

        key = _id(study, record.path, record.digest)
        looks = {"name": record.path, "job_type": "run", "tags": [record.experiment], "config": record.parameters}
        logged += [key] if _log(key, {**place, **looks}, fill) else []
    figures, judged = figure_files(study), verdicts(study)

    def fill_study(run: Any) -> None:
        table = wandb.Table(columns=list(VERDICT), data=[[row[key] for key in VERDICT] for row in judged])
        run.log({"verdicts": table, **{f"figures/{name}": wandb.Image(str(path)) for name, path in figures.items()}})

    key = _id(study, "study", digest_of_study(figures, judged))
    looks = {"name": study.name, "job_type": "study", "notes": study.title, "config": study.config}
    return [*logged, *([key] if _log(key, {**place, **looks}, fill_study) else [])]


def _id(study: FinishedStudy, path: str, content: str) -> str:
    """Return the id of a run, which depends on what it is of and on its content alone."""
    return digest([study.name, path, content])[:24]


def _log(key: str, options: dict[str, Any], fill: Callable[[Any], None]) -> bool:
    """Log a run unless it is there and complete; return whether it was logged."""
    if _is_written(key):
        return False
    # Nothing of this process belongs to a run that was trained elsewhere.
    settings = wandb.Settings(console="off", quiet=True, disable_git=True, x_disable_stats=True, x_disable_meta=True)
    try:
        run = wandb.init(id=key, resume="allow", reinit="create_new", settings=settings, **options)
    except wandb.Error as error:
        said = str(error).rstrip(".")
        raise ConnectionError(f"Weights & Biases: {said}. {WITHOUT}") from None
    try:
        if run.resumed and run.summary.get(COMPLETE):
            return False
        fill(run)
        run.summary[COMPLETE] = True
        if not run.disabled:
            write_json(Path(run.dir, MARK), {"run": options["name"]})
    finally:
        run.finish()
    return True


def _is_written(key: str) -> bool:
    """Return whether a run was written offline; one that was interrupted is removed."""
    folder = Path(os.environ.get("WANDB_DIR") or ".", "wandb")
    found = list(folder.glob(f"offline-run-*-{key}"))
    complete = [path for path in found if (path / "files" / MARK).is_file()]
    for path in found:
        if path not in complete:
            shutil.rmtree(path, ignore_errors=True)
    return bool(complete)
