"""How the runs of an experiment are trained."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Count, Flag, Integer, Positive
from nclens.study.learning_rates import ConstantRate, LrScheduleEntry
from nclens.study.optimizers import OptimizerEntry, Sgd
from nclens.study.recipes import Cutmix, Ema, Mixup, Rate, fault_of, fault_of_devices

#: Keys of earlier versions, and where their values are now.
MOVED = {
    "learning_rate": "optimizer.learning_rate",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "milestones": "lr_schedule.milestones",
    "decay": "lr_schedule.factor",
}


class Training(Closed):
    """How every run of an experiment is trained."""

    epochs: Annotated[Integer, Field(ge=1, le=1_000_000)]
    """Passes over the training split."""
    batch_size: Annotated[Integer, Field(ge=1, le=1_000_000)]
    """Images a step; the last partial batch of an epoch is dropped."""
    optimizer: OptimizerEntry = Sgd()
    """What takes the steps, with its learning rate and weight decay; by default SGD with momentum 0.9."""
    lr_schedule: LrScheduleEntry = ConstantRate()
    """What the learning rate is multiplied by over the epochs; by default it is constant."""
    clip_gradient_norm: Positive | None = None
    """Largest 2-norm of the gradient of all parameters together; a longer one is scaled down to it. By default none."""
    ufm_regularised: Flag = False
    """Train with the penalties of `theory` on head and features; needs a weight decay of 0."""
    augmentation: Literal["none", "flip_crop"] = "none"
    """`none`, or `flip_crop`: random horizontal flip and random crop after 4 pixels of zero padding."""
    mixup: Mixup | None = None
    """Mix pairs of a batch's samples, and their targets. Beside `cutmix` one of the two is chosen for each batch."""
    cutmix: Cutmix | None = None
    """Cut a rectangle out of each image of a batch and fill it from another one; targets are mixed by area."""
    switch_probability: Rate | None = None
    """Probability of `cutmix` for a batch where `mixup` is set too; null is 0.5."""
    ema: Ema | None = None
    """Keep, evaluate and measure an exponential moving average of the weights, not the weights themselves."""
    accumulate: Count | None = None
    """Parts of a batch whose gradients are summed before a step, so that one part at a time is in memory; divides
    `batch_size`. Null is 1, the whole batch at once."""
    stochastic_depth: Rate | None = None
    """Rate at which a sample skips the last residual block in training, rising linearly from 0 at the first block:
    `drop_path_rate` of a model of timm, or of a function of yours."""
    record_every: Count = 1
    """Epochs between two rows of the history, for which the test split is evaluated; the first and the last have rows
    always. More than 1 saves time where an epoch takes milliseconds."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """`cpu`, `cuda`, or `auto`: CUDA where there is one."""
    devices: Annotated[Integer, Field(ge=1, le=4096)] = 1
    """Devices that train one run together, a process each; each takes an equal part of every batch. On a CPU they are
    processes with a core each."""
    sync_batchnorm: Flag = False
    """Normalise by the batch of all `devices`, not each by its part of it (SyncBatchNorm); CUDA only."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """`float32`; `tf32`: products in TensorFloat-32, CUDA only; `bf16`: autocast. Features are measured in float32."""
    compile: Flag = False
    """Run training steps through torch.compile; on a CPU it needs a C++ compiler."""
    deterministic: Flag = False
    """Only operations with the same bits every time, on CUDA too; slower there. A CPU gives the same bits anyway."""

    cuda_graph: Literal["auto", "required", "never"] = "auto"
    """Take steps on a GPU by one launch each, as replays of a CUDA graph: `auto` where the loss and the model allow it,
    `required` or an error, `never`."""

    @property
    def mixes(self) -> bool:
        """Whether samples and their targets are mixed."""
        return self.mixup is not None or self.cutmix is not None

    @model_validator(mode="before")
    @classmethod
    def _name_moved_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and (moved := [key for key in MOVED if key in data]):
            said = ", ".join(f"`{key}` is now `{MOVED[key]}`" for key in moved)
            context = {
                "said": said,
                "optimizer": "optimizer: {name: sgd, learning_rate: ..., momentum: ..., weight_decay: ...}",
                "schedule": "lr_schedule: {kind: step, milestones: [...], factor: ...}",
            }
            raise PydanticCustomError("moved", "{said}; write {optimizer} and {schedule}", context)
        return data

    @model_validator(mode="after")
    def _penalties_are_explicit(self) -> Self:
        if self.ufm_regularised and self.optimizer.decay:
            message = "optimizer.weight_decay = {value} must be 0 with ufm_regularised: the penalties take its place"
            raise PydanticCustomError("penalties", message, {"value": self.optimizer.decay})
        return self

    @model_validator(mode="after")
    def _device_has_the_precision(self) -> Self:
        if self.precision == "tf32" and self.device == "cpu":
            message = "precision = tf32 needs device: cuda or auto; a CPU has float32 and bf16"
            raise PydanticCustomError("precision", message)
        return self

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if fault := fault_of(self) or fault_of_devices(self):
            raise PydanticCustomError("recipe", "{fault}", {"fault": fault})
        return self

    @model_validator(mode="after")
    def _schedule_fits_the_epochs(self) -> Self:
        if fault := self.lr_schedule.fault(self.epochs):
            raise PydanticCustomError("lr_schedule", "lr_schedule.{fault}", {"fault": fault})
        return self
