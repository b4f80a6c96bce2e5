"""The script of studies/tsla_full.yaml, on files laid out as the archives of CUB-2011 and Stanford Dogs are."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    monkeypatch.delitem(sys.modules, "tsla_full", raising=False)
    import tsla_full

    return tsla_full


def files(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def sorted_files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.jpg")}


def test_cub_is_sorted_by_its_lists(tmp_path, script):
    files(tmp_path / "images", ["001.A/x.jpg", "001.A/y.jpg", "002.B/x.jpg"])
    (tmp_path / "images.txt").write_text("1 001.A/x.jpg\n2 001.A/y.jpg\n3 002.B/x.jpg\n")
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")
    for _ in range(2):  # again: nothing is in the way
        script.sort(script.cub(tmp_path), tmp_path / "sorted")
    assert sorted_files(tmp_path / "sorted") == {
        "train/001.A/x.jpg": "001.A/x.jpg",
        "test/001.A/y.jpg": "001.A/y.jpg",
        "train/002.B/x.jpg": "002.B/x.jpg",
    }
    (tmp_path / "images/002.B/x.jpg").unlink()
    with pytest.raises(SystemExit, match=r"002\.B/x\.jpg and 0 more files of the lists are missing"):
        script.sort(script.cub(tmp_path), tmp_path / "sorted")


def test_dogs_are_sorted_by_their_lists(tmp_path, script):
    files(tmp_path / "Images", ["n1-Chihuahua/a.jpg", "n1-Chihuahua/b.jpg", "n2-Spaniel/c.jpg"])
    for split, names in (("train", ["n1-Chihuahua/a.jpg", "n2-Spaniel/c.jpg"]), ("test", ["n1-Chihuahua/b.jpg"])):
        savemat(tmp_path / f"{split}_list.mat", {"file_list": np.array(names, dtype=object)[:, None]})
    script.sort(script.dogs(tmp_path), tmp_path / "sorted")
    assert sorted(sorted_files(tmp_path / "sorted")) == [
        "test/n1-Chihuahua/b.jpg",
        "train/n1-Chihuahua/a.jpg",
        "train/n2-Spaniel/c.jpg",
    ]
