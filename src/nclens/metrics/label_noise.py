"""Collapse by the clean labels of a training split whose labels are noisy, and the ceilings that noise sets."""

import math

import torch

from nclens._inputs import Array, as_tensor, check_labels, count_rows, describe
from nclens.metrics.calibration import check_logits
from nclens.metrics.collapse import class_means, few_classes_collapse, has_two_classes, neural_collapse

BY_CLEAN = ("nc1", "nc1_quotient", "cdnv", "nc2", "nc3", "nc4")
"""The keys of `neural_collapse` that `clean_label_collapse` has by the clean labels."""


def clean_label_collapse(
    features: Array, labels: Array, clean_labels: Array, logits: Array, weight: Array, bias: Array | None
) -> dict[str, float]:
    """Measure the training split by its clean labels, beside `neural_collapse` by the noisy ones.

    | key | formula | range |
    |---|---|---|
    | `nc1_clean`, `nc1_quotient_clean`, `cdnv_clean`, `nc2_clean`, `nc3_clean`, `nc4_clean` | those of \
`neural_collapse` with the clean labels | |
    | `error_clean` | share of samples whose prediction is not the clean label | [0, 1] |
    | `noise_share` | share of samples whose two labels differ | [0, 1] |
    | `nc1_clean_ceiling` | nc1 by the clean labels of a network that has collapsed on the noisy ones | [0, inf] |
    | `nc1_ceiling` | nc1 by the noisy labels of a network that has collapsed on the clean ones | [0, inf] |

    A network cannot collapse by both labels: NC1 by the one, where NC1 by the other is 0, is one of the two ceilings,
    whatever the class means are, as long as no one of the K is in the span of the others' differences (d >= K - 1).
    For nc1 does not change under linear maps: it is that of one-hot features. A network that predicts every clean label
    has the error `noise_share` on the noisy ones.

    Args:
        features: (N, d).
        labels, clean_labels: (N,), integers in [0, K); a class with fewer than two samples is left out. With fewer
            than two others the keys of collapse are nan, but for `nc4_clean`.
        logits: (N, K); the prediction is the first of the largest.
        weight, bias: (K, d) and (K,) or None, the classifier's.

    Raises:
        ValueError: as `neural_collapse` with `min_samples` = 2.
    """
    classes = count_rows("weight", weight)
    clean = check_labels(clean_labels, classes, count_rows("features", features), name="clean_labels")
    noisy = check_labels(labels, classes, len(clean))
    if (found := as_tensor("logits", logits)).shape != (len(clean), classes):
        raise ValueError(f"logits: expected shape ({len(clean)}, {classes}), got {describe(found)}")
    reference = class_means(features, clean, classes, min_samples=1)
    if has_two_classes(clean, classes):
        values = neural_collapse(features, clean, weight, bias, min_samples=2, reference_means=reference)
    else:
        values = few_classes_collapse(features, clean, weight, bias, reference)
    predicted = check_logits(logits, clean)[0].argmax(1)
    return {
        **{f"{key}_clean": values[key] for key in BY_CLEAN},
        "error_clean": float((predicted != clean).double().mean()),
        "noise_share": float((noisy != clean).double().mean()),
        "nc1_clean_ceiling": _nc1_of_collapsed(noisy, clean, classes),
        "nc1_ceiling": _nc1_of_collapsed(clean, noisy, classes),
    }


def _nc1_of_collapsed(on: torch.Tensor, by: torch.Tensor, classes: int) -> float:
    """nc1 by some labels of features that have collapsed on others."""
    if not has_two_classes(by, classes):
        return math.nan
    identity = torch.eye(classes, dtype=torch.float64, device=on.device)
    return neural_collapse(identity[on], by, identity, None, min_samples=2, metrics=("nc1",))["nc1"]
