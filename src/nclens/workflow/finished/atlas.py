"""The atlas: the verdicts of finished studies, archives and other atlases as one table and one page."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from nclens import __version__
from nclens.claims import CLAIMS
from nclens.claims.across_studies import standard_error, summaries
from nclens.claims.verdict import AGAINST
from nclens.report.atlas import atlas_page
from nclens.report.effects import VERDICTS
from nclens.study import ConfigError
from nclens.study.reading import parse_study
from nclens.study.reused import entries_of
from nclens.workflow import tables
from nclens.workflow.files import FileError, no_folder, write_text
from nclens.workflow.finished.archive import Archive
from nclens.workflow.finished.opening import MOST_LISTED, listed, locate, read_resolved
from nclens.workflow.finished.settings import entry_text
from nclens.workflow.paths import AtlasFolder, StudyFolder, is_judged
from nclens.workflow.provenance import code_digest
from nclens.workflow.resolved import ResolvedExperiment, experiments_of

Row = dict[str, str]

#: What an atlas is called.
NAMED = AtlasFolder(Path())
#: Files that lie beside studies and are none: what `make report` and the rule `atlas` write.
PASSED_OVER = ("snakemake.html", NAMED.page.name, NAMED.log.name)
ALLOWED = "the folder of a study's results, such as results/digits, an archive of `nclens pack` or an atlas.csv"
FINISHED, UNFINISHED, OTHER_VERSION = "finished", "unfinished", "other version"
#: Where a study's files are below its folder.
OF = StudyFolder(Path())
#: Keys of a loss that the row of a verdict does not tell, or tells elsewhere; a constant schedule is none.
TOLD_ELSEWHERE = ("schedule", "teacher")


@dataclass(frozen=True)
class Atlas:
    """What was written.

    Attributes:
        rows: of the table.
        summaries: how many random-effects summaries the page has.
        problems: a message on each study that is unfinished or of another version.
    """

    rows: list[Row]
    summaries: int
    problems: list[str]


@dataclass
class _Read:
    """What was read: rows and the path that they are from, by study, of studies and of atlases."""

    studies: dict[str, tuple[Path, list[Row]]] = field(default_factory=dict)
    atlases: dict[str, tuple[Path, list[Row]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Lacking(Exception):
    """A study that cannot be in the atlas with its verdicts: its status, and what it lacks."""

    def __init__(self, status: str, lacks: str) -> None:
        super().__init__(lacks)
        self.status, self.lacks = status, lacks


def atlas(given: Sequence[Path], to: Path = Path(), link: str | None = None) -> Atlas:
    """Write atlas.csv and atlas.html.

    Args:
        given: folders of results, archives, and tables that `atlas` has written. A study that is read from its folder
            or its archive replaces the rows that a table has of it, unless it is unfinished.
        to: the folder to write to.
        link: where the cells of a study lead, with {study} for its name; by default to its page, or to the archive.

    Raises:
        FileError: a path is no study, two of them are studies of one name, none is a study, an archive or a table is
            damaged, or the files cannot be written; then nothing is written.
        ValueError: a `link` without {study}, or one that leads to no file or page.
    """
    _check_link(link)
    if wrong := no_folder(to):
        raise FileError(f"--to {to}: {wrong} is a file or a link to nothing; allowed: a folder")
    read = _Read()
    for path in reversed({os.path.realpath(path): path for path in reversed(given)}.values()):
        if path.is_dir():
            _add_study(read, path, _Folder(path), to)
        elif path.suffix.lower() == ".zip" and path.is_file():
            _add_study(read, path, _Packed(path), to)
        elif path.suffix.lower() == ".csv" and path.is_file():
            _add_atlas(read, path, to)
        elif not path.is_file():
            raise FileError(f"there is no folder or file {path}; allowed: {ALLOWED}")
        elif path.name not in PASSED_OVER:
            raise FileError(f"{path} is no study; allowed: {ALLOWED}")
    known = dict(read.atlases)
    known |= {
        name: found
        for name, found in read.studies.items()
        if name not in known or found[1][0]["status"] == FINISHED or known[name][1][0]["status"] != FINISHED
    }
    if not known:
        raise FileError(f"none of {listed(given)} is a study; allowed: {ALLOWED}")
    rows = [row for name in sorted(known) for row in known[name][1]]
    if link is not None:
        rows = [row | ({"link": link.format(study=quote(row["study"]))} if row["link"] else {}) for row in rows]
    files = AtlasFolder(to)
    _check_replaced(files.table)
    tables.write_rows(tables.ATLAS, files.table, rows)
    found = summaries(row for row in rows if row["claim"])
    write_text(files.page, atlas_page(rows, found, (__version__, code_digest("judge"))))
    return Atlas(rows, len(found), read.problems)


def described(made: Atlas, to: Path) -> str:
    """Return what was written, in a line."""
    judged = [row for row in made.rows if row["claim"]]
    counts = {
        "studies": len({row["study"] for row in made.rows}),
        "verdicts": len(judged),
        "data sets": len({row["data"] for row in judged}),
        "pooled comparisons": made.summaries,
    }
    files, found = AtlasFolder(to), ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"{files.page}, {files.table}: {found}"


def _check_link(link: str | None) -> None:
    if link is not None and (re.sub(r"\{study\}", "", link) == link or re.search(r"[{}]", link.replace("{study}", ""))):
        raise ValueError(f"--link {link}: allowed: an address with {{study}} for the study's name, and no other braces")
    if link is not None and not _is_address(link):
        raise ValueError(f"--link {link}: allowed: a path, or an address that begins with https:// or http://")


def _is_address(link: str) -> bool:
    """Return whether a link leads to a relative path or to a page of the web, and runs nothing."""
    scheme = re.match(r"[^/?#]*:", link)
    return not link.startswith("/") and (scheme is None or link.startswith(("https://", "http://")))


def _check_replaced(path: Path) -> None:
    """Refuse to replace a table that is no atlas."""
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            _, lacking = tables.parsed(tables.ATLAS, [file.readline()])
        if len(lacking) > len(tables.ATLAS.columns) / 2:
            raise FileError(f"{path} is there already and is no atlas: move it, or choose another folder by --to")


# --- studies ---------------------------------------------------------------------------------------------------------


class _Folder:
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
            raise _Lacking(UNFINISHED, f"{missing[0]}{more} {'are' if more else 'is'} missing")
        if not is_judged(StudyFolder(self.path)):
            raise _Lacking(UNFINISHED, f"the page is older than {OF.metrics}")

    def said(self, lacking: _Lacking) -> str:
        """Return the message on a study that lacks something."""
        command = locate(self.path).command
        if lacking.status == UNFINISHED:
            return f"{self.path} is unfinished, {lacking.lacks}: `{command}` finishes the study"
        return f"{self.path} is of another version, {lacking.lacks}: `{command}` judges it again"


class _Packed:
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
            raise _Lacking(UNFINISHED, f"{missing[0]} is missing")

    def said(self, lacking: _Lacking) -> str:
        """Return the message on a study that lacks something."""
        what = "unfinished" if lacking.status == UNFINISHED else "of another version"
        again = f"nclens unpack {self.path}"
        return f"{self.path} is {what}, {lacking.lacks}: `{again}`, run the study there again and pack it"


def _add_study(read: _Read, path: Path, files: _Folder | _Packed, to: Path) -> None:
    """Add a study's rows, or the one row that says what it lacks."""
    head = dict.fromkeys(tables.ATLAS.columns, "") | {"layout": tables.ATLAS_LAYOUT, "origin": files.origin}
    head |= {"study": files.origin, "status": FINISHED}
    head |= {"link": quote(_below(files.page, to))} if files.page.is_file() else {}
    try:
        rows = _rows(head, files)
    except _Lacking as lacking:
        rows = [head | {"status": lacking.status, "lacks": lacking.lacks}]
        read.problems.append(files.said(lacking))
    name = rows[0]["study"]
    if name in read.studies:
        first, second = sorted(map(str, (read.studies[name][0], path)))
        raise FileError(f"{first} and {second} are two studies of one name, {name}: name one of them")
    read.studies[name] = path, rows


