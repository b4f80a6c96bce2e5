"""Checks of arguments; `where` is what the message starts with."""

import sys
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_integer(where: str, name: str, value: int, least: int = 1) -> None:
    """Raise a ValueError unless the value is an integer >= ``least`` (no bool)."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{where}: {name} must be an integer >= {least}, got {value!r}")


def check_positive(where: str, name: str, value: float) -> None:
    """Raise a ValueError unless the value is a finite real number > 0 (no bool)."""
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 < value <= sys.float_info.max):
        raise ValueError(f"{where}: {name} must be a finite number > 0, got {value!r}")


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, which a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def as_numbers(where: str, name: str, values: Any) -> NDArray[np.float64]:
    """Return values of any shape in float64; raise a ValueError where they are no real numbers (no bools)."""
    array = np.asarray(values)
    # Among numbers in a list a bool has become one.
    hidden = isinstance(values, list | tuple) and any(isinstance(value, bool | np.bool_) for value in values)
    if hidden or (array.size and array.dtype.kind not in "iuf"):
        raise ValueError(f"{where}: {name} must be numbers, got {values!r}")
    return array.astype(np.float64)
