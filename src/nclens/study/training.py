"""How the runs of an experiment are trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Count, Flag, Integer, NonNegative, Number, Positive


class Training(Closed):
    """How every run of an experiment is trained: stochastic gradient descent with a step schedule."""

    epochs: Annotated[Integer, Field(ge=1, le=1_000_000)]
    """Passes over the training split."""
    batch_size: Annotated[Integer, Field(ge=1, le=1_000_000)]
    """Images a step; the last partial batch of an epoch is dropped."""
    learning_rate: Positive = 0.05
    """Initial step size."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD, without Nesterov's correction."""
    weight_decay: NonNegative = 5e-4
    """L2 coefficient on all parameters, biases and batch normalisation included."""
    milestones: tuple[Count, ...] = Field(default=(), max_length=1000)
    """Epochs after which the learning rate is multiplied by `decay`."""
    decay: Annotated[Number, Field(gt=0, le=1)] = 0.1
    """Factor of the learning rate at each milestone."""
    ufm_regularised: Flag = False
    """Train with the penalties of `theory` on head and features; needs weight_decay 0."""
    augmentation: Literal["none", "flip_crop"] = "none"
    """`none`, or `flip_crop`: random horizontal flip and random crop after 4 pixels of zero padding."""
    record_every: Count = 1
    """Epochs between two rows of the history, for which the test split is evaluated; the first and the last have rows
    always. More than 1 saves time where an epoch takes milliseconds."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """`cpu`, `cuda`, or `auto`: CUDA where there is one."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """`float32`; `tf32`: products in TensorFloat-32, CUDA only; `bf16`: autocast. Features are measured in float32."""
    compile: Flag = False
    """Run training steps through torch.compile; on a CPU it needs a C++ compiler."""
    deterministic: Flag = False
    """Only operations with the same bits every time, on CUDA too; slower there. A CPU gives the same bits anyway."""

    cuda_graph: Literal["auto", "required", "never"] = "auto"
    """Take steps on a GPU by one launch each, as replays of a CUDA graph: `auto` where the loss and the model allow it,
    `required` or an error, `never`."""

    @model_validator(mode="after")
    def _penalties_are_explicit(self) -> Self:
        if self.ufm_regularised and self.weight_decay > 0:
            message = "weight_decay = {value} must be 0 with ufm_regularised: the penalties take its place"
            raise PydanticCustomError("penalties", message, {"value": self.weight_decay})
        return self

    @model_validator(mode="after")
    def _device_has_the_precision(self) -> Self:
        if self.precision == "tf32" and self.device == "cpu":
            message = "precision = tf32 needs device: cuda or auto; a CPU has float32 and bf16"
            raise PydanticCustomError("precision", message)
        return self

    @model_validator(mode="after")
    def _milestones_ascend(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)) or any(m >= self.epochs for m in self.milestones):
            raise PydanticCustomError(
                "milestones",
                "milestones {value} must ascend and lie below epochs = {epochs}",
                {"value": str(list(self.milestones)), "epochs": self.epochs},
            )
        return self
