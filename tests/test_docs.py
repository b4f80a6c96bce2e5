"""The documentation is complete and its links resolve: modules, keys of the configuration, pages, anchors."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from html import unescape
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "profiles").rglob("*.md")], key=lambda path: path.as_posix()
)
APPLICATION = {"cli", "workflow", "report", "study"}
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def tool(name):
    """A module of docs/tools."""
    sys.path.insert(0, str(DOCS / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS / "tools"))


def text(path):
    return path.read_text(encoding="utf-8")


def included(path):
    """A page with the page of the root that it includes."""
    return re.sub(r'--8<-- "(.*)"', lambda match: text(ROOT / match[1]), text(path))


def anchors(path):
    """The anchors of a page's headings, as Markdown makes them."""
    found = set()
    for line in re.findall(r"^#+ (.*)$", FENCED.sub("", included(path)), re.MULTILINE):
        slug = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", line)).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", slug))
    return found


def test_generated_pages_are_up_to_date():
    stale = [path for path, page in tool("pages").pages().items() if not path.exists() or text(path) != page]
    assert not stale, f"out of date: {', '.join(str(path.relative_to(ROOT)) for path in stale)}; run `make docs`"


def test_every_module_of_the_library_has_an_api_page():
    documented = {name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: (\S+)", text(page), re.M)}
    names = set()
    for path in (ROOT / "src" / "nclens").rglob("*.py"):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        if parts[1] not in APPLICATION and not any(part.startswith("_") for part in parts):
            names.add(".".join(parts))
    assert names
    # Of the application what a notebook imports, or another Snakefile.
    assert documented == names | {f"nclens.workflow.{name}" for name in ("finished.study", "finished.archive", "start")}


def test_every_key_of_the_configuration_is_documented():
    schema = json.loads(text(ROOT / "studies" / "schema.json"))
    page = text(DOCS / "configuration.md")
    sections = {re.split(r"[ :]+", part.split("\n")[0])[-1]: part for part in page.split("\n### ")[1:]}
    top = page.split("\n## Top level")[1].split("\n## ")[0]
    missing = [key for key in schema["properties"] if f"`{key}`" not in top]
    for name, table in schema["$defs"].items():
        missing += [f"{name}.{key}" for key in table.get("properties", {}) if f"`{key}`" not in sections.get(name, "")]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(page):
    broken = []
    for link in LINK.findall(FENCED.sub("", text(page))):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.is_file():
            broken.append(link)
        elif anchor.startswith("nclens."):
            module, name = re.match(r"(nclens(?:\.[a-z_0-9]+)*)\.(\w+)$", anchor).groups()
            if f"::: {module}\n" not in text(path) or not hasattr(importlib.import_module(module), name):
                broken.append(link)
        elif anchor and anchor not in anchors(path):
            broken.append(link)
    assert not broken


def exists(name):
    """Whether a dotted name is a module or something in one."""
    module, _, rest = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        return bool(module) and hasattr(importlib.import_module(module), rest)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_pages_name_exists(page):
    """Modules, functions and files of the project; the changelog names old ones too."""
    words = FENCED.sub("", text(page)) if page.name != "CHANGELOG.md" else ""
    words = re.sub(r"``.*?``", "", words)  # a query of MLflow has backticks of its own
    names = set(re.findall(r"`(nclens(?:\.\w+)+)`", words))
    files = set(re.findall(r"`((?:src|tests|rules|benchmarks|studies|envs|profiles)/[\w./]+)`", words))
    missing = [name for name in names if not exists(name)] + [name for name in files if not (ROOT / name).exists()]
    assert not missing


def test_every_page_is_in_the_navigation():
    def pages(entry):
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(part)

    listed = list(pages(tomllib.loads(text(ROOT / "zensical.toml"))["project"]["nav"]))
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def images(page):
    """The pictures of a page: alternative text by path."""
    found = re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", FENCED.sub("", text(page)))
    return [((page.parent / path).resolve(), alt) for alt, path in found]


def test_a_picture_has_one_alternative_text_which_is_a_sentence():
    texts = {}
    for page in PAGES:
        for path, alt in images(page):
            assert texts.setdefault(path, alt) == alt, f"{page}: {path.name}"
            assert path.suffix == ".svg" or len(alt.split()) > 8, f"{page}: what does {path.name} show?"
    assert texts


def claims_of(study):
    """The claims of a study's table of results: verdict to claims, and claim to its statements."""
    page = text(DOCS / "results" / study / "README.md")
    rows = re.findall(r"^\| ([A-Z]\d+): (.*?) \| .* \| (\w+) \|$", page, re.M)
    assert rows or "trained elsewhere" in page, study
    return {claim for claim, _, verdict in rows if verdict == "contradicted"}, {row[:2] for row in rows}


STUDIES = sorted(path.parent.name for path in DOCS.glob("results/*/README.md"))


@pytest.mark.parametrize("study", STUDIES)
def test_the_index_of_results_names_what_a_study_contradicts(study):
    contradicted, _ = claims_of(study)
    row = re.search(rf"^\| \[{study}\]\(.*$", text(DOCS / "results" / "README.md"), re.M)[0].split(" | ")
    assert len(row) == 5
    assert set(re.findall(r"\b[A-Z]\d+", row[3])) == contradicted


def test_results_state_claims_as_the_library_does():
    from nclens.claims import CLAIMS

    statements = {(claim.id, claim.statement) for claim in CLAIMS.values()}
    for study in STUDIES:
        assert claims_of(study)[1] <= statements, study


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS.glob("papers/*.md")], ids=lambda path: path.name)
def test_a_page_names_what_the_studies_that_it_links_contradict_of_its_claims(page):
    own = set(re.findall(r"^\| ([A-Z]\d+)\b", text(page), re.M)) if page.name != "README.md" else None
    for study in set(re.findall(r"results/(\w+)/README.md", text(page))):
        of_page = {claim for claim in claims_of(study)[0] if own is None or claim in own}
        said = [part for part in text(page).split("\n\n") if "contradict" in part]
        missing = {claim for claim in of_page if not any(re.search(rf"\b{claim}\b", part) for part in said)}
        assert not missing, f"{study} contradicts {missing}"


