"""Claims of the user's own: a metric and what is claimed of it, or a function that computes the effects."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nclens.metrics.catalogue import METRICS, Better, Metric, measurement, metric
from nclens.probes.catalogue import PROBES
from nclens.study.fields import Closed, Custom, Line, Name, NonNegative, Text
from nclens.study.metrics import CustomMetric
from nclens.study.probes import PROBED, CustomProbe

if TYPE_CHECKING:
    from nclens.study.study import Study

_AT = re.compile(r"last|best|epoch \d{1,9}|time_to \S+")


def known(name: str) -> Metric | None:
    """Return a metric of the study's table by its name; None for one that is not measured."""
    return metric(name) or PROBED.get(name.partition("/")[0])


def _own_metrics(info: ValidationInfo) -> Mapping[str, Any]:
    """Return the study's own metrics and probes as they are written; they are checked by themselves."""
    found: dict[str, Any] = {}
    for key, kind in (("probes", CustomProbe), ("metrics", CustomMetric)):
        written = (info.context or {}).get(key)
        entries = written.items() if isinstance(written, Mapping) else ()
        splits = kind.model_fields["splits"].default
        found |= {
            name: {"splits": splits, **entry}
            for name, entry in entries
            if isinstance(name, str) and isinstance(entry, Mapping) and "function" in entry
        }
    return found


def _owner(name: str, own: Mapping[str, Any]) -> str | None:
    """Return the entry that yields a metric of the user's own: NAME, or NAME_key of one that returns a dict."""
    fitting = [entry for entry in own if name == entry or name.startswith(f"{entry}_")]
    return max(fitting, key=len, default=None)


def _measured(name: str, info: ValidationInfo) -> str:
    own = _own_metrics(info)
    if known(name) is None and _owner(name, own) is None:
        near = difflib.get_close_matches(name, [*own, *METRICS, *PROBED], n=3, cutoff=0.4) or list(METRICS)[:3]
        raise PydanticCustomError(
            "metric", "no metric of this name is measured; the nearest: {near}", {"near": ", ".join(near)}
        )
    return name


def _moment(text: Any) -> Any:
    message = "must be `last`, `best`, `epoch N` or `time_to LEVEL`"
    if not isinstance(text, str) or not _AT.fullmatch(text):
        raise PydanticCustomError("at", message)
    if text.startswith("time_to "):
        try:
            level = float(text.removeprefix("time_to "))
        except ValueError:
            raise PydanticCustomError("at", message + ", with a number as LEVEL") from None
        if level != level or level in (float("inf"), -float("inf")):
            raise PydanticCustomError("at", message + ", with a finite number as LEVEL")
    return text


class ClaimBase(Closed):
    """The keys of every claim of the user's own."""

    direction: Literal["below", "above"]
    """On which side of the baseline the loss is claimed to be."""
    margin: NonNegative
    """The least effect that counts: a difference in the metric's unit, or a share of a ratio (0.1 is 10%). The claim
    is supported where the whole interval lies beyond the margin on the claimed side, contradicted where the whole
    interval does not."""
    scale: Literal["difference", "ratio"] = "difference"
    """What is compared: loss minus baseline, or loss over baseline."""
    against: Name | None = None
    """The loss that the others are compared with; by default the experiment's baseline."""
    losses: tuple[Name, ...] | None = None
    """The losses that the claim is on; by default every other loss of the experiment."""
    experiments: tuple[Name, ...] | None = None
    """The experiments that it is judged in; by default every one that it fits."""
    statement: Annotated[str, Line(300)] = ""
    """The claim in one sentence; by default it is made from the keys."""

    @property
    def null(self) -> float:
        """The value that the interval is compared with, in the unit shown."""
        if self.scale == "difference":
            return 0.0 - self.margin if self.direction == "below" else self.margin
        return 1 / (1 + self.margin) if self.direction == "below" else 1 + self.margin

    def specification(self) -> dict[str, Any]:
        """Return what the claim is judged by."""
        keys = ("statement", "direction", "scale", "null", "margin")
        return {key: getattr(self, key) for key in keys}


