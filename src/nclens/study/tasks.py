"""What goes with the task of an experiment, which is that of its data set."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from nclens.figures.catalogue import FIGURES
from nclens.study.experiments import Experiment
from nclens.study.imported import Imported


def check_task(
    name: str,
    experiment: Experiment | Imported,
    task: str,
    losses: Mapping[str, Any],
    unfit_probes: Collection[str] = (),
) -> None:
    """Refuse losses, figures, weight decays and augmentations that do not go with an experiment and its task.

    Args:
        name: of the experiment.
        experiment: its entry.
        task: `classification` or `regression`.
        losses: the study's loss entries.
        unfit_probes: the names of the probes that networks of this task cannot have.
    """
    context: dict[str, Any] = {"name": name, "task": task, "dataset": experiment.dataset}
    if task == "segmentation":
        message = (
            "experiments.{name}.dataset = {dataset}: has masks, which a probe of kind `segmentation` is trained on; "
            "allowed: a data set of classification or regression"
        )
        raise PydanticCustomError("task", message, context)
    for loss in experiment.losses:
        entry = losses[loss]
        if entry.task not in (None, task):
            fitting = [other for other, known in losses.items() if known.task in (None, task)]
            context["fitting"] = f"allowed: {', '.join(fitting)}" if fitting else "no entry of `losses` is"
            message = "experiments.{name}.losses = {loss}: is not for {task}, the task of {dataset}; {fitting}"
            raise PydanticCustomError("task", message, {**context, "loss": loss})
        decay, place = entry.weight_decay, "weight_decay"
        if entry.optimizer is not None:
            decay, place = entry.optimizer.decay, "optimizer.weight_decay"
        if experiment.ufm_regularised and decay:
            message = (
                "losses.{loss}.{place} = {value}: must be 0 in experiments.{name}, which is ufm_regularised: the "
                "penalties take its place"
            )
            raise PydanticCustomError("penalties", message, {**context, "loss": loss, "place": place, "value": decay})
    training = experiment.training if isinstance(experiment, Experiment) else None
    if task == "regression" and training is not None and training.augmentation != "none":
        context["value"] = training.augmentation
        message = (
            "experiments.{name}.training.augmentation = {value}: must be none for regression, the task of {dataset}: "
            "the targets are those of the sample as it is"
        )
        raise PydanticCustomError("augmentation", message, context)
    if probes := [probe for probe in experiment.probes if probe in unfit_probes]:
        message = "experiments.{name}.probes = {probes}: probes need classifiers, and the task of {dataset} is {task}"
        raise PydanticCustomError("probes", message, {**context, "probes": ", ".join(probes)})
    for figure in experiment.figures or ():
        if figure in FIGURES and FIGURES[figure].task != task:
            message = "experiments.{name}.figures = {figure}: does not go with {task}; allowed: {allowed}"
            context["allowed"] = ", ".join(stem for stem, known in FIGURES.items() if known.task == task)
            raise PydanticCustomError("figures", message, {**context, "figure": figure})
