"""Image files in class folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from nclens.data import imagefolder
from nclens.data.raw import RawData
from tests.data import fakes

NAMES = ["cat", "dog", "owl"]


def load(folder, path="pets", **keys):
    defaults = {"image_size": None, "channels": 3, "train_per_class": None, "test_per_class": None, "split_seed": 0}
    return imagefolder.load(RawData(folder), path, **{**defaults, **keys})


def fill(folder, each, size=(8, 8), names=NAMES):
    for name in names:
        for number in range(each):
            fakes.picture(folder / name / f"{number}.png", size)


@pytest.mark.parametrize("test", ["test", "val"])
def test_two_folders_are_two_splits(tmp_path, test):
    fill(tmp_path / "pets" / "train", 4)
    fill(tmp_path / "pets" / test, 2)
    data = load(tmp_path)
    assert data.classes == NAMES
    assert data.train_targets.bincount().tolist() == [4] * 3
    assert data.test_targets.tolist() == [0, 0, 1, 1, 2, 2]
    image = np.array(Image.open(tmp_path / "pets" / "train" / "dog" / "1.png"))
    assert np.array_equal(data.train_inputs[5].permute(1, 2, 0).numpy(), image)


def test_one_folder_is_split_without_overlap(tmp_path):
    fill(tmp_path / "pets", 5)
    data = load(tmp_path, train_per_class=3, test_per_class=2)
    both = torch.cat([data.train_inputs, data.test_inputs]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 15
    assert data.train_targets.bincount().tolist() == [3] * 3
    with pytest.raises(ValueError, match="no separate test split: set `train_per_class` and `test_per_class`"):
        load(tmp_path)


def test_an_absolute_path_is_taken_as_it_is(tmp_path):
    fill(tmp_path / "pets", 5)
    data = load(tmp_path / "nowhere", str(tmp_path / "pets"), train_per_class=3, test_per_class=2)
    assert len(data.train_targets) == 9


def test_images_of_several_sizes_need_one(tmp_path):
    fill(tmp_path / "pets" / "train", 2, (8, 12))
    fill(tmp_path / "pets" / "test", 2, (10, 8))
    with pytest.raises(ValueError, match="the same shape"):
        load(tmp_path)
    data = load(tmp_path, image_size=6, channels=1)
    assert data.train_inputs.shape == (6, 1, 6, 6)
    fakes.picture(tmp_path / "pets" / "train" / "cat" / "9.png", (9, 12))
    with pytest.raises(ValueError, match=r"image 2 has 9 x 12 pixels, the first one 8 x 12; set `image_size`"):
        load(tmp_path)


def test_the_crop_is_central(tmp_path):
    for split in ("train", "test"):
        for name in NAMES:
            for number in range(2):
                image = np.zeros((4, 8, 3), dtype=np.uint8)
                image[:, 2:6] = 200
                (tmp_path / "pets" / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(tmp_path / "pets" / split / name / f"{number}.png")
    assert load(tmp_path, image_size=4).train_inputs.unique().tolist() == [200]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no folder .*pets; `path` is relative to `data_dir`"),
        (lambda root: fill(root / "train", 2), "no test folder; allowed names: test, val"),
        (
            lambda root: (fill(root / "train", 2), fill(root / "test", 2, names=["cat", "dog"])),
            "only in one of them: owl",
        ),
        (lambda root: root.mkdir(), "imagefolder: Couldn't find any class folder"),
        (
            lambda root: (
                fill(root / "train", 2),
                fill(root / "test", 2),
                (root / "test" / "dog" / "0.png").write_bytes(b"no image"),
            ),
            r"test/dog/0\.png cannot be read as an image",
        ),
    ],
)
def test_invalid_folders_are_refused(tmp_path, make, words):
    make(tmp_path / "pets")
    with pytest.raises(ValueError, match=words):
        load(tmp_path)
