"""A finished study for a paper: tables, numbers, figures and references as files that a LaTeX document reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nclens import __version__
from nclens.claims.papers import named_in
from nclens.figures.catalogue import FIGURES
from nclens.report import latex, macros, quotes
from nclens.report.losses import table_of
from nclens.report.text import Names
from nclens.report.verdicts import judged_claims
from nclens.workflow import specs, tables
from nclens.workflow.build.claims import build_claim
from nclens.workflow.build.figures import draw_figure, draw_own
from nclens.workflow.files import FileError, atomic_write, no_folder, read_json
from nclens.workflow.finished.opening import check_finished, opened
from nclens.workflow.finished.settings import settings_rows
from nclens.workflow.paths import StudyFolder
from nclens.workflow.stages.draw import experiment_inputs, read_tables

if TYPE_CHECKING:
    from nclens.figures.inputs import Drawing, FigureInputs
    from nclens.figures.printing import Paper
    from nclens.study import Study
    from nclens.workflow.plan import Plan

#: Unit of a width -> inches; a point is TeX's.
UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
#: The narrowest and the widest figure in inches, and the smallest and the largest text in points.
WIDTHS, SIZES = (2.0, 20.0), (5.0, 24.0)
#: The height in inches above which a figure fits no page.
PAGE_HEIGHT = 9.0
#: The list of what an export has written, with the checksums.
RECORD = "nclens.json"
#: The most names in a message.
MOST_NAMES = 5
#: Name of a table in `figures` -> the file of the theory that it is read from.
THEORY = {"theory": "ufm", **{name: name for name in ("dynamics", "predictions", "regression", "nc0")}}


@dataclass
class Export:
    """What an export has written.

    Attributes:
        files: path below the folder -> content.
        numbers: how many paths have a number.
        papers: how many papers are in the bibliography.
        tall: figures that are higher than a page.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    numbers: int = 0
    papers: int = 0
    tall: list[str] = field(default_factory=list)

    def add(self, path: str, text: str) -> None:
        """Add a file of text."""
        self.files[path] = text.encode()


def export(
    source: Path, to: Path, width: str, font: str, size: float, figures: str | None = None, digits: int = 3
) -> Export:
    """Write a finished study for a paper.

    Args:
        source: folder of the study's results, or its YAML file.
        to: the folder to write to; its other files stay.
        width: of figures, such as `3.25in`; units in, cm, mm, pt.
        font: serif, sans-serif or monospace, or a family that is installed.
        size: of the figures' text, in points.
        figures: names of those to draw, with a comma between them, or `none`; by default all that the study has.
        digits: significant digits of a number without an interval.

    Raises:
        ValueError: a width, font, size, number of digits or figure that there is not; says what is allowed.
        FileError: the study has not run to its end, its verdicts are older than its measurements, a file of it is
            damaged, or the folder holds another file in the way.
        ConfigError: the YAML file is not what the results were made from.
    """
    paper = paper_of(width, font, size)
    if not 1 <= digits <= 15:
        raise ValueError(f"--digits {digits}: allowed: from 1 to 15")
    _check_folder(to)
    found = opened(source)
    study, folder = found.study, found.plan.folder
    check_finished(found, _read(found.plan))
    wanted = figures_of(study, figures)
    made = Export()
    _add_tables(made, study, folder, wanted, digits)
    captions = dict(_add_figures(made, study, folder, wanted, paper))
    losses = [(name, loss) for name, entry in study.experiments.items() for loss in entry.losses]
    made.add("nclens.tex", macros.macro_file(study.experiments, losses, captions))
    write(made.files, to, study.study)
    return made


# --- what is asked for -----------------------------------------------------------------------------------------------


