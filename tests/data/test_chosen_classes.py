import pytest
import torch

from nclens.data.chosen_classes import choose_classes
from nclens.data.dataset import Dataset
from nclens.data.regression import RegressionDataset, scaled
from nclens.data.textures import load


def whole():
    return Dataset(
        train_inputs=torch.arange(12.0)[:, None],
        train_targets=torch.arange(12) % 4,
        test_inputs=torch.arange(8.0)[:, None],
        test_targets=torch.arange(8) % 4,
        classes=["a", "b", "c", "d"],
        facts={"known": 1},
    )


def test_classes_are_relabelled_in_the_order_given_and_samples_keep_theirs():
    made = choose_classes(whole(), [3, 1])
    assert made.classes == ["d", "b"]
    assert made.train_inputs[:, 0].tolist() == [1, 3, 5, 7, 9, 11]
    assert made.train_targets.tolist() == [1, 0, 1, 0, 1, 0]
    assert made.test_inputs[:, 0].tolist() == [1, 3, 5, 7]
    assert made.test_targets.tolist() == [1, 0, 1, 0]
    assert made.facts == {"known": 1, "class_numbers": [3, 1]}
    assert made.target_facts == {"classes": ["d", "b"], "train_counts": [3, 3]}


def test_the_samples_of_a_class_are_those_of_the_whole_set():
    every = load(8, 1, 4, 2, 0)
    made = choose_classes(every, [4, 0])
    assert torch.equal(made.train_inputs[made.train_targets == 0], every.train_inputs[every.train_targets == 4])


def test_a_class_that_is_not_there_and_a_regression_are_refused():
    with pytest.raises(ValueError, match=r"classes = \[0, 4\]: the data have 4 classes, numbered from 0 to 3"):
        choose_classes(whole(), [0, 4])
    numbers = torch.arange(6.0, dtype=torch.float64)[:, None]
    regression = RegressionDataset(
        train_inputs=torch.rand(6, 2), test_inputs=torch.rand(6, 2), targets=["y"], **scaled(numbers, numbers, "none")
    )
    with pytest.raises(ValueError, match=r"classes = \[0, 1\]: allowed for classification, and this is a regression"):
        choose_classes(regression, [0, 1])
