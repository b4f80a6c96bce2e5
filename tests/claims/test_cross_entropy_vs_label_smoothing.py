import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.claims.cross_entropy_vs_label_smoothing import (
    CLAIMS,
    calibrates_better,
    collapses_more,
    common_range,
    converges_faster,
    has_lower_nc2_at_same_nc1,
    log_ratio_at_same_nc1,
)
from nclens.claims.rows import claim_rows
from nclens.claims.verdict import overall
from tests.claims.runs import SEEDS, by_quantity, compare, decay, runs
from tests.claims.simulate import simulate_metrics, simulate_theory

OPPOSITE = {"supported": "contradicted", "contradicted": "supported", "inconclusive": "inconclusive"}


# --- C1 -------------------------------------------------------------------------------------------------------------


def test_c1_by_hand():
    # Twice as fast: log nc1 is -epoch/10 and -epoch/5, the error drops to 0 at epochs 40 and 20. All seeds agree, so
    # that each interval has the width of one step of 10 epochs over the baseline's epoch.
    errors = [
        runs(lambda epoch, _: 0.5 * (epoch < 40), "ce", "error"),
        runs(lambda epoch, _: 0.5 * (epoch < 20), "ls", "error"),
    ]
    measures = converges_faster(compare(runs(decay(0.1), "ce"), runs(decay(0.2), "ls"), *errors))
    assert [(m.quantity, m.verdict) for m in measures] == [
        ("epochs_to_final_nc1", "supported"),
        ("epochs_to_nc1_at_75_percent", "supported"),
        ("epochs_to_nc1_at_50_percent", "supported"),
        ("epochs_to_error", "supported"),
    ]
    for measure, baseline_epoch in zip(measures, (100, 75, 50, 40), strict=True):
        assert measure.effect == pytest.approx(0.5)
        assert measure.high - measure.low == pytest.approx(10 / baseline_epoch)
        assert measure.low * measure.high == pytest.approx(0.5**2)
        assert measure.unit == "ratio of epochs"
    assert measures[0].note.startswith("mean epoch 50 for ls, 100 for ce; interval widened")


def test_c1_step_of_the_baseline_counts_as_well():
    # The loss gets there within a step of 1 epoch, the baseline within one of 80: 80/100 of the ratio.
    snapshots = (*range(1, 21), 100)
    main = converges_faster(
        compare(runs(decay(0.1), "ce", epochs=snapshots), runs(decay(0.625), "ls", epochs=snapshots))
    )[0]
    assert main.effect == pytest.approx(0.16)
    assert main.high - main.low == pytest.approx(0.16 * 80 / 100)


def test_c1_interval_of_seeds_that_differ():
    rates = {0: 0.2, 1: 0.4, 2: 0.8}
    main = converges_faster(compare(runs(decay(0.1), "ce"), runs(lambda e, s: math.exp(-rates[s] * e), "ls")))[0]
    # log ratios are -log 2, -2 log 2, -3 log 2.
    half = 4.302653 * math.log(2) / math.sqrt(3)
    assert main.effect == pytest.approx(0.25)
    assert (main.low, main.high) == pytest.approx((0.25 * math.exp(-half), 0.25 * math.exp(half)), rel=1e-6)
    assert main.verdict == "inconclusive"


def test_c1_slower_is_contradicted_at_every_level():
    found = by_quantity(converges_faster(compare(runs(decay(0.1), "ce"), runs(decay(0.06), "ls"))))
    assert found["epochs_to_nc1_at_50_percent"].effect == pytest.approx(5 / 3)
    assert found["epochs_to_nc1_at_50_percent"].verdict == "contradicted"
    final = found["epochs_to_final_nc1"]
    assert (final.effect, final.low, final.high) == (1.0, 1.0, math.inf)
    assert final.verdict == "contradicted"
    assert "ls never gets there: seeds 0, 1, 2" in final.note


def test_c1_one_run_that_never_gets_there_forbids_support():
    rates = {0: 0.3, 1: 0.3, 2: 0.05}
    main = converges_faster(compare(runs(decay(0.1), "ce"), runs(lambda e, s: math.exp(-rates[s] * e), "ls")))[0]
    assert (main.verdict, main.high) == ("inconclusive", math.inf)
    assert "ls never gets there: seed 2" in main.note


