"""Claims that a study states: what is refused, what they are judged on."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.study.claims import comparisons

ECE = {"metric": "ece", "split": "test", "direction": "below", "margin": 0.005}


def study(raw, entry, **losses):
    raw["losses"] |= losses
    (experiment,) = raw["experiments"].values()
    experiment["losses"] = [*experiment["losses"], *losses]
    raw["claims"] = {"mine": entry}
    return load_study(raw)


def test_a_claim_is_on_every_other_loss_of_every_experiment_that_it_fits(raw_study):
    found = study(raw_study, ECE, focal={"name": "focal", "gamma": 2})
    assert comparisons("mine", found) == [("smoke", "ls", "ce"), ("smoke", "focal", "ce")]


def test_against_and_losses_choose(raw_study):
    found = study(raw_study, ECE | {"against": "ls", "losses": ["ce"]})
    assert comparisons("mine", found) == [("smoke", "ce", "ls")]


@pytest.mark.parametrize(
    ("changes", "null"),
    [
        ({"margin": 0.1}, -0.1),
        ({"margin": 0.1, "direction": "above"}, 0.1),
        ({"margin": 0.25, "scale": "ratio"}, 0.8),
        ({"margin": 0.25, "scale": "ratio", "direction": "above"}, 1.25),
        ({"margin": 0.25, "at": "time_to 0.05"}, 0.8),
    ],
)
def test_the_margin_is_the_least_effect_that_counts(raw_study, changes, null):
    assert study(raw_study, ECE | changes).claims["mine"].null == pytest.approx(null)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metric": "ece_adaptiv"},
            r"claims\.mine\.metric = 'ece_adaptiv': no metric of this name is measured; "
            "the nearest: ece_adaptive",
        ),
        ({"metric": "ece_scaled", "split": "train"}, "split = train: `ece_scaled` is measured on test alone"),
        ({"at": "epoch 4"}, r"claims\.mine\.at = epoch 4: experiments\.smoke has no snapshot then; allowed: 1, "),
        ({"at": "time_to"}, "must be `last`, `best`, `epoch N` or `time_to LEVEL`"),
        ({"at": "time_to nan"}, "with a finite number as LEVEL"),
        ({"at": "time_to x"}, "with a number as LEVEL"),
        ({"at": "time_to 0.1", "scale": "difference"}, "epochs are compared by their ratio"),
        ({"metric": "confidence", "at": "best"}, "neither direction of `confidence` is better"),
        ({"margin": -0.1}, r"claims\.mine\.margin = -0\.1"),
        ({"against": "cee"}, r"claims\.mine\.against = cee: no such entry in `losses`; it has: ce, ls"),
        ({"experiments": ["mine"]}, r"claims\.mine\.experiments = mine: no such entry in `experiments`"),
        ({"losses": ["ce"]}, r"claims\.mine: compares nothing"),
        ({"metric": "nrc1"}, r"claims\.mine: compares nothing; .* the metric's task"),
        ({"direction": None}, "direction"),
    ],
)
def test_what_does_not_fit_is_named(raw_study, changes, message):
    entry = {key: value for key, value in (ECE | changes).items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        study(raw_study, entry)


def test_a_claim_may_be_on_a_metric_of_the_users_own(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text("def rank(features): pass")
    metric = {"function": "mine:rank", "label": "Rank", "better": "higher", "unit": "dimensions", "splits": ["test"]}
    raw_study["metrics"] = {"rank": metric, "rank_more": {"function": "mine:rank"}}
    raw_study["claims"] = {
        "one": ECE | {"metric": "rank", "at": "best"},
        "part": ECE | {"metric": "rank_of_one"},
        "other": ECE | {"metric": "rank_more_of_one", "split": "train"},
    }
    found = load_study(raw_study, [tmp_path])
    assert comparisons("one", found) == [("smoke", "ls", "ce")]
    made = {name: entry.specification() for name, entry in found.claims.items()}
    assert {name: entry["label"] for name, entry in made.items()} == {
        "one": "Rank",
        "part": "Rank, of_one",
        "other": "rank_more, of_one",
    }
    assert (made["one"]["unit"], made["one"]["rising"], made["other"]["rising"]) == ("dimensions", True, False)
    for changes, message in (
        ({"metric": "rank", "split": "train"}, "split = train: `rank` is measured on test alone"),
        ({"metric": "rank_more", "at": "best"}, "neither direction of `rank_more` is better"),
        ({"metric": "rnk"}, "the nearest: rank"),
    ):
        raw_study["claims"] = {"one": ECE | changes}
        with pytest.raises(ConfigError, match=message):
            load_study(raw_study, [tmp_path])


@pytest.mark.parametrize("key", ["direction", "margin"])
def test_direction_and_margin_are_required(raw_study, key):
    with pytest.raises(ConfigError, match=rf"claims\.mine\.{key}: is missing"):
        study(raw_study, {name: value for name, value in ECE.items() if name != key})


def test_the_names_of_built_in_claims_are_taken(raw_study):
    raw_study["claims"] = {"C1": ECE}
    with pytest.raises(ConfigError, match="is the id of a built-in claim"):
        load_study(raw_study)


def test_a_function_takes_two_tables(raw_study, tmp_path):
    (tmp_path / "mine.py").write_text("def claim(loss, baseline, level): pass")
    entry = {"function": "mine:claim", "direction": "above", "margin": 0}
    raw_study["claims"] = {"mine": entry | {"parameters": {"level": 1}}}
    assert load_study(raw_study, [tmp_path]).claims["mine"].null == 0
    raw_study["claims"] = {"mine": entry}
    with pytest.raises(ConfigError, match=r"claims\.mine: parameters: mine:claim .* needs the parameters `level`"):
        load_study(raw_study, [tmp_path])
