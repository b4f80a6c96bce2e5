"""Settings of training in short, for the tests."""

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
