"""Every metric that the workflow measures: its name, label, unit and direction, and the function that computes it.

Plain data: functions are named as `module:name`, so that reading the catalogue imports nothing heavy. A new metric is
a function in this package and an entry here; the stage `measure` then calls it with the arguments that its signature
names, of these:

* ``features`` (N, d), ``weight`` (K, d) and ``bias`` (K,) of the linear head;
* of classifiers ``logits`` (N, K) of the network, ``labels`` (N,), ``reference_means`` (K, d), the class means of the
  training split, ``loss`` (logits, labels -> one value per sample) where logits and labels determine it, and, on the
  test split, ``held_out``, the samples that the temperature is fitted on (`nclens.metrics.held_out`);
  ``train_counts`` (K,), the training samples of each class, where they differ; on the training split
  ``clean_labels`` (N,) where its labels are noisy; and ``min_samples`` = 2 on a split that has fewer of some class;
* of regressors ``targets`` (N, n), and ``c`` where training had the penalties of the unconstrained feature model;
* of regressors, and of classifiers trained with squared error, ``gamma`` of NRC3, unless it is undefined.

Where the features were not kept (`keep_features: none`) the stage calls the function's form from the sufficient
``statistics`` of the split, see `Measurement.from_statistics`.

A function that requires an argument which a run does not have is not called for it. What is of all runs of an
experiment at once, of the task `experiment`, is measured by the stage `collect`. A function returns numbers by metric,
or the one number of the metric that has the function's name.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

GIVEN = ("features", "logits", "labels", "targets", "weight", "bias")
"""The arguments that a measure of the user's own may name."""

Better = Literal["lower", "higher", ""]
Split = Literal["train", "test"]
SPLITS: dict[str, str] = {"train": "training set", "test": "test set"}
"""Split -> what it is called in figures and claims."""
PREFIXES = {"semantic": "ood", "covariate": "shift"}
"""Kind of shift of other data -> how the names of what is measured of them begin."""
MOST_CLASSES = 1000
"""Classes above which arcs are not measured, as which two are similar is looked up in a table of K^2 numbers, nor
imbalance, which has nine numbers of each class and a cost of K^3."""
Task = Literal["classification", "onehot", "regression", "experiment"]
"""`onehot`: a classifier trained with squared error, measured as a regressor on one-hot targets. `experiment`: of
classifiers, and of all runs of an experiment at once, by the stage `collect`."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in the column `metric` of the tables; `{i}` stands for a number, for one metric per class or dimension.
        label: what figures, tables and the report call it.
        better: the better direction, empty where neither is; for the collapse, `lower` means more collapsed.
        unit: empty for a pure number.
        least, most: the range that its definition allows.
    """

    name: str
    label: str
    better: Better = ""
    unit: str = ""
    least: float = 0.0
    most: float = math.inf


@dataclass(frozen=True)
class Measurement:
    """A function, and the metrics that it yields.

    Attributes:
        function: `module:name`.
        metrics: what it yields, in this order; some only for certain shapes, such as NRC3 for two or more targets.
        task: of the networks that it measures.
        splits: those that it measures.
        without_features: how a classifier is measured whose features were not kept: by the `form` of the same name in
            `nclens.metrics.from_statistics`; by the function `itself`, which needs test logits or the classifier alone;
            or not at all, `left_out`.
    """

    function: str
    metrics: tuple[Metric, ...]
    task: Task = "classification"
    splits: tuple[Split, ...] = ("train", "test")
    without_features: Literal["form", "itself", "left_out"] = "form"

    @property
    def from_statistics(self) -> str | None:
        """The function that yields the same where the features were not kept, as `module:name`, if there is one."""
        if self.without_features == "form":
            return f"nclens.metrics.from_statistics:{self.function.partition(':')[2]}"
        return self.function if self.without_features == "itself" else None


_SCORES = (
    Metric("nll", "NLL", "lower", "nats"),
    Metric("brier", "Brier score", "lower", most=2.0),
    Metric("ece", "ECE", "lower", most=1.0),
    Metric("ece_20", "ECE, 20 bins", "lower", most=1.0),
    Metric("ece_25", "ECE, 25 bins", "lower", most=1.0),
    Metric("ece_adaptive", "adaptive ECE", "lower", most=1.0),
    Metric("ece_classwise", "classwise ECE", "lower", most=1.0),
    Metric("confidence", "confidence", most=1.0),
)

