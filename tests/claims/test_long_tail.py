"""The claims on imbalanced classes and noisy labels: where they apply, and what they compare."""

import pandas as pd
import pytest

from nclens.claims import Comparison, Measurements, claim_rows, pairs
from nclens.claims.long_tail import CLAIMS
from tests.claims.runs import NO_THEORY, runs

BY_ID = {claim.id: claim for claim in CLAIMS}
SEEDS = (0, 1, 2)


def comparison(loss, baseline, sizes=(40, 4), **values):
    """Both losses' metrics at the last epoch, (baseline, loss); seeds differ by a thousandth."""
    tables = [
        runs(lambda epoch, seed, at=at: at + 1e-5 * seed * at, name, metric, split, SEEDS, (0, 10))
        for metric, ends in values.items()
        for name, at in zip((baseline, loss), ends, strict=True)
        for split in ("train", "test")
    ]
    tables += [
        runs(lambda epoch, seed, size=size: size, name, f"train_count_class_{k}", "train", SEEDS, (0, 10))
        for name in (baseline, loss)
        for k, size in enumerate(sizes)
    ]
    names = ("main", "long_tail", "resnet8", baseline, loss, SEEDS, 10)
    return Comparison(*names, Measurements(pd.concat(tables)), NO_THEORY)


def verdicts(claim, found):
    return [row.verdict for row in claim_rows(BY_ID[claim], found)]


@pytest.mark.parametrize("claim", BY_ID)
def test_on_balanced_and_clean_data_no_claim_applies(claim):
    values = {"error": (0.1, 0.2), "error_balanced": (0.1, 0.2), "minority_collapse": (0.1, 0.2)}
    for sizes in ((), (40, 21)):
        assert claim_rows(BY_ID[claim], comparison("ls", "ce", sizes, **values)) == []


def test_differences_are_judged_against_no_effect_and_accuracy_against_a_margin():
    found = comparison("ls", "focal", minority_collapse=(0.5, 0.5), error=(0.3, 0.2), error_balanced=(0.3, 0.4))
    assert verdicts("L1", found)[1:] == ["supported", "contradicted"]
    found = comparison("maxsup", "ls", minority_collapse=(0.5, 0.5), error=(0.3, 0.305))
    assert verdicts("L2", found)[0] == "supported"
    found = comparison("balanced", "ce", minority_collapse=(0.5, 0.1), error_balanced=(0.3, 0.4))
    assert verdicts("L3", found)[1:] == ["supported", "contradicted"]
    assert verdicts("L4", found) == verdicts("L3", found)
    found = comparison("ls", "ce", nc1_clean=(2.0, 1.0), error_clean=(0.2, 0.3))
    assert verdicts("L5", found)[1:] == ["supported", "contradicted"]


def test_a_loss_with_class_weights_is_a_kind_of_loss():
    kinds = {"ce": "ce", "balanced": "ce_weighted", "ls": "ls", "focal": "focal", "maxsup": "maxsup"}
    found = {name: pairs(claim, list(kinds), kinds, dict.fromkeys(kinds), "ce") for name, claim in BY_ID.items()}
    assert found == {
        "L1": [("ls", "focal")],
        "L2": [("maxsup", "ls")],
        "L3": [("balanced", "ce")],
        "L4": [("ls", "ce")],
        "L5": [("ls", "ce")],
    }
