"""Data sets that Hugging Face's `datasets` has saved to disk."""

import numpy as np
import pytest
import torch
from PIL import Image

from nclens.data import huggingface
from nclens.data.raw import RawData
from tests.data.fakes import pixels

hf = pytest.importorskip("datasets")
hf.disable_progress_bars()

NAMES = ["b", "a", "c"]
PIXELS = pixels(12, 6, 5, 3)


def pictures(count):
    features = hf.Features({"img": hf.Image(), "fine": hf.ClassLabel(names=NAMES)})
    images = [Image.fromarray(image) for image in PIXELS[:count]]
    return hf.Dataset.from_dict({"img": images, "fine": [i % 3 for i in range(count)]}, features=features)


def numbers():
    random = np.random.default_rng(0)
    made = {
        "grid": random.normal(size=(12, 2, 2)).tolist(),
        "list": random.normal(size=(12, 3)).tolist(),
        "flag": [True, False] * 6,
        "label": ["x", "z", "y"] * 4,
    }
    features = {
        "grid": hf.Array2D((2, 2), "float64"),
        "list": hf.Sequence(hf.Value("float64")),
        "flag": hf.Value("bool"),
        "label": hf.Value("string"),
    }
    return hf.Dataset.from_dict(made, features=hf.Features(features))


@pytest.fixture
def load(tmp_path):
    def loaded(data, **keys):
        data.save_to_disk(str(tmp_path / "saved"))
        defaults = dict.fromkeys(
            (
                "target",
                "features",
                "test_split",
                "image_size",
                "channels",
                "layout",
                "train_per_class",
                "test_per_class",
            )
        )
        before = state(tmp_path)
        try:
            return huggingface.load(RawData(tmp_path), "saved", **{**defaults, "split_seed": 0, **keys})
        finally:
            # The workflow knows a folder by the names, sizes and times in it.
            assert state(tmp_path) == before

    return loaded


