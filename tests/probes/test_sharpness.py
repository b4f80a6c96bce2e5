"""Sharpness against dense Hessians, and what it depends on."""

import math
from functools import partial

import pytest
import torch
from torch.func import functional_call

from nclens import losses
from nclens.data.tensors import Split
from nclens.models import MODELS, Network
from nclens.probes import sharpness
from nclens.probes.sharpness import head_sharpness, network_sharpness, sharpness_of_losses

N, K = 20, 3
GENERATOR = torch.Generator().manual_seed(0)
ROWS = torch.randn(N, 6, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(0, K, (N,), generator=GENERATOR)
LS = partial(losses.ls, smoothing=0.3)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MODELS["mlp"]((6,), K, widths=(5, 4)).double()


def dense(network, inputs, labels, loss):
    """The Hessian of the mean loss by PyTorch, weight by weight in the order of the parameters; the head's last."""
    values = {name: value.detach() for name, value in network.named_parameters()}

    def mean(flat):
        parts = flat.split([value.numel() for value in values.values()])
        own = {name: part.view_as(values[name]) for name, part in zip(values, parts, strict=True)}
        return loss(functional_call(network, own, (inputs,)), labels).mean()

    return torch.autograd.functional.hessian(
        mean, torch.cat([value.flatten() for value in values.values()]), vectorize=True
    )


@pytest.mark.parametrize("loss", [losses.ce, LS, partial(losses.maxsup, alpha=0.2)])
@pytest.mark.parametrize("chunk", [128, 7])
def test_the_network_against_its_dense_hessian(network, loss, chunk, monkeypatch):
    monkeypatch.setattr(sharpness, "CHUNK", chunk)
    exact = torch.linalg.eigvalsh(dense(network.eval(), ROWS, LABELS, loss))[-1]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert network_sharpness(network.train(), ROWS, LABELS, loss) == pytest.approx(float(exact), rel=1e-3)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.lengthy
def test_a_convolutional_network_in_evaluation_mode_against_its_dense_hessian():
    torch.manual_seed(0)
    network = MODELS["resnet8"]((1, 8, 8), K, width=1)
    images = torch.randn(12, 1, 8, 8)
    network.train()(images)
    labels = torch.arange(12) % K
    exact = torch.linalg.eigvalsh(dense(network.eval(), images, labels, losses.ce).double())[-1]
    assert network_sharpness(network, images, labels, losses.ce) == pytest.approx(float(exact), rel=2e-3)


def test_the_head_against_its_part_of_the_dense_hessian_with_and_without_bias(network):
    features = network.eval().backbone(ROWS).detach()
    logits = network.head(features).detach()
    size = network.head.weight.numel()
    for loss in (losses.ce, LS, partial(losses.maxsup, alpha=0.2)):
        whole = dense(network, ROWS, LABELS, loss)[-size - K :, -size - K :]
        # MaxSup's own part is linear in the logits, but for where the top logit changes.
        assert head_sharpness(features, logits) == pytest.approx(float(torch.linalg.eigvalsh(whole)[-1]), rel=1e-3)
        without = torch.linalg.eigvalsh(whole[:size, :size])[-1]
        assert head_sharpness(features, logits, bias=False) == pytest.approx(float(without), rel=1e-3)


def test_attention_has_a_second_derivative():
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, tokens):
            return self.layer(tokens, tokens, tokens, need_weights=False)[0].mean(1)

    torch.manual_seed(0)
    network = Network(Attention(), 4, K)
    assert network_sharpness(network, torch.randn(8, 3, 4), torch.arange(8) % K, losses.ce) > 0


def test_the_probe_draws_the_same_samples_for_all_losses(network):
    split = Split.place(ROWS.float(), LABELS, [0.0] * 6, [1.0] * 6, "cpu")
    network = network.float()
    plain = sharpness_of_losses(network, split, samples=10, seed=3, loss=losses.ce)
    other = sharpness_of_losses(network, split, samples=10, seed=3, loss=LS)
    assert plain["sharpness_trained"] == plain["sharpness_network"] == other["sharpness_network"]
    assert plain["sharpness_head"] == other["sharpness_head"]
    assert other["sharpness_trained"] != other["sharpness_network"]
    alone = sharpness_of_losses(network, split, samples=10, seed=3)
    assert list(alone) == ["sharpness_head", "sharpness_network"]
    assert sharpness_of_losses(network, split, samples=10, seed=4) != alone
    everything = sharpness_of_losses(network, split, samples=1000, seed=3)
    whole = network_sharpness(network, ROWS.float(), LABELS, losses.ce)
    assert everything["sharpness_network"] == pytest.approx(whole, rel=1e-3)


def test_what_is_not_reached_is_nan_and_what_is_not_finite_is_refused(network, monkeypatch):
    with pytest.raises(ValueError, match="same length, at least 1: got 0 and 0"):
        network_sharpness(network, ROWS[:0], LABELS[:0], losses.ce)
    with pytest.raises(ValueError, match=r"features and logits must be \(N, d\) and \(N, K\)"):
        head_sharpness(ROWS, ROWS[:3])
    with pytest.raises(ValueError, match="features must be finite"):
        head_sharpness(ROWS * torch.inf, ROWS)
    with pytest.raises(ValueError, match="logits must not be nan"):
        head_sharpness(ROWS, ROWS * torch.nan)
    monkeypatch.setattr(sharpness, "STEPS", 2)
    assert math.isnan(network_sharpness(network, ROWS, LABELS, losses.ce))
    torch.nn.init.constant_(network.head.bias, torch.nan)
    with pytest.raises(ValueError, match="logits must not be nan"):
        network_sharpness(network, ROWS, LABELS, losses.ce)
    with pytest.raises(ValueError, match="the Hessian is not finite"):
        network_sharpness(network, ROWS, LABELS, lambda logits, labels: logits.square().sum(1))
