"""Formulas in labels, which Matplotlib draws."""

from typing import Any

from matplotlib.cbook import is_math_text
from matplotlib.mathtext import MathTextParser


def fault_of(label: str) -> str | None:
    r"""Return why Matplotlib cannot draw a label with formulas between $; None where it can.

    >>> fault_of(r"$\lambda_{max}$"), fault_of("$5"), fault_of(r"$\nothing$")
    (None, None, 'Unknown symbol: \\nothing')
    """
    if not is_math_text(label):
        return None
    parser: Any = MathTextParser("path")
    try:
        parser.parse(label)
    except ValueError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        reason = reason.partition(", found ")[0].split("Exception: ")[-1]
        return reason if len(reason) < 80 else "a symbol is missing"  # else the whole grammar of what may follow
    return None
