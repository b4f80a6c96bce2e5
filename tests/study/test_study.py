"""Runs, names, colours, and what each step uses of a study."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nclens.study import load_study, log_spaced
from nclens.study.colours import PALETTE, SCALE
from nclens.workflow import specs
from nclens.workflow.paths import path_of


def test_runs_are_the_product_in_the_configurations_order(raw_study):
    assert [path_of(run) for run in load_study(raw_study).runs()] == [
        "mnist5k/resnet8/ce/seed0",
        "mnist5k/resnet8/ce/seed1",
        "mnist5k/resnet8/ls/seed0",
        "mnist5k/resnet8/ls/seed1",
    ]


@given(last=st.integers(1, 1000), count=st.integers(1, 60))
def test_log_spaced_epochs_ascend_from_first_to_last(last, count):
    epochs = log_spaced(last, count)
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == last
    assert len(epochs) == (1 if count == 1 else min(count, last))
    if count > 1:
        assert epochs[0] == 1


def test_the_resolved_study_is_a_study_that_resolves_to_itself(raw_study):
    study = load_study(raw_study)
    again = load_study(study.resolved())
    assert again.resolved() == study.resolved()
    assert list(again.runs()) == list(study.runs())


@pytest.mark.parametrize(
    ("path", "value", "changed"),
    [
        (("losses", "ls", "smoothing"), 0.1, {"train ls", "measure ls", "theory", "draw", "judge", "track ls"}),
        (
            ("losses", "ls", "schedule"),
            {"kind": "drop", "epoch": 3},
            # Of smoothing that is dropped no arcs are measured.
            {"train ls", "measure ls", "collect", "theory", "draw", "judge", "track ls"},
        ),
        (("losses", "ls", "schedule"), {"kind": "constant"}, set()),
        (("losses", "ls", "colour"), "#123456", {"draw", "track ls"}),
        (("losses", "ls", "label"), "soft", {"draw", "judge", "track ls"}),
        (("measure",), {"held_out": 0.3}, {"measure ls", "measure ce", "collect"}),
        (("theory",), {"lambda_w": 0.1}, {"theory"}),
        (("track",), {"tensors": False}, {"track ls", "track ce"}),
        (("experiments", "smoke", "training", "clip_gradient_norm"), 0.1, {"train ls", "train ce"}),
    ],
)
def test_a_leaf_reaches_only_the_steps_that_use_it(raw_study, path, value, changed):
    def made_of(study):
        runs = {run.loss: run for run in study.runs()}
        made = {f"train {loss}": specs.train(study, run) for loss, run in runs.items()}
        made |= {f"extract {loss}": specs.extract(study, run) for loss, run in runs.items()}
        made |= {f"measure {loss}": specs.measure(study, run) for loss, run in runs.items()}
        made |= {f"track {loss}": specs.track_run(study, run) for loss, run in runs.items()}
        made |= {"theory": specs.theory(study), "draw": specs.draw(study), "judge": specs.judge(study)}
        return made | {"collect": specs.collect(study), "prepare": specs.prepare(study, "mnist5k")}

    before = made_of(load_study(raw_study))
    table = raw_study
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    after = made_of(load_study(raw_study))
    different = {key for key in before if before[key] != after[key]}
    assert different == changed


@pytest.mark.parametrize(
    ("entry", "label", "kind"),
    [
        ({"name": "ce"}, "CE", "ce"),
        ({"name": "ls", "smoothing": 0.05}, "LS (δ = 0.05)", "ls"),
        (
            {"name": "ls", "smoothing": 0.1, "schedule": {"kind": "drop", "epoch": 3}},
            "LS (δ = 0.1 until epoch 3)",
            "ls_drop",
        ),
        (
            {"name": "maxsup", "alpha": 0.1, "schedule": {"kind": "linear", "end": 0.2}},
            "MaxSup (α = 0.1 → 0.2)",
            "maxsup_linear",
        ),
        (
            {"name": "focal", "gamma": 2, "schedule": {"kind": "linear", "end": 0, "epoch": 4}},
            "Focal (γ = 2 → 0 at epoch 4)",
            "focal_linear",
        ),
        ({"name": "logit_penalty", "beta": 2e-3}, "Logit penalty (β = 0.002)", "logit_penalty"),
        ({"name": "mse"}, "MSE", "mse"),
        ({"name": "mse", "label": "squares"}, "squares", "mse"),
    ],
)
def test_a_loss_has_a_readable_label_and_a_kind(raw_study, entry, label, kind):
    raw_study["losses"]["ls"] = entry
    study = load_study(raw_study)
    assert (study.label("ls"), study.kind("ls")) == (label, kind)


def test_a_scheduled_smoothing_has_no_closed_form(raw_study):
    raw_study["losses"]["ls"]["schedule"] = {"kind": "linear", "end": 0.2}
    study = load_study(raw_study)
    for spec in (specs.theory(study), specs.predict(study)):
        assert (spec.experiments[0].losses, spec.experiments[0].smoothings) == (("ce",), {"ce": 0.0})


def regression_study(raw_study, **decays):
    """The smoke study with an experiment on regression, a loss for each weight decay."""
    raw_study["datasets"]["reacher"] = {"source": "reacher_scripted"}
    raw_study["models"]["mlp"] = {"name": "mlp"}
    raw_study["losses"] |= {name: {"name": "squared_error", "weight_decay": decay} for name, decay in decays.items()}
    training = {"epochs": 2, "batch_size": 100}
    raw_study["experiments"]["reacher"] = {"dataset": "reacher", "model": "mlp", "losses": list(decays), "seeds": [0]}
    raw_study["experiments"]["reacher"] |= {"training": training, "snapshots": [0, 1, 2]}
    return raw_study


def test_weight_decays_have_colours_in_their_order(raw_study):
    raw = regression_study(raw_study, wd_2=2e-2, wd_0=0, wd_1=1e-3)
    study = load_study(raw)
    assert [study.colour(loss) for loss in ("wd_0", "wd_1", "wd_2")] == [SCALE[0], SCALE[2], SCALE[4]]
    assert study.colour("ce") == load_study(raw_study).colour("ce") == PALETTE[0]
    raw["losses"]["wd_1"]["colour"] = "#123456"
    assert load_study(raw).colour("wd_1") == "#123456"
    assert study.label("wd_1") == "SE, weight decay 0.001"
    assert study.baseline("reacher") is None


def test_judge_and_draw_know_the_task_and_the_weight_decays(raw_study):
    study = load_study(regression_study(raw_study, wd_0=0, wd_1=1e-3))
    for spec in (specs.judge(study), specs.draw(study)):
        own = next(entry for entry in spec.experiments if entry.experiment == "reacher")
        assert (own.task, own.regularised) == ("regression", False)
        assert own.weight_decays == {"wd_0": 0.0, "wd_1": 1e-3}
        assert {entry.task for entry in spec.experiments if entry is not own} == {"classification"}
    assert own.first_epoch == 0
    assert own.figures == ("nrc_curves", "nrc_gram", "residuals")


def test_losses_keep_their_colour_in_every_experiment(raw_study):
    study = load_study(raw_study)
    assert study.colour("ce") != study.colour("ls")
    raw_study["experiments"]["smoke"]["losses"] = ["ls"]
    assert load_study(raw_study).colour("ls") == study.colour("ls")


def test_the_baseline_is_the_first_cross_entropy(raw_study):
    assert load_study(raw_study).baseline("smoke") == "ce"
    raw_study["experiments"]["smoke"]["losses"] = ["ls"]
    assert load_study(raw_study).baseline("smoke") is None


def test_an_experiment_draws_what_it_has_something_to_show_in(raw_study):
    assert not {"smoothing_collapse", "theory_error"} & set(load_study(raw_study).figures("smoke"))
    raw_study["losses"]["more"] = {"name": "ls", "smoothing": 0.5}
    raw_study["experiments"]["smoke"]["losses"] = ["ce", "ls", "more"]
    raw_study["experiments"]["smoke"]["training"] |= {
        "optimizer": {"name": "sgd", "weight_decay": 0},
        "ufm_regularised": True,
    }
    assert {"smoothing_collapse", "theory_error"} <= set(load_study(raw_study).figures("smoke"))
    raw_study["experiments"]["smoke"]["figures"] = ["norms"]
    assert load_study(raw_study).figures("smoke") == ["norms"]


def test_maxsup_and_dropped_losses_bring_figures_of_their_own(raw_study):
    plain = load_study(raw_study).figures("smoke")
    assert not {"smoothing_parts", "class_spread", "two_stage", "drop_epoch"} & set(plain)
    raw_study["losses"]["ls"]["schedule"] = {"kind": "drop", "epoch": 3}
    study = load_study(raw_study)
    assert set(study.figures("smoke")) - set(plain) == {"two_stage", "drop_epoch"}
    assert specs.draw(study).experiments[0].drops == {"ls": 3}
    raw_study["losses"]["ls"] = {"name": "logit_penalty", "beta": 0.1}
    assert set(load_study(raw_study).figures("smoke")) - set(plain) == {"smoothing_parts", "class_spread"}


def taught(raw_study, **changes):
    """The smoke study with an experiment of students of its label smoothing."""
    raw_study["models"]["small"] = {"name": "resnet8", "width": 2}
    entry = {"name": "distillation", "teacher": {"experiment": "smoke", "loss": "ls"}, "temperature": 4}
    raw_study["losses"]["student"] = entry | changes
    students = {"model": "small", "losses": ["ce", "student"], "seeds": [1]}
    raw_study["experiments"]["students"] = raw_study["experiments"]["smoke"] | students
    return load_study(raw_study)


def test_the_run_of_a_student_names_its_teachers_run(raw_study):
    study = taught(raw_study)
    (run,) = (run for run in study.runs("students") if run.loss == "student")
    assert path_of(study.teacher(run)) == "mnist5k/resnet8/ls/seed1"
    spec = specs.train(study, run)
    model = raw_study["models"]["resnet8"]
    arguments = {"temperature": 4.0, "weight": 1.0, "t_squared": False}
    assert spec.loss == specs.Loss("student", "distillation", arguments=arguments)
    assert (spec.teacher.run, spec.teacher.epoch) == ("mnist5k/resnet8/ls/seed1", 6)
    assert spec.teacher.model.entry == "resnet8"
    assert specs.flat(spec.teacher.model).items() >= model.items()
    others = [other for other in study.runs() if other != run]
    assert {study.teacher(other) for other in others} == {None}
    assert not any(specs.train(study, other).teacher for other in others)
    assert (list(study.distilled("students")), study.distilled("smoke")) == (["student"], {})


def test_a_student_is_called_after_its_teacher_and_judged_by_its_kind(raw_study):
    study = taught(raw_study)
    assert study.label("student") == "Student of LS (δ = 0.05), T = 4"
    assert (study.kind("student"), study.strength("student")) == ("distillation_ls", 0.05)
    assert taught(raw_study, weight=0.5).label("student") == "Student of LS (δ = 0.05), T = 4, b = 0.5"
    assert taught(raw_study, label="pupil").label("student") == "pupil"
    spec = specs.judge(taught(raw_study, teacher={"experiment": "smoke", "loss": "ce"})).experiments[1]
    assert (spec.kinds["student"], spec.strengths["student"]) == ("distillation_ce", None)


def test_claims_and_figures_are_told_who_teaches(raw_study):
    study = taught(raw_study)
    teaching = specs.Teaching("smoke", "ls", smoothing=0.05, temperature=4.0, weight=1.0)
    assert [entry.teachers for entry in specs.judge(study).experiments] == [{}, {"student": teaching}]
    drawn = specs.draw(study).experiments[1]
    assert drawn.teachers == {"student": teaching}
    assert drawn.labelled_teachers == {"student": vars(teaching) | {"label": "LS (δ = 0.05)"}}
    assert "distillation" in drawn.figures
    assert "distillation" not in study.figures("smoke")
    assert specs.collect(study).experiments[1].teachers == {"student": teaching}


def test_a_teacher_changed_reaches_its_students_training(raw_study):
    def made_of(study):
        return {f"{run.loss}/{run.model}": specs.train(study, run) for run in study.runs()}

    before = made_of(taught(raw_study))
    raw_study["models"]["resnet8"]["width"] = 5
    after = made_of(taught(raw_study))
    assert {key for key in before if before[key] != after[key]} == {"ce/resnet8", "ls/resnet8", "student/small"}
