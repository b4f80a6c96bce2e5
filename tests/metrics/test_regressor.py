"""A run of a regressor is measured with one gamma; a classifier under squared error is one too."""

import math

import pytest
import torch

from nclens.metrics.regression import fit_gamma, regression_collapse, residual_deviation, target_covariance
from nclens.metrics.regressor import onehot_metrics, regressor_metrics, run_gamma, with_onehot_targets


def snapshot(n=2, dim=6, seed=0, samples=40):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    mixing = normal(n, n) + 2 * torch.eye(n)
    tensors = {"weight": normal(n, dim), "bias": normal(n)}
    for split, count in (("train", samples), ("test", samples // 2)):
        tensors[f"{split}.features"] = normal(count, dim)
        tensors[f"{split}.targets"] = normal(count, n) @ mixing
    return tensors


def table(rows):
    found = list(rows)
    assert len({row[:2] for row in found}) == len(found)
    return {row[:2]: row[2] for row in found}


def test_gamma_is_found_on_the_final_weights_and_the_training_split():
    last = snapshot()
    expected = fit_gamma(last["weight"], target_covariance(last["train.targets"]))
    assert run_gamma(last) == expected
    metrics = table(regressor_metrics(snapshot(seed=1), run_gamma(last)))
    assert metrics["train", "nrc3_gamma"] == metrics["test", "nrc3_gamma"] == expected


def test_gamma_is_c_where_the_penalties_were_trained_with_and_the_closed_form_exists():
    last = snapshot()
    assert run_gamma(last, c=0.01) == 0.01
    largest = torch.linalg.eigvalsh(target_covariance(last["train.targets"]))[-1].item()
    assert run_gamma(last, c=2 * largest) == run_gamma(last)


def test_one_target_and_zero_weights_have_no_gamma():
    assert run_gamma(snapshot(n=1), c=0.01) is None
    assert run_gamma(snapshot() | {"weight": torch.zeros(2, 6)}) is None
    metrics = table(regressor_metrics(snapshot(n=1), None))
    assert ("train", "nrc3") not in metrics
    assert metrics["train", "gram_00"] == pytest.approx(snapshot(n=1)["weight"].square().sum().item())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_metrics_are_those_of_each_split_and_the_heads_gram(n):
    tensors = snapshot(n)
    gamma = run_gamma(tensors)
    metrics = table(regressor_metrics(tensors, gamma, c=0.3))
    weight, bias = tensors["weight"], tensors["bias"]
    gram = weight.double() @ weight.double().T
    for split in ("train", "test"):
        features, targets = tensors[f"{split}.features"], tensors[f"{split}.targets"]
        expected = regression_collapse(features, targets, weight, bias, gamma=gamma)
        residuals = targets.double() - features.double() @ weight.double().T - bias
        expected["residual_deviation"] = residual_deviation(target_covariance(residuals), 0.3)
        if split == "train":
            expected |= {f"gram_{i}{j}": gram[i, j].item() for i in range(n) for j in range(i, n)}
        found = {key: value for (part, key), value in metrics.items() if part == split}
        assert found.keys() == expected.keys()
        assert all(found[key] == pytest.approx(value, rel=1e-12) for key, value in expected.items())


def test_without_the_penalties_there_is_no_c_to_be_away_from():
    assert ("train", "residual_deviation") not in table(regressor_metrics(snapshot(), None))


def test_a_classifier_is_a_regressor_on_onehot_targets():
    tensors = snapshot(3) | {"train.targets": torch.arange(40) % 3, "test.targets": torch.arange(20) % 3}
    onehot = with_onehot_targets(tensors)
    assert onehot["train.targets"][:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    gamma = run_gamma(onehot)
    metrics = table(onehot_metrics(tensors, gamma))
    expected = table(regressor_metrics(onehot, gamma))
    assert metrics == {
        (split, f"onehot_{key}"): value for (split, key), value in expected.items() if not key.startswith("gram_")
    }
    assert all(math.isfinite(value) for value in metrics.values())