def test_c1_difference_below_a_snapshot_step_is_inconclusive():
    main = converges_faster(compare(runs(decay(0.1), "ce"), runs(decay(0.103), "ls")))[0]
    assert main.effect == pytest.approx(100 / 103)
    assert main.verdict == "inconclusive"
    fine = tuple(range(1, 101))
    main = converges_faster(compare(runs(decay(0.1), "ce", epochs=fine), runs(decay(0.103), "ls", epochs=fine)))[0]
    assert main.verdict == "supported"


def test_c1_counts_the_first_time_that_a_curve_is_there():
    def bump(epoch, seed):
        return {30: 1e-6, 40: 1.0}.get(epoch, math.exp(-0.05 * epoch))

    main = converges_faster(compare(runs(decay(0.1), "ce"), runs(bump, "ls")))[0]
    # log nc1 is -1 at 20 and log 1e-6 at 30: -10 in between.
    assert main.effect == pytest.approx((20 + 10 * 9 / (math.log(1e6) - 1)) / 100)


def test_c1_baseline_may_be_there_before_the_end_itself():
    def bump(epoch, seed):
        return math.exp(-10.0 if epoch == 50 else -0.1 * epoch)

    main = converges_faster(compare(runs(bump, "ce"), runs(decay(0.4), "ls")))[0]
    assert main.effect == pytest.approx(25 / 50)


@pytest.mark.parametrize("final", [0.0, math.inf, math.nan])
def test_c1_without_a_level_is_inconclusive(final):
    course = {100: final}
    measures = converges_faster(
        compare(runs(lambda e, s: course.get(e, math.exp(-0.1 * e)), "ce"), runs(decay(0.2), "ls"))
    )
    found = by_quantity(measures)
    assert found["epochs_to_final_nc1"].verdict == "inconclusive"
    assert math.isnan(found["epochs_to_final_nc1"].effect)
    assert found["epochs_to_nc1_at_50_percent"].verdict == "supported"


def test_c1_early_snapshots_without_means_do_not_matter():
    start = {1: math.inf, 10: math.inf}
    main = converges_faster(compare(runs(decay(0.1), "ce"), runs(lambda e, s: start.get(e, math.exp(-0.2 * e)), "ls")))[
        0
    ]
    assert main.effect == pytest.approx(0.5)


def test_c1_error_level_is_the_final_error_or_one_percent():
    def errors(final, loss, reached):
        return runs(lambda e, s: 0.5 if e < reached else 0.03 if e < 80 else final, loss, "error")

    hard = by_quantity(converges_faster(compare(errors(0.02, "ce", 30), errors(0.015, "ls", 20))))["epochs_to_error"]
    assert hard.effect == pytest.approx(1.0)
    easy = by_quantity(converges_faster(compare(errors(0.03, "ce", 60), errors(0.03, "ls", 20))))["epochs_to_error"]
    assert (easy.effect, easy.verdict) == (pytest.approx(1 / 3), "supported")
    clean = by_quantity(converges_faster(compare(errors(0.0, "ce", 60), errors(0.009, "ls", 20))))["epochs_to_error"]
    assert clean.effect == pytest.approx(1.0)


def test_c1_baseline_there_by_its_first_snapshot_is_undefined():
    error = by_quantity(
        converges_faster(compare(runs(lambda e, s: 0.5, "ce", "error"), runs(lambda e, s: 0.9, "ls", "error")))
    )["epochs_to_error"]
    assert error.verdict == "inconclusive"
    assert math.isnan(error.effect)


def test_c1_loss_there_by_its_first_snapshot_counts_as_then():
    found = by_quantity(
        converges_faster(
            compare(runs(lambda e, s: 0.5 * (e < 40), "ce", "error"), runs(lambda e, s: 0.0, "ls", "error"))
        )
    )["epochs_to_error"]
    assert (found.effect, found.verdict) == (pytest.approx(1 / 40), "supported")
    assert "ls is there by its first snapshot: seeds 0, 1, 2" in found.note


def test_c1_two_seeds_are_inconclusive():
    measures = converges_faster(compare(runs(decay(0.1), "ce"), runs(decay(0.2), "ls"), seeds=(0, 1)))
    assert {m.verdict for m in measures} == {"inconclusive"}
    assert measures[0].effect == pytest.approx(0.5)
    assert math.isnan(measures[0].low)