def test_every_study_is_in_the_list_of_studies_and_leads_to_its_results():
    rows = re.findall(r"^\| .*\|$", text(DOCS / "reproducing.md").partition("What they found")[0], re.M)
    for path in sorted({*(ROOT / "studies").rglob("*.yaml")} - {*(ROOT / "studies" / "start").iterdir()}):
        name, study = str(path.relative_to(ROOT)), yaml.safe_load(text(path))["study"]
        found = [row for row in rows if any(fnmatch(name, one) for one in re.findall(r"`(studies/[^`]+)`", row))]
        assert found, f"{name} is not listed"
        page = f"results/{study}/README.md"
        assert (DOCS / page).is_file() == any(f"({page})" in row for row in found), name


def test_the_page_of_measures_names_every_one_and_where_it_misleads():
    from nclens.metrics.catalogue import METRICS
    from nclens.probes.catalogue import PROBES

    rows = [line.split(" | ") for line in text(DOCS / "which_measure.md").splitlines() if line.startswith("| ")][1:]
    assert all(len(row) == 5 and all(cell.strip(" |") for cell in row[1:]) for row in rows)
    # `...` is any ending or beginning, k a class, ij an entry.
    named = re.findall(r"`([a-z][a-z0-9_.]*|\.\.\.[a-z_]+)`", " ".join(cell for row in rows for cell in row[1:4]))
    patterns = "|".join(re.escape(name).replace(re.escape("..."), ".*") for name in named)
    metrics = [*METRICS, *(metric.name for probe in PROBES.values() for metric in probe.metrics)]
    names = {re.sub(r"\{i\}\{j\}", "ij", metric).replace("{i}", "k") for metric in metrics}
    assert {name for name in names if not re.fullmatch(patterns, name)} == set()


