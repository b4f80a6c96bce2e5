"""One look for all figures: page width, legible type, and one place for the legend and the notes.

Seaborn draws into our axes; nothing uses pyplot's figures or changes other global state. Figures are plain
`matplotlib.figure.Figure` objects, drawn and encoded inside `look()`, so the user's own matplotlib settings neither
change them nor are changed by them. The same input gives the same bytes: no dates or versions are written into files.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from nclens.figures import printing
from nclens.figures.printing import points
from nclens.figures.svg import svg

PAGE_WIDTH = 7.0
"""Width of a figure in inches: a page's text width."""

NARROW_WIDTH = 4.0
"""Width of a figure of one column of panels in inches, whose text can be read on a phone."""

NOTE_LINES = 2
"""The most lines of notes on a figure; the page has the rest."""

DPI = 150
"""Dots per inch of a PNG, and of every measurement of text while a figure is drawn."""

LEFT_OUT = "Not all values can be drawn: see the table of the figure"

INK = "#222222"
FAINT = "#767676"
GROUND = "#ffffff"

LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same letters
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "legend.fontsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 1.8,
    "ytick.minor.size": 1.8,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.2,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.6,
    "axes.formatter.useoffset": False,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "pdf.fonttype": 42,  # TrueType: text in the PDF stays text
}
"""What differs from seaborn's style `ticks` and context `paper`."""

SEED_LINE: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.6, "zorder": 1.9}
"""The line of a single seed, beside that of the mean."""
SEED_DOT: dict[str, Any] = {"linestyle": "", "markersize": 2.4, "markeredgewidth": 0.5, "alpha": 0.8, "zorder": 2.5}
"""The dot of a single seed, beside that of the mean."""

# Losses differ in marker as well as in colour, series in line style: no figure is read by colour alone.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (2.6, 1.4)), (0, (1, 1)))


@contextmanager
def look() -> Iterator[None]:
    """The settings that figures are drawn and encoded in; also a decorator. Matplotlib's defaults, seaborn's, ours."""
    paper = printing.paper()
    ours = LOOK | paper.settings(LOOK) if paper else LOOK
    with matplotlib.style.context(["default", sns.plotting_context("paper"), sns.axes_style("ticks"), ours]):
        yield


class Page(Figure):
    """A figure with what its SVG says of it.

    Attributes:
        grid: its panels, (rows, columns).
        by_column: whether the panels of a column are read before those of the next.
        finding: what it shows, in a sentence or two with numbers.
        sentences: all its notes.
        kept: how many of its artists have the same colours on a dark page.
    """

    grid: np.ndarray
    by_column: bool = False
    finding: str = ""
    sentences: tuple[str, ...] = ()
    kept: int = 0


