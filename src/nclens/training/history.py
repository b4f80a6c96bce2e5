"""What the training loop's history is called among the measurements."""

#: The loop's own statistics of each task, in the order in which `nclens.data.tasks` computes them.
STATISTICS = {"classification": ("cross_entropy", "error"), "regression": ("mse",)}

#: Columns of history.csv and the metrics that they become: of the loop, not of a snapshot.
HISTORY = {
    "loss": "epoch_loss",
    "cross_entropy": "epoch_cross_entropy",
    "error": "epoch_error",
    "mse": "epoch_mse",
    "learning_rate": "learning_rate",
    "seconds": "epoch_seconds",
}


def history_columns(task: str) -> list[str]:
    """Return the columns of a run's history.csv, in order.

    >>> history_columns("regression")
    ['epoch', 'split', 'loss', 'mse', 'learning_rate', 'seconds']
    """
    return ["epoch", "split", "loss", *STATISTICS[task], "learning_rate", "seconds"]
