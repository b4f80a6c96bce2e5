"""ImageNet in torchvision's folders: its class order, its names, and its images as torchvision reads them."""

import shutil

import pytest
import torch
from torchvision import datasets

from nclens.data import imagenet
from nclens.data.raw import RawData
from tests.data import test_stream
from tests.data.pictures import pictures

WNIDS = ["n01440764", "n02012849", "n03126707"]
#: In the order of the devkit's own numbers, which is another; two of the classes have one name.
NAMES = {
    "n03126707": ("crane",),
    "n01440764": ("tench", "Tinca tinca"),
    "n02012849": ("crane",),
}


@pytest.fixture
def root(tmp_path):
    folder = pictures(tmp_path / "imagenet", WNIDS, 3, 2, "JPEG")
    (folder / "test").rename(folder / "val")
    torch.save((NAMES, [wnid for wnid in reversed(WNIDS) for _ in range(2)]), folder / "meta.bin")
    return folder


def load(folder, **keys):
    few = {"train_per_class": None, "test_per_class": None, "split_seed": 0, "image_size": 16}
    return imagenet.load(RawData(folder.parent), folder.name, **{**few, "stream": test_stream.SETTINGS, **keys})


def test_classes_and_labels_are_torchvisions(root):
    data = load(root)
    assert data.classes == ["tench", "crane (n02012849)", "crane (n03126707)"]
    assert data.facts["wordnet_ids"] == WNIDS
    for split, name in (("train", "train"), ("test", "val")):
        expected = datasets.ImageNet(root, name)
        assert expected.wnids == WNIDS
        rows, targets = data.parts[split]
        assert targets.tolist() == expected.targets
        assert [str(root / data.files.name(row)) for row in rows[:, 0].tolist()] == [path for path, _ in expected.imgs]


def test_images_are_read_as_torchvision_reads_them(root):
    from torchvision.transforms import v2

    expected = datasets.ImageNet(
        root, "val", transform=v2.Compose([v2.PILToTensor(), v2.Resize(20), v2.CenterCrop(16)])
    )
    _, test = test_stream.placed(load(root))
    assert torch.equal(test.inputs[4:5][0], expected[4][0])


def test_validation_images_without_folders_have_the_classes_of_the_list(root):
    folder = root / "val"
    for number, path in enumerate(sorted(folder.rglob("*.JPEG"))):
        shutil.move(path, folder / f"ILSVRC2012_val_{number:08d}.JPEG")
    for wnid in WNIDS:
        (folder / wnid).rmdir()
    assert load(root).test_targets.tolist() == [2, 2, 1, 1, 0, 0]
    (folder / "ILSVRC2012_val_00000003.JPEG").unlink()
    with pytest.raises(
        ValueError, match=r"val has 5 files and no folders of classes, and meta.bin lists the classes of 6"
    ):
        load(root)


def test_a_folder_of_another_layout_is_refused(root):
    shutil.rmtree(root / "train" / WNIDS[0])
    with pytest.raises(ValueError, match=r"train/ and the 3 classes of meta.bin differ in n01440764; allowed"):
        load(root)
    (root / "meta.bin").write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match=r"^.*meta.bin cannot be read as torchvision's meta.bin; delete it, and [^\n]*$"
    ):
        load(root)
    (root / "meta.bin").unlink()
    with pytest.raises(ValueError, match=r"val must have classes of train/ alone; it also has n01440764"):
        load(root)
    shutil.rmtree(root / "val")
    with pytest.raises(ValueError, match=r"val is missing; torchvision.datasets.ImageNet\(FOLDER, split\)"):
        load(root)


def test_without_the_list_classes_are_called_by_their_identifiers(root):
    (root / "meta.bin").unlink()
    assert load(root).classes == WNIDS


@pytest.mark.parametrize("left", ["train/n02012849.tar", "val/ILSVRC2012_val_00000001.JPEG"])
def test_an_unpacking_that_was_interrupted_is_refused(root, left):
    (root / left).write_bytes(b"of an archive")
    folder, name = left.split("/")
    with pytest.raises(ValueError, match=rf"{folder} has 1 files beside the folders of classes, as {name}, which"):
        load(root)
