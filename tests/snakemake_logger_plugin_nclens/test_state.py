"""What is known of a study from Snakemake's records and from the files of its trainings."""

import json
import logging
import os

import pytest

from snakemake_logger_plugin_nclens.state import Study
from tests.snakemake_logger_plugin_nclens.records import begun, ended, failed, planned, provided, record


def study_of(*records):
    study = Study()
    for each in records:
        study.take(each)
    return study


def test_jobs_begin_end_and_fail():
    study = study_of(
        provided(cores=2),
        planned(at=100, train_a=3, measure=3, track_setup=1, track=3),
        begun(1, "train_a", "d/m/ce/seed0", at=101),
        begun(2, "train_a", "d/m/ce/seed1", at=101),
        begun(3, "track_setup", "setup", at=102),
        record(None, 103, "Select jobs to execute..."),
        ended(1, 111),
        failed(2, 112),
    )
    picture = study.picture(120.0)
    train, track = picture.stages["train"], picture.stages["track"]
    assert (train.total, train.done, train.running, train.failed, train.waiting) == (3, 1, 0, 1, 1)
    assert (track.total, track.done, track.running, track.waiting) == (4, 0, 1, 3)
    assert set(picture.stages) == {"train", "measure", "track"}
    assert [(job.rule, job.name) for job in picture.failed] == [("train_a", "d/m/ce/seed1")]
    assert picture.failed[0].logs == ["logs/train_a/d/m/ce/seed1.log"]
    assert [job.name for job in picture.running] == ["setup"]
    assert picture.past == pytest.approx(20)


def test_a_job_that_is_tried_again_has_not_failed():
    study = study_of(planned(train=1), begun(1, "train", at=1), failed(1, 2), begun(1, "train", at=3))
    picture = study.picture(4.0)
    assert not picture.failed
    assert picture.stages["train"].running == 1


def test_a_failed_run_takes_its_later_jobs_and_those_of_the_study_along():
    study = study_of(
        provided(cores=1),
        planned(train=2, measure=2, draw=1),
        begun(1, "train", "a", at=0),
        begun(2, "train", "b", at=0),
        failed(1, 5),
        ended(2, 10),
        begun(3, "measure", "b", at=10),
        ended(3, 14),
    )
    assert study.picture(14.0).left == 0


def test_resources_limit_the_jobs_that_use_them():
    study = study_of(
        provided(cores=16),
        provided(gpu=1, _nodes=3),
        planned(train=3),
        begun(1, "train", at=0, gpu=1),
        ended(1, 10),
    )
    assert study.picture(10.0).left == pytest.approx(20)


def test_a_cluster_gives_what_it_has_given():
    jobs = [begun(number, "train", at=0) for number in range(4)]
    study = study_of(planned(train=12), *jobs, *(ended(number, 10) for number in range(4)))
    assert study.picture(10.0).left == pytest.approx(20)


def progress(run, position, seconds, loss=0.5, at=None):
    run.joinpath(".work").mkdir(parents=True, exist_ok=True)
    file = run / ".work" / "progress.json"
    content = {"epochs": 10, "first": 0.0, "position": position, "loss": loss, "seconds": seconds}
    file.write_text(json.dumps(content), encoding="utf-8")
    if at is not None:
        os.utime(file, (at, at))
    return file


def test_a_training_says_how_far_it_is(tmp_path):
    study = study_of(planned(train=1), begun(1, "train", "r", at=1000, output=[tmp_path / "run.json"]))
    assert study.picture(1001.0).running[0].training is None
    progress(tmp_path, 2.5, 5.0, at=1005)
    training = study.picture(1005.0).running[0].training
    assert (training.epoch, training.epochs, training.loss) == (2, 10, 0.5)
    assert training.left_at(1005.0) == pytest.approx(15)
    assert training.left_at(1008.0) == pytest.approx(12)
    # A file that cannot be read, or is gone, leaves what was read before.
    (tmp_path / ".work" / "progress.json").write_text("{", encoding="utf-8")
    assert study.picture(1010.0).running[0].training.epoch == 2
    (tmp_path / ".work" / "progress.json").unlink()
    assert study.picture(1015.0).running[0].training.epoch == 2


def test_what_an_interrupted_training_left_is_not_shown(tmp_path):
    progress(tmp_path, 9.0, 5.0, at=900)
    study = study_of(planned(train=1), begun(1, "train", "r", at=1000, output=[tmp_path / "run.json"]))
    assert study.picture(1001.0).running[0].training is None


def test_hundreds_of_trainings_are_not_all_read_every_second(tmp_path):
    study = study_of(
        planned(train=100), *(begun(n, "train", str(n), output=[tmp_path / "run.json"]) for n in range(100))
    )
    progress(tmp_path, 1.0, 5.0)
    study.picture(1e6)
    progress(tmp_path, 2.0, 5.0)
    assert {job.training.epoch for job in study.picture(1e6 + 4).running} == {1}
    assert {job.training.epoch for job in study.picture(1e6 + 6).running} == {2}


def test_other_records_change_nothing():
    study = study_of(planned(train=1), record(None, 1, "Terminating processes", logging.WARNING), ended(99, 2))
    assert study.picture(3.0).stages["train"].waiting == 1
