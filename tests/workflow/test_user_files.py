"""An edit of the user's data files changes their digest; a touch, a move or another program's files do not."""

import hashlib
import json
import os
import time

import numpy as np
import pytest

from nclens.study import ConfigError, load_study
from nclens.study.datasets import Arrays, CustomData, HuggingFace, ImageFolder, ImageNet, Shards
from nclens.study.fields import Custom
from nclens.study.regression_data import Rollouts
from nclens.workflow import specs, user_files
from nclens.workflow.build.data import load_dataset
from nclens.workflow.files import FileError, read_json
from nclens.workflow.plan import Plan
from nclens.workflow.specs.of_study import PATHS
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.user_files import MISSING, Digests, digest_of, unchanged

#: Long ago, in ns: a file changed just now is not remembered.
BEFORE = 1_600_000_000_000_000_000


def write(path, content, moment=BEFORE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(moment, moment))
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        write(tmp_path / "pictures" / name, name.encode())
    return tmp_path / "pictures"


@pytest.fixture
def hashed(monkeypatch):
    """The files whose content is read, in order; their times are taken for old ones."""
    found = []

    def sha256_of(path):
        found.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(user_files, "sha256_of", sha256_of)
    monkeypatch.setattr(user_files, "SETTLED", -1)
    return found


# --- digests ---------------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_content(tmp_path):
    file = write(tmp_path / "a.npz", b"abc")
    assert digest_of(file) == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    before = digest_of(file)
    os.utime(file)
    assert digest_of(file.rename(tmp_path / "b.npz")) == before
    assert digest_of(write(tmp_path / "b.npz", b"abd")) != before


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: write(folder / "a" / "1.png", b"A/1.png", BEFORE + 1),
        lambda folder: write(folder / "a" / "1.png", b"longer than it was"),
        lambda folder: (folder / "a" / "1.png").rename(folder / "a" / "3.png"),
        lambda folder: (folder / "a" / "1.png").rename(folder / "b" / "2.png"),
        lambda folder: (folder / "a" / "1.png").unlink(),
        lambda folder: write(folder / "c" / "1.png", b""),
        lambda folder: (folder / "c").mkdir(),
    ],
    ids=["time", "size", "name", "class", "fewer", "more", "an empty class"],
)
def test_a_folder_is_known_by_names_sizes_and_times(folder, edit):
    before = digest_of(folder)
    assert before.startswith("listing:")
    edit(folder)
    assert digest_of(folder) != before


@pytest.mark.parametrize("name", [".DS_Store", ".ipynb_checkpoints/1.png", "Thumbs.db", "a/__MACOSX/1.png", "a/.1.png"])
def test_what_other_programs_leave_in_a_folder_does_not_count(folder, name):
    before = digest_of(folder)
    write(folder / name, b"left")
    assert digest_of(folder) == before
    assert digest_of(folder.rename(folder.with_name("moved"))) == before


def test_links_are_followed_and_circles_end(folder, tmp_path):
    write(tmp_path / "elsewhere" / "1.png", b"linked")
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "nowhere").symlink_to(tmp_path / "none")
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b" / "up").symlink_to(folder)
    before = digest_of(folder)
    write(tmp_path / "elsewhere" / "1.png", b"edited, behind the link")
    assert digest_of(folder) != before


def test_what_is_not_there_or_no_file_is_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert digest_of(tmp_path / "none") == digest_of(tmp_path / "pipe") == MISSING
    assert Digests(tmp_path / "cache").of(tmp_path / "none") == MISSING


@pytest.mark.slow
def test_a_folder_of_10000_files_takes_at_most_a_tenth_of_a_second(tmp_path):
    for number in range(10_000):
        if number % 1000 == 0:
            (tmp_path / "all" / str(number)).mkdir(parents=True)
        open(tmp_path / "all" / str(number - number % 1000) / f"{number}.jpeg", "x").close()
    times = []
    for _ in range(3):
        begun = time.process_time()
        digest_of(tmp_path / "all")
        times.append(time.process_time() - begun)
    assert min(times) < 0.1


# --- the cache -------------------------------------------------------------------------------------------------------


