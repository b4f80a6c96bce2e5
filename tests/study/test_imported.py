"""Experiments of networks trained elsewhere: what is written, the files that are found, and what is refused."""

import copy
import json

import pytest

from nclens.study import ConfigError, load_study, read_study
from nclens.study.experiments import Experiment
from nclens.study.imported import matching

NET = "def net(shape, outputs):\n    pass\n"


@pytest.fixture
def folder(tmp_path):
    """Files of two losses, two seeds and three epochs, and of recorded features; what is in them does not count."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "mine.py").write_text(NET)
    for loss in ("ce", "ls"):
        for seed in (0, 1):
            for epoch in (1, 5, 10):
                (tmp_path / "ckpt" / f"{loss}_s{seed}_epoch{epoch}.pt").touch()
    for epoch in (2, 4):
        (tmp_path / f"epoch{epoch}.npz").touch()
    return tmp_path


@pytest.fixture
def raw():
    experiment = {
        **{"kind": "imported", "dataset": "mnist5k", "model": "net", "normalise": "data"},
        "runs": {loss: {seed: f"ckpt/{loss}_s{seed}_epoch{{epoch}}.pt" for seed in (0, 1)} for loss in ("ce", "ls")},
    }
    return {
        "study": "elsewhere",
        "datasets": {"mnist5k": {"source": "mnist5k"}},
        "models": {"net": {"function": "mine:net"}, "small": {"name": "resnet8"}},
        "losses": {"ls": {"smoothing": 0.1, "colour": "#123456"}},
        "experiments": {"e": experiment},
    }


def changed(raw, **keys):
    """The study with other keys of its experiment; None leaves one out."""
    made = copy.deepcopy(raw)
    made["experiments"]["e"] |= keys
    made["experiments"]["e"] = {key: value for key, value in made["experiments"]["e"].items() if value is not None}
    return made


def test_an_imported_experiment_has_what_a_trained_one_has(raw, folder):
    study = load_study(raw, [folder])
    entry = study.experiments["e"]
    shared = {name for name, value in vars(Experiment).items() if isinstance(value, property)}
    assert all(getattr(entry, name) is not None for name in shared)
    assert (entry.losses, entry.seeds, entry.snapshot_epochs, entry.epochs) == (("ce", "ls"), (0, 1), [1, 5, 10], 10)
    assert [(run.model, run.loss, run.seed) for run in study.runs()][:3] == [
        *(("net", "ce", 0), ("net", "ce", 1), ("net", "ls", 0))
    ]
    assert [path.name for path in entry.files("ls", 1).values()] == [f"ls_s1_epoch{epoch}.pt" for epoch in (1, 5, 10)]
    assert entry.pattern("ls", 1).endswith("ckpt/ls_s1_epoch{epoch}.pt")
    assert entry.preprocessing == {}
    assert study.baseline("e") == "ce"


def test_a_label_has_the_loss_that_its_entry_says(raw, folder):
    raw = changed(raw, runs={label: {0: f"ckpt/ce_s{place}_epoch1.pt"} for place, label in enumerate(("ce", "mine"))})
    raw["losses"] = {"mine": {"label": "Mine"}, "focal": {"name": "focal", "gamma": 2}}
    study = load_study(raw, [folder])
    assert [study.kind(loss) for loss in ("ce", "mine")] == ["ce", "unknown"]
    assert [study.label(loss) for loss in ("ce", "mine")] == ["CE", "Mine"]
    assert study.losses["mine"].specification()["name"] == "ce"
    assert study.smoothings("e") == {"ce": 0.0}
    raw["losses"]["mine"] = {"smoothing": 0.1}
    assert load_study(raw, [folder]).kind("mine") == "ls"
    del raw["losses"], raw["models"]["small"]
    assert load_study(raw, [folder]).label("mine") == "mine"


def test_models_may_differ_by_label(raw, folder):
    study = load_study(changed(raw, model={"ls": "small", "ce": "net"}), [folder])
    assert [study.experiments["e"].model_of(loss) for loss in ("ce", "ls")] == ["net", "small"]
    assert {(run.loss, run.model) for run in study.runs()} == {("ce", "net"), ("ls", "small")}
    assert study.experiments["e"].network == "net+small"
    assert study.dim("e") is None


def test_recorded_features_need_no_model(raw, folder):
    raw = changed(raw, runs={"ce": {0: "epoch{epoch}.npz"}}, model=None, normalise=None)
    del raw["models"], raw["losses"]
    entry = load_study(raw, [folder]).experiments["e"]
    assert (entry.network, entry.snapshot_epochs, entry.models, entry.preprocessing) == ("recorded", [2, 4], (), {})


def test_a_file_without_an_epoch_is_one_snapshot(raw, folder):
    raw = changed(raw, runs={"ls": {0: "ckpt/ls_s0_epoch5.pt"}})
    assert load_study(raw, [folder]).experiments["e"].snapshot_epochs == [0]
    assert load_study(changed(raw, epoch=200), [folder]).experiments["e"].snapshot_epochs == [200]


def test_seeds_may_be_texts_as_in_json(raw, folder):
    entry = load_study(
        json.loads(json.dumps(changed(raw, expected_error={"ce": {0: 0.1, 1: 0.2}, "ls": 0.3}))), [folder]
    )
    assert [entry.experiments["e"].expected(loss, 1) for loss in ("ce", "ls")] == [0.2, 0.3]


@pytest.mark.parametrize("text", ["{0: a.pt}", "{0: a.pt, 1: b.pt}", "{0: 0.1}"])
def test_yaml_may_have_seeds_as_keys(tmp_path, text):
    (tmp_path / "s.yaml").write_text(f"experiments: {{e: {{runs: {{ce: {text}}}}}}}")
    assert 0 in read_study(tmp_path / "s.yaml")["experiments"]["e"]["runs"]["ce"]
    (tmp_path / "s.yaml").write_text("experiments: {e: {runs: {ce: {0: a.pt, 0: b.pt}}}}")
    with pytest.raises(ConfigError, match="the key `0` is there twice"):
        read_study(tmp_path / "s.yaml")


REFUSED = {
    "no normalisation": ({"normalise": None}, r"needs `normalise`, .* `data` .* or `none`"),
    "no model": ({"model": None}, "needs `model`, an entry of `models`"),
    "an unknown model": (
        {"model": "nett"},
        r"experiments.e.model = nett: no such entry in `models`; it has: net, small",
    ),
    "a label without a model": ({"model": {"ce": "net"}}, r"model.ls is missing; it has one entry for each of: ce, ls"),
    "a model without a label": (
        {"model": {"ce": "net", "ls": "net", "x": "net"}},
        r"model.x is none of the runs; it has one entry for each of: ce, ls",
    ),
    "no file": ({"runs": {"ce": {0: "ckpt/x{epoch}.pt"}}}, r"runs.ce.0 = ckpt/x\{epoch\}.pt: matches no file; .*ckpt"),
    "two files": (
        {"runs": {"ce": {0: "ckpt/*_s0_epoch{epoch}.pt"}}},
        "matches .*ce_s0_epoch1.pt and .*ls_s0_epoch1.pt, both at epoch 1; one file",
    ),
    "other epochs": (
        {"runs": {"ce": {0: "ckpt/ce_s0_epoch{epoch}.pt"}, "ls": {0: "ckpt/ls_s0_epoch1{epoch}.pt"}}},
        "runs.ls.0 has epoch 0 and runs.ce.0 lacks it: all runs of an experiment have the same epochs",
    ),
    "other seeds": (
        {"runs": {"ce": {0: "ckpt/ce_s0_epoch1.pt"}, "ls": {3: "ckpt/ls_s0_epoch1.pt"}}},
        "runs.ce has seed 0 and runs.ls lacks it",
    ),
    "one file twice": (
        {"runs": {"ce": {0: "ckpt/ce_s0_epoch1.pt", 1: "ckpt/../ckpt/ce_s0_epoch1.pt"}}},
        "runs.ce.1 and runs.ce.0 have one file",
    ),
    "both kinds": ({"runs": {"ce": {0: "ckpt/ce_s0_epoch1.pt", 1: "epoch2.npz"}}}, "allowed: all of one kind"),
    "a network's keys": ({"runs": {"ce": {0: "epoch2.npz"}}}, "`model` needs a network, and the runs are recorded"),
    "a seed that is none": ({"runs": {"ce": {"a": "ckpt/ce_s0_epoch1.pt"}}}, "must be a .*integer|whole number"),
    "another key": ({"training": {"epochs": 3}}, "unknown key `training`; allowed: kind, dataset, model"),
    "another kind": ({"kind": "import"}, "unknown kind `import`; allowed: `imported`, or no `kind`"),
    "channels": ({"normalise": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, "normalise has 3 channels, .* mnist5k have 1"),
    "an error of another label": ({"expected_error": {"ce": 0.1}}, "expected_error.ls is missing"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_has_one_message(raw, folder, mistake):
    keys, words = REFUSED[mistake]
    with pytest.raises(ConfigError, match=words):
        load_study(changed(raw, **keys), [folder])


def test_an_unknown_loss_trains_nothing_and_a_student_is_not_imported(raw, folder, raw_study):
    raw_study["losses"]["x"] = {"name": "unknown"}
    raw_study["experiments"]["smoke"]["losses"].append("x")
    with pytest.raises(ConfigError, match=r"losses.x is not known and trains nothing"):
        load_study(raw_study)
    raw["losses"]["ls"] = {"name": "distillation", "teacher": {"experiment": "e", "loss": "ce"}}
    with pytest.raises(ConfigError, match=r"experiments.e.runs.ls: losses.ls has a teacher"):
        load_study(raw, [folder])


def test_a_whole_number_is_a_key_of_seeds_alone(raw, folder):
    raw["experiments"]["e"][3] = "x"
    with pytest.raises(ConfigError, match="the key `3` is no text"):
        load_study(raw, [folder])


@pytest.mark.parametrize(
    ("names", "pattern", "found"),
    [
        (["a1", "a20", "b3", "a", "a1x"], "a{epoch}", {1: "a1", 20: "a20"}),
        (["epoch=3-step=400.ckpt", "epoch=4-step=500.ckpt"], "epoch={epoch}-step=*.ckpt", {3: 400, 4: 500}),
        (["e1/w1", "e2/w2", "e2/w1"], "e{epoch}/w{epoch}", {1: "e1/w1", 2: "e2/w2"}),
        (["checkpoint-10/model", "checkpoint-5/model"], "checkpoint-{epoch}", {5: "checkpoint-5", 10: "checkpoint-10"}),
        ([".x1", "x2"], "*x{epoch}", {2: "x2"}),
        (["x(1).pt", "x[2].pt"], "x({epoch}).pt", {1: "x(1).pt"}),
    ],
)
def test_a_pattern_matches_whole_numbers_and_any_text(tmp_path, names, pattern, found):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    matched = matching(str(tmp_path / pattern))
    assert list(matched) == list(found) or sorted(matched) == sorted(found)
    assert all(str(found[epoch]) in str(path) for epoch, path in matched.items())


def test_one_epoch_written_in_two_ways_is_refused(tmp_path):
    for name in ("e1.pt", "e01.pt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="both at epoch 1"):
        matching(str(tmp_path / "e{epoch}.pt"))
