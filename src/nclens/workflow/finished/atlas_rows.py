"""A study's rows of the atlas, from the folder of its results or from its archive."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from nclens.claims import CLAIMS
from nclens.claims.across_studies import standard_error
from nclens.claims.verdict import AGAINST
from nclens.report.effects import VERDICTS
from nclens.study import ConfigError
from nclens.study.reading import parse_study
from nclens.study.reused import entries_of
from nclens.workflow import tables
from nclens.workflow.finished.archive import Archive
from nclens.workflow.finished.opening import locate, read_resolved
from nclens.workflow.finished.settings import entry_text
from nclens.workflow.paths import StudyFolder, is_judged
from nclens.workflow.resolved import ResolvedExperiment, experiments_of

Row = dict[str, str]

FINISHED, UNFINISHED, OTHER_VERSION = "finished", "unfinished", "other version"
#: Where a study's files are below its folder.
OF = StudyFolder(Path())
#: Keys of a loss that the row of a verdict tells elsewhere, or in its own way: a constant schedule is none.
TOLD_ELSEWHERE = ("schedule", "teacher")
#: Keys of a data set that say what was done to its training labels and classes.
ALTERED = ("imbalance", "label_noise")


class Lacking(Exception):
    """A study that cannot be in the atlas with its verdicts: its status, and what it lacks."""

    def __init__(self, status: str, lacks: str) -> None:
        super().__init__(lacks)
        self.status, self.lacks = status, lacks


class InFolder:
    """A study in the folder of its results."""

    def __init__(self, path: Path) -> None:
        self.path, self.origin = path, Path(os.path.abspath(path)).name
        self.page = path / OF.report
        if not StudyFolder(path).log("").parent.is_dir():  # the workflow has not begun here
            read_resolved(locate(path))  # says what the folder is

    def read(self, name: Path) -> bytes | None:
        """Return a file's content; None where it is not there."""
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def check(self, manifests: Iterable[Path]) -> None:
        """Refuse a study that has not run to its end."""
        wanted = [OF.metrics, OF.claims, OF.report, *manifests]
        if missing := [str(name) for name in wanted if not (self.path / name).is_file()]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise Lacking(UNFINISHED, f"{missing[0]}{more} {'are' if more else 'is'} missing")
        if not is_judged(StudyFolder(self.path)):
            raise Lacking(UNFINISHED, f"the page is older than {OF.metrics}")

    def said(self, lacking: Lacking) -> str:
        """Return the message on a study that lacks something."""
        command = locate(self.path).command
        if lacking.status == UNFINISHED:
            return f"{self.path} is unfinished, {lacking.lacks}: `{command}` finishes the study"
        return f"{self.path} is of another version, {lacking.lacks}: `{command}` judges it again"


class Packed:
    """A study in an archive."""

    def __init__(self, path: Path) -> None:
        self.path, self.origin, self.page = path, path.name, path
        self._archive = Archive(path)

    def read(self, name: Path) -> bytes | None:
        """Return a file's content, checked against its checksum; None where it is not there."""
        if name.as_posix() not in self._archive.files:
            return None
        with self._archive.open(name.as_posix()) as file:
            return file.read()

    def check(self, manifests: Iterable[Path]) -> None:
        """Refuse a study that has not run to its end: of such a one there is no archive."""
        if missing := [str(name) for name in (OF.claims, *manifests) if name.as_posix() not in self._archive.files]:
            raise Lacking(UNFINISHED, f"{missing[0]} is missing")

    def said(self, lacking: Lacking) -> str:
        """Return the message on a study that lacks something."""
        what = "unfinished" if lacking.status == UNFINISHED else "of another version"
        again = f"nclens unpack {self.path}"
        return f"{self.path} is {what}, {lacking.lacks}: `{again}`, run the study there again and pack it"


