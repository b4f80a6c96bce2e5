"""A run of a regressor is measured with one gamma; a classifier under squared error is one too."""

import torch

from nclens.metrics.regression import fit_gamma, regression_collapse, target_covariance
from nclens.metrics.regressor import gram_entries, onehot_collapse, run_gamma, with_onehot_targets


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


def test_gamma_is_found_on_the_final_weights_and_the_training_split():
    last = snapshot()
    expected = fit_gamma(last["weight"], target_covariance(last["train.targets"]))
    assert run_gamma(last) == expected


def test_gamma_is_c_where_the_penalties_were_trained_with_and_the_closed_form_exists():
    last = snapshot()
    assert run_gamma(last, c=0.01) == 0.01
    largest = torch.linalg.eigvalsh(target_covariance(last["train.targets"]))[-1].item()
    assert run_gamma(last, c=2 * largest) == run_gamma(last)


def test_one_target_and_zero_weights_have_no_gamma():
    assert run_gamma(snapshot(n=1), c=0.01) is None
    assert run_gamma(snapshot() | {"weight": torch.zeros(2, 6)}) is None


def test_gram_entries_are_those_on_and_above_the_diagonal():
    weight = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    assert gram_entries(weight) == {"gram_00": 5.0, "gram_01": 6.0, "gram_11": 9.0}


def test_a_classifier_is_a_regressor_on_onehot_targets():
    tensors = snapshot(3) | {"train.targets": torch.arange(40) % 3, "test.targets": torch.arange(20) % 3}
    onehot = with_onehot_targets(tensors)
    assert onehot["train.targets"][:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    features, weight, bias = tensors["train.features"], tensors["weight"], tensors["bias"]
    found = onehot_collapse(features, tensors["train.targets"], weight, bias, gamma=0.01)
    expected = regression_collapse(features, onehot["train.targets"], weight, bias, gamma=0.01)
    assert found == {f"onehot_{key}": value for key, value in expected.items()}
