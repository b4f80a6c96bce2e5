"""Every public function of the package against input outside its range: one clear ValueError, or the limit; never nan.

One table for all of them, so that a function without a row is noticed.
"""

import inspect
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from nclens.ufm import classification, dynamics, effective, explanations, hessian, nc0, numeric, spectra, squared
from nclens.ufm.classification import UnconstrainedFeatureModel as Model
from nclens.ufm.effective import EffectivePenalties

MODULES = (classification, dynamics, effective, hessian, nc0, numeric, explanations, spectra, squared)
GOOD = {"classes": 4, "per_class": 2, "dim": 5, "lambda_w": 1e-2, "lambda_h_sum": 1e-2, "lambda_b": 1e-2}
TOTAL = {name: value for name, value in GOOD.items() if name != "lambda_h_sum"} | {"lambda_h_total": 0.08}
PROBLEM = Model(**GOOD)
ZERO = Model(**GOOD | {"lambda_w": 1.0, "lambda_h_sum": 1.0})
NARROW = Model(**GOOD | {"dim": 2})
TINY = Model(**GOOD | {"lambda_w": 1e-300, "lambda_h_sum": 1e-300})
APART = Model(**GOOD | {"lambda_w": 1e300, "lambda_h_sum": 5e-324})
NUMBERS = (0, 0.0, -1e-3, math.nan, math.inf, -math.inf, 10**400, "1", None, True, np.ones(2))
FRACTIONS = (1, 1.0, -0.1, 2, math.nan, math.inf, "0", None)
PENALTIES = {"classes": 4, "s": 0.1, "lambda_w_over_n_lambda_h": 1.0, "points": 2}
PENALTIES |= dict.fromkeys(("rms_relative_residual", "ratio_rms_relative_residual", "log_s_standard_error"), 0.0)
POINT = (PROBLEM.weight(), PROBLEM.class_features(), PROBLEM.bias())
HEAD, FEATURES = torch.ones(1, 4, 5, dtype=torch.float64), torch.zeros(1, 4, 2, 5, dtype=torch.float64)
RUN = dynamics.descend([PROBLEM], starts=1, momenta=(0.0,), step_rules=("relative",), iterations=3)[0]


def counts(least):
    return (*range(least - 2, least), least + 0.5, str(least), True, None, math.nan)


def rows():
    """(public name, call, message)."""
    for build, good in ((Model, GOOD), (Model.from_total, TOTAL)):
        name = "UnconstrainedFeatureModel"
        for key, least in (("classes", 2), ("per_class", 1), ("dim", 1)):
            yield from (
                (name, build, good | {key: value}, f"{key} must be an integer >= {least}") for value in counts(least)
            )
        for key in (key for key in good if key.startswith("lambda")):
            yield from ((name, build, good | {key: value}, f"{key} must be a finite number > 0") for value in NUMBERS)
        for value in FRACTIONS:
            yield name, build, good | {"smoothing": value}, r"smoothing must lie in \[0, 1\)"
    frame = classification.simplex_frame
    yield from (("simplex_frame", frame, {"classes": k, "dim": 9}, "classes must be") for k in counts(2))
    yield from (("simplex_frame", frame, {"classes": 2, "dim": d}, "dim must be|need dim >= 1") for d in counts(1))
    yield "simplex_frame", frame, {"classes": 4, "dim": 2}, "4 classes need dim >= 3"
    for name in ("objective", "logit_gap", "weight_norm", "feature_norm"):
        best = squared.SquaredErrorMinimiser(NARROW)
        yield (
            "SquaredErrorMinimiser",
            lambda best=best, name=name: getattr(best, name),
            {},
            "no known closed form for dim 2",
        )
    for name in ("weight_spectrum", "feature_spectrum", "joint_spectrum"):
        spectrum = getattr(spectra, name)
        yield name, spectrum, {"problem": NARROW}, "no known closed form for dim 2"
        yield name, spectrum, {"problem": PROBLEM, "part": "whole"}, "part must be 'ce' or 'full', got 'whole'"
        yield name, spectrum, {"problem": APART}, "too far apart for float64"
    for name in ("joint_spectrum", "condition_numbers"):
        yield name, getattr(spectra, name), {"problem": TINY}, "s must lie in .* for float64 to resolve it"
    yield "condition_numbers", spectra.condition_numbers, {"problem": NARROW}, "no known closed form"
    check = hessian.numeric_condition_numbers
    for place, key in enumerate(("weight", "class_features", "bias")):
        good = {"problem": PROBLEM, "weight": POINT[0], "class_features": POINT[1], "bias": POINT[2]}
        for bad in (POINT[place][:1], POINT[place] * np.nan, POINT[place] + np.inf):
            yield "numeric_condition_numbers", check, good | {key: bad}, f"{key} must be finite with shape"
    yield "numeric_condition_numbers", check, good | {"problem": TINY}, "s must be >= 1e-07"
    for key in ("starts", "iterations", "largest"):
        yield "minimise", numeric.minimise, {"problem": PROBLEM, key: 0}, f"{key} must be an integer >= 1, got 0"
        yield "minimise", numeric.minimise, {"problem": PROBLEM, key: 2.5}, f"{key} must be an integer >= 1, got 2.5"
    for bad in (-1, True, None, "0"):
        yield "minimise", numeric.minimise, {"problem": PROBLEM, "seed": bad}, "seed must be an integer >= 0"
    yield "minimise", numeric.minimise, {"problem": TINY}, "s must be >= 1e-07"
    for bad in (0, -1, 2.5):
        yield (
            "UnconstrainedFeatureModel",
            PROBLEM.with_per_class,
            {"per_class": bad},
            f"per_class must be an integer >= 1, got {bad}",
        )
    yield from dynamics_rows()
    yield from effective_rows()
    for bad in ([], ["0.5"]):
        yield "verdict", explanations.verdict, {"predicted": [0.5, 0.5], "found": bad}, "argument 2 is shorter"
        yield "trend", explanations.trend, {"smoothings": [0.1, 0.5], "values": bad}, "argument 2 is shorter"


