"""The specifications themselves: one frozen dataclass a step, and what several of them share."""

from dataclasses import dataclass, field
from typing import Any

#: The name of a network with what is done to its inputs: `nclens.models.preprocessing`.
PREPROCESSED = "preprocessed"

#: The function that a probe of the trained loss gets it by.
LOSS_AFTER = "nclens.workflow.build.losses:loss_after"

#: The modules that a training with mixed samples, and one with averaged weights, find by name.
MIXING, AVERAGING = "nclens.training.mixing", "nclens.training.averaging"

#: Fields that are in the text of a specification only where they are set, so that other runs keep their identity.
LEFT_OUT = frozenset({"recipe", "devices", "sync_batchnorm", "statistics"})

# --- what several steps share ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """An entry of the study: a registered function by its `name`, or the user's own by `function` and `file`."""

    entry: str
    name: str | None = None
    function: str | None = None
    file: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The name of the function that computes it."""
        return self.name or self.function or ""


@dataclass(frozen=True)
class Schedule:
    """How a loss's strength changes: `kind` is constant, linear or drop; `end` its last strength, at `epoch`."""

    kind: str
    end: float | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class Loss(Entry):
    """A loss entry; `parameter` is the argument that its `schedule` varies, None where it has no strength.

    `class_weights` are factors by class, none for 1; `balanced` where they are N / (K n_k).
    """

    parameter: str | None = None
    schedule: Schedule | None = None
    class_weights: tuple[float, ...] = ()
    balanced: bool = False


@dataclass(frozen=True)
class Penalties:
    """Penalties of the unconstrained feature model; `lambda_h_total` is N lambda_H."""

    lambda_w: float
    lambda_h_total: float
    lambda_b: float


@dataclass(frozen=True)
class Teaching:
    """Who teaches a distilled loss: another experiment's loss, its smoothing if it has one, and T and b."""

    experiment: str
    loss: str
    smoothing: float | None
    temperature: float
    weight: float


@dataclass(frozen=True)
class Probe:
    """A probe; `suffix` follows the names of its metrics, `snapshots` are its epochs, `split` that of its rows."""

    kind: str
    arguments: dict[str, Any]
    suffix: str = ""
    snapshots: tuple[int, ...] = ()
    function: str = ""
    split: str = ""


@dataclass(frozen=True)
class OfExperiment:
    """What tells an experiment's results apart; `model` is all models joined by + where there are several."""

    experiment: str
    dataset: str
    model: str


@dataclass(frozen=True)
class OfRuns(OfExperiment):
    """The runs of an experiment, one a loss and seed, with the epoch that each ends at.

    `models` has each loss's model where there are several.
    """

    losses: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    models: dict[str, str] = field(default_factory=dict, kw_only=True)

    def model_of(self, loss: str) -> str:
        """Return the model of a loss."""
        return self.models.get(loss, self.model)


# --- steps of one data set or run ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resolve:
    """The whole study, every default written out."""

    resolved: dict[str, Any]


@dataclass(frozen=True)
class Prepare:
    """A data set: its name, and all that its entry says of it but for the paths of the user's files."""

    dataset: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Optimizer:
    """The optimiser of a run, by `name` or the user's own by `function` and `file`; `arguments` are all other keys."""

    learning_rate: float
    weight_decay: float
    arguments: dict[str, Any]
    name: str | None = None
    function: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class LrSchedule:
    """The schedule of a run's learning rate; see `nclens.training.learning_rate.LrSchedule`."""

    kind: str
    warmup_epochs: int
    arguments: dict[str, Any]
    function: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Recipe:
    """Options of a training; None for those that are not set.

    `mixup` and `cutmix` are the alpha of each, `switch_probability` that of cutmix where there are both, `ema` the
    decay of the averaged weights, `accumulate` the parts of a batch.
    """

    mixup: float | None = None
    cutmix: float | None = None
    switch_probability: float = 0.5
    ema: float | None = None
    accumulate: int | None = None

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed."""
        return self.mixup is not None or self.cutmix is not None

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that a training finds by name."""
        return (*((MIXING,) if self.mixes else ()), *((AVERAGING,) if self.ema is not None else ()))


