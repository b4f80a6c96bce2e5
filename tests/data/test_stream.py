"""Images that stay in their files: the same bits for any number of workers, and one message for what is wrong."""

import hashlib
import os

import numpy as np
import pytest
import torch
from PIL import Image

from nclens.data import imagefolder
from nclens.data.alterations import altered
from nclens.data.chosen_classes import choose_classes
from nclens.data.prepared import place_splits
from nclens.data.raw import RawData
from nclens.data.stream_dataset import refuse_alike
from nclens.data.stream_files import Files, StreamError
from nclens.data.stream_transforms import augmentation, decoded, drawn, evaluation, pixels, sample_seed
from nclens.workflow.stages.prepare import describe
from tests.data.pictures import pictures
from tests.process import python

SETTINGS = {
    "resize_size": 20,
    "interpolation": "bilinear",
    "random_resized_crop": {"scale": [0.08, 1.0], "ratio": [0.75, 1.3333]},
    "horizontal_flip": 0.5,
    "rand_augment": {"num_ops": 2, "magnitude": 9, "num_magnitude_bins": 31},
    "skip_damaged": False,
    "checksum": False,
    "workers": 0,
}
CPU = torch.device("cpu")

#: Kills the process that reads images, while an epoch goes on.
KILLED = """
import sys
from pathlib import Path
import psutil, torch
from nclens.workflow.failures import lost_readers
from tests.data.test_stream import load, placed

arriving = placed(load(Path(sys.argv[1])), workers=1)[0].arriving(torch.arange(9).repeat(50).view(-1, 3), 0)
next(arriving)
try:
    with lost_readers():
        psutil.Process().children()[0].kill()
        list(arriving)
except OSError as error:
    print(error)
"""


def load(folder, say=print, image_size=16, channels=3, **keys):
    stream = {key: keys.pop(key, value) for key, value in SETTINGS.items()}
    few = {"test_folder": None, "train_per_class": None, "test_per_class": None, "split_seed": 0} | keys
    return imagefolder.load(
        RawData(folder, say), "pets", image_size=image_size, channels=channels, stream=stream, **few
    )


def placed(data, workers=0, device=CPU):
    """The training and the test split of a data set as its prepared file gives them back."""
    tensors = {name: values.clone() for name, values in data.tensors.items()}
    return place_splits(tensors, describe(data) | {"workers": workers}, device)


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pictures(folder / "pets")
    return folder


@pytest.fixture
def own(tmp_path):
    """Files that a test may damage."""
    pictures(tmp_path / "pets", train=3, test=2)
    return tmp_path


