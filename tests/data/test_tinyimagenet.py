"""Tiny ImageNet: read from its archive, every image RGB, training and validation split."""

import io
import threading
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from nclens.data import tinyimagenet
from nclens.data.raw import RawData, RawFile
from tests.data import fakes


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The archive of a set of four classes, where data_dir will be."""
    base = fakes.tinyimagenet(tmp_path / "origin")
    path = tmp_path / "data" / "tiny-imagenet-200.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as made:
        for file in sorted(base.rglob("*")):
            made.write(file, file.relative_to(base.parent))
    monkeypatch.setattr(tinyimagenet, "ARCHIVE", RawFile(path.name, f"md5:{fakes.md5(path)}", ("http://127.0.0.1:9/",)))
    monkeypatch.setattr(tinyimagenet, "CLASSES", 4)
    monkeypatch.setattr(tinyimagenet, "SAMPLES", [12, 8])
    return path


def load(folder, **keys):
    return tinyimagenet.load(
        RawData(folder), **{"train_per_class": None, "test_per_class": None, "split_seed": 0, **keys}
    )


def test_both_splits_are_read_in_the_order_of_identifiers(archive):
    data = load(archive.parent)
    assert data.train_inputs.shape == (12, 3, 64, 64)
    assert data.train_inputs.dtype == torch.uint8
    assert data.train_targets.tolist() == sorted([0, 1, 2, 3] * 3)
    assert data.test_targets.bincount().tolist() == [2] * 4
    assert data.classes == [f"word n{number:08d}" for number in (87, 88, 89, 90)]
    with zipfile.ZipFile(archive) as opened:
        image = Image.open(io.BytesIO(opened.read("tiny-imagenet-200/train/n00000087/images/n00000087_1.JPEG")))
    assert np.array_equal(data.train_inputs[1].permute(1, 2, 0).numpy(), np.array(image))


def test_validation_images_have_the_classes_of_their_list(archive):
    data = load(archive.parent)
    # Image i of class k, counted downwards from n90, is val_{4 i + k}; the list is sorted by class.
    assert data.test_targets.tolist() == [3, 3, 2, 2, 1, 1, 0, 0]


def test_grayscale_images_are_converted_to_rgb(archive):
    inputs = load(archive.parent).train_inputs
    grey = (inputs == inputs[:, :1]).flatten(1).all(1)
    assert grey.tolist() == [True, False, False] * 4


def test_subsets_are_balanced(archive):
    data = load(archive.parent, train_per_class=2, test_per_class=2)
    assert data.train_targets.bincount().tolist() == [2] * 4
    with pytest.raises(
        ValueError, match=r"train split: class 0 \(n\d+\) has 3 samples, .* fewer than train_per_class = "
    ):
        load(archive.parent, train_per_class=4)


def test_the_unpacked_folder_will_do(archive, tmp_path):
    assert torch.equal(load(tmp_path / "origin").train_inputs, load(archive.parent).train_inputs)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("wnids.txt", r"has no tiny-imagenet-200/wnids\.txt"),
        ("train/n00000088/images/n00000088_2.JPEG", r"4 classes and 11 \+ 8 images, not 4 and 12 \+ 8"),
        ("val/images/val_3.JPEG", "listed images are missing"),
    ],
)
def test_an_incomplete_folder_is_refused(archive, tmp_path, missing, words):
    (tmp_path / "origin" / "tiny-imagenet-200" / missing).unlink()
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "origin")


def test_a_truncated_archive_is_named_and_not_deleted(archive):
    archive.write_bytes(archive.read_bytes()[:-100])
    content = archive.read_bytes()
    with pytest.raises(OSError, match=r"tiny-imagenet-200\.zip .* is truncated or altered"):
        load(archive.parent)
    assert archive.read_bytes() == content


def test_two_studies_download_it_once(archive, tmp_path, site, monkeypatch):
    site.files["tiny-imagenet-200.zip"] = archive.read_bytes()
    described = RawFile(archive.name, tinyimagenet.ARCHIVE.checksum, (site.url("tiny-imagenet-200.zip"),))
    monkeypatch.setattr(tinyimagenet, "ARCHIVE", described)
    site.pause, made, said = threading.Event(), [], []

    def study():
        raw = RawData(tmp_path / "shared", said.append)
        made.append(tinyimagenet.load(raw, None, None, 0))

    threads = [threading.Thread(target=study) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not any("another process is downloading" in line for line in said):
        assert any(thread.is_alive() for thread in threads)
        threads[0].join(0.01)
    site.pause.set()
    for thread in threads:
        thread.join(60)
    assert len(site.requests) == 1
    assert torch.equal(made[0].train_inputs, made[1].train_inputs)


def test_the_real_archive_is_described_by_a_whole_checksum():
    algorithm, _, checksum = tinyimagenet.ARCHIVE.checksum.partition(":")
    assert (algorithm, len(bytes.fromhex(checksum))) == ("md5", 16)
    assert (tinyimagenet.CLASSES, tinyimagenet.SAMPLES) == (200, [200 * 500, 200 * 50])
