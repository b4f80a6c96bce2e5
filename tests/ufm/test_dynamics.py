import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from nclens.metrics.collapse import neural_collapse
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.dynamics import (
    DISTANCES,
    STEP_RULES,
    TOLERANCES,
    Run,
    _random_starts,
    collapse_distances,
    contraction,
    descend,
    orbit_distance,
    records,
    slowest_curvature,
)
from nclens.ufm.spectra import condition_numbers, joint_spectrum


def problem_at(smoothing, classes=3, per_class=3, dim=4, scale=1.0):
    return UnconstrainedFeatureModel(classes, per_class, dim, 1.2e-2 * scale, 8e-3 * scale, 1e-2, smoothing)


@pytest.fixture(scope="module")
def runs():
    return descend([problem_at(0.0), problem_at(0.1)], starts=2, iterations=6000)


def select(runs, **wanted):
    smoothing = wanted.pop("smoothing")
    chosen = [run for run in runs if run.problem.smoothing == smoothing]
    return [run for run in chosen if all(getattr(run, name) == value for name, value in wanted.items())]


def literal_descent(run, start, iterations):
    problem = run.problem
    weight, features = start[: problem.classes].numpy(), start[problem.classes :].numpy()
    speed_w, speed_h = np.zeros_like(weight), np.zeros_like(features)
    labels = np.repeat(np.arange(problem.classes), problem.per_class)
    for _ in range(iterations):
        powers = np.exp(features @ weight.T)
        slope = powers / powers.sum(axis=1, keepdims=True) - problem.smoothing / problem.classes
        slope[np.arange(len(labels)), labels] -= 1 - problem.smoothing
        slope /= len(labels)
        speed_w = run.momentum * speed_w - run.step * (slope.T @ features + problem.lambda_w * weight)
        speed_h = run.momentum * speed_h - run.step * (slope @ weight + problem.lambda_h_sum * features)
        weight, features = weight + speed_w, features + speed_h
    return weight, features


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_run_is_plain_gradient_descent(runs, momentum):
    run = select(runs, smoothing=0.1, start=1, momentum=momentum, step_rule="absolute")[0]
    start = _random_starts(run.problem, 2, 0, 1.0)[1]
    mark = 60
    position = list(run.iterations).index(mark)
    weight, features = literal_descent(run, start, mark)
    best_w, best_h = run.problem.weight(), run.problem.features()
    rotation, _ = orthogonal_procrustes(np.vstack([best_w, best_h]), np.vstack([weight, features]))
    gap = np.vstack([weight - best_w @ rotation, features - best_h @ rotation])
    orbit = np.linalg.norm(gap) / np.linalg.norm(np.vstack([best_w, best_h]))
    logits, goal = features @ weight.T, best_h @ best_w.T
    error = np.linalg.norm(logits - logits.mean(axis=1, keepdims=True) - goal) / np.linalg.norm(goal)
    labels = torch.arange(3).repeat_interleave(3)

    def collapse(weight, features):
        found = neural_collapse(torch.as_tensor(features), labels, torch.as_tensor(weight), torch.zeros(3))
        return np.array([float(found["nc1"]), float(found["nc2"])])

    collapsed = collapse(weight, features) / collapse(start[:3], start[3:])
    np.testing.assert_allclose(run.distances[position], [orbit, error, *collapsed], rtol=1e-8)


def test_steps_follow_their_rules(runs):
    for smoothing in (0.0, 0.1):
        for rule in ("relative", "absolute"):
            for run in select(runs, smoothing=smoothing, step_rule=rule):
                top = max(mode.value for mode in joint_spectrum(run.problem))
                tops = [max(mode.value for mode in joint_spectrum(problem_at(delta))) for delta in (0.0, 0.1)]
                assert run.top == top
                assert run.step == pytest.approx(0.25 / (top if rule == "relative" else max(tops)))


def test_runs_that_are_the_same_under_both_rules_are_computed_once(runs):
    # Of the problem with the largest curvature.
    top = max(run.top for run in runs)
    for start in (0, 1):
        one, two = (run for run in runs if (run.top, run.start, run.momentum) == (top, start, 0.0))
        assert (one.step_rule, two.step_rule) == STEP_RULES
        assert one.step == two.step
        np.testing.assert_array_equal(one.distances, two.distances)


def test_a_batch_gives_the_values_of_each_run_alone(runs):
    for rule in STEP_RULES:
        for run in select(runs, smoothing=0.0, start=0, momentum=0.9, step_rule=rule):
            fraction = run.step * run.top
            given = {"starts": 1, "momenta": (0.9,), "step_rules": ("relative",), "iterations": 6000}
            (alone,) = descend([run.problem], fraction=fraction, **given)
            np.testing.assert_allclose(alone.distances, run.distances, rtol=1e-6)


