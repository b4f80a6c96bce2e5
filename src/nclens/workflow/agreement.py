"""NC1 as extraction compares it between two passes: no step depends on this code, which only checks."""

import warnings

import torch
from torch import Tensor

from nclens.metrics.collapse import nc1_subset


def nc1_of(features: Tensor, labels: Tensor) -> float:
    """Return NC1 of the classes that have two samples or more, 0 where fewer than two have.

    Args:
        features: (N, d), of a few samples.
        labels: (N,), integers.
    """
    _, label, counts = labels.unique(return_inverse=True, return_counts=True)
    several = counts[label] > 1
    classes, label = label[several].unique(return_inverse=True)
    if len(classes) < 2:
        return 0.0
    with warnings.catch_warnings(action="ignore"):  # where all class means coincide
        return nc1_subset(features[several], label, len(classes), torch.ones_like(label, dtype=torch.bool))
