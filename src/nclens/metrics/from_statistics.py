"""Every measurement of a split that needs its features or training logits, from the split's sufficient statistics.

`statistics` are the tensors of `nclens.metrics.sufficient.SufficientStatistics`. A function here has the name, the
keys, the ranges and the warnings of the one that it stands for, and the same values up to rounding: to 1e-9 relative at
the sizes of the shipped studies. What comes of a covariance has these limits: in `collapse_ranks` singular values below
1e-8 of the largest count as zero, which moves a rank by 1e-6 of itself at most; of `onehot_collapse` NRC1 has an
absolute error of 1e-14, a share of variance one of 1e-15, and NRC3, which takes a root of the singular covariance of
one-hot rows, has half of its digits by either way.
"""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from nclens.metrics.alignment import KEYS as ALIGNMENT_KEYS
from nclens.metrics.alignment import alignment_table
from nclens.metrics.calibration import Seen, seen_metrics
from nclens.metrics.collapse import (
    KEYS,
    check_float64,
    collapse_table,
    find_lacking,
    nc4_share,
    row_sums,
    warn_single,
    whitening,
    with_mean,
)
from nclens.metrics.collapse_streaming import NeuralCollapse
from nclens.metrics.generalised import KEYS as GENERALISED_KEYS
from nclens.metrics.generalised import generalised_table
from nclens.metrics.imbalance import Scattered, check_counts, imbalance_of, spread
from nclens.metrics.label_noise import BY_CLEAN
from nclens.metrics.ranks import KEYS as RANK_KEYS
from nclens.metrics.ranks import ranks_table
from nclens.metrics.regression_streaming import RegressionCollapse
from nclens.metrics.representation import by_correctness, mean_gap, template_span, warn_no_span
from nclens.metrics.sufficient import CLEAN, ONEHOT

Statistics = Mapping[str, Tensor]

# Samples of a batch that wastes no time on matrices that are merged once a batch.
_MERGED = 4096


def neural_collapse(
    statistics: Statistics,
    weight: Tensor,
    reference_means: Tensor,
    *,
    min_samples: int | None = None,
) -> dict[str, float]:
    """As `nclens.metrics.collapse.neural_collapse`; the reference means are those of the second pass."""
    rows = check_float64("weight", weight, tuple(statistics["means"].shape), statistics["means"])
    kept = (~find_lacking(statistics["counts"], 1 if min_samples is None else 2, min_samples)).nonzero()[:, 0]
    counts, means, squares = (statistics[name][kept] for name in ("counts", "means", "squares"))
    if min_samples is None:
        warn_single(counts)
    keys = KEYS if min_samples is None else (*KEYS, "classes_measured")
    deviation = statistics["deviation"].sum()
    values = row_sums(rows) | collapse_table(counts, means, squares, deviation, whitening(means), rows[kept], keys)
    values["nc4"] = _nc4(statistics, reference_means)
    return _numbers(values, keys)


def few_classes_collapse(statistics: Statistics, weight: Tensor, reference_means: Tensor) -> dict[str, float]:
    """As `nclens.metrics.collapse.few_classes_collapse`."""
    found = row_sums(weight.double()) | {"nc4": _nc4(statistics, reference_means)}
    found["classes_measured"] = (statistics["counts"] >= 2).sum()
    return dict.fromkeys(KEYS, math.nan) | _numbers(found, tuple(found))


def collapse_ranks(statistics: Statistics, *, min_samples: int | None = None) -> dict[str, float]:
    """As `nclens.metrics.ranks.collapse_ranks`."""
    counts, means = _measured(statistics, min_samples)[:2]
    return _numbers(ranks_table(statistics["scatter"], counts, means, statistics["eps"]), RANK_KEYS)


def generalised_collapse(statistics: Statistics, weight: Tensor, *, min_samples: int | None = None) -> dict[str, float]:
    """As `nclens.metrics.generalised.generalised_collapse`."""
    _, means, kept = _measured(statistics, min_samples)
    return _numbers(generalised_table(means, weight.double()[kept]), GENERALISED_KEYS)


