from dataclasses import replace

import numpy as np
import pytest
import torch

from nclens.figures.inputs import means_of
from nclens.figures.risk_coverage import COVERAGES, risk_coverage
from nclens.metrics.selective import log_odds, normalised_logit, risk_at_coverage
from tests.figures.artists import notes_of


def test_a_point_is_the_mean_over_seeds_of_the_risk_at_that_coverage(simulate):
    inputs = simulate(losses=("ce", "ls"), seeds=(0, 1))
    figure, table = risk_coverage(inputs)
    for loss in ("ce", "ls"):
        for ranking, confidence in (("msp", log_odds), ("normalised", lambda logits: normalised_logit(logits, 3))):
            own = means_of(table[(table["loss"] == loss) & (table["ranking"] == ranking)])
            assert own["coverage"].tolist() == list(COVERAGES)
            for row in own.iloc[::19].itertuples():
                values = []
                for seed in (0, 1):
                    arrays = inputs.last_features(loss, seed)
                    logits = torch.as_tensor(np.asarray(arrays["test.logits"], dtype=np.float64))
                    correct = logits.argmax(dim=1) == torch.as_tensor(arrays["test.targets"])
                    values.append(risk_at_coverage(confidence(logits), correct, row.coverage))
                assert row.mean == pytest.approx(np.mean(values), abs=1e-15)
    assert "Horizontal line: 5% risk" in notes_of(figure)
    assert figure.finding.startswith("Risk (%) at 80% coverage by softmax probability: ")


@pytest.mark.parametrize(
    ("held_out", "chosen_on"), [("test", "a held-out part of the test set"), ("val", "the validation split")]
)
def test_the_samples_that_p_is_chosen_on_are_named(simulate, held_out, chosen_on):
    figure, _ = risk_coverage(replace(simulate(losses=("ce",), seeds=(0,)), held_out=held_out))
    assert f"Exponent p of the normalisation: each run's own, chosen on {chosen_on}" in notes_of(figure)


def test_a_missing_exponent_is_named_and_its_seed_has_no_normalised_curve(simulate):
    def change(table):
        return table[~((table["metric"] == "logit_norm_power") & (table["seed"] == 1) & (table["loss"] == "ls"))]

    figure, table = risk_coverage(simulate(losses=("ce", "ls"), change=change))
    counts = table.groupby(["ranking", "loss"])["seeds"].max()
    assert counts["normalised", "ls"] == counts["msp", "ls"] - 1
    assert "No normalised curve where p is missing: p (test), LS (δ = 0.05): 1 missing, of 3 values" in notes_of(figure)


def test_without_any_exponent_the_second_panel_says_why(simulate):
    inputs = simulate(losses=("ce",), change=lambda table: table[table["metric"] != "logit_norm_power"])
    figure, table = risk_coverage(inputs)
    assert set(table["ranking"]) == {"msp"}
    assert [text.get_text() for text in figure.axes[1].texts] == ["not defined for two classes"]


def test_a_network_far_below_the_risk_has_no_line_at_it(simulate):
    def perfect(loss, seed):
        return {"test.logits": np.eye(3)[[0, 1, 2]] + 0.1 * np.arange(3), "test.targets": np.arange(3)}

    figure, table = risk_coverage(replace(simulate(losses=("ce",)), last_features=perfect))
    assert (table["mean"] == 0).all()
    assert "Horizontal line" not in notes_of(figure)
