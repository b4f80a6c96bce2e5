import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from nclens.claims import CLAIMS, RULES, Measurements
from nclens.claims.margins import Margin
from nclens.claims.rows import claim_rows, claims_table, corrected, pairs
from nclens.claims.verdict import (
    REASONS,
    Claim,
    Comparison,
    Measure,
    Reason,
    against_margin,
    decide,
    judge_pairs,
    judge_shares,
    judge_within,
    largest_p,
    log_ratio,
    not_testable,
    overall,
)

SEEDS = (0, 1, 2)
LABELS = {"nc1": "NC1", "nc2": "NC2"}
OPPOSITE = {"supported": "contradicted", "contradicted": "supported", "inconclusive": "inconclusive"}
effects = st.floats(-5, 5).map(lambda x: round(x, 3))


def judge(values, scale="ratio", claimed="below", seeds=SEEDS, **options):
    return judge_pairs("nc1", values, seeds, scale=scale, claimed=claimed, unit="ratio", **options)


def measure(verdict, quantity="nc1", note=""):
    return Measure(quantity, 0.5, 0.4, 0.6, "ratio", 1.0, 3, verdict, note)


def comparison(**changes):
    metrics = pd.DataFrame(columns=["loss", "seed", "split", "epoch", "metric", "value"])
    theory = pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric", "relative_error"])
    given = {"experiment": "main", "dataset": "mnist5k", "model": "resnet8", "baseline": "ce", "loss": "ls"}
    given |= {"seeds": SEEDS, "epochs": 60, "metrics": metrics, "theory": theory}
    given |= changes
    return Comparison(**(given | {"metrics": Measurements(given["metrics"])}))


# --- the rule -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "below"),
    [
        (0.2, 0.9, "supported"),
        (1.1, 3.0, "contradicted"),
        (1.1, math.inf, "contradicted"),
        (0.5, 1.5, "inconclusive"),
        (0.5, 1.0, "inconclusive"),
        (1.0, 1.5, "inconclusive"),
        (1.0, 1.0, "inconclusive"),
        (0.5, math.inf, "inconclusive"),
        (math.nan, math.nan, "inconclusive"),
        (math.nan, 0.5, "inconclusive"),
        (1.5, math.nan, "inconclusive"),
    ],
)
def test_decide(low, high, below):
    assert decide(low, high, 1.0, "below") == below
    assert decide(low, high, 1.0, "above") == OPPOSITE[below]


@pytest.mark.parametrize("effect", [0.06 - 0.05, 0.31 - 0.30, 0.01])
@pytest.mark.parametrize("count", [3, 20])
def test_equal_effects_at_a_margin_touch_it(effect, count):
    seeds = range(count)
    found = judge_pairs(
        "q", dict.fromkeys(seeds, effect), seeds, scale="difference", claimed="below", unit="", null=0.01
    )
    assert (found.verdict, found.low, found.high) == ("inconclusive", effect, effect)


def test_ratios_beyond_the_range_of_numbers_are_infinite():
    found = judge_pairs("q", {0: 800.0, 1: 801.0, 2: 802.0}, range(3), scale="ratio", claimed="below", unit="")
    assert (found.verdict, found.effect) == ("contradicted", math.inf)


@pytest.mark.parametrize(
    ("value", "baseline", "expected"),
    [(math.e, 1.0, 1.0), (0.5, 2.0, -math.log(4)), (1e-300, 1e300, math.log(1e-300) - math.log(1e300))],
)
def test_log_ratio(value, baseline, expected):
    assert log_ratio(value, baseline) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_log_ratio_is_undefined_unless_both_are_positive_and_finite(bad):
    assert math.isnan(log_ratio(bad, 1.0))
    assert math.isnan(log_ratio(1.0, bad))


def test_ratio_by_hand():
    found = judge({0: -1.0, 1: -2.0, 2: -3.0})
    half = 4.302653 / math.sqrt(3)
    assert found.effect == pytest.approx(math.exp(-2))
    assert (found.low, found.high) == pytest.approx((math.exp(-2 - half), math.exp(-2 + half)), rel=1e-6)
    assert (found.verdict, found.null, found.seeds) == ("inconclusive", 1.0, 3)
    assert judge({0: -1.9, 1: -2.0, 2: -2.1}).verdict == "supported"
    assert judge({0: 1.9, 1: 2.0, 2: 2.1}).verdict == "contradicted"


