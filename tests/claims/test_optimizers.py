"""The claim on optimisers, and which losses are compared where optimisers differ."""

import pytest

from nclens.claims import CLAIMS, claim_rows, pairs
from nclens.claims.optimizers import TIMES, keeps_nc0_high
from tests.claims.runs import by_quantity, compare, runs

O1 = CLAIMS["O1"]


def high(times, metrics=("nc0", "nc2", "nc3"), wobble=0.01):
    """Runs of AdamW whose metrics end at so many times those of SGD."""
    return [
        runs(lambda epoch, seed, factor=factor: factor * (1 + wobble * seed) / (1 + epoch), loss, metric)
        for metric in metrics
        for loss, factor in (("sgd", 1.0), ("adamw", times))
    ]


def judged(*tables):
    return by_quantity(keeps_nc0_high(compare(*tables, baseline="sgd", loss="adamw")))


@pytest.mark.parametrize(("times", "verdict"), [(10.0, "supported"), (1.5, "contradicted"), (0.5, "contradicted")])
def test_nc0_is_high_above_twice_that_of_sgd(times, verdict):
    found = judged(*high(times))
    assert list(found) == ["nc0", "nc2", "nc3"]
    assert (found["nc0"].verdict, found["nc0"].null) == (verdict, TIMES)
    assert found["nc0"].effect == pytest.approx(times)
    assert found["nc2"].verdict == found["nc3"].verdict == ("supported" if times > 1 else "contradicted")


def test_equal_effective_decay_that_leaves_nc0_equal_supports_nothing():
    (row, *_) = claim_rows(O1, compare(*high(1.0), baseline="sgd", loss="adamw"))
    assert row.verdict == "contradicted"


def test_where_nc0_is_not_measured_nc2_is_the_main_measure():
    found = judged(*high(3.0, metrics=("nc2", "nc3")))
    assert list(found) == ["nc2", "nc3"]
    assert found["nc2"].verdict == "supported"


KINDS = {"ce": "ce", "ls": "ls", "ce_adamw": "ce", "ls_adamw": "ls", "maxsup_adamw": "maxsup", "ls_sgdw": "ls"}
STRENGTHS = {loss: 0.1 if KINDS[loss] != "ce" else None for loss in KINDS}
OPTIMIZERS = {loss: loss.partition("_")[2] or "sgd" for loss in KINDS}
PEERS = {"ce_adamw": ("ce",), "ls_adamw": ("ls",), "ls_sgdw": ("ls",)}


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        ("C1", [("ls", "ce"), ("ls_adamw", "ce_adamw")]),  # none with SGDW, which has no cross entropy
        ("G1", [("maxsup_adamw", "ce_adamw")]),
        ("M1", [("maxsup_adamw", "ls_adamw")]),
        ("O1", [("ce_adamw", "ce"), ("ls_adamw", "ls"), ("ls_sgdw", "ls")]),
    ],
)
def test_losses_are_compared_under_one_optimiser_and_optimisers_under_one_loss(claim, found):
    assert pairs(CLAIMS[claim], list(KINDS), KINDS, STRENGTHS, "ce", OPTIMIZERS, PEERS) == found


def test_without_other_optimisers_the_claim_has_nothing_to_compare():
    assert pairs(O1, list(KINDS), KINDS, STRENGTHS, "ce") == []
