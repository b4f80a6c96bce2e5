"""Whether a loss ignores a constant added to all logits, as its gradients tell."""

import math

import pytest
import torch

from nclens import losses
from nclens.study.losses import LOSSES, CustomLoss
from nclens.training.shift import TOLERANCES, shift_gradient

ARGUMENTS = {
    "ls": {"smoothing": 0.1},
    "maxsup": {"alpha": 0.2},
    "logit_penalty": {"beta": 2e-3},
    "ls_regularisation": {"smoothing": 0.1},
    "ls_error_amplification": {"smoothing": 0.1},
    "online_label_smoothing": {"soft_weight": 0.5},
    "confidence_penalty": {"beta": 0.1},
    "focal": {"gamma": 2.0},
    "distillation": {"temperature": 4.0, "weight": 0.5},
}


def of(name):
    registered = losses.LOSSES[name]
    function = registered() if isinstance(registered, type) else registered
    others = ARGUMENTS.get(name, {})
    if name == "distillation":
        return lambda logits, labels: function(logits, labels, logits.detach().flip(0) - 1, **others)
    return lambda logits, labels: function(logits, labels, **others)


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].task == "classification"])
def test_what_a_study_says_of_a_loss_is_what_its_gradients_tell(name):
    for dtype, tolerance in TOLERANCES.items():
        found = [shift_gradient(of(name), classes, dtype) for classes in (2, 10, 150)]
        assert LOSSES[name].ignores_shift is (max(found) <= tolerance / 3)
        assert max(found) <= tolerance / 3 or min(found) > 10 * tolerance


def test_a_weak_penalty_on_the_logits_is_seen_and_a_loss_in_float32_is_none():
    weak = shift_gradient(lambda logits, labels: losses.ce(logits, labels) + 1e-7 * logits.square().sum(1), 10)
    rounded = shift_gradient(lambda logits, labels: losses.ce(logits.float(), labels), 10)
    assert rounded < TOLERANCES[torch.float64] / 3 < TOLERANCES[torch.float64] < weak


def test_only_its_function_can_tell_of_the_users_own():
    assert CustomLoss.ignores_shift is None


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda logits, labels: losses.ce(logits, labels).mean(), 0.0),  # the mean over samples
        (lambda logits, labels: logits.sum(1), 1.0),
        (lambda logits, labels: logits[:, 0] - logits[:, 1], 0.0),
        (lambda logits, labels: torch.relu(logits.amax(1) - 8), 1.0),  # seen at large logits alone
        (lambda logits, labels: torch.zeros(len(labels)), 0.0),  # no gradient
        (lambda logits, labels: 0 * logits.sum(1), 0.0),
    ],
)
def test_by_hand(loss, expected):
    assert shift_gradient(loss, 4) == pytest.approx(expected, abs=1e-6)


def test_a_gradient_that_is_not_finite_is_nan():
    assert math.isnan(shift_gradient(lambda logits, labels: (0 * logits).sqrt().sum(1), 3))


def test_the_random_generator_is_left_alone():
    state = torch.get_rng_state()
    shift_gradient(losses.ce, 3)
    assert torch.equal(torch.get_rng_state(), state)
