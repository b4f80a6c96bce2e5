"""Every measurement from sufficient statistics is that from the features, and statistics refuse what is incomplete."""

import math

import pytest
import torch

from nclens.metrics import (
    alignment,
    calibration,
    collapse,
    from_statistics,
    generalised,
    imbalance,
    label_noise,
    ranks,
    regressor,
    representation,
    sufficient,
)
from nclens.metrics.catalogue import MEASUREMENTS
from nclens.metrics.sufficient import SufficientStatistics


def smoothed(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)


def made(samples=300, classes=7, dim=20, spread=1.0, lacking=False, batch=64):
    """Features, labels, and all that a measurement takes beside them, with the statistics of the same samples."""
    draw = torch.Generator().manual_seed(samples + classes)
    labels = torch.randint(classes, (samples,), generator=draw)
    labels[: 2 * classes] = torch.arange(2 * classes) % classes
    if lacking:  # one class without samples, and one with a single sample
        labels[labels == 3] = 2
        labels[labels == 5] = 2
        labels[11] = 5
    centres = 3 * torch.randn(classes, dim, generator=draw)
    features = centres[labels] + spread * torch.randn(samples, dim, generator=draw)
    weight = 0.3 * torch.randn(classes, dim, generator=draw) + 0.1 * centres
    bias = 0.1 * torch.randn(classes, generator=draw)
    clean = torch.where(torch.rand(samples, generator=draw) < 0.2, labels.roll(1), labels)
    given = {
        **{"features": features, "labels": labels, "weight": weight, "bias": bias, "clean_labels": clean},
        **{"logits": features @ weight.T + bias, "reference_means": centres + 0.1, "loss": smoothed},
        "train_counts": torch.randint(1, 50, (classes,), generator=draw),
    }
    found = SufficientStatistics(labels, weight, bias, clean_labels=clean, loss=smoothed, onehot=not lacking)
    batches = list(zip(features.split(batch), given["logits"].split(batch), strict=True))
    for part in batches:
        found.add(*part)
    found.begin_again(given["reference_means"])
    for part in batches:
        found.add_again(*part)
    given["statistics"] = found.tensors()
    return given | ({"min_samples": 2} if lacking else {})


def called(function, given):
    names = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    values = function(**{name: given[name] for name in names if name in given})
    return values if isinstance(values, dict) else {"": values}


PAIRS = {
    "neural_collapse": collapse,
    "collapse_ranks": ranks,
    "generalised_collapse": generalised,
    "sample_alignment": alignment,
    "nc1_by_correctness": collapse,
    "angular_spread": representation,
    "template_spread": representation,
    "logit_gap": representation,
    "margin": representation,
    "smoothing_parts": representation,
    "top_logit_gradient": representation,
    "calibration_metrics": calibration,
    "onehot_collapse": regressor,
    "class_imbalance": imbalance,
    "clean_label_collapse": label_noise,
}


def test_every_measurement_of_a_classifier_that_needs_all_samples_has_such_a_form():
    of_classifiers = [one for one in MEASUREMENTS if one.task in ("classification", "onehot")]
    names = {one.from_statistics for one in of_classifiers if one.without_features == "form"}
    assert names == {f"nclens.metrics.from_statistics:{name}" for name in PAIRS}
    assert all(hasattr(from_statistics, name) for name in PAIRS)
    itself = {one.from_statistics for one in of_classifiers} - names
    assert itself == {one.function for one in of_classifiers if one.without_features == "itself"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"lacking": True},
        {"spread": 1e-2},
        {"classes": 30, "dim": 10},
        {"samples": 1200, "classes": 520, "batch": 300},
    ],
    ids=["plain", "lacking classes", "collapsed", "fewer dimensions than classes", "many classes"],
)
def test_the_measurements_are_those_of_the_features(shape):
    given = made(**shape)
    for name, module in PAIRS.items():
        if name == "onehot_collapse" and ("lacking" in shape or given["weight"].shape[0] > 100):
            continue
        expected, found = called(getattr(module, name), given), called(getattr(from_statistics, name), given)
        assert list(found) == list(expected)
        # What the docstring says of a regressor's NRC1 and shares of variance.
        least = 1e-14 if name == "onehot_collapse" else 0.0
        for key, value in expected.items():
            # A ceiling without a bound: the noisy classes' means nearly coincide.
            if not (key.endswith("ceiling") and value > 1e9):
                assert found[key] == pytest.approx(value, rel=1e-9, abs=least, nan_ok=True), (name, key)