def epoch(split, seed=7, start=0):
    """The augmented images of an epoch of four batches, from one of its steps on."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:16].view(4, 4)
    return torch.cat(list(split.arriving(order[start:], seed)))


def test_the_files_are_listed_and_the_labels_are_in_memory(pets):
    data = load(pets)
    assert data.classes == ["cat", "dog", "owl"]
    assert data.train_targets.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert [data.files.name(row) for row in (0, 6, 29)] == [
        "train/cat/000.jpg",
        "train/dog/000.jpg",
        "test/owl/003.jpg",
    ]
    described = describe(data)
    assert (described["train"], described["test"], described["shape"]) == (18, 12, [3, 16, 16])
    assert described["bytes"] == sum(path.stat().st_size for path in (pets / "pets").rglob("*.jpg"))
    assert (described["storage"], described["root"]) == ("stream", str(pets / "pets"))


def test_evaluation_is_torchvisions_resize_and_centre_crop(pets):
    from torchvision.transforms import v2

    _, test = placed(load(pets))
    with Image.open(pets / "pets" / "test" / "dog" / "001.jpg") as picture:
        stored = v2.functional.pil_to_tensor(picture)
    expected = v2.CenterCrop(16)(v2.Resize(20)(stored))
    assert torch.equal(test.inputs[torch.tensor([5])][0], expected)
    assert torch.equal(test.inputs[5:6][0], expected)


def test_mean_and_deviation_are_those_of_the_training_images_as_evaluation_sees_them(pets):
    data = load(pets)
    train, _ = placed(data)
    mean, std = data.statistics
    values = train.inputs[:].double() / 255
    assert torch.allclose(values.mean((0, 2, 3)), torch.tensor(mean, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(values.std((0, 2, 3), correction=0), torch.tensor(std, dtype=torch.float64), atol=1e-12)


@pytest.mark.lengthy
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_no_bit(pets, workers):
    train, test = placed(load(pets), workers)
    alone, test_alone = placed(load(pets))
    for seed in (7, 8):  # the workers stay for the second epoch
        assert torch.equal(epoch(train, seed), epoch(alone, seed))
    found = [torch.cat([images for images, _ in split.batches(5)]) for split in (test, test_alone)]
    assert torch.equal(*found)
    assert load(pets, workers=workers).statistics == load(pets).statistics


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.lengthy)])
def test_an_epoch_goes_on_from_any_step_with_the_same_bits(pets, workers):
    train, _ = placed(load(pets), workers)
    whole = epoch(train)
    assert whole.shape == (16, 3, 16, 16)
    for start in (1, 3):
        assert torch.equal(epoch(train, start=start), whole[4 * start :])


def test_draws_are_a_samples_own_and_others_of_another_epoch(pets):
    train, _ = placed(load(pets))
    one = next(iter(train.arriving(torch.tensor([[3, 5]]), 7)))
    other = next(iter(train.arriving(torch.tensor([[5, 9, 3]]), 7)))
    assert torch.equal(one[0], other[2])
    assert torch.equal(one[1], other[0])
    again = next(iter(train.arriving(torch.tensor([[3, 5]]), 8)))
    assert not torch.equal(one, again)
    assert (
        len({sample_seed(7, index) for index in range(1000)} | {sample_seed(8, index) for index in range(1000)}) == 2000
    )


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.lengthy)])
def test_the_generator_that_layers_draw_from_stays_as_it_is(pets, workers):
    train, test = placed(load(pets), workers)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    epoch(train)
    list(test.batches(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_draws_as_torchvision_does_with_the_samples_seed(pets):
    from torchvision.transforms import v2

    settings = SETTINGS | {"image_size": 16, "rand_augment": None}
    content = (pets / "pets" / "train" / "cat" / "000.jpg").read_bytes()
    image = decoded(content, "cat", 3, plain=False)
    found = drawn(augmentation(settings), image, 11)
    torch.manual_seed(11)
    crop = v2.RandomResizedCrop(16, scale=(0.08, 1.0), ratio=(0.75, 1.3333))
    assert torch.equal(found, v2.RandomHorizontalFlip(0.5)(crop(pixels(image))))


def test_without_a_random_crop_training_takes_what_evaluation_takes(pets):
    keys = {"random_resized_crop": None, "horizontal_flip": 0.0, "rand_augment": None}
    train, _ = placed(load(pets, **keys))
    images = next(iter(train.arriving(torch.tensor([[0, 4]]), 7)))
    assert torch.equal(images, train.inputs[torch.tensor([0, 4])])


def test_grey_images_have_one_channel(pets):
    data = load(pets, channels=1)
    train, _ = placed(data)
    assert data.input_shape == [1, 16, 16]
    assert epoch(train).shape == (16, 1, 16, 16)
    settings = SETTINGS | {"image_size": 16}
    content = (pets / "pets" / "train" / "cat" / "000.jpg").read_bytes()
    assert torch.equal(train.inputs[:1][0], evaluation(settings)(decoded(content, "cat", 1, plain=False)))


def test_the_exif_orientation_is_applied_but_where_torchvision_passes_over_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    white_above = np.zeros((8, 8, 3), dtype=np.uint8)
    white_above[:4] = 255
    Image.fromarray(white_above).save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    assert pixels(decoded(content, "a", 3, plain=False))[0, :, 0].tolist() == [0] * 4 + [255] * 4
    assert pixels(decoded(content, "a", 3, plain=True))[0, :, 0].tolist() == [255] * 4 + [0] * 4


def test_imbalance_label_noise_and_chosen_classes_are_as_of_stored_images(pets):
    data = load(pets)
    made = altered(data, {"kind": "step", "ratio": 3, "seed": 1}, {"share": 0.25, "seed": 2})
    assert made.train_clean_targets.bincount().tolist() == [6, 6, 2]
    assert int((made.train_targets != made.train_clean_targets).sum()) == 4  # 14 / 4, rounded half up
    kept = made.train_inputs[:, 0].tolist()
    assert [int(data.train_targets[row]) for row in kept] == made.train_clean_targets.tolist()
    assert set(made.tensors) >= {"train.clean_targets", "files.names"}
    train, test = placed(made)
    assert torch.equal(train.inputs[12:14], placed(data)[0].inputs[torch.tensor(kept[12:])])
    assert len(test) == 12
    chosen = choose_classes(data, [2, 0])
    assert chosen.classes == ["owl", "cat"]
    assert torch.equal(placed(chosen)[0].inputs[:6], placed(data)[0].inputs[:6])


def test_a_subset_keeps_its_files_alone(pets):
    data = load(pets, train_per_class=2, test_per_class=2)
    assert len(Files.from_tensors(data.tensors)) == 12
    train, test = placed(data)
    assert [len(split) for split in (train, test)] == [6, 6]
    assert torch.equal(train.subset(torch.tensor([4])).inputs[:], train.inputs[4:5])


def test_the_digest_of_the_prepared_data_is_of_names_sizes_and_settings(own):
    from nclens.workflow.files import tensors_digest

    before = tensors_digest(load(own).tensors)
    assert tensors_digest(load(own).tensors) == before
    assert tensors_digest(load(own, horizontal_flip=0.25).tensors) != before
    (own / "pets" / "train" / "cat" / "000.jpg").rename(own / "pets" / "train" / "cat" / "zzz.jpg")
    assert tensors_digest(load(own).tensors) != before


# --- bad input -------------------------------------------------------------------------------------------------------


def damage(folder, name="train/dog/001.jpg"):
    path = folder / "pets" / name
    path.write_bytes(path.read_bytes()[:200])
    return path


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.lengthy)])
def test_a_damaged_file_names_itself(own, workers):
    path = damage(own)
    data = load(own, workers=workers)
    with pytest.raises(
        StreamError, match=rf"^{path} cannot be read as an image: .*; `skip_damaged: true` leaves out such files$"
    ):
        data.statistics  # noqa: B018
    manifest = {"mean": [0.5] * 3, "std": [0.2] * 3, "root": str(own / "pets"), "workers": workers}
    train, _ = place_splits(data.tensors, manifest, CPU)
    with pytest.raises(
        StreamError, match=rf"^{path} cannot be read as an image: .*; `skip_damaged: true` leaves out such files$"
    ):
        list(train.batches(3))


@pytest.mark.parametrize("plain", [False, True])
def test_a_file_of_no_known_format_is_one_clear_line(plain):
    with pytest.raises(ValueError, match=r"^a/b\.jpg cannot be read as an image: Pillow knows no such format$"):
        decoded(b"no image", "a/b.jpg", 3, plain)


@pytest.mark.lengthy
def test_a_reader_that_is_killed_is_one_message(own):
    """In a process of its own: PyTorch's handler of the signal raises wherever that is."""
    done = python(KILLED, str(own), cwd=own)
    *_, said = done.stdout.splitlines()
    assert said.startswith("a process that reads images was killed; the same command goes on. "), done.stderr
    assert "PyTorch says: DataLoader worker " in said


