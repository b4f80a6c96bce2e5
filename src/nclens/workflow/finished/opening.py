"""A finished study by the folder of its results or by its YAML file: where things are, and what is refused."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nclens.study import ConfigError, Study, load_study, read_study
from nclens.study.reused import command, configuration_of
from nclens.workflow.files import FileError, damaged
from nclens.workflow.paths import StudyFolder, is_judged
from nclens.workflow.plan import Plan

#: What the first line of a resolved study says, by which one that is damaged is told from the user's own file.
MADE = "Made by the rule `resolve`"
#: The most names or numbers that a message lists.
MOST_LISTED = 20


@dataclass(frozen=True)
class Place:
    """Where the results of a study are.

    Attributes:
        folder: of the results, as it was named.
        project: the folder that the study was run in: the one above `results`.
        configuration: the YAML file, where one is found.
    """

    folder: Path
    project: Path
    configuration: Path | None

    @property
    def command(self) -> str:
        """The shell command that makes or finishes the study, from the current folder."""
        file = self.configuration
        made = command(None if file is None else Path(os.path.relpath(file, self.project)))
        place = os.path.relpath(self.project)
        return made if place == "." else f"cd {shlex.quote(place)} && {made}"


@dataclass(frozen=True)
class Opened:
    """A finished study.

    Attributes:
        place: where its results are.
        configuration: the YAML file, where the results were made from it as it is now.
        study: as its results were made.
        plan: of the study, with the folder of the results as it was named.
    """

    place: Place
    configuration: Path | None
    study: Study
    plan: Plan


def locate(folder: Path, more: Sequence[str | Path] = ()) -> Place:
    """Return where the results in a folder come from; YAML files are looked for in some more folders too."""
    own = Path(os.path.abspath(folder))
    where_run = own.parent.name == "results"
    project = own.parent.parent if where_run else own.parent
    known = [project, project / "studies", project / "config", *more]
    # Beside results that were moved; elsewhere a study of the same name is another one.
    known += [] if where_run else [".", "studies"]
    return Place(folder, project, configuration_of(own.name, known))


def opened(given: Path) -> Opened:
    """Return a study that has run, as its results were made.

    Args:
        given: the folder of its results, or its YAML file.

    Raises:
        FileError: there is none, or it has not run; names the command that runs it.
        ConfigError: the YAML file is wrong or not what the results were made from, or a function of the user's own is
            not found.
    """
    if given.is_file():
        root = Path(_loaded(read_study(given), given, [given.parent]).root)
        place = Place(root, Path(), given)
    else:
        place = locate(given)
    folder, file = place.folder, place.configuration
    if file is None and not folder.is_dir():
        allowed = "the folder of a study's results, such as results/digits, or its YAML file"
        raise FileError(f"there is no folder or file {given}; allowed: {allowed}")
    raw = read_resolved(place)
    describes = file is not None and _describes(file, raw)
    if given.is_file() and not describes:
        raise ConfigError(
            f"{given} has changed since {folder} was made: `{place.command}` brings the results up to date; or name "
            f"the folder {folder}, which has the configuration that it was made from"
        )
    hint = "" if file else f"\nFunctions of your own are found by the study's YAML file in place of {folder}"
    beside = [file.parent] if file else []
    study = _loaded(raw, StudyFolder(folder).resolved, [*beside, place.project, place.project / "config", Path()], hint)
    plan = Plan(study)
    plan.folder = StudyFolder(folder, plan.sources)
    return Opened(place, file if describes else None, study, plan)


def read_resolved(place: Place) -> dict[str, Any]:
    """Return the resolved study of a folder of results.

    Raises:
        FileError: the study has not run, the file is damaged, or the folder is none of results; says where results are.
    """
    root, of = place.folder, StudyFolder(place.folder)
    if not of.resolved.is_file():
        # Named without `results/`.
        there = StudyFolder(Path(os.path.relpath(place.project / "results" / os.path.basename(os.path.abspath(root)))))
        if there.resolved.is_file() and there.root.resolve() != root.resolve():
            raise FileError(f"{of.resolved} is missing: {root} is no study's folder; the results are in {there.root}")
        if place.configuration is not None:
            raise FileError(f"{root} has no results yet, {of.resolved} is missing: `{place.command}` makes them")
        raise FileError(f"{of.resolved} is missing: {root} is no study's folder{_others(root)}")
    raw: Any = None
    said = "it is no resolved study"
    try:
        raw = read_study(of.resolved)
    except ConfigError as error:
        said = str(error)
    name = raw.get("study") if isinstance(raw, Mapping) else None
    # A configuration may be a copy of what `resolve` has written.
    is_project = isinstance(name, str) and StudyFolder(root / "results" / name).resolved.is_file()
    is_results = of.metrics.is_file()
    if (is_results and _has_tables(raw)) or (_is_resolved(raw) and not is_project):
        return dict(raw)
    if is_results or (MADE in _first_line(of.resolved) and not is_project):
        raise damaged(of.resolved, "resolve", said)
    # The user's own: no message may ask for it to be deleted.
    if not isinstance(name, str):
        raise FileError(f"{of.resolved} is no resolved study: {root} is no study's folder{_others(root)}")
    results = root / "results" / name
    made = Place(results, root, of.resolved).command
    where = f"are in {results}" if is_project else f"will be in {results}: `{made}` makes them"
    raise FileError(f"{of.resolved} is a configuration: {root} is no study's folder; its results {where}")


def check_finished(opened: Opened, results: Iterable[Path]) -> None:
    """Refuse a study that lacks some of its results, or whose page is older than its measurements.

    Raises:
        FileError: names what is missing, and the command that finishes the study.
    """
    folder, finishes = opened.plan.folder, opened.place.command
    missing = [path for path in results if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FileError(f"{folder.root} is unfinished, {missing[0]}{more} is missing: `{finishes}` finishes the study")
    check_current(folder, finishes)


def check_current(folder: StudyFolder, finishes: str) -> None:
    """Refuse results whose page, and so verdicts and figures, are older than the measurements.

    Raises:
        FileError: names the command that brings them up to date.
    """
    if not is_judged(folder):
        raise FileError(
            f"{folder.root} is unfinished, its page is older than {folder.metrics}: `{finishes}` brings it up to date"
        )


def listed(values: Iterable[Any]) -> str:
    """Return the first values, and how many more there are."""
    known = [str(value) for value in values]
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    return (", ".join(known[:MOST_LISTED]) or "none") + more


def _others(root: Path) -> str:
    """Return the finished studies in a folder and in its folder `results`, as the end of a message."""
    found = [path for place in (root, root / "results") for path in sorted(place.glob("*")) if _is_finished(path)]
    return f"; studies in it: {listed(found)}" if found else ", such as results/digits"


def _is_finished(root: Path) -> bool:
    of = StudyFolder(root)
    if not of.resolved.is_file() or not of.claims.is_file() or not is_judged(of):
        return False
    try:
        return _is_resolved(read_study(of.resolved))
    except (ConfigError, OSError):
        return False


def _has_tables(raw: Any) -> bool:
    tables = [raw.get("experiments"), raw.get("losses")] if isinstance(raw, Mapping) else [None]
    entries = [entry for table in tables for entry in (table.values() if isinstance(table, Mapping) else [None])]
    return all(isinstance(entry, Mapping) for entry in entries)


def _is_resolved(raw: Any) -> bool:
    """Return whether a configuration is one with every default, as `resolve` writes it."""
    if not _has_tables(raw) or "data_dir" in raw or not {"measure", "theory", "track"} <= raw.keys():
        return False
    needed = (("experiments", {"figures", "baseline"}), ("losses", {"label", "colour"}))
    return all(keys <= entry.keys() for table, keys in needed for entry in raw[table].values())


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(200)


def _describes(configuration: Path, resolved: Mapping[str, Any]) -> bool:
    """Return whether results were made from a configuration as it is now."""
    try:
        study = load_study(read_study(configuration), [configuration.parent])
        return bool(yaml.safe_load(yaml.safe_dump(study.resolved())) == resolved)
    except (ConfigError, OSError):
        return False


def _loaded(raw: Any, path: Path, folders: list[Path], hint: str = "") -> Study:
    try:
        return load_study(raw, [*folders])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}{hint}") from None
