"""MNIST-5k for regression: centroid, slant and thickness of the stroke, computed from each image."""

import numpy as np
import torch
from numpy.typing import NDArray

from nclens.data import mnist5k
from nclens.data.regression import RegressionDataset, Scaling, scaled

#: Upsampling factor for the outline of the stroke.
FINER = 4

Array = NDArray[np.float64]


def load(
    train_per_class: int, test_per_class: int, split_seed: int, scale_targets: Scaling, targets: list[str]
) -> RegressionDataset:
    """Return a stratified split of the 500 images of each digit; `targets` are names of numbers that `measure` returns.

    `scale_targets` is as in `nclens.data.regression.scaled`.
    """
    images = mnist5k.load(train_per_class, test_per_class, split_seed)
    parts = []
    for pixels in (images.train_inputs, images.test_inputs):
        strokes = [measure(image) for image in pixels[:, 0].numpy()]
        parts.append(torch.tensor([[stroke[name] for name in targets] for stroke in strokes], dtype=torch.float64))
    return RegressionDataset(
        train_inputs=images.train_inputs,
        test_inputs=images.test_inputs,
        targets=list(targets),
        source=f"{images.source}; targets computed from the images",
        licence=images.licence,
        citation=images.citation,
        **scaled(parts[0], parts[1], scale_targets),
    )


def measure(image: NDArray[np.uint8]) -> dict[str, float]:
    """Return shape measures of the stroke in an image (H, W), ink 1..255 on background 0.

    * ``x``, ``y``: centroid of the ink, in pixels from the image's centre, to the right and upwards.
    * ``slant``: pixels to the right per pixel upwards, mu_xy / mu_yy of the ink's central moments; 0 for ink in a
      single row.
    * ``thickness``: 4 times the mean distance of ink from the background, in pixels: the width, for a long bar.

    Raises:
        ValueError: there is no ink.
    """
    ink = image.astype(np.float64)
    if not ink.any():
        raise ValueError("the image has no ink, so no stroke to measure")
    ink /= ink.sum()
    height, width = image.shape
    right = np.arange(width) - (width - 1) / 2
    up = (height - 1) / 2 - np.arange(height)[:, None]
    x, y = float((ink * right).sum()), float((ink * up).sum())
    across = float((ink * (right - x) * (up - y)).sum())
    along = float((ink * (up - y) ** 2).sum())
    return {"x": x, "y": y, "slant": across / along if along > 0 else 0.0, "thickness": _thickness(image)}


def _thickness(image: NDArray[np.uint8]) -> float:
    from scipy import ndimage

    # Bilinear upsampling and a threshold at half the maximum give an outline at sub-pixel resolution. The margin of
    # background closes the outline of ink at the border.
    fine = ndimage.zoom(np.pad(image.astype(np.float64), 1), FINER, order=1, grid_mode=True, mode="grid-constant")
    inside = fine >= fine.max() / 2
    # The nearest outside point is half a fine pixel beyond the outline.
    distance = ndimage.distance_transform_edt(inside)[inside] - 0.5
    return float(4 * distance.mean() / FINER)
