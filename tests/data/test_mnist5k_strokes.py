"""Shape measures of a stroke, on bars with known values, and their symmetries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.data.mnist5k_strokes import measure
from nclens.workflow.build.data import load_dataset


def bar(width, height, top=3, left=5, lean=0):
    """A bar in which each row is `lean` pixels to the right of the row below."""
    image = np.zeros((40, 60), dtype=np.uint8)
    for row in range(height):
        start = left + lean * (height - 1 - row)
        image[top + row, start : start + width] = 200
    return image


@given(st.integers(1, 8), st.integers(2, 30), st.integers(0, 9), st.integers(0, 20))
def test_the_centroid_is_counted_from_the_centre_to_the_right_and_upwards(width, height, top, left):
    found = measure(bar(width, height, top, left))
    assert found["x"] == pytest.approx(left + (width - 1) / 2 - 29.5)
    assert found["y"] == pytest.approx(19.5 - top - (height - 1) / 2)


@pytest.mark.parametrize("lean", [0, 1, 2])
def test_the_slant_is_how_far_the_stroke_moves_to_the_right_for_a_pixel_upwards(lean):
    assert measure(bar(3, 12, lean=lean))["slant"] == pytest.approx(lean, abs=1e-12)
    assert measure(bar(3, 12, lean=lean)[:, ::-1])["slant"] == pytest.approx(-lean, abs=1e-12)


@pytest.mark.parametrize("width", [2, 3, 5, 7])
def test_the_thickness_is_the_width_of_a_long_bar_either_way(width):
    upright = measure(bar(width, 34))["thickness"]
    # The two ends of the bar take off a little.
    assert 0.9 * width < upright < width
    assert measure(bar(34, width))["thickness"] == pytest.approx(upright, rel=1e-9)


def test_brightness_changes_nothing_and_a_single_row_has_no_slant():
    image = bar(4, 20, lean=1)
    dimmed = measure(image // 2)
    assert dimmed == pytest.approx(measure(image), rel=1e-12)
    assert measure(bar(9, 1))["slant"] == 0
    with pytest.raises(ValueError, match="no ink"):
        measure(np.zeros((5, 5), dtype=np.uint8))


@pytest.mark.lengthy
def test_every_image_gets_its_numbers():
    entry = {"source": "mnist5k_strokes", "train_per_class": 3, "test_per_class": 2, "split_seed": 0}
    data = load_dataset(entry | {"scale_targets": "none", "targets": ["slant", "x"]})
    assert data.train_targets.shape == (30, 2)
    for image, (slant, x) in zip(data.train_inputs[:5, 0].numpy(), data.train_targets[:5].tolist(), strict=True):
        found = measure(image)
        assert (slant, x) == pytest.approx((found["slant"], found["x"]), rel=1e-6)
