"""The formulas of docs/theory.md, section by section, against the code."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nclens.ufm.classification import UnconstrainedFeatureModel, simplex_frame
from nclens.ufm.effective import EffectivePenalties, logit_gaps
from nclens.ufm.spectra import condition_numbers, feature_spectrum, joint_spectrum, weight_spectrum
from nclens.ufm.squared import SquaredErrorMinimiser

NOTES = Path(__file__).parents[2] / "docs" / "theory.md"


class At:
    """The notes' symbols at a problem in the simplex regime."""

    def __init__(self, problem):
        self.problem = problem
        self.K, self.n, self.d = problem.classes, problem.per_class, problem.dim
        self.lw, self.lh, self.lb, self.delta = (
            problem.lambda_w,
            problem.lambda_h_sum,
            problem.lambda_b,
            problem.smoothing,
        )
        self.N = self.n * self.K
        self.C = np.eye(self.K) - 1 / self.K
        self.s = self.K * math.sqrt(self.n * self.lw * self.lh)
        self.q = (self.s + self.delta) / self.K
        self.p = 1 - (self.K - 1) * self.q
        self.g = self.p - self.q
        self.a = math.log(self.K / (self.s + self.delta) - self.K + 1)
        self.omega = math.sqrt(self.a * math.sqrt(self.n * self.lh / self.lw))
        self.eta = math.sqrt(self.a * math.sqrt(self.lw / (self.n * self.lh)))
        self.theta = self.omega / math.sqrt(self.n)
        self.chi = min(self.s, 1 - self.delta) / (self.K * math.sqrt(self.n))

    def fit(self, gap):
        """F of the scalar problem."""
        fit = math.log(1 + (self.K - 1) * math.exp(-gap)) + self.delta * (self.K - 1) / self.K * gap
        return fit + math.sqrt(self.n * self.lw * self.lh) * (self.K - 1) * gap


@st.composite
def points(draw):
    classes = draw(st.integers(2, 12))
    lambdas = [10 ** draw(st.floats(-5, -0.5)) for _ in range(3)]
    sizes = (classes, draw(st.integers(1, 6)), classes - 1 + draw(st.integers(0, 4)))
    problem = UnconstrainedFeatureModel(*sizes, *lambdas, smoothing=draw(st.just(0.0) | st.floats(0, 0.9)))
    assume(problem.s + problem.smoothing < 0.98)
    return At(problem)


def close(found, expected, rel=1e-9):
    np.testing.assert_allclose(found, expected, rtol=rel, atol=1e-11 * np.abs(expected).max())


def named(modes):
    table = {}
    for mode in modes:
        table.setdefault(mode.name, []).append(mode.value)
    return {name: sorted(values) for name, values in table.items()}


@settings(max_examples=80, deadline=None)
@given(points(), st.floats(0.1, 2))
def test_minimiser(at, share):
    problem = at.problem
    close([problem.s, problem.p_other, problem.p_true, problem.logit_gap], [at.s, at.q, at.p, at.a])
    close([at.a, at.g, 1 - at.g], [math.log(at.p / at.q), 1 - at.s - at.delta, at.K * at.q])
    close(problem.objective, at.fit(at.a))
    # Away from the minimiser: the derivative, and the cross entropy of the logits gap * C.
    gap = share * at.a
    wrong = math.exp(-gap) / (1 + (at.K - 1) * math.exp(-gap))
    step = 1e-5 * at.a
    slope = (at.fit(gap + step) - at.fit(gap - step)) / (2 * step)
    assert slope == pytest.approx((at.K - 1) * ((at.s + at.delta) / at.K - wrong), rel=1e-5, abs=1e-8)
    logits, targets = gap * at.C, (1 - at.delta) * np.eye(at.K) + at.delta / at.K
    entropy = np.mean(np.log(np.exp(logits).sum(0)) - (targets * logits).sum(0))
    close(entropy + math.sqrt(at.n * at.lw * at.lh) * (at.K - 1) * gap, at.fit(gap))
    frame = simplex_frame(at.K, at.d)
    close(problem.weight(), at.omega * frame)
    close(problem.class_features(), at.eta * frame)
    close(problem.class_features(), math.sqrt(at.lw / (at.n * at.lh)) * problem.weight())
    close(at.omega * at.eta, at.a)