def test_damaged_files_are_skipped_and_counted_where_that_is_asked_for(own):
    damage(own)
    damage(own, "test/owl/000.jpg")
    said = []
    data = load(own, said.append, skip_damaged=True)
    assert data.facts["skipped"] == {"train": 1, "test": 1}
    assert data.train_targets.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert next(line for line in said if "cannot be read" in line).startswith(f"skipped: {own}/pets/train/dog/001.jpg")
    assert "2 files that cannot be read are skipped" in said[-1]
    train, test = placed(data)
    assert [len(split.inputs[:]) for split in (train, test)] == [8, 5]
    names = [data.files.name(row) for row in data.train_inputs[:, 0].tolist()]
    assert "train/dog/001.jpg" not in names


@pytest.mark.parametrize(
    ("edit", "how"),
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: path.write_bytes(path.read_bytes() + b"1"), r"[\d,]+ bytes, [\d,]+ then"),
    ],
    ids=["gone", "longer"],
)
def test_a_folder_that_has_changed_names_the_file(own, edit, how):
    data = load(own)
    manifest = describe(data)
    path = own / "pets" / "test" / "cat" / "001.jpg"
    train, test = placed(data)
    edit(path)
    said = rf"{path} has changed since the data set was prepared \({how}\): put it back, or run the same command again"
    with pytest.raises(StreamError, match=said):
        test.inputs[:]
    with pytest.raises(StreamError, match=said):
        place_splits(data.tensors, manifest, CPU)
    assert len(train.inputs[:]) == 9


