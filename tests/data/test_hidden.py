"""Hidden and tool-made files are neither classes nor samples, in every folder that is read."""

import numpy as np
import pytest

from nclens._torchvision import import_torchvision
from nclens.data import arrays, imagefolder, tinyimagenet, torchvision
from nclens.data.hidden import is_hidden, visible
from nclens.data.raw import RawData
from nclens.study.torchvision_sets import SETS
from tests.data import fakes

TOOL_MADE = (
    ".ipynb_checkpoints",
    ".DS_Store",
    "._cat",
    "Thumbs.db",
    "thumbs.db",
    "desktop.ini",
    "Desktop.ini",
    "__MACOSX",
)


@pytest.mark.parametrize("name", TOOL_MADE)
def test_names(name):
    assert is_hidden(name)
    assert is_hidden(f"cat/{name}/1.png")
    assert not is_hidden(f"cat{name}")


def litter(folder, ending="png"):
    """Put hidden folders with images, and tool-made files, into every folder below one."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in (".ipynb_checkpoints", "__MACOSX"):
            fakes.picture(place / name / f"0-checkpoint.{ending}")
        fakes.picture(place / f"._0.{ending}")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"\0")


def test_a_listing_has_no_hidden_names(tmp_path):
    (tmp_path / "cat").mkdir()
    litter(tmp_path)
    assert visible(tmp_path) == [tmp_path / "cat"]


@pytest.mark.parametrize("splits", [("train", "val"), ()])
def test_an_image_folder(tmp_path, splits):
    for split in splits or ("",):
        for name in ("cat", "dog"):
            for number in range(4):
                fakes.picture(tmp_path / "pets" / split / name / f"{number}.png", (8, 8))
    options = {"test_folder": None, "image_size": None, "channels": 3, "train_per_class": 2, "test_per_class": 2}
    before = imagefolder.load(RawData(tmp_path), "pets", **options, split_seed=0)
    litter(tmp_path / "pets")
    said = []
    after = imagefolder.load(RawData(tmp_path, said.append), "pets", **options, split_seed=0)
    assert after.classes == before.classes == ["cat", "dog"]
    assert after.train_inputs.equal(before.train_inputs)
    assert after.test_targets.tolist() == before.test_targets.tolist()
    assert not [line for line in said if "ignored" in line]


def test_a_data_set_below_a_hidden_folder_is_read(tmp_path):
    for name in ("cat", "dog"):
        for number in range(4):
            fakes.picture(tmp_path / ".cache" / "pets" / name / f"{number}.png", (8, 8))
    options = {"test_folder": None, "image_size": None, "channels": 3, "train_per_class": 2, "test_per_class": 2}
    assert imagefolder.load(RawData(tmp_path / ".cache"), "pets", **options, split_seed=0).classes == ["cat", "dog"]


@pytest.mark.parametrize("name", ["Country211", "RenderedSST2", "GTSRB", "Imagenette"])
def test_torchvisions_folders(tmp_path, monkeypatch, name):
    kind = getattr(import_torchvision().datasets, name)
    known = SETS[name]["160px"] if isinstance(SETS[name], dict) else SETS[name]
    build, ending = {
        "Country211": (fakes.country211, "png"),
        "RenderedSST2": (fakes.rendered_sst2, "png"),
        "GTSRB": (fakes.gtsrb, "ppm"),
        "Imagenette": (fakes.imagenette, "JPEG"),
    }[name]
    targets, _ = build(tmp_path, kind, monkeypatch)
    for folder in [path for path in tmp_path.iterdir() if path.is_dir()]:
        litter(folder, ending)
    make_dataset = import_torchvision().datasets.folder.make_dataset
    found = [
        torchvision._targets(split, name)
        for split in torchvision._read(kind, name, [known.train, known.test], RawData(tmp_path))
    ]
    assert [labels.tolist() for labels in found] == [list(labels) for labels in targets]
    assert import_torchvision().datasets.folder.make_dataset is make_dataset


def test_tiny_imagenet_unpacked(tmp_path, monkeypatch):
    fakes.tinyimagenet(tmp_path)
    litter(tmp_path, "JPEG")
    monkeypatch.setattr(tinyimagenet, "CLASSES", 4)
    monkeypatch.setattr(tinyimagenet, "SAMPLES", [12, 8])
    data = tinyimagenet.load(RawData(tmp_path), None, None, 0)
    assert data.train_targets.bincount().tolist() == [3] * 4


def test_members_of_an_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **{"inputs": np.eye(4), "targets": np.arange(4) % 2, "__MACOSX/._inputs": np.eye(1)})
    found = arrays.read_arrays(tmp_path / "a.npz")
    assert sorted(found) == ["inputs", "targets"]
