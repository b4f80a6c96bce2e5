"""Loss entries: what is minimised, its strength over the epochs, and its label and colour in figures."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Colour, Custom, Flag, Line, Matching, Name, NonNegative, Number, Positive, kind
from nclens.study.learning_rates import LrScheduleEntry
from nclens.study.optimizers import OptimizerEntry
from nclens.study.schedules import Constant, Linear, ScheduleEntry

#: A name in figures. Matplotlib leaves what begins with _ out of a legend.
Label = Annotated[str, Line(120), Matching(r"^(?!_)", "text that does not begin with _")]
Share = Annotated[Number, Field(ge=0, lt=1)]


class LossBase(Closed):
    """The keys of every loss entry: how it is minimised, label and colour.

    All other keys but `name`, `schedule` and those in `settings` are arguments of the loss's function.
    """

    #: The task whose targets the loss takes; None for any.
    task: ClassVar[str | None] = "classification"
    #: The argument that a schedule varies, the loss's strength; None for a loss without one.
    parameter: ClassVar[str | None] = None
    #: Whether it ignores a constant added to all logits, so that its gradients sum to zero over the classes: the
    #: premise of the law of NC0. None where only its function can tell.
    ignores_shift: ClassVar[bool | None] = True
    #: Whether it is linear in the one-hot target, up to a constant: the loss of a mixed target is then the mixture of
    #: the losses. What depends on the label in another way, or remembers labels, has no settled form for mixed targets.
    mixes: ClassVar[bool] = False
    #: Whether it depends on the samples of earlier steps.
    remembers: ClassVar[bool] = False
    #: Keys of the entry that are no arguments.
    settings: ClassVar[frozenset[str]] = frozenset()

    weight_decay: NonNegative | None = None
    """Weight decay in place of that of `training.optimizer`: the regulariser is a part of what is minimised, and
    entries that differ in it alone make a grid."""
    optimizer: OptimizerEntry | None = None
    """Optimiser in place of `training.optimizer`, as a whole, with its weight decay."""
    lr_schedule: LrScheduleEntry | None = None
    """Schedule of the learning rate in place of `training.lr_schedule`, as a whole."""

    model: Name | None = None
    """An entry of `models` that is trained with this loss, in place of the experiment's."""

    label: Label | None = None
    """Name in figures and tables; by default made from the loss and its parameters."""
    class_weights: Literal["balanced"] | Annotated[tuple[Positive, ...], Field(min_length=2)] | None = None
    """Factor on the loss of each class's training samples, one number a class; `balanced` is N / (K n_k), with mean 1
    over the samples; null is 1 for all."""
    colour: Colour | None = None
    """Colour in figures and in the MLflow UI, #rrggbb; by default the next one of a colour-blind-safe palette."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_schedule_without_strength(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "schedule" in data and "schedule" not in cls.model_fields:
            raise PydanticCustomError(
                "schedule",
                "has no strength for a `schedule` to vary; losses that have one: {losses}",
                {"losses": ", ".join(SCHEDULED)},
            )
        return data

    @model_validator(mode="after")
    def _has_one_decay(self) -> Self:
        if self.optimizer is not None and self.weight_decay is not None:
            message = "weight_decay = {value} beside an `optimizer`; write it as optimizer.weight_decay"
            raise PydanticCustomError("decay", message, {"value": self.weight_decay})
        return self

    @property
    def default_label(self) -> str | None:
        """The default label; None for the entry's own name."""
        return None

    @property
    def label_of_descent(self) -> str:
        """What the default label adds: the weight decay, optimiser and schedule that the entry chooses."""
        decay = None if self.weight_decay is None else f"weight decay {self.weight_decay:g}"
        chosen = [decay, self.optimizer and self.optimizer.label, self.lr_schedule and self.lr_schedule.label]
        return "".join(f", {part}" for part in chosen if part)

    @property
    def strength(self) -> float | None:
        """The strength before its schedule; None for a loss without one."""
        return None if self.parameter is None else float(getattr(self, self.parameter))

    def specification(self) -> dict[str, Any]:
        """Return the loss's function, its arguments, the one of them that is scheduled, the schedule, class weights."""
        keys = self.model_dump(mode="json", exclude={*LossBase.model_fields, *self.settings})
        name, schedule = keys.pop("name"), keys.pop("schedule", None)
        chosen = {"name": name, "arguments": keys, "parameter": self.parameter, "schedule": schedule}
        return chosen | self.weighting

    @property
    def weighting(self) -> dict[str, Any]:
        """The class weights as a step takes them: `balanced`, or a number a class; nothing where there are none."""
        if self.class_weights is None:
            return {}
        balanced = self.class_weights == "balanced"
        return {"balanced": True} if balanced else {"class_weights": tuple(self.class_weights)}

    @model_validator(mode="after")
    def _weighs_classes_only(self) -> Self:
        if self.class_weights is not None and self.task == "regression":
            message = "class_weights: is of classification, and {name} is a loss of regression"
            raise PydanticCustomError("class_weights", message, {"name": getattr(self, "name", "")})
        return self