def test_a_file_that_may_not_be_read_is_not_said_to_have_changed(own, monkeypatch):
    data = load(own)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(StreamError, match=r"pets/train/cat/000\.jpg cannot be read: Permission denied$"):
        data.files.content(data.root, 0)


def test_the_log_counts_images_that_are_in_no_folder_of_a_class(own):
    os.rename(own / "pets" / "train" / "cat" / "000.jpg", own / "pets" / "train" / "loose.jpg")
    said = []
    assert len(load(own, said.append).train_targets) == 8
    assert f"1 images of {own}/pets/train are in no folder of a class and are ignored, as loose.jpg" in said


def test_the_checksum_finds_an_edit_that_the_size_does_not(own):
    path = own / "pets" / "test" / "cat" / "001.jpg"
    data, plain = load(own, checksum=True), load(own)
    row = next(row for row in range(len(data.files)) if data.files.name(row) == "test/cat/001.jpg")
    content = path.read_bytes()
    assert data.files.digests[row].numpy().tobytes() == hashlib.sha256(content).digest()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(StreamError, match=rf"{path} has changed .*another content, by its SHA-256"):
        placed(data)[1].inputs[:]
    assert len(placed(plain)[1].inputs[:]) == 6


def test_two_classes_of_one_name_are_refused(tmp_path):
    pictures(tmp_path / "pets", ["Cat", "cat"], 2, 2)
    with pytest.raises(ValueError, match=r"pets: the classes 0 \('Cat'\) and 1 \('cat'\) have one name"):
        load(tmp_path)
    with pytest.raises(ValueError, match="have one name"):
        refuse_alike(["caf\u00e9", "cafe\u0301"], "drinks")


def test_a_name_with_a_line_feed_is_refused(own):
    os.rename(own / "pets" / "train" / "cat" / "000.jpg", own / "pets" / "train" / "cat" / "0\n0.jpg")
    with pytest.raises(ValueError, match="has a line feed in its name"):
        load(own)


def test_names_are_kept_whatever_their_bytes():
    names = ["a b.jpg", "ä.jpg", os.fsdecode(b"\xff.jpg")]
    files = Files.from_tensors(Files.of(names, [1, 2, 3]).tensors)
    assert [files.name(row) for row in range(3)] == names
    assert [files.subset(torch.tensor([2, 0])).name(row) for row in range(2)] == [names[2], names[0]]
