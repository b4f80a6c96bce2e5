"""How far a training is, in a file that no stage reads."""

from types import SimpleNamespace

import pytest

from nclens.workflow import progress
from nclens.workflow.files import read_json
from nclens.workflow.paths import RunFolder
from nclens.workflow.progress import Progress


@pytest.fixture
def trainer():
    return SimpleNamespace(epoch=2, step=5, steps_per_epoch=10, history=[], settings=SimpleNamespace(epochs=4))


def test_the_file_has_position_loss_and_pace(tmp_path, trainer, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    work = RunFolder(tmp_path / "run").work
    written = Progress(trainer, work)
    expected = {"epochs": 4, "first": 2.5, "position": 2.5, "loss": None, "seconds": 0.0}
    assert read_json(work.progress, "train") == expected
    trainer.epoch, trainer.step = 3, 1
    trainer.history = [{"split": "train", "loss": 0.5}, {"split": "test", "loss": 0.7}]
    now[0] += 0.9  # not more often than every second
    written.note()
    assert read_json(work.progress, "train") == expected
    now[0] += 0.1
    written.note()
    expected |= {"position": 3.1, "loss": 0.5, "seconds": 1.0}
    assert read_json(work.progress, "train") == expected
    trainer.epoch, trainer.step = 4, 0  # the end is always written
    written.note()
    assert read_json(work.progress, "train")["position"] == 4


def test_a_training_goes_on_where_the_file_cannot_be_written(tmp_path, trainer):
    work = RunFolder(tmp_path / "run").work
    work.folder.parent.mkdir()
    work.folder.write_text("in the way")
    Progress(trainer, work).note()
