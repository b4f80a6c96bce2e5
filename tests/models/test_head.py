"""The head of any network is found by a forward pass."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from nclens.models import split_at_head
from nclens.workflow.build.models import build_network


class Reversed(nn.Module):
    """Names and order of its layers say nothing: the head is declared first."""

    def __init__(self):
        super().__init__()
        self.b = nn.Linear(5, 3)
        self.a = nn.Linear(4, 5)

    def forward(self, inputs):
        return self.b(torch.relu(self.a(inputs)))


class Attending(nn.Module):
    """Its last linear layer by order is none that runs: attention uses its weights only."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, inputs):
        tokens = inputs[:, None]
        return self.head(self.attention(tokens, tokens, tokens)[0][:, 0])


class Pair(NamedTuple):
    logits: torch.Tensor
    auxiliary: torch.Tensor


class Auxiliary(nn.Module):
    """Returns more than logits, in training or always."""

    def __init__(self, always):
        super().__init__()
        self.always, self.head = always, nn.Linear(4, 3)

    def forward(self, inputs):
        logits = self.head(inputs)
        return Pair(logits, inputs) if self.always or self.training else logits


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        return inputs @ self.head.weight.T


class Tokens(nn.Module):
    """Logits of each of two tokens."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 3)

    def forward(self, inputs):
        return self.head(inputs.view(-1, 2, 2))


class Full(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")


def test_a_module_is_split_at_its_last_linear_layer():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))
    inputs = torch.rand(7, 4)
    expected = module(inputs)
    network = split_at_head(module, (4,), 3, "mine")
    assert network.backbone(inputs).shape == (7, 5)
    torch.testing.assert_close(network(inputs), expected)


@pytest.mark.parametrize(("module", "dim"), [(Reversed, 5), (Attending, 4)])
def test_the_head_is_the_linear_layer_that_runs_last(module, dim):
    module = module()
    inputs = torch.rand(7, 4)
    expected = module(inputs)
    network = split_at_head(module, (4,), 3, "mine")
    assert network.backbone(inputs).shape == (7, dim)
    torch.testing.assert_close(network(inputs), expected)


def test_a_bare_linear_layer_is_a_head_of_its_inputs():
    network = split_at_head(nn.Linear(4, 3, bias=False), (4,), 3, "mine")
    assert network.backbone(torch.ones(2, 4)).shape == (2, 4)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.ReLU()), "no linear layer"),
        (nn.Conv2d(4, 3, 1), "no linear layer"),
        (Unused(), "runs none of its linear layers"),
        (nn.Sequential(nn.Linear(4, 6)), "6 rows; the data need 3"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.LogSoftmax(1)), "something comes after it"),
        (nn.Sequential(nn.Linear(7, 3)), r"does not accept inputs of shape \(4,\)"),
        (Tokens(), "something comes after it"),
        (Auxiliary(always=True), r"must return logits \(N, 3\), not Pair"),
        ("linear", r"must be a torch\.nn\.Module, not str"),
    ],
)
def test_a_model_without_a_fitting_head_is_refused(module, words):
    with pytest.raises(ValueError, match=words):
        split_at_head(module, (4,), 3, "mine")


def test_outputs_beside_the_logits_in_training_are_refused():
    module = nn.Sequential(nn.Linear(4, 4), Auxiliary(always=False))
    with pytest.raises(ValueError, match=r"returns Pair in training where features \(N, 4\) are needed"):
        split_at_head(module, (4,), 3, "mine")


def test_a_lack_of_memory_is_no_wrong_shape():
    with pytest.raises(torch.OutOfMemoryError):
        split_at_head(Full(), (4,), 3, "mine")


def test_finding_the_head_changes_neither_statistics_nor_random_numbers():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    network = split_at_head(module, (4,), 3, "mine")
    assert torch.equal(before["1.running_mean"], network.backbone[1].running_mean)
    assert torch.equal(before["3.weight"], network.head.weight)
    assert network.backbone[1].num_batches_tracked == 0
    assert network.training
    # Only the placeholder of the head was drawn, as it is for every network.
    torch.set_rng_state(state)
    nn.Linear(5, 3)
    expected = torch.rand(3)
    torch.set_rng_state(state)
    split_at_head(nn.Sequential(network.backbone, network.head), (4,), 3, "mine")
    assert torch.equal(torch.rand(3), expected)


def test_the_users_own_model_is_built_for_the_data(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n\n"
        "def net(shape, outputs, hidden):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], hidden), nn.ReLU(),\n"
        "                         nn.Linear(hidden, outputs))\n"
    )
    entry = {"entry": "mine", "function": "mine:net", "file": str(path), "parameters": {"hidden": 9}, "dim": None}
    network = build_network(entry, (1, 4, 4), 3)
    assert network.backbone(torch.rand(2, 1, 4, 4)).shape == (2, 9)