class CrossEntropy(LossBase):
    """Cross entropy with one-hot targets."""

    mixes = True

    name: Literal["ce"]

    @property
    def default_label(self) -> str:
        """The default label."""
        return "CE"


class MeanSquared(LossBase):
    """Squared error between the outputs and the one-hot targets, (1/2) |z - y|^2."""

    ignores_shift, mixes = False, True

    name: Literal["mse"]

    @property
    def default_label(self) -> str:
        """The default label."""
        return "MSE"


class UnknownLoss(LossBase):
    """A loss that is not known, of networks trained elsewhere: they are measured under cross entropy."""

    name: Literal["unknown"]

    @property
    def function_name(self) -> str:
        """The function that the networks are measured under."""
        return "ce"

    def specification(self) -> dict[str, Any]:
        """Return cross entropy, under which the networks are measured."""
        return {"name": self.function_name, "arguments": {}, "parameter": None, "schedule": None}


class Scheduled(LossBase):
    """A loss with a strength, at 0 of which it is plain cross entropy."""

    schedule: ScheduleEntry = Constant()
    """The strength over the epochs: `{kind: constant}`, `{kind: linear, end: ...}` or `{kind: drop, epoch: ...}`."""

    #: What the strength must lie below.
    below: ClassVar[float] = math.inf
    #: What a label calls the loss and its strength.
    short: ClassVar[str]
    symbol: ClassVar[str]

    @property
    def default_label(self) -> str:
        """The default label."""
        return f"{self.short} ({self.symbol} = {self.strength:g}{self.schedule.suffix})"

    @model_validator(mode="after")
    def _ends_within_the_range(self) -> Self:
        if isinstance(self.schedule, Linear) and self.schedule.end >= self.below:
            message = "schedule.end = {value}: must be less than {below}, as {strength} must"
            context = {"value": self.schedule.end, "below": f"{self.below:g}", "strength": self.parameter}
            raise PydanticCustomError("schedule", message, context)
        return self


class LabelSmoothing(Scheduled):
    """Cross entropy with targets (1 - smoothing) onehot + smoothing / K."""

    parameter, below, short, symbol = "smoothing", 1.0, "LS", "δ"
    mixes = True

    name: Literal["ls"]
    smoothing: Share
    """Smoothing delta, in [0, 1)."""


class MaxSup(Scheduled):
    """Max suppression: cross entropy + alpha (max z - mean z)."""

    parameter, short, symbol = "alpha", "MaxSup", "α"
    mixes = True

    name: Literal["maxsup"]
    alpha: NonNegative
    """Weight of the penalty; on correct predictions it is label smoothing's delta."""


class LogitPenalty(Scheduled):
    """Cross entropy + (beta / 2) |z|^2."""

    parameter, short, symbol = "beta", "Logit penalty", "β"
    ignores_shift, mixes = False, True

    name: Literal["logit_penalty"]
    beta: NonNegative
    """Weight of the penalty; 2e-3 in the code of MaxSup."""


class SmoothingRegularisation(Scheduled):
    """Cross entropy and the regularising part of label smoothing alone."""

    parameter, short, symbol = "smoothing", "LS regularisation", "δ"
    renamed: ClassVar = {"alpha": "smoothing"}

    name: Literal["ls_regularisation"]
    smoothing: NonNegative
    """Smoothing delta of the label smoothing that it is a part of."""


class SmoothingErrorAmplification(Scheduled):
    """Cross entropy and the error-amplifying part of label smoothing alone."""

    parameter, short, symbol = "smoothing", "LS error amplification", "δ"
    renamed: ClassVar = {"alpha": "smoothing"}

    name: Literal["ls_error_amplification"]
    smoothing: NonNegative
    """Smoothing delta of the label smoothing that it is a part of."""


