"""The law of NC0 against a literal loop, real training and published networks; the floor under NC3 by hypothesis."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nclens import losses
from nclens.metrics.collapse import neural_collapse
from nclens.ufm.nc0 import nc0_law, nc0_rounding, nc3_floor

SHARED = Path(__file__).parents[3] / "shared" / "data"
STEPS, CLASSES = 50, 5
#: Weight decay is strong, so that 50 steps move NC0 well below its start.
DECAY = 0.05
RATES = [0.1] * 20 + [0.03] * 15 + [0.01 * (1 + step % 3) for step in range(15)]

LOSSES = {
    "ce": losses.ce,
    "ls": partial(losses.ls, smoothing=0.1),
    "maxsup": partial(losses.maxsup, alpha=0.2),
    "ls_regularisation": partial(losses.ls_regularisation, smoothing=0.1),
    "ls_error_amplification": partial(losses.ls_error_amplification, smoothing=0.1),
    "confidence_penalty": partial(losses.confidence_penalty, beta=0.1),
    "focal": partial(losses.focal, gamma=2.0),
    "distillation": lambda z, y: losses.distillation(z, y, z.detach().flip(0) - 1, temperature=2.0, weight=0.7),
    "weighted ce": lambda z, y: nn.functional.cross_entropy(z, y, weight=1 + torch.arange(CLASSES).to(z)),
}


def trained(loss, optimizer, dtype=torch.float64, penalty=0.0, clip=None, rates=RATES, decoupled=0.0):
    """NC0 of a small network before the first and after each of 50 steps, over the first, by PyTorch's optimisers."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, CLASSES)).to(dtype)
    inputs, labels = torch.randn(32, 6, dtype=dtype), torch.arange(32) % CLASSES
    weight, found = network[-1].weight, []
    steps = optimizer(network.parameters())

    def note():
        rows = weight.detach().double()
        found.append(float(rows.sum(0).square().sum()) / CLASSES)

    note()
    for rate in rates:
        steps.param_groups[0]["lr"] = rate
        batch = torch.randperm(32)[:16]
        steps.zero_grad()
        objective = loss(network(inputs[batch]), labels[batch]).mean() + penalty / 2 * weight.square().sum()
        objective.backward()
        if clip is not None:
            assert float(nn.utils.clip_grad_norm_(network.parameters(), clip)) > clip
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 - rate * decoupled)
        steps.step()
        note()
    return np.array(found) / found[0], float(weight.detach().square().sum()), found[0]


def sgd(**options):
    return partial(torch.optim.SGD, lr=1.0, **options)


