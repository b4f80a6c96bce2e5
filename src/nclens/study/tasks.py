"""What goes with the task of an experiment, which is that of its data set."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from nclens.figures.catalogue import FIGURES
from nclens.study.experiments import Experiment
from nclens.study.imported import Imported
from nclens.study.models import Transformer

#: Task of a data set -> the task whose losses, measures, claims and figures its networks have, where that is another:
#: the tokens of sequences are classified.
MEASURED_AS = {"sequences": "classification"}


def check_task(
    name: str,
    experiment: Experiment | Imported,
    task: str,
    losses: Mapping[str, Any],
    models: Mapping[str, Any],
    unfit_probes: Collection[str] = (),
) -> None:
    """Refuse losses, models, figures, weight decays and augmentations that do not go with an experiment and its task.

    Args:
        name: of the experiment.
        experiment: its entry.
        task: of its data set, `classification`, `regression` or `sequences`.
        losses: the study's loss entries.
        models: its model entries.
        unfit_probes: the names of the probes that networks of this task cannot have.
    """
    context: dict[str, Any] = {"name": name, "task": task, "dataset": experiment.dataset}
    if task == "segmentation":
        message = (
            "experiments.{name}.dataset = {dataset}: has masks, which a probe of kind `segmentation` is trained on; "
            "allowed: a data set of classification or regression"
        )
        raise PydanticCustomError("task", message, context)
    _check_models(experiment, task, models, context)
    task = MEASURED_AS.get(task, task)
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
    if context["task"] != "classification" and training is not None and training.augmentation != "none":
        context["value"] = training.augmentation
        message = (
            "experiments.{name}.training.augmentation = {value}: must be none for {task}, the task of {dataset}: "
            "the targets are those of the sample as it is"
        )
        raise PydanticCustomError("augmentation", message, context)
    if probes := [probe for probe in experiment.probes if probe in unfit_probes]:
        message = "experiments.{name}.probes = {probes}: do not go with {task}, the task of {dataset}"
        raise PydanticCustomError("probes", message, {**context, "probes": ", ".join(probes)})
    for figure in experiment.figures or ():
        if figure in FIGURES and FIGURES[figure].task != task:
            message = "experiments.{name}.figures = {figure}: does not go with {task}; allowed: {allowed}"
            context["allowed"] = ", ".join(stem for stem, known in FIGURES.items() if known.task == task)
            raise PydanticCustomError("figures", message, {**context, "figure": figure})


def _check_models(
    experiment: Experiment | Imported, task: str, models: Mapping[str, Any], context: Mapping[str, Any]
) -> None:
    """Refuse a Transformer of other data than sequences, and another model of sequences."""
    if task == "sequences" and isinstance(experiment, Imported):
        message = "experiments.{name}: imported networks are of images or rows, and {dataset} has sequences"
        raise PydanticCustomError("imported", message, dict(context))
    fitting = [other for other, entry in models.items() if isinstance(entry, Transformer) == (task == "sequences")]
    for model in experiment.models:
        if model not in fitting:
            message = "experiments.{name}.model = {model}: {dataset} has {what}; allowed: {allowed}"
            what = (
                "sequences, for a `transformer`" if task == "sequences" else "no sequences, which a transformer needs"
            )
            allowed = ", ".join(fitting) or "an entry of `models` of another `name`"
            raise PydanticCustomError("model", message, {**context, "model": model, "what": what, "allowed": allowed})