def test_c1_one_snapshot_only():
    measures = converges_faster(compare(runs(decay(0.1), "ce", epochs=(100,)), runs(decay(0.2), "ls", epochs=(100,))))
    assert {m.verdict for m in measures} == {"inconclusive"}


@settings(max_examples=20)
@given(st.floats(0.01, 100.0), st.sampled_from([0.07, 0.1, 0.15, 0.3]))
def test_c1_does_not_depend_on_the_unit_of_nc1(factor, rate):
    def scaled(unit):
        baseline = runs(lambda e, s: unit * math.exp(-0.1 * e), "ce")
        return converges_faster(compare(baseline, runs(lambda e, s: unit * math.exp(-rate * (1 + 0.05 * s) * e), "ls")))

    one, other = scaled(1.0), scaled(factor)
    for a, b in zip(one[:3], other[:3], strict=True):
        assert (b.effect, b.low, b.verdict) == (pytest.approx(a.effect), pytest.approx(a.low), a.verdict)


# --- C2 and C4 ------------------------------------------------------------------------------------------------------

COLLAPSE = ("nc1", "nc2", "nc2_means", "nc2_classifier", "nc3")
ERRORS = ("ece", "ece_20", "ece_25", "ece_adaptive", "ece_classwise")


def final_values(metrics, split, ce, ls):
    """Runs whose last value is ce[seed], ls[seed], and that stand far apart the other way round before."""
    return [
        runs(lambda e, s, last=last, early=early: last[s] if e == 100 else early, loss, metric, split)
        for metric in metrics
        for loss, last, early in (("ce", ce, 1e-3), ("ls", ls, 1e3))
    ]


def test_c2_by_hand():
    values = [1.0, 1.0, 1.0], [math.exp(-1), math.exp(-2), math.exp(-3)]
    measures = collapses_more(compare(*final_values(COLLAPSE, "train", *values)))
    assert [m.quantity for m in measures] == list(COLLAPSE)
    half = 4.302653 / math.sqrt(3)
    for measure in measures:
        assert (measure.effect, measure.unit, measure.null) == (pytest.approx(math.exp(-2)), "ratio", 1.0)
        assert (measure.low, measure.high) == pytest.approx((math.exp(-2 - half), math.exp(-2 + half)), rel=1e-6)
        assert measure.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("ls", "verdict"),
    [([0.4, 0.42, 0.41], "supported"), ([1.4, 1.42, 1.41], "contradicted"), ([0.4, 1.42, 1.0], "inconclusive")],
)
def test_c2_verdicts_and_exchanging_the_losses(ls, verdict):
    tables = final_values(COLLAPSE, "train", [1.0, 1.01, 0.99], ls)
    one = collapses_more(compare(*tables))
    other = collapses_more(compare(*tables, baseline="ls", loss="ce"))
    assert overall(one)[0] == verdict
    assert overall(other)[0] == OPPOSITE[verdict]
    assert [b.effect * a.effect for a, b in zip(one, other, strict=True)] == pytest.approx([1.0] * 5)


def test_c2_measure_against_the_claim_is_named():
    tables = [
        *final_values(COLLAPSE[:4], "train", [1.0, 1.0, 1.0], [0.5, 0.51, 0.52]),
        *final_values(COLLAPSE[4:], "train", [0.5, 0.51, 0.52], [1.0, 1.0, 1.0]),
    ]
    verdict, note = overall(collapses_more(compare(*tables)))
    assert (verdict, note) == ("inconclusive", "nc1: supported (main measure); nc3: contradicted")


@pytest.mark.parametrize("bad", [0.0, math.inf, math.nan, -1.0])
def test_c2_total_collapse_is_inconclusive(bad):
    main = collapses_more(compare(*final_values(("nc1",), "train", [1.0, 1.0, 1.0], [0.5, bad, 0.5])))[0]
    assert (main.verdict, main.seeds) == ("inconclusive", 3)
    assert math.isnan(main.effect)
    assert "no finite effect: seed 1" in main.note


def test_c2_both_exactly_zero_is_inconclusive():
    main = collapses_more(compare(*final_values(("nc1",), "train", [0.0] * 3, [0.0] * 3)))[0]
    assert main.verdict == "inconclusive"


