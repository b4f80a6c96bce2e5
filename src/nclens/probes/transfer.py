"""Transfer: how well a linear classifier does on frozen features of another data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nclens.metrics.calibration import stratified_mask

STRENGTHS = tuple(10 ** (-6 + 11 * step / 44) for step in range(45))
"""45 penalties from 1e-6 to 1e5, evenly spaced on the log scale (arXiv 2502.15798)."""

TOLERANCE = 1e-6
"""Largest entry of the mean objective's gradient at which the solver stops."""
MOST_STEPS = 2000


@dataclass(frozen=True)
class LinearProbe:
    """What a linear probe found.

    Attributes:
        accuracy: on the test samples, in [0, 1].
        strength: the penalty that was picked.
        held_out_accuracy: of the picked penalty on the held-out samples, in [0, 1].
    """

    accuracy: float
    strength: float
    held_out_accuracy: float


def linear_probe(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    seed: int = 0,
) -> LinearProbe:
    """Accuracy of l2-penalised multinomial logistic regression on frozen features.

    Minimised is ``sum_i CE(V x_i + c, y_i) + (strength / 2) |V|_F^2``; the intercept c is not penalised. A seeded part
    of each class is held out, the classifier fitted to the rest at every strength, and the strength that is right most
    often on the held-out part taken, of equals the largest; then it is fitted to all and judged on the test samples.
    For two classes scikit-learn fits the one difference of their rows.

    x is the feature minus the mean over the training samples, divided by *one* number, the root of the mean square of
    all that is left. So a strength means the same for every network, whatever its features' norm, while no direction is
    stretched: what the loss made small stays small, and rotating, moving or scaling all features changes nothing.
    Scaling each coordinate by itself would undo part of what is to be measured.

    Args:
        features, test_features: (N, d) and (M, d), finite.
        labels, test_labels: class numbers (N,) and (M,); at least two classes, and two samples of each in `labels`.
        strengths: penalties > 0.
        held_out: the part of each class that the strength is picked on, in (0, 1).
        seed: of the held-out part.

    Raises:
        ValueError: on wrong shapes, values that are not finite, too few classes or samples, or strengths that are not
            positive.

    Source: transfer in MaxSup, arXiv 2502.15798, for the classifier and the strengths; that a strength multiplies the
    sum over samples, the scale of x and the size of the held-out part are ours.
    """
    for name, rows, classes in (("", features, labels), ("test_", test_features, test_labels)):
        if rows.ndim != 2 or 0 in rows.shape or classes.shape != rows.shape[:1] or not torch.isfinite(rows).all():
            raise ValueError(
                f"{name}features and {name}labels must be finite (N, d) and (N,), got {tuple(rows.shape)} and "
                f"{tuple(classes.shape)}"
            )
    if features.shape[1] != test_features.shape[1]:
        raise ValueError(f"features have {features.shape[1]} columns, test_features {test_features.shape[1]}")
    if not strengths or not all(0 < strength < np.inf for strength in strengths):
        raise ValueError(f"strengths must be positive and finite, got {list(strengths)}")
    counts = labels.unique(return_counts=True)[1]
    if len(counts) < 2 or int(counts.min()) < 2:
        raise ValueError(f"a probe needs at least two classes and two samples of each, got {counts.tolist()} a class")
    x, x_test = _scaled(features, test_features)
    y, y_test = labels.cpu().numpy(), test_labels.cpu().numpy()
    out = stratified_mask(labels.cpu(), held_out, seed).numpy()
    # From the strongest penalty down, each fit starts from the one before.
    descending = sorted(strengths, reverse=True)
    right = _path(x[~out], y[~out], x[out], y[out], descending)
    picked = int(np.argmax(right))
    (accuracy,) = _path(x, y, x_test, y_test, descending[picked : picked + 1])
    return LinearProbe(accuracy, descending[picked], right[picked])


def _scaled(features: Tensor, test_features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    known, asked = features.detach().double(), test_features.detach().double()
    mean = known.mean(dim=0)
    centred, test = known - mean, asked - mean
    scale = float(centred.square().mean().sqrt()) or 1.0
    return (centred / scale).cpu().numpy(), (test / scale).cpu().numpy()


def _path(x: np.ndarray, y: np.ndarray, x_out: np.ndarray, y_out: np.ndarray, strengths: list[float]) -> list[float]:
    """Accuracy on other samples at each strength in turn."""
    # Imported here: scikit-learn is slow to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver="lbfgs", tol=TOLERANCE, max_iter=MOST_STEPS, warm_start=True)
    accuracies = []
    with warnings.catch_warnings():
        # Where a penalty is so weak that the solver runs out of steps, the classes are separated long since.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=1 / strength).fit(x, y)
            accuracies.append(float(model.score(x_out, y_out)))
    return accuracies
