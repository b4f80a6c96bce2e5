"""Batches on the device: normalisation, and an augmentation equal in distribution to torchvision's."""

import torch

from nclens.data.tensors import Split, flip_crop
from nclens.vision import import_torchvision


def test_normalised_values_are_torchvisions():
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    split = Split.place(images, torch.zeros(5, dtype=torch.int64), mean, std, "cpu")
    normalise = import_torchvision().transforms.Normalize(mean, std)
    torch.testing.assert_close(split.normalise(split.inputs), normalise(images.float() / 255))


def outcomes(pictures):
    """How often each picture occurs."""
    found, counts = torch.unique(pictures.flatten(1), dim=0, return_counts=True)
    return {tuple(picture.tolist()): count for picture, count in zip(found, counts.tolist(), strict=True)}


def test_flip_and_crop_equal_torchvisions_in_distribution():
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)
    count = 20_000
    ours = outcomes(flip_crop(image.expand(count, -1, -1, -1), torch.Generator().manual_seed(0), padding=1))
    transforms = import_torchvision().transforms
    torch.manual_seed(0)
    theirs_transform = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.RandomCrop(3, padding=1)])
    theirs = outcomes(torch.stack([theirs_transform(image[0]) for _ in range(4000)]))
    # Two flips times nine windows, each equally likely.
    assert len(ours) == 18
    assert set(theirs) <= set(ours)
    assert all(abs(seen - count / 18) < 5 * (count / 18) ** 0.5 for seen in ours.values())
    assert all(abs(seen - 4000 / 18) < 5 * (4000 / 18) ** 0.5 for seen in theirs.values())


def test_each_image_of_a_batch_is_drawn_alone():
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(50, -1, -1, -1)
    assert len(outcomes(flip_crop(images, torch.Generator().manual_seed(0)))) > 30