def test_c4_by_hand():
    measures = calibrates_better(compare(*final_values(ERRORS, "test", [0.01, 0.01, 0.01], [0.07, 0.08, 0.09])))
    assert [m.quantity for m in measures] == list(ERRORS)
    half = 4.302653 * 0.01 / math.sqrt(3)
    for measure in measures:
        assert (measure.effect, measure.null, measure.unit) == (pytest.approx(0.07), 0.0, "difference in ECE")
        assert (measure.low, measure.high) == pytest.approx((0.07 - half, 0.07 + half), rel=1e-6)
        assert measure.verdict == "contradicted"


@pytest.mark.parametrize(
    ("ls", "verdict"),
    [
        ([0.11, 0.12, 0.13], "supported"),
        ([0.41, 0.42, 0.43], "contradicted"),
        ([0.1, 0.3, 0.5], "inconclusive"),
        ([0.3, 0.31, 0.32], "inconclusive"),
    ],
)
def test_c4_verdicts_and_exchanging_the_losses(ls, verdict):
    tables = final_values(ERRORS, "test", [0.3, 0.31, 0.32], ls)
    assert overall(calibrates_better(compare(*tables)))[0] == verdict
    assert overall(calibrates_better(compare(*tables, baseline="ls", loss="ce")))[0] == OPPOSITE[verdict]


def test_c4_takes_a_calibration_error_of_zero():
    main = calibrates_better(compare(*final_values(("ece",), "test", [0.1, 0.11, 0.12], [0.0, 0.0, 0.0])))[0]
    assert (main.verdict, main.effect) == ("supported", pytest.approx(-0.11))


def test_c4_reads_the_test_split_only():
    tables = final_values(("ece",), "train", [0.1, 0.11, 0.12], [0.0, 0.0, 0.0])
    assert calibrates_better(compare(*tables))[0].seeds == 0


# --- C3 -------------------------------------------------------------------------------------------------------------


def path(nc1, nc2, epochs=None):
    return pd.DataFrame({"nc1": nc1, "nc2": nc2}, index=epochs or range(1, len(nc1) + 1), dtype=float)


def test_c3_parallel_lines_whatever_the_speed():
    baseline = path([0, -2, -4], [0, -2, -4], [1, 40, 100])
    loss = path([1, -1, -5], [0.5, -1.5, -5.5], [1, 5, 100])
    assert common_range(loss, baseline) == (-4.0, 0.0)
    assert log_ratio_at_same_nc1(loss, baseline) == pytest.approx(-0.5, abs=1e-12)
    assert log_ratio_at_same_nc1(baseline, loss) == pytest.approx(0.5, abs=1e-12)


def test_c3_mean_over_the_common_range_by_hand():
    # Over log nc1 from 0 to -4 the difference runs from 0 to -2.
    assert log_ratio_at_same_nc1(path([0, -4], [0, -6]), path([0, -4], [0, -4])) == pytest.approx(-1.0)
    # Only from 0 to -2 is common: from 0 to -1.
    assert log_ratio_at_same_nc1(path([0, -4], [0, -6]), path([0, -2], [0, -2])) == pytest.approx(-0.5)


def test_c3_counts_the_first_visit_of_a_level():
    # From 0 to -2 on the first segment, where log nc2 is 0; then back up, and from -2 to -4 on the last one, where
    # log nc2 runs from 2 to 0: half the range at 0, half at 1 on average.
    back = path([0, -2, -1, -4], [0, 0, 3, 0])
    assert log_ratio_at_same_nc1(back, path([0, -4], [0, 0])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (path([0, -1], [0, 0]), path([-2, -3], [0, 0])),
        (path([0, -1], [0, 0]), path([-1, -3], [0, 0])),
        (path([0], [0]), path([0, -3], [0, 0])),
        (path([], []), path([0, -3], [0, 0])),
    ],
)
def test_c3_without_a_common_range(one, other):
    for pair in ((one, other), (other, one)):
        low, high = common_range(*pair)
        assert not low < high
        assert math.isnan(log_ratio_at_same_nc1(*pair))


def plane(loss, rate, power, factor=1.0, seeds=SEEDS):
    """Runs with nc1 = factor exp(-rate epoch) and nc2 = nc1^power but for a seed-wise factor."""
    nc1 = runs(lambda e, s: factor * math.exp(-rate * e), loss, "nc1", seeds=seeds)
    nc2 = runs(lambda e, s: math.exp(-rate * e * power + 0.01 * s), loss, "nc2", seeds=seeds)
    return [nc1, nc2]