@dataclass(frozen=True)
class Training:
    """How a run is trained; see `nclens.study.training.Training`.

    `recipe` is None where no option is set, `devices` and `sync_batchnorm` with one device, and then left out of the
    text: see `LEFT_OUT`.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    lr_schedule: LrSchedule
    clip_gradient_norm: float | None
    augmentation: str
    record_every: int
    device: str
    precision: str
    compile: bool
    deterministic: bool
    cuda_graph: str
    recipe: Recipe | None = None
    devices: int | None = None
    sync_batchnorm: bool | None = None


@dataclass(frozen=True)
class Teacher:
    """The trained network that a run learns from: its run, its model, and the epoch of its snapshot."""

    run: str
    model: Entry
    epoch: int


@dataclass(frozen=True)
class Train:
    """A run in full; `penalties` is None for plain weight decay, `teacher` for a run that learns from labels alone."""

    dataset: str
    model: Entry
    loss: Loss
    seed: int
    training: Training
    penalties: Penalties | None
    snapshots: tuple[int, ...]
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Ingest:
    """A run of networks trained elsewhere; `model` is None for recorded features.

    `prefix` and `key` say which weights of a file are meant, `epoch` is that of a file without one in its name.
    """

    dataset: str
    model: Entry | None
    seed: int
    snapshots: tuple[int, ...]
    device: str
    prefix: str | None = None
    key: str | None = None
    epoch: int = 0
    expected_error: float | None = None


@dataclass(frozen=True)
class Statistics:
    """What the statistics of classifiers depend on that are written in place of features.

    `loss` is that of a training of so many `epochs`; features are kept of samples of `projection_classes`; `onehot` is
    set where the classifier is measured as a regressor too.
    """

    loss: Loss
    epochs: int
    projection_classes: tuple[int, ...]
    onehot: bool


@dataclass(frozen=True)
class Extract:
    """The network whose snapshots are evaluated, and where; `kept` are the epochs whose features stay.

    `model` is None for features that were recorded without a network, `statistics` where features are written.
    """

    dataset: str
    model: Entry | None
    snapshots: tuple[int, ...]
    kept: tuple[int, ...]
    device: str
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Call:
    """A function of the catalogue of metrics, with what its values depend on: a label is no part of it."""

    function: str
    task: str
    splits: tuple[str, ...]


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own: its name in tables, the function, and the splits that it is measured on."""

    name: str
    function: str
    file: str
    arguments: dict[str, Any]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class OwnProbe(OwnMetric):
    """A probe of the user's own: as a metric, with its epochs and the other data set that it uses, if any."""

    snapshots: tuple[int, ...] = ()
    dataset: str | None = None


@dataclass(frozen=True)
class MeasureClassifier:
    """How classifiers are measured; the film has the plane of the templates of `projection_classes`.

    Imbalance is not measured of more than `most_classes`.
    """

    held_out: float
    held_out_seed: int
    loss: Loss
    epochs: int
    most_classes: int
    projection_classes: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class MeasureRegressor:
    """How regressors are measured; `c` is lambda_W lambda_H where training had the model's penalties."""

    c: float | None


@dataclass(frozen=True)
class Measure:
    """What is measured on each snapshot: one of the two, by task; `kept` as in `Extract`."""

    task: str
    snapshots: tuple[int, ...]
    kept: tuple[int, ...]
    measurements: tuple[Call, ...]
    classifier: MeasureClassifier | None = None
    regressor: MeasureRegressor | None = None
    own: tuple[OwnMetric, ...] = ()


@dataclass(frozen=True)
class ProbeRun:
    """A run's network and the probes of it; `snapshots` are the epochs of any of them.

    `loss` and the `epochs` of its training are there where a probe is of the trained loss.
    """

    dataset: str
    model: Entry
    snapshots: tuple[int, ...]
    device: str
    run: str
    seed: int
    probes: tuple[Probe, ...]
    own_probes: tuple[OwnProbe, ...] = ()
    loss: Loss | None = None
    epochs: int = 0
