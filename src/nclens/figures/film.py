"""The film of the collapse as a file of frames, for slides: GIF by Pillow, MP4 by ffmpeg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nclens.figures import style
from nclens.figures.film_inputs import CLASSES, VALUES, Film, Panel, Plane

#: Frames a second; of a snapshot, and on the way to the next one.
RATE, AT_REST, MOVING = 12, 3, 4
#: Frames that the last snapshot stays for.
AT_THE_END = 24
#: The most snapshots; of more, evenly spaced ones are shown.
MOST_SNAPSHOTS = 60
DPI = 120

#: Moves what is drawn to a place between two snapshots.
Move = Callable[[float], None]


@style.look()
def write_frames(film: Film, plane: str, to: Path) -> None:
    """Write a film as a .gif or .mp4.

    Args:
        film: of an experiment.
        plane: one of `film.planes`.
        to: the file; its ending says what is written.
    """
    places = sorted({round(place) for place in np.linspace(0, len(film.epochs) - 1, MOST_SNAPSHOTS)})
    film = film.thinned(len(next(panel.planes[plane] for panel in film.panels if plane in panel.planes).kinds), places)
    figure, moves = _drawn(film, plane)
    writer = PillowWriter(fps=RATE) if to.suffix.lower() == ".gif" else FFMpegWriter(fps=RATE, codec="h264")
    with writer.saving(figure, str(to), dpi=DPI):
        for at in moments(len(film.epochs)):
            for move in moves:
                move(at)
            writer.grab_frame()


def moments(snapshots: int) -> list[float]:
    """Return the place of each frame: some at a snapshot, some on the way to the next, the end held.

    >>> moments(2)[:8]
    [0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    way = [step / (MOVING + 1) for step in range(1, MOVING + 1)]
    before = [frame + share for frame in range(snapshots - 1) for share in (*[0.0] * AT_REST, *way)]
    return [*before, *[float(snapshots - 1)] * AT_THE_END]


def between(values: np.ndarray, at: float) -> np.ndarray:
    """Return values (S, ...) at a place between two snapshots, on the straight line."""
    frame = min(int(at), len(values) - 1)
    following = min(frame + 1, len(values) - 1)
    return values[frame] + (at - frame) * (values[following].astype(float) - values[frame])


def _drawn(film: Film, plane: str) -> tuple[Figure, list[Move]]:
    columns = min(len(film.panels), 4)
    rows = -(-len(film.panels) // columns)
    figure = Figure(figsize=(max(2, columns) * 2.6, rows * 2.9 + 2.1), facecolor="white")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*[2.9] * rows, 1.5])
    figure.subplots_adjust(left=0.12, right=0.97, top=1 - 0.55 / figure.get_figheight(), bottom=0.09, hspace=0.28)
    moves: list[Move] = [_heading(figure, film, plane)]
    for number, panel in enumerate(film.panels):
        axes = figure.add_subplot(grid[number // columns, number % columns])
        axes.set_title(panel.label, fontsize=9)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set(visible=True, color=style.FAINT, linewidth=0.6)
        if plane in panel.planes:
            moves.append(_panel(axes, film, panel.planes[plane]))
        else:
            axes.text(0.5, 0.5, "no plane", transform=axes.transAxes, ha="center", va="center", color=style.FAINT)
    moves.append(_curve(figure.add_subplot(grid[rows, :]), film))
    return figure, moves


def _heading(figure: Figure, film: Film, plane: str) -> Move:
    height = figure.get_figheight()
    text = figure.text(0.02, 1 - 0.1 / height, "", ha="left", va="top", fontsize=10, weight="bold")
    figure.text(0.98, 1 - 0.13 / height, film.title_of(plane), ha="right", va="top", fontsize=7.5, color=style.FAINT)

    def move(at: float) -> None:
        text.set_text(f"{film.experiment}, epoch {film.epochs[round(at)]:,}")

    return move


def _panel(axes: Axes, film: Film, plane: Plane) -> Move:
    reach = plane.reach
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    colours = np.array(CLASSES["light"] if film.classes is not None else VALUES["light"])
    look: dict[str, Any] = {"linewidths": 0, "alpha": 0.6}
    points = axes.scatter(plane.points[0, :, 0], plane.points[0, :, 1], s=6, c=list(colours[plane.kinds]), **look)
    rings = list(colours[: plane.means.shape[1]])
    marks = axes.scatter(plane.means[0, :, 0], plane.means[0, :, 1], s=75, c="white", edgecolors=rings, zorder=3)
    numbers = [
        axes.text(0, 0, f"{film.kinds[place]:g}", fontsize=7, ha="center", va="center", zorder=4, clip_on=True)
        for place in range(plane.means.shape[1])
    ]

    def move(at: float) -> None:
        points.set_offsets(between(plane.points, at))
        centres = between(plane.means, at)
        marks.set_offsets(centres)
        for number, centre in zip(numbers, centres, strict=True):
            number.set_position(tuple(centre))

    return move


def _curve(axes: Axes, film: Film) -> Move:
    """NC1 of each network against log(1 + epoch), and the moment."""
    epochs = np.log1p(np.asarray(film.epochs, dtype=float))
    for panel in film.panels:
        own = _positive(panel)
        axes.plot(epochs, own, color=panel.colour, linewidth=1.5, label=panel.label)
    if any((panel.curve > 0).any() for panel in film.panels):
        axes.set_yscale("log")
        style.log_axis(axes.yaxis)
    shown = [0]
    for place in range(1, len(epochs)):
        if epochs[place] - epochs[shown[-1]] > 0.07 * (epochs[-1] - epochs[0]):
            shown.append(place)
    axes.set_xticks(epochs[shown], [f"{film.epochs[place]:,}" for place in shown])
    axes.set(xlabel="epoch", ylabel=film.measure, xlim=(epochs[0], epochs[-1]))
    axes.legend(fontsize=7, loc="upper right", ncols=2 if len(film.panels) > 4 else 1)
    moment = axes.axvline(epochs[0], color="black", linewidth=1)

    def move(at: float) -> None:
        moment.set_xdata([float(between(epochs, at))] * 2)

    return move


def _positive(panel: Panel) -> np.ndarray:
    return np.where(panel.curve > 0, panel.curve, np.nan)
