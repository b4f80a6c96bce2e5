"""Data with masks: what a data set must be, scenes of digits, the masks of pets."""

import numpy as np
import pytest
import torch
from PIL import Image

from nclens._torchvision import import_torchvision
from nclens.data import oxford_pets, scenes
from nclens.data.dataset import class_balanced_split
from nclens.data.mnist5k import digits
from nclens.data.raw import RawData
from nclens.data.segmentation import IGNORED, SegmentationDataset
from tests.data import fakes


def made(**changes):
    images, masks = torch.zeros(3, 1, 4, 5, dtype=torch.uint8), torch.zeros(3, 4, 5, dtype=torch.uint8)
    masks[0, 0, 0], masks[1, 1] = 1, IGNORED
    parts = {
        f"{split}_{name}": values
        for split in ("train", "test")
        for name, values in (("inputs", images), ("targets", masks))
    }
    return SegmentationDataset(**parts | {"classes": ["nothing", "thing"]} | changes)


def test_the_manifest_has_the_classes_and_their_shares_of_the_pixels_that_have_one():
    assert made().target_facts == {"classes": ["nothing", "thing"], "pixel_shares": pytest.approx([54 / 55, 1 / 55])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_targets": torch.zeros(3, 5, 5, dtype=torch.uint8)},
            "train masks have 5 x 5 pixels, their images 4 x 5: both must have the same size",
        ),
        ({"test_targets": torch.zeros(2, 4, 5, dtype=torch.uint8)}, r"test masks must be uint8 .* = \(3, 4, 5\), not"),
        ({"train_targets": torch.zeros(3, 4, 5)}, "train masks must be uint8 of shape .*, not torch.float32"),
        (
            {"train_targets": torch.full((3, 4, 5), 2, dtype=torch.uint8)},
            "must have the classes 0..1, or 255 .* have 2",
        ),
        ({"test_targets": torch.full((3, 4, 5), 255, dtype=torch.uint8)}, "test masks have no pixel of a class"),
        (
            {"train_inputs": torch.zeros(3, 7)},
            r"segmentation needs images \(N, C, H, W\), not train inputs of \(3, 7\)",
        ),
        ({"classes": ["one"]}, "segmentation needs 2 to 255 classes, not 1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def blocks(count=20):
    """Digits that are full squares of ink."""
    return torch.full((count, 28, 28), 255, dtype=torch.uint8), torch.arange(count) % 10


def test_scenes_are_the_same_bits_for_a_seed_and_a_smaller_number_the_first_of_them():
    images, masks = scenes.compose(*blocks(), count=4, size=48, seed=3)
    assert (images.shape, masks.shape) == ((4, 1, 48, 48), (4, 48, 48))
    assert images.dtype == masks.dtype == torch.uint8
    for again, first in zip(scenes.compose(*blocks(), count=2, size=48, seed=3), (images, masks), strict=True):
        assert torch.equal(again, first[:2])
    assert not torch.equal(scenes.compose(*blocks(), count=4, size=48, seed=4)[1], masks)


def test_a_pixel_has_the_class_of_the_topmost_digit():
    images, masks = scenes.compose(*blocks(), count=30, size=96, seed=0)
    inked = masks != scenes.BACKGROUND
    assert (images[:, 0][inked] == 255).all()
    assert (images[:, 0][~inked] <= 128).all()
    assert masks.unique().tolist() == list(range(11))
    for mask, inside in zip(masks, inked, strict=True):
        classes = mask[inside].unique()
        assert 1 <= len(classes) <= scenes.MANY
        assert 20**2 <= int(inside.sum()) <= scenes.MANY * 40**2
        # Of the digits of a scene the last is whole: a square of one class, of 20 pixels or more.
        windows = torch.stack([(mask == label).unfold(0, 20, 1).unfold(1, 20, 1).all(-1).all(-1) for label in classes])
        assert windows.any()


def test_ink_covers_by_its_brightness_and_half_of_it_makes_the_class():
    faint = torch.full((1, 28, 28), 120, dtype=torch.uint8)
    for ink, shown in ((faint, scenes.BACKGROUND), (faint + 10, 4)):
        images, masks = scenes.compose(ink, torch.tensor([4]), count=3, size=48, seed=0)
        assert (masks == shown).any()
        assert set(masks.unique().tolist()) <= {shown, scenes.BACKGROUND}
        assert int(images.max()) > int(ink.max())  # what is below shows through


def test_training_scenes_have_training_digits_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(
        scenes,
        "compose",
        lambda images, labels, *rest, **more: seen.append((images, labels)) or compose(images, labels, *rest, **more),
    )
    found = scenes.load(48, 2, 3, train_per_class=6, test_per_class=4, split_seed=5)
    images, labels = digits()
    for (given, classes), index in zip(seen, class_balanced_split(labels, 6, 4, 10, 5), strict=True):
        assert torch.equal(given, images[index, 0])
        assert torch.equal(classes, labels[index])
    assert (len(found.train_inputs), len(found.test_inputs)) == (2, 3)
    assert found.classes == [*"0123456789", "background"]
    assert found.facts == {"digits": {"train": 60, "test": 40}}


compose = scenes.compose


@pytest.mark.parametrize(("key", "value"), [("size", 39), ("count", 0)])
def test_scenes_that_cannot_be_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key}: expected .* or more, got {value}"):
        scenes.compose(*blocks(), **{"count": 1, "size": 48} | {key: value}, seed=0)


