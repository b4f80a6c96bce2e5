"""The films of an experiment's runs: read from their files, put side by side, and written as a GIF or MP4."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nclens.figures.film_inputs import PLANES, Film, Panel, Plane
from nclens.workflow import tables
from nclens.workflow.files import atomic_write, damaged, opened, read_json
from nclens.workflow.paths import StudyFolder, run_path

if TYPE_CHECKING:
    import pandas as pd

#: The most networks side by side.
MOST_PANELS = 12
#: What a film may be written as.
ENDINGS = (".gif", ".mp4")


def film_of(
    folder: StudyFolder, experiment: Mapping[str, Any], metrics: pd.DataFrame, seed: int | None = None
) -> Film | None:
    """Return the film of an experiment; None where its runs have less than two snapshots or none has a film.

    Args:
        folder: of the study.
        experiment: `experiment` (its name), `dataset`, `model`, `losses`, `seeds`, and `labels` and `colours` by loss;
            `models` by loss where there are several.
        metrics: the study's table, of which NC1 is taken.
        seed: of the networks; by default the smallest.

    Raises:
        FileError: a film is damaged.
    """
    seed = min(experiment["seeds"]) if seed is None else seed
    dataset, models = experiment["dataset"], experiment.get("models", {})
    model = {loss: models.get(loss) or experiment["model"] for loss in experiment["losses"]}
    files = {loss: folder.run(run_path(dataset, model[loss], loss, seed)).film for loss in experiment["losses"]}
    there = [loss for loss, path in files.items() if path.is_file()]
    losses = _evenly(there, MOST_PANELS)
    found = {loss: read_film(files[loss]) for loss in losses}
    if not found:
        return None
    first = found[losses[0]]
    epochs = [int(epoch) for epoch in first["epochs"]]
    if len(epochs) < 2:
        return None
    classifies = "classes" in first
    kinds, places = _of_classes(first) if classifies else _of_values(first)
    keys = {"metric": "nc1" if classifies else "nrc1", "split": "train", "seed": seed}
    own = _where(metrics, keys | {"dataset": dataset})
    panels = []
    for loss in losses:
        known = [name for name in PLANES if f"{name}.points" in found[loss]]
        planes = {name: _plane(found[loss], name, places) for name in known}
        values = _where(own, {"model": model[loss], "loss": loss}).drop_duplicates("epoch").set_index("epoch")["value"]
        curve = values.reindex(epochs).to_numpy(float)
        panels.append(Panel(experiment["labels"][loss], experiment["colours"][loss], planes, curve))
    path = folder.manifest(experiment["dataset"])
    manifest = read_json(path, "prepare") if path.is_file() else {}
    names = manifest.get("classes" if classifies else "targets", ())
    classes = (len(names) or len(kinds)) if classifies else None
    left_out = [experiment["labels"][loss] for loss in experiment["losses"] if loss not in losses]
    return Film(experiment["experiment"], seed, epochs, panels, kinds, classes, names, left_out)


def read_film(path: Path) -> dict[str, np.ndarray]:
    """Read the film of a run as arrays, without PyTorch, and check it against its checksum.

    Raises:
        FileError: the file is missing or damaged; names it and the rule that makes it.
    """
    with opened(path, "measure", framework="np") as file:
        expected = (file.metadata() or {}).get("sha256")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    digest = hashlib.sha256()  # as `nclens.workflow.files.tensors_digest`
    for name in sorted(arrays):
        digest.update(f"{name}:torch.{arrays[name].dtype}:{arrays[name].shape};".encode())
        digest.update(arrays[name].tobytes())
    if digest.hexdigest() != expected:
        raise damaged(path, "measure", "its content does not match its checksum")
    return arrays


def _where(table: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a table that have these values."""
    for key, value in keys.items():
        table = table[table[key] == value]
    return table