def dynamics_rows():
    descend = dynamics.descend
    for key, bad, words in (
        ("starts", (0, -1, 2.5), "an integer >= 1"),
        ("seed", (-1, True, "0", None), "an integer >= 0"),
        ("start_norm", (0, -1, math.nan, math.inf, 1e-170, True, "1"), r"in \[1e-70, 1e\+70\]"),
        ("fraction", (0, 2, -1, math.nan, math.inf, True, "1"), r"in \(0, 2\)"),
        ("momenta", ((1.0,), (-0.1,), (math.nan,), (), (False,), ("0",)), r"one or more in \[0, 1\)"),
        ("step_rules", (("cosine",), ()), "one or more of"),
        ("iterations", (0, 1.5), "an integer >= 1"),
    ):
        yield from (("descend", descend, {"problems": [PROBLEM], key: v}, f"{key} must be {words}") for v in bad)
    yield "descend", descend, {"problems": []}, "no problem given"
    yield "descend", descend, {"problems": [PROBLEM, Model(**GOOD | {"dim": 6})]}, "the same classes, per_class and dim"
    for problem in (ZERO, NARROW):
        yield "descend", descend, {"problems": [problem]}, r"needs s \+ smoothing < 1 and dim >= classes - 1"
    yield "descend", descend, {"problems": [TINY]}, "s must lie in .* for float64 to resolve it"
    yield (
        "descend",
        descend,
        {"problems": [Model(**GOOD | {"lambda_w": 1e250, "lambda_h_sum": 1e-300})]},
        "too far apart",
    )
    for distance in ("nc3", "", None):
        call = {"problem": PROBLEM, "distance": distance}
        yield "slowest_curvature", dynamics.slowest_curvature, call, "distance must be one of"
    for bad in (-1e-9, math.nan, math.inf, True, "1"):
        yield "contraction", dynamics.contraction, {"curvature": bad}, "curvature must be a finite number >= 0"
    for bad in (1, -0.1, math.nan, False, None):
        yield "contraction", dynamics.contraction, {"curvature": 1, "momentum": bad}, r"momentum must be in \[0, 1\)"
    for bad in (0, 0.99, -1, math.nan, True, "2"):
        yield "Run", RUN.predicted_rate, {"kappa": bad}, "a condition number must be >= 1"
    call = {"weight": HEAD, "features": FEATURES[:, :, 0], "best_weight": 0 * HEAD, "best_features": FEATURES[:, :, 0]}
    yield "orbit_distance", dynamics.orbit_distance, call, "W = H = 0 has no relative size"
    for features in (FEATURES, torch.ones(1, 4, 2, 2, dtype=torch.float64), FEATURES[:, :1]):
        call = {"weight": HEAD[..., : features.shape[3]], "features": features}
        yield "collapse_distances", dynamics.collapse_distances, call, "nc1 needs at least 2 classes"