@pytest.mark.parametrize(("power", "verdict"), [(1.5, "supported"), (1.0, "inconclusive"), (0.5, "contradicted")])
def test_c3_verdicts_and_exchanging_the_losses(power, verdict):
    tables = plane("ce", 0.05, 1.0) + plane("ls", 0.1, power)
    (one,) = has_lower_nc2_at_same_nc1(compare(*tables))
    (other,) = has_lower_nc2_at_same_nc1(compare(*tables, baseline="ls", loss="ce"))
    assert (one.quantity, one.unit, one.verdict) == ("nc2_at_same_nc1", "ratio", verdict)
    assert other.verdict == OPPOSITE[verdict]
    assert one.effect * other.effect == pytest.approx(1.0)
    # nc1 runs from exp(-0.1) (the later first snapshot) down to exp(-5): the middle of the logs is -2.55.
    assert math.log(one.effect) == pytest.approx(-2.55 * (power - 1), abs=1e-9)
    assert "NC1 in common from 0.00674 to 0.905" in one.note


@settings(max_examples=5)
@given(st.floats(0.01, 100.0))
def test_c3_does_not_depend_on_the_unit_of_nc1(factor):
    one, other = (
        has_lower_nc2_at_same_nc1(compare(*plane("ce", 0.05, 1.0, f), *plane("ls", 0.1, 1.5, f)))[0]
        for f in (1.0, factor)
    )
    assert (other.effect, other.verdict) == (pytest.approx(one.effect), one.verdict)


def test_c3_one_seed_without_a_common_range_is_inconclusive_and_named():
    tables = plane("ce", 0.05, 1.0) + plane("ls", 0.1, 1.5, seeds=(0, 1)) + plane("ls", 0.1, 1.5, 1e-9, seeds=(2,))
    (found,) = has_lower_nc2_at_same_nc1(compare(*tables))
    assert found.verdict == "inconclusive"
    assert "no NC1 in common: seed 2" in found.note


def test_c3_snapshots_without_finite_logs_are_passed_over():
    tables = plane("ce", 0.05, 1.0) + plane("ls", 0.1, 1.5)
    broken = pd.concat(tables, ignore_index=True)
    first = (broken["epoch"] == 1) & (broken["loss"] == "ls")
    broken.loc[first & (broken["metric"] == "nc1"), "value"] = math.inf
    broken.loc[first & (broken["metric"] == "nc2"), "value"] = math.nan
    (found,) = has_lower_nc2_at_same_nc1(compare(broken))
    assert found.verdict == "supported"
    # The loss's path now starts at epoch 10, where log nc1 is -1: the middle of -1 and -5.
    assert math.log(found.effect) == pytest.approx(-3 * 0.5)


# --- all claims on simulated tables ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated():
    return simulate_metrics(), simulate_theory()


def verdicts(comparison):
    return {claim.id: claim_rows(claim, comparison)[0].verdict for claim in CLAIMS}


def test_simulated_study(simulated):
    metrics, theory_table = simulated
    assert verdicts(compare(metrics, theory=theory_table, epochs=60)) == {
        "C1": "supported",
        "C2": "supported",
        "C3": "supported",
        "C4": "contradicted",
    }


def test_simulated_study_with_the_losses_exchanged(simulated):
    metrics, theory_table = simulated
    assert verdicts(compare(metrics, theory=theory_table, epochs=60, baseline="ls", loss="ce")) == {
        "C1": "contradicted",
        "C2": "contradicted",
        "C3": "contradicted",
        "C4": "supported",
    }


def test_simulated_study_with_two_seeds(simulated):
    found = verdicts(compare(simulated[0], epochs=60, seeds=(0, 1)))
    assert set(found.values()) == {"inconclusive"}


def test_simulated_study_of_one_loss_twice(simulated):
    metrics = simulated[0]
    ce = metrics[metrics["loss"] == "ce"]
    found = verdicts(compare(ce, ce.assign(loss="ls"), epochs=60))
    assert [found[claim] for claim in ("C1", "C2", "C3", "C4")] == ["inconclusive"] * 4


def test_no_measurements_at_all():
    for claim in CLAIMS:
        for row in claim_rows(claim, compare()):
            assert row.verdict == "inconclusive"
            assert math.isnan(row.effect)
            assert row.note
