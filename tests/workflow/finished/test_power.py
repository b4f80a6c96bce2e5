"""`nclens power`: what it prints of a finished study, that it does not depend on effects, and what it refuses."""

import csv
import os

import pandas as pd
import pytest
from typer.testing import CliRunner

from nclens.cli import app
from nclens.workflow import tables
from tests.finished import finish

MEASURES = {"ece": 0.004, "ece_20": 0.008}
"""Measure of C4 -> spread."""


def claims(seeds=3, effect=0.01, verdict="supported", spreads=MEASURES):
    """The table of claims of C4 and, of the theory, C5."""
    found = {"claim": "C4", "paper": "a paper", "statement": "It is.", "experiment": "smoke", "dataset": "mnist5k"}
    found |= {"model": "resnet8", "baseline": "ce", "loss": "ls", "level": "measure", "quantity": ""}
    found |= {"effect": effect, "low": effect - 0.1, "high": effect + 0.1, "unit": "difference in ECE", "null": 0.0}
    found |= {"seeds": seeds, "verdict": verdict, "note": "", "scale": "difference", "reason": "", "margin": 0.01}
    found |= {"smallest": 0.1, "p": effect, "p_holm": effect, "spread": float("nan"), "resolution": 0.0}
    rows = [{**found, "quantity": name, "spread": value} for name, value in spreads.items()]
    theory = {**found, "claim": "C5", "quantity": "largest_relative_error", "seeds": None, "scale": ""}
    return pd.DataFrame([{**rows[0], "level": "claim", "quantity": ""}, *rows, theory])


@pytest.fixture
def study(raw_study, tmp_path, monkeypatch):
    """The folder of a finished study below the current one: its table of claims alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    of = finish(raw_study | {"experiments": {"smoke": raw_study["experiments"]["smoke"]}})
    tables.write(tables.CLAIMS, of.claims, claims())
    of.metrics.touch()
    of.report.touch()
    return of


def power(*words):
    done = CliRunner().invoke(app, ["power", *map(str, words)])
    return done.stdout if done.exit_code == 0 else done.exception


def test_the_table_and_the_numbers_to_plan_by(study):
    text = " ".join(power(study.root).split())
    # 0.008 needs (t(.975) + t(.95)) 0.008 / √n <= 0.01: 10.9 in the limit, 11 by the quantiles.
    for words in (
        "C4",
        "ECE, 20 bins",
        "spread 0.008, margin ±0.01",
        "5 seeds decide 0 of 1 claim, 0 at",
        "15 seeds decide 1",
    ):
        assert words in text
    assert "look at no verdict on the way" in text
    assert "C5" not in text


def test_the_output_is_the_same_whatever_was_found(study):
    printed = power(study.root), power(study.root, "--csv")
    tables.write(tables.CLAIMS, study.claims, claims(effect=-7.0, verdict="contradicted"))
    study.report.touch()
    assert (power(study.root), power(study.root, "--csv")) == printed
    for word in ("0.0100", "supported,", "contradicted,", "inconclusive"):
        assert word not in printed[1]


def test_csv_has_every_measure(study):
    rows = list(csv.DictReader(power(study.root, "--csv").splitlines()))
    assert [(row["level"], row["quantity"]) for row in rows] == [
        ("claim", "ece_20"),
        ("measure", "ece"),
        ("measure", "ece_20"),
    ]
    assert [(row["needed"], float(row["spread"])) for row in rows[1:]] == [("5", 0.004), ("11", 0.008)]
    wider = list(csv.DictReader(power(study.root, "--csv", "--margin", "ece_20=0.02").splitlines()))
    assert (wider[0]["quantity"], wider[2]["needed"]) == ("ece", "5")


def test_what_is_refused_is_said_in_one_message(study):
    for words, message in (
        (("--margin", "ece=-0.01"), "the margin -0.01 of ece has the wrong sign or size"),
        (("--margin", "ece"), "--margin ece: allowed: MEASURE=SIZE"),
        (("--margin", "nc9=1"), "no measure is called nc9; allowed: ece, ece_20"),
    ):
        assert message in str(power(study.root, *words))
    tables.write(tables.CLAIMS, study.claims, claims(seeds=1, spreads=dict.fromkeys(MEASURES, float("nan"))))
    assert "has one seed, which has no spread" in str(power(study.root))
    tables.write(tables.CLAIMS, study.claims, claims().tail(1))
    assert "has no claim that rests on seeds" in str(power(study.root))
    os.utime(study.report, (0, 0))
    assert "is unfinished, its page is older" in str(power(study.root))
    study.claims.unlink()
    assert "is unfinished" in str(power(study.root))
    assert "there is no folder or file nowhere" in str(power("nowhere"))