def nc0_rows():
    good = {"learning_rates": [0.1, 0.1], "momentum": 0.9}
    for key, one in (("learning_rates", ""), *((k, "a number or ") for k in ("momentum", "weight_decay"))):
        for bad in ([-0.1, 0.1], [math.nan, 0.1], [math.inf, 0.1]):
            yield "nc0_law", nc0.nc0_law, good | {key: bad}, f"{key} must be finite and >= 0"
        yield "nc0_law", nc0.nc0_law, good | {key: [[0.1, 0.1]]}, rf"{key} must be {one}an array \(T,\)"
        for bad in (True, "0.1", [True, False], None):
            yield "nc0_law", nc0.nc0_law, good | {key: bad}, f"{key} must be numbers"
    yield "nc0_law", nc0.nc0_law, good | {"learning_rates": 0.1}, r"learning_rates must be an array \(T,\)"
    words = "decoupled_decay must be a number or have 2 values, one a step, got 3"
    yield "nc0_law", nc0.nc0_law, good | {"decoupled_decay": [0.1] * 3}, words
    for bad in (-1, math.nan, math.inf, True, "0"):
        yield "nc0_law", nc0.nc0_law, good | {"dampening": bad}, "dampening must be a finite number >= 0"
    for bad in ({"momentum": 0.0}, {"momentum": [0.9, 0.0]}, {"dampening": 0.1}):
        yield "nc0_law", nc0.nc0_law, good | {"nesterov": True} | bad, "nesterov needs a momentum > 0 at every step and"
    for bad in (True, "0.5", [True, 0.5]):
        yield "nc3_floor", nc0.nc3_floor, {"share": bad}, "share must be numbers"
    for bad in (-0.1, 1.1, math.inf, [0.5, 1.1]):
        yield "nc3_floor", nc0.nc3_floor, {"share": bad}, r"share must lie in \[0, 1\], got (-0.1|1.1|inf)"


def effective_rows():
    for key, bad in (
        ("classes", (1, 0, 2.5, True, None)),
        ("s", (-0.1, 1, math.nan, math.inf, False, "0.1")),
        ("lambda_w_over_n_lambda_h", (0, -1, math.nan, math.inf, True, None)),
    ):
        yield from (("EffectivePenalties", EffectivePenalties, PENALTIES | {key: v}, f"{key} must be") for v in bad)
    for smoothing in (1.0, -0.1, math.nan):
        words = r"smoothings must lie in \[0, 1\)"
        yield "EffectivePenalties", EffectivePenalties(**PENALTIES).predict, {"smoothing": smoothing}, words
        yield "logit_gaps", effective.logit_gaps, {"classes": 4, "s": 0.1, "smoothings": [0, smoothing]}, words
    for bad in (1, 0, True):
        yield "logit_gaps", effective.logit_gaps, {"classes": bad, "s": 0.1, "smoothings": [0]}, "classes must be"
    for bad in (True, "0.1"):
        call = {"classes": 4, "s": 0.1, "smoothings": [bad]}
        yield "logit_gaps", effective.logit_gaps, call, "smoothings must be numbers"
    for bad in (-0.1, math.nan, math.inf, True, "0.1"):
        yield (
            "logit_gaps",
            effective.logit_gaps,
            {"classes": 4, "s": bad, "smoothings": [0]},
            "s must be a finite number",
        )
    good = {"classes": 4, "smoothings": [0.0, 0.1], "gaps": [5.0, 4.0], "weight_norms": [1.0, 1.0]}
    good |= {"feature_norms": [1.0, 1.0]}
    fit = effective.fit_effective_penalties
    for key, name in (("gaps", "logit gaps"), ("weight_norms", "weight norms"), ("feature_norms", "feature norms")):
        for bad in (0.0, -1.0, math.nan, math.inf):
            yield "fit_effective_penalties", fit, good | {key: [1.0, bad]}, f"{name} must be finite numbers > 0"
        yield "fit_effective_penalties", fit, good | {key: ["1", "2"]}, f"{name} must be numbers"
        yield (
            "fit_effective_penalties",
            fit,
            good | {key: [1.0]},
            "smoothings, gaps and norms must have the same length",
        )
    yield "fit_effective_penalties", fit, good | {"classes": 1}, "classes must be an integer >= 2"
    yield "fit_effective_penalties", fit, good | {"smoothings": [0.0, 1.0]}, "smoothings must lie"
    yield "fit_effective_penalties", fit, good | {"weight_norms": [1e-200, 1]}, "norms too far apart for float64"


ROWS = [*rows(), *nc0_rows()]


