"""The film on the page: small, without a network, and in a browser by slider, keys and without scripts."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from nclens.report import report_page
from nclens.report.film import MOST_BYTES, film_section
from nclens.report.text import Names
from tests.figures.films import film, regressed
from tests.report.test_report import simulated_claims, simulated_metrics, simulated_study


def content(made):
    return film_section(Names(simulated_study()), {"digits": made}).content["films"][0]


def page_of(made):
    return report_page(simulated_study(), simulated_claims(), simulated_metrics(), films={"digits": made})


def test_the_page_has_every_number_of_the_film_in_16_bits():
    made = film()
    page = page_of(made)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    assert data["epochs"] == made.epochs
    for shown, panel in zip(data["panels"], made.panels, strict=True):
        assert shown["label"] == panel.label
        np.testing.assert_allclose(shown["curve"], panel.curve, rtol=1e-3)
        for name, own in panel.planes.items():
            for part, kind in (("points", "<i2"), ("means", "<i2"), ("kinds", "u1")):
                found = np.frombuffer(base64.b64decode(shown["planes"][name][part]), kind)
                assert found.tolist() == getattr(own, part).ravel().tolist()
            assert (shown["planes"][name]["reach"], shown["planes"][name]["scale"]) == (own.reach, own.scale)


def test_without_a_film_there_is_no_section():
    assert film_section(Names(simulated_study()), {}) is None


def test_the_axes_hold_every_mean_and_nearly_every_point_and_the_caption_counts_the_rest():
    own = film().panels[0].planes["principal"]
    assert np.abs(own.means).max() <= own.reach
    assert own.outside <= 0.01 * own.points[..., 0].size
    far = own.points.copy()
    far[0, :4] = 32_000
    spoilt = film(losses=1)
    farther = replace(own, points=far)
    assert 4 <= farther.outside <= 30
    panel = replace(spoilt.panels[0], planes={"principal": farther})
    caption = " ".join(content(replace(spoilt, panels=[panel]))["caption"])
    assert f"{farther.outside} of 3,000 points lie outside the axes" in caption


def test_what_is_chosen_is_said():
    shown = content(replace(film(), classes=100, left_out=["focal"]))
    assert "Shown are 10 of the 100 classes." in shown["caption"]
    assert shown["caption"][-1] == "Not shown: focal."
    assert [plane["text"] for plane in shown["planes"]] == [
        "plane of the templates of 0, 1 and 2",
        "principal plane of 10 class means",
    ]
    assert [entry["text"] for entry in shown["legend"]] == [str(k) for k in range(10)]
    shown = content(regressed())
    assert "Colour: torque. Origin: the mean of these samples." in shown["caption"]
    assert [shown["legend"][place]["text"] for place in (0, 9)] == ["−1.25", "2.50"]


@pytest.mark.parametrize("snapshots", [60, 1000])
def test_many_losses_and_snapshots_are_thinned_to_what_a_page_has_room_for(snapshots):
    made = replace(film(losses=12, snapshots=2), epochs=range(snapshots))
    panels = []
    for panel in made.panels:
        planes = {
            name: replace(own, points=own.points[[0] * snapshots], means=own.means[[0] * snapshots])
            for name, own in panel.planes.items()
        }
        panels.append(replace(panel, planes=planes, curve=np.ones(snapshots)))
    shown = content(replace(made, panels=panels))
    assert 0.7 * MOST_BYTES < len(json.dumps(shown["data"])) < 1.1 * MOST_BYTES
    epochs = shown["data"]["epochs"]
    assert (epochs[0], epochs[-1]) == (0, snapshots - 1)


def test_a_network_without_the_plane_says_so_and_a_value_that_is_none_is_a_dash():
    made = film()
    bare = replace(made.panels[1], planes={"principal": made.panels[1].planes["principal"]}, curve=np.full(6, np.nan))
    shown = content(replace(made, panels=[made.panels[0], bare]))
    assert shown["data"]["panels"][1]["curve"] == [None] * 6
    assert shown["still"][1]["moments"][0] | {"alt": ""} == {
        "epoch": 1,
        "value": "–",
        "alt": "",
        "paths": [],
        "means": [],
    }


# --- in a browser ----------------------------------------------------------------------------------------------------

#: What a page shows: its panels as pictures, the epoch and the slider.
PICTURES = "[...document.querySelectorAll('.film-panel canvas')].map(canvas => canvas.toDataURL())"
EPOCH, SLIDER = ".film-epoch", ".film-slider"


@pytest.fixture
def opened(shown_page):
    """Open a film's page in a browser."""
    return lambda made, *width, **looks: shown_page(page_of(made), *width, **looks)


