import warnings
from functools import partial

import pytest
import torch
from torch import nn

from nclens.losses import ce, ls
from nclens.models import Network
from nclens.probes.gradients import gradient_variance
from nclens.workflow.build.models import build_network

SMOOTHED = partial(ls, smoothing=0.1)


@pytest.fixture
def images():
    random = torch.Generator().manual_seed(0)
    return torch.randn(7, 1, 12, 12, generator=random), torch.tensor([0, 1, 2, 0, 1, 2, 0])


@pytest.fixture
def network(images):
    """A small ResNet whose batch normalisation has seen data."""
    torch.manual_seed(1)
    network = build_network({"name": "resnet8", "width": 4}, (1, 12, 12), 3)
    with torch.no_grad():
        network.train()(images[0])
    return network


def literal(network, inputs, targets, loss):
    """One backward pass a sample; all gradients side by side in float64."""
    network.eval()
    rows = {"head": [], "network": []}
    for sample, target in zip(inputs, targets, strict=True):
        network.zero_grad()
        loss(network(sample[None]), target[None]).sum().backward()
        gradients = {name: weight.grad.flatten().double() for name, weight in network.named_parameters()}
        rows["network"].append(torch.cat(list(gradients.values())))
        rows["head"].append(torch.cat([gradients["head.weight"], gradients["head.bias"]]))
    network.zero_grad()
    stacked = {name: torch.stack(vectors) for name, vectors in rows.items()}
    return {name: float((g - g.mean(dim=0)).square().sum(dim=1).mean()) for name, g in stacked.items()}


@pytest.mark.parametrize("loss", [ce, SMOOTHED], ids=["onehot", "smoothed"])
@pytest.mark.parametrize("chunk", [None, 1, 3, 7])
def test_it_is_the_variance_of_a_literal_loop(network, images, loss, chunk):
    found = gradient_variance(network, *images, loss, chunk=chunk)
    expected = literal(network, *images, loss)
    assert found["head"] == pytest.approx(expected["head"], rel=1e-5)
    assert found["network"] == pytest.approx(expected["network"], rel=1e-5)
    assert 0 < found["head"] < found["network"]


def test_of_the_head_alone_it_is_known_in_closed_form(network, images):
    """g_i = (p_i - q_i) (h_i, 1)' for every loss with targets q."""
    inputs, targets = images
    found = gradient_variance(network, inputs, targets, SMOOTHED)["head"]
    with torch.no_grad():
        h = network.backbone(inputs).double()
        p = torch.softmax(network.head(h.float()).double(), dim=1)
    q = 0.9 * nn.functional.one_hot(targets, 3) + 0.1 / 3
    g = torch.einsum("ik,id->ikd", p - q, torch.cat([h, torch.ones(len(h), 1)], dim=1)).flatten(1)
    assert found == pytest.approx(float((g - g.mean(dim=0)).square().sum(dim=1).mean()), rel=1e-5)


def test_equal_samples_have_none_also_far_from_zero():
    """E|g|^2 - |gbar|^2 would cancel here."""
    torch.manual_seed(0)
    network = Network(nn.Identity(), 4, 3)
    inputs = 1e3 * torch.ones(50, 4)
    found = gradient_variance(network, inputs, torch.zeros(50, dtype=torch.int64), ce, chunk=7)
    assert found["head"] == pytest.approx(0, abs=1e-9)


def test_weights_gradients_and_statistics_stay_as_they_are(network, images):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradient_variance(network, *images, ce)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "words"),
    [
        (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), {}, "at least 1"),
        (torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64), {}, "same length"),
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64), {"chunk": 0}, "chunk"),
        (torch.full((2, 4), torch.inf), torch.zeros(2, dtype=torch.int64), {}, "not finite"),
    ],
)
def test_what_has_no_variance_is_refused(inputs, targets, options, words):
    with pytest.raises(ValueError, match=words):
        gradient_variance(Network(nn.Identity(), 4, 3), inputs, targets, ce, **options)


def head_with(wrap):
    """Return a network whose head PyTorch reparametrises; the same weights every time."""
    torch.manual_seed(2)
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.ReLU()), 5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.head = wrap(network.head)
    return network


def test_a_head_with_hooks_is_the_same_head_with_a_parametrisation(images):
    inputs, targets = images
    networks = [head_with(wrap) for wrap in (nn.utils.weight_norm, nn.utils.parametrizations.weight_norm)]
    found, expected = (gradient_variance(network, inputs, targets, ce) for network in networks)
    assert found == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(networks[0](inputs), networks[1](inputs))


def test_a_weight_that_the_head_shares_is_a_weight_of_the_head(images):
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(144, 144)), 144, 144)
    network.head.weight = network.backbone[1].weight
    found = gradient_variance(network, *images, ce)
    network.backbone[1].bias.requires_grad_(False)
    rows = []
    for sample, target in zip(*images, strict=True):
        network.zero_grad()
        ce(network(sample[None]), target[None]).sum().backward()
        rows.append(torch.cat([network.head.weight.grad.flatten(), network.head.bias.grad]).double())
    expected = torch.stack(rows).sub(torch.stack(rows).mean(0)).square().sum(1).mean()
    assert found["head"] == pytest.approx(float(expected), rel=1e-5)
