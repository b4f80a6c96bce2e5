"""Optimiser entries: what takes the steps of a training, its learning rate and its weight decay."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Custom, Flag, NonNegative, Number, Positive, kind, named

#: A coefficient of a running mean.
Beta = Annotated[Number, Field(ge=0, lt=1)]
Betas = tuple[Beta, Beta]


class OptimizerBase(Closed):
    """The keys of every optimiser; all but `name` are those of the class in `torch.optim`."""

    #: What labels call it.
    short: ClassVar[str]
    #: Whether the decay shrinks the weights and takes no part in the gradient.
    decoupled: ClassVar[bool] = False

    learning_rate: Positive
    """Step size; `lr_schedule` multiplies it."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_decay_that_it_lacks(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "weight_decay" in data and "weight_decay" not in cls.model_fields:
            message = "{name} has no weight decay; optimisers that have it: {others}"
            if issubclass(cls, Custom):
                message = "weight_decay of an optimiser by `function` is one of its `parameters`"
            others = [name for name, known in OPTIMIZERS.items() if "weight_decay" in known.model_fields]
            raise PydanticCustomError("decay", message, {"name": str(data.get("name")), "others": ", ".join(others)})
        return data

    @property
    def decay(self) -> float | None:
        """The weight decay; None for an optimiser that has none."""
        return getattr(self, "weight_decay", None)

    def with_decay(self, value: float | None) -> Self:
        """Return it with another weight decay; None for its own."""
        return self if value is None else self.model_copy(update={"weight_decay": value})

    @property
    def largest_decay(self) -> float | None:
        """The learning rate times decay from which on decay alone lets the weights grow; None where that is not known.

        A decoupled decay multiplies them by 1 - lr wd in each step: 2. A coupled one is gradient descent on
        wd |w|^2 / 2 with momentum m: 2 (1 + m), with Nesterov's (2 + 2m) / (1 + 2m).
        """
        if isinstance(self, Sgd) and not self.decoupled:
            return 2 * (1 + self.momentum) / (1 + 2 * self.momentum * self.nesterov)
        return 2.0 if self.decoupled else None

    @model_validator(mode="after")
    def _decay_shrinks_the_weights(self) -> Self:
        if fault := self.decay_fault():
            raise PydanticCustomError("decay", "weight_decay = {fault}", {"fault": fault})
        return self

    def decay_fault(self) -> str | None:
        """Return why the weight decay lets the weights grow, or None."""
        if self.decay is None or self.largest_decay is None or self.learning_rate * self.decay < self.largest_decay:
            return None
        rate = self.learning_rate
        most = self.largest_decay / rate
        return f"{self.decay:g} makes the weights diverge at learning_rate = {rate:g}: must be below {most:g}"

    @property
    def shrinkage(self) -> float | None:
        """How fast decay alone shrinks the weights, per step and before any schedule; None where that is not known.

        lr wd/(1 - momentum) of SGD, and lr wd where the decay is decoupled. Where a coupled decay takes part in the
        adaptive scale, it depends on the gradients.
        """
        if self.decay is None or not (self.decoupled or isinstance(self, Sgd)):
            return None
        return self.learning_rate * self.decay / (1 - self.momentum if type(self) is Sgd else 1.0)

    @property
    def label(self) -> str:
        """What labels say of it."""
        return f"{self.short} (lr {self.learning_rate:g}, wd {self.decay or 0:g})"

    def specification(self) -> dict[str, Any]:
        """Return the name, the learning rate, the weight decay and all other arguments."""
        keys = self.model_dump(mode="json")
        main = {key: keys.pop(key, 0.0) for key in ("learning_rate", "weight_decay")}
        return {"name": keys.pop("name"), **main, "arguments": keys}


class Sgd(OptimizerBase):
    """Stochastic gradient descent with momentum; the decay is a part of the gradient (L2)."""

    short = "SGD"

    name: Literal["sgd"] = "sgd"
    learning_rate: Positive = 0.05
    """Step size; `lr_schedule` multiplies it."""
    momentum: Beta = 0.9
    """Momentum."""
    nesterov: Flag = False
    """Nesterov's correction; needs a momentum above 0."""
    weight_decay: NonNegative = 5e-4
    """L2 coefficient on all parameters, biases and batch normalisation included."""

    @model_validator(mode="after")
    def _nesterov_corrects_a_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise PydanticCustomError("nesterov", "nesterov = true needs a momentum above 0")
        return self


class Sgdw(Sgd):
    """SGD with decoupled decay: the weights are multiplied by 1 - lr wd in each step, as in AdamW."""

    short, decoupled = "SGDW", True

    name: Literal["sgdw"]  # type: ignore[assignment]
    learning_rate: Positive
    """Step size; `lr_schedule` multiplies it."""
    weight_decay: NonNegative
    """wd in 1 - lr wd, on all parameters; coupled decay wd with momentum m shrinks the weights as wd/(1 - m) does."""


