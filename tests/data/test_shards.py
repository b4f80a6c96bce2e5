"""Tar shards give what their files give, and one that is damaged names itself and its member."""

import io
import json
import tarfile

import pytest
import torch

from nclens.data import shards
from nclens.data.prepared import place_splits
from nclens.data.raw import RawData
from nclens.data.shards import expanded, members
from nclens.workflow.stages.prepare import describe
from tests.data import test_stream
from tests.data.pictures import pictures

STREAM = test_stream.SETTINGS


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def pack(folder, files, number=0, split="train", label=lambda name: {"cls": name.encode()}):
    """Write a shard of files, each with what `label` makes of its class."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}-{number:03d}.tar"
    with tarfile.open(path, "w") as tar:
        for file in files:
            add(tar, f"{file.parent.name}_{file.name}", file.read_bytes())
            for ending, content in label(file.parent.name).items():
                add(tar, f"{file.parent.name}_{file.stem}.{ending}", content)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Files, and the same in two training shards and a test shard."""
    folder = tmp_path_factory.mktemp("data")
    pictures(folder / "pets")
    for split, count in (("train", 2), ("test", 1)):
        files = sorted((folder / "pets" / split).rglob("*.jpg"))
        each = len(files) // count
        for number in range(count):
            pack(folder / "shards", files[number * each : (number + 1) * each], number, split)
    return folder


def load(folder, path="shards", **keys):
    few = {"train_shards": "train-{000..001}.tar", "test_shards": "test-*.tar", "val_shards": None, "label_key": None}
    few |= {"class_names": None, "image_size": 16, "channels": 3, "train_per_class": None, "test_per_class": None}
    return shards.load(RawData(folder), path, **{**few, "split_seed": 0, "stream": STREAM, **keys})


def test_shards_give_the_bits_of_their_files(place):
    data, files = load(place), test_stream.load(place)
    assert data.classes == files.classes
    assert torch.equal(data.train_targets, files.train_targets)
    assert data.statistics == files.statistics
    assert data.facts["shards"] == 3
    split, expected = test_stream.placed(data)[0], test_stream.placed(files)[0]
    assert torch.equal(test_stream.epoch(split), test_stream.epoch(expected))
    assert data.files.name(9) == "train-001.tar/dog_003.jpg"


def test_labels_are_numbers_names_or_a_key_of_json(tmp_path, place):
    files = sorted((place / "pets" / "train").rglob("*.jpg"))
    number = {"cat": 2, "dog": 0, "owl": 1}
    pack(tmp_path / "n", files, label=lambda name: {"cls": str(number[name]).encode()})
    data = load(tmp_path, "n", train_shards="train-000.tar", test_shards=None, test=0.5)
    assert data.classes == ["0", "1", "2"]
    (tmp_path / "n" / "names.txt").write_text("dog\nowl\ncat\n")
    data = load(tmp_path, "n", train_shards="train-000.tar", test_shards=None, test=0.5, class_names="names.txt")
    assert data.classes == ["dog", "owl", "cat"]
    assert data.train_targets.tolist() == [2] * 3 + [0] * 3 + [1] * 3
    pack(tmp_path / "j", files, label=lambda name: {"json": json.dumps({"kind": name}).encode()})
    data = load(tmp_path, "j", train_shards="train-000.tar", test_shards=None, test=0.5, label_key="kind")
    assert data.classes == ["cat", "dog", "owl"]
    with pytest.raises(ValueError, match=r"train-000.tar: cat_000.json has no label `species`: KeyError"):
        load(tmp_path, "j", train_shards="train-000.tar", test_shards=None, test=0.5, label_key="species")


def test_names_of_shards_are_expanded(place):
    root = place / "shards"
    assert expanded(root, "train-{000..001}.tar") == ["train-000.tar", "train-001.tar"]
    assert expanded(root, "{train-001,test-000}.tar") == ["train-001.tar", "test-000.tar"]
    assert expanded(root, "t*.tar") == ["test-000.tar", "train-000.tar", "train-001.tar"]
    with pytest.raises(ValueError, match=r"train-002.tar is missing, a shard of train-\{000..002\}.tar"):
        expanded(root, "train-{000..002}.tar")
    with pytest.raises(ValueError, match="no shard is named as val"):
        expanded(root, "val-*.tar")
    with pytest.raises(ValueError, match=r"no shard is named as train-\{001..000\}.tar; allowed: numbers that ascend"):
        expanded(root, "train-{001..000}.tar")
    for leading in (f"{root}/train-*.tar", f"{root}/train-000.tar", "../shards/train-*.tar"):
        with pytest.raises(ValueError, match=r"leads out of .*/shards, the folder `path`; allowed: names of shards"):
            expanded(root, leading)
    with pytest.raises(ValueError, match=r"train-000000002.tar is missing"):
        expanded(root, "train-{000000002..999999999}.tar")
    with pytest.raises(ValueError, match=r"names train-000\.tar twice"):
        expanded(root, "train-{000,000}.tar")
    with pytest.raises(ValueError, match="is a shard of two splits"):
        load(place, test_shards="train-000.tar")