EXPECTED = {"train": 9, "test": 6}


@pytest.fixture
def pets(tmp_path):
    """Pictures of 9 x 11 pixels with trimaps; a function that reads them, and the folder of the trimaps."""
    fakes.oxford_pets(tmp_path, import_torchvision().datasets.OxfordIIITPet, None)
    folder = tmp_path / "oxford-iiit-pet" / "annotations" / "trimaps"
    folder.mkdir()
    for picture in (tmp_path / "oxford-iiit-pet" / "images").iterdir():
        trimap = np.full((9, 11), 2, dtype=np.uint8)
        trimap[3:6, 4:7], trimap[2, 4:7] = 1, 3
        Image.fromarray(trimap).save(folder / f"{picture.stem}.png")

    def load(image_size=9, channels=3, train_images=None, test_images=None, expected=EXPECTED):
        raw = RawData(tmp_path, lambda text: None)
        return oxford_pets.load(raw, image_size, channels, train_images, test_images, 0, expected)

    return load, folder


def test_masks_of_pets_have_the_geometry_of_their_images(pets):
    load, _ = pets
    found = load()
    assert found.train_inputs.shape == (9, 3, 9, 9)
    expected = torch.zeros(9, 9, dtype=torch.uint8)
    expected[3:6, 3:6], expected[2, 3:6] = 1, IGNORED  # the centre of 11 columns is cropped
    assert torch.equal(found.train_targets, expected.expand(9, -1, -1))
    assert found.classes == ["background", "pet"]
    some = load(channels=1, train_images=4, test_images=2)
    assert (some.train_inputs.shape, some.test_targets.shape) == ((4, 1, 9, 9), (2, 9, 9))


def test_pets_that_do_not_fit_are_named(pets):
    load, folder = pets
    with pytest.raises(ValueError, match=r"OxfordIIITPet .* has 9 \+ 6 images, not 3,680 \+ 3,669: files are missing"):
        load(expected=None)
    with pytest.raises(ValueError, match=r"train_images = 10: OxfordIIITPet has 9 images in this split"):
        load(train_images=10)
    Image.fromarray(np.full((9, 11), 7, dtype=np.uint8)).save(folder / "Abit_test0.png")
    with pytest.raises(ValueError, match=r"the mask Abit_test0.png has the values \[7\]; allowed: 1, 2, 3"):
        load()
    Image.fromarray(np.full((9, 12), 1, dtype=np.uint8)).save(folder / "Abit_test0.png")
    with pytest.raises(ValueError, match=r"mask Abit_test0.png has 9 x 12 pixels, its image 9 x 11: both must have"):
        load()
