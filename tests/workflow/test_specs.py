"""What a step depends on survives the command line, and a setting that a step does not use does not change it."""

import dataclasses
from functools import cache
from pathlib import Path

import pytest

from nclens.study import load_study, read_study
from nclens.study.datasets import Mnist5k
from nclens.study.experiments import Experiment, Measure, Theory, Track
from nclens.study.losses import LabelSmoothing
from nclens.study.models import ResNet8
from nclens.study.study import Study
from nclens.study.training import Training
from nclens.workflow import specs
from nclens.workflow.paths import path_of
from nclens.workflow.specs.text import hints_of

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem: path for path in [*(ROOT / "studies").glob("*.yaml"), ROOT / "workflow_config.yaml"]}


@cache
def read(name):
    return read_study(STUDIES[name])


def load(raw):
    return load_study(raw, [ROOT / "studies", ROOT / "tests"])


def of_study(study):
    """Every specification of a study, by step and run."""
    steps = (specs.resolve, specs.theory, specs.predict, specs.collect, specs.judge, specs.draw)
    made = {step.__name__: step(study) for step in (*steps, specs.track_setup, specs.track_study)}
    made |= {"report": specs.report(study, "command")}
    made |= {f"prepare {name}": specs.prepare(study, name) for name in study.datasets}
    for run in study.runs():
        probe = (specs.probe,) if study.experiments[run.experiment].probes else ()
        for step in (specs.train, specs.extract, specs.measure, specs.track_run, *probe):
            made[f"{step.__name__} {path_of(run)}"] = step(study, run)
    return made


@pytest.mark.parametrize("name", STUDIES)
def test_every_specification_survives_the_command_line(name):
    for spec in of_study(load(read(name))).values():
        text = specs.encode(spec)
        decoded = specs.decode(type(spec), text)
        assert decoded == spec
        assert specs.encode(decoded) == text