def paper_of(width: str, font: str, size: float) -> Paper:
    """Return where figures are printed.

    Raises:
        ValueError: a width, font or size that there is not; says what is allowed.
    """
    from nclens.figures.printing import GENERIC, Paper, installed_fonts

    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*", width)
    inches = float(found[1]) * UNITS[found[2]] if found and found[2] in UNITS else 0.0
    if not WIDTHS[0] <= inches <= WIDTHS[1]:
        allowed = f"a number and its unit ({', '.join(UNITS)}), from {WIDTHS[0]:g} to {WIDTHS[1]:g} inches"
        raise ValueError(f"--width {width}: allowed: {allowed}, such as 3.25in")
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"--size {size:g}: allowed: points, from {SIZES[0]:g} to {SIZES[1]:g}")
    if font not in GENERIC and font not in (known := installed_fonts()):
        there = f"{', '.join(GENERIC)}; installed: {', '.join(known)}"
        raise ValueError(f"--font {font}: is not installed; allowed: {there}")
    return Paper(inches, font, size)


def figures_of(study: Study, chosen: str | None) -> list[tuple[str, str]]:
    """Return (experiment, stem) of the figures that are asked for.

    Args:
        study: the study.
        chosen: stems, or EXPERIMENT_STEM, with a comma between them; `none`; None for all.

    Raises:
        ValueError: no figure is named, or the study has no such figure; names those that it has.
    """
    has = [(name, stem) for name in study.experiments for stem in study.figures(name)]
    if chosen is None or chosen.strip() == "none":
        return [] if chosen else has
    known = f"it has: {', '.join(dict.fromkeys(stem for _, stem in has))}; or none"
    asked = [part.strip() for part in chosen.split(",") if part.strip()]
    if not asked:
        raise ValueError(f"--figures {chosen!r}: names no figure of {study.study}; {known}")
    if unknown := [part for part in asked if not any(part in (stem, f"{name}_{stem}") for name, stem in has)]:
        raise ValueError(f"--figures {', '.join(unknown)}: {study.study} has no such figure; {known}")
    return [(name, stem) for name, stem in has if stem in asked or f"{name}_{stem}" in asked]


def _read(plan: Plan) -> list[Path]:
    """Return the files of a study that an export reads, features aside."""
    folder = plan.folder
    theory = [folder.theory(name) for name in THEORY.values()]
    return [folder.metrics, *theory, folder.claims, folder.losses, folder.report, *plan.manifests()]


# --- tables and numbers ----------------------------------------------------------------------------------------------


def _add_tables(
    made: Export, study: Study, folder: StudyFolder, figures: Sequence[tuple[str, str]], digits: int
) -> None:
    """Add the tables, the numbers and the references."""
    spec = specs.report(study, "")
    experiments = [vars(entry) | {"teachers": entry.labelled_teachers} for entry in spec.experiments]
    stated = {entry.id: build_claim(entry) for entry in spec.claims}
    names = Names(vars(spec) | {"experiments": experiments, "stated": stated})
    claims, losses = tables.read(tables.CLAIMS, folder.claims), tables.read(tables.LOSSES, folder.losses)
    judged = judged_claims(claims, names)
    papers = named_in(claim["claim"].paper for claim in judged)
    made.papers = len(papers)
    made.add("nclens.bib", latex.bibliography(papers, __version__))
    keys = {paper.arxiv: latex.key_of(paper) for paper in papers}
    made.add("tables/verdicts.tex", macros.HEAD + latex.verdicts_table(judged, keys))
    for name in study.experiments:
        rows = losses[losses["experiment"] == name]
        stem = "losses" if len(study.experiments) == 1 else f"losses_{name}"
        made.add(f"tables/{stem}.tex", macros.HEAD + latex.table(table_of(names, name, rows)))
    manifests = {name: read_json(folder.manifest(name), "prepare") for name in _datasets(study)}
    settings = settings_rows(study, manifests)
    made.add("tables/settings.tex", macros.HEAD + latex.settings_table(list(study.experiments), settings))
    made.add("tables/settings.csv", _csv(pd.DataFrame(settings, columns=["setting", *study.experiments])))
    for path, name in ((folder.claims, "verdicts"), (folder.losses, "losses")):
        made.files[f"tables/{name}.csv"] = path.read_bytes()
    metrics = tables.read(tables.COLLECTED, folder.metrics)
    _add_numbers(made, experiments, metrics, losses, claims, digits)


def _datasets(study: Study) -> list[str]:
    return list(dict.fromkeys(entry.dataset for entry in study.experiments.values()))