def test_every_rule_is_in_the_picture_of_the_workflow():
    drawn = set(re.findall(r"<text [^>]*>(\w+)</text>", text(DOCS / "workflow.svg")))
    rules = re.findall(r"^rule (\w+)", "\n".join(map(text, (ROOT / "rules").glob("*.smk"))), re.M)
    assert rules
    # Networks that were trained elsewhere go through `ingest` in place of `train`, and runs of another study through
    # `reuse`; `draw_own` is beside `draw`, and `atlas` is of all studies.
    assert drawn == {*rules, "once"} - {"ingest", "reuse", "draw_own", "atlas"}


@pytest.mark.workflow
def test_the_picture_of_the_workflow_is_that_of_its_rule_graph():
    module = tool("rulegraph")
    assert module.picture(module.rule_graph()) == text(DOCS / "workflow.svg")


def test_captions_of_snakemakes_report_show_the_text_of_the_catalogue():
    from docutils.core import publish_parts

    from nclens.figures.catalogue import FIGURES

    for stem, figure in FIGURES.items():
        source = text(ROOT / "rules" / "captions" / "figures" / f"{stem}.rst")
        shown = unescape(re.sub(r"<[^>]+>", "", publish_parts(source, writer="html")["body"]))
        assert shown.split() == f"{figure.caption} Source: {figure.source}.".split()


class TestPublish:
    """The page of the default study in the site."""

    def test_a_page_is_published_with_the_small_files_that_it_links(self, tmp_path):
        source, target = tmp_path / "study", tmp_path / "site"
        (source / "figures").mkdir(parents=True)
        (source / "figures" / "a b.csv").write_text("1")
        (source / "big.bin").write_bytes(bytes(2**20 + 1))
        (tmp_path / "secret").write_text("2")
        names = ["figures/a%20b.csv", "big.bin", "../secret", "none.pdf", "https://example.org", "#top"]
        (source / "report.html").write_text("".join(f'<a href="{name}">x</a>' for name in names))
        assert tool("publish").publish(source, target) == ["report.html", "figures/a b.csv"]
        assert (target / "figures" / "a b.csv").read_text() == "1"
        assert (target / "report.html").read_bytes() == (source / "report.html").read_bytes()

    def test_without_a_study_the_link_leads_to_what_writes_it(self, tmp_path):
        assert tool("publish").publish(tmp_path / "none", tmp_path / "site") == []
        assert "make reproduce" in (tmp_path / "site" / "report.html").read_text()


