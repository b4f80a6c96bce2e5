"""Metrics of the user's own: functions that are measured on every snapshot beside the built-in ones."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from nclens.metrics.catalogue import GIVEN, Split, metric
from nclens.study.fields import Custom, Line, Matching, Name


class Measured(Custom):
    """What the user's function measures, and how it is shown."""

    label: Annotated[str, Line(60)] = ""
    """What figures and tables call it; by default its name."""
    better: Literal["lower", "higher", ""] = ""
    """The better direction, empty where neither is."""
    unit: Annotated[str, Line(30)] = ""
    """Its unit; empty for a pure number."""


class CustomMetric(Measured):
    """A metric that the user's function computes.

    The function gets what its parameters name: `features` (N, d), `logits` (N, K) of a classifier, `labels` (N,) or, of
    a regression, `targets` (N, n), and `weight` (K, d) and `bias` (K,) of the head, as tensors. It returns a number, or
    a dict of numbers by name, which become the metrics `NAME_key`.
    """

    offered: ClassVar[tuple[str, ...]] = GIVEN

    splits: Annotated[tuple[Split, ...], Field(min_length=1, max_length=2)] = ("train", "test")
    """The splits that it is measured on."""


def _new(name: str) -> str:
    if metric(name) is not None:
        raise PydanticCustomError("metric", "is the name of a built-in metric; choose another name")
    return name


MetricName = Annotated[
    Name,
    Matching(r"^[A-Za-z][A-Za-z0-9_]*$", "a name of letters, digits and _, as it is a column of tables"),
    AfterValidator(_new),
]
Metrics = Annotated[dict[MetricName, CustomMetric], Field(max_length=100)]
