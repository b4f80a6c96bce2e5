"""Effective and stable ranks against a literal reference, exact cases, invariances and limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.collapse_streaming import NeuralCollapse
from nclens.metrics.ranks import KEYS, MATRICES, collapse_ranks
from tests.metrics.test_collapse import draw, simplex


def literal(features, labels):
    """The formulas as they are written, singular value by singular value."""
    h = features.double()
    means = {int(k): h[labels == k].mean(0) for k in labels.unique()}
    hbar = torch.stack(list(means.values()))
    matrices = (h - h.mean(0), torch.stack([x - means[int(k)] for x, k in zip(h, labels, strict=True)]))
    values = {}
    for name, matrix in zip(MATRICES, (*matrices, hbar - hbar.mean(0)), strict=True):
        s = [float(one) for one in torch.linalg.svd(matrix).S]
        p = [one / sum(s) for one in s]
        values[f"effective_rank_{name}"] = math.exp(-sum(one * math.log(one) for one in p if one > 0))
        values[f"stable_rank_{name}"] = sum(one**2 for one in s) / max(s) ** 2
    return {key: values[key] for key in KEYS}


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (4, 6), (5, 2), (3, 60)])
def test_agrees_with_the_literal_reference(classes, dim):
    features, labels, *_ = draw(classes, dim)
    found = collapse_ranks(features, labels)
    assert tuple(found) == KEYS
    assert found == pytest.approx(literal(features, labels), rel=2e-6)


def test_many_samples_go_in_chunks():
    features, labels, *_ = draw(3, 5, per_class=1200)
    assert collapse_ranks(features, labels) == pytest.approx(literal(features, labels), rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6), size=st.floats(-30, 30), offset=st.floats(-10, 10), sizes=st.lists(st.integers(1, 20))
)
def test_invariances_bounds_and_the_streaming_form(seed, size, offset, sizes):
    features, labels, weight, _ = draw(seed=seed)
    expected = collapse_ranks(features, labels)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)).double()).Q
    moved = 10.0**size * (features @ rotation + offset)
    assert collapse_ranks(moved, labels) == pytest.approx(expected, rel=1e-6)
    for name, most in (("features", 6), ("residuals", 6), ("means", 3)):
        assert 1 <= expected[f"stable_rank_{name}"] <= most + 1e-9
        assert 1 <= expected[f"effective_rank_{name}"] <= most + 1e-9
    metric = NeuralCollapse(4, 6)
    cuts = [*sizes, len(labels)]
    for start, stop in zip([0, *torch.tensor(cuts).cumsum(0).tolist()], torch.tensor(cuts).cumsum(0), strict=False):
        metric.update(features[start:stop], labels[start:stop], weight)
    assert {key: float(value) for key, value in metric.ranks().items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (3, 2), (10, 12)])
def test_a_simplex_has_ranks_of_k_minus_1(classes, dim):
    labels = torch.arange(classes).repeat(3)
    found = collapse_ranks(5 * simplex(classes, dim)[labels] + 0.3, labels)
    for name in ("means", "features"):
        assert found[f"effective_rank_{name}"] == pytest.approx(classes - 1, rel=1e-9)
        assert found[f"stable_rank_{name}"] == pytest.approx(classes - 1, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_residuals_at_rounding_level_and_zero_matrices_have_no_rank(dtype):
    labels = torch.arange(4).repeat(5)
    centres = (3 * simplex(4, 6) + 7).to(dtype)
    ulp = torch.finfo(dtype).eps * torch.randint(-1, 2, (20, 6), generator=torch.Generator().manual_seed(0)).to(dtype)
    for features in (centres[labels], centres[labels] * (1 + ulp / 4)):
        found = collapse_ranks(features, labels)
        missing = [key for key in KEYS if math.isnan(found[key])]
        assert missing == ["effective_rank_residuals", "stable_rank_residuals"]
        metric = NeuralCollapse(4, 6)
        for x, y in zip(features.split(7), labels.split(7), strict=True):
            metric.update(x, y, torch.eye(4, 6))
        assert {key: float(value) for key, value in metric.ranks().items()} == pytest.approx(
            found, rel=1e-6, nan_ok=True
        )
    spread = centres[labels] * (1 + 100 * ulp)
    assert not math.isnan(collapse_ranks(spread, labels)["effective_rank_residuals"])
    assert all(
        math.isnan(value) for value in collapse_ranks(torch.full((4, 3), 0.1), torch.tensor([0, 0, 1, 1])).values()
    )


def test_what_is_left_out():
    features, labels, weight, _ = draw()
    expected = collapse_ranks(features[labels != 2], labels[labels != 2])
    assert collapse_ranks(features, labels, ignore_index=2) == pytest.approx(expected)
    few = torch.cat([torch.arange(len(labels))[labels != 2], (labels == 2).nonzero()[:1, 0]])
    assert collapse_ranks(features[few], labels[few], min_samples=2) == pytest.approx(expected)
    metric = NeuralCollapse(4, 6, min_samples=2)
    metric.update(features[few], labels[few], weight)
    assert {key: float(value) for key, value in metric.ranks().items()} == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="labels: expected two classes or more, got 1"):
        collapse_ranks(features, labels * 0)
