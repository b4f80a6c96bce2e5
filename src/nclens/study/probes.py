"""Probe entries: what is measured by running trained networks again."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.metrics.catalogue import Split, metric
from nclens.probes.catalogue import GIVEN, PROBES
from nclens.study.fields import Closed, Count, Flag, Integer, Matching, Name, Number, Text, kind
from nclens.study.metrics import Measured

#: A probe's name may be part of a metric's, so it has no character that MLflow refuses in those.
ProbeName = Annotated[Name, Matching(r"^[^+]*$", "a name without +, for MLflow takes none in a metric")]
#: Metrics of the built-in probes by name; in tables the probe's name follows after a slash where a study has several of
#: a kind.
PROBED = {one.name: one for probe in PROBES.values() for one in probe.metrics}
ClassNumber = Annotated[Integer, Field(ge=0, lt=2**31)]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise PydanticCustomError("names", "has {name} twice; allowed: each layer once", {"name": name})
    return names


_Names = Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000), AfterValidator(_distinct)]


class ProbeBase(Closed):
    """The keys of every probe entry.

    A probe with a key `dataset` uses that data set too; one with a key `classes` names classes of the experiment's own.
    """

    snapshots: Literal["all", "last"] = "all"
    """The snapshots that are probed: all of the run, or the last."""

    @property
    def other(self) -> str | None:
        """The other data set that the probe uses, if any."""
        return getattr(self, "dataset", None)

    def probed(self, epochs: list[int]) -> list[int]:
        """Return the epochs, of all snapshots, that are probed."""
        return epochs[-1 if self.snapshots == "last" else 0 :]


class Transfer(ProbeBase):
    """Accuracy of a linear classifier on frozen features of another data set: the metric `probe_accuracy`."""

    kind: Literal["transfer"]
    dataset: Name
    """An entry of `datasets` with inputs of the same shape as the experiment's own; the probe is fitted to its training
    split and evaluated on its test split."""
    held_out: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    """Share of the training split, stratified, on which the penalty is chosen."""
    snapshots: Literal["all", "last"] = "last"
    """The snapshots that are probed: all of the run, or the last."""


class OutOfDistribution(ProbeBase):
    """Detection of another data set's samples by scores of features and logits: AUROC and FPR95, and `nc5`."""

    kind: Literal["out_of_distribution"]
    dataset: Name
    """An entry of `datasets` with inputs of the same shape as the experiment's own, whose test split is detected."""
    shift: Literal["semantic", "covariate"] = "semantic"
    """`semantic`: classes that the network has not learnt. `covariate`: the same classes from another source, which is
    reported apart, as `shift_...`, and not judged."""
    directions: Count | None = None
    """Principal directions that NECO projects onto; null for one less than there are classes."""
    cutoff: Annotated[Number, Field(gt=0, lt=1)] = 1e-6
    """Mahalanobis: eigenvalues of the within-class covariance below this part of the largest count as 0."""
    snapshots: Literal["all", "last"] = "last"
    """The snapshots that are probed: all of the run, or the last."""


class Segmentation(ProbeBase):
    """Segmentation on the network's feature map: mIoU and pixel accuracy, between a floor and a ceiling.

    A head is trained on the data set's training split and measured on its test split, for each run with its seed.
    """

    kind: Literal["segmentation"]
    dataset: Name
    """An entry of `datasets` with masks: source `scenes` or `oxford_pets`. Its images have as many channels as the
    experiment's own, and any size."""
    backbone: Literal["frozen", "fine_tuned"] = "frozen"
    """`frozen`: the head alone is trained; `fine_tuned`: a copy of the network is trained with it."""
    head: Literal["fcn", "linear"] = "fcn"
    """`fcn`: 3x3 convolution, batch normalisation, ReLU, 1x1 convolution; `linear`: 1x1 convolution. Both are followed
    by bilinear upsampling to the size of the image."""
    channels: Annotated[Integer, Field(ge=1, le=65_536)] = 64
    """Hidden channels of `fcn`."""
    epochs: Annotated[Integer, Field(ge=1, le=10_000)] = 15
    """Epochs on the training split."""
    batch_size: Annotated[Integer, Field(ge=2, le=65_536)] = 8
    """Images of a batch."""
    learning_rate: Annotated[Number, Field(gt=0, le=10)] = 5e-3
    """Of AdamW at the beginning; it falls to 0 along a cosine."""
    weight_decay: Annotated[Number, Field(ge=0, le=10)] = 1e-4
    """Of AdamW."""
    bounds: Flag = True
    """Whether a floor, the head on a random network, and a ceiling, a random network trained with the head, are
    measured too."""
    snapshots: Literal["all", "last"] = "last"
    """The snapshots that are probed: all of the run, or the last."""


class GradientVariance(ProbeBase):
    """Variance over samples of the gradient, for one-hot and for smoothed targets at the same weights."""

    kind: Literal["gradient_variance"]
    samples: Annotated[Integer, Field(ge=2, lt=2**31)] = 500
    """Training samples, a seeded subset that is the same for all losses and epochs; at most all."""
    smoothing: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Smoothing of the smoothed targets."""


class Layers(ProbeBase):
    """Collapse after each block of the network, on both splits: `layers_nc1/01`, `layers_nc1/02`, ..."""

    kind: Literal["layers"]
    names: _Names | None = None
    """Names of modules of the network, such as `layer1.0`. Null for the blocks of a named network, elsewhere for the
    modules of the longest `ModuleList` or `Sequential`; `nclens check --model` lists them."""


class Sharpness(ProbeBase):
    """Largest eigenvalue of the loss's Hessian, of the head and of the network, biases included."""

    kind: Literal["sharpness"]
    samples: Annotated[Integer, Field(ge=1, lt=2**31)] = 250
    """Training samples, a seeded subset that is the same for all losses and epochs; at most all."""


