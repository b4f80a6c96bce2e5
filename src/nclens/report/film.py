"""The film of the collapse: the numbers of its script, and the still picture of pages without scripts."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nclens.figures.film_inputs import Film, Panel, Plane
from nclens.report.page import Section
from nclens.report.text import Names, listed, number

#: The most bytes that all films of a page take, as text.
MOST_BYTES = 2_000_000
#: Points of a panel of the still picture, and half the width of its axes.
STILL_POINTS, STILL_REACH = 200, 500


def film_section(names: Names, films: Mapping[str, Film]) -> Section | None:
    """Return a film an experiment; None without any.

    Args:
        names: of the study.
        films: experiment -> its film.
    """
    if not films:
        return None
    shown = [_film(names, place, film) for place, film in enumerate(_fitted(films), start=1)]
    return Section("film", "Film of the collapse", "film.html.j2", {"films": shown})


def _fitted(films: Mapping[str, Film]) -> list[Film]:
    """The films with as many points and snapshots as the page has room for, evenly thinned."""
    points, frames = 500, max(len(film.epochs) for film in films.values())
    while True:
        fitted = [film.thinned(points, _evenly(len(film.epochs), frames)) for film in films.values()]
        if sum(map(_size, fitted)) <= MOST_BYTES or frames == 2:
            return fitted
        points, frames = (points - 50, frames) if points > 150 else (points, max(2, frames * 9 // 10))


def _evenly(count: int, most: int) -> list[int]:
    """At most so many places of `count`, evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _size(film: Film) -> int:
    numbers = sum(plane.points.size + plane.means.size for panel in film.panels for plane in panel.planes.values())
    return math.ceil(2 * 4 / 3 * numbers)


def _film(names: Names, place: int, film: Film) -> dict[str, Any]:
    where = names.where(film.experiment)
    return {
        "anchor": f"film-{place}",
        "where": where,
        "epochs": len(film.epochs),
        "first": film.epochs[0],
        "last": film.epochs[-1],
        "measure": film.measure,
        "of_values": film.classes is None,
        "planes": [{"name": name, "text": film.title_of(name)} for name in film.planes],
        "data": _data(film),
        "legend": _legend(film),
        "still": _still(film),
        "caption": _caption(film),
        "label": f"{film.measure} against epoch: {listed(panel.label for panel in film.panels)} on {where}",
    }


def _data(film: Film) -> dict[str, Any]:
    """What the script draws: numbers of 16 bits in base64, in units of each plane's scale."""
    return {
        "epochs": list(film.epochs),
        "measure": film.measure,
        "names": [f"{kind:g}" for kind in film.kinds] if film.classes is not None else [],
        "planes": {name: {"kinds": film.kinds_in(name), "text": film.title_of(name)} for name in film.planes},
        "panels": [
            {
                "label": panel.label,
                "colour": panel.colour,
                "curve": [float(f"{value:.4g}") if math.isfinite(value) else None for value in panel.curve],
                "planes": {name: _numbers(plane) for name, plane in panel.planes.items()},
            }
            for panel in film.panels
        ],
    }


def _numbers(plane: Plane) -> dict[str, Any]:
    return {
        "points": _base64(plane.points, "<i2"),
        "means": _base64(plane.means, "<i2"),
        "kinds": _base64(plane.kinds, "u1"),
        "scale": plane.scale,
        "reach": plane.reach,
    }


def _base64(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def _legend(film: Film) -> list[dict[str, Any]]:
    """The colours with what they are, by number; of a target the lowest and the highest value alone are named."""
    if film.classes is None:
        return [{"place": place, "text": number(film.kinds[place]), "name": ""} for place in range(len(film.kinds))]
    rows = []
    for place in sorted(range(len(film.kinds)), key=lambda place: film.kinds[place]):
        text = f"{film.kinds[place]:g}"
        name = film.names[int(film.kinds[place])] if len(film.names) > film.kinds[place] else text
        rows.append({"place": place, "text": text, "name": "" if name == text else name})
    return rows


def _still(film: Film) -> list[dict[str, Any]]:
    """Each network at the first, a middle and the last snapshot, in the first plane."""
    name, last = film.planes[0], len(film.epochs) - 1
    return [
        {
            "loss": {"label": panel.label, "colour": panel.colour},
            "moments": [_moment(film, panel, name, frame) for frame in sorted({0, last // 2, last})],
        }
        for panel in film.panels
    ]


def _moment(film: Film, panel: Panel, name: str, frame: int) -> dict[str, Any]:
    plane = panel.planes.get(name)
    title = f"{panel.label}, epoch {film.epochs[frame]}, {film.measure} {number(panel.curve[frame])}"
    moment = {"epoch": film.epochs[frame], "value": number(panel.curve[frame]), "alt": title, "paths": [], "means": []}
    if plane is None:
        return moment
    points, means = (
        np.round(part * np.array([1, -1]) * (STILL_REACH / plane.reach)).astype(int)
        for part in (plane.points[frame, :STILL_POINTS].astype(float), plane.means[frame].astype(float))
    )
    kinds = plane.kinds[:STILL_POINTS]
    inside = np.abs(points).max(axis=1) <= STILL_REACH
    paths = [
        {"place": kind, "d": "".join(f"M{x} {y}h0" for x, y in points[inside & (kinds == kind)])}
        for kind in film.kinds_in(name)
    ]
    marks = [{"place": kind, "x": x, "y": y} for kind, (x, y) in enumerate(means.tolist())]
    return moment | {"paths": [path for path in paths if path["d"]], "means": marks}


def _caption(film: Film) -> list[str]:
    planes = [plane for panel in film.panels for plane in panel.planes.values()]
    outside, total = sum(plane.outside for plane in planes), sum(plane.points[..., 0].size for plane in planes)
    count = max(plane.points.shape[1] for plane in planes)
    lines = [f"At most {count} training samples, the same in all panels, drawn by a fixed seed."]
    if film.classes is None:
        target = film.names[0] if film.names else "the first target"
        lines.append(f"Colour: {target}. Origin: the mean of these samples.")
    else:
        if len(film.kinds) < film.classes:
            lines.append(f"Shown are {len(film.kinds)} of the {film.classes} classes.")
        lines.append("Rings: class means of the training set, with the class’s number. Origin: their centre.")
    lines.append("The plane is that of the last snapshot. The axes of a panel are the same at all snapshots.")
    lines.append("Each panel has its own scale: the bar shows its length in the features’ unit.")
    if outside:
        lines.append(f"{outside:,} of {total:,} points lie outside the axes.")
    lines.append(f"Networks of seed {film.seed}; {film.measure} on the training set.")
    lines.append("Between snapshots the marks move in straight lines, which are not measured.")
    if film.left_out:
        lines.append(f"Not shown: {listed(film.left_out)}.")
    return lines
