"""The atlas: what is read of studies, archives and other atlases, what is pooled, and what is refused."""

import copy
import csv
import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nclens import cli
from nclens.claims import CLAIMS
from nclens.claims.verdict import NOT_TESTABLE
from nclens.study import load_study
from nclens.workflow import tables
from nclens.workflow.files import FileError
from nclens.workflow.finished.atlas import atlas
from nclens.workflow.finished.pack import pack
from nclens.workflow.plan import Plan
from nclens.workflow.provenance import code_digest
from tests.finished import DATA
from tests.judged import JUDGED, judge, verdict
from tests.project import Place

#: Log ratios over seeds whose mean is log 0.5, and standard error 0.1.
HALF = {seed: math.log(0.5) + 0.1 * math.sqrt(3) * step for seed, step in enumerate((-1, 0, 1))}
DIGITS = {"source": "digits8", "train_per_class": 20, "test_per_class": 20}
FASHION = {"source": "torchvision", "name": "FashionMNIST"}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def raw(raw_study):
    """A maker of studies like the smoke study."""

    def make(name="smoke", data=None, **losses):
        study = copy.deepcopy(raw_study) | {"study": name}
        study["losses"] |= losses
        study["experiments"]["smoke"]["losses"] += losses
        study["experiments"]["smoke"]["seeds"] = [0, 1, 2]
        if data is not None:
            study["datasets"] = {"mnist5k": data}
        return study

    return make


def run(*words):
    """The command: its exit code, and what it printed."""
    return CliRunner().invoke(cli.app, ["atlas", *map(str, words)])


def rows_of(path="atlas.csv"):
    return tables.read_rows(tables.ATLAS, Path(path))


def page(path="atlas.html"):
    return Path(path).read_text(encoding="utf-8")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_has_what_the_study_and_its_files_say(raw):
    of = judge(raw(), verdict("C2", HALF), data=DATA | {"source": "digits of the post"})
    made = atlas([of.root])
    (row,) = rows_of()
    assert made.problems == []
    assert {key: row[key] for key in ("study", "title", "status", "lacks", "origin", "link")} == {
        "study": "smoke",
        "title": "The whole workflow, tiny",
        "status": "finished",
        "lacks": "",
        "origin": "smoke",
        "link": "results/smoke/report.html",
    }
    assert (row["version"], row["code"], row["commit"], row["layout"]) == ("0.1.0", "ab12", "f" * 40, "1")
    assert (row["claim"], row["statement"]) == ("C2", CLAIMS["C2"].statement)
    assert (row["dataset"], row["data"], row["source"]) == ("mnist5k", "mnist5k", "digits of the post")
    assert (row["train"], row["test"], row["altered"], row["model"]) == ("200", "200", "", "resnet8")
    assert (row["loss"], row["loss_label"], row["loss_settings"]) == ("ls", "LS (δ = 0.05)", "ls (smoothing 0.05)")
    assert (row["baseline"], row["baseline_label"], row["baseline_settings"]) == ("ce", "CE", "ce")
    assert (row["optimizer"], row["quantity"], row["measure"]) == ("sgd", "nc1", "NC1")
    assert (row["seeds"], row["verdict"], row["scale"], row["unit"]) == ("3", "supported", "ratio", "ratio")
    assert float(row["effect"]) == pytest.approx(0.5)
    # t(0.975, 2) is 4.3027 standard errors of 0.1.
    assert float(row["low"]) == pytest.approx(0.5 * math.exp(-0.43027), rel=1e-5)
    assert float(row["standard_error"]) == pytest.approx(0.1)


def test_numbers_of_claims_csv_keep_every_digit(raw):
    of = judge(raw(), verdict("C2", HALF))
    atlas([of.root])
    own = tables.read_rows(tables.CLAIMS, of.claims)[0]
    shared = set(tables.CLAIMS.columns) & set(tables.ATLAS.columns) - {"quantity"}
    assert set(tables.CLAIMS.columns) - shared == {"level", "quantity"}
    assert {key: own[key] for key in shared} == {key: rows_of()[0][key] for key in shared}


