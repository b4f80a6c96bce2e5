"""From a user's arrays to what is stored: uint8 images, float32 rows and int64 labels, and no value lost in silence."""

import mmap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

#: Axes of images: samples, channels, height and width.
Layout = Literal["NCHW", "NHWC"]

#: Returns a tensor to be filled, of a shape and a dtype.
Empty = Callable[..., Tensor]

#: Values that are converted at a time: 16 MiB in float64.
CHUNK = 2**21

#: Rounding to float32 may move a value by this share of its column's range.
TOLERANCE = 2.0**-16

#: Half a column's range, over its largest value, up to which its values differ by the rounding of float64: 8 eps.
NOISE = 2.0**-49

#: The largest whole number up to which float64 has every whole number.
WHOLE_FLOAT64 = 2**53


def refuse_unknown(found: Iterable[str], allowed: Sequence[str], what: str) -> None:
    """Raise a ValueError for names that are not allowed: what is not used is not ignored in silence."""
    unknown = [str(name) for name in found if name not in allowed]
    if unknown:
        raise ValueError(f"{what} also has {', '.join(unknown)}; allowed: {', '.join(allowed)}")


def from_array(values: Any) -> Tensor:
    """Return a tensor as it is, and arrays of any byte order and strides, and lists of numbers, as a tensor.

    By way of NumPy, which keeps the numbers of a list in float64. A memory-mapped array stays mapped, unless its bytes
    are in another order than the machine's or its axes run backwards.
    """
    if isinstance(values, Tensor):
        return values
    array = np.asarray(values)
    as_it_is = is_mapped(array) and array.dtype.isnative and min(array.strides, default=0) >= 0
    with warnings.catch_warnings():
        # A file that is mapped to be read alone: no tensor of a data set is written to.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(
            array if as_it_is else np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
        )


def is_mapped(values: Any) -> bool:
    """Return whether an array is memory-mapped, or a view of one that is."""
    while values is not None and not isinstance(values, np.memmap | mmap.mmap):
        values = getattr(values, "base", None)
    return values is not None


