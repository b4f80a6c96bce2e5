"""The page's theory section: it says what the tables say, and its formulas are those of the code."""

import re
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from nclens.report.text import number
from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.dynamics import descend, records
from nclens.ufm.explanations import explanations, relative_iterations
from nclens.ufm.spectra import joint_spectrum
from tests.report.test_report import (
    LOSSES,
    STEMS,
    Reader,
    page,
    simulated_claims,
    simulated_figures,
    simulated_study,
    simulated_theory,
    table_rows,
)

LAMBDAS = {"lambda_w": 1e-3, "lambda_b": 1e-2}


@cache
def simulated_dynamics():
    """Real descents of a small model at the same N lambda_H = 0.05 as the theory table's."""
    sizes = {"classes": 4, "per_class": 2, "dim": 5}
    smoothings = (0.0, 0.05, 0.5)
    problems = [
        UnconstrainedFeatureModel.from_total(**sizes, **LAMBDAS, lambda_h_total=0.05, smoothing=delta)
        for delta in smoothings
    ]
    table = pd.DataFrame(records(descend(problems, starts=2, iterations=4000)))
    return table.assign(**sizes, **LAMBDAS, lambda_h=problems[0].lambda_h_sum)


def simulated_predictions(penalties="explicit"):
    rows = [
        {
            "experiment": "digits",
            "loss": loss,
            "smoothing": smoothing,
            "penalties": penalties,
            "seed": seed,
            "quantity": quantity,
            "measured": 1.02 * value + 0.01 * (seed - 1),
            "predicted": value,
        }
        for loss, smoothing in (("ce", 0.0), ("ls", 0.05))
        for quantity, value in (("logit_gap", 5.0), ("confidence", 0.9), ("weight_norm", 3.0), ("feature_norm", 2.0))
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def simulated_effective():
    rows = [
        ("digits", seed, held, 0.01 * (1 + seed), 0.25, 0.012, 0.034, 0.4 + seed, 2)
        for held in (0.0, 0.05)
        for seed in (0, 1)
    ]
    columns = ["experiment", "seed", "held_out", "s", "lambda_w_over_n_lambda_h", "rms_relative_residual"]
    columns += ["ratio_rms_relative_residual", "log_s_standard_error", "points"]
    return pd.DataFrame(rows, columns=columns)


def section(**changes):
    """The theory section of a page, as HTML, and its words."""
    text = page(**changes)
    found = re.search(r'<section id="theory".*?</section>', text, re.S).group(0)
    return found, Reader(found).text


# --- the minimiser, and what smoothing changes ----------------------------------------------------------------------


def test_a_row_a_quantity_with_every_loss_and_the_largest_error():
    rows = table_rows(page(), "theory")
    assert rows[0] == ["Quantity", "CE", "LS 0.05", "Error numeric, largest"]
    gap = next(row for row in rows if row[0].startswith("Logit gap"))
    assert gap[1:] == ["6.083", "4.861", "3.0×10⁻⁹"]
    text, words = section()
    assert "λW=0.001" in words
    assert "The largest relative error is 3.0×10⁻⁹." in words
    kappa = next(row for row in rows if "the directions of the first row" in row[0])
    assert kappa[1] == "rises"
    assert next(row for row in rows if "cross entropy alone" in row[0])[1] == "falls"
    # Every formula but that of the scaled condition number, which has words; none is made up where there is none.
    formulas = re.findall(r"title=\"(\w+) in theory/ufm.csv\">.*?<span class=\"form\">(.*?)</span>", text, re.S)
    assert {name for name, formula in formulas if not formula} == {"nuclear_norm", "kappa_joint_scaled"}
    assert len(formulas) == 14


def test_what_smoothing_changes_is_said_with_the_studys_numbers():
    _, words = section()
    assert "s=0.0224. From CE to LS 0.05, s+δ goes from 0.0224 to 0.0724, the gap from 6.08 to 4.86" in words
    assert "both norms are multiplied by 0.894 (weights 3.50 to 3.13, features 1.56 to 1.40)" in words
    assert "their ratio stays 0.447" in words
    assert "Beyond the threshold" not in words
    _, words = section(theory=simulated_theory({"ce": 0.0, "ls": 0.05, "strong": 0.99}))
    assert "Beyond the threshold, with weights and features zero: strong." in words
    _, words = section(theory=simulated_theory({"ls": 0.05}))
    assert "no two smoothings with a simplex" in words


def test_too_few_dimensions_have_dashes():
    theory = simulated_theory()
    theory = theory[~theory["quantity"].str.startswith("kappa")].assign(
        dim=5, closed_form=np.nan, relative_error=np.nan
    )
    _, words = section(theory=theory)
    assert "No closed form is known for fewer than K − 1 dimensions: dashes." in words
    assert "Condition numbers" not in words
    assert "Gradient descent" not in words
    rows = table_rows(page(theory=theory), "theory")
    assert rows[1][1:] == ["–", "–", "–"]


def test_verdicts_are_repeated():
    own = simulated_claims().query("claim == 'C6' and level == 'claim'")
    claims = pd.concat([simulated_claims(), own.assign(claim="C7", loss="ce")])
    _, words = section(claims=claims)
    assert "The verdict on C6 here: supported for LS 0.05." in words
    assert "The verdict on C7 here: supported for CE." in words
    assert "verdict on C5" not in words


def test_several_settings_have_headings_of_their_own():
    study = simulated_study()
    study["experiments"] += [study["experiments"][0] | {"experiment": "other", "dataset": "cifar10"}]
    other = simulated_theory(classes=100, per_class=500, dim=512).assign(experiment="other")
    text, words = section(study=study, theory=pd.concat([simulated_theory(), other]), dynamics=simulated_dynamics())
    for heading in ("mnist5k, resnet8", "cifar10, resnet8"):
        assert text.count(f"<h4>{heading}</h4>") == 2  # minimisers and condition numbers
    assert "cifar10, resnet8: s=" in words
    assert text.count("Measured on the model itself") == 1  # one model for both: the same N lambda_H


def test_formulas_evaluate_to_the_closed_forms():
    """The typeset formulas are read back and evaluated: what is printed is what was computed."""
    text, _ = section()
    table = simulated_theory().query("loss == 'ls'").set_index("quantity")["closed_form"]
    given = {"K": 10, "n": 5000, "λ_W": 1e-3, "λ_H": 1e-6, "δ": 0.05, "a": table["logit_gap"]}
    given |= {"p": table["p_true"], "q": table["p_other"], "s": np.sqrt(10 * 50_000 * 1e-9)}
    given |= {"κ_full": table["kappa_full"]}
    values = {}
    for found in re.finditer(
        r'title="(\w+) in theory/ufm.csv">[^\n]*?<span class="form"><math>(.*?)</math>', text, re.S
    ):
        quantity, formula = found.groups()
        if ">min<" not in formula:  # those of the joint Hessian say which eigenvalues are meant
            expression = as_expression(ElementTree.fromstring(formula)).split("=", 1)[1]
            values[quantity] = eval(expression, {"__builtins__": {}, "log": np.log, "sqrt": np.sqrt, "e": np.e}, given)
    assert len(values) == 10
    for quantity, value in values.items():
        squared = "norm" in quantity
        assert value == pytest.approx(table[quantity] ** (1 + squared), rel=1e-12), quantity


def test_formula_of_the_joint_eigenvalues():
    text, _ = section()
    formulas = re.search(r'aria-label="Eigenvalues in weights and features together".*?</div>', text, re.S).group(0)
    line, unit = (as_expression(ElementTree.fromstring(f)) for f in re.findall(r"<math.*?</math>", formulas, re.S))
    problem = UnconstrainedFeatureModel(10, 5000, 64, 1e-3, 1e-6, 1e-2, 0.05)
    names = {"λ_W": 1e-3, "λ_H": 1e-6, "a": problem.logit_gap, "s": problem.s}
    for name, mu in (("pairs", problem.p_other), ("gap", 10 * problem.p_true * problem.p_other)):
        t = eval(unit.split("=")[1], {}, names | {"μ": mu})
        found = [
            eval(line.split("=")[1].replace("±", sign), {"sqrt": np.sqrt}, names | {"t": t}) for sign in ("+", "-")
        ]
        expected = [mode.value for mode in joint_spectrum(problem) if mode.name == name]
        assert sorted(found) == pytest.approx(sorted(expected), rel=1e-6)


def as_expression(node):
    """MathML as a Python expression; neighbours that are values are multiplied."""
    if node.tag in ("mi", "mn"):
        return node.text
    if node.tag == "mo":
        return {"−": "-", "[": "(", "]": ")"}.get(node.text, node.text)
    parts = [as_expression(child) for child in node]
    if node.tag == "mfrac":
        return f"(({parts[0]})/({parts[1]}))"
    if node.tag == "msqrt":
        return f"sqrt({joined(parts)})"
    if node.tag == "msup":  # a bracket's exponent follows it
        return f")**({parts[1]})" if parts[0] == ")" else f"(({parts[0]})**({parts[1]}))"
    if node.tag == "msub":
        return f"{parts[0]}_{''.join(node[1].itertext()).replace(',', '_')}"
    return joined(parts)


def joined(parts):
    text = ""
    for part in parts:
        glued = not text or not part or text[-1] in "+-*/=(,;±" or part[0] in "+-*/=),;±" or text.endswith("log")
        text += ("" if glued else "*") + part
    return text


# --- gradient descent -----------------------------------------------------------------------------------------------


def test_speeds_and_what_explains_them():
    table = simulated_dynamics()
    text = page(dynamics=table)
    rows = [row for row in table_rows(text, "theory") if row[0].startswith(("found: ", "κCE predicts"))]
    assert len(rows) == 2 * (1 + 4)
    ratios = relative_iterations(table)
    judged = explanations(ratios).set_index(["step_rule", "distance", "predictor"])
    plain = ratios[(ratios["momentum"] == 0) & (ratios["step_rule"] == "relative") & (ratios["distance"] == "orbit")]
    means = np.exp(np.log(plain["value"]).groupby([plain["quantity"], plain["smoothing"]]).mean())
    assert rows[0][1:3] == [number(means["rate_kappa_ce", delta]) for delta in (0.05, 0.5)]
    assert rows[1][1:3] == [number(means["rate", delta]) for delta in (0.05, 0.5)]
    assert judged.loc[("relative", "orbit", "kappa_joint"), "verdict"] == "explained"
    assert "κjoint" in rows[1][3]
    assert "κCE" not in rows[1][3]
    words = Reader(text).text
    assert "K=4, n=2, d=5" in words
    assert "from 2 random starts, fraction 0.25: iterations" in words
    claimed = judged.xs("kappa_ce", level="predictor")["verdict"]
    assert f"κCE explains {(claimed == 'explained').sum() or 'none'} of the 8 rows" in words
    # Here the smallest curvatures are too small for momentum 0.9 to hide them; where all are hidden the rate is one.
    assert "the condition numbers predict rates of 0.0108 to 0.0527 a step; measured are" in words
    kappas = (table["momentum"] > 0) & table["quantity"].str.startswith("rate_kappa")
    hidden = table.assign(value=table["value"].astype(float).mask(kappas, 0.0527))
    assert "predict the same rate for every δ, 0.0527 a step" in section(dynamics=hidden)[1]


def test_what_was_not_reached_is_said():
    table = simulated_dynamics()
    late = (table["quantity"] == "iterations") & (table["distance"] == "nc1") & (table["smoothing"] == 0.5)
    late &= (table["tolerance"] == 1e-6) & (table["start"] == 0) & (table["momentum"] == 0)
    table = table.assign(value=table["value"].astype(float).mask(late))
    rows = table_rows(page(dynamics=table), "theory")
    own = [row for row in rows if row[1:3] == ["plain", "NC1"]]
    assert [row[-1] for row in own] == ["not reached"] * 2
    assert all(cell.isdigit() for row in own for cell in row[3:-1])


def test_studies_without_descents_say_so():
    for dynamics in (None, simulated_dynamics()[:0], simulated_dynamics().assign(lambda_w=0.5)):
        _, words = section(dynamics=dynamics)
        assert "Descents were not run in this study" in words
        assert "found:" not in words


def test_the_figure_of_the_speeds_is_linked_where_the_page_shows_it():
    stems = [*STEMS, "ufm_dynamics"]
    text, _ = section(
        study=simulated_study(figures=stems), figures=simulated_figures(stems), dynamics=simulated_dynamics()
    )
    link = re.search(r'All of them are drawn in <a href="#(figure-\d+)">Figure (\d+)</a>', text)
    assert link.group(1) == f"figure-{link.group(2)}"
    assert "All of them are drawn in" not in section(dynamics=simulated_dynamics())[1]


# --- networks -------------------------------------------------------------------------------------------------------


def test_predictions_by_the_penalties_of_training():
    _, words = section(predictions=simulated_predictions())
    rows = table_rows(page(predictions=simulated_predictions()), "theory")
    own = next(row for row in rows if row[:2] == ["CE", "3"])
    assert own[2:] == [f"{1.02 * value:#.3g}{value:#.3g} (+2.0 %)" for value in (5.0, 0.9, 3.0, 2.0)]
    assert "the prediction by the penalties of training" in words
    assert "one row for each smoothing that was left out" not in words
    assert "Nothing is predicted" not in words


def test_fits_and_how_good_they_are():
    changes = {"predictions": simulated_predictions("effective"), "effective": simulated_effective()}
    _, words = section(**changes)
    rows = table_rows(page(**changes), "theory")
    fits = [row for row in rows if row[0].startswith("δ=") or row[0].startswith("δ =")]
    assert ["δ = 0.05", "2 smoothings", "0.0100 to 0.0200", "1.4", "1.2 %", "3.4 %"] in fits
    assert "the prediction by effective penalties" in words
    assert "A standard error above 1 is a factor of more than e" in words
    vast = table_rows(page(**changes | {"effective": changes["effective"].assign(log_s_standard_error=1e9)}), "theory")
    assert ["δ = 0.05", "2 smoothings", "0.0100 to 0.0200", "above 100", "1.2 %", "3.4 %"] in vast
    good = changes["effective"].assign(log_s_standard_error=0.1)
    assert "A standard error above 1" not in section(predictions=changes["predictions"], effective=good)[1]


def test_infinite_and_missing_predictions_are_shown_as_such():
    table = simulated_predictions("effective")
    table["predicted"] = table["predicted"].where(table["loss"] == "ls", np.inf)
    table.loc[(table["loss"] == "ls") & (table["quantity"] == "logit_gap"), "predicted"] = np.nan
    lost = simulated_effective().assign(points=0)
    lost[["s", "rms_relative_residual", "ratio_rms_relative_residual", "log_s_standard_error"]] = np.nan
    rows = table_rows(page(predictions=table, effective=lost), "theory")
    assert next(row for row in rows if row[:2] == ["CE", "3"])[2].endswith("∞ (−100.0 %)")
    assert next(row for row in rows if row[:2] == ["LS 0.05", "3"])[2].endswith("– (–)")
    assert ["δ = 0", "0 smoothings", "–", "–", "–", "–"] in rows


def test_studies_without_predictions_say_so():
    assert "The table of predictions is missing." in section()[1]
    _, words = section(predictions=simulated_predictions()[:0])
    assert "This study has no predictions: they require training with the model’s penalties" in words
    study = simulated_study()
    study["experiments"] += [study["experiments"][0] | {"experiment": "other", "dataset": "cifar10"}]
    _, words = section(study=study, predictions=simulated_predictions())
    assert "Nothing is predicted for cifar10, resnet8: they require" in words


@pytest.mark.parametrize("name", ["dynamics", "predictions", "effective"])
def test_a_table_without_a_column_is_refused(name):
    table = {"dynamics": simulated_dynamics, "predictions": simulated_predictions, "effective": simulated_effective}[
        name
    ]()
    column = "start" if name == "dynamics" else "seed"
    with pytest.raises(ValueError, match=f"the {name} table lacks the columns {column}"):
        page(**{name: table.drop(columns=column)})


def test_names_of_the_losses_are_the_studys():
    losses = {"ce": LOSSES["ce"], "ls": {"label": "smooth <b>", "colour": "#D55E00"}}
    text, words = section(study=simulated_study(losses=losses), predictions=simulated_predictions())
    assert "<b>" not in text
    assert "From CE to smooth <b>" in words
