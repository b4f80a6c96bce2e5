"""A finished study for a paper: what is written, what is refused, and that nothing of anybody else's is lost."""

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nclens.claims import CLAIMS
from nclens.study import ConfigError
from nclens.workflow import tables
from nclens.workflow.files import FileError, atomic_write
from nclens.workflow.finished import export as module
from nclens.workflow.finished.export import described, export, figures_of, paper_of
from nclens.workflow.finished.opening import opened
from nclens.workflow.finished.settings import settings_rows
from tests.finished import finish
from tests.process import ROOT
from tests.report.test_latex import balanced

PAPER = {"width": "3.25in", "font": "serif", "size": 9.0}


@pytest.fixture
def study(raw_study, tmp_path, monkeypatch):
    """The folder of a finished study below the current one: tables of few numbers, no networks."""
    monkeypatch.chdir(tmp_path)
    raw = raw_study | {"experiments": {"smoke": raw_study["experiments"]["smoke"]}}
    folder = finish(raw)
    for name, table in filled(raw).items():
        kind = tables.COLLECTED if name == "metrics" else getattr(tables, name.upper())
        tables.write(kind, getattr(folder, name), table)
    for name, file in module.THEORY.items():
        kind = getattr(tables, name.upper())
        tables.write(kind, folder.theory(file), pd.DataFrame(columns=list(kind.columns)))
    folder.report.touch()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    return folder


def filled(raw):
    """Tables with the numbers of one metric and one claim."""
    entry, epochs = raw["experiments"]["smoke"], raw["experiments"]["smoke"]["training"]["epochs"]
    keys = {"experiment": "smoke", "dataset": "mnist5k", "model": entry["model"]}
    metrics = [
        keys | {"loss": loss, "seed": seed, "split": "train", "epoch": epoch, "metric": "nc1", "value": seed + epoch}
        for loss in entry["losses"]
        for seed in (0, 1)
        for epoch in (1, epochs)
    ]
    claim = CLAIMS["C1"]
    judged = keys | {"claim": "C1", "paper": claim.paper, "statement": claim.statement, "baseline": "ce", "loss": "ls"}
    judged |= {"effect": 0.25, "low": 0.125, "high": 0.5, "unit": "ratio of epochs", "null": 1.0, "seeds": 3.0}
    judged |= {"scale": "ratio", "reason": "", "margin": 1.1, "smallest": 2.0, "p": 0.01, "p_holm": 0.04}
    judged |= {"spread": 0.3, "resolution": 0.0}
    quantity = next(iter(claim.labels))
    rows = [
        judged | {"level": level, "quantity": named, "verdict": "supported", "note": ""}
        for level, named in (("claim", ""), ("measure", quantity))
    ]
    best = {"experiment": "smoke", "quantity": "NC1", "metric": "nc1", "split": "train", "better": "lower", "seeds": 2}
    losses = [
        best | {"loss": loss, "mean": 4.5, "low": 4.0, "high": 5.0, "best": loss == "ls"} for loss in entry["losses"]
    ]
    return {"metrics": pd.DataFrame(metrics), "claims": pd.DataFrame(rows), "losses": pd.DataFrame(losses)}


def test_tables_numbers_and_references_are_written(study):
    made = export(study.root, Path("paper"), **PAPER, figures="none")
    names = {path.relative_to("paper").as_posix() for path in Path("paper").rglob("*") if path.is_file()}
    wanted = {f"tables/{name}.{kind}" for name in ("verdicts", "losses", "settings") for kind in ("tex", "csv")}
    wanted |= {"nclens.tex", "nclens.bib", "nclens.json", "numbers.csv", "numbers/last.tex"}
    assert wanted < names
    assert names == set(made.files) | {"nclens.json"}
    numbers = pd.read_csv("paper/numbers.csv", keep_default_na=False).set_index("path")
    assert numbers.index.is_unique
    assert len(numbers) == made.numbers
    assert numbers.loc["C1/effect", "text"] == "0.250"
    assert numbers.loc["ls/train/nc1/last/seed1", "text"] == "7.00"
    assert numbers.loc["ls/train/nc1/1/seed1", "text"] == "2.00"
    assert numbers.loc["C1/verdict", "text"] == "supported"
    defined = "".join(path.read_text() for path in Path("paper/numbers").iterdir())
    assert defined.count("{smoke/C1/effect}{$0.250$}") == 1
    assert r"$\mathbf{4.50 \pm 0.50}$" in Path("paper/tables/losses.tex").read_text()
    assert "guo2025cross" in Path("paper/nclens.bib").read_text()
    assert all(balanced(path.read_text()) for path in Path("paper").rglob("tables/*.tex"))
    first, document = described(made, Path("paper"))
    assert first == f"paper: {made.numbers} numbers, 0 figures, 1 papers"
    assert document.endswith(r"\newcommand{\nclensfolder}{paper/} \input{paper/nclens}")


