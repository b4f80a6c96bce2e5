"""The pass that is chosen: folded where the features and NC1 are those of the plain pass, else the plain pass."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from nclens.data.tensors import Split
from nclens.models import MODELS, Network, place_network
from nclens.training import passes
from nclens.training.loop import extract_features
from nclens.training.passes import Passes, compared_samples, largest_output
from nclens.training.runtime import configure
from nclens.workflow.agreement import nc1_of

SHAPE, K = (1, 8, 8), 3


def images(count=90, seed=0, task="classification"):
    random = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % K
    inputs = torch.randint(0, 128, (count, *SHAPE), generator=random) + 40 * targets[:, None, None, None]
    if task == "regression":
        targets = torch.randn(count, K, generator=random)
    return Split.place(inputs.to(torch.uint8), targets, [0.4], [0.2], "cpu", task)


def resnet(seed=0, **arguments):
    """A network with statistics of a few batches."""
    torch.manual_seed(seed)
    network = place_network(MODELS["resnet8"](SHAPE, K, width=4, **arguments), SHAPE, torch.device("cpu")).train()
    data = images(seed=seed)
    with torch.no_grad():
        for _ in range(30):
            network(data.normalise(data.inputs))
    return network


def kind(chosen, network):
    """The pass that was chosen, by name."""
    if chosen is network.backbone:
        return "plain"
    return "blocks" if isinstance(chosen, partial) else "folded"


def test_the_chosen_pass_gives_the_features_and_logits_of_the_plain_one():
    configure(1)  # as extraction does
    network, data = resnet(), images(300)
    chosen = Passes(network, data, nc1_of)
    backbone = chosen.choose()
    assert kind(backbone, network) == ("blocks" if torch.backends.mkldnn.is_available() else "folded")
    expected = extract_features(network, data)
    found = extract_features(network, data, chosen.batch_size, backbone)
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (torch.float32, other.shape)
        assert (one - other).norm() <= 1e-6 * other.norm()
    again = extract_features(network, data, chosen.batch_size, Passes(network, data, nc1_of).choose())
    assert all(map(torch.equal, found, again))


def test_folding_follows_the_weights():
    network, data = resnet(), images()
    chosen = Passes(network, data, nc1_of)
    for seed in (1, 2):
        network.load_state_dict(resnet(seed).state_dict())
        backbone = chosen.choose()
        assert kind(backbone, network) != "plain"
        expected, _ = extract_features(network, data)
        assert (extract_features(network, data, None, backbone)[0] - expected).norm() <= 1e-6 * expected.norm()


def test_a_layout_that_an_operation_lacks_is_not_tried_again():
    network, data = resnet(signed_features=True), images()
    chosen = Passes(network, data, nc1_of)
    assert [kind(chosen.choose(), network) for _ in range(2)] == ["folded", "folded"]
    assert not chosen._blocked


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(("moved", "accepted"), [(5e-7, True), (2e-6, False), (math.nan, False), (math.inf, False)])
def test_features_may_move_by_one_millionth_of_their_norm(monkeypatch, task, moved, accepted):
    network, data = resnet(), images(task=task)

    def fold(module, pairs):
        made = copy.deepcopy(module)
        made.register_forward_hook(lambda layer, inputs, output: output * (1 + moved))
        return made

    monkeypatch.setattr(passes, "fold", fold)
    chosen = Passes(network, data, nc1_of)
    chosen._blocked = False
    assert (kind(chosen.choose(), network) == "folded") is accepted


@pytest.mark.parametrize(("task", "moved", "accepted"), [
    ("classification", 5e-4, True),
    ("classification", 2e-3, False),
    ("classification", math.nan, False),
    ("regression", 1.0, True),
])  # fmt: skip
def test_nc1_may_move_by_one_thousandth(task, moved, accepted):
    """Features that have collapsed move little where their NC1 moves much."""
    values = iter([2.0, 2.0 * (1 + moved)])
    network = resnet()
    chosen = Passes(network, images(task=task), lambda features, labels: next(values))
    chosen._blocked = False
    assert (kind(chosen.choose(), network) == "folded") is accepted


@pytest.mark.parametrize(("offset", "expected"), [(0.0, "folded"), (1e4, "plain")])
def test_where_the_plain_pass_rounds_coarsely_it_is_taken(offset, expected):
    """The plain pass adds a large bias that the normalisation subtracts; folded, the two cancel before."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        body[0].bias.fill_(offset)
        body[1].running_mean.fill_(offset)
    network = Network(body, 4 * 64, K)
    chosen = Passes(network, images(), nc1_of)
    chosen._blocked = False
    assert kind(chosen.choose(), network) == expected


def test_features_that_are_not_finite_take_the_plain_pass():
    network, data = resnet(), images()
    with torch.no_grad():
        network.backbone[0].weight.fill_(math.nan)
    assert kind(Passes(network, data, nc1_of).choose(), network) == "plain"


class Branching(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, inputs):
        return self.body(inputs if inputs.sum() > 0 else -inputs)


def hooked(backbone):
    seen = []
    backbone[3].register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    backbone.seen = seen
    return backbone


@pytest.mark.parametrize("wrap", [Branching, hooked])
def test_a_network_that_does_not_trace_or_has_hooks_runs_as_it_is(wrap):
    network, data = resnet(), images()
    network.backbone = wrap(network.backbone)
    chosen = Passes(network, data, nc1_of)
    assert chosen.choose() is network.backbone
    extract_features(network, data, chosen.batch_size)
    if wrap is hooked:
        assert sum(network.backbone.seen[-1:]) == len(data)


def test_rows_without_batch_normalisation_take_the_plain_pass():
    network = Network(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), 8, K)
    data = Split.place(torch.randn(30, 4), torch.arange(30) % K, [0.0] * 4, [1.0] * 4, "cpu")
    assert Passes(network, data, nc1_of).choose() is network.backbone


def test_running_out_of_memory_is_no_refusal(monkeypatch):
    def fold(module, pairs):
        return nn.Sequential(Failing())

    class Failing(nn.Module):
        def forward(self, inputs):
            raise MemoryError

    monkeypatch.setattr(passes, "fold", fold)
    with pytest.raises(MemoryError):
        Passes(resnet(), images(), nc1_of).choose()


@pytest.mark.parametrize("count", [5, 64, 1000])
def test_compared_samples_are_of_the_first_classes_whatever_the_order(count):
    for targets in (torch.arange(count) % 40, (torch.arange(count) % 40).sort().values):
        data = Split(torch.zeros(count, 1), targets, torch.zeros(1), torch.ones(1))
        chosen = compared_samples(data)
        assert len(chosen) == len(chosen.unique()) <= 64
        assert targets[chosen].max() < 16
        assert len(targets[chosen].unique()) == min(16, count)
    rows = Split(torch.zeros(count, 1), torch.zeros(count, 2), torch.zeros(1), torch.ones(1), "regression")
    assert len(compared_samples(rows)) == min(64, count)


def test_the_largest_layer_fits_into_the_cache():
    module = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten())
    assert largest_output(module, torch.zeros(2, 1, 8, 8)) == 4 * 16 * 8 * 8
    network, data = resnet(), images()
    assert Passes(network, data).batch_size == 250
    wide = Network(nn.Sequential(nn.Conv2d(1, 4096, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4096, K)
    assert Passes(wide, data).batch_size == 2**24 // (4 * 4096 * 64)