_SELECTIVE = (
    Metric("aurc", "AURC", "lower", most=1.0),
    Metric("e_aurc", "E-AURC", "lower", most=1.0),
    Metric("coverage_at_risk", "coverage at 5% risk", "higher", most=1.0),
    Metric("risk_at_coverage", "risk at 80% coverage", "lower", most=1.0),
)


def _variants(metrics: tuple[Metric, ...], suffix: str, addition: str) -> tuple[Metric, ...]:
    """The same metrics, each with a suffix on its name and an addition to its label."""
    return tuple(replace(m, name=f"{m.name}_{suffix}", label=f"{m.label} {addition}") for m in metrics)


def _by_correctness(*metrics: Metric) -> tuple[Metric, ...]:
    """Each metric on the samples that are predicted correctly, and on the others."""
    parts = {"correct": "on correct predictions", "incorrect": "on wrong predictions"}
    return tuple(
        one for metric in metrics for part, addition in parts.items() for one in _variants((metric,), part, addition)
    )


def _of_matrices(kind: str, label: str, names: dict[str, str], **details: Any) -> tuple[Metric, ...]:
    """A metric of several matrices, one each: end of its name -> what the matrix is called."""
    return tuple(Metric(f"{kind}_{name}", f"{label} of {called}", **details) for name, called in names.items())


_RANKED = {"features": "the features", "residuals": "the within-class residuals", "means": "the class means"}
_BOTH = {"means": "the class means", "classifier": "the classifier"}
_ALIGNED = {
    "": "distance to the class's row of W",
    "_correct": "distance to the class's row of W on correct predictions",
    "_incorrect": "distance to the class's row of W on wrong predictions",
    "_predicted": "distance to the predicted class's row of W",
    "_predicted_incorrect": "distance to the predicted class's row of W on wrong predictions",
}

_REGRESSION = (
    Metric("nrc1", "NRC1", "lower", most=1.0),
    Metric("nrc1_centred", "NRC1 of centred features", "lower", most=1.0),
    Metric("nrc2", "NRC2", "lower", most=1.0),
    Metric("nrc3", "NRC3", "lower", most=2.0),
    Metric("nrc3_gamma", "gamma of NRC3", unit="squared target units"),
    Metric("evr", "EVR", "higher", most=1.0),
    Metric("evr_{i}", "share of variance on principal component {i}", most=1.0),
    Metric("mse", "MSE", "lower", "squared target units"),
    Metric("mse_{i}", "MSE of target {i}", "lower", "squared target units"),
    Metric("r2", "R²", "higher", least=-math.inf, most=1.0),
    Metric("r2_{i}", "R² of target {i}", "higher", least=-math.inf, most=1.0),
    Metric("residual_variance", "mean variance of the residuals", "lower", "squared target units"),
    Metric("residual_anisotropy", "anisotropy of the residuals' covariance", "lower"),
    Metric("feature_norm_rms", "root mean square norm of the features", unit="feature units"),
    Metric("weight_norm_frobenius", "norm of the head", unit="weight units"),
    Metric("zero_features", "features that are zero"),
)

MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement(
        "nclens.metrics.collapse:neural_collapse",
        (
            Metric("nc0", "NC0", "lower", "squared weight units"),
            Metric("nc0_share", "NC0 over the squared norm of the classifier", "lower", most=1.0),
            Metric("nc1", "NC1", "lower"),
            Metric("nc1_sum", "NC1, not divided by K", "lower"),
            Metric("nc1_quotient", "NC1 as a quotient of traces", "lower"),
            Metric("cdnv", "CDNV", "lower"),
            Metric("nc2", "NC2", "lower", most=2.0),
            Metric("nc2_means", "NC2 of the class means", "lower", most=2.0),
            Metric("nc2_classifier", "NC2 of the classifier", "lower", most=2.0),
            Metric("nc3", "NC3", "lower", most=2.0),
            Metric("nc3_squared", "NC3 squared", "lower"),
            Metric("equinorm_means", "variation of the class means' norms", "lower"),
            Metric("equinorm_classifier", "variation of the classifier's norms", "lower"),
            Metric("equiangular_means", "deviation of the class means' angles", "lower"),
            Metric("equiangular_classifier", "deviation of the classifier's angles", "lower"),
            Metric("nc4", "NC4", "lower", most=1.0),
            Metric("feature_norm", "feature norm", unit="feature units"),
            Metric("classifier_norm", "classifier norm", unit="weight units"),
            Metric("rank_means", "rank of the class means"),
        ),
    ),
    Measurement(
        "nclens.metrics.ranks:collapse_ranks",
        (
            *_of_matrices("effective_rank", "effective rank", _RANKED),
            *_of_matrices("stable_rank", "stable rank", _RANKED),
        ),
    ),
    Measurement(
        "nclens.metrics.generalised:generalised_collapse",
        (
            *_of_matrices("gnc2_log", "hyperspherical energy", _BOTH, better="lower", least=-math.log(2)),
            *_of_matrices("gnc2_log_variance", "variance of log 1/distance", _BOTH, better="lower"),
            *_of_matrices("gnc2_riesz", "mean of 1/distance", _BOTH, better="lower", least=0.5),
            *_of_matrices("gnc2_riesz_variance", "variance of 1/distance", _BOTH, better="lower"),
            *_of_matrices("gnc2_distance", "mean distance", _BOTH, better="higher", most=2.0),
            *_of_matrices("gnc2_distance_variance", "variance of the distances", _BOTH, better="lower", most=1.0),
            *_of_matrices("one_vs_rest", "one-vs-rest distance", _BOTH, better="higher", most=2.0),
            Metric("one_vs_rest_optimum", "largest possible one-vs-rest distance", most=2.0),
            Metric("unc3", "UNC3", "lower", most=1.0),
        ),
    ),
    Measurement(
        "nclens.metrics.alignment:sample_alignment",
        tuple(
            metric
            for origin, addition in (("", ""), ("_centred", ", centred"))
            for metric in (
                *(
                    Metric(f"alignment{origin}{part}", f"{label}{addition}", "lower", most=2.0)
                    for part, label in _ALIGNED.items()
                ),
                Metric(f"alignment{origin}_zero_features", f"features that are zero{addition}"),
            )
        ),
    ),
    Measurement("nclens.metrics.collapse:nc1_by_correctness", _by_correctness(Metric("nc1", "NC1", "lower"))),
    Measurement(
        "nclens.metrics.representation:angular_spread",
        (
            Metric("d_within", "d_within", most=1.0),
            Metric("d_total", "d_total", most=1.0),
            Metric("r2_angular", "R²", most=1.0),
        ),
    ),
    Measurement(
        "nclens.metrics.representation:template_spread",
        (Metric("template_spread", "spread of the clusters on the templates", "lower"),),
    ),
    Measurement(
        "nclens.metrics.representation:logit_gap", (Metric("logit_gap", "logit gap", unit="logits", least=-math.inf),)
    ),
    Measurement(
        "nclens.metrics.representation:margin", (Metric("margin", "relative margin", "higher", least=-math.inf),)
    ),
    Measurement(
        "nclens.metrics.representation:smoothing_parts",
        _by_correctness(
            Metric("ls_regularisation", "regularising part of label smoothing", unit="logits", least=-math.inf),
            Metric(
                "ls_error_amplification", "error-amplifying part of label smoothing", unit="logits", least=-math.inf
            ),
            Metric("top_logit_gap", "lead of the top logit", unit="logits", least=-math.inf),
        ),
    ),
    Measurement(
        "nclens.metrics.representation:top_logit_gradient",
        _by_correctness(Metric("top_logit_gradient", "gradient on the top logit", least=-math.inf)),
    ),
    Measurement(
        "nclens.metrics.calibration:calibration_metrics",
        (
            *_SCORES,
            Metric("accuracy", "accuracy", "higher", most=1.0),
            Metric("error", "error", "lower", most=1.0),
            Metric("entropy", "entropy", unit="nats"),
            *_by_correctness(
                Metric("confidence", "confidence", most=1.0),
                Metric("entropy", "entropy", unit="nats"),
                Metric("nll", "NLL", unit="nats"),
            ),
            Metric("mce", "MCE", "lower", most=1.0),
            Metric("ece_l2", "calibration error, l2 norm", "lower", most=1.0),
            Metric("brier_top", "Brier score of the top class", "lower", most=1.0),
        ),
    ),
    Measurement(
        "nclens.metrics.calibration:temperature_metrics",
        (
            Metric("temperature", "fitted temperature"),
            *_variants(_SCORES, "scaled", "after scaling, T fitted on other samples"),
            *_variants(_SCORES, "unscaled", "before scaling, T fitted on other samples"),
            Metric("temperature_authors", "temperature of the smallest ECE"),
            Metric("ece_authors", "ECE at the temperature of the smallest ECE", "lower", most=1.0),
        ),
        splits=("test",),
        without_features="itself",
    ),
    Measurement(
        "nclens.metrics.selective:selective_metrics",
        (*_SELECTIVE, Metric("errors", "wrong predictions", unit="samples")),
        splits=("test",),
        without_features="itself",
    ),
    Measurement(
        "nclens.metrics.selective:normalised_selective_metrics",
        (
            Metric("logit_norm_power", "exponent of logit normalisation", least=1.0),
            *_variants(_SELECTIVE, "normalised", "after logit normalisation, p chosen on other samples"),
            *_variants(_SELECTIVE, "unnormalised", "before logit normalisation, p chosen on other samples"),
            Metric("errors_rest", "wrong predictions, p chosen on other samples", unit="samples"),
        ),
        splits=("test",),
        without_features="itself",
    ),
    Measurement(
        "nclens.metrics.regressor:onehot_collapse",
        tuple(replace(m, name=f"onehot_{m.name}", label=f"{m.label} on one-hot targets") for m in _REGRESSION),
        task="onehot",
    ),
    Measurement(
        "nclens.metrics.imbalance:class_imbalance",
        (
            Metric("nc1_balanced", "NC1, classes weighing alike", "lower"),
            Metric("nc1_sample_mean", "NC1 about the mean of the samples", "lower"),
            Metric("nc2_sample_mean", "NC2 about the mean of the samples", "lower", most=2.0),
            Metric("nc3_sample_mean", "NC3 about the mean of the samples", "lower", most=2.0),
            Metric("error_balanced", "error, classes weighing alike", "lower", most=1.0),
            # `neural_collapse` has it too, of a split that lacks classes.
            Metric("classes_measured", "classes whose collapse is measured"),
            Metric("seli_means", "distance of the class means to SELI", "lower", most=2.0),
            Metric("accuracy_class_{i}", "accuracy on class {i}", "higher", most=1.0),
            Metric("nc1_class_{i}", "NC1 of class {i}", "lower"),
            Metric("feature_norm_class_{i}", "feature norm of class {i}", unit="feature units"),
        ),
    ),
    Measurement(
        "nclens.metrics.imbalance:classifier_imbalance",
        (
            Metric("minority_collapse", "mean cosine of the minority's classifiers", "lower", least=-1.0, most=1.0),
            Metric("seli_classifier", "distance of the classifier to SELI", "lower", most=2.0),
            Metric("train_count_class_{i}", "training samples of class {i}", unit="samples"),
            Metric("classifier_norm_class_{i}", "classifier norm of class {i}", unit="weight units"),
            Metric(
                "classifier_cosine_class_{i}", "mean cosine of classifier {i} with the others", least=-1.0, most=1.0
            ),
        ),
        splits=("train",),
        without_features="itself",
    ),
    Measurement(
        "nclens.metrics.label_noise:clean_label_collapse",
        (
            Metric("nc1_clean", "NC1 by the clean labels", "lower"),
            Metric("nc1_quotient_clean", "NC1 as a quotient of traces, by the clean labels", "lower"),
            Metric("cdnv_clean", "CDNV by the clean labels", "lower"),
            Metric("nc2_clean", "NC2 by the clean labels", "lower", most=2.0),
            Metric("nc3_clean", "NC3 by the clean labels", "lower", most=2.0),
            Metric("nc4_clean", "NC4 by the clean labels", "lower", most=1.0),
            Metric("error_clean", "error by the clean labels", "lower", most=1.0),
            Metric("noise_share", "share of wrong labels", most=1.0),
            Metric("nc1_clean_ceiling", "NC1 by the clean labels at collapse on the noisy ones"),
            Metric("nc1_ceiling", "NC1 by the noisy labels at collapse on the clean ones"),
        ),
        splits=("train",),
    ),
    Measurement(
        "nclens.metrics.arc:arc_ratio",
        (
            Metric("arc_ratio", "arc ratio of two similar classes"),
            Metric("arc_ratio_polar", "arc ratio in polar coordinates"),
            Metric("arc_class_{i}", "class {i} of the arc: 1 and 2 are similar"),
        ),
        task="experiment",
    ),
    Measurement(
        "nclens.metrics.translation:paired_bootstrap",
        (
            Metric("bleu_difference", "BLEU above the baseline's", "higher", least=-100.0, most=100.0),
            Metric("bleu_difference_p", "p-value of the difference in BLEU", most=1.0),
            Metric("chrf_difference", "chrF above the baseline's", "higher", least=-100.0, most=100.0),
            Metric("chrf_difference_p", "p-value of the difference in chrF", most=1.0),
        ),
        task="experiment",
        splits=("test",),
    ),
    Measurement("nclens.metrics.regression:regression_collapse", _REGRESSION, task="regression"),
    Measurement(
        "nclens.metrics.regressor:penalised_deviation",
        (Metric("residual_deviation", "distance of the residuals' covariance to c I", "lower"),),
        task="regression",
    ),
    Measurement(
        "nclens.metrics.regressor:gram_entries",
        (Metric("gram_{i}{j}", "entry ({i}, {j}) of W W'", unit="squared weight units", least=-math.inf),),
        task="regression",
        splits=("train",),
    ),
)
"""Every measurement, in the order of the rows of `metrics.csv`."""