def test_settings_are_those_of_the_study(study):
    loaded = opened(study.root).study
    rows = dict(settings_rows(loaded, {"mnist5k": json.loads(study.manifest("mnist5k").read_text())}))
    assert rows["Training samples"] == "200"
    assert rows["Classes"] == "10"
    assert rows["Loss CE"] == "ce"
    assert rows["Optimizer"].startswith("sgd (learning rate ")
    assert rows["Learning rate schedule"].startswith("step (")
    assert not {"Device", "Compile", "UFM regularised"} & set(rows)


def test_again_the_same_bytes_and_files_that_are_no_longer_made_go(study):
    export(study.root, Path("paper"), **PAPER, figures="none")
    before = {path: path.read_bytes() for path in Path("paper").rglob("*") if path.is_file()}
    Path("paper/main.tex").write_text("mine")
    export(study.root, Path("paper"), **PAPER, figures="none")
    assert {path: path.read_bytes() for path in before} == before
    shutil.move("paper/numbers/smoke=ls.tex", "paper/numbers/mine.tex")
    module.write({"numbers.csv": b"other"}, Path("paper"), "smoke")
    left = {path.relative_to("paper").as_posix() for path in Path("paper").rglob("*") if path.is_file()}
    assert left == {"main.tex", "numbers/mine.tex", "numbers.csv", "nclens.json"}
    assert Path("paper/main.tex").read_text() == "mine"


def test_a_file_in_the_way_is_named_and_nothing_is_written(study):
    Path("paper/tables").mkdir(parents=True)
    Path("paper/tables/losses.tex").write_text("mine")
    with pytest.raises(FileError, match=r"paper holds other files.*: tables/losses\.tex; nothing was written"):
        export(study.root, Path("paper"), **PAPER, figures="none")
    assert [path.name for path in Path("paper").rglob("*") if path.is_file()] == ["losses.tex"]
    Path("paper/tables/losses.tex").unlink()
    export(study.root, Path("paper"), **PAPER, figures="none")
    Path("paper/nclens.bib").write_text("edited")
    with pytest.raises(FileError, match=r"edited ones.*: nclens\.bib; nothing was written"):
        export(study.root, Path("paper"), **PAPER, figures="none")
    assert Path("paper/nclens.bib").read_text() == "edited"
    Path("paper/nclens.json").write_text("{}")
    with pytest.raises(FileError, match=r"nclens\.json is no record of an export"):
        export(study.root, Path("paper"), **PAPER, figures="none")
    # A record that names a file outside the folder does not reach it.
    Path("mine.txt").write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    Path("other").mkdir()
    Path("other/nclens.json").write_text(json.dumps({"files": {"../mine.txt": digest}}))
    export(study.root, Path("other"), **PAPER, figures="none")
    assert Path("mine.txt").read_text() == "mine"


