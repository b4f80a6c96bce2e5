"""Labels that Matplotlib cannot draw are found before anything is drawn."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nclens.figures.formulas import fault_of

GOOD = (
    *("", "CE", r"$\lambda_{max}$", "{seed}", r"\$5 and \$6", "δ = 0.1 → 0", "100% $x$ $y$", "$x$ {y} 'z'", "a_b^c"),
    *("--x", "#", "\\n"),
)
BAD = {
    r"$\nothing$": r"Unknown symbol: \nothing",
    "$a_$": "a symbol is missing",
    "${$": "Expected '}'",
    "$$": "Expected end of text",
    "5$": r"a formula is between two $, and a $ that is none is written \$",
    "$a$ $": r"a formula is between two $, and a $ that is none is written \$",
}


def test_what_is_accepted_is_drawn_alone_and_joined():
    figure = Figure()
    for label in (*GOOD, ", ".join(GOOD)):
        assert fault_of(label) is None
        figure.text(0.1, 0.1, label)
    FigureCanvasAgg(figure).draw()


@pytest.mark.parametrize("label", BAD)
def test_what_cannot_be_drawn_has_its_reason(label):
    assert fault_of(label) == BAD[label]
    if label.count("$") % 2 == 0:
        figure = Figure()
        figure.text(0.1, 0.1, label)
        with pytest.raises(ValueError, match=r"\S"):
            FigureCanvasAgg(figure).draw()
