"""What is measured of a trained regressor beside its collapse, and the one gamma of all its snapshots."""

from collections.abc import Mapping

import torch
from torch import Tensor

from nclens._inputs import Array, as_tensor, check_labels, count_rows, describe
from nclens.metrics.regression import (
    check_batch,
    fit_gamma,
    regression_collapse,
    residual_deviation,
    residuals_of,
    target_covariance,
)

SPLITS = ("train", "test")


def run_gamma(last: Mapping[str, Array], c: float | None = None) -> float | None:
    """Return the gamma that NRC3 is measured with at all epochs of a run and on both splits.

    It is c = lambda_w lambda_h_mean where the run was trained with the model's penalties and c lies below the largest
    eigenvalue of both splits' target covariance (2409.04180, UFM); otherwise it is found once, on the final weights and
    the training split. None where NRC3 is not defined: one target, or final weights that are zero.

    Args:
        last: the last snapshot: `weight` (n, d), `train.targets` and `test.targets` (M, n).
        c: see above; None for a run without the penalties.
    """
    weight = as_tensor("weight", last["weight"])
    if len(weight) == 1 or not weight.any():
        return None
    covariances = [target_covariance(last[f"{split}.targets"]) for split in SPLITS]
    if c is not None and all(c < torch.linalg.eigvalsh(covariance)[-1] for covariance in covariances):
        return c
    return fit_gamma(weight, covariances[0])


def onehot_collapse(
    features: Array, labels: Array, weight: Array, bias: Array | None, *, gamma: float | None = None
) -> dict[str, float]:
    """Return the regression collapse of a classifier, its one-hot rows (N, K) as targets; keys begin with `onehot_`.

    Args:
        features, weight, bias: (N, d), (K, d) and (K,), as for `nclens.metrics.regression.regression_collapse`.
        labels: (N,), integers of any type in [0, K); every class must occur.
        gamma: of NRC3, from `run_gamma` of the last snapshot, `with_onehot_targets`.

    Raises:
        ValueError: as `regression_collapse`.
    """
    values = regression_collapse(features, _onehot(labels, count_rows("weight", weight)), weight, bias, gamma=gamma)
    return {f"onehot_{name}": value for name, value in values.items()}


def penalised_deviation(features: Array, targets: Array, weight: Array, bias: Array, c: float) -> dict[str, float]:
    """Return `residual_deviation`, the distance of the residual covariance to c I that the model predicts.

    Args:
        features, targets, weight, bias: (M, d), (M, n), (n, d) and (n,).
        c: lambda_w lambda_h_mean of the penalties that the network was trained with.

    Raises:
        ValueError: as `nclens.metrics.regression.regression_collapse` and `residual_deviation`.
    """
    residuals = residuals_of(*check_batch(features, targets, weight, bias))
    return {"residual_deviation": residual_deviation(target_covariance(residuals), c)}


def gram_entries(weight: Array) -> dict[str, float]:
    """Return `gram_ij`, the entries of W W' for i <= j, counted from 0, of the head's weight W (n, d)."""
    rows = as_tensor("weight", weight).double()
    if rows.ndim != 2:
        raise ValueError(f"weight: expected a matrix (n, d), got {describe(rows)}")
    gram = rows @ rows.T
    return {f"gram_{i}{j}": gram[i, j].item() for i in range(len(gram)) for j in range(i, len(gram))}


def with_onehot_targets(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return a snapshot with class numbers (N,) replaced by one-hot rows (N, K)."""
    classes = len(tensors["weight"])
    return dict(tensors) | {f"{split}.targets": _onehot(tensors[f"{split}.targets"], classes) for split in SPLITS}


def _onehot(labels: Array, classes: int) -> Tensor:
    found = check_labels(labels, classes)
    return torch.eye(classes, dtype=torch.float64, device=found.device)[found]
