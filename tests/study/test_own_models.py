"""Losses with models of their own: each run has its model, in its path, its columns and its steps."""

import re

import pytest

from nclens.study import ConfigError, load_study
from nclens.workflow import specs
from nclens.workflow.paths import path_of
from nclens.workflow.plan import Plan


@pytest.fixture
def raw(raw_study):
    """The smoke study, in which label smoothing and a further cross entropy have a model of their own."""
    raw_study["models"] |= {"wide": {"name": "resnet8", "width": 32}, "cosine": {"name": "resnet8", "head": "cosine"}}
    raw_study["losses"]["ls"] |= {"model": "wide"}
    raw_study["losses"]["ce_cosine"] = {"name": "ce", "model": "cosine"}
    raw_study["experiments"]["smoke"] |= {"losses": ["ce", "ls", "ce_cosine"], "seeds": [0, 1, 2]}
    return raw_study


def test_each_run_has_the_model_of_its_loss(raw):
    study = load_study(raw)
    entry = study.experiments["smoke"]
    models = {"ce": "resnet8", "ls": "wide", "ce_cosine": "cosine"}
    assert {run.loss: run.model for run in study.runs()} == models
    assert {loss: entry.model_of(loss) for loss in entry.losses} == models
    assert (entry.models, entry.network) == (("resnet8", "wide", "cosine"), "resnet8+wide+cosine")
    for run in study.runs():
        expected = study.models[run.model]
        trained, extracted = specs.train(study, run).model, specs.extract(study, run).model
        assert trained == extracted
        assert (trained.entry, trained.arguments["width"]) == (run.model, expected.width)
        assert path_of(run) == f"mnist5k/{run.model}/{run.loss}/seed{run.seed}"
        assert specs.track_run(study, run).model == run.model
    for spec in (specs.collect(study), specs.judge(study), specs.draw(study), specs.report(study, "")):
        (item,) = spec.experiments
        assert {loss: item.model_of(loss) for loss in item.losses} == models
    assert specs.track_setup(study).by == ("model", "loss")
    assert specs.track_study(study).experiments[0].models == models


def test_the_plan_matches_its_runs_and_no_other(raw):
    plan = Plan(load_study(raw))
    assert all(re.fullmatch(plan.pattern, path) for path in plan.runs)
    assert len(plan.runs) == 9
    assert not re.fullmatch(plan.pattern, "mnist5k/resnet8/ls/seed0")
    assert not re.fullmatch(plan.pattern, "mnist5k/wide/ce/seed0")
    modules = {run.loss: plan.code_used("extract", run)["modules"] for run in plan.runs.values()}
    assert modules == {"ce": [], "ls": [], "ce_cosine": ["nclens.models.cosine"]}


def test_what_depends_on_one_model_does_not_change_with_another(raw):
    def made():
        study = load_study(raw)
        return {path_of(run): (specs.train(study, run), specs.extract(study, run)) for run in study.runs()}

    before = made()
    raw["models"]["wide"]["width"] = 8
    after = made()
    assert {path for path in before if before[path] != after[path]} == {f"mnist5k/wide/ls/seed{s}" for s in range(3)}
    raw["experiments"]["smoke"]["losses"] = ["ce"]  # the others keep their runs where a loss is added
    assert made().items() <= before.items()


def test_labels_name_the_model_and_d_is_that_of_the_run(raw):
    study = load_study(raw)
    assert [study.label(loss) for loss in ("ce", "ls", "ce_cosine")] == ["CE", "LS (δ = 0.05), wide", "CE, cosine"]
    # Without a loss: of the theory, which is that of the experiment's own model.
    assert (study.dim("smoke"), study.dim("smoke", "ce"), study.dim("smoke", "ls")) == (32, 32, 128)
    assert [item.dim for item in specs.theory(study).experiments] == [32]


def test_the_closed_form_is_of_the_experiments_model_and_of_a_linear_head(raw):
    assert load_study(raw).smoothings("smoke") == {"ce": 0.0}
    raw["experiments"]["smoke"]["model"] = "cosine"
    study = load_study(raw)
    assert study.smoothings("smoke") == {}
    assert not specs.theory(study).experiments
    assert "norms" in study.figures("smoke")