def test_an_interval_that_is_not_students_has_no_standard_error(raw):
    rows = verdict("C1", HALF, p=math.nan)  # widened, or open
    rows += verdict("C2", {0: -0.1, 1: -0.2})  # no interval
    rows += verdict("C3", {seed: -0.1 for seed in range(3)})  # a point
    rows += verdict("C4", HALF | {1: math.nan})
    rows += verdict("C5", HALF, seeds=None, scale="ratio")
    atlas([judge(raw(), rows).root])
    assert [row["standard_error"] for row in rows_of()] == [""] * 5
    assert [row["seeds"] for row in rows_of()] == ["3", "2", "3", "3", ""]
    page()


def test_settings_tell_strengths_schedules_teachers_decays_and_optimisers_apart(raw):
    losses = {
        "strong": {"name": "ls", "smoothing": 0.1},
        "off": {"name": "ls", "smoothing": 0.1, "schedule": {"kind": "drop", "epoch": 3}},
        "decayed": {"name": "ce", "weight_decay": 0.01},
        "adam": {"name": "ce", "optimizer": {"name": "adam", "learning_rate": 0.001}},
        "student": {"name": "distillation", "teacher": {"experiment": "smoke", "loss": "ls"}, "temperature": 2.0},
    }
    rows = [row for loss in losses for row in verdict("C2", HALF, loss=loss)]
    atlas([judge(raw(**losses), rows).root])
    found = {row["loss"]: row for row in rows_of()}
    assert found["strong"]["loss_settings"] == "ls (smoothing 0.1)"
    assert found["off"]["loss_settings"] == "ls (smoothing 0.1, schedule drop (epoch 3))"
    assert found["decayed"]["loss_settings"] == "ce (weight decay 0.01)"
    assert found["adam"]["loss_settings"].startswith("ce (optimizer adam (learning rate 0.001")
    assert found["student"]["loss_settings"].endswith(", taught by ls (smoothing 0.05)")
    assert [found[loss]["optimizer"] for loss in ("strong", "adam")] == ["sgd", "adam against sgd"]


def test_altered_and_own_data_are_named(raw):
    noisy = {"source": "mnist5k", "label_noise": {"share": 0.2}, "imbalance": {"kind": "step", "ratio": 5}}
    atlas([judge(raw(data=noisy), verdict("C2", HALF)).root])
    assert rows_of()[0]["altered"] == "imbalance step (ratio 5, seed 0), label noise symmetric (share 0.2, seed 0)"
    place = str(Path("secret").resolve() / "mine.npz")
    arrays = {"source": "arrays", "path": place}
    of = judge(raw("b", arrays), verdict("C2", HALF), data=DATA | {"source": f"of {place}"})
    atlas([of.root])
    assert (rows_of()[0]["data"], rows_of()[0]["source"]) == ("mine.npz (arrays)", "of mine.npz")
    assert str(Path().resolve()) not in Path("atlas.csv").read_text() + page()


def test_studies_of_every_kind_are_read(digits, mixed):
    """Several experiments, a regression, networks trained elsewhere, recorded features, labels with HTML."""
    given = [shutil.copytree(folder, f"results/{folder.name}") for folder in (digits, mixed)]
    for folder in map(Path, given):
        (folder / "report.html").touch()
    made = atlas(list(map(Path, given)))
    assert made.problems == []
    found = [row for row in rows_of() if row["claim"]]
    assert {row["experiment"] for row in found} == {"digits", "first", "values"}
    (label,) = {row["loss_label"] for row in found if row["loss"] == "ls"}
    assert (label, "LS &lt;0.1&gt;" in page(), label in page()) == ("LS <0.1>", True, False)
    assert "Digits &amp; &lt;i&gt;more&lt;/i&gt;" in page()