def _below(path: Path, to: Path) -> str:
    """Return a path as seen from a folder."""
    return Path(os.path.relpath(path, to)).as_posix()


def _rows(head: Row, files: _Folder | _Packed) -> list[Row]:
    """Return a study's rows, and complete what all of them have."""
    content = files.read(OF.resolved)
    if content is None:
        raise _Lacking(UNFINISHED, f"{OF.resolved} is missing")
    try:
        resolved = parse_study(content, Path(files.origin, OF.resolved))
        head |= {"study": str(resolved["study"]), "title": str(resolved.get("title") or "")}
        experiments = experiments_of(resolved)
        manifests = {name: OF.manifest(name) for name in dict.fromkeys(one.dataset for one in experiments.values())}
    except (ConfigError, KeyError, TypeError, AttributeError):
        raise _Lacking(OTHER_VERSION, f"{OF.resolved} is no resolved study of this version") from None
    files.check(manifests.values())
    try:
        record = _json(files.read(OF.judged)) if files.read(OF.judged) is not None else {}
        head |= {key: str(record.get(key) or "") for key in ("version", "code")}
        head["commit"] = str(record.get("git_revision") or "")
        described = {name: _json(files.read(path)) for name, path in manifests.items()}
    except (ValueError, AttributeError) as error:
        raise _Lacking(UNFINISHED, f"a record is damaged ({error})") from None
    text = (files.read(OF.claims) or b"").decode("utf-8", "replace")
    try:
        claims, lacking = tables.parsed(tables.CLAIMS, io.StringIO(text, newline=""))
    except csv.Error as error:
        raise _Lacking(UNFINISHED, f"{OF.claims} is damaged ({error})") from None
    if lacking:
        raise _Lacking(OTHER_VERSION, f"{OF.claims} lacks the columns {', '.join(lacking)}")
    try:
        found = [
            head | _cell(row, after, resolved, experiments, described)
            # A verdict has the numbers of its main measure, which comes right after it.
            for row, after in zip(claims, [*claims[1:], {"level": "claim"}], strict=True)
            if row["level"] == "claim"
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{OF.claims} and {OF.resolved} do not fit together"
        raise _Lacking(UNFINISHED, f"{what} ({type(error).__name__}: {error})") from None
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
    _check_numbers(row)
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


ALTERED = ("imbalance", "label_noise")


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


# --- other atlases ---------------------------------------------------------------------------------------------------


def _add_atlas(read: _Read, path: Path, to: Path) -> None:
    """Add the rows of an atlas that was written before."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows, lacking = tables.parsed(tables.ATLAS, file)
    except csv.Error as error:
        raise FileError(f"{path} is no table: {error}") from None
    layouts = {row.get("layout") for row in rows} - {tables.ATLAS_LAYOUT}
    if lacking or layouts:
        said = f"lacks the columns {listed(lacking)}" if lacking else f"has the layout {listed(layouts)}"
        raise FileError(
            f"{path} is no atlas of this version, it {said}: `nclens atlas` writes it again from the studies (layout "
            f"{tables.ATLAS_LAYOUT})"
        )
    place = _below(path.parent, to)
    by_study: dict[str, list[Row]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            _check_row(row)
        except ValueError as error:
            raise FileError(f"{path}, row {number}: {error}") from None
        below = bool(row["link"]) and "://" not in row["link"]
        link = posixpath.normpath(posixpath.join(quote(place), row["link"])) if below else row["link"]
        # A table that somebody sent has a name of its own.
        known = path.name == NAMED.table.name or row["origin"].startswith(f"{path.name}: ")
        origin = row["origin"] if known else f"{path.name}: {row['origin']}"
        kept = {name: row[name] for name in tables.ATLAS.columns}
        by_study.setdefault(row["study"], []).append(kept | {"link": link, "origin": origin})
    for name, found in by_study.items():
        if name in read.atlases and _content(read.atlases[name][1]) != _content(found):
            first, second = sorted(map(str, (read.atlases[name][0], path)))
            raise FileError(f"{first} and {second} have different rows of the study {name}: name one of them")
        read.atlases.setdefault(name, (path, found))


def _content(rows: Iterable[Row]) -> list[Row]:
    """Return rows without where they were found."""
    return [row | {"link": "", "origin": ""} for row in rows]


def _check_row(row: Mapping[str, str]) -> None:
    """Refuse a row that `atlas` has not written."""
    if row["status"] not in (FINISHED, UNFINISHED, OTHER_VERSION):
        raise ValueError(f"status {row['status']!r}; allowed: {FINISHED}, {UNFINISHED}, {OTHER_VERSION}")
    if row["claim"] and row["verdict"] not in VERDICTS:
        raise ValueError(f"verdict {row['verdict']!r}; allowed: {', '.join(VERDICTS)}")
    if not row["study"]:
        raise ValueError("study is empty; allowed: a name")
    if not _is_address(row["link"]):
        raise ValueError(f"link {row['link'][:MOST_LISTED]!r}; allowed: a path, or an address of the web")
    _check_numbers(row)


def _check_numbers(row: Mapping[str, str]) -> None:
    for name, kind in tables.ATLAS.columns.items():
        if kind is tables.NUMBER and (text := row.get(name, "")):
            try:
                float(text)
            except ValueError:
                raise ValueError(f"{name} {text!r}; allowed: a number") from None
