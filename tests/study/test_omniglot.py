"""The data of studies/many_classes_omniglot.yaml, on a part of the real archive where it is."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nclens._torchvision import import_torchvision

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT.parent / "shared/data/omniglot/images_background_small1.zip"


@pytest.mark.skipif(not ARCHIVE.exists(), reason="needs Omniglot's small archive")
def test_characters_are_split_by_the_people_who_drew_them(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    monkeypatch.delitem(sys.modules, "omniglot", raising=False)
    from omniglot import characters

    with zipfile.ZipFile(ARCHIVE) as archive:
        wanted = [name for name in archive.namelist() if "/character01/" in name or "/character02/" in name]
        archive.extractall(tmp_path / "omniglot-py", wanted)
    (tmp_path / "omniglot-py" / "images_background_small1").rename(tmp_path / "omniglot-py" / "images_background")
    kind = import_torchvision().datasets.Omniglot
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)  # of the whole archive
    found = characters(str(tmp_path), side=14, download=False)
    classes = len(np.unique(found["train_targets"]))
    assert classes >= 10
    assert found["train_inputs"].shape == (15 * classes, 14, 14)
    assert found["test_inputs"].shape == (5 * classes, 14, 14)
    assert np.bincount(found["test_targets"]).tolist() == [5] * classes
    assert found["train_inputs"].dtype == np.uint8
    assert 0 < found["train_inputs"].mean() < 80  # ink is bright on a dark ground
