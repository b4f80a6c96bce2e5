"""Probe entries: what is measured by running trained networks again."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from nclens.probes.catalogue import PROBES
from nclens.study.fields import Closed, Count, Integer, Name, Number, kind

#: A probe's name may stand in the name of a metric, so it has no sign that metrics of MLflow must not have.
ProbeName = Annotated[Name, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
ClassNumber = Annotated[Integer, Field(ge=0)]


class ProbeBase(Closed):
    """What every probe entry may say."""

    snapshots: Literal["all", "last"] = "all"
    """At which of the run's snapshots the network is asked: all of them, or the last one."""


class Transfer(ProbeBase):
    """Accuracy of a linear classifier on frozen features of another data set: the metric `probe_accuracy`."""

    kind: Literal["transfer"]
    dataset: Name
    """An entry of `datasets`, with inputs of the shape of the experiment's own; its splits fit and judge the probe."""
    held_out: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    """Share of the training split, stratified, on which the penalty is picked."""
    snapshots: Literal["all", "last"] = "last"
    """At which of the run's snapshots the network is asked: all of them, or the last one."""


class GradientVariance(ProbeBase):
    """Variance over samples of the gradient, for one-hot and for smoothed targets at the same weights."""

    kind: Literal["gradient_variance"]
    samples: Annotated[Integer, Field(ge=2)] = 500
    """Training samples, a seeded subset that is the same for all losses and epochs; at most all."""
    smoothing: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """Smoothing of the smoothed targets."""


class MutualInformation(ProbeBase):
    """Mutual information between input and a logit difference of two classes under random augmentation, in nats."""

    kind: Literal["mutual_information"]
    classes: tuple[ClassNumber, ClassNumber] = (0, 1)
    """The two classes, by number from 0."""
    augmentation: Literal["shift", "flip_crop"] = "shift"
    """`shift`: up to 2 pixels up or down and left or right; `flip_crop`: as in training."""
    draws: Count = 5
    """Augmentations behind the mean that stands for an input."""
    samples: Annotated[Integer, Field(ge=2)] = 600
    """Training samples, half of each class; fewer where the data have fewer."""

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if self.classes[0] == self.classes[1]:
            message = "classes {value} must be two different ones"
            raise PydanticCustomError("classes", message, {"value": str(list(self.classes))})
        return self


ProbeEntry = kind("kind", {name: globals()[probe.model] for name, probe in PROBES.items()})
