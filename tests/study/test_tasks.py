"""Losses, figures and penalties go with the task of an experiment's data."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.workflow import specs

RAW = {
    "study": "tasks",
    "datasets": {
        "digits": {"source": "mnist5k"},
        "reacher": {"source": "reacher_scripted"},
        "strokes": {"source": "mnist5k_strokes"},
    },
    "models": {"mlp": {"name": "mlp"}, "resnet8": {"name": "resnet8"}},
    "losses": {"ce": {"name": "ce"}, "wd_0": {"name": "squared_error"}, "wd": {"name": "squared_error"}},
    "experiments": {},
}


def study(dataset="reacher", losses=("wd", "wd_0"), experiment=None, decay=0.02, common=0, **training):
    optimizer = {"name": "sgd", "weight_decay": common}
    training = {"epochs": 5, "batch_size": 100, "optimizer": optimizer} | training
    entry = {"dataset": dataset, "model": "mlp", "losses": list(losses), "seeds": [0], "training": training}
    raw = RAW | {"experiments": {"main": entry | (experiment or {})}}
    raw["losses"] = RAW["losses"] | {"wd": {"name": "squared_error", "weight_decay": decay}}
    return load_study(raw)


def test_the_task_is_that_of_the_data():
    regression, classification = study(), study("digits", ["ce"])
    assert (regression.task("main"), classification.task("main")) == ("regression", "classification")
    assert regression.figures("main") == ["nrc_curves", "nrc_gram", "residuals"]
    assert "collapse_curves" in classification.figures("main")
    assert "nrc_curves" not in classification.figures("main")
    spec = specs.measure(regression, next(regression.runs()))
    assert spec == specs.Measure(
        *("regression", (1, 2, 3, 4, 5), (1, 2, 3, 4, 5), specs.calls("regression")),
        regressor=specs.MeasureRegressor(c=None),
    )


def test_a_losses_weight_decay_takes_the_place_of_the_trainings():
    given = study(common=0.5)
    decays = {run.loss: specs.train(given, run).training.optimizer.weight_decay for run in given.runs()}
    assert decays == {"wd": 0.02, "wd_0": 0.5}
    assert all("weight_decay" not in specs.train(given, run).loss.arguments for run in given.runs())
    (facts,) = specs.judge(given).experiments
    assert facts.weight_decays == decays
    assert facts.losses == ("wd", "wd_0")


def test_the_penalties_of_a_regression_are_of_a_mean():
    given = study(losses=["wd_0"], ufm_regularised=True)
    (run,) = given.runs()
    assert specs.train(given, run).penalties == specs.Penalties(lambda_w=1e-3, lambda_h_total=1e-2, lambda_b=0.0)
    assert specs.measure(given, run).regressor.c == pytest.approx(1e-5)
    for spec in (specs.theory(given), specs.predict(given)):
        (regression,) = spec.regressions
        assert (regression.lambda_w, regression.lambda_h_mean, regression.dim) == (1e-3, 1e-2, 256)
        assert spec.experiments == ()
    assert specs.theory(study()).regressions == specs.predict(study()).regressions == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"losses": ["wd", "ce"]}, "losses = ce: is not for regression, the task of reacher; allowed: wd_0, wd"),
        ({"dataset": "digits", "losses": ["ce", "wd"]}, "losses = wd: is not for classification, .* allowed: ce"),
        ({"losses": ["wd"], "ufm_regularised": True}, r"losses.wd.weight_decay = 0.02: must be 0 in experiments.main"),
        ({"experiment": {"figures": ["norms"]}}, "figures = norms: does not go with regression; allowed: nrc_curves"),
        ({"batch_size": 1001}, "batch_size = 1001: must be at most the 1000 training samples of reacher"),
        ({"dataset": "strokes", "batch_size": 4001}, "at most the 4000 training samples of strokes"),
        ({"decay": -1.0}, r"losses.wd.weight_decay = -1.0"),
        ({"dataset": "strokes", "augmentation": "flip_crop"}, "augmentation = flip_crop: must be none for regression"),
    ],
)
def test_what_does_not_go_together_is_told(arguments, words):
    with pytest.raises(ConfigError, match=words) as told:
        study(**arguments)
    assert "one mistake" in str(told.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"source": "reacher_scripted", "targets": ["joint2"]}, "'joint0' or 'joint1'"),
        ({"source": "reacher_scripted", "targets": ["joint0", "joint0"]}, "must not repeat"),
        ({"source": "reacher_scripted", "targets": []}, "must not be empty"),
        ({"source": "mnist5k_strokes", "train_per_class": 499, "test_per_class": 2}, "at most 500"),
        (
            {"source": "rollouts", "path": "x.csv", "train_rollouts": 1, "test_rollouts": 1},
            r"must be a file of arrays, \.npz or \.safetensors",
        ),
        ({"source": "rollouts", "path": "x.npz", "train_rollouts": 1}, "test_rollouts: is missing"),
        ({"source": "swimmer_scripted", "scale_targets": "all"}, "'each', 'common' or 'none'"),
    ],
)
def test_data_entries_for_regression_are_checked(entry, words):
    raw = RAW | {"datasets": {"reacher": entry}, "experiments": study().model_dump(mode="json")["experiments"]}
    with pytest.raises(ConfigError, match=words):
        load_study(raw)
