"""torchvision's data sets: read from verified files, downloaded if missing, as uint8 with classes from 0."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nclens._torchvision import import_torchvision
from nclens.data.raw import RawData
from nclens.data.torchvision_files import archives_of
from nclens.study.datasets import Torchvision
from nclens.study.torchvision_sets import SETS
from nclens.workflow.build.data import load_dataset
from tests.data import fakes

LAYOUTS = {
    "CIFAR10": fakes.cifar,
    "CIFAR100": lambda *place: fakes.cifar(*place, classes=100),
    "STL10": fakes.stl10,
    "MNIST": fakes.mnist,
    "FashionMNIST": fakes.mnist,
    "KMNIST": fakes.mnist,
    "EMNIST": fakes.emnist_letters,
    "QMNIST": fakes.qmnist,
    "USPS": fakes.usps,
    "SVHN": fakes.svhn,
    "FER2013": fakes.fer2013,
    "Country211": fakes.country211,
    "RenderedSST2": fakes.rendered_sst2,
    "DTD": fakes.dtd,
    "Flowers102": fakes.flowers102,
    "Food101": fakes.food101,
    "GTSRB": fakes.gtsrb,
    "Imagenette": fakes.imagenette,
    "OxfordIIITPet": fakes.oxford_pets,
}
VARIANTS = {"EMNIST": "letters", "Imagenette": "160px"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def kind_of():
    datasets = import_torchvision().datasets
    return lambda name: getattr(datasets, name)


def load(folder, name, targets, said=None, **keys):
    """Load a fake set as its entry would, but for the numbers of classes and samples."""
    known = SETS[name][VARIANTS[name]] if name in VARIANTS else SETS[name]
    size = None if known.shape else 8
    entry = Torchvision(source="torchvision", name=name, variant=VARIANTS.get(name), **{"image_size": size, **keys})
    specification = entry.specification()
    specification.pop("normalisation")
    specification["expected"] = {"classes": len(set(targets[0])), "samples": [len(part) for part in targets]}
    return load_dataset(specification, RawData(folder, said.append if said is not None else print))


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_from_its_layout(name, folder, kind_of, monkeypatch):
    targets, images = LAYOUTS[name](folder, kind_of(name), monkeypatch)
    before = sorted(folder.rglob("*"))
    data = load(folder, name, targets)
    assert data.train_targets.tolist() == targets[0]
    assert data.test_targets.tolist() == targets[1]
    assert data.train_inputs.dtype == torch.uint8
    known = SETS[name][VARIANTS[name]] if name in VARIANTS else SETS[name]
    assert tuple(data.train_inputs.shape[1:]) == (known.shape or (3, 8, 8))
    if images is not None:
        assert torch.equal(data.train_inputs, torch.from_numpy(images[0]))
        assert torch.equal(data.test_inputs, torch.from_numpy(images[1]))
    assert len(data.classes) == len(set(data.classes)) == len(set(targets[0]))
    assert data.citation
    assert sorted(folder.rglob("*")) == before


def test_classes_have_torchvisions_names(folder, kind_of, monkeypatch):
    targets, _ = fakes.cifar(folder, kind_of("CIFAR10"), monkeypatch)
    assert load(folder, "CIFAR10", targets).classes == [f"c{number}" for number in range(10)]
    targets, _ = fakes.emnist_letters(folder, kind_of("EMNIST"), monkeypatch)
    assert load(folder, "EMNIST", targets).classes[:3] == ["a", "b", "c"]
    targets, _ = fakes.imagenette(folder, kind_of("Imagenette"), monkeypatch)
    assert load(folder, "Imagenette", targets).classes == ["tench", "English springer", "cassette player"]
    targets, _ = fakes.svhn(folder, kind_of("SVHN"), monkeypatch)
    assert load(folder, "SVHN", targets).classes == list("0123456789")


def test_subsets_are_balanced_seeded_and_of_the_whole(folder, kind_of, monkeypatch):
    targets, images = fakes.cifar(folder, kind_of("CIFAR10"), monkeypatch, each=(20, 5))
    data = load(folder, "CIFAR10", targets, train_per_class=4, test_per_class=3)
    assert data.train_targets.bincount().tolist() == [4] * 10
    assert data.test_targets.bincount().tolist() == [3] * 10
    whole = {image.tobytes(): target for image, target in zip(images[0], targets[0], strict=True)}
    for image, target in zip(data.train_inputs, data.train_targets, strict=True):
        assert whole[image.numpy().tobytes()] == target
    again = load(folder, "CIFAR10", targets, train_per_class=4)
    assert torch.equal(again.train_inputs, data.train_inputs)
    assert len(again.test_targets) == 50
    other = load(folder, "CIFAR10", targets, train_per_class=4, split_seed=1)
    assert not torch.equal(other.train_inputs, data.train_inputs)
    with pytest.raises(
        ValueError, match=r"CIFAR10, test split: class 0 \(c0\) has 5 samples, .*, fewer than test_per_class = "
    ):
        load(folder, "CIFAR10", targets, test_per_class=6)


def test_images_are_scaled_and_centrally_cropped(folder, kind_of, monkeypatch):
    targets, images = fakes.cifar(folder, kind_of("CIFAR10"), monkeypatch)
    assert load(folder, "CIFAR10", targets, image_size=16).train_inputs.shape == (40, 3, 16, 16)
    same = load(folder, "CIFAR10", targets, image_size=32)
    assert torch.equal(same.train_inputs, torch.from_numpy(images[0]))


def test_an_incomplete_set_is_refused(folder, kind_of, monkeypatch):
    targets, _ = fakes.mnist(folder, kind_of("MNIST"), monkeypatch)
    with pytest.raises(ValueError, match=r"MNIST in .* has 10 classes and 30 \+ 20 images, not 10 and 30 \+ 21"):
        load(folder, "MNIST", [targets[0], [*targets[1], 0]])


@pytest.fixture
def served(tmp_path, folder, site, kind_of, monkeypatch):
    """CIFAR10 on a server and nowhere else: its class labels and images."""
    kind = kind_of("CIFAR10")
    (tmp_path / "origin").mkdir()
    made = fakes.cifar(tmp_path / "origin", kind, monkeypatch)
    site.files[kind.filename] = fakes.packed(tmp_path / "origin", tmp_path / "packed.tar.gz")
    monkeypatch.setattr(kind, "url", site.url(kind.filename))
    monkeypatch.setattr(kind, "tgz_md5", fakes.md5(tmp_path / "packed.tar.gz"))
    return made


def test_a_missing_set_is_downloaded_unpacked_and_then_reused(served, site, folder):
    (targets, images), said = served, []
    data = load(folder, "CIFAR10", targets, said)
    assert torch.equal(data.train_inputs, torch.from_numpy(images[0]))
    assert [path for path, _ in site.requests] == ["cifar-10-python.tar.gz"]
    assert any("is missing: downloading http" in line for line in said)
    left = {path.name for path in folder.iterdir()}
    assert left == {".CIFAR10.lock", "cifar-10-batches-py", "cifar-10-python.tar.gz"}
    again = load(folder, "CIFAR10", targets)
    assert torch.equal(again.test_inputs, torch.from_numpy(images[1]))
    assert len(site.requests) == 1


def test_a_broken_download_is_resumed(served, site, folder):
    (targets, images), content = served, site.files["cifar-10-python.tar.gz"]
    (folder / "cifar-10-python.tar.gz.part").write_bytes(content[:5000])
    assert torch.equal(load(folder, "CIFAR10", targets).train_inputs, torch.from_numpy(images[0]))
    assert site.requests == [("cifar-10-python.tar.gz", "bytes=5000-")]


def test_an_archive_alone_is_unpacked_and_nothing_downloaded(served, site, folder):
    (targets, images), content = served, site.files.pop("cifar-10-python.tar.gz")
    (folder / "cifar-10-python.tar.gz").write_bytes(content)
    assert torch.equal(load(folder, "CIFAR10", targets).train_inputs, torch.from_numpy(images[0]))
    assert not site.requests


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-batches-py/data_batch_3"])
def test_a_damaged_file_is_named_and_neither_used_nor_replaced(served, site, folder, name):
    targets, _ = served
    load(folder, "CIFAR10", targets)
    damaged = (folder / name).read_bytes()[:-7]
    (folder / name).write_bytes(damaged)
    with pytest.raises(OSError, match=rf"{name} \([\d,]+ bytes\) is truncated or altered: its MD5 is"):
        load(folder, "CIFAR10", targets)
    assert (folder / name).read_bytes() == damaged
    assert len(site.requests) == 1


def test_a_missing_part_is_unpacked_again_beside_the_others(served, site, folder):
    targets, images = served
    load(folder, "CIFAR10", targets)
    (folder / "cifar-10-batches-py" / "data_batch_3").unlink()
    kept = (folder / "cifar-10-batches-py" / "data_batch_2").stat()
    assert torch.equal(load(folder, "CIFAR10", targets).train_inputs, torch.from_numpy(images[0]))
    assert (folder / "cifar-10-batches-py" / "data_batch_2").stat().st_mtime_ns == kept.st_mtime_ns
    assert len(site.requests) == 1


def test_what_a_killed_process_left_half_unpacked_does_no_harm(served, site, folder):
    targets, images = served
    left = folder / ".cifar-10-python.tar.gz.unpacked" / "cifar-10-batches-py"
    left.mkdir(parents=True)
    (left / "data_batch_1").write_bytes(b"half")
    assert torch.equal(load(folder, "CIFAR10", targets).train_inputs, torch.from_numpy(images[0]))
    assert not left.exists()


def test_without_a_network_the_message_says_what_to_put_where(served, site, folder):
    targets, _ = served
    site.files.clear()
    with pytest.raises(OSError, match="404") as caught:
        load(folder, "CIFAR10", targets)
    assert f"{site.url('cifar-10-python.tar.gz')}  ->  {folder / 'cifar-10-python.tar.gz'}" in str(caught.value)


def test_mnist_is_fetched_from_the_mirror_that_has_it(tmp_path, folder, site, kind_of, monkeypatch):
    kind = kind_of("MNIST")
    targets, images = fakes.gzipped(tmp_path / "origin", kind, monkeypatch)
    for name, _ in kind.resources:
        site.files[f"second/{name}"] = (tmp_path / "origin" / "MNIST" / "raw" / name).read_bytes()
    monkeypatch.setattr(kind, "mirrors", [site.url("first/"), site.url("second/")])
    assert torch.equal(load(folder, "MNIST", targets).train_inputs, torch.from_numpy(images[0]))
    assert [path for path, _ in site.requests[:2]] == [
        f"{place}/train-images-idx3-ubyte.gz" for place in ("first", "second")
    ]


def test_all_files_of_a_set_are_named_when_none_can_be_had(folder, site, kind_of, monkeypatch):
    monkeypatch.setattr(kind_of("MNIST"), "mirrors", [site.url("first/")])
    with pytest.raises(OSError, match="missing") as caught:
        load(folder, "MNIST", [[0], [0]])
    for name, md5 in kind_of("MNIST").resources:
        assert f"{site.url('first')}/{name}  ->  {folder / 'MNIST' / 'raw' / name}  (md5 {md5})" in str(caught.value)


def test_unpacked_files_are_compared_with_their_archives(folder, kind_of, monkeypatch):
    targets, images = fakes.gzipped(folder, kind_of("MNIST"), monkeypatch)
    assert torch.equal(load(folder, "MNIST", targets).train_inputs, torch.from_numpy(images[0]))
    unpacked = folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = unpacked.read_bytes()
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[:-9], content + b"more"):
        unpacked.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte is truncated or altered"):
            load(folder, "MNIST", targets)
        assert unpacked.read_bytes() == damaged


def test_unpacked_files_without_a_checksum_are_reported(folder, kind_of, monkeypatch):
    targets, _ = fakes.mnist(folder, kind_of("MNIST"), monkeypatch)
    said = []
    load(folder, "MNIST", targets, said)
    assert ["no checksum" in line for line in said] == [True]
    unpacked = folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    unpacked.write_bytes(unpacked.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"MNIST in .* cannot be read .* move its unpacked files away"):
        load(folder, "MNIST", targets)


def test_other_content_than_the_archives_is_never_written_over(tmp_path, folder, kind_of, monkeypatch):
    kind = kind_of("RenderedSST2")
    (tmp_path / "origin").mkdir()
    targets, _ = fakes.rendered_sst2(tmp_path / "origin", kind, monkeypatch)
    archive = folder / "rendered-sst2.tgz"
    fakes.packed(tmp_path / "origin", archive)
    monkeypatch.setattr(kind, "_MD5", fakes.md5(archive))
    other = folder / "rendered-sst2" / "train" / "positive" / "0.png"
    fakes.picture(other)
    content = other.read_bytes()
    with pytest.raises(ValueError, match=r"train/positive/0\.png is truncated or altered: it differs from its archive"):
        load(folder, "RenderedSST2", targets)
    assert other.read_bytes() == content
    other.unlink()
    assert load(folder, "RenderedSST2", targets).train_targets.tolist() == targets[0]


def test_stl10_needs_no_unlabelled_images(folder, kind_of, monkeypatch):
    targets, images = fakes.stl10(folder, kind_of("STL10"), monkeypatch)
    data = load(folder, "STL10", targets)
    assert torch.equal(data.test_inputs, torch.from_numpy(images[1]))
    assert data.classes == [f"c{number}" for number in range(10)]
    assert not (folder / "stl10_binary" / "unlabeled_X.bin").exists()


def test_a_set_that_cannot_be_downloaded_says_where_it_is_had(folder, kind_of):
    with pytest.raises(ValueError, match=r"FER2013 must be put into .* by hand: train\.csv not found .*kaggle"):
        load(folder, "FER2013", [[0], [0]])


def test_torchvisions_own_download_functions_come_back(served, site, folder, kind_of):
    module = sys.modules[kind_of("CIFAR10").__module__]
    before = module.download_and_extract_archive
    load(folder, "CIFAR10", served[0])
    shutil.rmtree(folder / "cifar-10-batches-py")
    (folder / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(OSError, match="truncated"):
        load(folder, "CIFAR10", served[0])
    assert module.download_and_extract_archive is before


def test_grey_images_have_one_channel(folder, kind_of, monkeypatch):
    targets, images = fakes.mnist(folder, kind_of("KMNIST"), monkeypatch)
    data = load(folder, "KMNIST", targets)
    assert np.array_equal(data.test_inputs[:, 0].numpy(), images[1][:, 0])


@pytest.mark.parametrize("name", sorted(set(SETS) - {"FER2013"}))
def test_addresses_and_checksums_of_every_set_come_from_torchvision(name, kind_of, monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    entry = SETS[name]
    for known in entry.values() if isinstance(entry, dict) else [entry]:
        files = archives_of(kind_of(name), [known.train, known.test])
        assert files
        for file in files:
            assert re.fullmatch("md5:[0-9a-f]{32}", file.checksum)
            assert not Path(file.path).is_absolute()
            assert all(url.startswith("http") and url.endswith(Path(file.path).name) for url in file.urls)
    if name == "MNIST":
        assert [len(file.urls) for file in files] == [2] * 4
        assert files[0].path == "MNIST/raw/train-images-idx3-ubyte.gz"