@settings(max_examples=80, deadline=None)
@given(points(), st.integers(0, 2**31))
def test_spectra_in_w_and_in_h(at, seed):
    generator = np.random.default_rng(seed)
    k = int(generator.integers(at.K))
    pi = at.q * np.ones(at.K) + at.g * np.eye(at.K)[k]
    x = at.C @ generator.standard_normal(at.K)
    curvature = x @ (np.diag(pi) - np.outer(pi, pi)) @ x
    assert curvature == pytest.approx(at.q * (x @ x + at.K * at.g * x[k] ** 2), rel=1e-8, abs=1e-14)
    close(at.q * (1 + (at.K - 1) * at.g), at.K * at.p * at.q)
    fit, gap = at.eta**2 / at.K, at.K * at.p * at.q
    weight = {"flat": [at.lw], "gap": [at.lw + fit * gap]}
    if at.K > 2:
        weight |= {"pairs": [at.lw + fit * at.q], "classes": [at.lw + fit * at.q * (1 + (at.K - 2) * at.g)]}
    found = named(weight_spectrum(at.problem))
    assert found.keys() == weight.keys()
    for name, values in weight.items():
        close(found[name], values)
    found = named(feature_spectrum(at.problem))
    for name, mu in (("flat", 0.0), ("others", at.q), ("gap", gap)):
        if name in found:
            close(found[name], [at.lh + at.omega**2 / at.N * mu])
    close([at.eta**2 / (at.K * at.lw), at.omega**2 / (at.N * at.lh)], [at.a / at.s] * 2)


@settings(max_examples=80, deadline=None)
@given(points())
def test_joint_spectrum(at):
    logits, targets = at.a * at.C, (1 - at.delta) * np.eye(at.K) + at.delta / at.K
    close((np.exp(logits) / np.exp(logits).sum(0) - targets) / at.N, -at.s / at.N * at.C, rel=1e-7)
    close([at.chi, at.eta / at.theta], [math.sqrt(at.lw * at.lh), math.sqrt(at.lw / at.lh)])
    total, found = at.lw + at.lh, named(joint_spectrum(at.problem))
    t_pairs, t_gap = at.a / at.s * at.q, at.a / at.s * at.K * at.p * at.q

    def pair(t):
        root = math.sqrt(max((total * (1 + t)) ** 2 - 16 * t * at.lw * at.lh, 0))
        return [(total * (1 + t) - root) / 2, (total * (1 + t) + root) / 2]

    def block(mu, sign):
        seen = np.array([at.eta, at.theta])
        return np.array([[at.lw, -sign * at.chi], [-sign * at.chi, at.lh]]) + mu / at.K * np.outer(seen, seen)

    # The lower root of (3) cancels where the lambdas are far apart: compared with the size of the upper one.
    np.testing.assert_allclose(found["gap"], pair(t_gap), rtol=1e-9, atol=1e-8 * found["gap"][1])
    np.testing.assert_allclose(
        pair(t_gap), np.linalg.eigvalsh(block(at.K * at.p * at.q, 1)), atol=1e-8 * pair(t_gap)[1]
    )
    np.testing.assert_allclose(
        np.linalg.eigvalsh(block(at.q, -1)), [0, total * (1 + t_pairs)], atol=1e-13 + 1e-9 * total
    )
    close(found["row_mean"], [at.lw])
    if at.K > 3:
        np.testing.assert_allclose(found["pairs"], pair(t_pairs), rtol=1e-9, atol=1e-8 * found["pairs"][1])
    if at.K > 2:
        close(found["antisymmetric"], [total * (1 + t_pairs)])
        mix = at.g * math.sqrt(at.K - 2)
        curvature = at.q / at.K * np.array([[1 + (at.K - 2) * at.g, mix], [mix, 1 + at.g]])
        reach = np.array([[at.eta, at.theta, 0], [0, 0, at.theta]])
        matrix = reach.T @ curvature @ reach + np.diag([at.lw, at.lh, at.lh])
        matrix[0, 1] -= at.chi
        matrix[1, 0] -= at.chi
        np.testing.assert_allclose(found["classes"], np.linalg.eigvalsh(matrix), atol=1e-9 * found["classes"][-1])
    else:
        close(found["classes"], [at.lh + at.q / at.K * (1 + at.g) * at.theta**2])
    if at.d >= at.K:
        close(found["outside"] + found["feature_mean"], [total, at.lh])
    scaled = named(joint_spectrum(at.problem, scaled=True))
    close(scaled["gap"], sorted([2, 2 * t_gap]), rel=1e-7)
    assert sum(mode.multiplicity for mode in joint_spectrum(at.problem)) == at.K * at.d + at.N * at.d