def _add_numbers(
    made: Export,
    experiments: Sequence[Mapping[str, Any]],
    metrics: pd.DataFrame,
    losses: pd.DataFrame,
    claims: pd.DataFrame,
    digits: int,
) -> None:
    """Add every number by its path: a table, and the files of macros."""
    last: list[quotes.Quote] = []
    every: list[quotes.Quote] = []
    parts = dict(list(metrics.groupby(["experiment", "loss"], observed=True)))
    for entry in experiments:
        for loss in entry["losses"]:
            key = (entry["experiment"], loss)
            own = list(quotes.measured(entry, loss, parts[key], digits)) if key in parts else []
            at_last = [quote for quote in own if _is_last(quote)]
            last += at_last
            every += own
            others = (quote for quote in own if not _is_last(quote))
            prefix = f"{entry['experiment']}/{loss}/"
            made.add(f"numbers/{macros.file_of(*key)}", macros.numbers_file(others, prefix))
    more = list(quotes.derived(losses, {quote.path for quote in last}, digits))
    more += quotes.judged(claims)
    last, every = [*last, *more], [*more, *every]
    if twice := quotes.repeated(every):
        raise ValueError(f"two numbers have the path {twice[0]}: rename a loss, a metric or an experiment")
    made.numbers = len(every)
    made.add("numbers/last.tex", macros.numbers_file(last))
    alone = f"{experiments[0]['experiment']}/" if len(experiments) == 1 else ""
    rows = [(quote.path.removeprefix(alone), quote.value, quote.text) for quote in every]
    made.add("numbers.csv", _csv(pd.DataFrame(rows, columns=["path", "value", "text"])))


def _is_last(quote: quotes.Quote) -> bool:
    return quotes.LAST in quote.path.rsplit("/", 2)[1:]


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


# --- figures ---------------------------------------------------------------------------------------------------------


def _add_figures(
    made: Export, study: Study, folder: StudyFolder, wanted: Sequence[tuple[str, str]], paper: Paper
) -> Iterator[tuple[tuple[str, str], str]]:
    """Add the figures, each with its table, and yield their captions."""
    if not wanted:
        return
    paths = {"metrics": folder.metrics} | {name: folder.theory(file) for name, file in THEORY.items()}
    found = read_tables(paths)
    for entry in specs.draw(study).experiments:
        stems = [stem for name, stem in wanted if name == entry.experiment]
        if stems:
            rows = {key: _of(table, entry.experiment) for key, table in found.items()}
            inputs = experiment_inputs(entry, rows, folder)
        for stem in stems:
            name = f"{entry.experiment}_{stem}"
            drawing, pdf = _printed(study, entry.experiment, stem, inputs, paper)
            made.files[f"figures/{name}.pdf"] = pdf
            made.add(f"figures/{name}.csv", _csv(drawing.table))
            if (height := drawing.figure.get_figheight()) > PAGE_HEIGHT:
                made.tall.append(f"{name} ({height:.1f} in)")
            yield (entry.experiment, stem), _caption(study, stem, getattr(drawing.figure, "sentences", ()))


def _printed(study: Study, experiment: str, stem: str, inputs: FigureInputs, paper: Paper) -> tuple[Drawing, bytes]:
    from nclens.figures.printing import print_figure
    from nclens.figures.style import encode

    own = None if stem in FIGURES else specs.draw_own(study, experiment, stem).own_figures[0]

    def draw() -> Drawing:
        return draw_own(own, inputs) if own else draw_figure(stem, inputs)

    try:
        return print_figure(paper, draw, lambda figure: encode(figure, "pdf"))
    except FileError:
        raise
    except Exception as error:
        raise ValueError(f"figure {experiment}_{stem} cannot be drawn: {type(error).__name__}: {error}") from error