def page(rows: int, columns: int, height: float, by_column: bool = False, **options: Any) -> tuple[Page, np.ndarray]:
    """A figure of page width and its panels; one column of panels is narrower.

    Args:
        rows: rows of panels.
        columns: panels in a row.
        height: in inches, of the panels with their labels; `legend` and `notes` add what they take.
        by_column: whether the panels of a column are read before those of the next, where they are below each other.
        options: passed on to `Figure.subplots`.

    Returns:
        the figure and its axes, shape (rows, columns).
    """
    width = PAGE_WIDTH if columns > 1 else NARROW_WIDTH
    across = columns
    if (paper := printing.paper()) is not None:
        across = -(-columns // -(-columns // paper.most_across))  # rows as even as can be
        # Narrower panels are lower, but not so low that their labels do not fit.
        wider = (paper.width / across) / (width / columns)
        height *= -(-columns // across) * min(max(wider, 0.75 * paper.scale), 1.2)
        width = paper.width
    figure = Page(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.by_column = by_column
    if across < columns:
        figure.grid = printing.folded(figure, rows, columns, across, by_column, options)
    else:
        figure.grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, figure.grid


def encode(figure: Figure, kind: str, dpi: int = DPI) -> bytes:
    """The figure as the bytes of a file, the same for the same figure.

    Args:
        figure: what to encode. The first call places its panels, legend and notes, for later calls too.
        kind: png, pdf or svg. The SVG comes last: it turns layers of many marks into images.
        dpi: dots per inch of a PNG, and of the pixels that text is fitted to.

    Raises:
        ValueError: kind is none of these.
    """
    silent: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
        "svg": {},
    }
    if kind not in silent:
        raise ValueError(f"kind of file {kind!r}; allowed: {', '.join(silent)}")
    file = io.BytesIO()
    with look():
        if (engine := figure.get_layout_engine()) is not None:
            figure.dpi = dpi
            engine.execute(figure)
            figure.set_layout_engine(None)  # else `savefig` draws every figure twice
        if kind == "svg":
            return svg(figure)
        figure.savefig(file, format=kind, dpi=dpi, metadata=silent[kind])
    return file.getvalue()


def markers(names: Sequence[str]) -> dict[str, str]:
    """A marker for each name, in order."""
    return dict(zip(names, islice(cycle(MARKERS), len(names)), strict=True))


def clear_labels(axes: Axes) -> None:
    """Remove the labels that seaborn takes from the names of columns."""
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(text="", visible=True)


def heat_map(axes: Axes, values: pd.DataFrame, **options: Any) -> None:
    """Seaborn's heat map, without a colour bar.

    To see whether labels overlap seaborn draws the whole figure for every map, and a figure that is not up to date then
    makes it open one of pyplot's. Our labels are short, so drawing is switched off meanwhile.

    Args:
        axes: the panel.
        values: the cells; nan leaves one empty.
        options: passed on to `seaborn.heatmap`.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None

    def draw() -> None:
        figure.stale = False

    figure.canvas.draw = draw  # type: ignore[method-assign]
    try:
        sns.heatmap(values, fmt="", annot_kws={"size": points(7)}, cbar=False, ax=axes, **options)
    finally:
        del figure.canvas.draw
    clear_labels(axes)


def fit_to_means(
    axis: XAxis | YAxis,
    table: pd.DataFrame,
    log: bool = False,
    room: float = 0.5,
    margin: float = 0.05,
    least: float = -np.inf,
    most: float = np.inf,
) -> bool:
    """Set an axis by the means, with limited room for the intervals on either side.

    With two or three seeds a t-interval can be many times as wide as all that the means do; an axis that held it whole
    would flatten the lines. Quantities whose means are never negative get no room below zero.

    Args:
        axis: x or y axis of a panel.
        table: columns mean, low, high.
        log: whether the axis is logarithmic.
        room: the most that is given to intervals on either side, as a multiple of the range of the means.
        margin: empty space at either end, as a part of the axis.
        least, most: the smallest and the largest value that the quantity can have; intervals end there.

    Returns:
        True where an interval is cut at the panel's edge, which the figure then has to say.
    """
    values = table[["mean", "low", "high"]].to_numpy(float, copy=True)
    values[:, 1:] = values[:, 1:].clip(least, most)
    values = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
    values = values[np.isfinite(values[:, 0])]
    if not len(values):
        return False
    if log:
        values = np.log(values)
    bottom, top = values[:, 0].min(), values[:, 0].max()
    low, high = np.nanmin(values), np.nanmax(values)
    narrowest = 0.1 if log else 0.05 * max(abs(bottom), abs(top), 1e-9)
    spread = max(top - bottom, narrowest)
    floor = max(low, bottom - room * spread)
    ceiling = min(high, top + room * spread)
    if not log and bottom >= 0:
        floor = max(floor, 0.0)
    ceiling = min(ceiling, float(np.log(most)) if log else most)
    limits = np.array([floor, ceiling]) + margin * max(ceiling - floor, narrowest) * np.array([-1, 1])
    axis.axes.set(**{f"{axis.axis_name}lim": np.exp(limits) if log else limits})
    return bool(low < limits[0] or high > limits[1])


def keep_colours(*artists: Artist) -> None:
    """Let artists have the same colours on a dark page as on a light one: those of a scale, and numbers on it."""
    for artist in artists:
        figure = artist.get_figure(root=True)
        assert isinstance(figure, Page)
        figure.kept += 1
        artist.set_gid(f"fixed{figure.kept}")


def epoch_axis(axes: Axes) -> None:
    """Whole epochs on the horizontal axis."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("epoch")


def inset(axes: Axes, title: str) -> None:
    """Finish axes in the corner of a panel: few ticks, a frame, and a title inside."""
    axes.set_title(title, fontsize=points(7), pad=2)
    axes.tick_params(labelsize=points(7))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))