def test_all_problems_start_from_the_same_points(runs):
    for start in (0, 1):
        points = [run.distances[0] for run in runs if run.start == start and run.problem.smoothing == 0.0]
        assert all((point == points[0]).all() for point in points)
    assert all(tuple(run.distances[0, 2:]) == (1, 1) for run in runs)
    one = select(runs, smoothing=0.0, start=0, momentum=0.0, step_rule="relative")[0]
    two = select(runs, smoothing=0.0, start=1, momentum=0.0, step_rule="relative")[0]
    assert one.distances[0, 0] != two.distances[0, 0]


def test_every_run_arrives_and_tolerances_are_passed_in_order(runs):
    for run in runs:
        assert not run.diverged
        for distance in DISTANCES:
            times = [run.reached(distance, tolerance) for tolerance in TOLERANCES]
            assert None not in times
            assert times == sorted(times)


def test_measured_rates_are_those_of_the_linearisation(runs):
    tolerances = {"orbit": 1e-3, "logits": 0.06, "nc1": 0.005, "nc2": 1e-3}
    for run in runs:
        if run.momentum == 0:
            for distance, tolerance in tolerances.items():
                ratio = run.rate(distance) / run.linear_rate(distance)
                # nc1 under smoothing: a product of two errors, outside the span and turning into it, of several modes.
                slack = 0.1 if distance == "nc1" and run.problem.smoothing > 0 else tolerance
                assert ratio == pytest.approx(1, abs=slack), distance


@pytest.mark.parametrize(
    ("classes", "per_class", "dim", "smoothing", "lambda_"),
    [
        (3, 1, 4, 0.1, 0.01),  # what all features have outside the span, seen by tilted rows
        (3, 2, 4, 0.3, 0.01),
        (4, 2, 8, 0.2, 0.003),
        (3, 2, 2, 0.3, 0.01),  # W and H out of balance, squared
    ],
)
def test_in_small_models_products_of_two_errors_are_the_slowest_in_the_logits(
    classes, per_class, dim, smoothing, lambda_
):
    problem = UnconstrainedFeatureModel(classes, per_class, dim, lambda_, lambda_, 0.01, smoothing)
    (run,) = descend([problem], starts=1, momenta=(0.0,), step_rules=("relative",), iterations=6000)
    assert run.rate("logits") == pytest.approx(run.linear_rate("logits"), rel=0.01)
    seen = -math.log(contraction(run.step * slowest_curvature(problem, "logits")))
    assert run.linear_rate("logits") < 0.8 * seen


def test_predictions_of_the_condition_numbers(runs):
    for run in runs:
        kappas = condition_numbers(run.problem)
        assert run.predicted_rate(kappas["kappa_joint"]) == pytest.approx(run.linear_rate("orbit"), rel=1e-9)
        # Of the modes that move the logits; a product of two others may be slower still.
        seen = -math.log(contraction(run.step * slowest_curvature(run.problem, "logits"), run.momentum))
        assert run.predicted_rate(kappas["kappa_joint_logits"]) == pytest.approx(seen, rel=1e-9)
        assert run.linear_rate("logits") <= seen


def test_capped_runs_say_not_reached():
    run = descend([problem_at(0.0)], starts=1, momenta=(0.0,), step_rules=("relative",), iterations=20)[0]
    assert run.iterations[-1] == 20
    assert run.reached("orbit", 1e-6) is None
    assert run.rate("orbit") is None
    assert not run.diverged


def test_diverged_runs_reach_nothing():
    # Weak penalties: the curvature on the way is far above that at the minimiser of cross entropy.
    run = descend([problem_at(0.0, scale=1e-4)], starts=1, fraction=1.9, momenta=(0.9,), step_rules=("relative",))[0]
    assert run.diverged
    assert run.iterations[-1] < 20_000
    assert all(run.reached(distance, 0.5) is None and run.rate(distance) is None for distance in DISTANCES)
    assert next(row["value"] for row in records([run]) if row["quantity"] == "diverged") == 1


def test_reached_interpolates_the_logarithm():
    iterations = np.array([0.0, 10, 20])
    distances = np.repeat(np.array([1.0, 1e-2, 1e-6])[:, None], 4, axis=1)
    run = Run(problem_at(0.0), 0, 0.0, "relative", 1.0, 1.0, iterations, distances, diverged=False)
    assert run.reached("orbit", 1.0) == 0
    assert run.reached("orbit", 1e-1) == pytest.approx(5)
    assert run.reached("nc2", 1e-4) == pytest.approx(15)
    assert run.reached("nc2", 1e-7) is None


