"""The head of any network is found by a forward pass, and is z = W h + b."""

import math
import warnings
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from nclens.models import check_affine, count_flops, split_at_head
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


class Net(nn.Module):
    """Features, a head and what `forward` makes of them; `scale` is 1 at first, as a learned scale is."""

    def __init__(self, forward, head=None, training_only=False):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3) if head is None else head
        self.scale = nn.Parameter(torch.ones(()))
        self.made, self.training_only = forward, training_only

    def forward(self, inputs):
        features = torch.relu(self.body(inputs))
        return self.head(features) if self.training_only and not self.training else self.made(self, features)


class Named(nn.Module):
    """Registers its head under two names and runs it by the second."""

    def __init__(self, registered=True):
        super().__init__()
        self.body, self.fc = nn.Linear(4, 4), nn.Linear(4, 3)
        self.classifier = self.fc if registered else None
        self.layers = [self.body, self.fc]

    def forward(self, inputs):
        return (self.classifier or self.layers[-1])(torch.relu(self.body(inputs)))


class Cosine(nn.Linear):
    """A subclass that is not affine: the scaled cosine of features and rows of the weight."""

    def forward(self, inputs):
        rows = nn.functional.normalize(self.weight)
        return 10 * nn.functional.linear(nn.functional.normalize(inputs), rows, self.bias)


class LowRank(nn.Linear):
    """A subclass whose second part is zero at first."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.down, self.up = nn.Parameter(torch.ones(2, sizes[0])), nn.Parameter(torch.zeros(sizes[1], 2))

    def forward(self, inputs):
        return super().forward(inputs) + inputs @ self.down.T @ self.up.T


class Same(nn.Linear):
    """A subclass whose forward pass is another spelling of W h + b."""

    def forward(self, inputs):
        return inputs @ self.weight.T + self.bias


class Rows(nn.Module):
    """Divides the rows of a weight by their norms."""

    def forward(self, weight):
        return nn.functional.normalize(weight)


def in_place(self, features):
    logits = self.head(features)
    logits.mul_(self.scale)
    return logits


def overwritten(self, features):
    logits = self.head(features)
    features.zero_()
    return logits


def hooked(change):
    """A head with a forward hook."""
    head = nn.Linear(4, 3)
    head.register_forward_hook(lambda layer, inputs, output: change(output))
    return head


def hooked_before(change):
    """A head with a forward pre-hook."""
    head = nn.Linear(4, 3)
    head.register_forward_pre_hook(lambda layer, given: change(given[0]))
    return head


def square():
    """A head of the features' size that is the identity at first."""
    head = nn.Linear(3, 3)
    nn.init.eye_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(nn.Linear(4, 3), head, head)


def compiled(module):
    return torch.compile(module, backend="eager")


def compiled_in_place(module):
    module.compile(backend="eager")
    return module


