"""The user's own arrays: checked, never unpickled."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nclens.data import arrays
from nclens.data.numbers import stored_inputs
from nclens.data.raw import RawData

TARGETS = np.arange(12) % 3
NAMES = ("inputs", "targets")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)
SPLITS = {"train_inputs": IMAGES, "train_targets": TARGETS, "test_inputs": IMAGES[:6], "test_targets": TARGETS[:6]}


def load(folder, path="a.npz", **keys):
    defaults = {
        "sha256": None,
        "classes": None,
        "layout": None,
        "train_per_class": None,
        "test_per_class": None,
        "split_seed": 0,
    }
    return arrays.load(RawData(folder), path, **{**defaults, **keys})


def test_both_formats_hold_the_same(tmp_path):
    np.savez(tmp_path / "a.npz", **SPLITS)
    save_file({name: torch.from_numpy(values) for name, values in SPLITS.items()}, tmp_path / "a.safetensors")
    for path in ("a.npz", "a.safetensors"):
        data = load(tmp_path, path, classes=["a", "b", "c"])
        assert torch.equal(data.train_inputs, torch.from_numpy(IMAGES))
        assert data.test_targets.tolist() == TARGETS[:6].tolist()
        assert data.classes == ["a", "b", "c"]


def test_one_pool_is_split_without_overlap(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=IMAGES, targets=TARGETS.astype(np.uint8))
    data = load(tmp_path, train_per_class=2, test_per_class=2)
    assert data.train_targets.bincount().tolist() == data.test_targets.bincount().tolist() == [2] * 3
    assert len(torch.unique(torch.cat([data.train_inputs, data.test_inputs]).flatten(1), dim=0)) == 12
    with pytest.raises(ValueError, match="no separate test split"):
        load(tmp_path, train_per_class=2)


def test_a_test_split_may_lack_classes_and_clean_labels_go_with_their_samples(tmp_path):
    clean = np.where(np.arange(12) < 2, 2, TARGETS)
    lacking = SPLITS | {"test_targets": TARGETS[:6] * 0, "train_clean_targets": clean}
    np.savez(tmp_path / "a.npz", **lacking)
    data = load(tmp_path)
    assert data.test_targets.tolist() == [0] * 6
    assert data.train_clean_targets.tolist() == clean.tolist()
    few = load(tmp_path, train_per_class=2)
    places = [int((data.train_inputs == image).flatten(1).all(1).nonzero()[0, 0]) for image in few.train_inputs]
    assert few.train_clean_targets.tolist() == clean[places].tolist()
    np.savez(tmp_path / "a.npz", **lacking | {"train_clean_targets": clean[:5]})
    with pytest.raises(ValueError, match="train_targets has 12 labels, but train_clean_targets 5"):
        load(tmp_path)


def test_subsets_of_both_splits(tmp_path):
    np.savez(tmp_path / "a.npz", **SPLITS)
    data = load(tmp_path, train_per_class=3)
    assert data.train_targets.bincount().tolist() == [3] * 3
    assert len(data.test_targets) == 6


def test_a_validation_split_is_taken_whole_and_may_lack_classes(tmp_path):
    np.savez(tmp_path / "a.npz", **SPLITS, val_inputs=IMAGES[2:3], val_targets=TARGETS[2:3])
    data = load(tmp_path, train_per_class=2)
    assert torch.equal(data.val_inputs, torch.from_numpy(IMAGES[2:3]))
    assert data.val_targets.tolist() == [2]
    assert list(data.tensors) == [f"{split}.{name}" for split in ("train", "test", "val") for name in NAMES]
    assert load(tmp_path, train_per_class=2).parts.keys() == {"train", "test", "val"}
    np.savez(tmp_path / "b.npz", **SPLITS, val_inputs=IMAGES[2:3], val_targets=np.array([-1]))
    with pytest.raises(ValueError, match=r"val_targets of .* must be class labels from 0"):
        load(tmp_path, "b.npz")


def test_texts_become_classes_in_ascending_order_or_that_of_their_names(tmp_path):
    texts = np.array(["owl", "Cat", "ant"])[TARGETS]
    np.savez(
        tmp_path / "a.npz", **SPLITS | {"train_targets": texts, "test_targets": texts[:6]}, train_clean_targets=texts
    )
    data = load(tmp_path)
    assert (data.classes, data.train_targets.tolist()) == (["Cat", "ant", "owl"], [2, 0, 1] * 4)
    assert data.train_clean_targets.tolist() == data.train_targets.tolist()
    assert load(tmp_path, classes=["owl", "Cat", "ant"]).test_targets.tolist() == [0, 1, 2] * 2
    with pytest.raises(ValueError, match="row 1: 'owl' is none of the classes, which are Cat, ant"):
        load(tmp_path, classes=["Cat", "ant"])
    np.savez(tmp_path / "a.npz", **SPLITS | {"train_targets": texts.astype(object)})
    with pytest.raises(
        ValueError, match=r"train_targets is pickled, .* save texts as numpy.asarray\(labels, dtype=str\)"
    ):
        load(tmp_path)


def test_one_set_is_split_by_shares_of_each_class(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=IMAGES, targets=np.array([0] * 8 + [1] * 2 + [2] * 2))
    data = load(tmp_path, test=0.25)
    assert (data.train_targets.bincount().tolist(), data.test_targets.bincount().tolist()) == ([6, 1, 1], [2, 1, 1])
    both = torch.cat([data.train_inputs, data.test_inputs]).flatten(1)
    assert {tuple(row) for row in both.tolist()} == {tuple(row) for row in IMAGES.reshape(12, -1).tolist()}
    assert data.facts == {"shares": {"test": 0.25, "seed": 0}}
    np.savez(tmp_path / "a.npz", **SPLITS)
    assert load(tmp_path, validation=0.25).val_targets.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"a\.npz has a split `test` already: leave out `test: 0\.2`"):
        load(tmp_path, test=0.2)


def test_rows_become_float32_and_grey_images_get_a_channel(tmp_path):
    rows = np.random.default_rng(0).normal(size=(12, 5))
    np.savez(tmp_path / "a.npz", **SPLITS | {"train_inputs": rows, "test_inputs": rows[:6]})
    assert load(tmp_path).train_inputs.dtype == torch.float32
    np.savez(tmp_path / "a.npz", **SPLITS | {"train_inputs": IMAGES[:, 0], "test_inputs": IMAGES[:6, 0]})
    assert load(tmp_path).train_inputs.shape == (12, 1, 4, 4)


def test_a_checksum_is_verified(tmp_path):
    np.savez(tmp_path / "a.npz", **SPLITS)
    right = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    load(tmp_path, sha256=right)
    with pytest.raises(OSError, match=r"a\.npz .* is truncated or altered: its SHA256 is"):
        load(tmp_path, sha256="0" * 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_targets": TARGETS / 2}, "train_targets of .* must be integer class labels"),
        ({"train_targets": TARGETS - 1}, "class labels from 0; the smallest is -1"),
        ({"train_targets": TARGETS[:5]}, "train_inputs has 12 samples, but 5 targets"),
        (
            {"train_targets": TARGETS * 2 % 4},
            "train split: class 1 has 0 samples, fewer than 2, which every",
        ),
        (
            {"mean_inputs": IMAGES},
            "also has mean_inputs; allowed: train_inputs, train_targets, test_inputs, test_targets$",
        ),
        ({"val_inputs": IMAGES}, "with the former it may hold val_inputs and val_targets; it has .*, val_inputs$"),
        ({"inputs": IMAGES}, "also has inputs; allowed: train_inputs"),
        ({"train_targets": np.full(12, 2**63, dtype=np.uint64)}, "the largest is 9223372036854775808, with 12 samples"),
        ({"train_targets": np.arange(12) % 3 + 10**12}, "class labels 0..K-1, .* the largest is 1000000000002"),
        ({"train_inputs": IMAGES[:, 0, 0]}, "inputs must be uint8 images in both splits; train_inputs of"),
        ({"train_inputs": IMAGES.astype(np.float64)}, r"train_inputs of .* must be uint8 images .*, not torch.float64"),
        ({"train_inputs": np.array(["a"] * 12)}, r"cannot be read as \.npz arrays of numbers"),
        ({"train_inputs": np.array([None] * 12)}, r"cannot be read as \.npz arrays of numbers"),
        (
            {"test_inputs": None},
            "must hold train_inputs, .*test_targets, or inputs and targets",
        ),
    ],
)
def test_invalid_arrays_are_refused(tmp_path, changes, words):
    np.savez(tmp_path / "a.npz", **{name: values for name, values in (SPLITS | changes).items() if values is not None})
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_a_missing_and_a_damaged_file_are_named(tmp_path):
    for path in ("a.npz", "a.safetensors"):
        with pytest.raises(ValueError, match=f"no file .*{path}; `path` is relative to `data_dir`"):
            load(tmp_path, path)
        (tmp_path / path).write_bytes(b"PK\x03\x04 and then nothing")
        with pytest.raises(ValueError, match=f"{path} cannot be read"):
            load(tmp_path, path)


def test_there_must_be_a_name_for_each_class(tmp_path):
    np.savez(tmp_path / "a.npz", **SPLITS)
    with pytest.raises(ValueError, match=r"train split: class labels must lie in 0\.\.1, the largest is 2"):
        load(tmp_path, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"train split: class 3 \(d\) has 0 samples, fewer than train_per_class = 2"):
        load(tmp_path, classes=["a", "b", "c", "d"], train_per_class=2)


@pytest.mark.parametrize("per_class", [{}, {"train_per_class": 2}, {"test_per_class": 2}])
def test_samples_of_no_class_are_never_left_out_in_silence(tmp_path, per_class):
    """Subsets per class once took the classes that were named, and dropped all other samples."""
    np.savez(tmp_path / "a.npz", **SPLITS)
    with pytest.raises(ValueError, match=r"0\.\.1.* 2"):
        load(tmp_path, classes=["a", "b"], **per_class)
    np.savez(tmp_path / "a.npz", **SPLITS | {"train_targets": TARGETS % 2})
    with pytest.raises(ValueError, match=r"0\.\.1.* 2"):
        load(tmp_path, **per_class)
    np.savez(tmp_path / "a.npz", inputs=IMAGES, targets=TARGETS)
    with pytest.raises(ValueError, match=r"a\.npz: class labels must lie in 0\.\.1, the largest is 2"):
        load(tmp_path, classes=["a", "b"], train_per_class=1, test_per_class=1)


LAST = np.random.default_rng(1).integers(0, 256, (12, 8, 6, 3), dtype=np.uint8)
NHWC = SPLITS | {"train_inputs": LAST, "test_inputs": LAST[:6]}


def test_images_that_look_like_nhwc_need_a_layout(tmp_path):
    np.savez(tmp_path / "a.npz", **NHWC)
    with pytest.raises(ValueError, match=r"train_inputs of .*\(12, 8, 6, 3\): .* Set `layout: NHWC` or `layout: NCHW`"):
        load(tmp_path)
    last = load(tmp_path, layout="NHWC")
    assert torch.equal(last.train_inputs, torch.from_numpy(LAST.transpose(0, 3, 1, 2).copy()))
    assert load(tmp_path, layout="NCHW").train_inputs.shape == (12, 8, 6, 3)
    np.savez(tmp_path / "a.npz", inputs=LAST, targets=TARGETS)
    with pytest.raises(ValueError, match=r"inputs of .*these look like \(N, H, W, C\)"):
        load(tmp_path, train_per_class=2, test_per_class=2)


@pytest.mark.parametrize(
    ("shape", "ambiguous"),
    [
        *[((32, 32, 1), True), ((32, 32, 3), True), ((32, 32, 4), True), ((4, 4, 3), True), ((2, 2, 1), True)],
        *[((32, 32, 2), False), ((32, 3, 3), False), ((3, 32, 3), False), ((3, 32, 32), False), ((1, 28, 28), False)],
    ],
)
def test_which_shapes_are_ambiguous(shape, ambiguous):
    images = {"a": torch.zeros(2, *shape, dtype=torch.uint8)}
    if ambiguous:
        with pytest.raises(ValueError, match="`layout: NHWC` or `layout: NCHW`"):
            stored_inputs(images, None)
    else:
        assert stored_inputs(images, None)[0][0].shape == (2, *shape)
    assert stored_inputs(images, "NCHW")[0][0].shape == (2, *shape)


def test_two_splits_of_the_same_samples_are_refused_in_any_order_and_whatever_is_drawn(tmp_path):
    same = SPLITS | {"test_inputs": IMAGES[::-1], "test_targets": TARGETS[::-1]}
    np.savez(tmp_path / "a.npz", **same)
    for sizes in ({}, {"train_per_class": 3, "test_per_class": 2}):
        with pytest.raises(ValueError, match=r"a\.npz: the splits train and test are the same samples; allowed: other"):
            load(tmp_path, **sizes)
    np.savez(tmp_path / "a.npz", **same | {"test_targets": TARGETS})
    assert len(load(tmp_path).test_targets) == 12
    np.savez(tmp_path / "a.npz", **SPLITS, val_inputs=IMAGES[:6], val_targets=TARGETS[:6])
    with pytest.raises(ValueError, match="the splits test and val are the same samples"):
        load(tmp_path)


def test_texts_of_another_shape_are_named(tmp_path):
    np.savez(tmp_path / "a.NPZ", inputs=IMAGES, targets=TARGETS.astype(str)[:, None])
    (tmp_path / "a.NPZ.npz").rename(tmp_path / "a.NPZ")
    with pytest.raises(
        ValueError, match=r"targets must be texts \(N,\), not of shape \(12, 1\).*labels\.reshape\(-1\)"
    ):
        load(tmp_path, "a.NPZ", test=0.25)


@pytest.mark.parametrize("inputs", [IMAGES[:, 0], np.eye(12)])
def test_a_layout_is_for_images_of_four_axes(tmp_path, inputs):
    np.savez(tmp_path / "a.npz", **SPLITS | {"train_inputs": inputs, "test_inputs": inputs[:6]})
    with pytest.raises(ValueError, match=r"layout = NHWC.* uint8 images"):
        load(tmp_path, layout="NHWC")


def test_rows_that_float32_would_round_are_centred(tmp_path):
    rows = np.stack([1e9 + np.arange(40), np.arange(40) / 7], axis=1)
    assert len(np.unique(rows[:, 0].astype(np.float32))) == 2
    labels = np.arange(40) % 2
    np.savez(
        tmp_path / "a.npz", train_inputs=rows, train_targets=labels, test_inputs=rows[:38], test_targets=labels[:38]
    )
    data = load(tmp_path)
    assert data.facts == {"input_offset": [1e9 + 19.5, 0.0]}
    assert data.train_inputs[:, 0].tolist() == (np.arange(40) - 19.5).tolist()
    assert torch.equal(data.test_inputs[:, 1], torch.from_numpy(rows[:38, 1]).float())


def test_what_differs_by_float64s_rounding_alone_is_constant():
    rows = torch.tensor([[0.3, 1e9], [0.1 * 3, 1e9 + 1]] * 6, dtype=torch.float64)
    assert len(rows[:, 0].unique()) == 2
    (stored,), facts = stored_inputs({"a": rows}, None)
    assert facts == {"input_offset": [0.0, 1e9 + 0.5]}
    assert len(stored[:, 0].unique()) == 1


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", ">i4"])
def test_labels_of_every_integer_type(tmp_path, kind):
    np.savez(tmp_path / "a.npz", **SPLITS | {"train_targets": TARGETS.astype(kind)})
    assert load(tmp_path).train_targets.tolist() == TARGETS.tolist()


@pytest.mark.parametrize("place", range(60, 200, 20))
def test_a_damaged_compressed_file_is_named(tmp_path, place):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, inputs=np.random.default_rng(0).random((200, 3)))
    content = bytearray(file.read_bytes())
    content[place : place + 40] = b"\xff" * 40
    file.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as \.npz arrays of numbers"):
        arrays.read_arrays(file)


def test_recorded_features_are_rows(tmp_path):
    rows = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    splits = {"train_features": rows, "train_labels": TARGETS, "test_features": rows[:6], "test_labels": TARGETS[:6]}
    np.savez(tmp_path / "a.npz", **splits, weight=np.ones((3, 5)))
    data = load(tmp_path)
    assert data.train_inputs.numpy().tolist() == rows.tolist()
    assert data.test_targets.tolist() == TARGETS[:6].tolist()
    np.savez(tmp_path / "a.npz", **splits, logits=np.ones((12, 3)))
    with pytest.raises(ValueError, match="also has logits"):
        load(tmp_path)