def test_a_claim_of_the_users_own_is_escaped_and_comes_after_the_papers(raw):
    rows = verdict("mine", HALF, statement="<script>alert(1)</script>") + verdict("C2", HALF)
    atlas([judge(raw(), rows).root])
    assert "<script>alert" not in page()
    assert page().index("&lt;script&gt;alert(1)") > page().index(CLAIMS["C2"].statement)


def test_the_same_studies_give_the_same_bytes(raw):
    given = [judge(raw(name), verdict("C2", HALF)).root for name in ("a", "b")]
    atlas(given, Path("one"))
    atlas(given[::-1], Path("two"))
    for name in ("atlas.csv", "atlas.html"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


# --- pooling ---------------------------------------------------------------------------------------------------------


def three(raw, **changes):
    """Three studies of one comparison on three data sets."""
    spread = [-0.2, 0.1, 0.3]
    return [
        judge(raw(name, data), verdict("C2", {seed: effect + shift for seed, effect in HALF.items()}, **changes)).root
        for name, data, shift in zip("abc", (None, DIGITS, FASHION), spread, strict=True)
    ]


def test_a_comparison_on_three_data_sets_is_pooled_on_the_log_scale(raw):
    made = atlas(three(raw))
    assert made.summaries == 1
    # Equal standard errors: the mean of the logs; tau squared is their variance less 0.01.
    logs = math.log(0.5) + np.array([-0.2, 0.1, 0.3])
    half = 4.302653 * logs.std(ddof=1) / math.sqrt(3)
    text = re.sub(r"<[^>]+>", "", page().split('id="pooled"')[1].split("<tbody>")[1].split("</tbody>")[0])
    ends = ", ".join(f"{math.exp(logs.mean() + sign * half):.3g}" for sign in (-1, 1))
    assert f"NC1 {math.exp(logs.mean()):.3f} [{ends}] ratio" in text
    q = float(((logs - logs.mean()) ** 2).sum() / 0.01)
    assert f"I² = {100 * (1 - 2 / q):.0f}%" in text
    assert f"τ = {math.sqrt(logs.var(ddof=1) - 0.01):.3f} on the log scale" in text
    assert f"Q = {q:.1f}, p = " in text


def test_other_strengths_and_the_same_data_again_are_not_pooled(raw):
    first, second, third = three(raw)
    assert atlas([first, second]).summaries == 0
    again = judge(raw("d"), verdict("C2", HALF)).root
    assert atlas([first, second, again]).summaries == 0
    assert atlas([first, second, third, again]).summaries == 1
    assert "Not pooled, as on the same data: d, mnist5k, resnet8" in page()
    strong = {"strong": {"name": "ls", "smoothing": 0.1}}
    other = judge(raw("e", FASHION, **strong), verdict("C2", HALF, loss="strong")).root
    assert atlas([first, second, other]).summaries == 0


@pytest.mark.parametrize("changes", [{"p": math.nan}, {"quantity": "nc2"}, {"unit": "share"}, {"null": 0.5}])
def test_other_measures_and_intervals_are_not_pooled(raw, changes):
    first, second, _ = three(raw)
    other = judge(raw("e", FASHION), verdict("C2", HALF, **changes)).root
    assert atlas([first, second, other]).summaries == 0


# --- archives and other atlases --------------------------------------------------------------------------------------


def test_an_archive_gives_the_rows_of_its_study(raw):
    of = judge(raw(), verdict("C2", HALF))
    plan = Plan(load_study(raw()))
    for path in plan.promised():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=True)
    for run_ in plan.runs.values():
        record = {"versions": {}, "finished": "2026-01-02T03:04:05+00:00", "wall_time": 1.0, "code": "c"}
        plan.of(run_).run.write_text(json.dumps(record | {"git_revision": "", "data_sha256": "", "spec": {}}))
    os.utime(of.metrics, (1, 1))
    pack(of.root)
    atlas([of.root], Path("one"))
    atlas([Path("smoke.zip")], Path("two"))
    (folder,), (archive,) = rows_of("one/atlas.csv"), rows_of("two/atlas.csv")
    assert (archive["origin"], archive["link"]) == ("smoke.zip", "../smoke.zip")
    assert archive | {"origin": "", "link": ""} == folder | {"origin": "", "link": ""}


