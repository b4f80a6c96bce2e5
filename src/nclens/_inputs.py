"""What the public functions take: tensors or NumPy arrays, checked, at a scale whose squares float64 holds.

This is the one home of the rules that metrics, losses and probes share:

* Labels are integers of any type, in [0, K); they are used as int64.
* A logit of -inf is a masked class; nan and +inf are refused.
* NumPy arrays are taken wherever tensors are, NumPy integers wherever integers are.
"""

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = Tensor | NDArray[Any]
"""A tensor or a NumPy array."""

_INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)
# Within 2^-200 ... 2^200 fourth powers, which norms of Gram matrices are, and sums of them stay within float64.
_SAFE = 200
# A running sum of squares has one scale for all batches, and its squares are not squared again before they are scaled.
_SAFE_SQUARES = 400


def as_tensor(name: str, values: object) -> Tensor:
    """Return a tensor as it is, and a NumPy array as a tensor on the CPU; else raise a ValueError."""
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{name}: expected a tensor or a NumPy array, got {type(values).__name__}")
    try:
        # A copy: PyTorch takes neither negative strides nor the other byte order, and warns of read-only memory.
        return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))
    except TypeError:
        raise ValueError(f"{name}: expected numbers, got a NumPy array of {values.dtype}") from None


def count_rows(name: str, values: object) -> int:
    """Return the rows of a tensor or NumPy array, which must have one dimension or more; else raise a ValueError."""
    found = as_tensor(name, values)
    if not found.ndim:
        raise ValueError(f"{name}: expected rows, got {describe(found)}")
    return len(found)


def as_integer(name: str, value: object, least: int) -> int:
    """Return a Python or NumPy integer of at least ``least`` as an int; else, or for a bool, raise a ValueError."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least:
        return operator.index(value)
    raise ValueError(f"{name}: expected an integer of {least} or more, got {value!r}")


def as_number(name: str, value: object, expected: str, allowed: Callable[[float], bool]) -> float:
    """Return a Python or NumPy real number that is allowed, as it is; else, or for a bool, raise a ValueError.

    Args:
        name: what messages call it.
        value: the number.
        expected: what messages say is allowed, such as `a number in [0, 1)`.
        allowed: whether a number is; of nan it must not be true.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and allowed(float(value)):
        return value  # type: ignore[return-value]
    raise ValueError(f"{name}: expected {expected}, got {value!r}")


def describe(values: object) -> str:
    """Return dtype and shape of a tensor, or the type of anything else."""
    return f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__


def check_labels(
    labels: object, classes: int | None, rows: int | None = None, like: Tensor | None = None, name: str = "labels"
) -> Tensor:
    """Return labels as an int64 tensor (N,), after checking type, shape, device and range.

    Args:
        labels: a tensor or NumPy array of any integer type.
        classes: K, labels must lie in [0, K); None for any label of 0 or more.
        rows: N; None for any.
        like: a tensor whose device the labels must be on; None for any.
        name: what messages call them.

    Raises:
        ValueError: labels are not integers (floats and bools are not), not (N,), elsewhere or out of range.
    """
    given = check_label_type(labels, rows, name)
    check_device(name, given, like)
    found = given.long()
    check_range(found, classes, name, given)
    return found


def check_label_type(labels: object, rows: int | None, name: str = "labels") -> Tensor:
    """Return labels as a tensor, after checking their type and shape, which need no look at a value."""
    found = as_tensor(name, labels)
    if found.dtype not in _INTEGERS:
        raise ValueError(f"{name}: expected an integer tensor or NumPy array, got {describe(found)}")
    if found.ndim != 1 or rows not in (None, len(found)):
        wanted = "(N,)" if rows is None else f"({rows},), one label a sample"
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(found.shape)}")
    return found


