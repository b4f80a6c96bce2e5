"""A study in any folder: the workflow's files, a first study, and Snakemake on it; no clone is needed."""

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from nclens.study import ConfigError, load_study
from nclens.workflow.check import check_file, checked_lines
from nclens.workflow.files import no_folder, not_written, write_text
from nclens.workflow.running import DEFAULT_STUDY, remove_stale_lock, workflow_files

#: The study of a folder, as `nclens init` writes it.
STUDY = "study.yaml"
#: The first study, a folder of its own below `studies/`.
FIRST = "start"
#: Endings of a study's file.
YAML = (".yaml", ".yml")
#: The name of the default study, whose file is not in `studies/`.
DEFAULT_NAME = "digits"

#: What a study's comments say that holds in a clone alone.
_OF_A_CLONE = (
    (r"^# yaml-language-server:.*\n(#\n)?", ""),
    (r"snakemake (--configfile \S+ )?--cores all", "nclens run"),
)


def snakefile() -> str:
    """Return the path of the workflow's Snakefile, for `module nclens: snakefile: ...` in a Snakefile of your own.

    Raises:
        FileNotFoundError: the installation lacks the workflow's files.
    """
    return str(workflow_files() / "Snakefile")


# --- init ------------------------------------------------------------------------------------------------------------


def known_studies() -> dict[str, Path]:
    """Return the studies that come with the package, by name."""
    folder = workflow_files()
    return {DEFAULT_NAME: folder / DEFAULT_STUDY} | {path.stem: path for path in sorted(folder.glob("studies/*.yaml"))}


def init(folder: Path, study: str | None = None) -> list[Path]:
    """Write a study into a folder, and return the files that were written; the study is named after the folder.

    Args:
        folder: made if it is not there.
        study: a study that comes with the package, whose name stays; by default a short first one with a data set, a
            network and a loss of the user's own.

    Raises:
        ValueError: there is no such study; names those that there are.
        FileExistsError: the folder has one of the files, or it or one that it is in is a file; nothing is written.
        FileError: the folder or a file cannot be written.
    """
    content = _first(folder) if study is None else _copy_of(study)
    if wrong := no_folder(folder):
        raise FileExistsError(f"{wrong} is a file or a link to nothing; allowed: a folder, or a name that is free")
    if present := [name for name in content if os.path.lexists(folder / name)]:
        raise FileExistsError(
            f"{folder} has {' and '.join(present)} already, and nothing was written; name another folder, or move "
            f"{'it' if len(present) == 1 else 'them'} away"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(folder, error) from error
    for name, text in content.items():
        write_text(folder / name, text)
    return [folder / name for name in content]


def _first(folder: Path) -> dict[str, str]:
    """Return the files of the first study, name -> text; it is named after the folder where that is a name for one."""
    source = workflow_files() / "studies" / FIRST
    files = {path.name: path.read_text(encoding="utf-8") for path in (source / STUDY, *sorted(source.glob("*.py")))}
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "_", folder.resolve().name)
    text = re.sub(r"^study: \w+", f"study: {name}", files[STUDY], count=1, flags=re.MULTILINE)
    with contextlib.suppress(ConfigError):
        load_study(yaml.safe_load(text), [source])
        files[STUDY] = text
    return files


def _copy_of(study: str) -> dict[str, str]:
    """Return the files of a study that comes with the package: its own, and the modules whose functions it names."""
    known = known_studies()
    if study not in known:
        raise ValueError(f"there is no study {study!r} in the package; it has: {', '.join(known)}")
    text = known[study].read_text(encoding="utf-8")
    for pattern, replacement in _OF_A_CLONE:
        text = re.sub(pattern, replacement, text)
    modules = [path for path in workflow_files().glob("studies/*.py") if f"{path.stem}:" in text]
    return {STUDY: text} | {path.name: path.read_text(encoding="utf-8") for path in modules}


# --- run -------------------------------------------------------------------------------------------------------------


def run(arguments: Sequence[str]) -> NoReturn:
    """Check a study, remove the lock of a killed Snakemake, and become Snakemake with the workflow's Snakefile.

    Snakemake finds the profile: `profiles/default` of this folder or, without one, the workflow's.

    Args:
        arguments: the study's file, by default that of this folder, and then Snakemake's own arguments.

    Raises:
        ConfigError: the study has mistakes.
        OSError: there is no such file.
    """
    own = list(arguments)
    chosen = ["--configfile", "--configfiles"]
    named = any(argument.split("=")[0] in chosen for argument in own)
    if not named:
        first = own.pop(0) if own and not own[0].startswith("-") else None
        _refuse_a_study_after(first, own)
        study = _study_here() if first is None else _study(first)
        for line in checked_lines(study, check_file(study)):
            print(line)
        # Before an option, for --configfile takes all words that follow it.
        own = ["--configfile", str(study), "--snakefile", snakefile(), *own]
    else:
        own = ["--snakefile", snakefile(), *own]
    remove_stale_lock(Path.cwd())
    sys.stdout.flush()
    # -P: no file of the current folder takes the place of a package.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "snakemake", *own])


def _refuse_a_study_after(first: str | None, words: Sequence[str]) -> None:
    """Refuse a study's file among the words that Snakemake would take for something to make."""
    named = [
        word
        for before, word in zip(["", *words], words, strict=False)
        # Results are what Snakemake makes, and some of its options take a YAML file.
        if word.endswith(YAML) and word[0] != "-" and "results" not in Path(word).parts
        if not (before.startswith("--") and before.endswith(("config", "file")))
    ]
    if not named:
        return
    others = list(words)
    others.remove(named[0])
    if first is None:
        command = shlex.join(["nclens", "run", named[0], *others])
        raise ConfigError(f"{named[0]} follows Snakemake's options; the study's file is the first word: {command}")
    raise ConfigError(
        f"{named[0]} follows the study {first}; one study is run at a time: {shlex.join(['nclens', 'run', named[0]])}"
    )


def _study(name: str) -> Path:
    """Return the path of the study that is named."""
    path = Path(name)
    if path.is_dir():
        inside = f"cd {shlex.quote(name)} && nclens run" if (path / STUDY).is_file() else f"{STUDY} is not in it"
        raise ConfigError(f"{name} is a folder, not a study's YAML file: {inside}")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {name}; the first word is the study's YAML file, and what Snakemake is to make comes "
            f"after it{_those_here()}"
        )
    return path


def _study_here() -> Path:
    """Return the path of this folder's study: in a clone, the default study."""
    for name in (STUDY, DEFAULT_STUDY):
        if Path(name).is_file():
            return Path(name)
    raise FileNotFoundError(f"there is no {STUDY} here; to write one: nclens init my-study{_those_here()}")


def _those_here() -> str:
    found = sorted(path.name for path in [*Path().glob("*.yaml"), *Path().glob("*.yml")] if path.is_file())
    return f"; to run another file of this folder ({', '.join(found[:5])}): nclens run FILE" if found else ""


def show_ui(port: int) -> NoReturn:
    """Become the MLflow UI on what is recorded in this folder; it prints the studies' links once it answers."""
    script = str(workflow_files() / "envs" / "server.py")
    os.execv(sys.executable, [sys.executable, script, "--ui", "--port", str(port)])
