"""Data set entries: what is known of a set is compared with the study before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from nclens.study import ConfigError, load_study
from nclens.study.data_checks import known_classes
from nclens.study.torchvision_sets import SETS, Known
from nclens.workflow import specs


def study_of(raw_study, entry, **training):
    """The smoke study on another data set."""
    raw_study["datasets"] = {"mine": entry}
    raw_study["experiments"]["smoke"]["dataset"] = "mine"
    raw_study["experiments"]["smoke"]["training"] |= training
    return load_study(raw_study)


def cifar(**keys):
    return {"source": "torchvision", "name": "CIFAR10", **keys}


def table(**keys):
    return {"source": "table", "path": "a.csv", "target": "y", **keys}


CONSTANTS = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.243, 0.261]}
FITTING = {
    "whole": cifar(),
    "subset": cifar(train_per_class=500, test_per_class=200, split_seed=3),
    "the paper's constants": cifar(normalisation=CONSTANTS),
    "a variant": {"source": "torchvision", "name": "EMNIST", "variant": "letters"},
    "images of one size": {"source": "torchvision", "name": "Food101", "image_size": 64},
    "tiny": {"source": "tinyimagenet", "train_per_class": 50},
    "folder": {"source": "imagefolder", "path": "pets", "image_size": 64},
    "arrays": {"source": "arrays", "path": "mine.npz", "classes": ["a", "b"]},
    "some classes of arrays": {"source": "arrays", "path": "mine.npz", "classes": [2, 0]},
    "some classes": cifar(classes=[0, 9]),
    "some digits": {"source": "digits8", "classes": [7, 8, 9]},
    "textures": {"source": "textures", "image_size": 96, "channels": 3},
    "shares of a folder": {"source": "imagefolder", "path": "pets", "test": 0.2, "validation": 0.1},
    "a table": {"source": "table", "path": "a.csv", "target": "y", "test": 0.2},
    "a table for each split": {
        "source": "table",
        "path": "a.csv",
        "target": "y",
        "test_path": "b.csv",
        "val_path": "c.csv",
    },
    "sizes of a table": {
        "source": "table",
        "path": "a.parquet",
        "target": "y",
        "train_per_class": 5,
        "test_per_class": 5,
    },
    "a data set of Hugging Face": {"source": "huggingface", "path": "saved"},
    "a stream": {"source": "imagefolder", "path": "pets", "storage": "stream", "image_size": 32, "workers": 0},
    "shards": {"source": "shards", "path": "s", "train_shards": "train-{000..009}.tar", "test": 0.1, "image_size": 32},
    "ImageNet": {"source": "imagenet", "path": "imagenet", "rand_augment": {}, "validation": 0.01},
}


@pytest.mark.parametrize("entry", FITTING.values(), ids=FITTING)
def test_an_entry_that_fits_reaches_prepare_and_nothing_else(raw_study, entry):
    study = study_of(raw_study, entry)
    spec = specs.prepare(study, "mine")
    assert spec.arguments["source"] == entry["source"]
    assert "mine" not in specs.encode(specs.train(study, next(study.runs()))).replace('"dataset": "mine"', "")
    assert load_study(study.resolved()).resolved() == study.resolved()


MISTAKES = {
    "unknown set": (cifar(name="CIFAR11"), ["datasets.mine", "'CIFAR11'", "'CIFAR10'", "'SVHN'"]),
    "no name": ({"source": "torchvision"}, ["datasets.mine.name", "missing"]),
    "more than there is": (cifar(train_per_class=5001), ["train_per_class = 5001", "at most 5000"]),
    "more test images": (cifar(test_per_class=1001), ["test_per_class = 1001", "at most 1000"]),
    "more of the smallest class": (
        {"source": "torchvision", "name": "SVHN", "test_per_class": 1600},
        ["test_per_class = 1600", "at most 1595"],
    ),
    "more of Tiny ImageNet": ({"source": "tinyimagenet", "test_per_class": 51}, ["at most 50"]),
    "one sample a class": (cifar(train_per_class=1), ["train_per_class = 1", "greater than or equal to 2"]),
    "a variant of none": (cifar(variant="letters"), ["variant = letters", "CIFAR10 has no variants"]),
    "an unknown variant": (
        {"source": "torchvision", "name": "EMNIST", "variant": "leters"},
        ["variant = leters", "EMNIST has the variants balanced, letters"],
    ),
    "which variant": ({"source": "torchvision", "name": "EMNIST"}, ["variant = None", "balanced"]),
    "images of several sizes": (
        {"source": "torchvision", "name": "DTD"},
        ["needs `image_size`", "images of DTD differ in size"],
    ),
    "one mean too many": (
        cifar(normalisation={"mean": [0.5] * 4, "std": [0.5] * 4}),
        ["normalisation has 4 channels, the images have 3"],
    ),
    "means without deviations": (cifar(normalisation={"mean": [0.5], "std": [0.5, 1]}), ["mean has 1", "std 2"]),
    "a deviation of zero": (
        cifar(normalisation={"mean": [0.5] * 3, "std": [0.5, 0.5, 0]}),
        ["normalisation.std.2 = 0", "greater than 0"],
    ),
    "a stream of no size": (
        {"source": "imagefolder", "path": "mine", "storage": "stream"},
        ["datasets.mine: storage = stream needs `image_size`, in pixels, as 224"],
    ),
    "a centre larger than the image": (
        {"source": "imagefolder", "path": "mine", "storage": "stream", "image_size": 224, "resize_size": 200},
        ["datasets.mine: resize_size = 200: must be at least image_size = 224"],
    ),
    "a key of a stream without one": (
        {"source": "imagefolder", "path": "mine", "rand_augment": {"num_ops": 1}},
        ["datasets.mine: `rand_augment` is of `storage: stream`, and the storage is tensors"],
    ),
    "a crop of more than the image": (
        {"source": "imagenet", "path": "mine", "random_resized_crop": {"scale": [0.5, 1.5]}},
        ["datasets.mine.random_resized_crop: scale = [0.5, 1.5]: must be two numbers, the smaller first, at most 1"],
    ),
    "a magnitude beyond the bins": (
        {"source": "imagenet", "path": "mine", "rand_augment": {"magnitude": 31}},
        ["datasets.mine.rand_augment: magnitude = 31: must be below num_magnitude_bins = 31"],
    ),
    "shards without a test split": (
        {"source": "shards", "path": "mine", "train_shards": "*.tar", "image_size": 32},
        ["datasets.mine: needs a test split: `test_shards`, `test`, a share as 0.2"],
    ),
    "two test splits of shards": (
        {"source": "shards", "path": "m", "train_shards": "a*", "test_shards": "b*", "test": 0.2, "image_size": 32},
        ["datasets.mine: `test` and `test_shards` are two splits of one name"],
    ),
    "a test folder elsewhere": (
        {"source": "imagefolder", "path": "mine", "test_folder": "../val"},
        ["datasets.mine.test_folder = '../val': must be a folder's name"],
    ),
    "a hidden test folder": (
        {"source": "imagefolder", "path": "mine", "test_folder": ".val"},
        ["datasets.mine.test_folder = '.val': must be a folder's name"],
    ),
    "another format": (
        {"source": "arrays", "path": "mine.csv"},
        ["datasets.mine.path = 'mine.csv': must be a file of arrays, .npz or .safetensors", "numpy.savez"],
    ),
    "shares of more than there is": (
        {"source": "arrays", "path": "mine.npz", "test": 0.6, "validation": 0.4},
        ["datasets.mine: test = 0.6 and validation = 0.4: together they must be below 1"],
    ),
    "a share of all": (table(test=1), ["datasets.mine.test = 1: ", "less than 1"]),
    "a table without a test split": (
        table(),
        ["datasets.mine: needs a test split: `test`", "`test_path`", "test_per_class"],
    ),
    "two test splits": (table(test=0.2, test_path="b.csv"), ["datasets.mine: `test` and `test_path`"]),
    "one file as two splits": (
        table(path="a.csv", test_path="./a.csv"),
        ["datasets.mine: `path`, `test_path` name one file twice", "a file each, or a share"],
    ),
    "a table of another format": (table(path="a.xlsx"), ["datasets.mine.path = 'a.xlsx': must be a table: .csv"]),
    "labels in two columns": (
        table(target=["y", "z"], test=0.2),
        ["datasets.mine: target = ['y', 'z']: several columns are of `task: regression`"],
    ),
    "a column of Hugging Face's twice": (
        {"source": "huggingface", "path": "a", "features": ["u", "v", "u"]},
        ["datasets.mine: the column u is named twice in `target` and `features`"],
    ),
    "labels as features": (
        {"source": "huggingface", "path": "a", "target": "u", "features": ["u", "v"]},
        ["datasets.mine: the column u is named twice in `target` and `features`"],
    ),
    "a column twice": (table(test=0.2, leave_out=["y"]), ["datasets.mine: the column y is named twice"]),
    "units of labels": (
        table(test=0.2, scale_targets="each"),
        ["datasets.mine: `scale_targets` is of regression, and the task is classification"],
    ),
    "classes of numbers": (
        table(test=0.2, task="regression", train_per_class=5),
        ["datasets.mine: `train_per_class` is of classification, and the task is regression"],
    ),
    "no checksum": (
        {"source": "arrays", "path": "mine.npz", "sha256": "ABC"},
        ["sha256 = 'ABC': must be a SHA-256 of 64 hexadecimal digits"],
    ),
    "another layout": (
        {"source": "arrays", "path": "mine.npz", "layout": "CHW"},
        ["layout = 'CHW'", "'NCHW' or 'NHWC'"],
    ),
    "a class that is not there": (
        cifar(classes=[0, 10]),
        ["datasets.mine: classes = [0, 10]: the data have 10 classes, numbered from 0 to 9"],
    ),
    "a digit that is not there": ({"source": "mnist5k", "classes": [3, 12]}, ["classes = [3, 12]", "from 0 to 9"]),
    "a kind of texture that is not there": ({"source": "textures", "classes": [0, 6]}, ["the data have 6 classes"]),
    "a class twice": (cifar(classes=[1, 1]), ["classes [1, 1] must not repeat"]),
    "one class": (cifar(classes=[1]), ["datasets.mine: classes = [1]: two or more are needed"]),
    "textures of two channels": ({"source": "textures", "channels": 2}, ["channels = 2", "1 or 3"]),
    "unknown source": ({"source": "torchvison"}, ["`torchvison`", "did you mean `torchvision`", "tinyimagenet"]),
    "unknown key": (cifar(train_per_clas=5), ["`train_per_clas`", "did you mean `train_per_class`"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(raw_study, mistake):
    entry, words = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        study_of(raw_study, entry)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "samples"),
    [
        (cifar(), 50_000),
        (cifar(train_per_class=5), 50),
        ({"source": "torchvision", "name": "STL10"}, 5000),
        ({"source": "torchvision", "name": "EMNIST", "variant": "letters", "train_per_class": 2}, 52),
        ({"source": "tinyimagenet", "train_per_class": 3}, 600),
        (cifar(train_per_class=5, classes=[1, 2, 3]), 15),
        ({"source": "mnist5k", "train_per_class": 20, "test_per_class": 20, "classes": [0, 1]}, 40),
        ({"source": "textures", "train_per_class": 10}, 60),
    ],
)
def test_a_batch_is_held_against_the_size_that_is_known(raw_study, entry, samples):
    study_of(raw_study, entry, batch_size=samples)
    with pytest.raises(ConfigError, match=rf"batch_size = {samples + 1}: must be at most the {samples} training"):
        study_of(raw_study, entry, batch_size=samples + 1)


def test_an_entry_without_chosen_classes_is_prepared_as_before(raw_study):
    for entry in ({"source": "digits8"}, cifar(), {"source": "tinyimagenet"}):
        assert "classes" not in specs.prepare(study_of(raw_study, entry), "mine").arguments
        chosen = study_of(raw_study, entry | {"classes": [3, 1]})
        assert specs.prepare(chosen, "mine").arguments["classes"] == [3, 1]
        assert known_classes(chosen.datasets["mine"]) == 2


def test_an_entry_without_shares_is_prepared_as_before(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text("def data():\n    return {}\n")
    raw_study["datasets"] |= {
        "own": {"function": "mine:data"},
        "arrays": {"source": "arrays", "path": "a.npz"},
        "shared": {"function": "mine:data", "test": 0.2, "split_seed": 3},
    }
    study = load_study(raw_study, [tmp_path])
    assert specs.prepare(study, "own").arguments == {
        "function": "mine:data",
        "parameters": {},
        "task": "classification",
        "layout": None,
    }
    assert {"test", "validation"}.isdisjoint(specs.prepare(study, "arrays").arguments)
    shared = specs.prepare(study, "shared").arguments
    assert (shared["test"], shared["split_seed"]) == (0.2, 3)


def test_where_the_files_of_a_table_are_is_no_part_of_a_specification(raw_study, tmp_path):
    entry = table(test_path="b.csv", val_path="/elsewhere/c.csv")
    study = study_of(raw_study, entry)
    assert {"path", "test_path", "val_path"}.isdisjoint(specs.prepare(study, "mine").arguments)
    paths = specs.user_paths(study.datasets["mine"])
    assert specs.user_places(paths, tmp_path) == {
        "path": tmp_path / "a.csv",
        "test_path": tmp_path / "b.csv",
        "val_path": Path("/elsewhere/c.csv"),
    }


def test_where_the_files_of_a_text_are_is_no_part_of_a_specification(tmp_path):
    entry = {f"{split}{language}_path": f"{split}{language}" for split in ("", "test_") for language in LANGUAGES}
    study = load_study(texts(**entry, val_source_path="/elsewhere/val.en.gz", val_target_path="val.de"))
    assert not [key for key in specs.prepare(study, "mine").arguments if key.endswith("_path")]
    places = specs.user_places(specs.user_paths(study.datasets["mine"]), tmp_path)
    assert places == {key: tmp_path / path for key, path in entry.items()} | {
        "val_source_path": Path("/elsewhere/val.en.gz"),
        "val_target_path": tmp_path / "val.de",
    }
    assert known_classes(study.datasets["mine"]) == 60


LANGUAGES = ("source", "target")
TRAINING = {"epochs": 1, "batch_size": 2}


def texts(**keys):
    files = {"source_path": "a", "target_path": "b", "test_source_path": "c", "test_target_path": "d"}
    return {
        "study": "text",
        "datasets": {"mine": {"source": "parallel_text", "vocabulary_size": [50, 60], **files, **keys}},
        "models": {"small": {"name": "transformer", "width": 8, "heads": 2}},
        "losses": {"ce": {"name": "ce"}},
        "experiments": {
            "text": {"dataset": "mine", "model": "small", "losses": ["ce"], "training": TRAINING, "seeds": [0]}
        },
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"val_source_path": "e"}, "`val_source_path` and `val_target_path`: both or neither must be given"),
        ({"test_target_path": "./b"}, "`target_path` and `test_target_path` are one file, b; each split and language"),
        ({"vocabulary": "letters"}, "vocabulary = 'letters': must be 'word' or 'subword'"),
        ({"vocabulary_size": 2}, "vocabulary_size = 2: must be greater than or equal to 3"),
        ({"vocabulary_size": [50, 50, 50]}, "vocabulary_size: must be a whole number, or must have at most 2 entries"),
        ({"longest": 0}, "longest = 0"),
        ({"train_pairs": 0}, "train_pairs = 0"),
        ({"train_pairs": 1}, "training.batch_size = 2: must be at most the 1 training"),
    ],
)
def test_a_mistake_in_texts_is_named(keys, message):
    with pytest.raises(ConfigError, match=f"one mistake:\n.*{message}"):
        load_study(texts(**keys))


def test_classes_of_a_regression_are_refused(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text("def data():\n    return {}\n")
    raw_study["datasets"]["more"] = {"function": "mine:data", "task": "regression", "classes": [0, 1]}
    with pytest.raises(ConfigError, match="`classes` is of classification, and the task is regression"):
        load_study(raw_study, [tmp_path])


def test_only_what_is_known_of_one_set_reaches_prepare(raw_study):
    entry = specs.prepare(study_of(raw_study, cifar(normalisation=CONSTANTS)), "mine").arguments
    assert entry["expected"] == {"classes": 10, "samples": [50_000, 10_000]}
    assert entry["arguments"] == [{"train": True}, {"train": False}]
    assert entry["normalisation"] == CONSTANTS
    assert "CIFAR100" not in str(entry)


@pytest.mark.parametrize("name", SETS)
def test_what_is_known_fits_together(name):
    entry = SETS[name]
    for known in entry.values() if isinstance(entry, dict) else [entry]:
        assert isinstance(known, Known)
        for samples, least in zip(known.samples, known.least or (2, 2), strict=True):
            assert 2 <= least <= samples / known.classes
        assert known.train != known.test


def test_data_dir_is_in_no_specification_and_not_in_the_resolved_study(raw_study):
    def all_of(study):
        run = next(study.runs())
        of_run = [step(study, run) for step in (specs.train, specs.extract, specs.measure)]
        return [
            specs.prepare(study, "mine"),
            *of_run,
            specs.track_run(study, run),
            specs.resolve(study),
            specs.report(study, "command"),
        ]

    before = study_of(raw_study, cifar())
    raw_study["data_dir"] = "/elsewhere"
    after = load_study(raw_study)
    assert (before.data_dir, after.data_dir) == ("data", "/elsewhere")
    assert all_of(before) == all_of(after)


def test_a_data_dir_that_is_a_file_is_refused(raw_study, tmp_path):
    (tmp_path / "file").write_text("")
    raw_study["data_dir"] = str(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"data_dir = .*is a file; it must be the folder of the raw data"):
        load_study(raw_study)


def test_reading_the_configuration_imports_neither_torch_nor_torchvision():
    code = "import sys, nclens.study; sys.exit(bool({'torch', 'torchvision'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_stream_is_not_augmented_twice(raw_study):
    entry = {"source": "imagefolder", "path": "pets", "storage": "stream", "image_size": 32}
    with pytest.raises(
        ConfigError, match=r"training.augmentation = flip_crop: a stream is augmented where it is decoded"
    ):
        study_of(raw_study, entry, augmentation="flip_crop")


def test_workers_are_no_part_of_what_is_prepared_and_a_stream_has_a_table_of_its_own(raw_study):
    entry = {"source": "imagefolder", "path": "pets", "image_size": 32}
    stored = specs.prepare(study_of(raw_study, entry), "mine").arguments
    assert set(stored) == {
        *("source", "channels", "image_size", "normalisation", "split_seed", "test_folder"),
        *("train_per_class", "test_per_class"),
    }
    few, many = (
        specs.prepare(study_of(raw_study, entry | {"storage": "stream", "workers": workers}), "mine").arguments
        for workers in (0, 9)
    )
    assert few == many
    assert set(few) - set(stored) == {"stream"}
    assert few["stream"]["rand_augment"] is None