def sample_alignment(statistics: Statistics) -> dict[str, float]:
    """As `nclens.metrics.alignment.sample_alignment`."""
    return _numbers(alignment_table(statistics["alignment"]), ALIGNMENT_KEYS)


def nc1_by_correctness(statistics: Statistics, labels: Tensor, *, min_samples: int | None = None) -> dict[str, float]:
    """As `nclens.metrics.collapse.nc1_by_correctness`."""
    counts = statistics["counts"]
    lacking = find_lacking(counts, 1 if min_samples is None else 2, min_samples)
    right = _rights(statistics, labels)
    names = ("nc1_incorrect", "nc1_correct")
    if bool((counts[~lacking] < 2).any()):  # a single sample has no scatter
        return dict.fromkeys(reversed(names), math.nan)
    coincide = not whitening(statistics["means"][~lacking]).shape[1]
    values = {}
    for place, of_class in enumerate((counts - right, right)):
        size = float(of_class[~lacking].sum())
        total = math.inf if coincide else float(statistics["deviation"][~lacking, place].sum())
        values[names[place]] = total / size if size else math.nan
    return {name: values[name] for name in reversed(names)}


def angular_spread(statistics: Statistics) -> dict[str, float]:
    """As `nclens.metrics.representation.angular_spread`."""
    counts = statistics["counts"]
    if zeros := int(statistics["alignment"][0, -1]):
        warnings.warn(
            f"{zeros} of {int(counts.sum())} feature vectors are zero and have no direction: angular spread is nan",
            RuntimeWarning,
            stacklevel=2,
        )
        return dict.fromkeys(("d_within", "d_total", "r2_angular"), math.nan)
    kept = counts > 0
    means = statistics["direction_means"][kept]
    within = float((statistics["direction_squares"][kept] / counts[kept]).mean())
    between = float((means - means.mean(dim=0)).square().sum(dim=1).mean())
    total = within + between
    return {"d_within": within, "d_total": total, "r2_angular": between / total if total > 0 else math.nan}


def template_spread(statistics: Statistics, weight: Tensor, *, min_samples: int | None = None) -> float:
    """As `nclens.metrics.representation.template_spread` of all classes, or those with `min_samples`."""
    counts = statistics["counts"]
    chosen = counts >= (min_samples or 0)
    span = template_span(weight.double()[chosen])
    if not len(span):
        warn_no_span()
        return math.nan
    means = statistics["means"][chosen] @ span.T
    spreads = statistics["span_squares"][chosen] / counts[chosen]
    return float(spreads.mean() / (means - means.mean(dim=0)).square().sum(dim=1).mean())


def logit_gap(statistics: Statistics) -> float:
    """As `nclens.metrics.representation.logit_gap`."""
    return mean_gap(statistics["leads"], len(statistics["counts"]))


def margin(statistics: Statistics) -> float:
    """As `nclens.metrics.representation.margin`."""
    value = float(statistics["margin"].mean())
    if math.isnan(value):
        text = "a feature vector is zero, or all rows of weight equal that of a class: the margin is nan"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return value


def smoothing_parts(statistics: Statistics) -> dict[str, float]:
    """As `nclens.metrics.representation.smoothing_parts`."""
    names = ("ls_regularisation", "ls_error_amplification", "top_logit_gap")
    return by_correctness({name: statistics[name] for name in names}, statistics["right"])


def top_logit_gradient(statistics: Statistics, loss: object) -> dict[str, float]:
    """As `nclens.metrics.representation.top_logit_gradient`; the loss is that of the first pass."""
    return by_correctness({"top_logit_gradient": statistics["top_logit_gradient"]}, statistics["right"])