def test_the_theory_of_a_regression_is_of_the_experiments_model(raw):
    raw["datasets"]["reacher"] = {"source": "reacher_scripted"}
    raw["models"] |= {"mlp": {"name": "mlp", "widths": [8]}, "wider": {"name": "mlp", "widths": [16]}}
    raw["losses"] |= {"se": {"name": "squared_error"}, "se_wider": {"name": "squared_error", "model": "wider"}}
    training = {
        "epochs": 2,
        "batch_size": 100,
        "optimizer": {"name": "sgd", "weight_decay": 0},
        "ufm_regularised": True,
    }
    rows = {"dataset": "reacher", "model": "mlp", "losses": ["se", "se_wider"], "seeds": [0], "training": training}
    raw["experiments"]["rows"] = rows
    study = load_study(raw)
    for spec in (specs.theory(study), specs.predict(study)):
        assert [(item.dim, item.losses) for item in spec.regressions] == [(8, ("se",))]
    raw["experiments"]["rows"]["losses"] = ["se_wider"]
    assert not specs.theory(load_study(raw)).regressions


def test_a_teacher_is_the_run_of_its_own_model(raw):
    raw["losses"]["student"] = {"name": "distillation", "teacher": {"experiment": "smoke", "loss": "ls"}}
    raw["experiments"]["students"] = raw["experiments"]["smoke"] | {"losses": ["student"]}
    study = load_study(raw)
    student = next(run for run in study.runs("students"))
    teacher = specs.train(study, student).teacher
    assert (teacher.run, teacher.model.entry) == ("mnist5k/wide/ls/seed0", "wide")
    assert "distillation" in study.figures("students")


def test_a_student_of_another_model_has_its_teacher_and_no_figure_beside_the_network_alone(raw):
    raw["losses"]["student"] = {
        **{"name": "distillation", "teacher": {"experiment": "smoke", "loss": "ce"}},
        "model": "wide",
    }
    raw["experiments"]["smoke"]["losses"].append("student")
    study = load_study(raw)
    run = next(run for run in study.runs() if run.loss == "student")
    spec = specs.train(study, run)
    assert (spec.model.entry, spec.teacher.run) == ("wide", "mnist5k/resnet8/ce/seed0")
    assert "distillation" not in study.figures("smoke")
    assert not specs.draw(study).experiments[0].teachers
    assert set(specs.collect(study).experiments[0].teachers) == {"student"}
    assert study.label("student") == "Student of CE, T = 1, wide"


REFUSED = {
    "no such model": ({"losses.ls.model": "wid"}, "losses.ls.model = wid: no such entry in `models`; it has: resnet8"),
    "penalties": (
        {
            "experiments.smoke.training.ufm_regularised": True,
            "experiments.smoke.training.optimizer": {"name": "sgd", "weight_decay": 0},
        },
        "cosine, the model of ce_cosine, has a cosine head, .* allowed: a linear head",
    ),
    "a scale alone": ({"models.wide.scale": 4}, r"models.wide: scale = 4: is of a cosine head; add `head: cosine`"),
    "no scale": ({"models.cosine.scale": 0}, r"models.cosine.scale = 0: .*greater than 0"),
    "another head": ({"models.wide.head": "cos"}, r"models.wide.head = 'cos'|models.wide.head = cos"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_does_not_go_together_is_refused(raw, mistake):
    changes, message = REFUSED[mistake]
    for path, value in changes.items():
        *tables, key = path.split(".")
        table = raw
        for name in tables:
            table = table[name]
        table[key] = value
    with pytest.raises(ConfigError, match=message):
        load_study(raw)


def test_the_same_run_twice_is_refused_and_imported_networks_have_their_models_elsewhere(raw, tmp_path):
    raw["experiments"]["again"] = raw["experiments"]["smoke"] | {"model": "wide", "losses": ["ls"], "snapshots": 2}
    with pytest.raises(ConfigError, match=r"experiments\.again repeats mnist5k/wide/ls of experiments.smoke"):
        load_study(raw)
    (tmp_path / "a.pt").touch()
    imported = {"kind": "imported", "dataset": "mnist5k", "model": "wide", "normalise": "none"}
    raw["experiments"]["again"] = imported | {"runs": {"ls": {0: "a.pt"}}}
    raw["experiments"]["smoke"]["losses"] = ["ce"]
    with pytest.raises(
        ConfigError, match=r"experiments.again.runs.ls: losses.ls has a `model`; allowed: .*again.model"
    ):
        load_study(raw, [tmp_path])


def test_a_resolved_study_with_models_of_losses_is_a_study(raw):
    study = load_study(raw)
    again = load_study(study.resolved())
    assert again.resolved() == study.resolved()
    assert again.models["cosine"].scale == 16
