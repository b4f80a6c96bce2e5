import math

import pytest

from nclens.claims.rows import claim_rows, pairs
from nclens.claims.two_stage import CLAIMS, reduces_gradient_variance
from tests.claims.runs import by_quantity, compare, decay, runs

BY_ID = {claim.id: claim for claim in CLAIMS}
EPOCHS = range(1, 101)


def comparison(rate, baseline_rate=0.04, wobble=0.01):
    """A loss and a baseline whose errors and nc1 fall exponentially, each seed at a slightly different rate."""
    tables = []
    for loss, of_loss in (("ce", baseline_rate), ("two_stage", rate)):
        for split, metric in (("train", "epoch_error"), ("test", "epoch_error"), ("train", "nc1")):

            def course(epoch, seed, at=of_loss, loss=loss):
                return decay(at * (1 + (wobble * seed if loss != "ce" else 0)))(epoch, seed)

            tables.append(runs(course, loss, metric, split, epochs=EPOCHS))
    return compare(*tables, loss="two_stage")


def test_a_faster_loss_takes_fewer_epochs_to_every_level():
    found = by_quantity(BY_ID["T1"].measures(comparison(0.08, wobble=0.001)))
    assert list(found) == ["epochs_to_train_error", "epochs_to_test_error", "epochs_to_final_nc1"]
    # Twice the rate: half the epochs; errors, of whole epochs, to within one of them.
    assert found["epochs_to_final_nc1"].effect == pytest.approx(0.5, rel=2e-3)
    for split in ("train", "test"):
        assert found[f"epochs_to_{split}_error"].effect == pytest.approx(0.5, abs=0.01)
    assert {measure.verdict for measure in found.values()} == {"supported"}


def test_a_slower_loss_contradicts():
    (head, *_) = claim_rows(BY_ID["T1"], comparison(0.02))
    assert (head.verdict, head.high) == ("contradicted", math.inf)


def test_equal_losses_are_inconclusive():
    (head, *_) = claim_rows(BY_ID["T1"], comparison(0.04, wobble=0.0))
    assert (head.verdict, head.effect) == ("inconclusive", 1.0)


def test_two_stage_smoothing_is_label_smoothing_before_the_drop():
    """Where the level is reached before the runs part, the networks are the same, whatever the number of seeds."""

    def course(parts):
        return lambda epoch, seed: math.exp(-0.1 * min(epoch, 60) * (1 + 0.01 * seed)) + (epoch > parts) * 1e-6

    def found(parts):
        tables = [
            runs(course(at), loss, "epoch_error", split, epochs=EPOCHS)
            for loss, at in (("ce", 200), ("two_stage", parts))
            for split in ("train", "test")
        ]
        head, *_ = claim_rows(BY_ID["T1"], compare(*tables, loss="two_stage"))
        return head

    # The level of 1% is reached at epoch 47 at the latest.
    assert (found(50).verdict, found(50).reason, found(50).effect) == ("inconclusive", "identical networks", 1.0)
    assert found(30).reason == "no effect beyond the margin"


@pytest.mark.parametrize(("claim", "split", "metric"), [("T2", "test", "error"), ("T3", "train", "nc1")])
def test_lower_is_what_is_claimed_at_the_end(claim, split, metric):
    for factor, verdict in ((0.5, "supported"), (2.0, "contradicted")):
        tables = [
            runs(lambda _, seed, at=at: at * (1 + 0.01 * seed), loss, metric, split, epochs=(100,))
            for loss, at in (("ce", 0.1), ("two_stage", 0.1 * factor))
        ]
        assert BY_ID[claim].measures(compare(*tables, loss="two_stage"))[0].verdict == verdict


def test_each_drop_is_compared_with_both_ends():
    kinds = {"ce": "ce", "ls": "ls", "drop_50": "ls_drop", "drop_100": "ls_drop"}
    strengths = dict.fromkeys(kinds, 0.1) | {"ce": None}
    for claim, against in (("T1", ["ce", "ls"]), ("T2", ["ce", "ls"]), ("T3", ["ce"])):
        assert pairs(BY_ID[claim], list(kinds), kinds, strengths, "ce") == [
            (loss, other) for loss in ("drop_50", "drop_100") for other in against
        ]


# --- W4 --------------------------------------------------------------------------------------------------------------

FEW = (0, 1, 10, 50, 100)


def variances(ratios, suffix=""):
    """Variances whose ratio, smoothed over one-hot, is given by (loss, part) -> epoch -> ratio."""
    tables = []
    for (loss, part), ratio in ratios.items():
        key = f"gradient_variance_{part}"
        for targets, factor in (("onehot", lambda _: 1.0), ("smoothed", ratio)):

            def course(epoch, seed, factor=factor):
                return factor(epoch) * (3.0 * (epoch + 1) + seed)

            tables.append(runs(course, loss, f"{key}_{targets}{suffix}", epochs=FEW))
    return tables


def test_w4_averages_the_log_ratio_over_snapshots_at_the_weights_of_each_training():
    at_loss = {0: 50.0, 1: 0.5, 10: 0.5, 50: 0.25, 100: 0.125}
    at_baseline = {0: 50.0, 1: 0.5, 10: 0.8, 50: 20.0, 100: 200.0}
    found = by_quantity(
        reduces_gradient_variance(
            compare(
                *variances(
                    {
                        ("ls", "network"): at_loss.__getitem__,
                        ("ls", "head"): lambda epoch: 0.9,
                        ("ce", "network"): at_baseline.__getitem__,
                        ("ce", "head"): lambda epoch: 2.0,
                    }
                )
            )
        )
    )
    expected = {
        "gradient_variance_at_loss_weights": ((0.5 * 0.5 * 0.25 * 0.125) ** (1 / 4), "supported"),
        "gradient_variance_at_loss_weights_at_end": (0.125, "supported"),
        "gradient_variance_of_head_at_loss_weights": (0.9, "supported"),
        "gradient_variance_at_baseline_weights": ((0.5 * 0.8 * 20 * 200) ** (1 / 4), "contradicted"),
        "gradient_variance_at_baseline_weights_early": ((0.5 * 0.8) ** (1 / 2), "supported"),
    }
    assert {name: (measure.effect, measure.verdict) for name, measure in found.items()} == {
        name: (pytest.approx(effect), verdict) for name, (effect, verdict) in expected.items()
    }


def test_w4_does_not_leave_out_what_is_not_defined():
    tables = variances({("ls", "network"): lambda epoch: 0.0 if epoch == 50 else 0.5, ("ls", "head"): lambda _: 0.5})
    found = by_quantity(reduces_gradient_variance(compare(*tables)))
    main = found["gradient_variance_at_loss_weights"]
    assert main.verdict == "inconclusive"
    assert "no finite effect" in main.note
    assert found["gradient_variance_at_loss_weights_at_end"].verdict == "supported"


def test_w4_judges_each_probe_and_says_nothing_where_there_is_none():
    ratios = {(loss, part): lambda _: 0.5 for loss in ("ls", "ce") for part in ("network", "head")}
    names = [
        measure.quantity
        for measure in reduces_gradient_variance(compare(*variances(ratios, "/a"), *variances(ratios, "/b")))
    ]
    assert len(names) == 10
    assert names[0] == "gradient_variance_at_loss_weights/a"
    assert names[5] == "gradient_variance_at_loss_weights/b"
    assert claim_rows(BY_ID["W4"], compare(runs(lambda *_: 1.0, "ls", epochs=FEW))) == []