LS = {"resolve", "draw", "judge", "report", "track_run", "track_study", "train"}
RUNS = {"resolve", "collect", "draw", "extract", "judge", "measure", "predict", "report", "track_run", "train"}
CLOSED = {"theory", "predict", "draw", "report", "track_study"}
#: A setting -> its other value, and the steps that depend on it: those whose result can change, and `resolve`.
USED = {
    "title": ("another", {"resolve", "report", "track_study"}),
    "checkpoint_minutes": (7.0, {"resolve"}),
    "data_dir": ("elsewhere", set()),
    "track.tensors": (False, {"resolve", "track_run"}),
    "measure.held_out": (0.3, {"resolve", "measure", "collect"}),
    "measure.held_out_seed": (3, {"resolve", "measure", "collect"}),
    **{f"theory.lambda_{key}": (0.077, {"resolve", "theory", "predict"}) for key in ("w", "h", "b")},
    "theory.lambda_h_samples": (7, {"resolve", "theory", "predict"}),
    "theory.lambda_h_mean": (0.077, {"resolve"}),  # there is no regression
    "metrics": ({"mine": {"function": "browser:executable"}}, {"resolve", "measure", "report"}),
    "figures": ({"mine": {"function": "losses:entry"}}, {"resolve", "report", "track_study"}),
    "claims": (
        {"mine": {"metric": "ece", "split": "test", "direction": "below", "margin": 0.01}},
        {"resolve", "judge", "report"},
    ),
    "losses.ls.label": ("soft", {"resolve", "draw", "judge", "report", "track_run", "track_study"}),
    "losses.ls.colour": ("#123456", {"resolve", "draw", "report", "track_run", "track_study"}),
    "losses.ls.smoothing": (0.2, LS | {"measure", "theory", "predict"}),
    "losses.ls.schedule": ({"kind": "linear", "end": 0.0}, LS | {"measure", "theory", "predict"}),
    "losses.ls.weight_decay": (0.077, LS | {"predict"}),
    "losses.ls.optimizer": ({"name": "adam", "learning_rate": 0.077}, LS | {"predict"}),
    "losses.ls.lr_schedule": ({"kind": "cosine"}, LS | {"predict"}),
    # Without plain label smoothing there are no arcs and no figure of them; likewise without cross entropy to compare.
    "losses.ls.class_weights": ("balanced", LS | {"theory", "predict", "collect", "track_study"}),
    "datasets.mnist5k.imbalance": (
        {"kind": "step", "ratio": 2},
        {"resolve", "prepare", "draw", "report", "track_study"},
    ),
    "datasets.mnist5k.label_noise": ({"share": 0.2}, {"resolve", "prepare"}),
    "datasets.mnist5k.split_seed": (3, {"resolve", "prepare"}),
    "datasets.mnist5k.train_per_class": (10, {"resolve", "prepare"}),
    "datasets.mnist5k.test_per_class": (10, {"resolve", "prepare"}),
    "datasets.mnist5k.classes": ([4, 0, 2], {"resolve", "prepare"}),
    "models.resnet8.width": (4, {"resolve", "train", "extract", "theory", "predict"}),
    "models.resnet8.stem_stride": (1, {"resolve", "train", "extract"}),
    "models.resnet8.signed_features": (True, {"resolve", "train", "extract"}),
    # A cosine head has no closed form, so neither theory nor its figures.
    "models.resnet8.head": (
        "cosine",
        {"resolve", "train", "extract", "theory", "predict", "draw", "report", "track_study"},
    ),
    "experiments.smoke.losses": (["ls", "ce"], {"resolve", "collect", "draw", "judge", "report", "theory"}),
    # Of three seeds the specification curve is a default figure.
    "experiments.smoke.seeds": ([0, 1, 7], {"resolve", "predict", "collect", "judge", "draw", "report", "track_study"}),
    "experiments.smoke.baseline": ("ls", {"resolve", "collect", "judge", "draw", "report", "track_study"}),
    "experiments.smoke.snapshots": (2, {"resolve", "train", "extract", "measure"}),
    "experiments.smoke.keep_features": ("last", {"resolve", "extract", "measure"}),
    "experiments.smoke.probes": (["variance"], {"resolve", "collect", "draw", "report", "track_run", "track_study"}),
    "experiments.smoke.projection_classes": ([1, 2, 3], {"resolve", "measure", "draw", "report"}),
    "experiments.smoke.figures": (["norms"], {"resolve", "draw", "report", "track_study"}),
    "experiments.smoke.training.epochs": (7, RUNS),
    "experiments.smoke.training.device": ("auto", {"resolve", "train", "extract"}),
    "experiments.smoke.training.ufm_regularised": (True, None),
    # Mixed targets have no closed form, so neither theory nor its figures.
    **{
        f"experiments.smoke.training.{key}": ({"alpha": 0.7}, {"resolve", "train", *CLOSED})
        for key in ("mixup", "cutmix")
    },
    **dict.fromkeys(
        (f"experiments.smoke.training.{key}" for key in ("switch_probability", "stochastic_depth")), (0.1, None)
    ),
    "experiments.smoke.training.sync_batchnorm": (True, None),
    **{
        f"experiments.smoke.training.{key}": (value, {"resolve", "train", "predict"})
        for key, value in {
            "batch_size": 20,
            "optimizer": {"name": "sgd", "learning_rate": 0.077, "momentum": 0.7},
            "lr_schedule": {"kind": "step", "milestones": [2], "factor": 0.7},
            "clip_gradient_norm": 0.7,
            "precision": "bf16",
        }.items()
    },
    **{
        f"experiments.smoke.training.{key}": (value, {"resolve", "train"})
        for key, value in {
            "augmentation": "flip_crop",
            "devices": 2,
            "ema": {"decay": 0.9},
            "accumulate": 2,
            "record_every": 2,
            "compile": True,
            "deterministic": True,
            "cuda_graph": "never",
        }.items()
    },
}


def changed_by(raw, path, value):
    """The steps of which a specification differs with another value at `a.b.c`."""
    raw["probes"] = {"variance": {"kind": "gradient_variance"}}
    before = of_study(load(raw))
    *tables, key = path.split(".")
    table = raw
    for name in tables:
        table = table.setdefault(name, {})
    table[key] = value
    after = of_study(load(raw))
    return {key.split()[0] for key in before if specs.encode(before[key]) != specs.encode(after[key])}


@pytest.mark.parametrize("path", [path for path in USED if USED[path][1] is not None])
def test_a_setting_changes_the_steps_whose_result_it_can_change(raw_study, path):
    value, steps = USED[path]
    assert changed_by(raw_study, path, value) == steps


def test_the_scale_of_a_cosine_head_trains_again(raw_study):
    raw_study["models"]["resnet8"]["head"] = "cosine"
    assert changed_by(raw_study, "models.resnet8.scale", 4) == {"resolve", "train", "extract"}


def test_options_that_need_others_train_again(raw_study):
    raw_study["models"]["resnet8"] = {"name": "timm", "builder": "test_resnet"}
    training = raw_study["experiments"]["smoke"]["training"]
    assert changed_by(raw_study, "experiments.smoke.training.stochastic_depth", 0.1) == {"resolve", "train"}
    training |= {"mixup": {"alpha": 1}, "cutmix": {"alpha": 1}}
    assert changed_by(raw_study, "experiments.smoke.training.switch_probability", 0.1) == {"resolve", "train"}


