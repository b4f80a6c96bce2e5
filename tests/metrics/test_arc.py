import math

import numpy as np
import pytest
import torch

from nclens.metrics.arc import arc_ratio, mean_probabilities, similar_classes

# Three templates in a plane of four dimensions, and two more classes.
BASIS = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double())[0]
ANGLES = (0.3, 1.4)


def example(kind, distance=10.0, spread=1.0, samples=4000):
    """Two clusters about the mean of a third class: arcs of `spread` radians' length, or round ones."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.tensor([2.0, -1.0]).double()
    groups = []
    for angle in ANGLES:
        along = torch.randn(samples, generator=generator).double()
        across = torch.randn(samples, generator=generator).double()
        if kind == "arc":
            radius, theta = distance + 0.1 * spread * along, angle + spread / distance * across
        else:
            at = torch.tensor([math.cos(angle), math.sin(angle)]).double()
            points = distance * at + spread * torch.stack([along, across], 1)
            groups.append(centre + points)
            continue
        groups.append(centre + radius[:, None] * torch.stack([theta.cos(), theta.sin()], 1))
    groups.append(centre + spread * torch.randn(samples, 2, generator=generator).double())
    labels = torch.tensor([1, 3, 0]).repeat_interleave(samples)
    beyond = torch.randn(len(labels), 2, generator=generator).double()  # out of the plane, where nothing is measured
    weight = torch.zeros(4, 4).double()
    weight[[1, 3, 0], :2] = torch.tensor([[1.0, 0.2], [-0.3, 1.0], [-0.7, -1.0]]).double()
    return torch.cat([torch.cat(groups), beyond], 1) @ BASIS.T, labels, weight @ BASIS.T


def literal(features, labels, weight, classes):
    """The two ratios by loops in NumPy, in any basis of the plane."""
    w = weight.numpy()
    plane = np.linalg.qr((w[list(classes[1:])] - w[classes[0]]).T)[0]
    points = {k: features.numpy()[labels.numpy() == k] @ plane for k in classes}
    centre = points[classes[2]].mean(0)
    sums = np.zeros(4)
    for k in classes[:2]:
        u = points[k].mean(0) - centre
        u /= np.linalg.norm(u)
        v = np.array([-u[1], u[0]])
        r, theta = [], []
        for x in points[k] - centre:
            r.append(math.hypot(*x))
            theta.append(math.atan2(x @ v, x @ u))
        sums += (np.var(points[k] @ u), np.var(points[k] @ v), np.var(r), np.mean(r) ** 2 * np.var(theta))
    return sums[0] / sums[1], sums[2] / sums[3]


def test_round_clusters_have_a_ratio_of_one_at_any_distance_and_arcs_less():
    for distance in (2.0, 8.0, 30.0):
        found = arc_ratio(*example("round", distance), (1, 3, 0))
        assert found["arc_ratio"] == pytest.approx(1, abs=0.05)
        if distance >= 6:
            assert found["arc_ratio_polar"] == pytest.approx(1, abs=0.1)
        else:
            assert math.isnan(found["arc_ratio_polar"])
    found = arc_ratio(*example("arc"), (1, 3, 0))
    assert 0.01 < found["arc_ratio"] < 0.02
    assert found["arc_ratio_polar"] == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("kind", ["arc", "round"])
def test_ratios_are_those_of_the_definition_in_any_coordinates(kind):
    features, labels, weight = example(kind, samples=200)
    found = arc_ratio(features, labels, weight, (1, 3, 0))
    assert tuple(found.values()) == pytest.approx(literal(features, labels, weight, (1, 3, 0)))
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5)).double())[0]
    other = arc_ratio(3 * features @ turned, labels, 7 * weight @ turned, (3, 1, 0))
    assert other == pytest.approx(found)


def test_probabilities_are_means_over_the_samples_of_a_class():
    logits = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, -1.0], [0.5, 0.5, -torch.inf]])
    found = mean_probabilities(logits, torch.tensor([0, 0, 2]))
    expected = (logits[:2].double().softmax(1)).mean(0)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[2], torch.tensor([0.5, 0.5, 0.0]).double())
    assert found[1].isnan().all()


def test_the_pair_is_the_most_confused_and_the_third_class_the_least():
    p = torch.full((4, 4), 0.02).double()
    p[2, 1] = 0.3
    p[1, 0] = p[0, 2] = 0.1
    assert similar_classes(p) == (2, 1, 3)
    p[3, 1] = 0.5
    assert similar_classes(p) == (3, 1, 0)
    assert similar_classes(torch.zeros(3, 3)) == (0, 1, 2)


def test_what_cannot_be_measured_is_refused():
    features, labels, weight = example("arc", samples=3)
    for classes, message in [((1, 3, 3), "three distinct"), ((1, 3, 2), r"classes \[2\]: each needs two samples")]:
        varied = weight.clone()
        varied[2] = BASIS[:, 3]
        with pytest.raises(ValueError, match=message):
            arc_ratio(features, labels, varied, classes)
    with pytest.raises(ValueError, match=r"must be \(K, K\) of three classes or more"):
        similar_classes(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="a class has no sample"):
        similar_classes(torch.full((3, 3), math.nan))
    with pytest.raises(ValueError, match=r"logits must be \(N, K\)"):
        mean_probabilities(torch.zeros(3), torch.zeros(3))
