from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures.theory_to_network import PREDICTED, closed_forms, relative_error, theory_error
from tests.figures.artists import notes_of
from tests.figures.simulate import simulate as make


def test_relative_error_by_hand():
    rows = pd.DataFrame({"loss": ["ce", "ce", "ls", "maxsup"], "seed": 0, "epoch": 1, "value": [3.0, 5.0, 4.0, 1.0]})
    found = relative_error({"ce": 4.0, "ls": 4.0})(rows)
    assert list(found["loss"]) == ["ce", "ce", "ls"]
    np.testing.assert_allclose(found["value"], [0.25, 0.25, 0.0])


@pytest.mark.parametrize(("loss", "norms"), [("ce", (3.4987, 1.5647)), ("ls", (3.1278, 1.3988))])
def test_the_closed_forms_are_the_tables(loss, norms):
    # papers.md: (|w_k|, |h_k|) at K = 10, N = 50,000, lambda_W = 1e-3, lambda_H = 1e-6.
    inputs = make()
    found = [closed_forms(inputs, quantity)[loss] for quantity in ("weight_norm", "feature_norm")]
    assert found == pytest.approx(norms, abs=1e-4)


def test_a_network_at_the_minimiser_has_the_error_that_was_put_in(simulate):
    inputs = simulate(seeds=tuple(range(4)))
    metrics = inputs.metrics.copy()
    for metric, (quantity, _) in PREDICTED.items():
        closed = metrics["loss"].map(closed_forms(inputs, quantity))
        metrics["value"] = metrics["value"].where(metrics["metric"] != metric, closed * 0.99)
    _, table = theory_error(replace(inputs, metrics=metrics))
    errors = table[table["metric"].str.endswith("relative_error")]
    assert list(errors["metric"].unique()) == [f"{metric}_relative_error" for metric in PREDICTED]
    np.testing.assert_allclose(errors[["mean", "low", "high"]], 0.01, rtol=1e-9)


def test_collapse_metrics_are_drawn_as_they_are_on_log_axes(simulate):
    inputs = simulate(seeds=(3,))
    figure, table = theory_error(inputs)
    for metric in ("nc1", "nc2", "nc3"):
        own = table[table["metric"] == metric]
        np.testing.assert_allclose(own["mean"], inputs.select(metric, "train")["value"], rtol=1e-12)
    assert [axes.get_yscale() for axes in figure.axes] == ["log"] * 6


def test_an_exact_hit_and_a_loss_without_a_closed_form_are_named(simulate):
    inputs = simulate(losses=("ce", "maxsup"), penalties="explicit")
    theory = inputs.theory.copy()
    theory.loc[theory["quantity"] == "logit_gap", "closed_form"] = 0.0
    metrics = inputs.metrics.copy()
    at_end = (metrics["metric"] == "classifier_norm") & (metrics["epoch"] == 60) & (metrics["loss"] == "ce")
    metrics.loc[at_end, "value"] = closed_forms(inputs, "weight_norm")["ce"]
    figure, _ = theory_error(replace(inputs, theory=theory, metrics=metrics))
    assert "No closed form, or 0, for MaxSup with a rather long name" in notes_of(figure)
    assert "classifier_norm_relative_error (train), CE: 3 not positive" in notes_of(figure)
    assert "logit_gap_relative_error (train): no values" in notes_of(figure)
    assert "no finite values" in [text.get_text() for text in figure.axes[2].texts]


@pytest.mark.parametrize(
    ("penalties", "said"),
    [
        ("explicit", ""),
        ("effective", "These networks were not trained with the closed form's penalties"),
        (None, "Whether these networks were trained with the closed form's penalties is not in the tables"),
    ],
)
def test_penalties_that_were_not_trained_with_are_owned_up_to(simulate, penalties, said):
    figure, _ = theory_error(simulate(penalties=penalties))
    assert said in notes_of(figure)
    assert ("trained with" in notes_of(figure)) == bool(said)
    assert "0.001 (classifier), 1e-06 (features), 0.01 (bias)" in notes_of(figure)
