"""Names of the statistics that the training loop records: the columns of history.csv and their metrics."""

#: Task -> statistics of the training loop beside the loss; `nclens.training.statistics` computes each.
STATISTICS = {
    "classification": ("cross_entropy", "error"),
    "regression": ("mse",),
    "sequences": ("cross_entropy", "error"),
}

#: Task -> name and format of the statistic in a line of progress.
PROGRESS = {"classification": ("error", ".2%"), "regression": ("mse", ".4g"), "sequences": ("error", ".2%")}

#: Column of history.csv -> metric. Its values belong to a training epoch, not to a snapshot.
HISTORY = {
    "loss": "epoch_loss",
    **{name: f"epoch_{name}" for names in STATISTICS.values() for name in names},
    "learning_rate": "learning_rate",
    "seconds": "epoch_seconds",
}
