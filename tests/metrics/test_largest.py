"""The largest score found in float32 is that of float64, at any scale and where scores are nearly equal."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics import collapse, largest
from nclens.metrics.collapse import neural_collapse
from nclens.metrics.largest import find_largest


def draw(samples=30, dim=6, classes=70, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((samples, dim), (classes, dim), (classes,))
    return [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


def in_loops(x, rows, offset):
    scores = [[math.fsum([*(h * row).tolist(), o]) for row, o in zip(rows, offset.tolist(), strict=True)] for h in x]
    return [max(range(len(rows)), key=of.__getitem__) for of in scores]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tile=st.sampled_from([32, 64, 512]),
    scale=st.sampled_from([1e-60, 1e-38, 1.0, 1e30, 1e38, 1e60]),
    shift=st.sampled_from([0.0, 1e3]),
    classes=st.integers(1, 90),
)
def test_any_shape_and_scale(seed, tile, scale, shift, classes):
    x, rows, offset = draw(samples=8, classes=classes, seed=seed)
    x = scale * (x + shift)
    offset = scale * (offset - shift * rows.sum(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(largest, "_TILE", tile)
        assert find_largest(x, rows, offset).tolist() == in_loops(x, rows, offset)


@pytest.mark.parametrize("step", [0.0, 1e-12, 1e-9, 1e-6])
@pytest.mark.parametrize("tile", [32, 512])
def test_nearly_equal_scores_are_told_apart_as_in_float64(monkeypatch, step, tile):
    """Rows of all classes differ by less than float32 resolves; of scores that are equal the first is taken."""
    x, rows, offset = draw()
    x = (8 * x).round()  # so that equal scores are exactly equal
    rows = (8 * rows[:1]).round() + step * torch.arange(70)[:, None].flip(0) * rows
    offset = 0 * offset
    monkeypatch.setattr(largest, "_TILE", tile)
    found = find_largest(x, rows, offset)
    assert found.tolist() == in_loops(x, rows, offset)
    assert not bool(largest._in_float32(x, rows, offset)[1].all())


def test_most_samples_are_settled_in_float32():
    x, rows, offset = draw(samples=1000, dim=64)
    place, certain = largest._in_float32(x, rows, offset)
    assert float(certain.double().mean()) > 0.99
    assert torch.equal(place[certain], (x @ rows.T + offset).argmax(1)[certain])


def test_no_lower_precision_is_let_in(monkeypatch):
    """Under autocast, or where PyTorch may round float32 products to bfloat16, the values are the same."""
    x, rows, offset = draw(samples=200, dim=64)
    expected = (x @ rows.T + offset).argmax(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(find_largest(x, rows, offset), expected)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(largest, "_in_float32", None)
    assert torch.equal(find_largest(x, rows, offset), expected)
    assert find_largest(x[:0], rows, offset).tolist() == []


def test_nc4_of_many_classes_is_that_of_few(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 60
    features = torch.randn(60, 8, generator=generator)[labels] + torch.randn(300, 8, generator=generator)
    weight = torch.randn(60, 8, generator=generator)
    bias = torch.randn(60, generator=generator)
    expected = neural_collapse(features, labels, weight, bias)
    monkeypatch.setattr(collapse, "ONE_TILE", 16)
    for rows in (1, 64, 1024):
        monkeypatch.setattr(collapse, "_ROWS", rows)
        found = neural_collapse(features, labels, weight, bias)
        assert found["nc4"] == expected["nc4"]
        assert found == pytest.approx(expected, rel=1e-12)
