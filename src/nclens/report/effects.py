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
from nclens.claims.verdict import EQUIVALENT, NOT_MEASURED
from nclens.report.text import number

VERDICTS = ("supported", "contradicted", "inconclusive")
LEAST_P = 1e-4
"""Smaller p values are written as being below it."""


@dataclass(frozen=True)
class Effect:
    """The numbers of a verdict, as text.

    Attributes:
        value: the effect, of a difference with its sign; empty where nothing was measured.
        interval: its 95% interval, ``[low, high]`` or, open above, ``[low, ∞)``; empty where there is none.
        unit: of value, interval and null.
        null: the value of no effect that the interval is compared with; empty where there is none.
        seeds: number of pairs of runs; a dash for theory.
        reason: why the verdict is inconclusive; empty where it is not.
        smallest: the smallest effect that the seeds could have shown; empty without an interval.
        p, p_holm: p value, and the same corrected by Holm's method over the study; empty where there is none.
    """

    value: str
    interval: str
    unit: str
    null: str
    seeds: str
    reason: str = ""
    smallest: str = ""
    p: str = ""
    p_holm: str = ""

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Self:
        """Return the effect of a row with the numbers of the table of claims."""
        value, low, high, null, seeds = (_float(row[name]) for name in ("effect", "low", "high", "null", "seeds"))
        unit = "" if pd.isna(row["unit"]) else str(row["unit"])
        smallest, margin, p, p_holm = (_float(row[name]) for name in ("smallest", "margin", "p", "p_holm"))
        # A ratio and a distance have no sign, a difference has.
        signed = unit.startswith("difference") or (null == 0 and not unit.startswith("ratio"))
        return cls(
            value="" if math.isnan(value) else number(value, signed=signed),
            interval=_interval(low, high, signed, "" if pd.isna(row["scale"]) else str(row["scale"])),
            unit=unit,
            null="" if math.isnan(null) else number(null, trim=True, signed=signed),
            seeds=number(seeds, 9, trim=True),
            reason=_reason(row["reason"], row["scale"], margin),
            smallest="" if math.isnan(smallest) else size(smallest, row["scale"]),
            p=_p(p),
            p_holm=_p(p_holm),
        )

    @property
    def numbers(self) -> str:
        """Value, interval and unit in one line.

        >>> Effect("0.402", "[0.377, 0.429]", "ratio", "1", "3").numbers, Effect("", "", "ratio", "1", "–").numbers
        ('0.402 [0.377, 0.429] ratio', 'not measured')
        """
        return " ".join(filter(None, (self.value, self.interval, self.unit))) if self.value else NOT_MEASURED

    @property
    def power(self) -> str:
        """The smallest effect that the seeds could have shown, in one line; empty where there is none."""
        return f"smallest effect that these seeds could show: {self.smallest}" if self.smallest else ""

    @property
    def tests(self) -> str:
        """Smallest effect and p values in one line; empty where there is none.

        >>> Effect("0.402", "[0.377, 0.429]", "ratio", "1", "3", smallest="a factor of 1.07", p="0.012").tests
        'smallest effect that these seeds could show: a factor of 1.07; p = 0.012'
        """
        p, p_holm = (text if text.startswith("<") else text and f"= {text}" for text in (self.p, self.p_holm))
        plain = f"p {p}" if p else ""
        return "; ".join(filter(None, (self.power, f"{plain}, by Holm {p_holm}" if p_holm else plain)))


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


def size(amount: float, scale: Any) -> str:
    """Return the size of an effect: of a ratio a factor, else a distance on both sides."""
    return f"a factor of {number(amount, trim=True)}" if scale == "ratio" else f"±{number(amount, trim=True)}"


def _reason(reason: Any, scale: Any, margin: float) -> str:
    """Return why a verdict is inconclusive, with the margin in place of its mention."""
    if pd.isna(reason):
        return ""
    if reason == EQUIVALENT and not math.isnan(margin):
        return f"no effect beyond {size(margin, scale)}"
    return str(reason)


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return number(value, 2) if value >= LEAST_P else f"< {number(LEAST_P, trim=True)}"


def _interval(low: float, high: float, signed: bool, scale: str) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    is_open = math.isinf(low) or (scale == "ratio" and low == 0)
    opening, closing = "(" if is_open else "[", "]" if math.isfinite(high) else ")"
    return f"{opening}{number(low, signed=signed)}, {number(high, signed=signed)}{closing}"
