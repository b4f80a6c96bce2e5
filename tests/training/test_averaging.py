"""The averaged weights are the documented sum, with their running statistics."""

import pytest
import torch
from torch import nn

from nclens.models import Network
from nclens.training.averaging import Average


class Masked(nn.Module):
    """A batch normalisation, a count and two masks."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("kept", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("unsaved", torch.tensor([1.0, 2.0]), persistent=False)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, inputs):
        self.count += 1
        return self.norm(inputs)


def step(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    network.train()(torch.randn(5, 3))


def test_weights_and_running_statistics_are_averaged_and_all_else_is_copied():
    torch.manual_seed(0)
    network = Network(Masked(), 3, 2)
    average = Average(network, decay=0.7)
    averaged = [
        *(name for name, _ in network.named_parameters()),
        *(f"backbone.norm.running_{s}" for s in ("mean", "var")),
    ]
    expected = None
    for number in range(1, 5):
        step(network)
        average.update()
        now = {name: value.clone() for name, value in network.state_dict().items()}
        expected = now if expected is None else {n: 0.7 * expected[n] + 0.3 * now[n] for n in averaged}
        found = average.network.state_dict()
        for name in averaged:
            torch.testing.assert_close(found[name], expected[name])
        assert found["backbone.count"] == number == found["backbone.norm.num_batches_tracked"]
        assert found["backbone.kept"].tolist() == [0.0, float("-inf")]
        assert average.network.backbone.unsaved.tolist() == [1.0, 2.0]


def test_before_the_first_step_it_is_the_network_and_with_decay_0_always():
    torch.manual_seed(0)
    network = Network(Masked(), 3, 2)
    average = Average(network, decay=0.0)
    for _ in range(3):
        assert all(
            torch.equal(value, network.state_dict()[name]) for name, value in average.network.state_dict().items()
        )
        step(network)
        average.update()


def test_its_state_goes_on_with_the_same_bits_and_in_the_same_layout():
    def begun():
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network = Network(backbone, 4, 2).to(memory_format=torch.channels_last)
        return network, Average(network, decay=0.9)

    network, average = begun()
    for _ in range(3):
        with torch.no_grad():
            network.head.weight.add_(0.1)
        average.update()
    again, resumed = begun()
    again.load_state_dict(network.state_dict())
    resumed.load({name: value.clone(memory_format=torch.contiguous_format) for name, value in average.state().items()})
    for one, other in ((network, average), (again, resumed)):
        with torch.no_grad():
            one.head.weight.mul_(1.1)
        other.update()
    for name, value in average.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)
    kernel = resumed.network.backbone[0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_a_network_that_cannot_be_copied_is_named():
    network = Network(nn.utils.weight_norm(nn.Linear(3, 3)), 3, 2)
    network(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="an average of the weights needs a network that can be copied: "):
        Average(network, decay=0.9)
