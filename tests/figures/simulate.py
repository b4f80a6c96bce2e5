"""Simulated experiments whose numbers look like those of trained networks."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd

from nclens.figures.inputs import FigureInputs
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.dynamics import descend, records

ENTRIES = {
    "ce": ("CE", "#0072B2"),
    "ls": ("LS (δ = 0.05)", "#D55E00"),
    "ls_0.1": ("LS (δ = 0.1)", "#009E73"),
    "ls_0.2": ("LS (δ = 0.2)", "#CC79A7"),
    "maxsup": ("MaxSup with a rather long name", "#56B4E9"),
    "ls_0.5": ("LS (δ = 0.5)", "#E69F00"),
    "ls_0.8": ("LS (δ = 0.8)", "#8C564B"),
    "ls_0.9": ("LS (δ = 0.9)", "#7F7F7F"),
}
SMOOTHINGS = {"ce": 0.0, "ls": 0.05, "ls_0.1": 0.1, "ls_0.2": 0.2, "ls_0.5": 0.5, "ls_0.8": 0.8, "ls_0.9": 0.9}
SWEEP = tuple(SMOOTHINGS)
CLASSES = 10
PER_CLASS_TEST = 60
PER_CLASS_TRAIN = 120
DIM = 16
PROBES = (
    {"kind": "transfer", "suffix": "", "dataset": "digits8", "held_out": 0.2},
    {"kind": "mutual_information", "suffix": "", "classes": [4, 9], "draws": 5},
    {"kind": "gradient_variance", "suffix": "", "smoothing": 0.1, "samples": 500},
)


def log_spaced(last: int, count: int) -> tuple[int, ...]:
    return tuple(sorted({int(epoch) for epoch in np.unique(np.geomspace(1, last, count).round())}))


@cache
def run_metrics(strength: float, seed: int, snapshots: tuple[int, ...], last: int) -> pd.DataFrame:
    """Metrics of one run; `strength` in [0, 1] is 0 for cross entropy and grows with smoothing."""
    random = np.random.default_rng([seed, int(strength * 1000)])
    at = np.array(snapshots, dtype=float)
    progress = np.log(at) / np.log(max(last, 2))
    level = np.exp(0.1 * random.standard_normal())
    wobble = np.exp(0.08 * random.standard_normal(len(at)))
    drop = np.where(at > 0.5 * last, 0.35, 1.0)
    nc1 = level * wobble * (4 - strength) * at ** -(0.75 + 0.25 * strength) * drop
    curves = {
        "train": {
            "nc0_share": 0.02 * at**-0.2 * level,
            "nc1": nc1,
            "nc2": (0.95 - (0.55 + 0.33 * strength) * progress) * level**0.3,
            "nc3": (0.9 - (0.6 + 0.25 * strength) * progress) * level**0.2,
            "error": np.maximum(0.6 * np.exp(-4.5 * progress) * wobble - 0.006, 0.0),
            "feature_norm": (1 + 7 * progress * (1 - 0.6 * strength)) * level,
            "classifier_norm": (0.6 + 1.4 * progress * (1 - 0.4 * strength)) * level,
            "logit_gap": 9 * progress * (1 - 0.6 * strength) * level,
            "confidence": 1 - 0.9 * (1 - progress) - 0.4 * strength**3 - 0.002 * level,
            "mutual_information": 0.7 + 0.3 * np.exp(-4 * progress) - 0.04 * strength * progress + 0.02 * (level - 1),
            "gradient_variance_network_onehot": 400 * np.exp(-(9 - 7 * strength) * progress) * level,
            "gradient_variance_network_smoothed": 320 * np.exp(-(1 + 7 * strength) * progress) * level,
            "gradient_variance_head_onehot": 9 * np.exp(-(9 - 7 * strength) * progress) * level,
            "gradient_variance_head_smoothed": 7 * np.exp(-(1 + 7 * strength) * progress) * level,
        },
        "test": {
            "accuracy": 0.98 - 0.6 * np.exp(-4.2 * progress) * wobble,
            "logit_gap": 8 * progress * (1 - 0.6 * strength) * level,
            "confidence": 0.98 - 0.9 * (1 - progress) - 0.4 * strength**3 - 0.005 * level,
            "nc1": 1.6 * nc1 + 0.15,
            "nc2": 1 - (0.5 + 0.3 * strength) * progress,
            "nc3": (0.92 - (0.55 + 0.25 * strength) * progress) * level**0.2,
            "error": 0.6 * np.exp(-4.2 * progress) * wobble + 0.02,
            "nll_correct": (0.6 * np.exp(-3.5 * progress) + 0.02 + 0.09 * strength) * wobble,
            "nll_incorrect": (1.9 + 0.9 * progress * (1 - strength)) * level,
            "entropy_correct": 1.2 * np.exp(-3.0 * progress) + 0.05 + 0.4 * strength,
            "entropy_incorrect": 1.4 - 0.6 * progress * (1 - strength),
            "nc1_correct": 1.3 * nc1 + 0.08,
            "nc1_incorrect": (9 * nc1 + 2) * wobble,
            "temperature": np.full(len(at), (1.1 - 0.5 * strength) * level**0.3),
            "logit_norm_power": np.full(len(at), 3.0),
            "ece_unscaled": np.full(len(at), (0.011 + 0.07 * strength) * level),
            "ece_scaled": np.full(len(at), 0.008 * level),
        },
    }
    epochs = np.arange(1, last + 1)
    floor = 0.35 * strength
    slowing = np.where(epochs > 0.5 * last, 0.5 * np.exp(-2 * epochs / last), 1.0)
    noise = np.exp(0.03 * random.standard_normal(last))
    curves_history = {"epoch_loss": floor + 1.8 * epochs**-0.9 * slowing * noise + 2e-3}
    parts = [
        pd.DataFrame({"split": split, "epoch": list(snapshots), "metric": metric, "value": values})
        for split, metrics in curves.items()
        for metric, values in metrics.items()
    ]
    transfer = 0.93 + 0.01 * strength - 0.02 * (level - 1)
    parts.append(pd.DataFrame({"split": "test", "epoch": [last], "metric": "probe_accuracy", "value": transfer}))
    parts += [
        pd.DataFrame({"split": "train", "epoch": epochs, "metric": metric, "value": values})
        for metric, values in curves_history.items()
    ]
    return pd.concat(parts, ignore_index=True)


def last_features(loss: str, seed: int) -> dict[str, np.ndarray]:
    """Of a network that is right on most samples, underconfident where the loss smooths, with tighter clusters there.

    Features and logits are drawn apart: no figure needs both.
    """
    random = np.random.default_rng([seed, list(ENTRIES).index(loss)])
    targets = np.repeat(np.arange(CLASSES), PER_CLASS_TEST)
    seen = np.where(random.random(len(targets)) < 0.93, targets, random.integers(0, CLASSES, len(targets)))
    gap = 4.2 if loss != "ce" else 9.0
    logits = 1.2 * random.standard_normal((len(targets), CLASSES))
    logits[np.arange(len(targets)), seen] += gap * random.uniform(0.3, 1.1, len(targets))
    spread, size = (0.5, 1.0) if loss == "ce" else (0.2, 0.6)
    weight = random.standard_normal((CLASSES, DIM))
    arrays = {"weight": weight, "test.logits": logits}
    labels = {"train.targets": np.repeat(np.arange(CLASSES), PER_CLASS_TRAIN), "test.targets": targets}
    for split, broader in (("train", 1.0), ("test", 1.5)):
        classes = labels[f"{split}.targets"]
        noise = broader * spread * random.standard_normal((len(classes), DIM))
        arrays[f"{split}.features"] = 3 + size * (weight[classes] + noise)
    return {name: array.astype(np.float32) for name, array in arrays.items()} | labels


def theory_table(losses: list[str]) -> pd.DataFrame:
    """Condition numbers, gap and norms of papers.md at K = 10, n = 5,000 and the release's lambdas; none for MaxSup."""
    classes, root, s = 10, np.sqrt(5000 * 1e-6 / 1e-3), 10 * np.sqrt(5000 * 1e-3 * 1e-6)
    rows = []
    for loss in losses:
        if loss in SMOOTHINGS:
            t = min(s + SMOOTHINGS[loss], 1.0)
            gap, other = np.log(classes / t - classes + 1), t / classes
            true = 1 - (classes - 1) * other
            values = {
                "kappa_ce": classes * true,
                "kappa_full": 1 + gap * true * other * classes / s,
                "logit_gap": gap,
                "weight_norm": np.sqrt((classes - 1) / classes * gap * root),
                "feature_norm": np.sqrt((classes - 1) / classes * gap / root),
            }
            rows += [(loss, name, value, value * (1 + 1e-6)) for name, value in values.items()]
    table = pd.DataFrame(rows, columns=["loss", "quantity", "closed_form", "numeric"])
    return table.assign(lambda_w=1e-3, lambda_h=1e-6, lambda_b=1e-2)


