"""Folders of small JPEG files, each class of a colour of its own, as photographs of different sizes."""

import numpy as np
from PIL import Image


def pictures(folder, classes=("cat", "dog", "owl"), train=6, test=4, ending="jpg"):
    """Write `train/` and `test/` with a folder a class, and return the folder."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True)
            for image in range(count):
                picture(random, number / max(1, len(classes) - 1)).save(place / f"{image:03d}.{ending}", quality=90)
    return folder


def picture(random, shade):
    """Return an image of 24 to 48 pixels a side, brighter for a larger shade, with some structure."""
    height, width = random.integers(24, 49, 2)
    low = random.uniform(0, 80, (4, 5, 3)) + 160 * shade
    return Image.fromarray(low.astype(np.uint8)).resize((int(width), int(height)), Image.Resampling.BICUBIC)