def _evenly(losses: Sequence[str], most: int) -> list[str]:
    """At most so many losses, evenly spaced, the first and the last among them."""
    if len(losses) <= most:
        return list(losses)
    return [losses[round(place * (len(losses) - 1) / (most - 1))] for place in range(most)]


def _of_classes(film: Mapping[str, np.ndarray]) -> tuple[list[float], np.ndarray]:
    """The classes of a film, and the place of each sample's among them."""
    classes = [int(k) for k in film["classes"]]
    return [float(k) for k in classes], np.array([classes.index(int(label)) for label in film["labels"]], dtype=int)


def _of_values(film: Mapping[str, np.ndarray]) -> tuple[list[float], np.ndarray]:
    """Ten values, evenly spaced through the middle 95% of a target, and the place of each sample's nearest one."""
    values = film["values"] * float(film["values.scale"])
    low, high = np.quantile(values, [0.025, 0.975])
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.linspace(low, high, 10).tolist(), (9 * share).round().clip(0, 9).astype(int)


def _plane(film: Mapping[str, np.ndarray], name: str, places: np.ndarray) -> Plane:
    """A plane of a film, with the points of its own classes alone."""
    points, means = film[f"{name}.points"], film[f"{name}.means"]
    if "classes" in film:
        classes = film["classes"].tolist()
        shown = [classes.index(k) for k in film[f"{name}.classes"]]
        own = [place in shown for place in places.tolist()]
        points, places = points[:, own], places[own]
    return Plane(points, means, places, float(film[f"{name}.scale"]))


def write_film(
    root: Path, to: Path, experiment: str | None = None, seed: int | None = None, plane: str | None = None
) -> Film:
    """Write the film of an experiment of a finished study as a GIF or, where ffmpeg is there, as an MP4.

    Args:
        root: folder of the study, R.
        to: the file, .gif or .mp4.
        experiment: by default the first that has a film.
        seed: of the networks; by default the smallest of the experiment.
        plane: `templates` or `principal`; by default the first that the networks have.

    Raises:
        ValueError: another ending, no ffmpeg for .mp4, an unknown experiment, seed or plane, or no film.
        FileError: a file is missing or damaged, or the film cannot be written.
    """
    from nclens.study.reused import entries_of
    from nclens.workflow.finished.opening import locate, read_resolved
    from nclens.workflow.resolved import experiments_of
    from nclens.workflow.reused import resolved_sources

    if to.suffix.lower() not in ENDINGS:
        raise ValueError(f"--to {to}: allowed: a file that ends with {' or '.join(ENDINGS)}")
    if to.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise ValueError(f"--to {to}: an .mp4 needs ffmpeg, which is not on the PATH: install it, or write a .gif")
    study = read_resolved(locate(root))
    folder = StudyFolder(root, resolved_sources(study))
    entries = experiments_of(study)
    if experiment is not None and experiment not in entries:
        raise ValueError(f"--experiment {experiment}: allowed: {', '.join(entries)}")
    metrics = tables.read(tables.COLLECTED, folder.metrics, filters=[("metric", "in", ["nc1", "nrc1"])])
    losses = study["losses"] | entries_of(study)
    looks = {f"{key}s": {loss: entry[key] for loss, entry in losses.items()} for key in ("label", "colour")}
    for name in [experiment] if experiment else entries:
        entry = entries[name]
        if seed is not None and seed not in entry.seeds:
            raise ValueError(f"--seed {seed}: allowed: {', '.join(map(str, entry.seeds))}")
        film = film_of(folder, {**vars(entry), **looks}, metrics, seed)
        if film is not None:
            break
    else:
        raise ValueError(f"{root}: no film; it needs a run with two snapshots, which `measure` has written a film of")
    chosen = plane or film.planes[0]
    if chosen not in film.planes:
        raise ValueError(f"--plane {chosen}: allowed: {', '.join(film.planes)}")
    from nclens.figures.film import write_frames

    with atomic_write(to) as temporary:
        write_frames(film, chosen, temporary)
    return film
