"""The last lines of a run: verdicts, and where to look next."""

import subprocess
import sys
from pathlib import Path

import pytest

from nclens.terminal import print_verdicts, snakemake_alive

HEADER = "claim,statement,dataset,model,loss,level,effect,low,high,unit,seeds,verdict\n"


def test_verdicts_effects_and_the_way_on_are_printed(tmp_path, capsys):
    (tmp_path / "claims.csv").write_text(
        HEADER
        + "C1,LS is faster.,mnist5k,resnet8,ls,claim,0.24,0.155,0.372,ratio of epochs,3,supported\n"
        + "C1,LS is faster.,mnist5k,resnet8,ls,measure,0.5,0.4,0.6,a measure,3,supported\n"
        + "C4,[b]LS is calibrated.,mnist5k,resnet8,ls,claim,,,,,2,inconclusive\n"
        + "C9,Open above.,mnist5k,resnet8,ls,claim,2,1,inf,ratio,,contradicted\n",
        encoding="utf-8",
    )
    print_verdicts(tmp_path)
    printed = capsys.readouterr().out
    for words in ("C1", "supported", "LS is faster.", "0.24 [0.155, 0.372] ratio of epochs", "3 seeds", "report.html"):
        assert words in printed
    assert "a measure" not in printed
    assert "[b]LS is calibrated." in printed
    assert "no effect could be measured" in printed
    assert "2 [1, ∞) ratio" in printed


def test_a_study_without_claims_is_named(tmp_path):
    with pytest.raises(OSError, match=r"claims\.csv is missing: the rule `judge`"):
        print_verdicts(tmp_path)


def test_a_living_snakemake_of_this_folder_is_seen(tmp_path):
    (tmp_path / "snakemake").write_text("import time; print('up', flush=True); time.sleep(60)")
    command = [sys.executable, str(tmp_path / "snakemake")]
    assert not snakemake_alive(tmp_path)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert snakemake_alive(tmp_path)
        assert not snakemake_alive(Path("/"))
        process.kill()