def test_what_is_in_the_place_of_a_folder_or_a_link_is_found_before_the_first_write(study):
    Path("paper").mkdir()
    Path("paper/tables").write_text("mine")
    Path("paper/numbers").symlink_to("gone")
    with pytest.raises(FileError, match=r"paper/tables, paper/numbers: is a file or a link .*; nothing was written"):
        export(study.root, Path("paper"), **PAPER, figures="none")
    Path("paper/tables").unlink()
    Path("paper/numbers").unlink()
    Path("mine.bib").write_text("mine")
    Path("paper/nclens.bib").symlink_to("../mine.bib")
    Path("paper/nclens.tex").symlink_to("gone")
    with pytest.raises(FileError, match=r"paper holds other files.*: nclens\.bib, nclens\.tex; nothing was written"):
        export(study.root, Path("paper"), **PAPER, figures="none")
    assert sorted(path.name for path in Path("paper").iterdir()) == ["nclens.bib", "nclens.tex"]
    Path("paper/nclens.bib").unlink()
    Path("paper/nclens.tex").unlink()
    # A link to a folder is one.
    Path("elsewhere").mkdir()
    Path("paper/tables").symlink_to("../elsewhere")
    export(study.root, Path("paper"), **PAPER, figures="none")
    assert Path("elsewhere/losses.tex").is_file()


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_export_is_repeated(after, tmp_path, monkeypatch):
    names = ("a.tex", "b/c.tex", "d.tex")
    first, second = ({name: f"{name} {count}".encode() for name in names} for count in "12")
    third = {"a.tex": b"a.tex 3", "e.tex": b"e"}
    if after:
        module.write(first, tmp_path, "smoke")
    for files in (second, third):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module, "atomic_write", interrupted(after))
            module.write(files, tmp_path, "smoke")
    if after:  # nobody's edit is lost, whatever was interrupted
        kept = (tmp_path / "a.tex").read_bytes()
        (tmp_path / "a.tex").write_text("edited")
        with pytest.raises(FileError, match=r"edited ones, of the same names: a\.tex; nothing was written"):
            module.write(third, tmp_path, "smoke")
        (tmp_path / "a.tex").write_bytes(kept)
    module.write(third, tmp_path, "smoke")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*third, "nclens.json"}
    assert {name: (tmp_path / name).read_bytes() for name in third} == third
    record = json.loads((tmp_path / "nclens.json").read_text())
    assert record["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in third.items()}
    assert "before" not in record


def interrupted(after):
    """`atomic_write`, stopped by Ctrl-C at the write after so many."""
    count = itertools.count()

    def write(path):
        if next(count) == after:
            raise KeyboardInterrupt
        return atomic_write(path)

    return write


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *(("results/smoke", name) for name in ("study.yaml", "claims.csv", "report.html")),
        *(("study.yaml", name) for name in ("metrics.parquet", "tables/losses.csv")),
    ],
)
def test_a_study_that_has_not_run_is_named_with_its_command(study, given, name):
    (study.root / name).unlink()
    with pytest.raises(FileError, match=rf"(unfinished|no results yet), .*{name} is missing: `nclens run study\.yaml`"):
        export(Path(given), Path("paper"), **PAPER)
    assert not Path("paper").exists()


def test_verdicts_older_than_the_measurements_are_not_exported(study):
    os.utime(study.report, (1, 1))
    with pytest.raises(
        FileError, match=r"its page is older than results/smoke/metrics\.parquet: `nclens run study\.yaml`"
    ):
        export(study.root, Path("paper"), **PAPER, figures="none")
    study.report.touch()
    edited = Path("study.yaml").read_text().replace("smoothing: 0.05", "smoothing: 0.1")
    Path("study.yaml").write_text(edited)
    with pytest.raises(ConfigError, match=r"study\.yaml has changed since results/smoke was made: `nclens run study"):
        export(Path("study.yaml"), Path("paper"), **PAPER, figures="none")
    assert not Path("paper").exists()
    export(study.root, Path("paper"), **PAPER, figures="none")
    assert "smoothing 0.05" in Path("paper/tables/settings.tex").read_text()