def test_difference_by_hand():
    found = judge({0: 0.05, 1: 0.06, 2: 0.07}, scale="difference")
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (found.effect, found.low, found.high) == pytest.approx((0.06, 0.06 - half, 0.06 + half), rel=1e-6)
    assert (found.verdict, found.null) == ("contradicted", 0.0)
    assert judge({0: 0.05, 1: 0.06, 2: 0.07}, scale="difference", claimed="above").verdict == "supported"


@given(st.lists(effects, min_size=3, max_size=6), st.sampled_from(["ratio", "difference"]))
def test_exchanging_the_two_losses_turns_the_verdict_round(values, scale):
    one = judge(dict(enumerate(values)), scale=scale, seeds=range(6))
    other = judge(dict(enumerate(-value for value in values)), scale=scale, seeds=range(6))
    assert other.verdict == OPPOSITE[one.verdict]
    assert other.low == pytest.approx(1 / one.high if scale == "ratio" else -one.high, rel=1e-9)


@given(st.lists(effects, min_size=3, max_size=6), st.integers(-8, 8))
def test_unit_of_a_difference_does_not_change_the_verdict(values, power):
    # Powers of two scale without rounding.
    scaled = {seed: 2.0**power * value for seed, value in enumerate(values)}
    one, other = (judge(v, scale="difference", seeds=range(6)) for v in (dict(enumerate(values)), scaled))
    assert (other.verdict, other.high) == (one.verdict, 2.0**power * one.high)


def test_a_claim_on_another_task_has_no_rows():
    claim = Claim("X1", "a paper", "", "", lambda _: [measure("supported")], LABELS, task="regression")
    assert claim_rows(claim, comparison()) == []
    assert len(claim_rows(claim, comparison(task="regression"))) == 2


def test_same_effect_in_every_seed_is_a_point():
    found = judge({0: -0.5, 1: -0.5, 2: -0.5})
    assert (found.low, found.high) == pytest.approx((math.exp(-0.5), math.exp(-0.5)))
    assert found.verdict == "supported"
    assert judge({0: 0.0, 1: 0.0, 2: 0.0}).verdict == "inconclusive"


@pytest.mark.parametrize("count", [1, 2])
def test_under_three_pairs_is_inconclusive_however_large_the_effect(count):
    found = judge(dict.fromkeys(range(count), -9.0), seeds=range(count))
    assert found.effect == pytest.approx(math.exp(-9))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.verdict, found.seeds) == ("inconclusive", count)
    assert "no interval under 3 pairs" in found.note


def test_without_any_pair():
    found = judge({})
    assert math.isnan(found.effect)
    assert (found.verdict, found.seeds) == ("inconclusive", 0)
    assert "a run is missing: seeds 0, 1, 2" in found.note


