"""Collapse by clean labels, and what noise leaves of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.collapse import class_means, neural_collapse
from nclens.metrics.label_noise import BY_CLEAN, clean_label_collapse


def noisy(classes, each, share, random):
    clean = np.repeat(np.arange(classes), each)
    wrong = random.permutation(len(clean))[: int(share * len(clean))]
    labels = clean.copy()
    labels[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return clean, labels


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 99))
def test_the_ceilings_are_nc1_of_networks_that_have_collapsed(classes, share, seed):
    """Whatever the class means: a random simplex, d >= K - 1, collapsed on either labels."""
    random = np.random.default_rng(seed)
    clean, labels = noisy(classes, 20, share, random)
    means, weight = random.normal(size=(classes, classes + 1)), random.normal(size=(classes, classes + 1))
    found = clean_label_collapse(means[labels], labels, clean, means[labels] @ weight.T, weight, None)
    assert found["nc1_clean_ceiling"] == pytest.approx(found["nc1_clean"], rel=1e-7, abs=1e-12)
    other = neural_collapse(means[clean], labels, weight, None)
    assert found["nc1_ceiling"] == pytest.approx(other["nc1"], rel=1e-7, abs=1e-12)
    assert found["noise_share"] == int(share * len(clean)) / len(clean)


def test_measures_by_clean_labels_are_those_of_the_clean_labels():
    random = np.random.default_rng(1)
    clean, labels = noisy(4, 15, 0.2, random)
    features, weight = random.normal(size=(60, 6)), random.normal(size=(4, 6))
    found = clean_label_collapse(features, labels, clean, features @ weight.T, weight, None)
    expected = neural_collapse(features, clean, weight, None, reference_means=class_means(features, clean, 4))
    assert {key: found[f"{key}_clean"] for key in BY_CLEAN} == {key: expected[key] for key in BY_CLEAN}
    assert found["error_clean"] == np.mean((features @ weight.T).argmax(1) != clean)


@pytest.mark.parametrize("shape", [(12, 2), (12, 4), (1, 3), (11, 3)])
def test_logits_of_another_shape_are_refused(shape):
    labels = torch.arange(12) % 3
    with pytest.raises(ValueError, match=r"logits: expected shape \(12, 3\)"):
        clean_label_collapse(torch.randn(12, 4), labels, labels, torch.zeros(shape), torch.randn(3, 4), None)
