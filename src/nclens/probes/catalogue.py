"""Every kind of probe: its configuration, the function that computes it, its metrics and its cost.

Plain data: functions and models are named, so that reading the catalogue imports nothing heavy. A new kind is a model
in `nclens.study.probes`, a function in this package and an entry here. The stage `probe` calls the function at each
snapshot with the arguments that its signature names, of these:

* ``network``, and ``train``, the training split of its data set;
* ``other``, the training and the test split of the data set that the probe's key `dataset` names, normalised as the
  network's own;
* ``seed``, the same for all losses and epochs of a run's seed;
* the probe's own keys.

It returns numbers by metric.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nclens.metrics.catalogue import Metric, Split

GIVEN = (
    *("network", "inputs", "features", "logits", "labels", "targets", "split"),
    *("train", "test", "other", "seed", "generator", "device"),
)
"""The arguments that a probe of the user's own may name; the first row is of the split that is measured."""

FORWARD_AND_BACKWARD = 3.0
"""Cost of a gradient in forward passes."""


class Size(NamedTuple):
    """Samples and classes of the data set that a probe names, and the feature dimension d of the network."""

    samples: int
    classes: int
    dim: int


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
        metrics: what it yields, in this order.
        cost: of one application, from the probe's keys and the sizes.
    """

    model: str
    function: str
    split: Split
    metrics: tuple[Metric, ...]
    cost: Callable[[Mapping[str, Any], Size], Cost]


def _transfer(keys: Mapping[str, Any], size: Size) -> Cost:
    # 45 penalties, some 60 steps each, two products of features and weights a step.
    return Cost(size.samples, 45 * 60 * 4 * size.samples * size.dim * size.classes)


def _gradient_variance(keys: Mapping[str, Any], size: Size) -> Cost:
    # Two kinds of targets; gradients of single samples run at half the speed of a batch's.
    return Cost(2 * 2 * FORWARD_AND_BACKWARD * keys["samples"])


def _mutual_information(keys: Mapping[str, Any], size: Size) -> Cost:
    return Cost((keys["draws"] + 1) * keys["samples"])


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