def prediction_table(metrics: pd.DataFrame, losses: list[str], last: int, penalties: str) -> pd.DataFrame:
    """Predictions of every run, a tenth too large at no smoothing and right at a large one."""
    names = {"logit_gap": "logit_gap", "classifier_norm": "weight_norm", "feature_norm": "feature_norm"}
    names |= {"confidence": "confidence"}
    chosen = (metrics["epoch"] == last) & (metrics["split"] == "train") & metrics["metric"].isin(list(names))
    rows = metrics[chosen & metrics["loss"].isin([loss for loss in losses if loss in SMOOTHINGS])]
    smoothing = rows["loss"].map(SMOOTHINGS).astype(float)
    table = rows[["loss", "seed"]].assign(
        penalties=penalties,
        smoothing=smoothing,
        quantity=rows["metric"].map(names),
        measured=rows["value"],
        predicted=(rows["value"] * (1.1 - 0.1 * smoothing)).where(rows["metric"] != "confidence", rows["value"] ** 1.1),
    )
    return table.assign(relative_error=(table["measured"] - table["predicted"]).abs() / table["predicted"])


def nc0_table(losses: list[str], seeds: tuple[int, ...], snapshots: tuple[int, ...]) -> pd.DataFrame:
    """NC0 that follows its law to about 1e-6, but for the MaxSup of the entries, whose premise fails here."""
    random = np.random.default_rng(0)
    rows = [
        {"loss": loss, "seed": seed, "epoch": epoch, "reference": snapshots[0], "rounding": 1e-9}
        | {"predicted": (0.2 + 0.1 * seed) * np.exp(-0.02 * (epoch - snapshots[0]))}
        | {"premise": "the gradients do not sum to zero" if loss == "maxsup" else ""}
        for loss in losses
        for seed in seeds
        for epoch in snapshots
    ]
    table = pd.DataFrame(rows)
    off = np.where(table["loss"] == "maxsup", 0.01 * (table["epoch"] - snapshots[0]), 0.0)
    noise = np.where(table["epoch"] > snapshots[0], 1e-6 * random.standard_normal(len(table)), 0.0)
    return table.assign(measured=table["predicted"] * (1 + off + noise))


