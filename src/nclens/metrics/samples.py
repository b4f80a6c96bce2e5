"""Which samples are measured: those whose label is not the one to ignore."""

import numpy as np
from torch import Tensor

from nclens._inputs import Array, check_device, check_label_type, check_labels


def check_ignore_index(ignore_index: int | None) -> int | None:
    """Return `ignore_index` as it is; raise a ValueError unless it is an integer or None."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer | None):
        raise ValueError(f"ignore_index: expected an integer, got {ignore_index!r}")
    return ignore_index


def without_ignored(
    labels: Array, classes: int | None, like: Tensor, ignore_index: int, name: str = "labels"
) -> tuple[Tensor, Tensor]:
    """Return which samples are counted, (N,) bool, and the int64 labels (N,), 0 for those that are not.

    Args:
        labels: (N,), integers in [0, K), or `ignore_index`.
        classes: K; None for any label of 0 or more.
        like: (N, ...), on the device that the labels must be on.
        ignore_index: the label of samples that are left out.
        name: what messages call the labels.

    Raises:
        ValueError: `ignore_index` is no integer; labels as `check_labels`, their rows among all samples.
    """
    check_ignore_index(ignore_index)
    given = check_label_type(labels, len(like), name)
    check_device(name, given, like)
    counted = given.long() != int(ignore_index)
    return counted, check_labels(given.long().where(counted, 0), classes, name=name)
