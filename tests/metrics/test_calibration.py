"""Calibration against hand-computed numbers, literal loops, torchmetrics and scikit-learn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from nclens._torchvision import import_torchvision
from nclens.metrics import calibration
from nclens.metrics.calibration import (
    AUTHORS_TEMPERATURES,
    KEYS,
    SCORES,
    TEMPERATURE_BOUNDS,
    adaptive_calibration_error,
    authors_temperature,
    binary_calibration_metrics,
    binary_reliability_bins,
    brier_score,
    calibration_at_temperatures,
    calibration_metrics,
    classwise_calibration_error,
    expected_calibration_error,
    fit_temperature,
    l2_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability_bins,
    stratified_mask,
    temperature_metrics,
    top_class_brier_score,
)
from tests.metrics.allocations import largest_tensor

ERRORS = [expected_calibration_error, adaptive_calibration_error, classwise_calibration_error]


def draw(seed: int, n: int = 200, classes: int = 5, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that know something of their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    logits = torch.randn(n, classes, dtype=torch.float64, generator=generator)
    logits[torch.arange(n), labels] += 1
    return scale * logits, labels


def binary(confidences: list[float], correct: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two-class probabilities with these top-1 confidences, the first class predicted."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p, 1 - p], dim=1), 1 - torch.tensor(correct)


cases = st.builds(
    draw, st.integers(0, 10_000), n=st.integers(1, 60), classes=st.integers(2, 6), scale=st.floats(0.01, 30)
)


def test_ece_by_hand():
    # Bins (.5, .6] and (.9, 1]: |.5 - .575| * 2/5 + |2/3 - .96| * 3/5.
    p, y = binary([0.55, 0.6, 0.92, 0.96, 1.0], [1, 0, 1, 1, 0])
    assert expected_calibration_error(p, y, bins=10) == pytest.approx(0.4 * 0.075 + 0.6 * (0.96 - 2 / 3), abs=1e-15)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_and_one_to_the_last():
    p, y = binary([0.75, 0.75 + 1e-12, 1.0], [1, 1, 1])
    bins = reliability_bins(p, y, bins=4)
    assert bins.lower.tolist() == [0, 0.25, 0.5, 0.75]
    assert bins.upper.tolist() == [0.25, 0.5, 0.75, 1]
    assert bins.count.tolist() == [0, 0, 1, 2]
    assert bins.confidence[:2].isnan().all()
    assert bins.accuracy[:2].isnan().all()
    assert bins.confidence[2] == 0.75
    assert bins.accuracy[2:].tolist() == [1, 1]


def test_every_edge_of_fifteen_bins_is_closed_above():
    for edge in range(8, 15):
        p, y = binary([edge / 15], [1])
        assert reliability_bins(p, y).count.argmax() == edge - 1


@given(cases)
@settings(max_examples=50, deadline=None)
def test_ece_is_the_literal_double_loop(case):
    logits, y = case
    p = torch.softmax(logits, dim=1)
    total = 0.0
    for j in range(15):
        inside = [i for i in range(len(y)) if j / 15 < p[i].max() <= (j + 1) / 15]
        if inside:
            accuracy = sum(int(p[i].argmax() == y[i]) for i in inside) / len(inside)
            total += len(inside) / len(y) * abs(accuracy - sum(float(p[i].max()) for i in inside) / len(inside))
    assert expected_calibration_error(p, y) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15, 20, 25])
def test_ece_agrees_with_torchmetrics_away_from_edges(bins):
    import_torchvision()  # which torchmetrics imports
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, y = draw(1, n=2000, classes=10)
    p = torch.softmax(logits, dim=1)
    theirs = multiclass_calibration_error(p, y, num_classes=10, n_bins=bins, norm="l1")
    assert expected_calibration_error(p, y, bins) == pytest.approx(float(theirs), abs=1e-6)


def test_adaptive_by_hand():
    # Two bins of two and, of five samples, the larger first: ranks 0, 1, 2 and 3, 4.
    p, y = binary([0.6, 0.9, 0.7, 0.8, 1.0], [0, 1, 1, 1, 1])
    expected = (abs(2 - (0.6 + 0.7 + 0.8)) + abs(2 - 1.9)) / 5
    assert adaptive_calibration_error(p, y, bins=2) == pytest.approx(expected, abs=1e-15)


def test_adaptive_ties_share_their_mean_correctness():
    # All confidences equal: both bins see an accuracy of 1/2, however the samples are ordered.
    for correct in ([1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]):
        p, y = binary([0.8] * 4, correct)
        assert adaptive_calibration_error(p, y, bins=2) == pytest.approx(0.3, abs=1e-15)


def test_adaptive_without_ties_is_a_sort_and_a_split():
    logits, y = draw(2, n=150)
    p = torch.softmax(logits, dim=1)
    confidence, predicted = p.max(dim=1)
    order = confidence.argsort()
    total = 0.0
    for part in order.reshape(15, 10):
        total += abs(float((predicted[part] == y[part]).double().sum() - confidence[part].sum()))
    assert adaptive_calibration_error(p, y) == pytest.approx(total / 150, abs=1e-12)


def test_classwise_by_hand_with_a_probability_of_zero():
    p = torch.tensor([[1.0, 0.0], [0.6, 0.4]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    # Class 0: bin (.5, 1] has mean .8, frequency .5. Class 1: bin [0, .5] has mean .2, frequency .5.
    assert classwise_calibration_error(p, y, bins=2) == pytest.approx(0.3, abs=1e-15)


@given(cases)
@settings(max_examples=30, deadline=None)
def test_classwise_is_the_literal_loop(case):
    logits, y = case
    p = torch.softmax(logits, dim=1)
    total = 0.0
    for k in range(p.shape[1]):
        for j in range(15):
            inside = [i for i in range(len(y)) if j / 15 < p[i, k] <= (j + 1) / 15 or (j == 0 and p[i, k] == 0)]
            total += abs(sum(float(p[i, k]) - int(y[i] == k) for i in inside)) / len(y)
    assert classwise_calibration_error(p, y) == pytest.approx(total / p.shape[1], abs=1e-12)


@given(cases)
@settings(max_examples=50, deadline=None)
def test_errors_lie_between_the_mean_gap_and_one(case):
    logits, y = case
    p = torch.softmax(logits, dim=1)
    confidence, predicted = p.max(dim=1)
    gap = abs(float(confidence.mean() - (predicted == y).double().mean()))
    for error in (expected_calibration_error, adaptive_calibration_error):
        assert gap - 1e-12 <= error(p, y) <= 1
        assert error(p, y, bins=1) == pytest.approx(gap, abs=1e-12)


@given(cases, st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_metrics_do_not_see_order_class_names_or_shifts_of_the_logits(case, seed):
    logits, y = case
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    names = torch.randperm(logits.shape[1], generator=generator)
    shift = torch.randint(-3, 4, (len(y), 1), generator=generator).double()
    moved = (logits + shift)[order][:, names]
    # names[new] = old, so the new label of an old class is where it stands in names.
    renamed = names.argsort()[y][order]
    before, after = calibration_metrics(logits, y), calibration_metrics(moved, renamed)
    for name in before:
        assert after[name] == pytest.approx(before[name], abs=1e-9, nan_ok=True), name


def test_perfect_and_hopeless_predictions():
    right = torch.eye(3, dtype=torch.float64) * 1000
    y = torch.arange(3)
    perfect = calibration_metrics(right, y)
    assert [perfect[k] for k in ("accuracy", "error", "nll", "brier", "ece", "entropy")] == [1, 0, 0, 0, 0, 0]
    assert perfect["ece_adaptive"] == perfect["ece_classwise"] == 0
    assert math.isnan(perfect["confidence_incorrect"])
    assert math.isnan(perfect["nll_incorrect"])
    assert math.isnan(perfect["entropy_incorrect"])
    # Probability exactly 0 for the label: likelihood and entropy stay finite.
    wrong = calibration_metrics(right, y.roll(1))
    assert wrong["nll"] == 1000
    assert [wrong[k] for k in ("accuracy", "error", "brier", "ece", "confidence", "entropy")] == [0, 1, 2, 1, 1, 0]
    assert math.isnan(wrong["confidence_correct"])


def test_uniform_predictions():
    metrics = calibration_metrics(torch.zeros(4, 4), torch.arange(4))
    assert metrics["nll"] == pytest.approx(math.log(4), abs=1e-12)
    assert metrics["entropy"] == pytest.approx(math.log(4), abs=1e-12)
    assert metrics["brier"] == pytest.approx(0.75, abs=1e-12)
    assert metrics["accuracy"] == metrics["confidence"] == 0.25  # ties: the first class is predicted
    assert metrics["ece"] == metrics["ece_adaptive"] == metrics["ece_classwise"] == 0


def test_all_metrics_by_hand():
    # Probabilities (3/4, 1/4) and (1/6, 5/6); both labelled 0.
    logits = torch.log(torch.tensor([[3.0, 1.0], [1.0, 5.0]], dtype=torch.float64))
    metrics = calibration_metrics(logits, torch.tensor([0, 0]))
    entropy = [-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), -(math.log(1 / 6) / 6 + 5 / 6 * math.log(5 / 6))]
    expected = {
        "accuracy": 0.5,
        "error": 0.5,
        "nll": (math.log(4 / 3) + math.log(6)) / 2,
        "nll_correct": math.log(4 / 3),
        "nll_incorrect": math.log(6),
        "brier": (2 * 0.25**2 + 2 * (5 / 6) ** 2) / 2,
        "ece": (0.25 + 5 / 6) / 2,
        "ece_20": (0.25 + 5 / 6) / 2,
        "ece_25": (0.25 + 5 / 6) / 2,
        "ece_adaptive": (0.25 + 5 / 6) / 2,
        "ece_classwise": (0.25 + 5 / 6) / 2,
        "confidence": (0.75 + 5 / 6) / 2,
        "confidence_correct": 0.75,
        "confidence_incorrect": 5 / 6,
        "entropy": sum(entropy) / 2,
        "entropy_correct": entropy[0],
        "entropy_incorrect": entropy[1],
        "mce": 5 / 6,
        "ece_l2": math.sqrt((0.25**2 + (5 / 6) ** 2) / 2),
        "brier_top": (0.25**2 + (5 / 6) ** 2) / 2,
    }
    assert tuple(metrics) == KEYS
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_nll_and_brier_agree_with_scikit_learn():
    logits, y = draw(3, n=500)
    p = torch.softmax(logits, dim=1)
    assert negative_log_likelihood(logits, y) == pytest.approx(log_loss(y, p, labels=range(5)), rel=1e-9)
    theirs = brier_score_loss(y.numpy(), p.numpy(), labels=list(range(5)), scale_by_half=False)
    assert brier_score(p, y) == pytest.approx(theirs, rel=1e-12)


def test_float32_logits_are_measured_in_float64():
    logits, y = draw(4)
    single = logits.float()
    assert calibration_metrics(single, y) == calibration_metrics(single.double(), y)
    assert calibration_metrics(single, y.int()) == calibration_metrics(single, y)


def test_the_fitted_temperature_is_where_the_likelihood_is_flat():
    logits, y = draw(5, n=400)
    temperature = fit_temperature(logits, y)
    log_t = torch.tensor(math.log(temperature), dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(logits / log_t.exp(), y).backward()
    assert abs(float(log_t.grad)) < 1e-10
    best = negative_log_likelihood(logits / temperature, y)
    for factor in (0.5, 0.99, 1.01, 2):
        assert negative_log_likelihood(logits / (factor * temperature), y) > best


@pytest.mark.parametrize("factor", [0.1, 0.7, 4.0])
def test_temperature_scales_with_the_logits(factor):
    logits, y = draw(6)
    assert fit_temperature(factor * logits, y) == pytest.approx(factor * fit_temperature(logits, y), rel=1e-8)


def test_temperature_of_two_classes_by_hand():
    # Gap g everywhere, right in 3 of 4: 1 / (1 + exp(-g/T)) = 3/4, so T = g / log 3.
    logits = torch.tensor([[2.0, 0.0]]).repeat(4, 1)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(2 / math.log(3), rel=1e-9)


def test_temperature_at_its_bounds():
    y = torch.arange(3)
    for scale in (1e-3, 1.0, 1e4):
        assert fit_temperature(scale * torch.eye(3), y) == TEMPERATURE_BOUNDS[0]
        assert fit_temperature(-scale * torch.eye(3), y) == TEMPERATURE_BOUNDS[1]
    assert fit_temperature(torch.full((3, 3), 7.0), y) == 1


def test_authors_temperature_is_the_best_of_its_grid():
    logits, y = draw(7)
    errors = {t: expected_calibration_error(torch.softmax(logits / t, dim=1), y) for t in AUTHORS_TEMPERATURES}
    chosen = authors_temperature(logits, y)
    assert errors[chosen] == min(errors.values())
    assert errors[chosen] < errors[1.0]  # these logits are overconfident
    assert chosen > 1


def test_authors_grid():
    assert len(AUTHORS_TEMPERATURES) == 201
    assert AUTHORS_TEMPERATURES[0] == pytest.approx(0.1)
    assert AUTHORS_TEMPERATURES[100] == 1
    assert AUTHORS_TEMPERATURES[-1] == pytest.approx(10)


def test_rows_of_many_classes_a_few_at_a_time_give_the_same_temperatures(monkeypatch):
    logits, y = draw(3, n=90, classes=60)
    logits[:, 7] = torch.where(y == 7, logits[:, 7], -math.inf)  # masked, but for its own samples
    whole = fit_temperature(logits, y), authors_temperature(logits, y)
    monkeypatch.setattr(calibration, "_MANY_CLASSES", 2)
    for cached in (2**15, 700, 1):
        monkeypatch.setattr(calibration, "_CACHED", cached)
        assert (fit_temperature(logits, y), authors_temperature(logits, y)) == whole


@pytest.mark.parametrize("many", [2, 500])
@pytest.mark.parametrize("cached", [1, 700, 2**15])
def test_metrics_a_few_rows_at_a_time_are_the_same(monkeypatch, many, cached):
    logits, y = draw(4, n=90, classes=30)
    logits[::4, 3] = torch.where(y[::4] == 3, logits[::4, 3], -math.inf)
    mask = stratified_mask(y, 0.3, 0)
    expected = calibration_metrics(logits, y), temperature_metrics(logits, y, mask)
    monkeypatch.setattr(calibration, "_MANY_CLASSES", many)
    monkeypatch.setattr(calibration, "_CACHED", cached)
    monkeypatch.setattr(calibration, "_AT_ALL_TEMPERATURES", 7)
    found = calibration_metrics(logits, y), temperature_metrics(logits, y, mask)
    if many == 500:
        assert found == expected
    assert list(found) == [pytest.approx(each, rel=1e-13, abs=1e-16) for each in expected]


def test_many_classes_by_loops_over_samples_and_classes():
    """Each probability in its own bin, most in the first, whose sums are taken by columns."""
    classes = 600
    logits, y = draw(5, n=40, classes=classes, scale=1.0)
    logits[torch.arange(0, 40, 2), y[::2]] += 8
    p = torch.softmax(logits.double(), dim=1)
    total = 0.0
    for k in range(classes):
        bins: dict[int, list[float]] = {}
        for row, label in zip(p[:, k].tolist(), y.tolist(), strict=True):
            place = next(j for j in range(15) if row <= (j + 1) / 15)
            bins.setdefault(place, []).append((label == k) - row)
        total += sum(abs(math.fsum(gaps)) for gaps in bins.values()) / len(y)
    assert calibration_metrics(logits, y)["ece_classwise"] == pytest.approx(total / classes, rel=1e-12)


def test_no_copy_of_the_logits_of_many_classes_is_made():
    logits, y = draw(6, n=300, classes=600)
    logits = logits.float()
    held_out = torch.arange(300) % 4 == 0
    with largest_tensor() as found:
        calibration_metrics(logits, y)
    assert found.bytes <= 2**18  # float64 numbers of the rows that are taken at a time
    with largest_tensor() as found:
        temperature_metrics(logits, y, held_out)
    assert found.bytes <= logits.nbytes  # the samples that are not held out, in float32


def test_at_temperatures_both_metrics_are_those_of_the_softmax():
    logits, y = draw(3, n=40_000, classes=6)  # more rows than are taken at a time
    logits[::3, 2] = -math.inf
    y[y == 2] = 1
    found = calibration_at_temperatures(logits, y, [0.05, 1, 3.0])
    for place, temperature in enumerate((0.05, 1, 3.0)):
        scaled = logits.double() / temperature
        assert found["ece"][place] == pytest.approx(expected_calibration_error(scaled.softmax(1), y), abs=1e-12)
        assert found["nll"][place] == pytest.approx(negative_log_likelihood(scaled, y), rel=1e-12)


def test_at_temperatures_ignored_samples_and_masked_labels_count_as_elsewhere():
    logits = torch.tensor([[0.0, 1.0], [-math.inf, 0.0], [math.nan, 0.0]])
    found = calibration_at_temperatures(logits, torch.tensor([0, 0, -100]), [2.0], ignore_index=-100)
    assert found == {"ece": [pytest.approx((1 / (1 + math.exp(-0.5)) + 1) / 2)], "nll": [math.inf]}


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan, True])
def test_at_temperatures_a_temperature_is_a_positive_number(temperature):
    with pytest.raises(ValueError, match=f"temperatures: expected a positive number, got {temperature!r}"):
        calibration_at_temperatures(*draw(0), [1.0, temperature])


def test_authors_temperature_prefers_one_among_equals():
    assert authors_temperature(torch.zeros(2, 2), torch.tensor([0, 1])) == 1


def test_temperature_metrics_keep_the_parts_apart():
    logits, y = draw(8, n=300)
    held_out = stratified_mask(y, 0.5, seed=0)
    metrics = temperature_metrics(logits, y, held_out)
    expected = {f"{name}_{which}" for name in SCORES for which in ("scaled", "unscaled")}
    assert set(metrics) == expected | {"temperature", "temperature_authors", "ece_authors"}
    assert metrics["temperature"] == fit_temperature(logits[held_out], y[held_out])
    rest, rest_y = logits[~held_out], y[~held_out]
    scaled, unscaled = calibration_metrics(rest / metrics["temperature"], rest_y), calibration_metrics(rest, rest_y)
    for name in SCORES:
        assert metrics[f"{name}_scaled"] == scaled[name]
        assert metrics[f"{name}_unscaled"] == unscaled[name]
    assert metrics["ece_authors"] == calibration_metrics(logits / metrics["temperature_authors"], y)["ece"]
    assert metrics["ece_authors"] <= calibration_metrics(logits, y)["ece"]
    # What is wrong only in the other part must not move the temperature.
    spoilt = torch.where(held_out, y, (y + 1) % 5)
    assert temperature_metrics(logits, spoilt, held_out)["temperature"] == metrics["temperature"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_stratified_mask(labels, fraction, seed):
    y = torch.tensor(labels)
    mask = stratified_mask(y, fraction, seed)
    assert mask.dtype == torch.bool
    assert mask.shape == y.shape
    for label in set(labels):
        n, held = labels.count(label), int(mask[y == label].sum())
        if n == 1:
            assert held == 0
        else:
            assert 1 <= held <= n - 1
            assert abs(held - fraction * n) <= 1
    assert torch.equal(mask, stratified_mask(y, fraction, seed))


def test_stratified_mask_is_random_in_its_seed():
    y = torch.arange(10).repeat(20)
    masks = {tuple(stratified_mask(y, 0.5, seed).tolist()) for seed in range(5)}
    assert len(masks) == 5
    assert all(sum(mask) == 100 for mask in masks)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3).long(), "logits must be a float tensor"),
        (torch.zeros(3, 1), torch.zeros(3).long(), "K >= 2"),
        (torch.zeros(0, 2), torch.zeros(0).long(), "N >= 1"),
        (torch.zeros(3, 2).long(), torch.zeros(3).long(), "float tensor"),
        (torch.tensor([[0.0, math.nan]]), torch.tensor([0]), r"logits must not be nan or \+inf .*got nan in row 0"),
        (torch.tensor([[0.0, math.inf]]), torch.tensor([0]), r"logits must not be nan or \+inf .*got inf in row 0"),
        (torch.full((1, 2), -math.inf), torch.tensor([0]), "logits: every class of row 0 is masked"),
        (torch.zeros(3, 2), torch.zeros(2).long(), r"labels: expected shape \(3,\), one label a sample, got \(2,\)"),
        (torch.zeros(3, 2), torch.zeros(3), "labels: expected an integer tensor"),
        (torch.zeros(3, 2), torch.zeros(3, 1).long(), r"labels: expected shape \(3,\)"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), r"labels must lie in \[0, 2\), got 2 at index 2 \(1 of 3"),
        (torch.zeros(3, 2), torch.tensor([0, 1, -1]), r"labels must lie in \[0, 2\), got -1 at index 2"),
    ],
)
def test_bad_logits_and_labels(logits, labels, message):
    functions = [calibration_metrics, negative_log_likelihood, fit_temperature, authors_temperature]
    for function in functions:
        with pytest.raises(ValueError, match=message):
            function(logits, labels)


@pytest.mark.parametrize("rows", [[[0.5, 0.6]], [[1.5, -0.5]], [[math.nan, 1.0]], [[0.0, 0.0]]])
@pytest.mark.parametrize("function", [*ERRORS, brier_score, reliability_bins])
def test_bad_probabilities(function, rows):
    with pytest.raises(ValueError, match="probabilities must"):
        function(torch.tensor(rows), torch.tensor([0]))


@pytest.mark.parametrize("function", ERRORS)
def test_bad_bins(function):
    for bins in (0, 2.5, float("nan")):
        with pytest.raises(ValueError, match="bins: expected an integer of 1 or more"):
            function(torch.tensor([[0.5, 0.5]]), torch.tensor([0]), bins=bins)


def test_bad_masks():
    logits, y = draw(9, n=4)
    for mask in (torch.zeros(4).long(), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match="held_out must be a bool tensor"):
            temperature_metrics(logits, y, mask)
    for mask in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        with pytest.raises(ValueError, match="both sides"):
            temperature_metrics(logits, y, mask)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, math.nan])
def test_bad_fractions(fraction):
    with pytest.raises(ValueError, match="fraction"):
        stratified_mask(torch.tensor([0, 0]), fraction, seed=0)


def test_inputs_are_left_alone():
    logits, y = draw(10, n=30)
    copy, copy_y = logits.clone(), y.clone()
    calibration_metrics(logits, y)
    temperature_metrics(logits, y, stratified_mask(y, 0.5, 0))
    assert torch.equal(logits, copy)
    assert torch.equal(y, copy_y)
    assert calibration.BINS == 15


@given(cases)
@settings(max_examples=20, deadline=None)
def test_maximum_l2_and_top_class_brier_are_the_literal_sums(case):
    logits, y = case
    p = torch.softmax(logits, dim=1)
    confidence, predicted = p.max(dim=1)
    gaps = []
    for j in range(15):
        inside = [i for i in range(len(y)) if j / 15 < confidence[i] <= (j + 1) / 15]
        if inside:
            gap = sum(float(confidence[i]) - int(predicted[i] == y[i]) for i in inside) / len(inside)
            gaps.append((len(inside) / len(y), abs(gap)))
    assert maximum_calibration_error(p, y) == pytest.approx(max(gap for _, gap in gaps), abs=1e-12)
    assert l2_calibration_error(p, y) == pytest.approx(math.sqrt(sum(n * gap**2 for n, gap in gaps)), abs=1e-12)
    top = sum((float(confidence[i]) - int(predicted[i] == y[i])) ** 2 for i in range(len(y))) / len(y)
    assert top_class_brier_score(p, y) == pytest.approx(top, abs=1e-12)
    errors = [error(p, y) for error in (expected_calibration_error, l2_calibration_error, maximum_calibration_error)]
    assert errors == sorted(errors) or errors == pytest.approx(sorted(errors), abs=1e-12)
    found = calibration_metrics(logits, y)
    pairs = binary_calibration_metrics(confidence, predicted == y)
    assert pairs == pytest.approx({key: found[key] for key in pairs}, abs=1e-12, nan_ok=True)
    for mine, theirs in zip(
        vars(binary_reliability_bins(confidence, predicted == y)).values(),
        vars(reliability_bins(p, y)).values(),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, equal_nan=True)


def test_norms_agree_with_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, y = draw(11, n=400)
    p = torch.softmax(logits, dim=1)
    for norm, error in (("l1", expected_calibration_error), ("l2", l2_calibration_error)):
        theirs = multiclass_calibration_error(p, y, p.shape[1], n_bins=15, norm=norm)
        assert error(p, y) == pytest.approx(float(theirs), rel=1e-6)
    theirs = multiclass_calibration_error(p, y, p.shape[1], n_bins=15, norm="max")
    assert maximum_calibration_error(p, y) == pytest.approx(float(theirs), rel=1e-6)


def test_ignored_samples_are_left_out_everywhere():
    logits, y = draw(12, n=60)
    y[::7] = -100
    keep = y != -100
    spoilt = logits.clone()
    spoilt[~keep] = math.nan
    p, spoilt_p = torch.softmax(logits, dim=1), torch.softmax(spoilt, dim=1)
    assert calibration_metrics(spoilt, y, ignore_index=-100) == calibration_metrics(logits[keep], y[keep])
    for function in (fit_temperature, negative_log_likelihood):
        assert function(spoilt, y, ignore_index=-100) == function(logits[keep], y[keep])
    for function in (
        *(expected_calibration_error, l2_calibration_error, maximum_calibration_error, adaptive_calibration_error),
        *(classwise_calibration_error, brier_score, top_class_brier_score),
    ):
        assert function(spoilt_p, y, ignore_index=-100) == function(p[keep], y[keep])
    confidence, correct = p.amax(dim=1), (p.argmax(dim=1) == y).long().where(keep, -1)
    found = binary_calibration_metrics(confidence.where(keep, math.nan), correct, ignore_index=-1)
    assert found == binary_calibration_metrics(confidence[keep], correct[keep] == 1)
    with pytest.raises(ValueError, match="labels: every one is the ignore_index -100; at least one must be counted"):
        calibration_metrics(logits, y * 0 - 100, ignore_index=-100)
    with pytest.raises(ValueError, match=r"logits must not be nan or \+inf .* in row 7"):
        calibration_metrics(spoilt.index_fill(0, torch.tensor([0]), 0.0), y.where(y != -100, 0), ignore_index=-100)


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([0.5, 1.5], [1, 0], r"confidence must lie in \[0, 1\], got 1.5 at index 1"),
        ([0.5, math.nan], [1, 0], r"confidence must lie in \[0, 1\], got nan at index 1"),
        ([0.5, 0.5], [1, 2], r"correct must lie in \[0, 2\), got 2 at index 1"),
        ([0.5, 0.5], [1.0, 0.0], "correct: expected an integer tensor or NumPy array"),
        ([[0.5, 0.5]], [1, 0], r"confidence must be a float tensor \(N,\) with N >= 1"),
        ([0.5, 0.5], [1], "correct: expected shape"),
    ],
)
def test_pairs_that_are_none(confidence, correct, message):
    with pytest.raises(ValueError, match=message):
        binary_calibration_metrics(torch.tensor(confidence), torch.tensor(correct))