def test_an_unchanged_file_is_read_once_by_all_processes(tmp_path, hashed):
    file, cache = write(tmp_path / "a.npz", b"abc"), tmp_path / "results" / ".digests.json"
    first = Digests(cache).of(file)
    assert [Digests(cache).of(file), Digests(cache).of(file)] == [first, first]
    assert hashed == ["a.npz"]
    os.utime(file)
    assert Digests(cache).of(file) == first
    assert hashed == ["a.npz"] * 2
    assert Digests(cache).of(write(file, b"abd")) != first


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path, hashed):
    file, cache = write(tmp_path / "a.npz", b"abc"), tmp_path / "cache"
    before = Digests(cache).of(file)
    time.sleep(0.02)  # the clock of files is coarser than the processor's
    write(file, b"abd")
    assert file.stat().st_mtime_ns == BEFORE
    assert Digests(cache).of(file) != before


def test_a_file_changed_just_now_is_not_remembered(tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(b"abc")
    Digests(tmp_path / "cache").of(file)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"PATH": 7}', '{"PATH": [[], ""]}', '{"PATH": [[1, 2, 3]]}', "\0"]
)
def test_a_damaged_cache_is_written_again(tmp_path, hashed, content):
    file, cache = write(tmp_path / "a.npz", b"abc"), tmp_path / "cache"
    cache.write_text(content.replace("PATH", str(file)))
    expected = digest_of(file)
    assert Digests(cache).of(file) == expected
    assert json.loads(cache.read_text())[str(file)][1] == expected


def test_two_workflows_keep_what_the_other_found(tmp_path, hashed):
    cache, files = tmp_path / "cache", [write(tmp_path / name, name.encode()) for name in ("a", "b", "c")]
    one, other = Digests(cache), Digests(cache)
    one.of(files[0])
    other.of(files[1])
    one.of(files[2])
    assert set(json.loads(cache.read_text())) == set(map(str, files))
    assert not list(tmp_path.glob("*.part*"))


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path, hashed):
    (tmp_path / "results").write_text("a file in the way")
    file = write(tmp_path / "a.npz", b"abc")
    assert Digests(tmp_path / "results" / "cache").of(file) == digest_of(file)


# --- changed meanwhile -----------------------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path):
    file = write(tmp_path / "a.npz", b"abc")
    planned = {"path": digest_of(file)}
    with unchanged({"path": file}, planned) as found:
        assert found == {}
    assert found == planned
    with pytest.raises(FileError, match=r"a\.npz has changed since the workflow was planned"):  # noqa: SIM117
        with unchanged({"path": file}, planned):
            file.write_bytes(b"abd")
    # Its reader's error may follow from the change.
    with pytest.raises(FileError, match=r"a\.npz has changed"), unchanged({"path": file}, planned):
        raise ValueError("truncated")
    with pytest.raises(ValueError, match="truncated"), unchanged({"path": file}, {}):
        raise ValueError("truncated")
    file.unlink()
    with pytest.raises(ValueError, match="no file"), unchanged({"path": file}, planned):
        raise ValueError("no file a.npz")
    with pytest.raises(FileError, match="has changed"), unchanged({"path": file}, planned):
        pass


# --- of a study ------------------------------------------------------------------------------------------------------

OWN = """
from pathlib import Path
import numpy as np
from torch import nn

TABLE = Path(__file__).parent / "table.csv"


def rows():
    rows, targets = np.loadtxt(TABLE, delimiter=","), np.arange(12) % 3
    return {"train_inputs": rows, "train_targets": targets, "test_inputs": rows, "test_targets": targets}


def net(shape, outputs):
    return nn.Linear(shape[0], outputs)


def loss(logits, targets):
    return -logits.log_softmax(1).gather(1, targets[:, None])[:, 0]
"""


