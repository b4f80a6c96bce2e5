"""Seeded textures: sizes, channels, what a seed fixes, and that the kinds look different."""

import pytest
import torch

from nclens.data.textures import KINDS, load, textures


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (96, 3)])
def test_a_data_set_has_a_class_a_kind(size, channels):
    made = load(size, channels, train_per_class=3, test_per_class=2, split_seed=0)
    assert made.classes == list(KINDS)
    assert made.train_inputs.shape == (18, channels, size, size)
    assert made.test_inputs.shape == (12, channels, size, size)
    assert made.train_inputs.dtype == torch.uint8
    assert made.train_targets.bincount().tolist() == [3] * 6
    # No image is flat, and none is twice there.
    every = torch.cat([made.train_inputs, made.test_inputs]).flatten(1)
    assert (every.double().std(dim=1) > 2).all()
    assert len(every.unique(dim=0)) == len(every)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_images_and_a_smaller_number_the_first_of_them(kind):
    many = textures(kind, 5, 12, 3, seed=7)
    assert torch.equal(textures(kind, 5, 12, 3, seed=7), many)
    assert torch.equal(textures(kind, 2, 12, 3, seed=7), many[:2])
    assert not torch.equal(textures(kind, 5, 12, 3, seed=8), many)


def test_lengths_are_in_pixels():
    """A larger image shows more of a texture, not a magnified one: neighbouring pixels differ as much."""
    steps = [float(textures("waves", 40, size, 1, seed=0).double().diff(dim=3).abs().mean()) for size in (24, 96)]
    assert steps[1] == pytest.approx(steps[0], rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wood", 1, 8, 1), "kind: there is no texture 'wood'; allowed: stripes, checks, waves, dots, clouds, grain"),
        (("dots", 1, 3, 1), "size: expected 4 or more, got 3"),
        (("dots", 1, 8, 0), "channels: expected 1 or more, got 0"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        textures(*arguments, seed=0)