class OnlineLabelSmoothing(Scheduled):
    """Cross entropy with targets that mix one-hot with the mean prediction of the class in the epoch before."""

    parameter, below, short, symbol = "soft_weight", 1.0, "Online LS", "w"
    remembers = True

    name: Literal["online_label_smoothing"]
    soft_weight: Share
    """Weight of the soft targets, in [0, 1); 0.5 in the authors' code."""


class ConfidencePenalty(Scheduled):
    """Cross entropy - beta times the entropy of the prediction."""

    parameter, short, symbol = "beta", "Confidence penalty", "β"
    mixes = True

    name: Literal["confidence_penalty"]
    beta: NonNegative
    """Weight of the entropy."""


class Focal(Scheduled):
    """Cross entropy of each sample times (1 - p_y)^gamma."""

    parameter, short, symbol = "gamma", "Focal", "γ"

    name: Literal["focal"]
    gamma: NonNegative
    """Exponent of the factor; 0 is plain cross entropy."""


class Teacher(Closed):
    """The network whose probabilities a student learns: of an experiment's loss, the run with the student's seed."""

    experiment: Name
    """An entry of `experiments`, on the same data set, that trains every seed of the student."""
    loss: Name
    """One of that experiment's losses, itself not distilled."""


class Distillation(LossBase):
    """Cross entropy with a trained network's probabilities at a temperature as targets."""

    settings: ClassVar[frozenset[str]] = frozenset({"teacher"})
    mixes = True

    name: Literal["distillation"]
    teacher: Teacher
    """The network to learn from, at its last epoch."""
    temperature: Positive = 1.0
    """T, which divides the logits of both networks."""
    weight: Annotated[Number, Field(ge=0, le=1)] = 1.0
    """b in (1 - b) CE + b CE(teacher's probabilities at T, own at T)."""
    t_squared: Flag = False
    """Multiply the second term by T^2, without which its gradient shrinks as 1/T^2 and weight decay dominates."""

    def label_for(self, teacher: str) -> str:
        """Return the default label, given the teacher's."""
        weight = "" if self.weight == 1 else f", b = {self.weight:g}"
        return f"Student of {teacher}, T = {self.temperature:g}{weight}"


class SquaredError(LossBase):
    """Squared error of a regression, (1/2) |z - y|^2, summed over the targets."""

    ignores_shift = False
    task: ClassVar[str | None] = "regression"

    name: Literal["squared_error"]

    @property
    def default_label(self) -> str:
        """The default label."""
        return "SE"


class CustomLoss(Custom, LossBase):
    """A loss that the user's function computes.

    The function gets logits (B, K), class labels (B,) or targets (B, K) and, where its parameters name them, `features`
    (B, d), `weight` (K, d) and `bias` (K,) of the head, all with gradients.
    """

    given: ClassVar[tuple[str, ...]] = ("logits", "targets")
    offered: ClassVar[tuple[str, ...]] = ("features", "weight", "bias")

    task: ClassVar[str | None] = None
    ignores_shift = None

    linear_in_targets: Flag = False
    """Whether the loss of a mixed target is the mixture of the losses of its classes, as it is for a loss that is
    linear in the one-hot target; `mixup` and `cutmix` need it."""

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        """Whether it can be trained with mixed targets."""
        return self.linear_in_targets

    def specification(self) -> dict[str, Any]:
        """Return the user's function, its file and its arguments."""
        own = {"function": self.function, "file": self.file, "arguments": dict(self.parameters)}
        return own | self.weighting


LOSSES: dict[str, type[LossBase]] = {
    "ce": CrossEntropy,
    "ls": LabelSmoothing,
    "maxsup": MaxSup,
    "logit_penalty": LogitPenalty,
    "ls_regularisation": SmoothingRegularisation,
    "ls_error_amplification": SmoothingErrorAmplification,
    "online_label_smoothing": OnlineLabelSmoothing,
    "confidence_penalty": ConfidencePenalty,
    "focal": Focal,
    "mse": MeanSquared,
    "distillation": Distillation,
    "squared_error": SquaredError,
}
"""Every loss that trains, by its name."""

SCHEDULED = [name for name, entry in LOSSES.items() if issubclass(entry, Scheduled)]

LossEntry = kind("name", LOSSES | {"unknown": UnknownLoss}, CustomLoss)
