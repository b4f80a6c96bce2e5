"""The probe: its numbers are those of the scores, on the samples that are not held out."""

import pytest
import torch

from nclens.data.tensors import Split
from nclens.metrics.calibration import stratified_mask
from nclens.metrics.out_of_distribution import SCORES, Detector, auroc, false_positive_rate, nc5
from nclens.models import Network
from nclens.probes.catalogue import PROBES
from nclens.probes.out_of_distribution import detection
from nclens.training.loop import extract_features

K, CHOICE = 3, {"held_out": 0.5, "held_out_seed": 0, "seed": 5}


def split(count, seed, low=0, high=256):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(low, high, (count, 1, 4, 4), generator=generator).to(torch.uint8)
    targets = torch.arange(count) % K
    images[:, 0, 0, 0] = (40 + 80 * targets).to(torch.uint8)
    return Split.place(images, targets, [0.5], [0.3], "cpu")


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(0)
    network = Network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 6), torch.nn.ReLU()), 6, K)
    return network, split(60, 0), split(42, 1), (split(6, 2), split(30, 3, 0, 90))


def test_the_metrics_are_those_of_the_scores_without_the_held_out_samples(given):
    network, train, test, other = given
    found = detection(*given, **CHOICE)
    assert list(found) == [metric.name for metric in PROBES["out_of_distribution"].metrics[: len(found)]]
    detector = Detector.fit(extract_features(network, train)[0], train.targets, network.head.weight.detach())
    rest = ~stratified_mask(test.targets, 0.5, 0)
    inside = [part[rest] for part in extract_features(network, test)]
    outside = extract_features(network, other[1])
    alpha = found["ood_nci_alpha"]
    own, others = detector.scores(*inside, alpha), detector.scores(*outside, alpha)
    for name in SCORES:
        assert found[f"ood_auroc_{name}"] == auroc(own[name], others[name])
        assert found[f"ood_fpr95_{name}"] == false_positive_rate(own[name], others[name])
    assert found["nc5"] == nc5(detector.means, outside[0])
    assert found["ood_mahalanobis_rank"] == detector.rank
    assert detection(*given, **CHOICE) == found


def test_alpha_knows_nothing_of_the_outsiders(given):
    network, train, test, _ = given
    near = detection(network, train, test, (split(6, 2), split(30, 4)), **CHOICE)
    assert near["ood_nci_alpha"] == detection(*given, **CHOICE)["ood_nci_alpha"]
    assert near["ood_auroc_msp"] != detection(*given, **CHOICE)["ood_auroc_msp"]


def test_a_covariate_shift_has_metrics_of_another_name(given):
    found, shifted = detection(*given, **CHOICE), detection(*given, **CHOICE, shift="covariate")
    assert list(shifted.values()) == list(found.values())
    assert set(shifted).isdisjoint(found)
    names = [metric.name for metric in PROBES["out_of_distribution"].metrics]
    assert names == [*found, *shifted]


def test_rows_of_numbers_are_detected_too():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    splits = [
        Split.place(torch.randn(n, 5, generator=generator), torch.arange(n) % K, [0.0] * 5, [1.0] * 5, "cpu")
        for n in (30, 24, 6, 20)
    ]
    found = detection(Network(torch.nn.Linear(5, 4), 4, K), *splits[:2], (splits[2], splits[3]), **CHOICE)
    assert 0 <= found["ood_auroc_neco"] <= 1


def test_too_many_directions_are_refused(given):
    with pytest.raises(ValueError, match="directions: expected at most the 6 dimensions of the features, got 7"):
        detection(*given, **CHOICE, directions=7)
