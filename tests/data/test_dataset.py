"""Data sets are validated; statistics and splits are as documented."""

import pytest
import torch

from nclens.data.dataset import Dataset, channel_statistics, class_balanced_split


def made(**changes):
    arguments = {
        "train_inputs": torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
        "train_targets": torch.tensor([0, 1, 0, 1]),
        "test_inputs": torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
        "test_targets": torch.tensor([0, 1, 1, 0]),
        "classes": ["a", "b"],
    }
    return Dataset(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_inputs": torch.zeros(4, 1, 2, 2)}, "train inputs must be uint8 images"),
        ({"train_inputs": torch.zeros(4, 2, dtype=torch.float64)}, "float32 rows"),
        ({"train_targets": torch.tensor([0, 0, 0, 0])}, "every class 0..1"),
        ({"test_targets": torch.tensor([0, 0, 0, 2])}, "test targets must lie in 0..1 and no other"),
        (
            {"train_targets": torch.tensor([0, 0, 0, 1])},
            r"every class 0..1: class 1 \(b\) has 1 samples, fewer than 2, which every class needs",
        ),
        ({"classes": ["a"]}, "at least two classes, and at least two samples of each"),
        ({"train_targets": torch.tensor([0, 1, 2, 1])}, "every class 0..1 and no other"),
        ({"train_targets": torch.tensor([0, 1])}, "train targets must be int64 of shape"),
        ({"test_inputs": torch.zeros(4, 1, 3, 3, dtype=torch.uint8)}, "the same shape"),
        ({"train_inputs": torch.full((4, 2), torch.nan), "test_inputs": torch.zeros(4, 2)}, "finite"),
    ],
)
def test_invalid_data_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        made(**changes)


def test_statistics_of_images_are_exact():
    images = torch.randint(0, 256, (500, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(images)
    scaled = images.double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), scaled.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.tensor(std).double(), scaled.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)


def test_a_constant_column_is_divided_by_one():
    rows = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert channel_statistics(rows) == ([2.0, 2.0], [1.0, 1.0])


def test_a_split_is_balanced_disjoint_and_seeded():
    labels = torch.arange(60) % 3
    train, test = class_balanced_split(labels, 10, 5, classes=3, seed=0)
    assert labels[train].bincount().tolist() == [10] * 3
    assert labels[test].bincount().tolist() == [5] * 3
    assert not set(train.tolist()) & set(test.tolist())
    again, _ = class_balanced_split(labels, 10, 5, classes=3, seed=0)
    other, _ = class_balanced_split(labels, 10, 5, classes=3, seed=1)
    assert torch.equal(train, again)
    assert not torch.equal(train, other)


def test_more_training_samples_leave_no_test_sample_behind():
    labels = torch.arange(60) % 3
    small, _ = class_balanced_split(labels, 5, 5, classes=3, seed=0)
    large, _ = class_balanced_split(labels, 10, 5, classes=3, seed=0)
    assert set(small.tolist()) < set(large.tolist())


def test_a_class_with_too_few_samples_is_named():
    with pytest.raises(ValueError, match="class 1 has 2 samples"):
        class_balanced_split(torch.tensor([0, 0, 0, 1, 1]), 2, 1, classes=2, seed=0)
