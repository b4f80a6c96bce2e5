"""Figures for print: at the width, the font and the size of a paper, drawn by the same functions.

A figure of a page is seven inches wide. In a column of text its panels move below each other, in the same order, until
their labels can be read. The small print below the panels is left to the caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure

BASE = 8.0
"""The size of a page's text in points, to which every other size of a page is in proportion."""

NARROWEST = 1.4
"""The least width of a panel with its labels in inches, at text of `BASE` points."""

SMALLEST = 0.75
"""The size to which a title or label may shrink to fit its panel; below it there are fewer panels in a row."""

GENERIC = {
    "serif": ("STIXGeneral", "stix"),
    "sans-serif": ("DejaVu Sans", "dejavusans"),
    "monospace": ("DejaVu Sans Mono", "dejavusans"),
}
"""Kind of font -> the family, which ships with Matplotlib, so every machine draws the same letters; its formulas."""

SIZES = ("font.size", "axes.labelsize", "axes.titlesize", "legend.fontsize", "xtick.labelsize", "ytick.labelsize")


@dataclass(frozen=True)
class Paper:
    """Where figures are printed.

    Attributes:
        width: of a figure, in inches.
        font: a kind of font, one of `GENERIC`, or a family that is installed.
        size: of text, in points.
        across: the most panels in a row; None for as many as can be read.
    """

    width: float
    font: str = "serif"
    size: float = 9.0
    across: int | None = None

    @property
    def most_across(self) -> int:
        """The most panels in a row: at least `NARROWEST` wide, in proportion to the text."""
        return self.across or max(1, int(self.width / (NARROWEST * self.scale)))

    @property
    def scale(self) -> float:
        """The size of text over that of a page."""
        return self.size / BASE

    def settings(self, page: dict[str, Any]) -> dict[str, Any]:
        """Return what differs from a page's settings of Matplotlib."""
        family, formulas = GENERIC.get(self.font, (self.font, "custom"))
        own = {"mathtext.rm": family, "mathtext.it": f"{family}:italic", "mathtext.bf": f"{family}:bold"}
        return {
            "font.family": [family, "DejaVu Sans"],  # the second has what a family lacks, such as arrows
            "mathtext.fontset": formulas,
            **(own | {"mathtext.fallback": "stix"} if formulas == "custom" else {}),
            **{key: page[key] * self.scale for key in SIZES},
        }


_PAPER: ContextVar[Paper | None] = ContextVar("paper", default=None)


def paper() -> Paper | None:
    """Return where figures are printed now; None for a page."""
    return _PAPER.get()


@contextmanager
def printed(chosen: Paper) -> Iterator[None]:
    """Let figures be drawn for print."""
    token = _PAPER.set(chosen)
    try:
        yield
    finally:
        _PAPER.reset(token)


def points(size: float) -> float:
    """Return a size of a page's text in points, in print in proportion."""
    chosen = paper()
    return size * chosen.scale if chosen else size


def installed_fonts() -> list[str]:
    """Return the families that can be drawn, by name."""
    return sorted({entry.name for entry in font_manager.fontManager.ttflist if not entry.name.startswith(".")})


# --- panels ----------------------------------------------------------------------------------------------------------


def folded(figure: Figure, rows: int, columns: int, across: int, by_column: bool, options: dict[str, Any]) -> Any:
    """Return the panels of a grid with fewer in a row: (rows, columns) axes, those that do not fit below the others.

    Panels whose rows have no axis in common follow each other; else each row keeps its panels in blocks.

    Args:
        figure: an empty one.
        rows, columns: of the grid as a page has it.
        across: the most panels in a row here, fewer than `columns`.
        by_column: whether the panels of a column belong together.
        options: `sharex`, `sharey` and `height_ratios` as for `Figure.subplots`.
    """
    share = {name: options.get(f"share{name}", False) for name in "xy"}
    row_by_row = share["x"] is True and share["y"] in (True, False) and not by_column
    places = {}
    for row, column in np.ndindex(rows, columns):
        block, place = divmod(column, across)
        places[row, column] = divmod(row * columns + column, across) if row_by_row else (block * rows + row, place)
    ratios = options.get("height_ratios")
    height = 1 + max(place[0] for place in places.values())
    spec = figure.add_gridspec(height, across, height_ratios=list(ratios) * (height // rows) if ratios else None)
    grid: Any = np.empty((rows, columns), dtype=object)
    first: dict[Any, Axes] = {}
    for (row, column), place in places.items():
        keys = {name: {True: "all", "row": row, "col": column}.get(share[name]) for name in "xy"}
        shared: dict[str, Any] = {f"share{name}": first.get((name, key)) for name, key in keys.items()}
        axes = figure.add_subplot(spec[place], **shared)
        grid[row, column] = axes
        for name, key in keys.items():
            if key is not None:
                first.setdefault((name, key), axes)
    figure.folding = (places, share)  # type: ignore[attr-defined]
    return grid


def _label_panels(figure: Any) -> None:
    """Label the outer panels of a folded grid: an axis in common is labelled where no other panel of it follows."""
    if not hasattr(figure, "folding"):
        return
    places, share = figure.folding
    shown = {place: key for key, place in places.items() if figure.grid[key].get_visible()}
    for (row, column), place in places.items():
        axes = figure.grid[row, column]
        below, left = shown.get((place[0] + 1, place[1])), shown.get((place[0], place[1] - 1))
        if share["x"] in (True, "col"):
            outer = below is None or (share["x"] == "col" and below[1] != column)
            _label(axes.xaxis, [other.xaxis for other in figure.grid[:, column]], outer, "labelbottom")
        if share["y"] in (True, "row"):
            outer = left is None or (share["y"] == "row" and left[0] != row)
            _label(axes.yaxis, [other.yaxis for other in figure.grid[row]], outer, "labelleft")


def _label(axis: Axis, alike: list[Axis], outer: bool, ticks: str) -> None:
    text = axis.get_label_text() or next((other.get_label_text() for other in alike if other.get_label_text()), "")
    options: dict[str, Any] = {"axis": "x" if isinstance(axis, XAxis) else "y", ticks: outer}
    axis.axes.tick_params(**options)
    axis.set_label_text(text if outer else "")
    axis.label.set_visible(True)


# --- what can be read ------------------------------------------------------------------------------------------------


def _settle(figure: Figure) -> bool:
    """Lay a figure out, as high as its labels need; return whether labels of panels side by side overlap."""
    _label_panels(figure)
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.get_subplotspec() is not None]
    _lay_out(figure)
    if (excess := _excess(panels)) > 0.02:
        figure.set_figheight(figure.get_figheight() * (1 - excess))
        _lay_out(figure)
    for _ in range(2):
        needed = max((_label_over_panel(axes, renderer) for axes in panels), default=0.0)
        if needed <= 1:
            break
        figure.set_figheight(figure.get_figheight() * min(needed, 2.0))
        _lay_out(figure)
    fits = [_fit_texts(axes, panels, renderer) for axes in panels]
    return not all(fits) or any(_ticks_overlap(axes, renderer) for axes in panels)


def _lay_out(figure: Figure) -> None:
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)


