"""Representation measures against constructions whose answer is known, and literal loops."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens import losses
from nclens.metrics.calibration import calibration_metrics
from nclens.metrics.representation import (
    angular_spread,
    logit_gap,
    margin,
    mutual_information,
    principal_plane,
    project,
    smoothing_parts,
    template_plane,
    template_spread,
    top_logit_gradient,
)


def draw(seed, n=40, d=6, classes=3):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, dtype=torch.float64, generator=generator)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=generator)])
    return features, labels


seeds = st.integers(0, 10_000)


# Angular spread


@given(seeds, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_spread_is_the_literal_formula(seed, classes):
    h, y = draw(seed, classes=classes)
    means = []
    for k in range(classes):
        units = [h[i] / h[i].norm() for i in range(len(y)) if y[i] == k]
        means.append(sum(units) / len(units))
    within = 1 - sum(float(m @ m) for m in means) / classes
    centre = sum(means) / classes
    total = 1 - float(centre @ centre)
    expected = {"d_within": within, "d_total": total, "r2_angular": 1 - within / total}
    assert angular_spread(h, y) == pytest.approx(expected, abs=1e-12)


def test_spread_of_collapsed_classes_on_a_simplex():
    h = (torch.eye(4, dtype=torch.float64) - 0.25).repeat(5, 1)
    spread = angular_spread(h, torch.arange(4).repeat(5))
    assert spread["d_within"] == pytest.approx(0, abs=1e-30)  # no cancellation: far below 1e-16
    assert spread["d_total"] == pytest.approx(1, abs=1e-15)
    assert spread["r2_angular"] == pytest.approx(1, abs=1e-15)


def test_small_spread_is_exact_to_many_digits():
    # Two directions at an angle t on either side of the mean: |ubar| = cos t, d_within = sin^2 t.
    t = 1e-9
    h = torch.tensor([[1, t], [1, -t], [-1, t], [-1, -t]], dtype=torch.float64)
    assert angular_spread(h, torch.tensor([0, 0, 1, 1]))["d_within"] == pytest.approx(t**2, rel=1e-9)


def test_labels_that_say_nothing():
    h = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    assert angular_spread(h, torch.tensor([0, 0, 1, 1])) == {"d_within": 1, "d_total": 1, "r2_angular": 0}


def test_one_direction_only():
    spread = angular_spread(torch.tensor([[1.0, 0], [3, 0]]), torch.tensor([0, 1]))
    assert spread["d_within"] == spread["d_total"] == 0
    assert math.isnan(spread["r2_angular"])


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_spread_is_invariant_to_rotation_length_and_class_size(seed):
    h, y = draw(seed)
    before = angular_spread(h, y)
    assert 0 <= before["d_within"] <= before["d_total"] <= 1 + 1e-15
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))[0]
    length = torch.rand(40, 1, dtype=torch.float64, generator=generator) + 0.1
    assert angular_spread(length * h @ rotation, y) == pytest.approx(before, abs=1e-12)
    assert angular_spread(h, 7 - 3 * y) == pytest.approx(before, abs=1e-12)
    more = torch.cat([h, *[h[y == 0]] * 4]), torch.cat([y, *[y[y == 0]] * 4])
    assert angular_spread(*more) == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_spread_of_tiny_and_huge_features(scale):
    h, y = draw(0)
    assert angular_spread(scale * h, y) == pytest.approx(angular_spread(h, y), abs=1e-12)


def test_a_zero_feature_has_no_direction():
    h, y = draw(0)
    h[3] = 0
    with pytest.warns(RuntimeWarning, match="1 of 40 feature vectors are zero"):
        spread = angular_spread(h, y)
    assert set(spread) == {"d_within", "d_total", "r2_angular"}
    assert all(math.isnan(value) for value in spread.values())


def test_bad_features_and_labels():
    h, y = draw(0)
    for features in (h[0], h[:0], h.long()):
        with pytest.raises(ValueError, match="features must be a non-empty float tensor"):
            angular_spread(features, y)
    with pytest.raises(ValueError, match="finite"):
        angular_spread(h / 0, y)
    for labels, words in (
        (y[1:], r"labels: expected shape \(40,\), one label a sample, got \(39,\)"),
        (y.double(), "labels: expected an integer tensor"),
        (y - 1, "labels must be 0 or more, got -1 at index 0"),
    ):
        with pytest.raises(ValueError, match=words):
            angular_spread(h, labels)


# The parts of label smoothing


def test_parts_by_hand():
    # The first is right: 3 - (1, 0) over three classes. The second is wrong: below 1/3, above (1 - 5)/3.
    logits = torch.tensor([[3.0, 1.0, 0.0], [5.0, 1.0, 0.0]])
    parts = smoothing_parts(logits, torch.tensor([0, 1]))
    assert parts == pytest.approx(
        {
            "ls_regularisation_correct": 5 / 3,
            "ls_regularisation_incorrect": 1 / 3,
            "ls_error_amplification_correct": 0,
            "ls_error_amplification_incorrect": -4 / 3,
            "top_logit_gap_correct": 5 / 3,
            "top_logit_gap_incorrect": 3,
        },
        abs=1e-12,
    )


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_parts_add_up_to_the_losses(seed):
    z, y = draw(seed)
    y = y + 1
    parts = smoothing_parts(z, y)
    correct = z.argmax(1) == y
    ce = losses.ce(z, y)
    for part, mask in (("correct", correct), ("incorrect", ~correct)):
        if not mask.any():
            continue
        smoothing = float((losses.ls(z, y, smoothing=0.3) - ce)[mask].mean()) / 0.3
        total = parts[f"ls_regularisation_{part}"] + parts[f"ls_error_amplification_{part}"]
        assert total == pytest.approx(smoothing, abs=1e-12)
        suppression = float((losses.maxsup(z, y, alpha=0.3) - ce)[mask].mean()) / 0.3
        assert parts[f"top_logit_gap_{part}"] == pytest.approx(suppression, abs=1e-12)
    assert correct.all() or parts["ls_error_amplification_incorrect"] < 0
    assert not correct.any() or parts["ls_regularisation_correct"] > 0


def test_a_part_without_samples_is_nan():
    parts = smoothing_parts(torch.eye(2), torch.tensor([0, 1]))
    assert math.isnan(parts["ls_regularisation_incorrect"])
    assert parts["ls_regularisation_correct"] == 0.5


@pytest.mark.parametrize(
    ("name", "parameters", "right", "wrong"),
    [
        ("ce", {}, 0, 0),
        ("ls", {"smoothing": 0.2}, 0.2 * 5 / 6, -0.2 / 6),
        ("maxsup", {"alpha": 0.2}, 0.2 * 5 / 6, 0.2 * 5 / 6),
    ],
)
def test_gradient_on_the_largest_logit(name, parameters, right, wrong):
    z, y = draw(3)
    result = top_logit_gradient(z, y, functools.partial(losses.LOSSES[name], **parameters))
    confidence = calibration_metrics(z, y)
    assert result == pytest.approx(
        {
            "top_logit_gradient_correct": confidence["confidence_correct"] - 1 + right,
            "top_logit_gradient_incorrect": confidence["confidence_incorrect"] + wrong,
        },
        abs=1e-12,
    )


def test_gradient_is_taken_also_where_gradients_are_disabled():
    z, y = draw(4)
    expected = top_logit_gradient(z, y, losses.ce)
    assert not z.requires_grad
    with torch.no_grad():
        assert top_logit_gradient(z.requires_grad_(), y, losses.ce) == expected
    assert z.grad is None
    with pytest.raises(ValueError, match="one value per sample"):
        top_logit_gradient(z, y, lambda z, y: losses.ce(z, y).mean())


@pytest.mark.parametrize("function", [smoothing_parts, functools.partial(top_logit_gradient, loss=losses.ce)])
def test_bad_logits(function):
    with pytest.raises(ValueError, match="labels must lie in"):
        function(torch.zeros(2, 2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="logits must not be nan"):
        function(torch.tensor([[math.nan, 0]]), torch.tensor([0]))


# The plane of three templates


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_plane_keeps_the_triangle(seed):
    weight, _ = draw(seed, n=5, d=7)
    plane = template_plane(weight, [4, 0, 2])
    torch.testing.assert_close(plane.T @ plane, torch.eye(2, dtype=torch.float64))
    corners = project(weight, plane)[[4, 0, 2]]
    torch.testing.assert_close(torch.pdist(corners), torch.pdist(weight[[4, 0, 2]]))
    u, v = corners[1] - corners[0], corners[2] - corners[0]
    assert u[0] > 0
    assert abs(u[1]) < 1e-12
    assert v[1] > 0


def test_projection_by_hand():
    weight = torch.tensor([[0.0, 0, 5], [0, -2, 5], [3, 1, 5]])
    plane = template_plane(weight, (0, 1, 2))
    torch.testing.assert_close(plane, torch.tensor([[0, 1], [-1, 0], [0, 0]], dtype=torch.float64))
    assert project(torch.tensor([[7.0, 8, 9]]), plane).tolist() == [[-8, 7]]


def test_a_plane_from_templates_in_a_plane():
    weight = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    assert template_plane(weight, [2, 0, 1]).tolist() == [[1, 0], [0, 1]]


def test_bad_planes():
    weight, _ = draw(0, n=4, d=5)
    for classes in ([0, 1], [0, 1, 1], [0, 1, 4], [-1, 0, 1], [0, 1, 2, 3], [0, 1, 2.5]):
        with pytest.raises(ValueError, match=r"three distinct indices in \[0, 4\)"):
            template_plane(weight, classes)
    weight[2] = 2 * weight[1] - weight[0]
    with pytest.raises(ValueError, match="on one line"):
        template_plane(weight, [0, 1, 2])
    with pytest.raises(ValueError, match="on one line"):
        template_plane(torch.ones(3, 4), [0, 1, 2])
    for dtype in (torch.float16, torch.bfloat16):
        assert template_plane(torch.eye(3).to(dtype), [0, 1, 2]).shape == (3, 2)
    row = torch.randn(5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="on one line"):
        template_plane(torch.stack([row, 1.7 * row, 3.3 * row]), [0, 1, 2])
    with pytest.raises(ValueError, match="at least 2 columns"):
        template_plane(weight[:, :1], [0, 1, 2])
    with pytest.raises(ValueError, match=r"plane must have shape \(5, 2\)"):
        project(weight, torch.zeros(4, 2))


# Mutual information


def test_information_is_the_literal_double_loop():
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(30, dtype=torch.float64, generator=generator)
    f = mu + 0.4 * torch.randn(30, dtype=torch.float64, generator=generator)
    s2 = sum((f[x] - mu[x]) ** 2 for x in range(30)) / 30
    total = 0.0
    for x in range(30):
        density = sum(math.exp(-((f[x] - mu[z]) ** 2) / (2 * s2)) for z in range(30)) / 30
        total += float(-((f[x] - mu[x]) ** 2) / (2 * s2)) - math.log(density)
    assert mutual_information(f, mu) == pytest.approx(total / 30, abs=1e-12)


def test_information_of_known_cases():
    noise = torch.tensor([1e-3, -1e-3], dtype=torch.float64).repeat(50)
    same = torch.full((100,), 2.0, dtype=torch.float64)
    assert mutual_information(same + noise, same) == pytest.approx(0, abs=1e-12)
    two = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat_interleave(50)
    assert mutual_information(two + noise, two) == pytest.approx(math.log(2), abs=1e-12)
    all_apart = torch.arange(100, dtype=torch.float64)
    assert mutual_information(all_apart + noise, all_apart) == pytest.approx(math.log(100), abs=1e-12)


def test_information_may_be_negative_and_is_not_clipped():
    # Each draw lies on the other's mean.
    assert mutual_information(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])) < 0


@given(seeds, st.integers(2, 40), st.floats(0.01, 10))
@settings(max_examples=50, deadline=None)
def test_information_is_bounded_and_invariant(seed, n, noise):
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(n, dtype=torch.float64, generator=generator)
    f = mu + noise * torch.randn(n, dtype=torch.float64, generator=generator)
    information = mutual_information(f, mu)
    assert information <= math.log(n) + 1e-12
    assert mutual_information(3 - 2 * f, 3 - 2 * mu) == pytest.approx(information, abs=1e-9)
    order = torch.randperm(n, generator=generator)
    assert mutual_information(f[order], mu[order]) == pytest.approx(information, abs=1e-12)


def test_bad_draws():
    f = torch.arange(3.0)
    for draws, means in ((f, f[1:]), (f[:0], f[:0]), (f[None], f[None])):
        with pytest.raises(ValueError, match="must both have shape"):
            mutual_information(draws, means)
    with pytest.raises(ValueError, match="s = 0"):
        mutual_information(f, f)
    with pytest.raises(ValueError, match="finite"):
        mutual_information(f / 0, f)


def test_the_logit_gap_is_the_labels_lead_over_the_mean_of_the_others():
    logits, labels = torch.tensor([[3.0, 1.0, -1.0], [0.0, 4.0, 2.0]]), torch.tensor([0, 2])
    assert logit_gap(logits, labels) == pytest.approx(((3 - 0.0) + (2 - 2.0)) / 2)
    assert logit_gap(logits + 7, labels) == pytest.approx(1.5)


# --- spread on the templates -----------------------------------------------------------------------------------------


def literal_template_spread(features, labels, weight, classes):
    """Least squares onto the differences of the templates, sample by sample."""
    h, w = features.double().numpy(), weight.double().numpy()[classes]
    differences = (w[1:] - w[0]).T

    def seen(vector):
        return differences @ np.linalg.lstsq(differences, vector, rcond=None)[0]

    means = [np.mean([seen(h[i]) for i in range(len(h)) if labels[i] == k], axis=0) for k in classes]
    within = [
        np.mean([np.sum((seen(h[i]) - mean) ** 2) for i in range(len(h)) if labels[i] == k])
        for k, mean in zip(classes, means, strict=True)
    ]
    return np.mean(within) / np.mean([np.sum((mean - np.mean(means, axis=0)) ** 2) for mean in means])


@pytest.mark.parametrize("classes", [None, [0, 1, 2, 3], [3, 0, 2], [1, 2]])
def test_template_spread_is_that_of_a_literal_projection(classes):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 6, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    weight = torch.randn(4, 6, generator=generator)
    expected = literal_template_spread(features, labels.tolist(), weight, classes or [0, 1, 2, 3])
    assert template_spread(features, labels, weight, classes) == pytest.approx(expected, rel=1e-9)


def test_template_spread_of_three_classes_is_that_of_their_picture():
    generator = torch.Generator().manual_seed(1)
    features, weight = torch.randn(60, 5, generator=generator), torch.randn(3, 5, generator=generator)
    labels = torch.arange(60) % 3
    at = project(features, template_plane(weight, [0, 1, 2]))
    means = torch.stack([at[labels == k].mean(dim=0) for k in range(3)])
    within = (at - means[labels]).square().sum(dim=1).mean()
    between = (means - means.mean(dim=0)).square().sum(dim=1).mean()
    assert template_spread(features, labels, weight) == pytest.approx(float(within / between), rel=1e-9)


def test_template_spread_does_not_see_what_the_templates_do_not():
    generator = torch.Generator().manual_seed(2)
    weight = torch.eye(3, 6)
    features, labels = torch.randn(30, 6, generator=generator), torch.arange(30) % 3
    other = features.clone()
    # Neither beyond the templates nor along their sum, which shifts all logits alike, do differences of them see.
    other[:, 3:] *= 100
    other[:, :3] += torch.randn(30, 1, generator=generator)
    expected = template_spread(features, labels, weight)
    assert template_spread(other, labels, weight) == pytest.approx(expected, rel=1e-5)
    assert template_spread(3 * features + 7, labels, 5 * weight) == pytest.approx(expected, rel=1e-5)


def test_template_spread_at_its_ends():
    weight, labels = torch.eye(3), torch.arange(12) % 3
    assert template_spread(torch.eye(3)[labels], labels, weight) == pytest.approx(0, abs=1e-30)
    one_mean = torch.cat([torch.eye(3)[:1], -torch.eye(3)[:1]]).repeat_interleave(3, dim=0)
    assert template_spread(one_mean, torch.arange(6) % 3, weight) == math.inf
    assert math.isnan(template_spread(torch.ones(12, 3), labels, weight))
    with pytest.warns(RuntimeWarning, match="templates are one"):
        assert math.isnan(template_spread(torch.eye(3)[labels], labels, torch.ones(3, 3)))


@pytest.mark.parametrize(
    ("classes", "labels", "words"),
    [
        ([0], torch.arange(6) % 3, "at least two"),
        ([0, 0], torch.arange(6) % 3, "distinct"),
        ([0, 3], torch.arange(6) % 3, r"\[0, 3\)"),
        (None, torch.zeros(6, dtype=torch.int64), "needs a sample"),
        (None, torch.zeros(5, dtype=torch.int64), r"labels: expected shape \(6,\)"),
        (None, torch.zeros(6), "labels: expected an integer tensor"),
    ],
)
def test_template_spread_says_what_does_not_fit(classes, labels, words):
    with pytest.raises(ValueError, match=words):
        template_spread(torch.randn(6, 4), labels, torch.randn(3, 4), classes)


# Margin


def literal_margin(features, labels, weight, bias):
    total = 0.0
    for h, y in zip(features, labels, strict=True):
        distances = []
        for j in range(len(weight)):
            if j != y:
                lead = float((weight[y] - weight[j]) @ h + bias[y] - bias[j])
                distances.append(lead / float((weight[y] - weight[j]).norm()))
        total += min(distances) / float(h.norm())
    return total / len(features)


@given(seeds, st.integers(2, 5))
@settings(max_examples=20)
def test_margin_is_the_distance_to_the_nearest_boundary_of_the_class(seed, classes):
    features, labels = draw(seed, classes=classes)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 6, dtype=torch.float64, generator=generator)
    bias = torch.randn(classes, dtype=torch.float64, generator=generator)
    expected = literal_margin(features, labels.tolist(), weight, bias)
    assert margin(features, labels, weight, bias) == pytest.approx(expected, rel=1e-12)
    assert margin(1e-3 * features, labels, weight, 1e-3 * bias) == pytest.approx(expected, rel=1e-12)
    assert margin(features, labels, 1e200 * weight, 1e200 * bias) == pytest.approx(expected, rel=1e-12)
    without = margin(features, labels, weight)
    assert without == pytest.approx(literal_margin(features, labels.tolist(), weight, 0 * bias), rel=1e-12)
    scales = 1 + torch.rand(len(features), 1, dtype=torch.float64, generator=generator)
    assert margin(scales * features, labels, weight) == pytest.approx(without, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_margin_at_neural_collapse(classes):
    frame = torch.eye(classes, dtype=torch.float64) - 1 / classes
    labels = torch.arange(3 * classes) % classes
    assert margin(frame[labels], labels, frame) == pytest.approx(math.sqrt(classes / (2 * (classes - 1))), rel=1e-12)
    assert margin(-frame[labels], labels, frame) < 0


def test_margin_without_a_boundary_or_a_direction_is_nan():
    labels = torch.arange(6) % 3
    with pytest.warns(RuntimeWarning, match="all rows of weight equal row 0"):
        assert math.isnan(margin(torch.randn(6, 4), labels, torch.ones(3, 4)))
    with pytest.warns(RuntimeWarning, match="a feature vector is zero"):
        assert math.isnan(margin(torch.zeros(6, 4), labels, torch.eye(3, 4)))
    # Two equal rows have no boundary between them; those with the third count.
    twins = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    expected = literal_margin(torch.eye(2)[[0, 1]], [0, 1], torch.eye(2), [0, 0])
    assert margin(torch.eye(2)[[0, 1]], torch.tensor([0, 2]), twins) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weight", "bias", "words"),
    [
        (torch.randn(3, 5), None, "do not fit"),
        (torch.randn(3, 4), torch.randn(4), r"bias must be a finite float tensor \(3,\)"),
        (torch.randn(3, 4), torch.full((3,), math.nan), "bias must be a finite"),
        (torch.full((3, 4), math.inf), None, "weight must be finite"),
    ],
)
def test_margin_says_what_does_not_fit(weight, bias, words):
    with pytest.raises(ValueError, match=words):
        margin(torch.randn(6, 4), torch.arange(6) % 3, weight, bias)


# --- the principal plane ---------------------------------------------------------------------------------------------


def test_the_principal_plane_holds_what_lies_in_a_plane_and_is_that_of_largest_variance():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(7, 2, generator=generator, dtype=torch.float64)).Q
    rows = torch.randn(5, 2, generator=generator, dtype=torch.float64) @ basis.T + 4
    found = principal_plane(rows)
    torch.testing.assert_close(found @ found.T, basis @ basis.T)
    rows = torch.randn(40, 7, generator=generator, dtype=torch.float64) * torch.arange(1, 8)
    found, values = principal_plane(rows), torch.linalg.eigvalsh(torch.cov(rows.T, correction=0))
    torch.testing.assert_close((rows @ found).var(dim=0, correction=0), values[[-1, -2]])
    torch.testing.assert_close(found.T @ found, torch.eye(2, dtype=torch.float64))
    assert all(column[column.abs().argmax()] > 0 for column in found.T)
    torch.testing.assert_close(principal_plane(1e30 * rows + 1e30), found)


def test_a_principal_plane_is_completed_across_the_one_direction_of_its_rows():
    rows = torch.tensor([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
    assert principal_plane(rows).T.tolist() == [[1, 0, 0], [0, 0, 0]]
    features = torch.tensor([[9.0, 0.0, 1.0], [-9.0, 0.0, -2.0], [0.0, 0.1, 0.0], [3.0, -0.1, 1.0]])
    found = principal_plane(rows, features)
    torch.testing.assert_close(found.T @ found, torch.eye(2, dtype=torch.float64))
    assert found[2, 1] > 0.99
    assert not principal_plane(torch.ones(4, 1), torch.ones(3, 1)).any()


def test_a_principal_plane_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"rows \(N, d\) and completed_by \(M, d\) do not fit: \(2, 3\), \(2, 4\)"):
        principal_plane(torch.eye(3)[:2], torch.ones(2, 4))
    with pytest.raises(ValueError, match="rows must be finite"):
        principal_plane(torch.tensor([[float("nan"), 0.0]]))
    with pytest.raises(ValueError, match="rows must be a non-empty float tensor"):
        principal_plane(torch.ones(3))
