"""The last lines of a run: verdicts, and where to look next."""

import pytest

from nclens.report.terminal import print_verdicts
from nclens.workflow.tables import CLAIMS, read_rows

HEADER = "claim,statement,dataset,model,loss,baseline,level,quantity,effect,low,high,unit,null,seeds,verdict,note\n"
LABELS = {"ls": "LS", "ce": "CE"}


def test_verdicts_effects_and_the_way_on_are_printed(tmp_path, capsys):
    (tmp_path / "claims.csv").write_text(
        HEADER
        + "C1,LS is faster.,mnist5k,resnet8,ls,ce,claim,,0.24,0.155,0.372,ratio of epochs,1,3,supported,why not\n"
        + "C1,LS is faster.,mnist5k,resnet8,ls,ce,measure,,0.5,0.4,0.6,a measure,1,3,supported,\n"
        + "C4,[b]LS is calibrated.,mnist5k,resnet8,ls,ce,claim,,,,,,,2,inconclusive,no interval; up to 1e-06 counts\n"
        + "C2,It is open.,mnist5k,resnet8,ls,ce,claim,,0.9,0.8,1.1,ratio,1,3,inconclusive,\n"
        + "C9,Open above.,mnist5k,resnet8,ls,,claim,,2,1,inf,ratio,1,,contradicted,\n",
        encoding="utf-8",
    )
    print_verdicts("demo", read_rows(CLAIMS, tmp_path / "claims.csv"), tmp_path / "report.html", LABELS)
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in (
        "C1",
        "supported",
        "LS is faster.",
        "0.240 [0.155, 0.372] ratio of epochs (below 1: faster); LS against CE",
        "3 seeds",
        "demo",
        "report.html",
    ):
        assert words in printed
    assert "a measure" not in printed
    assert "[b]LS is calibrated." in printed
    assert "Verdicts of the study demo on mnist5k, resnet8" in printed
    assert printed.count("mnist5k") == 1
    assert "not measured; LS against CE" in printed
    assert "2.00 [1.00, ∞) ratio; LS" in printed
    assert "No interval; up to 10⁻⁶ counts" in printed
    assert "The interval contains the null value 1" in printed
    assert "why not" not in printed.lower()


def test_a_long_reason_is_cut_and_places_are_told_apart(tmp_path, capsys):
    reason = "; ".join(f"remark {number} of a long reason" for number in range(20))
    row = "C2,It is open.,{},resnet8,ls,ce,claim,,0.9,0.8,1.1,ratio,1,3,inconclusive," + reason + "\n"
    (tmp_path / "claims.csv").write_text(HEADER + row.format("mnist5k") + row.format("cifar10"), encoding="utf-8")
    print_verdicts("demo", read_rows(CLAIMS, tmp_path / "claims.csv"), tmp_path / "report.html")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "ls against ce on cifar10, resnet8" in words
    assert "Remark 0" in words
    assert "remark 5" not in words


def test_a_study_without_claims_is_named(tmp_path):
    with pytest.raises(OSError, match=r"claims\.csv is missing: the rule `judge`"):
        read_rows(CLAIMS, tmp_path / "claims.csv")