def test_penalties_train_again_and_are_judged_by_themselves(raw_study):
    training = raw_study["experiments"]["smoke"]["training"]
    training["optimizer"] = {"name": "sgd", "weight_decay": 0}
    steps = changed_by(raw_study, "experiments.smoke.training.ufm_regularised", value=True)
    assert steps == {"resolve", "train", "judge", "draw", "report", "predict", "track_study"}


def test_another_weight_decay_is_shown_and_judged(raw_study):
    path, optimizer = "experiments.smoke.training.optimizer", {"name": "sgd", "weight_decay": 0.077}
    assert changed_by(raw_study, path, optimizer) == {"resolve", "train", "predict", "judge", "draw", "report"}


def keys_of(table):
    return [field.alias or name for name, field in table.model_fields.items()]


def test_every_setting_is_in_the_table():
    """A new key of the configuration needs a line, which says what it can change."""
    tables = {
        "": Study,
        "track.": Track,
        "measure.": Measure,
        "theory.": Theory,
        "losses.ls.": LabelSmoothing,
        "datasets.mnist5k.": Mnist5k,
        "models.resnet8.": ResNet8,
        "experiments.smoke.": Experiment,
        "experiments.smoke.training.": Training,
    }
    keys = {prefix + key for prefix, table in tables.items() for key in keys_of(table)}
    # Tables themselves, and what names folders: another name is another study, run or entry.
    parts = {"study", "datasets", "models", "losses", "probes", "experiments", "theory", "measure", "track"}
    parts |= {f"experiments.smoke.{key}" for key in ("dataset", "model", "training")}
    parts |= {"losses.ls.name", "losses.ls.model", "models.resnet8.name", "datasets.mnist5k.source"}
    parts |= {"models.resnet8.scale"}  # of a cosine head, see below
    assert keys - parts == set(USED)


def test_the_order_of_figures_is_the_pages_alone(raw_study):
    raw_study["experiments"]["smoke"]["figures"] = ["norms", "collapse_curves"]
    path, figures = "experiments.smoke.figures", ["collapse_curves", "norms"]
    assert changed_by(raw_study, path, figures) == {"resolve", "report", "track_study"}


def test_one_name_has_one_shape_in_every_specification():
    """What may be absent aside; a run's own `model` and `loss` are entries, elsewhere they are names of entries."""
    shapes = {}
    for kind in vars(specs).values():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            for name, hint in hints_of(kind).items():
                shapes.setdefault(name, set()).add(
                    str(hint).removesuffix(" | None").removeprefix("<class '").removesuffix("'>")
                )
    assert {name for name, found in shapes.items() if len(found) > 1} == {"experiments", "regressions", "model", "loss"}


def test_the_order_of_a_mapping_does_not_count():
    one, other = (specs.Prepare("d", dict(items)) for items in ((("a", 1), ("b", 2)), (("b", 2), ("a", 1))))
    assert specs.encode(one) == specs.encode(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", r"the specification = \[\]: must hold dataset, arguments"),
        ('{"dataset": "d"}', "arguments is missing; allowed: dataset, arguments"),
        ('{"dataset": "d", "arguments": {}, "more": 1}', "more is no key; allowed: dataset, arguments"),
        ('{"dataset": 7, "arguments": {}}', "dataset = 7: must be of type str"),
    ],
)
def test_a_text_that_is_no_specification_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        specs.decode(specs.Prepare, text)


def test_mistakes_inside_are_named_with_their_place():
    text = '{"experiments": [{"experiment": "e", "dataset": "d", "model": "m", "losses": ["a", 2], "seeds": [0]}]}'
    with pytest.raises(ValueError, match=r"experiments\[0\].epochs is missing"):
        specs.decode(specs.Collect, text)


def test_a_flat_entry_is_what_the_builders_take():
    loss = specs.Loss("soft", "ls", arguments={"smoothing": 0.1}, schedule=specs.Schedule("drop", epoch=3))
    assert specs.flat(loss) == {"name": "ls", "smoothing": 0.1}
    own = specs.Entry("mine", function="mine:net", file="mine.py", arguments={"width": 2})
    assert specs.flat(own) == {"function": "mine:net", "file": "mine.py", "parameters": {"width": 2}}
    assert (own.called, loss.called) == ("mine:net", "ls")
