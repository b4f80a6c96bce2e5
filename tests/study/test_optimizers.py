"""Optimisers and schedules of a study: what a loss overrides, how it is called, and what it is compared with."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.study.optimizers import OPTIMIZERS, Sgd
from nclens.study.peers import optimizers, peers
from nclens.ufm.nc0 import nc0_law
from nclens.workflow import specs
from nclens.workflow.plan import _used

SGD = {"name": "sgd", "learning_rate": 0.1, "weight_decay": 1e-3}
OWN = """
import torch


class Signed(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})


def halves(epoch, epochs, base=2.0):
    return base ** -(epoch // 2)
"""


def smoke(raw, losses, optimizer=SGD, **training):
    """The smoke study with other losses, each a cross entropy or label smoothing and how it is minimised."""
    raw["losses"] = losses
    raw["experiments"]["smoke"] |= {"losses": list(losses), "seeds": [0]}
    raw["experiments"]["smoke"]["training"] |= {"optimizer": optimizer, **training}
    return load_study(raw)


def trained(study):
    return {run.loss: specs.train(study, run).training for run in study.runs()}


def test_a_loss_overrides_optimiser_and_schedule_as_a_whole_and_its_decay_alone(raw_study):
    study = smoke(
        raw_study,
        {
            "ce": {"name": "ce"},
            "decayed": {"name": "ce", "weight_decay": 0.5},
            "adamw": {
                "name": "ce",
                "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1},
                "lr_schedule": {"kind": "cosine", "warmup_epochs": 1},
            },
        },
    )
    found = trained(study)
    assert [found[loss].optimizer.weight_decay for loss in found] == [1e-3, 0.5, 0.1]
    assert found["ce"].optimizer == specs.Optimizer(0.1, 1e-3, {"momentum": 0.9, "nesterov": False}, "sgd")
    assert found["adamw"].optimizer == specs.Optimizer(
        1e-3, 0.1, {"betas": [0.9, 0.999], "eps": 1e-8, "amsgrad": False}, "adamw"
    )
    assert found["adamw"].lr_schedule == specs.LrSchedule("cosine", 1, {"end": 0.0})
    assert found["ce"].lr_schedule == specs.LrSchedule("step", 0, {"milestones": [3], "factor": 0.1})
    assert [study.weight_decay("smoke", loss) for loss in found] == [1e-3, 0.5, 0.1]
    assert [study.label(loss) for loss in found] == [
        *("CE", "CE, weight decay 0.5"),
        "CE, AdamW (lr 0.001, wd 0.1), cosine",
    ]


def test_of_an_optimiser_without_decay_a_loss_cannot_choose_one(raw_study):
    losses = {"ce": {"name": "ce", "weight_decay": 0.1}}
    with pytest.raises(
        ConfigError, match=r"losses.ce.weight_decay = 0.1: the optimiser of experiments.smoke \(Rprop\)"
    ):
        smoke(raw_study, losses, {"name": "rprop", "learning_rate": 0.1})


def test_the_penalties_allow_no_decay_of_any_optimiser(raw_study):
    adamw = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.1}
    losses = {"ce": {"name": "ce", "optimizer": adamw}}
    with pytest.raises(ConfigError, match=r"losses.ce.optimizer.weight_decay = 0.1: must be 0 in experiments.smoke"):
        smoke(raw_study, losses, SGD | {"weight_decay": 0}, ufm_regularised=True)
    with pytest.raises(ConfigError, match=r"optimizer.weight_decay = 0.1 must be 0 with ufm_regularised"):
        smoke(raw_study, {"ce": {"name": "ce"}}, adamw, ufm_regularised=True)


def test_an_optimiser_and_a_schedule_of_the_users_count_as_code_of_training(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    raw_study["losses"] = {"ce": {"name": "ce"}}
    raw_study["experiments"]["smoke"] |= {"losses": ["ce"]}
    training = raw_study["experiments"]["smoke"]["training"]
    training["optimizer"] = {"function": "mine:Signed", "learning_rate": 0.1, "parameters": {"weight_decay": 0.2}}
    training["lr_schedule"] = {"function": "mine:halves", "parameters": {"base": 3.0}, "warmup_epochs": 2}
    study = load_study(raw_study, [tmp_path])
    (spec, *_) = trained(study).values()
    assert (spec.optimizer.function, spec.optimizer.weight_decay) == ("mine:Signed", 0.2)
    assert spec.optimizer.file.endswith("mine.py")
    assert (spec.lr_schedule.kind, spec.lr_schedule.arguments) == ("function", {"base": 3.0})
    entry = study.trained("smoke")
    own = _used([(study.optimizer(entry, "ce"), ""), (study.lr_schedule(entry, "ce"), "")])["own"]
    assert [function for _, function in own] == ["mine:Signed", "mine:halves"]
    assert load_study(study.resolved(), [tmp_path]).resolved() == study.resolved()
    training["optimizer"]["parameters"] = {"wd": 0.1}
    with pytest.raises(ConfigError, match=r"has no parameter `wd`.*allowed: weight_decay"):
        load_study(raw_study, [tmp_path])
    training["optimizer"] |= {"parameters": {}, "weight_decay": 0.1}
    with pytest.raises(ConfigError, match="weight_decay of an optimiser by `function` is one of its `parameters`"):
        load_study(raw_study, [tmp_path])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_is_complete_with_its_required_keys(name, raw_study):
    entry = {"name": name, "learning_rate": 0.1}
    if OPTIMIZERS[name].decoupled:
        entry["weight_decay"] = 0.1
    study = smoke(raw_study, {"ce": {"name": "ce", "optimizer": entry}})
    spec = trained(study)["ce"].optimizer
    assert (spec.name, spec.learning_rate) == (name, 0.1)
    assert study.label("ce").startswith(f"CE, {OPTIMIZERS[name].short} (lr 0.1, wd ")


LOSSES = {
    "ce": {"name": "ce"},
    "ls": {"name": "ls", "smoothing": 0.1},
}
MINIMISED = {
    "weak": SGD,
    "strong": SGD | {"weight_decay": 1e-2},
    "sgdw": {"name": "sgdw", "learning_rate": 0.1, "weight_decay": 1e-2},
    "sgdw10": {"name": "sgdw", "learning_rate": 0.1, "weight_decay": 1e-1},
    "adam": {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-2},
    "adamw": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1.0},
    "other": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.7},
}


def test_losses_are_compared_with_sgd_of_the_same_loss_at_equal_effective_decay(raw_study):
    losses = {
        f"{loss}_{name}": LOSSES[loss] | {"optimizer": optimizer}
        for loss in LOSSES
        for name, optimizer in MINIMISED.items()
    }
    study = smoke(raw_study, losses | {"ce_late": losses["ce_adamw"] | {"lr_schedule": {"kind": "cosine"}}})
    found = peers(study, "smoke")
    for loss in LOSSES:
        assert found[f"{loss}_sgdw"] == (f"{loss}_weak",)
        assert found[f"{loss}_sgdw10"] == (f"{loss}_strong",)
        assert found[f"{loss}_adam"] == (f"{loss}_strong",)  # of equal weight decay
        assert found[f"{loss}_adamw"] == (f"{loss}_weak",)
        assert f"{loss}_other" not in found  # no SGD has its effective decay
    assert len(found) == 8  # none of another schedule
    minimised = optimizers(study, "smoke")
    assert minimised["ce_adam"] == minimised["ls_adam"] != minimised["ce_adamw"]


def test_where_all_losses_have_one_optimiser_there_is_nothing_to_compare(raw_study):
    study = smoke(raw_study, LOSSES | {"decayed": {"name": "ce", "weight_decay": 0.1}})
    assert optimizers(study, "smoke") == peers(study, "smoke") == {}
    (item,) = specs.judge(study).experiments
    assert (item.optimizers, item.peers) == ({}, {})


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"name": "rprop", "learning_rate": 0.1, "step_sizes": [1.0, 0.1]}, r"step_sizes = \[1.0, 0.1\]"),
        ({"name": "rprop", "learning_rate": 60}, r"learning_rate = 60, .*: must lie within step_sizes"),
        ({"name": "rprop", "learning_rate": 0.1, "etas": [1.2, 0.5]}, "etas"),
        ({"name": "sgdw", "learning_rate": 0.5, "weight_decay": 4.0}, "must be below 4"),
        ({"name": "adamw", "learning_rate": 0.5, "weight_decay": 5.0}, "must be below 4"),
        ({"name": "sgd", "learning_rate": 0.5, "momentum": 0.5, "weight_decay": 6.0}, "must be below 6"),
        (
            {"name": "sgd", "learning_rate": 0.5, "momentum": 0.5, "nesterov": True, "weight_decay": 3.0},
            "must be below 3",
        ),
    ],
)
def test_settings_that_are_of_no_use_are_refused(optimizer, words, raw_study):
    raw_study["experiments"]["smoke"]["training"]["optimizer"] = optimizer
    with pytest.raises(ConfigError, match=words):
        load_study(raw_study)


def test_a_losss_own_decay_may_not_diverge_either(raw_study):
    raw_study["experiments"]["smoke"]["training"]["optimizer"] = {
        **{"name": "sgdw", "learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.1}
    }
    raw_study["losses"]["ls"]["weight_decay"] = 4.0
    with pytest.raises(ConfigError, match=r"losses\.ls\.weight_decay = 4 .* must be below 4"):
        load_study(raw_study)
    raw_study["losses"]["ls"]["weight_decay"] = 3.9
    load_study(raw_study)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.9, False), (0.5, True), (0.9, True)])
def test_the_largest_decay_is_where_decay_alone_begins_to_diverge(momentum, nesterov):
    chosen = Sgd(learning_rate=0.1, momentum=momentum, nesterov=nesterov)
    for factor, holds in ((0.999, True), (1.001, False)):
        law = nc0_law(
            [0.1] * 40_000, momentum=momentum, weight_decay=factor * chosen.largest_decay / 0.1, nesterov=nesterov
        )
        assert (law[-1] < 1e-3) == holds
