"""The statistics that the training loop records beside the loss, and their names."""

import pytest
import torch

from nclens.data.tasks import OUTPUTS
from nclens.training.history import HISTORY, PROGRESS, STATISTICS
from nclens.training.statistics import batch_statistics


def test_statistics_are_means_over_the_batch():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    cross_entropy, error = batch_statistics("classification", logits, labels)
    assert cross_entropy.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())
    assert error.item() == pytest.approx(1 / 3)
    (mse,) = batch_statistics("regression", logits, torch.zeros(3, 2))
    assert mse.item() == pytest.approx((4 + 1 + 1) / 3)  # summed over the targets


def test_every_statistic_has_a_column_and_a_metric():
    outputs = torch.zeros(4, 2)
    labels = torch.zeros(4, dtype=torch.int64)
    targets = {"classification": labels, "regression": torch.zeros(4, 2), "sequences": labels}
    assert OUTPUTS.keys() == STATISTICS.keys() == PROGRESS.keys() == targets.keys()
    for task in OUTPUTS:
        assert len(batch_statistics(task, outputs, targets[task])) == len(STATISTICS[task])
        assert PROGRESS[task][0] in STATISTICS[task]
        assert set(STATISTICS[task]) <= set(HISTORY)


def test_columns_of_the_history_become_these_metrics():
    assert HISTORY == {
        "loss": "epoch_loss",
        "cross_entropy": "epoch_cross_entropy",
        "error": "epoch_error",
        "mse": "epoch_mse",
        "learning_rate": "learning_rate",
        "seconds": "epoch_seconds",
    }
