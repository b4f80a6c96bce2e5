"""What a film shows, as plain data: the page and the frames of `nclens film` are made from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

#: Classes in the order of a film, on light and on dark ground. The first three are Tol's bright ones; all keep their
#: distance under the common kinds of colour blindness as far as ten can, and a class has its number beside.
CLASSES = {
    "light": (
        "#4477AA",
        "#EE6677",
        "#228833",
        "#B8960C",
        "#2BA6DE",
        "#AA3377",
        "#2E1A7A",
        "#E05A00",
        "#8C8C8C",
        "#5C1A00",
    ),
    "dark": (
        "#6699DD",
        "#FF8899",
        "#44BB66",
        "#F2E269",
        "#8CE6F7",
        "#C95FA8",
        "#7B68EE",
        "#FF8C1A",
        "#C8CCD0",
        "#8F6B4E",
    ),
}
#: Values of a target from low to high: viridis, without the end that vanishes on the ground.
VALUES = {
    "light": (
        "#440154",
        "#482475",
        "#414487",
        "#355F8D",
        "#2A788E",
        "#21908C",
        "#22A884",
        "#43BF71",
        "#7AD151",
        "#9FC934",
    ),
    "dark": (
        "#5A62B5",
        "#4A7AB8",
        "#3F8FB0",
        "#35A0A4",
        "#2FB094",
        "#3DBE7F",
        "#62CB60",
        "#93D741",
        "#C4DF2B",
        "#FDE725",
    ),
}
#: The planes that a network may have, the first first.
PLANES = ("templates", "principal")
#: The share of points that a plane's axes hold.
WITHIN = 0.99


@dataclass(frozen=True)
class Plane:
    """The points of one network in one plane.

    Attributes:
        points: (S, P, 2) of S snapshots and P samples.
        means: (S, C, 2) of the classes that are shown in it; C = 0 for a regressor.
        kinds: (P,), the place of each point's class in the film's classes, or its value's on the scale of `VALUES`.
        scale: what a number is multiplied by.
    """

    points: np.ndarray
    means: np.ndarray
    kinds: np.ndarray
    scale: float

    @property
    def reach(self) -> int:
        """Half the width of the axes at all snapshots: it holds every class mean and `WITHIN` of the points."""
        farthest = np.abs(self.points).max(axis=2)
        inner = np.quantile(farthest, WITHIN) if farthest.size else 0
        return max(1, round(1.08 * float(max(inner, np.abs(self.means).max(initial=0)))))

    @property
    def outside(self) -> int:
        """How many points, of all snapshots, lie outside the axes."""
        return int((np.abs(self.points).max(axis=2) > self.reach).sum())

    def thinned(self, points: int, frames: Sequence[int]) -> "Plane":
        """Return the plane with its first points, at some snapshots."""
        return replace(
            self, points=self.points[frames, :points], means=self.means[list(frames)], kinds=self.kinds[:points]
        )


@dataclass(frozen=True)
class Panel:
    """One network.

    Attributes:
        label: of its loss.
        colour: of its loss, #rrggbb.
        planes: by name, those that the network has.
        curve: (S,) NC1 of a classifier, NRC1 of a regressor, on the training set; nan where it is not measured.
    """

    label: str
    colour: str
    planes: Mapping[str, Plane]
    curve: np.ndarray


@dataclass(frozen=True)
class Film:
    """The networks of an experiment, of one seed, side by side.

    Attributes:
        experiment: its name.
        seed: of all networks.
        epochs: (S,) of the snapshots.
        panels: in the order of the losses.
        kinds: what the colours are: numbers of classes, or ten values of a target from low to high.
        classes: of the data set, None for regression.
        names: of all classes, by number, or the target's as the only one.
        left_out: labels of losses that are not shown.
    """

    experiment: str
    seed: int
    epochs: Sequence[int]
    panels: Sequence[Panel]
    kinds: Sequence[float]
    classes: int | None
    names: Sequence[str] = ()
    left_out: Sequence[str] = ()

    @property
    def measure(self) -> str:
        """What the curve shows."""
        return "NRC1" if self.classes is None else "NC1"

    @property
    def planes(self) -> list[str]:
        """The planes that one of the networks has at least."""
        found = {name for panel in self.panels for name in panel.planes}
        return [name for name in PLANES if name in found]

    def kinds_in(self, plane: str) -> list[int]:
        """Return the places of the kinds that a plane shows."""
        own = (panel.planes[plane].kinds for panel in self.panels if plane in panel.planes)
        return sorted({int(kind) for kinds in own for kind in np.unique(kinds)})

    def title_of(self, plane: str) -> str:
        """Return what a plane is, in a few words."""
        if plane == "templates":
            numbers = [f"{self.kinds[place]:g}" for place in self.kinds_in(plane)]
            return f"plane of the templates of {', '.join(numbers[:-1])} and {numbers[-1]}"
        if self.classes is None:
            return "principal plane of the features"
        return f"principal plane of {len(self.kinds)} class means"

    def thinned(self, points: int, frames: Sequence[int]) -> "Film":
        """Return the film with so many points a plane, at some snapshots."""
        panels = [
            replace(
                panel,
                planes={name: plane.thinned(points, frames) for name, plane in panel.planes.items()},
                curve=panel.curve[list(frames)],
            )
            for panel in self.panels
        ]
        return replace(self, epochs=[self.epochs[frame] for frame in frames], panels=panels)
