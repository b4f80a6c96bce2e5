"""A whole study: its runs, its names and colours, and what each step of the workflow uses of it."""

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

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

from nclens.figures.catalogue import FIGURES, FigureEntry, described
from nclens.metrics.catalogue import MOST_CLASSES
from nclens.probes.catalogue import probe_of
from nclens.study.alterations import Altered
from nclens.study.claims import Claims, comparisons
from nclens.study.colours import PALETTE, on_scale
from nclens.study.data_checks import classes_exist, known_classes, known_shape, same_shape, unseen_digits
from nclens.study.datasets import CustomData, DataEntry, Normalisation
from nclens.study.experiments import Experiment, Measure, Theory, Track, check_shared
from nclens.study.fields import Closed, Line, Name, Positive, Text
from nclens.study.figures import Figures, check_figures, shown
from nclens.study.imported import Imported, with_labels
from nclens.study.kept_features import check_kept, lacks_features
from nclens.study.losses import CrossEntropy, Distillation, LossEntry, Scheduled, SquaredError, UnknownLoss
from nclens.study.metrics import Metrics
from nclens.study.models import ModelEntry, TorchvisionModel
from nclens.study.optimizers import OptimizerBase
from nclens.study.peers import optimizers
from nclens.study.probes import CustomProbe, ProbeEntry, ProbeName, check_own_probe, enough_features, has_map
from nclens.study.recipes import check_depth, check_recipe
from nclens.study.reused import Reused, Source, check_labels, check_reused, differences, take
from nclens.study.schedules import Drop
from nclens.study.sequence_data import ParallelText
from nclens.study.streams import is_streamed
from nclens.study.tasks import MEASURED_AS, check_task
from nclens.study.teachers import check_teachers

#: Runs of a study, and snapshots of them all: more than a machine plans in a day.
MOST_RUNS, MOST_SNAPSHOTS = 100_000, 2_000_000

# The losses whose unconstrained feature model has a closed form.
CLOSED = ("ce", "ls")


def _no_file(folder: str) -> str:
    """Refuse a folder of raw data that is a file; one that is not there yet is made by the first download."""
    if os.path.isfile(os.path.expanduser(folder)):
        raise PydanticCustomError("folder", "is a file; it must be the folder of the raw data")
    return folder


def _table(value: Any) -> Any:
    """Refuse kinds of experiments that there are not."""
    if isinstance(value, Mapping) and value.get("kind", "imported") != "imported":
        message = "unknown kind `{kind}`; allowed: `imported`, or no `kind` for networks that the study trains"
        raise PydanticCustomError("kind", message, {"kind": str(value["kind"])})
    return value


def _kind_of(value: Any) -> str:
    imported = isinstance(value, Imported) or (isinstance(value, Mapping) and "kind" in value)
    return "imported" if imported else "trained"


ExperimentEntry = Annotated[
    Annotated[Experiment, Tag("trained")] | Annotated[Imported, Tag("imported")],
    Discriminator(_kind_of),
    BeforeValidator(_table),
]


@dataclass(frozen=True)
class Run:
    """One run, by its keys: a network, at each of its snapshots."""

    experiment: str
    dataset: str
    model: str
    loss: str
    seed: int


