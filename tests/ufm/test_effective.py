import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.effective import EffectivePenalties, fit_effective_penalties, logit_gaps

SMOOTHINGS = (0.0, 0.05, 0.1, 0.2, 0.5, 0.8)
PENALTIES = EffectivePenalties(10, 0.02, 0.25, 0.0, 0.0, 0.0, 6)


def data(penalties, smoothings=SMOOTHINGS):
    rows = [penalties.predict(delta) for delta in smoothings]
    return [[row[name] for row in rows] for name in ("logit_gap", "weight_norm", "feature_norm")]


def fit(gaps, smoothings=SMOOTHINGS, classes=10):
    return fit_effective_penalties(classes, smoothings, gaps, [2.0] * len(gaps), [1.0] * len(gaps))


# --- the model ------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.integers(2, 200),
    st.integers(1, 5000),
    st.floats(-6, -1),
    st.floats(-6, -1),
    st.floats(0, 0.95, exclude_max=True),
)
def test_predictions_are_those_of_the_problem_with_these_penalties(classes, per_class, log_w, log_h, delta):
    problem = UnconstrainedFeatureModel(classes, per_class, classes, 10**log_w, 10**log_h, 1.0, delta)
    assume(problem.s < 1)
    ratio = problem.lambda_w / (per_class * problem.lambda_h_sum)
    penalties = replace(PENALTIES, classes=classes, s=problem.s, lambda_w_over_n_lambda_h=ratio)
    for name, value in penalties.predict(delta).items():
        assert value == pytest.approx(getattr(problem, name), rel=1e-9, abs=1e-12)
    assert penalties.lambda_w == pytest.approx(problem.lambda_w)
    assert penalties.n_lambda_h == pytest.approx(per_class * problem.lambda_h_sum)


def test_predictions_by_hand():
    # s = 1/19 - 0 for K = 2 without smoothing: a = log(2 * 19 - 1) = log 37, p_true = 1 - 1/38.
    found = replace(PENALTIES, classes=2, s=1 / 19, lambda_w_over_n_lambda_h=16.0).predict(0.0)
    root = math.sqrt(math.log(37) / 2)
    assert found == pytest.approx(
        {"logit_gap": math.log(37), "weight_norm": root / 2, "feature_norm": root * 2, "p_true": 37 / 38}
    )


def test_limits_of_the_model():
    free, strong = replace(PENALTIES, s=0.0), replace(PENALTIES, s=0.5)
    assert free.predict(0.0) == {
        "logit_gap": math.inf,
        "weight_norm": math.inf,
        "feature_norm": math.inf,
        "p_true": 1.0,
    }
    assert free.predict(0.1)["logit_gap"] == pytest.approx(math.log(100 - 9))
    assert (free.lambda_w, free.n_lambda_h) == (0, 0)
    for smoothing in (0.5, 0.7):
        collapsed = {"logit_gap": 0.0, "weight_norm": 0.0, "feature_norm": 0.0, "p_true": pytest.approx(0.1)}
        assert strong.predict(smoothing) == collapsed
    assert logit_gaps(10, 0.2, [0.5, 0.9]) == pytest.approx([math.log(10 / 0.7 - 9), 0.0])


# --- the fit --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 100),
    st.floats(-5, -0.8),
    st.floats(-3, 3),
    st.lists(st.sampled_from(SMOOTHINGS), min_size=1, unique=True),
)
def test_the_fit_finds_the_penalties_that_made_the_data(classes, log_s, log_ratio, smoothings):
    truth = replace(PENALTIES, classes=classes, s=10**log_s, lambda_w_over_n_lambda_h=10**log_ratio)
    found = fit_effective_penalties(classes, smoothings, *data(truth, smoothings))
    assert found.points == len(smoothings)
    assert found.lambda_w_over_n_lambda_h == pytest.approx(truth.lambda_w_over_n_lambda_h, rel=1e-9)
    # If s is much smaller than every smoothing, the gaps hardly depend on it.
    assert found.s == pytest.approx(truth.s, rel=1e-4, abs=1e-7 * min(smoothings))
    assert found.rms_relative_residual < 1e-6
    assert found.ratio_rms_relative_residual < 1e-12


def test_one_point_determines_both():
    # gap log 91 at delta 0: K / s - 9 = 91, s = 0.1. |h|/|w| = 3: r = 9, lambda_W = 3 * 0.1 / 10.
    found = fit_effective_penalties(10, [0.0], [math.log(91)], [2.0], [6.0])
    assert (found.s, found.lambda_w_over_n_lambda_h) == pytest.approx((0.1, 9.0))
    assert (found.lambda_w, found.n_lambda_h) == pytest.approx((0.03, 0.1 / 30))
    assert (found.points, math.isnan(found.log_s_standard_error)) == (1, True)


def test_the_fit_is_the_least_sum_of_squares_of_log_gaps():
    rng = np.random.default_rng(0)
    gaps = np.array(data(PENALTIES)[0]) * np.exp(0.2 * rng.standard_normal(len(SMOOTHINGS)))
    found = fit(gaps.tolist())
    grid = np.geomspace(1e-6, 0.2 - 1e-9, 200_001)
    model = np.log1p(10 * (1 - (grid[:, None] + SMOOTHINGS)) / (grid[:, None] + SMOOTHINGS))
    best = int(np.argmin(np.square(np.log(gaps) - np.log(model)).sum(1)))
    assert found.s == pytest.approx(grid[best], rel=1e-3)
    assert found.rms_relative_residual == pytest.approx(np.sqrt(np.mean((gaps / model[best] - 1) ** 2)), rel=1e-3)


