"""The learning rate of every step: against PyTorch's schedulers, and by hand."""

import pytest
import torch
from torch.optim import lr_scheduler

from nclens.training.learning_rate import LrSchedule, learning_rates

EPOCHS, STEPS = 7, 5


def of_pytorch(scheduler, each, rate=0.3):
    """The rates of a scheduler that is stepped once a step, or once an epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    made, found = scheduler(optimizer), []
    for step in range(EPOCHS * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if each == "step" or step % STEPS == STEPS - 1:
            made.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "scheduler", "each"),
    [
        (LrSchedule(), lambda made: lr_scheduler.ConstantLR(made, 1.0), "step"),
        (
            LrSchedule("step", milestones=(2, 5), factor=0.2),
            lambda made: lr_scheduler.MultiStepLR(made, [2, 5], 0.2),
            "epoch",
        ),
        (LrSchedule("cosine"), lambda made: lr_scheduler.CosineAnnealingLR(made, EPOCHS), "epoch"),
        (LrSchedule("cosine", end=0.1), lambda made: lr_scheduler.CosineAnnealingLR(made, EPOCHS, 0.03), "epoch"),
        (
            LrSchedule("one_cycle", end=4e-6),
            lambda made: lr_scheduler.OneCycleLR(made, 0.3, EPOCHS * STEPS, cycle_momentum=False),
            "step",
        ),
        (
            LrSchedule("function", function=lambda epoch, epochs: 1 - epoch / epochs),
            lambda made: lr_scheduler.LambdaLR(made, lambda epoch: 1 - epoch / EPOCHS),
            "epoch",
        ),
    ],
    ids=["constant", "step", "cosine", "cosine to a share", "one_cycle", "function"],
)
def test_schedules_are_those_of_pytorch(schedule, scheduler, each):
    assert learning_rates(0.3, schedule, EPOCHS, STEPS) == pytest.approx(of_pytorch(scheduler, each), rel=1e-12)


def test_steps_have_the_bits_of_the_power():
    found = learning_rates(0.05, LrSchedule("step", milestones=(1, 2), factor=0.1), 3, 1)
    assert found == [0.05, 0.05 * 0.1**1, 0.05 * 0.1**2]


def test_the_warm_up_is_linear_over_its_steps_and_the_cosine_begins_behind_it():
    found = learning_rates(1.0, LrSchedule("cosine", warmup_epochs=2), 6, 3)
    assert found[:6] == pytest.approx([step / 6 for step in range(1, 7)])
    assert found[6:9] == [1.0] * 3
    assert found[12:15] == pytest.approx([0.5] * 3)
    stepped = learning_rates(1.0, LrSchedule("step", warmup_epochs=2, milestones=(1,), factor=0.5), 3, 1)
    assert stepped == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("schedule", "varying"),
    [
        (LrSchedule("step", milestones=(1,)), []),
        (LrSchedule("cosine", warmup_epochs=2), [1, 2]),
        (LrSchedule("one_cycle"), [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_where_the_rate_changes_from_step_to_step(schedule, varying):
    assert [epoch for epoch in range(1, EPOCHS + 1) if schedule.varies_in(epoch)] == varying
    for epoch in set(range(1, EPOCHS + 1)) - set(varying):
        assert len(set(schedule.factors(epoch, EPOCHS, STEPS))) == 1


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf"), "a half", True, None])
def test_a_function_must_return_a_factor(factor):
    with pytest.raises(ValueError, match="finite number of at least 0, not"):
        learning_rates(1.0, LrSchedule("function", function=lambda epoch, epochs: factor), 1, 1)
