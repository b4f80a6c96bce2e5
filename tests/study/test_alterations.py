"""Imbalance, label noise and class weights in a study: what is refused when it is read, and what steps depend on."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.workflow import specs

RAW = {
    "study": "tail",
    "datasets": {"digits": {"source": "mnist5k"}},
    "models": {"net": {"name": "resnet8"}},
    "losses": {"ce": {"name": "ce"}, "balanced": {"name": "ce", "class_weights": "balanced"}},
    "experiments": {
        "main": {
            **{"dataset": "digits", "model": "net", "losses": ["ce", "balanced"], "seeds": [0]},
            "training": {"epochs": 2, "batch_size": 20},
        }
    },
}


def study(losses=None, **data):
    return load_study(RAW | {"datasets": {"digits": {"source": "mnist5k", **data}}, "losses": losses or RAW["losses"]})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"imbalance": {"kind": "exponential", "ratio": 0.5}},
            "imbalance.ratio",
        ),
        ({"imbalance": {"kind": "linear", "ratio": 2}}, "exponential.*step"),
        ({"imbalance": {"kind": "exponential", "ratio": 2, "minority": [1]}}, r"minority = \[1\]: is of `kind: step`"),
        ({"imbalance": {"kind": "step", "ratio": 2, "minority": [10]}}, r"minority = \[10\]: must be some, not all"),
        ({"imbalance": {"kind": "step", "ratio": 2, "minority": [1, 1]}}, r"minority = \[1, 1\]: has a class twice"),
        ({"label_noise": {"share": 1.0}}, "share"),
        ({"label_noise": {"share": -0.1}}, "share"),
    ],
)
def test_ratios_and_shares_out_of_range_are_refused_when_the_study_is_read(data, words):
    with pytest.raises(ConfigError, match=words):
        study(**data)


def test_class_weights_are_of_classification_and_tell_losses_apart():
    found = study()
    assert found.kind("balanced") == "ce_weighted"
    assert found.label("balanced") == "CE, balanced"
    assert found.smoothings("main") == {"ce": 0.0}
    runs = {run.loss: specs.train(found, run).loss for run in found.runs()}
    assert (runs["ce"].balanced, runs["balanced"].balanced) == (False, True)
    weighted = study({**RAW["losses"], "balanced": {"name": "ls", "smoothing": 0.1, "class_weights": [1] * 10}})
    run = next(run for run in weighted.runs() if run.loss == "balanced")
    spec = specs.train(weighted, run)
    assert specs.decode(specs.Train, specs.encode(spec)).loss.class_weights == (1.0,) * 10
    with pytest.raises(ConfigError, match="class_weights: is of classification"):
        study({**RAW["losses"], "balanced": {"name": "squared_error", "class_weights": "balanced"}})
    with pytest.raises(ConfigError, match="class_weights"):
        study({**RAW["losses"], "balanced": {"name": "ce", "class_weights": [1, -1]}})
    with pytest.raises(ConfigError, match=r"losses.balanced.class_weights has 2 numbers, and digits has 10 classes"):
        study({**RAW["losses"], "balanced": {"name": "ce", "class_weights": [1, 2]}})


def test_what_is_not_altered_is_prepared_as_before():
    assert "imbalance" not in specs.prepare(study(), "digits").arguments
    made = specs.prepare(study(imbalance={"kind": "step", "ratio": 4}), "digits").arguments
    assert made["imbalance"] == {"kind": "step", "ratio": 4.0, "minority": None, "seed": 0}
    assert "class_size" in study(imbalance={"kind": "step", "ratio": 4}).figures("main")
    assert "class_size" not in study().figures("main")
