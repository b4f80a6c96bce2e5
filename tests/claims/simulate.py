"""Simulated tables whose numbers look like those of small networks on MNIST: what collect and theory write."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

SNAPSHOTS = 15
CLASSES = 10

# First and last value of each metric on the training set: cross entropy, then every other loss.
COLLAPSE = {
    "nc1": (8.0, 0.058, 0.023),
    "cdnv": (6.0, 0.050, 0.019),
    "nc1_quotient": (5.0, 0.048, 0.018),
    "template_spread": (4.0, 0.040, 0.015),
    "nc2": (1.1, 0.351, 0.044),
    "nc2_means": (0.9, 0.240, 0.061),
    "nc2_classifier": (1.0, 0.290, 0.052),
    "nc3": (1.1, 0.330, 0.048),
    "equinorm_means": (0.4, 0.12, 0.03),
    "equinorm_classifier": (0.3, 0.10, 0.03),
    "equiangular_means": (0.35, 0.09, 0.02),
    "equiangular_classifier": (0.30, 0.11, 0.02),
    "nc4": (0.2, 0.001, 0.001),
    "margin": (0.1, 0.55, 0.65),
    "feature_norm": (2.0, 9.0, 6.0),
    "classifier_norm": (0.6, 1.6, 1.2),
}
CALIBRATION = {
    "error": (0.5, 0.001, 0.001),
    "nll": (1.5, 0.08, 0.17),
    "brier": (0.6, 0.04, 0.045),
    "ece": (0.15, 0.006, 0.077),
    "ece_20": (0.15, 0.007, 0.077),
    "ece_25": (0.15, 0.008, 0.078),
    "ece_adaptive": (0.15, 0.006, 0.076),
    "ece_classwise": (0.04, 0.003, 0.017),
    "confidence": (0.4, 0.975, 0.905),
    "confidence_correct": (0.5, 0.98, 0.91),
    "confidence_incorrect": (0.3, 0.70, 0.60),
    "entropy": (1.5, 0.07, 0.45),
    "entropy_correct": (1.4, 0.06, 0.44),
    "entropy_incorrect": (1.7, 0.80, 1.10),
    "nll_correct": (0.8, 0.02, 0.09),
    "nll_incorrect": (2.5, 2.20, 1.60),
}
SCALED = ("nll", "brier", "ece", "ece_20", "ece_25", "ece_adaptive", "ece_classwise", "confidence")
KEYS = ["experiment", "dataset", "model", "loss", "seed", "split", "epoch", "metric", "value"]


def log_spaced(epochs: int, count: int) -> list[int]:
    """About `count` epochs from 1 to the last, evenly spaced on the log scale."""
    return sorted({int(epoch) for epoch in np.geomspace(1, epochs, count).round()})


def simulate_metrics(
    experiment: str = "main",
    losses: Sequence[str] = ("ce", "ls"),
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 60,
    *,
    dataset: str = "mnist5k",
    model: str = "resnet8",
) -> pd.DataFrame:
    """R/metrics.parquet of one experiment; the first loss behaves as cross entropy, the others as label smoothing."""
    tables = []
    for place, loss in enumerate(losses):
        for seed in seeds:
            random = np.random.default_rng([place, seed])
            rows = [*_snapshot_rows(place > 0, epochs, random), *_history_rows(place > 0, epochs, random)]
            run = pd.DataFrame(rows, columns=["split", "epoch", "metric", "value"])
            tables.append(run.assign(experiment=experiment, dataset=dataset, model=model, loss=loss, seed=seed))
    table = pd.concat(tables, ignore_index=True)[KEYS]
    return table.astype(dict.fromkeys(["experiment", "dataset", "model", "loss", "split", "metric"], "category"))


def simulate_theory(
    experiment: str = "main",
    smoothing: dict[str, float] | None = None,
    *,
    dataset: str = "mnist5k",
    model: str = "resnet8",
    per_class: int = 400,
    dim: int = 64,
) -> pd.DataFrame:
    """R/theory/ufm.csv of one experiment: the closed forms of section 1, the numeric ones equal to 1e-9 relative."""
    lambda_w, lambda_h, lambda_b = 1e-3, 1e-6 * 50_000 / (per_class * CLASSES), 1e-2
    s = CLASSES * math.sqrt(per_class * lambda_w * lambda_h)
    rows = []
    for loss, delta in ({"ce": 0.0, "ls": 0.05} if smoothing is None else smoothing).items():
        gap = math.log(CLASSES / (s + delta) - CLASSES + 1)
        other = (s + delta) / CLASSES
        true = 1 - (CLASSES - 1) * other
        tilt = math.sqrt(per_class * lambda_h / lambda_w)
        centred = (CLASSES - 1) / CLASSES * gap
        closed = {
            "logit_gap": gap,
            "weight_norm": math.sqrt(centred * tilt),
            "feature_norm": math.sqrt(centred / tilt),
            "p_true": true,
            "p_other": other,
            "objective": math.log1p((CLASSES - 1) * math.exp(-gap))
            + delta * centred
            + (CLASSES - 1) * gap * s / CLASSES,
            "kappa_ce": CLASSES * true,
            "kappa_full": 1 + gap * true * other * CLASSES / s,
        }
        keys = {"experiment": experiment, "dataset": dataset, "model": model, "loss": loss, "smoothing": delta}
        keys |= {"classes": CLASSES, "per_class": per_class, "dim": dim}
        keys |= {"lambda_w": lambda_w, "lambda_h": lambda_h, "lambda_b": lambda_b}
        for quantity, value in closed.items():
            numeric = {"closed_form": value, "numeric": value * (1 + 1e-9), "relative_error": 1e-9}
            rows.append({**keys, "quantity": quantity, **numeric})
    return pd.DataFrame(rows)


def _course(values: tuple[float, float, float], smoothed: bool, at: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """From the first value to the last one, linear in log value against log epoch."""
    first, last = values[0], values[2 if smoothed else 1]
    return first * (last / first) ** at * scale


def _snapshot_rows(smoothed: bool, epochs: int, random: np.random.Generator) -> list[tuple[str, int, str, float]]:
    snapshots = log_spaced(epochs, SNAPSHOTS)
    at = np.log(snapshots) / math.log(max(epochs, 2))
    rows = []
    for split, worse in (("train", 1.0), ("test", 1.8)):
        level = np.exp(0.05 * random.standard_normal())
        metrics = {
            name: _course(values, smoothed, at, level * np.exp(0.02 * random.standard_normal(len(at))))
            for name, values in {**COLLAPSE, **CALIBRATION}.items()
        }
        metrics["nc1"] = metrics["nc1"] * worse
        metrics["error"] = np.minimum(metrics["error"] * (1 if split == "train" else 25), 0.9)
        metrics["accuracy"] = 1 - metrics["error"]
        metrics["nc1_sum"] = CLASSES * metrics["nc1"]
        metrics["nc3_squared"] = metrics["nc3"] ** 2
        metrics["nc1_correct"] = 0.8 * metrics["nc1"]
        metrics["nc1_incorrect"] = 9 * metrics["nc1"] + 1
        metrics["rank_means"] = np.full(len(at), CLASSES - 1.0)
        if split == "test":
            metrics |= _scaled(metrics, smoothed, at)
        rows += [
            (split, epoch, name, float(value))
            for name, curve in metrics.items()
            for epoch, value in zip(snapshots, curve, strict=True)
        ]
    return rows


def _scaled(metrics: dict[str, np.ndarray], smoothed: bool, at: np.ndarray) -> dict[str, np.ndarray]:
    """The temperature, and what it changes, on the held-out half."""
    scaled = {f"{name}_unscaled": 1.01 * metrics[name] for name in SCALED}
    scaled |= {f"{name}_scaled": (0.3 if "ece" in name else 0.9) * metrics[name] for name in SCALED}
    scaled |= {"temperature": 1 + (-0.35 if smoothed else 0.1) * at, "ece_authors": 0.2 * metrics["ece"]}
    return scaled | {"temperature_authors": scaled["temperature"] * 0.98}


def _history_rows(smoothed: bool, epochs: int, random: np.random.Generator) -> list[tuple[str, int, str, float]]:
    rows = []
    for epoch in range(1, epochs + 1):
        at = np.array([math.log(epoch) / math.log(max(epochs, 2))])
        rate = 0.05 * 0.1 ** ((epoch > 0.5 * epochs) + (epoch > 0.75 * epochs))
        for split in ("train", "test"):
            wobble = np.exp(0.02 * random.standard_normal(1))
            cross_entropy = float(_course(CALIBRATION["nll"], smoothed, at, wobble)[0])
            error = float(_course(CALIBRATION["error"], smoothed, at, wobble)[0])
            loss = cross_entropy + (0.15 if smoothed else 0.0)
            rows += [(split, epoch, "epoch_loss", loss), (split, epoch, "epoch_cross_entropy", cross_entropy)]
            rows += [(split, epoch, "epoch_error", error), (split, epoch, "epoch_seconds", 1.9)]
            rows += [(split, epoch, "learning_rate", rate)]
    return rows
