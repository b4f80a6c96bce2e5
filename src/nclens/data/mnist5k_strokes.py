"""MNIST-5k with numbers to regress: centroid, slant and thickness of the stroke, computed from each image."""

import numpy as np
import torch
from numpy.typing import NDArray

from nclens.data import mnist5k
from nclens.data.regression import RegressionDataset, Scaling, scaled

#: How many times finer than the pixels the stroke's outline is taken.
FINER = 4

Array = NDArray[np.float64]


def load(
    train_per_class: int, test_per_class: int, split_seed: int, scale_targets: Scaling, targets: list[str]
) -> RegressionDataset:
    """Return a stratified split of the 500 images of each digit, with the chosen ones of `MEASURES` as targets."""
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
    """Return the numbers of an image (H, W), ink 1..255 on background 0.

    * ``x``, ``y``: centroid of the ink, in pixels from the image's centre, to the right and upwards.
    * ``slant``: by how many pixels the stroke moves to the right for each pixel upwards, mu_xy / mu_yy of the ink's
      central moments; 0 for ink in one row.
    * ``thickness``: 4 times the mean distance from the ink to the background, in pixels: the width of a long bar.

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

    # Bilinear between pixel centres and cut at half the blackest: an outline finer than the pixels. Around it, a margin
    # of background, so that ink at the border ends there.
    fine = ndimage.zoom(np.pad(image.astype(np.float64), 1), FINER, order=1, grid_mode=True, mode="grid-constant")
    inside = fine >= fine.max() / 2
    # The distance to the nearest point outside is half a fine pixel more than that to the outline.
    distance = ndimage.distance_transform_edt(inside)[inside] - 0.5
    return float(4 * distance.mean() / FINER)
