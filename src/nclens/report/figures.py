"""The figures: one for each claim, with a caption made from the verdict's numbers, then all others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from nclens.figures.catalogue import FIGURES
from nclens.report.drawing import Styles, inline, picture
from nclens.report.links import Link, Links
from nclens.report.mathml import mathml
from nclens.report.page import Section
from nclens.report.text import Names
from nclens.report.verdicts import findings


@dataclass(frozen=True)
class Drawn:
    """A figure as it was drawn.

    Attributes:
        svg: the bytes of its SVG file.
        title: what it shows, in a few words.
        source: its origin, such as "figure 1 of the paper"; may be empty.
        caption: how to read it, in whole sentences; may be empty.
    """

    svg: bytes
    title: str
    source: str = ""
    caption: str = ""


@dataclass
class Figures:
    """The study's figures, each shown once, numbered in the order of the page.

    Attributes:
        names: of the study.
        drawn: (experiment, stem) -> what was drawn.
        links: where the page can lead.
        shown: (experiment, stem) -> what the template shows of it, for the figures shown so far.
        styles: the looks of their marks.
    """

    names: Names
    drawn: Mapping[tuple[str, str], Drawn]
    links: Links = field(default_factory=Links)
    shown: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    styles: Styles = field(default_factory=Styles)

    def show(self, experiment: str, stem: str, remark: str = "") -> dict[str, Any]:
        """Show a figure: return its content for the template, the caption preceded by the remark.

        Raises:
            ValueError: the image is not a whole SVG of a figure.
        """
        drawn = self.drawn[experiment, stem]
        try:
            seen = picture(drawn.svg)
        except ValueError as error:
            raise ValueError(f"figure {experiment}_{stem}: {error}") from None
        where, apart = self.names.where(experiment), self.names.apart(experiment)
        place = len(self.shown) + 1
        source = f"Origin: {drawn.source}." if drawn.source else ""
        alt = f"Figure {place}. " + (seen.finding or f"{drawn.title}, for {self.names.losses(experiment)} on {where}.")
        figure = {
            "number": place,
            "anchor": f"figure-{place}",
            "title": ": ".join(filter(None, (drawn.title, apart))),
            "caption": " ".join(filter(None, (remark, drawn.caption, source))),
            "notes": [_with_formulas(note) for note in seen.notes],
            "alt": alt,
            "drawing": Markup(inline(seen, f"f{place}-", alt, self.styles)),  # all text in it is escaped
            "links": figure_links(experiment, stem, self.links),
        }
        self.shown[experiment, stem] = figure
        return figure

    def listed(self) -> list[tuple[str, str]]:
        """Return the (experiment, stem) of every figure that the study lists."""
        return [(name, stem) for name, entry in self.names.experiments.items() for stem in entry["figures"]]


def figure_links(experiment: str, stem: str, links: Links) -> list[Link]:
    """Return the ways from a figure: its numbers and its print, the rule and the function that drew it, and the log."""
    built_in = stem in FIGURES
    return [
        *links.file("figure", experiment, stem, "csv", text="CSV"),
        *links.file("figure", experiment, stem, "pdf", text="PDF"),
        links.rule("draw" if built_in else "draw_own"),
        *([links.code(FIGURES[stem].draw)] if built_in else []),
        *(links.log("draw") if built_in else links.log("draw_own", f"{experiment}_{stem}")),
    ]


def _with_formulas(text: str) -> Markup:
    r"""Return a note with its formulas, which are between $, as MathML; a $ that is none is written \$."""
    parts = [part.replace(r"\$", "$") for part in re.split(r"(?<!\\)\$", text)]
    return Markup("").join(mathml(part) if place % 2 else part for place, part in enumerate(parts))


def claim_figures(judged: Sequence[Mapping[str, Any]], figures: Figures) -> Section | None:
    """Return a figure for each claim and experiment, its caption made from the verdict table's numbers."""
    entries = []
    for claim in judged:
        views = []
        for experiment in dict.fromkeys(row["experiment"] for row in claim["rows"]):
            keys = [(experiment, stem) for stem in claim["claim"].figures]
            keys = [key for key in keys if key in figures.drawn]
            seen = [figures.shown[key] for key in keys if key in figures.shown]
            new = next((key for key in keys if key not in figures.shown), None)
            text = findings(row for row in claim["rows"] if row["experiment"] == experiment)
            figure = figures.show(*new, remark=text) if new else None
            views.append({"figure": figure, "findings": text, "shown": seen})
        found = list(dict.fromkeys(row["verdict"] for row in claim["rows"]))
        entries.append({"id": claim["id"], "statement": claim["statement"], "verdicts": found, "views": views})
    return Section("evidence", "Evidence", "claim_figures.html.j2", {"claims": entries}) if entries else None


def other_figures(figures: Figures) -> Section | None:
    """Return the figures that no claim has shown yet, and the names of those that are missing."""
    rest = [figures.show(*key) for key in figures.drawn if key not in figures.shown]
    missing = [f"figures/{name}_{stem}.svg" for name, stem in figures.listed() if (name, stem) not in figures.drawn]
    if not rest and not missing:
        return None
    return Section("figures", "More figures", "figures.html.j2", {"figures": rest, "missing": missing})
