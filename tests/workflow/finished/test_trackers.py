"""A finished study in TensorBoard and Weights & Biases: what is there, once, and whose it is."""

import json
import os
import struct
import sys
import time

import pandas as pd
import pytest
from PIL import Image

import nclens
from nclens.workflow import specs
from nclens.workflow.files import FileError
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.recorded import points


@pytest.fixture(scope="module")
def study(digits):
    """The study, with a small picture in place of each figure."""
    study, of = nclens.load_study(digits), StudyFolder(digits)
    of.figures.mkdir(exist_ok=True)
    for name in study.figures:
        Image.new("RGB", (4, 3), "red").save(of.figure("digits", name, "png"))
    of.report.touch()
    return study


@pytest.fixture
def expected(study):
    """The points of MLflow's record of a run, (name, epoch) -> value, those that are finite."""
    run = next(run for run in study.checked.runs() if (run.loss, run.seed) == ("ls", 1))
    folder = study.files.run(path_of(run))
    found = points(folder, specs.track_run(study.checked, run), json.loads(folder.run.read_text()))
    return {(name, epoch): value for name, value, _, epoch in found if value == value}


# --- TensorBoard -----------------------------------------------------------------------------------------------------


def test_tensorboard_has_each_run_and_the_study(study, expected, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = study.to_tensorboard(tmp_path / "board")
    runs = {path.parent.relative_to(board).as_posix() for path in board.rglob("events*")}
    assert runs == {*(f"blobs/mlp/{loss}/seed{seed}" for loss in ("ce", "ls") for seed in (0, 1)), "study"}
    events = accumulator.EventAccumulator(str(board / "blobs/mlp/ls/seed1")).Reload()
    scalars = {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}
    assert {key: value for key, value in scalars.items() if value == value} == pytest.approx(expected, rel=1e-6)
    (parameters,) = [
        plugin.content
        for tag, plugin in ((tag, events.SummaryMetadata(tag).plugin_data) for tag in events.summary_metadata)
        if tag == "_hparams_/session_start_info"
    ]
    assert b"smoothing" in parameters
    shown = accumulator.EventAccumulator(str(board / "study")).Reload()
    assert set(shown.Tags()["images"]) == {f"figures/digits/{name}" for name in study.figures}
    text = shown.Tensors("verdicts/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.count("\n") - 1 == len(study.claims.query("level == 'claim'"))


def test_a_second_record_replaces_the_first_and_nothing_else(study, tmp_path):
    pytest.importorskip("tensorboard")
    board = study.to_tensorboard(tmp_path / "board")
    (board / "stale").mkdir()
    assert len(list(study.to_tensorboard(str(board)).rglob("events*"))) == 5
    assert not (board / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["board"]
    (board / "nclens.json").write_text('{"study": "another"}')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for place in ("board", "mine", "file"):
        with pytest.raises(FileError, match=rf"{place} has other files than the study digits for TensorBoard"):
            study.to_tensorboard(tmp_path / place)
    with pytest.raises(FileError, match=r"file/board: \S+file is a file or a link to nothing; allowed: a folder"):
        study.to_tensorboard(tmp_path / "file" / "board")
    for nothing in ("", None):
        with pytest.raises(ValueError, match=f"folder = {nothing!r}: allowed: the path of a folder"):
            study.to_tensorboard(nothing)
    assert (tmp_path / "mine" / "thesis.tex").is_file()


# --- Weights & Biases ------------------------------------------------------------------------------------------------


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """Weights & Biases without an account, in a folder of its own."""
    found = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    found.teardown()
    yield found
    found.teardown()


def records_of(file):
    """The records of a file of W&B: a header of 7 bytes, then blocks of 32 KiB as in the log of LevelDB."""
    content, position, parts = file.read_bytes(), 7, b""
    while position + 7 <= len(content):
        if 0 < (rest := -position % 32768) < 7:
            position += rest
            continue
        size, kind = struct.unpack_from("<HB", content, position + 4)
        parts += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_record(parts)
            parts = b""


def wandb_record(content):
    from wandb.proto import wandb_internal_pb2

    return wandb_internal_pb2.Record.FromString(content)


def read(folder):
    """The history by step, the configuration and the record of a run that was written offline."""
    history, run, ended, begun = {}, None, False, time.monotonic()
    # The service of W&B, a process of its own, may still be writing when `finish` returns.
    while not ended and time.monotonic() < begun + 30:
        for record in records_of(next(folder.glob("*.wandb"))):
            kind = record.WhichOneof("record_type")
            ended |= kind == "exit"
            if kind == "run":
                run = record.run
            elif kind == "history":
                values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
                history[record.history.step.num] = values
        time.sleep(0 if ended else 0.2)
    config = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in run.config.update}
    return history, config, run


@pytest.mark.lengthy
def test_wandb_has_each_run_and_the_study_once(study, expected, wandb, tmp_path):
    ids = study.to_wandb()
    folders = {path.name.rsplit("-", 1)[1]: path for path in (tmp_path / "wandb").glob("offline-run-*")}
    assert set(ids) == set(folders)
    assert len(ids) == 5
    history, config, run = read(folders[ids[3]])
    assert (run.display_name, run.run_group, run.project) == ("blobs/mlp/ls/seed1", "digits", "digits")
    assert (config["smoothing"], config["seed"], config["loss"], config["dataset"]) == (0.1, 1, "ls", "blobs")
    logged = {
        (name, epoch): float(json.loads(text))
        for epoch, of in history.items()
        for name, text in of.items()
        if "/" in name
    }
    assert {key: value for key, value in logged.items() if value == value} == pytest.approx(expected)
    shown, _, _ = read(folders[ids[4]])
    assert {f"figures/digits/{name}" for name in study.figures} | {"verdicts"} <= set(shown[0])
    assert study.to_wandb() == []
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 5
    (folders[ids[4]] / "files" / "nclens.json").unlink()  # as if it had been interrupted
    assert study.to_wandb() == [ids[4]]
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 5


def test_without_an_account_wandb_says_how_to_go_without(study, wandb, monkeypatch, tmp_path):
    def refused(**options):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(ConnectionError, match=r"No API key configured.* set WANDB_MODE=offline"):
        study.to_wandb()
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("method", ["to_wandb", "to_tensorboard"])
def test_verdicts_older_than_the_measurements_are_not_recorded(study, method, monkeypatch, tmp_path):
    pytest.importorskip(method.removeprefix("to_"))
    monkeypatch.chdir(tmp_path)
    page = study.files.report
    os.utime(page, (1, 1))
    try:
        with pytest.raises(FileError, match=r"its page is older than \S+metrics\.parquet: `.*nclens run"):
            getattr(study, method)(*(["board"] if method == "to_tensorboard" else []))
    finally:
        page.touch()
    assert not list(tmp_path.iterdir())


# --- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("package", "method"), [("wandb", "to_wandb"), ("tensorboard", "to_tensorboard")])
def test_an_extra_that_is_not_installed_is_named(study, monkeypatch, package, method, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{method} needs the package {package}.*'nclens\[{package}\]'"):
        getattr(study, method)(*([tmp_path / "board"] if package == "tensorboard" else []))
    assert not (tmp_path / "board").exists()


def test_verdicts_are_rows_of_claims(study):
    from nclens.workflow.finished.records import VERDICT, verdicts

    rows = verdicts(study)
    claims = study.claims.query("level == 'claim'")
    assert [row["verdict"] for row in rows] == claims["verdict"].tolist()
    assert tuple(rows[0]) == VERDICT
    assert all(value is None or not pd.isna(value) for row in rows for value in row.values())
