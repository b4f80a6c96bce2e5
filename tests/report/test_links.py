"""The ways out of the page: to papers, to the code at its commit, to files beside the page, to MLflow."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

from nclens.claims import CLAIMS
from nclens.figures.catalogue import FIGURES
from nclens.report.links import RULE_FILES, Link, Links, code_of, paper, search_for, tracking_ui
from nclens.workflow.paths import StudyFolder
from nclens.workflow.provenance import page_of
from nclens.workflow.stages.report import report
from tests.report.test_report import Reader, page, simulated_claims, simulated_runs, specification
from tests.report.test_report import root as study_root

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef"
REPOSITORY = "https://example.org/group/nclens"
RUN = "mnist5k/resnet8/ls/seed1"

root = study_root


def links_of(text):
    """The addresses of the page's links, without those within it."""
    return [a["href"] for a in Reader(text).all("a") if not a["href"].startswith("#")]


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_of_a_paper_leads_to_it_and_to_its_code(claim):
    found = paper(claim)
    assert (found is None) == ("arXiv" not in claim.paper)
    if found:
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", found.address)
        assert claim.place in found.text
    module, function = code_of(claim).split(":")
    assert f"def {function}(" in (ROOT / "src" / Path(*module.split("."))).with_suffix(".py").read_text("utf-8")


def test_rules_and_the_figures_code_are_where_the_links_lead():
    for rule, file in RULE_FILES.items():
        assert f"\nrule {rule}:" in (ROOT / "rules" / f"{file}.smk").read_text("utf-8")
    links = Links(repository=REPOSITORY, commit=COMMIT)
    codes = [links.code(figure.draw) for figure in FIGURES.values()]
    for link in [*codes, *map(links.rule, RULE_FILES), links.source("src/nclens/ufm", "theory")]:
        kind = "tree" if link.text == "theory" else "blob"
        assert link.address.startswith(f"{REPOSITORY}/{kind}/{COMMIT}/")
        assert (ROOT / link.address.split(f"/{COMMIT}/")[1]).exists()


def test_without_an_address_or_a_commit_the_code_is_named_and_not_linked():
    for links in (Links(repository=REPOSITORY), Links(commit=COMMIT)):
        assert links.rule("draw") == Link("rule draw", "")
    assert not [address for address in links_of(page()) if "/blob/" in address]
    assert "rule draw · nclens.figures.cross_entropy_vs_label_smoothing.collapse_curves" in Reader(page()).text


def test_the_code_is_that_of_the_commit_that_most_runs_were_made_from():
    runs = simulated_runs()
    runs["mnist5k", "resnet8", "ls", 2] |= {"git_revision": "fedcba9876543210+changes"}
    text = page(runs=runs, repository=REPOSITORY)
    code = [address for address in links_of(text) if address.startswith(REPOSITORY)]
    assert len(code) > 10
    assert {address.split("/")[6] for address in code} == {COMMIT}
    assert f"{REPOSITORY}/blob/{COMMIT}/rules/report.smk" in code
    assert f"{REPOSITORY}/tree/{COMMIT}" in links_of(page(repository=REPOSITORY))


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://user:secret@example.org/a/b", "https://example.org/a/b"),
        ("ssh://git@example.org:2222/a/b.git", "https://example.org/a/b"),
        ("git@example.org:a/b.git", "https://example.org/a/b"),
        ("/srv/git/name.git", None),
        ("file:///srv/git/name.git", None),
        ("../name", None),
        ("", None),
        ("https://example.org/<script>", None),
    ],
)
def test_the_repositorys_page_follows_from_its_git_address(remote, address):
    assert page_of(remote) == address


def test_a_recorded_run_is_found_by_a_search_which_needs_no_recording():
    database = {"uri": "sqlite:///mlflow.db", "experiment_id": "7"}
    server = {"uri": "https://tracking.example.org/", "experiment_id": "7"}
    assert tracking_ui(database) == "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert tracking_ui(server).startswith("https://tracking.example.org/#/experiments/7/")
    assert search_for(RUN) == f"tags.`nclens.key` = '{RUN}'"
    addresses = [address for address in links_of(page(tracking=database)) if "127.0.0.1" in address]
    assert len(addresses) == 6 + 1
    assert unquote(addresses[4]).endswith(f"&searchFilter={search_for(RUN)}")
    assert "nclens ui" in Reader(page(tracking=database)).text
    assert "127.0.0.1" not in page()


@pytest.fixture
def finished(root):
    """The files of a finished study, all that the page may link among them."""
    folder = StudyFolder(root)
    for path in ("draw.log", "judge.log", f"train/{RUN}.log", "prepare/mnist5k.log"):
        (root / "logs" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "logs" / path).write_text("done\n", encoding="utf-8")
    for stem in ("collapse_curves", "nc1_nc2"):
        for ending in ("csv", "pdf"):
            folder.figure("digits", stem, ending).write_bytes(b"")
    (root / RUN / "metrics.csv").write_text("", encoding="utf-8")
    long = "; ".join(f"remark {place} of a long reason that folds" for place in range(9))
    claims = simulated_claims()
    claims.loc[claims["claim"] == "C3", "note"] = long
    pd.DataFrame(claims).to_csv(root / "claims.csv", index=False)
    report(specification(), root, folder.report)
    return root


def test_links_to_files_are_relative_and_lead_to_what_is_there(finished):
    text = (finished / "report.html").read_text("utf-8")
    files = [address for address in links_of(text) if not urlsplit(address).scheme]
    assert {path for path in files if not (finished / unquote(path)).is_file()} == set()
    for path in (
        *("claims.csv", "metrics.parquet", "tables/losses.csv", "theory/ufm.csv", "data/mnist5k.json"),
        *("figures/digits_nc1_nc2.csv", "figures/digits_nc1_nc2.pdf", "logs/draw.log", "logs/judge.log"),
        *(f"{RUN}/run.json", f"{RUN}/metrics.csv", f"logs/train/{RUN}.log", "logs/prepare/mnist5k.log"),
    ):
        assert path in files
    assert "figures/digits_norms.csv" not in files


@pytest.mark.lengthy
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_in_a_browser_nothing_overflows_and_reasons_have_two_lines(chromium, finished, width, scheme):
    shown = chromium.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    shown.goto((finished / "report.html").as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    first = shown.locator(".lead").first
    assert first.inner_text().startswith("On mnist5k with resnet8, label smoothing converges faster")
    assert first.bounding_box()["y"] < 844
    # Each effect of the main table has its interval drawn, within the table.
    plots = [plot.bounding_box() for plot in shown.locator(".verdicts .drawn svg").all()]
    assert len(plots) == 4
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in plots)
    reasons = shown.locator(".verdicts tr.more > td > .note, .verdicts tr.more > td > .reason > summary")
    heights = reasons.evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).lineHeight))"
    )
    assert len(heights) == 2
    assert max(heights) < 2.1
    assert not shown.get_by_text("remark 8 of a long reason").is_visible()
    shown.locator(".reason summary").first.click()
    assert shown.get_by_text("remark 8 of a long reason").is_visible()
    shown.locator("a.finding").first.click()
    assert shown.evaluate("location.hash") == "#claim-C1"
    shown.close()
