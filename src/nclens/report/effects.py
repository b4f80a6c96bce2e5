"""Effects and verdicts as text, in the one notation of the terminal, the Markdown and the HTML page.

A row of the table of claims may come from memory (`nclens.claims.ClaimRow`, by `dataclasses.asdict`), from a data frame
or from the text of a CSV file: empty text, None, nan and NA are missing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from nclens.claims import Claim
from nclens.report.text import number

VERDICTS = ("supported", "contradicted", "inconclusive")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Effect:
    """The numbers of a verdict, as text.

    Attributes:
        value: the effect, of a difference with its sign; empty where nothing was measured.
        interval: its 95% interval, ``[low, high]`` or, open above, ``[low, ∞)``; empty where there is none.
        unit: of value, interval and null.
        null: the value of no effect that the interval is compared with; empty where there is none.
        seeds: number of pairs of runs; a dash for theory.
    """

    value: str
    interval: str
    unit: str
    null: str
    seeds: str

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Self:
        """Return the effect of a row with the columns effect, low, high, unit, null and seeds."""
        value, low, high, null, seeds = (_float(row[name]) for name in ("effect", "low", "high", "null", "seeds"))
        unit = "" if pd.isna(row["unit"]) else str(row["unit"])
        # A ratio and a distance have no sign, a difference has.
        signed = unit.startswith("difference") or (null == 0 and not unit.startswith("ratio"))
        return cls(
            value="" if math.isnan(value) else number(value, signed=signed),
            interval=_interval(low, high, signed),
            unit=unit,
            null="" if math.isnan(null) else number(null, trim=True, signed=signed),
            seeds=number(seeds, 9, trim=True),
        )

    @property
    def numbers(self) -> str:
        """Value, interval and unit in one line.

        >>> Effect("0.402", "[0.377, 0.429]", "ratio", "1", "3").numbers, Effect("", "", "ratio", "1", "–").numbers
        ('0.402 [0.377, 0.429] ratio', 'not measured')
        """
        return " ".join(filter(None, (self.value, self.interval, self.unit))) if self.value else NOT_MEASURED


def meaning(claim: Claim | None, quantity: str, null: str) -> str:
    """Return which way an effect goes: what it means that it is below its null value; empty where that is not said.

    Args:
        claim: the claim; None for one that is not known.
        quantity: of the measure; of the claim's own row that of its main measure.
        null: the null value, as text.

    >>> from nclens.claims import CLAIMS
    >>> meaning(CLAIMS["C2"], "nc1", "1"), meaning(CLAIMS["C5"], "largest_relative_error", "")
    ('below 1: more collapsed', '')
    """
    text = claim.meaning(quantity) if claim and null else ""
    return f"below {null}: {text}" if text else ""


def pair(loss: str, baseline: str) -> str:
    """Return a loss and what it is compared with, where it is.

    >>> pair("LS", "CE"), pair("LS", "")
    ('LS against CE', 'LS')
    """
    return f"{loss} against {baseline}" if baseline else loss


def _float(value: Any) -> float:
    return math.nan if value == "" or pd.isna(value) else float(value)


def _interval(low: float, high: float, signed: bool) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    opening, closing = "[" if math.isfinite(low) else "(", "]" if math.isfinite(high) else ")"
    return f"{opening}{number(low, signed=signed)}, {number(high, signed=signed)}{closing}"