def test_missing_seed_is_left_out_and_named():
    found = judge({0: -1.9, 2: -2.0, 3: -2.1}, seeds=range(4))
    assert (found.verdict, found.seeds) == ("supported", 3)
    assert found.note == "left out, a run is missing: seed 1"
    assert found == judge({0: -1.9, 1: -2.0, 2: -2.1}, notes=["left out, a run is missing: seed 1"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scale", ["ratio", "difference"])
def test_undefined_effect_is_not_left_out(bad, scale):
    found = judge({0: -1.9, 1: -2.0, 2: -2.1, 3: bad}, scale=scale, seeds=range(4))
    assert all(math.isnan(number) for number in (found.effect, found.low, found.high))
    assert (found.verdict, found.seeds) == ("inconclusive", 4)
    assert "no finite effect: seed 3" in found.note


def test_unknown_seed_is_refused():
    with pytest.raises(ValueError, match=r"effects of the seeds \[7\]; allowed: \[0, 1, 2\]"):
        judge({0: 0.1, 7: 0.2})


# --- resolution and censoring ---------------------------------------------------------------------------------------


def test_narrow_interval_is_widened_about_its_centre():
    found = judge(dict.fromkeys(SEEDS, math.log(0.5)), resolution=0.2)
    # About the centre of the log scale: e^(m + h) - e^(m - h) = 0.2 with e^m = 0.5.
    root = math.sqrt(1 + 0.2**2)
    assert (found.low, found.effect, found.high) == pytest.approx((0.5 * (root - 0.2), 0.5, 0.5 * (root + 0.2)))
    assert (found.verdict, "interval widened from [0.5, 0.5]" in found.note) == ("supported", True)
    assert judge(dict.fromkeys(SEEDS, math.log(0.95)), resolution=0.2).verdict == "inconclusive"


def test_wide_interval_is_kept():
    values = {0: -1.0, 1: -2.0, 2: -3.0}
    assert judge(values, resolution=0.2) == judge(values)


def test_widened_ratio_stays_above_zero_and_a_difference_does_not():
    found = judge(dict.fromkeys(SEEDS, math.log(0.1)), resolution=0.6)
    assert found.low > 0
    assert (found.high - found.low, found.low * found.high) == pytest.approx((0.6, 0.1**2))
    assert judge(dict.fromkeys(SEEDS, 0.1), scale="difference", resolution=0.6).low == pytest.approx(-0.2)


def test_one_censored_pair_opens_the_interval_and_forbids_support():
    values = {0: -2.0, 1: -2.0, 2: -1.9}
    assert judge(values).verdict == "supported"
    found = judge(values, only_above=[2])
    assert (found.verdict, found.high, found.low) == ("inconclusive", math.inf, judge(values).low)


def test_censored_pairs_can_contradict():
    assert judge({0: 0.5, 1: 0.52, 2: 0.6}, only_above=[2]).verdict == "contradicted"
    assert judge({0: -0.5, 1: 0.52, 2: 0.6}, only_above=[2]).verdict == "inconclusive"


def test_every_pair_censored_contradicts_though_the_snapshots_resolve_little():
    found = judge(dict.fromkeys(SEEDS, 0.0), only_above=SEEDS, resolution=0.2)
    assert (found.effect, found.low, found.high, found.verdict) == (1.0, 1.0, math.inf, "contradicted")


def test_two_censored_pairs_stay_inconclusive():
    assert judge({0: 0.3, 1: 0.3}, seeds=(0, 1), only_above=(0, 1)).verdict == "inconclusive"


# --- why a measure is inconclusive ----------------------------------------------------------------------------------


def test_every_reason_is_explained():
    assert set(REASONS) | {""} == set(get_args(Reason))


@given(st.lists(effects, min_size=3, max_size=6, unique=True), st.sampled_from([0.05, 0.5, 3.0]))
def test_no_effect_beyond_a_margin_is_by_two_one_sided_t_tests(values, margin):
    p, *_ = ttost_paired(np.array(values) + 1.0, np.ones(len(values)), -margin, margin)
    plain = judge(dict(enumerate(values)), scale="difference", seeds=range(6))
    found = against_margin(plain, Margin(margin, ""))
    assert (found.verdict, found.low, found.margin) == (plain.verdict, plain.low, margin)
    if plain.verdict == "inconclusive" and abs(p - 0.05) > 1e-6:
        assert found.reason == ("no effect beyond the margin" if p < 0.05 else "too few seeds")


@given(st.lists(effects, min_size=3, max_size=6), st.sampled_from([1.05, 1.5, 20.0]))
def test_the_margin_of_a_ratio_is_the_same_for_both_orders_of_the_losses(values, margin):
    ways = [judge(dict(enumerate(sign * value for value in values)), seeds=range(6)) for sign in (1, -1)]
    one, other = (against_margin(way, Margin(margin, "")) for way in ways)
    assert one.reason == other.reason
    assert one.smallest == pytest.approx(other.smallest)


def test_smallest_effect_and_p_by_hand():
    half = 4.302653 * 0.01 / math.sqrt(3)
    values = {0: 0.05, 1: 0.06, 2: 0.07}
    found = judge(values, scale="difference")
    assert found.smallest == pytest.approx(half, rel=1e-6)
    assert found.p == pytest.approx(stats.ttest_1samp(list(values.values()), 0.0).pvalue)
    assert judge(values).smallest == pytest.approx(math.exp(half), rel=1e-6)
    against = judge(values, null=1.1)
    assert against.p == pytest.approx(stats.ttest_1samp(list(values.values()), math.log(1.1)).pvalue)
    assert math.isnan(judge(dict.fromkeys(SEEDS, 0.1), resolution=0.5).p)
    assert math.isnan(judge(values, only_above=[1]).p)


@given(st.lists(effects, min_size=3, max_size=6), st.floats(0, 2), st.booleans())
def test_an_interval_of_a_ratio_stays_above_zero_and_holds_its_mean(values, resolution, shares):
    given_values = dict(enumerate(values))
    if shares:
        found = judge_shares("q", {s: abs(v) for s, v in given_values.items()}, range(6), 0.5, claimed="below", unit="")
    else:
        found = judge(given_values, seeds=range(6), resolution=resolution)
        assert found.high - found.low >= resolution * (1 - 1e-9) - 1e-12
    assert 0 < found.low <= found.effect * (1 + 1e-12)
    assert found.effect * (1 - 1e-12) <= found.high < math.inf


def test_shares_by_hand_and_those_near_zero_count_as_a_hundredth_of_the_value_they_are_compared_with():
    found = judge_shares("q", {0: 0.0, 1: 0.02, 2: 0.08}, SEEDS, 0.5, claimed="below", unit="ratio")
    logs = [math.log(0.005), math.log(0.02), math.log(0.08)]
    half = 4.302653 * float(np.std(logs, ddof=1)) / math.sqrt(3)
    assert (found.effect, found.high) == pytest.approx((0.02, math.exp(math.log(0.02) + half)), rel=1e-6)
    assert (found.verdict, found.null, found.note) == ("inconclusive", 0.5, "below 0.005, which it counts as: seed 0")
    for bad in (-0.1, math.nan, math.inf):
        assert (
            judge_shares("q", {0: 0.1, 1: 0.1, 2: bad}, SEEDS, 0.5, claimed="below", unit="").reason == "not measured"
        )


@given(st.lists(effects, min_size=3, max_size=6), st.sampled_from(["difference", "ratio"]))
def test_p_of_a_claim_within_a_margin_is_below_five_per_cent_where_it_is_decided(values, scale):
    size = 1.0005  # no effect is: an interval of a point at the margin is within it
    margin = size if scale == "difference" else math.exp(size)
    found = judge_within("q", dict(enumerate(values)), range(6), margin, scale=scale, unit="")
    if abs(found.p - 0.05) > 1e-6:
        assert (found.p < 0.05) == (found.verdict != "inconclusive")
    assert (found.reason == "too few seeds") == (found.verdict == "inconclusive")


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        ({0: -1.0, 1: 0.0, 2: 1.0}, {}, "too few seeds"),
        ({0: -1.0, 1: -1.0}, {}, "too few seeds"),
        ({0: -0.01, 1: 0.0, 2: 0.01}, {}, "no effect beyond the margin"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {}, "no effect beyond the margin"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {"resolution": 0.1}, "no effect beyond the margin"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {"resolution": 1.0}, "below the resolution"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {"identical": SEEDS}, "identical networks"),
        ({0: 0.0, 1: 0.0, 2: 0.0}, {"identical": (0, 1)}, "no effect beyond the margin"),
        ({0: -2.0, 1: -2.0, 2: -1.9}, {"only_above": (2,)}, "level not reached"),
        ({0: -2.0, 1: -2.0, 2: math.nan}, {}, "not measured"),
        ({0: -2.0, 1: -2.0, 2: math.nan}, {"undefined": {2: "below the resolution"}}, "below the resolution"),
        ({}, {}, "not measured"),
        ({0: -2.0, 1: -2.1, 2: -1.9}, {"identical": SEEDS}, ""),
    ],
)
def test_reason_of_a_measure(values, options, reason):
    found = against_margin(judge(values, **options), Margin(1.1, ""))
    assert found.reason == reason
    assert (found.verdict == "inconclusive") == bool(reason)
    assert not_testable(found).reason == "not testable"


