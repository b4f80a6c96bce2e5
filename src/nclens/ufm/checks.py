"""Checks of arguments; `where` is what the message starts with."""

import sys
from numbers import Real

import numpy as np


def check_integer(where: str, name: str, value: int, least: int = 1) -> None:
    """Raise a ValueError unless the value is an integer >= ``least`` (no bool)."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{where}: {name} must be an integer >= {least}, got {value!r}")


def check_positive(where: str, name: str, value: float) -> None:
    """Raise a ValueError unless the value is a finite real number > 0 (no bool)."""
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 < value <= sys.float_info.max):
        raise ValueError(f"{where}: {name} must be a finite number > 0, got {value!r}")
