"""Write the report of a study: one page with its verdicts, figures, tables and where they come from."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nclens.figures.catalogue import FIGURES, FigureEntry
from nclens.figures.film_inputs import Film
from nclens.report import Drawn, picture, report_page
from nclens.report.summary import side_by_side
from nclens.workflow import tables
from nclens.workflow.build.claims import build_claim
from nclens.workflow.files import damaged, read_json, write_text
from nclens.workflow.film import film_of
from nclens.workflow.paths import StudyFolder, run_path
from nclens.workflow.provenance import repository
from nclens.workflow.specs import Report, ShownFigure

#: Tables of the theory: the name of the file, and of the page's argument.
THEORY = {
    "ufm": ("theory", tables.THEORY),
    "dynamics": ("dynamics", tables.DYNAMICS),
    "predictions": ("predictions", tables.PREDICTIONS),
    "effective": ("effective", tables.EFFECTIVE),
    "regression": ("regression", tables.REGRESSION),
}


def report(spec: Report, root: Path, output: Path, sources: Mapping[str, str] | None = None) -> None:
    """Write R/report.html, and R/tables/losses.csv, from the study's verdicts, metrics, theory, figures and records.

    Claims and metrics must be there; of figures, theory, manifests and run records the page shows what there is, and
    names what is missing.

    Args:
        spec: the study and its experiments.
        root: folder of the study, R.
        output: the page.
        sources: the folders of runs that other studies have made; see `nclens.workflow.paths.StudyFolder`.

    Raises:
        FileError: a file is damaged, claims or metrics are missing, or the page cannot be written.
    """
    folder = StudyFolder(root, sources or {})
    metrics = tables.read(tables.COLLECTED, folder.metrics)
    # Teachers in the order of the losses.
    experiments = [vars(experiment) | {"teachers": experiment.labelled_teachers} for experiment in spec.experiments]
    losses = side_by_side(experiments, metrics, [vars(metric) for metric in spec.metrics])
    tables.write(tables.LOSSES, folder.losses, losses)
    page = report_page(
        vars(spec) | {"experiments": experiments, "stated": {entry.id: build_claim(entry) for entry in spec.claims}},
        tables.read(tables.CLAIMS, folder.claims),
        metrics,
        losses=losses,
        **{
            argument: tables.read(table, path)
            for name, (argument, table) in THEORY.items()
            if (path := folder.theory(name)).is_file()
        },
        figures=dict(_figures(spec, folder)),
        datasets={
            dataset: read_json(path, "prepare")
            for dataset in dict.fromkeys(
                name for experiment in spec.experiments for name in (experiment.dataset, *experiment.transfer)
            )
            if (path := folder.manifest(dataset)).is_file()
        },
        runs=dict(_runs(spec, folder)),
        folder=StudyFolder(Path()),
        has=lambda path: (root / path).is_file(),
        repository=repository(),
        # Known where a recording has begun: nothing here depends on one.
        tracking=read_json(folder.setup, "track_setup") if folder.setup.is_file() else None,
        films=dict(_films(spec, folder, metrics)),
        reused=_reused(folder),
    )
    write_text(output, page)


def _reused(folder: StudyFolder) -> dict[str, dict[str, Any]]:
    """Return where the runs of other studies are, as the page names and links them; see `report_page`."""
    record = read_json(folder.reused, "reuse") if folder.sources else {}
    found = {}
    for loss, source in folder.sources.items():
        other = StudyFolder(Path(source).parents[2])
        place = Path(os.path.relpath(source, folder.root))
        known = read_json(other.setup, "track_setup") if other.setup.is_file() else None
        path = {"root": place.parents[2].as_posix(), "path": "/".join(place.parts[-3:])}
        found[loss] = {**record[loss], **path, "tracking": known}
    return found


def _figures(spec: Report, folder: StudyFolder) -> Iterator[tuple[tuple[str, str], Drawn]]:
    shown: dict[str, FigureEntry | ShownFigure] = {**FIGURES, **{entry.name: entry for entry in spec.shown_figures}}
    for experiment in spec.experiments:
        for stem in experiment.figures:
            path = folder.figure(experiment.experiment, stem, "svg")
            if path.is_file():
                svg, known = path.read_bytes(), shown[stem]
                try:
                    picture(svg)
                except ValueError as error:
                    raise damaged(path, "draw", str(error)) from None
                yield (experiment.experiment, stem), Drawn(svg, known.title, known.source, known.caption)


def _films(spec: Report, folder: StudyFolder, metrics: pd.DataFrame) -> Iterator[tuple[str, Film]]:
    for experiment in spec.experiments:
        film = film_of(folder, vars(experiment), metrics)
        if film is not None:
            yield experiment.experiment, film


def _runs(spec: Report, folder: StudyFolder) -> Iterator[tuple[tuple[str, str, str, int], dict[str, Any]]]:
    for experiment in spec.experiments:
        for loss in experiment.losses:
            for seed in experiment.seeds:
                key = (experiment.dataset, experiment.model_of(loss), loss, seed)
                path = folder.run(run_path(*key)).run
                if path.is_file():
                    yield key, read_json(path, "train")
