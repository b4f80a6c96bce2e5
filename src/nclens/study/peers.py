"""Which losses of an experiment are minimised alike, and which differ in the optimiser alone."""

import json
import math
from typing import TYPE_CHECKING

from nclens.study.experiments import Experiment

if TYPE_CHECKING:
    from nclens.study.study import Study


def optimizers(study: "Study", experiment: str) -> dict[str, str]:
    """Return what minimises each loss of an experiment, as text; empty where all have the experiment's optimiser.

    A weight decay that a loss entry has for itself is a part of the loss.
    """
    entry = study.experiments[experiment]
    if not isinstance(entry, Experiment):
        return {}
    found = {}
    for loss in entry.losses:
        own = study.losses[loss].optimizer or entry.training.optimizer
        parts = [own.specification(), study.lr_schedule(entry, loss).specification()]
        elsewhere = study.reused(experiment)[loss].minimised if loss in study.reused(experiment) else None
        found[loss] = elsewhere or json.dumps(parts, sort_keys=True)
    return found if len(set(found.values())) > 1 else {}


def peers(study: "Study", experiment: str) -> dict[str, tuple[str, ...]]:
    """Return for each loss that SGD does not minimise those that differ from it in the optimiser alone, which is SGD.

    Of these the ones whose effective decay is equal to 1%. For an optimiser without one, those of equal weight decay,
    and where there are none, all. What minimised a loss of another study by functions of that study's own is not known.
    """
    entry = study.experiments[experiment]
    if not isinstance(entry, Experiment) or not optimizers(study, experiment):
        return {}
    used = {loss: study.optimizer(entry, loss) for loss in entry.losses}
    alike = {}
    for loss in entry.losses:
        parts = [study.losses[loss].specification(), study.lr_schedule(entry, loss).specification()]
        alike[loss] = json.dumps([*parts, entry.model_of(loss)])
    reused = study.reused(experiment)
    known = [loss for loss in entry.losses if loss not in reused or reused[loss].minimised is None]
    sgd = [loss for loss in known if getattr(used[loss], "name", "") == "sgd"]
    found = {}
    for loss in (loss for loss in known if loss not in sgd):
        others = [other for other in sgd if alike[other] == alike[loss]]
        rate, decay = used[loss].shrinkage, used[loss].decay
        if rate is not None:
            equal = [other for other in others if math.isclose(used[other].shrinkage or 0.0, rate, rel_tol=0.01)]
        else:
            equal = [other for other in others if used[other].decay == decay] or others
        if equal:
            found[loss] = tuple(equal)
    return found
