"""From a run's optimiser to what the training loop takes."""

import torch
from torch import nn

from nclens.training.optimizer import Optimizer
from nclens.workflow.build.functions import call
from nclens.workflow.specs import Optimizer as ChosenOptimizer


def build_optimizer(entry: ChosenOptimizer) -> Optimizer:
    """Return the optimiser of an entry; the user's own gets the list of parameters and the learning rate.

    Raises:
        ValueError: when it is used, the user's function fails.
    """
    if entry.function is None:
        return Optimizer(str(entry.name), entry.learning_rate, entry.weight_decay, entry.arguments)
    file, function = str(entry.file), entry.function

    def make(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = call(file, function, parameters, rate, **entry.arguments)
        return made

    return Optimizer(function, entry.learning_rate, entry.weight_decay, function=make)
