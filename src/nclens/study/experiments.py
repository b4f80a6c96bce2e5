"""Experiments, and their theory, measurements and tracking."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Count, Flag, Integer, Name, Number, Positive, Seed
from nclens.study.figures import FigureName
from nclens.study.probes import ClassNumber, ProbeName
from nclens.study.reused import LossOf, Reused
from nclens.study.training import Training

Epochs = Annotated[tuple[Annotated[Integer, Field(ge=0, lt=2**31)], ...], Field(max_length=1000)]


def log_spaced(last: int, count: int) -> list[int]:
    """Return `count` epochs from 1 to `last`, evenly spaced on a log scale as far as whole numbers allow.

    Both ends are always in (only the last one when count is 1); fewer come back when `last` has not that many.

    >>> log_spaced(60, 8)
    [1, 2, 4, 7, 12, 21, 35, 60]
    """
    if count == 1:
        return [last]
    epochs = [1]
    while epochs[-1] < last:
        steps_left = count - len(epochs)
        if steps_left <= 1:
            epochs.append(last)
            break
        step = epochs[-1] * (last / epochs[-1]) ** (1 / steps_left)
        epochs.append(min(last, max(epochs[-1] + 1, round(step))))
    return epochs


class Experiment(Closed):
    """One data set and one model, trained with several losses and seeds."""

    dataset: Name
    """An entry of `datasets`."""
    model: Name
    """An entry of `models`; a loss that has a `model` is trained with that one."""
    entries: tuple[LossOf, ...] = Field(alias="losses", min_length=1, max_length=1000)
    """Entries of `losses`, and losses of other studies, whose runs are used as they are."""
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=1000)
    """One run a loss and seed; a seed fixes initialisation, order and augmentation, for all losses alike."""
    baseline: Name | None = None
    """The loss that the others are compared with; by default the first plain cross entropy of the list."""
    training: Training
    snapshots: Annotated[Integer, Field(ge=1, le=1000)] | Epochs = 15
    """A number of epochs, spaced evenly on a log scale with the first and the last in, or their list; at most 1,000."""
    keep_features: Literal["all", "last", "none"] = "all"
    """`all` keeps the features of every snapshot, `last` deletes all but the last once they are measured, `none` writes
    none: statistics of a classifier from which the same is measured."""
    probes: tuple[ProbeName, ...] = ()
    """Entries of `probes`, measured on every network."""
    projection_classes: tuple[ClassNumber, ClassNumber, ClassNumber] = (0, 1, 2)
    """The three classes, by number from 0, on whose templates' plane the figure `projections` and the
    page's film show the features; one without samples is replaced by the most frequent other one."""
    figures: tuple[FigureName, ...] | None = None
    """The figures to draw, built-in ones and entries of `figures`; by default every figure that applies."""

    _own_models: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("losses", "seeds", "probes", "projection_classes", "figures"):
            values = getattr(self, key) or ()
            if len(set(values)) != len(values):
                hint = "; a loss of another study may have another `name`" if key == "losses" and self.reused else ""
                context = {"key": key, "values": str(list(values)), "hint": hint}
                raise PydanticCustomError("duplicates", "{key} {values} must not repeat{hint}", context)
        if not isinstance(self.snapshots, int):
            epochs = self.training.epochs
            if (
                not self.snapshots
                or list(self.snapshots) != sorted(set(self.snapshots))
                or self.snapshots[-1] != epochs
            ):
                raise PydanticCustomError(
                    "snapshots",
                    "snapshots {value} must ascend within 0 and training.epochs = {epochs} and end with the last epoch",
                    {"value": str(list(self.snapshots)), "epochs": epochs},
                )
        return self

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of all losses."""
        return tuple(entry.called if isinstance(entry, Reused) else entry for entry in self.entries)

    @property
    def own(self) -> tuple[str, ...]:
        """The losses whose runs the study makes."""
        return tuple(entry for entry in self.entries if not isinstance(entry, Reused))

    @property
    def reused(self) -> tuple[Reused, ...]:
        """The losses of other studies."""
        return tuple(entry for entry in self.entries if isinstance(entry, Reused))

    @property
    def snapshot_epochs(self) -> list[int]:
        """Epochs after which the weights are kept, ascending; the last is the final epoch."""
        if not isinstance(self.snapshots, int):
            return list(self.snapshots)
        return log_spaced(self.training.epochs, self.snapshots)

    # What networks trained elsewhere have too, see `nclens.study.imported`.

    @property
    def epochs(self) -> int:
        """The last epoch."""
        return self.training.epochs

    @property
    def device(self) -> str:
        """Where the networks run."""
        return self.training.device

    @property
    def devices(self) -> int:
        """How many devices train a network together."""
        return self.training.devices

    @property
    def ufm_regularised(self) -> bool:
        """Whether training has the penalties of the theory."""
        return self.training.ufm_regularised

    @property
    def weight_decay(self) -> float:
        """The weight decay of losses without one."""
        return self.training.optimizer.decay or 0.0

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once."""
        return tuple(dict.fromkeys(map(self.model_of, self.losses)))

    @property
    def network(self) -> str:
        """What the networks are called together: the models, joined by +."""
        return "+".join(self.models)

    def model_of(self, loss: str) -> str:
        """Return the model that is trained with a loss: the loss's own, or the experiment's."""
        return self._own_models.get(loss, self.model)

    def network_of(self, loss: str) -> str:
        """Return what the folders of a loss's runs and the column `model` call its network."""
        return self.model_of(loss)

    def set_models(self, own: Mapping[str, str]) -> None:
        """Set the models that losses have of their own, which the study knows."""
        self._own_models.update({loss: model for loss, model in own.items() if loss in self.losses})


