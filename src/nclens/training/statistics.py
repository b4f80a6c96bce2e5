"""Statistics of a batch that the training loop records beside the loss."""

from torch import Tensor
from torch.nn import functional

from nclens.training.history import STATISTICS


def batch_statistics(task: str, outputs: Tensor, targets: Tensor) -> list[Tensor]:
    """Return the statistics of a batch: scalars, in the order of `nclens.training.history.STATISTICS`.

    Args:
        task: `classification`, `regression` or `sequences`.
        outputs: logits (B, K), or predictions (B, n).
        targets: class labels (B,), or targets (B, n).
    """
    return [_FUNCTIONS[name](outputs, targets) for name in STATISTICS[task]]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy, in nats."""
    return functional.cross_entropy(logits, labels)


def error(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of misclassified samples, in [0, 1]."""
    return (logits.argmax(1) != labels).float().mean()


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error, summed over the n targets and averaged over the samples."""
    return (outputs - targets).square_().sum() / len(targets)


_FUNCTIONS = {function.__name__: function for function in (cross_entropy, error, mse)}
