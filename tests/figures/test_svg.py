"""The SVG of a figure: what it says of itself, where its parts are, and what becomes an image."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from nclens.figures import style
from nclens.figures.cross_entropy_vs_label_smoothing import collapse_curves, norms
from nclens.figures.svg import MOST_MARKS

NS = "{http://www.w3.org/2000/svg}"


def content_of(svg):
    return json.loads(ElementTree.fromstring(svg).findtext(f"{NS}metadata"))


@pytest.fixture(scope="module")
def curves(simulate):
    figure, _ = collapse_curves(simulate())
    for kind in ("png", "pdf"):  # as the stage does: legends are laid out anew for each
        style.encode(figure, kind)
    return figure, style.encode(figure, "svg")


def test_it_says_what_it_shows_and_has_the_notes_as_sentences(curves):
    figure, svg = curves
    assert ElementTree.fromstring(svg).findtext(f"{NS}desc") == figure.finding
    assert content_of(svg)["notes"] == list(figure.sentences)
    assert content_of(svg)["size"][0] == 504


def test_text_is_text_and_formulas_are_outlines(curves):
    svg = curves[1].decode()
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"epoch", "error (%)"} <= set(texts)
    assert not [text for text in texts if "S_W" in text]
    assert "DejaVuSans-Oblique" in svg


def test_every_panel_and_legend_entry_is_a_part_that_a_phone_can_show(curves):
    figure, svg = curves
    parts = content_of(svg)["parts"]
    assert [part["kind"] for part in parts] == ["key"] * len(figure.legends[0].get_texts()) + ["panel"] * 4
    # A panel 350 pixels wide has text of 9 pixels, whose size is 7.5 points here.
    assert all(350 / part["size"][0] * 7.5 >= 9 for part in parts)
    width, height = content_of(svg)["size"]
    for part in parts:
        for piece in part["pieces"]:
            x, y, w, h = piece["from"]
            assert -3 <= x <= x + w <= width + 3
            assert -3 <= y <= y + h <= height + 3


def test_a_legends_entries_are_where_they_are_drawn(curves):
    _, svg = curves
    first = content_of(svg)["parts"][0]["pieces"][0]["from"]
    legend = svg.decode().split('<g id="legend">')[1]
    x, y = (float(re.search(rf'<text[^>]* {name}="([^"]*)"', legend)[1]) for name in "xy")
    assert first[0] < x < first[0] + first[2]
    assert first[1] < y < first[1] + first[3]


def test_panels_show_the_labels_of_the_axes_that_they_share(curves, simulate):
    groups = [[piece["group"] for piece in part["pieces"]] for part in content_of(curves[1])["parts"][-4:]]
    assert groups == [["panel2x", "panel0"], ["panel3x", "panel1"], ["panel2"], ["panel3"]]
    figure, _ = norms(simulate())
    style.encode(figure, "png")
    groups = [[piece["group"] for piece in part["pieces"]] for part in content_of(style.encode(figure, "svg"))["parts"]]
    assert groups[-2:] == [["panel0y", "panel2"], ["panel0y", "panel3"]]


@pytest.mark.parametrize(("marks", "images"), [(MOST_MARKS, 0), (MOST_MARKS + 1, 1)])
def test_many_marks_are_an_image(marks, images):
    with style.look():
        figure, grid = style.page(1, 1, 2.0)
        grid[0, 0].scatter(np.arange(marks), np.arange(marks))
        style.encode(figure, "png")
    svg = style.encode(figure, "svg").decode()
    assert svg.count("data:image/webp;base64,") == images
    assert "image/png" not in svg


def test_what_is_written_is_escaped():
    with style.look():
        figure, grid = style.page(1, 1, 2.0)
        grid[0, 0].set_title("<b> & ]]>")
        figure.finding = "<script> & so on"
        style.notes(figure, ["a < b & c"])
        style.encode(figure, "png")
    svg = style.encode(figure, "svg")
    assert ElementTree.fromstring(svg).findtext(f"{NS}desc") == figure.finding
    assert content_of(svg)["notes"] == ["a < b & c"]