def test_an_atlas_is_extended_and_a_study_that_ran_again_replaces_its_rows(raw):
    one, two = (judge(raw(name), verdict("C2", HALF)).root for name in "ab")
    atlas([one, two], Path("docs"))
    shutil.rmtree(two)
    shutil.rmtree(one)
    again = judge(raw("a"), verdict("C3", HALF)).root
    atlas([Path("docs/atlas.csv"), again])
    assert [(row["study"], row["claim"], row["link"]) for row in rows_of()] == [
        ("a", "C3", "results/a/report.html"),
        ("b", "C2", "results/b/report.html"),
    ]
    third = judge(raw("c"), verdict("C2", HALF)).root
    atlas([Path("docs/atlas.csv"), third], Path("docs"))  # in place
    assert [row["study"] for row in rows_of("docs/atlas.csv")] == ["a", "b", "c"]


def test_a_table_with_another_name_says_whose_rows_are_its(raw):
    atlas([judge(raw(), verdict("C2", HALF)).root])
    Path("atlas.csv").rename("lab.csv")
    for given in ("lab.csv", "atlas.csv"):
        atlas([Path(given)])
        assert (rows_of()[0]["study"], rows_of()[0]["origin"]) == ("lab: smoke", "lab.csv: smoke")
    # Theirs and ours have one name; a table that is sent again replaces what the atlas has of it.
    text = Path("lab.csv").read_text()
    Path("lab.csv").write_text(text.replace(",supported,", ",contradicted,"))
    atlas([Path("atlas.csv"), Path("lab.csv"), Path("results/smoke")])
    found = [(row["study"], row["verdict"]) for row in rows_of()]
    assert found == [("lab: smoke", "contradicted"), ("smoke", "supported")]


def test_the_same_rows_of_two_atlases_are_there_once_and_different_ones_are_refused(raw):
    atlas([judge(raw(), verdict("C2", HALF)).root], Path("one"))
    shutil.copytree("one", "two")
    atlas([Path("one/atlas.csv"), Path("two/atlas.csv")])
    assert len(rows_of()) == 1
    text = Path("two/atlas.csv").read_text()
    Path("two/atlas.csv").write_text(text.replace(",supported,", ",contradicted,"))
    with pytest.raises(FileError, match=r"^one/atlas.csv and two/atlas.csv have different rows of the study smoke"):
        atlas([Path("one/atlas.csv"), Path("two/atlas.csv")])


def test_links_lead_where_they_are_told_to(raw):
    of = judge(raw(), verdict("C2", HALF))
    atlas([of.root], Path("docs/results"), "{study}/README.md")
    assert rows_of("docs/results/atlas.csv")[0]["link"] == "smoke/README.md"
    assert 'href="smoke/README.md"' in page("docs/results/atlas.html")
    atlas([of.root])
    assert 'href="results/smoke/report.html#claim-C2"' in page()
    for link in ("page.html", "{study}/{seed}", "javascript:{study}", "/{study}"):
        with pytest.raises(ValueError, match=r"^--link .*: allowed: "):
            atlas([of.root], link=link)


# --- the mark of another version -------------------------------------------------------------------------------------


def test_the_digest_of_judging_is_that_of_the_plan(raw_study):
    assert Plan(load_study(raw_study)).code("judge") == code_digest("judge")


