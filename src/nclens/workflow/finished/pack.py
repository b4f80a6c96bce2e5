"""`nclens pack`: a finished study as a Workflow Run RO-Crate, for a data repository or a reviewer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nclens.data.hidden import visible
from nclens.study import Study
from nclens.study.fields import Closed, Custom
from nclens.workflow import specs
from nclens.workflow.epochs import read_epoch, write_epochs
from nclens.workflow.files import FileError, read_json, sha256_of
from nclens.workflow.finished.archive import MANIFEST, METADATA, Archive, check_names, write_archive
from nclens.workflow.finished.crate import PREVIEW, README, About, Content, crate_of
from nclens.workflow.finished.opening import check_finished, opened
from nclens.workflow.paths import RunFolder, StudyFolder, path_of
from nclens.workflow.plan import Plan
from nclens.workflow.provenance import own_files, repository
from nclens.workflow.reused import files_of, reused_runs
from nclens.workflow.running import workflow_files

#: What of the networks goes in.
NETWORKS = ("last", "all")
#: The workflow's files that go in, and where they are kept in an installed package.
WORKFLOW = (
    *("Snakefile", "rules/**/*", "profiles/*/config.yaml", "envs/requirements.lock", "envs/environment.yaml"),
    "LICENSE",
)
#: Names of the files that describe the archive.
WRITTEN = (MANIFEST, METADATA, PREVIEW, README)


@dataclass(frozen=True)
class Chosen:
    """What goes into an archive beside tables, figures and the page.

    Attributes:
        networks: `last` for the last snapshot of each network, `all` for all; None for none.
        features: those that the study keeps.
        data: the prepared data sets.
    """

    networks: str | None = None
    features: bool = False
    data: bool = False


@dataclass
class _Project:
    """The folder that a study was run in, and what of it goes in."""

    root: Path
    configuration: Path | None
    study: Study
    plan: Plan
    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, path: Path, name: str | None = None) -> None:
        """Add a file under its path in the project, or note that it lies outside or that its name is another's."""
        name = name or self.name_of(path)
        if name is None or name in WRITTEN or self.files.get(name, path) != path:
            self.left_out.append(str(path))
        else:
            self.files[name] = path

    def name_of(self, path: Path) -> str | None:
        """Return the name of a file in the archive: its path in the project, or below `config/` beside the study's."""
        beside = self.configuration.parent if self.configuration else self.root
        for folder, prefix in ((self.root, ""), (beside, "config/")):
            place = Path(os.path.relpath(path, folder))
            if ".." not in place.parts and not place.is_absolute():
                return prefix + place.as_posix()
        return None


def pack(
    study: str | Path, to: str | Path | None = None, about: About | None = None, chosen: Chosen | None = None
) -> tuple[Path, list[str]]:
    """Write a finished study into one archive; the same files give the same bytes.

    Args:
        study: the folder of its results, such as `results/digits`, or its YAML file.
        to: the archive; by default the study's name with `.zip`, in the current folder.
        about: title, description, authors and licence.
        chosen: what goes in beside tables, figures and the page.

    Returns:
        The archive, and the files of the user's that it has no place for: they lie outside the project's folder, or
        have the name of a file that every archive has.

    Raises:
        FileError: the study has not run or is unfinished, with the command that makes it, or a file cannot be read or
            written; or `to` is there and is no archive of this study, which alone is replaced.
        ValueError: the study's YAML file cannot be read or is not what the results were made from.
    """
    about, chosen = about or About(), chosen or Chosen()
    project = _project(Path(study))
    to = Path(f"{project.study.study}.zip" if to is None else to)
    if os.path.isdir(to) or to.suffix.lower() != ".zip":
        raise ValueError(f"--to {to}: allowed: a file that ends with .zip")
    _check_replaced(to, project.study.study)
    with ExitStack() as kept:
        _add_workflow(project)
        _add_configuration(project)
        _add_results(project, chosen)
        _add_reused(project)
        if chosen.networks:
            folder = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="nclens-pack-")))
            _add_networks(project, chosen.networks, folder)
        check_names(project.files)
        digests = {name: sha256_of(path) for name, path in project.files.items()}
        sizes = {name: path.stat().st_size for name, path in project.files.items()}
        written = crate_of(_content(project, digests, sizes), about)
        digests |= {name: hashlib.sha256(content).hexdigest() for name, content in written.items()}
        write_archive(to, project.study.root, {**project.files, **written}, digests)
    return to, project.left_out


