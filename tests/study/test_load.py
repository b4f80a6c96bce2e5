"""A wrong configuration is reported in one message: key, value, what is allowed."""

import difflib
import json
from pathlib import Path

import pytest
import yaml

from nclens.study import ConfigError, json_schema, load_study, read_study

ROOT = Path(__file__).parents[2]


def change(raw, path, value):
    """Set the value at a dotted path."""
    *parents, last = path.split(".")
    for key in parents:
        raw = raw[key]
    if value is ...:
        del raw[last]
    else:
        raw[last] = value


MISTAKES = {
    "unknown key": ("losses.ls.smothing", 0.1, ["losses.ls", "`smothing`", "did you mean `smoothing`", "allowed"]),
    "unknown top-level key": ("lossses", {}, ["`lossses`", "did you mean `losses`"]),
    "wrong type": ("experiments.smoke.training.epochs", "ten", ["training.epochs = 'ten'", "whole number"]),
    "boolean for a number": ("losses.ls.smoothing", True, ["losses.ls.smoothing = True", "must be a number"]),
    "fraction for a count": ("experiments.smoke.training.epochs", 2.5, ["training.epochs = 2.5", "whole number"]),
    "unknown loss": ("losses.ls.name", "lss", ["losses.ls", "`lss`", "did you mean `ls`", "ce, ls"]),
    "unknown model": ("models.resnet8.name", "resnet9", ["models.resnet8", "`resnet9`", "resnet8"]),
    "unknown data set": ("datasets.mnist5k.source", "mnist", ["datasets.mnist5k", "`mnist`", "mnist5k"]),
    "unknown stem": (
        "models.resnet8",
        {"name": "resnet18", "stem": "tiny"},
        ["stem = 'tiny'", "'paper' or 'imagenet'"],
    ),
    "unknown depth": ("models.resnet8", {"name": "vgg", "depth": 12}, ["depth = 12", "11, 13 or 16"]),
    "width of a fixed model": ("models.resnet8", {"name": "resnet50", "width": 8}, ["unknown key `width`", "stem"]),
    "no builder": ("models.resnet8", {"name": "torchvision"}, ["builder", "missing"]),
    "builder of blanks": (
        "models.resnet8",
        {"name": "torchvision", "builder": "a b"},
        ["builder = 'a b'", "must be a Python name"],
    ),
    "classes by hand": (
        "models.resnet8",
        {"name": "torchvision", "builder": "densenet121", "parameters": {"num_classes": 3}},
        ["must not hold `num_classes`", "comes from the data"],
    ),
    "trained weights": (
        "models.resnet8",
        {"name": "torchvision", "builder": "densenet121", "parameters": {"weights": "DEFAULT"}},
        ["must not hold `weights`", "random weights"],
    ),
    "colour for grey images": (
        "models.resnet8",
        {"name": "torchvision", "builder": "densenet121"},
        ["experiments.smoke.model = resnet8", "takes images of 3 channels", "mnist5k have 1"],
    ),
    "no keyword": (
        "models.resnet8",
        {"name": "torchvision", "builder": "densenet121", "parameters": {"drop out": 0}},
        ["parameters.drop out", "must be a Python name"],
    ),
    "loss without a name": ("losses.ls.name", ..., ["losses.ls", "needs the key `name`"]),
    "smoothing of one": ("losses.ls.smoothing", 1, ["losses.ls.smoothing = 1", "less than 1"]),
    "negative smoothing": ("losses.ls.smoothing", -0.1, ["losses.ls.smoothing = -0.1", "greater than or equal to 0"]),
    "missing smoothing": ("losses.ls.smoothing", ..., ["losses.ls.smoothing", "missing"]),
    "no epochs": ("experiments.smoke.training.epochs", 0, ["training.epochs = 0", "greater than or equal to 1"]),
    "snapshot past the end": ("experiments.smoke.snapshots", [1, 6, 9], ["[1, 6, 9]", "training.epochs = 6"]),
    "last epoch not measured": ("experiments.smoke.snapshots", [1, 5], ["[1, 5]", "end with the last epoch"]),
    "milestone past the end": (
        "experiments.smoke.training.lr_schedule.milestones",
        [3, 6],
        ["lr_schedule.milestones [3, 6]", "below epochs = 6"],
    ),
    "no milestone": ("experiments.smoke.training.lr_schedule", {"kind": "step"}, ["milestones: is missing"]),
    "a warm-up without an end": (
        "experiments.smoke.training.lr_schedule",
        {"kind": "cosine", "warmup_epochs": 6},
        ["lr_schedule.warmup_epochs = 6: must be less than epochs = 6"],
    ),
    "a loss's schedule past the end": (
        "losses.ls.lr_schedule",
        {"kind": "step", "milestones": [9]},
        ["experiments.smoke.losses: losses.ls.lr_schedule.milestones [9]", "below epochs = 6"],
    ),
    "keys of an earlier version": (
        "experiments.smoke.training",
        {"epochs": 6, "batch_size": 40, "learning_rate": 0.1, "momentum": 0.9, "milestones": [3], "decay": 0.1},
        [
            "one mistake",
            "`learning_rate` is now `optimizer.learning_rate`, `momentum` is now `optimizer.momentum`",
            "`milestones` is now `lr_schedule.milestones`, `decay` is now `lr_schedule.factor`",
            "write optimizer: {name: sgd,",
        ],
    ),
    "unknown optimiser": (
        "experiments.smoke.training.optimizer",
        {"name": "adamv"},
        ["unknown name `adamv` (did you mean `adam`?); allowed: sgd, sgdw, adam, adamw", "or your own by `function"],
    ),
    "an optimiser without its learning rate": (
        "experiments.smoke.training.optimizer",
        {"name": "adam"},
        ["training.optimizer.learning_rate: is missing"],
    ),
    "decoupled decay without a decay": (
        "losses.ls.optimizer",
        {"name": "sgdw", "learning_rate": 0.1},
        ["losses.ls.optimizer.weight_decay: is missing"],
    ),
    "decay for an optimiser that has none": (
        "experiments.smoke.training.optimizer",
        {"name": "rprop", "learning_rate": 0.1, "weight_decay": 0.1},
        ["rprop has no weight decay; optimisers that have it: sgd, sgdw, adam"],
    ),
    "two decays": (
        "losses.ls",
        {"name": "ls", "smoothing": 0.1, "weight_decay": 0.1, "optimizer": {"name": "sgd"}},
        ["weight_decay = 0.1 beside an `optimizer`; write it as optimizer.weight_decay"],
    ),
    "Nesterov without momentum": (
        "experiments.smoke.training.optimizer",
        {"name": "sgd", "momentum": 0, "nesterov": True},
        ["nesterov = true needs a momentum above 0"],
    ),
    "no clipping": ("experiments.smoke.training.clip_gradient_norm", 0, ["clip_gradient_norm = 0", "greater than 0"]),
    "duplicate seeds": ("experiments.smoke.seeds", [0, 1, 0], ["seeds [0, 1, 0]", "must not repeat"]),
    "no seeds": ("experiments.smoke.seeds", [], ["experiments.smoke.seeds", "not be empty"]),
    "no losses": ("experiments.smoke.losses", [], ["experiments.smoke.losses", "not be empty"]),
    "a study without runs": ("experiments", {}, ["experiments", "not be empty"]),
    "a loss that is not there": ("experiments.smoke.losses", ["ce", "mse"], ["mse", "`losses`", "ce, ls"]),
    "a data set that is not there": ("experiments.smoke.dataset", "cifar", ["cifar", "`datasets`", "mnist5k"]),
    "a baseline elsewhere": ("experiments.smoke.baseline", "mse", ["baseline = mse", "ce, ls"]),
    "batch larger than data": ("experiments.smoke.training.batch_size", 999, ["batch_size = 999", "200"]),
    "more than there is": ("datasets.mnist5k.train_per_class", 490, ["at most 500"]),
    "a name with a slash": (
        "study",
        "a/b",
        ["study = 'a/b'", "must be a name of at most 64 characters: a letter, then letters, digits"],
    ),
    "an infinite penalty": ("theory", {"lambda_w": float("inf")}, ["theory.lambda_w = inf", "finite"]),
    "a table where text belongs": ("study", {}, ["study", "text"]),
    "text where a table belongs": ("losses", "ce", ["losses", "table"]),
    "an unknown figure": ("experiments.smoke.figures", ["pie"], ["figures.0 = 'pie'", "collapse_curves"]),
    "a precision that is none": (
        "experiments.smoke.training.precision",
        "fp16",
        ["training.precision = 'fp16'", "'float32', 'tf32' or 'bf16'"],
    ),
    "a precision that a CPU lacks": (
        "experiments.smoke.training.precision",
        "tf32",
        ["precision = tf32 needs device: cuda or auto"],
    ),
    "a word for a flag": ("experiments.smoke.training.compile", "yes", ["training.compile = 'yes'", "true or false"]),
    "decay beside penalties": (
        "experiments.smoke.training.ufm_regularised",
        True,
        ["must be 0 with ufm_regularised"],
    ),
    "negative alpha": ("losses.ls", {"name": "maxsup", "alpha": -1}, ["losses.ls.alpha = -1", "or equal to 0"]),
    "negative beta": ("losses.ls", {"name": "logit_penalty", "beta": -1}, ["losses.ls.beta = -1", "or equal to 0"]),
    "unknown schedule": (
        "losses.ls.schedule",
        {"kind": "linaer"},
        ["losses.ls.schedule", "`linaer` (did you mean `linear`?); allowed: constant, linear, drop"],
    ),
    "schedule without its end": ("losses.ls.schedule", {"kind": "linear"}, ["losses.ls.schedule.end", "is missing"]),
    "schedule out of the range": (
        "losses.ls.schedule",
        {"kind": "linear", "end": 1.2},
        ["losses.ls", "schedule.end = 1.2: must be less than 1, as smoothing must"],
    ),
    "schedule into the negative": (
        "losses.ls.schedule",
        {"kind": "linear", "end": -0.2},
        ["losses.ls.schedule.end = -0.2", "greater than or equal to 0"],
    ),
    "the former key of a schedule's end": (
        "losses.ls.schedule",
        {"kind": "linear", "to": 0.2},
        ["losses.ls.schedule", "the key `to` is now called `end`; allowed: kind, end, epoch"],
    ),
    "the former key of a schedule's last epoch": (
        "losses.ls.schedule",
        {"kind": "linear", "end": 0.2, "until": 3},
        ["losses.ls.schedule", "the key `until` is now called `epoch`"],
    ),
    "the former key of a drop's epoch": (
        "losses.ls.schedule",
        {"kind": "drop", "at": 3},
        ["losses.ls.schedule", "the key `at` is now called `epoch`; allowed: kind, epoch"],
    ),
    "the former key of the smoothing of a part": (
        "losses.ls",
        {"name": "ls_regularisation", "alpha": 0.1},
        ["losses.ls", "the key `alpha` is now called `smoothing`"],
    ),
    "the former key of the smoothing of the other part": (
        "losses.ls",
        {"name": "ls_error_amplification", "alpha": 0.1},
        ["losses.ls", "the key `alpha` is now called `smoothing`"],
    ),
    "schedule without a table": ("losses.ls.schedule", "drop", ["losses.ls.schedule", "must be a table"]),
    "schedule without a strength": (
        "losses.ce.schedule",
        {"kind": "drop", "epoch": 1},
        ["losses.ce", "has no strength for a `schedule` to vary", "ls, maxsup"],
    ),
    "schedule that ends after the training": (
        "losses.ls.schedule",
        {"kind": "linear", "end": 0.2, "epoch": 7},
        ["experiments.smoke.losses", "losses.ls.schedule goes on to epoch 7", "ends with epoch 6"],
    ),
    "drop past the end": (
        "losses.ls.schedule",
        {"kind": "drop", "epoch": 7},
        ["experiments.smoke.losses", "losses.ls.schedule goes on to epoch 7", "ends with epoch 6"],
    ),
    "an argument that is no name": (
        "losses.ls",
        {"function": "mine:loss", "parameters": {"a!b": 1}},
        ["losses.ls.parameters.a!b", "must be a Python name of at most 64 characters"],
    ),
    "a folder of two lines": ("data_dir", "a\nb", ["data_dir = 'a\\nb'", "one line of text", "U+000A at 1"]),
    "an empty folder": ("data_dir", " ", ["data_dir = ' '", "must not be empty"]),
    "a path without end": ("data_dir", "x" * 1001, ["data_dir = 'xxx", "has 1001 characters; at most 1000"]),
    "a missing module": ("losses.ls", {"function": "nowhere:loss"}, ["nowhere:loss", "nowhere.py"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(raw_study, mistake):
    path, value, words = MISTAKES[mistake]
    change(raw_study, path, value)
    with pytest.raises(ConfigError) as caught:
        load_study(raw_study)
    for word in words:
        assert word in str(caught.value)


def test_all_mistakes_are_told_at_once(raw_study):
    change(raw_study, "losses.ls.smoothing", 2)
    change(raw_study, "experiments.smoke.training.epochs", 0)
    with pytest.raises(ConfigError, match="2 mistakes"):
        load_study(raw_study)


@pytest.mark.parametrize("schedule", [{"kind": "drop", "epoch": 6}, {"kind": "linear", "end": 0.2, "epoch": 6}])
def test_a_schedule_may_end_with_the_training(raw_study, schedule):
    raw_study["losses"]["ls"]["schedule"] = schedule
    assert load_study(raw_study).losses["ls"].schedule.last == 6


def test_something_that_is_no_table_at_all():
    with pytest.raises(ConfigError, match="table of keys"):
        load_study(["ce"])


def test_two_experiments_share_their_runs_if_these_are_the_same(raw_study):
    smoke = raw_study["experiments"]["smoke"]
    raw_study["experiments"]["more"] = smoke | {"losses": ["ce"], "seeds": [1, 2], "figures": []}
    study = load_study(raw_study)
    assert [(run.loss, run.seed, run.experiment) for run in study.runs()] == [
        *((loss, seed, "smoke") for loss in ("ce", "ls") for seed in (0, 1)),
        ("ce", 2, "more"),
    ]
    assert [(run.seed, run.experiment) for run in study.runs("more")] == [(1, "more"), (2, "more")]


OTHERWISE = {"snapshots": [1, 6], "keep_features": "last", "training": {"epochs": 7}}


@pytest.mark.parametrize(("key", "value"), OTHERWISE.items())
def test_two_experiments_must_not_write_the_same_runs(raw_study, key, value):
    smoke = raw_study["experiments"]["smoke"]
    other = smoke[key] | value if isinstance(value, dict) else value
    raw_study["experiments"]["again"] = smoke | {key: other}
    with pytest.raises(ConfigError, match=rf"again repeats mnist5k/resnet8/ce of experiments\.smoke with other {key}"):
        load_study(raw_study)


def test_yaml_scientific_notation_without_a_point_is_a_number(raw_study):
    raw_study["losses"]["ls"]["smoothing"] = yaml.safe_load("5e-2")
    assert load_study(raw_study).losses["ls"].smoothing == 0.05


def test_a_function_of_the_users_is_found_beside_the_configuration(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text("def loss(logits, targets):\n    return logits.sum()\n")
    raw_study["losses"]["ls"] = {"function": "mine:loss"}
    assert load_study(raw_study, [tmp_path]).losses["ls"].file.endswith("mine.py")
    raw_study["losses"]["ls"] = {"function": "mine:other"}
    with pytest.raises(ConfigError, match=r"no function `other` in .*mine\.py; it has: loss"):
        load_study(raw_study, [tmp_path])
    (tmp_path / "mine.py").write_text("def loss(:\n")
    with pytest.raises(ConfigError, match="line 1"):
        load_study(raw_study, [tmp_path])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_decay": -1}, r"losses\.ls\.weight_decay = -1: must be greater than or equal to 0"),
        ({"parameters": 3}, r"losses\.ls\.parameters = 3: must be a"),
        ({"strenght": 3}, r"losses\.ls: unknown key `strenght`"),
        ({"file": "x.py"}, r"losses\.ls: unknown key `file`.*; allowed: .*function"),
    ],
)
def test_a_mistake_beside_a_function_is_told_with_its_own_key(raw_study, tmp_path, change, words):
    (tmp_path / "mine.py").write_text("def loss(logits, targets):\n    return logits.sum()\n")
    raw_study["losses"]["ls"] = {"function": "mine:loss"} | change
    with pytest.raises(ConfigError, match=words):
        load_study(raw_study, [tmp_path])


def test_a_function_in_a_file_of_another_encoding(raw_study, tmp_path):
    (tmp_path / "mine.py").write_bytes("# \u00e9".encode("latin-1"))
    raw_study["losses"]["ls"] = {"function": "mine:loss"}
    with pytest.raises(ConfigError, match=r"losses\.ls: function = mine:loss: cannot be read as Python: .*mine\.py"):
        load_study(raw_study, [tmp_path])


def test_a_function_in_a_file_that_python_cannot_parse(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text("(" * 5000)
    raw_study["losses"]["ls"] = {"function": "mine:loss"}
    with pytest.raises(ConfigError, match=r"losses\.ls: function = mine:loss: cannot be read as Python: .*mine\.py"):
        load_study(raw_study, [tmp_path])


@pytest.mark.parametrize("folder", ["x" * 300, "~nobody-of-this-name/data"])
def test_a_folder_that_the_file_system_cannot_have_is_no_traceback(raw_study, folder):
    assert load_study(raw_study | {"data_dir": folder}).data_dir == folder


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_refused_member_does_not_make_its_list_empty_too(raw_study, seed):
    change(raw_study, "experiments.smoke.seeds", [seed])
    with pytest.raises(ConfigError, match=rf"one mistake:\n  experiments\.smoke\.seeds\.0 = {seed}: must be"):
        load_study(raw_study)


def test_what_may_be_one_of_two_is_one_mistake(raw_study):
    change(raw_study, "experiments.smoke.snapshots", 0)
    with pytest.raises(ConfigError, match=r"one mistake:\n.*snapshots = 0: must be .*, or must be a list"):
        load_study(raw_study)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("losses:\n  ls: {smoothing: 0.1, smoothing: 0.2}", "the key `smoothing` is there twice"),
        ("study: one\nstudy: two", r"line 2"),
        ("study: 2024-13-45", "line 1: `2024-13-45` is a date in YAML; text is put between quotes"),
        ("[" * 5000, "line 1: a value is nested deeper than 40 levels"),
        ("\u00e9".encode("latin-1"), "line 1: byte 0xe9 is no UTF-8"),
    ],
)
def test_a_file_that_says_no_one_thing_is_named(tmp_path, text, words):
    path = tmp_path / "study.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words) as caught:
        read_study(path)
    assert str(path) in str(caught.value)


def test_merged_keys_may_be_overridden(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("base: &base {a: 1}\nmine: {<<: *base, a: 2}\n")
    assert read_study(path)["mine"] == {"a": 2}


@pytest.mark.parametrize(
    ("figure", "needs"),
    [
        ("distillation", "a loss distillation"),
        ("probe_accuracy", "a probe of kind transfer"),
        ("drop_epoch", "of kind drop"),
        ("theory_error", "ufm_regularised"),
        ("nrc_classification", "mse"),
    ],
)
def test_a_figure_with_nothing_to_show_is_refused(raw_study, figure, needs):
    raw_study["experiments"]["smoke"]["figures"] = ["norms", figure]
    with pytest.raises(ConfigError, match=rf"figures = {figure}: has nothing to show here; it needs .*{needs}"):
        load_study(raw_study)


def test_the_committed_schema_is_the_models():
    committed = (ROOT / "studies" / "schema.json").read_text(encoding="utf-8")
    current = json.dumps(json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    diff = "\n".join(
        difflib.unified_diff(committed.splitlines(), current.splitlines(), "committed", "models", lineterm="")
    )
    assert not diff, f"studies/schema.json is not of these models; `make schema` mends it:\n{diff}"


@pytest.mark.parametrize("path", [ROOT / "workflow_config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=str)
def test_every_study_of_the_project_is_valid(path):
    assert list(load_study(yaml.safe_load(path.read_text(encoding="utf-8")), [path.parent]).runs())


def taught(raw_study, **changes):
    """The smoke study with an experiment of students, whose loss entry is changed."""
    raw_study["models"]["small"] = {"name": "resnet8", "width": 2}
    raw_study["losses"]["student"] = {
        "name": "distillation",
        "teacher": {"experiment": "smoke", "loss": "ls"},
    } | changes
    students = {"model": "small", "losses": ["ce", "student"], "seeds": [1]}
    raw_study["experiments"]["students"] = raw_study["experiments"]["smoke"] | students
    return raw_study


def test_a_student_may_learn_from_a_run_of_its_own_seed(raw_study):
    assert load_study(taught(raw_study)).losses["student"].temperature == 1.0


NO_TEACHERS = {
    "no table": ({"teacher": "ls"}, ["losses.student.teacher", "table of keys; allowed: experiment, loss"]),
    "no such experiment": (
        {"teacher": {"experiment": "main", "loss": "ls"}},
        ["losses.student.teacher.experiment = main: no such entry in `experiments`; it has: smoke, students"],
    ),
    "no such loss": (
        {"teacher": {"experiment": "smoke", "loss": "mse"}},
        ["losses.student.teacher.loss = mse: experiments.smoke does not train it; it trains: ce, ls"],
    ),
    "a student of itself": (
        {"teacher": {"experiment": "students", "loss": "student"}},
        ["losses.student.teacher.loss = student: is distilled itself", "experiments.students: ce"],
    ),
    "a temperature of 0": ({"temperature": 0}, ["losses.student.temperature = 0", "greater than 0"]),
    "a weight above 1": ({"weight": 1.5}, ["losses.student.weight = 1.5", "less than or equal to 1"]),
    "a negative weight": ({"weight": -0.5}, ["losses.student.weight = -0.5", "greater than or equal to 0"]),
    "a schedule": ({"schedule": {"kind": "drop", "epoch": 1}}, ["no strength for a `schedule` to vary"]),
}


@pytest.mark.parametrize("mistake", NO_TEACHERS)
def test_a_teacher_that_cannot_teach_is_refused(raw_study, mistake):
    changes, words = NO_TEACHERS[mistake]
    with pytest.raises(ConfigError) as caught:
        load_study(taught(raw_study, **changes))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "one mistake" in message


def test_a_teacher_of_other_data_of_another_task_or_without_the_seed_is_refused(raw_study):
    raw = taught(raw_study)
    raw["datasets"]["other"] = raw["datasets"]["mnist5k"]
    raw["experiments"]["students"]["dataset"] = "other"
    with pytest.raises(
        ConfigError, match=r"students.losses = student: its teacher, of experiments.smoke, is trained on "
    ):
        load_study(raw)
    raw["experiments"]["students"] |= {"dataset": "mnist5k", "seeds": [1, 5, 6]}
    with pytest.raises(ConfigError, match=r"does not train seed 5, 6; allowed: 0, 1$"):
        load_study(raw)
    raw["experiments"]["students"]["seeds"] = [1]
    raw["datasets"]["reacher"] = {"source": "reacher_scripted"}
    raw["losses"]["se"] = {"name": "squared_error"}
    raw["experiments"]["rows"] = {"dataset": "reacher", "model": "mlp", "losses": ["se"], "seeds": [1]}
    raw["experiments"]["rows"]["training"] = {"epochs": 2, "batch_size": 100}
    raw["models"]["mlp"] = {"name": "mlp"}
    raw["losses"]["student"]["teacher"] = {"experiment": "rows", "loss": "se"}
    with pytest.raises(ConfigError, match=r"experiment = rows: its task is regression; a teacher must be a classifier"):
        load_study(raw)
    raw["losses"]["student"]["teacher"] = {"experiment": "smoke", "loss": "ls"}
    raw["experiments"]["rows"]["losses"] = ["se", "student"]
    with pytest.raises(ConfigError, match=r"rows.losses = student: is not for regression"):
        load_study(raw)
