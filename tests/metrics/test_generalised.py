"""Generalised collapse against literal loops, another solver, known optima, invariances and limits."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from nclens.metrics import generalised
from nclens.metrics.collapse_streaming import NeuralCollapse
from nclens.metrics.generalised import KEYS, generalised_collapse, one_vs_rest_distance, one_vs_rest_optimum
from tests.metrics.test_collapse import draw, simplex


def hull_distance(rows, k):
    """Distance of row k to the convex hull of the others, by a general solver."""
    points = np.delete(rows, k, axis=0) - rows[k]
    count = len(points)
    found = minimize(
        lambda x: float((x @ points) @ (x @ points)),
        np.full(count, 1 / count),
        jac=lambda x: 2 * points @ (x @ points),
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1000},
    )
    return math.sqrt(max(found.fun, 0))


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def literal(features, labels, weight):
    h, w = features.double(), weight.double()
    hbar = torch.stack([h[labels == k].mean(0) for k in range(len(w))])
    rows = {"means": unit(hbar - hbar.mean(0)), "classifier": unit(w)}
    values = {}
    for matrix, u in rows.items():
        pairs = [float((u[k] - u[m]).norm()) for k, m in itertools.combinations(range(len(u)), 2)]
        kernels = {"log": [-math.log(r) for r in pairs], "riesz": [1 / r for r in pairs], "distance": pairs}
        for kernel, all_of in kernels.items():
            mean = sum(all_of) / len(all_of)
            values[f"gnc2_{kernel}_{matrix}"] = mean
            values[f"gnc2_{kernel}_variance_{matrix}"] = sum((one - mean) ** 2 for one in all_of) / len(all_of)
        values[f"one_vs_rest_{matrix}"] = min(hull_distance(u.numpy(), k) for k in range(len(u)))
    inner = [float(a @ b) for a, b in zip(*rows.values(), strict=True)]
    values["unc3"] = sum((one - sum(inner) / len(inner)) ** 2 for one in inner) / len(inner)
    values["one_vs_rest_optimum"] = one_vs_rest_optimum(*w.shape)
    return {key: values[key] for key in KEYS}


@pytest.mark.parametrize(("classes", "dim"), [(2, 3), (4, 6), (7, 2), (9, 4), (6, 5)])
def test_agrees_with_the_literal_reference(classes, dim):
    features, labels, weight, _ = draw(classes, dim)
    found = generalised_collapse(features, labels, weight)
    assert tuple(found) == KEYS
    assert found == pytest.approx(literal(features, labels, weight), rel=1e-6, abs=1e-7, nan_ok=True)


def test_tiles_change_nothing(monkeypatch):
    features, labels, weight, _ = draw(9, 4)
    expected = generalised_collapse(features, labels, weight)
    monkeypatch.setattr(generalised, "_TILE_BYTES", 8 * 9 * 2)
    assert generalised_collapse(features, labels, weight) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    rows = simplex(9, 8) + 0.01 * draw(9, 8)[2]
    found = one_vs_rest_distance(rows)
    monkeypatch.undo()
    assert found == pytest.approx(one_vs_rest_distance(rows), rel=1e-12)


def polygon(classes):
    angle = 2 * math.pi * torch.arange(classes, dtype=torch.float64) / classes
    return torch.stack([angle.cos(), angle.sin()], dim=1)


CODES = {
    "simplex": (simplex(5, 4), 1.25),
    "simplex in more dimensions": (simplex(5, 9), 1.25),
    "pair": (simplex(2, 1), 2.0),
    "cross polytope": (torch.cat([torch.eye(4), -torch.eye(4)]).double(), 1.0),
    "cross polytope without a vertex": (torch.cat([torch.eye(4), -torch.eye(4)[:2]]).double(), 1.0),
    "polygon": (polygon(10), 1 - math.cos(math.pi / 5)),
    "three on a circle": (polygon(3), 1.5),
}


@pytest.mark.parametrize("name", CODES)
def test_known_optima_are_reached(name):
    rows, optimum = CODES[name]
    assert one_vs_rest_optimum(*rows.shape) == pytest.approx(optimum, rel=1e-15)
    assert one_vs_rest_distance(rows) == pytest.approx(optimum, rel=1e-12)
    labels = torch.arange(len(rows)).repeat(2)
    found = generalised_collapse(3 * rows[labels] + 1, labels, rows)
    if abs(rows.mean(0)).max() < 1e-12:  # otherwise the class means, which are centred, have other angles
        assert found["one_vs_rest_means"] == pytest.approx(optimum, rel=1e-9)
        assert found["unc3"] == pytest.approx(0, abs=1e-24)
    if len(rows) <= rows.shape[1] + 1:
        assert found["gnc2_distance_classifier"] == pytest.approx(math.sqrt(2 * len(rows) / (len(rows) - 1)))
        assert found["gnc2_log_variance_classifier"] == pytest.approx(0, abs=1e-24)


def test_the_variance_of_seven_points_on_a_circle_is_not_0():
    rows = polygon(7)
    found = generalised_collapse(rows, torch.arange(7), rows)
    assert found["gnc2_log_variance_means"] == pytest.approx(0.117, abs=5e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 9), dim=st.integers(2, 6), size=st.floats(-40, 40))
def test_bounds_invariances_and_the_other_solver(seed, classes, dim, size):
    features, labels, weight, _ = draw(classes, dim, seed=seed, per_class=2)
    found = generalised_collapse(features, labels, weight)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed)).double()).Q
    rows = 0.1 + torch.rand(classes, 1, generator=torch.Generator().manual_seed(seed)).double()
    moved = generalised_collapse(10.0**size * (features + 3) @ rotation, labels, rows * weight @ rotation)
    assert moved == pytest.approx(found, rel=1e-6, abs=1e-7, nan_ok=True)
    optimum = found["one_vs_rest_optimum"]
    for matrix in ("means", "classifier"):
        assert 0 <= found[f"one_vs_rest_{matrix}"] <= 2
        assert math.isnan(optimum) or found[f"one_vs_rest_{matrix}"] <= optimum + 1e-9
        simplest = math.sqrt(2 * classes / (classes - 1))  # the simplex has the largest mean distance
        assert found[f"gnc2_distance_{matrix}"] <= simplest + 1e-9
        assert found[f"gnc2_log_{matrix}"] >= -math.log(simplest) - 1e-9
    u = unit(weight).numpy()
    expected = min(hull_distance(u, k) for k in range(classes))
    assert one_vs_rest_distance(weight) == pytest.approx(expected, abs=1e-6)


def test_a_row_in_the_hull_of_the_others_has_distance_0():
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, 0.6]])
    assert one_vs_rest_distance(rows) == pytest.approx(0, abs=1e-7)
    rows = torch.tensor([[1.0, 1e-9], [1.0, -1e-9], [-1.0, 0.0]], dtype=torch.float64)
    assert one_vs_rest_distance(rows) == pytest.approx(2e-9, abs=1e-7)


def test_close_rows_do_not_lose_their_distance():
    rows = torch.tensor([[1.0, 1e-9], [1.0, -1e-9]], dtype=torch.float64)
    found = generalised_collapse(torch.eye(2), torch.arange(2), rows)
    assert found["gnc2_distance_classifier"] == pytest.approx(2e-9, rel=1e-7)
    assert found["gnc2_riesz_classifier"] == pytest.approx(5e8, rel=1e-7)


def test_coinciding_and_zero_rows():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    found = generalised_collapse(torch.eye(3, 2) + torch.tensor([[0.0], [0.0], [3.0]]), torch.arange(3), rows)
    assert (found["gnc2_log_classifier"], found["gnc2_riesz_classifier"]) == (math.inf, math.inf)
    assert math.isnan(found["gnc2_log_variance_classifier"])
    assert found["gnc2_distance_classifier"] == pytest.approx(2 * math.sqrt(2) / 3)
    zero = generalised_collapse(torch.eye(3, 2) + torch.arange(3)[:, None], torch.arange(3), 0 * rows)
    assert all(math.isnan(value) for key, value in zero.items() if "classifier" in key or key == "unc3")
    assert not math.isnan(zero["one_vs_rest_means"])


@pytest.mark.parametrize(("classes", "dim"), [(40, 60), (60, 12), (30, 29), (50, 2)])
@pytest.mark.parametrize("spread", [1.0, 0.05])
def test_bounds_from_both_sides_leave_few_rows_to_solve_for_and_the_same_distance(monkeypatch, classes, dim, spread):
    draws = torch.Generator().manual_seed(classes)
    rows = torch.eye(classes, dim, dtype=torch.float64) - 1 / classes
    rows = rows + spread * torch.randn(classes, dim, generator=draws, dtype=torch.float64)
    rows = rows / rows.norm(dim=1, keepdim=True)
    expected = min(generalised._hull_distance(rows.numpy(), k) for k in range(classes))
    solved = []
    solve = generalised._hull_distance
    monkeypatch.setattr(generalised, "_hull_distance", lambda *given: solved.append(given[1]) or solve(*given))
    monkeypatch.setattr(generalised, "_MANY", 1)
    monkeypatch.setattr(generalised, "_ROWS", 16)
    assert one_vs_rest_distance(rows) == pytest.approx(expected, rel=1e-12, abs=1e-7)
    assert len(set(solved)) == len(solved)
    assert len(solved) <= classes // 5 or expected < 1e-6


def test_a_solver_that_fails_is_nan_with_a_warning(monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(generalised, "nnls", failing)
    with pytest.warns(RuntimeWarning, match="one-vs-rest distance: the solver does not converge"):
        assert math.isnan(one_vs_rest_distance(draw(9, 4)[2]))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40))
def test_streaming_form_and_what_is_left_out(seed, size):
    features, labels, weight, _ = draw(seed=seed)
    metric = NeuralCollapse(4, 6)
    for x, y in zip(features.split(size), labels.split(size), strict=True):
        metric.update(x, y, weight)
    expected = generalised_collapse(features, labels, weight)
    assert {key: float(value) for key, value in metric.generalised().items()} == pytest.approx(expected, rel=1e-8)
    few = torch.cat([torch.arange(len(labels))[labels != 2], (labels == 2).nonzero()[:1, 0]])
    kept = torch.tensor([0, 1, 3])
    renamed = torch.tensor([0, 1, -1, 2])[labels[labels != 2]]
    expected = generalised_collapse(features[labels != 2], renamed, weight[kept])
    found = generalised_collapse(features[few], labels[few], weight, min_samples=2)
    assert found == pytest.approx(expected, rel=1e-9)
    lacking = generalised_collapse(features, labels, weight, ignore_index=2, min_samples=1)
    assert lacking == pytest.approx(expected, rel=1e-9)


def test_bad_input():
    for rows, message in (
        (torch.ones(1, 3), "rows: expected two or more"),
        (torch.ones(3, 0), "rows: expected two or more"),
        (torch.tensor([[1.0], [math.nan]]), "rows: every value must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            one_vs_rest_distance(rows)
    with pytest.raises(ValueError, match="classes: expected an integer of 2 or more, got 1"):
        one_vs_rest_optimum(1, 2)
    features, labels, weight, _ = draw()
    with pytest.raises(ValueError, match="weight: expected a floating-point tensor of shape"):
        generalised_collapse(features, labels, weight[:, 1:])
    with pytest.raises(ValueError, match=r"labels: class 3 has 0 sample\(s\), at least 1 needed"):
        generalised_collapse(features, labels.clamp(max=2), weight)