def test_rate_of_an_exact_exponential():
    iterations = np.arange(200.0)
    distances = np.exp(-0.1 * iterations)[:, None] * np.ones(4)
    run = Run(problem_at(0.0), 0, 0.0, "relative", 1.0, 1.0, iterations, distances, diverged=False)
    assert run.rate("logits") == pytest.approx(0.1)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 3.9), st.floats(0, 0.99))
def test_contraction_is_the_spectral_radius(curvature, momentum):
    matrix = np.array([[1 + momentum - curvature, -momentum], [1, 0]])
    radius = np.abs(np.linalg.eigvals(matrix)).max()
    assert contraction(curvature, momentum) == pytest.approx(radius, abs=1e-6)


def test_nc1_is_never_slowed_by_a_single_sample_a_class():
    problem = UnconstrainedFeatureModel(3, 1, 4, 4e-3, 3e-3, 1e-2)
    assert slowest_curvature(problem, "nc1") == math.inf
    with pytest.raises(ValueError, match="distance must be one of"):
        slowest_curvature(problem, "nc3")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(0, 3))
def test_orbit_distance(seed, classes, spare):
    generator = np.random.default_rng(seed)
    dim = classes + spare
    head, features, other_head, other = (
        torch.from_numpy(generator.standard_normal((rows, dim))) for rows in (classes, 7, classes, 7)
    )
    rotation = torch.from_numpy(np.linalg.qr(generator.standard_normal((dim, dim)))[0])
    assert orbit_distance(head @ rotation, features @ rotation, head, features) < 1e-13
    distance = orbit_distance(other_head, other, head, features)
    assert distance == orbit_distance(*(one.numpy() for one in (other_head, other, head, features)))
    assert orbit_distance(other_head @ rotation, other @ rotation, head, features) == pytest.approx(distance)
    stacked, target = np.vstack([head, features]), np.vstack([other_head, other])
    best, _ = orthogonal_procrustes(stacked, target)
    assert distance == pytest.approx(np.linalg.norm(stacked @ best - target) / np.linalg.norm(stacked))
    batch = orbit_distance(torch.stack([other_head, head]), torch.stack([other, features]), head, features)
    assert batch.tolist() == pytest.approx([float(distance), 0.0], abs=1e-13)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(2, 4), st.integers(0, 3))
def test_collapse_distances_are_those_of_the_metrics(seed, classes, per_class, spare):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, classes, classes + spare, generator=generator, dtype=torch.float64)
    features = torch.randn(2, classes, per_class, classes + spare, generator=generator, dtype=torch.float64)
    nc1, nc2 = collapse_distances(weight, features)
    assert torch.equal(nc1, collapse_distances(weight.numpy(), features.numpy())[0])
    labels = torch.arange(classes).repeat_interleave(per_class)
    for index in (0, 1):
        found = neural_collapse(features[index].flatten(0, 1), labels, weight[index], torch.zeros(classes))
        assert float(nc1[index]) == pytest.approx(float(found["nc1"]), rel=1e-8, abs=1e-25)
        assert float(nc2[index]) == pytest.approx(float(found["nc2"]), rel=1e-8)


def test_records_are_tidy(runs):
    rows = list(records(runs))
    assert len({frozenset(row) for row in rows}) == 1
    for quantity, count in (
        ("iterations", 4 * 6),
        ("rate", 4),
        ("rate_linear", 4),
        ("rate_kappa_ce", 1),
        ("diverged", 1),
    ):
        assert sum(row["quantity"] == quantity for row in rows) == count * len(runs)
    keys = [tuple(row[name] for name in row if name != "value") for row in rows]
    assert len(set(keys)) == len(keys)


def test_same_seed_same_bits():
    arguments = {"starts": 1, "iterations": 50, "momenta": (0.9,)}
    one, two = descend([problem_at(0.1)], **arguments), descend([problem_at(0.1)], **arguments)
    np.testing.assert_array_equal(one[0].distances, two[0].distances)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": 0}, "starts must be an integer >= 1"),
        ({"start_norm": 0.0}, "start_norm must be in"),
        ({"fraction": 2.0}, r"fraction must be in \(0, 2\)"),
        ({"momenta": (1.0,)}, r"momenta must be one or more in \[0, 1\)"),
        ({"step_rules": ("cosine",)}, "step_rules must be one or more of"),
        ({"iterations": 0}, "iterations must be an integer >= 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"dynamics: {message}"):
        descend([problem_at(0.0)], **arguments)


def test_bad_problems():
    with pytest.raises(ValueError, match="no problem given"):
        descend([])
    with pytest.raises(ValueError, match="same classes, per_class and dim"):
        descend([problem_at(0.0), problem_at(0.0, dim=5)])
    for bad in (UnconstrainedFeatureModel(3, 3, 4, 1.0, 1.0, 1.0), problem_at(0.0, dim=1)):
        with pytest.raises(ValueError, match=r"needs s \+ smoothing < 1"):
            descend([bad])
