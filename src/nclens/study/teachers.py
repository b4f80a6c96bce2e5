"""Which networks may teach which."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from nclens.study.experiments import Experiment
from nclens.study.imported import Imported
from nclens.study.losses import Distillation


def check_teachers(
    losses: Mapping[str, Any], experiments: Mapping[str, Experiment | Imported], task: Callable[[str], str]
) -> None:
    """Refuse teachers that the study does not train, and students that they cannot teach.

    Args:
        losses: the study's loss entries.
        experiments: the study's experiments, whose own entries are checked.
        task: of an experiment, `classification` or `regression`.
    """
    distilled = {name: entry for name, entry in losses.items() if isinstance(entry, Distillation)}
    for name, entry in distilled.items():
        _can_teach(f"losses.{name}.teacher", entry, losses, experiments, task)
    for name, experiment in experiments.items():
        for loss in experiment.own:
            if loss in distilled:
                _fits(name, loss, experiment, distilled[loss].teacher.experiment, experiments)


def _can_teach(
    where: str,
    entry: Distillation,
    losses: Mapping[str, Any],
    experiments: Mapping[str, Experiment | Imported],
    task: Callable[[str], str],
) -> None:
    """Refuse a teacher that is not trained, no classifier, or a student itself."""
    experiment, loss = entry.teacher.experiment, entry.teacher.loss
    context = {"where": where, "experiment": experiment, "loss": loss}
    if experiment not in experiments:
        raise PydanticCustomError(
            "teacher",
            "{where}.experiment = {experiment}: no such entry in `experiments`; it has: {known}",
            {**context, "known": ", ".join(experiments)},
        )
    if task(experiment) != "classification":
        raise PydanticCustomError(
            "teacher",
            "{where}.experiment = {experiment}: its task is {task}; a teacher must be a classifier",
            {**context, "task": task(experiment)},
        )
    teaching = experiments[experiment]
    if isinstance(teaching, Imported) and teaching.is_recorded:
        raise PydanticCustomError(
            "teacher",
            "{where}.experiment = {experiment}: has recorded features and no network; a teacher must be a network",
            context,
        )
    trained = teaching.own
    if loss not in trained:
        raise PydanticCustomError(
            "teacher",
            "{where}.loss = {loss}: experiments.{experiment} does not train it; it trains: {known}",
            {**context, "known": ", ".join(trained)},
        )
    if isinstance(losses[loss], Distillation):
        plain = [other for other in trained if not isinstance(losses[other], Distillation)]
        raise PydanticCustomError(
            "teacher",
            "{where}.loss = {loss}: is distilled itself, and a student cannot be a teacher; allowed of "
            "experiments.{experiment}: {known}",
            {**context, "known": ", ".join(plain) or "none"},
        )


def _fits(
    name: str,
    loss: str,
    experiment: Experiment | Imported,
    teachers: str,
    experiments: Mapping[str, Experiment | Imported],
) -> None:
    """Refuse a student whose teacher saw other data or lacks one of its seeds."""
    teaching = experiments[teachers]
    context = {"where": f"experiments.{name}", "loss": loss, "teachers": teachers}
    if teaching.dataset != experiment.dataset:
        raise PydanticCustomError(
            "teacher",
            "{where}.losses = {loss}: its teacher, of experiments.{teachers}, is trained on {other}, and {where} on "
            "{dataset}; allowed: a teacher of the same data set, which knows the same images and classes",
            {**context, "other": teaching.dataset, "dataset": experiment.dataset},
        )
    if missing := [seed for seed in experiment.seeds if seed not in teaching.seeds]:
        raise PydanticCustomError(
            "teacher",
            "{where}.losses = {loss}: a student of seed s learns from its teacher's run of seed s, and "
            "experiments.{teachers} does not train seed {missing}; allowed: {known}",
            {**context, "missing": ", ".join(map(str, missing)), "known": ", ".join(map(str, teaching.seeds))},
        )