@pytest.mark.parametrize(
    ("judged", "mark"),
    [
        (JUDGED, "other code"),
        (JUDGED | {"version": "0.0.9"}, "other version"),
        (None, "version not recorded"),
        (JUDGED | {"code": code_digest("judge")}, ""),
    ],
)
def test_a_study_that_other_code_judged_is_marked(raw, judged, mark):
    atlas([judge(raw(), verdict("C2", HALF), judged=judged).root])
    assert re.findall(r"<b>† (.*?)</b>", page()) == ([mark] if mark else [])


# --- bad input -------------------------------------------------------------------------------------------------------


def test_an_unfinished_study_and_one_of_another_version_cost_the_others_nothing(raw):
    good = judge(raw("a"), verdict("C2", HALF)).root
    half = judge(raw("half"), verdict("C2", HALF))
    half.claims.unlink()
    half.report.unlink()
    old = judge(raw("old"), verdict("C2", HALF))
    rows = list(csv.DictReader(old.claims.open()))
    with old.claims.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name not in ("p", "p_holm")], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    stale = judge(raw("stale"), verdict("C2", HALF))
    os.utime(stale.report, (0, 0))
    broken = judge(raw("broken"), verdict("C2", HALF, experiment="gone"))
    begun = Path("results/begun")
    (begun / "logs").mkdir(parents=True)
    done = run(good, half.root, old.root, stale.root, broken.root, begun)
    assert isinstance(done.exception, ValueError)
    assert str(done.exception).split("\n") == [
        "results/half is unfinished, claims.csv and 1 more are missing: `nclens run STUDY.yaml` finishes the study",
        "results/old is of another version, claims.csv lacks the columns p, p_holm: `nclens run STUDY.yaml` judges it "
        "again",
        "results/stale is unfinished, the page is older than metrics.parquet: `nclens run STUDY.yaml` finishes the "
        "study",
        "results/broken is unfinished, claims.csv and study.yaml do not fit together (KeyError: 'gone'): `nclens run "
        "STUDY.yaml` finishes the study",
        "results/begun is unfinished, study.yaml is missing: `nclens run STUDY.yaml` finishes the study",
    ]
    assert "studies 6, verdicts 1, data sets 1" in done.stdout
    found = {row["study"]: row for row in rows_of()}
    assert [name for name, row in found.items() if row["claim"]] == ["a"]
    assert found["old"]["status"] == "other version"
    assert "half is unfinished: claims.csv and 1 more are missing" in page()


def test_an_unfinished_study_keeps_the_rows_that_an_atlas_has_of_it(raw):
    of = judge(raw(), verdict("C2", HALF))
    atlas([of.root])
    of.claims.unlink()
    made = atlas([Path("atlas.csv"), of.root])
    assert len(made.problems) == 1
    assert (rows_of()[0]["status"], rows_of()[0]["claim"]) == ("finished", "C2")


def test_a_folder_without_a_study_is_refused_before_anything_is_written(raw):
    good = judge(raw("a"), verdict("C2", HALF)).root
    Path("other").mkdir()
    Path("results/notes.txt").write_text("mine")
    Path("mine.yaml").write_text("study: mine")
    for given, message in (
        ("other", r"^other/study.yaml is missing: other is no study's folder"),
        ("results", r"results is no study's folder; studies in it: results/a$"),
        ("nowhere", r"^there is no folder or file nowhere; allowed: the folder of a study's results"),
        ("results/notes.txt", r"^results/notes.txt is no study; allowed: "),
        ("mine.yaml", r"^mine.yaml is no study; allowed: "),
    ):
        with pytest.raises(FileError, match=message):
            atlas([good, Path(given)])
    assert not Path("atlas.csv").exists()


def test_what_nclens_puts_beside_studies_is_passed_over(raw):
    good = judge(raw("a"), verdict("C2", HALF)).root
    for name in ("snakemake.html", "atlas.html", "atlas.log"):
        Path("results", name).touch()
    atlas([good], Path("results"))
    assert run(*sorted(Path("results").iterdir())).exit_code == 0
    assert len(rows_of()) == 1
    with pytest.raises(FileError, match=r"^none of results/atlas.html is a study; allowed: "):
        atlas([Path("results/atlas.html")])


