"""Data sets for regression are validated, and their manifest restores the original units."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nclens.data.regression import RegressionDataset, scaled


def made(**changes):
    generator = torch.Generator().manual_seed(0)
    arguments = {
        "train_inputs": torch.randn(9, 3, generator=generator),
        "train_targets": torch.randn(9, 2, generator=generator),
        "test_inputs": torch.randn(5, 3, generator=generator),
        "test_targets": torch.randn(5, 2, generator=generator),
        "targets": ["a", "b"],
    }
    return RegressionDataset(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"train_targets": torch.zeros(9, 2, dtype=torch.float64)},
            r"train targets must be float32 .*\(9, 2\)",
        ),
        ({"train_targets": torch.randn(9)}, "train targets must be float32 of shape"),
        ({"test_targets": torch.randn(5, 3)}, r"test targets must be float32 .* not .*\(5, 3\)"),
        ({"test_targets": torch.full((5, 2), torch.inf)}, "test targets must be finite"),
        ({"train_targets": torch.ones(9, 2)}, "train target a is constant"),
        ({"test_inputs": torch.randn(1, 3), "test_targets": torch.randn(1, 2)}, "test target a is constant"),
        ({"targets": ["a", "a"]}, "all names must differ"),
        ({"targets": []}, "at least one name"),
        ({"target_scale": [1.0]}, "one number for each"),
        ({"train_inputs": torch.zeros(9, 3, dtype=torch.int64)}, "float32 rows"),
    ],
)
def test_invalid_data_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        made(**changes)


def test_the_manifest_has_mean_and_covariance_of_the_training_split_as_stored():
    data = made()
    facts = data.target_facts
    targets = data.train_targets.double()
    torch.testing.assert_close(torch.tensor(facts["target_mean"], dtype=torch.float64), targets.mean(0))
    expected = torch.cov(targets.T, correction=0)
    torch.testing.assert_close(torch.tensor(facts["target_covariance"], dtype=torch.float64), expected)
    assert (facts["targets"], facts["target_offset"], facts["target_scale"]) == (["a", "b"], [0.0, 0.0], [1.0, 1.0])


@given(st.integers(1, 4), st.floats(1e-3, 1e3), st.sampled_from(["each", "common", "none"]), st.integers(0, 99))
def test_stored_units_convert_to_the_original_ones(n, size, scaling, seed):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    train, test = (size * (torch.randn(m, n, generator=generator, dtype=torch.float64) * spread + 1) for m in (20, 6))
    found = scaled(train, test, scaling)
    offset, scale = (torch.tensor(found[key], dtype=torch.float64) for key in ("target_offset", "target_scale"))
    for original, stored in ((train, found["train_targets"]), (test, found["test_targets"])):
        torch.testing.assert_close(stored.double() * scale + offset, original, rtol=1e-5, atol=1e-5 * size)
    variances = found["train_targets"].double().var(0, correction=0)
    if scaling == "each":
        torch.testing.assert_close(variances, torch.ones(n, dtype=torch.float64), rtol=1e-5, atol=0)
    elif scaling == "common":
        assert variances.mean().item() == pytest.approx(1, rel=1e-5)
        original = train.var(0, correction=0)
        torch.testing.assert_close(variances / variances.sum(), original / original.sum(), rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(found["train_targets"], train.float())


def test_a_constant_target_has_no_scale():
    with pytest.raises(ValueError, match="target 1 is constant"):
        scaled(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.ones(2, 2), "each")
    with pytest.raises(ValueError, match="finite"):
        scaled(torch.tensor([[torch.nan], [1.0]]), torch.ones(2, 1), "each")