class Adam(OptimizerBase):
    """Adam; the decay is a part of the gradient (L2), and of its adaptive scale."""

    short = "Adam"

    name: Literal["adam"]
    betas: Betas = (0.9, 0.999)
    """Coefficients of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Term in the denominator."""
    amsgrad: Flag = False
    """The variant AMSGrad."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class AdamW(Adam):
    """Adam with decoupled decay: the weights are multiplied by 1 - lr wd in each step."""

    short, decoupled = "AdamW", True

    name: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: NonNegative
    """wd in 1 - lr wd, on all parameters."""


class NAdam(OptimizerBase):
    """Adam with Nesterov's momentum."""

    short = "NAdam"

    name: Literal["nadam"]
    betas: Betas = (0.9, 0.999)
    """Coefficients of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Term in the denominator."""
    momentum_decay: NonNegative = 0.004
    """Decay of the momentum's coefficient."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class RAdam(OptimizerBase):
    """Rectified Adam."""

    short = "RAdam"

    name: Literal["radam"]
    betas: Betas = (0.9, 0.999)
    """Coefficients of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Term in the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class Adamax(OptimizerBase):
    """Adam with the infinity norm."""

    short = "Adamax"

    name: Literal["adamax"]
    betas: Betas = (0.9, 0.999)
    """Coefficients of the running mean of the gradient and of its largest size."""
    eps: Positive = 1e-8
    """Term in the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class Adagrad(OptimizerBase):
    """Adagrad."""

    short = "Adagrad"

    name: Literal["adagrad"]
    initial_accumulator_value: NonNegative = 0.0
    """Sum of squares that every weight starts from."""
    eps: Positive = 1e-10
    """Term in the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class Adadelta(OptimizerBase):
    """Adadelta."""

    short = "Adadelta"

    name: Literal["adadelta"]
    rho: Beta = 0.9
    """Coefficient of the running mean of the gradient's square."""
    eps: Positive = 1e-6
    """Term in the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class RMSprop(OptimizerBase):
    """RMSprop."""

    short = "RMSprop"

    name: Literal["rmsprop"]
    alpha: Beta = 0.99
    """Coefficient of the running mean of the gradient's square."""
    eps: Positive = 1e-8
    """Term in the denominator."""
    momentum: Beta = 0.0
    """Momentum."""
    centered: Flag = False
    """Scale by the variance, not by the mean square."""
    weight_decay: NonNegative = 0.0
    """L2 coefficient on all parameters."""


class Rprop(OptimizerBase):
    """Resilient backpropagation, for batches of the whole training split; it has no weight decay."""

    short = "Rprop"

    name: Literal["rprop"]
    etas: tuple[Annotated[Number, Field(gt=0, lt=1)], Annotated[Number, Field(gt=1)]] = (0.5, 1.2)
    """Factors of a step size where the gradient's sign changes and where it stays."""
    step_sizes: tuple[Positive, Positive] = (1e-6, 50.0)
    """Least and largest step size."""

    @model_validator(mode="after")
    def _sizes_ascend(self) -> Self:
        least, largest = self.step_sizes
        if least > largest:
            message = "step_sizes = {value}: must be the least and the largest, in this order"
            raise PydanticCustomError("step_sizes", message, {"value": str(list(self.step_sizes))})
        if not least <= self.learning_rate <= largest:
            message = "learning_rate = {rate}, the first step size: must lie within step_sizes = {value}"
            context = {"rate": f"{self.learning_rate:g}", "value": str(list(self.step_sizes))}
            raise PydanticCustomError("step_sizes", message, context)
        return self


class Muon(OptimizerBase):
    """Muon on the hidden weights, kernels as matrices; AdamW on the first layer's weight, the head, biases and scales.

    Muon's step has the size of AdamW's (`match_rms_adamw`), so that learning rate and decay are those of both.
    """

    short, decoupled = "Muon", True

    name: Literal["muon"]
    momentum: Beta = 0.95
    """Momentum of Muon."""
    nesterov: Flag = True
    """Nesterov's correction of Muon."""
    betas: Betas = (0.9, 0.999)
    """Coefficients of AdamW."""
    weight_decay: NonNegative
    """wd in 1 - lr wd, on all parameters."""


class OwnOptimizer(Custom, OptimizerBase):
    """A `torch.optim.Optimizer` of the user's: a class or a function of the parameters and the learning rate."""

    given: ClassVar[tuple[str, ...]] = ("params", "lr")

    @property
    def short(self) -> str:  # type: ignore[override]
        """What labels call it."""
        return self.function.split(":")[1]

    @property
    def decay(self) -> float | None:
        """The parameter `weight_decay`; None where there is none."""
        value = self.parameters.get("weight_decay")
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def with_decay(self, value: float | None) -> Self:
        """Return it with another weight decay; None for its own."""
        if value is None:
            return self
        return self.model_copy(update={"parameters": {**self.parameters, "weight_decay": value}})

    def specification(self) -> dict[str, Any]:
        """Return the user's function, its file, the learning rate and all other arguments."""
        own = {"function": self.function, "file": self.file, "arguments": dict(self.parameters)}
        return {**own, "learning_rate": self.learning_rate, "weight_decay": self.decay or 0.0}


OPTIMIZERS: dict[str, type[OptimizerBase]] = {
    "sgd": Sgd,
    "sgdw": Sgdw,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "radam": RAdam,
    "adamax": Adamax,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "rprop": Rprop,
    "muon": Muon,
}
"""Every optimiser by its name."""

OptimizerEntry = named("Optimizer", kind("name", OPTIMIZERS, OwnOptimizer))
