"""A figure as SVG: text stays text, layers of many marks become images, and its parts can be shown one by one.

A page that is too narrow for the figure shows its parts below each other. Where they lie is in the file's `metadata`,
with the notes as sentences; `desc` is what the figure shows. Colours are literal, so that any viewer can show the file.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

MOST_MARKS = 80
"""A collection of more marks is an image within the SVG."""
IMAGE_DPI = 288
"""Dots per inch of these images: two for each pixel of a screen that shows the figure as wide as a page."""
PAD = 2.0
"""Points of room around a part."""
NO_DATE: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class _Renderer(RendererSVG):
    """Writes plain text as text, which takes the font of the page, and formulas as outlines."""

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        mpl.rcParams["svg.fonttype"] = "path" if ismath else "none"
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)


def svg(figure: Figure, description: str = "") -> bytes:
    """Return a figure as SVG, the same bytes for the same figure. Its layout must be settled.

    Args:
        figure: what to write; collections of many marks are rasterised from then on.
        description: what it shows, for those who cannot see it.
    """
    _name_groups(figure)
    width, height = figure.get_size_inches()
    content = {
        "size": [round(72 * width, 2), round(72 * height - _notes_top(figure), 2)],
        "parts": _parts(figure),
        "notes": list(getattr(figure, "sentences", [])),
    }
    file, before = io.StringIO(), figure.dpi
    with mpl.rc_context({"svg.hashsalt": "nclens", "svg.image_inline": True}):
        figure.dpi = 72
        vector = _Renderer(72 * width, 72 * height, file, image_dpi=72, metadata=NO_DATE)
        renderer = MixedModeRenderer(figure, width, height, IMAGE_DPI, vector)
        figure.draw(renderer)
        renderer.finalize()
        figure.dpi = before
    return _finished(file.getvalue(), json.dumps(content, ensure_ascii=False), description).encode()


def _name_groups(figure: Figure) -> None:
    """Name what a part may show, and choose what becomes an image."""
    for number, axes in enumerate(figure.axes):
        axes.set_gid(f"panel{number}")
        axes.xaxis.set_gid(f"panel{number}x")
        axes.yaxis.set_gid(f"panel{number}y")
        for marks in axes.collections:
            if isinstance(marks, PathCollection) and np.shape(marks.get_offsets())[0] > MOST_MARKS:
                marks.set_rasterized(True)
    for legend in figure.legends:
        legend.set_gid("legend")
    if (notes := _notes(figure)) is not None:
        notes.set_gid("notes")


def _notes(figure: Figure) -> Any:
    return getattr(figure, "_supxlabel", None)


def _notes_top(figure: Figure) -> float:
    """The upper edge of the notes, in points from the bottom; 0 without notes."""
    notes = _notes(figure)
    if notes is None or not notes.get_text():
        return 0.0
    return float(_points(figure, notes.get_window_extent(_agg(figure))).y1)


def _agg(figure: Figure) -> Any:
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    return canvas.get_renderer()


def _points(figure: Figure, box: Any) -> Bbox:
    """A box in pixels as one in points."""
    return Bbox(72 / figure.dpi * box.get_points())


# --- parts ----------------------------------------------------------------------------------------------------------


def _parts(figure: Figure) -> list[dict[str, Any]]:
    """What is shown below each other: the legend's entries, each panel with its axes, colour bars.

    A part has a `kind`, a `size`, and pieces: rectangles of the drawing `from` [x, y, width, height], in points from the
    top left, shown `at` [x, y] of the part, and the `groups` that they show.
    """
    grid = [axes for row in getattr(figure, "grid", []) for axes in row]
    panels = [axes for axes in grid if axes.get_visible()]
    if getattr(figure, "by_column", False):
        columns = {axes.get_subplotspec().colspan.start for axes in panels}
        panels = [axes for place in sorted(columns) for axes in panels if _column(axes) == place]
    bars = [axes for axes in figure.axes if axes not in grid and axes.get_visible()]
    boxes = {axes: _points(figure, axes.get_tightbbox(_agg(figure))) for axes in [*panels, *bars]}
    parts = [part for legend in figure.legends for part in _keys(figure, legend)]
    parts += [_panel(figure, axes, panels, boxes[axes]) for axes in panels]
    return parts + [_part(figure, "bar", [(boxes[axes].padded(PAD), (0.0, 0.0), [axes.get_gid()])]) for axes in bars]


def _column(axes: Axes) -> int:
    return int(axes.get_subplotspec().colspan.start)  # type: ignore[union-attr]


def _row(axes: Axes) -> int:
    return int(axes.get_subplotspec().rowspan.start)  # type: ignore[union-attr]


def _keys(figure: Figure, legend: Any) -> list[dict[str, Any]]:
    parts = []
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        label = _points(figure, text.get_window_extent(_agg(figure)))
        mark = _points(figure, handle.get_window_extent(_agg(figure)))
        size = text.get_fontsize()
        # A single marker has no width of its own: the handle is as wide as the legend's.
        box = Bbox.from_extents(
            min(mark.x0 - PAD, label.x0 - 3.2 * size), min(mark.y0, label.y0), label.x1, max(mark.y1, label.y1)
        )
        parts.append(_part(figure, "key", [(box.padded(1.0), (0.0, 0.0), ["legend"])]))
    return parts


def _panel(figure: Figure, axes: Axes, panels: Iterable[Axes], box: Bbox) -> dict[str, Any]:
    """A panel; where it shares an axis whose labels are beside another panel, with a copy of these labels."""
    inner, pieces = _points(figure, axes.get_window_extent(_agg(figure))), []
    own = axes.get_gid()
    x0, y0, x1, y1 = box.x0 - PAD, box.y0 - PAD, box.x1 + PAD, box.y1 + PAD
    left = below = 0.0
    row = [other for other in panels if _row(other) == _row(axes)]
    column = [other for other in panels if _column(other) == _column(axes)]
    first, last = min(row, key=_column), max(column, key=_row)
    if not _labelled(axes.yaxis, "left") and first is not axes and _labelled(first.yaxis, "left"):
        edge = _points(figure, first.get_window_extent(_agg(figure))).x0
        labels = _points(figure, first.yaxis.get_tightbbox(_agg(figure)))
        left, x0 = edge - labels.x0 + PAD, inner.x0 - 0.5
        labels_y = Bbox.from_extents(edge - left, min(y0, labels.y0 - PAD), edge - 0.5, max(y1, labels.y1 + PAD))
        y0, y1 = labels_y.y0, labels_y.y1
        pieces.append((labels_y, (0.0, 0.0), [f"{first.get_gid()}y"]))
    if not _labelled(axes.xaxis, "bottom") and last is not axes and _labelled(last.xaxis, "bottom"):
        edge = _points(figure, last.get_window_extent(_agg(figure))).y0
        labels = _points(figure, last.xaxis.get_tightbbox(_agg(figure)))
        below, y0 = edge - labels.y0 + PAD, inner.y0 - 0.5
        start = min(labels.x0 - PAD, x0)
        strip = Bbox.from_extents(start, edge - below, max(labels.x1 + PAD, x1), edge - 0.5)
        x1 = max(x1, strip.x1)
        if not left:
            x0 = min(x0, start)
        pieces.append((strip, (left - 0.5 + start - x0, y1 - y0), [f"{last.get_gid()}x"]))
    pieces.append((Bbox.from_extents(x0, y0, x1, y1), (max(left - 0.5, 0.0), 0.0), [own]))
    return _part(figure, "panel", pieces)


def _labelled(axis: Axis, side: str) -> bool:
    return bool(axis.get_tick_params(which="major").get(f"label{side}", True))


def _part(figure: Figure, kind: str, pieces: list[tuple[Bbox, tuple[float, float], Any]]) -> dict[str, Any]:
    height = 72 * figure.get_figheight()
    made = [
        {
            "from": [round(value, 1) for value in (box.x0, height - box.y1, box.width, box.height)],
            "at": [round(max(value, 0.0), 1) for value in at],
            "groups": groups,
        }
        for box, at, groups in pieces
    ]
    size = [round(max(piece["at"][side] + piece["from"][2 + side] for piece in made), 1) for side in (0, 1)]
    return {"kind": kind, "size": size, "pieces": made}


# --- the file -------------------------------------------------------------------------------------------------------

_PNG = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")
_LONG = re.compile(r"(\.\d\d)\d+")
_GEOMETRY = re.compile(r' (?:d|x|y|width|height|points|transform)="[^"]*"')


def _finished(text: str, content: str, description: str) -> str:
    """Shorten numbers, compress images, and add what the file says of itself."""
    text = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _GEOMETRY.sub(lambda found: re.sub(r"\s+", " ", _shorter(found.group())), text)
    text = _PNG.sub(lambda found: _webp(found.group(1)), text)
    text = re.sub(r"\n\s*", "\n", text)
    head, _, body = text.partition(">")
    said = f"<desc>{_escaped(description)}</desc>" if description else ""
    return f"{head}>\n{said}<metadata>{_escaped(content)}</metadata>{body}"


def _shorter(attribute: str) -> str:
    # Scales of outlines have four significant decimals.
    return attribute if "scale" in attribute or "matrix" in attribute else _LONG.sub(r"\1", attribute)


def _webp(png: str) -> str:
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).save(file, "webp", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
