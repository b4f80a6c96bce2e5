import math

import pytest
import torch
from torch import nn

from nclens.data.tensors import Split
from nclens.metrics.representation import mutual_information
from nclens.models import Network
from nclens.probes.information import logit_differences, random_shift


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def split_of(images, targets):
    return Split.place(images, targets, [0.0] * images.shape[1], [1 / 255] * images.shape[1], "cpu")


class Corner(nn.Module):
    """Two logits: the value of the image's first pixel, and none."""

    def forward(self, inputs):
        return torch.stack([inputs[:, 0, 0, 0], torch.zeros(len(inputs))], dim=1)


def corner_network():
    network = Network(Corner(), 2, 2)
    network.head = nn.Identity()
    return network


def test_every_shift_comes_about_equally_often_and_zeros_come_in():
    image = torch.zeros(1, 2, 7, 7, dtype=torch.uint8)
    image[0, :, 3, 3] = torch.tensor([200, 90])
    made = random_shift(image.expand(5000, -1, -1, -1), generator())
    assert made.dtype == torch.uint8
    assert (made.sum(dim=(2, 3)) == torch.tensor([200, 90])).all()
    counts = (made[:, 0] > 0).sum(dim=0)
    assert counts[1:6, 1:6].sum() == 5000
    assert counts[1:6, 1:6].min() > 150  # 200 expected, standard deviation 14


def test_a_shift_moves_the_whole_image_and_the_rest_is_zero():
    images = torch.randint(1, 255, (40, 1, 6, 5), generator=generator(), dtype=torch.uint8)
    made = random_shift(images, generator(1))
    padded = nn.functional.pad(images, [2] * 4)
    for picture, source in zip(made, padded, strict=True):
        windows = [source[:, top : top + 6, left : left + 5] for top in range(5) for left in range(5)]
        assert any(torch.equal(picture, window) for window in windows)


def test_differences_are_those_of_the_two_classes_and_means_those_of_other_draws():
    """The n-th augmentation adds n to the first pixel: six in all, the sixth is the fresh one."""
    images = torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(8, dtype=torch.uint8) * 10
    calls = []

    def augment(stored, _):
        calls.append(len(stored))
        changed = stored.clone()
        changed[:, 0, 0, 0] += len(calls)
        return changed

    targets = torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])
    fresh, means = logit_differences(
        corner_network(), split_of(images, targets), (0, 1), augment, generator=generator()
    )
    assert calls == [6] * 6
    assert (fresh - means).tolist() == pytest.approx([3.0] * 6)  # 6 - (1 + ... + 5) / 5
    assert sorted((fresh - 6).tolist()) == [0, 10, 20, 30, 60, 70]
    swapped, _ = logit_differences(corner_network(), split_of(images, targets), (1, 0), augment, generator=generator())
    assert swapped.max() < 0


def test_both_classes_have_as_many_samples_at_most_half_of_those_asked_for():
    images = torch.arange(50, dtype=torch.uint8).reshape(50, 1, 1, 1).expand(-1, -1, 4, 4).contiguous()
    targets = torch.tensor([0] * 30 + [1] * 20)
    for samples, expected in ((600, 40), (20, 20), (2, 2)):
        fresh, _ = logit_differences(
            corner_network(),
            split_of(images, targets),
            (0, 1),
            lambda stored, _: stored,
            samples=samples,
            generator=generator(),
        )
        values = fresh.long()
        assert len(values.unique()) == expected
        assert (values < 30).sum() == expected / 2


def test_two_points_are_worth_log_2():
    """A logit difference that knows the class and nothing more, with a little noise about it."""
    images = torch.zeros(400, 1, 4, 4, dtype=torch.uint8)
    images[200:, 0, 0, 0] = 200
    targets = torch.tensor([0] * 200 + [1] * 200)

    def noise(stored, source):
        changed = stored.clone()
        changed[:, 0, 0, 0] += torch.randint(0, 3, (len(stored),), generator=source, dtype=torch.uint8)
        return changed

    found = logit_differences(corner_network(), split_of(images, targets), (0, 1), noise, generator=generator())
    assert mutual_information(*found) == pytest.approx(math.log(2), abs=0.15)


def test_the_same_generator_gives_the_same_and_another_does_not():
    images = torch.randint(0, 255, (60, 1, 8, 8), generator=generator(), dtype=torch.uint8)
    targets = torch.arange(60) % 2

    def made(seed):
        return logit_differences(
            corner_network(), split_of(images, targets), (0, 1), random_shift, generator=generator(seed)
        )

    assert torch.equal(made(1)[0], made(1)[0])
    assert not torch.equal(made(1)[0], made(2)[0])


@pytest.mark.parametrize(
    ("classes", "options", "words"),
    [
        ((0, 0), {}, "two different"),
        ((0, 5), {}, "5: 0 samples"),
        ((0, 1), {"draws": 0}, "draws"),
        ((0, 1), {"samples": 1}, "samples"),
    ],
)
def test_what_cannot_be_asked_is_told(classes, options, words):
    split = split_of(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=words):
        logit_differences(corner_network(), split, classes, random_shift, generator=generator(), **options)


def test_rows_have_no_augmentation():
    split = Split.place(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]), [0.0] * 3, [1.0] * 3, "cpu")
    with pytest.raises(ValueError, match="needs images"):
        logit_differences(corner_network(), split, (0, 1), random_shift, generator=generator())