class Study(Closed):
    """A complete study: data sets, models, losses, and the experiments that combine them."""

    study: Name
    """Name of the study and of its folder below results/."""
    title: Annotated[str, Line(200)] = ""
    """One line that the report opens with."""
    checkpoint_minutes: Positive = 5.0
    """Minutes between checkpoints from which an interrupted run goes on; also written on SIGTERM and Ctrl-C."""
    data_dir: Annotated[Text, AfterValidator(_no_file)] = "data"
    """Folder of raw data, shared by all studies, below the one that Snakemake runs in; moving it reruns nothing."""
    datasets: dict[Name, DataEntry] = Field(min_length=1, max_length=1000)
    models: dict[Name, ModelEntry] = Field(default_factory=dict, max_length=1000)
    losses: dict[Name, LossEntry] = Field(default_factory=dict, max_length=1000)
    probes: dict[ProbeName, ProbeEntry] = Field(default_factory=dict, max_length=1000)
    """Measurements that run trained networks again; an experiment lists those that it uses."""
    experiments: dict[Name, ExperimentEntry] = Field(min_length=1, max_length=1000)
    metrics: Metrics = Field(default_factory=dict)
    """Metrics of your own, measured on every snapshot beside the built-in ones."""
    claims: Claims = Field(default_factory=dict)
    """Claims of your own, judged beside the built-in ones."""
    # The method of this name has those of an experiment.
    own_figures: Figures = Field(default_factory=dict, alias="figures")
    """Figures of your own, drawn beside the built-in ones."""
    theory: Theory = Theory()
    measure: Measure = Measure()
    track: Track = Track()

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_imported_losses(cls, data: Any) -> Any:
        return with_labels(data)

    @model_validator(mode="after")
    def _take_from_other_studies(self, info: ValidationInfo) -> Self:
        self._sources = take(self, (info.context or {}).get("folders", ["."]))
        return self

    @model_validator(mode="after")
    def _can_be_planned(self) -> Self:
        runs = {name: len(entry.losses) * len(entry.seeds) for name, entry in self.experiments.items()}
        kept = sum(runs[name] * len(entry.snapshot_epochs) for name, entry in self.experiments.items())
        for what, number, most in (("runs", sum(runs.values()), MOST_RUNS), ("snapshots", kept, MOST_SNAPSHOTS)):
            if number > most:
                message = "the experiments have {n} {what}; at most {most} are allowed: split the study"
                raise PydanticCustomError("size", message, {"n": f"{number:,}", "what": what, "most": f"{most:,}"})
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: dict[tuple[str, str, str], str] = {}
        self._give_models()
        for name, experiment in self.experiments.items():
            where = f"experiments.{name}"
            self.refer(f"{where}.dataset", experiment.dataset, "datasets", self.datasets)
            named = [experiment.model] if isinstance(experiment, Experiment) else []
            for model in dict.fromkeys([*named, *experiment.models]):
                self.refer(f"{where}.model", model, "models", self.models)
            for loss in experiment.own:
                self.refer(f"{where}.losses", loss, "losses", self.losses)
                key = (experiment.dataset, experiment.network_of(loss), loss)
                if key in seen:
                    check_shared(name, "/".join(key), seen[key], self.experiments)
                seen.setdefault(key, name)
                self._suits(where, loss, experiment)
            if experiment.baseline is not None and experiment.baseline not in experiment.losses:
                raise PydanticCustomError(
                    "baseline",
                    "{where}.baseline = {value}: must be one of the experiment's losses: {allowed}",
                    {"where": where, "value": experiment.baseline, "allowed": ", ".join(experiment.losses)},
                )
            check_reused(self, name)
            task = self.data_task(name)
            check_task(name, experiment, task, self.losses, self.models, self._unfit_probes(task))
            self._check_data(where, experiment)
        check_teachers(self.losses, self.experiments, self.task)
        check_labels(self)
        for name in self.claims:
            comparisons(name, self)
        return self

    def _give_models(self) -> None:
        """Tell the experiments which losses have a model of their own."""
        own = {loss: entry.model for loss, entry in self.losses.items() if entry.model is not None}
        for loss, model in own.items():
            self.refer(f"losses.{loss}.model", model, "models", self.models)
        for experiment in self.experiments.values():
            if isinstance(experiment, Experiment):
                experiment.set_models(own)

    @model_validator(mode="after")
    def _check_probes_and_classes(self) -> Self:
        for name, probe in self.probes.items():
            if isinstance(probe, CustomProbe):
                check_own_probe(name, self.metrics)
            if probe.other is not None:
                self.refer(f"probes.{name}.dataset", probe.other, "datasets", self.datasets)
                if not isinstance(probe, CustomProbe):
                    self._check_task_of(name, probe.kind, probe.other)
        for name, experiment in self.experiments.items():
            where, own = f"experiments.{name}", experiment.dataset
            if "projection_classes" in experiment.model_fields_set or "projections" in (experiment.figures or ()):
                classes_exist(f"{where}.projection_classes", experiment.projection_classes, own, self.datasets[own])
            for used in experiment.probes:
                self.refer(f"{where}.probes", used, "probes", self.probes)
                probe = self.probes[used]
                if (classes := getattr(probe, "classes", None)) is not None:
                    classes_exist(f"{where}.probes: probes.{used}.classes", classes, own, self.datasets[own])
                if probe.other == own and probe.kind == "out_of_distribution":
                    message = "{where}.probes: probes.{used}.dataset = {own}: is the experiment's own; allowed: another"
                    raise PydanticCustomError("probe", message, {"where": where, "used": used, "own": own})
                if probe.other is not None:
                    place = f"{where}.probes: probes.{used}.dataset"
                    same_shape(place, probe.other, own, self.datasets)
                    scenes = f"{place} = {probe.other}"
                    unseen_digits(scenes, self.datasets[probe.other], own, self.datasets[own])
                for model in experiment.models:
                    has_map(f"{where}.probes: probes.{used}", probe, model, self.models[model])
                    enough_features(f"{where}.probes: probes.{used}", probe, model, self.models[model].dim)
            check_kept(self, name)
            for figure in experiment.figures or ():
                needs = self.figure(figure).needs
                if needs and not self.facts(name) & set(needs):
                    message = "{where}.figures = {figure}: has nothing to show here; it needs {needed}"
                    context = {"where": where, "figure": figure, "needed": " or ".join(map(described, needs))}
                    raise PydanticCustomError("figures", message, context)
        check_figures(self)
        return self

    def _check_task_of(self, name: str, kind: str, dataset: str) -> None:
        """Refuse a data set of another task than a probe of a kind uses."""
        task, allowed = getattr(self.datasets[dataset], "task", "classification"), probe_of(kind).data
        if task not in allowed:
            message = "probes.{name}.dataset = {dataset}: is of {task}; a probe of kind `{kind}` takes one of {allowed}"
            context = {"name": name, "dataset": dataset, "task": task, "kind": kind, "allowed": " or ".join(allowed)}
            raise PydanticCustomError("task", message, context)

    def _check_data(self, where: str, experiment: Experiment | Imported) -> None:
        """Refuse what the data set does not allow, where that is known before it is read."""
        data = self.datasets[experiment.dataset]
        if isinstance(experiment, Imported):
            self._check_imported(where, experiment)
            return
        check_depth(where, experiment, self.models)
        if isinstance(data, CustomData):
            return
        samples, channels = data.train_samples, data.image_channels
        if isinstance(data, Altered):
            data.check_minority(known_classes(data))
            samples = data.altered(samples)
        context = {"where": where, "dataset": experiment.dataset}
        if samples is not None and experiment.training.batch_size > samples:
            raise PydanticCustomError(
                "batch",
                "{where}.training.batch_size = {value}: must be at most the {n} training samples of {dataset}",
                context | {"value": experiment.training.batch_size, "n": samples},
            )
        if is_streamed(data) and experiment.training.augmentation != "none":
            raise PydanticCustomError(
                "augmentation",
                "{where}.training.augmentation = {value}: a stream is augmented where it is decoded, by the keys "
                "`random_resized_crop`, `horizontal_flip` and `rand_augment` of datasets.{dataset}; allowed: none",
                context | {"value": experiment.training.augmentation},
            )
        narrow = [name for name in experiment.models if isinstance(self.models[name], TorchvisionModel)]
        if channels not in (None, 3) and narrow:
            raise PydanticCustomError(
                "channels",
                "{where}.model = {model}: a classifier of torchvision takes images of 3 channels, and those of "
                "{dataset} have {channels}; allowed: a model of another `name`",
                context | {"model": narrow[0], "channels": channels},
            )

    def _check_imported(self, where: str, experiment: Imported) -> None:
        """Refuse what the task or the images of the data set do not allow."""
        data, context = self.datasets[experiment.dataset], {"where": where, "dataset": experiment.dataset}
        task = getattr(data, "task", "classification")
        if task != "classification" and (experiment.is_recorded or experiment.expected_error is not None):
            message = "{where}: recorded features and `expected_error` are of classifiers, and {dataset} is a {task}"
            raise PydanticCustomError("imported", message, {**context, "task": task})
        shape = known_shape(data)
        channels = len(experiment.normalise.mean) if isinstance(experiment.normalise, Normalisation) else None
        if shape is not None and channels not in (None, shape[0]):
            message = "{where}.normalise has {given} channels, the images of {dataset} have {channels}"
            raise PydanticCustomError("normalise", message, {**context, "given": channels, "channels": shape[0]})

    @staticmethod
    def refer(where: str, value: str, table: str, known: Mapping[str, Any]) -> None:
        """Refuse a name that a table of the study lacks."""
        if value not in known:
            raise PydanticCustomError(
                "reference",
                "{where} = {value}: no such entry in `{table}`; it has: {known}",
                {"where": where, "value": value, "table": table, "known": ", ".join(known)},
            )

    def _suits(self, where: str, loss: str, experiment: Experiment | Imported) -> None:
        """Refuse a loss that an experiment cannot have."""
        entry, epochs = self.losses[loss], experiment.epochs
        context = {"where": where, "loss": loss, "epochs": epochs}
        if isinstance(experiment, Imported):
            if isinstance(entry, Distillation):
                message = (
                    "{where}.runs.{loss}: losses.{loss} has a teacher, and an imported network is not trained here"
                )
                raise PydanticCustomError("imported", message, context)
            if entry.model is not None:
                message = (
                    "{where}.runs.{loss}: losses.{loss} has a `model`; allowed: {where}.model, by label: {example}"
                )
                example = f"model: {{{loss}: {entry.model}, ...}}"
                raise PydanticCustomError("imported", message, {**context, "example": example})
            return
        check_recipe(where, experiment, loss, entry, self.datasets[experiment.dataset])
        if experiment.ufm_regularised and self.has_cosine_head(experiment.model_of(loss)):
            message = (
                "{where}.training.ufm_regularised: {model}, the model of {loss}, has a cosine head, whose features and "
                "weight have fixed norms, so that the penalties are constant; allowed: a linear head"
            )
            raise PydanticCustomError("penalties", message, {**context, "model": experiment.model_of(loss)})
        if isinstance(entry, UnknownLoss):
            message = (
                "{where}.losses = {loss}: losses.{loss} is not known and trains nothing; allowed: a loss by `name`"
            )
            raise PydanticCustomError("imported", message, context)
        if isinstance(entry, Scheduled) and entry.schedule.last > epochs:
            raise PydanticCustomError(
                "schedule",
                "{where}.losses: losses.{loss}.schedule goes on to epoch {last}, the training ends with epoch {epochs}",
                {**context, "last": entry.schedule.last},
            )
        classes = known_classes(self.datasets[experiment.dataset])
        if isinstance(entry.class_weights, tuple) and classes not in (None, len(entry.class_weights)):
            message = (
                "{where}.losses: losses.{loss}.class_weights has {given} numbers, and {dataset} has {classes} classes"
            )
            context |= {"given": len(entry.class_weights), "dataset": experiment.dataset, "classes": classes}
            raise PydanticCustomError("class_weights", message, context)
        if entry.weight_decay is not None and (fault := self.optimizer(experiment, loss).decay_fault()):
            message = "{where}.losses: losses.{loss}.weight_decay = {fault}"
            raise PydanticCustomError("decay", message, {**context, "fault": fault})
        if entry.lr_schedule is not None and (fault := entry.lr_schedule.fault(epochs)):
            message = "{where}.losses: losses.{loss}.lr_schedule.{fault}"
            raise PydanticCustomError("lr_schedule", message, {**context, "fault": fault})
        if entry.weight_decay is not None and experiment.training.optimizer.decay is None:
            message = (
                "losses.{loss}.weight_decay = {value}: the optimiser of {where} ({optimizer}) has no weight decay; "
                "allowed: an optimiser that has one, in {where}.training or in losses.{loss}"
            )
            context |= {"value": entry.weight_decay, "optimizer": experiment.training.optimizer.short}
            raise PydanticCustomError("decay", message, context)

    @property
    def root(self) -> str:
        """Folder of everything that the study makes."""
        return f"results/{self.study}"

    def runs(self, experiment: str | None = None) -> Iterator[Run]:
        """Yield the runs that the study makes, or those of one of its experiments, in the configuration's order.

        A run that several experiments share is, among all, one of the first of them.
        """
        seen: set[tuple[str, str, str, int]] = set()
        for name in self.experiments if experiment is None else [experiment]:
            entry = self.experiments[name]
            for loss, seed in itertools.product(entry.own, entry.seeds):
                run = self.run(name, loss, seed)
                if (key := (run.dataset, run.model, loss, seed)) not in seen:
                    seen.add(key)
                    yield run

    def run(self, experiment: str, loss: str, seed: int) -> Run:
        """Return the run of an experiment with a loss and a seed."""
        entry = self.experiments[experiment]
        return Run(experiment, entry.dataset, entry.network_of(loss), loss, seed)

    def source(self, loss: str) -> Source:
        """Return where the runs of a reused loss are."""
        return self._sources[loss]

    def reused(self, experiment: str) -> dict[str, Source]:
        """Return the losses of an experiment whose runs are another study's, with where these are."""
        return {entry.called: self._sources[entry.called] for entry in self.experiments[experiment].reused}

    def trained_alike(self, experiment: str, loss: str) -> bool:
        """Return whether a loss is trained as the experiment says, which one of another study may not be."""
        return loss not in self.reused(experiment) or not differences(self, experiment, loss)

    def trained(self, experiment: str) -> Experiment:
        """Return an experiment whose networks the study trains."""
        entry = self.experiments[experiment]
        assert isinstance(entry, Experiment), f"experiments.{experiment} trains nothing"
        return entry

    def imported(self, experiment: str) -> Imported:
        """Return an experiment whose networks were trained elsewhere."""
        entry = self.experiments[experiment]
        assert isinstance(entry, Imported), f"experiments.{experiment} is trained"
        return entry

    def is_imported(self, experiment: str) -> bool:
        """Return whether an experiment's networks were trained elsewhere."""
        return isinstance(self.experiments[experiment], Imported)

    def label(self, loss: str) -> str:
        """Name of a loss entry in figures and tables."""
        entry = self.losses[loss]
        model = "" if entry.model is None else f", {entry.model}"
        student = isinstance(entry, Distillation)
        made = entry.label_for(self.label(entry.teacher.loss)) if student else entry.default_label
        if made and entry.class_weights is not None:
            made += ", balanced" if entry.class_weights == "balanced" else ", class weights"
        return entry.label or (made + entry.label_of_descent + model if made else loss)

    def kind(self, loss: str) -> str:
        """What sort of loss an entry is, for the claims: its name, and `_linear` or `_drop` where it is scheduled.

        A distilled loss has its teacher's kind as a suffix: `distillation_ce`, `distillation_ls`, ... A loss with class
        weights has the suffix `_weighted`.
        """
        entry = self.losses[loss]
        weighted = "" if entry.class_weights is None else "_weighted"
        if isinstance(entry, Distillation):
            return f"distillation_{self.kind(entry.teacher.loss)}{weighted}"
        schedule = entry.schedule.kind if isinstance(entry, Scheduled) else "constant"
        return getattr(entry, "name", "own") + ("" if schedule == "constant" else f"_{schedule}") + weighted

    def strength(self, loss: str) -> float | None:
        """How strongly an entry regularises before any schedule, for the claims; a distilled loss as its teacher's."""
        entry = self.losses[loss]
        return self.strength(entry.teacher.loss) if isinstance(entry, Distillation) else entry.strength

    def teacher(self, run: Run) -> Run | None:
        """Return the run that a run learns from, that of its own seed; None where it learns from labels alone."""
        entry = self.losses[run.loss]
        if not isinstance(entry, Distillation):
            return None
        return self.run(entry.teacher.experiment, entry.teacher.loss, run.seed)

    def colour(self, loss: str) -> str:
        """Colour of a loss entry, #rrggbb, the same in every figure and in the MLflow UI."""
        own, grid = self.losses[loss].colour, self._decay_grid()
        if own is None and loss in grid and len(grid) > 1:
            return on_scale(grid.index(loss) / (len(grid) - 1))
        reused = {str(self.losses[name].colour).upper() for name in self._sources}
        palette = [colour for colour in PALETTE if colour.upper() not in reused] or PALETTE
        return own or palette[list(self.losses).index(loss) % len(palette)]

    def _decay_grid(self) -> list[str]:
        """Return the losses that differ from each other in their weight decay alone, the smallest first."""
        decays = {loss: entry.weight_decay for loss, entry in self.losses.items() if isinstance(entry, SquaredError)}
        return sorted((loss for loss, decay in decays.items() if decay is not None), key=lambda loss: decays[loss] or 0)

    def dim(self, experiment: str, loss: str | None = None) -> int | None:
        """Return the feature dimension d of a loss's networks, or of those of the theory, where it is known and one."""
        entry = self.experiments[experiment]
        losses = self.of_theory(experiment) if loss is None else [loss]
        found = {self.models[model].dim for model in map(entry.model_of, losses) if model is not None}
        return found.pop() if len(found) == 1 else None

    def of_theory(self, experiment: str) -> list[str]:
        """Return the losses of an experiment without a model of their own: the theory is of one network."""
        return [loss for loss in self.experiments[experiment].losses if self.losses[loss].model is None]

    def has_cosine_head(self, model: str | None) -> bool:
        """Return whether a model of the library has a cosine head."""
        return model is not None and getattr(self.models[model], "head", "linear") == "cosine"

    def baseline(self, experiment: str) -> str | None:
        """The loss that the others of an experiment are compared with, if it has one."""
        entry = self.experiments[experiment]
        plain = (loss for loss in entry.losses if isinstance(self.losses[loss], CrossEntropy))
        return entry.baseline or next(plain, None)

    def data_task(self, experiment: str) -> str:
        """Return the task of an experiment's data set: `classification`, `regression` or `sequences`."""
        return getattr(self.datasets[self.experiments[experiment].dataset], "task", "classification")

    def task(self, experiment: str) -> str:
        """Return the task whose losses, measures, claims and figures an experiment has, that of its data set.

        It is `classification` or `regression`: the tokens of sequences are classified.
        """
        task = self.data_task(experiment)
        return MEASURED_AS.get(task, task)

    def weight_decay(self, experiment: str, loss: str) -> float:
        """Return the weight decay that an experiment's loss is trained with: the loss entry's, or the experiment's."""
        entry = self.experiments[experiment]
        if isinstance(entry, Experiment):
            return self.optimizer(entry, loss).decay or 0.0
        own = self.losses[loss].weight_decay
        return entry.weight_decay if own is None else own

    def optimizer(self, experiment: Experiment, loss: str) -> OptimizerBase:
        """Return the optimiser that an experiment's loss is trained with: the loss entry's, or the experiment's."""
        own = self.losses[loss]
        return own.optimizer or experiment.training.optimizer.with_decay(own.weight_decay)

    def lr_schedule(self, experiment: Experiment, loss: str) -> Any:
        """Return the schedule of the learning rate that an experiment's loss is trained with."""
        return self.losses[loss].lr_schedule or experiment.training.lr_schedule

    def figures(self, experiment: str) -> list[str]:
        """Return the figures of an experiment: those it names, or every figure that applies; and the user's own."""
        named, task, facts = self.experiments[experiment].figures, self.task(experiment), self.facts(experiment)
        drawn = list(named or ())
        if named is None:
            drawn = [stem for stem, figure in FIGURES.items() if figure.suitable(task, facts)]
        for name, own in self.own_figures.items():
            chosen = named is None if own.experiments is None else experiment in own.experiments
            drawn += [name] if chosen and name not in drawn else []
        return drawn

    def figure(self, stem: str) -> FigureEntry:
        """Return what a figure shows: an entry of the catalogue, or one made of an entry of `figures`."""
        return FIGURES[stem] if stem in FIGURES else shown(stem, self.own_figures[stem])

    def _unfit_probes(self, task: str) -> set[str]:
        """Return the probes that networks of a task cannot have; the user's own are for any."""
        built_in = {name: probe for name, probe in self.probes.items() if not isinstance(probe, CustomProbe)}
        return {name for name, probe in built_in.items() if task not in probe_of(probe.kind).tasks}

    @property
    def own_probes(self) -> dict[str, CustomProbe]:
        """The probes of the user's own."""
        return {name: probe for name, probe in self.probes.items() if isinstance(probe, CustomProbe)}

    def facts(self, experiment: str) -> set[str]:
        """Return the facts about an experiment that the catalogue of figures refers to.

        `loss:NAME`, `schedule:KIND` and `probe:KIND` for each loss, schedule and probe; `training` where the study
        trains the networks; `epochs` for two snapshots or more; `training.ufm_regularised`; `closed_form` for a loss
        that the unconstrained feature model has one for; `sweep` for three smoothings or more; `schedules` for three
        kinds of schedules; `label_smoothing` where it is compared with a baseline; `three_seeds` for three seeds or
        more, which have intervals; `three_classes` unless the data are known to have fewer; `arcs` where arcs are
        measured; `many_classes` where K and d are known and K > d + 1; `imbalance` where the training classes are made
        unequal, or are tokens and at most `MOST_CLASSES`.
        """
        entry = self.experiments[experiment]
        losses = [self.losses[loss] for loss in entry.losses]
        dim = self.dim(experiment)
        classes, smoothings = known_classes(self.datasets[entry.dataset]), self.smoothings(experiment)
        # Of a student with a model of its own the experiment has no network alone to show it beside.
        shown = [loss for loss in losses if not (isinstance(loss, Distillation) and loss.model)]
        facts = {f"loss:{loss.name}" for loss in shown if hasattr(loss, "name")}
        facts |= {f"schedule:{loss.schedule.kind}" for loss in losses if isinstance(loss, Scheduled)}
        facts |= {f"probe:{self.probes[name].kind}" for name in entry.probes}
        others = {
            "arcs": self.loss_of_arcs(experiment) is not None,
            "label_smoothing": self.compares_smoothing(experiment),
            "three_seeds": len(entry.seeds) > 2,
            "training": isinstance(entry, Experiment),
            "epochs": len(entry.snapshot_epochs) > 1,
            "training.ufm_regularised": entry.ufm_regularised,
            "closed_form": bool(smoothings),
            "sweep": len(set(smoothings.values())) > 2,
            "schedules": sum(fact.startswith("schedule:") for fact in facts) > 2,
            "three_classes": classes is None or classes > 2,
            "many_classes": classes is not None and dim is not None and classes > dim + 1,
            "imbalance": getattr(self.datasets[entry.dataset], "imbalance", None) is not None
            or (self.data_task(experiment) == "sequences" and (classes or 0) <= MOST_CLASSES),
        }
        return facts | {fact for fact, holds in others.items() if holds}

    def compares_smoothing(self, experiment: str) -> bool:
        """Return whether claims on label smoothing have losses to compare: under one optimiser, and of one model."""
        entry, baseline = self.experiments[experiment], self.baseline(experiment)
        if baseline is None:
            return False
        used, like = optimizers(self, experiment), (self.kind(baseline), self.strength(baseline))
        alike = [loss for loss in entry.losses if (self.kind(loss), self.strength(loss)) == like]
        keys = {(used.get(loss), entry.network_of(loss)) for loss in alike}
        smoothed = [loss for loss in entry.losses if loss != baseline and self.kind(loss) in {"ls", "ls_linear"}]
        return any((used.get(loss), entry.network_of(loss)) in keys for loss in smoothed)

    def loss_of_arcs(self, experiment: str) -> str | None:
        """Return the loss whose networks say which classes are similar, where arcs are measured.

        That is the baseline, if it is plain cross entropy that label smoothing is compared with. None also where the
        data are known to have fewer than three classes, or more than `MOST_CLASSES`, or features were not kept.
        """
        entry, baseline = self.experiments[experiment], self.baseline(experiment)
        kinds = {self.kind(loss) for loss in entry.losses}
        classes = known_classes(self.datasets[entry.dataset])
        if baseline is None or lacks_features(self, experiment):
            return None
        if self.kind(baseline) != "ce" or not kinds & {"ls", "ls_linear"}:
            return None
        return baseline if classes is None or 3 <= classes <= MOST_CLASSES else None

    def translations_against(self, experiment: str) -> str | None:
        """Return the loss that translations are compared with, the baseline; None where none are made."""
        entry = self.experiments[experiment]
        text = isinstance(self.datasets[entry.dataset], ParallelText)
        decodes = any(self.probes[name].kind == "decoding" for name in entry.probes)
        return self.baseline(experiment) if text and decodes else None

    def drawing_functions(self) -> list[str]:
        """Return the functions that draw the built-in figures of the study, or compute them, as `module:name`."""
        stems = dict.fromkeys(stem for name in self.experiments for stem in self.figures(name))
        drawn = [FIGURES[stem] for stem in stems if stem in FIGURES]
        return [function for figure in drawn for function in (figure.draw, figure.table) if function]

    def probed_epochs(self, experiment: str) -> list[int]:
        """Return the epochs of the snapshots that an experiment's probes use."""
        entry = self.experiments[experiment]
        last = all(self.probes[name].snapshots == "last" for name in entry.probes)
        return entry.snapshot_epochs[-1 if last else 0 :] if entry.probes else []

    def transfer_datasets(self, experiment: str) -> list[str]:
        """Return the other data sets that an experiment's probes use."""
        probes = (self.probes[name] for name in self.experiments[experiment].probes)
        return list(dict.fromkeys(probe.other for probe in probes if probe.other is not None))

    def resolved(self) -> dict[str, Any]:
        """Return the whole study with every default written out, as plain data.

        `data_dir` is left out: where raw data lie is a matter of the machine, and nothing runs again when they move.
        """
        resolved = self.model_dump(mode="json", by_alias=True, exclude={"data_dir"})
        for name, experiment in self.experiments.items():
            if isinstance(experiment, Experiment):
                resolved["experiments"][name]["snapshots"] = experiment.snapshot_epochs
                resolved["experiments"][name]["losses"] = [self._resolved_loss(entry) for entry in experiment.entries]
            resolved["experiments"][name]["baseline"] = self.baseline(name)
            resolved["experiments"][name]["figures"] = self.figures(name)
            chosen = "projection_classes" in experiment.model_fields_set
            if not chosen and "projections" not in self.figures(name):  # there may be no three classes to name
                resolved["experiments"][name].pop("projection_classes")
        for name in self._sources:
            resolved["losses"].pop(name)
        for name in resolved["losses"]:
            resolved["losses"][name] |= {"label": self.label(name), "colour": self.colour(name)}
        for table in ("datasets", "models", "losses", "probes", "metrics", "claims", "figures"):
            for entry in resolved[table].values():
                entry.pop("file", None)
        trained = [entry["training"] for entry in resolved["experiments"].values() if "training" in entry]
        for entry in (*trained, *resolved["losses"].values()):
            for key in ("optimizer", "lr_schedule"):
                (entry.get(key) or {}).pop("file", None)
        return resolved

    def _resolved_loss(self, entry: str | Reused) -> Any:
        if not isinstance(entry, Reused):
            return entry
        looks = {"label": self.label(entry.called), "colour": self.colour(entry.called)}
        known = {"study": self.source(entry.called).written, "name": entry.called}
        return entry.model_dump(mode="json") | known | looks

    def is_onehot(self, loss: str) -> bool:
        """Return whether a loss of classification is a regression on one-hot targets."""
        return getattr(self.losses[loss], "name", None) == "mse"

    def smoothings(self, experiment: str) -> dict[str, float]:
        """Return the smoothing of each loss of an experiment that has a closed form; 0 is cross entropy.

        It is that of a linear head. Mixed targets have none: their minimiser is another.
        """
        entry = self.experiments[experiment]
        mixed = isinstance(entry, Experiment) and entry.training.mixes
        return {} if mixed else self._smoothings(experiment)

    def _smoothings(self, experiment: str) -> dict[str, float]:
        entry = self.experiments[experiment]
        known = [loss for loss in self.of_theory(experiment) if self.kind(loss) in CLOSED]
        plain = {loss: self.losses[loss] for loss in known if not self.has_cosine_head(entry.model_of(loss))}
        return {loss: getattr(entry, "smoothing", 0.0) for loss, entry in plain.items()}

    def alphas(self, experiment: str) -> dict[str, float]:
        """Return the strength of each MaxSup loss of an experiment that keeps it through training."""
        names = self.experiments[experiment].losses
        return {loss: alpha for loss in names if self.kind(loss) == "maxsup" and (alpha := self.strength(loss))}

    def distilled(self, experiment: str) -> dict[str, Distillation]:
        """Return the distilled losses of an experiment."""
        entries = {loss: self.losses[loss] for loss in self.experiments[experiment].losses}
        return {loss: entry for loss, entry in entries.items() if isinstance(entry, Distillation)}

    def teachers(self, experiment: str) -> dict[str, dict[str, Any]]:
        """Return for each distilled loss of an experiment its teacher, that one's smoothing, and T and b."""
        return {
            loss: {
                "experiment": entry.teacher.experiment,
                "loss": entry.teacher.loss,
                # None where the teacher is neither cross entropy nor label smoothing.
                "smoothing": self._smoothings(entry.teacher.experiment).get(entry.teacher.loss),
                "temperature": entry.temperature,
                "weight": entry.weight,
            }
            for loss, entry in self.distilled(experiment).items()
        }

    def drops(self, experiment: str) -> dict[str, int]:
        """Return the epoch after which each loss of an experiment is dropped, for those that are."""
        entries = {loss: self.losses[loss] for loss in self.experiments[experiment].losses}
        schedules = {loss: entry.schedule for loss, entry in entries.items() if isinstance(entry, Scheduled)}
        return {loss: schedule.epoch for loss, schedule in schedules.items() if isinstance(schedule, Drop)}
