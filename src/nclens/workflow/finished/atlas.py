"""The atlas: the verdicts of finished studies, archives and other atlases as one table and one page."""

from __future__ import annotations

import csv
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from nclens import __version__
from nclens.claims.across_studies import summaries
from nclens.report.atlas import atlas_page
from nclens.report.effects import VERDICTS
from nclens.workflow import tables
from nclens.workflow.files import FileError, no_folder, write_text
from nclens.workflow.finished.atlas_rows import (
    FINISHED,
    OTHER_VERSION,
    UNFINISHED,
    InFolder,
    Lacking,
    Packed,
    Row,
    check_numbers,
    study_rows,
)
from nclens.workflow.finished.opening import MOST_LISTED, listed
from nclens.workflow.paths import AtlasFolder
from nclens.workflow.provenance import code_digest

#: What an atlas is called.
NAMED = AtlasFolder(Path())
#: Files that lie beside studies and are none: what `make report` and the rule `atlas` write.
PASSED_OVER = ("snakemake.html", NAMED.page.name, NAMED.log.name)
#: Between the name of a table that was sent and that of a study in it; no study's name has it.
THEIRS = ": "
ALLOWED = "the folder of a study's results, such as results/digits, an archive of `nclens pack` or an atlas.csv"


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
    """What was read: rows and the path that they are from, by study, of studies, of atlases and of others' tables."""

    studies: dict[str, tuple[Path, list[Row]]] = field(default_factory=dict)
    atlases: dict[str, tuple[Path, list[Row]]] = field(default_factory=dict)
    sent: dict[str, tuple[Path, list[Row]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def atlas(given: Sequence[Path], to: Path = Path(), link: str | None = None) -> Atlas:
    """Write atlas.csv and atlas.html.

    Args:
        given: folders of results, archives, and tables that `atlas` has written. A study that is read from its folder
            or its archive replaces the rows that a table has of it, unless it is unfinished.
        to: the folder to write to.
        link: where the cells of a study lead, with {study} for its name; by default to its page, or to the archive.
            Those of tables that were sent keep their own.

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
            _add_study(read, path, InFolder(path), to)
        elif path.suffix.lower() == ".zip" and path.is_file():
            _add_study(read, path, Packed(path), to)
        elif path.suffix.lower() == ".csv" and path.is_file():
            _add_atlas(read, path, to)
        elif not path.is_file():
            raise FileError(f"there is no folder or file {path}; allowed: {ALLOWED}")
        elif path.name not in PASSED_OVER:
            raise FileError(f"{path} is no study; allowed: {ALLOWED}")
    known = read.atlases | read.sent
    known |= {
        name: found
        for name, found in read.studies.items()
        if name not in known or found[1][0]["status"] == FINISHED or known[name][1][0]["status"] != FINISHED
    }
    if not known:
        raise FileError(f"none of {listed(given)} is a study; allowed: {ALLOWED}")
    rows = [row for name in sorted(known) for row in known[name][1]]
    if link is not None:
        rows = [
            row | {"link": link.format(study=row["study"])} if row["link"] and THEIRS not in row["study"] else row
            for row in rows
        ]
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


def _add_study(read: _Read, path: Path, files: InFolder | Packed, to: Path) -> None:
    """Add a study's rows, or the one row that says what it lacks."""
    head = dict.fromkeys(tables.ATLAS.columns, "") | {"layout": tables.ATLAS_LAYOUT, "origin": files.origin}
    head |= {"study": files.origin, "status": FINISHED}
    head |= {"link": quote(_below(files.page, to))} if files.page.is_file() else {}
    try:
        rows = study_rows(head, files)
    except Lacking as lacking:
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
    # A table that somebody sent has a name of its own, and its studies are theirs.
    own = path.name == NAMED.table.name
    whose, found = "" if own else path.stem + THEIRS, read.atlases if own else read.sent
    place = _below(path.parent, to)
    by_study: dict[str, list[Row]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            _check_row(row)
        except ValueError as error:
            raise FileError(f"{path}, row {number}: {error}") from None
        below = bool(row["link"]) and "://" not in row["link"]
        link = posixpath.normpath(posixpath.join(quote(place), row["link"])) if below else row["link"]
        kept = {name: row[name] for name in tables.ATLAS.columns} | {"link": link}
        if not row["study"].startswith(whose):
            kept |= {"study": whose + row["study"], "origin": f"{path.name}: {row['origin']}"}
        by_study.setdefault(kept["study"], []).append(kept)
    for name, rows in by_study.items():
        if name in found and _content(found[name][1]) != _content(rows):
            first, second = sorted(map(str, (found[name][0], path)))
            raise FileError(f"{first} and {second} have different rows of the study {name}: name one of them")
        found.setdefault(name, (path, rows))


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
    check_numbers(row)
