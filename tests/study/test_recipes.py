"""Options of a recipe in a study: what goes together, what a run's specification has of it, and what is refused."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.study.training import Training
from nclens.workflow import specs
from nclens.workflow.plan import Plan

BOTH = {"mixup": {"alpha": 0.2}, "cutmix": {"alpha": 1}}
OWN = """
def loss(logits, targets, margin=1.0):
    return logits.sum(1)


def net(shape, outputs, drop_path_rate=0.0):
    return None


def plain(shape, outputs):
    return None


def loose(shape, outputs, **options):
    return None
"""


def smoke(raw, folder=None, **training):
    """The smoke study with options of training."""
    raw["experiments"]["smoke"]["training"] |= training
    return load_study(raw, [folder] if folder else ["."])


def trained(study):
    return specs.train(study, next(study.runs()))


@pytest.mark.parametrize(
    ("training", "recipe"),
    [
        ({}, None),
        ({"accumulate": 1}, None),
        ({"mixup": {"alpha": 0.2}}, specs.Recipe(mixup=0.2)),
        (BOTH, specs.Recipe(0.2, 1.0, 0.5)),
        (BOTH | {"switch_probability": 0.3}, specs.Recipe(0.2, 1.0, 0.3)),
        ({"ema": {"decay": 0}, "accumulate": 4}, specs.Recipe(ema=0.0, accumulate=4)),
        ({"stochastic_depth": 0.1}, None),
    ],
)
def test_a_runs_specification_has_the_options_that_are_set(raw_study, training, recipe):
    raw_study["models"]["resnet8"] = {"name": "timm", "builder": "test_resnet"}
    spec = trained(smoke(raw_study, **training))
    assert spec.training.recipe == recipe
    assert ("recipe" in specs.plain(spec)["training"]) == (recipe is not None)
    assert specs.decode(specs.Train, specs.encode(spec)) == spec


def test_stochastic_depth_is_an_argument_of_the_trained_network_alone(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    rate, given = {"drop_path_rate": 0.3}, {"act_layer": "gelu"}
    named = {"name": "timm", "builder": "test_resnet", "parameters": given}
    for entry, expected, skipping in (
        (named, {"parameters": given}, {"parameters": given | rate}),
        ({"function": "mine:net"}, {}, rate),
        ({"function": "mine:loose", "parameters": {"width": 3}}, {"width": 3}, {"width": 3} | rate),
    ):
        raw_study["models"]["resnet8"] = entry
        study = smoke(raw_study, tmp_path, stochastic_depth=0.3)
        builder = {"builder": "test_resnet"} if entry is named else {}
        assert trained(study).model.arguments == builder | skipping
        assert specs.extract(study, next(study.runs())).model.arguments == builder | expected


def test_the_code_of_an_option_counts_for_the_runs_that_have_it(raw_study):
    def modules(**training):
        plan = Plan(smoke(raw_study, **training))
        run = next(plan.study.runs())
        assert plan.code_used("extract", run)["modules"] == []
        return plan.code_used("train", run)["modules"]

    assert modules() == []
    assert modules(mixup={"alpha": 1}) == ["nclens.training.mixing"]
    assert modules(ema={"decay": 0.9}) == ["nclens.training.averaging", "nclens.training.mixing"]


def test_mixed_targets_have_no_closed_form(raw_study):
    plain = smoke(raw_study)
    assert plain.smoothings("smoke")
    assert "closed_form" in plain.facts("smoke")
    mixed = smoke(raw_study, **BOTH)
    assert mixed.smoothings("smoke") == {}
    assert "closed_form" not in mixed.facts("smoke")
    assert specs.theory(mixed).experiments == ()
    assert all(not entry.smoothings for entry in specs.predict(mixed).experiments)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"switch_probability": 0.3}, "switch_probability = 0.3: chooses between `mixup` and `cutmix`; set both"),
        (BOTH | {"switch_probability": 1}, "switch_probability = 1: must be less than 1"),
        ({"mixup": {"alpha": 0}}, "mixup.alpha = 0: must be greater than or equal to 0.01"),
        ({"mixup": {"alpha": 1, "prob": 0.5}}, "mixup: unknown key `prob`; allowed: alpha"),
        ({"mixup": 0.2}, "mixup = 0.2: must be a table of keys; allowed: alpha"),
        (BOTH | {"batch_size": 1}, "mixup: mixes samples of one batch; batch_size must be at least 2, not 1"),
        ({"ema": {"decay": 1}}, "ema.decay = 1: must be less than 1"),
        ({"accumulate": 3}, "accumulate = 3: must divide batch_size = 40, so that all parts have one size"),
        ({"accumulate": 0}, "accumulate = 0: must be greater than or equal to 1"),
        ({"devices": 0}, "devices = 0: must be greater than or equal to 1"),
        (
            {"devices": 3},
            "devices = 3: must divide batch_size = 40, so that all devices have equal parts of each batch; allowed: "
            "1, 2, 4, 5, 8, 10, 20, 40",
        ),
        ({"devices": 8, "accumulate": 2}, "devices = 8 and accumulate = 2: their product must divide batch_size = 40"),
        ({"devices": 2, "sync_batchnorm": True}, "sync_batchnorm = true: PyTorch has it on CUDA alone"),
        ({"device": "cuda", "sync_batchnorm": True}, "it needs `device: cuda` or `auto`, and 2 `devices` or more"),
        (
            {"devices": 2, "device": "cuda", "cuda_graph": "required"},
            "cuda_graph = required: a step of several devices",
        ),
        (
            {"stochastic_depth": 0.1},
            "stochastic_depth: models.resnet8 (resnet8) has none; allowed: a model of `name: timm`, or a function of "
            "yours with a parameter `drop_path_rate`",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(raw_study, training, words):
    with pytest.raises(ConfigError) as caught:
        smoke(raw_study, **training)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "focal", "gamma": 2},
        {"name": "online_label_smoothing", "soft_weight": 0.5},
        {"name": "ls_regularisation", "smoothing": 0.1},
        {"name": "ls_error_amplification", "smoothing": 0.1},
        {"function": "mine:loss"},
    ],
)
def test_losses_without_a_form_for_mixed_targets_are_refused_with_those_that_have_one(raw_study, tmp_path, entry):
    (tmp_path / "mine.py").write_text(OWN)
    raw_study["losses"]["ls"] = entry
    smoke(raw_study, tmp_path, accumulate=2)
    with pytest.raises(ConfigError) as caught:
        smoke(raw_study, tmp_path, cutmix={"alpha": 1})
    name = entry.get("name", "mine:loss")
    assert (
        f"experiments.smoke.training.cutmix: losses.ls ({name}) has no definition for mixed targets; allowed: ce, ls, "
        "maxsup, logit_penalty, confidence_penalty, mse, distillation, and a function of yours with "
        "`linear_in_targets: true`"
    ) in str(caught.value)


def test_a_loss_of_ones_own_says_that_it_is_linear(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    raw_study["losses"]["ls"] = {"function": "mine:loss", "linear_in_targets": True}
    study = smoke(raw_study, tmp_path, **BOTH)
    spec = next(specs.train(study, run) for run in study.runs() if run.loss == "ls")
    assert spec.loss.arguments == {}  # it is no argument of the function


@pytest.mark.parametrize("loss", ["squared_error"])
def test_targets_of_a_regression_are_not_mixed(raw_study, loss):
    raw_study["datasets"] = {"mnist5k": {"source": "mnist5k_strokes"}}
    raw_study["losses"] = {"ls": {"name": loss}, "ce": {"name": loss, "weight_decay": 1e-3}}
    with pytest.raises(ConfigError) as caught:
        smoke(raw_study, mixup={"alpha": 1})
    assert "training.mixup: mixes targets of classes, and mnist5k is of regression; leave it out" in str(caught.value)


def test_rows_of_a_table_are_mixed_and_not_cut(raw_study):
    raw_study["datasets"]["mnist5k"] = {"source": "table", "path": "flowers.csv", "target": "species", "test": 0.2}
    raw_study["models"]["resnet8"] = {"name": "mlp"}
    assert trained(smoke(raw_study, mixup={"alpha": 1})).training.recipe.mixup == 1
    with pytest.raises(ConfigError, match=r"training\.cutmix: needs images, and mnist5k has rows; allowed: mixup"):
        smoke(raw_study, cutmix={"alpha": 1})


def test_a_rate_is_given_once_and_to_a_function_that_takes_it(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    raw_study["models"]["resnet8"] = {"function": "mine:plain"}
    with pytest.raises(ConfigError, match=r"models.resnet8 \(mine:plain\) has none"):
        smoke(raw_study, tmp_path, stochastic_depth=0.1)
    raw_study["models"]["resnet8"] = {"name": "timm", "builder": "test_resnet", "parameters": {"drop_path_rate": 0.2}}
    with pytest.raises(ConfigError, match=r"parameters has `drop_path_rate`; set only one"):
        smoke(raw_study, tmp_path, stochastic_depth=0.1)
    del raw_study["experiments"]["smoke"]["training"]["stochastic_depth"]
    assert trained(smoke(raw_study, tmp_path)).model.arguments["parameters"] == {"drop_path_rate": 0.2}


@pytest.mark.parametrize("key", ["num_classes", "in_chans", "pretrained", "checkpoint_path"])
def test_what_the_data_say_is_no_parameter_of_a_model_of_timm(raw_study, key):
    raw_study["models"]["resnet8"] = {"name": "timm", "builder": "test_resnet", "parameters": {key: 1}}
    with pytest.raises(ConfigError, match=f"must not hold `{key}`"):
        load_study(raw_study)


def test_every_option_is_left_out_by_default():
    """So that a study without options is that of an earlier version."""
    from nclens.study.recipes import OPTIONS

    assert all(Training.model_fields[key].default is None for key in OPTIONS)


def test_several_devices_are_in_the_specification_and_their_code_counts_for_such_runs_alone(raw_study):
    one, two = Plan(smoke(raw_study)), Plan(smoke(raw_study, devices=2))
    (run, *_), (same, *_) = one.study.runs(), two.study.runs()
    assert "devices" not in specs.plain(trained(one.study))["training"]
    assert trained(two.study).training.devices == 2
    assert specs.decode(specs.Train, specs.encode(trained(two.study))) == trained(two.study)
    base, plus, own = two.code("train", same).partition("+")
    assert (base, plus) == (one.code("train", run), "+")
    assert own != base
    assert two.code("extract", same) == one.code("extract", run)


def test_a_loss_with_a_memory_is_refused_on_several_devices(raw_study):
    raw_study["losses"]["ls"] = {"name": "online_label_smoothing", "soft_weight": 0.5}
    with pytest.raises(ConfigError, match=r"devices = 2: losses\.ls \(online_label_smoothing\) remembers the samples"):
        smoke(raw_study, devices=2)
