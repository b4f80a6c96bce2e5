"""Tables of the unconstrained regression: closed forms beside numeric values, and predictions for networks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nclens.ufm.regression import UnconstrainedRegression, minimise

Array = NDArray[np.float64]

#: Metrics of a trained regressor that the model predicts, beside the entries of W W'.
PREDICTED = ("weight_norm_frobenius", "feature_norm_rms", "mse", "residual_variance")


def problem_of(
    mean: Sequence[float],
    covariance: Sequence[Sequence[float]],
    dim: int | None,
    lambda_w: float,
    lambda_h_mean: float,
) -> UnconstrainedRegression:
    """Return the model for targets with given mean (n,) and covariance (n, n).

    The objective, W W' and the covariance of the residuals depend on the targets only through these. The 2n targets
    ybar +- sqrt(n lambda_j) u_j have the same mean and covariance.

    Args:
        mean, covariance: mean and covariance (divisor M) of the training targets.
        dim: length of a feature; None for n + 2. Larger values give the same results and are reduced to n + 2.
        lambda_w, lambda_h_mean: penalties, see `UnconstrainedRegression`.
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, dtype=np.float64))
    n = len(values)
    steps = np.sqrt(n * np.maximum(values, 0.0))[:, None] * vectors.T
    targets = np.asarray(mean, dtype=np.float64) + np.concatenate([steps, -steps])
    dim = n + 2 if dim is None else min(dim, n + 2)
    return UnconstrainedRegression(targets, dim, lambda_w, lambda_h_mean)


def predictions(problem: UnconstrainedRegression) -> dict[str, float]:
    """Return the predictions for a network trained with the penalties: `PREDICTED`, and `gram_ij`, i <= j, of W W'."""
    found = problem.predictions()
    return _gram(problem.gram) | {name: found[name] for name in PREDICTED}


def theory_rows(problem: UnconstrainedRegression) -> list[dict[str, Any]]:
    """Return rows quantity, closed_form, numeric, relative_error = |numeric - closed_form| / scale of one problem.

    The numeric values are those of `nclens.ufm.regression.minimise`. The scale is |closed_form|, and |W W'|_F for the
    entries of W W', some of which are 0. If the scale is 0 the error is None.
    """
    found = minimise(problem)
    residuals = problem.targets - (found.features @ found.weight.T + found.bias)
    covariance = np.cov(residuals.T, bias=True).reshape(problem.n, problem.n)
    numeric = _gram(found.gram) | {
        "weight_norm_frobenius": float(np.linalg.norm(found.weight)),
        "feature_norm_rms": float(np.sqrt((found.features**2).sum() / problem.samples)),
        "mse": float((residuals**2).sum() / problem.samples),
        "residual_variance": float(np.trace(covariance)) / problem.n,
        "objective": found.objective,
    }
    rows = []
    size = float(np.linalg.norm(problem.gram))
    for name, closed in ({"objective": problem.objective} | predictions(problem)).items():
        scale = size if name.startswith("gram_") else abs(closed)
        error = abs(numeric[name] - closed) / scale if scale > 0 else None
        rows.append({"quantity": name, "closed_form": closed, "numeric": numeric[name], "relative_error": error})
    return rows


def _gram(matrix: Array) -> dict[str, float]:
    return {f"gram_{i}{j}": float(matrix[i, j]) for i in range(len(matrix)) for j in range(i, len(matrix))}
