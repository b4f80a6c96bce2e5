"""The specifications of the steps of a whole study, and of its records; those of its runs are in `steps`."""

from dataclasses import dataclass, field
from typing import Any

from nclens.workflow.specs.steps import (
    Loss,
    LrSchedule,
    OfExperiment,
    OfRuns,
    Optimizer,
    Penalties,
    Probe,
    Teaching,
)


@dataclass(frozen=True)
class ReusedLoss(OfExperiment):
    """Runs of another study: what it calls them, their seeds, and whether their probes are used."""

    loss: str
    study: str
    there: OfExperiment
    loss_there: str
    seeds: tuple[int, ...]
    probed: bool = False


@dataclass(frozen=True)
class Reuse:
    """The losses whose runs other studies have made."""

    reused: tuple[ReusedLoss, ...]


@dataclass(frozen=True)
class TheoryExperiment(OfExperiment):
    """The losses that have a closed form, and their smoothings."""

    dim: int | None
    losses: tuple[str, ...]
    smoothings: dict[str, float]
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TheoryRegression(OfExperiment):
    """A regression that is trained with the model's penalties."""

    dim: int | None
    losses: tuple[str, ...]
    lambda_w: float
    lambda_h_mean: float
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Theory:
    """The penalties, and the experiments that the unconstrained feature model is evaluated for."""

    penalties: Penalties
    experiments: tuple[TheoryExperiment, ...]
    regressions: tuple[TheoryRegression, ...]


@dataclass(frozen=True)
class PredictExperiment(OfRuns):
    """The losses that have a closed form; `regularised` where training had the model's penalties."""

    dim: int | None
    smoothings: dict[str, float]
    regularised: bool


@dataclass(frozen=True)
class PredictRegression(OfRuns):
    """A regression that was trained with the model's penalties."""

    dim: int | None
    lambda_w: float
    lambda_h_mean: float


@dataclass(frozen=True)
class Descent:
    """How the classifier of a run is trained, as far as the law of NC0 goes: some fields of `Training`, and the loss.

    `lambda_w` is that of the penalties. `ignores_shift` is whether the loss ignores a constant added to all logits,
    None for the user's own, `tested`, whose gradients tell.
    """

    batch_size: int
    optimizer: Optimizer
    lr_schedule: LrSchedule
    clip_gradient_norm: float | None
    precision: str
    lambda_w: float
    cosine_head: bool = False
    ignores_shift: bool | None = True
    tested: Loss | None = None


@dataclass(frozen=True)
class PredictNC0(OfRuns):
    """The losses whose networks are compared with the law of NC0."""

    descents: dict[str, Descent]


@dataclass(frozen=True)
class Predict:
    """The penalties, and the experiments whose networks are compared with the theory: the model's, and that of NC0."""

    penalties: Penalties
    experiments: tuple[PredictExperiment, ...]
    regressions: tuple[PredictRegression, ...]
    nc0: tuple[PredictNC0, ...] = ()


@dataclass(frozen=True)
class Arcs:
    """How the classes of an arc are chosen: on held-out samples, by what networks of a loss take for what.

    Of data with more than `most_classes` none are.
    """

    loss: str
    held_out: float
    held_out_seed: int
    most_classes: int


@dataclass(frozen=True)
class CollectExperiment(OfRuns):
    """Which runs there are; `probed` where they have probes, `others` are the losses of other studies.

    `always` are the metrics that these must have where the own runs have them. `arcs` is None where none are measured,
    `translations` has the loss that those of a loss are compared with.
    """

    task: str
    probed: bool = False
    teachers: dict[str, Teaching] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    arcs: Arcs | None = None
    translations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Collect:
    """Which runs there are."""

    experiments: tuple[CollectExperiment, ...]


@dataclass(frozen=True)
class JudgeExperiment(OfRuns):
    """Which losses are compared: kinds and strengths as the claims name them, labels, and the one to compare with.

    `optimizers` are what minimises each, as text, `peers` the losses that differ from one in the optimiser alone; see
    `nclens.study.peers`.
    """

    task: str
    baseline: str | None
    kinds: dict[str, str]
    strengths: dict[str, float | None]
    weight_decays: dict[str, float]
    regularised: bool
    teachers: dict[str, Teaching] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    optimizers: dict[str, str] = field(default_factory=dict)
    peers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def compared(self) -> dict[str, Any]:
        """What `nclens.claims.specifications` compares."""
        names = ("experiment", "dataset", "model", "losses", "seeds", "epochs", "kinds", "strengths", "baseline")
        return {name: getattr(self, name) for name in (*names, "optimizers", "peers", "models")}


