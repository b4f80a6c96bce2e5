"""Classes of unequal size: against loops, and where the sizes are equal against the measures of balanced classes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.collapse import neural_collapse
from nclens.metrics.imbalance import class_imbalance, classifier_imbalance, seli_grams


def case(counts, dim, seed=0):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    centres = 3 * random.normal(size=(len(counts), dim))
    features = centres[labels] + random.normal(size=(len(labels), dim)) + 5
    weight = random.normal(size=(len(counts), dim))
    return features, labels, features @ weight.T, weight


def inverse_root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-9 * values.max()
    return (vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T


def literal(features, labels, logits, weight, counts):
    """Every key by its formula, sample by sample."""
    classes, n = len(weight), len(labels)
    means = np.array(
        [np.mean([h for h, y in zip(features, labels, strict=True) if y == k], axis=0) for k in range(classes)]
    )
    by_class, by_sample = means - means.mean(0), means - features.mean(0)
    inverse = np.linalg.pinv(by_class.T @ by_class / classes, rcond=1e-10)
    s_b = sum((labels == k).sum() / n * np.outer(by_sample[k], by_sample[k]) for k in range(classes))
    inverse_s = np.linalg.pinv(s_b, rcond=1e-10)
    values, total = {}, 0.0
    for k in range(classes):
        own, right = 0.0, 0
        for h, y, z in zip(features, labels, logits, strict=True):
            if y == k:
                own += (h - means[k]) @ inverse @ (h - means[k]) / classes
                total += (h - means[k]) @ inverse_s @ (h - means[k]) / classes
                right += int(np.argmax(z) == k)
        values |= {f"nc1_class_{k}": own / (labels == k).sum(), f"accuracy_class_{k}": right / (labels == k).sum()}
        values[f"feature_norm_class_{k}"] = np.sqrt(sum(by_class[k] ** 2))

    def nrm(a):
        return a / np.linalg.norm(a)

    etf = np.eye(classes) - 1 / classes
    encoded = etf @ np.repeat(np.eye(classes), counts, axis=1)
    v, lam, u = np.linalg.svd(encoded, full_matrices=False)
    gram = (u[: classes - 1].T * lam[: classes - 1]) @ u[: classes - 1]
    first = np.cumsum([0, *counts[:-1]])
    return values | {
        "nc1_balanced": np.mean([values[f"nc1_class_{k}"] for k in range(classes)]),
        "nc1_sample_mean": total / n,
        "nc2_sample_mean": np.linalg.norm(nrm(weight @ by_sample.T) - nrm(etf)),
        "nc3_sample_mean": np.linalg.norm(nrm(weight) - nrm(by_sample)),
        "error_balanced": 1 - np.mean([values[f"accuracy_class_{k}"] for k in range(classes)]),
        "classes_measured": classes,
        "seli_means": np.linalg.norm(nrm(by_class @ by_class.T) - nrm(gram[np.ix_(first, first)])),
        "seli_classifier": np.linalg.norm(nrm(weight @ weight.T) - nrm((v * lam) @ v.T)),
    }


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=2, max_size=5), st.integers(1, 7), st.integers(0, 99))
def test_every_measure_is_that_of_the_loops(counts, dim, seed):
    features, labels, logits, weight = case(counts, dim, seed)
    found = class_imbalance(features, labels, logits, weight, np.array(counts))
    of_weight = classifier_imbalance(weight, np.array(counts))
    expected = literal(features, labels, logits, weight, counts)
    for key, value in expected.items():
        assert (found | of_weight)[key] == pytest.approx(value, rel=1e-6, abs=1e-9), key
    assert found.keys() == expected.keys() - {"seli_classifier"}


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 99))
def test_with_equal_classes_they_are_the_measures_of_balanced_classes(classes, each, seed):
    features, labels, logits, weight = case([each] * classes, 6, seed)
    counts = np.full(classes, each)
    plain = neural_collapse(features, labels, weight, None)
    found = class_imbalance(features, labels, logits, weight, counts) | classifier_imbalance(weight, counts)
    pairs = {"nc1_balanced": "nc1", "nc1_sample_mean": "nc1", "nc2_sample_mean": "nc2", "nc3_sample_mean": "nc3"}
    for key, known in (pairs | {"seli_means": "nc2_means", "seli_classifier": "nc2_classifier"}).items():
        assert found[key] == pytest.approx(plain[known], rel=1e-9), key
    assert found["error_balanced"] == pytest.approx(np.mean(logits.argmax(1) != labels))
    assert math.isnan(found["minority_collapse"])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), st.integers(0, 99))
def test_seli_is_reached_by_its_own_solution(counts, seed):
    """W = V L^(1/2), H = L^(1/2) U': the classifier at distance 0, whatever the rotation and scale."""
    v_gram, u_gram = seli_grams(np.array(counts))
    rows = torch.tensor(inverse_root(v_gram.numpy(), 0.5))
    turned = 3 * rows @ torch.linalg.qr(torch.randn(len(counts), len(counts), dtype=torch.float64)).Q
    assert classifier_imbalance(turned, np.array(counts))["seli_classifier"] == pytest.approx(0, abs=1e-7)
    assert u_gram.sum() == pytest.approx(0, abs=1e-9)


def test_minority_collapse_is_the_mean_cosine_of_the_small_classes():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [4.0, 3.0]])
    found = classifier_imbalance(weight, torch.tensor([90, 90, 1, 2]))
    assert found["minority_collapse"] == pytest.approx(24 / 25)
    assert classifier_imbalance(weight[[0, 1, 2, 2]], torch.tensor([90, 90, 1, 2]))[
        "minority_collapse"
    ] == pytest.approx(1)
    assert found["classifier_cosine_class_0"] == pytest.approx((0 + 3 / 5 + 4 / 5) / 3)
    assert [found[f"train_count_class_{k}"] for k in range(4)] == [90, 90, 1, 2]


def test_a_split_that_lacks_classes_is_measured_on_the_others():
    features, labels, logits, weight = case([6, 5, 4, 3], 5)
    here = (labels != 2) & ((labels != 3) | (np.cumsum(labels == 3) == 1))
    found = class_imbalance(features[here], labels[here], logits[here], weight, np.array([6, 5, 4, 3]))
    assert found["classes_measured"] == 2
    assert math.isnan(found["accuracy_class_2"])
    assert not math.isnan(found["accuracy_class_3"])
    assert math.isnan(found["nc1_class_3"])
    assert found["nc1_balanced"] == pytest.approx((found["nc1_class_0"] + found["nc1_class_1"]) / 2)


@pytest.mark.parametrize("counts", [[1, 0], [1, 2, 3], [3]])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match="train_counts: expected"):
        classifier_imbalance(torch.eye(2), torch.tensor(counts))


def test_where_all_class_means_coincide_nothing_is_collapsed():
    features = np.full((9, 5), 0.5)
    features[:4] += [[1.0], [-1.0], [2.0], [-2.0]]
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 2, 2])
    found = class_imbalance(features, labels, features @ np.ones((5, 3)), np.eye(3, 5), np.array([4, 3, 2]))
    assert (found["nc1_balanced"], found["nc1_sample_mean"]) == (math.inf, math.inf)
    assert math.isnan(found["nc2_sample_mean"])