def check_range(labels: Tensor, classes: int | None, name: str = "labels", given: Tensor | None = None) -> None:
    """Raise a ValueError unless int64 labels lie in [0, K); ``given`` are the same before conversion."""
    if not len(labels):
        return
    low, high = labels.aminmax()
    if low >= 0 and (classes is None or high < classes):
        return
    outside = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    first = int(outside.nonzero()[0])
    allowed = "be 0 or more" if classes is None else f"lie in [0, {classes})"
    value = int((labels if given is None else given)[first].item())  # a uint64 beyond int64 has become negative
    count = f"{int(outside.sum())} of {len(labels)}"
    raise ValueError(f"{name} must {allowed}, got {value} at index {first} ({count} are out of range)")


def check_device(name: str, tensor: Tensor, like: Tensor | None) -> None:
    """Raise a ValueError unless both tensors are on one device."""
    if like is not None and tensor.device != like.device:
        raise ValueError(f"{name}: expected on the device {like.device}, got {tensor.device}")


def check_masked(logits: Tensor, name: str = "logits") -> None:
    """Raise a ValueError for nan or +inf among logits (N, K), and for a row of -inf only, which has no class."""
    top = logits.amax(dim=1)
    if bool(top.isfinite().all()):
        return
    row = int((~top.isfinite()).nonzero()[0])
    value = top[row].item()
    if value == -math.inf:
        raise ValueError(f"{name}: every class of row {row} is masked by -inf; at least one must be finite")
    raise ValueError(f"{name} must not be nan or +inf (-inf masks a class), got {value} in row {row}")


_UNCHECKED = ContextVar("_UNCHECKED", default=False)


@contextmanager
def unchecked() -> Iterator[None]:
    """Within this, losses check types and shapes of their arguments but no value, for which a GPU waits at every call.

    For a training loop whose labels are known to lie in [0, K). A label out of range is then an error of PyTorch's own,
    and a logit that is nan or +inf makes a loss that is not finite.
    """
    token = _UNCHECKED.set(True)
    try:
        yield
    finally:
        _UNCHECKED.reset(token)


def sees_values(values: Tensor) -> bool:
    """Return whether values (N, K) are checked: not within `unchecked`, nor where they cannot be seen.

    That is in code that is compiled or traced, under `torch.vmap`, and of tensors without data.
    """
    if torch.compiler.is_compiling() or _UNCHECKED.get() or not values.numel():
        return False
    try:
        values.detach()[0, 0].item()
    except RuntimeError:  # there is no public way to ask
        return False
    return True


def scaled(values: Tensor) -> tuple[Tensor, int]:
    """Return values / 2^e and e, such that float64 holds sums of their fourth powers.

    e is 0 for every value of a narrower type and for ordinary values, which keep their bits; a power of two rounds
    nothing. Values that are not finite are returned as they are.
    """
    if values.dtype != torch.float64:
        return values, 0
    exponent = magnitude(values)
    if abs(exponent) <= _SAFE:
        return values, 0
    exponent = max(-1000, min(1000, exponent))
    return values * math.ldexp(1.0, -exponent), exponent


def magnitude(values: Tensor) -> int:
    """Return the e with 2^(e-1) <= max |values| < 2^e; 0 where that is zero or not finite, or there is no value."""
    if not values.numel():
        return 0
    low, high = (float(end) for end in values.detach().aminmax())
    return math.frexp(max(-low, high))[1] if math.isfinite(low) and math.isfinite(high) else 0


def unscaled(values: Tensor, exponent: int) -> Tensor:
    """Return values 2^e."""
    return values * math.ldexp(1.0, exponent) if exponent else values


def check_squares(name: str, values: Tensor, *, least: bool = True) -> None:
    """Raise a ValueError unless float64 holds sums of squares of values; with ``least``, unless these do not vanish."""
    exponent = magnitude(values)
    if exponent > _SAFE_SQUARES or (least and exponent < -_SAFE_SQUARES):
        bound = math.ldexp(1.0, _SAFE_SQUARES)
        allowed = f"be 0 or lie in [{1 / bound:.1g}, {bound:.1g}]" if least else f"be at most {bound:.1g}"
        raise ValueError(
            f"{name}: the largest value must {allowed}, where float64 holds sums of squares, got "
            f"{float(values.abs().max()):.3g}; multiply {name} by a constant"
        )
