"""Losses of another study among an experiment's: what is taken from there, and what is refused."""

import copy
from pathlib import Path

import pytest
import yaml

from nclens.study import ConfigError, load_study
from nclens.study.colours import PALETTE
from nclens.study.reused import command, differences
from tests.finished import finish

CE = {"study": "results/smoke", "experiment": "smoke", "loss": "ce"}


@pytest.fixture
def there(raw_study, tmp_path, monkeypatch):
    """The smoke study, which a test may edit before it is finished."""
    monkeypatch.chdir(tmp_path)
    return raw_study


@pytest.fixture
def raw(there):
    """A study with a loss of its own and the smoke study's cross entropy."""
    made = copy.deepcopy(there) | {"study": "mine", "losses": {"maxsup": {"name": "maxsup", "alpha": 0.1}}}
    made["experiments"] = {"mine": made["experiments"].pop("smoke") | {"losses": ["maxsup", CE]}}
    return made


def losses(raw, *entries):
    raw["experiments"]["mine"]["losses"] = ["maxsup", *entries]
    return raw


def refusal(raw, folders=None):
    with pytest.raises(ConfigError) as error:
        load_study(raw, folders)
    return str(error.value)


def test_label_kind_strength_and_colour_are_those_of_the_other_study(there, raw):
    there["losses"]["ls"] |= {"label": "Smoothed", "colour": "#123456", "schedule": {"kind": "linear", "end": 0.0}}
    finish(there)
    study = load_study(losses(raw, CE, CE | {"loss": "ls"}))
    experiment = study.experiments["mine"]
    assert experiment.losses == ("maxsup", "ce", "ls")
    assert experiment.own == ("maxsup",)
    assert {run.loss for run in study.runs()} == {"maxsup"}
    assert (study.label("ls"), study.kind("ls"), study.strength("ls")) == ("Smoothed", "ls_linear", 0.05)
    assert (study.label("ce"), study.kind("ce"), study.strength("ce")) == ("CE", "ce", None)
    assert [study.colour(loss) for loss in experiment.losses] == [PALETTE[1], PALETTE[0], "#123456"]
    assert study.baseline("mine") == "ce"
    assert study.weight_decay("mine", "ce") == 5e-4
    assert study.smoothings("mine") == {"ce": 0.0}
    assert differences(study, "mine", "ce") == []


def test_an_entry_may_have_another_name_label_and_colour_here(there, raw):
    finish(there)
    raw["losses"]["ce"] = {"name": "ce", "label": "Ours"}
    theirs = CE | {"name": "theirs", "label": "Theirs", "colour": "#00ff00"}
    raw["experiments"]["mine"] |= {"losses": ["ce", theirs], "baseline": "theirs"}
    study = load_study(raw)
    assert (study.label("theirs"), study.colour("theirs"), study.kind("theirs")) == ("Theirs", "#00ff00", "ce")
    assert study.baseline("mine") == "theirs"


def test_of_two_losses_with_one_colour_the_second_gets_the_next_of_the_palette(there, raw):
    finish(there)
    finish(there | {"study": "again"}, "results/again")
    again = CE | {"study": "results/again", "name": "again", "label": "CE again"}
    raw["losses"]["maxsup"]["colour"] = PALETTE[2]
    study = load_study(losses(raw, CE, again))
    assert [study.colour(loss) for loss in ("maxsup", "ce", "again")] == [PALETTE[2], PALETTE[0], PALETTE[1]]


def test_the_resolved_study_is_the_same_study(there, raw):
    finish(there)
    study = load_study(raw)
    resolved = study.resolved()
    looks = {"name": "ce", "label": "CE", "colour": PALETTE[0]}
    assert resolved["experiments"]["mine"]["losses"] == ["maxsup", CE | looks]
    assert set(resolved["losses"]) == {"maxsup"}
    assert load_study(yaml.safe_load(yaml.safe_dump(resolved))).resolved() == resolved


