"""The check of a study before anything starts, the same for `nclens check` and for the Snakefile."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from nclens.study import ConfigError, Study, load_study, read_study
from nclens.workflow import specs
from nclens.workflow.paths import StudyFolder
from nclens.workflow.reused import check_runs, reused_lines
from nclens.workflow.specs import encode

#: The longest specification on a command line, in bytes, shell quotes included: Linux starts no command with an
#: argument of more than 131,072 bytes, which is also to hold the job's paths.
MOST_BYTES = 120_000

#: What Snakemake's `PeriodicityDetector` refuses as the end of a wildcard's value.
_REPEATED = re.compile(r"(?P<part>.+?)(?P=part){19,}$")

#: The steps of the study, those of a data set, and those of a run, which their rules call with a specification.
OF_STUDY = (
    *(specs.resolve, specs.reuse, specs.collect, specs.theory, specs.predict, specs.judge, specs.draw),
    *(specs.track_setup, specs.track_study),
)
OF_RUN = (specs.train, specs.ingest, specs.extract, specs.measure, specs.probe, specs.track_run)


def check_file(path: Path) -> Study:
    """Read a study's YAML file and check it.

    Raises:
        ConfigError: with the file, and every mistake.
        OSError: the file is not there.
    """
    raw = read_study(path)
    try:
        return check_study(raw, [path.parent])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_study(raw: Any, folders: list[Path]) -> Study:
    """Check a parsed configuration: its values, the names of its files, its labels, and the length of its commands.

    Args:
        raw: the configuration.
        folders: where modules of the user's own are looked for.

    Raises:
        ConfigError: with every mistake.
    """
    study = load_study(raw, [*folders])
    _check_names(study)
    _check_labels({loss: entry.label for loss, entry in study.losses.items() if entry.label})
    for step, spec in specifications(study):
        _check_length(step, spec)
    check_runs(study)
    return study


def check_config(config: Any, files: Sequence[Path], user: Path | None) -> Study:
    """Check Snakemake's parsed config, command-line overrides included, and the files that it was read from.

    Args:
        config: Snakemake's.
        files: the configuration files of the workflow.
        user: the folder of the Snakefile that uses ours as a module, else None. Its configuration files may hold more
            than the study, so only the config is checked; its folder is looked in for the user's functions too.

    Raises:
        ConfigError: with every mistake.
    """
    if user is None:  # our parser refuses what is no plain data
        for file in files:
            read_study(file)
    return check_study(config, [*(file.parent for file in files), *([] if user is None else [user])])


def checked_lines(path: Path, study: Study) -> Iterator[str]:
    """Yield what the check of a study says: the runs that it takes from other studies, and how many it has."""
    yield from reused_lines(study)
    yield f"{path}: fine; runs: {sum(1 for _ in study.runs())}, experiments: {len(study.experiments)}"


def study_files() -> set[str]:
    """Return the names of the files and folders that a study's folder holds beside those of its data sets."""
    folder, found = StudyFolder(Path()), set()
    for name, member in vars(StudyFolder).items():
        if isinstance(member, property):
            found.add(getattr(folder, name))
        elif callable(member) and not name.startswith("_") and member is not StudyFolder.run:
            found.add(member(folder, *["x"] * (len(signature(member).parameters) - 1)))
    return {path.parts[0] for path in found}


def specifications(study: Study) -> Iterator[tuple[str, Any]]:
    """Yield the specifications of a study's jobs, each with its step; of runs that differ in the seed, of one."""
    reuses = any(study.reused(name) for name in study.experiments)
    for step in OF_STUDY:
        if step is not specs.reuse or reuses:
            yield step.__name__, step(study)
    for name in study.experiments:
        for figure in study.figures(name):
            if figure in study.own_figures:
                yield f"draw_own {name}/{figure}", specs.draw_own(study, name, figure)
    yield "report", specs.report(study, "")
    for dataset in study.datasets:
        yield f"prepare {dataset}", specs.prepare(study, dataset)
    for name, entry in study.experiments.items():
        for loss in entry.own:
            run = study.run(name, loss, max(entry.seeds))
            imported = study.is_imported(name)
            idle = [specs.train if imported else specs.ingest, *([] if entry.probes else [specs.probe])]
            for of_run in OF_RUN:
                if of_run not in idle:
                    yield f"{of_run.__name__} {name}/{loss}", of_run(study, run)


def _check_names(study: Study) -> None:
    """Refuse names of data sets that are names of files, or that Snakemake takes for a loop of its rules."""
    reserved = {name.lower() for name in study_files()}
    for name in study.datasets:
        if name.lower() in reserved:
            allowed = f"any name but {', '.join(sorted(n for n in reserved if n[0] != '.'))}"
            raise ConfigError(
                f"datasets.{name}: is the name of a file or folder in the study's folder; allowed: {allowed}"
            )
        # The other names are parts of the wildcard `run`, which ends with a seed.
        if found := _REPEATED.search(name):
            raise ConfigError(
                f"datasets.{name}: ends with `{found['part']}` 20 times or more, which Snakemake takes for an endless "
                "loop; allowed: 19 times"
            )


def _check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels whose formulas Matplotlib cannot draw."""
    formulas = {loss: label for loss, label in labels.items() if "$" in label}
    if not formulas:
        return
    from nclens.figures.formulas import fault_of

    for loss, label in formulas.items():
        if reason := fault_of(label):
            raise ConfigError(
                f"losses.{loss}.label = {label!r}: Matplotlib cannot draw it: {reason}; allowed: "
                "text, and formulas of its mathtext between $"
            )


def _check_length(step: str, spec: Any) -> None:
    size = len(shlex.quote(encode(spec)).encode())
    if size > MOST_BYTES:
        raise ConfigError(
            f"The settings of the step `{step}` take {size:,} bytes on its command line; at most {MOST_BYTES:,} are "
            "allowed: shorten labels, lists and parameters, or split the study"
        )