def calibration_metrics(statistics: Statistics) -> dict[str, float]:
    """As `nclens.metrics.calibration.calibration_metrics`."""
    samples = {name: statistics[name] for name in ("confidence", "entropy", "nll")}
    brier = statistics["brier"]
    correct = statistics["correct"].double()
    return seen_metrics(
        Seen(samples["confidence"], correct, brier, brier.sum(), samples, statistics["right"], statistics["classwise"])
    )


def onehot_collapse(statistics: Statistics, weight: Tensor, *, gamma: float | None = None) -> dict[str, float]:
    """As `nclens.metrics.regressor.onehot_collapse`."""
    classes, dim = weight.shape
    metric = RegressionCollapse(dim, classes, gamma=gamma).to(weight.device)
    metric.merge_state({name: statistics[ONEHOT + name] for name in metric.metric_state})
    return {f"onehot_{name}": float(value) for name, value in metric.compute().items()}


def class_imbalance(statistics: Statistics, labels: Tensor, weight: Tensor, train_counts: Tensor) -> dict[str, float]:
    """As `nclens.metrics.imbalance.class_imbalance`."""
    counts, means = statistics["counts"], statistics["means"]
    train = check_counts(train_counts, len(counts))
    scattered, several = None, counts >= 2
    if int(several.sum()) >= 2:
        squares = statistics["deviation"].sum(1)
        squares = squares if whitening(means[several]).shape[1] else squares + math.inf
        scattered = Scattered(means, squares, lambda white: spread(statistics["scatter"], white))
    return imbalance_of(counts, _rights(statistics, labels), scattered, weight.double(), train)


def clean_label_collapse(
    statistics: Statistics, labels: Tensor, clean_labels: Tensor, weight: Tensor
) -> dict[str, float]:
    """As `nclens.metrics.label_noise.clean_label_collapse`."""
    clean = {name.removeprefix(CLEAN): tensor for name, tensor in statistics.items() if name.startswith(CLEAN)}
    if int((clean["counts"] >= 2).sum()) >= 2:
        values = neural_collapse(clean, weight, clean["means"], min_samples=2)
    else:
        values = few_classes_collapse(clean, weight, clean["means"])
    classes = len(weight)
    return {
        **{f"{key}_clean": values[key] for key in BY_CLEAN},
        "error_clean": float((~statistics["right_by_clean"]).double().mean()),
        "noise_share": float((labels != clean_labels).double().mean()),
        "nc1_clean_ceiling": _nc1_of_collapsed(labels, clean_labels, classes),
        "nc1_ceiling": _nc1_of_collapsed(clean_labels, labels, classes),
    }


def _nc1_of_collapsed(on: Tensor, by: Tensor, classes: int) -> float:
    """nc1 by some labels of features that have collapsed on others, whose one-hot rows are made a few at a time."""
    if int((by.bincount(minlength=classes) >= 2).sum()) < 2:
        return math.nan
    metric = NeuralCollapse(classes, classes, min_samples=2, metrics=("nc1",))
    identity = torch.eye(classes, dtype=torch.float64)
    for rows, y in zip(on.cpu().split(_MERGED), by.cpu().split(_MERGED), strict=True):
        metric.update(identity[rows], y, identity)
    return float(metric.compute()["nc1"])


def _nc4(statistics: Statistics, reference: Tensor) -> Tensor:
    return nc4_share(statistics["disagreements"], statistics["nearest"], reference[with_mean(reference)])


def _measured(statistics: Statistics, min_samples: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts and means of the classes that are measured, and their numbers."""
    kept = (~find_lacking(statistics["counts"], 1, min_samples)).nonzero()[:, 0]
    return statistics["counts"][kept], statistics["means"][kept], kept


def _rights(statistics: Statistics, labels: Tensor) -> Tensor:
    """Return how many samples of each class are predicted correctly (K,)."""
    counts = statistics["counts"]
    return torch.zeros_like(counts).index_add_(0, labels, statistics["right"].double())


def _numbers(values: Mapping[str, Tensor], keys: tuple[str, ...]) -> dict[str, float]:
    return {key: float(values[key]) for key in keys}