def test_a_study_is_named_by_its_file_or_its_results_from_here_or_beside_the_configuration(there, raw):
    finish(there)
    Path("studies").mkdir()
    Path("studies/small.yaml").write_text(yaml.safe_dump(there))
    for name in ("studies/small.yaml", "small.yaml", "results/smoke", "../results/smoke", "results/smoke/"):
        source = load_study(losses(raw, CE | {"study": name}), ["studies"]).source("ce")
        assert str(source.folder) == "results/smoke"
        assert source.command == "nclens run studies/small.yaml"
        assert str(source.runs) == "results/smoke/mnist5k/resnet8/ce"
    assert command(None) == "nclens run STUDY.yaml"


def test_what_was_trained_otherwise_there_is_known(there, raw):
    there["losses"]["ls"]["weight_decay"] = 0.1
    finish(there)
    raw["models"]["resnet8"]["width"] = 16
    raw["experiments"]["mine"]["training"] |= {
        "optimizer": {"name": "sgd", "learning_rate": 0.2, "weight_decay": 0.0},
        "device": "auto",
    }
    study = load_study(losses(raw, CE, CE | {"loss": "ls"}))
    common = [("model.width", "8", "16"), ("training.optimizer.learning_rate", "0.05", "0.2")]
    assert differences(study, "mine", "ce") == [*common, ("training.optimizer.weight_decay", "0.0005", "0.0")]
    assert differences(study, "mine", "ls") == common  # its weight decay is a part of the loss
    assert study.weight_decay("mine", "ls") == 0.1
    assert not study.trained_alike("mine", "ls")
    assert study.trained_alike("mine", "maxsup")


def test_networks_trained_elsewhere_and_losses_of_the_users_own_are_reused_too(there, raw, tmp_path):
    (tmp_path / "parts.py").write_text("def soft(logits, targets):\n    return logits.sum(1)\n")
    for epoch in (1, 2, 6):
        (tmp_path / f"net{epoch}.pt").touch()
    there["losses"] |= {"soft": {"function": "parts:soft", "label": "Soft"}, "student": {"name": "distillation"}}
    there["losses"]["student"]["teacher"] = {"experiment": "smoke", "loss": "ce"}
    there["experiments"]["smoke"]["losses"] += ["soft", "student"]
    imported = {"kind": "imported", "dataset": "mnist5k", "model": {"their": "resnet8"}, "normalise": "data"}
    there["experiments"]["old"] = imported | {"runs": {"their": {seed: "net{epoch}.pt" for seed in (0, 1)}}}
    del there["experiments"]["old"]["runs"]["their"][1]
    finish(there)
    (tmp_path / "parts.py").unlink()
    old = {"study": "results/smoke", "experiment": "old", "loss": "their"}
    raw["experiments"]["mine"]["seeds"] = [0]
    study = load_study(losses(raw, CE | {"loss": "soft"}, CE | {"loss": "student"}, old))
    kinds = {loss: study.kind(loss) for loss in study.experiments["mine"].losses}
    assert kinds == {"maxsup": "maxsup", "soft": "own", "student": "own", "their": "unknown"}
    assert study.label("student") == "Student of CE, T = 1"
    assert differences(study, "mine", "their") == [("training", "elsewhere", "here")]
    assert study.source("their").runs.name == "their"


SMOKE = "{study: results/smoke, experiment: smoke, loss: ce}"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"loss": "cf"}, "results/smoke: its experiment smoke has no loss cf; it has: ce, ls"),
        ({"experiment": "e"}, "results/smoke has no experiment e; it has: smoke"),
        (
            {"study": "results/none"},
            "there is no folder results/none; allowed: a study's YAML file, or the folder of its results such as "
            "results/digits, which `nclens run STUDY.yaml` makes",
        ),
        ({"study": "none.yaml"}, "there is no file none.yaml"),
        (
            {"study": "unrun.yaml"},
            "results/unrun has no results yet, results/unrun/study.yaml is missing: `nclens run unrun.yaml` makes them",
        ),
        ({"study": "results/mine"}, "results/mine are the results of this study; allowed: the name of the loss"),
        ({"name": "spare"}, "`spare` is an entry of `losses` too; allowed: another `name` here, such as spare_there"),
        ({"name": "maxsup"}, "['maxsup', 'maxsup'] must not repeat; a loss of another study may have another `name`"),
        ({"label": "MaxSup (α = 0.1)"}, "another loss has the label 'MaxSup (α = 0.1)'; allowed: another `label` here"),
        ({"of": 1}, "unknown key `of`; allowed: study, experiment, loss, name, label, colour"),
        ({"study": 3}, "experiments.mine.losses.1.study = 3: must be text"),
    ],
)
def test_an_entry_that_cannot_be_followed_is_refused(there, raw, entry, said):
    finish(there)
    finish(there, "results/mine")
    Path("unrun.yaml").write_text("study: unrun\n")
    raw["losses"]["spare"] = {"name": "ce"}
    assert said in refusal(losses(raw, CE | entry))