def in_chunks(values: Tensor) -> tuple[Tensor, ...]:
    """Return the samples in parts of at most `CHUNK` values, but one sample at least; views."""
    return values.split(max(1, CHUNK * len(values) // max(1, values.numel())))


def contiguous(values: Tensor, empty: Empty = torch.empty) -> Tensor:
    """Return values as they are where they are contiguous, otherwise a contiguous copy in what `empty` returns."""
    return values if values.is_contiguous() else copied(values, empty, lambda part: part)


def copied(
    values: Tensor, empty: Empty, change: Callable[[Tensor], Tensor], dtype: torch.dtype | None = None
) -> Tensor:
    """Return `change` of each part of the samples, which keeps the shape, in what `empty` returns."""
    made = empty(values.shape, dtype=dtype or values.dtype)
    for part, place in zip(in_chunks(values), in_chunks(made), strict=True):
        place.copy_(change(part))
    return made


def stored_inputs(
    given: Mapping[str, Tensor], layout: Layout | None, empty: Empty = torch.empty
) -> tuple[list[Tensor], dict[str, Any]]:
    """Return inputs as they are stored, contiguous, and the manifest's entries about them.

    uint8 images (N, H, W) get a channel, images of layout NHWC become NCHW, and rows (N, F) of any real type become
    float32. A column that float32 would round by more than `TOLERANCE` of its range has its mean over the first part
    subtracted in float64 first; the manifest's `input_offset` has that mean for each column, 0 for the others. What
    need not change is returned as it is; all else is converted by parts of `CHUNK` values.

    Args:
        given: the training and the test inputs, or all inputs, by their names in error messages.
        layout: of images with four axes; None is NCHW, and refuses images that look like NHWC.
        empty: returns a tensor to be filled, of a shape and a dtype: in memory, or elsewhere.

    Raises:
        ValueError: types or shapes do not fit, the layout is ambiguous, or a column has values beyond float32's range.
    """
    images = [values.dtype == torch.uint8 and values.ndim in (3, 4) for values in given.values()]
    if all(images):
        return [contiguous(_images(values, what, layout), empty) for what, values in given.items()], {}
    for is_images, (what, values) in zip(images, given.items(), strict=True):
        if not is_images and (values.ndim != 2 or values.is_complex()):
            raise ValueError(
                f"{what} must be uint8 images (N, C, H, W) or (N, H, W), or rows (N, F), not {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
        if any(images) or layout is not None:
            key = "" if layout is None else f" with layout = {layout}"
            raise ValueError(f"inputs{key} must be uint8 images in both splits; {what} {_described(values)}")
    for what, values in given.items():
        _refuse_unreal(values, what)
    return float32_rows(given, empty)


def _images(values: Tensor, what: str, layout: Layout | None) -> Tensor:
    """Return images with channels, (N, C, H, W); a view."""
    if values.ndim == 3:
        if layout is not None:
            raise ValueError(f"layout = {layout}: is for uint8 images of four axes; {what} {_described(values)}")
        return values[:, None]
    height, width, channels = values.shape[1:]
    if layout is None and channels in (1, 3, 4) and min(height, width) > channels:
        raise ValueError(
            f"{what} {_described(values)}: images are (N, C, H, W), these look like (N, H, W, C). Set `layout: NHWC` "
            "or `layout: NCHW` in the data set's entry"
        )
    return values.permute(0, 3, 1, 2) if layout == "NHWC" else values


def _described(values: Tensor) -> str:
    return f"is {values.dtype} of shape {tuple(values.shape)}"


def real_numbers(values: Tensor, what: str) -> Tensor:
    """Return numbers (N, F) or (N,) as float64 (N, F).

    Raises:
        ValueError: they are no real numbers, have other axes, are none, or are whole numbers beyond 2^53.
    """
    _refuse_unreal(values, what)
    return values.double().reshape(len(values), -1)


def _refuse_unreal(values: Tensor, what: str) -> None:
    if values.ndim not in (1, 2) or values.is_complex() or not values.numel():
        raise ValueError(f"{what} must be numbers (N, F) or (N,), not {values.dtype} of shape {tuple(values.shape)}")
    if not values.is_floating_point():
        low, high = _limits(values)
        if max(-low, high) > WHOLE_FLOAT64:
            raise ValueError(
                f"{what} has whole numbers from {low} to {high}; float64 has all of them to 2^53 = {WHOLE_FLOAT64} "
                "only: subtract an offset first"
            )


def float32_rows(given: Mapping[str, Tensor], empty: Empty = torch.empty) -> tuple[list[Tensor], dict[str, Any]]:
    """Return real rows (N, F) in float32, and the manifest's `input_offset`, as `stored_inputs` says.

    Raises:
        ValueError: a column has values that float32 cannot hold.
    """
    parts = list(given.values())
    if len({part.shape[1] for part in parts}) > 1:
        shapes = ", ".join(f"{what}: {tuple(part.shape)}" for what, part in given.items())
        raise ValueError(f"inputs must have the same number of columns, not {shapes}")
    lossy = torch.stack([rounds(part) for part in parts]).any(0)
    if not bool(lossy.any()):
        return [_in_float32(part, empty) for part in parts], {}
    # Divided first: a sum of large values may overflow.
    mean = torch.stack([(chunk.double() / len(parts[0])).sum(0) for chunk in in_chunks(parts[0])]).sum(0)
    offset = torch.where(lossy, mean, torch.zeros_like(mean))
    if bool(
        (lost := torch.stack([rounds(parts[0], offset), *(overflows(part, offset) for part in parts)]).any(0)).any()
    ):
        column = int(lost.nonzero()[0])
        values = torch.cat([part[:, column].double() for part in parts])
        raise ValueError(
            f"column {column} of {' and '.join(given)} has values from {values.min():g} to {values.max():g}, which "
            "float32 cannot hold; rescale it"
        )
    stored = [copied(part, empty, lambda chunk: (chunk.double() - offset).float(), torch.float32) for part in parts]
    return stored, {"input_offset": offset.tolist()}


def _in_float32(values: Tensor, empty: Empty) -> Tensor:
    if values.dtype == torch.float32:
        return contiguous(values, empty)
    return copied(values, empty, lambda chunk: chunk.double().float(), torch.float32)


def rounds(values: Tensor, offset: Tensor | float = 0.0) -> Tensor:
    """Return for each column of real (N, F) whether float32 moves a value by more than `TOLERANCE` of its range.

    A constant column loses nothing, unless it is beyond float32's range. Constant is what varies by float64's own
    rounding alone, which normalisation would make as large as any other column. The `offset` (F,) is subtracted first.
    """
    if values.dtype == torch.float32 and isinstance(offset, float):
        return torch.zeros(values.shape[1], dtype=torch.bool)
    found = []
    for chunk in in_chunks(values):
        exact = chunk.double() - offset
        found.append(torch.stack([(exact - exact.float().double()).abs().amax(0), exact.amax(0), -exact.amin(0)]))
    error, high, low = torch.stack(found).amax(0)
    # Halves, because the difference of two large numbers may overflow.
    half = high / 2 + low / 2
    varies = half > NOISE * torch.maximum(high.abs(), low.abs())
    return (error > 2 * TOLERANCE * half) & (varies | error.isinf())


def overflows(values: Tensor, offset: Tensor | float = 0.0) -> Tensor:
    """Return for each column of real (N, F), less `offset` (F,), whether a finite value is infinite in float32."""
    found = torch.zeros(values.shape[1], dtype=torch.bool)
    for chunk in in_chunks(values):
        exact = chunk.double() - offset
        found |= (exact.isfinite() & exact.float().isinf()).any(0)
    return found


def class_numbers(values: Tensor, what: str, classes: int | None = None) -> Tensor:
    """Return class labels of any integer type as int64 (N,).

    Args:
        values: the labels.
        what: their name in error messages.
        classes: the number of classes K, where some may have no sample.

    Raises:
        ValueError: they are no integers (N,), are none, are negative, or so large that there are fewer samples than
            classes, unless K is given.
    """
    if values.ndim != 1 or values.is_floating_point() or values.is_complex() or not len(values):
        raise ValueError(f"{what} must be integer class labels (N,), not {values.dtype} of shape {tuple(values.shape)}")
    low, high = _limits(values)
    if low < 0:
        raise ValueError(f"{what} must be class labels from 0; the smallest is {low}")
    if high >= max(len(values), classes or 0):
        raise ValueError(
            f"{what} must be class labels 0..K-1, each of at least one sample; the largest is {high}, with "
            f"{len(values)} samples"
        )
    return values.long()


def whole_numbers(values: Tensor, what: str) -> Tensor:
    """Return integers of any type as int64.

    Raises:
        ValueError: they are no integers, or beyond int64.
    """
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"{what} must be integers, not {values.dtype}")
    if values.numel() and (high := _limits(values)[1]) >= 2**63:
        raise ValueError(f"{what} has integers up to {high}; allowed are those of int64, below 2^63")
    return values.long()


def _limits(values: Tensor) -> tuple[int, int]:
    """Return the smallest and the largest of integers; PyTorch has neither for some unsigned types."""
    array = values.numpy()
    return int(array.min()), int(array.max())