def test_what_is_no_study(study):
    with pytest.raises(
        FileError, match=r"there is no folder or file nothing; allowed: the folder of a study's results"
    ):
        opened(Path("nothing"))
    with pytest.raises(
        FileError, match=r"study\.yaml is a configuration: \. is no study's folder; its results are in results/smoke"
    ):
        opened(Path())
    study.resolved.write_text(study.resolved.read_text().replace("seeds:", "seed:"))
    with pytest.raises(ConfigError, match=r"results/smoke/study\.yaml: The configuration has"):
        opened(study.root)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": "wide"}, r"--width wide: allowed: a number and its unit \(in, cm, mm, pt\), from 2 to 20 inches"),
        ({"width": "3.25"}, "--width 3.25: allowed"),
        ({"width": "-3in"}, "--width -3in: allowed"),
        ({"width": "1in"}, "--width 1in: allowed: .* from 2 to 20 inches"),
        ({"size": 0.0}, "--size 0: allowed: points, from 5 to 24"),
        ({"size": math.nan}, "--size nan: allowed"),
        (
            {"font": "Comic Papyrus"},
            "--font Comic Papyrus: is not installed; allowed: serif, .*: .*DejaVu Sans",
        ),
    ],
)
def test_a_width_font_or_size_that_there_is_not(given, words):
    with pytest.raises(ValueError, match=words):
        paper_of(**PAPER | given)


@pytest.mark.parametrize(("width", "inches"), [("3.25in", 3.25), ("8.5 cm", 8.5 / 2.54), ("85mm", 8.5 / 2.54)])
def test_widths_have_units(width, inches):
    assert paper_of(width, "serif", 9).width == pytest.approx(inches)


def test_figures_are_named_by_stem_or_with_their_experiment(study):
    loaded = opened(study.root).study
    has = figures_of(loaded, None)
    stem = has[0][1]
    assert figures_of(loaded, stem) == figures_of(loaded, f" smoke_{stem},") == has[:1]
    assert figures_of(loaded, "none") == []
    with pytest.raises(ValueError, match=rf"--figures curves: smoke has no such figure; it has: {stem}, .*; or none"):
        figures_of(loaded, f"{stem},curves")
    for nothing in ("", ",", " , "):
        with pytest.raises(ValueError, match=rf"--figures '{nothing}': names no figure of smoke; it has: {stem}, "):
            figures_of(loaded, nothing)


def test_digits_and_a_target_that_is_a_file_are_refused_before_the_study_is_read(tmp_path):
    with pytest.raises(ValueError, match="--digits 0: allowed: from 1 to 15"):
        export(tmp_path, tmp_path / "paper", **PAPER, digits=0)
    (tmp_path / "paper").write_text("")
    (tmp_path / "gone").symlink_to("nowhere")
    for name, named in (("paper", "paper: "), ("paper/of/mine", "paper "), ("gone", "gone: "), ("gone/paper", "gone ")):
        with pytest.raises(
            FileError, match=rf"--to \S*{name}: .*is a file or a link to nothing; allowed: a folder"
        ) as said:
            export(tmp_path, tmp_path / name, **PAPER)
        assert named in str(said.value)


@pytest.mark.lengthy
def test_the_document_of_the_page_compiles(study, tmp_path):
    """The ten lines of docs/paper.md, with the figure and the numbers that this study has."""
    if (latexmk := shutil.which("latexmk")) is None:
        pytest.skip("no latexmk here: install TeX Live")
    export(study.root, Path("paper"), **PAPER, figures="first_epochs")
    document = re.search(r"```latex\n(.*?)```", (ROOT / "docs" / "paper.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    Path("paper.tex").write_text(document.replace("collapse_curves", "first_epochs"))
    command = [latexmk, "-pdf", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert Path("paper.pdf").stat().st_size > 20_000
    log = Path("paper.log").read_text(errors="replace")  # of the last pass
    assert "undefined" not in log


def test_the_study_of_the_folder_is_the_one_that_was_run(study):
    by_folder, by_file = opened(study.root), opened(Path("study.yaml"))
    assert by_folder.study.resolved() == by_file.study.resolved()
    assert by_folder.plan.folder.root.resolve() == by_file.plan.folder.root.resolve()
    assert by_folder.configuration.resolve() == by_file.configuration.resolve()