MOMENTA = {
    "momentum": {"momentum": 0.9},
    "plain": {},
    "dampening": {"momentum": 0.8, "dampening": 0.3},
    "Nesterov": {"momentum": 0.9, "nesterov": True},
    "dampening of no momentum": {"dampening": 0.3},
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_that_ignores_a_shift_follows_the_law(name):
    found, *_ = trained(LOSSES[name], sgd(momentum=0.9, weight_decay=DECAY))
    assert found[-1] < 0.8
    np.testing.assert_allclose(found, nc0_law(RATES, momentum=0.9, weight_decay=DECAY), rtol=1e-12)


@pytest.mark.parametrize("options", MOMENTA.values(), ids=MOMENTA)
def test_momentum_is_pytorchs(options):
    found, *_ = trained(losses.ce, sgd(weight_decay=DECAY, **options))
    np.testing.assert_allclose(found, nc0_law(RATES, weight_decay=DECAY, **options), rtol=1e-12)


def test_penalties_decoupled_decay_and_clipping():
    coupled = sgd(momentum=0.9)
    law = nc0_law(RATES, momentum=0.9, weight_decay=DECAY)
    np.testing.assert_allclose(trained(losses.ce, coupled, penalty=DECAY)[0], law, rtol=1e-12)
    clipped = trained(losses.ce, sgd(momentum=0.9, weight_decay=DECAY), clip=1e-3)[0]
    np.testing.assert_allclose(clipped, law, rtol=1e-12)
    both = trained(losses.ce, coupled, penalty=DECAY, decoupled=0.2)[0]
    law = nc0_law(RATES, momentum=0.9, weight_decay=DECAY, decoupled_decay=0.2)
    np.testing.assert_allclose(both, law, rtol=1e-12)
    alone = trained(losses.ce, coupled, decoupled=0.2)[0]
    np.testing.assert_allclose(alone, np.cumprod([1, *(1 - 0.2 * np.array(RATES))]) ** 2, rtol=1e-12)
    np.testing.assert_allclose(alone, nc0_law(RATES, momentum=0.9, decoupled_decay=0.2), rtol=1e-12)


def test_momentum_and_decay_of_each_step():
    """As a schedule may have them, momentum 0 among them: there PyTorch takes the gradient and keeps the buffer."""
    momenta = [0.0] * 5 + [0.9] * 20 + [0.0] * 5 + [0.5] * 20
    decays = list(np.linspace(0, 2 * DECAY, STEPS))

    class Scheduled(torch.optim.SGD):
        def step(self):
            self.param_groups[0]["momentum"] = momenta[self.taken]
            self.param_groups[0]["weight_decay"] = decays[self.taken]
            self.taken += 1
            super().step()

        taken = 0

    found, *_ = trained(losses.ce, partial(Scheduled, lr=1.0))
    np.testing.assert_allclose(found, nc0_law(RATES, momentum=momenta, weight_decay=decays), rtol=1e-12)


@pytest.mark.parametrize("name", ["ce", "ls", "maxsup"])
def test_in_float32_the_law_holds_up_to_what_rounding_explains(name):
    found, norm, start = trained(LOSSES[name], sgd(momentum=0.9, weight_decay=DECAY), torch.float32)
    law = start * nc0_law(RATES, momentum=0.9, weight_decay=DECAY)
    off = np.abs(start * found - law)
    assert 0 < off[-1] / law[-1] < 5e-6
    assert off[-1] <= nc0_rounding(law[-1], 2 * norm, STEPS, CLASSES) < 1e-4 * law[-1]


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        (losses.mse, sgd(momentum=0.9, weight_decay=DECAY)),
        (partial(losses.logit_penalty, beta=0.1), sgd(momentum=0.9, weight_decay=DECAY)),
        (losses.ce, partial(torch.optim.Adam, weight_decay=DECAY)),
        (losses.ce, partial(torch.optim.AdamW, weight_decay=DECAY)),
    ],
    ids=["mse", "logit penalty", "Adam", "AdamW"],
)
def test_outside_its_premise_the_law_is_far_off(loss, optimizer):
    found, *_ = trained(loss, optimizer)
    for law in (nc0_law(RATES, momentum=0.9, weight_decay=DECAY), nc0_law(RATES, decoupled_decay=DECAY)):
        assert abs(found[-1] / law[-1] - 1) > 0.03


@settings(max_examples=50, deadline=None)
@given(
    rates=st.lists(st.floats(0, 0.5), max_size=12),
    momentum=st.sampled_from([0.0, 0.3, 0.9]),
    dampening=st.sampled_from([0.0, 0.4]),
    decay=st.floats(0, 0.5),
    decoupled=st.floats(0, 0.5),
)
def test_the_law_is_the_matrix_power_of_one_step(rates, momentum, dampening, decay, decoupled):
    """A literal loop over the pair (u, v), with v such that the first buffer is the gradient, as PyTorch's is."""
    state, expected = np.array([1.0, 0.0]), [1.0]
    for number, rate in enumerate(rates):
        damp = 0.0 if number == 0 or momentum == 0 else dampening
        buffer = np.array([(1 - damp) * decay, momentum])
        state = np.array([[1 - rate * decoupled, 0.0] - rate * buffer, buffer]) @ state
        expected.append(state[0] ** 2)
    law = nc0_law(rates, momentum=momentum, weight_decay=decay, decoupled_decay=decoupled, dampening=dampening)
    np.testing.assert_allclose(law, expected, rtol=1e-10, atol=1e-14)