def test_a_measure_that_is_compared_with_another_value_has_no_margin():
    found = against_margin(judge({0: -0.01, 1: 0.0, 2: 0.01}, null=0.99), Margin(1.1, ""))
    assert (found.reason, math.isnan(found.margin)) == ("too few seeds", True)


# --- a claim from its measures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "other", "expected"),
    [
        ("supported", "supported", "supported"),
        ("supported", "inconclusive", "supported"),
        ("supported", "contradicted", "inconclusive"),
        ("inconclusive", "supported", "inconclusive"),
        ("inconclusive", "contradicted", "inconclusive"),
        ("contradicted", "supported", "contradicted"),
        ("contradicted", "contradicted", "contradicted"),
    ],
)
def test_overall(main, other, expected):
    verdict, note = overall([measure(main, note="widened"), measure(main, "nc2"), measure(other, "nc3")])
    assert verdict == expected
    assert note.endswith("widened")
    assert (f"nc3: {other}" in note) == (main != other)
    assert "nc2" not in note


def test_overall_of_one_measure():
    assert overall([measure("contradicted")]) == ("contradicted", "")


def test_claim_row_repeats_its_main_measure():
    claim = Claim(
        "X1", "a paper", "smaller", "by nc1", lambda _: [measure("supported"), measure("contradicted", "nc2")], LABELS
    )
    head, *measures = claim_rows(claim, comparison())
    assert (head.level, head.quantity, head.verdict) == ("claim", "", "inconclusive")
    assert (head.effect, head.low, head.high, head.unit, head.null, head.seeds) == (0.5, 0.4, 0.6, "ratio", 1.0, 3)
    assert [(row.level, row.quantity, row.verdict) for row in measures] == [
        ("measure", "nc1", "supported"),
        ("measure", "nc2", "contradicted"),
    ]
    for row in (head, *measures):
        assert (row.claim, row.paper, row.statement) == ("X1", "a paper", "smaller")
        assert (row.experiment, row.dataset, row.model) == ("main", "mnist5k", "resnet8")
        assert (row.baseline, row.loss) == ("ce", "ls")


