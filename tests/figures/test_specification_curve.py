"""The specification curve: sorted effects above, what each specification chose below, the claim's own marked."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nclens.figures.inputs import SPECIFICATION_COLUMNS
from nclens.figures.specification_curve import MOST_PAIRS, specification_curve
from nclens.figures.style import GROUND, encode
from tests.figures.artists import notes_of

NC1, CDNV = "nc1", "cdnv"
KEYS = {"loss": "ls", "baseline": "ce", "matched": "", "level": "", "seeds": 3}
C2 = {"claim": "C2", "unit": "ratio", "scale": "ratio"}
C4 = {"claim": "C4", "unit": "difference in ECE", "scale": "difference"}


def row(effect, half, own=False, same=True, verdict="supported", **details):
    low, high = (effect / half, effect * half) if details["scale"] == "ratio" else (effect - half, effect + half)
    return {
        **KEYS,
        "effect": effect,
        "low": low,
        "high": high,
        "own": own,
        "same_sign": same,
        "verdict": verdict,
        "specification": "",
        **details,
    }


ROWS = [
    row(0.5, 1.2, own=True, measure=NC1, split="train", epoch="last", **C2),
    row(0.4, 1.1, measure=NC1, split="test", epoch="last", **C2),
    row(0.9, 1.5, measure=CDNV, split="train", epoch="last", verdict="inconclusive", **C2),
    row(1.2, 1.1, same=False, measure=CDNV, split="test", epoch="last", verdict="contradicted", **C2),
    row(np.nan, 1.0, measure="nc3", split="test", epoch="last", verdict="inconclusive", same=False, **C2),
    row(0.02, 0.005, own=True, measure="ece", split="test", epoch="last", verdict="contradicted", **C4),
    row(0.01, 0.02, measure="ece_20", split="test", epoch="best", verdict="inconclusive", **C4),
]


def drawn(simulate, rows=ROWS, **change):
    table = pd.DataFrame(rows, columns=list(SPECIFICATION_COLUMNS))
    return specification_curve(replace(simulate(), specifications=lambda: table, **change))


def parts(figure):
    """The effects and the matrix of each panel."""
    return [axes.child_axes for axes in figure.grid.flat if axes.get_visible()]


def points(axes, marker):
    """Place, effect and fill of the marks of an axes."""
    found = [
        (*xy, line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() == marker
        for xy in line.get_xydata()
    ]
    return sorted(found)


def test_effects_are_sorted_and_filled_where_the_interval_excludes_no_effect(simulate):
    figure, _ = drawn(simulate)
    effects, _ = parts(figure)[0]
    colour = simulate().colours["ls"]
    assert points(effects, "o") == [(1, 0.4, colour), (3, 0.9, GROUND), (4, 1.2, colour)]
    assert points(effects, "D") == [(2, 0.5, colour)]
    bars = np.array(effects.collections[0].get_segments())
    np.testing.assert_allclose(bars[:, :, 0].T, [[1, 2, 3, 4]] * 2)
    np.testing.assert_allclose(bars[:, 0, 1], [0.4 / 1.1, 0.5 / 1.2, 0.9 / 1.5, 1.2 / 1.1])
    assert effects.get_yscale() == "log"
    assert [line.get_ydata()[0] for line in effects.lines if line.get_marker() == "None"] == [1.0]
    assert effects.get_ylim()[0] < 0.4 < 1.2 < effects.get_ylim()[1]
    other, _ = parts(figure)[1]
    assert (other.get_yscale(), other.get_ylabel()) == ("linear", "difference in ECE\n(percentage points)")
    assert points(other, "o") == [(1, 0.01, GROUND)]


def test_the_matrix_has_what_each_specification_chose_and_no_choice_without_another(simulate):
    figure, _ = drawn(simulate)
    _, matrix = parts(figure)[0]
    labels = [label.get_text() for label in matrix.get_yticklabels()]
    assert labels == ["NC1", "CDNV", "training set", "test set"]
    at = dict(zip(matrix.get_yticks(), labels, strict=True))
    chosen = {(place, at[height]) for line in matrix.lines for place, height in line.get_xydata()}
    assert chosen == {
        *((1, "NC1"), (1, "test set"), (2, "NC1"), (2, "training set")),
        *((3, "CDNV"), (3, "training set"), (4, "CDNV"), (4, "test set")),
    }
    assert [label.get_text() for label in parts(figure)[1][1].get_yticklabels()] == [
        "ECE, 15 bins",
        "ECE, 20 bins",
        "last epoch",
        "lowest test error",
    ]
    for part in parts(figure)[0]:  # the column of the claim's own specification goes through both
        (band,) = part.patches
        assert (band.get_x(), band.get_width()) == (1.5, 1.0)


def test_counts_are_in_the_titles_and_in_the_description(simulate):
    figure, table = drawn(simulate)
    titles = [axes.get_title(loc="left") for axes in figure.grid.flat]
    assert titles == ["C2\n3 of 4 with the same sign, 3 exclude 1", "C4\n2 of 2 with the same sign, 1 exclude 0"]
    assert (
        "C2, LS (δ = 0.05) against CE: 3 of 4 specifications with the same sign, 3 exclude no effect" in figure.finding
    )
    notes = notes_of(figure)
    assert "Not drawn: 1 effect that is not defined" in notes
    assert "95% t intervals over 3 seeds" in notes
    assert "Last quarter" not in notes
    late = row(0.6, 1.2, measure=NC1, split="train", epoch="late", **C2)
    assert "Last quarter: the mean over its snapshots" in notes_of(drawn(simulate, [*ROWS, late])[0])
    assert table["place"].tolist() == [1, 2, 3, 4, 1, 2]
    assert table["effect"].tolist() == [0.4, 0.5, 0.9, 1.2, 0.01, 0.02]


def test_a_pair_has_its_own_panels_and_the_table_has_those_that_are_too_many(simulate):
    losses = ("ce", "ls", "ls_0.1", "ls_0.2", "ls_0.5")
    rows = [{**one, "loss": loss} for loss in losses[1:] for one in ROWS]
    figure, table = drawn(lambda: simulate(losses=losses), rows)
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.grid.flat]
    assert len(titles) == 2 * MOST_PAIRS
    assert titles[2] == "C2, LS (δ = 0.1) against CE"
    assert "LS (δ = 0.5) against CE: see specifications.csv" in notes_of(figure)
    assert list(table["loss"].unique()) == list(losses[1 : MOST_PAIRS + 1])


def test_two_seeds_are_points_without_intervals(simulate):
    rows = [{**one, "low": np.nan, "high": np.nan, "verdict": "inconclusive", "seeds": 2} for one in ROWS]
    figure, _ = drawn(simulate, rows)
    assert {face for _, _, face in points(parts(figure)[0][0], "o")} == {GROUND}
    assert "no intervals under 3 seeds" in notes_of(figure)


@pytest.mark.parametrize("rows", [[], ROWS[4:5]])
def test_without_effects_the_figure_says_so(simulate, rows):
    figure, table = drawn(simulate, rows)
    assert [text.get_text() for text in figure.grid[0, 0].texts] == ["no claim of C1 to C4 has an effect"]
    assert table.empty
    assert not figure.legends


def test_open_intervals_and_other_forms_are_encoded(simulate):
    rows = [*ROWS, row(2.0, 1.1, measure="nc2", split="train", epoch="last", **C2) | {"high": np.inf}]
    figure, _ = drawn(simulate, rows)
    effects, _ = parts(figure)[0]
    _, (place, top) = effects.collections[0].get_segments()[-1]
    assert (place, top) == (5, pytest.approx(effects.get_ylim()[1]))
    assert encode(figure, "png").startswith(b"\x89PNG")
    assert b"NC2" in encode(figure, "svg")