def test_the_slider_and_the_keys_move_the_points(opened):
    page = opened(film())
    slider = page.locator(SLIDER)
    assert page.text_content(EPOCH) == "epoch 32 of 32"
    assert page.locator(".film-still").is_hidden()
    last = page.evaluate(PICTURES)
    slider.fill("0")
    assert page.text_content(EPOCH) == "epoch 1 of 32"
    first = page.evaluate(PICTURES)
    assert all(one != other for one, other in zip(first, last, strict=True))
    assert slider.get_attribute("aria-valuetext") == "epoch 1; NC1: CE 1, LS (δ = 0.05) 1"
    for key, epoch in (("ArrowRight", 2), ("End", 32), ("ArrowLeft", 16), ("Home", 1)):
        slider.press(key)
        assert page.text_content(EPOCH) == f"epoch {epoch} of 32"
    assert page.evaluate(PICTURES) == first
    # Elsewhere in the film the same keys step too.
    page.locator(".film-play").focus()
    for key, epoch in (("ArrowRight", 2), ("End", 32), ("ArrowLeft", 16), ("Home", 1)):
        page.keyboard.press(key)
        assert page.text_content(EPOCH) == f"epoch {epoch} of 32"
    assert page.locator(".film-play").evaluate("button => getComputedStyle(button).outlineStyle") == "solid"


def test_it_plays_when_told_and_pauses_and_ends(opened):
    page = opened(film(snapshots=3))
    page.wait_for_timeout(300)
    assert page.text_content(EPOCH) == "epoch 4 of 4"  # it does not begin by itself
    play = page.locator(".film-play")
    page.locator(SLIDER).focus()
    page.keyboard.press(" ")
    assert (play.text_content(), play.get_attribute("aria-pressed")) == ("Pause", "true")
    assert page.text_content(EPOCH) != "epoch 4 of 4"
    play.click()
    assert play.text_content() == "Play"
    play.click()
    page.locator(".film-play", has_text="Play").wait_for()
    assert page.text_content(EPOCH) == "epoch 4 of 4"


def test_where_less_motion_is_wanted_it_steps(opened):
    page = opened(film(snapshots=3), reduced_motion="reduce")
    seen = page.evaluate(
        f"""async () => {{
            const seen = new Set(), picture = () => {PICTURES}[0];
            document.querySelector(".film-play").click();
            while (document.querySelector(".film-play").textContent === "Pause") {{
                await new Promise(requestAnimationFrame);
                seen.add(picture());
            }}
            return seen.size;
        }}"""
    )
    assert seen <= 4  # the start, and three snapshots


def test_the_plane_is_chosen_and_the_legend_follows(opened):
    page = opened(film())
    templates = page.evaluate(PICTURES)
    assert page.locator(".film-legend li:visible").count() == 3
    page.locator(".film-plane").select_option("principal")
    assert page.evaluate(PICTURES) != templates
    assert page.locator(".film-legend li:visible").count() == 10


def test_a_moment_is_chosen_on_the_curve(opened):
    page = opened(film())
    curve = page.locator(".film-curve canvas")
    box = curve.bounding_box()
    curve.click(position={"x": 47, "y": box["height"] / 2})
    assert page.text_content(EPOCH) == "epoch 1 of 32"


@pytest.mark.parametrize("made", [film(losses=12), regressed()], ids=["losses", "regression"])
def test_nothing_overflows_a_phone_in_the_dark(opened, made):
    page = opened(made, 390, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    right = "Math.max(...[...document.querySelectorAll('#film *')].map(one => one.getBoundingClientRect().right))"
    assert page.evaluate(right) <= 390
    # Sharp text: a canvas has as many pixels as it is shown with.
    sizes = "[...document.querySelectorAll('.film canvas')].map(one => one.width / one.clientWidth / devicePixelRatio)"
    assert page.evaluate(sizes) == pytest.approx([1] * (len(made.panels) + 1), abs=0.02)
    light = opened(made, 390, color_scheme="light")
    assert light.evaluate(PICTURES) != page.evaluate(PICTURES)


def test_without_scripts_there_is_a_still_picture(opened):
    page = opened(film(), 390, java_script_enabled=False)
    assert page.locator(".film-live").is_hidden()
    assert page.locator(".film-still svg:visible").count() == 6
    assert page.locator(".film-still").text_content().count("epoch 32") == 2
    assert "Scripts are off" in page.locator(".film-still noscript").inner_text()


def test_on_paper_there_is_the_still_picture(opened):
    page = opened(film())
    page.emulate_media(media="print")
    assert page.locator(".film-live").is_hidden()
    assert page.locator(".film-still").is_visible()