def test_claim_without_measures_has_no_rows():
    assert claim_rows(Claim("X1", "a paper", "smaller", "", lambda _: [], {}), comparison()) == []


def test_claim_may_combine_its_measures_in_its_own_way():
    measures = [measure("supported")]
    claim = Claim("X1", "a paper", "", "", lambda _: measures, LABELS, combine=lambda found: ("contradicted", "so"))
    head, row = claim_rows(claim, comparison())
    assert (head.verdict, head.note, row.verdict) == ("contradicted", "so", "supported")


@pytest.mark.parametrize(
    ("verdicts", "reasons", "expected"),
    [
        (("supported", "supported"), ("", ""), ""),
        (("supported", "contradicted"), ("", ""), "measures disagree"),
        (("inconclusive", "contradicted"), ("too few seeds", ""), "too few seeds"),
        (("inconclusive", "inconclusive"), ("identical networks", "too few seeds"), "identical networks"),
        (("contradicted", "inconclusive"), ("", "too few seeds"), ""),
    ],
)
def test_reason_of_a_claim(verdicts, reasons, expected):
    found = [replace(measure(v, q), reason=r) for v, q, r in zip(verdicts, LABELS, reasons, strict=True)]
    head, *_ = claim_rows(Claim("X1", "a paper", "", "", lambda _: found, LABELS), comparison())
    assert head.reason == expected


def test_holm_over_the_claims_of_a_study_counts_those_without_a_p_value_and_not_theory():
    def rows(p, seeds=3):
        found = [replace(measure("supported"), p=p, seeds=seeds)]
        return claim_rows(Claim("X1", "a paper", "", "", lambda _: found, LABELS), comparison())

    given_rows = [row for p in (0.01, 0.02, math.nan) for row in rows(p)] + rows(math.nan, None)
    found = corrected(given_rows)
    # Three are counted: 3 * .01, then 2 * .02; the third has no p value to show.
    assert [row.p_holm for row in found if row.level == "claim"][:2] == pytest.approx([0.03, 0.04])
    assert all(math.isnan(row.p_holm) for row in found[1::2] + found[4:])
    assert [replace(row, p_holm=0.0) for row in found] == [replace(row, p_holm=0.0) for row in given_rows]
    assert corrected([]) == []


def test_p_of_all_measures_is_the_largest_and_unknown_where_one_is():
    known = [replace(measure("supported"), p=p) for p in (0.01, 0.2)]
    assert largest_p(known) == 0.2
    assert math.isnan(largest_p([*known, measure("supported")]))
    assert math.isnan(largest_p([]))


