"""Sample-wise alignment against a literal loop, at perfect collapse, and batch by batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.alignment import KEYS, alignment_distances, mean_of_means, sample_alignment
from nclens.metrics.alignment_streaming import SampleAlignment
from nclens.metrics.collapse import class_means
from tests.metrics.test_collapse import draw, simplex


def literal(features, labels, weight, logits, centre):
    values = {}
    for origin, shift in (("alignment", 0 * centre), ("alignment_centred", centre)):
        groups = {part: [] for part in ("", "_correct", "_incorrect", "_predicted", "_predicted_incorrect")}
        zero = 0
        for h, y, z in zip(features.double() - shift, labels.tolist(), logits, strict=True):
            if not h.any():
                zero += 1
                continue
            p = int(z.argmax())
            to = {k: float((h / h.norm() - weight[k] / weight[k].norm()).norm()) for k in (y, p)}
            groups[""].append(to[y])
            groups["_correct" if p == y else "_incorrect"].append(to[y])
            groups["_predicted"].append(to[p])
            if p != y:
                groups["_predicted_incorrect"].append(to[p])
        values |= {f"{origin}{part}": sum(all_of) / len(all_of) for part, all_of in groups.items()}
        values[f"{origin}_zero_features"] = zero
    return values


def given_case(seed=0):
    features, labels, weight, bias = draw(seed=seed, spread=1.0)
    features[3] = 0
    return features, labels, weight, features @ weight.T + bias


@pytest.mark.parametrize("with_reference", [False, True])
def test_agrees_with_the_literal_loop(with_reference):
    features, labels, weight, logits = given_case()
    reference = draw(seed=3)[2] if with_reference else None
    centre = mean_of_means(class_means(features, labels, 4) if reference is None else reference)
    if with_reference:
        torch.testing.assert_close(centre, reference.mean(0))
        features[5] = centre
    found = sample_alignment(features, labels, weight, logits, reference_means=reference)
    assert tuple(found) == KEYS
    assert found == pytest.approx(literal(features, labels, weight, logits, centre), rel=1e-12)
    assert (found["alignment_zero_features"], found["alignment_centred_zero_features"]) == (1, int(with_reference))


def test_each_sample_by_itself():
    features, labels, weight, _ = given_case()
    found = alignment_distances(features, labels, weight, centre=weight[0])
    for h, y, d in zip(features - weight[0], labels, found, strict=True):
        assert float(d) == pytest.approx(float((h / h.norm() - weight[y] / weight[y].norm()).norm()), rel=1e-12)
    assert math.isnan(alignment_distances(features, labels, weight)[3])
    assert len(alignment_distances(features[:0], labels[:0], weight)) == 0


def test_only_centred_features_align_at_perfect_collapse():
    frame, labels = simplex(5, 8), torch.arange(5).repeat(3)
    features = 2 * frame[labels] + 1
    found = sample_alignment(features, labels, 3 * frame, features @ frame.T)
    assert found["alignment_centred"] == pytest.approx(0, abs=1e-14)
    assert found["alignment"] > 0.5
    same = sample_alignment(features - 1, labels, frame, features @ frame.T)
    assert same["alignment"] == pytest.approx(0, abs=1e-14)


def test_small_distances_are_not_lost():
    weight = torch.eye(2).double()
    features = torch.tensor([[1.0, 1e-12], [1e-12, 1.0]], dtype=torch.float64)
    found = alignment_distances(features, torch.tensor([0, 1]), weight)
    assert found.tolist() == pytest.approx([1e-12, 1e-12], rel=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), scale=st.floats(-200, 200))
def test_batches_scaling_of_samples_and_bounds(seed, size, scale):
    features, labels, weight, logits = given_case(seed)
    expected = sample_alignment(features, labels, weight, logits)
    assert all(0 <= value <= 2 for key, value in expected.items() if "zero" not in key and not math.isnan(value))
    factors = 10.0 ** (scale * torch.rand(len(features), 1, generator=torch.Generator().manual_seed(seed)).double())
    moved = sample_alignment(factors * features, labels, weight, logits)
    raw = [key for key in KEYS if "centred" not in key]
    assert [moved[key] for key in raw] == pytest.approx([expected[key] for key in raw], rel=1e-9, nan_ok=True)
    means = class_means(features, labels, 4)
    metrics = [SampleAlignment(means, weight), SampleAlignment(means, weight)]
    for number, part in enumerate(zip(*(one.split(size) for one in (features, labels, logits)), strict=True)):
        metrics[number % 2].update(*part)
    metrics[0].merge_state(metrics[1])
    found = {key: float(value) for key, value in metrics[0].compute().items()}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def test_what_is_left_out_and_what_is_refused():
    features, labels, weight, logits = given_case()
    keep = labels != 2
    reference = class_means(features, labels, 4)
    given_ = {"reference_means": reference}
    expected = sample_alignment(features[keep], labels[keep], weight, logits[keep], **given_)
    ignored = logits.clone()
    ignored[~keep] = math.nan
    spoilt = features.clone()
    spoilt[~keep] = math.inf
    assert sample_alignment(spoilt, labels, weight, ignored, ignore_index=2, **given_) == pytest.approx(expected)
    metric = SampleAlignment(reference, weight, ignore_index=2)
    metric.update(spoilt, labels, ignored)
    assert {key: float(value) for key, value in metric.compute().items()} == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"logits: expected floats of shape \(31, 4\), got torch.float64 \(31, 3\)"):
        sample_alignment(features, labels, weight, logits[:, 1:])
    with pytest.raises(ValueError, match=r"features: expected shape \(N, 5\) as the weight"):
        sample_alignment(features, labels, weight[:, 1:], logits)
    with pytest.raises(ValueError, match="features: every value must be finite"):
        sample_alignment(spoilt, labels, weight, logits)
    with pytest.raises(ValueError, match="merge_state: the other metric has other class means or another classifier"):
        metric.merge_state(SampleAlignment(reference, 2 * weight))
    with pytest.raises(ValueError, match="merge_state: expected a SampleAlignment, got dict"):
        metric.merge_state({})
