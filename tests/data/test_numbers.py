"""Rounding to float32 and int64 is checked against the values, not the types."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nclens.data.numbers import TOLERANCE, class_numbers, float32_rows, stored_inputs, whole_numbers
from nclens.data.regression import scaled


def rows(*columns):
    return torch.tensor(np.stack(columns, axis=1))


STEPS = np.arange(40.0)


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e3))
def test_differences_within_a_column_survive(offset, step):
    exact = rows(offset + step * STEPS)
    (train, test), facts = float32_rows({"a": exact, "b": exact[:7]})
    shift = torch.tensor(facts.get("input_offset", [0.0]), dtype=torch.float64)
    span = exact.max() - exact.min()
    # Adding the offset again rounds to float64.
    assert float((train.double() + shift - exact).abs().max()) <= TOLERANCE * float(span) + 2.0**-52 * abs(offset)
    assert torch.equal(train[:7], test)


def test_columns_that_float32_holds_are_stored_as_they_are():
    exact = rows(STEPS, STEPS / 3 + 100, np.full(40, 0.1), np.full(40, 1e9 + 1), np.where(STEPS > 0, 0, 1e9 + 1))
    (stored,), facts = float32_rows({"a": exact})
    assert torch.equal(stored, exact.float())
    assert facts == {}


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.int16, torch.bool])
def test_types_within_float32_are_exact(kind):
    values = (torch.arange(12) % 2).reshape(4, 3).to(kind)
    (stored,), facts = stored_inputs({"a": values}, None)
    assert stored.dtype == torch.float32
    assert torch.equal(stored, values.float())
    assert facts == {}


def test_whole_numbers_beyond_float32_are_centred_and_beyond_float64_refused():
    (stored,), facts = stored_inputs({"ids": torch.arange(8).reshape(8, 1) + 2**40}, None)
    assert stored.flatten().tolist() == [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]
    assert facts["input_offset"] == [2**40 + 3.5]
    with pytest.raises(ValueError, match=r"ids has whole numbers from .* to 1152921504606846983; .*2\^53"):
        stored_inputs({"ids": torch.arange(8).reshape(8, 1) + 2**60}, None)
    with pytest.raises(ValueError, match="to 18446744073709551615"):
        stored_inputs({"ids": torch.from_numpy(np.full((4, 1), 2**64 - 1, dtype=np.uint64))}, None)


@pytest.mark.parametrize("scale", [1e39, 1e300, 1e-50, 1e-300])
def test_values_beyond_float32_are_refused(scale):
    with pytest.raises(ValueError, match=r"column 1 of a has values from .* which float32 cannot hold; rescale it"):
        float32_rows({"a": rows(STEPS, STEPS * scale)})


def test_a_small_test_split_is_never_refused_for_its_range():
    train, test = rows(STEPS * 1e6), rows(np.array([3e7 + 0.1, 3e7 + 0.1001]))
    assert float32_rows({"a": train, "b": test})[0][1].shape == (2, 1)
    assert scaled(train, test, "none")["test_targets"].shape == (2, 1)
    with pytest.raises(ValueError, match="float32 cannot hold"):
        float32_rows({"a": train, "b": test * 1e300})


def test_rows_of_unequal_width_and_empty_rows_are_refused():
    with pytest.raises(ValueError, match="the same number of columns"):
        float32_rows({"a": rows(STEPS), "b": rows(STEPS, STEPS)})
    with pytest.raises(ValueError, match="a must be numbers"):
        stored_inputs({"a": torch.zeros(0, 3)}, None)


def test_integers_beyond_int64_are_refused():
    assert whole_numbers(torch.tensor([-3, 5], dtype=torch.int8), "a").dtype == torch.int64
    with pytest.raises(ValueError, match="a has integers up to 9223372036854775808; allowed are those of int64"):
        whole_numbers(torch.from_numpy(np.array([1, 2**63], dtype=np.uint64)), "a")
    with pytest.raises(ValueError, match=r"a must be integers, not torch.float64"):
        whole_numbers(torch.zeros(3, dtype=torch.float64), "a")


@pytest.mark.parametrize("labels", [[0.0, 1.0], [[0, 1]], [], [0j]], ids=str)
def test_labels_are_integers(labels):
    with pytest.raises(ValueError, match=r"y must be integer class labels \(N,\)"):
        class_numbers(torch.tensor(labels), "y")


@pytest.mark.parametrize("scaling", ["each", "common"])
def test_targets_far_from_zero_are_centred_in_float64(scaling):
    exact = rows(1e9 + STEPS)
    found = scaled(exact, exact, scaling)
    assert len(torch.unique(found["train_targets"])) == 40
    restored = found["train_targets"].double() * found["target_scale"][0] + found["target_offset"][0]
    torch.testing.assert_close(restored, exact, rtol=0, atol=1e-5)


def test_targets_that_float32_would_round_are_refused_unscaled():
    with pytest.raises(ValueError, match="target 1 goes from 1000000000 to 1000000039: float32"):
        scaled(rows(STEPS, 1e9 + STEPS), rows(STEPS, 1e9 + STEPS), "none")
    with pytest.raises(ValueError, match=r"target 0 .* set an entry's `scale_targets` to `each`"):
        scaled(rows(STEPS * 1e39), rows(STEPS), "none")
    with pytest.raises(ValueError, match=r"target 0 goes from 0 to 3\.9e\+40"):
        scaled(rows(STEPS), rows(STEPS * 1e39), "none")


@pytest.mark.parametrize("scale", [1e300, 1e-200])
def test_targets_whose_variance_is_beyond_float64_are_refused(scale):
    with pytest.raises(ValueError, match=r"target 0 goes from 0 to .*: its variance is beyond float64; rescale it"):
        scaled(rows(STEPS * scale), rows(STEPS), "each")