class MetricClaim(ClaimBase):
    """A claim on a metric."""

    metric: Annotated[Text, AfterValidator(_measured)]
    """A metric of the study's table, one of your own too: `NAME`, or `NAME_key` where its function returns a dict."""
    split: Literal["train", "test"]
    """The split that it is measured on."""
    at: Annotated[str, BeforeValidator(_moment)] = "last"
    """`last`, after the last epoch; `best`, over the snapshots; `epoch N`, a snapshot; or `time_to LEVEL`, the epoch of
    the first snapshot at which the metric has reached the level, compared as a ratio."""

    _own: Metric | None = PrivateAttr(None)
    _entry: str = PrivateAttr("")
    _own_splits: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        own = _own_metrics(info)
        if known(self.metric) is None and (name := _owner(self.metric, own)):
            self._entry, entry, key = name, own[name], self.metric[len(name) + 1 :]
            label = ", ".join(filter(None, (str(entry.get("label") or name), key)))
            found: dict[Any, Better] = {"lower": "lower", "higher": "higher"}
            better = found.get(str(entry.get("better")), "")
            self._own = Metric(self.metric, label, better, str(entry.get("unit") or ""), least=-math.inf)
            splits = entry["splits"]
            self._own_splits = tuple(splits) if isinstance(splits, list | tuple) else ("train", "test")
        if self.split not in self.splits:
            message = "split = {split}: `{metric}` is measured on {splits} alone"
            context = {"split": self.split, "metric": self.metric, "splits": ", ".join(self.splits)}
            raise PydanticCustomError("split", message, context)
        if not self.known.better and (self.at == "best" or self.level is not None):
            message = "at = {at}: neither direction of `{metric}` is better; allowed: last, epoch N"
            raise PydanticCustomError("at", message, {"at": self.at, "metric": self.metric})
        if self.level is not None:
            if self.scale == "difference" and "scale" in self.model_fields_set:
                raise PydanticCustomError("scale", "scale = difference: epochs are compared by their ratio")
            object.__setattr__(self, "scale", "ratio")
        return self

    @property
    def known(self) -> Metric:
        """The metric's entry of its catalogue."""
        found = known(self.metric) or self._own
        assert found is not None
        return found

    @property
    def owner(self) -> str:
        """The entry of `metrics` or `probes` that yields a metric of the user's own; empty for a built-in one."""
        return self._entry

    @property
    def task(self) -> str | None:
        """The task of the networks that have the metric; None for a metric of the user's own."""
        if self._own:
            return None
        found = measurement(self.metric)
        return "regression" if found and found.task == "regression" else "classification"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have the metric."""
        if self._own:
            return self._own_splits
        if found := measurement(self.metric):
            return found.splits
        return tuple(split for probe in PROBES.values() if self.known in probe.metrics for split in probe.splits)

    def specification(self) -> dict[str, Any]:
        """Return what the claim is judged by."""
        known = self.known
        place = {"metric": self.metric, "label": known.label, "split": self.split, "at": self.at}
        return super().specification() | place | {"unit": known.unit, "rising": known.better == "higher"}

    @property
    def epoch(self) -> int | None:
        """N of `epoch N`."""
        return int(self.at.split()[1]) if self.at.startswith("epoch") else None

    @property
    def level(self) -> float | None:
        """LEVEL of `time_to LEVEL`."""
        return float(self.at.split()[1]) if self.at.startswith("time_to") else None


class CustomClaim(Custom, ClaimBase):
    """A claim whose effects the user's function computes."""

    given: ClassVar[tuple[str, ...]] = ("loss", "baseline")

    unit: Annotated[str, Line(60)] = ""
    """Unit of the effect."""

    def specification(self) -> dict[str, Any]:
        """Return what the claim is judged by."""
        own = {"function": self.function, "file": self.file, "arguments": dict(self.parameters), "unit": self.unit}
        return super().specification() | own


def _kind(entry: Any) -> str:
    if isinstance(entry, Closed):
        return "function:" if isinstance(entry, Custom) else "metric:"
    return "function:" if isinstance(entry, dict) and "function" in entry else "metric:"


ClaimEntry = Annotated[
    Annotated[MetricClaim, Tag("metric:")] | Annotated[CustomClaim, Tag("function:")], Discriminator(_kind)
]


def _not_ours(name: str) -> str:
    if re.fullmatch(r"[A-Z]\d+", name):
        message = "a letter and a number is the id of a built-in claim; choose another name"
        raise PydanticCustomError("claim", message)
    return name


ClaimName = Annotated[Name, AfterValidator(_not_ours)]
Claims = Annotated[dict[ClaimName, ClaimEntry], Field(max_length=100)]


def comparisons(name: str, study: "Study") -> list[tuple[str, str, str]]:
    """Return the (experiment, loss, loss that it is compared with) that a claim of the study is judged on.

    Raises:
        PydanticCustomError: the claim names what the study lacks, or compares nothing.
    """
    entry, where = study.claims[name], f"claims.{name}"
    for key, table, known_entries in (
        ("against", "losses", study.losses),
        ("losses", "losses", study.losses),
        ("experiments", "experiments", study.experiments),
    ):
        chosen = getattr(entry, key)
        for value in (chosen,) if isinstance(chosen, str) else chosen or ():
            study.refer(f"{where}.{key}", value, table, known_entries)
    found = []
    for experiment in entry.experiments or study.experiments:
        losses = study.experiments[experiment].losses
        against = entry.against or study.baseline(experiment)
        if isinstance(entry, MetricClaim):
            if entry.task not in (None, study.task(experiment)):
                continue
            if entry.owner in study.own_probes and entry.owner not in study.experiments[experiment].probes:
                continue
            _has_snapshot(where, entry, experiment, study)
        if against in losses:
            found += [
                (experiment, loss, against)
                for loss in losses
                if loss != against and (entry.losses is None or loss in entry.losses)
            ]
    if not found:
        message = (
            "{where}: compares nothing; it needs an experiment with two of its losses, one of them `against` or the "
            "experiment's baseline, and with the metric's task or the probe that yields it"
        )
        raise PydanticCustomError("claim", message, {"where": where})
    return found


def _has_snapshot(where: str, entry: MetricClaim, experiment: str, study: "Study") -> None:
    epochs = study.experiments[experiment].snapshot_epochs
    if entry.owner in study.own_probes:
        epochs = study.own_probes[entry.owner].probed(epochs)
    if entry.epoch is not None and entry.epoch not in epochs:
        message = "{where}.at = {at}: experiments.{name} has no snapshot then; allowed: {epochs}"
        context = {"where": where, "at": entry.at, "name": experiment, "epochs": ", ".join(map(str, epochs))}
        raise PydanticCustomError("at", message, context)