def state(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_splits_images_and_class_names_are_the_data_sets_own(load):
    data = load(hf.DatasetDict(train=pictures(12), validation=pictures(6), test=pictures(3)))
    assert data.classes == NAMES
    assert data.train_targets.tolist() == [0, 1, 2] * 4
    assert torch.equal(data.train_inputs, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert (len(data.test_targets), len(data.val_targets)) == (3, 6)
    assert data.facts == {"columns": ["img"], "target": "fine"}


def test_the_validation_split_tests_where_there_is_no_test_split_or_it_is_named(load, tmp_path):
    data = load(hf.DatasetDict(train=pictures(12), validation=pictures(6)))
    assert (len(data.test_targets), data.val_targets) == (6, None)
    data = load(hf.DatasetDict(train=pictures(12), validation=pictures(6)), test=0.25)
    assert (len(data.train_targets), len(data.test_targets), len(data.val_targets)) == (9, 3, 6)
    both = hf.DatasetDict(train=pictures(12), validation=pictures(6), test=pictures(3))
    data = load(both, test_split="validation", image_size=4, channels=1)
    assert (data.test_inputs.shape, data.val_targets) == ((6, 1, 4, 4), None)


def test_one_set_is_split_by_shares_or_sizes(load):
    data = load(pictures(12), test=0.25, validation=0.25)
    assert [part.bincount().tolist() for _, part in data.parts.values()] == [[2] * 3, [1] * 3, [1] * 3]
    data = load(numbers().shuffle(seed=1), train_per_class=2, test_per_class=2)
    assert data.train_targets.bincount().tolist() == [2] * 3


def test_columns_of_numbers_and_arrays_are_rows_side_by_side(load):
    made = numbers()
    data = load(made, test=0.25)
    assert data.classes == ["x", "y", "z"]
    rows = {tuple(row) for row in torch.cat([data.train_inputs, data.test_inputs]).tolist()}
    expected = np.concatenate(
        [np.array(made["grid"]).reshape(12, 4), np.array(made["list"]), np.array(made["flag"])[:, None]], axis=1
    )
    assert rows == {tuple(row) for row in expected.astype(np.float32).tolist()}
    data = load(made.rename_column("label", "y"), target="y", features=["list"], test=0.25)
    assert data.facts["columns"] == ["list"]


def test_texts_that_are_written_differently_are_different_classes(load):
    made = numbers().remove_columns("label").add_column("label", ["01", "1", "1e0"] * 4)
    assert load(made, test=0.25).classes == ["01", "1", "1e0"]


def test_arrays_of_bytes_are_images(load):
    made = hf.Dataset.from_dict(
        {"x": PIXELS.tolist(), "label": [0, 1] * 6},
        features=hf.Features({"x": hf.Array3D((6, 5, 3), "uint8"), "label": hf.Value("int64")}),
    )
    with pytest.raises(ValueError, match=r"these look like \(N, H, W, C\)"):
        load(made, test=0.25)
    assert load(made, test=0.25, layout="NHWC").train_inputs.shape == (8, 3, 6, 5)


MISTAKES = {
    "no test split": (lambda: pictures(12), {}, "no separate test split"),
    "a share too many": (
        lambda: hf.DatasetDict(train=pictures(12), test=pictures(3)),
        {"test": 0.2},
        "has a split `test` already: leave out `test: 0.2`",
    ),
    "no such split": (
        lambda: hf.DatasetDict(train=pictures(12)),
        {"test_split": "x"},
        "test_split = x: must be a split of .* other than train: train",
    ),
    "no training split": (lambda: hf.DatasetDict(test=pictures(3)), {}, "has no split train; it has test"),
    "no labels": (
        lambda: hf.DatasetDict(
            train=pictures(12),
            test=pictures(3)
            .remove_columns("fine")
            .add_column("fine", [-1] * 3)
            .cast_column("fine", hf.ClassLabel(names=NAMES)),
        ),
        {},
        "column fine of the split test, row 1: -1 is no label; allowed are 0 to 2",
    ),
    "no such column": (
        lambda: numbers().rename_column("label", "y"),
        {"test": 0.2},
        r"has no column label \(`target`\); it has grid, list, flag, y",
    ),
    "a text": (lambda: numbers().add_column("t", ["q"] * 12), {"test": 0.2}, "column t of .* values of type string"),
    "no value": (
        lambda: numbers().add_column("t", [1.0, None] * 6),
        {"test": 0.2},
        "column t of the split train, row 2: no value",
    ),
    "not finite": (lambda: numbers().add_column("t", [1.0, np.inf] * 6), {"test": 0.2}, "row 2: a value is not finite"),
    "lists of two lengths": (
        lambda: numbers().add_column("t", [[1, 2]] * 7 + [[1]] + [[1, 2]] * 4),
        {"test": 0.2},
        "column t of the split train, row 8: a list of another length",
    ),
    "a value in a list": (
        lambda: numbers().add_column("t", [[1, 2]] * 7 + [[1, None]] + [[1, 2]] * 4),
        {"test": 0.2},
        "column t of the split train, row 8: no value",
    ),
    "a copy as another split": (
        lambda: hf.DatasetDict(train=pictures(12), test=pictures(6), validation=pictures(6)),
        {},
        "saved: the splits test and val are the same samples; allowed: other samples in each split",
    ),
    "a copy of numbers": (
        lambda: hf.DatasetDict(train=numbers(), test=numbers()),
        {"train_per_class": 2},
        "the splits train and test are the same samples",
    ),
    "keys of images": (lambda: numbers(), {"test": 0.2, "channels": 1}, "`image_size` and `channels` are of a column"),
}


@pytest.mark.parametrize(("made", "keys", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_message_with_its_place(load, made, keys, words):
    with pytest.raises(ValueError, match=words):
        load(made(), **keys)


def test_a_folder_that_is_none_of_datasets_is_named(tmp_path):
    keys = dict.fromkeys(
        ("target", "features", "test_split", "image_size", "channels", "layout", "train_per_class", "test_per_class")
    )
    with pytest.raises(ValueError, match=r"no folder .*x; `path` is relative to `data_dir`"):
        huggingface.load(RawData(tmp_path), "x", **keys, split_seed=0)
    (tmp_path / "x").mkdir()
    with pytest.raises(ValueError, match="cannot be read as a data set that `save_to_disk` has written"):
        huggingface.load(RawData(tmp_path), "x", **keys, split_seed=0)
