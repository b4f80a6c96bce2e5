"""Batches on the device: normalisation, and an augmentation equal in distribution to torchvision's."""

import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from torch.nn import functional

from nclens._torchvision import import_torchvision
from nclens.data.tensors import Split, flip_crop


def test_normalised_values_are_torchvisions():
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    split = Split.place(images, torch.zeros(5, dtype=torch.int64), mean, std, "cpu")
    normalise = import_torchvision().transforms.Normalize(mean, std)
    made = split.normalise(split.inputs)
    torch.testing.assert_close(made, normalise(images.float() / 255))
    scale = [(torch.tensor(values) * 255).reshape(1, 3, 1, 1) for values in (mean, std)]
    assert torch.equal(made, (images.float() - scale[0]) / scale[1])


def outcomes(pictures):
    """How often each picture occurs."""
    found, counts = torch.unique(pictures.flatten(1), dim=0, return_counts=True)
    return {tuple(picture.tolist()): count for picture, count in zip(found, counts.tolist(), strict=True)}


def reachable(image, padding):
    """Every window of the padded image and of its mirror image, sliced one by one."""
    size = image.shape[-1]
    return {
        tuple(padded[:, top : top + size, left : left + size].flatten().tolist())
        for padded in (functional.pad(side, [padding] * 4) for side in (image, image.flip(2)))
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }


def test_flip_and_crop_equal_torchvisions_in_distribution():
    # Two channels without symmetry: the 2 x 9 x 9 outcomes are all different.
    image = torch.stack([torch.arange(1, 26), torch.arange(25, 0, -1)]).reshape(2, 5, 5).to(torch.uint8)
    allowed = reachable(image, 4)
    assert len(allowed) == 162
    transforms = import_torchvision().transforms
    theirs_transform = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.RandomCrop(5, padding=4)])
    torch.manual_seed(0)
    theirs = outcomes(torch.stack([theirs_transform(image) for _ in range(162 * 50)]))
    ours = outcomes(flip_crop(image.expand(162 * 500, -1, -1, -1), torch.Generator().manual_seed(0)))
    for found in (ours, theirs):
        assert set(found) == allowed
        assert chisquare(list(found.values())).pvalue > 1e-3  # each equally likely
    order = sorted(allowed)
    assert chi2_contingency([[found[outcome] for outcome in order] for found in (ours, theirs)]).pvalue > 1e-3


def test_a_flip_is_of_the_whole_image_and_a_batch_keeps_its_order():
    images = torch.rand(40, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    made = flip_crop(images, torch.Generator().manual_seed(0), padding=0)
    flipped = (made == images.flip(3)).flatten(1).all(1)
    kept = (made == images).flatten(1).all(1)
    assert bool((flipped ^ kept).all())
    assert bool(flipped.any())
    assert bool(kept.any())


def test_each_image_of_a_batch_is_drawn_alone():
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(50, -1, -1, -1)
    assert len(outcomes(flip_crop(images, torch.Generator().manual_seed(0)))) > 30


def cropped_one_by_one(images, generator, padding):
    """The same draws, each image flipped and sliced by itself."""
    count, _, height, width = images.shape
    flips, tops, lefts = (
        torch.randint(high, (count, 1), generator=generator).flatten().tolist()
        for high in (2, 2 * padding + 1, 2 * padding + 1)
    )
    padded = functional.pad(images, [padding] * 4)
    windows = [
        image[:, top : top + height, left : left + width] for image, top, left in zip(padded, tops, lefts, strict=True)
    ]
    return torch.stack([window.flip(2) if flip else window for window, flip in zip(windows, flips, strict=True)])


@pytest.mark.parametrize("shape", [(40, 3, 6, 7), (40, 1, 5, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_windows_are_those_sliced_one_by_one(shape, layout):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    made = flip_crop(images.contiguous(memory_format=layout), torch.Generator().manual_seed(0), padding=2)
    assert torch.equal(made, cropped_one_by_one(images, torch.Generator().manual_seed(0), padding=2))
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(20, 3, 4, 5), (20, 1, 4, 4), (20, 6)])
def test_samples_are_taken_as_they_are_stored(shape):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    targets = torch.arange(20)
    split = Split.place(inputs, targets, [0.4] * shape[1], [0.2] * shape[1], "cpu")
    index = torch.tensor([3, 0, 19, 3])
    taken, labels = split.take(index)
    assert torch.equal(taken, inputs[index])
    assert labels.tolist() == [3, 0, 19, 3]
    if len(shape) == 4:
        assert taken.is_contiguous(memory_format=torch.channels_last)


def test_rows_stay_as_they_are_stored():
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    split = Split.place(rows.clone(), torch.tensor([0, 1]), [2.0, 4.0], [1.0, 2.0], "cpu")
    once, again = split.normalise(split.inputs), split.normalise(split.inputs)
    assert once.tolist() == again.tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    assert torch.equal(split.inputs, rows)