class Theory(Closed):
    """The unconstrained feature model that the runs are compared with."""

    lambda_w: Positive = 1e-3
    """Penalty on the classifier, lambda_W/2 |W|^2."""
    lambda_h: Positive = 1e-6
    """Penalty on the features, lambda_H/2 |H|^2 summed over `lambda_h_samples` samples."""
    lambda_h_samples: Count = 50_000
    """The training set size that lambda_h belongs to: N lambda_H is held fixed on smaller sets."""
    lambda_b: Positive = 1e-2
    """Penalty on the bias, lambda_b/2 |b|^2."""
    lambda_h_mean: Positive = 1e-2
    """For regression: penalty on the features, lambda_h_mean/2 |h|^2 averaged over the samples. It takes the place of
    `lambda_h`, which belongs to a sum, and there is no penalty on the bias."""

    @property
    def penalties(self) -> dict[str, float]:
        """What the steps use: lambda_h only by its product with `lambda_h_samples`, N lambda_H."""
        total = self.lambda_h * self.lambda_h_samples
        return {"lambda_w": self.lambda_w, "lambda_h_total": total, "lambda_b": self.lambda_b}


#: What experiments choose freely that share runs of one data set, model and loss.
FREE = ("dataset", "model", "entries", "seeds", "baseline", "figures", "snapshots")


def check_shared(name: str, runs: str, other: str, experiments: Mapping[str, Any]) -> None:
    """Refuse an experiment that repeats runs of another one, unless these are the same runs in both.

    Raises:
        PydanticCustomError: with the keys that differ.
    """
    first, second = experiments[other], experiments[name]
    if type(first) is type(second):
        keys = [key for key in type(first).model_fields if key not in FREE]
        differing = [key for key in keys if getattr(first, key) != getattr(second, key)]
        differing += [] if first.snapshot_epochs == second.snapshot_epochs else ["snapshots"]
    else:
        differing = ["kind"]
    if differing:
        raise PydanticCustomError(
            "overlap",
            "experiments.{name} repeats {runs} of experiments.{other} with other {differing}: their runs would "
            "overwrite each other; give the data set, model or loss another entry name, or both experiments the same "
            "{differing}, so that they share the runs",
            {"name": name, "runs": runs, "other": other, "differing": ", ".join(differing)},
        )


class Measure(Closed):
    """Choices of the measurements."""

    held_out: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Share of the test split, stratified, on which the temperature is fitted; the scaled numbers are of the rest.

    A data set with a validation split has its temperature fitted on that, and the scaled numbers are of the whole test
    split.
    """
    held_out_seed: Seed = 0
    """Seed of that split."""


class Track(Closed):
    """What is sent to MLflow; the server is named by MLFLOW_TRACKING_URI, by default sqlite:///mlflow.db."""

    tensors: Flag = True
    """Upload snapshots and features too; otherwise they are listed with path, size and checksum."""