class TestAtlas:
    """The committed atlas on its page, and in the site."""

    ROWS = (
        ("digits", "C2", "digits8", "supported", "digits/README.md"),
        ("digits", "C2", "digits8", "supported", "digits/README.md"),
        ("lab: faces", "C2", "faces|old", "contradicted", "https://lab.example/faces.html"),
        ("gone", "C4", "digits8", "inconclusive", "gone/README.md"),
    )

    @pytest.fixture
    def rows(self):
        from nclens.claims import CLAIMS
        from nclens.workflow.tables import ATLAS

        made = []
        for study, claim, data, verdict, link in self.ROWS:
            row = dict.fromkeys(ATLAS.columns, "") | {"study": study, "status": "finished", "claim": claim}
            row |= {"paper": CLAIMS[claim].paper, "statement": CLAIMS[claim].statement, "link": link}
            made.append(row | {"data": data, "dataset": data, "model": "net", "verdict": verdict, "low": "0.1"})
        return made

    def test_a_claim_has_its_data_sets_and_studies_by_verdict(self, rows):
        lines = tool("atlas_text").lines(rows, DOCS)
        (row,) = (line for line in lines if line.startswith("| C2: Training"))
        assert row.endswith(
            " | digits8: [digits](results/digits/README.md) 2 "
            "| faces\\|old: [lab: faces](https://lab.example/faces.html) |  |  |"
        )
        (row,) = (line for line in lines if line.startswith("| C4: Label"))
        assert row.endswith(" |  |  | digits8: gone |  |")
        assert any("No comparison was run on three data sets" in line for line in lines)

    def test_the_settings_of_each_outcome_are_counted_by_claim(self, rows):
        outcomes = [("a", "supported"), ("a", "inconclusive"), ("b", "supported"), ("b", "contradicted"), ("c", "none")]
        made = [rows[0] | {"study": study, "verdict": verdict} for study, verdict in outcomes]
        made += [rows[0] | {"claim": "M6"}, rows[0] | {"claim": "G4"}]  # of our own
        made += [rows[0] | {"claim": "M1", "study": study} for study in "abc"]
        made += [rows[0] | {"claim": "W1", "verdict": "contradicted"}, rows[0] | {"claim": "R1", "verdict": "untold"}]
        made += [rows[0] | {"claim": "R2", "verdict": "inconclusive", "reason": "not measured"}]
        assert tool("atlas_text").by_paper(made) == [
            "| claim | supported | contradicted | both | inconclusive |",
            "|---|--:|--:|--:|--:|",
            "| *Cross Entropy versus Label Smoothing: A Neural Collapse Perspective* "
            "([2402.03979](https://arxiv.org/abs/2402.03979)) | | | | |",
            "| C2: label smoothing ends more strongly collapsed | 1 |  | 1 | 1 |",
            "| *MaxSup: Overcoming Representation Collapse in Label Smoothing* "
            "([2502.15798](https://arxiv.org/abs/2502.15798)) | | | | |",
            "| M1: MaxSup is as accurate as label smoothing | 3 |  |  |  |",
            "| *When Does Label Smoothing Help?* ([1906.02629](https://arxiv.org/abs/1906.02629)) | | | | |",
            "| W1: label smoothing calibrates as well as temperature scaling |  | 1 |  |  |",
            "| *Neural multivariate regression collapse* ([2409.04180](https://arxiv.org/abs/2409.04180)) | | | | |",
            "| R1: weight decay decides whether regression features collapse to principal components |  |  |  | 1 |",
            "| Our own | | | | |",
            "| M6: MaxSup collapses less than label smoothing | 1 |  |  |  |",
            "| G4: a loss is better calibrated | 1 |  |  |  |",
        ]

    def test_readmes_table_has_effect_and_interval_of_the_studies_that_it_names(self, rows):
        numbers = {"loss": "ls", "effect": "0.5", "low": "0.4", "high": "0.6", "unit": "ratio", "null": "1"}
        made = [
            rows[0] | numbers | {"measure": "NC1"},
            rows[3] | numbers | {"study": "digits", "verdict": "contradicted"},
        ]
        assert tool("atlas_text").headline(made) == [
            "| claim | measured by | [4,000 digits](docs/results/digits/README.md) "
            "| [all settings](docs/atlas.md#how-often) |",
            "|---|---|---|---|",
            "| C2: ends more strongly collapsed | NC1 | supported: 0.500 [0.400, 0.600] ratio | 1&nbsp;supported |",
            "| C4: is better calibrated |  | **contradicted**: 0.500 [0.400, 0.600] ratio | 1&nbsp;contradicted |",
        ]

    def test_readme_without_the_table_is_refused(self, rows):
        with pytest.raises(SystemExit, match=r"README.md has no table that begins with `\| claim \| measured by \|`"):
            tool("atlas_text").readme("# nclens\n", rows)

    def test_without_a_table_the_page_says_so_and_the_site_has_none(self, tmp_path):
        module = tool("atlas_text")
        assert module.lines(module.rows_of(tmp_path / "atlas.csv"), DOCS) == [module.ABSENT]
        assert tool("publish").publish_atlas(tmp_path / "atlas.csv", tmp_path / "atlas.html") == 0
        assert list(tmp_path.iterdir()) == []

    def test_the_page_of_the_site_leads_to_the_sites_pages(self, rows, tmp_path):
        from nclens.workflow import tables

        tables.write_rows(tables.ATLAS, tmp_path / "atlas.csv", rows)
        assert tool("publish").publish_atlas(tmp_path / "atlas.csv", tmp_path / "atlas.html") == 4
        page = text(tmp_path / "atlas.html")
        assert page.count('href="digits/index.html"') == 5  # two marks, two rows, the study
        assert "README.md" not in page


