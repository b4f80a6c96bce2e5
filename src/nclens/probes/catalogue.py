"""Every kind of probe: its configuration, the function that computes it, its metrics and its cost.

Plain data: functions and models are named, so that reading the catalogue imports nothing heavy. A new kind is a model
in `nclens.study.probes`, a function in this package and an entry here. The stage `probe` calls the function at each
snapshot with the arguments that its signature names, of these:

* ``network``, and ``train`` and ``test``, the splits of its data set;
* ``other``, the training and the test split of the data set that the probe's key `dataset` names, normalised as the
  network's own;
* ``untrained``, a function that returns the network with the random weights that a training of that seed begins with;
* ``seed``, the same for all losses and epochs of a run's seed;
* the probe's own keys;
* of `out_of_distribution`, ``held_out`` and ``held_out_seed``, the part of the test split that the temperature is
  fitted on;
* of `decoding`, ``references``, a line for each sequence of the test split, the data's ``manifest``, and ``keep``,
  which takes hypotheses and references of text;
* of `sharpness`, ``loss``, the trained loss at the snapshot's epoch, plain cross entropy being `nclens.losses.ce`; None
  where logits and labels do not determine it.

It returns numbers by metric, or, for a probe of both splits, such numbers by split. The metrics of `layers` have the
number of the layer after a slash, `layers_nc1/03`, those of `decoding` the width or the temperature, and the catalogue
has them without.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from nclens.metrics.catalogue import Better, Metric, Split, Task

GIVEN = (
    *("network", "inputs", "features", "logits", "labels", "targets", "split"),
    *("train", "test", "other", "seed", "generator", "device"),
)
"""The arguments that a probe of the user's own may name; the first row is of the split that is measured."""

FORWARD_AND_BACKWARD = 3.0
"""Cost of a gradient in forward passes."""


class Size(NamedTuple):
    """Samples and classes of the data set that a probe names, feature dimension d, and the network's own samples.

    `pixels` is how many pixels an image of that data set has for each of the network's own.
    """

    samples: int
    classes: int
    dim: int
    own: int = 0
    pixels: float = 1.0


class Cost(NamedTuple):
    """What one application of a probe costs: forward passes of single samples, and floating-point operations beside."""

    passes: float
    operations: float = 0.0


