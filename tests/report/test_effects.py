"""Effects as text: one notation, whatever the row comes from."""

import math
from dataclasses import asdict

import pandas as pd
import pytest

from nclens.claims import ClaimRow, claims_table
from nclens.report.effects import Effect

NAMES = ("C1", "a paper", "smaller", "main", "mnist5k", "resnet8", "ce", "ls", "measure", "nc1")


def rows_of(effect, low, high, unit="ratio", null=1.0, seeds=3):
    """The same row from memory, from its data frame, and as the text of its CSV file."""
    row = ClaimRow(*NAMES, effect, low, high, unit, null, seeds, "supported", "")
    table = claims_table([row])
    cells = dict(zip(*(line.split(",") for line in table.to_csv(index=False).splitlines()), strict=True))
    return asdict(row), table.to_dict("records")[0], table.astype(object).to_dict("records")[0], cells


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0.402, 0.377, 0.429), ("0.402", "[0.377, 0.429]", "ratio", "1", "3")),
        ((1.0, 0.5, math.inf), ("1.00", "[0.500, ∞)", "ratio", "1", "3")),
        ((-2.5e-7, -math.inf, -1e-9), ("−2.50×10⁻⁷", "(−∞, −1.00×10⁻⁹]", "ratio", "1", "3")),
        ((0.954, math.nan, math.nan, "ratio", 1.0, None), ("0.954", "", "ratio", "1", "–")),
        ((math.nan, math.nan, math.nan, "error", -0.005, 0), ("", "", "error", "−0.005", "0")),
        ((1.77e-13, math.nan, math.nan, "", math.nan, None), ("1.77×10⁻¹³", "", "", "", "–")),
    ],
)
def test_one_notation_for_rows_of_memory_frames_and_files(given, expected):
    for row in rows_of(*given):
        assert Effect.of(row) == Effect(*expected)


def test_an_effect_that_is_missing_is_said_to_be():
    found = Effect.of(pd.Series(rows_of(math.nan, math.nan, math.nan)[0]))
    assert found.numbers == "not measured"
