"""Selective classification against literal loops over samples, and over all orders of equals; float64."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics import held_out, out_of_distribution, regression
from nclens.metrics.calibration import stratified_mask
from nclens.metrics.selective import (
    POWERS,
    aurc,
    coverage_at_risk,
    excess_aurc,
    fit_power,
    log_odds,
    normalised_logit,
    normalised_selective_metrics,
    risk_at_coverage,
    risk_coverage,
    selective_metrics,
)

KEYS = ("aurc", "e_aurc", "coverage_at_risk", "risk_at_coverage")


def draw(seed, n=60, classes=5, ties=False):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    logits = 2 * torch.randn(n, classes, dtype=torch.float64, generator=generator)
    logits[torch.arange(n), labels] += 1.5
    return (logits.round() if ties else logits), labels


def risks_over_orders(confidence, correct):
    """The risk among the j most confident, j = 1..n: the mean over every order of equal samples, one by one."""
    samples = list(zip(confidence, correct, strict=True))
    groups = [[right for score, right in samples if score == level] for level in sorted(set(confidence), reverse=True)]
    orders = list(itertools.product(*(list(itertools.permutations(group)) for group in groups)))
    total = [Fraction(0)] * len(samples)
    for order in orders:
        sequence = [right for group in order for right in group]
        for j in range(1, len(samples) + 1):
            total[j - 1] += Fraction(sum(not right for right in sequence[:j]), j)
    return [value / len(orders) for value in total]


def mean(values):
    return sum(values, Fraction(0)) / len(values)


scored = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(scored, st.sampled_from([0.05, 0.25, 0.5]), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_every_score_is_the_exact_mean_over_the_orders_of_equals(samples, risk, coverage):
    confidence, correct = [score for score, _ in samples], [right for _, right in samples]
    given_ = torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct)
    risks, n = risks_over_orders(confidence, correct), len(samples)
    assert aurc(*given_) == pytest.approx(float(mean(risks)), abs=1e-14)
    perfect = mean([Fraction(max(0, j - sum(correct)), j) for j in range(1, n + 1)])
    assert excess_aurc(*given_) == pytest.approx(float(mean(risks) - perfect), abs=1e-14)
    j = math.ceil(Fraction(str(coverage)) * n)
    assert risk_at_coverage(*given_, coverage) == pytest.approx(float(risks[j - 1]), abs=1e-14)
    best = Fraction(0)
    for level in confidence:
        kept = [right for score, right in samples if score >= level]
        if Fraction(kept.count(False), len(kept)) <= Fraction(str(risk)):
            best = max(best, Fraction(len(kept), n))
    assert coverage_at_risk(*given_, risk) == pytest.approx(float(best), abs=1e-15)


def test_aurc_by_hand_and_the_perfect_order_is_exact():
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6])
    correct = torch.tensor([True, False, True, False])
    assert aurc(confidence, correct) == (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4
    assert excess_aurc(confidence, correct) == pytest.approx((1 / 2 + 1 / 3 + 2 / 4) / 4 - (1 / 3 + 2 / 4) / 4)
    # The approximation r + (1 - r) ln(1 - r) of the perfect order would be 0.153, and is 0.208 exactly.
    perfect = confidence[torch.tensor([0, 3, 1, 2])]
    assert aurc(perfect, torch.tensor([True, False, True, False])) == pytest.approx((1 / 3 + 2 / 4) / 4)
    assert excess_aurc(perfect, torch.tensor([True, False, True, False])) == 0


def test_the_largest_coverage_counts_though_the_risk_was_higher_before():
    # One error at once, then 39 right: the risk falls to 1/40 at the end.
    correct = torch.tensor([False] + 39 * [True])
    confidence = -torch.arange(40.0)
    assert coverage_at_risk(confidence, correct) == 1
    assert coverage_at_risk(confidence[:19], correct[:19]) == 0
    assert coverage_at_risk(confidence[:20], correct[:20]) == 1  # 1/20 is 5%


def test_the_number_of_most_confident_is_that_of_the_written_coverage():
    confidence = -torch.arange(100.0)
    correct = torch.arange(100) < 55
    assert risk_at_coverage(confidence, correct, 0.55) == 0  # in float64 .55 of 100 is more than 55
    assert risk_at_coverage(confidence, correct, 0.56) == pytest.approx(1 / 56)
    assert risk_at_coverage(confidence[:1], correct[:1], 0.001) == 0


def test_the_curve_has_a_point_a_distinct_confidence():
    curve = risk_coverage(torch.tensor([1.0, 3.0, 1.0, 2.0]), torch.tensor([True, True, False, False]))
    assert curve.threshold.tolist() == [3, 2, 1]
    assert curve.coverage.tolist() == [0.25, 0.5, 1]
    assert curve.risk.tolist() == [0, 0.5, 0.5]


# --- confidences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_log_odds_are_those_of_the_largest_probability(ties):
    logits, _ = draw(0, ties=ties)
    for row, value in zip(logits.tolist(), log_odds(logits).tolist(), strict=True):
        place = row.index(max(row))
        others = sum(math.exp(z - row[place]) for k, z in enumerate(row) if k != place)
        assert value == pytest.approx(-math.log(others), abs=1e-11)
        assert math.exp(value) / (1 + math.exp(value)) == pytest.approx(1 / (1 + others), rel=1e-12)


def test_log_odds_tell_saturated_predictions_apart():
    logits = torch.tensor([[50.0, 0, 0], [40.0, 0, 0], [60.0, 0, -math.inf], [9.0, -math.inf, -math.inf]])
    assert torch.softmax(logits.double(), dim=1).amax(dim=1).tolist() == [1, 1, 1, 1]
    assert log_odds(logits).tolist() == pytest.approx([50 - math.log(2), 40 - math.log(2), 60, math.inf])
    wide = torch.tensor([[1e300, 0.0, 0.0], [2e300, 0.0, 0.0]], dtype=torch.float64)
    assert log_odds(wide).tolist() == [1e300, 2e300]


def test_equal_up_to_the_order_of_the_classes_is_equal():
    row = torch.tensor([0.1, 0.7, -0.3, 1.9, 0.2], dtype=torch.float64)
    rows = torch.stack([row[list(order)] for order in itertools.permutations(range(5))])
    for confidence in (log_odds(rows), *(normalised_logit(rows, p) for p in POWERS)):
        assert len(confidence.unique()) == 1


def literal_normalised(row, p):
    centre = sum(row) / len(row)
    norm = sum(abs(z - centre) ** p for z in row) ** (1 / p)
    return max(z - centre for z in row) / norm if norm else 0.0


@pytest.mark.parametrize("p", [*POWERS, 2.5])
def test_the_normalised_logit_is_its_formula(p):
    logits, _ = draw(1)
    expected = [literal_normalised(row, p) for row in logits.tolist()]
    assert normalised_logit(logits, p).tolist() == pytest.approx(expected, abs=1e-12)
    assert normalised_logit(logits.float(), p).tolist() == pytest.approx(expected, abs=1e-6)


def test_p_of_one_ties_at_a_half_where_one_logit_is_above_the_mean():
    logits, _ = draw(2, n=200)
    centred = logits - logits.mean(dim=1, keepdim=True)
    single = (centred > 0).sum(dim=1) == 1
    assert single.sum() > 5
    assert normalised_logit(logits, 1)[single].unique().tolist() == [0.5]


def test_equal_logits_give_zero_and_two_classes_are_refused():
    assert normalised_logit(torch.full((2, 3), 0.1, dtype=torch.float64), 2).tolist() == [0, 0]
    with pytest.raises(ValueError, match="constant for two classes, so not defined; expected K >= 3"):
        normalised_logit(torch.randn(4, 2), 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from(POWERS), st.floats(-200, 200), st.integers(-900, 900))
def test_logit_normalisation_knows_no_temperature_and_no_offset(seed, p, offset, exponent):
    logits, _ = draw(seed, n=8)
    expected = normalised_logit(logits, p)
    torch.testing.assert_close(normalised_logit(logits + offset, p), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(normalised_logit(logits * 2.0**exponent, p), expected, rtol=0, atol=1e-12)


def test_masked_classes_are_left_out_of_mean_and_norm():
    logits, _ = draw(3, n=10)
    masked = torch.cat([logits, torch.full((10, 2), -math.inf)], dim=1)
    for p in (1, 2, 8):
        torch.testing.assert_close(normalised_logit(masked, p), normalised_logit(logits, p), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_odds(masked), log_odds(logits), rtol=0, atol=1e-12)


# --- the metrics -----------------------------------------------------------------------------------------------------


def scores(confidence, correct):
    """The four numbers by loops; the confidences are distinct."""
    order = sorted(range(len(correct)), key=lambda i: -confidence[i])
    risks, wrong = [], 0
    for j, i in enumerate(order, start=1):
        wrong += not correct[i]
        risks.append(wrong / j)
    perfect = [max(0, j - sum(correct)) / j for j in range(1, len(correct) + 1)]
    area = sum(risks) / len(risks)
    kept = [j for j, risk in enumerate(risks, start=1) if risk <= 0.05]
    return {
        "aurc": area,
        "e_aurc": area - sum(perfect) / len(perfect),
        "coverage_at_risk": max(kept, default=0) / len(risks),
        "risk_at_coverage": risks[math.ceil(0.8 * len(risks)) - 1],
    }


def test_selective_metrics_against_loops():
    logits, labels = draw(4, n=90)
    top = [max(row) for row in torch.softmax(logits, dim=1).tolist()]
    correct = [row.index(max(row)) == label for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    found = selective_metrics(logits, labels)
    assert found == pytest.approx(scores(top, correct) | {"errors": correct.count(False)})
    assert list(found) == [*KEYS, "errors"]


def test_normalised_selective_metrics_against_loops():
    logits, labels = draw(29, n=120)
    held = stratified_mask(labels, 0.5, 0)
    rows = [
        (row, row.index(max(row)) == label, held_out)
        for row, label, held_out in zip(logits.tolist(), labels.tolist(), held.tolist(), strict=True)
    ]
    areas = {}
    for p in POWERS:
        chosen = [(literal_normalised(row, p), right) for row, right, held_out in rows if held_out]
        fine = [round(value, 12) for value, _ in chosen]
        if p > 1:  # p = 1 has ties
            areas[p] = scores(fine, [right for _, right in chosen])["aurc"]
    areas[1] = aurc(normalised_logit(logits[held], 1), logits[held].argmax(dim=1) == labels[held])
    power = min(POWERS, key=areas.__getitem__)
    assert power > 1
    assert fit_power(logits[held], labels[held]) == power
    rest = [(row, right) for row, right, held_out in rows if not held_out]
    correct = [right for _, right in rest]
    normalised = scores([literal_normalised(row, power) for row, _ in rest], correct)
    plain = scores([max(torch.softmax(torch.tensor(row), dim=0).tolist()) for row, _ in rest], correct)
    expected = {"logit_norm_power": power, "errors_rest": correct.count(False)}
    expected |= {f"{name}_normalised": value for name, value in normalised.items()}
    expected |= {f"{name}_unnormalised": value for name, value in plain.items()}
    assert normalised_selective_metrics(logits, labels, held) == pytest.approx(expected)


def test_of_equally_good_exponents_the_first_is_taken():
    logits = torch.tensor([[3.0, 0, 1], [2.0, 0, 1]], dtype=torch.float64)
    assert fit_power(logits, torch.tensor([0, 0])) == 1
    assert fit_power(logits, torch.tensor([0, 0]), powers=[5, 2]) == 5


def test_two_classes_have_no_normalised_scores():
    logits, labels = draw(6, n=40, classes=2)
    found = normalised_selective_metrics(logits, labels, stratified_mask(labels, 0.5, 0))
    assert all(math.isnan(found[f"{name}_normalised"]) for name in KEYS)
    assert math.isnan(found["logit_norm_power"])
    assert all(math.isfinite(found[f"{name}_unnormalised"]) for name in KEYS)


def test_the_order_of_the_samples_does_not_count():
    logits, labels = draw(7, n=80, ties=True)
    expected = selective_metrics(logits, labels)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert selective_metrics(logits[order], labels[order]) == pytest.approx(expected, abs=1e-15)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalised_logit(torch.randn(2, 3), 0), "p: expected a finite number of 1 or more, got 0"),
        (lambda: normalised_logit(torch.randn(2, 3), math.inf), "p: expected a finite number of 1 or more, got inf"),
        (lambda: normalised_logit(torch.randn(2, 3), True), "p: expected a finite number of 1 or more, got True"),
        (lambda: fit_power(torch.randn(2, 3), torch.tensor([0, 1]), []), "powers: expected at least one exponent"),
        (lambda: coverage_at_risk(torch.zeros(1), torch.tensor([True]), 1.0), r"risk: expected a number in \[0, 1\)"),
        (
            lambda: risk_at_coverage(torch.zeros(1), torch.tensor([True]), 0.0),
            r"coverage: expected a number in \(0, 1\]",
        ),
        (lambda: aurc(torch.zeros(0), torch.zeros(0, dtype=torch.bool)), r"confidence: expected numbers \(N,\)"),
        (lambda: aurc(torch.zeros(2), torch.ones(2)), r"correct: expected a bool tensor of shape \(2,\), got torch.fl"),
        (
            lambda: aurc(torch.tensor([0.0, math.nan]), torch.tensor([True, True])),
            "must not be nan, got nan at index 1",
        ),
        (lambda: log_odds(torch.tensor([[math.nan, 0.0]])), r"logits must not be nan or \+inf"),
        (lambda: log_odds(torch.zeros(3)), "logits must be a float tensor"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_numpy_exponent_is_a_number():
    logits, _ = draw(8, n=4)
    assert torch.equal(normalised_logit(logits, np.int64(3)), normalised_logit(logits, 3))


@pytest.mark.parametrize("value", ["0.1", None, True, math.nan, math.inf, -0.1, [0.1], 1j])
def test_a_level_that_is_no_number_in_range_is_refused(value):
    confidence, correct = torch.tensor([0.9, 0.8]), torch.tensor([True, False])
    logits, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    for name, call in {
        "risk": lambda: coverage_at_risk(confidence, correct, value),
        "coverage": lambda: risk_at_coverage(confidence, correct, value),
        "powers": lambda: fit_power(logits, labels, [value]),
        "p": lambda: normalised_logit(logits, value),
        "tpr": lambda: out_of_distribution.false_positive_rate(confidence, confidence, value),
        "fraction": lambda: held_out.stratified_mask(labels, value, 0),
        "c": lambda: regression.residual_deviation(torch.eye(2), value),
        "gamma": lambda: regression.nrc3(torch.eye(2), torch.eye(2), value),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}"):
            call()