@dataclass(frozen=True)
class Probe:
    """A kind of probe.

    Attributes:
        model: class of `nclens.study.probes`.
        function: `module:name`.
        split: whose rows of `probes.csv` its metrics are; for a probe on other data, `test` is that data's test split.
            `both` for a function that returns the metrics of each split by its name.
        metrics: what it yields, in this order.
        cost: of one application, from the probe's keys and the sizes.
        summarised: those of the metrics that are in the table of losses; None for all that have a better direction.
        tasks: of the data sets whose networks it measures.
        data: tasks of the data sets that its key `dataset` may name.
    """

    model: str
    function: str
    split: Split | Literal["both"]
    metrics: tuple[Metric, ...]
    cost: Callable[[Mapping[str, Any], Size], Cost]
    summarised: tuple[str, ...] | None = None
    tasks: tuple[Task | Literal["sequences"], ...] = ("classification",)
    data: tuple[Task | Literal["segmentation"], ...] = ("classification", "regression")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have its metrics."""
        return ("train", "test") if self.split == "both" else (self.split,)


def _transfer(keys: Mapping[str, Any], size: Size) -> Cost:
    # 45 penalties, some 60 steps each, two products of features and weights a step.
    return Cost(size.samples, 45 * 60 * 4 * size.samples * size.dim * size.classes)


def _gradient_variance(keys: Mapping[str, Any], size: Size) -> Cost:
    # Two kinds of targets; gradients of single samples run at half the speed of a batch's.
    return Cost(2 * 2 * FORWARD_AND_BACKWARD * keys["samples"])


def _mutual_information(keys: Mapping[str, Any], size: Size) -> Cost:
    return Cost((keys["draws"] + 1) * keys["samples"])


def _out_of_distribution(keys: Mapping[str, Any], size: Size) -> Cost:
    # Two covariances of the features and their eigenvectors; noise is as large as a part of the test split.
    samples = size.samples + 2 * size.own
    return Cost(samples, 8 * samples * size.dim**2 + 40 * size.dim**3)


def _segmentation(keys: Mapping[str, Any], size: Size) -> Cost:
    # A head, with or without its backbone, counts as much as the network: an epoch is a gradient of every sample.
    trained = 3 if keys["bounds"] else 1
    return Cost(size.pixels * size.samples * trained * (FORWARD_AND_BACKWARD * keys["epochs"] + 1))


def _layers(keys: Mapping[str, Any], size: Size) -> Cost:
    # Of some ten layers: Gram matrices of the features and the distances to the class means.
    return Cost(size.own, 10 * (6 * size.own * size.dim**2 + 40 * size.dim**3))


def _decoding(keys: Mapping[str, Any], size: Size) -> Cost:
    # A hypothesis costs about a forward pass of its sequence, whose keys and values are cached.
    beams = sum(keys["widths"]) + keys["width"] * len(keys["temperatures"])
    return Cost(keys["samples"] * (1 + beams))


def _sharpness(keys: Mapping[str, Any], size: Size) -> Cost:
    # Two losses, some 25 products with a vector each, each as much as 15 forward passes.
    return Cost(2 * 25 * 15 * keys["samples"])


DETECTORS = {
    "msp": "MSP",
    "max_logit": "MaxLogit",
    "energy": "energy",
    "mahalanobis": "Mahalanobis",
    "neco": "NECO",
    "neco_maxlogit": "NECO times MaxLogit",
    "nci": "NCI",
}
"""Score of out-of-distribution detection -> its label."""


def _detection(prefix: str, what: str) -> tuple[Metric, ...]:
    """The metrics of out-of-distribution detection, of one kind of shift."""
    kinds: tuple[tuple[str, str, Better], ...] = (("auroc", "AUROC", "higher"), ("fpr95", "FPR95", "lower"))
    nc5 = "nc5" if prefix == "ood" else f"{prefix}_nc5"
    return (
        *(
            Metric(f"{prefix}_{kind}_{name}", f"{title} of {label}, {what}", better, most=1.0)
            for kind, title, better in kinds
            for name, label in DETECTORS.items()
        ),
        Metric(nc5, f"NC5, {what}", most=1.0),
        Metric(f"{prefix}_nci_alpha", f"alpha of NCI, {what}"),
        Metric(f"{prefix}_mahalanobis_rank", f"rank of Mahalanobis's covariance, {what}"),
    )


def _by(of: str, label: str) -> tuple[Metric, ...]:
    """The scores of decoding against one of its settings."""
    return (
        Metric(f"error_by_{of}", f"token error rate by {label}", "lower"),
        Metric(f"sequence_error_by_{of}", f"sequence error rate by {label}", "lower", most=1.0),
        Metric(f"bleu_by_{of}", f"BLEU by {label}", "higher", most=100.0),
        Metric(f"chrf_by_{of}", f"chrF by {label}", "higher", most=100.0),
    )


PROBES: dict[str, Probe] = {
    "transfer": Probe(
        model="Transfer",
        function="nclens.probes.transfer:transfer_accuracy",
        split="test",
        metrics=(
            Metric("probe_accuracy", "probe accuracy", "higher", most=1.0),
            Metric("probe_strength", "penalty of the linear probe"),
        ),
        cost=_transfer,
        data=("classification",),
    ),
    "segmentation": Probe(
        model="Segmentation",
        function="nclens.probes.segmentation:segmentation",
        split="test",
        metrics=(
            Metric("segmentation_miou", "mIoU of segmentation", "higher", most=1.0),
            Metric("segmentation_pixel_accuracy", "pixel accuracy of segmentation", "higher", most=1.0),
            Metric("segmentation_floor_miou", "mIoU, random backbone", "higher", most=1.0),
            Metric("segmentation_floor_pixel_accuracy", "pixel accuracy, random backbone", "higher", most=1.0),
            Metric("segmentation_ceiling_miou", "mIoU, backbone trained on the masks", "higher", most=1.0),
            Metric(
                "segmentation_ceiling_pixel_accuracy",
                "pixel accuracy, backbone trained on the masks",
                "higher",
                most=1.0,
            ),
        ),
        cost=_segmentation,
        summarised=(
            *("segmentation_miou", "segmentation_pixel_accuracy"),
            *("segmentation_floor_miou", "segmentation_ceiling_miou"),
        ),
        data=("segmentation",),
    ),
    "out_of_distribution": Probe(
        model="OutOfDistribution",
        function="nclens.probes.out_of_distribution:detection",
        split="test",
        metrics=(*_detection("ood", "out of distribution"), *_detection("shift", "covariate shift")),
        cost=_out_of_distribution,
        summarised=tuple(
            f"{prefix}_auroc_{name}" for prefix in ("ood", "shift") for name in ("msp", "energy", "mahalanobis", "neco")
        ),
    ),
    "layers": Probe(
        model="Layers",
        function="nclens.probes.layers:layer_measures",
        split="both",
        metrics=(
            Metric("layers_nc1", "NC1 by layer", "lower"),
            Metric("layers_nc1_quotient", "tr S_W / tr S_B by layer", "lower"),
            Metric("layers_cdnv", "CDNV by layer", "lower"),
            Metric("layers_accuracy", "nearest-class-mean accuracy by layer", "higher", most=1.0),
            Metric("layers_equiangular", "deviation from the simplex's angles by layer", "lower", most=2.0),
            Metric("layers_stable_rank", "stable rank of the features by layer", least=1.0),
            Metric("layers_slope", "slope of log NC1 over the layers", unit="per layer", least=-math.inf),
            Metric("layers_correlation", "correlation of log NC1 and depth", least=-1.0, most=1.0),
            Metric("layers_noise", "noise share by layer", "lower", most=1.0),
            Metric("layers_cka", "CKA with the targets by layer", "higher", most=1.0),
            Metric("layers_readout_mse", "MSE of the linear read-out by layer", "lower", "squared target units"),
            Metric("layers_stable_rank_weight", "stable rank of the weight by layer", least=1.0),
            Metric("layers_stable_rank_targets", "stable rank of the targets", least=1.0),
        ),
        cost=_layers,
        summarised=(),
        tasks=("classification", "regression"),
    ),
    "sharpness": Probe(
        model="Sharpness",
        function="nclens.probes.sharpness:sharpness_of_losses",
        split="train",
        metrics=(
            Metric("sharpness_head", "sharpness of the head", unit="nats per squared weight unit"),
            Metric("sharpness_network", "sharpness", unit="nats per squared weight unit", least=-math.inf),
            Metric("sharpness_trained", "sharpness of the trained loss", least=-math.inf),
        ),
        cost=_sharpness,
    ),
    "decoding": Probe(
        model="Decoding",
        function="nclens.probes.decoding:decoding_scores",
        split="test",
        metrics=(
            *_by("width", "beam width"),
            *_by("temperature", "temperature"),
            Metric("ece_by_temperature", "ECE by temperature", "lower", most=1.0),
            Metric("nll_by_temperature", "NLL by temperature", "lower", "nats"),
        ),
        cost=_decoding,
        summarised=(),
        tasks=("sequences",),
    ),
    "gradient_variance": Probe(
        model="GradientVariance",
        function="nclens.probes.gradients:gradient_variances",
        split="train",
        metrics=(
            Metric("gradient_variance_head_onehot", "gradient variance of the head, one-hot targets"),
            Metric("gradient_variance_network_onehot", "gradient variance, one-hot targets"),
            Metric("gradient_variance_head_smoothed", "gradient variance of the head, smoothed targets"),
            Metric("gradient_variance_network_smoothed", "gradient variance, smoothed targets"),
        ),
        cost=_gradient_variance,
    ),
    "mutual_information": Probe(
        model="MutualInformation",
        function="nclens.probes.information:logit_information",
        split="train",
        metrics=(Metric("mutual_information", "mutual information", unit="nats", least=-math.inf),),
        cost=_mutual_information,
    ),
}
"""Every kind of probe by its name in a study."""


def probe_of(kind: str) -> Probe:
    """Return a kind of probe.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in PROBES:
        raise ValueError(f"there is no probe of kind {kind!r}; allowed: {', '.join(PROBES)}")
    return PROBES[kind]