def test_two_losses_of_one_name_are_refused_and_one_loss_in_two_experiments_is_not(there, raw):
    finish(there)
    finish(there | {"study": "again"}, "results/again")
    other = copy.deepcopy(raw["experiments"]["mine"]) | {"model": "wide", "losses": [CE]}
    raw["models"]["wide"] = {"name": "resnet8"}
    raw["experiments"]["other"] = other
    assert load_study(raw).reused("other").keys() == {"ce"}
    other["losses"] = [CE | {"study": "results/again"}]
    assert "`ce` is the loss of results/smoke too; allowed: another `name` for one of them" in refusal(raw)
    other["losses"] = [CE, CE]
    assert "losses ['ce', 'ce'] must not repeat" in refusal(raw)


def test_a_loss_that_the_other_study_reuses_itself_is_refused_with_its_source(there, raw):
    finish(there)
    finish(raw, "results/mine")
    raw["study"] = "third"
    said = refusal(losses(raw, CE | {"study": "results/mine", "experiment": "mine"}))
    assert f"results/mine reuses ce itself; allowed: {SMOKE}" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experiments": {"seeds": [0, 1, 5, 7]}}, "results/smoke has no run of ce with seed 5, 7; it has: 0, 1"),
        ({"measure": {"held_out": 0.3}}, "measure.held_out is 0.5 in results/smoke and 0.3 here"),
        (
            {"experiments": {"projection_classes": [3, 4, 5]}},
            "projection_classes is [0, 1, 2] in results/smoke and [3, 4, 5]",
        ),
        (
            {
                "experiments": {
                    "training": {
                        "epochs": 6,
                        "batch_size": 40,
                        "optimizer": {"name": "sgd", "weight_decay": 0.0},
                        "ufm_regularised": True,
                    }
                }
            },
            "training.ufm_regularised is false in results/smoke and true here",
        ),
        (
            {"metrics": {"rank": {"function": "parts:rank"}}},
            "metrics.rank is not measured in results/smoke; allowed: the same of both studies",
        ),
        (
            {"probes": {"variance": {"kind": "gradient_variance"}}, "experiments": {"probes": ["variance"]}},
            "probes.variance is not measured in results/smoke; allowed: the same of both studies",
        ),
    ],
)
def test_what_was_measured_otherwise_there_is_refused_with_both_values(there, raw, tmp_path, change, said):
    finish(there)
    (tmp_path / "parts.py").write_text("def rank(features):\n    return 1.0\n")
    raw["experiments"]["mine"] |= change.pop("experiments", {})
    assert f"experiments.mine.losses: {SMOKE}: {said}" in refusal(raw | change)


def test_probes_of_a_kind_must_be_the_same(there, raw):
    there["probes"] = {"variance": {"kind": "gradient_variance"}}
    there["experiments"]["smoke"]["probes"] = ["variance"]
    finish(there)
    raw["probes"] = {"variance": {"kind": "gradient_variance"}}
    raw["experiments"]["mine"]["probes"] = ["variance"]
    load_study(raw)
    raw["probes"]["variance"]["samples"] = 20
    assert "probes.variance is another one in results/smoke; allowed: equal settings" in refusal(raw)
    del raw["probes"]["variance"]["samples"]
    raw["probes"]["more"] = {"kind": "gradient_variance", "samples": 20}
    raw["experiments"]["mine"]["probes"].append("more")
    assert "probes.more is not measured in results/smoke" in refusal(raw)


def test_a_student_here_learns_from_no_network_there(there, raw):
    finish(there)
    raw["losses"]["student"] = {"name": "distillation", "teacher": {"experiment": "mine", "loss": "ce"}}
    raw["experiments"]["mine"]["losses"].append("student")
    assert "losses.student.teacher.loss = ce: experiments.mine does not train it; it trains: maxsup" in refusal(raw)