def cut(place, tmp_path, where):
    """A copy of a shard that ends at `where(offset, size)` of its third image."""
    content = (place / "shards" / "train-000.tar").read_bytes()
    name, offset, size = list(members(place / "shards" / "train-000.tar"))[4]
    assert name == "cat_002.jpg"
    path = tmp_path / "short.tar"
    path.write_bytes(content[: where(offset, size)])
    return path


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (
            lambda offset, size: offset + 10,
            r"is cut short: its member cat_002.jpg ends at byte [\d,]+, and the file has",
        ),
        (lambda offset, size: offset - 512, "is cut short or damaged behind its member cat_001.cls"),
        (lambda offset, size: offset - 100, "is cut short or damaged behind its member cat_001.cls"),
        (lambda offset, size: 0, "cannot be read as an uncompressed tar file, behind its beginning: empty file"),
    ],
    ids=["in a member", "between members", "in a header", "empty"],
)
def test_a_shard_that_is_cut_short_names_the_member(place, tmp_path, where, said):
    path = cut(place, tmp_path, where)
    with pytest.raises(ValueError, match=rf"^{path} {said}"):
        list(members(path))


def test_a_shard_that_is_cut_after_it_was_prepared_is_named(tmp_path, place):
    files = sorted((place / "pets" / "train").rglob("*.jpg"))
    path = pack(tmp_path / "s", files)
    data = load(tmp_path, "s", train_shards="train-000.tar", test_shards=None, test=0.5)
    manifest = describe(data)
    split = place_splits(data.tensors, manifest, test_stream.CPU)[0]
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(OSError, match=r"train-000.tar/[a-z]+_\d+.jpg has changed since the data set was prepared \("):
        split.inputs[:]
    with pytest.raises(OSError, match=r"train-000.tar has changed since the data set was prepared \(4,000 bytes"):
        place_splits(data.tensors, manifest, test_stream.CPU)


def test_a_compressed_tar_and_a_sample_without_its_parts_are_refused(tmp_path, place):
    files = sorted((place / "pets" / "train").rglob("*.jpg"))
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.add(files[0], "0.jpg")
    with pytest.raises(ValueError, match=r"a.tar cannot be read as an uncompressed tar file"):
        list(members(tmp_path / "a.tar"))
    pack(tmp_path / "s", files[:3], label=lambda name: {})
    with pytest.raises(ValueError, match=r"train-000.tar: the sample cat_000 has no label, cat_000.cls"):
        load(tmp_path, "s", train_shards="train-000.tar", test_shards=None, test=0.5)
    pack(tmp_path / "s", files[:3], label=lambda name: {"cls": b"0", "png": b""})
    with pytest.raises(ValueError, match=r"cat_000.jpg and cat_000.png are two images of one sample"):
        load(tmp_path, "s", train_shards="train-000.tar", test_shards=None, test=0.5)


@pytest.mark.parametrize(
    ("labels", "keys", "said"),
    [
        (["0", "1", "2", "0"], {}, r"test-000.tar: .* owl_000.jpg is 2, which is none of the classes, 0 to 1$"),
        (["0", "-1", "0", "0"], {}, r"train-000.tar: the label of dog_000.jpg is -1, which is none of the classes"),
        (["a", "b", "c", "a"], {}, r"test-000.tar: the label of owl_000.jpg is c, which is none of the classes, a, b$"),
        (["0", "1", "0", "0"], {"class_names": "one.txt"}, r"train-000.tar: the label of dog_000.jpg is 1, which"),
        (["a", "", "a", "a"], {}, r"train-000.tar: dog_000.cls: the label is empty; allowed: a class number or name"),
    ],
)
def test_a_label_outside_the_classes_names_shard_and_sample(tmp_path, place, labels, keys, said):
    names = iter(labels)
    files = [place / "pets" / "train" / name / "000.jpg" for name in ("cat", "dog", "owl", "cat")]
    for split, chosen in (("train", files[:2]), ("test", files[2:])):
        pack(tmp_path / "s", chosen, split=split, label=lambda _: {"cls": next(names).encode()})
    (tmp_path / "s" / "one.txt").write_text("only\n")
    with pytest.raises(ValueError, match=said):
        load(tmp_path, "s", train_shards="train-000.tar", **keys)


def test_two_labels_of_one_sample_are_refused(tmp_path, place):
    path = pack(tmp_path / "s", [place / "pets" / "train" / "cat" / "000.jpg"])
    with tarfile.open(path, "a") as tar:
        add(tar, "cat_000.cls", b"dog")
    with pytest.raises(ValueError, match=r"train-000.tar: cat_000.cls is a second label of one sample"):
        load(tmp_path, "s", train_shards="train-000.tar", test_shards=None, test=0.5)
