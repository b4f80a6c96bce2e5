"""What a step depends on survives the command line, and a setting that a step does not use does not change it."""

import dataclasses
from functools import cache
from pathlib import Path

import pytest

from nclens.study import load_study, read_study
from nclens.workflow import specs
from nclens.workflow.paths import path_of

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem: path for path in [*(ROOT / "studies").glob("*.yaml"), ROOT / "workflow_config.yaml"]}


@cache
def read(name):
    return read_study(STUDIES[name])


def load(raw):
    return load_study(raw, [ROOT / "studies"])


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
        assert specs.decode(type(spec), text) == spec
        assert specs.encode(specs.decode(type(spec), text)) == text


#: A setting -> the steps that depend on it.
USED = {
    ("title",): {"resolve", "report", "track_study"},
    ("checkpoint_minutes",): {"resolve"},
    ("data_dir",): set(),
    ("track", "tensors"): {"resolve", "track_run"},
    ("measure", "held_out_seed"): {"resolve", "measure"},
    ("theory", "lambda_b"): {"resolve", "theory", "predict"},
    ("losses", "ls", "label"): {"resolve", "draw", "report", "track_run"},
    ("losses", "ls", "colour"): {"resolve", "draw", "report", "track_run"},
    ("losses", "ls", "smoothing"): {
        *("resolve", "train", "measure", "theory", "predict", "judge", "draw", "report", "track_run"),
    },
    ("datasets", "mnist5k", "split_seed"): {"resolve", "prepare"},
    ("models", "resnet8", "stem_stride"): {"resolve", "train", "extract"},
    ("experiments", "smoke", "training", "learning_rate"): {"resolve", "train"},
    ("experiments", "smoke", "keep_features"): {"resolve", "track_run"},
    ("experiments", "smoke", "seeds"): {"resolve", "predict", "collect", "judge", "draw", "report"},
    ("experiments", "smoke", "figures"): {"resolve", "draw", "report", "track_study"},
    ("experiments", "smoke", "projection_classes"): {"resolve", "draw", "report"},
}
VALUES = {
    "title": "another",
    "data_dir": "elsewhere",
    "tensors": False,
    "label": "soft",
    "colour": "#123456",
    "smoothing": 0.2,
    "stem_stride": 1,
    "keep_features": "last",
    "seeds": [0, 1, 7],
    "figures": ["norms"],
    "projection_classes": [1, 2, 3],
}


@pytest.mark.parametrize("path", USED, ids=".".join)
def test_a_setting_left_out_of_a_specification_does_not_change_it(raw_study, path):
    before = of_study(load(raw_study))
    table = raw_study
    for key in path[:-1]:
        table = table.setdefault(key, {})
    table[path[-1]] = VALUES.get(path[-1], 0.077 if "seed" not in path[-1] else 3)
    after = of_study(load(raw_study))
    changed = {key.split()[0] for key in before if specs.encode(before[key]) != specs.encode(after[key])}
    assert changed == USED[path]


def test_one_name_has_one_shape_in_every_specification():
    """What may be absent aside; a run's own `model` and `loss` are entries, elsewhere they are names of entries."""
    shapes = {}
    for kind in vars(specs).values():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            for name, hint in specs._hints(kind).items():
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
