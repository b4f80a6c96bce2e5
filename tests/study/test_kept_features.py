"""`keep_features: none`: what it goes with, what it leaves out, and the disk that it takes."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.study.kept_features import features_mb
from nclens.workflow import specs

FEATURES = "allowed: all, last"
OWN = "def spread(features):\n    return float(features.std())\n"


def without(raw, **changes):
    """The smoke study without features, with other keys of its experiment."""
    raw["experiments"]["smoke"] |= {"keep_features": "none", **changes}
    return raw


def test_nothing_is_measured_or_drawn_that_needs_all_features(raw_study):
    plain, study = load_study(raw_study), load_study(without(raw_study))
    assert set(plain.figures("smoke")) - set(study.figures("smoke")) == {"arcs"}
    assert specs.collect(plain).experiments[0].arcs is not None
    assert specs.collect(study).experiments[0].arcs is None
    run = next(study.runs())
    assert {one.function.split(":")[0] for one in specs.measure(study, run).measurements} == {
        *("nclens.metrics.from_statistics", "nclens.metrics.calibration"),
        *("nclens.metrics.selective", "nclens.metrics.imbalance"),
    }
    spec = specs.extract(study, run)
    assert spec.statistics is not None
    assert spec.kept == spec.snapshots
    assert specs.decode(specs.Extract, specs.encode(spec)) == spec
    # Other runs keep their identity.
    assert "statistics" not in specs.encode(specs.extract(plain, run))


@pytest.mark.parametrize(
    ("changes", "table", "words"),
    [
        ({"figures": ["arcs"]}, {}, "the figure arcs shows classes that are chosen once all features are known"),
        (
            {},
            {"metrics": {"own": {"function": "own:spread"}}},
            "metrics.own takes the features or logits of all samples",
        ),
        (
            {"losses": ["mse"], "model": "mlp"},
            {
                "losses": {"mse": {"name": "squared_error"}},
                "models": {"mlp": {"name": "mlp"}},
                "datasets": {"mnist5k": {"source": "swimmer_scripted"}},
            },
            "mnist5k is of regression, and statistics in place of features are of classifiers of images",
        ),
    ],
    ids=["figure", "metric", "regression"],
)
def test_what_needs_all_features_is_refused_in_one_message(raw_study, tmp_path, changes, table, words):
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(ConfigError) as caught:
        load_study(without(raw_study, **changes) | table, [tmp_path])
    assert str(caught.value).count("\n") == 1
    assert f"experiments.smoke.keep_features = none: {words}; {FEATURES}" in str(caught.value)


def test_another_word_is_refused(raw_study):
    raw_study["experiments"]["smoke"]["keep_features"] = "some"
    with pytest.raises(ConfigError, match=r"keep_features.*'all', 'last' or 'none'"):
        load_study(raw_study)


def test_the_disk_of_features_is_as_float32_with_logits_and_targets(raw_study):
    study = load_study(raw_study)
    run = next(study.runs())
    manifest = {"classes": list("abcdefghij"), "train": 50_000, "test": 10_000}
    # 3 snapshots x 60,000 samples x (32 features + 10 logits) x 4 bytes, and 8 bytes a target.
    assert features_mb(study, run, manifest) == 32
    assert features_mb(study, run, manifest | {"train": 1, "test": 1}) == 1


def test_statistics_of_imagenet_take_less_than_a_gigabyte_a_snapshot(raw_study):
    raw_study["models"]["resnet8"] = {"name": "resnet50"}
    study = load_study(without(raw_study, snapshots=[6]))
    manifest = {"classes": list(range(1000)), "train": 1_281_167, "test": 50_000}
    assert 400 < features_mb(study, next(study.runs()), manifest) < 1000
