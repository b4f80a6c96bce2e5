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
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL.Image import open as decoded

MOST_MARKS = 80
"""A collection of more marks is an image within the SVG."""
IMAGE_DPI = 288
"""Dots per inch of these images: two for each pixel of a screen that shows the figure as wide as a page."""
PAD = 2.0
"""Points of room around a part."""
WIDER = 0.06
"""Share by which a browser may set a label wider than it was measured here, where glyphs have whole pixels."""
NO_DATE: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))


class _Renderer(RendererSVG):
    """Writes plain text as text, which takes the font of the page, and formulas as outlines."""

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        mpl.rcParams["svg.fonttype"] = "path" if ismath else "none"
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, the same bytes for the same figure. Its layout must be settled.

    Args:
        figure: what to write; collections of many marks are rasterised from then on.
    """
    _name_groups(figure)
    width, height = figure.get_size_inches()
    file, before = io.StringIO(), figure.dpi
    with mpl.rc_context({"svg.hashsalt": "nclens", "svg.image_inline": True}):
        figure.dpi = 72
        vector = _Renderer(72 * width, 72 * height, file, image_dpi=IMAGE_DPI, metadata=NO_DATE)
        renderer = MixedModeRenderer(figure, width, height, IMAGE_DPI, vector)
        figure.draw(cast(RendererBase, renderer))
        renderer.finalize()
        # Measured now, for a legend's entries are where the last drawing has put them.
        content = {
            "size": [round(72 * width, 2), round(72 * height - _notes_top(figure), 2)],
            "parts": _parts(figure),
            "notes": list(getattr(figure, "sentences", [])),
        }
        figure.dpi = before
    return _finished(file.getvalue(), json.dumps(content, ensure_ascii=False), getattr(figure, "finding", "")).encode()


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
    if _is_whole(figure):
        figure.set_gid("whole")


def _is_whole(figure: Figure) -> bool:
    """Return whether a figure has no notes of ours, and one part, for nothing is known of its layout."""
    return getattr(figure, "whole", False)


def _notes(figure: Figure) -> Any:
    return None if _is_whole(figure) else getattr(figure, "_supxlabel", None)


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

    A part has a `kind`, a `size`, and pieces: rectangles of the drawing, `from` [x, y, width, height] in points from
    the top left, shown `at` [x, y] of the part, and the `group` that they show.
    """
    if _is_whole(figure):
        width, height = 72 * figure.get_size_inches()
        return [_part(figure, "panel", [(Bbox.from_extents(0.0, 0.0, width, height), 0.0, 0.0, "whole")])]
    grid = [axes for row in getattr(figure, "grid", []) for axes in row]
    panels = [axes for axes in grid if axes.get_visible()]
    if getattr(figure, "by_column", False):
        columns = {axes.get_subplotspec().colspan.start for axes in panels}
        panels = [axes for place in sorted(columns) for axes in panels if _column(axes) == place]
    bars = [axes for axes in figure.axes if axes not in grid and axes.get_visible()]
    boxes = {axes: _points(figure, axes.get_tightbbox(_agg(figure))) for axes in [*panels, *bars]}
    parts = [part for legend in figure.legends for part in _keys(figure, legend)]
    parts += [_panel(figure, axes, panels, boxes[axes]) for axes in panels]
    return parts + [_part(figure, "bar", [(boxes[axes].padded(PAD), 0.0, 0.0, str(axes.get_gid()))]) for axes in bars]


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
        parts.append(_part(figure, "key", [(box.padded(1.0), 0.0, 0.0, "legend")]))
    return parts


def _panel(figure: Figure, axes: Axes, panels: Iterable[Axes], box: Bbox) -> dict[str, Any]:
    """A panel; where the labels of an axis are beside another panel, with a copy of these labels."""
    inner, pieces = _inner(figure, axes), []
    x0, y0, x1, y1 = box.padded(PAD).extents
    x0 -= WIDER * max(0.0, inner.x0 - x0)  # labels end beside the panel
    left = [other for other in panels if _row(other) == _row(axes) and _column(other) < _column(axes)]
    beside = max((other for other in left if _labelled(other.yaxis, "left")), key=_column, default=None)
    if beside is not None and not _labelled(axes.yaxis, "left"):
        edge, labels = _inner(figure, beside).x0, _labels(figure, beside, beside.yaxis)
        strip = Bbox.from_extents(labels.x0, min(y0, labels.y0), edge, max(y1, labels.y1))
        pieces.append((strip, inner.x0 - edge, 0.0, f"{beside.get_gid()}y"))
    under = [other for other in panels if _column(other) == _column(axes) and _row(other) > _row(axes)]
    below = min((other for other in under if _labelled(other.xaxis, "bottom")), key=_row, default=None)
    if below is not None and not _labelled(axes.xaxis, "bottom"):
        edge, labels = _inner(figure, below).y0, _labels(figure, below, below.xaxis)
        strip = Bbox.from_extents(min(x0, labels.x0), labels.y0, max(x1, labels.x1), edge)
        pieces.append((strip, 0.0, inner.y0 - edge, f"{below.get_gid()}x"))
    pieces.append((Bbox.from_extents(x0, y0, x1, y1), 0.0, 0.0, str(axes.get_gid())))
    return _part(figure, "panel", pieces)


def _labels(figure: Figure, axes: Axes, axis: Axis) -> Bbox:
    """The box of an axis with its labels; that of the panel where it shows none."""
    box = axis.get_tightbbox(_agg(figure))
    return _inner(figure, axes) if box is None else _points(figure, box).padded(PAD)


def _inner(figure: Figure, axes: Axes) -> Bbox:
    return _points(figure, axes.get_window_extent(_agg(figure)))


def _labelled(axis: Axis, side: str) -> bool:
    return bool(axis.get_tick_params(which="major").get(f"label{side}", True))


def _part(figure: Figure, kind: str, pieces: list[tuple[Bbox, float, float, str]]) -> dict[str, Any]:
    """A part of pieces, each a rectangle, by how much it is moved to the right and up, and the group that it shows."""
    height = 72 * figure.get_figheight()
    moved = [box.translated(right, up) for box, right, up, _ in pieces]
    whole = Bbox.union(moved)
    return {
        "kind": kind,
        "size": [round(whole.width, 1), round(whole.height, 1)],
        "pieces": [
            {
                "from": [round(value, 1) for value in (box.x0, height - box.y1, box.width, box.height)],
                "at": [round(place.x0 - whole.x0, 1), round(whole.y1 - place.y1, 1)],
                "group": group,
            }
            for (box, _, _, group), place in zip(pieces, moved, strict=True)
        ],
    }


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
    decoded(io.BytesIO(base64.b64decode(png))).save(file, "webp", lossless=True, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
