"""Options of a training recipe: mixed samples, averaged weights, accumulated gradients, stochastic depth."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic_core import PydanticCustomError

from nclens.study.datasets import Table
from nclens.study.fields import Closed, Number
from nclens.study.losses import LOSSES

if TYPE_CHECKING:
    from nclens.study.experiments import Experiment

#: Outside it, shares in float32 are no longer those of the distribution.
Alpha = Annotated[Number, Field(ge=0.01, le=1000)]


class Mixup(Closed):
    """Each sample is mixed with another one of its batch, and so are their targets."""

    alpha: Alpha
    """The share of a batch's own samples is drawn from Beta(alpha, alpha); 1 is uniform."""


class Cutmix(Closed):
    """A rectangle of each image is another image's of its batch; targets are mixed by area."""

    alpha: Alpha
    """The share of the image that stays is drawn from Beta(alpha, alpha), before the rectangle is cut at the border."""


class Ema(Closed):
    """An exponential moving average of the weights, which is what is kept and measured."""

    decay: Annotated[Number, Field(ge=0, lt=1)]
    """Share of the average that stays in each step: it is over about 1 / (1 - decay) steps."""


#: A probability that is neither never nor always.
Rate = Annotated[Number, Field(gt=0, lt=1)]


#: Keys of `training` that are options of its recipe.
OPTIONS = ("mixup", "cutmix", "switch_probability", "ema", "accumulate", "stochastic_depth")


def recipe(training: Any) -> dict[str, Any] | None:
    """Return what a run's specification has of a training's options; None where none is set."""
    chosen = {
        "mixup": training.mixup and training.mixup.alpha,
        "cutmix": training.cutmix and training.cutmix.alpha,
        "ema": training.ema and training.ema.decay,
        "accumulate": None if training.accumulate == 1 else training.accumulate,
    }
    if training.mixup and training.cutmix:
        chosen["switch_probability"] = training.switch_probability or 0.5
    return chosen if any(value is not None for value in chosen.values()) else None


def fault_of(training: Any) -> str | None:
    """Return what options of a training contradict each other or its batches, or None."""
    mixing = [key for key in ("mixup", "cutmix") if getattr(training, key) is not None]
    if training.switch_probability is not None and len(mixing) < 2:
        return f"switch_probability = {training.switch_probability:g}: chooses between `mixup` and `cutmix`; set both"
    if mixing and training.batch_size < 2:
        return f"{mixing[0]}: mixes samples of one batch; batch_size must be at least 2, not {training.batch_size}"
    if training.accumulate is not None and training.batch_size % training.accumulate:
        return (
            f"accumulate = {training.accumulate}: must divide batch_size = {training.batch_size}, so that all parts "
            "have one size"
        )
    return None


def fault_of_devices(training: Any) -> str | None:
    """Return why the batches of a training cannot be shared among its devices, or None."""
    devices, parts = training.devices, training.accumulate or 1
    if training.sync_batchnorm and (devices == 1 or training.device == "cpu"):
        return (
            "sync_batchnorm = true: PyTorch has it on CUDA alone; it needs `device: cuda` or `auto`, and 2 `devices` "
            "or more"
        )
    if devices == 1:
        return None
    if training.batch_size % devices:
        return (
            f"devices = {devices}: must divide batch_size = {training.batch_size}, so that all devices have equal "
            f"parts of each batch; allowed: {_divisors(training.batch_size)}"
        )
    if training.batch_size % (devices * parts):
        return (
            f"devices = {devices} and accumulate = {parts}: their product must divide batch_size = "
            f"{training.batch_size}, so that all parts of a batch have one size"
        )
    if training.cuda_graph == "required":
        return "cuda_graph = required: a step of several devices is no replay of a CUDA graph; allowed: auto, never"
    return None


def _divisors(number: int) -> str:
    found = [divisor for divisor in range(1, min(number, 64) + 1) if number % divisor == 0]
    return ", ".join(map(str, found))


def check_recipe(where: str, experiment: "Experiment", loss: str, entry: Any, data: Any) -> None:
    """Refuse options that a loss or a data set of an experiment does not allow.

    Args:
        where: the experiment's place, for the message.
        experiment: its entry.
        loss: the name of one of its losses.
        entry: that loss's entry.
        data: the entry of its data set.
    """
    training, task = experiment.training, getattr(data, "task", "classification")
    if training.devices > 1 and getattr(entry, "remembers", False):
        message = (
            "{where}.training.devices = {devices}: losses.{loss} ({name}) remembers the samples of earlier steps, and "
            "each device sees a part of them; allowed: 1"
        )
        raise PydanticCustomError(
            "devices", message, {"where": where, "devices": training.devices, "loss": loss, "name": entry.name}
        )
    mixing = [key for key in ("mixup", "cutmix") if getattr(training, key) is not None]
    context = {"where": where, "key": mixing[0] if mixing else "", "dataset": experiment.dataset, "task": task}
    if mixing and task != "classification":
        message = "{where}.training.{key}: mixes targets of classes, and {dataset} is of {task}; leave it out"
        raise PydanticCustomError("mixing", message, context)
    if training.cutmix is not None and isinstance(data, Table):
        message = "{where}.training.cutmix: needs images, and {dataset} has rows; allowed: mixup"
        raise PydanticCustomError("mixing", message, context)
    if mixing and not entry.mixes:
        context |= {"loss": loss, "name": getattr(entry, "name", None) or entry.function}
        allowed = ", ".join(known for known, one in LOSSES.items() if one.mixes and one.task in (None, task))
        message = (
            "{where}.training.{key}: losses.{loss} ({name}) has no definition for mixed targets; allowed: {allowed}, "
            "and a function of yours with `linear_in_targets: true`"
        )
        raise PydanticCustomError("mixing", message, context | {"allowed": allowed})


def check_depth(where: str, experiment: "Experiment", models: Mapping[str, Any]) -> None:
    """Refuse stochastic depth for models that do not take it.

    Whether a network of timm takes it is known when it is built.
    """
    if experiment.training.stochastic_depth is None:
        return
    for model in experiment.models:
        entry = models[model]
        context = {"where": where, "model": model, "name": getattr(entry, "name", None) or entry.function}
        if "drop_path_rate" in getattr(entry, "parameters", {}):
            message = "{where}.training.stochastic_depth: models.{model}.parameters has `drop_path_rate`; set only one"
            raise PydanticCustomError("depth", message, context)
        if not entry.skips_blocks:
            message = (
                "{where}.training.stochastic_depth: models.{model} ({name}) has none; allowed: a model of "
                "`name: timm`, or a function of yours with a parameter `drop_path_rate`"
            )
            raise PydanticCustomError("depth", message, context)