def test_means_that_coincide_and_features_that_are_zero_are_as_in_the_features(recwarn):
    labels, weight, bias = torch.tensor([0, 1, 0, 1]), torch.eye(2), torch.zeros(2)
    features = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])
    found = SufficientStatistics(labels, weight, bias)
    found.add(features, features)
    means = found.begin_again()
    found.add_again(features, features)
    tensors = found.tensors()
    values = from_statistics.neural_collapse(tensors, weight, means)
    assert (values["nc1"], values["cdnv"], values["rank_means"]) == (math.inf, math.inf, 0)
    assert math.isnan(values["nc4"])
    assert from_statistics.nc1_by_correctness(tensors, labels) == {"nc1_correct": math.inf, "nc1_incorrect": math.inf}
    assert math.isnan(from_statistics.margin(tensors))
    assert all(map(math.isnan, from_statistics.angular_spread(tensors).values()))
    assert any("2 of 4 feature vectors are zero" in str(one.message) for one in recwarn)
    single = SufficientStatistics(torch.tensor([0, 0, 1]), weight, bias)
    single.add(features[1:], features[1:])
    means = single.begin_again()
    single.add_again(features[1:], features[1:])
    assert math.isnan(from_statistics.neural_collapse(single.tensors(), weight, means)["nc1"])


def test_incomplete_passes_and_values_that_are_not_finite_are_refused():
    labels, weight, bias = torch.tensor([0, 1, 0]), torch.eye(2), torch.zeros(2)
    features = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    found = SufficientStatistics(labels, weight, bias)
    found.add(features, features)
    with pytest.raises(ValueError, match="2 samples in the first pass, and there are 3 labels"):
        found.begin_again()
    with pytest.raises(ValueError, match="add_again: the first pass has not ended"):
        found.add_again(features, features)
    with pytest.raises(ValueError, match="more samples than the 3 labels"):
        found.add(features, features)
    with pytest.raises(ValueError, match="0 samples in the second pass, and there are 3 labels"):
        found.tensors()
    found.add(features[:1], features[:1])  # what was refused has changed nothing
    assert found.begin_again().tolist() == [[1.0, 2.0], [0.0, 3.0]]
    found = SufficientStatistics(labels[:2], weight, bias)
    found.add(features, features)
    found.begin_again()
    with pytest.raises(ValueError, match="0 samples in the second pass, and there are 2 labels"):
        found.tensors()
    with pytest.raises(ValueError, match=r"^add: the first pass has ended; the second one is of `add_again`$"):
        found.add(features, features)
    found.add_again(features, features)
    with pytest.raises(ValueError, match=r"^begin_again: the first pass has ended"):
        found.begin_again()
    with pytest.raises(ValueError, match="labels: at least one sample is needed, got 0"):
        SufficientStatistics(labels[:0], weight, bias)
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="every value must be finite"):
            SufficientStatistics(labels[:2], weight, bias).add(features * wrong, features)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 2\), got 2"):
        SufficientStatistics(torch.tensor([0, 2]), weight, bias)


def test_distances_between_the_rows_of_the_weight_that_are_not_kept_change_nothing(monkeypatch):
    expected = made()["statistics"]
    monkeypatch.setattr(sufficient, "_KEPT_DISTANCES", 0)
    monkeypatch.setattr(sufficient, "_DISTANCES", 7 * 30)
    found = made()["statistics"]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=0)


def test_of_equal_scores_the_lowest_class_is_predicted_and_rows_that_are_equal_bound_nothing():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64) + 1e6 / 3
    features = torch.tensor([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3])
    bias = torch.zeros(4, dtype=torch.float64)
    margin, predicted = sufficient.Margins(weight, bias)(features, labels)
    assert predicted.tolist() == [0, 1, 0, 0]
    for row in range(3):
        own = representation.margin(features[row : row + 1], labels[row : row + 1], weight, bias)
        assert float(margin[row]) == pytest.approx(own, rel=1e-9)
    assert math.isnan(margin[3])


def test_the_scatter_is_symmetric_and_that_of_the_features_in_several_tiles(monkeypatch):
    monkeypatch.setattr(sufficient, "ONE_TILE", 8)
    given = made()
    residual = given["features"].double() - given["statistics"]["means"][given["labels"]]
    scatter = given["statistics"]["scatter"]
    assert torch.equal(scatter, scatter.T)
    torch.testing.assert_close(scatter, residual.T @ residual, rtol=1e-12, atol=1e-12)
