"""The figures: one beside each claim that it shows, with a caption made from the verdict's numbers, then the rest."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nclens.claims import CLAIMS
from nclens.report.page import Section
from nclens.report.text import Names, listed
from nclens.report.verdicts import findings


@dataclass(frozen=True)
class Drawn:
    """A figure as it was drawn.

    Attributes:
        png: the bytes of a PNG file.
        title: what it shows, a few words.
        source: where it comes from, such as "figure 1 of the paper"; may be empty.
        caption: how to read it, whole sentences; may be empty.
    """

    png: bytes
    title: str
    source: str = ""
    caption: str = ""


@dataclass
class Plates:
    """The study's figures; each is shown once, under the next number."""

    names: Names
    drawn: Mapping[tuple[str, str], Drawn]
    shown: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def show(self, experiment: str, stem: str, remark: str = "") -> dict[str, Any]:
        """Return what the template draws of a figure, its caption opened by the remark."""
        drawn = self.drawn[experiment, stem]
        try:
            width, height = png_size(drawn.png)
        except ValueError as error:
            raise ValueError(f"figure {experiment}_{stem}: {error}") from None
        where = self.names.where(experiment)
        losses = listed(looks["label"] for looks in self.names.experiments[experiment]["losses"].values())
        place = len(self.shown) + 1
        source = f"Origin: {drawn.source}." if drawn.source else ""
        figure = {
            "number": place,
            "anchor": f"figure-{place}",
            "title": f"{drawn.title}: {where}",
            "caption": " ".join(filter(None, (remark, drawn.caption, source))),
            "alt": f"Figure {place}: {drawn.title}, for {losses} on {where}.",
            "source": "data:image/png;base64," + base64.b64encode(drawn.png).decode("ascii"),
            "width": width,
            "height": height,
            "file": f"figures/{experiment}_{stem}.csv",
        }
        self.shown[experiment, stem] = figure
        return figure

    def promised(self) -> list[tuple[str, str]]:
        """Return the (experiment, stem) of every figure that the study lists."""
        return [(name, stem) for name, entry in self.names.experiments.items() for stem in entry["figures"]]


def png_size(png: bytes) -> tuple[int, int]:
    """Return width and height of a PNG in pixels.

    Raises:
        ValueError: the bytes are not a PNG from its signature to its end.
    """
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR" or png[-8:-4] != b"IEND":
        raise ValueError("the image is not a whole PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def claim_figures(judged: Sequence[Mapping[str, Any]], plates: Plates) -> Section | None:
    """Return a figure for each claim and experiment, its caption made from the verdict table's numbers."""
    shelves = []
    for claim in judged:
        views = []
        for experiment in dict.fromkeys(row["experiment"] for row in claim["rows"]):
            keys = [(experiment, stem) for stem in CLAIMS[claim["id"]].figures]
            keys = [key for key in keys if key in plates.drawn]
            seen = [plates.shown[key] for key in keys if key in plates.shown]
            new = next((key for key in keys if key not in plates.shown), None)
            text = findings(row for row in claim["rows"] if row["experiment"] == experiment)
            figure = plates.show(*new, remark=text) if new else None
            views.append({"figure": figure, "findings": text, "shown": seen})
        found = list(dict.fromkeys(row["verdict"] for row in claim["rows"]))
        shelves.append({"id": claim["id"], "statement": claim["statement"], "verdicts": found, "views": views})
    return Section("evidence", "Evidence", "claim_figures.html.j2", {"claims": shelves}) if shelves else None


def other_figures(plates: Plates) -> Section | None:
    """Return the figures that no claim has shown yet, and the names of those that are missing."""
    rest = [plates.show(*key) for key in plates.drawn if key not in plates.shown]
    missing = [f"figures/{name}_{stem}.png" for name, stem in plates.promised() if (name, stem) not in plates.drawn]
    if not rest and not missing:
        return None
    return Section("figures", "More figures", "figures.html.j2", {"figures": rest, "missing": missing})