def test_every_figure_of_the_results_is_in_the_gallery():
    shown = set(re.findall(r"\]\((results/[^)]+\.png)\)", text(DOCS / "gallery.md")))
    assert shown == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.png")}


class TestMarkdown:
    """The site's own extension of Markdown."""

    @pytest.fixture
    def convert(self):
        markdown = pytest.importorskip("markdown")
        pytest.importorskip("pymdownx")
        pytest.importorskip("latex2mathml")
        extension = tool("site_markdown").makeExtension()
        names = ["tables", "pymdownx.arithmatex", "pymdownx.superfences", extension]
        options = {"pymdownx.arithmatex": {"generic": True}}
        return lambda source: markdown.markdown(source, extensions=names, extension_configs=options)

    def test_formulas_become_mathml(self, convert):
        assert "<msup>" in convert("so $x^2$ is")
        assert 'display="block"' in convert("$$x^2$$")
        assert "arithmatex" not in convert("* inside an item\n  $$x^2$$\n* the next")
        assert 'display="block"' in convert("* inside an item\n  $$x^2$$\n* the next")

    def test_letters_are_styled_by_their_code_points(self, convert):
        page = convert(r"$\mathbf 1 \in \mathbb R$, $\texttt{p\_true}$")
        assert "𝟏" in page
        assert "ℝ" in page
        assert "p_true" in page

    def test_norms_are_no_cells(self, convert):
        page = convert("| key | formula |\n|---|---|\n| `a` | |nrm(W) - E|_F, of |w_k| |\n| `b` | $|W|$ and `|c|` |")
        assert page.count("<td>") == 4
        assert "|nrm(W) - E|_F, of |w_k|" in page

    def test_doctests_are_code(self, convert):
        page = convert("Text.\n\n>>> f(1)\n2\n\nMore.\n\n```\n>>> g\n```")
        assert "<blockquote>" not in page
        assert page.count("<pre") == 2

    def test_formulas_of_docstrings(self, convert):
        page = convert("With :math:`x^2`:\n\n.. math:: y =\n\n    x^3\n\nand *more*.")
        assert page.count("<math") == 2
        assert "<em>more</em>" in page
        assert "math::" not in page

    def test_roles_are_plain_code(self, convert):
        assert convert("See :func:`fit`.") == "<p>See <code>fit</code>.</p>"

    def test_what_only_the_site_has_is_shown_there(self, convert):
        assert convert('A page. <!-- site: <a href="x">Here</a>. -->') == '<p>A page. <a href="x">Here</a>.</p>'
        assert "site:" not in convert("A.\n<!-- note -->")

    def test_links_of_the_root_lead_to_pages(self, convert):
        page = convert("[a](docs/data.md) [b](CONTRIBUTING.md) [c](CHANGELOG.md)")
        assert re.findall('href="([^"]*)"', page) == ["data.md", "contributing.md", "changelog.md"]


@pytest.mark.lengthy
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path):
    pytest.importorskip("zensical")
    for name in ("docs", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.md"), ROOT / "zensical.toml"]:
        shutil.copy(path, tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": "docs/tools"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        html = text(page)
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', html), page
        assert not re.findall(r'<link[^>]*stylesheet[^>]* href="?(?:https?:)?//', html), page
        assert "arithmatex" not in html, page