@settings(max_examples=80, deadline=None)
@given(points())
def test_condition_numbers(at):
    kappas, unit = condition_numbers(at.problem), at.a / at.s
    close(kappas["kappa_ce"], at.K - (at.K - 1) * (at.s + at.delta) if at.K > 2 else 1)
    close(kappas["kappa_full"], 1 + unit * at.K * at.p * at.q)
    inside = (1 + unit * at.K * at.p * at.q) / (1 + unit * at.q) if at.K > 2 else 1
    close(kappas["kappa_full_range"], inside)
    close(kappas["kappa_full_features"], kappas["kappa_full"] if at.d >= at.K else inside)
    values = [mode.value for mode in joint_spectrum(at.problem)]
    least = min(at.lw, at.lh) if at.d >= at.K else at.lw
    assert kappas["kappa_joint"] >= max(values) / least * (1 - 1e-9)
    below = {mode.name for mode in joint_spectrum(at.problem) if mode.value < min(at.lw, at.lh) * (1 - 1e-9)}
    assert below <= {"rotation", "pairs", "classes", "gap"}


@settings(max_examples=80, deadline=None)
@given(points())
def test_effective_penalties_and_squared_error(at):
    ratio = at.lw / (at.n * at.lh)
    penalties = EffectivePenalties(at.K, at.s, ratio, 0, 0, 0, 1)
    close(
        [penalties.lambda_w, penalties.n_lambda_h], [math.sqrt(ratio) * at.s / at.K, at.s / (at.K * math.sqrt(ratio))]
    )
    close([penalties.lambda_w, penalties.n_lambda_h], [at.lw, at.n * at.lh])
    ends = [math.log(logit_gaps(at.K, at.s * math.exp(step), [at.delta])[0]) for step in (1e-5, -1e-5)]
    slope = -at.s * at.K / ((at.s + at.delta) * (at.K - (at.K - 1) * (at.s + at.delta)) * at.a)
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-4, abs=1e-9)
    best = SquaredErrorMinimiser(at.problem)
    a, c = max(0, 1 - at.delta - at.s), max(0, 1 - at.s - at.s / at.lb)
    beta = (1 - c) / (at.K * (1 + at.lb))
    close([best.simplex_scale, best.common_scale, best.bias_value], [a, c, beta])
    if at.d >= at.K:
        fit = ((at.K - 1) * (a - 1 + at.delta) ** 2 + (c + at.K * beta - 1) ** 2) / (2 * at.K)
        close(best.objective, fit + at.s / at.K * ((at.K - 1) * a + c) + at.lb * at.K * beta**2 / 2)


def test_table_of_condition_numbers():
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in NOTES.read_text(encoding="utf-8").splitlines()]
    # The table whose head are the smoothings; the other ones with such names have more columns.
    written = {
        row[0]: [float(cell) for cell in row[1:]] for row in rows if len(row) == 8 and row[0].startswith("`kappa_")
    }
    smoothings = next([float(cell) for cell in row[1:]] for row in rows if row[0] == "$\\delta$" and len(row) == 8)
    found = [
        condition_numbers(UnconstrainedFeatureModel(10, 10, 16, 1e-3, 5e-4, 1e-2, smoothing))
        for smoothing in smoothings
    ]
    names = {name for cell in written for name in re.findall(r"\w+", cell)}
    assert names == set(found[0])
    for cell, values in written.items():
        for name in re.findall(r"\w+", cell):
            assert [row[name] for row in found] == pytest.approx(values, rel=5e-3), name
