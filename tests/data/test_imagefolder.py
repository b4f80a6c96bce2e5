"""Image files in class folders."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from nclens.data import imagefolder
from nclens.data.raw import RawData
from tests.data import fakes

NAMES = ["cat", "dog", "owl"]


def load(folder, path="pets", say=print, **keys):
    defaults = {
        "test_folder": None,
        "image_size": None,
        "channels": 3,
        "train_per_class": None,
        "test_per_class": None,
        "split_seed": 0,
    }
    return imagefolder.load(RawData(folder, say), path, **{**defaults, **keys})


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


def test_a_copy_of_a_folder_is_no_other_split(tmp_path):
    fill(tmp_path / "pets" / "train", 4)
    shutil.copytree(tmp_path / "pets" / "train", tmp_path / "pets" / "test")
    with pytest.raises(
        ValueError, match="pets: the splits train and test are the same samples; allowed: other samples"
    ):
        load(tmp_path, train_per_class=2, test_per_class=2)
    Image.new("RGB", (8, 8)).save(tmp_path / "pets" / "test" / "cat" / "0.png")
    assert len(load(tmp_path).test_targets) == 12


def test_val_beside_test_is_the_validation_split(tmp_path):
    for name, each in (("train", 4), ("test", 2), ("valid", 3)):
        fill(tmp_path / "pets" / name, each)
    data = load(tmp_path, train_per_class=2, test_per_class=2)
    assert data.val_targets.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert data.facts == {"test_folder": "test", "val_folder": "valid"}
    assert len(data.val_inputs) == 9
    # A folder of such a name as the test split leaves no validation split, as before there was one.
    data = load(tmp_path, test_folder="valid")
    assert (data.facts, data.val_inputs) == ({"test_folder": "valid"}, None)
    fakes.picture(tmp_path / "pets" / "valid" / "fox" / "0.png", (8, 8))
    with pytest.raises(ValueError, match="valid/ must have classes of train/ alone; it also has fox"):
        load(tmp_path)


def test_a_share_of_one_folder_or_of_train_becomes_the_test_split(tmp_path):
    fill(tmp_path / "pets", 5)
    fill(tmp_path / "pets" / "few", 2, names=[""])
    data = load(tmp_path, test=0.4)
    assert (data.train_targets.bincount().tolist(), data.test_targets.bincount().tolist()) == (
        [3, 3, 1, 3],
        [2, 2, 1, 2],
    )
    fill(tmp_path / "more" / "train", 5)
    fill(tmp_path / "more" / "val", 2)
    data = load(tmp_path, "more", test=0.2)
    assert [len(targets) for _, targets in data.parts.values()] == [12, 3, 6]
    assert data.facts == {"val_folder": "val", "shares": {"test": 0.2, "seed": 0}}
    data = load(tmp_path, "more", validation=0.2)
    assert [len(targets) for _, targets in data.parts.values()] == [12, 6, 3]
    fill(tmp_path / "more" / "test", 2)
    with pytest.raises(ValueError, match=r"more has a split `test` already: leave out `test: 0\.2`"):
        load(tmp_path, "more", test=0.2)
    fakes.picture(tmp_path / "pets" / "fox" / "0.png", (8, 8))
    with pytest.raises(ValueError, match=r"pets: class fox has 1 of the 2 samples that `test: 0\.4` needs"):
        load(tmp_path, test=0.4)


def test_a_test_folder_may_lack_classes(tmp_path):
    fill(tmp_path / "pets" / "train", 2)
    fill(tmp_path / "pets" / "test", 2, names=["owl"])
    assert load(tmp_path).test_targets.tolist() == [2, 2]


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
                image[0, 0] = split == "test"
                (tmp_path / "pets" / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(tmp_path / "pets" / split / name / f"{number}.png")
    assert load(tmp_path, image_size=4).train_inputs.unique().tolist() == [200]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no folder .*pets; `path` is relative to `data_dir`"),
        (lambda root: fill(root / "train", 2), "no test folder; allowed names: test, val"),
        (
            lambda root: (fill(root / "train", 2, names=["cat", "dog"]), fill(root / "test", 2)),
            "test/ must have classes of train/ alone; it also has owl",
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


def test_a_flat_test_folder_does_not_hide_the_validation_split(tmp_path):
    root = tmp_path / "pets"
    fill(root / "train", 4)
    fill(root / "val", 2)
    for number in range(3):
        fakes.picture(root / "test" / f"{number}.png", (8, 8))
    said = []
    data = load(tmp_path, say=said.append)
    assert len(data.test_targets) == 6
    assert data.facts == {"test_folder": "val"}
    assert f"the test split is {root / 'val'}" in said
    with pytest.raises(ValueError, match=r"no class folders in test/; allowed names: test \(`test_folder`\)"):
        load(tmp_path, test_folder="test")


def test_a_key_chooses_the_test_folder(tmp_path):
    fill(tmp_path / "pets" / "train", 4)
    for name, each in (("test", 2), ("val", 3), ("held_out", 4)):
        fill(tmp_path / "pets" / name, each)
    assert load(tmp_path).facts["test_folder"] == "test"
    for name, each in (("val", 3), ("held_out", 4)):
        data = load(tmp_path, test_folder=name)
        assert (data.facts["test_folder"], len(data.test_targets)) == (name, 3 * each)
    with pytest.raises(ValueError, match="no test folder; allowed names: other"):
        load(tmp_path, test_folder="other")
    for name in ("train", "../pets/train", "."):
        with pytest.raises(ValueError, match=r"must be another folder of .* than the training split"):
            load(tmp_path, test_folder=name)
    (tmp_path / "pets" / "train").rename(tmp_path / "pets" / "fit")
    with pytest.raises(ValueError, match=r"test_folder = val: .* has no train/ beside it; it has fit, held_out, test"):
        load(tmp_path, test_folder="val")


def test_splits_are_not_classes(tmp_path):
    for name in ("training", "Test"):
        fill(tmp_path / "pets" / name, 4)
    with pytest.raises(ValueError, match="has the folders Test, training, which are no classes"):
        load(tmp_path, train_per_class=2, test_per_class=2)


@pytest.mark.parametrize(
    ("train", "keys", "words"),
    [
        (1, {}, r"train split: class 1 \(dog\) has 1 samples, fewer than 2, which every class needs"),
        (0, {}, r"train split: class 1 \(dog\) has 0 samples, fewer than 2"),
        (2, {"train_per_class": 3}, r"train split: class 1 \(dog\) has 2 samples, fewer than train_per_class = 3"),
        (4, {"test_per_class": 5}, r"test split: class 0 \(cat\) has 4 samples, .*, fewer than test_per_class = 5"),
    ],
)
def test_a_class_with_too_few_images_is_named(tmp_path, train, keys, words):
    root = tmp_path / "pets"
    for split in ("train", "test"):
        fill(root / split, 4)
    for number in range(train, 4):
        (root / "train" / "dog" / f"{number}.png").unlink()
    with pytest.raises(ValueError, match=words):
        load(tmp_path, **keys)


def test_files_that_are_no_images_are_logged(tmp_path):
    fill(tmp_path / "pets", 4)
    (tmp_path / "pets" / "cat" / "a.gif").write_bytes(b"GIF")
    said = []
    load(tmp_path, train_per_class=2, test_per_class=2, say=said.append)
    assert any("1 files of" in line and "a.gif; read are .jpg" in line for line in said)