def test_two_studies_of_one_name_are_refused_and_one_given_twice_is_not(raw):
    first = judge(raw(), verdict("C2", HALF)).root
    second = judge(raw(), verdict("C2", HALF), folder="elsewhere/copy").root
    with pytest.raises(FileError, match=r"^elsewhere/copy and results/smoke are two studies of one name, smoke"):
        atlas([first, second])
    atlas([first, first.resolve()])
    assert len(rows_of()) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("study,title,", "study,", r"is no atlas of this version, it lacks the columns title"),
        (",1,C2,", ",2,C2,", r"is no atlas of this version, it has the layout 2"),
        (",supported,", ",surely,", r", row 2: verdict 'surely'; allowed: supported, contradicted, inconclusive$"),
        ("finished", "done", r", row 2: status 'done'; allowed: finished, unfinished, other version$"),
        ("results/smoke/report.html", "javascript:alert(1)", r", row 2: link 'javascript:alert\(1\)'; allowed: a path"),
        (",200,200,", ",many,200,", r", row 2: train 'many'; allowed: a number$"),
    ],
)
def test_a_table_that_is_no_atlas_is_refused(raw, old, new, message):
    atlas([judge(raw(), verdict("C2", HALF)).root])
    text = Path("atlas.csv").read_text()
    assert old in text
    Path("atlas.csv").write_text(text.replace(old, new))
    with pytest.raises(FileError, match=rf"^atlas.csv.*{message}"):
        atlas([Path("atlas.csv")])


def test_no_other_file_is_replaced(raw):
    of = judge(raw(), verdict("C2", HALF))
    Path("atlas.csv").write_text("country,capital\n")
    with pytest.raises(FileError, match=r"^atlas.csv is there already and is no atlas: move it"):
        atlas([of.root])
    with pytest.raises(FileError, match=r"^--to atlas.csv: atlas.csv is a file or a link to nothing"):
        atlas([of.root], Path("atlas.csv"))


def test_what_could_not_be_tested_is_told_from_what_is_inconclusive(raw):
    rows = verdict("C1", HALF, reason=NOT_TESTABLE, verdict="inconclusive", low=math.nan, high=math.nan, p=math.nan)
    rows += verdict("C2", {0: 0.1, 1: 0.2})
    rows += verdict("C3", {0: -0.5, 1: 0.1, 2: 0.6})
    rows += verdict("C4", HALF)
    atlas([judge(raw(), rows).root])
    counts = dict(
        re.findall(r'<svg aria-hidden="true"><use href="#[\w-]+"/></svg>([\w ]+)</span> <b>(\d+)</b>', page())
    )
    assert counts == {"supported": "1", "contradicted": "0", "inconclusive": "1", "not tested": "2"}


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.workflow
def test_the_rule_writes_the_atlas_of_the_studies_that_are_there_and_makes_none(raw, tmp_path, monkeypatch):
    place = Place.copy_to(tmp_path / "nclens")
    place.configure(raw("mine"))  # not run
    monkeypatch.chdir(place.folder)
    judge(raw("a"), verdict("C2", HALF))
    judge(raw("half"), verdict("C2", HALF)).claims.unlink()
    done = place.snakemake("--cores", "1", "atlas", check=False)
    assert done.returncode == 1
    assert "results/half is unfinished, claims.csv is missing" in place.path("results", "atlas.log").read_text()
    assert [(row["study"], row["status"]) for row in rows_of("results/atlas.csv")] == [
        ("a", "finished"),
        ("half", "unfinished"),
    ]
    shutil.rmtree("results/half")
    place.snakemake("--cores", "1", "atlas")
    assert [row["study"] for row in rows_of("results/atlas.csv")] == ["a"]
    assert {path.name for path in Path("results").iterdir()} == {"a", "atlas.csv", "atlas.html", "atlas.log"}
