"""What is measured of one split's features."""

import math

import pytest
import torch

from nclens.metrics.measurement import measure_split
from nclens.workflow.build.losses import build_loss

K = 4


def split(seed=0, count=80, dim=6):
    """Features, labels and a head that is right on some samples and wrong on others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % K
    centres = torch.randn(K, dim, generator=generator)
    features = centres[labels] + 1.2 * torch.randn(count, dim, generator=generator)
    return features, labels, centres + 0.3 * torch.randn(K, dim, generator=generator), torch.zeros(K)


def test_a_penalty_adds_its_derivative_to_the_gradient_on_the_top_logit():
    features, labels, weight, bias = split()
    alpha = 0.3

    def measured(entry):
        return measure_split(features, None, labels, weight, bias, loss=build_loss(entry))

    plain = measured({"name": "ce"})
    assert plain["top_logit_gradient_correct"] == pytest.approx(plain["confidence_correct"] - 1)
    assert plain["top_logit_gradient_incorrect"] == pytest.approx(plain["confidence_incorrect"])
    for entry, on_right, on_wrong in (
        ({"name": "ls", "smoothing": alpha}, 1 - 1 / K, -1 / K),
        ({"name": "maxsup", "alpha": alpha}, 1 - 1 / K, 1 - 1 / K),
        ({"name": "ls_regularisation", "alpha": alpha}, 1 - 1 / K, 0.0),
        ({"name": "ls_error_amplification", "alpha": alpha}, 0.0, -1 / K),
    ):
        values = measured(entry)
        for part, added in (("correct", on_right), ("incorrect", on_wrong)):
            key = f"top_logit_gradient_{part}"
            assert values[key] - plain[key] == pytest.approx(alpha * added, abs=1e-12)


def test_the_parts_of_smoothing_are_weighed_by_their_samples():
    features, labels, weight, bias = split()
    values = measure_split(features, None, labels, weight, bias)
    logits = features.double() @ weight.double().T
    penalty = float((logits.gather(1, labels[:, None])[:, 0] - logits.mean(1)).mean())
    parts = {
        part: values[f"ls_regularisation_{part}"] + values[f"ls_error_amplification_{part}"]
        for part in ("correct", "incorrect")
    }
    right = values["accuracy"]
    assert right * parts["correct"] + (1 - right) * parts["incorrect"] == pytest.approx(penalty)
    assert "top_logit_gradient_correct" not in values


def test_spread_is_of_directions_and_not_of_lengths():
    features, labels, weight, bias = split()
    lengths = torch.rand(len(labels), 1, generator=torch.Generator().manual_seed(1)) + 0.5
    first = measure_split(features, None, labels, weight, bias)
    second = measure_split(features * lengths, None, labels, weight, bias)
    for key in ("d_within", "d_total", "r2_angular"):
        assert first[key] == pytest.approx(second[key], rel=1e-5)
    assert first["nc1"] != pytest.approx(second["nc1"], rel=1e-5)


def test_what_no_sample_shows_is_not_a_number():
    values = measure_split(
        10 * torch.eye(K).repeat(2, 1), None, torch.arange(K).repeat(2), torch.eye(K), torch.zeros(K)
    )
    assert values["ls_error_amplification_correct"] == 0
    assert all(math.isnan(values[f"{key}_incorrect"]) for key in ("ls_regularisation", "top_logit_gap", "confidence"))
