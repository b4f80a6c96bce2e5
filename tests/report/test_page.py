"""The page as a person sees it, in a headless Chromium: themes, a phone, paper, its weight."""

import re

import pandas as pd
import pytest

from nclens.figures import style
from nclens.figures.catalogue import FIGURES
from nclens.report import Drawn
from nclens.report.drawing import contrast
from nclens.report.summary import QUANTITIES, side_by_side
from nclens.workflow.build.figures import draw_figure
from tests.report.test_report import LOSSES, simulated_metrics, simulated_study
from tests.report.test_report import page as page_of

STEMS = ("collapse_curves", "nc1_nc2", "norms", "projections", "ufm_conditioning")
LUMINANCE = """
() => {
  const colour = (name, element) => getComputedStyle(element)[name];
  const seen = [...document.querySelectorAll(".whole")].filter(e => e.getClientRects().length);
  return {
    text: seen.flatMap(e => [...e.querySelectorAll("text")].map(t => colour("fill", t))),
    ground: [...document.querySelectorAll(".image")].map(e => colour("backgroundColor", e)),
    pieces: seen.length,
  };
}
"""


@pytest.fixture(scope="module")
def address(simulate, tmp_path_factory):
    """A page with five kinds of figures: curves, paths, dots, many marks, rows."""
    inputs, figures = simulate(), {}
    for stem in STEMS:
        figure = draw_figure(stem, inputs).figure
        style.encode(figure, "png")
        entry = FIGURES[stem]
        figures["digits", stem] = Drawn(style.encode(figure, "svg"), entry.title, entry.source, entry.caption)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(study=simulated_study(figures=list(STEMS)), figures=figures), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(chromium, address):
    pages = []

    def opened(width=1280, scheme="light", **options):
        pages.append(chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options))
        pages[-1].goto(address)
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


def hex_of(colour):
    return "#" + "".join(f"{int(value):02x}" for value in re.findall(r"\d+", colour)[:3])


@pytest.mark.lengthy
@pytest.mark.parametrize(("scheme", "ground"), [("light", "#ffffff"), ("dark", "#1c2026")])
def test_text_of_figures_can_be_read_in_both_themes(opened, scheme, ground):
    page = opened(scheme=scheme)
    seen = page.evaluate(LUMINANCE)
    assert seen["pieces"] == len(STEMS)
    assert {hex_of(colour) for colour in seen["ground"]} == {ground}
    assert len(seen["text"]) > 100
    assert min(contrast(hex_of(colour), ground) for colour in set(seen["text"])) >= 4.5


def test_the_enlarged_figure_is_dark_too_and_returns_to_its_place(opened):
    page = opened(scheme="dark")
    page.locator(".enlarge").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog .whole").count() == 1
    assert page.evaluate("getComputedStyle(document.querySelector('dialog')).backgroundColor") == "rgb(28, 32, 38)"
    page.keyboard.press("Escape")
    assert page.locator("dialog .whole").count() == 0
    assert page.locator(".image .whole").count() == len(STEMS)


def test_a_phone_shows_panels_below_each_other_with_labels_of_nine_pixels(opened):
    page = opened(390)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    sizes = page.evaluate("""
      [...document.querySelectorAll(".parts > svg")].map(s => {
        const box = s.getBoundingClientRect();
        return {kind: s.getAttribute("class"), width: box.width, scale: box.width / s.viewBox.baseVal.width};
      })""")
    assert all(size["scale"] * 7.5 >= 9 for size in sizes)  # the smallest labels of axes have 7.5 points
    assert all(size["width"] <= 358 for size in sizes)
    assert {size["kind"] for size in sizes} == {"key", "panel", "bar"}
    boxes = page.evaluate(
        "[...document.querySelectorAll('.parts')[0].querySelectorAll('.panel')].map(s => s.getBoundingClientRect().top)"
    )
    assert boxes == sorted(set(boxes))
    assert page.evaluate("getComputedStyle(document.querySelector('.whole')).clipPath") == "inset(50%)"


def test_a_phone_shows_the_rows_of_tables_as_cards_with_the_headings_as_labels(chromium, tmp_path):
    """Of runs, of losses as rows, of the theory: no table scrolls, no number is cut, sorting stays."""
    losses = LOSSES | {f"ls{k}": {"label": f"LS {k}", "colour": "#009E73"} for k in range(3)}
    study, metrics = simulated_study(losses=losses), simulated_metrics().astype({"metric": str, "split": str})
    known = set(zip(metrics["metric"], metrics["split"], strict=True))
    nc1 = metrics[metrics["metric"] == "nc1"]
    more = [column for column in QUANTITIES if (column.metric, column.split) not in known]
    metrics = pd.concat([metrics, *(nc1.assign(metric=column.metric, split=column.split) for column in more)])
    metrics = pd.concat([metrics, *(metrics[metrics["loss"] == "ls"].assign(loss=f"ls{k}") for k in range(3))])
    path = tmp_path / "report.html"
    path.write_text(page_of(study=study, metrics=metrics, losses=side_by_side(study["experiments"], metrics)))
    page = chromium.new_page(viewport={"width": 390, "height": 900})
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
    assert page.evaluate(wide) == []
    cut = "[...document.querySelectorAll('td, th')].filter(e => e.getBoundingClientRect().right > 390).length"
    assert page.evaluate(cut) == 0
    for section in ("runs", "losses", "theory"):
        cells = f"[...document.querySelectorAll('#{section} tbody td:not(:first-child):not(:empty)')]"
        assert page.evaluate(f"{cells}.length") > 10
        assert page.evaluate(f"{cells}.filter(e => !e.dataset.label).map(e => e.outerHTML)") == []
    first = page.locator("#runs tbody td:nth-child(4)").first
    assert first.get_attribute("data-label") == "ECE whole test set"
    assert "ECE whole test set" in first.evaluate("e => getComputedStyle(e, '::before').content")
    page.locator("#runs thead button", has_text="Accuracy").click()
    seeds = page.locator("#runs tbody td:nth-child(2)").all_inner_texts()
    assert seeds[:3] == ["0", "1", "2"]
    page.locator("#runs thead button", has_text="Accuracy").click()
    assert page.locator("#runs tbody td:nth-child(2)").first.inner_text() == "2"
    # On paper the same tables are tables, and whole.
    page.set_viewport_size({"width": 710, "height": 900})
    page.emulate_media(media="print")
    assert len(page.locator("#losses thead th").all()) == 16
    assert page.evaluate("[...document.querySelectorAll('table')].filter(e => e.offsetWidth > innerWidth).length") == 0
    page.close()


def test_a_wide_page_shows_the_whole_figures(opened):
    page = opened(1280)
    assert page.evaluate("getComputedStyle(document.querySelector('.parts')).display") == "none"
    widths = page.evaluate("[...document.querySelectorAll('.whole')].map(s => s.getBoundingClientRect().width)")
    assert max(widths) > 900


def test_paper_cuts_nothing_and_is_light(opened, tmp_path):
    page = opened(700, "dark")
    page.emulate_media(media="print")
    cut = page.evaluate("""
      [...document.querySelectorAll("table, svg.whole, pre, math")].filter(e =>
        e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1
      ).map(e => e.outerHTML.slice(0, 80))""")
    assert cut == []
    assert page.evaluate("getComputedStyle(document.querySelector('.image')).backgroundColor") == "rgb(255, 255, 255)"
    pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type ?/Page[^s]", pdf)) < 14
    points = page.evaluate("parseFloat(getComputedStyle(document.body).fontSize) * .75")
    assert 8 <= points <= 10
