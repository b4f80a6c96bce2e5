"""Tables of classes in tiles against loops over pairs."""

import math
import warnings

import pytest
import torch

from nclens.metrics import pairs
from nclens.metrics.collapse import neural_collapse
from tests.metrics.allocations import largest_tensor

TILES = (1, 7, 16, 40)


def draw(classes=41, dim=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    others = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    return rows - rows.mean(0), others, torch.rand(classes, generator=generator, dtype=torch.float64)


def cdnv_in_loops(rows, variances):
    ratios = [
        math.fsum(variances[[k, m]].tolist()) / (2 * math.fsum(((rows[k] - rows[m]) ** 2).tolist()))
        for k in range(len(rows))
        for m in range(k)
    ]
    return math.fsum(ratios) / len(ratios)


def etf_in_loops(rows, others):
    classes = len(rows)
    gram = [[math.fsum((a * b).tolist()) for b in others] for a in rows]
    norm = math.sqrt(math.fsum(value**2 for row in gram for value in row))
    squares = (
        (gram[k][m] / norm - ((k == m) - 1 / classes) / math.sqrt(classes - 1)) ** 2
        for k in range(classes)
        for m in range(classes)
    )
    return math.sqrt(math.fsum(squares))


def angles_in_loops(rows):
    classes = len(rows)
    found = [
        abs(math.fsum((rows[k] * rows[m]).tolist()) / float(rows[k].norm() * rows[m].norm()) + 1 / (classes - 1))
        for k in range(classes)
        for m in range(k)
    ]
    return math.fsum(found) / len(found)


def test_tables_in_tiles_are_the_loops_over_pairs(monkeypatch):
    rows, others, variances = draw()
    expected = (
        cdnv_in_loops(rows, variances),
        etf_in_loops(others, rows),
        etf_in_loops(rows, rows),
        angles_in_loops(rows),
    )
    for tile in (*TILES, 41):
        monkeypatch.setattr(pairs, "ONE_TILE", tile)
        found = (
            pairs.cdnv(rows, variances),
            pairs.distance_to_etf(others, rows),
            pairs.distance_to_etf(rows, rows),
            pairs.equiangularity(rows),
        )
        assert [float(value) for value in found] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("close", [1, 20])
def test_nearly_equal_means_among_large_norms(monkeypatch, close):
    """A matrix product has no digit of their distance, which decides the mean; `close` pairs are few, or most."""
    rows, _, variances = draw()
    rows = 1e3 * rows
    for k in range(close):
        rows[k] = rows[40] + 1e-6 * (1 + k) * rows[k]
    expected = cdnv_in_loops(rows, variances)
    for tile in TILES:
        monkeypatch.setattr(pairs, "ONE_TILE", tile)
        assert float(pairs.cdnv(rows, variances)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_simplex_and_its_opposite(monkeypatch, sign):
    classes = 41
    rows = torch.linalg.svd(torch.eye(classes, dtype=torch.float64) - 1 / classes).U[:, : classes - 1]
    for tile in TILES:
        monkeypatch.setattr(pairs, "ONE_TILE", tile)
        assert float(pairs.distance_to_etf(sign * rows, rows)) == pytest.approx(1 - sign, abs=1e-14)
        assert float(pairs.equiangularity(rows)) == pytest.approx(0, abs=1e-14)


def test_degenerate_rows_in_tiles(monkeypatch):
    rows, others, variances = draw()
    rows[3] = rows[30]
    zero = others.clone()
    zero[5] = 0
    monkeypatch.setattr(pairs, "ONE_TILE", 16)
    assert pairs.cdnv(rows, variances).isinf()
    assert pairs.cdnv(rows, variances * torch.nan).isnan()
    assert pairs.equiangularity(zero).isnan()
    assert pairs.distance_to_etf(0 * rows, rows).isnan()


def test_no_table_of_many_classes_is_in_memory():
    """Of 750 classes a table has 4.5 MB; nothing is larger than a tile, 2 MiB."""
    classes, dim = 750, 8
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2 * classes, dim, generator=generator)
    weight = torch.randn(classes, dim, generator=generator)
    with largest_tensor() as found, warnings.catch_warnings():
        warnings.simplefilter("error")
        values = neural_collapse(features, torch.arange(2 * classes) % classes, weight, None)
    assert all(math.isfinite(value) for value in values.values())
    assert found.bytes <= 2**21
