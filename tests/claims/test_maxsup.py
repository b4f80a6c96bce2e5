import math

import pytest

from nclens.claims.maxsup import CLAIMS
from nclens.claims.rows import claim_rows, pairs
from tests.claims.runs import by_quantity, compare, runs

BY_ID = {claim.id: claim for claim in CLAIMS}
FIGURES = {
    ("test", "error"): 0.05,
    ("train", "d_within"): 0.26,
    ("test", "d_within"): 0.30,
    ("test", "confidence_incorrect"): 0.6,
    ("test", "top_logit_gap_incorrect"): 3.0,
    ("train", "nc1"): 0.02,
    ("train", "nc2"): 0.1,
    ("train", "nc3"): 0.1,
}


def comparison(loss="maxsup", baseline="ls", spread=0.001, **factors):
    """Two losses whose numbers differ by factors, `metric` for both splits; seeds differ a little from each other."""
    tables = []
    for entry in (baseline, loss):
        for (split, metric), value in FIGURES.items():
            level = value * (factors.get(metric, 1.0) if entry == loss else 1.0)
            # The seeds' noise is the pair's own: without it every interval would be a point.
            wobble = spread if entry == loss else 0.0
            tables.append(
                runs(lambda _, seed, at=level, by=wobble: at * (1 + by * seed), entry, metric, split, epochs=(1, 100))
            )
    return compare(*tables, baseline=baseline, loss=loss)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    # A margin of one percentage point on an error of five: 1.2 times it is on the margin.
    [(0.5, "supported"), (1.0, "supported"), (1.15, "supported"), (1.25, "contradicted")],
)
def test_accuracy_is_kept_within_the_margin(factor, verdict):
    (measure,) = BY_ID["M1"].measures(comparison(error=factor))
    assert (measure.verdict, measure.null) == (verdict, 0.01)
    assert measure.effect == pytest.approx(0.05 * (factor * 1.001 - 1), abs=1e-9)


@pytest.mark.parametrize(
    ("claim", "metric", "claimed"),
    [
        ("M2", "d_within", "above"),
        ("M4", "confidence_incorrect", "above"),
        ("M5", "confidence_incorrect", "below"),
        ("M6", "nc1", "above"),
        ("M7", "nc1", "below"),
    ],
)
def test_a_claim_is_held_by_its_main_measure_in_its_own_direction(claim, metric, claimed):
    for factor in (0.8, 1.25):
        (head, *_) = claim_rows(BY_ID[claim], comparison(**{metric: factor}))
        holds = (factor > 1) == (claimed == "above")
        assert head.verdict == ("supported" if holds else "contradicted")
    (head, *_) = claim_rows(BY_ID[claim], comparison(spread=0.0))
    assert head.verdict == "inconclusive"  # no difference at all


def test_since_when_both_fit_the_training_set_is_noted():
    """From then on they have the same gradient there; the later run of all counts, and a rise is no fit."""

    def errors(loss, fitted):
        return runs(lambda epoch, seed: float(epoch < fitted + 10 * seed), loss, "error", epochs=(1, 20, 40, 60, 100))

    spread = [
        runs(lambda _, seed, at=at: at + 0.01 * seed, loss, "d_within", split)
        for loss, at in (("maxsup", 0.4), ("ls", 0.3))
        for split in ("train", "test")
    ]
    measured = [
        BY_ID["M2"].measures(compare(*spread, errors("ls", 20), errors("maxsup", fitted), baseline="ls", loss="maxsup"))
        for fitted in (30, 500)
    ]
    assert measured[0][0].note.startswith("from epoch 60 on every training prediction is right")
    assert measured[0][1].note == measured[1][0].note == ""


def test_spread_is_judged_on_both_splits():
    found = by_quantity(BY_ID["M2"].measures(comparison(d_within=2.0, spread=0.0)))
    assert list(found) == ["d_within_train", "d_within_test"]
    assert [measure.effect for measure in found.values()] == pytest.approx([2.0, 2.0])


def test_probes_are_judged_where_there_are_any():
    (measure,) = BY_ID["M3"].measures(comparison())
    assert (measure.verdict, measure.quantity, measure.seeds) == ("inconclusive", "probe_accuracy", 0)
    assert measure.note == "the study has no linear probe of these networks"
    tables = [
        runs(lambda _, seed, at=at: at + 0.001 * seed, loss, probe, "test", epochs=(100,))
        for loss, at in (("ls", 0.7), ("maxsup", 0.8))
        for probe in ("probe_accuracy/usps", "probe_accuracy/digits")
    ]
    measures = BY_ID["M3"].measures(compare(*tables, baseline="ls", loss="maxsup"))
    assert [measure.quantity for measure in measures] == ["probe_accuracy/digits", "probe_accuracy/usps"]
    assert all(measure.verdict == "supported" and math.isclose(measure.effect, 0.1) for measure in measures)


def test_segmentation_is_judged_where_it_is_probed():
    (measure,) = BY_ID["M8"].measures(comparison())
    assert (measure.verdict, measure.quantity, measure.seeds) == ("inconclusive", "segmentation_miou", 0)
    assert measure.note == "the study has no probe of segmentation of these networks"
    for better, verdict in ((0.05, "supported"), (-0.05, "contradicted")):
        tables = [
            runs(lambda _, seed, at=at: at + 0.001 * seed, loss, metric, "test", epochs=(100,))
            for loss, at in (("ls", 0.4), ("maxsup", 0.4 + better))
            for metric in ("segmentation_miou", "segmentation_floor_miou")
        ]
        (measure,) = BY_ID["M8"].measures(compare(*tables, baseline="ls", loss="maxsup"))
        assert (measure.quantity, measure.verdict) == ("segmentation_miou", verdict)
        assert measure.effect == pytest.approx(better)


def test_each_claim_finds_its_losses():
    names = ("ce", "ls_linear", "maxsup_linear", "ls_regularisation_linear", "logit_penalty")
    kinds, strengths = {name: name for name in names}, dict.fromkeys(names, 0.1) | {"ce": None}
    found = {claim.id: pairs(claim, names, kinds, strengths, "ce") for claim in CLAIMS}
    maxsup, amplified = [("maxsup_linear", "ls_linear")], [("ls_linear", "ls_regularisation_linear")]
    assert found == {name: maxsup for name in BY_ID} | {"M4": amplified, "M7": [("maxsup_linear", "ce")]}


def test_a_schedule_is_compared_with_the_same_schedule_where_there_is_one():
    kinds = {"ls": "ls", "decay": "ls_linear", "ms": "maxsup", "ms_decay": "maxsup_linear"}
    strengths = dict.fromkeys(kinds, 0.1)
    assert pairs(BY_ID["M2"], list(kinds), kinds, strengths, "ls") == [("ms", "ls"), ("ms_decay", "decay")]
    alone = {name: kinds[name] for name in ("ls", "ms_decay")}
    assert pairs(BY_ID["M2"], list(alone), alone, strengths, "ls") == [("ms_decay", "ls")]
