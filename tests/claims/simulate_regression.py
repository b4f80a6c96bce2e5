"""Simulated regressors on their way to collapse, measured for real: what measure, collect and predict write of them.

A network's features and head move in three orthogonal subspaces: the collapsed solution of the unconstrained feature
model, noise in the features that the head does not see, and a part of the head that no feature uses. The last two fade
with weight decay and stay without. Penalties of the model are 0.1 each, c = 0.01.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch

from nclens.metrics.regression import regression_collapse, residual_deviation, target_covariance
from nclens.ufm.regression import UnconstrainedRegression
from tests.claims.simulate import log_spaced

SAMPLES, DIM, NOISE = 80, 24, 12
LAMBDA = 0.1
C = LAMBDA**2
DECAYS = {"wd_0": 0.0, "wd_5e-4": 5e-4, "wd_5e-3": 5e-3}
FADING = {0.0: 0.0, 5e-4: 0.8, 5e-3: 0.98}
"""Weight decay -> the share of what is not the solution that has faded at the end."""


def snapshot_epochs(epochs: int) -> list[int]:
    return [0, *log_spaced(epochs, 9)]


@cache
def targets_of(n: int, split: str = "train") -> torch.Tensor:
    """Correlated targets (M, n), the same for every run."""
    random = np.random.default_rng([n, split == "test"])
    mixing = np.eye(n) + 0.6 * np.tri(n, k=-1)
    return torch.tensor(random.standard_normal((SAMPLES, n)) @ mixing.T)


@cache
def tensors(decay: float, seed: int, epoch: int, epochs: int, n: int, regularised: bool) -> dict[str, np.ndarray]:
    """The features file of a run after an epoch."""
    random = np.random.default_rng([seed, round(1e6 * decay), n])
    progress = np.log1p(epoch) / np.log1p(epochs)
    fading = 1 - (0.995 if regularised else FADING[decay]) * progress * np.exp(-0.02 * abs(random.standard_normal()))
    rotation = np.linalg.qr(random.standard_normal((DIM, DIM)))[0]
    solution, noise, unused = np.split(rotation, [n, n + NOISE])
    found = {}
    model = UnconstrainedRegression(targets_of(n).numpy(), dim=n, lambda_w=LAMBDA, lambda_h_mean=LAMBDA)
    weight = progress * model.weight @ solution + 0.8 * fading * random.standard_normal((n, len(unused))) @ unused / 2
    for split in ("train", "test"):
        targets = targets_of(n, split).numpy()
        collapsed = (targets - model.bias) @ np.linalg.lstsq(targets_of(n).numpy() - model.bias, model.features)[0]
        features = progress * collapsed @ solution + fading * random.standard_normal((SAMPLES, NOISE)) @ noise / 2
        worse = (1.0 if split == "train" else 0.15) * random.standard_normal((SAMPLES, n)) * (split == "test")
        found |= {f"{split}.features": features, f"{split}.targets": targets}
        found[f"{split}.logits"] = features @ weight.T + model.bias + worse
    return found | {"weight": weight, "bias": model.bias}


def measures(arrays: Mapping[str, np.ndarray], split: str, gamma: float | None, regularised: bool) -> dict[str, float]:
    """What `measure` finds in a features file."""
    given = [torch.tensor(arrays[f"{split}.{name}"]) for name in ("features", "targets")]
    weight, bias = torch.tensor(arrays["weight"]), torch.tensor(arrays["bias"])
    found = regression_collapse(*given, weight, bias, gamma=gamma)
    if regularised:
        residuals = given[1] - (given[0] @ weight.T + bias)
        found["residual_deviation"] = residual_deviation(target_covariance(residuals), C)
    if split == "train":
        gram = (weight @ weight.T).numpy()
        found |= {f"gram_{i}{j}": float(gram[i, j]) for i in range(len(gram)) for j in range(i, len(gram))}
    return found


@cache
def simulate_regression(
    decays: tuple[tuple[str, float], ...] = tuple(DECAYS.items()),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 400,
    *,
    n: int = 2,
    regularised: bool = False,
    experiment: str = "reacher",
) -> pd.DataFrame:
    """R/metrics.parquet of one experiment on regression, a loss for each (name, weight decay)."""
    rows = []
    for loss, decay in decays:
        for seed in seeds:
            key = {"experiment": experiment, "dataset": "reacher", "model": "mlp", "loss": loss, "seed": seed}
            last = tensors(decay, seed, epochs, epochs, n, regularised)
            own = measures(last, "train", C if regularised and n > 1 else None, False)
            for epoch in snapshot_epochs(epochs):
                arrays = tensors(decay, seed, epoch, epochs, n, regularised)
                for split in ("train", "test"):
                    values = measures(arrays, split, own.get("nrc3_gamma"), regularised)
                    rows += [
                        key | {"split": split, "epoch": epoch, "metric": metric, "value": value}
                        for metric, value in values.items()
                    ]
            for epoch in range(1, epochs + 1):
                for split, floor in (("train", 0.01), ("test", 0.06)):
                    mse = floor + 2.0 / epoch * np.exp(0.1 * np.sin(epoch + seed))
                    history = {"epoch_loss": mse / 2, "epoch_mse": mse, "learning_rate": 0.01}
                    rows += [
                        key | {"split": split, "epoch": epoch, "metric": metric, "value": value}
                        for metric, value in history.items()
                    ]
    return pd.DataFrame(rows)


def simulate_predictions(metrics: pd.DataFrame, epochs: int = 400, *, n: int = 2) -> pd.DataFrame:
    """R/theory/predictions.csv of an experiment that was trained with the model's penalties."""
    model = UnconstrainedRegression(targets_of(n).numpy(), dim=DIM, lambda_w=LAMBDA, lambda_h_mean=LAMBDA)
    predicted = {
        key: model.predictions()[key]
        for key in ("weight_norm_frobenius", "feature_norm_rms", "mse", "residual_variance")
    }
    predicted |= {f"gram_{i}{j}": float(model.gram[i, j]) for i in range(n) for j in range(i, n)}
    chosen = (metrics["split"] == "train") & (metrics["epoch"] == epochs) & metrics["metric"].isin(list(predicted))
    rows = metrics[chosen].rename(columns={"metric": "quantity", "value": "measured"}).drop(columns=["split", "epoch"])
    rows = rows.assign(predicted=rows["quantity"].map(predicted), penalties="explicit", smoothing=np.nan)
    return rows.assign(relative_error=(rows["measured"] / rows["predicted"] - 1).abs()).reset_index(drop=True)
