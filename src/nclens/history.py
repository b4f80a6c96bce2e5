"""What the training loop's history is called among the measurements."""

#: Columns of history.csv and the metrics that they become: of the loop, not of a snapshot.
HISTORY = {
    "loss": "epoch_loss",
    "cross_entropy": "epoch_cross_entropy",
    "error": "epoch_error",
    "learning_rate": "learning_rate",
    "seconds": "epoch_seconds",
}
