"""The documentation is complete and its links resolve: modules, keys of the configuration, pages, anchors."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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
    assert documented == names


def test_every_key_of_the_configuration_is_documented():
    schema = json.loads(text(ROOT / "studies" / "schema.json"))
    page = text(DOCS / "configuration.md")
    sections = {re.split(r"[ :]+", part.split("\n")[0])[-1]: part for part in page.split("\n### ")[1:]}
    top = page.split("\n## Top level")[1].split("\n## ")[0]
    missing = [key for key in schema["properties"] if f"`{key}`" not in top]
    for name, table in schema["$defs"].items():
        missing += [f"{name}.{key}" for key in table["properties"] if f"`{key}`" not in sections.get(name, "")]
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