@cache
def dynamics_table(smoothings: tuple[float, ...] = (0.0, 0.05, 0.2, 0.5), iterations: int = 3000) -> pd.DataFrame:
    """Real descents of a very small model."""
    sizes = {"classes": 4, "per_class": 2, "dim": 5}
    lambdas = {"lambda_w": 5e-3, "lambda_h_sum": 5e-3, "lambda_b": 1e-2}
    problems = [UnconstrainedFeatureModel(**sizes, **lambdas, smoothing=smoothing) for smoothing in smoothings]
    table = pd.DataFrame(records(descend(problems, starts=2, iterations=iterations)))
    return table.assign(**sizes, lambda_w=5e-3, lambda_h=5e-3, lambda_b=1e-2)


def simulate(
    losses: tuple[str, ...] = ("ce", "ls"),
    seeds: tuple[int, ...] = (0, 1, 2),
    last: int = 60,
    count: int = 15,
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
    penalties: str | None = "effective",
) -> FigureInputs:
    """Inputs made of losses and seeds by name, last epoch, number of snapshots, and a change of the metrics table.

    `penalties` are those of the predictions: effective, explicit, or None for no predictions.
    """
    strengths = {"ce": 0.0, "ls": 0.6, "ls_0.1": 0.75, "ls_0.2": 0.9, "maxsup": 0.3}
    strengths |= {"ls_0.5": 0.95, "ls_0.8": 1.0, "ls_0.9": 1.05}
    snapshots = log_spaced(last, count)
    parts = [
        run_metrics(strengths[loss], seed, snapshots, last).assign(experiment="digits", loss=loss, seed=seed)
        for loss in losses
        for seed in seeds
    ]
    metrics = change(pd.concat(parts, ignore_index=True))
    predictions = prediction_table(metrics, list(losses), last, penalties or "")
    return FigureInputs(
        experiment="digits",
        metrics=metrics,
        theory=theory_table(list(losses)),
        losses=list(losses),
        labels={loss: ENTRIES[loss][0] for loss in losses},
        colours={loss: ENTRIES[loss][1] for loss in losses},
        baseline=losses[0],
        last_features=last_features,
        dynamics=dynamics_table(),
        predictions=predictions if penalties else predictions[:0],
        nc0=nc0_table(list(losses), seeds, snapshots),
        smoothings={loss: SMOOTHINGS[loss] for loss in losses if loss in SMOOTHINGS},
        probes=PROBES,
        projection_classes=(3, 4, 9),
        class_names=[str(digit) for digit in range(CLASSES)],
    )
