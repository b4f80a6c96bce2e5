"""The loss of mixed samples is the one of mixed targets, by each loss's formula."""

import pytest
import torch
from torch.nn import functional

from nclens.data.tensors import Split
from nclens.losses import LOSSES
from nclens.study import losses as config
from nclens.training.loss import TrainedLoss
from nclens.training.mixing import Mixed, MixedLoss, Mixing, once
from nclens.workflow.build.losses import build_loss
from tests.losses import entry
from tests.training.test_loop import split

K, SHARE = 4, 0.3
LOGITS = torch.randn(8, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
PAIRS = torch.stack([torch.arange(8) % K, torch.arange(8) // 2 % K], dim=1)
ONEHOT = functional.one_hot(PAIRS, K).double()
TARGETS = SHARE * ONEHOT[:, 0] + (1 - SHARE) * ONEHOT[:, 1]
TEACHER = torch.randn(8, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def soft(logits, targets):
    return -(targets * logits.log_softmax(1)).sum(1)


def smoothed(targets, smoothing):
    return (1 - smoothing) * targets + smoothing / K


#: Loss -> its arguments, and its formula for mixed targets q (N, K).
FORMULAS = {
    "ce": ({}, soft),
    "ls": ({"smoothing": 0.2}, lambda z, q: soft(z, smoothed(q, 0.2))),
    "maxsup": ({"alpha": 0.7}, lambda z, q: soft(z, q) + 0.7 * (z.amax(1) - z.mean(1))),
    "logit_penalty": ({"beta": 0.1}, lambda z, q: soft(z, q) + 0.05 * z.square().sum(1)),
    "confidence_penalty": ({"beta": 0.1}, lambda z, q: soft(z, q) + 0.1 * (z.softmax(1) * z.log_softmax(1)).sum(1)),
    "mse": ({}, lambda z, q: 0.5 * (z - q).square().sum(1) + 0.5 * (1 - q.square().sum(1))),
    "distillation": (
        {"temperature": 2.0, "weight": 0.4},
        lambda z, q: 0.6 * soft(z, q) + 0.4 * soft(z / 2, (TEACHER / 2).softmax(1)),
    ),
}


def test_these_are_the_losses_that_take_mixed_targets():
    assert set(FORMULAS) == {name for name, one in config.LOSSES.items() if one.mixes}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_mixture_of_losses_is_the_loss_of_the_mixed_target(name):
    arguments, formula = FORMULAS[name]
    logits = LOGITS.clone().requires_grad_()
    taught = {"teacher": lambda inputs: TEACHER} if name == "distillation" else {}
    loss = MixedLoss(TrainedLoss(LOSSES[name], arguments, **taught), SHARE)
    found, expected = loss(logits, PAIRS, torch.zeros(8)), formula(logits, TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(one.sum(), logits, retain_graph=True)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_targets_of_label_smoothing_are_mixed_after_smoothing():
    """Which is PyTorch's cross entropy of mixed targets, smoothed: both are linear."""
    found = MixedLoss(build_loss(entry("ls", smoothing=0.2)), SHARE)(LOGITS, PAIRS, LOGITS)
    after = SHARE * smoothed(ONEHOT[:, 0], 0.2) + (1 - SHARE) * smoothed(ONEHOT[:, 1], 0.2)
    torch.testing.assert_close(found, soft(LOGITS, after), rtol=1e-12, atol=1e-12)
    theirs = functional.cross_entropy(LOGITS, TARGETS, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(found, theirs, rtol=1e-12, atol=1e-12)


def test_squared_error_differs_from_that_of_the_mixed_target_by_a_constant():
    found = MixedLoss(build_loss(entry("mse")), SHARE)(LOGITS, PAIRS, LOGITS)
    constant = torch.where(PAIRS[:, 0] == PAIRS[:, 1], 0.0, SHARE * (1 - SHARE)).double()
    torch.testing.assert_close(found, 0.5 * (LOGITS - TARGETS).square().sum(1) + constant)


def test_each_label_has_the_weight_of_its_class():
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    loss = MixedLoss(TrainedLoss(LOSSES["ce"], class_weights=weights), SHARE)
    expected = soft(LOGITS, TARGETS * weights)
    torch.testing.assert_close(loss(LOGITS, PAIRS, LOGITS), expected)


def test_statistics_are_mixtures():
    logits, pairs = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0, 1], [0, 0]])
    mixed = Mixed(logits, pairs, 0.75)
    cross_entropy, error = mixed.statistics("classification", logits, pairs)
    targets = torch.tensor([[0.75, 0.25], [1.0, 0.0]])
    assert cross_entropy.item() == pytest.approx(functional.cross_entropy(logits, targets).item())
    assert error.item() == pytest.approx((0.25 + 1.0) / 2)


def test_a_batch_has_the_labels_of_both_samples_and_the_share_of_its_inputs():
    inputs, labels = torch.rand(5, 6), torch.tensor([2, 0, 1, 1, 0])
    mixed = Mixing(mixup=1.0)(inputs, labels, seed=4)
    assert mixed.targets.tolist() == [[2, 0], [0, 2], [1, 0], [1, 1], [0, 1]]
    torch.testing.assert_close(mixed.inputs, mixed.share * inputs + (1 - mixed.share) * inputs.roll(1, 0))


def test_rows_are_not_cut():
    rows = Split.place(torch.rand(6, 7), torch.arange(6) % 2, [0.0] * 7, [1.0] * 7, "cpu")
    with pytest.raises(ValueError, match="cutmix needs images"):
        Mixing(cutmix=1.0).check(rows)
    Mixing(mixup=1.0).check(rows)
    Mixing(cutmix=1.0).check(split(6))


def test_targets_of_a_regression_are_not_mixed():
    rows = Split.place(torch.rand(6, 2), torch.rand(6, 3), [0.0] * 2, [1.0] * 2, "cpu", "regression")
    with pytest.raises(ValueError, match="the task of the data is regression"):
        Mixing(mixup=1.0).check(rows)


def test_a_teacher_runs_once_a_batch():
    seen = []

    def teacher(inputs):
        seen.append(inputs)
        return inputs @ torch.ones(3, 2)

    teach, batches = once(teacher), [torch.rand(4, 3) for _ in range(2)]
    for batch in (batches[0], batches[0], batches[1], batches[0]):
        assert torch.equal(teach(batch), batch @ torch.ones(3, 2))
    assert [one is other for one, other in zip(seen, [batches[0], batches[1], batches[0]], strict=True)] == [True] * 3
