"""Transfer: the accuracy of a linear classifier on frozen features of another data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nclens._inputs import Array, as_number, as_tensor, check_labels, scaled, unscaled
from nclens.data.tensors import Split
from nclens.metrics.held_out import stratified_mask
from nclens.models import Network
from nclens.training.loop import extract_features

STRENGTHS = tuple(10 ** (-6 + 11 * step / 44) for step in range(45))
"""45 penalties from 1e-6 to 1e5, evenly spaced on the log scale (arXiv 2502.15798)."""

TOLERANCE = 1e-6
"""The solver stops where the largest entry of the mean objective's gradient is below this."""
MOST_STEPS = 2000


@dataclass(frozen=True)
class LinearProbe:
    """The result of a linear probe.

    Attributes:
        accuracy: on the test samples, in [0, 1].
        strength: the penalty that was chosen.
        held_out_accuracy: of the chosen penalty on the held-out samples, in [0, 1].
    """

    accuracy: float
    strength: float
    held_out_accuracy: float


def transfer_accuracy(network: Network, other: tuple[Split, Split], *, held_out: float, seed: int) -> dict[str, float]:
    """Accuracy of a linear probe on the network's frozen features of another data set.

    Args:
        network: left in evaluation mode.
        other: training and test split of the other data set, normalised as the network's own data: the normalisation
            is frozen with the network.
        held_out: as for :func:`linear_probe`.
        seed: of the held-out part.

    Returns:
        ``probe_accuracy`` on the test split, and ``probe_strength``, the penalty that was chosen.

    Raises:
        ValueError: as :func:`linear_probe`.
    """
    features, test_features = (extract_features(network, split)[0] for split in other)
    labels, test_labels = (split.targets.cpu() for split in other)
    found = linear_probe(features, labels, test_features, test_labels, held_out=held_out, seed=seed % 2**31)
    return {"probe_accuracy": found.accuracy, "probe_strength": found.strength}


def linear_probe(
    features: Array,
    labels: Array,
    test_features: Array,
    test_labels: Array,
    *,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    seed: int = 0,
) -> LinearProbe:
    """Accuracy of l2-penalised multinomial logistic regression on frozen features.

    The objective is ``sum_i CE(V x_i + c, y_i) + (strength / 2) |V|_F^2``; the intercept c is not penalised. A seeded
    part of each class is held out and the classifier fitted to the rest at every strength. The strength with the
    highest held-out accuracy is chosen (ties: the largest); the classifier is then fitted to all training samples and
    evaluated on the test samples. For two classes scikit-learn fits the one difference of their rows.

    x is the feature minus the mean over the training samples, divided by *one* number, the root mean square of all
    centred entries. So a strength means the same for every network, whatever the norm of its features, and no direction
    is stretched: rotating, shifting or scaling all features changes nothing. Scaling each coordinate separately would
    undo part of what is to be measured.

    Args:
        features, test_features: (N, d) and (M, d), finite.
        labels, test_labels: integers (N,) and (M,) of 0 or more; in `labels` two classes or more, and two samples of
            each.
        strengths: penalties > 0.
        held_out: the part of each class that the strength is chosen on, in (0, 1).
        seed: of the held-out part.

    Raises:
        ValueError: on wrong shapes or types, values that are not finite, labels that are negative, too few classes or
            samples, or strengths that are not positive.

    Source: transfer in MaxSup, arXiv 2502.15798, for the classifier and the strengths; that a strength multiplies the
    sum over samples, the scale of x and the size of the held-out part are ours.
    """
    features, labels = _checked("", features, labels)
    test_features, test_labels = _checked("test_", test_features, test_labels)
    if features.shape[1] != test_features.shape[1]:
        raise ValueError(f"features have {features.shape[1]} columns, test_features {test_features.shape[1]}")
    if not len(strengths):
        raise ValueError("strengths: expected at least one, got none")
    for strength in strengths:
        as_number("strengths", strength, "finite numbers > 0", lambda value: 0 < value < np.inf)
    counts = labels.unique(return_counts=True)[1]
    if len(counts) < 2 or int(counts.min()) < 2:
        raise ValueError(f"a probe needs at least two classes and two samples of each, got {counts.tolist()} per class")
    x, x_test = _scaled(features, test_features)
    y, y_test = labels.cpu().numpy(), test_labels.cpu().numpy()
    out = stratified_mask(labels.cpu(), held_out, seed).numpy()
    # From the strongest penalty down, each fit starts from the one before.
    descending = sorted(strengths, reverse=True)
    right = _path(x[~out], y[~out], x[out], y[out], descending)
    best = int(np.argmax(right))
    (accuracy,) = _path(x, y, x_test, y_test, descending[best : best + 1])
    return LinearProbe(accuracy, descending[best], right[best])


def _checked(prefix: str, features: Array, labels: Array) -> tuple[Tensor, Tensor]:
    rows = as_tensor(f"{prefix}features", features)
    if rows.ndim != 2 or 0 in rows.shape or not torch.isfinite(rows).all():
        raise ValueError(f"{prefix}features must be finite (N, d), got {tuple(rows.shape)}")
    return rows, check_labels(labels, None, len(rows), name=f"{prefix}labels")


def _scaled(features: Tensor, test_features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    features, exponent = scaled(features.detach().double())
    test_features = unscaled(test_features.detach().double(), -exponent)
    mean = features.mean(dim=0)
    centred, test = features - mean, test_features - mean
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
        # Where a penalty is so weak that the solver runs out of steps, the classes have long been separated.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=1 / strength).fit(x, y)
            accuracies.append(float(model.score(x_out, y_out)))
    return accuracies
