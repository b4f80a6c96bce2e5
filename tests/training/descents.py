"""Settings of training in short, and trainings to their end, for the tests."""

import torch

from nclens.training.learning_rate import LrSchedule
from nclens.training.loop import Settings
from nclens.training.optimizer import Optimizer


def sgd(learning_rate=0.1, weight_decay=5e-4, momentum=0.9, **arguments):
    """SGD with momentum 0.9."""
    return Optimizer("sgd", learning_rate, weight_decay, {"momentum": momentum, **arguments})


def in_steps(*milestones, factor=0.1, **others):
    """A schedule of steps."""
    return LrSchedule("step", milestones=milestones, factor=factor, **others)


def sgd_settings(epochs, batch_size, learning_rate=0.1, weight_decay=5e-4, momentum=0.9, milestones=(), **others):
    """Settings with SGD and a schedule of steps."""
    optimizer = others.pop("optimizer", sgd(learning_rate, weight_decay, momentum))
    schedule = others.pop("lr_schedule", in_steps(*milestones))
    return Settings(epochs, batch_size, optimizer, schedule, **others)


def finish(trained):
    """The trainer at its last epoch."""
    while trained.epoch < trained.settings.epochs:
        trained.advance()
    return trained


def weights(trained):
    """Everything that a trainer's network has learnt, as one vector."""
    return torch.cat([value.flatten().double() for value in trained.network.state_dict().values()])


def interrupted(make, stops):
    """A trainer of `make()` at its last epoch, taken up by a new one after each of these numbers of steps."""
    current = make()
    for steps in stops:
        left = iter(range(steps - 1))
        while current.advance(lambda left=left: next(left, None) is None):
            pass
        tensors, values = current.state()
        # As a file gives them back: in the plain memory format.
        saved = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        torch.rand(7)  # whatever else happens to the global generator
        current = make()
        current.resume(saved, values)
    return finish(current)
