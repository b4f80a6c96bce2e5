"""Every metric of a trained regressor's snapshots, with one gamma for all of them."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nclens.metrics.regression import fit_gamma, regression_collapse, residual_deviation, target_covariance

SPLITS = ("train", "test")


def run_gamma(last: Mapping[str, Tensor], c: float | None = None) -> float | None:
    """Return the gamma that NRC3 is measured with at all epochs of a run and on both splits.

    It is c = lambda_w lambda_h_mean where the run was trained with the model's penalties and c lies below the largest
    eigenvalue of both splits' target covariance (2409.04180, UFM); otherwise it is found once, on the final weights and
    the training split. None where NRC3 is not defined: one target, or final weights that are zero.

    Args:
        last: the last snapshot: `weight` (n, d), `train.targets` and `test.targets` (M, n).
        c: see above; None for a run without the penalties.
    """
    weight = last["weight"]
    if len(weight) == 1 or not weight.any():
        return None
    covariances = [target_covariance(last[f"{split}.targets"]) for split in SPLITS]
    if c is not None and all(c < torch.linalg.eigvalsh(covariance)[-1] for covariance in covariances):
        return c
    return fit_gamma(weight, covariances[0])


def regressor_metrics(
    tensors: Mapping[str, Tensor], gamma: float | None, c: float | None = None
) -> Iterator[tuple[str, str, float]]:
    """Yield (split, metric, value) of one snapshot of a regressor.

    The metrics are those of `nclens.metrics.regression.regression_collapse`; `residual_deviation`, the distance of the
    residual covariance to c I, where c is given; and on the training split `gram_ij`, the entries of W W' for i <= j,
    counted from 0.

    Args:
        tensors: `weight` (n, d), `bias` (n,), and of each split `features` (M, d) and `targets` (M, n).
        gamma: of NRC3, from `run_gamma`.
        c: lambda_w lambda_h_mean, where training had the model's penalties.

    Raises:
        ValueError: as `regression_collapse`.
    """
    weight, bias = tensors["weight"].double(), tensors["bias"].double()
    for split in SPLITS:
        features, targets = tensors[f"{split}.features"].double(), tensors[f"{split}.targets"].double()
        values = regression_collapse(features, targets, weight, bias, gamma=gamma)
        if c is not None:
            residuals = targets - (features @ weight.T + bias)
            values["residual_deviation"] = residual_deviation(target_covariance(residuals), c)
        if split == "train":
            gram = weight @ weight.T
            values |= {f"gram_{i}{j}": gram[i, j].item() for i in range(len(gram)) for j in range(i, len(gram))}
        yield from ((split, metric, value) for metric, value in values.items())


def onehot_metrics(tensors: Mapping[str, Tensor], gamma: float | None) -> Iterator[tuple[str, str, float]]:
    """Yield (split, metric, value) of a classifier seen as a regressor on one-hot targets; keys begin with `onehot_`.

    Args:
        tensors: as for `regressor_metrics`, with class numbers (N,) as targets.
        gamma: of NRC3, from `run_gamma` of the last snapshot, `with_onehot_targets`.
    """
    for split, metric, value in regressor_metrics(with_onehot_targets(tensors), gamma):
        if not metric.startswith("gram_"):
            yield split, f"onehot_{metric}", value


def with_onehot_targets(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a snapshot with class numbers (N,) replaced by one-hot rows (N, K)."""
    identity = torch.eye(len(tensors["weight"]), dtype=torch.float64)
    replaced = {f"{split}.targets": identity[tensors[f"{split}.targets"]] for split in SPLITS}
    return dict(tensors) | replaced
