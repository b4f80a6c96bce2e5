"""From a study's optimiser and schedule to the training's: every entry, and the user's own."""

from pathlib import Path

import pytest

from nclens.study import load_study, read_study
from nclens.study.optimizers import OPTIMIZERS
from nclens.training.learning_rate import learning_rates
from nclens.training.optimizer import ByPyTorch, descent
from nclens.workflow import specs
from nclens.workflow.build.lr_schedules import build_lr_schedule
from nclens.workflow.build.models import build_network
from nclens.workflow.build.optimizers import build_optimizer

ROOT = Path(__file__).parents[3]
OWN = """
import torch


class Signed(torch.optim.SGD):
    pass


def halves(epoch, epochs, base=2.0):
    return base**-epoch


def fails(params, lr):
    raise RuntimeError("no")
"""


@pytest.fixture
def chosen(raw_study, tmp_path):
    """What a run is trained with, given the optimiser and the schedule of its experiment."""
    (tmp_path / "mine.py").write_text(OWN)

    def made(optimizer, schedule):
        raw_study["experiments"]["smoke"]["training"] |= {"optimizer": optimizer, "lr_schedule": schedule}
        study = load_study(raw_study, [tmp_path])
        return specs.train(study, next(study.runs())).training

    return made


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_named_optimiser_is_built_as_it_is_written(name, chosen):
    decayed = {"weight_decay": 0.1} if OPTIMIZERS[name].decoupled else {}
    training = chosen({"name": name, "learning_rate": 0.01, **decayed}, {"kind": "constant"})
    built = build_optimizer(training.optimizer)
    assert (built.name, built.learning_rate, built.weight_decay) == (name, 0.01, training.optimizer.weight_decay)
    descent(built, build_network({"name": "mlp", "widths": [5, 4]}, (3,), 2))


@pytest.mark.parametrize(
    ("entry", "rates"),
    [
        ({"kind": "constant", "warmup_epochs": 1}, [0.5, 1, 1, 1]),
        ({"kind": "step", "milestones": [1], "factor": 0.5}, [1, 1, 0.5, 0.5]),
        ({"kind": "cosine", "end": 0.2}, [1, 1, 0.6, 0.6]),
        ({"kind": "one_cycle", "rise": 0.5, "start": 0.1, "end": 0.2}, [0.1, 1, 0.6, 0.2]),
        ({"function": "mine:halves", "parameters": {"base": 4.0}}, [1, 1, 0.25, 0.25]),
    ],
)
def test_every_schedule_is_built_as_it_is_written(entry, rates, chosen):
    training = chosen({"name": "sgd"}, entry)
    assert learning_rates(1.0, build_lr_schedule(training.lr_schedule), 2, 2) == pytest.approx(rates)


def test_a_users_optimiser_gets_parameters_rate_and_its_own(chosen):
    entry = {"function": "mine:Signed", "learning_rate": 0.3, "parameters": {"weight_decay": 0.2, "momentum": 0.5}}
    network = build_network({"name": "mlp", "widths": [5, 4]}, (3,), 2)
    # The class is PyTorch's, whose `__init__` is not in the file: its parameters are not checked before.
    made = descent(build_optimizer(chosen(entry, {"kind": "constant"}).optimizer), network)
    assert isinstance(made, ByPyTorch)
    (group,) = made._groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.3, 0.2, 0.5)
    failing = chosen({"function": "mine:fails", "learning_rate": 0.3}, {"kind": "constant"})
    with pytest.raises(ValueError, match=r"mine:fails .*failed: RuntimeError: no"):
        descent(build_optimizer(failing.optimizer), network)


ENDS = {"0.6": 0.6, "0.1": 0.1, "0.01": 0.01}


@pytest.mark.parametrize(("name", "steps"), [("optimisers", 15), ("optimisers_fashion", 468)])
def test_the_decays_of_the_studies_come_from_the_law_of_nc0(name, steps):
    """Their names say at which share of its start NC0 ends, under SGD and SGDW whatever the data."""
    study = load_study(read_study(ROOT / "studies" / f"{name}.yaml"), [ROOT / "studies"])
    entry = study.trained("optimisers")
    for loss in entry.losses:
        optimizer, (_, kind, *end) = study.optimizer(entry, loss), loss.split("_")
        if kind not in ("sgd", "sgdw"):
            continue
        schedule = build_lr_schedule(specs.train(study, next(study.runs())).training.lr_schedule)
        total, velocity = 1.0, 0.0
        for rate in learning_rates(optimizer.learning_rate, schedule, entry.epochs, steps):
            if kind == "sgdw":
                total *= 1 - rate * optimizer.decay
            else:
                velocity = optimizer.momentum * velocity + optimizer.decay * total
                total = total - rate * velocity
        assert total**2 == pytest.approx(ENDS[end[0]], rel=0.07), loss
