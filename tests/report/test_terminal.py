"""The last lines of a run: verdicts, and where to look next."""

import pytest

from nclens.report.terminal import print_verdicts
from nclens.workflow.tables import CLAIMS, read_rows

HEADER = "claim,statement,dataset,model,loss,baseline,level,effect,low,high,unit,null,seeds,verdict\n"


def test_verdicts_effects_and_the_way_on_are_printed(tmp_path, capsys):
    (tmp_path / "claims.csv").write_text(
        HEADER
        + "C1,LS is faster.,mnist5k,resnet8,ls,ce,claim,0.24,0.155,0.372,ratio of epochs,1,3,supported\n"
        + "C1,LS is faster.,mnist5k,resnet8,ls,ce,measure,0.5,0.4,0.6,a measure,1,3,supported\n"
        + "C4,[b]LS is calibrated.,mnist5k,resnet8,ls,ce,claim,,,,,,2,inconclusive\n"
        + "C9,Open above.,mnist5k,resnet8,ls,,claim,2,1,inf,ratio,1,,contradicted\n",
        encoding="utf-8",
    )
    print_verdicts("demo", read_rows(CLAIMS, tmp_path / "claims.csv"), tmp_path / "report.html")
    printed = capsys.readouterr().out
    for words in (
        "C1",
        "supported",
        "LS is faster.",
        "0.240 [0.155, 0.372] ratio of epochs",
        "3 seeds",
        "demo",
        "report.html",
    ):
        assert words in printed
    assert "a measure" not in printed
    assert "[b]LS is calibrated." in printed
    assert "not measured; ls against ce on mnist5k, resnet8" in printed
    assert "2.00 [1.00, ∞) ratio; ls on mnist5k, resnet8" in printed


def test_a_study_without_claims_is_named(tmp_path):
    with pytest.raises(OSError, match=r"claims\.csv is missing: the rule `judge`"):
        read_rows(CLAIMS, tmp_path / "claims.csv")