def _of(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    return table[table["experiment"] == experiment] if "experiment" in table else table


def _caption(study: Study, stem: str, notes: Iterable[str]) -> str:
    """Return what a figure shows, how it is read, and its notes."""
    known = study.figure(stem)
    parts = [f"\\textbf{{{latex.escaped(known.title)}.}}"] if known.title else []
    parts += [latex.labelled(known.caption)] if known.caption else []
    return " ".join([*parts, *(f"{latex.labelled(note)}." for note in notes)])


# --- writing ---------------------------------------------------------------------------------------------------------


def write(files: Mapping[str, bytes], to: Path, study: str) -> None:
    """Write the files of an export, in place of those of an earlier one; nothing else is touched.

    The record is written first, with the checksums of the files before and after: what an interrupted export has left
    is known to the next one.

    Raises:
        FileError: a file in the way is no export's, or was edited since; nothing is written.
    """
    _check_folder(to)
    before = _recorded(to)
    _check_places(files, to)
    known = {name: {*before.get(name, ()), _digest(content)} for name, content in files.items()}
    in_the_way = [name for name in files if os.path.lexists(to / name) and not _is_ours(to / name, known[name])]
    if in_the_way:
        raise FileError(
            f"{to} holds other files, or edited ones, of the same names: {_some(in_the_way)}; nothing was written: "
            "move them, or export to another folder"
        )
    record = {"study": study, "version": __version__, "files": {name: _digest(files[name]) for name in sorted(files)}}
    _write_record(to, record | ({"before": {name: sorted(before[name]) for name in sorted(before)}} if before else {}))
    for name, digests in before.items():
        if name not in files and _is_ours(to / name, digests):
            (to / name).unlink()
    for name, content in files.items():
        with atomic_write(to / name) as temporary:
            temporary.write_bytes(content)
    _write_record(to, record)


def _check_folder(to: Path) -> None:
    """Refuse a folder to write to that is something else, or lies in something else.

    Raises:
        FileError: names it.
    """
    if wrong := no_folder(to):
        where = "" if wrong == to else f"{wrong} "
        raise FileError(f"--to {to}: {where}is a file or a link to nothing; allowed: a folder")


def _check_places(files: Iterable[str], to: Path) -> None:
    """Refuse files in the place of folders, and folders that cannot be written to.

    Raises:
        FileError: names them; nothing is written.
    """
    folders = list(dict.fromkeys((to / name).parent for name in [*files, RECORD]))
    if wrong := list(dict.fromkeys(str(path) for folder in folders if (path := no_folder(folder)))):
        raise FileError(
            f"{_some(wrong)}: is a file or a link to nothing in the place of a folder; nothing was written: move it, "
            "or export to another folder"
        )
    if closed := [str(folder) for folder in folders if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK)]:
        raise FileError(f"{_some(closed)}: cannot be written to; nothing was written")


def _is_ours(path: Path, digests: Container[str]) -> bool:
    """Return whether a path is a file, no link, with one of these checksums."""
    return path.is_file() and not path.is_symlink() and _digest(path.read_bytes()) in digests


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _write_record(to: Path, record: Mapping[str, Any]) -> None:
    with atomic_write(to / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _recorded(to: Path) -> dict[str, set[str]]:
    """Return the checksums that the files of earlier exports may have: of one that was interrupted before and after.

    Raises:
        FileError: the record is there and is no export's.
    """
    path = to / RECORD
    if not os.path.lexists(path):
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {str(name): {str(digest)} for name, digest in content["files"].items()}
        for name, digests in content.get("before", {}).items():
            found.setdefault(str(name), set()).update(map(str, digests))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise FileError(
            f"{path} is no record of an export; nothing was written: move it, or export to another folder"
        ) from None
    # A record that somebody else wrote must not reach a file outside the folder.
    return {name: of for name, of in found.items() if not Path(name).is_absolute() and ".." not in Path(name).parts}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def described(made: Export, to: Path) -> Iterator[str]:
    """Yield what an export has written, in lines."""
    figures = sum(name.endswith(".pdf") for name in made.files)
    yield f"{to}: {made.numbers:,} numbers, {figures} figures, {made.papers} papers"
    yield f"in the document: \\newcommand{{\\nclensfolder}}{{{to.as_posix()}/}} \\input{{{to.as_posix()}/nclens}}"
    if made.tall:
        yield f"higher than a page: {', '.join(made.tall)}; a larger --width puts more panels in a row"
