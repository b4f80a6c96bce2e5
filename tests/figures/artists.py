"""What is drawn, read back from the artists of a figure."""

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

from nclens.figures import style


def notes_of(figure):
    """All notes of a figure: those below its panels and those that only the page has."""
    return ". ".join(figure.sentences) + "."


def lines_of(axes, colour, marked=None):
    """The lines of a colour: all, or those with (True) or without (False) a marker."""
    found = [line for line in axes.lines if to_hex(line.get_color()) == to_hex(colour)]
    return [line for line in found if marked is None or (line.get_marker() not in ("None", "", None)) == marked]


def mean_lines(axes):
    """The lines but those of single seeds."""
    return [line for line in axes.lines if line not in seed_lines(axes)]


def seed_lines(axes, colour=None):
    """The thin lines of single seeds, of a colour or all."""
    thin = style.SEED_LINE["linewidth"]
    return [
        line
        for line in axes.lines
        if line.get_linewidth() == thin and (colour is None or to_hex(line.get_color()) == to_hex(colour))
    ]


def seed_dots(axes, colour):
    """Positions of the small marks of single seeds of a colour, (N, 2)."""
    small = style.SEED_DOT["markersize"]
    found = [line.get_xydata() for line in lines_of(axes, colour, marked=True) if line.get_markersize() == small]
    return np.concatenate([np.empty((0, 2)), *found])


def bands_of(axes, colour):
    """The ends of each band of a colour, as (x, low, high) arrays in the order of x."""
    bands = []
    for band in axes.collections:
        if isinstance(band, PolyCollection) and to_hex(band.get_facecolor()[0]) == to_hex(colour):
            at, y = np.concatenate([path.vertices for path in band.get_paths()]).T
            x = np.unique(at)
            bands.append((x, *(np.array([end(y[at == place]) for place in x]) for end in (np.min, np.max))))
    return bands


def points_of(axes, colour, marker="o"):
    """Positions of the markers of a colour, (N, 2), without those that are not finite."""
    found = [line.get_xydata() for line in lines_of(axes, colour, marked=True) if line.get_marker() == marker]
    points = np.concatenate([np.empty((0, 2)), *found]).astype(float)
    return points[np.isfinite(points).all(axis=1)]


def bars_of(axes, colour):
    """The ends of the error bars of a colour, (N, 2, 2), without those that are not finite."""
    found = [line.get_xydata() for line in lines_of(axes, colour, marked=False) if len(line.get_xydata()) == 2]
    return np.array([bar for bar in found if np.isfinite(np.asarray(bar, float)).all()]).reshape(-1, 2, 2)
