"""Time left, by hand and on a study replayed from measured times."""

import pytest

from snakemake_logger_plugin_nclens.estimate import USUAL, Rule, time_left, training_left
from snakemake_logger_plugin_nclens.state import Study, Training
from tests.snakemake_logger_plugin_nclens.records import DIGITS, replayed

TRAIN = frozenset({"train"})


def test_like_jobs_share_the_cores():
    rules = {"measure": Rule(10, times=[4.0, 6.0], running=[(2.0, None), (1.0, None)])}
    assert time_left(rules, {"cores": 2.0}) == pytest.approx((3 + 4 + 6 * 5) / 2)


def test_a_training_that_runs_says_itself_how_long():
    rules = {"train": Rule(4, running=[(10.0, 30.0), (10.0, 50.0)])}
    assert time_left(rules, {"cores": 2.0}, TRAIN) == pytest.approx(50 + 50)


def test_nothing_is_said_before_anything_like_it_is_measured():
    rules = {"train": Rule(2, running=[(10.0, None)]), "prepare": Rule(1, times=[3.0])}
    assert time_left(rules, {"cores": 2.0}, TRAIN) is None
    assert time_left({"theory": Rule(1)}, {"cores": 2.0}) is None
    assert time_left({"theory": Rule(1, times=[9.0])}, {"cores": 2.0}) == 0


def test_the_scarcest_resource_decides():
    train = Rule(4, times=[10.0], use={"cores": 1.0, "gpu": 1.0})
    assert time_left({"train": train}, {"cores": 16.0, "gpu": 1.0}, TRAIN) == pytest.approx(30)
    train.use = {"cores": 8.0}
    assert time_left({"train": train}, {"cores": 16.0, "gpu": 1.0}, TRAIN) == pytest.approx(20)


def test_the_last_training_waits_for_a_free_core():
    rules = {"train": Rule(6, times=[60.0], running=[(40.0, 20.0)] * 4)}
    assert time_left(rules, {"cores": 4.0}, TRAIN) == pytest.approx(20 + 60)
    thousands = Rule(4002, times=[60.0], running=[(50.0, 10.0)])
    assert time_left({"train": thousands}, {"cores": 4.0}, TRAIN) == pytest.approx(10 + 1000 * 60)


def test_a_study_ends_with_single_jobs_one_after_the_other():
    rules = {
        "train": Rule(1, running=[(60.0, 40.0)]),
        "draw": Rule(1),
        "report": Rule(1),
        "prepare": Rule(1, [USUAL["prepare"]]),
    }
    assert time_left(rules, {"cores": 64.0}, TRAIN) == pytest.approx(40 + USUAL["draw"] + USUAL["report"])


def test_what_is_not_measured_follows_the_machines_speed_within_limits():
    for prepare, speed in ((2 * USUAL["prepare"], 2.0), (300.0, 3.0), (0.01, 1 / 3)):
        rules = {"prepare": Rule(1, times=[prepare]), "track_setup": Rule(1), "extract_digits": Rule(1), "own": Rule(1)}
        left = speed * (USUAL["track_setup"] + USUAL["extract"] + 5)
        assert time_left(rules, {"cores": 1.0}) == pytest.approx(left)


def test_a_job_that_outlasts_its_like_goes_on():
    assert time_left({"theory": Rule(2, times=[10.0], running=[(40.0, None)])}, {"cores": 1.0}) == pytest.approx(10)


def test_jobs_that_wait_for_a_failed_one_are_not_counted():
    assert time_left({"measure": Rule(5, times=[4.0, 4.0], lost=2)}, {"cores": 1.0}) == pytest.approx(4)


def test_a_training_goes_on_at_the_pace_since_it_was_taken_up():
    assert training_left(20.0, 25.0, 60.0, 10.0) == pytest.approx(70)
    assert training_left(20.0, 20.0, 60.0, 10.0) is None


@pytest.mark.parametrize("changed", [{}, {"train": 0.5}, {"train": 3}, {"track": 0.4, "extract": 0.6}, {"draw": 0.5}])
@pytest.mark.parametrize("pace", [1, 1.8])
@pytest.mark.parametrize("cores", [2, 4])
def test_after_a_third_of_the_study_the_time_left_is_within_a_quarter(changed, pace, cores):
    """Also where the machine is slower than usual and where some stage takes another share than usual."""
    factor = {rule: pace * changed.get(rule, 1) for rule in DIGITS}
    seconds = {
        rule: [time * factor[rule] for time in times] if isinstance(times, list) else times * factor[rule]
        for rule, times in DIGITS.items()
    }
    records, end = replayed(seconds, cores)
    estimates = []
    for share in (0.33, 0.4, 0.5, 0.6):
        now, study = share * end, Study()
        for each in (each for each in records if each.created <= now):
            study.take(each)
        for job in study._running.values():
            if job.rule == "train":
                left = seconds["train"][int(job.name[-1])] - (now - job.begun)
                job.training = Training(1, 60, 0.1, left, 0, now)
        estimates.append(study.picture(now).left / (end - now))
    assert estimates == pytest.approx([1] * 4, abs=0.25), estimates
