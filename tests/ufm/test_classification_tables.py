"""The tables of the unconstrained feature model, as far as they do not depend on a study."""

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.classification_tables import dynamics_rows, theory_rows


def test_numeric_values_do_not_come_from_the_closed_form(monkeypatch):
    problem = UnconstrainedFeatureModel(3, 2, 4, 1e-2, 1e-2, 1e-2)
    honest = {row["quantity"]: row["numeric"] for row in theory_rows(problem)}
    wrong = property(lambda self: 123.0)
    for name in ("logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "objective"):
        monkeypatch.setattr(UnconstrainedFeatureModel, name, wrong)
    monkeypatch.setattr(
        "nclens.ufm.classification_tables.condition_numbers", lambda problem: dict.fromkeys(honest, 123.0)
    )
    dishonest = {row["quantity"]: row["numeric"] for row in theory_rows(problem)}
    assert dishonest == honest


def test_dynamics_leave_out_the_zero_regime():
    penalties = {"lambda_w": 10.0, "lambda_h_total": 800.0, "lambda_b": 1e-2}
    assert dynamics_rows([{"classes": 4, "smoothing": 0.0, **penalties}]) == []