def test_claims_table_leaves_empty_what_is_not_defined(tmp_path):
    theory = Measure("kappa", 0.9, math.nan, math.nan, "ratio", 1.0, None, "supported")
    claim = Claim("X1", "a paper", "smaller", "", lambda _: [theory], {"kappa": "condition number"})
    table = claims_table(claim_rows(claim, comparison()))
    lines = table.to_csv(index=False).splitlines()
    assert lines[0] == (
        "claim,paper,statement,experiment,dataset,model,baseline,loss,level,quantity,"
        "effect,low,high,unit,null,seeds,verdict,note,scale,reason,margin,smallest,p,p_holm"
    )
    assert lines[2] == "X1,a paper,smaller,main,mnist5k,resnet8,ce,ls,measure,kappa,0.9,,,ratio,1.0,,supported,,,,,,,"
    assert list(claims_table([]).columns) == list(table.columns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0, 1, 1)}, "each is allowed once"),
        ({"loss": "ce"}, "the loss ce is its own baseline"),
        (
            {"metrics": pd.DataFrame({"loss": [], "seed": []})},
            "the metrics table of main lacks the columns split, epoch",
        ),
        ({"theory": pd.DataFrame({"loss": []})}, "the theory table of main lacks the columns quantity"),
        ({"dynamics": pd.DataFrame()}, "the theory table of main lacks the columns classes, per_class"),
        ({"predictions": pd.DataFrame({"loss": []})}, "the predictions table of main lacks the columns smoothing"),
    ],
)
def test_comparison_checks_what_it_is_given(changes, message):
    with pytest.raises(ValueError, match=message):
        comparison(**changes)


def test_comparison_refuses_epochs_past_the_last():
    metrics = pd.DataFrame(
        {"loss": ["ce"], "seed": [0], "split": ["train"], "epoch": [61], "metric": ["nc1"], "value": [1.0]}
    )
    with pytest.raises(ValueError, match="has epoch 61; the last must be 60"):
        comparison(metrics=metrics)


# --- which losses a claim compares -----------------------------------------------------------------------------------


LOSSES = {
    "ce": ("ce", None),
    "ls": ("ls", 0.1),
    "ls_more": ("ls", 0.2),
    "rising": ("ls_linear", 0.1),
    "maxsup": ("maxsup", 0.1),
    "maxsup_most": ("maxsup", 0.9),
    "own": ("own", None),
}


def found(compared, against=(), baseline="ce", paired=True):
    claim = Claim("X", "", "", "", lambda _: [], {}, paired=paired, compared=compared, against=against)
    kinds, strengths = ({name: of[place] for name, of in LOSSES.items()} for place in (0, 1))
    return pairs(claim, list(LOSSES), kinds, strengths, baseline)


def test_without_a_kind_to_compare_with_it_is_the_baseline():
    assert found(("ls", "ls_linear")) == [("ls", "ce"), ("ls_more", "ce"), ("rising", "ce")]
    assert found(("ls",), baseline="ls") == [("ls_more", "ls")]
    assert found(("ls",), baseline=None) == []
    assert found(("focal",)) == []


def test_a_kind_is_compared_with_the_same_strength_or_else_against_all():
    assert found(("maxsup",), ("ls",)) == [("maxsup", "ls"), ("maxsup_most", "ls"), ("maxsup_most", "ls_more")]
    assert found(("ls",), ("ls_linear",)) == [("ls", "rising"), ("ls_more", "rising")]
    assert found(("ls",), ("ce", "maxsup"), baseline=None)[:2] == [("ls", "ce"), ("ls", "maxsup")]


def test_a_claim_on_a_loss_alone_has_no_pairs():
    assert found(("ls",), paired=False) == []


# --- the registry ---------------------------------------------------------------------------------------------------


def test_registry_names_each_claim_once_and_rules_explain_each():
    keys = [(claim.paper, claim.id) for claim in CLAIMS.values()]
    assert len(set(keys)) == len(keys)
    assert [claim.id for claim in CLAIMS.values() if "2402.03979" in claim.paper] == [
        "C1",
        "C2",
        "C3",
        "C4",
        "C5",
        "C6",
    ]
    assert [claim.id for claim in CLAIMS.values() if not claim.paired] == [
        *("C7", "W11", "R1", "R2", "R3", "R4", "R5", "R6", "N1", "K1", "K2", "K3", "E1"),
    ]
    assert [claim.id for claim in CLAIMS.values() if claim.task == "regression"] == ["R1", "R2", "R3", "R4", "R5"]
    assert len({claim.id for claim in CLAIMS.values()}) == len(CLAIMS)
    assert all(RULES[claim.id] == claim.rule and claim.rule.endswith(".") for claim in CLAIMS.values())
    assert list(RULES)[:4] == ["Effect", "Interval", "Measure", "Claim"]