def test_limits_of_the_law():
    assert nc0_law([]).tolist() == [1.0]
    assert nc0_law([0.1] * 5, momentum=0.9).tolist() == [1.0] * 6
    rate, decay, momentum = 1e-3, 1e-2, 0.9
    fallen = nc0_law([rate] * 200_000, momentum=momentum, weight_decay=decay)[-1]
    assert math.log(fallen) == pytest.approx(-2 * rate * decay / (1 - momentum) * 200_000, rel=1e-3)
    assert nc0_law([1e3] * 30, weight_decay=1e3)[-1] == math.inf


def test_rounding_by_hand():
    assert nc0_rounding(0.0, 10.0, 1000, 10) == pytest.approx(1000 * 2**-48, rel=1e-12)
    r = 1000 * 2**-48
    assert nc0_rounding(0.25, 10.0, 1000, 10) == pytest.approx((0.5 + math.sqrt(r)) ** 2 - 0.25, rel=1e-9)
    assert nc0_rounding(0.25, 10.0, 0, 10) == 0
    assert math.isnan(nc0_rounding(math.nan, 1.0, 1, 2))


@pytest.mark.skipif(not (SHARED / "checkpoints").is_dir(), reason=f"no published networks: {SHARED / 'checkpoints'}")
def test_the_published_recipe_predicts_the_published_networks():
    """CIFAR-10, 200 epochs of 391 steps, lr 0.1 divided by 10 after 100 and 150, momentum 0.9, weight decay 1e-4.

    `kaiming_normal_` on the head of 64 features: each of the 64 sums has the variance 10 * 2/64, so that NC0 is 2/64
    times a chi-squared number of 64 degrees of freedom: 2, with a standard deviation of 2 sqrt(2/64).
    """
    rates = np.repeat([0.1, 0.01, 0.001], [391 * 100, 391 * 50, 391 * 50])
    fallen = nc0_law(rates, momentum=0.9, weight_decay=1e-4)[-1]
    predicted, deviation = 2 * fallen, 2 * math.sqrt(2 / 64) * fallen
    assert (predicted, deviation) == (pytest.approx(5.2e-4, abs=5e-6), pytest.approx(0.9e-4, abs=5e-6))
    for name, found in {"resnet20-12fca82f": 4.634e-4, "resnet56-4bfd9763": 6.192e-4}.items():
        state = torch.load(SHARED / "checkpoints" / "cifar10" / f"{name}.th", weights_only=True, map_location="cpu")
        weight = state["state_dict"]["module.linear.weight"].double()
        nc0 = float(weight.sum(0).square().sum()) / 10
        assert nc0 == pytest.approx(found, rel=1e-3)
        assert abs(nc0 - predicted) < 2 * deviation
        assert not abs(nc0 - predicted / 6) < 2 * deviation / 6  # PyTorch's own initial values


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 6),
    dim=st.integers(1, 8),
    common=st.floats(0, 100),
    aligned=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_nc0_sets_a_floor_under_nc3(classes, dim, common, aligned, seed):
    """Classes of unequal sizes; it is reached where the class means are the centred rows of W."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    weight += common * torch.randn(dim, generator=generator, dtype=torch.float64)
    labels = torch.cat([torch.full((2 + k,), k) for k in range(classes)])
    features = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    if aligned:
        features = 3 * weight[labels] + 7
    values = neural_collapse(features, labels, weight, None)
    floor = float(nc3_floor(values["nc0_share"]))
    assert values["nc3"] >= floor - 1e-9
    if aligned:
        assert values["nc3"] == pytest.approx(floor, abs=1e-6)


def test_the_floor_by_hand():
    shares = np.array([[0.0, 1e-12], [0.75, 1.0]])
    np.testing.assert_allclose(nc3_floor(shares), [[0, 1e-6], [1, math.sqrt(2)]], rtol=1e-9)
    assert math.isnan(nc3_floor(math.nan))
    # Centred by the mean of the samples, the means of unequal classes do not sum to zero, and the floor does not hold.
    weight, counts = np.array([[3.0], [1.0]]), np.array([1, 9])
    means = weight - (counts @ weight) / counts.sum()
    share = float(weight.sum() ** 2 / 2 / (weight**2).sum())
    nc3 = np.linalg.norm(weight / np.linalg.norm(weight) - means / np.linalg.norm(means))
    assert nc3 < float(nc3_floor(share)) - 0.1
