"""Simulated films: clusters that contract while they move apart."""

import numpy as np

from nclens.figures.film_inputs import Film, Panel, Plane

LABELS = (
    "CE",
    "LS (δ = 0.05)",
    "MaxSup",
    "focal",
    "squared error",
    "CP",
    "OLS",
    "LS 0.1",
    "LS 0.2",
    "LS 0.3",
    "a",
    "b",
)
COLOURS = ("#0072B2", "#D55E00", "#000000", "#CC79A7", "#56B4E9", "#E69F00", "#009E73", "#882255")


def plane(classes, snapshots, per_class, seed):
    random = np.random.default_rng(seed)
    kinds = np.arange(classes * per_class) % classes
    angles = 2 * np.pi * np.arange(classes) / classes
    corners = 9000 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    growth, spread = np.linspace(0.4, 1, snapshots), np.geomspace(4000, 300, snapshots)
    means = growth[:, None, None] * corners
    points = means[:, kinds] + spread[:, None, None] * random.normal(size=(snapshots, len(kinds), 2)).clip(-3, 3)
    return Plane(points.astype(np.int16), means.astype(np.int16), kinds, 1e-3)


def film(losses=2, classes=10, snapshots=6, per_class=50, **changes):
    """A film of a classifier with both planes."""
    epochs = [2**frame for frame in range(snapshots)]
    panels = []
    for number, label in enumerate(LABELS[:losses]):
        planes = {"principal": plane(classes, snapshots, per_class, number)}
        if classes > 2:
            planes["templates"] = plane(3, snapshots, per_class, number)
        curve = np.geomspace(1, 0.01 * (number + 1), snapshots)
        panels.append(Panel(label, COLOURS[number % len(COLOURS)], planes, curve))
    given = {"classes": classes, "names": [str(k) for k in range(classes)], "kinds": [float(k) for k in range(classes)]}
    return Film("digits", 0, epochs, panels, **{**given, **changes})


def regressed(snapshots=4):
    """A film of a regressor: one plane, a target as colour."""
    made = plane(10, snapshots, 20, 0)
    panel = Panel(
        "weight decay",
        COLOURS[0],
        {"principal": Plane(made.points, made.means[:, :0], made.kinds, 1e-3)},
        np.geomspace(1, 0.1, snapshots),
    )
    return Film(
        "digits", 0, [0, 1, 10, 100][:snapshots], [panel], np.linspace(-1.25, 2.5, 10).tolist(), None, ["torque"]
    )
