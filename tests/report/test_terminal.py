"""The last lines of a run: verdicts, and where to look next."""

import pytest

from nclens.report.terminal import print_verdicts
from nclens.workflow.tables import CLAIMS, read_rows

COLUMNS = "claim,statement,dataset,model,loss,baseline,level,quantity,effect,low,high,unit,null,seeds,verdict,note"
MORE = [name for name in CLAIMS.columns if name not in COLUMNS.split(",")]
HEADER = ",".join([COLUMNS, *MORE]) + "\n"
LABELS = {"ls": "LS", "ce": "CE"}


def more(**cells):
    """The cells of the columns that follow, empty but for some."""
    return "".join(f",{cells.get(name, '')}" for name in MORE) + "\n"


def test_verdicts_effects_and_the_way_on_are_printed(tmp_path, capsys):
    (tmp_path / "claims.csv").write_text(
        HEADER
        + "C1,LS is faster.,mnist5k,resnet8,ls,ce,claim,,0.24,0.155,0.372,ratio of epochs,1,3,supported,why not"
        + more()
        + "C1,LS is faster.,mnist5k,resnet8,ls,ce,measure,,0.5,0.4,0.6,a measure,1,3,supported,"
        + more()
        + "C4,[b]LS is calibrated.,mnist5k,resnet8,ls,ce,claim,,,,,,,2,inconclusive,no interval; up to 1e-06 counts"
        + more(reason="too few seeds")
        + "C2,It is open.,mnist5k,resnet8,ls,ce,claim,,0.9,0.8,1.1,ratio,1,3,inconclusive,"
        + more(reason="no effect beyond the margin", scale="ratio", margin="1.25", smallest="1.11")
        + "C9,Open above.,mnist5k,resnet8,ls,,claim,,2,1,inf,ratio,1,,contradicted,"
        + more(),
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
    assert "Too few seeds; no interval; up to 10⁻⁶ counts" in printed
    assert "No effect beyond a factor of 1.25; smallest effect that these seeds could show: a factor of 1.11" in printed
    assert "why not" not in printed.lower()


def test_a_long_reason_is_cut_and_places_are_told_apart(tmp_path, capsys):
    reason = "; ".join(f"remark {number} of a long reason" for number in range(20))
    row = "C2,It is open.,{},resnet8,ls,ce,claim,,0.9,0.8,1.1,ratio,1,3,inconclusive," + reason + more()
    (tmp_path / "claims.csv").write_text(HEADER + row.format("mnist5k") + row.format("cifar10"), encoding="utf-8")
    print_verdicts("demo", read_rows(CLAIMS, tmp_path / "claims.csv"), tmp_path / "report.html")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "ls against ce on cifar10, resnet8" in words
    assert "Remark 0" in words
    assert "remark 5" not in words


def test_a_table_of_an_older_version_is_refused(tmp_path):
    (tmp_path / "claims.csv").write_text(COLUMNS + "\n", encoding="utf-8")
    lacking = r"claims\.csv is damaged.*it lacks the columns paper, .*reason.*the rule `judge`"
    with pytest.raises(OSError, match=lacking):
        read_rows(CLAIMS, tmp_path / "claims.csv")


def test_a_study_without_claims_is_named(tmp_path):
    with pytest.raises(OSError, match=r"claims\.csv is missing: the rule `judge`"):
        read_rows(CLAIMS, tmp_path / "claims.csv")


def test_without_a_verdict_there_is_no_table(tmp_path, capsys):
    print_verdicts("demo", [], tmp_path / "report.html")
    said = capsys.readouterr().out
    assert said.startswith("No claim was judged.\n")
    assert "report.html" in said