@pytest.mark.parametrize(("call", "arguments", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_input_outside_its_range_gets_one_clear_message(call, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(**arguments)
    assert len(str(caught.value).splitlines()) == 1


#: What has no range of its own: results of other functions, or functions of a checked problem alone.
UNCHECKED = {
    "Mode",  # made by the spectra
    "condition_number",  # of any eigenvalues
    "NumericMinimum",  # made by `minimise`
    "softmax",  # of any numbers
    "cross_entropy",  # of any logits and targets
    "half_squared_error",
    "smoothed_targets",  # of a checked problem
    "reduce_samples",
    "records",  # of runs
    "nc0_rounding",  # of numbers of a run
    "relative_iterations",  # of a table of `records`
    "explanations",
}


def test_no_public_name_is_left_out():
    public = {
        name
        for module in MODULES
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }
    assert public == {row[0] for row in ROWS} | UNCHECKED


LIMITS = (5e-324, 1e-300, 1e-30, 1e-3, 1.0, 1e30, 1e300, 1.7e308)
NAMES = ("s", "logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "nuclear_norm")


@pytest.mark.parametrize("smoothing", [0.0, 5e-324, 1e-300, 0.1, math.nextafter(1, 0)])
@pytest.mark.parametrize("lambda_w", LIMITS)
@pytest.mark.parametrize("lambda_h", LIMITS)
def test_any_penalties_give_numbers_or_a_refusal(lambda_w, lambda_h, smoothing):
    """No nan and no warning, at whatever penalties: numbers, or a ValueError that says what float64 cannot hold."""
    problem = Model(**GOOD | {"lambda_w": lambda_w, "lambda_h_sum": lambda_h, "smoothing": smoothing})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [getattr(problem, name) for name in (*NAMES, "objective", "objective_lower_bound", "lambda_h_total")]
        assert not any(math.isnan(value) for value in values)
        assert all(math.isfinite(value) for value in values[1:-1])
        best = squared.SquaredErrorMinimiser(problem)
        assert all(
            math.isfinite(value) for value in (best.logit_gap, best.weight_norm, best.objective, best.bias_value)
        )
        for array in (problem.weight(), problem.features(), problem.logits(), best.weight(), best.logits()):
            assert np.isfinite(array).all()
        for function in (spectra.weight_spectrum, spectra.feature_spectrum, spectra.joint_spectrum):
            for part in ("ce", "full"):
                modes = or_refused(function, problem, part)
                assert all(math.isfinite(mode.value) and math.isfinite(mode.logit_change) for mode in modes or ())
        kappas = or_refused(spectra.condition_numbers, problem) or {}
        assert all(kappa is None or kappa >= 1 for kappa in kappas.values())


def or_refused(function, *arguments):
    try:
        return function(*arguments)
    except ValueError as error:
        message = str(error)
    assert "float64" in message
    return None


def test_limits_are_the_right_ones():
    # Without penalties the probabilities are the smoothed targets; without smoothing the gap grows like -log s.
    weak = Model(**GOOD | {"lambda_w": 1e-300, "lambda_h_sum": 1e-300, "smoothing": 0.1})
    assert (weak.p_other, weak.logit_gap) == (pytest.approx(0.025), pytest.approx(math.log(37)))
    assert TINY.logit_gap == pytest.approx(math.log(4) - math.log(TINY.s))
    strong = Model(**GOOD | {"lambda_w": 1e308, "lambda_h_sum": 1e308})
    assert (strong.regime, strong.logit_gap, strong.objective) == ("zero", 0, pytest.approx(math.log(4)))
    # A class of one sample has nothing to collapse within; nothing predicts a rate at infinite condition.
    single = Model(**GOOD | {"per_class": 1})
    assert dynamics.slowest_curvature(single, "nc1") == math.inf
    alone = dynamics.descend([single], starts=1, momenta=(0.0,), step_rules=("relative",), iterations=3)[0]
    assert alone.linear_rate("nc1") == math.inf
    assert RUN.predicted_rate(math.inf) == 0
    assert [effective.logit_gaps(4, s, [0.0])[0] for s in (0.0, 1.0, 7.0)] == [math.inf, 0, 0]
    assert explanations.trend([0.1], [math.inf]) == ""
    assert list(dynamics.records([])) == []
    assert explanations.explanations(explanations.relative_iterations(pd.DataFrame(dynamics.records([RUN])))).empty
    assert numeric.reduce_samples(PROBLEM, largest=0).per_class == 1


def test_at_a_point_that_is_no_minimum_the_numeric_condition_is_infinite():
    found = hessian.numeric_condition_numbers(PROBLEM, 0 * POINT[0], 0 * POINT[1], POINT[2])
    assert found["kappa_joint"] == math.inf  # indefinite: W = H = 0 is a saddle here
    assert found["kappa_ce"] is None