def study_rows(head: Row, files: InFolder | Packed) -> list[Row]:
    """Return a study's rows, and complete what all of them have."""
    content = files.read(OF.resolved)
    if content is None:
        raise Lacking(UNFINISHED, f"{OF.resolved} is missing")
    try:
        resolved = parse_study(content, Path(files.origin, OF.resolved))
        head |= {"study": str(resolved["study"]), "title": str(resolved.get("title") or "")}
        experiments = experiments_of(resolved)
        manifests = {name: OF.manifest(name) for name in dict.fromkeys(one.dataset for one in experiments.values())}
    except (ConfigError, KeyError, TypeError, AttributeError):
        raise Lacking(OTHER_VERSION, f"{OF.resolved} is no resolved study of this version") from None
    files.check(manifests.values())
    try:
        record = _json(files.read(OF.judged)) if files.read(OF.judged) is not None else {}
        head |= {key: str(record.get(key) or "") for key in ("version", "code")}
        head["commit"] = str(record.get("git_revision") or "")
        described = {name: _json(files.read(path)) for name, path in manifests.items()}
    except (ValueError, AttributeError) as error:
        raise Lacking(UNFINISHED, f"a record is damaged ({error})") from None
    text = (files.read(OF.claims) or b"").decode("utf-8", "replace")
    try:
        claims, lacking = tables.parsed(tables.CLAIMS, io.StringIO(text, newline=""))
    except csv.Error as error:
        raise Lacking(UNFINISHED, f"{OF.claims} is damaged ({error})") from None
    if lacking:
        raise Lacking(OTHER_VERSION, f"{OF.claims} lacks the columns {', '.join(lacking)}")
    try:
        found = [
            head | _cell(row, after, resolved, experiments, described)
            # A verdict has the numbers of its main measure, which comes right after it.
            for row, after in zip(claims, [*claims[1:], {"level": "claim"}], strict=True)
            if row["level"] == "claim"
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{OF.claims} and {OF.resolved} do not fit together"
        raise Lacking(UNFINISHED, f"{what} ({type(error).__name__}: {error})") from None
    return found or [head]


def _json(content: bytes | None) -> Any:
    return json.loads(content or b"")


def _cell(
    row: Mapping[str, str],
    after: Mapping[str, str],
    resolved: Mapping[str, Any],
    experiments: Mapping[str, ResolvedExperiment],
    manifests: Mapping[str, Mapping[str, Any]],
) -> Row:
    """Return what the atlas has of a verdict beside what it has of its study.

    Args:
        row: of the table of claims.
        after: the row after it, of its main measure if it has one.
        resolved: the study.
        experiments: its experiments.
        manifests: of its data sets.
    """
    check_numbers(row)
    if row["verdict"] not in VERDICTS:
        raise ValueError(f"verdict {row['verdict']!r}; allowed: {', '.join(VERDICTS)}")
    dataset = experiments[row["experiment"]].dataset
    main = after if after["level"] == "measure" else {"quantity": "", "p": ""}
    cell = {key: row[key] for key in tables.ATLAS.columns if key in row and key != "quantity"}
    cell |= _of_data(resolved["datasets"][dataset], manifests[dataset])
    losses = resolved["losses"] | entries_of(resolved)
    compared = [row["loss"], *([row["baseline"]] if row["baseline"] else [])]
    for key, loss in zip(("loss", "baseline"), compared, strict=False):
        cell |= {f"{key}_label": str(losses[loss].get("label") or loss), f"{key}_settings": _settings(losses, loss)}
    training = resolved["experiments"][row["experiment"]].get("training")
    used = [_optimizer(losses[loss], training) for loss in compared]
    p = float(main["p"]) if main["p"] else float("nan")
    error = standard_error(row, p)
    return cell | {
        "optimizer": AGAINST.join(dict.fromkeys(used)),
        "quantity": main["quantity"],
        "measure": _label(row["claim"], main["quantity"]),
        "standard_error": repr(error) if error > 0 else "",
    }


def _of_data(entry: Mapping[str, Any], manifest: Mapping[str, Any]) -> Row:
    """Return what the data set is, with its size and what was done to its labels and classes."""
    place = PurePath(str(entry.get("path", ""))).name
    known = str(entry.get("name") or entry.get("function") or entry.get("source"))
    source = str(manifest.get("source") or "")
    for value in entry.values():
        if isinstance(value, str) and os.path.isabs(value):
            source = source.replace(value, PurePath(value).name)
    changed = [f"{key.replace('_', ' ')} {entry_text(entry[key])}" for key in ALTERED if entry.get(key)]
    return {
        "data": f"{place} ({known})" if place else known,
        "source": source,
        **{split: str(manifest.get(split, "")) for split in ("train", "test")},
        "altered": ", ".join(changed),
    }


def _settings(losses: Mapping[str, Mapping[str, Any]], loss: str) -> str:
    """Return a loss with all its arguments; empty for one of another study, which alone has them."""
    entry = losses[loss]
    if "study" in entry:
        return ""
    told = {key: value for key, value in entry.items() if key not in TOLD_ELSEWHERE and value is not None}
    schedule, teacher = entry.get("schedule"), entry.get("teacher")
    if schedule and schedule.get("kind") != "constant":
        told["schedule"] = schedule
    text = entry_text(told)
    return f"{text}, taught by {_settings(losses, teacher['loss'])}" if teacher else text


def _optimizer(entry: Mapping[str, Any], training: Mapping[str, Any] | None) -> str:
    """Return what a loss is minimised by."""
    if training is None:
        return "trained elsewhere"
    chosen = entry.get("optimizer") or training["optimizer"]
    return str(chosen.get("name") or chosen["function"])


def _label(claim: str, quantity: str) -> str:
    try:
        return CLAIMS[claim].label(quantity) if quantity else ""
    except (KeyError, ValueError):  # of the user's own, or of another version
        return quantity


def check_numbers(row: Mapping[str, str]) -> None:
    """Refuse a row with a text in a column of numbers, by a ValueError."""
    for name, kind in tables.ATLAS.columns.items():
        if kind is tables.NUMBER and (text := row.get(name, "")):
            try:
                float(text)
            except ValueError:
                raise ValueError(f"{name} {text!r}; allowed: a number") from None