def old(wrap, layer, *arguments):
    """Reparametrise a layer by hooks, which PyTorch calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wrap(layer, *arguments)


PLAIN = nn.utils.parametrizations
AFTER = "must end in its last linear layer `{}` and return its output itself; something comes after it in {}"
NOT_AFFINE = r"the head `{}` \({}\) is not z = W h \+ b: a logit differs from it by \d.*; end in a plain nn.Linear"

REFUSED = {
    "a scale": (Net(lambda self, h: self.head(h) * self.scale), AFTER.format("head", "evaluation")),
    "a scale in place": (Net(in_place), AFTER.format("head", "evaluation")),
    "a scale in a hook": (Net(lambda self, h: self.head(h), hooked(lambda z: 1.0 * z)), AFTER.format("head", "eval")),
    "a scale in a hook, in place": (Net(lambda self, h: self.head(h), hooked(lambda z: z.mul_(1))), AFTER[:20]),
    "a scale in a pre-hook": (
        nn.Sequential(nn.ReLU(), hooked_before(lambda h: (1.0 * h,))),
        "a hook changes the input of the head `1`; change the features before it",
    ),
    "a scale in a pre-hook, in place": (
        nn.Sequential(nn.ReLU(), hooked_before(lambda h: (h.mul_(1),))),
        "a hook changes the input of the head `1`",
    ),
    "a scale in training": (Net(lambda self, h: self.head(h) * self.scale, None, True), AFTER.format("head", "train")),
    "dropout of the logits": (nn.Sequential(nn.Linear(4, 3), nn.Dropout()), AFTER.format("0", "training")),
    "a bare cosine": (Cosine(4, 3), r"the head \(Cosine\) is not z = W h"),
    "a cosine": (nn.Sequential(nn.ReLU(), Cosine(4, 3)), NOT_AFFINE.format("1", "Cosine")),
    "a part that is zero at first": (nn.Sequential(nn.ReLU(), LowRank(4, 3)), NOT_AFFINE.format("1", "LowRank")),
    "another head in training": (
        Net(lambda self, h: self.body(h)[:, :3], nn.Linear(4, 3), True),
        "must end in its last linear layer `body` .* in training",
    ),
    "half precision": (
        Net(lambda self, h: self.head(h.bfloat16()), nn.Linear(4, 3, dtype=torch.bfloat16)),
        r"ends in a linear layer `head` of torch\.bfloat16; the head is trained and measured in float32",
    ),
    "run twice": (square(), "runs its last linear layer `1` 2 times in one pass; the head must run once"),
    "its weight used elsewhere": (
        Net(lambda self, h: self.head(h.to(self.head.weight.dtype))),
        r"cannot be split into features \(N, 4\) and its last linear layer `head`: AttributeError: .*weight",
    ),
    "not registered": (Named(registered=False), "cannot be split .* `fc`: .* by a registered name"),
    "features overwritten": (Net(overwritten), "cannot be split .*: together they give other logits"),
}

ACCEPTED = {
    "two names": lambda: Named(),
    "weight norm by hooks": lambda: nn.Sequential(nn.ReLU(), old(nn.utils.weight_norm, nn.Linear(4, 3))),
    "weight norm": lambda: nn.Sequential(nn.ReLU(), PLAIN.weight_norm(nn.Linear(4, 3))),
    "spectral norm by hooks": lambda: nn.Sequential(nn.ReLU(), old(nn.utils.spectral_norm, nn.Linear(4, 3))),
    "spectral norm": lambda: nn.Sequential(nn.ReLU(), PLAIN.spectral_norm(nn.Linear(4, 3))),
    "orthogonal": lambda: nn.Sequential(nn.ReLU(), PLAIN.orthogonal(nn.Linear(4, 3))),
    "pruned": lambda: nn.Sequential(nn.ReLU(), prune.l1_unstructured(nn.Linear(4, 3), "weight", 5)),
    "lazy": lambda: nn.Sequential(nn.ReLU(), nn.LazyLinear(3)),
    "affine subclass": lambda: nn.Sequential(nn.ReLU(), Same(4, 3)),
    "a hook that only looks": lambda: Net(lambda self, h: self.head(h), hooked(lambda z: None)),
    "a pre-hook that only looks": lambda: nn.Sequential(nn.ReLU(), hooked_before(lambda h: None)),
    "a view of the logits": lambda: Net(lambda self, h: self.head(h).view(len(h), -1)),
    "by keyword": lambda: Net(lambda self, h: self.head(input=h)),
    "in front of the head": lambda: nn.Sequential(nn.ReLU(), nn.Dropout(), nn.Linear(4, 3), nn.Identity()),
    "for several devices": lambda: nn.DataParallel(nn.Sequential(nn.ReLU(), nn.Linear(4, 3))),
    "compiled": lambda: compiled(nn.Sequential(nn.ReLU(), nn.Linear(4, 3))),
    "compiled in place": lambda: compiled_in_place(nn.Sequential(nn.ReLU(), nn.Linear(4, 3))),
    "compiled alone": lambda: nn.Sequential(nn.ReLU(), compiled(nn.Linear(4, 3))),
}


@pytest.mark.parametrize(("module", "words"), REFUSED.values(), ids=REFUSED)
def test_a_head_that_is_not_the_affine_end_of_the_network_is_refused(module, words):
    with pytest.raises(ValueError, match=f"the model mine.*{words}"):
        split_at_head(module, (4,), 3, "mine")


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_every_way_to_write_an_affine_head_is_accepted_and_is_the_same_network(make):
    module = make().eval()
    inputs = torch.randn(7, 4)
    with torch.no_grad():
        expected = module(inputs)
        network = split_at_head(module, (4,), 3, "mine")
        features = network.backbone(inputs)
        torch.testing.assert_close(network(inputs), expected, rtol=0, atol=0)
        torch.testing.assert_close(features @ network.head.weight.T + network.head.bias, expected)
    assert features.shape == (7, 4) == (7, network.head.in_features)
    assert network.head.out_features == 3
    assert count_flops(network, (4,)) >= 2 * 4 * 3
    network.train()(inputs).sum().backward()
    assert all(value.grad is not None for value in network.head.parameters())


def test_a_cosine_head_in_plain_parts_is_accepted_and_measured_as_it_is_used():
    """What the refusal says to write: normalised features, and a weight whose rows are parametrised."""

    class Unit(nn.Module):
        def forward(self, inputs):
            return 10 * nn.functional.normalize(inputs)

    torch.manual_seed(0)
    cosine = Cosine(4, 3)
    plain = nn.Linear(4, 3)
    plain.load_state_dict(cosine.state_dict())
    nn.utils.parametrize.register_parametrization(plain, "weight", Rows())
    with torch.no_grad():
        plain.bias.mul_(10)  # the cosine head scales its bias, too
        network = split_at_head(nn.Sequential(nn.ReLU(), Unit(), plain), (4,), 3, "mine")
        inputs = torch.randn(7, 4)
        torch.testing.assert_close(network(inputs), cosine(torch.relu(inputs)))
        torch.testing.assert_close(network.head.weight.norm(dim=1), torch.ones(3))


def rounding(head, features):
    """The bound of `check_affine`, in float64."""
    eps = max(torch.finfo(features.dtype).eps, torch.finfo(head.weight.dtype).eps)
    size = features.double().abs() @ head.weight.double().abs().T + head.bias.double().abs()
    return 8 * math.sqrt(features.shape[1]) * eps * size


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [1, 7, 2000])
def test_rounding_within_the_bound_passes_and_beyond_it_does_not(dtype, dim):
    torch.manual_seed(dim)
    head = nn.Linear(dim, 3, dtype=dtype)
    features = torch.randn(20, dim, dtype=dtype)
    with torch.no_grad():
        logits = head(features)
        check_affine(head, features, logits, "fc")
        exact = features.double() @ head.weight.double().T + head.bias.double()
        bound = rounding(head, features)
        # Logits in float64, so that they are not rounded once more.
        check_affine(head, features, exact + 0.8 * bound, "fc")
        wrong = exact.clone()
        wrong[13, 1] += 1.2 * bound[13, 1]
        with pytest.raises(ValueError, match=r"the head `fc` \(Linear\) is not z = W h \+ b"):
            check_affine(head, features, wrong, "fc")


def test_the_message_has_the_largest_difference():
    head, features = nn.Linear(4, 3), torch.randn(5, 4)
    logits = head(features)
    logits[3, 2] += 0.25
    with pytest.raises(
        ValueError, match=r"a logit differs from it by 0\.25, and rounding explains \de-06; end in a plain"
    ):
        check_affine(head, features, logits, "fc")


def test_under_autocast_the_precision_is_that_of_the_logits():
    head, features = nn.Linear(300, 3), torch.randn(50, 300)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = head(features)
    assert logits.dtype == torch.bfloat16
    check_affine(head, features, logits, "fc")
    with pytest.raises(ValueError, match="is not z = W h"):
        check_affine(head, features, logits.float(), "fc")


@pytest.mark.parametrize(("precision", "eps"), [("high", 2**-10), ("medium", 2**-7)])
def test_where_products_may_round_their_factors_so_may_the_logits(precision, eps):
    head, features = nn.Linear(4, 3, bias=False), torch.rand(5, 4)
    with torch.no_grad():
        wrong = head(features) + 0.5 * eps * head.weight.abs().sum(1)
    with pytest.raises(ValueError, match="is not z = W h"):
        check_affine(head, features, wrong, "fc")
    torch.set_float32_matmul_precision(precision)
    try:
        check_affine(head, features, wrong, "fc")
    finally:
        torch.set_float32_matmul_precision("highest")


def test_values_that_vanish_or_overflow_are_no_fault_of_the_head():
    head, features = nn.Linear(4, 3, bias=False), torch.full((2, 4), 1e-25)
    with torch.no_grad():
        head.weight.fill_(1e-20)
        check_affine(head, features, torch.zeros(2, 3), "fc")  # products below the smallest normal number
        head.weight.fill_(1e20)
        check_affine(head, 1e45 * features, torch.full((2, 3), math.inf), "fc")
        check_affine(head, math.nan * features, torch.full((2, 3), math.nan), "fc")
        with pytest.raises(ValueError, match="differs from it by nan"):
            check_affine(head, features, torch.full((2, 3), math.nan), "fc")


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
        (Tokens(), r"must return logits \(N, 3\), not a tensor of shape \(2, 2, 3\) for 2 samples"),
        (Auxiliary(always=True), r"must return logits \(N, 3\), not Pair"),
        ("linear", r"must be a torch\.nn\.Module, not str"),
    ],
)
def test_a_model_without_a_fitting_head_is_refused(module, words):
    with pytest.raises(ValueError, match=words):
        split_at_head(module, (4,), 3, "mine")


def test_outputs_beside_the_logits_in_training_are_refused():
    module = nn.Sequential(nn.Linear(4, 4), Auxiliary(always=False))
    with pytest.raises(ValueError, match=r"returns Pair in training where logits \(N, 3\) are needed"):
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
    # Only a layer of the size of the head was drawn, as for every network.
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