@pytest.fixture
def own(raw_study, tmp_path, monkeypatch):
    """A study with data of every kind that the user's files hold; a function that plans it in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine" / "parts.py", OWN.encode())
    for name in ("table.csv", "weights.bin", "costs.csv"):
        write(tmp_path / "mine" / name, "\n".join(["1,2"] * 12).encode())
    (tmp_path / "raw").mkdir()
    numbers = {"inputs": np.arange(36.0).reshape(18, 2), "targets": np.arange(18) % 3}
    np.savez(tmp_path / "raw" / "arrays.npz", **numbers)
    rollouts = {"observations": np.ones((9, 2)), "actions": np.ones((9, 1)), "rollout": np.arange(9) // 3}
    np.savez(tmp_path / "raw" / "rollouts.npz", **rollouts)
    write(tmp_path / "raw" / "pictures" / "a" / "1.png", b"")
    few = {"train_per_class": 4, "test_per_class": 2}
    raw_study["data_dir"] = "raw"
    raw_study["datasets"] |= {
        "arrays": {"source": "arrays", "path": "arrays.npz", **few},
        "pictures": {"source": "imagefolder", "path": "pictures", **few},
        "rollouts": {"source": "rollouts", "path": "rollouts.npz", "train_rollouts": 1, "test_rollouts": 1},
        "table": {"function": "parts:rows", "files": ["table.csv"]},
    }
    raw_study["models"]["net"] = {"function": "parts:net", "files": ["weights.bin"]}
    raw_study["losses"]["costly"] = {"function": "parts:loss", "files": ["costs.csv"]}
    raw_study["experiments"]["own"] = raw_study["experiments"]["smoke"] | {
        "dataset": "table",
        "model": "net",
        "losses": ["ce", "costly"],
        "seeds": [0],
        "training": {"epochs": 6, "batch_size": 4},
    }

    def planned(folder="mine", **changes):
        plan = Plan(load_study(raw_study | changes, [tmp_path / folder]))
        steps = {f"prepare {name}": of_data(plan, name) for name in plan.study.datasets}
        for run in plan.study.runs():
            if run.seed == 0:
                for stage in ("train", "extract", "measure"):
                    key = f"{stage} {run.dataset} {run.loss}"
                    steps[key] = plan.code(stage, run)
        return steps

    planned.raw = raw_study
    return planned


def of_data(plan, name):
    """What makes Snakemake run `prepare` again for a data set."""
    return specs.encode(specs.prepare(plan.study, name)), plan.data_code(name), plan.user_digests(name)


def changed(before, after):
    return {step for step in before if before[step] != after[step]}


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("raw/arrays.npz", {"prepare arrays"}),
        ("raw/rollouts.npz", {"prepare rollouts"}),
        ("raw/pictures/a/1.png", {"prepare pictures"}),
        ("mine/table.csv", {"prepare table"}),
        ("mine/weights.bin", {f"{stage} table {loss}" for stage in ("train", "extract") for loss in ("ce", "costly")}),
        ("mine/costs.csv", {"train table costly", "measure table costly"}),
        ("raw/other.npz", set()),
    ],
)
def test_an_edit_of_a_data_file_changes_what_reads_it_and_nothing_else(own, tmp_path, path, steps):
    before = own()
    write(tmp_path / path, b"edited")
    assert changed(before, own()) == steps


def test_a_touch_or_a_move_of_data_changes_nothing(own, tmp_path):
    before = own()
    for path in ("raw/arrays.npz", "raw/rollouts.npz", "mine/table.csv", "mine/weights.bin"):
        os.utime(tmp_path / path)
    assert own() == before
    (tmp_path / "raw").rename(tmp_path / "moved")
    assert own(data_dir="moved") == before
    assert own(data_dir=str(tmp_path / "moved")) == before
    (tmp_path / "moved" / "arrays.npz").rename(tmp_path / "renamed.npz")
    own.raw["datasets"]["arrays"]["path"] = str(tmp_path / "renamed.npz")
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    assert own("elsewhere", data_dir="moved") == before


def test_prepared_data_need_their_files_no_more(own, tmp_path):
    plan = Plan(load_study(own.raw, [tmp_path / "mine"]))
    planned = plan.user_digests("arrays")
    manifest = plan.folder.manifest("arrays")
    manifest.parent.mkdir(parents=True)
    prepare(
        specs.prepare(plan.study, "arrays"),
        plan.folder.data("arrays"),
        manifest,
        tmp_path / "raw",
        plan.user_paths("arrays"),
        planned,
    )
    assert read_json(manifest, "prepare")["files"] == planned
    (tmp_path / "raw" / "arrays.npz").unlink()
    assert Plan(plan.study).user_digests("arrays") == planned
    for content in ("{", "[]", '{"files": []}'):
        manifest.write_text(content)
        assert Plan(plan.study).user_digests("arrays") == {"path": MISSING}


def test_an_edit_of_a_text_is_one_of_its_split_and_language(tmp_path):
    keys = [f"{split}{language}_path" for split in ("", "test_", "val_") for language in ("source", "target")]
    for key in keys:
        write(tmp_path / f"{key}.txt", b"a line\n")
    entry = {"source": "parallel_text", "vocabulary_size": 50} | {key: f"{key}.txt" for key in keys}
    experiment = {"dataset": "text", "model": "small", "losses": ["ce"], "seeds": [0]}
    study = load_study(
        {
            "study": "text",
            "data_dir": str(tmp_path),
            "datasets": {"text": entry},
            "models": {"small": {"name": "transformer"}},
            "losses": {"ce": {"name": "ce"}},
            "experiments": {"text": experiment | {"training": {"epochs": 1, "batch_size": 2}}},
        }
    )
    before = Plan(study).user_digests("text")
    assert list(before) == keys
    write(tmp_path / "val_target_path.txt", b"another line\n")
    after = Plan(study).user_digests("text")
    assert {key for key in keys if before[key] != after[key]} == {"val_target_path"}


def test_prepare_refuses_a_file_that_is_not_the_one_planned_with(own, tmp_path):
    plan = Plan(load_study(own.raw, [tmp_path / "mine"]))

    def made(name):
        arguments = (tmp_path / "data", tmp_path / "manifest", tmp_path / "raw", plan.user_paths(name))
        prepare(specs.prepare(plan.study, name), *arguments, plan.user_digests(name))
        return read_json(tmp_path / "manifest", "prepare")["files"]

    assert made("table") == {"files.table.csv": digest_of(tmp_path / "mine" / "table.csv")}
    for name, file in (("table", tmp_path / "mine" / "table.csv"), ("arrays", tmp_path / "raw" / "arrays.npz")):
        plan.user_digests(name)
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        with pytest.raises(FileError, match=f"{file.name} has changed since the workflow was planned"):
            made(name)


def test_data_that_are_no_file_of_the_users_have_none(own):
    plan = Plan(load_study(own.raw, ["mine"]))
    assert plan.user_paths("mnist5k") == plan.user_digests("mnist5k") == {}


def test_digests_are_computed_once_and_only_where_they_are_used(own, monkeypatch):
    asked = []
    monkeypatch.setattr(user_files, "digest_of", lambda path: asked.append(path.name) or "sha256:0")
    plan = Plan(load_study(own.raw, ["mine"]))
    # What a cluster's job works out of its own run.
    for run in plan.study.runs("smoke"):
        plan.code("train", run), plan.training(run), specs.train(plan.study, run)
    assert asked == []
    for run in plan.study.runs("own"):
        plan.code("train", run)
    assert sorted(asked) == ["costs.csv", "weights.bin"]
    for _ in range(2):
        plan.user_digests("arrays"), plan.user_digests("pictures")
    assert sorted(asked) == ["arrays.npz", "costs.csv", "pictures", "weights.bin"]


def test_missing_files_are_one_clear_sentence(own, tmp_path):
    (tmp_path / "mine" / "weights.bin").unlink()
    with pytest.raises(
        ConfigError, match=r"one mistake:\n.*models\.net: files: there is no file or folder .*weights.bin;"
    ):
        load_study(own.raw, [tmp_path / "mine"])
    (tmp_path / "raw" / "arrays.npz").unlink()
    with pytest.raises(ValueError, match=r"arrays: no file .*raw/arrays\.npz"):
        load_dataset({"source": "arrays", "sha256": None, "classes": None, "layout": None, **entry()}, raw(tmp_path))


def entry():
    return {"path": "arrays.npz", "train_per_class": 4, "test_per_class": 2, "split_seed": 0}


def raw(folder):
    from nclens.data.raw import RawData

    return RawData(folder / "raw")


def test_every_path_of_the_configuration_is_watched():
    """A key that names a file of the user's is one of `PATHS` or, of a function, `file` and `files`."""
    kinds = {*specs_of_data(), Custom}
    named = {
        (kind.__name__, key)
        for kind in kinds
        for key, text in kind.descriptions().items()
        if any(word in text for word in ("file", "folder", "below `data_dir`"))
    }
    watched = {(kind.__name__, "path") for kind in (Arrays, HuggingFace, ImageFolder, ImageNet, Rollouts, Shards)}
    watched |= {("Table", key) for key in PATHS[:3]} | {("ParallelText", key) for key in PATHS[4:]}
    watched |= {("ImageTable", key) for key in ("path", "table_path")}
    watched |= {(kind.__name__, key) for kind in (Custom, CustomData) for key in ("file", "files", "function")}
    elsewhere = {(kind.__name__, "sha256") for kind in (Arrays, Rollouts)} | {("ImageFolder", "test_folder")}
    elsewhere |= {("ImageTable", "image")}  # a column
    elsewhere |= {
        (kind.__name__, key) for kind in (ImageFolder, ImageNet, Shards) for key in ("skip_damaged", "checksum")
    }
    # Below `path`.
    elsewhere |= {("ImageFolder", "storage"), ("Shards", "train_shards"), ("Shards", "class_names")}
    assert named - elsewhere == watched


def specs_of_data():
    import typing

    from nclens.study.datasets import DataEntry

    union = typing.get_args(typing.get_args(DataEntry)[0])
    return [typing.get_args(member)[0] for member in union]