def _excess(panels: Sequence[Axes]) -> float:
    """Return the share of a figure's height that panels of a fixed aspect leave empty."""
    shares: dict[int, float] = {}
    for axes in panels:
        if axes.get_aspect() != "auto" or axes.get_box_aspect() is not None:
            axes.apply_aspect()
            empty = axes.get_position(original=True).height - axes.get_position().height
            row = axes.get_subplotspec().rowspan.start  # type: ignore[union-attr]
            shares[row] = min(empty, shares.get(row, 1.0))
    return sum(shares.values())


def _label_over_panel(axes: Axes, renderer: Any) -> float:
    """Return the length of a panel's vertical label over its height."""
    if not axes.get_ylabel():
        return 0.0
    room = axes.get_window_extent(renderer).height + 0.15 * axes.figure.dpi
    return float(axes.yaxis.label.get_window_extent(renderer).height / room)


def _fit_texts(axes: Axes, panels: Sequence[Axes], renderer: Any) -> bool:
    """Make a panel's title and horizontal label smaller where they run into the next panel; return whether they fit."""
    box = axes.get_window_extent(renderer)
    beside = [other.get_window_extent(renderer) for other in panels]
    ends = [other.x0 for other in beside if other.x0 > box.x1 and other.y0 < box.y1 and box.y0 < other.y1]
    right = min(ends, default=axes.figure.bbox.x1) - 2
    fits = True
    for text in (axes.xaxis.label, axes.title, axes._left_title):  # type: ignore[attr-defined]
        for _ in range(2):  # the size of letters is rounded
            extent = text.get_window_extent(renderer) if text.get_text() else None
            if extent is None or extent.x1 <= right + 0.5:
                break
            share = (right - extent.x0) / extent.width
            if text.get_horizontalalignment() == "center":
                share = 2 * (right - (extent.x0 + extent.x1) / 2) / extent.width
            fits &= share >= SMALLEST
            text.set_fontsize(text.get_fontsize() * max(share, SMALLEST))
    return fits


def _ticks_overlap(axes: Axes, renderer: Any) -> bool:
    """Return whether numbers on a panel's horizontal axis run into each other."""
    low, high = axes.get_window_extent(renderer).intervalx
    ticks = [label.get_window_extent(renderer) for label in axes.get_xticklabels() if label.get_text()]
    ends = sorted(box.intervalx.tolist() for box in ticks if low - 1 <= box.intervalx.mean() <= high + 1)
    return any(one[1] > after[0] for one, after in pairwise(ends))


def print_figure(chosen: Paper, draw: Callable[[], Any], encode: Callable[[Figure], bytes]) -> tuple[Any, bytes]:
    """Draw a figure for print; return what was drawn, and its file.

    Args:
        chosen: where it is printed.
        draw: draws it: a `nclens.figures.inputs.Drawing`.
        encode: figure -> the bytes of its file.
    """
    for across in range(chosen.most_across, 0, -1):
        with printed(replace(chosen, across=across)):
            drawing = draw()
            figure = drawing.figure
            if getattr(figure, "whole", False):  # a figure of the user's own, whose panels are not ours
                figure.set_size_inches(chosen.width, figure.get_figheight() * chosen.width / figure.get_figwidth())
                return drawing, encode(figure)
            overlap = _settle(figure)
            if not overlap or across == 1 or figure.grid.shape[1] == 1:
                return drawing, encode(figure)
    raise AssertionError("one panel in a row is always drawn")