def _check_replaced(to: Path, study: str) -> None:
    """Refuse to replace a file that is no archive of the same study."""
    found = None
    if os.path.lexists(to):
        with contextlib.suppress(FileError):
            found = Archive(to).study
        if found != study:
            raise FileError(
                f"{to} is there already, and is no sound archive of the study {study}, which alone is replaced: choose "
                "another name by --to, or move it away"
            )


# --- the study -------------------------------------------------------------------------------------------------------


def _project(given: Path) -> _Project:
    """Return a finished study and the folder that it was run in, by its results or its YAML file."""
    found = opened(given)
    check_finished(found, _results(found.plan, Chosen()))
    root = found.place.project if given.absolute().parent.name == "results" else Path()
    return _Project(root, found.configuration, found.study, found.plan)


def _results(plan: Plan, chosen: Chosen) -> list[Path]:
    """Return the files that the study promises, without those that are not chosen and the records of MLflow."""
    folder, runs = plan.folder, [plan.of(run) for run in plan.runs.values()]
    without = {folder.record, *(run.record for run in runs), *(run.snapshots for run in runs)}
    without |= set() if chosen.features else {run.features for run in runs}
    without |= set() if chosen.data else {folder.data(name) for name in plan.study.datasets}
    found = dict.fromkeys([*plan.promised(), *plan.manifests(), *plan.reused()])
    return [path for path in found if path not in without]


# --- what goes in ----------------------------------------------------------------------------------------------------


