"""Segmentation: scores of known predictions, upsampling, and a probe that leaves the network as it is."""

import math

import pytest
import torch
from torch.nn import functional

from nclens.data.segmentation import IGNORED
from nclens.data.tensors import Split
from nclens.models import resnet8
from nclens.probes.segmentation import _Upsampling, scores, segmentation

CHEAP = {"epochs": 8, "batch_size": 4, "learning_rate": 2e-2, "channels": 4, "seed": 3}


def network(seed=0):
    torch.manual_seed(seed)
    made = resnet8((1, 16, 16), 3, width=2, stem_stride=1)
    with torch.no_grad():
        made.train()(torch.randn(20, 1, 16, 16))
    return made.eval()


def placed(images, targets):
    return Split.place(images, targets, [0.5], [0.25], "cpu", "classification" if targets.ndim == 1 else "segmentation")


def halves(count, seed):
    """Images of 24 x 24 whose bright half has class 1, whose first row has none."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 24, 24, dtype=torch.uint8)
    for mask in masks:
        start = int(torch.randint(2, 12, (), generator=generator))
        mask[:, start : start + 10] = 1
    images = (40 + 150 * masks + torch.randint(0, 30, masks.shape, generator=generator)).to(torch.uint8)
    masks[:, 0] = IGNORED
    return placed(images[:, None], masks)


OTHER = halves(12, 0), halves(6, 1)
OWN = placed(torch.zeros(4, 1, 16, 16, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))


def probed(made=None, **changes):
    return segmentation(made or network(), OWN, OTHER, untrained=lambda: network(9), **CHEAP | changes)


def test_perfect_predictions_score_one():
    masks = torch.randint(0, 4, (3, 5, 6))
    assert scores(masks, masks, 4) == {"miou": 1.0, "pixel_accuracy": 1.0}


def test_a_constant_prediction_has_the_share_of_its_class_over_the_number_of_classes():
    masks = torch.tensor([0] * 6 + [1] * 3 + [2]).reshape(1, 2, 5)
    assert scores(torch.zeros_like(masks), masks, 3) == pytest.approx({"miou": 0.6 / 3, "pixel_accuracy": 0.6})


def test_scores_of_two_classes_by_hand_and_without_pixels_of_no_class():
    masks = torch.tensor([[[0, 0, 0, 1], [1, 1, IGNORED, IGNORED]]])
    predicted = torch.tensor([[[0, 0, 1, 1], [1, 0, 1, 0]]])
    # Class 0: 2 of 4 in the union; class 1: 2 of 4. A third class, neither there nor predicted, does not count.
    assert scores(predicted, masks, 3) == pytest.approx({"miou": 0.5, "pixel_accuracy": 4 / 6})
    with pytest.raises(ValueError, match=r"predictions have shape \(1, 2, 3\), masks \(1, 2, 4\)"):
        scores(predicted[:, :, :3], masks, 3)


def test_scores_are_of_all_pixels_not_a_mean_over_images():
    masks, predicted = torch.randint(0, 3, (2, 130, 3, 4), generator=torch.Generator().manual_seed(0))
    found = scores(predicted, masks, 3)
    unions = [((predicted == k) | (masks == k)).sum() for k in range(3)]
    overlaps = [((predicted == k) & (masks == k)).sum() for k in range(3)]
    assert found["miou"] == pytest.approx(sum(float(a / b) for a, b in zip(overlaps, unions, strict=True)) / 3)


@pytest.mark.parametrize("size", [(24, 24), (13, 40)])
def test_upsampling_is_bilinear_interpolation(size):
    logits = torch.randn(2, 3, 6, 5)
    expected = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(_Upsampling(size)(logits), expected)


@pytest.mark.lengthy
def test_a_head_learns_and_the_probe_is_deterministic():
    first = probed()
    assert list(first) == [
        f"segmentation{of}_{score}" for of in ("", "_floor", "_ceiling") for score in ("miou", "pixel_accuracy")
    ]
    assert first["segmentation_pixel_accuracy"] > 0.8
    assert first["segmentation_ceiling_miou"] > 0.6
    torch.manual_seed(123)
    assert probed() == first
    assert probed(seed=4) != first


@pytest.mark.parametrize("backbone", ["frozen", "fine_tuned"])
def test_the_network_stays_bit_equal(backbone):
    made = network()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    probed(made, backbone=backbone, epochs=2)
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not made.training


def test_floor_and_ceiling_are_the_same_for_every_network_and_can_be_left_out():
    first, second = probed(network(0)), probed(network(1))
    bounds = [name for name in first if "floor" in name or "ceiling" in name]
    assert len(bounds) == 4
    assert all(first[name] == second[name] for name in bounds)
    alone = probed(network(0), bounds=False)
    assert alone == {name: value for name, value in first.items() if name not in bounds}
    tuned = probed(network(9), bounds=False, backbone="fine_tuned")
    assert tuned["segmentation_miou"] == first["segmentation_ceiling_miou"]


def test_the_norm_of_the_features_makes_no_difference():
    made = network()
    scaled = network()
    with torch.no_grad():  # of positive homogeneity: the last block's two ways in
        block = scaled.backbone[-3]
        for norm in (block.norm2, block.shortcut[1]):
            norm.weight.mul_(64)
            norm.bias.mul_(64)
    inputs = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(scaled.backbone(inputs), 64 * made.backbone(inputs))
    assert probed(scaled, bounds=False) == probed(made, bounds=False)


def test_maps_that_are_not_kept_give_the_same(monkeypatch):
    kept = probed(bounds=False)
    monkeypatch.setattr("nclens.probes.segmentation.CACHED_BYTES", 0)
    assert probed(bounds=False) == pytest.approx(kept, abs=0.02)


def test_a_linear_head_is_another():
    assert probed(head="linear", bounds=False) != probed(bounds=False)


@pytest.mark.parametrize(("key", "allowed"), [("backbone", "frozen or fine_tuned"), ("head", "fcn or linear")])
def test_what_there_is_not_is_refused(key, allowed):
    with pytest.raises(ValueError, match=f"{key}: expected {allowed}, got 'x'"):
        probed(**{key: "x"})


@pytest.mark.parametrize("backbone", ["frozen", "fine_tuned"])
def test_a_network_that_has_diverged_is_refused(backbone):
    made = network()
    with torch.no_grad():
        next(made.backbone.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match="logits are not all finite"):
        probed(made, backbone=backbone, epochs=1, bounds=False)
