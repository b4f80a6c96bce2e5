"""Measures of one layer against loops, and the law of equi-separation on exact sequences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.layers import (
    KEYS,
    REGRESSION_KEYS,
    equi_separation,
    layer_collapse,
    layer_regression,
    linear_cka,
    nearest_mean_accuracy,
    stable_rank,
)

N, K, D = 24, 4, 6
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(N) % K
H = torch.randn(N, D, generator=GENERATOR, dtype=torch.float64) + 2 * torch.nn.functional.one_hot(LABELS, D)
Y = torch.randn(N, 2, generator=GENERATOR, dtype=torch.float64)
MEANS = torch.randn(K, D, generator=GENERATOR, dtype=torch.float64)


def literal(features, labels, classes, reference):
    """The formulas as they are written, in loops over samples and classes."""
    h, y = features.numpy(), labels.numpy()
    means = np.array([h[y == k].mean(0) for k in range(classes)])
    m = means - means.mean(0)
    within = sum(np.outer(x - means[k], x - means[k]) for x, k in zip(h, y, strict=True)) / len(h)
    between = m.T @ m / classes
    spread = [np.mean([((x - means[k]) ** 2).sum() for x in h[y == k]]) for k in range(classes)]
    pairs = [(k, j) for k in range(classes) for j in range(classes) if k != j]
    right = [np.argmin([((x - r) ** 2).sum() for r in reference]) == k for x, k in zip(h, y, strict=True)]
    centred = np.linalg.svd(h - h.mean(0), compute_uv=False)
    rank = min(classes - 1, h.shape[1])
    values, vectors = np.linalg.eigh(between)
    inverse = sum(np.outer(v, v) / s for s, v in list(zip(values, vectors.T, strict=True))[-rank:])
    cosines = [m[k] @ m[j] / np.linalg.norm(m[k]) / np.linalg.norm(m[j]) for k, j in pairs]
    return {
        "nc1": np.trace(within @ inverse) / classes,
        "nc1_quotient": np.trace(within) / np.trace(between),
        "cdnv": np.mean([(spread[k] + spread[j]) / 2 / ((means[k] - means[j]) ** 2).sum() for k, j in pairs]),
        "accuracy": np.mean(right),
        "equiangular": np.mean([abs(c + 1 / (classes - 1)) for c in cosines]),
        "stable_rank": (centred**2).sum() / centred[0] ** 2,
    }


@pytest.mark.parametrize("dim", [D, 2])
def test_a_layer_against_loops(dim):
    found = layer_collapse(H[:, :dim], LABELS, K, reference_means=MEANS[:, :dim])
    assert tuple(found) == KEYS
    assert found == pytest.approx(literal(H[:, :dim], LABELS, K, MEANS[:, :dim].numpy()), rel=1e-9)


def test_own_means_by_default_and_classes_that_lack_samples():
    own = torch.stack([H[k == LABELS].mean(0) for k in range(K)])
    assert layer_collapse(H, LABELS, K) == layer_collapse(H, LABELS, K, reference_means=own)
    # A fifth class without samples changes nothing; one with a single sample has no scatter.
    assert layer_collapse(H, LABELS, K + 1) == layer_collapse(H, LABELS, K)
    more, labels = torch.cat([H, H[:1] + 9]), torch.cat([LABELS, torch.tensor([K])])
    found = layer_collapse(more, labels, K + 1)
    assert {key: found[key] for key in KEYS if key != "accuracy"} == {
        key: layer_collapse(H, LABELS, K)[key] for key in KEYS if key != "accuracy"
    }
    assert found["accuracy"] == pytest.approx((N * layer_collapse(H, LABELS, K)["accuracy"] + 1) / (N + 1))


def test_a_class_without_a_mean_is_left_out_of_the_accuracy_and_ties_go_to_the_lower_class():
    means = torch.tensor([[0.0], [1.0], [torch.nan]])
    assert nearest_mean_accuracy(torch.tensor([[0.5], [0.4], [7.0]]), torch.tensor([0, 1, 2]), means) == 0.5
    assert math.isnan(nearest_mean_accuracy(torch.tensor([[7.0]]), torch.tensor([2]), means))


@given(slope=st.floats(-3, 3).filter(lambda s: abs(s) > 1e-3), start=st.floats(-5, 5), count=st.integers(6, 30))
@settings(max_examples=30, deadline=None)
def test_a_geometric_sequence_has_its_slope_and_a_perfect_correlation(slope, start, count):
    values = [math.exp(start + slope * layer) for layer in range(count)]
    found, correlation = equi_separation(values)
    assert found == pytest.approx(slope, rel=1e-6)
    assert correlation == pytest.approx(math.copysign(1, slope), abs=1e-9)
    # K D_l, or D_l of another unit, has the same.
    assert equi_separation([7 * value for value in values]) == pytest.approx((found, correlation), rel=1e-6)


def test_the_law_from_six_layers_on_and_of_positive_numbers():
    logs = [5.0, 3.5, 3.4, 2.0, 0.5, 0.1, -1.0]
    slope = np.polyfit(range(7), logs, 1)[0]
    values = np.exp(logs)
    assert equi_separation(values) == pytest.approx((slope, np.corrcoef(range(7), logs)[0, 1]))
    for wrong in (values[:5], [*values[:-1], 0.0], [*values, math.inf], [*values, math.nan], []):
        assert all(map(math.isnan, equi_separation(wrong)))
    assert equi_separation([2.0] * 6)[0] == 0
    assert math.isnan(equi_separation([2.0] * 6)[1])


def test_a_layer_of_a_regression_against_formulas():
    fitted, aims = H[:16], Y[:16]
    kernel = torch.randn(D, 3, 2, 2, generator=GENERATOR)
    found = layer_regression(H[16:], Y[16:], train_features=fitted, train_targets=aims, weight=kernel)
    assert tuple(found) == REGRESSION_KEYS
    h, y = H[16:].numpy(), Y[16:].numpy()
    h, y = h - h.mean(0), y - y.mean(0)
    values = np.linalg.eigvalsh(h.T @ h)
    gram = h @ h.T, y @ y.T
    design = np.c_[fitted.numpy(), np.ones(16)]
    solution = np.linalg.lstsq(design, aims.numpy(), rcond=None)[0]
    left = Y[16:].numpy() - np.c_[H[16:].numpy(), np.ones(8)] @ solution
    weight = np.linalg.svd(kernel.double().numpy().reshape(D, -1), compute_uv=False)
    assert found == pytest.approx(
        {
            "noise": 1 - values[-2:].sum() / values.sum(),
            "cka": (gram[0] * gram[1]).sum() / np.linalg.norm(gram[0]) / np.linalg.norm(gram[1]),
            "readout_mse": (left**2).sum(1).mean(),
            "stable_rank": values.sum() / values[-1],
            "stable_rank_weight": (weight**2).sum() / weight[0] ** 2,
        },
        rel=1e-9,
    )


def test_a_regression_that_has_collapsed():
    collapsed = Y @ torch.randn(2, D, generator=GENERATOR, dtype=torch.float64) + 3
    found = layer_regression(collapsed, Y)
    assert found["noise"] == pytest.approx(0, abs=1e-12)
    assert found["readout_mse"] == pytest.approx(0, abs=1e-20)
    assert math.isnan(found["stable_rank_weight"])
    turned = torch.linalg.qr(torch.randn(2, 2, generator=GENERATOR, dtype=torch.float64)).Q
    assert linear_cka(5 * Y @ turned, Y) == pytest.approx(1)
    assert math.isnan(linear_cka(torch.ones(N, 2), Y))
    assert stable_rank(torch.eye(4)) == pytest.approx(4)
    assert math.isnan(stable_rank(torch.zeros(2, 2)))
    dead = layer_regression(torch.zeros(N, D), Y)
    assert all(math.isnan(dead[key]) for key in ("noise", "cka", "stable_rank"))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="targets: expected 24 rows as the features, got 3"):
        layer_regression(H, Y[:3])
    with pytest.raises(ValueError, match="train_features: expected 6 columns as the features, got 2"):
        layer_regression(H, Y, train_features=H[:, :2], train_targets=Y)
    with pytest.raises(ValueError, match="targets: expected 24 rows as the features, got 3"):
        linear_cka(H, Y[:3])


def test_a_weight_that_is_no_matrix_and_targets_of_another_width_are_refused():
    features, targets = torch.randn(6, 3), torch.randn(6, 2)
    with pytest.raises(ValueError, match="weight: expected a matrix or a kernel"):
        layer_regression(features, targets, weight=torch.ones(3))
    with pytest.raises(ValueError, match="train_targets: expected 2 columns"):
        layer_regression(features, targets, train_features=features, train_targets=targets[:, :1])


def test_with_fewer_than_two_classes_only_the_accuracy_by_given_means_has_a_value():
    features, labels = torch.tensor([[0.0, 1.0], [0.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1, 1])
    found = layer_collapse(features, labels, 2, reference_means=torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.pop("accuracy") == pytest.approx(2 / 3)
    assert all(math.isnan(value) for value in found.values())
