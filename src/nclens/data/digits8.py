"""scikit-learn's 8 x 8 digits, enlarged to MNIST's 28 x 28: other writers, another scanner.

A target for transfer from MNIST. The data ship with scikit-learn, so nothing is downloaded.
"""

import torch

from nclens.data.dataset import Dataset


def load(train_per_class: int, test_per_class: int, split_seed: int) -> Dataset:
    """Return a stratified split of the 1,797 digits (174 to 183 of each); images are uint8 (N, 1, 28, 28).

    The originals have 8 x 8 pixels in 0..16. They are enlarged to 28 x 28 by bilinear interpolation and scaled to
    0..255, so that strokes are as bright as MNIST's. Unlike MNIST's, the digits fill the frame, as in USPS.
    """
    # A local import: scikit-learn is slow to import.
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images)[:, None]
    # The weights are multiples of 1/14, so integer sums are exact and the rounding is the same on every machine.
    fourteenths = (14 * torch.nn.functional.interpolate(torch.eye(8, dtype=torch.float64)[None], 28, mode="linear"))[0]
    spread = fourteenths.round()
    images = (spread.T @ small @ spread * 255 / (14 * 14 * 16)).round().to(torch.uint8)
    targets = torch.from_numpy(digits.target.astype("int64"))
    return Dataset.from_pool(
        images,
        targets,
        train_per_class,
        test_per_class,
        split_seed,
        classes=[str(digit) for digit in range(10)],
        source="Digits of 13 people, 8 x 8 pixels: the test set of UCI's Optical Recognition of Handwritten Digits, as "
        "shipped by scikit-learn's load_digits(); enlarged to 28 x 28",
        licence="scikit-learn: BSD 3-Clause; its description of the data names no licence of theirs",
        citation="Alpaydin, Kaynak (1998), Cascading classifiers, Kybernetika",
    )
