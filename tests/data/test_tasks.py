"""What a task changes: the head's size and the loop's statistics."""

import pytest
import torch

from nclens.data.tasks import TASKS, output_count, task_of
from nclens.training.history import HISTORY, STATISTICS, history_columns


def test_a_manifest_without_a_task_is_a_classifications():
    assert task_of({"classes": ["a", "b"]}) == "classification"
    assert output_count({"classes": ["a", "b", "c"]}) == 3
    assert output_count({"task": "regression", "targets": ["x", "y"]}) == 2


def test_statistics_are_means_over_the_batch():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    cross_entropy, error = TASKS["classification"].statistics(logits, labels)
    assert cross_entropy.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert error.item() == pytest.approx(1 / 3)
    (mse,) = TASKS["regression"].statistics(logits, torch.zeros(3, 2))
    assert mse.item() == pytest.approx((4 + 1 + 1) / 3)  # summed over the targets


def test_every_statistic_has_a_column_and_a_metric():
    outputs = torch.zeros(4, 2)
    targets = {"classification": torch.zeros(4, dtype=torch.int64), "regression": torch.zeros(4, 2)}
    assert TASKS.keys() == STATISTICS.keys() == targets.keys()
    for name, task in TASKS.items():
        assert len(task.statistics(outputs, targets[name])) == len(STATISTICS[name])
        assert task.progress[0] in STATISTICS[name]
        assert set(history_columns(name)[2:]) <= set(HISTORY)