class MutualInformation(ProbeBase):
    """Mutual information between input and a logit difference of two classes under random augmentation, in nats."""

    kind: Literal["mutual_information"]
    classes: tuple[ClassNumber, ClassNumber] = (0, 1)
    """The two classes, by number from 0."""
    augmentation: Literal["shift", "flip_crop"] = "shift"
    """`shift`: up to 2 pixels up or down and left or right; `flip_crop`: as in training."""
    draws: Annotated[Integer, Field(ge=1, le=100_000)] = 5
    """Augmentations per mean of an input."""
    samples: Annotated[Integer, Field(ge=2, lt=2**31)] = 600
    """Training samples, half of each class; fewer where the data have fewer."""

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.classes[0] == self.classes[1]:
            message = "classes {value} must be two different ones"
            raise PydanticCustomError("classes", message, {"value": str(list(self.classes))})
        return self


def _ascending(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    # As they are written in the names of metrics.
    if any(later <= earlier or f"{later:g}" == f"{earlier:g}" for earlier, later in pairwise(numbers)):
        raise PydanticCustomError("order", "{numbers}: must ascend, each once", {"numbers": str(list(numbers))})
    return numbers


class Decoding(ProbeBase):
    """Error of beam search against its width and its temperature, and calibration of the next token, for sequences."""

    kind: Literal["decoding"]
    samples: Annotated[Integer, Field(ge=1, lt=2**31)] = 1000
    """Test sequences, a seeded subset that is the same for all losses; at most all."""
    widths: Annotated[
        tuple[Annotated[Integer, Field(ge=1, le=1000)], ...],
        Field(min_length=1, max_length=100),
        AfterValidator(_ascending),
    ] = (1, 2, 4, 8, 16)
    """Widths of the beam at temperature 1, ascending; 1 is greedy search."""
    width: Annotated[Integer, Field(ge=1, le=1000)] = 4
    """Width of the beam at the temperatures."""
    temperatures: Annotated[
        tuple[Annotated[Number, Field(gt=0, le=1000)], ...],
        Field(min_length=1, max_length=100),
        AfterValidator(_ascending),
    ] = (0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0)
    """Temperatures, ascending, which the logits are divided by; 1 is always one of them."""
    alpha: Annotated[Number, Field(ge=0, le=100)] = 1.0
    """Exponent of a hypothesis's length, which its log probability is divided by."""
    snapshots: Literal["all", "last"] = "last"
    """The snapshots that are probed: all of the run, or the last."""


class CustomProbe(Measured, ProbeBase):
    """A probe that the user's function computes, called for each snapshot and split.

    The function gets what its parameters name: the `network`, in evaluation mode; of the split that is measured its
    `inputs` as the network takes them, `features` (N, d), `logits` (N, K) and `labels` (N,), or `targets` (N, n) of a
    regression, and the whole `split`; the splits `train` and `test`, and `other`, both of the key `dataset`; `seed`, a
    `generator` with it, and the `device` of all tensors. It returns a number, the metric NAME, or a dict of numbers,
    the metrics `NAME_key`.
    """

    offered: ClassVar[tuple[str, ...]] = GIVEN
    #: No built-in probe has this kind.
    kind: ClassVar[str] = "function"

    dataset: Name | None = None
    """An entry of `datasets` with inputs of the same shape as the experiment's own: the function's `other`."""
    splits: Annotated[tuple[Split, ...], Field(min_length=1, max_length=2)] = ("test",)
    """The splits that it is measured on."""

    def offers(self) -> tuple[str, ...]:
        """Return what the function gets by name where it names it."""
        return tuple(name for name in self.offered if name != "other" or self.dataset is not None)


KINDS = {name: globals()[probe.model] for name, probe in PROBES.items()}
ProbeEntry = kind("kind", KINDS, custom=CustomProbe)


def check_own_probe(name: str, metrics: Mapping[str, Any]) -> None:
    """Refuse a name of a probe of the user's own that cannot be a metric's, or is another's.

    Args:
        name: the probe's.
        metrics: the study's own metrics.

    Raises:
        PydanticCustomError: says what is allowed.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        message = "probes.{name}: a function's probe has a name of letters, digits and _, as it is a metric's"
        raise PydanticCustomError("probe", message, {"name": name})
    if metric(name) is not None or name in PROBED or name in metrics:
        owner = "of `metrics`" if name in metrics else "of a built-in metric"
        message = "probes.{name}: is the name {owner}; choose another name"
        raise PydanticCustomError("probe", message, {"name": name, "owner": owner})


def enough_features(where: str, probe: ProbeBase, model: str, dim: int | None) -> None:
    """Refuse more `directions` of a probe than a model's features have dimensions; None: known when it is measured.

    Raises:
        PydanticCustomError: says what is allowed.
    """
    directions = getattr(probe, "directions", None)
    if directions is not None and dim is not None and directions > dim:
        message = "{where}.directions = {value}: must be at most {dim}, the feature dimension of models.{model}"
        raise PydanticCustomError("probe", message, {"where": where, "value": directions, "dim": dim, "model": model})


def has_map(where: str, probe: ProbeBase, model: str, entry: Any) -> None:
    """Refuse segmentation by a model that is known to have no feature map.

    Raises:
        PydanticCustomError: says what is allowed.
    """
    if getattr(probe, "kind", None) == "segmentation" and getattr(entry, "name", None) == "mlp":
        message = "{where}: models.{model} is a perceptron, which has no feature map; allowed: a convolutional network"
        raise PydanticCustomError("probe", message, {"where": where, "model": model})