def test_the_fit_is_the_best_of_all_on_gaps_that_no_s_explains():
    # Gaps that no s explains: at the larger smoothing far below, at the smaller far above what fits the other.
    smoothings, gaps = [0.0, 0.95], [30.0, 1e-3]
    found = fit(gaps, smoothings)
    grid = 0.05 / (1 + np.exp(-np.linspace(-30, 25, 100_001)))
    model = np.log1p(10 * (1 - (grid[:, None] + smoothings)) / (grid[:, None] + smoothings))
    least = np.square(np.log(gaps) - np.log(model)).sum(1).min()
    own = np.square(np.log(gaps) - np.log(logit_gaps(10, found.s, smoothings))).sum()
    assert own <= least * (1 + 1e-6)


def test_ratio_is_the_geometric_mean():
    found = fit_effective_penalties(10, [0.0, 0.1], data(PENALTIES, [0.0, 0.1])[0], [1.0, 1.0], [1.0, 4.0])
    assert found.lambda_w_over_n_lambda_h == pytest.approx(4.0)
    assert found.ratio_rms_relative_residual == pytest.approx(math.sqrt((0.5**2 + 1.0**2) / 2))


def test_gaps_above_every_fit_leave_no_penalty():
    limit = logit_gaps(10, 0.0, [0.1, 0.2])
    found = fit((1.1 * limit).tolist(), [0.1, 0.2])
    assert (found.s, found.log_s_standard_error) == (0.0, math.inf)
    assert found.rms_relative_residual == pytest.approx(0.1)
    # A gap without smoothing has no such limit: some s fits it.
    assert fit([30.0], [0.0]).s == pytest.approx(10 / (math.exp(30) + 9))


def test_standard_error_grows_where_the_gaps_do_not_depend_on_s():
    errors = []
    for s in (1e-2, 1e-3, 1e-4):
        gaps = np.array(data(replace(PENALTIES, s=s), [0.5, 0.6, 0.8])[0]) * np.exp([1e-5, -2e-5, 1e-5])
        errors.append(fit(gaps.tolist(), [0.5, 0.6, 0.8]).log_s_standard_error)
    assert errors[1] > 5 * errors[0]
    assert errors[2] > 5 * errors[1]


def test_standard_error_is_that_of_repeated_fits():
    rng = np.random.default_rng(1)
    exact = np.array(data(PENALTIES)[0])
    fits = [fit((exact * np.exp(0.01 * rng.standard_normal(exact.size))).tolist()) for _ in range(60)]
    spread = np.std([math.log(found.s) for found in fits], ddof=1)
    claimed = math.sqrt(np.mean([found.log_s_standard_error**2 for found in fits]))
    assert claimed == pytest.approx(spread, rel=0.3)


def test_scaling_both_norms_changes_nothing():
    gaps, weights, features = data(PENALTIES)
    one = fit_effective_penalties(10, SMOOTHINGS, gaps, weights, features)
    other = fit_effective_penalties(10, SMOOTHINGS, gaps, [3 * w for w in weights], [3 * h for h in features])
    assert other.s == one.s
    assert other.lambda_w_over_n_lambda_h == pytest.approx(one.lambda_w_over_n_lambda_h)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes must be an integer >= 2, got 1"),
        ({"smoothings": [0.0, 1.0]}, r"smoothings must lie in \[0, 1\), got \[0.0, 1.0\]"),
        ({"smoothings": [-0.1, 0.1]}, r"smoothings must lie in \[0, 1\)"),
        ({"smoothings": [math.nan, 0.1]}, r"smoothings must lie in \[0, 1\)"),
        ({"gaps": [5.0, 0.0]}, r"logit gaps must be finite numbers > 0, got \[5.0, 0.0\]"),
        ({"gaps": [5.0, -1.0]}, "logit gaps must be finite numbers > 0"),
        ({"gaps": [5.0, math.inf]}, "logit gaps must be finite numbers > 0"),
        ({"weight_norms": [0.0, 1.0]}, "weight norms must be finite numbers > 0"),
        ({"feature_norms": [math.nan, 1.0]}, "feature norms must be finite numbers > 0"),
        ({"gaps": [5.0]}, "at least 1; got 2, 1, 2 and 2"),
        ({"smoothings": [], "gaps": [], "weight_norms": [], "feature_norms": []}, "got 0, 0, 0 and 0"),
    ],
)
def test_bad_input_is_refused(changes, message):
    given_ = {"classes": 10, "smoothings": [0.0, 0.1], "gaps": [5.0, 4.0]}
    given_ |= {"weight_norms": [1.0, 1.0], "feature_norms": [1.0, 1.0]} | changes
    with pytest.raises(ValueError, match=message):
        fit_effective_penalties(**given_)


@pytest.mark.parametrize("s", [-0.1, math.nan, math.inf])
def test_bad_s_is_refused(s):
    with pytest.raises(ValueError, match="s must be a finite number >= 0"):
        logit_gaps(10, s, [0.1])
    with pytest.raises(ValueError, match="smoothings must lie"):
        PENALTIES.predict(1.0)
