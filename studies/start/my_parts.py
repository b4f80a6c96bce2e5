"""Data, a network and a loss of your own: `nclens check study.yaml --data --model` tries each once."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional


def digits(test_share):
    """Return two splits: images, uint8 (N, C, H, W) or rows (N, F), and class labels, whole numbers from 0.

    These are 1,797 handwritten digits of 8 x 8 pixels, which scikit-learn has within it.
    """
    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = np.split(order, [round(test_share * len(order))])
    return {
        "train_inputs": images[train],
        "train_targets": labels[train],
        "test_inputs": images[test],
        "test_targets": labels[test],
    }


def network(shape, outputs, width):
    """Return a network for samples of this shape that ends in a linear layer: its input are the features."""
    channels, height, side = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * ((height + 1) // 2) * ((side + 1) // 2), 32),
        nn.ReLU(),
        nn.Linear(32, outputs),
    )


def small_logits(logits, targets, strength):
    """Return cross entropy with a penalty on large logits, one value a sample."""
    return functional.cross_entropy(logits, targets, reduction="none") + strength * logits.square().mean(1)
