import math

import pytest
import torch

from nclens.metrics.arc import arc_ratio, mean_probabilities, similar_classes
from tests.metrics.arcs import BASIS, example, literal


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
    p[1] = math.nan  # no samples; what others give it counts for nothing
    assert similar_classes(p) == (0, 2, 3)


def test_what_cannot_be_measured_is_refused():
    features, labels, weight = example("arc", samples=3)
    for classes, message in [((1, 3, 3), "three distinct"), ((1, 3, 2), r"classes \[2\]: each needs two samples")]:
        varied = weight.clone()
        varied[2] = BASIS[:, 3]
        with pytest.raises(ValueError, match=message):
            arc_ratio(features, labels, varied, classes)
    with pytest.raises(ValueError, match=r"features must be \(N, 4\) as the rows of weight, got \(9, 3\)"):
        arc_ratio(features[:, :3], labels, weight, (1, 3, 0))
    with pytest.raises(ValueError, match=r"must be \(K, K\) of three classes or more"):
        similar_classes(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="three classes or more need samples, got 0"):
        similar_classes(torch.full((3, 3), math.nan))
    with pytest.raises(ValueError, match="must be finite, but for the rows of classes without samples"):
        similar_classes(torch.eye(3).fill_diagonal_(math.nan))
    with pytest.raises(ValueError, match=r"logits must be \(N, K\)"):
        mean_probabilities(torch.zeros(3), torch.zeros(3))
