"""Optimisers: their steps are those of torch.optim, and a resumed training has the bits of an uninterrupted one."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional

from nclens.data.tensors import Split
from nclens.models import Network
from nclens.study.optimizers import OPTIMIZERS
from nclens.training.learning_rate import LrSchedule
from nclens.training.loop import Trainer, derived_seed
from nclens.training.optimizer import OPTIMIZERS as OF_PYTORCH
from nclens.training.optimizer import Optimizer, descent
from nclens.workflow.build.losses import build_loss
from tests.losses import entry
from tests.training.descents import sgd, sgd_settings

RATE, DECAY = 0.01, 0.1
ARGUMENTS = {"sgd": {"momentum": 0.9, "nesterov": True}, "sgdw": {"momentum": 0.9}, "muon": {"momentum": 0.9}}


def network(seed=0):
    """A small network with convolutions in the memory format of training."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten()]
    return Network(nn.Sequential(*layers), 96, 3).to(memory_format=torch.channels_last)


def split(count, seed):
    images = torch.randint(0, 256, (count, 2, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Split.place(images, torch.arange(count) % 3, [0.5] * 2, [0.25] * 2, "cpu")


def trainer(optimizer, **changes):
    chosen = {"lr_schedule": LrSchedule("cosine", warmup_epochs=1)} | changes
    settings = sgd_settings(3, 8, optimizer=optimizer, **chosen)
    return Trainer(network(), build_loss(entry("ce")), split(24, 0), split(6, 1), settings, 0)


def weights(trained):
    return torch.cat([value.detach().flatten() for value in trained.network.parameters()])


def finish(trained):
    while trained.epoch < 3:
        trained.advance()
    return trained


class Counted(torch.optim.Optimizer):
    """Descent with a count in the state of a parameter, an option that changes, and a slow copy of the weights."""

    def __init__(self, params, lr, shape=(1.0, 2.0)):
        super().__init__(params, {"lr": lr, "shrink": 1.0, "shape": shape})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["shrink"] *= 0.9
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1
                slow = state.setdefault("slow", parameter.clone())
                parameter -= group["lr"] * group["shrink"] / state["count"] * parameter.grad
                slow.lerp_(parameter, 0.5)
                parameter.lerp_(slow, 0.1)


def optimizers():
    known = {name: Optimizer(name, RATE, DECAY, ARGUMENTS.get(name, {})) for name in OPTIMIZERS}
    return known | {"own": Optimizer("mine:Counted", 0.1, function=Counted)}


@pytest.mark.parametrize("name", [*OPTIMIZERS, "own"])
def test_interrupted_it_ends_with_the_bits_of_the_uninterrupted(name):
    optimizer = optimizers()[name]
    reference, current = finish(trainer(optimizer)), trainer(optimizer)
    for stop in (1, 4):
        left = iter(range(stop))
        while current.advance(lambda left=left: next(left, None) is None):
            pass
        tensors, values = current.state()
        # As a file gives them back: in the plain memory format, and the values by way of JSON.
        saved = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
        current = trainer(optimizer)
        current.resume(saved, json.loads(json.dumps(values)))
    finish(current)
    assert torch.equal(weights(current), weights(reference))
    assert current.history == reference.history
    assert not torch.equal(weights(current), weights(trainer(optimizer)))


def by_hand(made, network, steps=3, clip=None):
    """Some steps of an optimiser of PyTorch on the batches of a trainer."""
    data = split(24, 0)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(derived_seed(0, "order", 1)))
    for batch in order.split(8)[:steps]:
        network.train()
        loss = functional.cross_entropy(network(data.normalise(data.inputs[batch])), data.targets[batch])
        network.zero_grad()
        loss.backward()
        if clip:
            norm = torch.sqrt(sum(parameter.grad.square().sum() for parameter in network.parameters()))
            for parameter in network.parameters():
                parameter.grad *= min(1.0, clip / float(norm))
        made.step()
    return torch.cat([value.detach().flatten() for value in network.parameters()])


@pytest.mark.parametrize("name", [*OF_PYTORCH, "sgd"])
def test_steps_are_those_of_pytorch(name):
    reference = network()
    chosen = dict(ARGUMENTS.get(name, {})) | ({} if name == "rprop" else {"weight_decay": DECAY})
    made = getattr(torch.optim, OF_PYTORCH.get(name, ("SGD", True))[0])(reference.parameters(), lr=RATE, **chosen)
    current = trainer(optimizers()[name], lr_schedule=LrSchedule())
    current.advance()
    torch.testing.assert_close(weights(current), by_hand(made, reference), rtol=1e-3, atol=1e-5)


class Decoupled(torch.optim.SGD):
    """SGD whose weights are multiplied by 1 - lr wd before the step of the gradient alone."""

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter *= 1 - group["lr"] * DECAY
        return super().step(closure)


def test_sgdw_multiplies_the_weights_as_adamw_does():
    reference = network()
    current = trainer(optimizers()["sgdw"], lr_schedule=LrSchedule())
    current.advance()
    expected = by_hand(Decoupled(reference.parameters(), lr=RATE, momentum=0.9), reference)
    torch.testing.assert_close(weights(current), expected, rtol=1e-4, atol=1e-6)
    # Without a gradient a step is the factor alone, as AdamW's.
    for one in ("sgdw", "adamw"):
        alone = network()
        before = [parameter.detach().clone() for parameter in alone.parameters()]
        for parameter in alone.parameters():
            parameter.grad = torch.zeros_like(parameter)
        with torch.no_grad():
            descent(optimizers()[one], alone).step(1.0)
        for parameter, old in zip(alone.parameters(), before, strict=True):
            torch.testing.assert_close(parameter.detach(), old * (1 - RATE * DECAY))


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_a_long_gradient_is_scaled_down_to_the_norm(clip):
    reference = network()
    current = trainer(sgd(0.5), lr_schedule=LrSchedule(), clip_gradient_norm=clip)
    current.advance()
    made = torch.optim.SGD(reference.parameters(), lr=0.5, momentum=0.9, weight_decay=5e-4)
    torch.testing.assert_close(weights(current), by_hand(made, reference, clip=clip), rtol=1e-3, atol=1e-5)


def test_muon_is_on_the_hidden_weights_as_matrices_and_adamw_on_the_rest():
    current, reference = trainer(optimizers()["muon"], lr_schedule=LrSchedule()), network()
    current.advance()
    hidden = reference.backbone[3].weight
    matrix = nn.Parameter(hidden.detach().flatten(1).clone())
    rest = [parameter for parameter in reference.parameters() if parameter is not hidden]
    muon = torch.optim.Muon([matrix], lr=RATE, weight_decay=DECAY, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=RATE, weight_decay=DECAY)

    class Both:
        def step(self):
            matrix.grad = hidden.grad.flatten(1)
            muon.step()
            adamw.step()
            with torch.no_grad():
                hidden.copy_(matrix.view_as(hidden))

    expected = by_hand(Both(), reference)
    # Muon's iteration is in bfloat16, whose rounding depends on the order of a matrix's columns.
    torch.testing.assert_close(weights(current), expected, rtol=0.05, atol=2e-3)
    assert (current.network.backbone[3].weight - network().backbone[3].weight).abs().max() > 1e-2


def test_only_steps_of_sgd_are_replayed_and_a_warm_up_is_taken_directly():
    recorded = []

    def recorder(step, generators):
        recorded.append(step)
        return step

    def made(optimizer, schedule):
        settings = sgd_settings(3, 8, optimizer=optimizer, lr_schedule=schedule)
        return Trainer(network(), build_loss(entry("ce")), split(24, 0), split(6, 1), settings, 0, recorder)

    warm = LrSchedule("step", warmup_epochs=1, milestones=(2,))
    assert made(optimizers()["adamw"], warm).direct == "the optimiser is not sgd or sgdw"
    assert "one_cycle" in made(sgd(), LrSchedule("one_cycle")).direct
    replayed = finish(made(optimizers()["sgdw"], warm))
    assert len(recorded) == 2  # one a rate behind the warm-up
    assert torch.equal(weights(replayed), weights(finish(trainer(optimizers()["sgdw"], lr_schedule=warm))))


def test_what_is_no_optimiser_or_has_a_state_that_no_checkpoint_holds_is_refused():
    with pytest.raises(ValueError, match=r"must return a torch\.optim\.Optimizer, not list"):
        trainer(Optimizer("mine", function=lambda parameters, rate: parameters))
    current = trainer(Optimizer("mine", 0.1, function=Counted))
    current.advance()
    for state in current.descent._optimizers[0].state.values():
        state["slow"] = {1, 2}
    with pytest.raises(ValueError, match="the optimiser's state `slow` is of type set, which no checkpoint holds"):
        current.state()