def _add_workflow(project: _Project) -> None:
    """Add the Snakefile, its rules, profiles and locked environment."""
    place = workflow_files()
    for pattern in WORKFLOW:
        for path in sorted(place.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                # At the top it would be taken for that of the results.
                project.add(path, "rules/LICENSE" if pattern == "LICENSE" else path.relative_to(place).as_posix())


def _add_configuration(project: _Project) -> None:
    """Add the study's YAML file, and the user's own functions with the files that they read, data sets aside."""
    configuration = project.configuration
    if configuration is None:
        project.add(project.plan.folder.resolved, f"config/{project.study.study}.yaml")
    else:
        project.add(configuration)
    data = {id(entry) for entry in project.study.datasets.values()}
    for entry in _own(project.study):
        for path in own_files(Path(str(entry.file))):
            project.add(path)
        for place in entry.places.values() if id(entry) not in data else ():
            for path in _below(place):
                project.add(path)


def _own(entry: Any) -> Iterator[Custom]:
    """Yield every part of a study that is a function of the user's own."""
    if isinstance(entry, Closed):
        if isinstance(entry, Custom):
            yield entry
        yield from _own([getattr(entry, name) for name in type(entry).model_fields])
    elif isinstance(entry, Mapping):
        yield from _own(list(entry.values()))
    elif isinstance(entry, list | tuple):
        for one in entry:
            yield from _own(one)


def _below(place: Path) -> Iterator[Path]:
    """Yield a file, or the files below a folder but for hidden ones."""
    if place.is_file():
        yield place
    elif place.is_dir():
        for path in visible(place):
            yield from _below(path)


def _add_results(project: _Project, chosen: Chosen) -> None:
    """Add the study's results, and what its jobs printed and took, MLflow's aside."""
    folder, name = project.plan.folder, project.study.root
    for path in _results(project.plan, chosen):
        if not path.is_file():
            raise _asked_for(path)
        if path.is_relative_to(folder.root):
            project.add(path, f"{name}/{path.relative_to(folder.root).as_posix()}")
    for place in (folder.log(""), folder.benchmark("")):
        for path in sorted(place.parent.glob("**/*")):
            inside = path.relative_to(folder.root)
            if path.is_file() and path.suffix in (".log", ".tsv") and not inside.parts[1].startswith("track"):
                project.add(path, f"{name}/{inside.as_posix()}")


def _add_reused(project: _Project) -> None:
    """Add what the study uses of other studies: their configuration, and tables and films of the runs."""
    plan = project.plan
    for item, run in reused_runs(specs.reuse(project.study), plan.folder) if plan.sources else ():
        source = project.study.source(item.loss)
        other = StudyFolder(source.folder)
        configurations = [source.configuration] if source.configuration else []
        for path in (other.resolved, other.manifest(source.dataset), *configurations):
            project.add(path)
        for path in files_of(run, item.probed):
            if path != run.features:
                project.add(path)


def _add_networks(project: _Project, which: str, folder: Path) -> None:
    """Add the snapshots of every network, all or, in files of their own in a folder, the last."""
    if which not in NETWORKS:
        raise ValueError(f"--networks {which}: allowed: {', '.join(NETWORKS)}")
    for name, run in project.plan.runs.items():
        snapshots = project.plan.folder.run(name).snapshots
        if not snapshots.is_file():
            raise FileError(
                f"{snapshots} is missing, which was asked for: pack without it, or run the study to its end"
            )
        if which == "last":
            last = max(project.plan.experiment(run).snapshot_epochs)
            tensors, _ = read_epoch(snapshots, last, "train")
            snapshots = folder / path_of(run).replace("/", "-")
            with write_epochs(snapshots, [last]) as put:
                put(last, tensors)
        project.add(snapshots, StudyFolder(Path(project.study.root)).run(name).snapshots.as_posix())


def _asked_for(path: Path) -> FileError:
    return FileError(f"{path} is missing, which was asked for: pack without it, or run the study to its end")


# --- what is said of it ----------------------------------------------------------------------------------------------


def _content(project: _Project, digests: Mapping[str, str], sizes: Mapping[str, int]) -> Content:
    """Return what the crate's metadata say of the archive's files."""
    plan, study, folder = project.plan, project.study, project.plan.folder
    configuration = project.configuration
    named = project.name_of(configuration) if configuration else f"config/{study.study}.yaml"
    reused = [run for _, run in reused_runs(specs.reuse(study), folder)] if plan.sources else []
    records = [read_json(run.run, "train") for run in [*map(plan.of, plan.runs.values()), *reused]]
    names = [entry.dataset for entry in study.experiments.values()]
    names += [name for key in study.experiments for name in study.transfer_datasets(key)]
    manifests = {name: read_json(folder.manifest(name), "prepare") for name in dict.fromkeys(names)}
    return Content(
        study=study.study,
        title=study.title,
        configuration=str(named),
        losses=sorted({f"{study.label(run.loss)}" for run in study.runs()}),
        records=records,
        manifests=manifests,
        digests=digests,
        sizes=sizes,
        texts=dict(_texts(project)),
        repository=repository(),
    )


def _texts(project: _Project) -> Iterator[tuple[str, str]]:
    """Yield what each file of the study is, by its name in the archive."""
    plan, study, root = project.plan, project.study, project.study.root
    folder = StudyFolder(Path(root))
    for name, member in vars(StudyFolder).items():
        if isinstance(member, property):
            yield getattr(folder, name).as_posix(), _line(member.__doc__)
    for name in study.datasets:
        yield folder.data(name).as_posix(), f"The prepared data set {name}"
        yield folder.manifest(name).as_posix(), f"What the data set {name} is: source, licence, classes, checksum"
    for name in plan.runs:
        run = RunFolder(folder.root / name)
        for key, member in vars(RunFolder).items():
            if isinstance(member, property) and isinstance(path := getattr(run, key), Path):
                yield path.as_posix(), f"{name}: {_line(member.__doc__)}"
    for experiment in study.experiments:
        for stem in study.figures(experiment):
            for ending in ("png", "pdf", "svg", "csv"):
                what = "numbers of the figure" if ending == "csv" else "figure"
                title = study.figure(stem).title
                yield folder.figure(experiment, stem, ending).as_posix(), f"{experiment}: {what} {title}"


def _line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0].rstrip(".")
