import numpy as np
import pytest
import torch

from nclens.ufm import hessian
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.hessian import numeric_condition_numbers
from nclens.ufm.numeric import minimise
from nclens.ufm.spectra import condition_numbers

CASES = [
    (2, 2, 1, 0.01, 0.02, 0.1, 0.0),
    (2, 2, 3, 0.01, 0.02, 0.1, 0.1),
    (3, 2, 2, 0.01, 0.003, 0.1, 0.0),
    (3, 1, 2, 0.01, 0.003, 0.1, 0.0),
    (3, 1, 4, 0.01, 0.003, 0.1, 0.2),
    (5, 2, 6, 0.002, 0.01, 0.1, 0.1),
    (4, 3, 3, 0.01, 0.01, 0.1, 0.0),
    (4, 3, 5, 0.001, 0.003, 0.1, 0.1),
    (3, 2, 3, 0.3, 0.3, 0.1, 0.5),
    (3, 2, 4, 0.2, 0.3, 0.1, 0.0),
    (10, 400, 64, 1e-3, 1.25e-5, 1e-2, 0.05),
]


def check(closed, numeric, rel):
    assert closed.keys() == numeric.keys()
    for name, value in closed.items():
        if value is None:
            assert numeric[name] is None, name
        else:
            assert numeric[name] == pytest.approx(value, rel=rel), name


@pytest.mark.parametrize("case", CASES)
def test_numeric_eigenvalues_at_the_numeric_minimiser(case):
    problem = UnconstrainedFeatureModel(*case)
    found = minimise(problem, starts=1)
    numeric = numeric_condition_numbers(problem, found.weight, found.class_features, found.bias)
    check(condition_numbers(problem), numeric, rel=1e-6)


@pytest.mark.parametrize("case", CASES[3:])
def test_lanczos_agrees_with_all_eigenvalues(case, monkeypatch):
    problem = UnconstrainedFeatureModel(*case)
    point = problem.weight(), problem.class_features(), problem.bias()
    dense = numeric_condition_numbers(problem, *point)
    monkeypatch.setattr(hessian, "DENSE", 0)
    check(dense, numeric_condition_numbers(problem, *point), rel=1e-7)


def test_a_hundred_classes():
    problem = UnconstrainedFeatureModel(100, 100, 512, 1e-3, 1e-6, 1e-2, 0.05)
    numeric = numeric_condition_numbers(problem, problem.weight(), problem.class_features(), problem.bias())
    check(condition_numbers(problem), numeric, rel=1e-8)


def test_no_collapse_is_built_in():
    """Away from any minimiser, against the dense Hessian of the definition."""
    problem = UnconstrainedFeatureModel(3, 2, 4, 0.05, 0.02, 0.1, 0.1)
    generator = np.random.default_rng(0)
    weight, means, bias = (0.7 * generator.standard_normal(shape) for shape in [(3, 4), (3, 4), (3,)])
    targets = torch.from_numpy(0.9 * np.eye(3).repeat(2, 0) + 0.1 / 3)

    def loss(head, features):
        logits = features @ head.T + torch.from_numpy(bias)
        return -(targets * torch.log_softmax(logits, 1)).sum(1).mean()

    features = torch.from_numpy(means.repeat(2, 0))
    in_w = torch.func.hessian(loss, argnums=0)(torch.from_numpy(weight), features).reshape(12, 12)
    in_h = torch.func.hessian(loss, argnums=1)(torch.from_numpy(weight), features).reshape(24, 24)
    values_w, values_h = torch.linalg.eigvalsh(in_w).numpy(), torch.linalg.eigvalsh(in_h).numpy()
    numeric = numeric_condition_numbers(problem, weight, means, bias)
    # Rank (K - 1) min(K, d) in W and N (K - 1) in H.
    assert numeric["kappa_ce"] == pytest.approx(values_w[-1] / values_w[-6], rel=1e-9)
    assert numeric["kappa_full"] == pytest.approx((values_w[-1] + 0.05) / 0.05, rel=1e-9)
    assert numeric["kappa_full_features"] == pytest.approx((values_h[-1] + 0.02) / 0.02, rel=1e-9)


def test_bad_input():
    problem = UnconstrainedFeatureModel(3, 2, 4, 0.05, 0.02, 0.1)
    good = problem.weight(), problem.class_features(), problem.bias()
    for index, name in enumerate(("weight", "class_features", "bias")):
        for bad in (good[index][:2], np.full_like(good[index], np.nan)):
            with pytest.raises(ValueError, match=f"numeric Hessian: {name} must be finite with shape"):
                numeric_condition_numbers(problem, *[bad if i == index else part for i, part in enumerate(good)])
