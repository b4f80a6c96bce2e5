"""Formulas in labels, which Matplotlib draws."""

from typing import Any

from matplotlib.mathtext import MathTextParser


def fault_of(label: str) -> str | None:
    r"""Return why Matplotlib cannot draw a label with formulas between $; None where it can.

    Labels are joined in notes, so each must have its formulas whole.

    >>> fault_of(r"$\lambda_{max}$"), fault_of(r"\$5"), fault_of(r"$\nothing$")
    (None, None, 'Unknown symbol: \\nothing')
    """
    if (label.count("$") - label.count(r"\$")) % 2:
        return r"a formula is between two $, and a $ that is none is written \$"
    parser: Any = MathTextParser("path")
    try:
        parser.parse(label)
    except ValueError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1]
        reason = reason.partition(", found ")[0].split("Exception: ")[-1]
        return reason if len(reason) < 80 else "a symbol is missing"  # else the whole grammar of what may follow
    return None
