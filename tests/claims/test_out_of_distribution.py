"""D1: the difference is that of the more collapsed loss minus the other, whichever is the baseline."""

import math

import pytest

from nclens.claims.out_of_distribution import CLAIMS, SCORES, detects_better
from nclens.claims.rows import claim_rows
from tests.claims.runs import by_quantity, compare, runs


def at_end(loss, metric, value, split="test"):
    return runs(lambda epoch, seed: value * (1 + 1e-3 * seed) if epoch == 100 else 0.4, loss, metric, split)


def detection(loss, near, far):
    tables = [
        at_end(loss, f"ood_auroc_{score}/{probe}", value)
        for score in SCORES
        for probe, value in (("near", near), ("far", far))
    ]
    # What must not count: a covariate shift.
    return [*tables, at_end(loss, "shift_auroc_neco/writers", 0.1)]


@pytest.mark.parametrize(("nc1", "effect", "verdict"), [(0.05, 0.15, "supported"), (0.2, -0.15, "contradicted")])
def test_the_more_collapsed_loss_comes_first(nc1, effect, verdict):
    tables = [*detection("ce", 0.6, 0.8), *detection("ls", 0.8, 0.9)]
    collapse = [at_end("ce", "nc1", 0.1, "train"), at_end("ls", "nc1", nc1, "train")]
    found = by_quantity(detects_better(compare(*tables, *collapse)))
    assert list(found) == [*(f"auroc_{score}_mean" for score in SCORES), "auroc_neco/far", "auroc_neco/near"]
    assert found["auroc_neco_mean"].effect == pytest.approx(effect, rel=2e-3)
    assert abs(found["auroc_neco/near"].effect) == pytest.approx(0.2, rel=2e-3)
    assert {measure.verdict for measure in found.values()} == {verdict}
    first = "ls is more collapsed than ce" if verdict == "supported" else "ce is more collapsed than ls"
    assert found["auroc_neco_mean"].note == first


def test_without_a_difference_in_collapse_it_is_not_testable():
    tables = [*detection("ce", 0.6, 0.8), *detection("ls", 0.8, 0.9)]
    unclear = runs(lambda epoch, seed: 0.1 * (0.5, 1, 2)[seed], "ls", "nc1", "train")
    comparison = compare(*tables, at_end("ce", "nc1", 0.1, "train"), unclear)
    measures = detects_better(comparison)
    assert {measure.verdict for measure in measures} == {"inconclusive"}
    assert math.isnan(measures[0].low)
    assert claim_rows(CLAIMS[0], comparison)[0].note.startswith("neither loss is clearly more collapsed")


def test_without_a_probe_there_is_no_verdict():
    assert claim_rows(CLAIMS[0], compare(at_end("ce", "nc1", 0.1, "train"))) == []
