"""Held-out samples: a mask of the test split, or a validation split."""

import pytest
import torch

from nclens.metrics.calibration import calibration_metrics, fit_temperature, temperature_metrics
from nclens.metrics.held_out import divided, held_out_of, stratified_mask

GENERATOR = torch.Generator().manual_seed(0)
TENSORS = {
    **{"test.logits": torch.randn(30, 4, generator=GENERATOR), "test.targets": torch.arange(30) % 4},
    **{"val.logits": 3 * torch.randn(9, 4, generator=GENERATOR), "val.targets": torch.arange(9) % 3},
    "val.features": torch.randn(9, 2, generator=GENERATOR),
}
TEST = (TENSORS["test.logits"], TENSORS["test.targets"])


def test_a_validation_split_is_held_out_where_there_is_one():
    found = held_out_of(TENSORS, 0.5, 0)
    assert found == (TENSORS["val.logits"], TENSORS["val.targets"])
    assert held_out_of(TENSORS, 0.5, 0, "features")[0] is TENSORS["val.features"]
    without = {name: values for name, values in TENSORS.items() if name.startswith("test.")}
    assert torch.equal(held_out_of(without, 0.3, 7), stratified_mask(TEST[1], 0.3, 7))


def test_all_test_samples_are_others_beside_a_validation_split():
    held, rest = divided(*TEST, held_out_of(TENSORS, 0.5, 0))
    assert all(
        torch.equal(one, other) for one, other in zip(held + rest, (*held_out_of(TENSORS, 0.5, 0), *TEST), strict=True)
    )
    mask = torch.arange(30) < 11
    held, rest = divided(*TEST, mask)
    assert [len(values) for values in held + rest] == [11, 11, 19, 19]
    assert torch.equal(torch.cat([held[0], rest[0]]), TEST[0])


def test_the_temperature_is_of_the_validation_split_and_the_scores_of_the_whole_test_set():
    found = temperature_metrics(*TEST, held_out_of(TENSORS, 0.5, 0))
    assert found["temperature"] == fit_temperature(TENSORS["val.logits"], TENSORS["val.targets"])
    whole = calibration_metrics(*TEST)
    scaled = calibration_metrics(TEST[0].double() / found["temperature"], TEST[1])
    for name in ("nll", "ece", "brier", "confidence"):
        assert found[f"{name}_unscaled"] == whole[name]
        assert found[f"{name}_scaled"] == pytest.approx(scaled[name], rel=1e-12)


@pytest.mark.parametrize(
    "pair",
    [(torch.zeros(3, 5), torch.zeros(3)), (torch.zeros(3, 4), torch.zeros(2)), (torch.zeros(0, 4), torch.zeros(0))],
)
def test_a_split_that_does_not_fit_is_refused(pair):
    with pytest.raises(ValueError, match=r"held_out must be values \(V, \.\.\.\) and labels \(V,\), V >= 1"):
        temperature_metrics(*TEST, (pair[0], pair[1].long()))