@dataclass(frozen=True)
class StatedClaim:
    """A claim of the user's own: what is claimed of a metric, or of what a function returns; see `nclens.study.claims`.

    `null` is the value that the interval is compared with, `rising` whether larger values of the metric are better.
    """

    id: str
    statement: str
    direction: str
    scale: str
    null: float
    margin: float
    metric: str = ""
    label: str = ""
    unit: str = ""
    split: str = ""
    at: str = ""
    rising: bool = False
    function: str | None = None
    file: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """The experiments that the claims are judged in, and the user's own claims.

    `comparisons` are what the latter are judged on: claim, experiment, loss, and the loss that it is compared with.
    """

    experiments: tuple[JudgeExperiment, ...]
    claims: tuple[StatedClaim, ...] = ()
    comparisons: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class DrawExperiment(OfRuns):
    """What an experiment's figures show, and how its losses look; `labels` has those of teachers too.

    `judged` are its comparisons where a figure shows them.
    """

    task: str
    figures: tuple[str, ...]
    baseline: str | None
    labels: dict[str, str]
    colours: dict[str, str]
    first_epoch: int
    weight_decays: dict[str, float]
    regularised: bool
    smoothings: dict[str, float] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    teachers: dict[str, Teaching] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    projection_classes: tuple[int, ...] = (0, 1, 2)
    judged: JudgeExperiment | None = None

    @property
    def labelled_teachers(self) -> dict[str, dict[str, Any]]:
        """Each distilled loss's teaching with the teacher's label, in the order of the losses."""
        taught = ((loss, self.teachers[loss]) for loss in self.losses if loss in self.teachers)
        return {loss: {**vars(teaching), "label": self.labels[teaching.loss]} for loss, teaching in taught}


@dataclass(frozen=True)
class OwnFigure:
    """A figure of the user's own: its name in files, and the function that draws it."""

    name: str
    function: str
    file: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """The experiments that are drawn, and the user's own figures among those that they list."""

    experiments: tuple[DrawExperiment, ...]
    own_figures: tuple[OwnFigure, ...] = ()


@dataclass(frozen=True)
class ReusedFrom:
    """The study, experiment and loss that runs are of, and the command that makes them.

    `differences` are what was trained otherwise there: key, value there, value here.
    """

    study: str
    experiment: str
    loss: str
    command: str
    differences: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ReportExperiment(DrawExperiment):
    """What the page says of an experiment; `transfer` are the data sets that its probes transfer to.

    `imported` are the epochs of networks that were trained elsewhere; there are none of those that the study trains.
    `origins` are the losses whose runs are another study's.
    """

    transfer: tuple[str, ...] = ()
    imported: tuple[int, ...] = ()
    origins: dict[str, ReusedFrom] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownMetric:
    """How the page shows a metric or a probe of the user's own; see `nclens.study.metrics`."""

    name: str
    label: str
    better: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class ShownFigure:
    """How the page shows a figure of the user's own; see `nclens.study.figures`."""

    name: str
    title: str
    source: str
    caption: str


@dataclass(frozen=True)
class Report:
    """What the page shows; `command` reproduces the study."""

    study: str
    title: str
    command: str
    experiments: tuple[ReportExperiment, ...]
    claims: tuple[StatedClaim, ...] = ()
    metrics: tuple[ShownMetric, ...] = ()
    shown_figures: tuple[ShownFigure, ...] = ()


@dataclass(frozen=True)
class TrackSetup:
    """The study that is recorded, and its saved view: the experiments' tasks, the parameters that group runs."""

    study: str
    tasks: tuple[str, ...] = ("classification",)
    by: tuple[str, ...] = ("loss",)


@dataclass(frozen=True)
class TrackRun(OfExperiment):
    """What is recorded of a run: its keys, its looks, its files."""

    study: str
    run: str
    loss: str
    seed: int
    task: str
    label: str
    colour: str
    tensors: bool
    epoch: int
    probed: bool


@dataclass(frozen=True)
class TrackExperiment(OfExperiment):
    """How the aggregates of an experiment's losses look; `models` as in `OfRuns`."""

    labels: dict[str, str]
    colours: dict[str, str]
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackStudy:
    """What is recorded of the study: its files, as paths below its folder, its aggregates, and its view."""

    study: str
    title: str
    files: tuple[str, ...]
    experiments: tuple[TrackExperiment, ...] = ()
    tasks: tuple[str, ...] = ("classification",)
    by: tuple[str, ...] = ("loss",)