METRICS: dict[str, Metric] = {metric.name: metric for entry in MEASUREMENTS for metric in entry.metrics}
"""Every metric by its name."""


@cache
def names_of(function: str) -> list[str]:
    """Return the names of the metrics that a function yields, by its `module:name`."""
    found = (entry for entry in MEASUREMENTS if function in (entry.function, entry.from_statistics))
    return [metric.name for entry in found for metric in entry.metrics]


def _found(name: str) -> tuple[str, dict[str, str]] | None:
    """Return the name in the catalogue of a metric in a table, and the numbers that fill it in."""
    if name in METRICS:
        return name, {}
    for pattern in METRICS:
        if "{" in pattern and (found := re.fullmatch(re.sub(r"\{(\w)\}", r"(?P<\1>\\d+?)", pattern), name)):
            return pattern, found.groupdict()
    return None


@cache
def metric(name: str) -> Metric | None:
    """Return the metric of a name as it is in a table, numbers filled in; None for one that is not measured.

    >>> metric("nc1").label, metric("mse_2").label, metric("gram_01").label, metric("speed")
    ('NC1', 'MSE of target 2', "entry (0, 1) of W W'", None)
    """
    if (found := _found(name)) is None:
        return None
    pattern, numbers = found
    known = METRICS[pattern]
    return replace(known, name=name, label=known.label.format(**numbers)) if numbers else known


def student(suffix: str) -> str:
    """Return what tells students apart, which follows `student_error/`, in words.

    >>> student("T4"), student("small/T4/b0.5"), student("")
    ('T = 4', 'small, T = 4, b = 0.5', '')
    """
    return re.sub(r"(?<![^/])([Tb])(?=\d)", r"\1 = ", suffix).replace("/", ", ")


def by_numbers(name: str) -> list[str | float]:
    """Return a key that sorts names by the numbers in them.

    >>> sorted(["student_error/T16", "student_error/T4", "student_error"], key=by_numbers)
    ['student_error', 'student_error/T4', 'student_error/T16']
    """
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def measurement(name: str) -> Measurement | None:
    """Return the measurement that yields a metric of a name as it is in a table; None for one that is not measured.

    >>> measurement("mse_2").task, measurement("ece_scaled").splits, measurement("speed")
    ('regression', ('test',), None)
    """
    found = _found(name)
    return next((entry for entry in MEASUREMENTS if found and METRICS[found[0]] in entry.metrics), None)
