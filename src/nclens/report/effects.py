"""Effects and verdicts as text, in the one notation of the terminal, the Markdown and the HTML page.

A row of the table of claims may come from memory (`nclens.claims.ClaimRow`, by `dataclasses.asdict`), from a data frame
or from the text of a CSV file: empty text, None, nan and NA are missing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from nclens.report.text import number

VERDICTS = ("supported", "contradicted", "inconclusive")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Effect:
    """The numbers of a verdict, as text.

    Attributes:
        value: the effect; empty where nothing was measured.
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
        return cls(
            value="" if math.isnan(value) else number(value),
            interval=_interval(low, high),
            unit="" if pd.isna(row["unit"]) else str(row["unit"]),
            null="" if math.isnan(null) else number(null, trim=True),
            seeds=number(seeds, 9, trim=True),
        )

    @property
    def numbers(self) -> str:
        """Value, interval and unit in one line.

        >>> Effect("0.402", "[0.377, 0.429]", "ratio", "1", "3").numbers, Effect("", "", "ratio", "1", "–").numbers
        ('0.402 [0.377, 0.429] ratio', 'not measured')
        """
        return " ".join(filter(None, (self.value, self.interval, self.unit))) if self.value else NOT_MEASURED


def pair(loss: str, baseline: str) -> str:
    """Return a loss and what it is compared with, where it is.

    >>> pair("ls", "ce"), pair("ls", "")
    ('ls against ce', 'ls')
    """
    return f"{loss} against {baseline}" if baseline else loss


def _float(value: Any) -> float:
    return math.nan if value == "" or pd.isna(value) else float(value)


def _interval(low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    opening, closing = "[" if math.isfinite(low) else "(", "]" if math.isfinite(high) else ")"
    return f"{opening}{number(low)}, {number(high)}{closing}"