def log_axis(axis: XAxis | YAxis) -> None:
    """A logarithmic axis with plain numbers, as many as fit: called once the axis has its limits."""
    low, high = axis.get_view_interval()
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    decades = np.log10(high / low)
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(4))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=7))
    axis.set_major_formatter(FuncFormatter(_plain_or_power))
    axis.set_minor_formatter(NullFormatter())


def _plain_or_power(value: float, _: int) -> str:
    if value <= 0:  # a tick that the axis does not show
        return ""
    return f"{value:g}" if 1e-3 <= value < 1e5 else f"$10^{{{np.log10(value):.3g}}}$"


def percent_axis(axis: XAxis | YAxis) -> None:
    """Fractions shown as percentages; the axis label carries the unit."""
    axis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))


def empty_panel(axes: Axes, text: str) -> None:
    """Say inside a panel why nothing is drawn in it."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT, wrap=True)
    axes.grid(False)
    axes.set_yticks([])


def loss_key(label: str, colour: str, marker: str) -> Line2D:
    """The legend's entry of a loss."""
    return Line2D([], [], color=colour, marker=marker, markersize=4.5, markeredgecolor=GROUND, label=label)


def line_style_key(label: str, line_style: Any) -> Line2D:
    """The legend's entry of a line style, whatever the loss."""
    return Line2D([], [], color=FAINT, linestyle=line_style, label=label)


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend above the panels, where it covers no data, in as few rows as the page allows, filled row by row.

    None where there is nothing to name.
    """
    if not handles:
        return
    for columns in range(len(handles), 0, -1):
        # As many rows can be filled more evenly with fewer columns.
        if -(-len(handles) // -(-len(handles) // columns)) < columns:
            continue
        by_row = [handle for column in range(columns) for handle in handles[column::columns]]
        made = figure.legend(handles=by_row, loc="outside upper center", ncols=columns)
        if made.get_window_extent().width <= 0.98 * figure.bbox.width or columns == 1:
            break
        made.remove()
    figure.set_figheight(figure.get_figheight() + 0.1 + points(0.17) * -(-len(handles) // columns))


def notes(figure: Figure, sentences: Iterable[str]) -> None:
    """Small print below the panels, left-aligned and wrapped to the page, at most `NOTE_LINES` of it; not in print.

    Args:
        figure: where to write.
        sentences: in the order of their weight: those that do not fit are on the page alone. What could not be drawn
            comes second, and is shortened where it is long.
    """
    said = tuple(sentence for sentence in sentences if sentence)
    if isinstance(figure, Page):
        figure.sentences = said
    if printing.paper() is not None:
        return
    columns = int(138 * figure.get_figwidth() / PAGE_WIDTH)
    missing = [sentence for sentence in said[1:] if sentence.startswith("Not drawn")]
    kept: list[str] = []
    for sentence in [*said[:1], *missing, *(text for text in said[1:] if text not in missing)]:
        for text in (sentence, *([LEFT_OUT] if sentence in missing else [])):
            if not kept or len(_wrapped([*kept, text], columns)) <= NOTE_LINES:
                kept.append(text)
                break
    lines = _wrapped(kept, columns)
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6.8, color="#555555", linespacing=1.35)
    figure.set_figheight(figure.get_figheight() + 0.08 + 0.13 * len(lines))


def _wrapped(sentences: Sequence[str], columns: int) -> list[str]:
    text = ". ".join(sentences) + "."
    return textwrap.wrap(text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), columns)
