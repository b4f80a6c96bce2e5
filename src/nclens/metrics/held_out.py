"""Held-out samples: on them a parameter is chosen, such as a temperature; on other test samples its effect is measured.

They are the validation split where there is one, and a share of each class of the test split otherwise.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nclens._inputs import Array, as_integer, as_number, as_tensor, check_labels, count_rows

HeldOut = Array | tuple[Array, Array]
"""A mask (N,) of the test samples, True for the held-out ones; or values (V, ...) and labels (V,) of other samples."""


def held_out_of(
    tensors: Mapping[str, Tensor], share: float, seed: int, values: str = "logits"
) -> Tensor | tuple[Tensor, Tensor]:
    """Return what a run's held-out samples are, for :func:`divided` and the metrics that take ``held_out``.

    Args:
        tensors: of a run's features file: ``test.targets`` (N,) and, where there is a validation split,
            ``val.{values}`` (V, ...) and ``val.targets`` (V,).
        share: of each class of the test split, in (0, 1), where there is no validation split.
        seed: of the random choice of that share.
        values: ``logits`` or ``features``.

    Returns:
        Values and labels of the validation split; without one a mask of the test split (N,), bool, by
        :func:`stratified_mask`.

    Raises:
        ValueError: as `stratified_mask`.
    """
    if "val.targets" in tensors:
        return tensors[f"val.{values}"], tensors["val.targets"]
    return stratified_mask(tensors["test.targets"], share, seed)


def divided(values: Array, labels: Array, held_out: HeldOut) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (values, labels) of the held-out samples, and of the test samples that are not held out.

    Args:
        values: (N, ...), one row a test sample, such as its logits.
        labels: (N,).
        held_out: a mask, or values and labels of a validation split, next to which all test samples remain.

    Raises:
        ValueError: labels are no integers, the mask is no bool tensor (N,) with both values in it, or the rows of the
            split are not like those of the test samples or not as many as its labels.
    """
    values = as_tensor("values", values)
    labels = check_labels(labels, None, count_rows("values", values))
    if not isinstance(held_out, tuple):
        mask = as_tensor("held_out", held_out)
        if mask.dtype != torch.bool or mask.shape != labels.shape:
            raise ValueError(
                f"held_out must be a bool tensor of shape {tuple(labels.shape)}, got {mask.dtype} {tuple(mask.shape)}"
            )
        if mask.all() or not mask.any():
            raise ValueError("held_out must have samples on both sides, got all samples on one")
        return (values[mask], labels[mask]), (values[~mask], labels[~mask])
    own, own_labels = as_tensor("held_out", held_out[0]), check_labels(held_out[1], None)
    if own.shape[1:] != values.shape[1:] or own_labels.shape != own.shape[:1] or not len(own):
        raise ValueError(
            f"held_out must be values (V, ...) and labels (V,), V >= 1 and rows like those of {tuple(values.shape)}, "
            f"got {tuple(own.shape)} and {tuple(own_labels.shape)}"
        )
    return (own, own_labels), (values, labels)


def stratified_mask(labels: Array, fraction: float, seed: int) -> Tensor:
    """Mark a random part of each class: True for the held-out samples.

    Of a class with n >= 2 samples, ``fraction * n`` rounded to the nearest number (halves up), but at least one and at
    most n - 1, are held out; a class's only sample is not. Same labels, fraction and seed: same mask.

    Args:
        labels: (N,) integers of 0 or more, N >= 1.
        fraction: held-out part, in (0, 1).
        seed: of the random choice.

    Returns:
        (N,) bool, on the device of the labels.

    Raises:
        ValueError: on labels of wrong type or shape, negative or none, a fraction outside (0, 1), or a negative seed.
    """
    labels = check_labels(labels, None)
    if not len(labels):
        raise ValueError("labels: expected at least one, got none")
    as_number("fraction", fraction, "a number in (0, 1)", lambda value: 0 < value < 1)
    generator = torch.Generator().manual_seed(as_integer("seed", seed, 0))
    host = labels.cpu()
    mask = torch.zeros(len(host), dtype=torch.bool)
    for label in host.unique():
        members = (host == label).nonzero()[:, 0]
        size = max(1, min(len(members) - 1, math.floor(fraction * len(members) + 0.5)))
        if len(members) > 1:
            mask[members[torch.randperm(len(members), generator=generator)[:size]]] = True
    return mask.to(labels.device)
